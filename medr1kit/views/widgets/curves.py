"""Curves as small SVG pictures: drawn in a millisecond, sharp at any size, a few kilobytes each.

A figure of Matplotlib takes a tenth of a second or more, and a step slider draws six of them at every move. A picture
here is an ``<img>`` with its SVG inside: nothing in it can run, and notebooks that are not trusted show it, too. It
stands on its own pale card, so that it reads the same in light and dark notebooks.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

WIDTH, HEIGHT = 340, 180
LEFT, RIGHT, _BOTTOM = 46, 10, 24
_SMOOTHED = 20  # a line of more points is smoothed, over a pale one as it was logged
_MOST = 300  # points a line; more cannot be told apart at this width
# The colour-blind palette of the figures, darkened for thin lines on a pale card; dashes tell lines apart without it.
_INKS = ("#0b5fa5", "#b35900", "#00785c", "#a8488c", "#7a5c00", "#555555")
_DASHES = ("", "6 2", "2 2", "8 2 2 2", "4 1 1 1", "1 2")


def curve(title: str, steps: Sequence[float], lines: Mapping[str, Sequence[float]], at: float | None = None) -> str:
    """Return lines over the steps of a training as an ``<img>``.

    Args:
        title: what is drawn, with its unit.
        steps: n steps, rising.
        lines: name -> n numbers, nan where nothing was logged; at most six lines are told apart.
        at: the step to mark, with the number that each line has there.

    >>> picture = curve("reward", [1, 2], {"reward": [0.0, 1.0]}, at=2)
    >>> picture.startswith('<img class="mk-curve" alt="reward at step 2: reward 1"')
    True
    """
    x = np.asarray(steps, dtype=float)
    values = {name: np.asarray(line, dtype=float) for name, line in lines.items()}
    marked = {name: _number(line[x == at][-1]) for name, line in values.items() if at is not None and (x == at).any()}
    said = f"{title} at step {at:g}: " + ", ".join(f"{n} {v}" for n, v in marked.items()) if marked else title
    body = _svg(title, x, values, at, marked)
    code = base64.b64encode(body.encode()).decode()
    alt = html.escape(said)
    return (
        f'<img class="mk-curve" alt="{alt}" width="{WIDTH}" height="{HEIGHT}" src="data:image/svg+xml;base64,{code}">'
    )


def _svg(title: str, x: np.ndarray, values: dict[str, np.ndarray], at: float | None, marked: dict[str, str]) -> str:
    every = np.concatenate([*values.values(), []])
    shown = every[np.isfinite(every)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="10"><rect width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#fbfbf8" stroke="#ccc"/>',
        f'<text x="8" y="14" font-size="11" font-weight="bold" fill="#222">{html.escape(title)}</text>',
    ]
    if not len(shown):
        return "".join([*parts, f'<text x="{WIDTH / 2}" y="90" text-anchor="middle">nothing logged yet</text></svg>'])
    ticks, (legend, top) = _ticks(float(shown.min()), float(shown.max())), _legend(values, marked)
    first, last = float(x.min()), float(max(x.max(), x.min() + 1))

    def place(step: float, value: float) -> tuple[float, float]:
        across = LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        down = (value - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - top - _BOTTOM)
        return across, HEIGHT - _BOTTOM - down

    for tick in ticks:
        y = place(first, tick)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end" fill="#444">{_number(tick)}</text>')
    for tick, anchor in ((first, "start"), (last, "end")):
        across = place(tick, ticks[0])[0]
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}" fill="#444">{tick:g}</text>')
    if at is not None and first <= at <= last:
        across = place(at, ticks[0])[0]
        parts.append(f'<path d="M{across:.1f} {top}V{HEIGHT - _BOTTOM}" stroke="#222" stroke-dasharray="3 2"/>')
    for number, line in enumerate(values.values()):
        ink, dash = _INKS[number % len(_INKS)], _DASHES[number % len(_DASHES)]
        known = np.isfinite(line)
        if known.sum() > _SMOOTHED:
            parts.append(_path(*_thinned(x, line), place, f'stroke="{ink}" stroke-width="0.8" opacity="0.35"'))
            line = line.copy()
            line[known] = _smooth(line[known])
        parts.append(_path(*_thinned(x, line), place, f'stroke="{ink}" stroke-width="1.8" stroke-dasharray="{dash}"'))
    return "".join([*parts, legend, "</svg>"])


def _smooth(line: np.ndarray) -> np.ndarray:
    """A centred mean over a twentieth of the points, as in the figures (:mod:`medr1kit.views.plots.curves`)."""
    window = max(3, len(line) // 20)
    before, after = (window - 1) // 2, window // 2 + 1
    sums = np.concatenate([[0.0], np.cumsum(line)])
    ends = np.minimum(np.arange(len(line)) + after, len(line))
    starts = np.maximum(np.arange(len(line)) - before, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _path(x: np.ndarray, y: np.ndarray, place, stroke: str) -> str:
    points, pen = [], "M"
    for step, value in zip(x, y):
        if not math.isfinite(value):
            pen = "M"  # the line breaks where nothing was logged
            continue
        across, down = place(step, value)
        points.append(f"{pen}{across:.1f} {down:.1f}")
        pen = "L"
    if len(points) == 1:
        points.append("h2")  # a line of one point would not be seen
    return f'<path d="{"".join(points)}" fill="none" {stroke}/>'


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest point of each stretch, so that no peak is lost."""
    known = np.isfinite(y)
    if len(y) <= _MOST or not known.any():
        return x, y
    x, y = x[known], y[known]
    kept: set[int] = {0, len(y) - 1}
    for part in np.array_split(np.arange(len(y)), _MOST // 2):
        if len(part):
            kept |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    order = sorted(kept)
    return x[order], y[order]


def _ticks(low: float, high: float) -> list[float]:
    """Two to four round numbers around a range; from 0 where that is near."""
    low = 0.0 if 0 <= low < 0.6 * high else low
    spread = high - low if high - low > 1e-9 * max(1.0, abs(high)) else abs(high) or 2.0
    rough = spread / 2
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = math.floor(low / step + 1e-6)
    last = max(math.ceil(high / step - 1e-6), first + 1)
    return [step * number for number in range(first, last + 1)]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _legend(values: dict[str, np.ndarray], marked: dict[str, str]) -> tuple[str, int]:
    """The names of the lines with their numbers at the step, in as many rows as they need, and where these end."""
    across, down, parts = LEFT, 27, []
    for number, name in enumerate(values):
        said = f"{name} {marked.get(name, '')}".strip()
        wide = 24 + int(4.9 * len(said))
        if across > LEFT and across + wide > WIDTH:
            across, down = LEFT, down + 11
        ink, dash = _INKS[number % len(_INKS)], _DASHES[number % len(_DASHES)]
        parts.append(f'<path d="M{across} {down - 3}h14" stroke="{ink}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(f'<text x="{across + 17}" y="{down}" font-size="9" fill="#222">{html.escape(said)}</text>')
        across += wide
    return "".join(parts), down + 8
