"""How things look, in a figure and in a panel alike: colours, the ink on them, smoothed curves, the order of names.

A panel opens without Matplotlib, so nothing here needs it: colours are written "#rrggbb" or are numbers in 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from medr1kit.vqa import MODALITIES, TASKS

COLOURS = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#949494", "#56b4e9", "#fbafe4", "#ece133",
)  # fmt: skip
"""Colours that colour-blind readers can tell apart, and most greyscale printers, too.

Those of seaborn's "colorblind", its pale pink and yellow last: thin lines in them can hardly be seen on white.
"""
INKS = ("#0b5fa5", "#b35900", "#00785c", "#a8488c", "#7a5c00", "#555555")
"""The first of them darkened, for thin lines on a pale card."""
INKS_ON_DARK = ("#6cb6ff", "#f0a04b", "#4cc9a0", "#e79ad6", "#d9b84a", "#b4b4b4")
"""The same lightened, for a dark card."""
EMPTY = "#ebebeb"
"""The ground of a cell without a value."""
LIMIT = 30.0
"""Points at which the colours of a difference saturate; fixed, so that two maps can be compared by eye."""
SCALES = {
    "difference": (
        "#2d004b", "#542788", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7", "#fee0b6", "#fdb863", "#e08214", "#b35806",
        "#7f3b08",
    ),
    "accuracy": ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"),
}  # fmt: skip
"""The colours of a map from its lowest value to its highest: ColorBrewer's PuOr, pale at zero; and viridis."""

_STOPS = {
    scale: [tuple(int(stop[i : i + 2], 16) / 255 for i in (1, 3, 5)) for stop in stops]
    for scale, stops in SCALES.items()
}


def colour_of(share: float, scale: str) -> tuple[float, ...]:
    """Return red, green and blue, in 0..1, of a place on a scale of :data:`SCALES`.

    Args:
        share: the place, 0..1; beyond these the end.
        scale: its name.

    >>> [round(part, 2) for part in colour_of(0.5, "difference")]
    [0.97, 0.97, 0.97]
    """
    stops = _STOPS[scale]
    place = min(1.0, max(0.0, share)) * (len(stops) - 1)
    below = min(int(place), len(stops) - 2)
    return tuple(low + (place - below) * (high - low) for low, high in zip(stops[below], stops[below + 1]))


def ink_on(colour: Sequence[float]) -> str:
    """Return black or white, whichever can be read better on a colour of red, green and blue in 0..1.

    Both are equally far from a relative luminance (WCAG 2.2) of 0.179: 4.6 to 1, so each is read on its side of it.

    >>> ink_on((1, 1, 0)), ink_on((0, 0, 1))
    ('#000000', '#ffffff')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if light > 0.179 else "#ffffff"


def smoothed(line: pd.Series) -> pd.Series:
    """Return a curve smoothed: a centred mean over a twentieth of its points, three at least."""
    return line.rolling(max(3, len(line) // 20), center=True, min_periods=1).mean()


def in_order(column: str, values: Iterable[Any]) -> list[str]:
    """Return the names among some values, each once: modalities or tasks in their usual order, others behind.

    >>> in_order("modality", ["unknown", "MRI", None, "CT", "MRI"])
    ['CT', 'MRI', 'unknown']
    """
    there = {value for value in values if isinstance(value, str)}
    known = MODALITIES if column.endswith("modality") else TASKS
    return [name for name in known if name in there] + sorted(there - set(known))
