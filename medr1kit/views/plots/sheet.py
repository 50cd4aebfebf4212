"""A contact sheet of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from medr1kit.views.look import in_order
from medr1kit.views.plots.canvas import axes, need, texts

if TYPE_CHECKING:
    from datasets import Dataset


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
    need(data.column_names, ["image", "image_id", by], "the data")
    names, first = texts(pd.Series(data[by], dtype=object)), {}
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
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
