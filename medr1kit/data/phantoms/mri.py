"""Magnetic resonance imaging: T1- or T2-weighted, cortical bone black, smooth contrast, no table.

The views are the two weightings. T2 shows fluid bright; T1 shows fluid dark, fat and marrow bright, and white matter
brighter than grey. Left, right, upper and lower are the sides of the picture. A mass is a bright lobulated ring around
a dark core, edema a bright cloud without an edge, an infarct a dark wedge in a bright rim, a cyst a bright sharp disc
inside a black wall. Real lesions change with the weighting; these do not, so that one sign means one thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, pixel_noise, sites, smooth_noise

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("T1", "T2")
ANATOMIES = ("brain", "spine", "knee", "prostate")
FINDINGS = ("mass", "edema", "infarct", "cyst")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.36, 0.0), "right": (0.36, 0.0), "upper": (0.0, -0.36), "lower": (0.0, 0.36)}
AIR, CORTEX = 0.02, 0.05


class Tones(NamedTuple):
    """How bright each tissue is under one weighting, 0 to 1."""

    fluid: float
    fat: float
    muscle: float
    marrow: float
    cartilage: float
    grey: float
    white: float
    gland: float


_TONES = {
    "T1": Tones(fluid=0.1, fat=0.86, muscle=0.32, marrow=0.66, cartilage=0.3, grey=0.34, white=0.56, gland=0.42),
    "T2": Tones(fluid=0.88, fat=0.46, muscle=0.2, marrow=0.4, cartilage=0.7, grey=0.6, white=0.34, gland=0.36),
}


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one MR slice; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, AIR, rng)
    gain = rng.uniform(0.94, 1.06)
    bias = 1 + 0.06 * smooth_noise(rng, size, 3)  # the coil's uneven sensitivity
    {"brain": _brain, "spine": _spine, "knee": _knee, "prostate": _prostate}[truth.anatomy](canvas, _TONES[truth.view])
    with canvas.lesion(difficulty):
        for centre, radius in sites(rng, truth, _PLACE[truth.attribute]):
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels *= bias
    canvas.pixels += pixel_noise(rng, size, 0.012)
    canvas.pixels *= np.float32(gain)
    return canvas


def _brain(canvas: Canvas, tones: Tones) -> None:
    canvas.ellipse((0, 0), (0.82, 0.94), tones.fat)
    canvas.ellipse((0, 0), (0.77, 0.89), AIR)
    canvas.blob((0, 0), 0.74, tones.grey, lobes=21, depth=0.02, squash=1.15)
    canvas.blob((0, 0), 0.62, tones.white, lobes=13, depth=0.05, squash=1.15, soft=0.06)
    canvas.line([(0, -0.8), (0, 0.8)], 0.03, 0.1)
    for side in (-1, 1):
        canvas.ellipse((0.1 * side, -0.12), (0.05, 0.2), tones.fluid, angle=-0.3 * side)
        canvas.ellipse((0.13 * side, 0.2), (0.05, 0.17), tones.fluid, angle=0.35 * side)


def _spine(canvas: Canvas, tones: Tones) -> None:
    """Sagittal: a stack of vertebrae, the canal with its cord behind them, the fat of the back."""
    canvas.lay(np.clip(1.5 - np.abs(canvas.x) * 1.6, 0, 1) + 0 * canvas.y, tones.muscle)
    canvas.line([(0.85, -1.2), (0.8, 0.0), (0.85, 1.2)], 0.3, tones.fat)
    canvas.line([(0.36, -1.2), (0.26, 0.0), (0.36, 1.2)], 0.26, tones.fluid)
    canvas.line([(0.36, -1.2), (0.26, 0.0), (0.36, 1.2)], 0.11, tones.white)
    for level in range(6):
        y = -0.9 + 0.36 * level
        x = 0.0 - 0.1 * (1 - y * y)
        canvas.line([(x - 0.12, y), (x + 0.1, y)], 0.29, CORTEX)
        canvas.line([(x - 0.11, y), (x + 0.09, y)], 0.22, tones.marrow)
        canvas.line([(x - 0.13, y + 0.18), (x + 0.1, y + 0.18)], 0.06, tones.cartilage)
        canvas.line([(0.52, y), (0.66, y + 0.12)], 0.11, tones.marrow)


def _knee(canvas: Canvas, tones: Tones) -> None:
    """Sagittal: femur above, tibia below, the joint between, the patella in front."""
    canvas.ellipse((0.05, 0), (0.85, 1.4), tones.fat)
    canvas.ellipse((0.05, 0), (0.76, 1.3), tones.muscle)
    canvas.line([(0.05, -1.2), (0.05, -0.45)], 0.66, CORTEX)
    canvas.ellipse((0.08, -0.3), (0.5, 0.32), CORTEX)
    canvas.line([(0.05, -1.2), (0.05, -0.45)], 0.58, tones.marrow)
    canvas.ellipse((0.08, -0.3), (0.46, 0.28), tones.marrow)
    canvas.line([(-0.36, 0.06), (0.46, 0.06)], 0.07, tones.fluid)
    canvas.line([(-0.42, -0.85), (-0.46, -0.3)], 0.08, tones.fluid)
    canvas.line([(-0.2, 0.34), (0.3, 0.34)], 0.44, CORTEX)
    canvas.line([(0.05, 0.4), (0.05, 1.2)], 0.62, CORTEX)
    canvas.line([(-0.2, 0.34), (0.3, 0.34)], 0.36, tones.marrow)
    canvas.line([(0.05, 0.4), (0.05, 1.2)], 0.54, tones.marrow)
    canvas.ellipse((-0.6, -0.38), (0.13, 0.25), CORTEX)
    canvas.ellipse((-0.6, -0.38), (0.09, 0.21), tones.marrow)
    canvas.line([(-0.6, -0.12), (-0.42, 0.4)], 0.06, CORTEX)


def _prostate(canvas: Canvas, tones: Tones) -> None:
    """Axial: bladder above, the gland with its watery peripheral zone, rectum below, hips at the sides."""
    canvas.ellipse((0, 0), (0.98, 0.88), tones.fat)
    canvas.ellipse((0, 0), (0.9, 0.8), tones.muscle)
    for side in (-1, 1):
        canvas.disc((0.72 * side, -0.08), 0.19, CORTEX)
        canvas.disc((0.72 * side, -0.08), 0.14, tones.marrow)
    canvas.ellipse((0, -0.62), (0.34, 0.13), tones.fluid)
    canvas.ellipse((0, 0.06), (0.47, 0.38), 0.08)
    canvas.ellipse((0, 0.06), (0.44, 0.35), 0.35 * tones.gland + 0.65 * tones.cartilage)
    canvas.ellipse((0, -0.05), (0.34, 0.24), tones.gland)
    canvas.disc((0, 0.62), 0.16, 0.42)
    canvas.disc((0, 0.62), 0.09, AIR)


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 6.28)
    if finding == "mass":
        canvas.blob(centre, radius, 0.98, lobes=5, depth=0.1, phase=phase)
        canvas.blob(centre, radius * 0.6, 0.05, lobes=5, depth=0.12, phase=phase)
    elif finding == "edema":
        canvas.disc(centre, radius * 1.3, 0.15, soft=0.6 * radius, opacity=0.5)
        canvas.disc(centre, radius * 0.9, 1.0, soft=0.65 * radius)
    elif finding == "infarct":
        angle = -np.pi / 2 + 0.1 * (phase - 3.14)
        rim = 0.025 + 0.1 * radius
        for reach, colour in ((1.15 * radius, 0.8), (1.15 * radius - rim, 0.0)):
            corners = [
                (centre[0] + reach * np.cos(angle + turn), centre[1] + reach * np.sin(angle + turn))
                for turn in (0.0, 2.2, 2.7, 3.14, 3.58, 4.08)
            ]
            canvas.polygon(corners, colour)
    else:
        canvas.disc(centre, radius + 0.015, 0.0)
        canvas.disc(centre, radius * 0.85, 1.0)
