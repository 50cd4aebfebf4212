"""Light microscopy, haematoxylin and eosin: pink and purple.

The finding is the kind of white cell that has gathered, the grade how many there are, the attribute where. A lymphocyte
is a round dark blue nucleus with next to nothing around it, a neutrophil has three small lobes in a pale cell, an
eosinophil two lobes in an orange-red cell, a monocyte a horseshoe in a large grey-blue cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.phantoms.canvas import Canvas, lattice, near, pixel_noise, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.phantoms.truth import Truth

ANATOMIES = ("blood", "colon", "bone", "lymph")
FINDINGS = ("lymphocyte", "neutrophil", "eosinophil", "monocyte")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.45, 0.0), "right": (0.45, 0.0), "upper": (0.0, -0.45), "lower": (0.0, 0.45)}
_CELLS = {"minimal": (1, 0.0), "mild": (3, 0.2), "moderate": (6, 0.32), "severe": (11, 0.46)}  # count, reach of centres
_GROUND = {
    "blood": (0.97, 0.94, 0.92), "colon": (0.95, 0.74, 0.82), "bone": (0.86, 0.62, 0.76), "lymph": (0.80, 0.68, 0.86),
}  # fmt: skip


def paint(truth: Truth, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one microscopic field; arguments and result as in `medr1kit.phantoms.ct.paint`."""
    canvas = Canvas(size, _GROUND[truth.anatomy], rng)
    gain = rng.uniform(0.95, 1.05)
    noise = 0.018 * smooth_noise(rng, size, 10)
    {"blood": _blood, "colon": _colon, "bone": _bone, "lymph": _lymph}[truth.anatomy](canvas, rng)
    draw_lesion(canvas, truth, rng)
    canvas.pixels += (noise + pixel_noise(rng, size, 0.01))[..., None]
    return canvas.to_uint8(gain)


def _blood(canvas: Canvas, rng: np.random.Generator) -> None:
    """A smear: red cells, paler in the middle."""
    cells = lattice(rng, 6, 0.22)
    canvas.dots(cells, 0.12, (0.90, 0.52, 0.50))
    canvas.dots(cells, 0.045, (0.97, 0.78, 0.76), soft=0.04)


def _colon(canvas: Canvas, rng: np.random.Generator) -> None:
    """Crypts: rings of purple epithelium around an empty lumen."""
    crypts = lattice(rng, 3, 0.08)
    canvas.dots(crypts, 0.26, (0.56, 0.30, 0.62))
    canvas.dots(crypts, 0.19, (0.86, 0.66, 0.82))
    canvas.dots(crypts, 0.10, (0.99, 0.97, 0.98))


def _bone(canvas: Canvas, rng: np.random.Generator) -> None:
    """Marrow: large empty fat cells among small nuclei, beside a smooth pink bar of bone."""
    canvas.dots(lattice(rng, 14, 0.4), 0.032, (0.50, 0.28, 0.58))
    canvas.dots(lattice(rng, 4, 0.25), 0.16, (0.99, 0.97, 0.98))
    canvas.line([(-1.2, -0.45), (-0.75, -1.2)], 0.55, (0.93, 0.42, 0.56))
    canvas.line([(1.2, 0.45), (0.75, 1.2)], 0.55, (0.93, 0.42, 0.56))


def _lymph(canvas: Canvas, rng: np.random.Generator) -> None:
    """A node: small nuclei packed edge to edge."""
    canvas.dots(lattice(rng, 20, 0.3), 0.036, (0.46, 0.28, 0.60))


def draw_lesion(canvas: Canvas, truth: Truth, rng: np.random.Generator) -> None:
    """Draw the gathered cells: their kind is the finding, their number the grade, their place the attribute."""
    count, reach = _CELLS[truth.grade]
    centre = near(rng, _PLACE[truth.attribute])
    cells = spread(rng, count, centre, reach)
    turn = rng.uniform(0, 6.28, count)
    canvas.dots(cells, 0.17, (0.99, 0.93, 0.95), soft=0.05)  # the cell pushes its neighbours away
    if truth.finding == "lymphocyte":
        canvas.dots(cells, 0.12, (0.62, 0.66, 0.95))
        canvas.dots(cells, 0.10, (0.13, 0.08, 0.42))
    elif truth.finding == "neutrophil":
        canvas.dots(cells, 0.13, (0.96, 0.84, 0.88))
        canvas.dots(_around(cells, turn, 3, 0.07), 0.046, (0.30, 0.10, 0.45))
    elif truth.finding == "eosinophil":
        canvas.dots(cells, 0.135, (0.98, 0.38, 0.10))
        canvas.dots(_around(cells, turn, 2, 0.055), 0.05, (0.25, 0.08, 0.42))
    else:
        canvas.dots(cells, 0.15, (0.52, 0.62, 0.76))
        canvas.dots(_around(cells, turn, 5, 0.075, arc=3.9), 0.045, (0.42, 0.16, 0.58))


def _around(cells: np.ndarray, turn: np.ndarray, lobes: int, distance: float, arc: float | None = None) -> np.ndarray:
    """Points (n · lobes, 2) on a circle (or an arc of it) about each cell's centre."""
    steps = np.arange(lobes) * (2 * np.pi / lobes if arc is None else arc / (lobes - 1))
    angle = turn[:, None] + steps
    offsets = distance * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return (cells[:, None, :] + offsets).reshape(-1, 2)
