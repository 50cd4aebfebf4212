"""medr1kit: reproduce, teach, inspect and challenge Med-R1.

Names are imported when first used, so ``import medr1kit as mk`` takes no time and needs no torch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from medr1kit.moved import forward

# Before torch is imported: threads that wait by spinning make two busy cores several times slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Nothing leaves the machine: TRL tells the Hub of every training (model type, GPU, kind of data) unless this is said
# before huggingface_hub is imported, or to the module itself if it was. HF_HUB_DISABLE_TELEMETRY=0 allows it.
_no_telemetry = os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1").upper() in ("1", "ON", "YES", "TRUE")
if _no_telemetry and "huggingface_hub.constants" in sys.modules:
    sys.modules["huggingface_hub.constants"].HF_HUB_DISABLE_TELEMETRY = True

_WHERE = {
    "vqa": ("MODALITIES", "TASKS", "DataError"),
    "formats": ("ADAPTIVE", "ANSWER_THINK_ANSWER", "THINK_AFTER", "THINK_BEFORE", "NO_THINK", "ResponseFormat"),
    "rewards": (
        *("accuracy_reward", "agreement_reward", "explain_reward", "format_reward", "repetition_reward"),
        *("reference_accuracy_reward", "reference_format_reward", "soft_overlong_reward"),
    ),
    "data.load": ("load_vqa",),
    "audits": ("audit", "blind_floor", "debias_options", "image_disjoint_split"),
    "audits.picture": ("plot_audit",),
    "audits.convert": ("convert_omnimedvqa",),
    "results.tables": ("score",),
    "results.compare": ("compare", "compare_modes", "transfer_table"),
    "results.power": ("discordant_share", "questions_needed", "smallest_difference"),
    "results.perturbations": ("reliance_names",),
    "results.kept": ("published", "recorded"),
    "results.exercises": ("check_answer",),
    "results.imports": ("import_predictions",),
    "audits.cards": ("check_card", "read_card"),
    "results.runs": ("load_run",),
    "results.watch": ("RewardWatch", "watch_rollouts"),
    "views.plots.bars": (
        "plot_accuracy",
        "plot_calibration",
        "plot_kinds",
        "plot_letters",
        "plot_probe",
        "plot_slices",
    ),
    "views.plots.canvas": ("PAPER",),
    "views.plots.comparisons": ("plot_comparisons",),
    "views.plots.curves": ("plot_abstention", "plot_checkpoints", "plot_lengths", "plot_pass_at_k", "plot_rewards"),
    "views.plots.heatmaps": ("plot_confusion", "plot_counts", "plot_images", "plot_transfer"),
    "results.errors": ("errors",),
    "views.page.worksheet": ("export_worksheet", "read_worksheet", "reader_agreement"),
    "results.calibration": ("calibration",),
    "results.abstention": ("abstention", "fit_temperature", "temper"),
    "results.samples": ("pass_at_k", "vote_shares"),
    "results.minds": ("changed_minds", "first_answers"),
    "results.rationales": ("check_rationale", "rationale_truth"),
    "views.inspect_log": ("export_inspect",),
    "views.widgets.inspector": ("inspect_outputs",),
    "views.widgets.lab": ("reward_lab",),
    "views.widgets.run": ("explore_run",),
    "views.widgets.transfer": ("explore_transfer",),
    "views.widgets.dataset": ("explore_data",),
    "views.widgets.quiz": ("quiz",),
    "models.adapters": ("lora",),
    "models.load": ("load_model",),
    "training.forecast": ("doctor",),
    "training.presets": ("PRESETS",),
    "training.train": ("train_grpo", "train_sft"),
    "models.predict": ("predict",),
    "models.ceiling": ("ceiling",),
    "models.checkpoints": ("predict_checkpoints",),
    "models.probes": ("position_bias", "predict_rotated", "prompt_sensitivity", "visual_reliance"),
    "models.thoughts": ("predict_thoughts", "thought_asker", "thought_reliance"),
    "models.letters": ("letter_probabilities",),
}
forward()
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
