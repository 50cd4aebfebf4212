"""Med-R1's own command line: how it is to be read, and what is made of it otherwise.

Its trainer stood on TRL 0.14, where ``--per_device_train_batch_size`` counts prompts; today's counts their completions.
The same words are therefore another experiment: a quarter of the batch, beside another rate, loss and adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medr1kit.training.checks import processes
from medr1kit.training.presets import PRESETS
from medr1kit.vqa import DataError

_THEIRS = PRESETS["med-r1"]["grpo"]


def as_reference(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags of ``--reference``: those of preset med-r1, whose batch size counts prompts.

    >>> as_reference({"per_device_train_batch_size": 1, "num_generations": 4})
    {'per_device_train_batch_size': 4, 'num_generations': 4, 'preset': 'med-r1'}
    """
    if flags.get("preset", "med-r1") != "med-r1":
        raise DataError(f"--reference is --preset med-r1, and --preset {flags['preset']} is another; leave one out")
    read = {**flags, "preset": "med-r1"}
    if "per_device_train_batch_size" in flags:
        group = flags.get("num_generations", _THEIRS["num_generations"])
        read["per_device_train_batch_size"] = flags["per_device_train_batch_size"] * group
    return read


def unlike_reference(settings: Mapping[str, Any], adapter: bool) -> str | None:
    """Return what differs from what Med-R1's trainer makes of a command line, or None if it is not meant as one.

    Fewer completions at a time than a group has are the sign of a command line in which prompts were counted.

    Args:
        settings: arguments of the training, from preset and flags.
        adapter: whether an adapter is trained.
    """
    device, group = settings["per_device_train_batch_size"], settings["num_generations"]
    if device >= group:
        return None
    rows = device * settings.get("gradient_accumulation_steps", 1) * processes()
    default = {"loss_type": "dapo", "top_k": 0}  # TRL's
    names = ("learning_rate", "loss_type", "beta", "warmup_steps", "top_k")
    ours = {name: settings.get(name, default.get(name)) for name in names}
    differ = ["an adapter (all weights)"] if adapter else []
    differ += [f"{name} {ours[name]} ({_THEIRS[name]})" for name in names if ours[name] != _THEIRS[name]]
    return (
        f"--per_device_train_batch_size {device} counts completions, and in Med-R1's README prompts: a step takes "
        f"{rows} completions of {rows / group:g} questions ({rows * group} of {rows}); other than there (brackets) are "
        f"{', '.join(differ)}; --reference takes the command line as there"
    )
