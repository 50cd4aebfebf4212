"""What is looked at before the first cell, so that nothing is refused after hours: settings, data, room on the disk.

What a study will need on disk is arithmetic: of each cell the weights that it trains (an adapter, or all of them; the
base is never copied) and the checkpoints that it keeps, :mod:`medr1kit.training.forecast`. It is the least that is
needed: answers and rollouts, which are small, come on top.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medr1kit.formats import THINK_BEFORE
from medr1kit.given import kind, truth, whole_number
from medr1kit.study.cell import shared_step
from medr1kit.study.folder import cell_folder
from medr1kit.study.grid import Cell, Study
from medr1kit.study.questions import questions
from medr1kit.study.settings import ASKING, METHODS
from medr1kit.training.presets import with_overrides
from medr1kit.vqa import DataError


def check_study(study: Study, due: Sequence[Cell], root: Path, n: int) -> None:
    """Refuse a study that could not be run to its end.

    Args:
        study: the study.
        due: its cells that are to be run.
        root: its folder, made or not.
        n: processes of a cell.

    Raises:
        DataError: what will not do.
    """
    check_settings(study)
    if due:
        for cell in (cell for cell in due if cell.train_by is not None):
            shared_step(cell.definition, n)
        check_data(study)
        check_room(study, [cell for cell in due if not (cell_folder(root, cell) / "run.json").exists()], root)


def check_settings(study: Study) -> None:
    """Refuse settings that the trainers do not know or that are of another kind; imports TRL if there are any.

    Raises:
        DataError: naming the first of them.
    """
    for part in study.parts.values():
        for label, settings in part["methods"].items():
            if settings:
                _check_method(label, settings)


def _check_method(label: str, settings: Mapping[str, Any]) -> None:
    import trl

    method, _ = METHODS[label]
    config = trl.SFTConfig if method == "sft" else trl.GRPOConfig
    ours = {"seed", "output_dir", "resume_from_checkpoint"}
    allowed = {"lora", *config.__dataclass_fields__} - ours | (set(_OF_GRPO) if method == "grpo" else set())
    if unknown := [name for name in settings if name not in allowed]:
        raise DataError(
            f"methods: {label}: the setting {unknown[0]!r} is not allowed; use 'lora' and the arguments of TRL's "
            f"{config.__name__} other than {', '.join(sorted(ours))}"
        )
    for name in (name for name in settings if name in config.__dataclass_fields__):
        _check_kind(f"methods: {label}: {name}", settings[name], config.__dataclass_fields__[name].default)
    for name in (name for name in _OF_GRPO if name in settings):
        _OF_GRPO[name](settings[name], f"methods: {label}: {name}")


def _check_rewards(names: Any, what: str) -> None:
    from medr1kit.training.reward_functions import rewards_named

    if not isinstance(names, list) or not names:
        raise DataError(f"{what}: expected a list of names, such as [accuracy, format], and found {kind(names)}")
    rewards_named(names, THINK_BEFORE, what)


_OF_GRPO = {
    "rewards": _check_rewards,
    "shared_prefix": truth,
    "dynamic_sampling": lambda value, what: whole_number(value, what, 0),
}
"""Settings of train_grpo that are not TRL's, and how they are checked."""


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a text where a number is meant (YAML reads 1e-5 as one), and a number where true or false is."""
    if isinstance(default, bool) and not isinstance(value, bool):
        raise DataError(f"{name}: {value!r}; write true or false")
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, (int, float)) and not isinstance(default, bool) and not number:
        raise DataError(f"{name}: {value!r} is not a number; YAML reads one as 0.001 or 1.0e-3")


def check_data(study: Study) -> None:
    """Load one question of each side, so that what the loader would refuse is refused before the first cell.

    Raises:
        DataError: what the loader says, after "train:" or "test:".
    """
    asked = {}
    for name, part in study.parts.items():
        begin = f"part {name}: " if name else ""
        tests = {"": part["test"]} if "name" in part["test"] else part["test"]
        asked |= {f"{begin}test: {test}".removesuffix(": "): {"split": "test"} | given for test, given in tests.items()}
        asked[f"{begin}train"] = {"split": "train"} | part["train"]
    for what, arguments in asked.items():
        try:
            questions({key: arguments[key] for key in arguments if key not in ASKING} | {"n": 1})
        except DataError as error:
            raise DataError(f"{what}: {error}") from error


def check_room(study: Study, cells: Sequence[Cell], root: Path) -> None:
    """Refuse cells whose weights and checkpoints cannot fit on the disk.

    Args:
        study: the study.
        cells: that have left nothing on disk yet.
        root: the study's folder, made or not.

    Raises:
        DataError: with what they need and what is free.
    """
    from medr1kit.models.outline import outline

    trained = [cell.definition for cell in cells if cell.train_by is not None]
    if not trained:
        return
    shapes = outline(study.settings["model"])
    of_each = {definition["label"]: definition for definition in trained}
    sizes = {label: _gib(definition, shapes) for label, definition in of_each.items()}
    needed = sum(sizes[definition["label"]] for definition in trained)
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free / 2**30
    if needed > free:
        raise DataError(
            f"{len(trained)} trainings will leave {needed:.1f} GiB of weights and checkpoints at least, and "
            f"{there} has {free:.1f} GiB free; make room, choose another --output, or keep fewer checkpoints "
            "(save_total_limit: 1 among a method's settings, or save_strategy: 'no')"
        )


def _gib(definition: dict[str, Any], shapes: Any) -> float:
    """What a training leaves on disk, at least: what it trains, and checkpoints."""
    from medr1kit.training.forecast import forecast

    preset, given = definition["preset"], definition["settings"].get("lora", True)
    adapter = preset.get("lora", {})
    if given is not True:
        adapter = given and {**(adapter or {}), **given}
    settings = with_overrides(preset, definition["settings"])
    whole = definition["model"] == "tiny" or preset.get("lora") is False
    dtype = definition.get("load", {}).get("dtype", "float32" if whole else "bfloat16")
    parts, kept = forecast(shapes, settings, adapter, dtype), 0
    if settings.get("save_strategy", "no") != "no":
        steps, every = settings.get("max_steps") or 0, settings.get("save_steps") or 500  # below 1: a share
        kept = settings.get("save_total_limit") or max(1, int(1 / every if every < 1 else steps // every))
    return parts["gradients"] + kept * parts["checkpoint"]
