"""Optical coherence tomography: a cross-section of the retina, bright and dark layers under the black vitreous.

The attribute is where the lesion lies: towards the nose (the picture's right, a right eye), towards the temple (left),
in the inner layers (above) or the outer ones (below). A cyst is one black oval with a bright wall, edema a sponge of
small dark holes, an exudate a cluster of white specks, a hemorrhage a solid white patch that shades what lies below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.phantoms.canvas import LESION_RADIUS, Canvas, near, pixel_noise, speckle, spread

if TYPE_CHECKING:
    from medr1kit.phantoms.truth import Truth

ANATOMIES = ("fovea", "macula", "disc", "choroid")
FINDINGS = ("cyst", "edema", "exudate", "hemorrhage")
ATTRIBUTES = ("nasal", "temporal", "inner", "outer")

_PLACE = {"nasal": (0.5, 0.04), "temporal": (-0.5, 0.04), "inner": (0.0, -0.27), "outer": (0.0, 0.4)}
# Brightness from the inner limiting membrane (0) to the pigment epithelium (1): nerve fibres bright, nuclei dark, ...
_DEPTH = (-0.02, 0.0, 0.12, 0.15, 0.34, 0.37, 0.48, 0.52, 0.78, 0.81, 0.85, 0.88, 0.93, 0.95, 1.06, 1.09)
_LIGHT = (0.03, 0.85, 0.80, 0.42, 0.40, 0.22, 0.22, 0.48, 0.18, 0.18, 0.62, 0.25, 0.25, 1.0, 1.0, 0.45)


def paint(truth: Truth, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one OCT B-scan; arguments and result as in `medr1kit.phantoms.ct.paint`."""
    canvas = Canvas(size, 0.03, rng)
    gain = rng.uniform(0.94, 1.06)
    grain = 0.6 + 0.4 * speckle(rng, size, (90, 60))
    inner, outer, end = _surfaces(canvas.x, truth.anatomy)
    _layers(canvas, inner, outer, end)
    if truth.anatomy == "disc":
        _nerve(canvas, inner)
    elif truth.anatomy == "choroid":
        _choroid(canvas)
    draw_lesion(canvas, truth, rng)
    canvas.pixels *= grain
    canvas.pixels += np.abs(pixel_noise(rng, size, 0.02))
    return canvas.to_uint8(gain)


def _surfaces(x: np.ndarray, anatomy: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Heights (1, size) of inner surface and pigment epithelium, and how far below the light reaches."""
    bowl = 0.06 * x**2
    if anatomy == "fovea":  # the pit
        return -0.62 + bowl + 0.5 * np.exp(-((x / 0.26) ** 2)), 0.36 - bowl, 0.75
    if anatomy == "macula":
        return -0.58 - bowl, 0.4 + 0.5 * bowl, 0.75
    if anatomy == "disc":  # the cup
        return -0.62 + 0.8 * np.exp(-((x / 0.3) ** 4)), 0.3 + 0.25 * np.exp(-((x / 0.5) ** 2)), 0.65
    return -0.8 + bowl, -0.1 - bowl, 1.02  # choroid: the retina moved up


def _layers(canvas: Canvas, inner: np.ndarray, outer: np.ndarray, end: float) -> None:
    depth = (canvas.y - inner) / np.maximum(outer - inner, 0.1)
    canvas.pixels = np.interp(depth, _DEPTH, _LIGHT).astype(np.float32)
    below = np.clip((canvas.y - outer - 0.08) / np.float32(end), 0, 1)
    canvas.pixels *= 1 - below


def _nerve(canvas: Canvas, inner: np.ndarray) -> None:
    """Where the nerve leaves, the layers stop and grey tissue fills the canal."""
    canal = np.clip((0.34 - np.abs(canvas.x)) * 12, 0, 1) * np.clip((canvas.y - inner) * 12, 0, 1)
    canvas.lay(canal, 0.5)


def _choroid(canvas: Canvas) -> None:
    """A thick choroid full of dark vessels, bounded by the bright sclera."""
    canvas.lay(np.clip((canvas.y + 0.02) * 10, 0, 1) * np.clip((0.72 - canvas.y) * 10, 0, 1) + 0 * canvas.x, 0.5, 0.8)
    columns, rows = np.meshgrid(np.linspace(-0.95, 0.95, 7), (0.16, 0.38, 0.6))
    points = np.stack([(columns + np.array([[0.0], [0.14], [0.05]])).ravel(), rows.ravel()], axis=1)
    canvas.dots(points, 0.085, 0.06)
    canvas.line([(-1.2, 0.76), (1.2, 0.76)], 0.06, 0.75)


def draw_lesion(canvas: Canvas, truth: Truth, rng: np.random.Generator) -> None:
    """Draw the finding, at its grade's size, where the attribute says; lesions are flattened by the layers."""
    (x, y), phase = near(rng, _PLACE[truth.attribute]), rng.uniform(0, 6.28)
    radius = 1.1 * LESION_RADIUS[truth.grade]
    flat = 0.7
    if truth.finding == "cyst":
        canvas.ellipse((x, y), (radius, radius * flat), 0.95)
        canvas.ellipse((x, y), (radius - 0.045, radius * flat - 0.035), 0.0)
    elif truth.finding == "edema":
        canvas.ellipse((x, y), (radius * 1.2, radius * flat * 1.2), 0.6, soft=0.08)
        holes = spread(rng, round(4 * (radius / 0.12) ** 1.3), (0, 0), radius)
        canvas.dots(holes * [1, flat] + [x, y], 0.042, 0.0)
    elif truth.finding == "exudate":
        canvas.ellipse((x, y), (radius * 1.1, radius * flat * 1.1), 0.1, soft=0.1, opacity=0.8)
        specks = spread(rng, round(4 * (radius / 0.12) ** 1.3), (0, 0), radius)
        canvas.dots(specks * [1, flat] + [x, y], 0.04, 1.4)
    else:
        shadow = np.clip((radius * 0.9 - np.abs(canvas.x - x)) * 20, 0, 1) * np.clip((canvas.y - y) * 20, 0, 1)
        canvas.lay(shadow.astype(np.float32), 0.02, 0.85)
        canvas.blob((x, y), radius, 1.2, lobes=6, depth=0.12, phase=phase, squash=flat, soft=0.04)
