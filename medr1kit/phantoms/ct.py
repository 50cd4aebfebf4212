"""Computed tomography: axial slices, bone white, air black, the table's curve below the patient.

Left and right are the sides of the picture. A cyst is a black disc with a thin wall, a calcification a cluster of white
specks, a hemorrhage a bright patch with ragged edges, a mass a grey lobulated lump with a bright rim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medr1kit.phantoms.canvas import LESION_RADIUS, Canvas, near, pixel_noise, smooth_noise, spread

if TYPE_CHECKING:
    from medr1kit.phantoms.truth import Truth

ANATOMIES = ("liver", "lung", "kidney", "brain")
FINDINGS = ("cyst", "calcification", "hemorrhage", "mass")
ATTRIBUTES = ("left", "right", "upper", "lower")

_PLACE = {"left": (-0.36, 0.0), "right": (0.36, 0.0), "upper": (0.0, -0.34), "lower": (0.0, 0.34)}
AIR, FAT, TISSUE, BONE = 0.02, 0.27, 0.45, 0.97


def paint(truth: Truth, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one CT slice.

    Args:
        truth: what the picture shows.
        rng: nuisance only: pose, noise, brightness, a small wobble of the lesion.
        size: pixels along a side, 56 to 448.

    Returns:
        (size, size, 3) uint8; the same truth and seed give the same pixels.
    """
    canvas = Canvas(size, AIR, rng)
    gain = rng.uniform(0.95, 1.05)
    noise = 0.012 * smooth_noise(rng, size, 28)
    canvas.ring((0, -0.2), (1.5, 1.12), 0.05, 0.6, start=0.7)
    {"liver": _liver, "lung": _lung, "kidney": _kidney, "brain": _brain}[truth.anatomy](canvas)
    draw_lesion(canvas, truth, rng)
    canvas.pixels += noise + pixel_noise(rng, size, 0.015)
    return canvas.to_uint8(gain)


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
    canvas.ellipse((0, 0), (0.82, 0.93), 0.4)
    canvas.ellipse((0, 0), (0.78, 0.89), BONE)
    canvas.ellipse((0, 0), (0.68, 0.79), 0.44)
    canvas.line([(0, -0.76), (0, 0.76)], 0.025, 0.62)
    for side in (-1, 1):
        canvas.ellipse((0.11 * side, -0.16), (0.06, 0.2), 0.12, angle=-0.3 * side)
        canvas.ellipse((0.15 * side, 0.22), (0.06, 0.2), 0.12, angle=0.35 * side)


def draw_lesion(canvas: Canvas, truth: Truth, rng: np.random.Generator) -> None:
    """Draw the finding, at its grade's size, where the attribute says."""
    centre, phase = near(rng, _PLACE[truth.attribute]), rng.uniform(0, 6.28)
    radius = LESION_RADIUS[truth.grade]
    if truth.finding == "cyst":
        canvas.disc(centre, radius, 0.75)
        canvas.disc(centre, radius - 0.035, 0.0)
    elif truth.finding == "calcification":
        count = round(5 * (radius / 0.11) ** 1.5)
        canvas.disc(centre, radius * 1.1, 0.3, soft=0.1, opacity=0.7)
        canvas.dots(spread(rng, count, centre, radius), 0.036, 1.0)
    elif truth.finding == "hemorrhage":
        canvas.blob(centre, radius * 1.2, 0.2, lobes=6, depth=0.14, phase=phase, soft=0.1, opacity=0.7)
        canvas.blob(centre, radius, 0.9, lobes=6, depth=0.16, phase=phase, soft=0.04)
    else:
        canvas.blob(centre, radius * 1.05, 0.78, lobes=5, depth=0.08, phase=phase)
        canvas.blob(centre, radius * 1.05 - 0.05, 0.3, lobes=5, depth=0.08, phase=phase)
        canvas.dots(spread(rng, round(40 * radius), centre, radius * 0.65), 0.03, 0.5)
