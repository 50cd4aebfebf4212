"""What a training will need, by arithmetic on a model's shapes, before anything of it is loaded.

In bytes, for P weights of which T are trained, b bytes a weight (2 in bfloat16, 4 in float32; adapters are float32):

================  ==========================================================================================
weights           b P; in 4 bits 0.516 for each weight of the language model's maps (a code of half a byte, a byte
                  of scale for 64, and 4 of those for 256), b for the others
gradients         b T, or 4 T of an adapter
optimizer         twice that: the two moments of AdamW
reference         b P in GRPO with beta, if all weights are trained; of an adapter it is the model without it
keys and values   2 b × layers × their width × tokens of all rows that are sampled at once
states            b × hidden × layers × tokens of the rows that the loss takes at once, and the workings of one
                  layer; without gradient checkpointing the workings of every layer
logits            4 × 2^23 numbers, four times: the head sees a slice of rows at a time (TRL's own step: more)
all else          2.5 GiB, so that the one measurement fits: libraries, what loading and the allocator keep
================  ==========================================================================================

The workings of a layer are 8 hidden states and 4 of the feed-forward map a token. Tokens of a row: 200 of text, those
of its image, those of a completion; a group shares its prompt.

**Calibrated once**, on a CPU: a GRPO step of a full-size Qwen2-VL-2B in bfloat16 with the preset for a GPU, two
completions of 8 tokens about one image of 112 × 112, took 7.4 GB at most, 4.4 of them weights. Nothing was measured on
a GPU, and nothing of images of other sizes: take it as an estimate, and leave a fifth free.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medr1kit.given import choice, whole_number
from medr1kit.models import machine
from medr1kit.models.adapters import LANGUAGE_MODEL, lora
from medr1kit.models.outline import is_built_in, outline
from medr1kit.training.presets import preset_given, with_overrides
from medr1kit.vqa import DataError

_GIB, _TEXT, _ELSE = 2**30, 200, 2.5
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


def forecast(
    model: Any,
    settings: Mapping[str, Any],
    adapter: Mapping[str, Any] | bool,
    dtype: str,
    size: int = 384,
    load_in_4bit: bool = False,
) -> dict[str, float]:
    """Return the GiB that each part of a training takes, ``together`` of them, and a ``checkpoint`` on disk.

    Args:
        model: from :func:`medr1kit.models.outline.outline`.
        settings: arguments of the training, from :func:`medr1kit.training.presets.with_overrides`.
        adapter: arguments of :func:`medr1kit.lora`, or False for all weights.
        dtype: of the weights: "bfloat16", "float32".
        size: side of the images, in pixels.
        load_in_4bit: whether the language model's maps are in 4 bits.
    """
    text, vision, width = model.config.get_text_config(), model.config.vision_config, _BYTES[dtype]
    weights = model.num_parameters()
    trained = weights if adapter is False else _adapted(model, lora(**adapter))
    of_each = width if adapter is False else 4
    grpo = "num_generations" in settings
    side = max(1, round(size / (vision.patch_size * vision.spatial_merge_size)))
    prompt, completion = _TEXT + side**2, settings.get("max_completion_length", 0) if grpo else 0
    rows, group = settings.get("per_device_train_batch_size", 8), settings.get("num_generations", 1)
    sampled = rows * settings.get("gradient_accumulation_steps", 1) if grpo else 0
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    tokens = rows * completion + max(1, rows // group) * prompt
    workings = width * tokens * (8 * text.hidden_size + 4 * text.intermediate_size)
    layers = text.num_hidden_layers
    kept = width * tokens * text.hidden_size * layers + workings
    codes = sum(part.weight.numel() for part in _maps(model, LANGUAGE_MODEL)) if load_in_4bit else 0
    small = {
        "weights": width * (weights - codes) + codes * (1 / 2 + 1 / 64 + 4 / (64 * 256)),
        "gradients": of_each * trained,
        "optimizer": 2 * of_each * trained,
        "reference": width * weights if grpo and settings.get("beta") and adapter is False else 0,
        "keys and values": 2 * width * layers * text.num_key_value_heads * head * sampled * (prompt + completion),
        "states": kept if settings.get("gradient_checkpointing", True) else workings * layers,
        "logits": 4 * 4 * 2**23,
    }
    parts = {name: number / _GIB for name, number in small.items()} | {"all else": _ELSE}
    moments = 0 if settings.get("save_only_model") else 2
    return parts | {"together": sum(parts.values()), "checkpoint": (1 + moments) * of_each * trained / _GIB}


def _adapted(model: Any, config: Any) -> int:
    """The weights of an adapter: rank × (what goes in + what comes out), of each map that it is put on."""
    return sum(config.r * (m.in_features + m.out_features) for m in _maps(model, config.target_modules))


def _maps(model: Any, names: str) -> list[Any]:
    import torch

    found = (part for name, part in model.named_modules() if re.fullmatch(names, name))
    return [part for part in found if isinstance(part, torch.nn.Linear)]


def doctor(
    model: Any = None,
    preset: str | Mapping[str, Any] | None = None,
    *,
    method: str = "grpo",
    size: int = 384,
    load_in_4bit: bool = False,
) -> None:
    """Print versions, device, number format and attention with their reasons, and what training a model will need.

    Args:
        model: as for :func:`medr1kit.load_model`: of it the configuration alone is read. None: this machine only.
        preset: a name in PRESETS or a mapping like its entries; None for the one that the command line would take.
        method: "grpo" or "sft".
        size: side of the images, in pixels; ``load_vqa`` hands out 384.
        load_in_4bit: whether the model would be loaded so.

    Raises:
        DataError: if there is no such model or preset, or all weights would be trained in 4 bits.
    """
    machine.doctor()
    if model is None:
        return
    choice(method, "method", ("grpo", "sft"))
    shapes = outline(model)
    name = preset or ("tiny" if is_built_in(model) else "gpu")
    chosen = preset_given(name, method)
    settings, adapter = with_overrides(chosen, {}), chosen.get("lora", {})
    device = machine.choose_device().value
    dtype = machine.choose_dtype(device).value if device != "cpu" else "bfloat16"  # asked on a laptop, for a GPU
    dtype = "float32" if adapter is False or name == "tiny" else dtype
    if load_in_4bit and adapter is False:
        raise DataError("this preset trains all weights, which cannot be in 4 bits; name another, or no load_in_4bit")
    parts = forecast(shapes, settings, adapter, dtype, whole_number(size, "size", 28), load_in_4bit)
    together, checkpoint = parts.pop("together"), parts.pop("checkpoint")
    what = "all weights" if adapter is False else f"an adapter of rank {lora(**adapter).r}"
    fine = ", the language model's in 4 bits" if load_in_4bit else ""
    named = name if isinstance(name, str) else "given"
    print(f"model         {model}: {shapes.num_parameters() / 1e9:.3f} billion weights in {dtype}{fine}")
    print(f"training      {method} of {what}, preset {named}, images {size} × {size}")
    print(f"memory        {' + '.join(f'{part} {gib:.1f}' for part, gib in parts.items() if gib >= 0.05)}")
    print(f"              = {together:.1f} GiB, estimated; {_room(device, together)}")
    print(f"disk          {checkpoint:.2f} GiB a checkpoint, {settings.get('save_total_limit') or 'each'} of them kept")


def _room(device: str, needed: float) -> str:
    """How much there is of what is needed."""
    if device == "cpu":
        return "this machine has no GPU to compare it with"
    import torch

    there = torch.cuda.get_device_properties(device).total_memory / _GIB
    verdict = "it should fit" if needed < 0.8 * there else "it may not fit" if needed < there else "it does not fit"
    return f"the GPU has {there:.0f}: {verdict}"
