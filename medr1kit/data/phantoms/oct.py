"""Optical coherence tomography: a cross-section of the retina, bright and dark layers under the black vitreous.

A standard scan is brightest at the inner retina and fades in the choroid; enhanced-depth imaging focuses deeper: the
choroid glows down to the lower edge, the inner retina is dim. The attribute is where the lesion lies: towards the nose
(the picture's right, a right eye), towards the temple (left), in the inner layers (above) or the outer ones (below). A
cyst is one black oval with a bright wall, edema a sponge of small dark holes, an exudate a cluster of white specks, a
hemorrhage a solid white patch that shades what lies below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, pixel_noise, sites, speckle, spread

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("standard", "enhanced depth")
ANATOMIES = ("fovea", "macula", "disc", "choroid")
FINDINGS = ("cyst", "edema", "exudate", "hemorrhage")
ATTRIBUTES = ("nasal", "temporal", "inner", "outer")

_PLACE = {"nasal": (0.38, 0.04), "temporal": (-0.38, 0.04), "inner": (0.0, -0.28), "outer": (0.0, 0.49)}
_FLAT = 0.75  # the layers flatten a lesion
# Brightness from the inner limiting membrane (0) to the pigment epithelium (1): nerve fibres bright, nuclei dark, ...
_DEPTH = (-0.02, 0.0, 0.12, 0.15, 0.34, 0.37, 0.48, 0.52, 0.78, 0.81, 0.85, 0.88, 0.93, 0.95, 1.06, 1.09)
_LIGHT = {
    "standard": (0.08, 0.85, 0.80, 0.42, 0.40, 0.22, 0.22, 0.48, 0.18, 0.18, 0.62, 0.25, 0.25, 0.9, 0.9, 0.36),
    "enhanced depth": (0.0, 0.45, 0.42, 0.24, 0.22, 0.13, 0.13, 0.30, 0.13, 0.13, 0.45, 0.20, 0.20, 0.95, 0.95, 0.56),
}
_CHOROID = {"standard": 0.36, "enhanced depth": 0.54}


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one OCT B-scan; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, 0.0, rng)
    gain = rng.uniform(0.94, 1.06)
    grain = 0.6 + 0.4 * speckle(rng, size, (90, 60))
    inner, outer, end = _surfaces(canvas.x, truth.anatomy)
    _layers(canvas, inner, outer, end, truth.view)
    if truth.anatomy == "disc":
        _nerve(canvas, inner, _CHOROID[truth.view])
    elif truth.anatomy == "choroid":
        _choroid(canvas, _CHOROID[truth.view], rng)
    main, *satellites = sites(rng, truth, _PLACE[truth.attribute])
    (_, middle), _ = main
    lesions = [((x, middle + _FLAT * (y - middle)), radius) for (x, y), radius in [main, *satellites]]
    with canvas.lesion(difficulty):
        if truth.finding == "hemorrhage":
            for centre, radius in lesions:
                _shade(canvas, centre, radius)
        for centre, radius in lesions:
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels *= grain
    canvas.pixels += np.abs(pixel_noise(rng, size, 0.02))
    canvas.pixels *= np.float32(gain)
    return canvas


def _surfaces(x: np.ndarray, anatomy: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Heights (1, size) of inner surface and pigment epithelium, and how far below the light reaches."""
    bowl = 0.06 * x**2
    if anatomy == "fovea":  # the pit
        return -0.62 + bowl + 0.36 * np.exp(-((x / 0.3) ** 2)), 0.36 - bowl, 0.75
    if anatomy == "macula":
        return -0.58 - bowl, 0.4 + 0.5 * bowl, 0.75
    if anatomy == "disc":  # the cup
        return -0.62 + 0.45 * np.exp(-((x / 0.3) ** 4)), 0.3 + 0.25 * np.exp(-((x / 0.5) ** 2)), 0.65
    return -0.8 + bowl, -0.1 - bowl, 1.02  # choroid: the retina moved up


def _layers(canvas: Canvas, inner: np.ndarray, outer: np.ndarray, end: float, view: str) -> None:
    depth = (canvas.y - inner) / np.maximum(outer - inner, 0.1)
    canvas.pixels = np.interp(depth, _DEPTH, _LIGHT[view]).astype(np.float32)
    reach = end if view == "standard" else 2.2 * end
    canvas.pixels *= 1 - np.clip((canvas.y - outer - 0.08) / np.float32(reach), 0, 1)


def _nerve(canvas: Canvas, inner: np.ndarray, light: float) -> None:
    """Where the nerve leaves, the layers stop and grey tissue fills the canal."""
    canal = np.clip((0.34 - np.abs(canvas.x)) * 12, 0, 1) * np.clip((canvas.y - inner) * 12, 0, 1)
    canvas.lay(canal, light)


def _choroid(canvas: Canvas, light: float, rng: np.random.Generator) -> None:
    """A thick choroid full of dark vessels, bounded by the bright sclera."""
    canvas.lay(np.clip((canvas.y + 0.02) * 10, 0, 1) * np.clip((0.72 - canvas.y) * 10, 0, 1) + 0 * canvas.x, light, 0.8)
    columns, rows = np.meshgrid(np.linspace(-0.95, 0.95, 7), (0.16, 0.36, 0.57))
    points = np.stack([(columns + np.array([[0.0], [0.14], [0.05]])).ravel(), rows.ravel()], axis=1)
    points += rng.uniform(-0.04, 0.04, points.shape)
    for some, radius in ((points[:7], 0.06), (points[7::2], 0.08), (points[8::2], 0.1)):
        canvas.dots(some, radius, 0.14)
    canvas.line([(-1.2, 0.76), (1.2, 0.76)], 0.06, 0.75)


def _shade(canvas: Canvas, centre: Point, radius: float) -> None:
    """Blood swallows the light: darken everything below, the lesion's shadow and not the lesion."""
    (x, y), narrow = centre, 0.9 * radius
    across, down = narrow - np.abs(canvas.x - np.float32(x)), canvas.y - np.float32(y)
    canvas.pixels *= 1 - np.float32(0.85) * np.clip(across * 20, 0, 1) * np.clip(down * 20, 0, 1)


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    phase, radii = rng.uniform(0, 6.28), (radius, radius * _FLAT)
    if finding == "cyst":
        wall = 0.022 + 0.08 * radius
        canvas.ellipse(centre, radii, 1.2)
        canvas.ellipse(centre, (radii[0] - wall, radii[1] - 0.9 * wall), 0.0)
    elif finding == "edema":
        canvas.ellipse(centre, radii, 0.75, soft=0.04)
        holes = spread(rng, round(4 * (radius / 0.12) ** 1.3), (0, 0), 0.8 * radius)
        canvas.dots(holes * [1, _FLAT] + centre, 0.025 + 0.06 * radius, 0.0)
    elif finding == "exudate":
        canvas.ellipse(centre, (radii[0] * 1.1, radii[1] * 1.1), 0.1, soft=0.1, opacity=0.8)
        specks = spread(rng, max(3, round(280 * radius**2)), (0, 0), radius - 0.02)
        canvas.dots(specks * [1, _FLAT] + centre, 0.029 + 0.02 * radius, 1.4)
    else:
        canvas.blob(centre, radius * 0.95, 1.2, lobes=6, depth=0.09, phase=phase, squash=_FLAT, soft=0.03)
