"""The command line of studies: ``medr1kit study run | status | tables``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medr1kit.progress import progress
from medr1kit.study.folder import STUDY_FILE, note_start
from medr1kit.study.grid import Cell, Study, check_settings, read_study, select
from medr1kit.study.status import describe, duration, headline, seconds_left, status_table
from medr1kit.study.workers import run_cells
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import pandas as pd
    from tqdm import tqdm

_WHOLE = "1/1"  # the shard that is all of it


def command(argv: list[str]) -> None:
    """Run a grid of trainings and tests from a YAML file, say how far it is, and write its tables."""
    parser = argparse.ArgumentParser(prog="medr1kit study", description=command.__doc__)
    commands = parser.add_subparsers(required=True, metavar="run | status | tables")
    run = commands.add_parser("run", help="train and test every cell that is not finished; repeat to go on")
    run.add_argument("file", type=Path, help="the study's YAML file")
    run.add_argument("--output", type=Path, help="the study's folder (default: runs/NAME)")
    run.add_argument("--workers", type=int, help="cells at a time (default: one a core for the tiny model, else 1)")
    run.add_argument("--only", default="", help="some cells: 'method=grpo seed=0,1', keys as in the study")
    run.add_argument("--shard", default=_WHOLE, help="i/n: the i-th of n parts, 1 to n; 'slurm': as the job array says")
    run.set_defaults(run=_run)
    status = commands.add_parser("status", help="cells done, running, failed and waiting; the expected end")
    status.add_argument("output", type=Path, help="the study's folder")
    status.add_argument("--watch", action="store_true", help="show it anew every two seconds")
    status.set_defaults(run=_status)
    tables = commands.add_parser("tables", help="write all predictions and the small tables of what is finished")
    tables.add_argument("output", type=Path, help="the study's folder")
    tables.add_argument("--to", type=Path, help="folder for the tables (default: OUTPUT/tables)")
    tables.set_defaults(run=_tables)
    flags = parser.parse_args(argv)
    flags.run(flags)


def _run(flags: argparse.Namespace) -> None:
    grid = read_study(flags.file)
    root = flags.output or Path("runs") / grid.name
    workers = flags.workers if flags.workers is not None else _default_workers(grid)
    if workers < 1:
        raise DataError(f"--workers {workers}: at least one is needed")
    shard = read_shard(flags.shard)
    cells = [cell for cell in select(grid.cells, flags.only) if cell.in_shard(*shard)]
    check_settings(grid)
    note_start(root, grid)
    table = status_table(root, cells)
    _say_what_is_due(table, root, grid)
    due = [cell for cell, state in zip(cells, table["state"]) if state != "done"]
    try:
        with progress(None, grid.name, total=len(cells), unit="cell", delay=0) as bar:
            run_cells(due, root, workers, tick=lambda: _move_on(bar, root, cells, workers))
    except KeyboardInterrupt:
        print(f"stopped; {headline(grid.name, status_table(root, grid.cells))}. The same command goes on.")
        raise SystemExit(130) from None
    _finish(grid, root, cells, flags)


def read_shard(text: str) -> tuple[int, int]:
    """Return (number from 1, how many) from "2/8", or from the variables of a Slurm job array.

    >>> read_shard("2/8")
    (2, 8)
    """
    if text == "slurm":
        names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
        if missing := [name for name in names if not os.environ.get(name, "").isdigit()]:
            raise DataError(f"--shard slurm: {missing[0]} is not set; submit a job array: sbatch --array=1-8")
        task, first, count = (int(os.environ[name]) for name in names)
        number = task - first + 1
    else:
        parts = text.split("/")
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            raise DataError(f"--shard {text!r} is not understood; write 2/8 for the second of eight, or slurm")
        number, count = map(int, parts)
    if not 1 <= number <= count:
        raise DataError(f"--shard: there is no part {number} of {count}; parts are counted from 1, without gaps")
    return number, count


def _default_workers(grid: Study) -> int:
    """One a core for the built-in model; one for a model that needs the whole machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if grid.settings["model"] == "tiny" else 1


