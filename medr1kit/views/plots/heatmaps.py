"""Grids: questions counted and shown, what training does to each modality, which option is taken for which."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from medr1kit.given import choice, number, questions_given, table_given, whole_number
from medr1kit.views.look import EMPTY, LIMIT, SCALES, in_order, ink_on
from medr1kit.views.plots.canvas import INK, SMALLEST, axes, fit_lines, need, points_of, room, scaled, text_width, wrap
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def plot_counts(data: Dataset | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how many questions each modality has of each task.

    Args:
        data: a Dataset or frame with the columns ``modality`` and ``task``; missing ones are counted as "unknown".
            Images are not decoded.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a heat map with the counts printed, colours on a logarithmic scale, cells without questions grey.

    Raises:
        DataError: if a column is missing or there are no rows.
    """
    if hasattr(data, "column_names"):
        questions_given(data, "data", ("modality", "task"))
    else:
        need(data, ["modality", "task"], "data", "a data set of load_vqa(…), or a table of questions or predictions")
    frame = pd.DataFrame({column: list(data[column]) for column in ("modality", "task")}, dtype=object)
    frame = frame.where(frame.notna(), "unknown")
    counts = pd.crosstab(frame["modality"], frame["task"])
    counts = counts.loc[in_order("modality", counts.index), in_order("task", counts.columns)]
    ax = axes(ax)
    scale = LogNorm(vmin=1, vmax=100 * counts.to_numpy().max())  # never darker than dark print can be read on
    _heatmap(counts.where(counts > 0), ax, counts.map("{:,d}".format), cmap="Blues", norm=scale)
    return ax


