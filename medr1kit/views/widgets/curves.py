"""Curves as small SVG pictures: drawn in a millisecond, sharp at any size, a few kilobytes each.

A figure of Matplotlib takes a tenth of a second or more, and a step slider draws six of them at every move. A picture
here is an ``<img>`` with its SVG inside: nothing in it can run, and notebooks that are not trusted show it, too. It
stands on its own card, pale or dark as the reader prefers, so that it can be read on any ground.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from medr1kit.results.numbers import number
from medr1kit.views.look import INKS, INKS_ON_DARK, smoothed

WIDTH, HEIGHT = 340, 180
LEFT, RIGHT, _BOTTOM = 46, 10, 24
_SMOOTHED = 20  # a line of more points is smoothed, over a pale one as it was logged
MOST = 300
"""Points a line; more cannot be told apart at this width, and of each stretch the lowest and the highest are drawn."""
_GRID, _INK = "#ddd", "#222"
_DARK = {  # what is drawn in -> in the dark
    **{f'[stroke="{ink}"]': f"stroke:{light}" for ink, light in zip(INKS, INKS_ON_DARK)},
    **{"rect": "fill:#1f252c;stroke:#3b444e", "text": "fill:#e6edf3"},
    **{f'[stroke="{_GRID}"]': "stroke:#3b444e", f'[stroke="{_INK}"]': "stroke:#e6edf3"},
}
_STYLE = f"@media (prefers-color-scheme:dark){{{''.join(f'{what}{{{how}}}' for what, how in _DARK.items())}}}"
_DOT = "stroke-width:6;stroke-linecap:round;stroke-dasharray:none"
_DASHES = ("", "6 2", "2 2", "8 2 2 2", "4 1 1 1", "1 2")  # they tell lines apart without colour


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
    drawn = {name: np.asarray(line, dtype=float) for name, line in lines.items()}
    marked = {name: number(line[x == at][-1]) for name, line in drawn.items() if (x == at).any()}
    said = f"{title} at step {at:g}: " + ", ".join(f"{n} {v}" for n, v in marked.items()) if marked else title
    code = base64.b64encode(_svg(title, x, drawn, at, marked).encode()).decode()
    return (
        f'<img class="mk-curve" alt="{html.escape(said)}" width="{WIDTH}" height="{HEIGHT}" '
        f'src="data:image/svg+xml;base64,{code}">'
    )


def _svg(title: str, x: np.ndarray, lines: dict[str, np.ndarray], at: float | None, marked: dict[str, str]) -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="10"><style>{_STYLE}</style>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="4" fill="#fbfbf8" stroke="#ccc"/>',
        _text(8, 14, title, 'font-size="11" font-weight="bold"'),
    ]
    values = np.concatenate([*lines.values(), []])
    values = values[np.isfinite(values)]
    if not len(values):
        return "".join([*parts, _text(WIDTH / 2, 90, "nothing logged yet", 'text-anchor="middle"'), "</svg>"])
    legend, top = _legend(lines, marked)
    ticks, first, last = _ticks(values.min(), values.max()), x.min(), max(x.max(), x.min() + 1)

    def place(step: float | np.ndarray, value: float | np.ndarray) -> tuple:
        down = (value - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - top - _BOTTOM)
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT), HEIGHT - _BOTTOM - down

    for tick in ticks:
        y = place(first, tick)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{_GRID}"/>')
        parts.append(_text(LEFT - 4, y + 3, number(tick), 'text-anchor="end"'))
    for tick, anchor in ((first, "start"), (last, "end")):
        parts.append(_text(place(tick, 0)[0], HEIGHT - 8, f"{tick:g}", f'text-anchor="{anchor}"'))
    if at is not None and first <= at <= last:
        across = place(at, 0)[0]
        parts.append(f'<path d="M{across:.1f} {top}V{HEIGHT - _BOTTOM}" stroke="{_INK}" stroke-dasharray="3 2"/>')
    for k, line in enumerate(lines.values()):
        known = np.isfinite(line)
        if known.sum() > _SMOOTHED:
            parts.append(_path(x, line, place, f'{_stroke(k)} stroke-width="0.8" opacity="0.35"'))
            line = line.copy()
            line[known] = smoothed(pd.Series(line[known]))
        parts.append(_path(x, line, place, f'{_stroke(k)} stroke-width="1.8"'))
    return "".join([*parts, *legend, "</svg>"])


def _text(across: float, down: float, said: str, how: str) -> str:
    return f'<text x="{across:.1f}" y="{down:.1f}" fill="{_INK}" {how}>{html.escape(said)}</text>'


def _stroke(k: int) -> str:
    return f'stroke="{INKS[k % len(INKS)]}" stroke-dasharray="{_DASHES[k % len(_DASHES)]}"'


def _path(x: np.ndarray, line: np.ndarray, place: Callable[..., tuple], stroke: str) -> str:
    """A line that breaks where nothing was logged."""
    x, line = _thinned(x, line)
    known = np.isfinite(line)
    pens = np.where(np.append(False, known[:-1]), "L", "M")[known]
    alone = (pens == "M") & np.append(pens[1:] == "M", True)  # a line of one point would not be seen: it is a dot
    points, dots = [], []
    for pen, dot, across, down in zip(pens, alone, *place(x[known], line[known])):
        (dots if dot else points).append(f"{pen}{across:.1f} {down:.1f}{'h0' if dot else ''}")
    drawn = f'<path d="{"".join(points)}" fill="none" {stroke}/>' if points else ""
    if dots:
        drawn += f'<path d="{"".join(dots)}" fill="none" {stroke} style="{_DOT}"/>'
    return drawn


def _thinned(x: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest point of each stretch, so that no peak is lost."""
    known = np.flatnonzero(np.isfinite(line))
    if len(line) <= MOST or not len(known):
        return x, line
    kept = {known[0], known[-1]}
    for part in np.array_split(known, min(len(known), MOST // 2)):
        kept |= {part[line[part].argmin()], part[line[part].argmax()]}
    order = sorted(kept)
    return x[order], line[order]


def _ticks(low: float, high: float) -> list[float]:
    """Two to four round numbers around a range; from 0 where that is near."""
    low = 0.0 if 0 <= low < 0.6 * high else low
    spread = high - low if high - low > 1e-9 * max(1.0, abs(high)) else abs(high) or 2.0
    size = 10.0 ** math.floor(math.log10(spread / 2))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= spread / 2 * 0.999)
    first = math.floor(low / step + 1e-6)
    last = max(math.ceil(high / step - 1e-6), first + 1)
    return [step * place for place in range(first, last + 1)]


def _legend(lines: Mapping[str, np.ndarray], marked: dict[str, str]) -> tuple[list[str], int]:
    """The names of the lines with their numbers at the step, in as many rows as they need, and where these end."""
    across, down, parts = LEFT, 27, []
    for k, name in enumerate(lines):
        said = f"{name} {marked.get(name, '')}".strip()
        wide = 24 + int(4.9 * len(said))
        if across > LEFT and across + wide > WIDTH:
            across, down = LEFT, down + 11
        parts.append(f'<path d="M{across} {down - 3}h14" {_stroke(k)} stroke-width="2"/>')
        parts.append(_text(across + 17, down, said, 'font-size="9"'))
        across += wide
    return parts, down + 8
