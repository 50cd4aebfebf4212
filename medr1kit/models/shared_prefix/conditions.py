"""When a prefix can be shared exactly, and in one line why not where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from medr1kit.models.load import SUPPORTED, base_of

if TYPE_CHECKING:
    from transformers import GenerationConfig


def why_not_shared(trainer: Any) -> str | None:
    """Return why a GRPO trainer has to run TRL's own step, or None where sharing is exact.

    Args:
        trainer: a :class:`trl.GRPOTrainer`, built.
    """
    args, accelerator = trainer.args, trainer.accelerator
    model = accelerator.unwrap_model(trainer.model)
    if reason := why_not_read(model) or why_not_trained(model):
        return reason
    if trainer.use_vllm:
        return "vLLM samples; it shares prompts by itself, and its tokens are scored by TRL's own step"
    if trainer.use_transformers_continuous_batching:
        return "transformers' continuous batching samples"
    if trainer.tools or trainer.environment_factories or trainer.rollout_func is not None:
        return "tools, environments or a rollout function take part in a completion"
    if trainer.aux_loss_enabled:
        return "the model has an auxiliary loss over whole sequences"
    if args.cast_lm_head_to_fp32:
        return "cast_lm_head_to_fp32 changes the head inside TRL's forward pass"
    if trainer.pad_to_multiple_of is not None:
        return "pad_to_multiple_of asks for padding that sharing avoids"
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        return "DeepSpeed ZeRO-3 scatters the weights between forward passes"
    if accelerator.state.distributed_type.value == "FSDP":
        return "FSDP scatters the weights between forward passes"
    if args.gradient_checkpointing and model.config._attn_implementation != "sdpa":
        return "gradient checkpointing needs a packed mask, which only sdpa takes; load the model with attn='sdpa'"
    if "images" in (getattr(trainer.train_dataset, "column_names", None) or ()):
        return "a prompt may have several images (column 'images'); sharing needs one, in column 'image'"
    return why_not_drawn(trainer.generation_config)


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


def why_not_read(model: nn.Module) -> str | None:
    """Return why a model's prompts cannot be read once for many rows, or None where they can.

    Args:
        model: the model, with or without LoRA.
    """
    base = base_of(model)
    if base.config.model_type not in SUPPORTED:
        return f"{base.config.model_type} is not one of {', '.join(SUPPORTED)}"
    text = base.config.get_text_config()
    if getattr(base.model.language_model, "has_sliding_layers", False):
        return "the language model has sliding-window attention"
    if (getattr(text, "rope_parameters", None) or {}).get("rope_type") in ("dynamic", "longrope"):
        return "its rotary positions depend on the length of the sequence"
    for config in getattr(model, "peft_config", {}).values():
        if config.peft_type != "LORA":
            return f"the adapter is {config.peft_type.value}, not LoRA"
    return None


def why_not_trained(model: nn.Module) -> str | None:
    """Return which dropout draws other numbers when rows are shared, or None; in evaluation there is none.

    Args:
        model: the model, with or without LoRA.
    """
    base = base_of(model)
    if getattr(base.config.get_text_config(), "attention_dropout", 0):
        return "attention dropout draws other numbers when rows are shared"
    if any(config.lora_dropout for config in getattr(model, "peft_config", {}).values()):
        return "LoRA dropout draws other numbers when rows are shared"
    return None
