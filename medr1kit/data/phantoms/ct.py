"""Computed tomography: axial slices, bone white, air black, the table's curve below the patient.

A patient lies supine, spine down and nose up, or prone: the body is upside down, the table is not. Left, right, upper
and lower are the sides of the picture, whichever way the patient lies. A cyst is a black disc with a thin wall, a
calcification a cluster of white specks, a hemorrhage a bright patch with ragged edges, a mass a grey lobulated lump
with a bright rim; satellites are small lesions of the same kind around the main one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.data.phantoms.canvas import Canvas, Point, pixel_noise, sites, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

VIEWS = ("supine", "prone")
ANATOMIES = ("liver", "lung", "kidney", "brain")
FINDINGS = ("cyst", "calcification", "hemorrhage", "mass")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.32, 0.0), "right": (0.32, 0.0), "upper": (0.0, -0.3), "lower": (0.0, 0.3)}
AIR, FAT, TISSUE, BONE = 0.02, 0.27, 0.45, 0.97


def paint(truth: Truth, rng: np.random.Generator, size: int, difficulty: float) -> Canvas:
    """Draw one CT slice.

    Args:
        truth: what the picture shows.
        rng: nuisance only: pose, noise, brightness, a small wobble of the lesion.
        size: pixels along a side, 28 to 448.
        difficulty: how faint the lesion is, 0 to 1.

    Returns:
        The canvas, with the lesion's mask; the same arguments and seed give the same pixels.
    """
    canvas = Canvas(size, AIR, rng)
    gain = rng.uniform(0.95, 1.05)
    noise = 0.012 * smooth_noise(rng, size, 28)
    {"liver": _liver, "lung": _lung, "kidney": _kidney, "brain": _brain}[truth.anatomy](canvas)
    if truth.view == "prone":
        canvas.pixels = np.ascontiguousarray(canvas.pixels[::-1])
    canvas.ring((0, -0.2), (1.5, 1.12), 0.05, 0.6, start=0.7)  # the table stays below
    with canvas.lesion(difficulty):
        for centre, radius in sites(rng, truth, _PLACE[truth.attribute]):
            _draw_lesion(canvas, truth.finding, centre, radius, rng)
    canvas.pixels += noise + pixel_noise(rng, size, 0.015)
    canvas.pixels *= np.float32(gain)
    return canvas


def _trunk(canvas: Canvas) -> None:
    """Skin, fat, muscle and a vertebra: what the three body slices share."""
    canvas.ellipse((0, 0), (0.95, 0.78), FAT)
    canvas.ellipse((0, 0), (0.87, 0.70), TISSUE)
    canvas.disc((0, 0.52), 0.13, BONE)
    canvas.disc((0, 0.52), 0.07, 0.7)
    canvas.line([(0, 0.6), (0, 0.72)], 0.07, BONE)


def _liver(canvas: Canvas) -> None:
    _trunk(canvas)
    canvas.ellipse((-0.36, -0.02), (0.47, 0.58), 0.63, angle=0.15)
    canvas.ellipse((0.05, -0.32), (0.4, 0.25), 0.63, angle=0.2)
    canvas.ellipse((0.45, -0.12), (0.27, 0.32), 0.33)
    canvas.ellipse((0.45, -0.27), (0.2, 0.14), AIR)
    canvas.ellipse((0.62, 0.3), (0.14, 0.25), 0.66, angle=0.5)


def _lung(canvas: Canvas) -> None:
    _trunk(canvas)
    for side in (-1, 1):
        canvas.ellipse((0.45 * side, -0.02), (0.35, 0.57), 0.1)
        for spot in ((0.3, -0.2), (0.52, 0.12), (0.38, 0.32), (0.6, -0.22)):
            canvas.disc((spot[0] * side, spot[1]), 0.025, 0.42)
    canvas.ellipse((0.1, -0.12), (0.27, 0.33), 0.6, angle=0.5)
    canvas.line([(-0.06, -0.66), (0.06, -0.66)], 0.07, BONE)


def _kidney(canvas: Canvas) -> None:
    _trunk(canvas)
    for side in (-1, 1):
        canvas.ellipse((0.47 * side, 0.22), (0.25, 0.33), FAT)
        canvas.ellipse((0.49 * side, 0.22), (0.19, 0.29), 0.78, angle=0.25 * side)
        canvas.ellipse((0.38 * side, 0.22), (0.1, 0.1), 0.35)
        canvas.ellipse((0.2 * side, 0.48), (0.08, 0.13), 0.55)
    for x, y in ((-0.55, -0.35), (-0.25, -0.45), (0.08, -0.3), (0.3, -0.47), (0.58, -0.32)):
        canvas.disc((x, y), 0.14, 0.36)
        canvas.disc((x, y - 0.03), 0.065, AIR)


def _brain(canvas: Canvas) -> None:
    canvas.line([(-0.08, -0.82), (0, -0.9), (0.08, -0.82)], 0.14, 0.5)  # the nose
    canvas.ellipse((0, 0.03), (0.85, 0.87), 0.4)
    canvas.ellipse((0, 0.03), (0.82, 0.84), BONE)
    canvas.ellipse((0, 0.04), (0.74, 0.75), 0.44)
    canvas.line([(0, -0.7), (0, 0.78)], 0.025, 0.62)
    canvas.line([(0, 0.74), (0, 0.8)], 0.12, BONE)  # the occipital crest
    for side in (-1, 1):
        canvas.ellipse((0.11 * side, -0.16), (0.06, 0.2), 0.12, angle=-0.3 * side)
        canvas.ellipse((0.15 * side, 0.22), (0.06, 0.2), 0.12, angle=0.35 * side)


def _draw_lesion(canvas: Canvas, finding: str, centre: Point, radius: float, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 6.28)
    if finding == "cyst":
        canvas.disc(centre, radius, 0.75)
        canvas.disc(centre, radius - 0.035, 0.0)
    elif finding == "calcification":
        canvas.disc(centre, radius * 1.1, 0.3, soft=0.1, opacity=0.7)
        canvas.dots(spread(rng, max(3, round(280 * radius**2)), centre, radius - 0.025), 0.03 + 0.02 * radius, 1.0)
    elif finding == "hemorrhage":
        canvas.blob(centre, radius * 1.15, 0.2, lobes=6, depth=0.1, phase=phase, soft=0.1, opacity=0.7)
        canvas.blob(centre, radius * 0.95, 0.9, lobes=6, depth=0.11, phase=phase, soft=0.03)
    else:
        canvas.blob(centre, radius, 0.78, lobes=5, depth=0.08, phase=phase)
        canvas.blob(centre, radius - 0.02 - 0.1 * radius, 0.3, lobes=5, depth=0.08, phase=phase)
        canvas.dots(spread(rng, round(40 * radius), centre, radius * 0.6), 0.022 + 0.03 * radius, 0.5)
