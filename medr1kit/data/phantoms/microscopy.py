"""Light microscopy: cells and tissue under one of two stains.

The views are the stains of the ground: H&E (haematoxylin and eosin) dyes it pink and purple, Giemsa blue. The finding
is the kind of white cell: one, small or large, or one with smaller ones around it. Left, right, upper and lower are the
sides of the picture. A lymphocyte is a round dark blue nucleus with next to nothing around it, a neutrophil has three
small lobes in a pale pink cell, an eosinophil two lobes in an orange-red cell, a monocyte a horseshoe in a grey-blue
cell. Real cells change colour with the stain; these do not, so that one sign means one thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, lattice, pixel_noise, sites, smooth_noise

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("H&E", "Giemsa")
ANATOMIES = ("blood", "colon", "bone", "lymph")
FINDINGS = ("lymphocyte", "neutrophil", "eosinophil", "monocyte")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.38, 0.0), "right": (0.38, 0.0), "upper": (0.0, -0.38), "lower": (0.0, 0.38)}
_CELL = 1.05  # cell radius over lesion radius: nuclei need room
_GROUND = {
    "blood": (0.97, 0.94, 0.92), "colon": (0.95, 0.74, 0.82), "bone": (0.86, 0.62, 0.76), "lymph": (0.80, 0.68, 0.86),
}  # fmt: skip
# Giemsa in terms of H&E, channel by channel: pink turns blue, white stays white (each row's sum is 1).
_GIEMSA = np.array([[0.15, 0.7, 0.15], [0.1, 0.6, 0.3], [0.6, -0.3, 0.7]], np.float32).T


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one microscopic field; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, _GROUND[truth.anatomy], rng)
    gain = rng.uniform(0.95, 1.05)
    noise = 0.018 * smooth_noise(rng, size, 10)
    {"blood": _blood, "colon": _colon, "bone": _bone, "lymph": _lymph}[truth.anatomy](canvas, rng)
    if truth.view == "Giemsa":
        canvas.pixels = (canvas.pixels.reshape(-1, 3) @ _GIEMSA).reshape(canvas.pixels.shape)
    with canvas.lesion(difficulty):
        cells = [(centre, _CELL * radius) for centre, radius in sites(rng, truth, _PLACE[truth.attribute])]
        for centre, radius in cells:  # a cell pushes its neighbours away
            canvas.disc(centre, radius + 0.05, (0.97, 0.95, 0.97), soft=0.04, opacity=0.95)
        for centre, radius in cells:
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels += (noise + pixel_noise(rng, size, 0.01))[..., None]
    canvas.pixels *= np.float32(gain)
    return canvas


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


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    """Draw one white cell."""
    turn = rng.uniform(0, 6.28)
    if finding == "lymphocyte":
        canvas.disc(centre, radius, (0.62, 0.66, 0.95))
        canvas.disc(centre, 0.84 * radius, (0.13, 0.08, 0.42))
    elif finding == "neutrophil":
        canvas.disc(centre, radius, (0.78, 0.46, 0.66))
        canvas.disc(centre, radius - 0.02, (0.97, 0.84, 0.89))
        canvas.dots(_arc(centre, turn, 3, 0.53 * radius, 4.19), 0.33 * radius, (0.22, 0.05, 0.38))
    elif finding == "eosinophil":
        canvas.disc(centre, radius, (0.98, 0.38, 0.10))
        canvas.dots(_arc(centre, turn, 2, 0.45 * radius, 3.14), 0.36 * radius, (0.25, 0.08, 0.42))
    else:
        canvas.disc(centre, radius, (0.52, 0.62, 0.76))
        canvas.dots(_arc(centre, turn, 6, 0.52 * radius, 3.9), 0.28 * radius, (0.42, 0.16, 0.58))


def _arc(centre: Point, turn: float, lobes: int, distance: float, arc: float) -> np.ndarray:
    """Points (lobes, 2) at a distance from `centre`, evenly along an arc (radians) that begins at `turn`."""
    angle = turn + np.linspace(0, arc, lobes)
    return np.stack([centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle)], axis=1)
