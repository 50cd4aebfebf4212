"""Models: the built-in tiny Qwen2-VL, any local or hub Qwen-VL, and what this machine can run.

The processors of transformers cannot be built without torchvision, because each insists on a video processor; and the
CPU environment must not hold torchvision. :func:`image_processor_only` therefore derives, from each stock processor, a
class that takes images and text and has no video part. It writes and reads the stock file layout.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.results.runs import load_run
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, ProcessorMixin

TINY = Path(__file__).parent / "tiny" / "checkpoint"
# Architectures whose language model, merger and image tokens medr1kit knows by name.
SUPPORTED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
# The seven linear maps of a Qwen decoder layer; the vision tower has other paths.
LANGUAGE_MODEL = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
MERGER = r".*visual\.merger\.(mlp\.[02]|linear_fc[12])"
# Attention and feed-forward maps of the tower's blocks, by the names of the three architectures. The convolution that
# cuts patches is called proj, too; it is no block.
TOWER = r".*visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(fc[12]|gate_proj|up_proj|down_proj|linear_fc[12]))"


@dataclass(frozen=True)
class Choice:
    """A setting picked for this machine, and why."""

    value: str
    reason: str


def choose_device() -> Choice:
    """Return "cuda" (under torchrun this process's GPU) if PyTorch sees one, else "cpu"."""
    import torch

    if torch.cuda.is_available():
        rank = os.environ.get("LOCAL_RANK")  # set by torchrun: one process a GPU
        found = f"{torch.cuda.device_count()} GPU(s), first: {torch.cuda.get_device_name(0)}"
        return Choice("cuda" if rank is None else f"cuda:{rank}", found)
    return Choice("cpu", "PyTorch sees no CUDA device" if torch.version.cuda else "this PyTorch is a CPU build")


def choose_dtype(device: str) -> Choice:
    """Return the number format for weights on a device: float32, bfloat16 or float16."""
    import torch

    if not device.startswith("cuda"):
        return Choice("float32", "half precision on a CPU would not be exact")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("bfloat16", "the GPU computes in bfloat16")
    return Choice("float16", "the GPU has no bfloat16")


def choose_attention(device: str, dtype: str) -> Choice:
    """Return "flash_attention_2" where it can run, else "sdpa"."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    if not device.startswith("cuda"):
        return Choice("sdpa", "flash-attn needs a GPU")
    if dtype == "float32":
        return Choice("sdpa", "flash-attn needs half precision")
    if torch.cuda.get_device_capability()[0] < 8:
        return Choice("sdpa", "flash-attn needs compute capability 8 or more")
    if not is_flash_attn_2_available():
        return Choice("sdpa", "flash-attn is not installed; sdpa needs nothing")
    return Choice("flash_attention_2", "flash-attn is installed and the GPU can run it")


def doctor() -> None:
    """Print versions, device, number format and attention, each with its reason."""
    import torch

    device = choose_device()
    dtype = choose_dtype(device.value)
    attention = choose_attention(device.value, dtype.value)
    print(f"python        {platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("medr1kit", "torch", "transformers", "trl", "peft", "datasets"):
        print(f"{package:<13} {importlib.metadata.version(package)}")
    for name, choice in (("device", device), ("dtype", dtype), ("attention", attention)):
        print(f"{name:<13} {choice.value} ({choice.reason})")
    print(f"threads       {torch.get_num_threads()}")
    try:
        vision = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        print("torchvision   absent (as it should be on a CPU; images go through Pillow)")
        return
    note = "it breaks transformers next to a CPU build of torch: pip uninstall torchvision"
    print(f"torchvision   {vision}" + (f" WARNING: {note}" if device.value == "cpu" else ""))


def image_processor_only(stock: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Derive from a stock Qwen-VL processor a class without its video part.

    ``ProcessorMixin`` reads from the signature of ``__init__`` which parts a processor has, so leaving out
    ``video_processor`` is enough. The stock name is kept, so that a saved folder names a class that transformers knows.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        stock.__init__(self, image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    def __call__(self, images=None, text=None, videos=None, **kwargs):
        if videos is not None:
            raise DataError("medr1kit works on images; videos= is not supported")
        return stock.__call__(self, images=images, text=text, **kwargs)

    return type(stock.__name__, (stock,), {"__init__": __init__, "__call__": __call__, "__doc__": stock.__doc__})


def _stock_processor(model_type: str) -> type[ProcessorMixin]:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor

    return dict(zip(SUPPORTED, (Qwen2VLProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor)))[model_type]


def load_processor(path: str | Path, model_type: str, max_pixels: int | None = None) -> ProcessorMixin:
    """Load tokenizer, chat template and image processor of a Qwen-VL checkpoint, without torchvision.

    Args:
        path: folder or hub id.
        model_type: one of SUPPORTED.
        max_pixels: images are shrunk until width times height is at most this; None keeps the checkpoint's setting.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = image_processor_only(_stock_processor(model_type)).from_pretrained(path, padding_side="left")
    # Pillow also where torchvision is installed, so that pixels do not depend on the machine.
    images = processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(path)
    if max_pixels is not None:  # a floor above the cap would enlarge small images past it
        floor = min(images.size["shortest_edge"], max_pixels)
        images.size = type(images.size)(**{**dict(images.size), "shortest_edge": floor, "longest_edge": max_pixels})
    return processor


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """TRL and peft still say gradient_checkpointing, and transformers 5 warns of it; there is nothing a user can do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
        yield


@without_known_warnings()
def load_model(
    name: str | Path = "tiny",
    *,
    adapter: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    attn: str | None = None,
    max_pixels: int | None = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load a vision-language model and its processor.

    Args:
        name: "tiny" for the built-in model, a folder, or a hub id of Qwen2-VL, Qwen2.5-VL or Qwen3-VL. A run's folder
            loads the run's base model with its adapter.
        adapter: folder of a LoRA adapter to put on top, for example ``runs/ct/adapter``.
        device: "cpu", "cuda" or "cuda:1"; chosen by :func:`choose_device` if None.
        dtype: "float32", "bfloat16" or "float16"; chosen by :func:`choose_dtype` if None.
        attn: "sdpa", "eager" or "flash_attention_2"; chosen by :func:`choose_attention` if None.
        max_pixels: cap on width times height of an image; None keeps the checkpoint's.

    Returns:
        The model in evaluation mode and its processor.

    Raises:
        DataError: if the folder or model is not there, or its architecture is not supported.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    name, adapter, run = _resolve(name, adapter)
    path = TINY if str(name) == "tiny" else name
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"no model at {name!r}: give 'tiny', a folder with config.json, or a hub id that this machine can reach "
            f"({str(error).splitlines()[0][:160]})"
        ) from error
    if config.model_type not in SUPPORTED:
        raise DataError(f"{name!r} is a {config.model_type} model; medr1kit supports {', '.join(SUPPORTED)}")
    device = device or choose_device().value
    dtype = dtype or choose_dtype(device).value
    attn = attn or choose_attention(device, dtype).value
    try:
        with _quiet_if(path == TINY or bool(os.environ.get("CI"))):
            model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, attn_implementation=attn)
        processor = load_processor(path, config.model_type, max_pixels)
    except OSError as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"the model at {name} lacks weights, tokenizer or image processor ({reason})") from error
    model.medr1kit = Origin(str(name))
    if run is not None:  # predictions of this model are labelled as the run's
        model.medr1kit = Origin(str(name), load_run(run).labels, str(run))
    elif adapter is not None:  # trained somewhere else, by a method this toolkit does not know
        model.medr1kit = Origin(str(name), {"model": f"{name} + {adapter}", "method": "adapter"})
    if adapter is not None:
        model = _with_adapter(model, adapter)
    return model.to(device).eval(), processor


@contextmanager
def _quiet_if(quiet: bool) -> Iterator[None]:
    """No loading bar for what loads in a blink."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if quiet and shown:
            logging.enable_progress_bar()


def _resolve(name: str | Path, adapter: str | Path | None) -> tuple[str | Path, str | Path | None, Path | None]:
    """Turn a run's folder into its base model and adapter; also find the run that an adapter belongs to."""
    folder = Path(name)
    own = Path(adapter).parent if adapter is not None else None  # the run that a given adapter belongs to
    run = own if own is not None and (own / "run.json").is_file() else None
    if not (folder / "run.json").is_file():
        return name, adapter, run
    if (folder / "model").is_dir():
        return folder / "model", adapter, folder if adapter is None else run
    if (folder / "adapter").is_dir():
        base = load_run(folder).config["model"]
        return (base, folder / "adapter", folder) if adapter is None else (base, adapter, run)
    raise DataError(f"the run {name} has neither adapter/ nor model/; it did not finish: train it again")


def _with_adapter(model: PreTrainedModel, adapter: str | Path) -> PreTrainedModel:
    from peft import PeftModel

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise DataError(f"no LoRA adapter at {adapter}: the folder needs adapter_config.json and its weights")
    return PeftModel.from_pretrained(model, str(adapter))


def lora(
    rank: int = 16, alpha: int = 32, merger: bool = False, tower: bool = False, dropout: float = 0.0
) -> LoraConfig:
    """Return a LoRA configuration that adapts the language model and, if asked, merger and blocks of the vision tower.

    While the tower stays frozen its features of an image are the same at every step and are computed once. With
    ``tower`` an image is encoded anew, with its gradient, at every pass over its group; nothing of it is remembered.

    Qwen3-VL's *deepstack* mergers, which hand features from inside the tower to the first decoder layers, stay frozen
    with either: they are no blocks, and with ``merger`` what enters each of them would have to be remembered, too.

    Args:
        rank: rank of the update, 1 or more.
        alpha: the update is scaled by alpha / rank.
        merger: also adapt the two linear maps that turn vision features into language-model inputs.
        tower: also adapt the linear maps, attention and feed-forward, of the tower's blocks.
        dropout: share of adapter inputs dropped in training, 0 to 1.

    >>> lora(tower=True).target_modules == f"({LANGUAGE_MODEL}|{TOWER})"
    True
    """
    from peft import LoraConfig

    parts = [LANGUAGE_MODEL, *([MERGER] if merger else []), *([TOWER] if tower else [])]
    targets = f"({'|'.join(parts)})" if len(parts) > 1 else LANGUAGE_MODEL
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM")


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the Hugging Face model itself, out of its LoRA wrapper where it has one; the weights are the same ones."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def acting_adapters(module: torch.nn.Module) -> list[tuple]:
    """Return of each layer with adapters its name, whether they are off, which act, which are merged, and the scalings.

    Weights do not tell: those of an adapter stay what they are when it is switched, scaled or turned off.
    """
    layers = [(name, part) for name, part in module.named_modules() if _is_adapted(part)]
    kept = ("disable_adapters", "active_adapters", "merged_adapters", "scaling")
    return [(name, *(getattr(part, what, None) for what in kept)) for name, part in layers]


def _is_adapted(part: torch.nn.Module) -> bool:
    """Whether this is a layer of PEFT's; models of transformers have a method of that name."""
    return isinstance(getattr(part, "disable_adapters", None), bool)


@dataclass
class Origin:
    """Where a model came from: the one thing that medr1kit keeps on a model itself, as ``model.medr1kit``.

    A model is trained in place and asked afterwards by its variable alone, so what its answers are labelled with has to
    go with it. A run's folder holds the same (:attr:`medr1kit.results.runs.Run.labels`), and ``predict(labels=run)``
    reads it there.

    Attributes:
        name: what to load to have the weights below an adapter: "tiny", a folder or a hub id.
        labels: of its predictions; ``model`` and ``method`` at least.
        run: folder of the run that trained it, or None.
        wrapper: its LoRA wrapper if it was trained in this process, so that the next training goes on with it.
    """

    name: str
    labels: dict[str, Any] = field(default_factory=dict)
    run: str | None = None
    wrapper: PeftModel | None = field(default=None, repr=False)

    def __post_init__(self):
        self.labels = self.labels or {"model": self.name, "method": "base"}


def origin_of(model: PreTrainedModel | PeftModel) -> Origin:
    """Return where a model came from, with or without its LoRA wrapper; it may have been loaded by others."""
    base = base_of(model)
    if not hasattr(base, "medr1kit"):
        base.medr1kit = Origin(base.config._name_or_path)
    return base.medr1kit


def record_training(model: PreTrainedModel | PeftModel, labels: dict[str, Any], run: str) -> None:
    """Note that a model was trained: the labels of its predictions from now on, and the folder of the run."""
    origin, base = origin_of(model), base_of(model)
    origin.labels, origin.run = labels, run
    if base is model:
        origin.name = str(Path(run) / "model")  # what an adapter trained from here on stands on


def image_token_ids(model: PreTrainedModel) -> list[int]:
    """Return the ids of image and video placeholder tokens, which a completion must never hold."""
    config = model.config
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return [getattr(config, name) for name in names if getattr(config, name, None) is not None]
