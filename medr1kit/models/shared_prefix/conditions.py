"""When a prefix can be shared exactly, and in one line why not where it cannot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import GenerationConfig

from medr1kit.models.load import SUPPORTED, base_of

if TYPE_CHECKING:
    from peft import PeftConfig


def why_not_shared(model: nn.Module, args: Any, rows: Any, adapter: PeftConfig | None = None) -> str | None:
    """Return why a GRPO training has to take TRL's own step, or None where sharing is exact.

    Args:
        model: the model, with or without LoRA.
        args: a :class:`trl.GRPOConfig`.
        rows: the data set to train on.
        adapter: configuration of the adapter that the trainer will put on the model, or None.
    """
    if reason := why_not_read(model, adapter) or why_not_trained(model, adapter):
        return reason
    if args.use_vllm:
        return "vLLM samples; it shares prompts by itself, and its tokens are scored by TRL's own step"
    if args.use_transformers_continuous_batching:
        return "transformers' continuous batching samples"
    if args.cast_lm_head_to_fp32:
        return "cast_lm_head_to_fp32 changes the head inside TRL's forward pass"
    if args.pad_to_multiple_of is not None:
        return "pad_to_multiple_of asks for padding that sharing avoids"
    if args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
        return "DeepSpeed ZeRO-3 scatters the weights between forward passes"
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return "FSDP scatters the weights between forward passes"
    if args.gradient_checkpointing and base_of(model).config._attn_implementation != "sdpa":
        return "gradient checkpointing needs a packed mask, which only sdpa takes; load the model with attn='sdpa'"
    if "images" in (getattr(rows, "column_names", None) or ()):
        return "a prompt may have several images (column 'images'); sharing needs one, in column 'image'"
    return why_not_drawn(GenerationConfig(**(args.generation_kwargs or {})))


def why_not_drawn(generation: GenerationConfig) -> str | None:
    """Return which setting asks for more than drawing one token after another, or None.

    Args:
        generation: with which completions are to be sampled.
    """
    if (generation.num_beams or 1) > 1 or getattr(generation, "penalty_alpha", None):
        return "beams or contrastive search are no sampling"
    if (generation.guidance_scale or 1) != 1:
        return "guidance_scale asks for a second forward pass a token"
    for name in ("stop_strings", "max_time", "prompt_lookup_num_tokens", "watermarking_config"):
        if getattr(generation, name, None) is not None:
            return f"generation setting {name} is not among those that sampling here knows"
    return None


def why_not_read(model: nn.Module, adapter: PeftConfig | None = None) -> str | None:
    """Return why a model's prompts cannot be read once for many rows, or None where they can.

    Args:
        model: the model, with or without LoRA.
        adapter: configuration of one more adapter, or None.
    """
    base = base_of(model)
    if base.config.model_type not in SUPPORTED:
        return f"{base.config.model_type} is not one of {', '.join(SUPPORTED)}"
    text = base.config.get_text_config()
    if getattr(base.model.language_model, "has_sliding_layers", False):
        return "the language model has sliding-window attention"
    if (getattr(text, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope"):
        return "its rotary positions depend on the length of the sequence"
    for config in _adapters(model, adapter):
        if config.peft_type != "LORA":
            return f"the adapter is {config.peft_type.value}, not LoRA"
    return None


def why_not_trained(model: nn.Module, adapter: PeftConfig | None = None) -> str | None:
    """Return which dropout draws other numbers when rows are shared, or None; in evaluation there is none.

    Args:
        model: the model, with or without LoRA.
        adapter: configuration of one more adapter, or None.
    """
    if getattr(base_of(model).config.get_text_config(), "attention_dropout", 0):
        return "attention dropout draws other numbers when rows are shared"
    if any(config.lora_dropout for config in _adapters(model, adapter)):
        return "LoRA dropout draws other numbers when rows are shared"
    return None


def _adapters(model: nn.Module, adapter: PeftConfig | None) -> list[PeftConfig]:
    return [*getattr(model, "peft_config", {}).values(), *([] if adapter is None else [adapter])]
