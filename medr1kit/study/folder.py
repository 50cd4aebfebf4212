"""What a study leaves on disk, read and written so that a crash at any moment loses little.

    runs/clinic/
      study.yaml               the file it was started with last
      commands.txt             each `medr1kit study run` on it, with its time
      cells/<name>/cell.json   state (running, done, failed, waiting), fingerprint, seconds, versions, error, failures
      cells/<name>/error.txt   the traceback of a failed cell; cells/<name>.log what was ever printed
      cells/<name>/...         the run (run.json, metrics.csv, adapter/) and predictions.parquet
      workers.log, jobs/       what workers print between cells; submitit's files of a cluster's jobs

A cell is trusted by what it holds, not by being there: a record that is not whole, or answers that cannot be read, are
*damaged*, and such a cell is run again. Durations are those of a monotonic clock, so one that is set back does no harm.

Locks (:mod:`filelock`) are those of the operating system: they end with the process that holds them, however it ends,
so none is ever left behind. A cell that is locked is being run; one that says "running" and is not was left without a
word, and one that says "waiting" was left in good order, by Ctrl-C or a job whose time is over.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, lock_descriptor

from medr1kit.results.runs import replace_file
from medr1kit.results.tables import VERDICT
from medr1kit.study.grid import Cell, Study, read_study
from medr1kit.vqa import DataError

_RECORD, _LOCK = "cell.json", ".lock"
STUDY_FILE, _COMMANDS, PREDICTIONS_FILE = "study.yaml", "commands.txt", "predictions.parquet"
ASKED_FOLDER = "asked"  # of a cell: its answers, set by set, until all are there
_OF_A_STUDY = (STUDY_FILE, PREDICTIONS_FILE, "tables")
# What a cell leaves behind; whatever else lies in its folder is somebody's own and stays.
_OF_A_CELL = ("run.json", "metrics.csv", "rollouts.*", f"{PREDICTIONS_FILE}*", "README.md", "error.txt", "*.part")
_FOLDERS_OF_A_CELL = ("adapter", "model", "checkpoint-*", ASKED_FOLDER)
STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class State:
    """Where a cell stands: one of STATES, why it waits ("changed", "interrupted", "damaged: …"), and its record."""

    state: str
    why: str
    record: Mapping[str, Any]


def cell_folder(root: Path, cell: Cell) -> Path:
    """Return the folder of a cell in the study's folder."""
    return Path(root) / "cells" / cell.name


def now() -> str:
    """Return the present as it is written to disk: ISO 8601 with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def time_of(text: str) -> datetime:
    """Return a time that was written to disk; one without an offset is taken for local time."""
    return datetime.fromisoformat(text).astimezone()


def note_start(root: Path, study: Study) -> None:
    """Keep the study's file, and the command line that it is started with.

    Raises:
        DataError: if the folder holds files of somebody else under the names of ours, or another study.
    """
    _refuse_foreign(root, study)
    make_folder(root)
    replace_file(root / STUDY_FILE, study.text)
    with (root / _COMMANDS).open("a", encoding="utf-8") as file:
        file.write(f"{now()} {shlex.join(['medr1kit', *sys.argv[1:]])}\n")


def make_folder(folder: Path) -> None:
    """Make a folder that is to be written to; a DataError says why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made ({error.strerror}); choose another folder") from error


def _refuse_foreign(root: Path, study: Study) -> None:
    """A folder is a study's if one was started in it; a cell's, if a cell was."""
    file, cells = root / STUDY_FILE, root / "cells"
    folders = [cell_folder(root, cell) for cell in study.cells]
    found = [path for path in (root, cells, *folders) if os.path.lexists(path) and not path.is_dir()]
    found += [path for path in folders if path.is_dir() and not (path / _RECORD).exists() and _holds_more(path)]
    if (root / _COMMANDS).is_file():
        with suppress(DataError):  # its own file, damaged, is written anew
            found += [file] if read_study(file).name != study.name else []
    else:
        same = file.is_file() and file.read_text(encoding="utf-8", errors="replace") == study.text
        found += [path for name in _OF_A_STUDY if os.path.lexists(path := root / name) and not (path == file and same)]
    if found:
        raise DataError(f"{found[0]} is not of this study and would be replaced; choose another folder with --output")


