"""Errors drawn: their kinds, the letters chosen, the worst slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from medr1kit.views.plots.bars import draw_intervals, draw_points, draw_ticks, with_lines
from medr1kit.views.plots.canvas import INK, PALE, axes, colours, named, need, texts
from medr1kit.vqa import DataError

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
    need(kinds.columns, ["kind", "share", "of"], "the kinds")
    frame = _with_names(kinds, ("kind", "n", "of", "share", "low", "high"))
    lines, left = list(dict.fromkeys(frame["_model"])), {}
    ax = axes(ax)
    for kind, (colour, hatch) in _KINDS.items():
        part = frame[frame["kind"] == kind]
        if part.empty:
            continue
        starts = np.array([left.get(line, 0.0) for line in part["_model"]])
        heights = [lines.index(line) for line in part["_model"]]
        face = colour if isinstance(colour, str) else colours(2)[colour]
        edge = PALE if kind == "right, malformed" else "white"  # white lines on pale grey would not be seen
        shares = part["share"]
        bars = ax.barh(heights, shares, left=starts, height=0.7, color=face, hatch=hatch, ec=edge, lw=0.8, label=kind)
        printed = [f"{100 * share:.0f}" if share >= _PRINTED else "" for share in shares]
        box = {"fc": "white", "ec": "none", "pad": 1, "alpha": 0.85} if hatch else None
        ink = "white" if colour == 0 and not hatch else INK
        ax.bar_label(bars, printed, label_type="center", size="small", color=ink, bbox=box)
        left |= {line: start + share for line, start, share in zip(part["_model"], starts, shares)}
    with_lines(lines, ax, "share of answers", width=24).set_xlim(0, 1)
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
    need(letters.columns, ["letter", "predicted", "low", "high", "gold"], "the letters")
    numbers = ("letter", "n", "predicted", "low", "high", "gold", "bias", "bias_low", "bias_high")
    frame = _with_names(letters, (*numbers, "p_corrected", "accuracy"))
    frame = frame.assign(_line=frame["letter"], accuracy=frame["predicted"])
    lines, models = sorted(set(frame["_line"])), list(dict.fromkeys(frame["_model"]))
    ax = axes(ax)
    draw_points(frame, lines, models, ax)
    draw_ticks(frame.groupby("_line")["gold"].mean(), lines, ax, colour=INK, style="-", label="gold")
    with_lines(lines, ax, "share of read answers (95 % interval)", "letter", columns=2 if len(models) < 4 else 3)
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
    need(slices.columns, ["n", "accuracy", "low", "high", "rest", "chance", "p_holm"], "the slices")
    name = next((column for column in ("slice", "word") if column in slices), None)
    if name is None or slices.empty:
        raise DataError("no slices to draw; give the frame `slices` or `words` of mk.errors(…)")
    frame = slices.head(n)
    lines = [f"{label} (n={count})" for label, count in zip(texts(frame[name]), frame["n"])]
    ax = axes(ax)
    sure = (frame["p_holm"] < 0.05).to_numpy()
    for which, face, label in ((sure, colours(1)[0], "differs from the rest"), (~sure, "white", "may be chance")):
        if which.any():
            draw_intervals(frame[which], np.flatnonzero(which), ax, color=colours(1)[0], mfc=face, label=label)
    for column, style, label, colour in (("rest", "-", "all other answers", INK), ("chance", ":", "chance", PALE)):
        values = pd.Series(frame[column].to_numpy(), lines)
        draw_ticks(values, lines, ax, colour=colour, style=style, label=label)
    return with_lines(lines, ax, "accuracy (95 % interval)", width=26)


def _with_names(frame: pd.DataFrame, numbers: tuple[str, ...]) -> pd.DataFrame:
    """The frame with ``_model``: the values of the columns that are no numbers."""
    return frame.assign(_model=named(frame, [column for column in frame if column not in numbers]))
