"""Figures: each draws one table into one axes.

``plot_x(frame, ax=None)`` returns the axes it drew into and touches nothing outside them: no global style, no saving,
no ``show``. Sizes and panels belong to the reader::

    figure, axes = plt.subplots(1, 2, layout="constrained")
    plot_rewards(run.metrics, ax=axes[0])
    plot_lengths(run.metrics, ax=axes[1])

Without ``ax`` a new figure is made. Every number in a figure stands in the frame it was drawn from. The colours keep
apart for colour-blind readers, and nothing is said by colour alone: values are printed, doubt is hatched, the diagonal
framed.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from medr1kit.audit import BlindFloor
from medr1kit.vqa import MODALITIES, TASKS, DataError

if TYPE_CHECKING:
    from datasets import Dataset

_INK, _PALE, _EMPTY = "0.15", "0.55", "0.92"
_PALETTE = "colorblind"
_SCORES = ("n", "accuracy", "low", "high", "lenient_accuracy", "well_formed", "chance", "mean_tokens")


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
    columns = ["modality", "task"]
    _need(data.columns if isinstance(data, pd.DataFrame) else data.column_names, columns, "the data")
    frame = data[columns] if isinstance(data, pd.DataFrame) else data.select_columns(columns).to_pandas()
    if frame.empty:
        raise DataError("no questions to count; the data has no rows")
    frame = frame.astype(object).where(frame.notna(), "unknown")
    counts = pd.crosstab(frame["modality"], frame["task"])
    counts = counts.loc[_in_order(counts.index, MODALITIES), _in_order(counts.columns, TASKS)]
    ax = _axes(ax)
    scale = LogNorm(vmin=1, vmax=100 * counts.to_numpy().max())  # never darker than dark print can be read on
    _heatmap(counts.where(counts > 0), ax, counts.map("{:,d}".format), {"color": _INK}, cmap="Blues", norm=scale)
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
    _need(data.column_names, ["image", "image_id", by], "the data")
    names, first = _text(pd.Series(data[by], dtype=object)), {}
    for i, (name, image_id) in enumerate(zip(names, data["image_id"])):
        row = first.setdefault(name, {})
        if len(row) < n:
            row.setdefault(image_id, i)
    rows = _in_order(pd.Index(first), MODALITIES)
    side = max(data[i]["image"].width for name in rows for i in first[name].values())
    mosaic = np.full((len(rows) * (side + 2), n * (side + 2), 3), 255, np.uint8)
    for y, name in enumerate(rows):
        for x, i in enumerate(first[name].values()):
            tile = np.asarray(data[i]["image"].convert("RGB").resize((side, side)))
            mosaic[y * (side + 2) :, x * (side + 2) :][:side, :side] = tile
    ax = _axes(ax)
    ax.imshow(mosaic, interpolation="antialiased")
    ax.set_xticks([])
    ax.set_yticks((np.arange(len(rows)) + 0.5) * (side + 2), rows)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def plot_rewards(metrics: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the mean reward of each logged step, in all and by reward function.

    Args:
        metrics: a metrics table with ``step`` and ``reward`` and/or ``rewards/<function>/mean``.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a pale line as logged and a strong one smoothed (centred mean over a twentieth of the steps) for each.

    Raises:
        DataError: if there is no step or no reward column.
    """
    parts = [column for column in metrics if column.startswith("rewards/") and column.endswith("/mean")]
    curves = {column: column.split("/")[1].replace("_", " ") for column in parts}
    if "reward" in metrics:
        curves = {"reward": "reward (sum)" if len(parts) > 1 else "reward"} | curves
    _need(metrics.columns, ["step"], "the metrics")
    if not curves:
        raise DataError("the metrics have no column 'reward' or 'rewards/…/mean'; only GRPO logs rewards")
    ax = _axes(ax)
    colours = [_INK, *sns.color_palette(_PALETTE, len(parts))] if "reward" in curves else sns.color_palette(_PALETTE)
    for (column, label), colour in zip(curves.items(), colours):
        _draw_curve(metrics, column, ax, colour, label)
    ax.set(xlabel="step", ylabel="mean reward")
    _legend_above(ax, 3)
    return ax


