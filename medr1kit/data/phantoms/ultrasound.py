"""Ultrasound: speckle on black, transducer on top.

The views are the two kinds of probe: a convex one sees a fan, its beams spreading with depth; a linear one sees a
rectangle, its beams running straight down. What lies below a lesion tells as much as the lesion: a cyst (black, thin
wall) lets sound through and brightens what is behind it; a calcification (a white cap) throws a black shadow. A mass is
dark and lobulated with a bright halo, a hemangioma evenly bright. Left, right, upper and lower are the sides of the
picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, sites, speckle

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("convex", "linear")
ANATOMIES = ("liver", "thyroid", "breast", "heart")
FINDINGS = ("cyst", "mass", "calcification", "hemangioma")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.33, 0.0), "right": (0.33, 0.0), "upper": (0.0, -0.32), "lower": (0.0, 0.33)}
_APEX = -1.75  # the curved array's centre lies above the picture


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one sonogram; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, 0.4, rng)
    gain = rng.uniform(0.92, 1.08)
    grain = 0.45 + 0.55 * speckle(rng, size, (80, 48))
    {"liver": _liver, "thyroid": _thyroid, "breast": _breast, "heart": _heart}[truth.anatomy](canvas)
    with canvas.lesion(difficulty):
        lesions = sites(rng, truth, _PLACE[truth.attribute])
        for centre, radius in lesions:  # all shadows before all lesions: none hides a neighbour
            _change_below(canvas, truth, centre, radius)
        for centre, radius in lesions:
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels *= grain
    canvas.pixels *= _field(canvas, truth.view) * np.float32(gain)
    return canvas


def _field(canvas: Canvas, view: str) -> np.ndarray:
    """What the probe sees, (size, size), 1 inside: a sector of a ring, or a rectangle."""
    if view == "linear":
        across, depth = np.float32(0.87) - np.abs(canvas.x), canvas.y + np.float32(1.75)
    else:
        down = canvas.y - np.float32(_APEX)
        across, depth = 0.58 * down - np.abs(canvas.x), np.sqrt(canvas.x**2 + down**2)
    edges = np.minimum(across, np.minimum(depth - 0.88, 2.66 - depth))
    return np.clip(edges / np.float32(canvas.pixel) + 0.5, 0, 1)


def _liver(canvas: Canvas) -> None:
    canvas.pixels[...] = 0.42
    vessels = ((-0.5, -0.25, 0.2, 0.05, 0.5), (0.2, 0.15, 0.3, 0.055, -0.5), (0.55, -0.35, 0.07, 0.07, 0.0))
    for x, y, rx, ry, angle in vessels:
        canvas.ellipse((x, y), (rx + 0.03, ry + 0.03), 0.7, angle=angle)
        canvas.ellipse((x, y), (rx, ry), 0.03, angle=angle)
    canvas.ring((0, 1.25), (1.5, 0.6), 0.09, 1.3, start=0.4)
    canvas.ellipse((0, 1.32), (1.45, 0.58), 0.12)


def _thyroid(canvas: Canvas) -> None:
    """Two lobes beside the windpipe, which throws a shadow; the carotids outside them."""
    canvas.pixels[...] = 0.16
    canvas.line([(-1, -0.72), (1, -0.72)], 0.12, 0.6)
    for side in (-1, 1):
        canvas.ellipse((0.42 * side, 0.02), (0.34, 0.4), 0.5, angle=-0.3 * side)
        canvas.disc((0.84 * side, 0.15), 0.13, 0.02)
        canvas.ring((0.84 * side, 0.15), (0.14, 0.14), 0.04, 0.8)
    canvas.line([(-0.1, -0.3), (0.1, -0.3)], 0.34, 0.5)
    canvas.polygon([(-0.13, -0.1), (0.13, -0.1), (0.24, 0.95), (-0.24, 0.95)], 0.02)
    canvas.ring((0, 0.1), (0.17, 0.2), 0.07, 1.2, stop=0.1)


def _breast(canvas: Canvas) -> None:
    """Layers: skin, dark fat with bright septa, bright gland, the striped muscle."""
    wave = canvas.y - 0.05 * np.cos(5 * canvas.x)
    depths = (-1.0, -0.8, -0.78, -0.45, -0.42, 0.14, 0.18, 0.42, 0.45, 1.0)
    echoes = (1.0, 1.0, 0.16, 0.16, 0.55, 0.45, 0.16, 0.16, 0.25, 0.25)
    canvas.pixels = np.interp(wave, depths, echoes).astype(np.float32)
    stripes = (np.cos(70 * (wave - 0.1 * canvas.x)) > 0.3) & (wave > 0.45)
    canvas.pixels += 0.35 * stripes
    for x in (-0.7, -0.2, 0.35, 0.8):
        canvas.line([(x, -0.8), (x + 0.12, -0.45)], 0.03, 0.7)
        canvas.line([(x, 0.16), (x - 0.1, 0.43)], 0.03, 0.6)


def _heart(canvas: Canvas) -> None:
    """Four black chambers, the cross of septum and valves between them."""
    canvas.pixels[...] = 0.2
    canvas.ellipse((0, 0.05), (0.82, 0.86), 0.5)
    for side in (-1, 1):
        canvas.ellipse((0.34 * side, -0.3), (0.24, 0.37), 0.03, angle=0.25 * side)
        canvas.ellipse((0.35 * side, 0.45), (0.25, 0.26), 0.03)
        canvas.line([(0.1 * side, 0.1), (0.5 * side, 0.14)], 0.04, 1.2)


def _change_below(canvas: Canvas, truth: Truth, top: Point, radius: float) -> None:
    """Darken or brighten the echoes in the beam below a lesion: a calcification's shadow, a cyst's enhancement.

    This goes straight into the pixels, because what lies below the lesion is not the lesion.
    """
    if truth.finding == "cyst":
        half_width, length, gain, lift = 0.75 * radius, 2.2 * radius, 1.3, 0.3
    elif truth.finding == "calcification":
        half_width, length, gain, lift = 0.9 * radius, 3.0, 0.06, 0.0
    else:
        return
    spreading = 1.0 if truth.view == "linear" else (canvas.y - np.float32(_APEX)) / np.float32(top[1] - _APEX)
    inside = np.clip((half_width * spreading - np.abs(canvas.x - np.float32(top[0]) * spreading)) * 20, 0, 1)
    inside = inside * np.clip((canvas.y - np.float32(top[1])) * 20, 0, 1)
    inside = inside * np.clip((np.float32(top[1] + length) - canvas.y) * 8, 0, 1)
    canvas.pixels += inside * (canvas.pixels * np.float32(gain - 1) + np.float32(lift))


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 6.28)
    if finding == "cyst":
        canvas.disc(centre, radius, 0.95)
        canvas.disc(centre, radius - min(0.035, 0.35 * radius), 0.0)
    elif finding == "mass":
        canvas.blob(centre, radius * 0.96, 1.1, lobes=6, depth=0.1, phase=phase, soft=0.04)
        canvas.blob(centre, radius * 0.74, 0.15, lobes=6, depth=0.14, phase=phase)
    elif finding == "calcification":
        canvas.ellipse((centre[0], centre[1] - 0.15 * radius), (radius, 0.04 + 0.35 * radius), 1.6)
    else:
        canvas.disc(centre, radius + 0.045, 0.05, soft=0.03, opacity=0.9)
        canvas.disc(centre, radius, 1.25, soft=0.03)
