"""Numbers as text: the one wording of a share, a difference, an interval and a count, wherever they are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def percent(share: float, low: float | None = None, high: float | None = None) -> str:
    """Return a share of 0..1 with its interval; a dash where there is none.

    >>> percent(0.82, 0.75, 0.873), percent(0.25), percent(float("nan"))
    ('82.0 % [75.0, 87.3]', '25.0 %', '–')
    """
    return "–" if pd.isna(share) else f"{100 * share:.1f} % {interval(low, high)}".rstrip()


def points(difference: float, low: float | None = None, high: float | None = None) -> str:
    """Return a difference of two shares with its interval; a dash where there is none.

    >>> points(-0.031, -0.07, 0.008)
    '-3.1 points [-7.0, +0.8]'
    """
    return "–" if pd.isna(difference) else f"{100 * difference:+.1f} points {interval(low, high, '+')}".rstrip()


def interval(low: float | None, high: float | None, sign: str = "") -> str:
    """Return an interval of shares in percent; empty where there is none."""
    return "" if pd.isna(low) else f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def p_value(p: float) -> str:
    """Return a p-value as it is told; a dash where there is none.

    >>> p_value(0.0421), p_value(4.9e-32), p_value(float("nan"))
    ('p = 0.042', 'p < 0.001', 'p –')
    """
    return "p –" if pd.isna(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def count(n: int, what: str) -> str:
    """Return how many of something there are.

    >>> count(1, "answer"), count(1200, "answer")
    ('1 answer', '1,200 answers')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def number(value: Any, sign: bool = False) -> str:
    """Return a number of a table as text, three digits of it; anything else as it is.

    >>> number(-0.53994, sign=True), number(2345.6), number(float("nan"))
    ('−0.54', '2,346', '–')
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        if pd.isna(value):
            return "–"
        digits = ".3g" if abs(value) < 999.5 else ",.0f"
        return f"{value:{'+' if sign and value else ''}{digits}}".replace("-", "−")
    return str(value)
