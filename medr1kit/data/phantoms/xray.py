"""Radiographs: shadows on a bluish film, bone bright, air dark, a side marker in the corner.

The views are the beam's two settings: full-field, the whole plate exposed, or collimated, the beam cut to a smaller
field and the plate black around it. Left, right, upper and lower are the sides of the picture. A fracture is a dark
zigzag between bright edges, a mass a smooth white disc, a calcification a cluster of white specks, an erosion a black
moth-eaten hole with a bright rim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, pixel_noise, sites, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("full-field", "collimated")
ANATOMIES = ("chest", "hand", "pelvis", "skull")
FINDINGS = ("fracture", "mass", "calcification", "erosion")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.33, 0.0), "right": (0.33, 0.0), "upper": (0.0, -0.33), "lower": (0.0, 0.33)}
_FIELD = 0.87  # half the side of the collimated field; every lesion lies inside it
_FILM = np.array([0.82, 0.93, 1.0], np.float32)


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one radiograph; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, 0.17, rng)
    gain = rng.uniform(0.94, 1.06)
    noise = 0.02 * smooth_noise(rng, size, 5)
    {"chest": _chest, "hand": _hand, "pelvis": _pelvis, "skull": _skull}[truth.anatomy](canvas)
    canvas.line([(0.73, -0.81), (0.73, -0.67), (0.81, -0.67)], 0.035, 1.0)  # the marker "L"
    with canvas.lesion(difficulty):
        for centre, radius in sites(rng, truth, _PLACE[truth.attribute]):
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels += noise + pixel_noise(rng, size, 0.014)
    if truth.view == "collimated":
        for line in (canvas.x, canvas.y):
            canvas.pixels *= np.clip((_FIELD - np.abs(line)) / 0.02 + 0.5, 0, 1)
    canvas.pixels = canvas.pixels[..., None] * (np.float32(gain) * _FILM)
    return canvas


def _chest(canvas: Canvas) -> None:
    canvas.ellipse((0, 0.3), (1.0, 1.5), 0.55, soft=0.1)
    ribs = np.clip(np.cos(22 * (canvas.y - 0.5 * np.abs(canvas.x) ** 1.5)) * 2 - 1, 0, 1)
    for side in (-1, 1):
        canvas.ellipse((0.45 * side, -0.08), (0.35, 0.62), 0.14, soft=0.06)
        canvas.line([(0.06 * side, -0.7), (0.8 * side, -0.82)], 0.07, 0.75)
    canvas.pixels += 0.2 * ribs * (np.abs(canvas.x) < 0.82) * (np.abs(canvas.y) < 0.75)
    canvas.line([(0, -1.2), (0, 1.2)], 0.2, 0.72)
    canvas.ellipse((0.16, 0.3), (0.3, 0.32), 0.74, angle=0.5, soft=0.06)
    for side in (-1, 1):
        canvas.ellipse((0.48 * side, 0.85), (0.46, 0.32), 0.75, soft=0.04)


def _hand(canvas: Canvas) -> None:
    tips = ((-0.82, -0.02), (-0.45, -0.68), (-0.06, -0.88), (0.32, -0.76), (0.68, -0.45))
    roots = ((-0.3, 0.55), (-0.24, 0.5), (-0.06, 0.48), (0.12, 0.5), (0.28, 0.54))
    canvas.ellipse((0.0, 0.35), (0.5, 0.5), 0.3)
    canvas.line([(0, 0.7), (0, 1.2)], 0.62, 0.3)
    for tip, root in zip(tips, roots, strict=True):
        canvas.line([tip, root], 0.24, 0.3)
    for tip, root in zip(tips, roots, strict=True):
        for start, stop in ((0.03, 0.17), (0.23, 0.42), (0.48, 0.66), (0.71, 0.97)):
            ends = [(tip[0] + t * (root[0] - tip[0]), tip[1] + t * (root[1] - tip[1])) for t in (start, stop)]
            canvas.line(ends, 0.09, 0.82)
    for x in (-0.24, -0.08, 0.08, 0.24):
        canvas.disc((x, 0.68), 0.085, 0.8)
    canvas.line([(-0.15, 0.84), (-0.15, 1.2)], 0.2, 0.82)
    canvas.line([(0.17, 0.84), (0.17, 1.2)], 0.13, 0.82)


def _pelvis(canvas: Canvas) -> None:
    canvas.ellipse((0, 0.1), (1.05, 1.3), 0.36, soft=0.1)
    for side in (-1, 1):
        canvas.ellipse((0.55 * side, -0.38), (0.33, 0.46), 0.72, angle=-0.5 * side)
        canvas.line([(0.78 * side, 0.3), (0.86 * side, 1.2)], 0.22, 0.8)
        canvas.disc((0.62 * side, 0.28), 0.17, 0.88)
        canvas.ring((0.27 * side, 0.6), (0.2, 0.18), 0.1, 0.76)
    canvas.ring((0, 0.12), (0.42, 0.36), 0.1, 0.78)
    canvas.ellipse((0, -0.42), (0.2, 0.34), 0.76)
    for y in (-0.55, -0.4, -0.25):
        canvas.line([(-0.1, y), (0.1, y)], 0.03, 0.5)
    canvas.line([(0, -1.2), (0, -0.72)], 0.24, 0.78)


def _skull(canvas: Canvas) -> None:
    canvas.line([(0, 0.6), (0, 1.2)], 0.5, 0.3)
    canvas.line([(-0.2, 0.55), (0.2, 0.55)], 0.66, 0.55)
    canvas.ellipse((0, -0.15), (0.78, 0.78), 0.9)
    canvas.ellipse((0, -0.15), (0.7, 0.7), 0.52)
    for side in (-1, 1):
        canvas.ellipse((0.31 * side, 0.2), (0.22, 0.19), 0.8)
        canvas.ellipse((0.31 * side, 0.2), (0.18, 0.15), 0.14)
    canvas.polygon([(0, 0.24), (0.12, 0.48), (-0.12, 0.48)], 0.12)
    canvas.line([(-0.3, 0.66), (0.3, 0.66)], 0.15, 0.95)
    for x in (-0.24, -0.12, 0.0, 0.12, 0.24):
        canvas.line([(x, 0.6), (x, 0.72)], 0.02, 0.4)
    canvas.line([(-0.3, 0.66), (0.3, 0.66)], 0.02, 0.3)


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 6.28)
    if finding == "fracture":
        along = np.linspace(-0.85, 0.85, 7) * radius
        across = np.array([0, 1, -1, 1, -1, 1, 0]) * radius * 0.3
        slant = 0.6 + 0.05 * phase
        cos, sin = np.cos(slant), np.sin(slant)
        points = [(centre[0] + a * cos - b * sin, centre[1] + a * sin + b * cos) for a, b in zip(along, across)]
        canvas.line(points, 0.035 + 0.3 * radius, 0.92)
        canvas.line(points, 0.02 + 0.13 * radius, 0.0)
    elif finding == "mass":
        canvas.disc(centre, radius + 0.05, 0.05, soft=0.06, opacity=0.7)
        canvas.disc(centre, radius, 1.0, soft=0.04)
    elif finding == "calcification":
        canvas.disc(centre, radius * 1.1, 0.2, soft=0.08, opacity=0.8)
        canvas.dots(spread(rng, round(5 * (radius / 0.11) ** 1.5), centre, radius - 0.02), 0.03, 1.0)
    else:
        canvas.blob(centre, radius * 0.95, 0.92, lobes=9, depth=0.1, phase=phase)
        canvas.blob(centre, radius * 0.75 - 0.01, 0.0, lobes=9, depth=0.12, phase=phase)
