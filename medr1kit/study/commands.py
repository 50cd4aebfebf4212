"""The command line of studies, ``medr1kit study run | status | tables``, and how far a study is: what is running and at
which step, what failed, and when it will end.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from medr1kit.given import path_given, whole_number
from medr1kit.models.machine import visible_gpus
from medr1kit.progress import progress
from medr1kit.results.locks import refuse_without_locks
from medr1kit.results.runs import load_run
from medr1kit.study.cell import run_cells
from medr1kit.study.folder import STATES, STUDY_FILE, State, cell_folder, note_start, state_of, time_of
from medr1kit.study.grid import Cell, Study, check_data, check_settings, read_study, select
from medr1kit.study.results import write_tables
from medr1kit.vqa import DataError

_WHOLE = "1/1"  # the shard that is all of it


def command(argv: list[str]) -> None:
    """Run a grid of trainings and tests from a YAML file, say how far it is, and write its tables."""
    parser = argparse.ArgumentParser(prog="medr1kit study", description=command.__doc__)
    commands = parser.add_subparsers(required=True, metavar="run | status | tables")
    run = commands.add_parser("run", help="train and test every cell that is not finished; repeat to go on")
    run.add_argument("file", type=Path, help="the study's YAML file")
    run.add_argument("--output", type=Path, help="the study's folder (default: runs/NAME)")
    run.add_argument("--workers", type=int, help="cells at a time (default: one a core for tiny, else one a GPU)")
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
    root = Path("runs") / grid.name if flags.output is None else path_given(flags.output, "--output")
    workers, gpus = flags.workers, visible_gpus()
    if workers is None:  # a model that is not built in needs a whole GPU, or the whole machine
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = cores if grid.settings["model"] == "tiny" else max(1, len(gpus))
    whole_number(workers, "--workers")
    shard = read_shard(flags.shard)
    cells = [cell for cell in select(grid.cells, flags.only) if cell.in_shard(*shard)]
    check_settings(grid)
    table = status_table(root, cells)
    if (table["state"] != "done").any():
        check_data(grid)
    note_start(root, grid)
    refuse_without_locks(root)
    _say_what_is_due(table, root, grid)
    if len(gpus) > 1:
        print(f"  {workers} workers on {len(gpus)} GPUs ({', '.join(gpus)}), one each")
    due = [cell for cell, state in zip(cells, table["state"]) if state != "done"]
    try:
        with progress(None, grid.name, total=len(cells), unit="cell", delay=0) as bar:
            run_cells(due, root, workers, gpus=gpus, tick=lambda: _move_on(bar, root, cells, workers))
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
    print(f"tables in {write_tables(grid, root, None if flags.to is None else path_given(flags.to, '--to'))}")


# --- how far it is ----------------------------------------------------------------------------------------------------


def status_table(root: Path, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return a row a cell, in the order of the study.

    Args:
        root: the study's folder.
        cells: the study's cells.

    Returns:
        ``name, train_by, trained_on, method, format, seed, state, why`` ("changed", "interrupted", "damaged: …"),
        ``seconds`` (of its training and test, or since its start), ``step``, ``steps``, ``reward`` (last logged) and
        ``answered`` (test questions) of running cells, and ``error``.
    """
    now, rows = datetime.now().astimezone(), []
    for cell in cells:
        state = state_of(root, cell)
        row = {name: getattr(cell, name) for name in ("name", "train_by", "trained_on", "method", "format", "seed")}
        row |= {"state": state.state, "why": state.why}
        row |= dict.fromkeys(("seconds", "error", "step", "steps", "reward", "answered"))
        if state.state != "waiting":
            row |= {"seconds": _seconds(state, now), "error": state.record.get("error")}
        if state.state == "running":
            row |= _progress(cell_folder(root, cell), cell)
        rows.append(row)
    return pd.DataFrame(rows).astype({"seed": "Int64", "seconds": float})


def _seconds(state: State, now: datetime) -> float:
    """How long a cell took, or has been running; no clock that was set back makes it negative."""
    if state.state == "done":
        return float(sum(state.record["seconds"].values()))
    ended = now if state.state == "running" else time_of(state.record.get("ended", str(now)))
    return max(0.0, (ended - time_of(state.record.get("started", str(ended)))).total_seconds())


