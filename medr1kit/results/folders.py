"""Whose folder is it? A run's files are told from those of others, and one process alone writes them.

A folder may hold other things, too: a project, downloaded weights, the tables of another tool. What no run of ours
wrote is never replaced (:func:`hold_folder`), and two trainings never write to one folder: whoever writes holds a lock
of the operating system, which ends with its process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medr1kit.given import path_given
from medr1kit.vqa import DataError

CONFIG, METRICS_FILE, LINES = "run.json", "metrics.csv", "rollouts.jsonl"
ROLLOUTS_FILE, PREDICTIONS_FILE = "rollouts.parquet", "predictions.parquet"
_TABLES = (METRICS_FILE, LINES, ROLLOUTS_FILE, PREDICTIONS_FILE, f"{PREDICTIONS_FILE}.partial.jsonl")
_WEIGHTS, _CHECKPOINTS, _CARD = ("adapter", "model"), "checkpoint-*", "README.md"
_OURS = (CONFIG, *_TABLES, *_WEIGHTS, _CHECKPOINTS, _CARD, "visual_reliance.csv")  # what a run writes
_LOCK = ".run.lock"


def read_config(path: Path) -> dict[str, Any]:
    """Return what a run folder's run.json holds.

    Raises:
        DataError: if the folder is missing, or has no readable run.json.
    """
    if not (path / CONFIG).is_file():
        what = f"has no {CONFIG}" if path.is_dir() else "does not exist"
        raise DataError(f"no run at {path}: the folder {what}; pass the output_dir of a training")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path / CONFIG} is not JSON ({error}); restore it or train again") from error
    if not isinstance(config, dict):
        raise DataError(f"{path / CONFIG} holds a {type(config).__name__}; expected an object with the run's settings")
    return config


@contextmanager
def hold_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Hold a folder for one run: while it is held no other process can, and what others put there is safe.

    Args:
        path: the run folder, ``~`` is read as in a shell; made if missing.
        overwrite: allow that an earlier run is in it; nothing is removed yet.

    Raises:
        DataError: if a file is in the way that no run of ours wrote, the folder holds a run and ``overwrite`` is False,
            another process writes a run to it, or it cannot be written.
    """
    folder = path_given(path, "output_dir")
    if foreign := _foreign(folder):
        raise DataError(
            f"{foreign} was not written by a run in this folder, and a run would replace it; nothing was touched: "
            "choose another output_dir, or move it away"
        )
    made = not folder.exists()
    lock = FileLock(folder / _LOCK, timeout=0.5, thread_local=False)  # a look at it, as by check_folder, holds it, too
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise DataError(
            f"another training writes to {folder}; wait for its end, or choose another output_dir"
        ) from error
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"output_dir={str(folder)!r} cannot be written ({why}); choose another place") from error
    try:
        if not overwrite and any(found.name not in (CONFIG, _CARD) for found in left_in(folder)):
            raise DataError(
                f"{folder} already holds a run; choose another output_dir, or replace the run with overwrite=True "
                "(--overwrite)"
            )
        yield folder
    finally:
        with suppress(OSError):  # the folder may be gone; on Windows an open file stays
            (folder / _LOCK).unlink()
        lock.release()
        with suppress(OSError):  # nothing was written
            if made:
                folder.rmdir()


def check_folder(path: str | Path, overwrite: bool = False) -> Path:
    """Return a run's folder if it can be held (:func:`hold_folder`), before anything expensive is done for it."""
    with hold_folder(path, overwrite) as folder:
        return folder


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the folders of a run's checkpoints, ``checkpoint-5`` before ``checkpoint-10``."""
    found = [path for path in folder.glob(_CHECKPOINTS) if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def left_in(folder: Path) -> list[Path]:
    """Return what is in a folder under the names that a run gives to its files."""
    return sorted(path for name in _OURS for path in folder.glob(name))


def _foreign(folder: Path) -> Path | None:
    """The first file under a run's name that no run wrote: without a run.json of ours, none did."""
    found = left_in(folder)
    try:
        config = read_config(folder)
    except DataError:
        return found[0] if found else None
    if "written_by" not in config and "medr1kit" not in str(config.get("versions")):  # the mark of earlier versions
        return folder / CONFIG
    other = {_WEIGHTS[bool(config.get("lora"))]}  # not both: with LoRA `model` is none of the run's
    if (config.get("arguments") or {}).get("save_strategy", "no") == "no":
        other |= {path.name for path in found if path.match(_CHECKPOINTS)}
    card = folder / _CARD
    if not card.is_file() or b"Trained with medr1kit" not in card.read_bytes():
        other.add(_CARD)
    return next((path for path in found if path.name in other), None)
