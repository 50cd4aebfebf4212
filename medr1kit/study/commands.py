"""The command line of studies: ``medr1kit study run | status | tables``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from medr1kit.given import path_given, whole_number
from medr1kit.models.machine import visible_gpus
from medr1kit.progress import progress
from medr1kit.results.locks import refuse_without_locks
from medr1kit.study.cell import end_with_parent, one_of_several
from medr1kit.study.checks import check_study
from medr1kit.study.folder import STUDY_FILE, is_locked, note_start
from medr1kit.study.grid import Cell, Study, read_study, select
from medr1kit.study.parts import write_parts
from medr1kit.study.results import write_tables
from medr1kit.study.status import describe, duration, headline, seconds_left, status_table
from medr1kit.study.workers import Worker, check_cluster, run_here, submit, wait_for
from medr1kit.vqa import DataError

_UNITS = {"m": 1, "h": 60, "d": 24 * 60}


def command(argv: list[str]) -> None:
    """Run a grid of trainings and tests from a YAML file, say how far it is, and write its tables."""
    parser = argparse.ArgumentParser(prog="medr1kit study", description=command.__doc__)
    commands = parser.add_subparsers(required=True, metavar="run | status | tables")
    run = commands.add_parser("run", help="train and test every cell that is not finished; repeat to go on")
    run.add_argument("file", type=Path, help="the study's YAML file")
    run.add_argument("--output", type=Path, help="the study's folder (default: runs/NAME)")
    run.add_argument("--workers", type=int, help="cells at a time (default: one a core for tiny or a GPU; 8 jobs)")
    run.add_argument("--only", default="", help="some cells: 'method=grpo seed=0,1', keys as in the study")
    run.add_argument(
        "--gpus-per-cell", type=int, default=1, help="processes of a cell, one a GPU (default 1; 0: no GPU)"
    )
    run.add_argument("--cluster", choices=("slurm", "local"), help="workers as jobs of submitit; local: to try it out")
    run.add_argument("--time", default="8h", help="after which a job is requeued: 90m, 8h, 2d (default 8h)")
    run.add_argument("--sbatch", default="", help="more of sbatch's words: 'partition=gpu account=lab cpus-per-task=8'")
    run.set_defaults(run=_run)
    status = commands.add_parser("status", help="cells done, running, failed and waiting; the expected end")
    status.add_argument("output", type=Path, help="the study's folder")
    status.add_argument("--watch", action="store_true", help="show it anew every two seconds")
    status.set_defaults(run=_status)
    tables = commands.add_parser("tables", help="write all predictions and the small tables of what is finished")
    tables.add_argument("output", type=Path, help="the study's folder")
    tables.add_argument("--to", type=Path, help="folder for the tables (default: OUTPUT/tables)")
    tables.set_defaults(run=_tables)
    work = commands.add_parser("work")  # without help, so not listed: what `run` starts
    work.add_argument("output", type=Path)
    work.add_argument("--only")
    work.add_argument("--since", type=float)
    work.add_argument("--gpus-per-cell", type=int)
    work.set_defaults(run=_work)
    cell = commands.add_parser("cell")  # what torchrun starts
    cell.add_argument("what", choices=("train", "predict"))
    cell.add_argument("folder", type=Path)
    cell.set_defaults(run=lambda flags: one_of_several(flags.what, flags.folder))
    flags = parser.parse_args(argv)
    flags.run(flags)


def _run(flags: argparse.Namespace) -> None:
    since, grid = time.time(), read_study(flags.file)
    root = Path("runs") / grid.name if flags.output is None else path_given(flags.output, "--output")
    cells, minutes, words = select(grid.cells, flags.only), _minutes(flags.time), _words(flags.sbatch)
    each = whole_number(flags.gpus_per_cell, "--gpus-per-cell", 0)
    gpus = [] if flags.cluster == "slurm" else _shares(visible_gpus(), each)
    if flags.workers is not None:
        whole_number(flags.workers, "--workers")
    if flags.cluster:
        check_cluster(flags.cluster)
    table = status_table(root, cells)
    due = [cell for cell, state in zip(cells, table["state"]) if state != "done"]
    check_study(grid, due, root, each)
    note_start(root, grid)
    refuse_without_locks(root)
    _say_what_is_due(table, root, grid)
    n = min(flags.workers or _default_workers(flags, grid, gpus), max(1, len(due)))
    if len(gpus) > 1:
        print(f"  {n} workers on GPUs {'; '.join(gpus)}")
    worker, way = Worker(root, flags.only, since, each), None
    if due and flags.cluster:
        jobs = submit(worker, flags.cluster, n, minutes, words, gpus)
        print(f"  {n} job{'s' * (n > 1)}: {' '.join(job.job_id for job in jobs)}")
        if flags.cluster == "slurm":
            print(f"how far they are: medr1kit study status {root} --watch")
            print(f"when all cells are done: medr1kit study tables {root}")
            return
        way = partial(wait_for, jobs)
    elif due:
        way = partial(run_here, worker, n, gpus)
    _wait(way, grid, root, cells, n)
    _finish(grid, root, cells, flags)


def _wait(way: Callable[..., None] | None, grid: Study, root: Path, cells: Sequence[Cell], n: int) -> None:
    """Let workers work, and show one bar meanwhile."""
    try:
        with progress(None, grid.name, total=len(cells), unit="cell", delay=0) as bar:
            if way is not None:
                way(tick=partial(_move_on, bar, root, cells, n))
    except KeyboardInterrupt:
        print(f"stopped; {headline(grid.name, status_table(root, grid.cells))}. The same command goes on.")
        raise SystemExit(130) from None


def _default_workers(flags: argparse.Namespace, grid: Study, shares: Sequence[str]) -> int:
    """One a core for the built-in model, or else one for each share of the GPUs; a cluster has room for eight."""
    if flags.cluster == "slurm":
        return 8
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, flags.gpus_per_cell) if grid.settings["model"] == "tiny" else len(shares))


def _shares(gpus: Sequence[str], each: int) -> list[str]:
    """Parts of the visible GPUs, as many in each as a cell has; none where there are no GPUs, or none are to be used.

    >>> _shares(["0", "1", "2", "3", "4"], 2)
    ['0,1', '2,3']
    """
    if each > len(gpus) > 0:
        raise DataError(
            f"--gpus-per-cell {each}: this machine shows {len(gpus)} GPUs ({', '.join(gpus)}); ask for fewer"
        )
    return [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)] if each else [""]


def _minutes(text: str) -> int:
    """The minutes of "90m", "8h" or "2d".

    >>> _minutes("8h")
    480
    """
    number, unit = text[:-1], text[-1:]
    minutes = int(number) * _UNITS.get(unit, 0) if number.isdecimal() else 0
    if minutes < 5:  # the last 90 seconds are for the requeue
        raise DataError(
            f"--time {text!r} is not understood; write 90m, 8h or 2d for minutes, hours or days, 5m at least"
        )
    return minutes


def _words(text: str) -> dict[str, str | bool]:
    """Options of sbatch from "partition=gpu exclusive".

    >>> _words("partition=gpu --exclusive")
    {'partition': 'gpu', 'exclusive': True}
    """
    pairs = [word.lstrip("-").partition("=") for word in shlex.split(text)]
    return {name: value if equals else True for name, equals, value in pairs}


def _say_what_is_due(table: pd.DataFrame, root: Path, grid: Study) -> None:
    """How many cells will be run, and why any is run again."""
    done = int((table["state"] == "done").sum())
    print(f"{grid.name}: {len(table)} cells, {done} finished, {len(table) - done} to run, in {root}")
    known = {"changed": "changed since it was run, and is run again", "interrupted": "goes on"}
    for why in table["why"][table["why"] != ""].unique():
        names, what = table.loc[table["why"] == why, "name"].tolist(), known.get(why, f"is run again: {why}")
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
    table = status_table(root, grid.cells)
    print(headline(grid.name, table))
    ours = table[table["name"].isin([cell.name for cell in cells])]
    over = ours["state"].isin(("done", "failed"))
    elsewhere = [name for name in ours.loc[~over, "name"] if is_locked(root / "cells" / name)]
    if elsewhere:
        print(f"  {len(elsewhere)} skipped, being run by another `medr1kit study run`: {', '.join(elsewhere[:5])}")
        print(f"when all cells are done: medr1kit study tables {root}")
    elif (table["state"] == "done").any():
        print("writing tables; of hundreds of cells this takes a minute", flush=True)
        print(f"tables in {_write(grid)(grid, root)}")
    left = ours.loc[~over & ~ours["name"].isin(elsewhere), "name"]
    if not left.empty:
        print(f"  {len(left)} are left: {', '.join(left[:5])}; the same command goes on")
    failed = ours[ours["state"] == "failed"]
    if failed.empty:
        return
    output = "" if flags.output is None else f" --output {flags.output}"
    for cell in failed.itertuples(index=False):
        print(f"\n{cell.name}: {cell.error}")
        print(f"  traceback: {root / 'cells' / cell.name / 'error.txt'}")
        print(f"  repeat:    medr1kit study run {flags.file}{output} --only name={cell.name.replace(' ', '-')}")
    raise DataError(f"{len(failed)} of {len(cells)} cells failed, each of them twice; see above")


def _write(grid: Study) -> Callable[..., Path]:
    return write_tables if "" in grid.parts else write_parts


def _work(flags: argparse.Namespace) -> None:
    end_with_parent()
    tqdm.set_lock(threading.RLock())  # its own is one between processes, which a killed worker would leave behind
    Worker(flags.output, flags.only, flags.since, flags.gpus_per_cell)()


def _study_of(given: Path) -> tuple[Study, Path]:
    root = path_given(given, "output")
    if not (root / STUDY_FILE).is_file():
        raise DataError(f"no study in {root}: it has no {STUDY_FILE}; pass the folder that `study run` wrote to")
    return read_study(root / STUDY_FILE), root


def _status(flags: argparse.Namespace) -> None:
    grid, root = _study_of(flags.output)
    over = "\033[H\033[J" if flags.watch and sys.stdout.isatty() else ""  # the one before it
    with suppress(KeyboardInterrupt):
        while True:
            table = status_table(root, grid.cells)
            print(over + describe(grid.name, table), flush=True)
            if not flags.watch or not table["state"].isin(("running", "waiting")).any():
                return
            time.sleep(2)


def _tables(flags: argparse.Namespace) -> None:
    grid, root = _study_of(flags.output)
    table = status_table(root, grid.cells)
    print(headline(grid.name, table))
    for cell in table[table["why"].str.startswith("damaged")].itertuples():
        print(f"  {cell.name} is left out, {cell.why}; `medr1kit study run` runs it again")
    print(f"tables in {_write(grid)(grid, root, None if flags.to is None else path_given(flags.to, '--to'))}")
