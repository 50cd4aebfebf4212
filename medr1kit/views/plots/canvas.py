"""What all figures share: axes, names that fit, points with their intervals, and the style of a printed page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from medr1kit.given import kind, table_given
from medr1kit.vqa import DataError

INK, PALE = "0.15", "0.55"
MARKERS = "osD^vPX*"  # a shape for each model, which greyscale keeps
SMALLEST = 5.0  # points; what is smaller cannot be read in print
_NAMES = {*(f"{part}{by}" for part in ("", "train_") for by in ("modality", "task")), "kind", "letter"}
_NAMES |= {"gold_text", "predicted_text"}  # columns whose texts are names

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


def points_of(size: float | str) -> float:
    """Return a font size such as "small" in points."""
    return FontProperties(size=size).get_size_in_points()


def room(ax: Axes) -> tuple[float, float]:
    """Return width and height of axes in points, as they are before a layout engine makes room for names."""
    box, inch = ax.get_window_extent(), ax.get_figure(root=True).dpi
    return 72 * box.width / inch, 72 * box.height / inch


def text_width(names: Iterable[str], size: float) -> float:
    """Return the width of the widest line of some texts, in points."""
    lines = [line for name in names for line in name.split("\n") if line.strip()]
    return max((TextPath((0, 0), line, size=size).get_extents().width for line in lines), default=0.0)


def fit_lines(names: Sequence[str], width: int, ax: Axes) -> tuple[list[str], float]:
    """Break names that stand below each other so that none touches the next.

    Args:
        names: one a line of the figure.
        width: letters a line at which they are broken while there is height for it; up to three times that if not.
        ax: the axes they stand beside.

    Returns:
        The names, and a font size: that of tick labels, or smaller if even unbroken names would touch.
    """
    size, height = points_of(plt.rcParams["ytick.labelsize"]), 0.9 * room(ax)[1] / max(1, len(names))
    for tried in (width, 3 * width // 2, 2 * width, 3 * width, 1000):
        broken = [wrap(name, tried) for name in names]
        fits = height / (1.2 * max((name.count("\n") + 1 for name in broken), default=1))
        if fits >= 0.8 * size:
            break
    return broken, max(SMALLEST, min(size, fits))


def scaled(points: float) -> float:
    """Return a width or size, in points, that goes with the font: given for Matplotlib's usual size of 10."""
    return points * plt.rcParams["font.size"] / 10


def axes(ax: Axes | None, height: float | None = None) -> Axes:
    """Return the axes to draw into: those given, or those of a new figure, of a height in inches where one is named.

    Raises:
        DataError: if it is something else, such as the array of them that ``plt.subplots(1, 2)`` returns.
    """
    if ax is not None and getattr(ax, "name", None) != "rectilinear":  # neither polar nor 3d
        raise DataError(f"ax is {kind(ax)}; pass one of the axes of a figure, such as plt.subplots(1, 2)[1][0]")
    size = None if height is None else (plt.rcParams["figure.figsize"][0], height)
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def need(table: object, columns: Sequence[str], name: str, source: str) -> None:
    """Refuse what is no table to draw: without rows, without a column, or with texts for numbers.

    Args:
        table: what was given.
        columns: those that are drawn.
        name: the argument's.
        source: what makes such a table.

    Raises:
        DataError: saying what is wrong.
    """
    for column in table_given(table, name, columns, source)[list(columns)].select_dtypes(exclude="number"):
        if column not in _NAMES and (odd := [cell for cell in table[column] if isinstance(cell, str)]):
            raise DataError(f"{name}: the column {column!r} holds texts, such as {odd[0]!r:.60}; numbers are drawn")


def texts(column: pd.Series) -> list[str]:
    """Return values as texts, "unknown" for missing ones."""
    return ["unknown" if pd.isna(value) else str(value) for value in column]


def named(frame: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """Return a name for each row: the values of some columns; empty names where there are none."""
    values = [texts(frame[column]) for column in columns]
    return [" · ".join(row) for row in zip(*values)] if values else [""] * len(frame)


def wrap(name: object, width: int = 12) -> str:
    """Break a name into lines."""
    return "\n".join(textwrap.wrap(str(name), width, break_long_words=False, break_on_hyphens=False)) or str(name)


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend over the axes, where it hides nothing; what was measured first, the lines to judge it by last."""
    handles, names = ax.get_legend_handles_labels()
    drawn = [container.get_label() for container in ax.containers]
    order = sorted(range(len(names)), key=lambda i: names[i] not in drawn)
    letter = points_of(plt.rcParams["ytick.labelsize"])
    beside = text_width([name.get_text() for name in ax.get_yticklabels()], letter) or 2.5 * letter
    beside += 2.5 * letter if ax.get_ylabel() else letter
    width = 1.25 * room(ax)[0] - beside  # what a layout engine will leave: the margins, less the names at the left
    for tried in range(2 if len(names) == 4 else columns, 0, -1):
        legend = ax.legend(
            [handles[i] for i in order], [names[i] for i in order], loc="lower center", bbox_to_anchor=(0.5, 1.0),
            ncols=tried, frameon=False, handlelength=1.8, handletextpad=0.5, columnspacing=1.2,
        )  # fmt: skip
        if legend.get_window_extent().width * 72 / ax.get_figure(root=True).dpi <= width:
            break
    # A title makes way for axes within its axes, not for a legend: so an empty one lies where the legend does.
    seat = ax.inset_axes((0, 1, 1, 0))
    seat.set_axis_off()
    seat.set_axes_locator(
        lambda _, renderer: legend.get_window_extent(renderer).transformed(ax.figure.transSubfigure.inverted())
    )