def _say_what_is_due(table: pd.DataFrame, root: Path, grid: Study) -> None:
    """How many cells will be run, and why any is run again."""
    done = int((table["state"] == "done").sum())
    print(f"{grid.name}: {len(table)} cells, {done} finished, {len(table) - done} to run, in {root}")
    for why, what in (("changed", "changed since it was run, and is run again"), ("interrupted", "goes on")):
        names = table.loc[table["why"] == why, "name"].tolist()
        print("".join(f"  {name} {what}\n" for name in names[:5]), end="")
        if len(names) > 5:
            print(f"  ... and {len(names) - 5} more {why}")
    known = {cell.name for cell in grid.cells}
    there = sorted(path.parent.name for path in (root / "cells").glob("*/cell.json"))
    if gone := [name for name in there if name not in known]:
        print(f"  {len(gone)} on disk are not in the file any more and are left alone: {gone[0]}, ...")


def _move_on(bar: tqdm, root: Path, cells: Sequence[Cell], workers: int) -> None:
    """Show how many cells have ended, which are running, and how long it will take."""
    if bar.disable:
        return
    table = status_table(root, cells)
    bar.n = int(table["state"].isin(("done", "failed")).sum())
    left = seconds_left(table, workers)
    names = ", ".join(table.loc[table["state"] == "running", "name"][:2])
    bar.set_postfix_str(names + (f"; {duration(left)} left" if left else ""))


def _finish(grid: Study, root: Path, cells: Sequence[Cell], flags: argparse.Namespace) -> None:
    """Write the tables of what is finished, and report what failed with the command that repeats it."""
    from medr1kit.study.results import write_tables

    table = status_table(root, grid.cells)
    print(headline(grid.name, table))
    ours = table[table["name"].isin([cell.name for cell in cells])]
    elsewhere = ours.loc[~ours["state"].isin(("done", "failed")), "name"].tolist()
    if elsewhere:
        print(f"  {len(elsewhere)} skipped, being run by another `medr1kit study run`: {', '.join(elsewhere[:5])}")
    if (elsewhere or flags.shard != _WHOLE) and not (table["state"] == "done").all():
        print(f"when all parts are done: medr1kit study tables {root}")
    elif (table["state"] == "done").any():
        print("writing tables; of hundreds of cells this takes a minute", flush=True)
        print(f"tables in {write_tables(grid, root)}")
    failed = ours[ours["state"] == "failed"]
    if failed.empty:
        return
    output = "" if flags.output is None else f" --output {flags.output}"
    for cell in failed.itertuples(index=False):
        print(f"\n{cell.name}: {cell.error}")
        print(f"  traceback: {root / 'cells' / cell.name / 'error.txt'}")
        print(f"  repeat:    medr1kit study run {flags.file}{output} --only name={cell.name}")
    raise DataError(f"{len(failed)} of {len(cells)} cells failed; see above")


def _study_of(root: Path) -> Study:
    if not (root / STUDY_FILE).is_file():
        raise DataError(f"no study in {root}: it has no {STUDY_FILE}; pass the folder that `study run` wrote to")
    return read_study(root / STUDY_FILE)


def _status(flags: argparse.Namespace) -> None:
    grid = _study_of(flags.output)
    try:
        while True:
            table = status_table(flags.output, grid.cells)
            text = describe(grid.name, table)
            if not flags.watch:
                return print(text)
            print("\033[H\033[J" + text if sys.stdout.isatty() else text, flush=True)
            if not table["state"].isin(("running", "waiting")).any():
                return None
            time.sleep(2)
    except KeyboardInterrupt:
        return None


def _tables(flags: argparse.Namespace) -> None:
    from medr1kit.study.results import write_tables

    grid = _study_of(flags.output)
    print(headline(grid.name, status_table(flags.output, grid.cells)))
    print(f"tables in {write_tables(grid, flags.output, flags.to)}")
