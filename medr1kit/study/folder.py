"""What a study leaves on disk, read and written so that a crash at any moment loses little.

    runs/quick/
      study.yaml               the file it was started with last
      commands.txt             each `medr1kit study run` on it, with its time
      cells/<name>/cell.json   state (running, done, failed), fingerprint, seconds, versions, error
      cells/<name>/error.txt   the traceback of a failed cell; cells/<name>.log what was printed
      cells/<name>/...         the run (run.json, metrics.csv, adapter/) and predictions.parquet

Locks are those of the operating system: they end with the process that holds them, however it ends, so none is ever
left behind. A cell that says "running" and is not locked was interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

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
    (root / STUDY_FILE).write_text(study.text, encoding="utf-8")
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
    beside = folder / f"{_RECORD}.part"
    beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, folder / _RECORD)


def state_of(root: Path, cell: Cell) -> State:
    """Return where a cell stands."""
    folder = cell_folder(root, cell)
    record = read_record(folder)
    if not record:
        return State("waiting", "", record)
    if record["state"] == "running" and is_locked(folder / _LOCK):
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


@contextmanager
def cell_lock(folder: Path) -> Iterator[None]:
    """Hold a cell; waits a few seconds for a process that is just ending."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _LOCK, patience=5) as free:
        if not free:
            raise DataError(f"the cell {folder.name} is being run by another process; wait for it to end")
        yield


@contextmanager
def study_lock(root: Path, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold a study, or one shard of it; different shards go together, anything else is refused.

    Raises:
        DataError: if another process works on the same cells.
    """
    root.mkdir(parents=True, exist_ok=True)
    refusal = f"{root} is being worked on by another `medr1kit study run`; wait, stop it, or choose another --output"
    with _locked(root / _LOCK, shared=shard is not None) as free:
        if not free:
            raise DataError(refusal)
        if shard is None:
            yield
            return
        with _locked(root / f"{_LOCK}-{shard[0]}-of-{shard[1]}") as free:
            if not free:
                raise DataError(f"shard {shard[0]}/{shard[1]}: {refusal}")
            yield


def is_locked(file: Path) -> bool:
    """Return whether some process holds a lock file; needs no right to write."""
    if not file.exists():
        return False
    with _locked(file, shared=True, mode="r") as free:
        return not free


@contextmanager
def _locked(file: Path, shared: bool = False, patience: float = 0.0, mode: str = "a") -> Iterator[bool]:
    """Try to lock a file, for at most ``patience`` seconds; gives whether it worked. The file itself stays."""
    try:
        import fcntl
    except ImportError as error:  # pragma: no cover - Windows
        raise DataError("a study needs Linux or macOS for its locks; on Windows run it in WSL") from error
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    until = time.monotonic() + patience
    with file.open(mode) as handle:
        while True:
            try:
                fcntl.flock(handle, kind)
                free = True
                break
            except BlockingIOError:
                free = False
                if time.monotonic() >= until:
                    break
                time.sleep(0.1)
        yield free
