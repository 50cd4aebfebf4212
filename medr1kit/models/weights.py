"""Were these weights really loaded?

A folder that loads without an error may hold another model than its name says. What no tensor of the file fits is left
at random, or as it was, and the libraries say so in a log line at most::

    missing       a layer that the file does not hold stays random       refused
    unexpected    a tensor that fits no layer is left out                an adapter's: refused; a base's: said
    not finite    NaN or infinite, or all zero: each answer is "!!!!"    refused
    a pointer     what a clone without Git LFS leaves in a file's place  refused

Tensors of Qwen2-VL that were named before transformers 4.52 (``model.layers…``, ``visual…``) get today's names: a
base's by transformers, an adapter's here. Only safetensors are read, no pickles, and no code that a folder brings.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_TODAY = {r"^model\.(?!language_model\.|visual\.)": "model.language_model.", r"^visual\.": "model.visual."}
_READ = (".safetensors", ".json", ".txt", ".jinja", ".model")


@contextmanager
def one_sentence(what: str, remedy: str = "copy or download it again") -> Iterator[None]:
    """Turn whatever the libraries raise about a damaged folder into a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # safetensors, tokenizers, jinja2, peft, torch: each has its own, and plain KeyErrors
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{what} cannot be loaded ({type(error).__name__}: {reason}); {remedy}") from error


def refuse_damaged(folder: Path) -> None:
    """Refuse a folder in which Git LFS has left a pointer where a file should be, or a settings file is cut short."""
    for file in sorted(folder.iterdir()):
        if file.suffix not in _READ or not file.is_file() or file.stat().st_size > 1_000_000:
            continue
        content = file.read_bytes()
        if content.startswith(b"version https://git-lfs"):
            raise DataError(f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` where it is from")
        if file.suffix == ".json":
            with one_sentence(str(file)):
                json.loads(content)


def load_base(
    path: str | Path, dtype: str, attn: str | Mapping[str, str], four_bit_on: str | None = None
) -> PreTrainedModel:
    """Load a checkpoint all of whose layers are in its files.

    Args:
        path: its folder, or a hub id.
        dtype: number format of its weights; in 4 bits, of those that keep theirs and of what is computed.
        attn: implementation of attention; a dict: "" of the language model, "vision_config" of the tower.
        four_bit_on: the device on which the language model's maps are quantised to 4 bits; None: they are not.

    Raises:
        DataError: naming how many tensors are missing or of another size, and the first.
    """
    from transformers import AutoModelForImageTextToText

    if any(Path(path).glob("*.bin")) and not any(Path(path).glob("*.safetensors")):
        raise DataError(f"{path} holds pickles (.bin), which are not read; save it anew with save_pretrained()")
    chosen = {"dtype": dtype, "attn_implementation": attn, "trust_remote_code": False, "use_safetensors": True}
    if four_bit_on is not None:
        chosen |= {"quantization_config": _four_bit(dtype), "device_map": {"": four_bit_on}}
    with _report_left_to_us():  # sizes that differ are let through, to be named here
        model, found = AutoModelForImageTextToText.from_pretrained(
            path, **chosen, ignore_mismatched_sizes=True, output_loading_info=True
        )
    if differ := sorted(found["mismatched_keys"]):
        name, there, wanted = differ[0]
        sizes = f"{name} is {tuple(there)}, not {tuple(wanted)}"
        raise DataError(
            f"{path}: {_tensors(differ)} of another size than config.json says ({sizes}); do they belong together?"
        )
    missing, stray = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    beside = f"{_tensors(stray)} that fit no layer ({stray[0]}, …)" if stray else ""
    if missing and any(".base_layer." in name for name in stray):
        raise DataError(
            f"{path} was saved with a LoRA adapter inside; load the run that trained it, or save the model anew after "
            "merge_and_unload()"
        )
    if missing:
        raise DataError(
            f"{path} lacks {_tensors(missing)} ({missing[0]}, …), whose layers would be random"
            + (f", and holds {beside}" if stray else "")
            + "; copy or download all of its files again"
        )
    if stray:
        warnings.warn(f"{path} holds {beside}; they are left out", stacklevel=4)
    for part in model.modules() if is_four_bit(model) else ():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False  # it packs the weights of a model that answers, for good
    return model


def is_four_bit(model: PreTrainedModel) -> bool:
    """Whether a model, without LoRA around it, was loaded in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def _four_bit(dtype: str):
    """What QLoRA does: normal-float codes of 4 bits, a scale for 64 of them, and a scale of scales.

    Head and embeddings keep their format, as everywhere. So do vision tower and mergers, which transformers would
    quantise, too: they are a small part of the larger models, a picture goes through them once, and what they lose
    there no adapter of the language model can see.
    """
    import torch
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": compute}
    return BitsAndBytesConfig(load_in_4bit=True, **nf4, llm_int8_skip_modules=["model.visual", "lm_head"])


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a LoRA adapter on a model that has a place for each of its tensors.

    Raises:
        DataError: if the folder holds none, or other tensors than the model has places for.
    """
    from peft import PeftConfig, PeftModel, PeftModelForCausalLM
    from safetensors import safe_open

    if not (folder / "adapter_config.json").is_file():
        raise DataError(f"no LoRA adapter at {folder}: the folder needs adapter_config.json and its weights")
    refuse_damaged(folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise DataError(
            f"{folder} has no adapter_model.safetensors; pickles (.bin) are not read: save it anew with peft"
        )
    with one_sentence(f"the adapter at {folder}", "is it of this base? If so, copy or download it again"):
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
            if strange := [name for name in tensors.keys() if not name.startswith("base_model.")]:  # noqa: SIM118
                raise DataError(
                    f"{folder} holds no adapter of peft's: {_tensors(strange)} named otherwise ({strange[0]})"
                )
        wrapped = (PeftModelForCausalLM if config.task_type == "CAUSAL_LM" else PeftModel)(model, config)
        found = wrapped.load_adapter(str(folder), "default", key_mapping=_TODAY)
    strays, places = found.unexpected_keys, found.missing_keys
    if wrong := [*strays, *places]:
        raise DataError(
            f"the adapter at {folder} does not fit this base: {len(strays)} of its tensors have no place "
            f"in the model and {len(places)} places no tensor ({wrong[0]}, …); load it on the base "
            "that it was trained on, or save it anew there"
        )
    return wrapped


def refuse_not_finite(model: PreTrainedModel | PeftModel, what: str) -> None:
    """Refuse weights that hold NaN or infinite values; such a model answers "!!!!", whatever it is asked."""
    import torch

    ends = [(name, torch.aminmax(weight.detach())) for name, weight in model.named_parameters() if weight.numel()]
    bad = [name for name, (low, high) in ends if not (low.isfinite() & high.isfinite())]
    if bad:
        raise DataError(
            f"{what} has {_tensors(bad)} with NaN or infinite values ({bad[0]}, …); its training diverged, the files "
            f"are damaged, or they do not fit into {model.dtype}"
        )
    flat = [name for name, (low, high) in ends if low == high == 0 and name.endswith("weight") and "lora_" not in name]
    if flat:
        raise DataError(f"{what} has {_tensors(flat)} of nothing but zeros ({flat[0]}, …); copy or download it again")


def is_scattered(weight: torch.nn.Parameter) -> bool:
    """Whether several processes hold a part each of a weight: ZeRO-3 and FSDP leave it so."""
    return hasattr(weight, "ds_id") or hasattr(weight, "to_local")


def _tensors(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"


@contextmanager
def _report_left_to_us() -> Iterator[None]:
    """No table of transformers' about what was not loaded."""
    from transformers.utils import logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(shown)
