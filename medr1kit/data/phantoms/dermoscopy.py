"""Dermoscopy: skin through a lens.

In contact with the skin the lens darkens the corners and lays its ruler along the bottom; polarised light needs no
contact: the whole field is visible, without a ruler, and the skin's colour is deeper. The site is read off the skin
(follicles on the face, ridges on the palm, hair on the scalp, plain on the trunk); the attribute is the lesion's
colour, and its satellites'. A nevus is a smooth even disc, a melanoma ragged and blotched, a keratosis sharply cut and
strewn with cream-coloured dots, a hemangioma a cluster of separate lagoons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, lattice, pixel_noise, sites, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("contact", "polarised")
ANATOMIES = ("face", "trunk", "palm", "scalp")
FINDINGS = ("nevus", "melanoma", "keratosis", "hemangioma")
ATTRIBUTES = ("brown", "black", "red", "blue")

_SKIN = {
    "face": (0.96, 0.70, 0.60), "trunk": (0.86, 0.68, 0.52), "palm": (0.97, 0.80, 0.74), "scalp": (0.90, 0.76, 0.66),
}  # fmt: skip
_PIGMENT = {
    "brown": (0.50, 0.27, 0.10), "black": (0.09, 0.08, 0.09), "red": (0.80, 0.06, 0.10), "blue": (0.16, 0.28, 0.66),
}  # fmt: skip
_HAIR = (0.16, 0.11, 0.08)
_DEEPER = (1.35 * np.eye(3) - 0.35 / 3).astype(np.float32)  # 35 % more saturated
_PLACE, _SCALE = (0.0, -0.02), 1.35  # the lesion is the only thing in the picture, so it may be larger


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one dermoscopic picture; arguments and result as in `medr1kit.data.phantoms.ct.paint`."""
    canvas = Canvas(size, _SKIN[truth.anatomy], rng)
    gain = rng.uniform(0.95, 1.05)
    noise = 0.018 * smooth_noise(rng, size, 7)
    hairs = rng.uniform(-1, 1, (10 if truth.anatomy == "scalp" else 2, 3))
    _skin(canvas, truth.anatomy, rng)
    if truth.view == "polarised":
        canvas.pixels = canvas.pixels @ _DEEPER
    with canvas.lesion(difficulty):
        for (x, y), radius in sites(rng, truth, _PLACE):
            centre = (_SCALE * x, _SCALE * y)
            _draw_lesion(canvas, truth.finding, np.array(_PIGMENT[truth.attribute]), centre, _SCALE * radius, rng)
    if truth.anatomy in ("scalp", "trunk"):
        _hair(canvas, hairs)
    if truth.view == "contact":
        _frame(canvas)
    canvas.pixels += (noise + pixel_noise(rng, size, 0.01))[..., None]
    canvas.pixels *= np.float32(gain)
    return canvas


def _skin(canvas: Canvas, site: str, rng: np.random.Generator) -> None:
    if site == "face":
        pores = lattice(rng, 9, 0.2)
        canvas.dots(pores, 0.06, (0.80, 0.48, 0.40))
        canvas.dots(pores, 0.03, (0.98, 0.86, 0.74))
    elif site == "palm":
        slope = rng.uniform(0.3, 0.6)
        ridges = np.sin(24 * (canvas.y + slope * canvas.x + 0.06 * np.sin(4 * canvas.x)))
        canvas.lay(np.clip(ridges * 1.5, 0, 1), (0.84, 0.56, 0.50), 0.8)
    elif site == "trunk":
        canvas.lay(np.clip(smooth_noise(rng, canvas.size, 12) * 0.4, 0, 1), (0.78, 0.56, 0.40), 0.5)


def _hair(canvas: Canvas, hairs: np.ndarray) -> None:
    """Slanting hairs, parted in the middle so that they do not hide a small lesion."""
    for side, along, bend in hairs:
        aside = np.sign(side) * (0.3 + 0.65 * abs(side))
        x, y = 0.8 * aside + 0.3 * along, -0.6 * aside + 0.4 * along
        canvas.line([(x - 0.42, y - 0.56), (x + 0.12 * bend, y), (x + 0.42, y + 0.56)], 0.024, _HAIR)


def _frame(canvas: Canvas) -> None:
    """The dark round edge of the contact plate, and its ruler."""
    distance = np.sqrt(canvas.x**2 + canvas.y**2)
    canvas.lay(np.clip((distance - 1.02) * 6, 0, 1), (0.05, 0.04, 0.04))
    for tick in range(9):
        x = -0.4 + 0.1 * tick
        canvas.line([(x, 0.9 - 0.05 * (tick % 4 == 0)), (x, 0.97)], 0.018, (0.1, 0.1, 0.1))


def _draw_lesion(
    canvas: Canvas, finding: str, colour: np.ndarray, centre: Point, radius: float, rng: np.random.Generator
) -> None:
    phase = rng.uniform(0, 6.28)
    if finding == "nevus":
        canvas.disc(centre, radius, tuple(colour), soft=0.05)
    elif finding == "melanoma":
        canvas.blob(centre, radius, tuple(colour * 0.6 + 0.36), lobes=7, depth=0.2, phase=phase)
        for x, y in spread(rng, round(1.5 + 8 * radius), centre, radius * 0.75):
            canvas.blob((x, y), radius * 0.38, tuple(colour * 0.9), lobes=5, depth=0.25, phase=phase + 9 * x)
    elif finding == "keratosis":
        canvas.blob(centre, radius, tuple(colour * 0.55), lobes=14, depth=0.03, phase=phase)
        canvas.blob(centre, radius - 0.03, tuple(colour * 0.9 + 0.08), lobes=14, depth=0.03, phase=phase)
        milia = spread(rng, round(1 + 36 * radius), centre, radius * 0.72)
        canvas.dots(milia, 0.018 + 0.03 * radius, (1.0, 0.95, 0.75))
    else:
        count = round(43 * radius**1.2)
        canvas.disc(centre, radius * 1.05, tuple(colour * 0.3 + 0.62), soft=0.08)
        canvas.dots(spread(rng, count, centre, radius * 0.88), radius * 0.66 / np.sqrt(count), tuple(colour))
