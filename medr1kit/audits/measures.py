"""The unit an audit is made of: one measured number, with the rows behind it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medr1kit.audits.floors import interval

NAN = float("nan")


@dataclass(frozen=True)
class Measure:
    """One number of an audit.

    Attributes:
        section: what it belongs to, for example "floors".
        name: its name, the key in the JSON.
        value: in percent or as a count, see ``unit``.
        unit: "%", "rows", or what else is counted.
        n: the number of rows it was measured on.
        low, high: 95 % interval in the same unit; nan for a count, which is exact.
        rows: the numbers of the rows that were counted.
    """

    section: str
    name: str
    value: float
    unit: str
    n: int
    low: float = NAN
    high: float = NAN
    rows: np.ndarray | None = field(default=None, repr=False)


def share(
    section: str, name: str, credits: np.ndarray, clusters: Sequence[Hashable] | None = None, *, exact: bool = False
) -> Measure:
    """Return the mean of credits (0..1) in percent, with its interval unless it is ``exact``."""
    low, high = (NAN, NAN) if exact else interval(credits, clusters)
    return Measure(section, name, 100 * float(credits.mean()), "%", len(credits), 100 * low, 100 * high)


def count(section: str, name: str, found: np.ndarray) -> Measure:
    """Return how many rows are True, and which."""
    rows = np.flatnonzero(found)
    return Measure(section, name, len(rows), "rows", len(found), rows=rows)
