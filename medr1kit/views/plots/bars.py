"""Accuracies with their intervals, beside what a guess and a blind rule reach; probes and calibration likewise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from medr1kit.audits import BlindFloor
from medr1kit.views.plots.canvas import PALE, axes, colours, fit_lines, legend_above, named, need, scaled, texts
from medr1kit.vqa import DataError

_MARKERS = "osD^vPX*"
_SCORES = ("n", "accuracy", "low", "high", "lenient_accuracy", "well_formed", "chance", "mean_tokens")


def plot_accuracy(
    scores: pd.DataFrame, floor: float | pd.DataFrame | BlindFloor | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw accuracies with their intervals, and beside them what guessing and counting words reach.

    Args:
        scores: from :func:`medr1kit.results.tables.score`. ``modality`` or ``task`` (else the last ``by`` column) makes
            the lines of the figure; the other ``by`` columns, such as method and format, tell the points of a line
            apart.
        floor: the blind floor: from :func:`medr1kit.audits.blind_floor`, its ``frame`` (a mark on each line that has a
            row there), or one accuracy in 0..1 (a line across).
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: accuracy in 0..1 from left to right, a line for each category, intervals as bars.

    Raises:
        DataError: if a column is missing or two rows of ``scores`` would be the same point.
    """
    need(scores.columns, ["accuracy", "low", "high", "chance"], "the scores")
    keys = [column for column in scores if column not in _SCORES]
    category = next((key for key in ("modality", "task", *keys[::-1]) if key in keys), None)
    frame = scores.assign(_line="accuracy" if category is None else texts(scores[category]))
    frame["_model"] = named(scores, [key for key in keys if key != category])
    if frame.duplicated(["_line", "_model"]).any():
        raise DataError("two rows of the scores are the same point; each needs its own values in the by= columns")
    lines, models = list(dict.fromkeys(frame["_line"])), list(dict.fromkeys(frame["_model"]))
    ax = axes(ax)
    draw_points(frame, lines, models, ax)
    draw_ticks(frame.groupby("_line")["chance"].mean(), lines, ax, colour=PALE, style=":", label="chance")
    _draw_floor(floor, category, lines, ax)
    if "all" in lines[1:]:
        ax.axhline(lines.index("all") - 0.5, color=PALE, lw=0.8)
    return with_lines(lines, ax, "accuracy (95 % interval)", category or "", columns=2 if len(models) < 4 else 3)


def draw_points(frame: pd.DataFrame, lines: list[str], models: list[str], ax: Axes, label: str = "accuracy") -> None:
    """Draw points with intervals: ``_line`` and ``_model`` say where; models of a line stand below each other."""
    spread, size = (0.6, 5) if len(models) < 4 else (0.8, 4)
    for place, (model, colour) in enumerate(zip(models, colours(len(models)))):
        rows = frame[frame["_model"] == model]
        shift = spread * ((place + 0.5) / len(models) - 0.5)
        heights = [lines.index(line) + shift for line in rows["_line"]]
        style = {"fmt": _MARKERS[place % len(_MARKERS)], "color": colour, "ms": scaled(size)}
        draw_intervals(rows, heights, ax, label=model or label, **style)


def draw_intervals(
    rows: pd.DataFrame, places: Sequence[float], ax: Axes, *, upright: bool = False, **style: object
) -> None:
    """Draw accuracies at places across the axes with their intervals as bars, upwards or from left to right."""
    reach = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]]
    bars = {"yerr" if upright else "xerr": np.nan_to_num(np.array(reach, dtype=float)).clip(min=0)}
    style = {"fmt": "o", "ms": scaled(6), "lw": scaled(1.5), "capsize": scaled(2)} | bars | style
    ax.errorbar(*((places, rows["accuracy"]) if upright else (rows["accuracy"], places)), **style)


def draw_ticks(values: pd.Series, lines: list[str], ax: Axes, *, colour: object, style: str, label: str) -> None:
    """Draw a short upright mark on each line that has a value."""
    heights = np.array([lines.index(line) for line in values.index], dtype=float)
    ax.vlines(
        values.to_numpy(), heights - 0.4, heights + 0.4, colors=colour, linestyles=style, lw=scaled(1.8), label=label
    )


def with_lines(lines: list[str], ax: Axes, xlabel: str, ylabel: str = "", *, width: int = 12, columns: int = 2) -> Axes:
    """Name the lines of a figure of shares, the first on top, put its legend above, and return the axes.

    Args:
        lines: their names.
        ax: the axes.
        xlabel, ylabel: what goes from left to right, and what the lines are.
        width: letters at which names are broken.
        columns: of the legend, at most.
    """
    names, size = fit_lines(lines, width, ax)
    ax.set_yticks(range(len(lines)), names, linespacing=1.1, fontsize=size)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(len(lines) - 0.4, -0.6))
    legend_above(ax, columns)
    return ax


