"""Differences with their intervals, below each other, against zero."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from medr1kit.given import table_given
from medr1kit.views.look import COLOURS
from medr1kit.views.plots.canvas import INK, PALE, axes, fit_lines, need, scaled, texts


def plot_comparisons(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw what a study stated beforehand: differences, and what is left of them when all are looked at together.

    Args:
        frame: ``comparisons.csv`` of a study, or some of its rows; ``comparison`` names the lines.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: difference in points from left to right; thick, the 95 % interval of a comparison alone; thin, of the
        family together. Full points are those whose thin interval leaves zero out.

    Raises:
        DataError: if a column is missing.
    """
    columns = ["comparison", "difference", "low", "high", "low_all", "high_all"]
    source = "comparisons.csv of a study"
    need(table_given(frame, "frame", columns[:1], source), columns[1:], "frame", source)
    frame, ax = frame.dropna(subset=columns[1:4]), axes(ax)
    points = 100 * frame[columns[1:]]
    ax.axvline(0, color=PALE, lw=scaled(1))
    for place, (_, row) in enumerate(points.iterrows()):
        ax.plot([row["low_all"], row["high_all"]], [place] * 2, color=INK, lw=scaled(1))
        ax.plot([row["low"], row["high"]], [place] * 2, color=COLOURS[0], lw=scaled(3.5), solid_capstyle="butt")
        apart = row["low_all"] > 0 or row["high_all"] < 0
        ax.plot(row["difference"], place, "o", ms=scaled(7), mec=INK, mfc=INK if apart else "white", mew=scaled(1.2))
    names, size = fit_lines(texts(frame["comparison"]), 34, ax)
    ax.set_yticks(range(len(names)), names, fontsize=size)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0f}" if value else "0"))
    ax.set_xlabel("difference in points (thick: 95 % alone, thin: all together)")
    return ax
