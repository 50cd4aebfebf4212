"""Shares with their intervals: accuracies beside what a guess and a blind rule reach, probes, calibration, errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from medr1kit.audits import BlindFloor
from medr1kit.given import number, table_given, whole_number
from medr1kit.results.tables import SCORES
from medr1kit.views.look import COLOURS
from medr1kit.views.plots.canvas import INK, MARKERS, PALE, axes, fit_lines, legend_above, named, need, scaled, texts
from medr1kit.vqa import DataError

Floor = float | pd.DataFrame | BlindFloor | None
"""A blind floor, in any of the forms that :func:`plot_accuracy` takes."""

# Kind -> colour (of the colour-blind palette, or a grey) and hatch: from pale and plain to dark and hatched.
_KINDS = {
    "right": ("0.9", ""),
    "right, malformed": ("0.9", "////"),
    "wrong": (0, ""),
    "wrong, malformed": (0, "////"),
    "unread, right letter": (1, ""),
    "unread, wrong letter": (1, "////"),
    "unread, no letter": (1, "xxxx"),
}
_PRINTED = 0.05  # a share too small for its number


def plot_accuracy(
    scores: pd.DataFrame, floor: Floor = None, ceiling: pd.DataFrame | float | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw accuracies with their intervals, and beside them what guessing, counting words and a probe reach.

    Args:
        scores: from :func:`medr1kit.results.tables.score`. ``modality`` or ``task`` (else the last ``by`` column) makes
            the lines of the figure; the other ``by`` columns, such as method and format, tell the points of a line
            apart.
        floor: the blind floor: from :func:`medr1kit.audits.blind_floor`, its ``frame`` (a mark on each line that has a
            row there), or one accuracy in 0..1 (a line across).
        ceiling: what a probe reads off the picture's features: :func:`medr1kit.results.tables.score` of one ``method``
            of :func:`medr1kit.ceiling`, by what makes the lines here, or one accuracy in 0..1.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: accuracy in 0..1 from left to right, a line for each category, intervals as bars.

    Raises:
        DataError: if a column is missing, or two rows of ``scores`` or of another table would be the same point.
    """
    need(scores, ["accuracy", "low", "high", "chance"], "scores", "mk.score(…)")
    keys = [column for column in scores if column not in SCORES]
    category = next((key for key in ("modality", "task", *keys[::-1]) if key in keys), None)
    frame = scores.assign(_line="accuracy" if category is None else texts(scores[category]))
    frame["_model"] = named(scores, [key for key in keys if key != category])
    if frame.duplicated(["_line", "_model"]).any():
        raise DataError("two rows of the scores are the same point; each needs its own values in the by= columns")
    lines, ax = list(dict.fromkeys(frame["_line"])), axes(ax)
    n = _draw_points(frame, lines, ax)
    _draw_ticks(frame.groupby("_line")["chance"].mean(), lines, ax, colors=PALE, linestyles=":", label="chance")
    floor, of = floor.frame if isinstance(floor, BlindFloor) else floor, (category, lines, ax)
    _draw_level(floor, "floor", "mk.blind_floor(…)", *of, color=COLOURS[3], ls="--", label="blind floor")
    _draw_level(ceiling, "ceiling", "mk.score(mk.ceiling(…))", *of, color=INK, ls="-", label="ceiling (probe)")
    if "all" in lines[1:]:
        ax.axhline(lines.index("all") - 0.5, color=PALE, lw=0.8)
    return _with_lines(lines, ax, "accuracy (95 % interval)", category or "", columns=2 if n < 4 else 3)


def _draw_points(frame: pd.DataFrame, lines: list[str], ax: Axes, label: str = "accuracy") -> int:
    """Points with intervals, ``_line`` and ``_model`` say where; models stand below each other; how many there are."""
    models = list(dict.fromkeys(frame["_model"]))
    spread, size = (0.6, 5) if len(models) < 4 else (0.8, 4)
    for place, (model, colour) in enumerate(zip(models, cycle(COLOURS))):
        rows = frame[frame["_model"] == model]
        shift = spread * ((place + 0.5) / len(models) - 0.5)
        heights = [lines.index(line) + shift for line in rows["_line"]]
        style = {"fmt": MARKERS[place % len(MARKERS)], "color": colour, "ms": scaled(size)}
        _draw_intervals(rows, heights, ax, label=model or label, **style)
    return len(models)


def _draw_intervals(
    rows: pd.DataFrame, places: Sequence[float], ax: Axes, *, upright: bool = False, **style: object
) -> None:
    """Accuracies at places across the axes with their intervals as bars, upwards or from left to right."""
    reach = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]]
    bars = {"yerr" if upright else "xerr": np.nan_to_num(np.array(reach, dtype=float)).clip(min=0)}
    style = {"fmt": "o", "ms": scaled(6), "lw": scaled(1.5), "capsize": scaled(2)} | bars | style
    ax.errorbar(*((places, rows["accuracy"]) if upright else (rows["accuracy"], places)), **style)


