"""medr1kit: reproduce, teach, inspect and challenge Med-R1.

Names are imported when first used, so ``import medr1kit as mk`` takes no time and needs no torch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# Before torch is imported: threads that wait by spinning make two busy cores several times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

_WHERE = {
    "vqa": ("MODALITIES", "TASKS", "DataError"),
    "formats": ("THINK_AFTER", "THINK_BEFORE", "NO_THINK", "ResponseFormat"),
    "rewards": (
        "accuracy_reward",
        "agreement_reward",
        "explain_reward",
        "format_reward",
        "reference_accuracy_reward",
        "reference_format_reward",
        "repetition_reward",
        "soft_overlong_reward",
    ),
    "data": ("load_vqa",),
    "audit": ("audit", "blind_floor", "debias_options", "image_disjoint_split"),
    "audit.picture": ("plot_audit",),
    "omnimedvqa": ("convert_omnimedvqa",),
    "tables": ("score",),
    "comparison": ("compare", "transfer_table"),
    "power": ("questions_needed", "smallest_difference"),
    "published": ("published",),
    "recorded": ("recorded",),
    "cards": ("check_card", "read_card"),
    "runs": ("load_run",),
    "watch": ("RewardWatch", "watch_rollouts"),
    "modes": ("compare_modes",),
    "plots": (
        "PAPER",
        "plot_accuracy",
        "plot_confusion",
        "plot_counts",
        "plot_images",
        "plot_kinds",
        "plot_lengths",
        "plot_letters",
        "plot_probe",
        "plot_rewards",
        "plot_slices",
        "plot_transfer",
    ),
    "errors": ("errors",),
    "worksheet": ("export_worksheet", "read_worksheet", "reader_agreement"),
    "calibration": ("calibration", "plot_calibration"),
    "rationales": ("check_rationale", "rationale_truth"),
    "widgets.inspector": ("inspect_outputs",),
    "widgets.lab": ("reward_lab",),
    "widgets.run": ("explore_run",),
    "widgets.transfer": ("explore_transfer",),
    "widgets.dataset": ("explore_data",),
    "models": ("doctor", "load_model", "lora"),
    "presets": ("PRESETS",),
    "train": ("train_grpo", "train_sft"),
    "predict": ("predict",),
    "probes": ("position_bias", "prompt_sensitivity", "visual_reliance"),
    "letters": ("letter_probabilities",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'medr1kit' has no attribute {name!r}")
    value = getattr(import_module(f"medr1kit.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps ``medr1kit.predict`` and ``audit`` functions: importing a module puts it in the place of its name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _MODULE_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
