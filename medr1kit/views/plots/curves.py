"""Curves of a training: rewards and lengths by step, of one run or of several seeds; accuracy by checkpoint, and by
how many questions a model answers, or how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from medr1kit.results.samples import PASSES
from medr1kit.results.tables import SCORES
from medr1kit.views.look import COLOURS, smoothed
from medr1kit.views.plots.canvas import INK, MARKERS, PALE, axes, legend_above, named, need, scaled
from medr1kit.vqa import DataError

_WHO = ("train_modality", "train_task", "method", "format", "model")
_RUNS = ("seed", "run")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MOST_RAW = 3  # runs whose logged values are drawn, too; those of more would hide the smoothed lines


def plot_rewards(metrics: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the mean reward of each logged step, in all and by reward function, and of held-out questions if evaluated.

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
    need(metrics, ["step"], "metrics", "run.metrics")
    parts = [column for column in metrics if column.startswith("rewards/") and column.endswith("/mean")]
    curves = {column: column.split("/")[1].replace("_", " ") for column in parts}
    if "reward" in metrics:
        curves = {"reward": "reward (sum)" if len(parts) > 1 else "reward"} | curves
    if not curves:
        raise DataError("the metrics have no column 'reward' or 'rewards/…/mean'; only GRPO logs rewards")
    need(metrics, list(curves), "metrics", "run.metrics")
    if "reward" in metrics and "eval_reward" in metrics:
        curves["eval_reward"] = "held-out questions"
    models = _runs(metrics)
    if len(models) > 1:
        need(metrics, ["reward"], "metrics of several models", "run.metrics of each, below each other")
        return _draw([(runs, "reward", label) for label, runs in models.items()], len(models), axes(ax), "mean reward")
    drawn = [(runs, column, label) for runs in models.values() for column, label in curves.items()]
    return _draw(drawn, 1, axes(ax), "mean reward", [INK] if "reward" in curves else [])


def plot_lengths(metrics: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how long completions are at each logged step.

    Args:
        metrics: a metrics table with ``step`` and ``completions/mean_length``, in tokens; of one run or of several, as
            for :func:`plot_rewards`. For one run ``completions/min_length`` and ``completions/max_length`` add a band.
        ax: axes to draw into; a new figure when None.

    Raises:
        DataError: if a column is missing, or rows of several runs are not told apart.
    """
    need(metrics, ["step", "completions/mean_length"], "metrics", "run.metrics")
    models, ax = _runs(metrics), axes(ax)
    limits = ["completions/min_length", "completions/max_length"]
    if [len(runs) for runs in models.values()] == [1] and all(limit in metrics for limit in limits):
        band = metrics.dropna(subset=limits).sort_values("step")
        style = {"color": COLOURS[0], "alpha": 0.15, "lw": 0, "label": "shortest to longest"}
        ax.fill_between(band["step"], band[limits[0]], band[limits[1]], **style)
    drawn = [(runs, "completions/mean_length", label or "mean") for label, runs in models.items()]
    _draw(drawn, len(models), ax, "completion length (tokens)")
    ax.set_ylim(bottom=0)
    return ax