def _holds_more(folder: Path) -> bool:
    return any(path.name != _LOCK for path in folder.iterdir())


def commands_so_far(root: Path) -> list[str]:
    """Return the command lines that the study was started with, each once, oldest first."""
    file = root / _COMMANDS
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    return list(dict.fromkeys(line.partition(" ")[2] for line in lines))


def read_record(folder: Path) -> dict[str, Any]:
    """Return what cell.json holds; nothing if the cell was never begun; its state is "damaged" if it is not whole."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        _check_record(record)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(
            f"{folder / _RECORD} cannot be read ({error.strerror}); give yourself the right to it"
        ) from error
    except (KeyError, TypeError, ValueError, OverflowError):
        return {"state": "damaged"}
    return record


def _check_record(record: dict[str, Any]) -> None:
    """Raise one of the exceptions above where a record cannot be relied on."""
    if record["state"] not in STATES or not isinstance(record["fingerprint"], str):
        raise ValueError
    for name in {"started", "ended"} & record.keys():
        time_of(record[name])
    [float(moment) for moment in record.get("failures", ())]
    if record.get("trained"):
        float(record["seconds"]["train"]), float(record["cpu_seconds"]["train"])
    if record["state"] == "done":
        float(record["seconds"]["predict"]), time_of(record["started"]), time_of(record["ended"])
        dict(record["versions"])


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write cell.json, replaced as a whole."""
    replace_file(folder / _RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def failures_since(record: Mapping[str, Any], since: float) -> int:
    """Return how often a cell that nobody holds has failed, or was left without a word, since a moment.

    Args:
        record: the cell's.
        since: in seconds of :func:`time.time`.
    """
    return sum(moment >= since for moment in failures_in(record))


def failures_in(record: Mapping[str, Any]) -> list[float]:
    """Return when a cell that nobody holds failed, or was begun (by the end of that second) and left without a word."""
    left = record.get("state") == "running" and "started" in record
    return [*record.get("failures", ()), *([time_of(record["started"]).timestamp() + 1] if left else [])]


def state_of(root: Path, cell: Cell) -> State:
    """Return where a cell of the study in ``root`` stands."""
    return state_in(cell_folder(root, cell), cell)


def state_in(folder: Path, cell: Cell) -> State:
    """Return where a cell stands whose folder this is."""
    record = read_record(folder)
    if not record:
        return State("waiting", "", record)
    if record["state"] == "damaged":
        return State("waiting", f"damaged: {_RECORD} is not whole", {})
    if record["state"] == "running" and is_locked(folder):
        return State("running", "", record)
    if record["fingerprint"] != cell.fingerprint:
        return State("waiting", "changed", record)
    if record["state"] in ("running", "waiting"):
        return State("waiting", "interrupted", record)
    if record["state"] == "done" and (why := damage_of(folder / PREDICTIONS_FILE)):
        return State("waiting", why, record)
    return State(record["state"], "", record)


def damage_of(file: Path) -> str:
    """Return what is wrong with a cell's predictions, as far as their end tells, in a few words; "" if nothing is."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(file) as table:
            whole = {"id", *VERDICT} <= {*table.schema_arrow.names} and table.metadata.num_rows > 0
    except FileNotFoundError:
        return f"{file.name} is gone"
    except (ArrowException, OSError):
        whole = False
    return "" if whole else f"damaged: {file.name} is not whole"


def clear(folder: Path) -> None:
    """Remove what a cell left behind; its record stays, by which the folder is known as a cell's."""
    for path in [path for pattern in _OF_A_CELL for path in folder.glob(pattern)]:
        path.unlink(missing_ok=True)
    for path in [path for pattern in _FOLDERS_OF_A_CELL for path in folder.glob(pattern)]:
        shutil.rmtree(path)


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
        for pause in (0.01, 0.0):  # a look takes no time: whoever only looks, too, is gone at the second
            with (folder / _LOCK).open("rb") as file:
                if lock_descriptor(file.fileno(), blocking=False):
                    return False
            time.sleep(pause)
        return True
    except FileNotFoundError:
        return False
    except OSError:  # network file systems lock only what may be written: then the cell's word is taken for it
        return True
