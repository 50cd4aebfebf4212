"""Whose folder is it? A run's files are told from those of others, and one process alone writes them.

A folder may hold other things, too: a project, downloaded weights, the tables of another tool. What no run of ours
wrote is never replaced (:func:`hold_folder`), and two trainings never write to one folder: whoever writes holds a lock
of the operating system, which ends with its process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medr1kit.given import path_given, truth
from medr1kit.results.locks import refuse_without_locks
from medr1kit.vqa import DataError

CONFIG, METRICS_FILE, LINES = "run.json", "metrics.csv", "rollouts.jsonl"
ROLLOUTS_FILE, PREDICTIONS_FILE = "rollouts.parquet", "predictions.parquet"
_TABLES = (METRICS_FILE, LINES, ROLLOUTS_FILE, PREDICTIONS_FILE, f"{PREDICTIONS_FILE}.partial.jsonl")
_WEIGHTS, _CARD = ("adapter", "model"), "README.md"
_OURS = (CONFIG, *_TABLES, *_WEIGHTS, _CARD, "visual_reliance.csv")  # what a run writes, beside its checkpoints
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")  # not a user's checkpoint-best
_PARTS = ("*.safetensors", "*.json", "*.jinja", "*.pt", "*.pth", "*.bin", "merges.txt", "vocab.txt", "latest")
_PARTS = (*_PARTS, "*.model", "global_step*", "zero_to_fp32.py", "pytorch_model_fsdp*", "optimizer_*", _CARD)
_LOCK = ".run.lock"
_CARDS = (b"Trained with medr1kit", b"It has been trained using [TRL]")  # the run's; TRL's stands there until its end


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
            another process writes a run to it, it cannot be written, or its file system locks no files.
    """
    folder, overwrite = path_given(path, "output_dir"), truth(overwrite, "overwrite")
    if folder.resolve() in (Path("~").expanduser(), Path(folder.resolve().anchor)):
        raise DataError(
            f"output_dir={str(path)!r} is {'your home' if folder.resolve().name else 'the root of all folders'}, and a "
            f"run has a folder of its own; name one, such as {str(folder / 'runs' / 'ct')!r}"
        )
    if foreign := _foreign(folder):
        raise DataError(
            f"{foreign} was not written by a run in this folder, and a run would replace it; nothing was touched: "
            "choose another output_dir, or move it away"
        )
    refuse_without_locks(folder)  # where a lock would be a file that a kill leaves behind
    made = not folder.exists()
    lock = FileLock(folder / _LOCK, timeout=0.5, thread_local=False)  # a look at it, as by check_folder, holds it, too
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise DataError(
            f"another training writes to {folder}; wait for its end, or choose another output_dir"
        ) from error
    except OSError as error:
        raise DataError(
            f"output_dir={str(folder)!r} cannot be written ({error.strerror}); choose another place"
        ) from error
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
    found = {int(match[1]): path for path in left_in(folder) if (match := _CHECKPOINT.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def left_in(folder: Path) -> list[Path]:
    """Return what is in a folder under the names that a run gives to its files."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name in _OURS or _CHECKPOINT.fullmatch(path.name))


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
        other |= {path.name for path in found if _CHECKPOINT.fullmatch(path.name)}
    card = folder / _CARD
    if not card.is_file() or not any(words in card.read_bytes() for words in _CARDS):
        other.add(_CARD)
    strange = (_strange(path) for path in found)
    return next((path for path in found if path.name in other), None) or next(filter(None, strange), None)


def _strange(path: Path) -> Path | None:
    """What no run wrote and would be lost with a run's file: what a link shows, or a user's file among weights."""
    if path.is_symlink() and not path.is_dir():
        return path
    inside = sorted(path.iterdir()) if path.is_dir() and not path.is_symlink() else []
    return next((file for file in inside if not any(file.match(pattern) for pattern in _PARTS)), None)
