"""Presets: arguments of a training that go together, as plain dicts to print and to override by keyword.

======================  =====================================================================================
``tiny``                the built-in model on a CPU, tuned on phantoms' validation split (four settings a
                        method, ``benchmarks/worlds/tuning.py``)
``gpu-24gb, gpu-80gb``  a 2B or 3B model on one GPU: a first setting, not tuned and not run yet. Both take the
                        same steps; the card decides how a step is cut. ``gpu`` is that of the card at hand.
``med-r1``              what Med-R1 released: all weights, at its rate, loss and batch
======================  =====================================================================================

Two entries are not TRL's: ``lora`` holds arguments of :func:`medr1kit.lora`, or False for all weights; ``questions``
says how many a step takes over all processes together, each answered ``num_generations`` times in GRPO.

Where ``med-r1`` comes from. *Script*: Med-R1's run_grpo_2_5_train_vqa_nothink.sh; *curves*: the lengths of its
published ones, one step for four rows; *TRL 0.14*: a default of the version that it pins; *code*: its trainer.

=====================  ===========  =================================================================================
all weights            no adapter   script: no ``--use_peft``; code: vision tower, merger and language model
learning_rate          1e-6         TRL 0.14; linear to 0, no warm-up, no decay, gradients cut at 1: transformers
beta                   0.04         TRL 0.14
loss_type              grpo         code: the mean over a completion's tokens, then over completions
num_generations        4            script
questions              4            script: 1 prompt × 2 accumulation × 2 processes; curves
max_completion_length  256          TRL 0.14
temperature, top_k     1, 50        code: a fresh GenerationConfig, whose top_k is 50
num_train_epochs       1            curves; the script says 2
gradient_checkpointing False        script
bf16                   True         script: autocast; the weights were loaded in float32, and here have to be
save_steps             200          script; the optimizer is saved, too, so that a broken run can go on
=====================  ===========  =================================================================================

Its SFT, from its 13 YAML files: all weights, 2e-5 with a cosine and a tenth of warm-up, 4 × 16 × 2 = 128 rows a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medr1kit.given import choice
from medr1kit.training.checks import processes
from medr1kit.vqa import DataError

# What both methods have in common; beside "lora" and "questions" these are arguments of SFTConfig and GRPOConfig.
_TINY = {"lora": {"rank": 16, "alpha": 32, "merger": True, "tower": True}, "warmup_steps": 3}
_TINY |= {"gradient_checkpointing": False}
_GPU = {"lora": {"rank": 16, "alpha": 32}, "num_train_epochs": 1.0, "warmup_steps": 10}
_GPU |= {"save_steps": 200, "save_total_limit": 2}
_GPU_SFT = {**_GPU, "learning_rate": 1e-4}
_GPU_GRPO = {**_GPU, "learning_rate": 1e-5, "num_generations": 8, "max_completion_length": 256}
_GPU_GRPO |= {"temperature": 1.0, "beta": 0.04}
_24GB = {"gradient_accumulation_steps": 4, "gradient_checkpointing": True}
_MED_R1 = {"lora": False, "num_train_epochs": 1.0, "bf16": True, "per_device_train_batch_size": 4}
_MED_R1 |= {"weight_decay": 0.0, "max_grad_norm": 1.0, "save_steps": 200}

_24 = {
    "sft": {**_GPU_SFT, **_24GB, "per_device_train_batch_size": 4},
    "grpo": {**_GPU_GRPO, **_24GB, "per_device_train_batch_size": 8},
}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "sft": {**_TINY, "learning_rate": 2e-3, "max_steps": 125, "per_device_train_batch_size": 16},
        "grpo": {
            **_TINY,
            "learning_rate": 5e-4,
            "max_steps": 250,
            "num_generations": 8,
            "per_device_train_batch_size": 64,
            "max_completion_length": 48,
            "temperature": 1.0,
            "beta": 0.0,
        },
    },
    "gpu": _24,
    "gpu-24gb": _24,
    "gpu-80gb": {
        "sft": {**_GPU_SFT, "gradient_checkpointing": False, "per_device_train_batch_size": 16},
        "grpo": {
            **_GPU_GRPO,
            "gradient_checkpointing": False,
            "per_device_train_batch_size": 16,
            "gradient_accumulation_steps": 2,
        },
    },
    "med-r1": {
        "sft": {
            **_MED_R1,
            "questions": 128,
            "learning_rate": 2e-5,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "gradient_checkpointing": True,
        },
        "grpo": {
            **_MED_R1,
            "questions": 4,
            "learning_rate": 1e-6,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0,
            "num_generations": 4,
            "max_completion_length": 256,
            "temperature": 1.0,
            "top_k": 50,
            "beta": 0.04,
            "loss_type": "grpo",
            "scale_rewards": "group",
            "gradient_checkpointing": False,
        },
    },
}
_LARGE = 60 * 2**30  # bytes of a card that takes the larger cut


def preset_given(preset: Any, method: str) -> dict[str, Any]:
    """Return the arguments of a preset, "gpu" being the one for the card at hand.

    Args:
        preset: a name in PRESETS, or a mapping like its entries, which is returned.
        method: "sft" or "grpo".

    Raises:
        DataError: if the name is unknown.
    """
    if isinstance(preset, Mapping):
        return dict(preset)
    if choice(preset, "preset", PRESETS) == "gpu":
        import torch

        there = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory
        preset = "gpu-80gb" if there >= _LARGE else "gpu-24gb"
    return dict(PRESETS[preset][method])


def with_overrides(preset: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's arguments: those of the preset, changed, and its questions a step cut for the processes.

    Args:
        preset: from :func:`preset_given`; its ``lora`` is left out.
        overrides: arguments that were given by name.

    Raises:
        DataError: if the processes cannot share the questions of a step evenly.

    >>> with_overrides({"questions": 4, "num_generations": 4, "per_device_train_batch_size": 4}, {})
    {'num_generations': 4, 'per_device_train_batch_size': 4, 'gradient_accumulation_steps': 4}
    """
    settings = {name: value for name, value in preset.items() if name not in ("lora", "questions")} | overrides
    if settings.get("save_steps") is not None:
        settings.setdefault("save_strategy", "steps")
    if settings.get("eval_steps") is not None:
        settings.setdefault("eval_strategy", "steps")
    if "max_steps" not in overrides and "num_train_epochs" in overrides:
        settings.pop("max_steps", None)  # epochs were asked for by name: the preset's step count yields
    batch = ("gradient_accumulation_steps", "steps_per_generation", "generation_batch_size")
    if "questions" not in preset or any(name in overrides for name in batch):
        return settings
    rows, n = preset["questions"] * settings.get("num_generations", 1), processes()
    device = settings["per_device_train_batch_size"]
    if "per_device_train_batch_size" not in overrides:
        device = settings["per_device_train_batch_size"] = max(1, min(device, rows // n))
    if rows % (device * n):
        raise DataError(
            f"a step of this preset has {rows} rows ({preset['questions']} questions), which cannot be cut into {n} "
            f"processes of {device} at a time; start another number of processes, or say per_device_train_batch_size "
            "and gradient_accumulation_steps"
        )
    return settings | {"gradient_accumulation_steps": rows // (device * n)}