def _progress(folder: Path, cell: Cell) -> dict[str, float | None]:
    """Last logged step and reward of a training, or the number of questions answered so far."""
    settings = {**cell.definition.get("preset", {}), **cell.definition.get("settings", {})}
    progress = {"steps": settings.get("max_steps")}
    with suppress(DataError, IndexError):  # no run yet, or no step of it
        last = load_run(folder).metrics.iloc[-1]
        progress |= {"step": int(last["step"]), "reward": last.get("reward")}
    partial = folder / "predictions.parquet.partial.jsonl"
    if partial.exists():
        progress["answered"] = max(0, partial.read_bytes().count(b"\n") - 1)
    return progress


def seconds_left(table: pd.DataFrame, workers: int) -> float | None:
    """Return the seconds until all cells are done, from those that are; None before the first has ended.

    A waiting cell takes what finished ones of its method and format took on average, or else of its method, or all.

    Args:
        table: from :func:`status_table`.
        workers: cells that run at the same time.
    """
    done = table["seconds"].where(table["state"] == "done")
    if done.isna().all():
        return None
    alike = done.groupby([table["method"], table["format"]]).transform("mean")
    expected = alike.fillna(done.groupby(table["method"]).transform("mean")).fillna(done.mean())
    waiting = expected[table["state"] == "waiting"].sum()
    rest = (expected - table["seconds"])[table["state"] == "running"].clip(lower=0)
    # The last cell does not divide: the end is no nearer than the longest rest.
    return float(max((waiting + rest.sum()) / max(workers, 1), rest.max() if len(rest) else 0.0))


def describe(name: str, table: pd.DataFrame) -> str:
    """Return the status as text: a headline, counts by seed and method, running cells, failed cells."""
    now, parts = datetime.now().astimezone(), [headline(name, table)]
    n_running = int((table["state"] == "running").sum())
    if n_running and (left := seconds_left(table, n_running)) is not None:
        end = now + timedelta(seconds=left)
        day = "" if end.date() == now.date() else f"{end:%d %B} "
        parts[0] += f"; ends about {day}{end:%H:%M}, in {duration(left)}"
    groups = table.assign(seed=table["seed"].astype(object).where(table["seed"].notna(), "-"))
    counts = groups.groupby(["seed", "method"], sort=False)["state"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=list(STATES), fill_value=0)
    mean = groups[groups["state"] == "done"].groupby(["seed", "method"])["seconds"].mean().round(1)
    counts = counts.assign(**{"seconds a cell": mean}).reset_index()
    parts.append(counts.to_string(index=False, na_rep="-"))
    if (running := table[table["state"] == "running"]).size:
        parts.append("running\n" + "\n".join(f"  {_running_line(row)}" for row in running.itertuples()))
    if (again := table[(table["state"] == "waiting") & (table["why"] != "")]).size:
        parts.append("to be run again\n" + "\n".join(f"  {row.name}: {row.why}" for row in again.itertuples()))
    if (failed := table[table["state"] == "failed"]).size:
        parts.append("failed\n" + "\n".join(f"  {row.name}: {row.error}" for row in failed.itertuples()))
    return "\n\n".join(parts)


def headline(name: str, table: pd.DataFrame) -> str:
    """Return one line: the study and how many of its cells are in each state."""
    count = table["state"].value_counts()
    return f"{name}: {len(table)} cells, " + ", ".join(f"{count.get(state, 0)} {state}" for state in STATES)


def duration(seconds: float) -> str:
    """Return seconds in words.

    >>> duration(42), duration(600), duration(8000)
    ('42 s', '10 min', '2 h 13 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _running_line(row) -> str:
    doing = "starting"
    if pd.notna(row.answered):
        doing = f"{row.answered:.0f} questions answered"
    elif pd.notna(row.step):
        doing = f"step {row.step:.0f}" + (f" of {row.steps:.0f}" if pd.notna(row.steps) else "")
        doing += f", reward {row.reward:.2f}" if pd.notna(row.reward) else ""
    return f"{row.name}: {doing}, {row.seconds:.0f} s"
