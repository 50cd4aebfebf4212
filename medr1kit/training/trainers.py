"""Which trainer a GRPO run gets: the one that shares prompts where that is exact and TRL is as it was, else TRL's own.

Where sharing is not exact, one line says why not.

Nothing here needs the shared trainer to be importable: a TRL that moved what it imports costs speed, not training.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from medr1kit.models.load import base_of
from medr1kit.models.shared_prefix.answering import adapters_of, why_not_read
from medr1kit.training.needs import fsdp_asked

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from transformers import PreTrainedModel
    from trl import GRPOConfig, GRPOTrainer


# The methods of TRL 1.16 that the shared trainer overrides or calls by their private names, with what they take,
# and the attributes that it reads.
_WRITTEN_FOR = {
    "_calculate_rewards": "inputs prompts completions completion_ids_list",
    "_compute_loss": "model inputs",
    "_generate_and_score_completions": "inputs",
    "_generate_single_turn": "prompt_ids images multimodal_fields num_generations has_tool_images",
    "_get_dataloader": "dataset description batch_size sampler_fn is_training dataloader_key",
    "_get_per_token_logps_and_entropies": "model input_ids attention_mask logits_to_keep batch_size compute_entropy "
    "compute_aux_loss pixel_values image_grid_thw num_images pixel_attention_mask spatial_shapes num_tiles image_sizes "
    "token_type_ids mm_token_type_ids image_position_ids",
    "_log_completion_extra": "column values",
    "_log_metric": "name value",
    "_prepare_inputs": "generation_batch",
    "_tokenize_prompts": "prompts",
    "log": "logs start_time",
    "training_step": "model inputs num_items_in_batch",
}
_ATTRIBUTES = ("_buffered_inputs", "_entropy_bonus_enabled", "_pending_extra_logs", "_step", "eos_token_ids")


def trainer_class(
    model: PreTrainedModel, args: GRPOConfig, rows: Dataset, adapter: PeftConfig | None = None
) -> tuple[type[GRPOTrainer], str | None]:
    """Return the trainer that shares prompts and None, or TRL's own and the reason, which is also told.

    Args:
        model: the model, with or without LoRA.
        args: the arguments of the run.
        rows: the data set to train on.
        adapter: configuration of the adapter that the trainer will put on the model, or None.
    """
    from trl import GRPOTrainer, __version__

    if reason := why_not_shared(model, args, rows, adapter):
        warnings.warn(f"prompts are not shared, TRL's own step is run: {reason}", stacklevel=2)
        return GRPOTrainer, reason
    try:
        from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer
    except ImportError as error:
        if not (error.name or "").startswith("trl"):
            raise
        changed = f"what is imported from it ({error})"
    else:
        if (changed := changed_in(GRPOTrainer)) is None:
            return SharedPrefixGRPOTrainer, None
    reason = f"TRL {__version__} changed {changed}"
    warnings.warn(f"{reason}; its own step is run", stacklevel=2)
    return GRPOTrainer, reason


def changed_in(trainer: type) -> str | None:
    """Return the first name of TRL's trainer that is not what the shared trainer was written for, or None."""
    for name, parameters in _WRITTEN_FOR.items():
        method = getattr(trainer, name, None)
        if method is None or list(inspect.signature(method).parameters) != ["self", *parameters.split()]:
            return f"{trainer.__name__}.{name}"
    made = inspect.unwrap(trainer.__init__).__code__.co_names  # the attributes that it sets are among them
    return next((f"{trainer.__name__}.{name}" for name in _ATTRIBUTES if name not in made), None)


def why_not_shared(model: PreTrainedModel, args: Any, rows: Any, adapter: PeftConfig | None = None) -> str | None:
    """Return why a GRPO training has to take TRL's own step, or None where sharing is exact.

    Args:
        model: the model, with or without LoRA.
        args: a :class:`trl.GRPOConfig`.
        rows: the data set to train on.
        adapter: configuration of the adapter that the trainer will put on the model, or None.
    """
    if reason := why_not_read(model, adapter) or why_not_trained(model, adapter):
        return reason
    if args.use_transformers_continuous_batching:
        return "transformers' continuous batching samples"
    if args.cast_lm_head_to_fp32:
        return "cast_lm_head_to_fp32 changes the head inside TRL's forward pass"
    if args.pad_to_multiple_of is not None:
        return "pad_to_multiple_of asks for padding that sharing avoids"
    if args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3:
        return "DeepSpeed ZeRO-3 scatters the weights between forward passes"
    if fsdp_asked(args.fsdp):
        return "FSDP scatters the weights between forward passes"
    if args.gradient_checkpointing and base_of(model).config._attn_implementation != "sdpa":
        return "gradient checkpointing needs a packed mask, which only sdpa takes; load the model with attn='sdpa'"
    if "images" in (getattr(rows, "column_names", None) or ()):
        return "a prompt may have several images (column 'images'); sharing needs one, in column 'image'"
    return None if args.use_vllm else why_not_drawn(GenerationConfig(**(args.generation_kwargs or {})))


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


def why_not_trained(model: PreTrainedModel, adapter: PeftConfig | None = None) -> str | None:
    """Return which dropout draws other numbers when rows are shared, or None; in evaluation there is none.

    Args:
        model: the model, with or without LoRA.
        adapter: configuration of one more adapter, or None.
    """
    if getattr(base_of(model).config.get_text_config(), "attention_dropout", 0):
        return "attention dropout draws other numbers when rows are shared"
    if any(config.lora_dropout for config in adapters_of(model, adapter)):
        return "LoRA dropout draws other numbers when rows are shared"
    return None
