"""Magnetic resonance imaging, T2-like: water bright, cortical bone black, smooth contrast, no table.

Left and right are the sides of the picture. A mass is a bright lobulated ring around a dark core, edema a bright cloud
without an edge, an infarct a dark wedge, a cyst a bright sharp disc inside a black wall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.phantoms.canvas import LESION_RADIUS, Canvas, near, pixel_noise, smooth_noise

if TYPE_CHECKING:
    from medr1kit.phantoms.truth import Truth

ANATOMIES = ("brain", "spine", "knee", "prostate")
FINDINGS = ("mass", "edema", "infarct", "cyst")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.36, 0.0), "right": (0.36, 0.0), "upper": (0.0, -0.36), "lower": (0.0, 0.36)}


def paint(truth: Truth, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one MR slice; arguments and result as in `medr1kit.phantoms.ct.paint`."""
    canvas = Canvas(size, 0.02, rng)
    gain = rng.uniform(0.94, 1.06)
    bias = 1 + 0.06 * smooth_noise(rng, size, 3)  # the coil's uneven sensitivity
    {"brain": _brain, "spine": _spine, "knee": _knee, "prostate": _prostate}[truth.anatomy](canvas)
    draw_lesion(canvas, truth, rng)
    canvas.pixels *= bias
    canvas.pixels += pixel_noise(rng, size, 0.012)
    return canvas.to_uint8(gain)


def _brain(canvas: Canvas) -> None:
    canvas.ellipse((0, 0), (0.82, 0.94), 0.62)
    canvas.ellipse((0, 0), (0.77, 0.89), 0.02)
    canvas.blob((0, 0), 0.74, 0.6, lobes=21, depth=0.02, squash=1.15)
    canvas.blob((0, 0), 0.62, 0.36, lobes=13, depth=0.05, squash=1.15, soft=0.06)
    canvas.line([(0, -0.8), (0, 0.8)], 0.03, 0.1)
    for side in (-1, 1):
        canvas.ellipse((0.1 * side, -0.12), (0.05, 0.2), 0.85, angle=-0.3 * side)
        canvas.ellipse((0.13 * side, 0.2), (0.05, 0.17), 0.85, angle=0.35 * side)


def _spine(canvas: Canvas) -> None:
    """Sagittal: a stack of vertebrae, the canal with its cord behind them, the fat of the back."""
    canvas.lay(np.clip(1.5 - np.abs(canvas.x) * 1.6, 0, 1) + 0 * canvas.y, 0.26)
    canvas.line([(0.85, -1.2), (0.8, 0.0), (0.85, 1.2)], 0.3, 0.55)
    canvas.line([(0.36, -1.2), (0.26, 0.0), (0.36, 1.2)], 0.26, 0.72)
    canvas.line([(0.36, -1.2), (0.26, 0.0), (0.36, 1.2)], 0.11, 0.4)
    for level in range(6):
        y = -0.9 + 0.36 * level
        x = 0.0 - 0.1 * (1 - y * y)
        canvas.line([(x - 0.12, y), (x + 0.1, y)], 0.29, 0.05)
        canvas.line([(x - 0.11, y), (x + 0.09, y)], 0.22, 0.5)
        canvas.line([(x - 0.13, y + 0.18), (x + 0.1, y + 0.18)], 0.06, 0.7)
        canvas.line([(0.52, y), (0.66, y + 0.12)], 0.11, 0.45)


def _knee(canvas: Canvas) -> None:
    """Sagittal: femur above, tibia below, the dark joint between, the patella in front."""
    canvas.ellipse((0.05, 0), (0.78, 1.3), 0.24)
    canvas.line([(0.05, -1.2), (0.05, -0.45)], 0.66, 0.05)
    canvas.ellipse((0.08, -0.3), (0.5, 0.32), 0.05)
    canvas.line([(0.05, -1.2), (0.05, -0.45)], 0.58, 0.5)
    canvas.ellipse((0.08, -0.3), (0.46, 0.28), 0.5)
    canvas.line([(-0.36, 0.06), (0.46, 0.06)], 0.05, 0.8)
    canvas.line([(-0.2, 0.34), (0.3, 0.34)], 0.44, 0.05)
    canvas.line([(0.05, 0.4), (0.05, 1.2)], 0.62, 0.05)
    canvas.line([(-0.2, 0.34), (0.3, 0.34)], 0.36, 0.5)
    canvas.line([(0.05, 0.4), (0.05, 1.2)], 0.54, 0.5)
    canvas.ellipse((-0.6, -0.38), (0.13, 0.25), 0.05)
    canvas.ellipse((-0.6, -0.38), (0.09, 0.21), 0.5)
    canvas.line([(-0.6, -0.12), (-0.42, 0.4)], 0.06, 0.05)


def _prostate(canvas: Canvas) -> None:
    """Axial: bladder above, the gland with its bright peripheral zone, rectum below, hips at the sides."""
    canvas.ellipse((0, 0), (0.98, 0.88), 0.58)
    canvas.ellipse((0, 0), (0.9, 0.8), 0.22)
    for side in (-1, 1):
        canvas.disc((0.72 * side, -0.08), 0.19, 0.05)
        canvas.disc((0.72 * side, -0.08), 0.14, 0.48)
    canvas.ellipse((0, -0.62), (0.34, 0.13), 0.85)
    canvas.ellipse((0, 0.06), (0.47, 0.38), 0.08)
    canvas.ellipse((0, 0.06), (0.44, 0.35), 0.62)
    canvas.ellipse((0, -0.05), (0.34, 0.24), 0.4)
    canvas.disc((0, 0.62), 0.16, 0.42)
    canvas.disc((0, 0.62), 0.09, 0.02)


def draw_lesion(canvas: Canvas, truth: Truth, rng: np.random.Generator) -> None:
    """Draw the finding, at its grade's size, where the attribute says."""
    (x, y), phase = near(rng, _PLACE[truth.attribute]), rng.uniform(0, 6.28)
    radius = LESION_RADIUS[truth.grade]
    if truth.finding == "mass":
        canvas.blob((x, y), radius * 1.05, 0.95, lobes=5, depth=0.1, phase=phase)
        canvas.blob((x, y), radius * 0.6, 0.08, lobes=5, depth=0.12, phase=phase)
    elif truth.finding == "edema":
        canvas.disc((x, y), radius * 1.5, 0.18, soft=radius, opacity=0.5)
        canvas.disc((x, y), radius * 0.95, 1.0, soft=radius * 0.9)
    elif truth.finding == "infarct":
        angle = -np.pi / 2 + rng.uniform(-0.3, 0.3)
        for reach, colour in ((1.25, 0.72), (1.25 - 0.06 / radius, 0.0)):
            corners = [
                (x + reach * radius * np.cos(angle + turn), y + reach * radius * np.sin(angle + turn))
                for turn in (0.0, 2.2, 2.7, 3.14, 3.58, 4.08)
            ]
            canvas.polygon(corners, colour)
    else:
        canvas.disc((x, y), radius + 0.045, 0.0)
        canvas.disc((x, y), radius, 1.0)