def plot_images(data: Dataset, *, by: str = "modality", n: int = 8, ax: Axes | None = None) -> Axes:
    """Draw a contact sheet: a row of example images for each value of a column.

    Args:
        data: a Dataset with images.
        by: the column that makes the rows: "modality", "task", "source".
        n: images a row, the first ones of the data set; each picture once.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: one mosaic, the rows named at its left.

    Raises:
        DataError: if there are no images or no such column.
    """
    questions_given(data, "data", ("image_id", by), images=True)
    whole_number(n, "n")
    names, first = pd.Series(data[by], dtype=object).fillna("unknown").astype(str), {}
    for i, (name, image_id) in enumerate(zip(names, data["image_id"])):
        row = first.setdefault(name, {})
        if len(row) < n:
            row.setdefault(image_id, i)
    rows = in_order(by, first)
    side = max(data[i]["image"].width for name in rows for i in first[name].values())
    mosaic = np.full((len(rows) * (side + 2), n * (side + 2), 3), 255, np.uint8)
    for y, name in enumerate(rows):
        for x, i in enumerate(first[name].values()):
            tile = np.asarray(data[i]["image"].convert("RGB").resize((side, side)))
            mosaic[y * (side + 2) :, x * (side + 2) :][:side, :side] = tile
    ax = axes(ax)
    ax.imshow(mosaic, interpolation="antialiased")
    ax.set_xticks([])
    ax.set_yticks((np.arange(len(rows)) + 0.5) * (side + 2), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def plot_transfer(
    table: pd.DataFrame, value: str = "difference", *, limit: float = LIMIT, ax: Axes | None = None
) -> Axes:
    """Draw what training on each modality (or task) does to each other one.

    Args:
        table: from :func:`medr1kit.results.compare.transfer_table`, of one method, format and model; from
            :func:`medr1kit.results.compare.compare_modes`, of one method and model; or one of the two heat maps of
            :func:`medr1kit.results.kept.published`, whose title says so and which has no p-values to hatch
            by.
        value: "difference" (to the untrained base, or of two formats) or "accuracy".
        limit: the difference, in points, at which colours saturate; fixed, so that two maps can be compared by eye.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: rows are what was trained on, columns what was tested, values in points (hundredths), the diagonal
        framed. Differences are coloured around zero, and hatched where they may be chance (corrected p above 0.05);
        cells without a value stay grey.

    Raises:
        DataError: if ``value`` is neither, a column is missing, or several rows of the table belong to one cell.
    """
    choice(value, "value", ("difference", "accuracy"))
    source = "mk.transfer_table(predictions), one method, format and model of it"
    by = "task" if "train_task" in table_given(table, "table", source=source) else "modality"
    train = f"train_{by}"
    need(table, [train, by, value, "p_corrected"], "table", source)
    number(limit, "limit", 1e-9, 100)
    if "published" in table and not table["published"].eq(True).all():
        raise DataError("own and published rows in one map; draw two maps side by side")
    if table.duplicated([train, by]).any():
        varying = [c for c in ("method", "format", "model") if c in table and table[c].nunique(dropna=False) > 1]
        raise DataError(
            f"several rows belong to one cell; select one {' and '.join(varying) or 'row a cell'}, for example "
            f"table[table.{(varying or ['method'])[0]} == …]"
        )
    cells = table.pivot(index=train, columns=by, values=[value, "p_corrected"])
    rows, columns = in_order(by, cells.index), in_order(by, cells[value].columns)
    points = 100 * cells[value].loc[rows, columns].astype(float)
    doubtful = cells["p_corrected"].loc[rows, columns].astype(float) > 0.05
    ax = axes(ax, height=min(4.8, 1.6 + 0.4 * len(rows)))  # a map of one row is no row of towers
    colours = LinearSegmentedColormap.from_list(value, SCALES[value])
    if value == "difference":
        _heatmap(points, ax, points.map(_signed(points)), cmap=colours, vmin=-limit, vmax=limit)
        _hatch(doubtful & points.notna(), ax)
        legend = "\nhatched: may be chance (corrected p > 0.05)" if doubtful.to_numpy().any() else ""
        what = table["quantity"].iloc[0] if "quantity" in table else "accuracy minus untrained base"
        ax.set_title(f"{'published: ' if 'published' in table else ''}{what} (points){legend}", fontsize="medium")
    else:
        _heatmap(points, ax, points.map("{:.0f}".format), cmap=colours, vmin=0, vmax=100)
        ax.set_title("accuracy (%)", fontsize="medium")
    for row, name in enumerate(rows):
        if name in columns:
            _frame(columns.index(name), row, ax)
    ax.set(xlabel="tested on", ylabel="trained on")
    return ax


def plot_confusion(confusion: pd.DataFrame, n: int = 8, *, ax: Axes | None = None) -> Axes:
    """Draw which gold option is taken for which other one.

    Args:
        confusion: the frame ``confusion`` of :func:`medr1kit.errors`, of one modality.
        n: option texts to draw, 2 or more: those with most confusions; options of one question stand together.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: rows are gold, columns what was said; each cell has the percentage of answers that took it where the
        question offered it, and below it how many of how many. Framed: the right ones. Grey: never offered together.

    Raises:
        DataError: if a column is missing, there are several modalities, or no option was taken for another.
    """
    columns = ["gold_text", "predicted_text", "taken", "offered", "share", "accuracy"]
    need(confusion, columns, "confusion", "mk.errors(…).confusion")
    whole_number(n, "n", 2)
    if "modality" in confusion and confusion["modality"].nunique(dropna=False) > 1:
        raise DataError("confusions of several modalities; select one: confusion[confusion.modality == 'CT']")
    if not confusion["taken"].sum():
        raise DataError("no option was taken for another one; there is no confusion to draw")
    names = _confused(confusion, n)
    cells = confusion[confusion["gold_text"].isin(names) & confusion["predicted_text"].isin(names)]
    if cells.duplicated(["gold_text", "predicted_text"]).any():
        raise DataError("several rows belong to one cell of the confusion; select one modality and one table")
    numbers = ["share", "taken", "offered"]
    grid = cells.pivot(index="gold_text", columns="predicted_text", values=numbers)
    share, taken, offered = (grid[name].reindex(index=names, columns=names).astype(float) for name in numbers)
    whole = "{:.0f}".format
    printed = (100 * share).map(whole) + "\n" + taken.map(whole) + "/" + offered.map(whole)
    ax = axes(ax)
    _heatmap(100 * share, ax, printed, "x-small", cmap="Oranges", vmin=0, vmax=100)
    right = confusion.drop_duplicates("gold_text").set_index("gold_text")["accuracy"]
    for place, name in enumerate(names):
        _frame(place, place, ax, fill=True)
        if name in right.index:
            ax.text(place + 0.5, place + 0.5, f"{100 * right[name]:.0f}", ha="center", va="center", size="small")
    ax.set_title("answers that took it, in % of those offered it\nframed: right", fontsize="medium")
    ax.set(xlabel="said", ylabel="gold")
    return ax


def _confused(confusion: pd.DataFrame, n: int) -> list[str]:
    """The n texts most often confused; those that ever stand in one question side by side."""
    pairs = confusion[["gold_text", "predicted_text", "taken"]]
    both = pd.concat([pairs[[side, "taken"]].set_axis(["text", "taken"], axis=1) for side in pairs.columns[:2]])
    count = both.groupby("text")["taken"].sum().sort_values(ascending=False, kind="stable").head(n)
    together = {frozenset(pair) for pair in zip(pairs["gold_text"], pairs["predicted_text"])}
    names: list[str] = []
    for text in count.index:
        near = [place for place, name in enumerate(names) if frozenset((name, text)) in together]
        names.insert(near[-1] + 1 if near else len(names), text)
    return names


def _frame(column: int, row: int, ax: Axes, *, fill: bool = False) -> None:
    """Mark a cell of the diagonal: a dark frame with a white seam, to be seen on dark cells, too."""
    face = {"fc": "white"} if fill else {"fill": False}
    for ink, width, label in (("white", scaled(3.5), "_seam"), (INK, scaled(2), "_diagonal")):
        ax.add_patch(Rectangle((column, row), 1, 1, **face, ec=ink, lw=width, clip_on=False, label=label))


def _signed(points: pd.DataFrame) -> Callable[[float], str]:
    """How differences are printed: with their sign, because greyscale tells none; whole where all are (of 100, say)."""
    digits = 1 if (points - points.round()).abs().gt(1e-6).to_numpy().any() else 0
    return lambda value: f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _hatch(cells: pd.DataFrame, ax: Axes) -> None:
    """Hatch cells, but leave their numbers free of strokes."""
    hatch = "//" if room(ax)[0] / cells.shape[1] > 40 else "////"
    for text, colour in _printed_cells(ax):
        column, row = (int(place) for place in text.get_position())
        if cells.iat[row, column]:
            line = {"fill": False, "ec": "0.4" if ink_on(colour) == "#000000" else "0.8", "lw": 0, "hatch": hatch}
            ax.add_patch(Rectangle((column, row), 1, 1, **line, label="_doubtful"))
            text.set_bbox({"fc": colour, "ec": "none", "pad": 0.8})


def _printed_cells(ax: Axes) -> list[tuple[Text, tuple[float, ...]]]:
    """Each printed text of a heat map with the colour of its cell."""
    mesh = ax.collections[0]
    values = np.ma.asarray(mesh.get_array())
    cells = [(text, values[int(text.get_position()[1]), int(text.get_position()[0])]) for text in ax.texts]
    return [(text, mesh.cmap(mesh.norm(value))) for text, value in cells]


def _heatmap(values: pd.DataFrame, ax: Axes, printed: pd.DataFrame, size: str = "small", **colours: object) -> None:
    """A heat map with a printed text a cell, no colour bar (it would take room from the reader's other axes)."""
    ax.set_facecolor(EMPTY)
    rows, columns = values.shape
    width, height = (side / n for side, n in zip(room(ax), (columns, rows)))
    size = points_of(size)
    texts = [text for text in printed.to_numpy().ravel() if isinstance(text, str)]
    lines = max((text.count("\n") + 1 for text in texts), default=1)
    fits = min(0.8 * width / max(1e-9, text_width(texts, size)), 0.9 * height / (1.2 * lines * size))
    ink = {"size": max(SMALLEST, size * min(1.0, fits))}
    sns.heatmap(values, ax=ax, annot=printed, fmt="", cbar=False, linewidths=1, annot_kws=ink, **colours)
    for text, colour in _printed_cells(ax):
        text.set_color(ink_on(colour))
    names = [wrap(name) for name in values.columns]
    crowded = text_width(names, points_of(plt.rcParams["xtick.labelsize"])) > width
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {"rotation": 0}
    ax.set_xticks(np.arange(columns) + 0.5, names, **slant)
    names, size = fit_lines([str(name) for name in values.index], 12, ax)
    ax.set_yticks(np.arange(rows) + 0.5, names, rotation=0, fontsize=size)
