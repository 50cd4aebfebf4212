"""Presets: arguments of SFTConfig and GRPOConfig that work, as plain dicts to print, copy and override.

"tiny" is for the built-in model on a CPU, tuned on phantoms' validation split (four settings a method,
`medr1kit/results/recorded/tuning.csv`); "gpu" is a first setting for one GPU of 24 to 80 GB and a 2B or 3B model, not
tuned and not run yet.
"""

from __future__ import annotations

from typing import Any

# "lora" holds arguments of models.lora, the rest arguments of SFTConfig or GRPOConfig.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "sft": {
            "lora": {"rank": 16, "alpha": 32, "merger": True},
            "learning_rate": 1e-3,
            "max_steps": 80,
            "per_device_train_batch_size": 16,
            "warmup_steps": 3,
            "gradient_checkpointing": False,
        },
        "grpo": {
            "lora": {"rank": 16, "alpha": 32, "merger": True},
            "learning_rate": 5e-4,
            "max_steps": 80,
            "num_generations": 8,
            "per_device_train_batch_size": 32,
            "max_completion_length": 48,
            "temperature": 1.0,
            "beta": 0.0,
            "warmup_steps": 3,
            "gradient_checkpointing": False,
        },
    },
    "gpu": {
        "sft": {
            "lora": {"rank": 16, "alpha": 32},
            "learning_rate": 1e-4,
            "num_train_epochs": 1.0,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 4,
            "warmup_steps": 10,
            "gradient_checkpointing": True,
            "save_strategy": "steps",
            "save_steps": 200,
        },
        "grpo": {
            "lora": {"rank": 16, "alpha": 32},
            "learning_rate": 1e-5,
            "num_train_epochs": 1.0,
            "num_generations": 8,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "max_completion_length": 256,
            "temperature": 1.0,
            "beta": 0.04,
            "warmup_steps": 10,
            "gradient_checkpointing": True,
            "save_strategy": "steps",
            "save_steps": 200,
        },
    },
}
