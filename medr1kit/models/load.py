"""Models: the built-in tiny Qwen2-VL, any local or hub Qwen-VL, a run, a checkpoint or an adapter on its base.

What is loaded is what its name says: :mod:`medr1kit.models.weights` refuses layers that stayed random. And what a model
*is*, its answers say: :func:`origin_of` tells a base from a trained one, also after training, merging or unloading.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.given import kind, package_given, truth
from medr1kit.models.adapters import is_adapted
from medr1kit.models.found import TINY, architecture, find
from medr1kit.models.machine import attention_given, device_given, dtype_given
from medr1kit.models.processor import load_processor
from medr1kit.models.weights import (
    is_four_bit,
    is_scattered,
    load_adapter,
    load_base,
    one_sentence,
    refuse_not_finite,
)
from medr1kit.results.runs import Run
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, ProcessorMixin


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """TRL and peft still say gradient_checkpointing, and transformers 5 warns of it; there is nothing a user can do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
        yield


@without_known_warnings()
def load_model(
    name: str | Path | Run = "tiny",
    *,
    adapter: str | Path | Run | None = None,
    device: str | None = None,
    dtype: str | None = None,
    attn: str | None = None,
    max_pixels: int | None = None,
    load_in_4bit: bool | None = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load a vision-language model and its processor.

    Args:
        name: "tiny" for the built-in model, a folder, or a hub id of Qwen2-VL, Qwen2.5-VL or Qwen3-VL. A run, its
            folder, a checkpoint in it or the folder of an adapter loads the base that it was trained on, too.
        adapter: folder of a LoRA adapter to put on top, for example ``runs/ct/adapter``, or a run.
        device: "cpu", "cuda" or "cuda:1"; chosen by :func:`medr1kit.models.machine.choose_device` if None.
        dtype: "float32", "bfloat16", "float16" or "auto" (the checkpoint's); chosen by ``choose_dtype`` if None.
        attn: "sdpa", "eager" or "flash_attention_2", of both parts; None: "sdpa" in the language model, which the
            shared step needs, and what ``choose_tower_attention`` says in the vision tower.
        max_pixels: cap on width times height of an image; None keeps the checkpoint's.
        load_in_4bit: hold the linear maps of the language model's layers in 4 bits, as QLoRA does (nf4, double
            quantisation; computed in ``dtype``), for prediction and for training adapters; it needs bitsandbytes.
            None: as the run was trained, if it is one.

    Returns:
        The model in evaluation mode and its processor.

    Raises:
        DataError: if the folder or model is not there, its architecture is not supported, weights are missing, fit no
            layer or are not finite, a file is damaged, or the machine has not the device.
    """
    device = device_given(device)
    dtype = dtype_given(dtype, device)
    attn = attention_given(attn, device, dtype)
    name, adapter, run = find(name, adapter)
    if load_in_4bit is None:
        load_in_4bit = adapter is not None and run is not None and run.config.get("load_in_4bit", False)
    if truth(load_in_4bit, "load_in_4bit"):
        package_given("bitsandbytes", "load_in_4bit=True", "give load_in_4bit=False")  # a run may ask for it, too
    path = TINY if str(name) == "tiny" else name
    kind_of_model = architecture(path, adapter)
    with one_sentence(f"the model at {name}"), _quiet_if(path == TINY or bool(os.environ.get("CI"))):
        model = load_base(path, dtype, attn, device if load_in_4bit else None)
        processor = load_processor(path, kind_of_model, max_pixels)
    if processor.image_token_id != model.config.image_token_id or len(processor.tokenizer) > _vocabulary(model):
        raise DataError(f"the tokenizer of {name} is not that of its config.json; copy or download the folder again")
    model.medr1kit = Origin(str(name), kept=_sampled(model))
    model.medr1kit.labels = _in_its_format(model, model.medr1kit.labels)
    if adapter is not None:
        model = put_on(model, adapter, run)
    elif run is not None:
        model.medr1kit = Origin(str(name), _in_its_format(model, run.labels), str(run.path))
    with one_sentence(f"the model at {name}", f"choose another device than {device}"):
        model = model.to(device).eval()
    refuse_not_finite(model, f"the model at {name}" + (f" with {adapter}" if adapter is not None else ""))
    return model, processor


def put_on(model: PreTrainedModel, adapter: Path, run: Run | None) -> PeftModel:
    """Put an adapter on a model that carries none, and note whose it is.

    Args:
        model: the base, as :func:`load_model` made it.
        adapter: the adapter's folder.
        run: the run that trained it, from :func:`medr1kit.models.found.find`, or None.

    Raises:
        DataError: if the adapter is damaged or of another base.
    """
    wrapped, name = load_adapter(model, adapter), origin_of(model).name
    labels = {"model": f"{name} + {adapter}", "method": "given"}  # trained somewhere else, nobody knows how
    record_training(wrapped, _in_its_format(model, run.labels if run else labels), run and str(run.path))
    if not _acting(model, changed=True):
        warnings.warn(f"the adapter at {adapter} changes nothing: factors or scaling are zero", stacklevel=4)
    return wrapped


_IN_4_BITS = " in 4 bits"


def _in_its_format(model: PreTrainedModel, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Labels that say of a base in 4 bits that it is: its answers are not those of the base as it was published."""
    name = labels["model"].removesuffix(_IN_4_BITS)
    return {**labels, "model": f"{name}{_IN_4_BITS}" if is_four_bit(model) else name}


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


def _vocabulary(model: PreTrainedModel) -> int:
    return model.get_input_embeddings().num_embeddings


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the Hugging Face model itself, out of its LoRA wrapper where it has one; the weights are the same ones."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass
class Origin:
    """Where a model came from: the one thing that medr1kit keeps on a model itself, as ``model.medr1kit``.

    A model is trained in place and asked afterwards by its variable alone, so what its answers are labelled with has to
    go with it. A run's folder holds the same (:attr:`medr1kit.results.runs.Run.labels`), and ``predict(labels=run)``
    reads it there. Ask :func:`origin_of` for it: adapters come and go.

    Attributes:
        name: what to load to have the weights below an adapter: "tiny", a folder or a hub id.
        labels: of its predictions; ``model`` and ``method`` at least. Only what is known to be one is a "base".
        run: folder of the run that trained it, or None.
        wrapper: its LoRA wrapper if it was trained in this process, so that the next training goes on with it.
        below: what the model is without the adapters that ``labels`` tell of, or None if they tell of none.
        adapters: the names of those.
        layer: one of their layers; it is there as long as they are.
        kept: some values of each weight, by layer: of a base, which tell whether it still is one; of what is under an
            adapter, which tell whether it was merged.
    """

    name: str
    labels: dict[str, Any] = field(default_factory=dict)
    run: str | None = None
    wrapper: PeftModel | None = field(default=None, repr=False)
    below: Origin | None = field(default=None, repr=False)
    adapters: frozenset[str] = frozenset()
    layer: torch.nn.Module | None = field(default=None, repr=False)
    kept: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.labels = self.labels or {"model": self.name, "method": "base" if _is_base(self.name) else "given"}


def _is_base(name: str) -> bool:
    """Whether a name is one of untrained weights: the built-in ones, and those of the makers of the architectures."""
    return name == "tiny" or Path(name) == TINY or (name.startswith("Qwen/") and not Path(name).exists())


def origin_of(model: PreTrainedModel | PeftModel) -> Origin:
    """Return what a model is at this moment, with or without its LoRA wrapper; it may have been loaded by others.

    An adapter that was taken off or turned off no longer counts, one that was merged does, and one that others have put
    on is ``given``: nobody here knows how it was trained. So are weights of a base that others have changed.
    """
    base = base_of(model)
    origin = _settled(base)
    acting = _acting(base, changed=origin.below is None)
    if acting == origin.adapters:
        return _as_loaded(base, origin)
    below = origin.below or origin
    if not acting:
        return _as_loaded(base, below)
    labels = {"model": f"{below.labels['model']} + {', '.join(sorted(acting))}", "method": "given"}
    return Origin(below.name, labels, wrapper=origin.wrapper)


def _settled(base: PreTrainedModel) -> Origin:
    """The origin that stands on the model, after a look whether the adapter that it tells of is still there."""
    if not hasattr(base, "medr1kit"):
        base.medr1kit = Origin(base.config._name_or_path)
    origin = base.medr1kit
    adapted = [part for part in base.modules() if is_adapted(part)]
    if origin.below is not None and not any(part is origin.layer for part in adapted):
        merged = Origin(f"{origin.name} merged with {origin.run or origin.labels['model']}", origin.labels, origin.run)
        base.medr1kit = origin = origin.below if _as_kept(base, origin.kept) else merged
    if not adapted:
        origin.wrapper = None
    return origin


def record_training(model: PreTrainedModel | PeftModel, labels: Mapping[str, Any], run: str | None) -> None:
    """Note on a model that it was trained, also if the training was interrupted after it had changed the weights.

    Args:
        model: the model, in its LoRA wrapper if that is what was trained.
        labels: of its predictions from now on.
        run: the run's folder, or None if it has none.
    """
    base = base_of(model)
    if base is model:  # all weights: what an adapter trained from here on stands on is this run's
        base.medr1kit = Origin(f"{run}/model", dict(labels), run)
        return
    origin = _settled(base)
    below = replace(origin.below or origin, wrapper=None)
    layers = {name: part for name, part in base.named_modules() if is_adapted(part)}
    kept = {name: _some(_weight(part)) for name, part in layers.items() if _weight(part) is not None}
    base.medr1kit = Origin(below.name, dict(labels), run, model, below, _acting(base, changed=False))
    base.medr1kit.layer, base.medr1kit.kept = next(iter(layers.values())), kept


def _acting(base: PreTrainedModel, changed: bool) -> frozenset[str]:
    """Names of the adapters that act; with ``changed`` only of those that are no longer what they begin as, zero."""
    found = set()
    for _, part in base.named_modules():
        if is_adapted(part) and not part.disable_adapters:
            found |= {a for a in part.active_adapters if not changed or _does_something(part, a)}
    return frozenset(found)


def _does_something(part: torch.nn.Module, adapter: str) -> bool:
    """Whether an adapter of a layer is none of LoRA's, or a product that is not zero."""
    factors = [getattr(part, name, {}) for name in ("lora_A", "lora_B")]
    if any(adapter not in factor for factor in factors):
        return True
    return part.scaling[adapter] != 0 and all(factor[adapter].weight.any() for factor in factors)


def _as_loaded(base: PreTrainedModel, origin: Origin) -> Origin:
    """What is known of weights, if they are still those; a base that others have trained or changed is none."""
    if origin.labels["method"] != "base" or _as_kept(base, origin.kept):
        return origin
    return Origin(origin.name, {"model": f"{origin.labels['model']}, changed", "method": "given"})


def _weight(part: torch.nn.Module) -> torch.Tensor | None:
    """A layer's own weight, below its adapters."""
    below = getattr(part, "original_module", None) or getattr(part, "base_layer", None) or part
    weight = below._parameters.get("weight")
    return None if weight is None or is_scattered(weight) else weight


def _sampled(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: _some(_weight(part)) for name, part in model.named_modules() if _weight(part) is not None}


def _some(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().flatten()[:: max(1, weight.numel() // 16)].clone().cpu()


def _as_kept(base: PreTrainedModel, kept: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights are what they were; a cast to another number format changes nothing."""
    parts = dict(base.named_modules())
    now = {name: weight for name in kept if name in parts and (weight := _weight(parts[name])) is not None}
    return all((_some(weight) == kept[name].to(weight.dtype)).all() for name, weight in now.items())


def pair_given(model: Any, processor: Any) -> None:
    """Refuse what is no model with its processor: swapped, a name, the tuple of both.

    Raises:
        DataError: saying what was given in the place of which.
    """
    if isinstance(model, (tuple, Run, str, Path)):
        raise DataError(f"model is {kind(model)}; load it first: model, processor = load_model(…)")
    if not hasattr(model, "generate") or not hasattr(model, "named_parameters"):
        swapped = hasattr(processor, "generate")
        raise DataError(
            f"model is {kind(model)}; "
            + ("model and processor are swapped" if swapped else "expected what load_model(…) returns")
        )
    if any(map(is_scattered, model.parameters())):
        raise DataError(
            "the weights of this model are scattered over the processes that trained it (ZeRO-3, FSDP); load its run "
            "to ask it or to go on: model, processor = load_model(run)"
        )
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise DataError(f"processor is {kind(processor)}; pass the second of what load_model(…) returns")


def image_token_ids(model: PreTrainedModel) -> list[int]:
    """Return the ids of image and video placeholder tokens, which a completion must never hold."""
    config = model.config
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return [getattr(config, name) for name in names if getattr(config, name, None) is not None]