def plot_lengths(metrics: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how long completions are at each logged step.

    Args:
        metrics: a metrics table with ``step`` and ``completions/mean_length``; ``completions/min_length`` and
            ``completions/max_length`` add a band. In tokens.
        ax: axes to draw into; a new figure when None.

    Raises:
        DataError: if a column is missing.
    """
    _need(metrics.columns, ["step", "completions/mean_length"], "the metrics")
    ax = _axes(ax)
    colour = sns.color_palette(_PALETTE)[0]
    limits = ["completions/min_length", "completions/max_length"]
    if all(limit in metrics for limit in limits):
        band = metrics.dropna(subset=limits)
        ax.fill_between(
            band["step"], band[limits[0]], band[limits[1]], color=colour, alpha=0.15, lw=0, label="shortest to longest"
        )
    _draw_curve(metrics, "completions/mean_length", ax, colour, "mean")
    ax.set(xlabel="step", ylabel="completion length (tokens)")
    ax.set_ylim(bottom=0)
    _legend_above(ax, 3)
    return ax


def _draw_curve(metrics: pd.DataFrame, column: str, ax: Axes, colour: object, label: str) -> None:
    logged = metrics[["step", column]].dropna().sort_values("step")
    window = max(3, len(logged) // 20)
    smooth = logged[column].rolling(window, center=True, min_periods=1).mean()
    ax.plot(logged["step"], logged[column], color=colour, alpha=0.3, lw=0.8)
    ax.plot(logged["step"], smooth, color=colour, lw=2, label=label)


def plot_accuracy(
    scores: pd.DataFrame, floor: float | pd.DataFrame | BlindFloor | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw accuracies with their intervals, and beside them what guessing and counting words reach.

    Args:
        scores: from :func:`medr1kit.tables.score`. ``modality`` or ``task`` (else the last ``by`` column) makes the
            lines of the figure; the other ``by`` columns, such as method and format, tell the points of a line apart.
        floor: the blind floor: from :func:`medr1kit.audit.blind_floor`, its ``frame`` (a mark on each line that has a
            row there), or one accuracy in 0..1 (a line across).
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: accuracy in 0..1 from left to right, a line for each category, intervals as bars.

    Raises:
        DataError: if a column is missing or two rows of ``scores`` would be the same point.
    """
    _need(scores.columns, ["accuracy", "low", "high", "chance"], "the scores")
    keys = [column for column in scores if column not in _SCORES]
    category = next((key for key in ("modality", "task", *keys[::-1]) if key in keys), None)
    frame = scores.assign(_line="accuracy" if category is None else _text(scores[category]))
    others = [key for key in keys if key != category]
    frame["_model"] = [" · ".join(values) for values in zip(*(_text(scores[key]) for key in others))] if others else ""
    if frame.duplicated(["_line", "_model"]).any():
        raise DataError("two rows of the scores are the same point; each needs its own values in the by= columns")
    lines, models = list(dict.fromkeys(frame["_line"])), list(dict.fromkeys(frame["_model"]))
    ax = _axes(ax)
    _draw_points(frame, lines, models, ax)
    _draw_ticks(frame.groupby("_line")["chance"].mean(), lines, ax, colour=_PALE, style=":", label="chance")
    _draw_floor(floor, category, lines, ax)
    if "all" in lines[1:]:
        ax.axhline(lines.index("all") - 0.5, color=_PALE, lw=0.8)
    ax.set_yticks(range(len(lines)), [_wrap(line) for line in lines])
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set(xlabel="accuracy (95 % interval)", ylabel=category or "", xlim=(0, 1.02), ylim=(len(lines) - 0.4, -0.6))
    _legend_above(ax, 2 if len(models) < 4 else 3)
    return ax


def _draw_points(frame: pd.DataFrame, lines: list[str], models: list[str], ax: Axes) -> None:
    colours = sns.color_palette(_PALETTE, len(models))
    for place, (model, colour) in enumerate(zip(models, colours)):
        rows = frame[frame["_model"] == model]
        shift = 0.6 * ((place + 0.5) / len(models) - 0.5)
        heights = [lines.index(line) + shift for line in rows["_line"]]
        reach = [(rows["accuracy"] - rows["low"]).clip(lower=0), (rows["high"] - rows["accuracy"]).clip(lower=0)]
        ax.errorbar(
            rows["accuracy"], heights, xerr=np.array(reach), fmt="osD^vPX*"[place % 8], color=colour, ms=5, capsize=2,
            label=model or "accuracy",
        )  # fmt: skip


def _draw_ticks(values: pd.Series, lines: list[str], ax: Axes, *, colour: object, style: str, label: str) -> None:
    """A short upright mark on each line that has a value."""
    heights = np.array([lines.index(line) for line in values.index], dtype=float)
    ax.vlines(values.to_numpy(), heights - 0.4, heights + 0.4, colors=colour, linestyles=style, lw=1.8, label=label)


def _draw_floor(
    floor: float | pd.DataFrame | BlindFloor | None, category: str | None, lines: list[str], ax: Axes
) -> None:
    if floor is None:
        return
    colour = sns.color_palette(_PALETTE)[3]
    frame = floor.frame if isinstance(floor, BlindFloor) else floor
    if not isinstance(frame, pd.DataFrame):
        ax.axvline(float(frame), color=colour, ls="--", lw=1.8, label="blind floor")
        return
    _need(frame.columns, [category or "accuracy", "accuracy"], "the blind floor")
    values = pd.Series(frame["accuracy"].to_numpy(), index=_text(frame[category]) if category else ["accuracy"])
    values = values[values.index.isin(lines)]
    _draw_ticks(values, lines, ax, colour=colour, style="--", label="blind floor")


def plot_transfer(
    table: pd.DataFrame, value: str = "difference", *, limit: float = 30.0, ax: Axes | None = None
) -> Axes:
    """Draw what training on each modality (or task) does to each other one.

    Args:
        table: from :func:`medr1kit.comparison.transfer_table`, of one method, format and model; or one of the two heat
            maps of :func:`medr1kit.published.published`, whose title says so and which has no p-values to hatch by.
        value: "difference" (to the untrained base) or "accuracy".
        limit: the difference, in points, at which colours saturate; fixed, so that two maps can be compared by eye.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: rows are what was trained on, columns what was tested, values in points (hundredths), the diagonal
        framed. Differences are coloured around zero, and hatched where they may be chance (corrected p above 0.05);
        cells without a value stay grey.

    Raises:
        DataError: if ``value`` is neither, a column is missing, or several rows of the table belong to one cell.
    """
    if value not in ("difference", "accuracy"):
        raise DataError(f"plot_transfer(value={value!r}): use 'difference' or 'accuracy'")
    by, names = ("task", TASKS) if "train_task" in table else ("modality", MODALITIES)
    train = f"train_{by}"
    _need(table.columns, [train, by, value, "p_corrected"], "the transfer table")
    if "published" in table and not table["published"].eq(True).all():
        raise DataError("own and published rows in one map; draw two maps side by side")
    if table.duplicated([train, by]).any():
        labels = [label for label in ("method", "format", "model") if label in table]
        varying = [label for label in labels if table[label].nunique(dropna=False) > 1]
        raise DataError(
            f"several rows belong to one cell; select one {' and '.join(varying) or 'row a cell'}, for example "
            f"table[table.{(varying or ['method'])[0]} == …]"
        )
    cells = table.pivot(index=train, columns=by, values=[value, "p_corrected"])
    rows, columns = _in_order(cells.index, names), _in_order(cells[value].columns, names)
    points = 100 * cells[value].loc[rows, columns].astype(float)
    doubtful = cells["p_corrected"].loc[rows, columns].astype(float) > 0.05
    ax = _axes(ax)
    if value == "difference":
        _heatmap(points, ax, points.map("{:+.1f}".format), {}, cmap="PuOr_r", vmin=-limit, vmax=limit)
        _hatch(doubtful & points.notna(), ax)
        legend = "\nhatched: may be chance (corrected p > 0.05)" if doubtful.to_numpy().any() else ""
        what = f"published: {table['quantity'].iloc[0]}" if "published" in table else "accuracy minus untrained base"
        ax.set_title(f"{what} (points){legend}", fontsize="medium")
    else:
        _heatmap(points, ax, points.map("{:.0f}".format), {}, cmap="viridis", vmin=0, vmax=100)
        ax.set_title("accuracy (%)", fontsize="medium")
    for row, name in enumerate(rows):
        if name in columns:
            place = (columns.index(name), row)
            ax.add_patch(Rectangle(place, 1, 1, fill=False, ec=_INK, lw=2.5, clip_on=False, label="_diagonal"))
    ax.set(xlabel="tested on", ylabel="trained on")
    return ax


def _legend_above(ax: Axes, columns: int) -> None:
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)


