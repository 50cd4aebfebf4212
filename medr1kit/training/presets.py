"""Presets: arguments of SFTConfig and GRPOConfig that work, as plain dicts to print, copy and override.

"tiny" is for the built-in model on a CPU, tuned on phantoms' validation split (four settings a method,
`medr1kit/results/recorded/tuning.csv`); "gpu" is a first setting for one GPU of 24 to 80 GB and a 2B or 3B model, not
tuned and not run yet.
"""

from __future__ import annotations

from typing import Any

# What both methods have in common. "lora" holds arguments of models.lora, the rest those of SFTConfig and GRPOConfig.
_TINY = {"lora": {"rank": 16, "alpha": 32, "merger": True}, "max_steps": 80, "warmup_steps": 3}
_TINY |= {"gradient_checkpointing": False}
_GPU = {"lora": {"rank": 16, "alpha": 32}, "num_train_epochs": 1.0, "gradient_accumulation_steps": 4}
_GPU |= {"warmup_steps": 10, "gradient_checkpointing": True, "save_strategy": "steps", "save_steps": 200}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "sft": {**_TINY, "learning_rate": 1e-3, "per_device_train_batch_size": 16},
        "grpo": {
            **_TINY,
            "learning_rate": 5e-4,
            "num_generations": 8,
            "per_device_train_batch_size": 32,
            "max_completion_length": 48,
            "temperature": 1.0,
            "beta": 0.0,
        },
    },
    "gpu": {
        "sft": {**_GPU, "learning_rate": 1e-4, "per_device_train_batch_size": 4},
        "grpo": {
            **_GPU,
            "learning_rate": 1e-5,
            "num_generations": 8,
            "per_device_train_batch_size": 8,
            "max_completion_length": 256,
            "temperature": 1.0,
            "beta": 0.04,
        },
    },
}
