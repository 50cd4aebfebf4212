"""What all figures share: colours, axes, names in their order, and the style of a printed page."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from medr1kit.vqa import DataError

INK, PALE, EMPTY = "0.15", "0.55", "0.92"
MARKERS = "osD^vPX*"

PAPER = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "pdf.fonttype": 42,  # letters stay letters: journals refuse Type 3 fonts
    "svg.fonttype": "none",
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.02,
}
"""Matplotlib settings for a figure in print, at its final size: ``with plt.rc_context(mk.PAPER): …``"""


def colours(n: int) -> list[tuple[float, float, float]]:
    """Return n colours that colour-blind readers can tell apart, and most greyscale printers, too."""
    return sns.color_palette("colorblind", n)


def scaled(points: float) -> float:
    """Return a width or size, in points, that goes with the font: given for Matplotlib's usual size of 10."""
    return points * plt.rcParams["font.size"] / 10


def axes(ax: Axes | None) -> Axes:
    """Return the axes to draw into: those given, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def need(there: object, columns: list[str], what: str) -> None:
    """Refuse a frame without a column.

    Raises:
        DataError: naming those missing.
    """
    missing = [column for column in columns if column not in set(there)]
    if missing:
        raise DataError(f"{what} to plot have no column {', '.join(map(repr, missing))}")


def in_order(names: pd.Index, canonical: tuple[str, ...]) -> list[str]:
    """Return the names, the known ones in canonical order and others after them by alphabet."""
    known = [name for name in canonical if name in names]
    return known + sorted(set(names) - set(known), key=str)


def texts(column: pd.Series) -> list[str]:
    """Return values as texts, "unknown" for missing ones."""
    return ["unknown" if pd.isna(value) else str(value) for value in column]


def wrap(name: object, width: int = 12) -> str:
    """Break a name into lines."""
    return "\n".join(textwrap.wrap(str(name), width, break_long_words=False)) or str(name)


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend over the axes, where it hides nothing; what was measured first, the lines to judge it by last."""
    handles, names = ax.get_legend_handles_labels()
    drawn = [container.get_label() for container in ax.containers]
    order = sorted(range(len(names)), key=lambda i: names[i] not in drawn)
    columns = 2 if len(names) == 4 else columns
    ax.legend(
        [handles[i] for i in order], [names[i] for i in order], loc="lower center", bbox_to_anchor=(0.5, 1.0),
        ncols=columns, frameon=False, handlelength=1.8, handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip
