"""How far a study is: what is running and at which step, what failed, and when it will end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from medr1kit.results.runs import load_run
from medr1kit.study.folder import STATES, State, cell_folder, state_of, time_of
from medr1kit.study.grid import Cell
from medr1kit.vqa import DataError


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