def _draw_ticks(values: pd.Series, lines: list[str], ax: Axes, **style: str) -> None:
    """A short upright mark on each line that has a value."""
    heights = np.array([lines.index(line) for line in values.index], dtype=float)
    ax.vlines(values.to_numpy(), heights - 0.4, heights + 0.4, lw=scaled(1.8), **style)


def _with_lines(
    lines: list[str], ax: Axes, xlabel: str, ylabel: str = "", *, width: int = 12, columns: int = 2
) -> Axes:
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


def _draw_level(
    level: float | pd.DataFrame | None,
    name: str,
    source: str,
    category: str | None,
    lines: list[str],
    ax: Axes,
    **style,
) -> None:
    """What something else reaches: a mark on each line of which a table has a row, or one accuracy across."""
    if isinstance(level, pd.DataFrame):
        need(level, list({category or "accuracy", "accuracy"}), name, source)
        values = pd.Series(level["accuracy"].to_numpy(), index=texts(level[category]) if category else ["accuracy"])
        if values.index.has_duplicates:
            raise DataError(f"{name} has several rows for {values.index[values.index.duplicated()][0]!r}; select one")
        marks = {"colors": style["color"], "linestyles": style["ls"], "label": style["label"]}
        _draw_ticks(values[values.index.isin(lines)], lines, ax, **marks)
    elif level is not None:
        ax.axvline(number(level, name, 0, 1), lw=scaled(1.8), **style)


