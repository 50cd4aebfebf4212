"""Curves of a training: rewards and lengths by step, of one run or of several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle

import pandas as pd
from matplotlib.axes import Axes

from medr1kit.views.look import COLOURS, smoothed
from medr1kit.views.plots.canvas import INK, axes, legend_above, named, need, scaled
from medr1kit.vqa import DataError

_WHO = ("train_modality", "train_task", "method", "format", "model")
_RUNS = ("seed", "run")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MOST_RAW = 3  # runs whose logged values are drawn, too; those of more would hide the smoothed lines


def plot_rewards(metrics: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the mean reward of each logged step, in all and by reward function.

    Args:
        metrics: a metrics table with ``step`` and ``reward`` and/or ``rewards/<function>/mean``. The metrics of several
            runs below each other are told apart by ``seed`` or ``run``, which are repetitions of one training; and by
            ``method``, ``format``, ``model``, ``train_modality`` or ``train_task``, each value of which gets a curve of
            the whole reward.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: for each run a strong line, smoothed (centred mean over a twentieth of the steps), and, of up to three
        runs, a pale one as logged; for several seeds the mean of the smoothed lines, in a band from the lowest to the
        highest.

    Raises:
        DataError: if there is no step or no reward column, or rows of several runs are not told apart.
    """
    parts = [column for column in metrics if column.startswith("rewards/") and column.endswith("/mean")]
    curves = {column: column.split("/")[1].replace("_", " ") for column in parts}
    if "reward" in metrics:
        curves = {"reward": "reward (sum)" if len(parts) > 1 else "reward"} | curves
    need(metrics.columns, ["step"], "the metrics")
    if not curves:
        raise DataError("the metrics have no column 'reward' or 'rewards/…/mean'; only GRPO logs rewards")
    groups = _groups(metrics)
    if len(groups) > 1:
        need(metrics.columns, ["reward"], "the metrics of several models")
        return _draw([(rows, "reward", label) for label, rows in groups.items()], metrics, axes(ax), "mean reward")
    drawn = [(metrics, column, label) for column, label in curves.items()]
    return _draw(drawn, metrics, axes(ax), "mean reward", [INK] if "reward" in curves else [])


def plot_lengths(metrics: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how long completions are at each logged step.

    Args:
        metrics: a metrics table with ``step`` and ``completions/mean_length``, in tokens; of one run or of several, as
            for :func:`plot_rewards`. For one run ``completions/min_length`` and ``completions/max_length`` add a band.
        ax: axes to draw into; a new figure when None.

    Raises:
        DataError: if a column is missing, or rows of several runs are not told apart.
    """
    need(metrics.columns, ["step", "completions/mean_length"], "the metrics")
    groups = _groups(metrics)
    ax = axes(ax)
    limits = ["completions/min_length", "completions/max_length"]
    if len(groups) == 1 and _seeds(metrics) == 1 and all(limit in metrics for limit in limits):
        band = metrics.dropna(subset=limits).sort_values("step")
        ax.fill_between(
            band["step"], band[limits[0]], band[limits[1]], color=COLOURS[0], alpha=0.15, lw=0,
            label="shortest to longest",
        )  # fmt: skip
    drawn = [(rows, "completions/mean_length", label or "mean") for label, rows in groups.items()]
    _draw(drawn, metrics, ax, "completion length (tokens)")
    ax.set_ylim(bottom=0)
    return ax


def _draw(
    drawn: list[tuple[pd.DataFrame, str, str]], metrics: pd.DataFrame, ax: Axes, ylabel: str, first: Sequence[str] = ()
) -> Axes:
    """Curves of some rows and a column each, with their name; a colour may be set for the first."""
    raw = len(_groups(metrics)) <= _MOST_RAW
    for place, ((rows, column, label), colour) in enumerate(zip(drawn, chain(first, cycle(COLOURS)))):
        _draw_curve(rows, column, ax, colour, label, _DASHES[place % len(_DASHES)], raw)
    if (seeds := _seeds(metrics)) > 1:
        ax.fill_between([], [], color=INK, alpha=0.2, lw=0, label=f"range of {seeds} seeds")
    ax.set(xlabel="step", ylabel=ylabel)
    legend_above(ax, 3)
    return ax


def _groups(metrics: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each model, by its name: the values of the columns in which models differ; "" for a single one."""
    keys = [column for column in _WHO if column in metrics and metrics[column].nunique(dropna=False) > 1]
    if not keys:
        return {"": metrics}
    names = pd.Series(named(metrics, keys), metrics.index)
    return {name: metrics[names == name] for name in dict.fromkeys(names)}


def _runs(rows: pd.DataFrame) -> list[pd.DataFrame]:
    keys = [column for column in _RUNS if column in rows]
    return [run for _, run in rows.groupby(keys, dropna=False, sort=False)] if keys else [rows]


def _seeds(metrics: pd.DataFrame) -> int:
    return max(len(_runs(rows)) for rows in _groups(metrics).values())


def _draw_curve(
    rows: pd.DataFrame, column: str, ax: Axes, colour: object, label: str, dashes: object, raw: bool
) -> None:
    lines = []
    for run in _runs(rows):
        logged = run[["step", column]].dropna().set_index("step")[column].sort_index()
        if logged.index.has_duplicates:
            step = logged.index[logged.index.duplicated()][0]
            raise DataError(f"the metrics hold step {step} more than once; tell runs apart in a column 'seed' or 'run'")
        lines.append(smoothed(logged))
        if raw and len(_runs(rows)) == 1:
            ax.plot(logged.index, logged, color=colour, alpha=0.3, lw=scaled(0.8))
    several, lines = len(lines) > 1, pd.concat(lines, axis=1)
    if several:
        lines = lines.dropna()  # where all runs were logged: a mean that loses a seed on the way would jump
        ax.fill_between(lines.index, lines.min(axis=1), lines.max(axis=1), color=colour, alpha=0.2, lw=0)
    ax.plot(lines.index, lines.mean(axis=1), color=colour, lw=scaled(2), ls=dashes, label=label)
