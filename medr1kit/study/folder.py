"""What a study leaves on disk, read and written so that a crash at any moment loses little.

    runs/quick/
      study.yaml               the file it was started with last
      commands.txt             each `medr1kit study run` on it, with its time
      cells/<name>/cell.json   state (running, done, failed), fingerprint, seconds, versions, error
      cells/<name>/error.txt   the traceback of a failed cell; cells/<name>.log what was ever printed
      cells/<name>/...         the run (run.json, metrics.csv, adapter/) and predictions.parquet

Locks (:mod:`filelock`) are those of the operating system: they end with the process that holds them, however it ends,
so none is ever left behind. A cell that is locked is being run; one that says "running" and is not was interrupted.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, lock_descriptor

from medr1kit.results.runs import replace_file
from medr1kit.study.grid import Cell, Study
from medr1kit.vqa import DataError

_RECORD, _LOCK = "cell.json", ".lock"
STUDY_FILE, _COMMANDS = "study.yaml", "commands.txt"
STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class State:
    """Where a cell stands: one of STATES, why it waits ("changed", "interrupted" or ""), and its record (cell.json)."""

    state: str
    why: str
    record: Mapping[str, Any]


def cell_folder(root: Path, cell: Cell) -> Path:
    """Return the folder of a cell in the study's folder."""
    return Path(root) / "cells" / cell.name


def now() -> str:
    """Return the present as it is written to disk: ISO 8601 with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def note_start(root: Path, study: Study) -> None:
    """Keep the study's file, and the command line that it is started with."""
    root.mkdir(parents=True, exist_ok=True)
    replace_file(root / STUDY_FILE, study.text)
    with (root / _COMMANDS).open("a", encoding="utf-8") as file:
        file.write(f"{now()} {shlex.join(['medr1kit', *sys.argv[1:]])}\n")


def commands_so_far(root: Path) -> list[str]:
    """Return the command lines that the study was started with, each once, oldest first."""
    file = root / _COMMANDS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return list(dict.fromkeys(line.partition(" ")[2] for line in lines))


def read_record(folder: Path) -> dict[str, Any]:
    """Return what cell.json holds, or nothing if the cell was never begun."""
    try:
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{folder / _RECORD} is not JSON ({error}); delete it to run the cell again") from error


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write cell.json, replaced as a whole."""
    replace_file(folder / _RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def state_of(root: Path, cell: Cell) -> State:
    """Return where a cell of the study in ``root`` stands."""
    return state_in(cell_folder(root, cell), cell)


def state_in(folder: Path, cell: Cell) -> State:
    """Return where a cell stands whose folder this is."""
    record = read_record(folder)
    if not record:
        return State("waiting", "", record)
    if record["state"] == "running" and is_locked(folder):
        return State("running", "", record)
    if record["fingerprint"] != cell.fingerprint:
        return State("waiting", "changed", record)
    if record["state"] == "running":
        return State("waiting", "interrupted", record)
    if record["state"] == "done" and not (folder / "predictions.parquet").is_file():
        return State("waiting", "predictions.parquet is gone", record)
    return State(record["state"], "", record)


def clear(folder: Path) -> None:
    """Empty a cell's folder, apart from its lock."""
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- locks ------------------------------------------------------------------------------------------------------------


def cell_lock(folder: Path) -> FileLock:
    """Return the lock of a cell, for a ``with``; it raises :class:`filelock.Timeout` where another process holds it.

    It waits for a moment: a look at the lock (:func:`is_locked`) holds it, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / _LOCK, timeout=0.5)


def is_locked(folder: Path) -> bool:
    """Return whether some process holds a cell; needs no right to write, so that anybody may ask for the status."""
    try:
        with (folder / _LOCK).open("rb") as file:
            return not lock_descriptor(file.fileno(), blocking=False)
    except FileNotFoundError:
        return False
    except OSError:  # network file systems lock only what may be written: then the cell's word is taken for it
        return True