def plot_probe(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the frame of a probe: does it look, use its thought, favour a place, hang on the wording?

    Args:
        frame: from :func:`medr1kit.visual_reliance`, :func:`medr1kit.prompt_sensitivity`,
            :func:`medr1kit.thought_reliance` or :func:`medr1kit.position_bias`.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a line for each picture, wording or thought, with the accuracy and the share of answers that changed;
        or a line for each measure of position, with the value of guessing evenly. Shares in 0..1 with 95 % intervals.

    Raises:
        DataError: if it is none of these frames.
    """
    table_given(
        frame, "frame", source="what visual_reliance, prompt_sensitivity, thought_reliance or position_bias return"
    )
    what = next((column for column in ("images", "wording", "thought", "measure") if column in frame), None)
    if what is None:
        raise DataError(
            "plot_probe draws what visual_reliance, prompt_sensitivity, thought_reliance or position_bias return"
        )
    if what == "measure":
        return _draw_positions(frame, axes(ax))
    need(frame, ["accuracy", "low", "high", "flipped", "flipped_low", "flipped_high"], "frame", "a probe's table")
    flipped = frame[[what, "flipped", "flipped_low", "flipped_high"]].iloc[1:]  # the first is what they differ from
    flipped.columns = [what, "accuracy", "low", "high"]
    both = pd.concat([frame.assign(_model="accuracy"), flipped.assign(_model="answers that changed")])
    lines, ax = [str(name) for name in frame[what]], axes(ax)
    _draw_points(both.assign(_line=texts(both[what])), lines, ax)
    return _with_lines(lines, ax, "share (95 % interval)", what)


def _draw_positions(frame: pd.DataFrame, ax: Axes) -> Axes:
    need(frame, ["letter", "value", "low", "high", "chance"], "frame", "what position_bias returns")
    phrases = {"chosen": "chose {}", "accuracy": "right, gold at {}", "consistent": "same text always"}
    phrases |= {"right in all": "always right"}
    lines = [phrases.get(m, f"{m} always").format(letter) for m, letter in zip(frame["measure"], frame["letter"])]
    lines = [{"right, gold at all": "right, all", "chose none": "not read"}.get(line, line) for line in lines]
    points = frame.rename(columns={"value": "accuracy"}).assign(_line=lines, _model="")
    _draw_points(points, lines, ax, label="share of answers")
    guess = pd.Series(frame["chance"].to_numpy(), lines)
    _draw_ticks(guess, lines, ax, colors=PALE, linestyles=":", label="guessing evenly")
    for place in np.flatnonzero(frame["measure"].to_numpy()[1:] != frame["measure"].to_numpy()[:-1]):
        ax.axhline(place + 0.5, color=PALE, lw=0.8)
    return _with_lines(lines, ax, "share (95 % interval)", width=24)


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
    need(frame, ["n", "confidence", "accuracy", "low", "high"], "frame", "calibration(…).frame, the reliability table")
    rows = frame[frame["n"] > 0]
    if rows.empty:
        raise DataError("a reliability table without questions; there is nothing to draw")
    ax = axes(ax)
    ax.plot([0, 1], [0, 1], color=PALE, ls=":", lw=scaled(1.8), label="calibrated")
    style = {"fmt": "o-", "color": COLOURS[0], "lw": scaled(1), "label": "answers (95 %)"}
    _draw_intervals(rows, rows["confidence"], ax, upright=True, **style)
    for row in rows.itertuples():
        place, side = (row.confidence, row.accuracy), -1 if row.confidence > 0.9 else 1
        beside = {"textcoords": "offset points", "ha": "right" if side < 0 else "left", "va": "top"}
        ax.annotate(f"n={row.n}", place, (6 * side, -4), **beside, size="small")
    ax.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), ylabel="share right")
    ax.set_xlabel("confidence (probability of the chosen letter)")
    legend_above(ax, 2)  # inside, it would hide points
    return ax


def plot_kinds(kinds: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how many answers are right, wrong, malformed or unread.

    Args:
        kinds: the frame ``kinds`` of :func:`medr1kit.errors`, of one model and format or of several.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a bar for each model and format, cut by kind, shares from 5 % on printed in percent.

    Raises:
        DataError: if a column is missing.
    """
    need(kinds, ["kind", "share", "of"], "kinds", "mk.errors(…).kinds")
    frame = _with_names(kinds, ("kind", "n", "of", "share", "low", "high"))
    lines, left = list(dict.fromkeys(frame["_model"])), {}
    ax = axes(ax)
    for kind, (colour, hatch) in _KINDS.items():
        part = frame[frame["kind"] == kind]
        if part.empty:
            continue
        starts = np.array([left.get(line, 0.0) for line in part["_model"]])
        heights = [lines.index(line) for line in part["_model"]]
        face = colour if isinstance(colour, str) else COLOURS[colour]
        edge = PALE if kind == "right, malformed" else "white"  # white lines on pale grey would not be seen
        shares = part["share"]
        bars = ax.barh(heights, shares, left=starts, height=0.7, color=face, hatch=hatch, ec=edge, lw=0.8, label=kind)
        printed = [f"{100 * share:.0f}" if share >= _PRINTED else "" for share in shares]
        box = {"fc": "white", "ec": "none", "pad": 1, "alpha": 0.85} if hatch else None
        ink = "white" if colour == 0 and not hatch else INK
        ax.bar_label(bars, printed, label_type="center", size="small", color=ink, bbox=box)
        left |= {line: start + share for line, start, share in zip(part["_model"], starts, shares)}
    _with_lines(lines, ax, "share of answers", width=24).set_xlim(0, 1)
    return ax


def plot_letters(letters: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how often each letter is chosen, and how often it is right.

    Args:
        letters: the frame ``letters`` of :func:`medr1kit.errors`, of one model and format or of several.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a line for each letter, the share of read answers that chose it with its 95 % interval, and a mark
        where it is gold.

    Raises:
        DataError: if a column is missing.
    """
    need(letters, ["letter", "predicted", "low", "high", "gold"], "letters", "mk.errors(…).letters")
    numbers = ("letter", "n", "predicted", "low", "high", "gold", "bias", "bias_low", "bias_high")
    frame = _with_names(letters, (*numbers, "p_corrected", "accuracy"))
    frame = frame.assign(_line=frame["letter"], accuracy=frame["predicted"])
    lines, ax = sorted(set(frame["_line"])), axes(ax)
    n = _draw_points(frame, lines, ax)
    _draw_ticks(frame.groupby("_line")["gold"].mean(), lines, ax, colors=INK, linestyles="-", label="gold")
    _with_lines(lines, ax, "share of read answers (95 % interval)", "letter", columns=2 if n < 4 else 3)
    ax.set_xlim(0, min(1.02, frame["high"].max() + 0.1))
    return ax


def plot_slices(slices: pd.DataFrame, n: int = 12, *, ax: Axes | None = None) -> Axes:
    """Draw the worst slices.

    Args:
        slices: the frame ``slices`` or ``words`` of :func:`medr1kit.errors`, the worst first.
        n: slices to draw, from the top.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a line for each slice, its name with the number of answers; accuracy with its 95 % interval, filled
        where it differs from the rest also when corrected for all slices (Holm, 5 %), hollow where it may be chance; a
        mark for the accuracy of all other answers and one for a guess.

    Raises:
        DataError: if a column is missing or there are no slices.
    """
    source = "mk.errors(…).slices or .words"
    need(slices, ["n", "accuracy", "low", "high", "rest", "chance", "p_holm"], "slices", source)
    name = next((column for column in ("slice", "word") if column in slices), None)
    if name is None:
        raise DataError(f"slices has no column 'slice' and no 'word'; pass {source}")
    frame = slices.head(whole_number(n, "n"))
    lines = [f"{label} (n={count})" for label, count in zip(texts(frame[name]), frame["n"])]
    ax = axes(ax)
    sure = (frame["p_holm"] < 0.05).to_numpy()
    for which, face, label in ((sure, COLOURS[0], "differs from the rest"), (~sure, "white", "may be chance")):
        if which.any():
            _draw_intervals(frame[which], np.flatnonzero(which), ax, color=COLOURS[0], mfc=face, label=label)
    for column, style, label, colour in (("rest", "-", "all other answers", INK), ("chance", ":", "chance", PALE)):
        values = pd.Series(frame[column].to_numpy(), lines)
        _draw_ticks(values, lines, ax, colors=colour, linestyles=style, label=label)
    return _with_lines(lines, ax, "accuracy (95 % interval)", width=26)


def _with_names(frame: pd.DataFrame, numbers: tuple[str, ...]) -> pd.DataFrame:
    """The frame with ``_model``: the values of the columns that are no numbers."""
    return frame.assign(_model=named(frame, [column for column in frame if column not in numbers]))