def plot_checkpoints(scores: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how accuracy changes from checkpoint to checkpoint.

    Args:
        scores: ``mk.score(preds, by="step")`` of what :func:`medr1kit.predict_checkpoints` gave, or by more columns,
            such as ``["method", "seed", "step"]``, each value of which gets a curve. Rows without a step, those of the
            base for example, are drawn as a level across.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a point a checkpoint with its 95 % interval, which counts what ``score`` counted; and chance.

    Raises:
        DataError: if a column is missing, there is no step at all, or two rows would be the same point.
    """
    need(scores, ["step", "accuracy", "low", "high", "chance"], "scores", "mk.score(preds, by='step')")
    names = named(scores, [name for name in scores if name not in (*SCORES, "step")])
    steps = pd.to_numeric(scores["step"])
    names = [name or "accuracy" if known else name or "no step" for name, known in zip(names, steps.notna())]
    frame = scores.assign(_model=names, step=steps)
    if frame.duplicated(["_model", "step"]).any() or frame["step"].isna().all():
        raise DataError("the scores have no steps, or two rows for one; pass mk.score(preds, by=['method', 'step'])")
    ax = axes(ax)
    for (model, rows), colour, dashes in zip(frame.groupby("_model", sort=False), cycle(COLOURS), cycle(_DASHES)):
        style = {"color": colour, "label": model, "lw": scaled(1.5)}
        curve = rows.dropna(subset=["step"]).sort_values("step")
        if curve.empty:
            ax.axhspan(rows["low"].iloc[0], rows["high"].iloc[0], color=colour, alpha=0.1, lw=0)
            ax.axhline(rows["accuracy"].iloc[0], ls=dashes, **style)
            continue
        reach = [curve["accuracy"] - curve["low"], curve["high"] - curve["accuracy"]]
        bars = np.nan_to_num(np.array(reach, dtype=float)).clip(min=0)
        ax.errorbar(curve["step"], curve["accuracy"], bars, fmt="o", ls=dashes, capsize=scaled(2), **style)
    ax.axhline(frame["chance"].mean(), color=PALE, ls=":", lw=scaled(1.8), label="chance")
    ax.set(xlabel="step", ylabel="accuracy (95 % interval)", ylim=(-0.02, 1.02))
    legend_above(ax, 3)
    return ax


def plot_abstention(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how accurate a model is on the questions that it is surest of.

    Args:
        frame: ``abstention(…).frame``, from :func:`medr1kit.abstention`; of several models below each other, told apart
            by more columns such as ``method``, each value of which gets a curve.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: accuracy against coverage, in a band of 95 %; a flat curve is one whose confidence says nothing.

    Raises:
        DataError: if a column is missing, or two rows would be the same point.
    """
    measured = ["asked", "coverage", "threshold", "n", "accuracy", "low", "high"]
    need(frame, measured, "frame", "abstention(…).frame")
    frame = frame.assign(_model=named(frame, [name for name in frame if name not in measured]))
    if frame.duplicated(["_model", "asked"]).any():
        raise DataError("the frame holds a coverage twice; tell models apart in a column 'method'")
    ax = axes(ax)
    for (model, rows), colour, dashes in zip(frame.groupby("_model", sort=False), cycle(COLOURS), cycle(_DASHES)):
        rows = rows.sort_values("coverage")
        ax.fill_between(rows["coverage"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
        ax.plot(rows["coverage"], rows["accuracy"], color=colour, ls=dashes, lw=scaled(2), label=model or "accuracy")
    ax.set(xlabel="coverage (share answered, surest first)", ylabel="share right of the answered (95 % interval)")
    ax.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    legend_above(ax, 3)
    return ax


def plot_pass_at_k(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often one of k sampled answers is right, and how often their majority is, against k.

    Args:
        frame: from :func:`medr1kit.pass_at_k`; each model gets two curves.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: pass@k in a band of 95 %, the majority dashed and hollow in the same colour and shape, and what even
        guessing reaches.
        Where a trained model's pass@1 has come up to the base's pass@k and no further, training has sharpened.

    Raises:
        DataError: if a column is missing.
    """
    need(frame, ["k", "pass_at_k", "low", "high", "majority", "chance"], "frame", "mk.pass_at_k(preds)")
    frame = frame.assign(_model=named(frame, [name for name in frame if name not in PASSES]))
    ax = axes(ax)
    for (model, rows), colour, shape in zip(frame.groupby("_model", sort=False), cycle(COLOURS), cycle(MARKERS)):
        rows, hollow = rows.sort_values("k"), {"marker": shape, "mfc": "white", "ms": scaled(4)}
        ax.fill_between(rows["k"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
        ax.plot(
            rows["k"],
            rows["pass_at_k"],
            color=colour,
            lw=scaled(2),
            marker=shape,
            label=f"{model}, any of k".lstrip(", "),
        )
        style = {"ls": (0, (5, 1.5)), "lw": scaled(1.5), "label": f"{model}, majority of k".lstrip(", ")}
        ax.plot(rows["k"], rows["majority"], color=colour, **style, **hollow)
    guess = frame.groupby("k")["chance"].mean()
    ax.plot(guess.index, guess, color=PALE, ls=":", lw=scaled(1.8), label="any of k even guesses")
    ax.set(xlabel="k samples a question", ylabel="share of questions right", ylim=(-0.02, 1.02))
    ax.xaxis.get_major_locator().set_params(integer=True)
    legend_above(ax, 3)
    return ax


def _draw(
    drawn: list[tuple[list[pd.DataFrame], str, str]], n: int, ax: Axes, ylabel: str, first: Sequence[str] = ()
) -> Axes:
    """Curves of n models: some runs and a column each, with their name; a colour may be set for the first."""
    for (runs, column, label), colour, dashes in zip(drawn, chain(first, cycle(COLOURS)), cycle(_DASHES)):
        _draw_curve(runs, column, ax, {"color": colour, "label": label, "ls": dashes}, raw=n <= _MOST_RAW)
    if (seeds := max(len(runs) for runs, _, _ in drawn)) > 1:
        ax.fill_between([], [], color=INK, alpha=0.2, lw=0, label=f"range of {seeds} seeds")
    ax.set(xlabel="step", ylabel=ylabel)
    legend_above(ax, 3)
    return ax


def _runs(metrics: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """The runs of each model, by its name: the values of the columns in which models differ; "" for a single one."""
    differ = [column for column in _WHO if column in metrics and metrics[column].nunique(dropna=False) > 1]
    keys = [
        pd.Series(named(metrics, differ), metrics.index),
        *(metrics[column] for column in _RUNS if column in metrics),
    ]
    runs: dict[str, list[pd.DataFrame]] = {}
    for (name, *_), run in metrics.groupby(keys, dropna=False, sort=False):
        runs.setdefault(name, []).append(run)
    return runs or {"": [metrics]}


def _draw_curve(runs: list[pd.DataFrame], column: str, ax: Axes, style: dict[str, object], raw: bool) -> None:
    lines, colour = [], style["color"]
    for run in runs:
        logged = run[["step", column]].dropna().set_index("step")[column].sort_index()
        if logged.index.has_duplicates:
            step = logged.index[logged.index.duplicated()][0]
            raise DataError(f"the metrics hold step {step} more than once; tell runs apart in a column 'seed' or 'run'")
        lines.append(smoothed(logged))
        if raw and len(runs) == 1:
            ax.plot(logged.index, logged, color=colour, alpha=0.3, lw=scaled(0.8))
    lines = pd.concat(lines, axis=1)
    if len(runs) > 1:
        lines = lines.dropna()  # where all runs were logged: a mean that loses a seed on the way would jump
        ax.fill_between(lines.index, lines.min(axis=1), lines.max(axis=1), color=colour, alpha=0.2, lw=0)
    ax.plot(lines.index, lines.mean(axis=1), lw=scaled(2), **style)
