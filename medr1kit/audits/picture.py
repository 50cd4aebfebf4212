"""The picture of an audit: what can be scored without seeing, from a guess to the best lookup."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from medr1kit.vqa import DataError

_RULES = {
    "best_letter": "commonest test letter",
    "train_letter": "commonest training letter",
    "longest_option": "longest option",
}
_LOOKUPS = {
    "blind_stem_disjoint": "lookup, no shared stem",
    "blind_options": "lookup, all rows",
    "blind_options_stem": "lookup, with stem",
}


def plot_audit(report: pd.DataFrame | Any, *, ax: Axes | None = None) -> Axes:
    """Draw the blind floors of an audit, with their intervals, against chance.

    Args:
        report: from :func:`medr1kit.audit`, or its ``frame``.
        ax: axes to draw into; a new figure when None.

    Returns:
        The axes: a line per rule, constants above, the lookup with more and more training rows below; the share of
        right answers in percent, printed beside each point.

    Raises:
        DataError: if it is neither.
    """
    frame = report if isinstance(report, pd.DataFrame) else getattr(report, "frame", None)
    if not isinstance(frame, pd.DataFrame) or "measure" not in frame:
        raise DataError("plot_audit draws the report of medr1kit.audit, or its frame; this is neither")
    floors = frame[frame["section"] == "floors"].set_index("measure")
    curve = frame[frame["section"] == "curve"].set_index("measure").rename("lookup, {} training rows".format)
    constants, lookups = (floors.loc[[name for name in names if name in floors.index]] for names in (_RULES, _LOOKUPS))
    shown = pd.concat([constants.rename(_RULES), curve, lookups.rename(_LOOKUPS)])
    values, low, high = shown[["value", "low", "high"]].to_numpy(float).T
    ax = plt.subplots(layout="constrained")[1] if ax is None else ax
    heights = np.arange(len(shown))
    reach = np.nan_to_num([(values - low).clip(0), (high - values).clip(0)])
    colours = sns.color_palette("colorblind")
    chance = floors.loc["chance", "value"]
    ax.axvline(chance, color="0.55", ls=":", lw=1.8, label=f"chance {chance:.1f} %")
    ax.errorbar(
        values, heights, xerr=reach, fmt="o", color=colours[3], ms=6, capsize=2, label="without an image (95 %)"
    )
    for height, value, end in zip(heights, values, values + reach[1]):
        ax.annotate(
            f"{value:.1f}", (min(end, 100), height), (6, 0), textcoords="offset points", va="center", size="small"
        )
    ax.set_yticks(heights, shown.index)
    ax.set(xlabel="right answers (%)", xlim=(0, 112), ylim=(len(shown) - 0.5, -0.5))
    ax.set_xticks(range(0, 101, 20))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return ax
