"""Colour fundus photographs: a round orange retina on black, of a right or a left eye.

The pictures are seen as the examiner sees the eye: in a right eye nasal is the picture's right and temporal its left; a
left eye is the mirror image. The anatomy is what the photograph is centred on, and each shows which eye it is: around
the macula the disc shines at the nasal edge, around the disc the macula darkens the temporal edge, the trunk of the
vessels comes from the nasal side, and in the periphery the ora serrata cuts in from the upper nasal side. A hemorrhage
is a dark red blot, an exudate a cluster of yellow-white specks, a scar a pale patch edged with black pigment, a nevus
a smooth slate-grey disc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, pixel_noise, sites, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("right eye", "left eye")
ANATOMIES = ("macula", "disc", "vessels", "periphery")
FINDINGS = ("hemorrhage", "exudate", "scar", "nevus")
ATTRIBUTES = ("nasal", "temporal", "superior", "inferior")

# Of a right eye, as all that follows.
_PLACE = {"nasal": (0.36, 0.0), "temporal": (-0.36, 0.0), "superior": (0.0, -0.36), "inferior": (0.0, 0.36)}
_ARCADE = ((0.86, 0.05), (0.74, 0.33), (0.52, 0.56), (0.25, 0.69), (-0.05, 0.73), (-0.35, 0.7), (-0.65, 0.6))
_VEIN, _ARTERY = (0.42, 0.07, 0.06), (0.66, 0.16, 0.10)


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one fundus photograph; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, (0.80, 0.38, 0.14), rng)
    gain = rng.uniform(0.94, 1.06)
    noise = 0.02 * smooth_noise(rng, size, 9)
    canvas.disc((0.0, 0.0), 0.85, (0.92, 0.48, 0.20), soft=0.9)
    {"macula": _macula, "disc": _disc, "vessels": _vessels, "periphery": _periphery}[truth.anatomy](canvas)
    x, y = _PLACE[truth.attribute]
    if truth.view == "left eye":
        canvas.pixels, x = np.ascontiguousarray(canvas.pixels[:, ::-1]), -x
    with canvas.lesion(difficulty):
        for centre, radius in sites(rng, truth, (x, y)):
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels += (noise + pixel_noise(rng, size, 0.01))[..., None]
    distance = np.sqrt(canvas.x**2 + canvas.y**2)
    canvas.lay(np.clip((distance - 0.95) / np.float32(2 * canvas.pixel), 0, 1), (0.01, 0.01, 0.01))
    canvas.pixels *= np.float32(gain)
    return canvas


def _optic_disc(canvas: Canvas, x: float) -> None:
    canvas.ellipse((x, 0), (0.25, 0.28), (1.0, 0.84, 0.45), soft=0.06)
    canvas.disc((x - 0.02, 0), 0.12, (1.0, 0.96, 0.75), soft=0.05)


def _macula(canvas: Canvas) -> None:
    """The dark yellow spot in the middle, arched over by the vessels that come from the disc at the nasal edge."""
    canvas.disc((0, 0), 0.26, (0.50, 0.19, 0.06), soft=0.3)
    canvas.disc((0, 0), 0.05, (0.28, 0.08, 0.03), soft=0.05)
    _optic_disc(canvas, 0.88)
    for side in (-1, 1):
        canvas.line([(x, side * y) for x, y in _ARCADE], 0.05, _VEIN)
        canvas.line([(0.84, 0.03 * side), (0.66, 0.26 * side), (0.42, 0.46 * side), (0.1, 0.58 * side)], 0.03, _ARTERY)


def _disc(canvas: Canvas) -> None:
    """The bright optic disc in the middle; vessels arch from it around the dark macula at the temporal edge."""
    canvas.disc((-0.84, 0), 0.19, (0.42, 0.15, 0.05), soft=0.2)
    _optic_disc(canvas, 0.0)
    for side in (-1, 1):
        canvas.line([(0, 0), (0.08, 0.32 * side), (-0.25, 0.6 * side), (-0.75, 0.66 * side)], 0.06, _VEIN)
        canvas.line([(0, 0), (0.1, 0.35 * side), (0.45, 0.62 * side), (0.7, 0.7 * side)], 0.055, _VEIN)
        canvas.line([(0, 0), (-0.04, 0.4 * side), (-0.1, 0.95 * side)], 0.035, _ARTERY)
        canvas.line([(0.02, 0), (0.4, 0.2 * side), (0.95, 0.25 * side)], 0.035, _ARTERY)


def _vessels(canvas: Canvas) -> None:
    """One thick trunk that comes from the nasal side, forking again and again."""
    canvas.line([(1, 0.1), (0.45, 0.05), (0.1, 0.0)], 0.11, _VEIN)
    for side in (-1, 1):
        canvas.line([(0.1, 0.0), (-0.3, 0.3 * side), (-0.9, 0.42 * side)], 0.08, _VEIN)
        canvas.line([(-0.3, 0.3 * side), (-0.5, 0.65 * side), (-0.6, 0.9 * side)], 0.05, _VEIN)
        canvas.line([(0.45, 0.05), (0.3, 0.5 * side), (0.05, 0.95 * side)], 0.06, _ARTERY)
        canvas.line([(1, 0.4 * side), (0.7, 0.55 * side), (0.5, 0.95 * side)], 0.05, _ARTERY)


def _periphery(canvas: Canvas) -> None:
    """No disc, no large vessels: the choroid's streaks shine through, and the scalloped dark ora serrata cuts in."""
    streaks = np.sin(11 * (canvas.x * 0.6 + canvas.y) + 2.0 * np.sin(3.5 * canvas.x) + 1.5 * np.cos(4 * canvas.y))
    canvas.lay(np.clip(streaks * 1.4, 0, 1), (0.98, 0.66, 0.36), 0.75)
    edge = canvas.x * 0.7 - canvas.y * 0.72 - 0.7 + 0.05 * np.cos(14 * (canvas.x + canvas.y))
    canvas.lay(np.clip(edge * 20, 0, 1), (0.20, 0.09, 0.06))


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 6.28)
    if finding == "hemorrhage":
        canvas.blob(centre, radius * 0.95, (0.36, 0.0, 0.02), lobes=7, depth=0.11, phase=phase, soft=0.03)
    elif finding == "exudate":
        canvas.disc(centre, radius * 1.1, (0.72, 0.34, 0.12), soft=0.1, opacity=0.8)
        specks = spread(rng, max(3, round(280 * radius**2)), centre, radius - 0.025)
        canvas.dots(specks, 0.032 + 0.02 * radius, (1.0, 1.0, 0.55))
    elif finding == "scar":
        canvas.blob(centre, radius, (0.97, 0.93, 0.88), lobes=6, depth=0.12, phase=phase)
        rim = np.linspace(0, 2 * np.pi, round(5 + 16 * radius), endpoint=False) + phase
        points = np.stack([centre[0] + 0.95 * radius * np.cos(rim), centre[1] + 0.95 * radius * np.sin(rim)], axis=1)
        canvas.dots(points, 0.018 + 0.07 * radius, (0.06, 0.04, 0.04))
    else:
        canvas.disc(centre, radius, (0.30, 0.36, 0.34), soft=0.06)
