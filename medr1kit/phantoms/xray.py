"""Radiographs: shadows on a bluish film, bone bright, air dark, a side marker in the corner.

Left and right are the sides of the picture. A fracture is a dark zigzag between bright edges, a mass a smooth white
disc, a calcification a cluster of white specks, an erosion a black moth-eaten hole with a bright rim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.phantoms.canvas import LESION_RADIUS, Canvas, near, pixel_noise, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.phantoms.truth import Truth

ANATOMIES = ("chest", "hand", "pelvis", "skull")
FINDINGS = ("fracture", "mass", "calcification", "erosion")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.4, 0.0), "right": (0.4, 0.0), "upper": (0.0, -0.4), "lower": (0.0, 0.4)}
_FILM = np.array([0.82, 0.93, 1.0], np.float32)


def paint(truth: Truth, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one radiograph; arguments and result as in `medr1kit.phantoms.ct.paint`."""
    canvas = Canvas(size, 0.1, rng)
    gain = rng.uniform(0.94, 1.06)
    noise = 0.02 * smooth_noise(rng, size, 5)
    {"chest": _chest, "hand": _hand, "pelvis": _pelvis, "skull": _skull}[truth.anatomy](canvas)
    canvas.line([(0.86, -0.92), (0.86, -0.78), (0.94, -0.78)], 0.035, 1.0)  # the marker "L"
    draw_lesion(canvas, truth, rng)
    film = Canvas(size, (0, 0, 0))
    film.pixels = (canvas.pixels + noise + pixel_noise(rng, size, 0.014))[..., None] * _FILM
    return film.to_uint8(gain)


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


def draw_lesion(canvas: Canvas, truth: Truth, rng: np.random.Generator) -> None:
    """Draw the finding, at its grade's size, where the attribute says."""
    (x, y), phase = near(rng, _PLACE[truth.attribute]), rng.uniform(0, 6.28)
    radius = LESION_RADIUS[truth.grade]
    if truth.finding == "fracture":
        along = np.linspace(-1.15, 1.15, 7) * radius
        across = np.array([0, 1, -1, 1, -1, 1, 0]) * radius * 0.3
        slant = rng.uniform(0.6, 0.95)
        cos, sin = np.cos(slant), np.sin(slant)
        points = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in zip(along, across, strict=True)]
        canvas.line(points, 0.08 + 0.2 * radius, 0.92, opacity=0.85)
        canvas.line(points, 0.03 + 0.08 * radius, 0.0)
    elif truth.finding == "mass":
        canvas.disc((x, y), radius * 1.1 + 0.04, 0.05, soft=0.08, opacity=0.7)
        canvas.disc((x, y), radius, 1.0, soft=0.05)
    elif truth.finding == "calcification":
        canvas.disc((x, y), radius * 1.15, 0.2, soft=0.1, opacity=0.8)
        canvas.dots(spread(rng, round(5 * (radius / 0.11) ** 1.5), (x, y), radius), 0.036, 1.0)
    else:
        canvas.blob((x, y), radius + 0.03, 0.88, lobes=9, depth=0.1, phase=phase)
        canvas.blob((x, y), radius - 0.02, 0.0, lobes=9, depth=0.12, phase=phase)