def _draw_floor(
    floor: float | pd.DataFrame | BlindFloor | None, category: str | None, lines: list[str], ax: Axes
) -> None:
    if floor is None:
        return
    colour = colours(4)[3]
    frame = floor.frame if isinstance(floor, BlindFloor) else floor
    if not isinstance(frame, pd.DataFrame):
        ax.axvline(float(frame), color=colour, ls="--", lw=scaled(1.8), label="blind floor")
        return
    need(frame.columns, [category or "accuracy", "accuracy"], "the blind floor")
    values = pd.Series(frame["accuracy"].to_numpy(), index=texts(frame[category]) if category else ["accuracy"])
    values = values[values.index.isin(lines)]
    draw_ticks(values, lines, ax, colour=colour, style="--", label="blind floor")


def plot_probe(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the frame of a probe: does it look, does it favour a place, does it hang on the wording?

    Args:
        frame: from :func:`medr1kit.visual_reliance`, :func:`medr1kit.prompt_sensitivity` or
            :func:`medr1kit.position_bias`.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a line for each picture or wording, with the accuracy and the share of answers that changed; or a line
        for each measure of position, with the value of guessing evenly. Shares in 0..1 with 95 % intervals.

    Raises:
        DataError: if it is none of these frames.
    """
    what = next((column for column in ("images", "wording", "measure") if column in frame), None)
    if what is None:
        raise DataError("plot_probe draws what visual_reliance, prompt_sensitivity or position_bias return")
    if what == "measure":
        return _draw_positions(frame, axes(ax))
    need(frame.columns, ["accuracy", "low", "high", "flipped", "flipped_low", "flipped_high"], "the probe")
    flipped = frame[[what, "flipped", "flipped_low", "flipped_high"]].iloc[1:]  # the first is what they differ from
    flipped.columns = [what, "accuracy", "low", "high"]
    both = pd.concat([frame.assign(_model="accuracy"), flipped.assign(_model="answers that changed")])
    lines, ax = [str(name) for name in frame[what]], axes(ax)
    draw_points(both.assign(_line=texts(both[what])), lines, ["accuracy", "answers that changed"], ax)
    return with_lines(lines, ax, "share (95 % interval)", what)


def _draw_positions(frame: pd.DataFrame, ax: Axes) -> Axes:
    need(frame.columns, ["letter", "value", "low", "high", "chance"], "the probe")
    phrases = {"chosen": "chose {}", "accuracy": "right, gold at {}", "consistent": "same text always"}
    phrases |= {"right in all": "always right"}
    lines = [phrases.get(m, f"{m} always").format(letter) for m, letter in zip(frame["measure"], frame["letter"])]
    lines = [{"right, gold at all": "right, all", "chose none": "not read"}.get(line, line) for line in lines]
    points = frame.rename(columns={"value": "accuracy"}).assign(_line=lines, _model="")
    draw_points(points, lines, [""], ax, label="share of answers")
    draw_ticks(pd.Series(frame["chance"].to_numpy(), lines), lines, ax, colour=PALE, style=":", label="guessing evenly")
    for place in np.flatnonzero(frame["measure"].to_numpy()[1:] != frame["measure"].to_numpy()[:-1]):
        ax.axhline(place + 0.5, color=PALE, lw=0.8)
    return with_lines(lines, ax, "share (95 % interval)", width=24)


def plot_calibration(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a reliability table: how often answers are right, against how sure the model was.

    Args:
        frame: ``calibration(…).frame``, from :func:`medr1kit.calibration`.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a point a bin that holds questions, with its 95 % interval and its n printed; on the dotted line
        confidence and accuracy agree, below it the model is over-confident.

    Raises:
        DataError: if columns are missing or all bins are empty.
    """
    if not isinstance(frame, pd.DataFrame) or not {"n", "confidence", "accuracy", "low", "high"} <= set(frame.columns):
        raise DataError("plot_calibration draws calibration(…).frame, the reliability table; this is something else")
    rows = frame[frame["n"] > 0]
    if rows.empty:
        raise DataError("a reliability table without questions; there is nothing to draw")
    ax = axes(ax)
    ax.plot([0, 1], [0, 1], color=PALE, ls=":", lw=scaled(1.8), label="calibrated")
    style = {"fmt": "o-", "color": colours(1)[0], "lw": scaled(1), "label": "answers (95 %)"}
    draw_intervals(rows, rows["confidence"], ax, upright=True, **style)
    for row in rows.itertuples():
        place, side = (row.confidence, row.accuracy), -1 if row.confidence > 0.9 else 1
        beside = {"textcoords": "offset points", "ha": "right" if side < 0 else "left", "va": "top"}
        ax.annotate(f"n={row.n}", place, (6 * side, -4), **beside, size="small")
    ax.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), ylabel="share right")
    ax.set_xlabel("confidence (probability of the chosen letter)")
    legend_above(ax, 2)  # inside, it would hide points
    return ax