def _hatch(cells: pd.DataFrame, ax: Axes) -> None:
    for row, column in np.argwhere(cells.to_numpy()):
        ax.add_patch(Rectangle((column, row), 1, 1, fill=False, ec="0.78", lw=0, hatch="//", label="_doubtful"))


def _heatmap(values: pd.DataFrame, ax: Axes, printed: pd.DataFrame, ink: dict[str, str], **colours: object) -> None:
    """A heat map with a printed text a cell, no colour bar (it would take room from the reader's other axes)."""
    ax.set_facecolor(_EMPTY)
    ink = {"size": "small"} | ink
    sns.heatmap(values, ax=ax, annot=printed, fmt="", cbar=False, linewidths=1, annot_kws=ink, **colours)
    crowded = values.shape[1] > 5  # more names than fit side by side in a figure of default size
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {"rotation": 0}
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, [_wrap(name) for name in values.columns], **slant)
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, [_wrap(name) for name in values.index], rotation=0)


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _need(there: object, columns: list[str], what: str) -> None:
    missing = [column for column in columns if column not in set(there)]
    if missing:
        raise DataError(f"{what} to plot have no column {', '.join(map(repr, missing))}")


def _in_order(names: pd.Index, canonical: tuple[str, ...]) -> list[str]:
    known = [name for name in canonical if name in names]
    return known + sorted(set(names) - set(known), key=str)


def _text(column: pd.Series) -> list[str]:
    return ["unknown" if pd.isna(value) else str(value) for value in column]


def _wrap(name: object) -> str:
    return "\n".join(textwrap.wrap(str(name), 12, break_long_words=False)) or str(name)
