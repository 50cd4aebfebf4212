"""The drawing board of the phantoms: soft shapes on a square that spans [-1, 1] in both directions, y downwards.

Everything is given in these units, never in pixels, so a picture looks the same at 56 and at 448 pixels. scikit-image
draws shapes with hard edges, which flicker when an image is small; the shapes here have edges at least one pixel soft.
Each is drawn inside its own bounding box, because a phantom is made of dozens of them and thousands are drawn for one
training run.

>>> canvas = Canvas(56)
>>> canvas.ellipse((0, 0), (0.5, 0.5), 1.0)
>>> bool(canvas.pixels[28, 28] == 1.0), bool(canvas.pixels[0, 0] == 0.0)
(True, True)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from skimage.draw import polygon as polygon_pixels

if TYPE_CHECKING:
    from medr1kit.data.phantoms.truth import Truth

Colour = float | tuple[float, float, float]
Point = tuple[float, float]

# Half the main lesion's width; a factor of two, so that no jitter can make the two sizes meet.
LESION_RADIUS = {"small": 0.14, "large": 0.28}
SATELLITE_RADIUS = 0.1
N_SATELLITES = 3


@lru_cache(maxsize=16)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel centres as x of shape (1, size) and y of shape (size, 1), in [-1, 1], read-only."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    line.setflags(write=False)
    return line[None, :], line[:, None]


@lru_cache(maxsize=64)
def _blend(size: int, cells: int) -> np.ndarray:
    """Weights (size, cells) that spread a coarse row of numbers over the pixels; each row has Euclidean norm 1."""
    centres = np.linspace(-1, 1, cells)
    weights = np.exp(-(((grid(size)[0].T - centres) / (1.5 / cells)) ** 2))
    weights = (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
    weights.setflags(write=False)
    return weights


def smooth_noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> np.ndarray:
    """Return cloudy noise of shape (size, size), mean 0 and standard deviation 1 at every pixel.

    Args:
        rng: where the noise comes from.
        size: pixels along a side.
        cells: how many independent patches along a side, or a pair of them, (down, across).
    """
    down, across = (cells, cells) if isinstance(cells, int) else cells
    coarse = rng.standard_normal((down, across), dtype=np.float32)
    return _blend(size, down) @ coarse @ _blend(size, across).T


def speckle(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> np.ndarray:
    """Return multiplicative speckle of shape (size, size): Rayleigh distributed, as coherent imaging gives, mean 1."""
    real, imaginary = smooth_noise(rng, size, cells), smooth_noise(rng, size, cells)
    return np.sqrt(real**2 + imaginary**2) * np.float32(np.sqrt(2 / np.pi))


def pixel_noise(rng: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    """Return white noise (size, size) of standard deviation `sigma`.

    The only nuisance that takes more random numbers for a larger picture: draw it last, so that the rest of a picture
    does not depend on its size.
    """
    return np.float32(sigma) * rng.standard_normal((size, size), dtype=np.float32)


def spread(rng: np.random.Generator, count: int, centre: Point, radius: float) -> np.ndarray:
    """Return `count` points (count, 2) that fill a disc evenly, as the seeds of a sunflower do, a little shaken."""
    step = np.arange(count) + 0.5
    angle = step * 2.39996 + rng.uniform(0, 2 * np.pi)  # the golden angle
    distance = radius * np.sqrt(step / count) * rng.uniform(0.9, 1.0, count)
    return np.stack([centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle)], axis=1)


def lattice(rng: np.random.Generator, across: int, shake: float = 0.3) -> np.ndarray:
    """Return about across² points (n, 2) that cover the picture: a hexagonal lattice, shaken by part of a cell."""
    step = 2 / across
    rows, columns = np.mgrid[-1 : across + 2, -1 : across + 2].reshape(2, -1)
    points = np.stack([(columns + 0.5 * (rows % 2)) * step - 1, rows * step - 1], axis=1)
    return points + rng.uniform(-shake, shake, points.shape) * step


def solid(cover: np.ndarray) -> np.ndarray:
    """Return where a cover (size, size), 0 to 1, is above a half, or in a small picture above half of its maximum."""
    return cover > min(0.5, cover.max() / 2)


def sites(rng: np.random.Generator, truth: Truth, place: Point) -> list[tuple[Point, float]]:
    """Return centre and radius of every lesion to draw: the main one near `place`, then its satellites around it."""
    dx, dy = rng.uniform(-0.03, 0.03, 2)  # the harmless wobble of a lesion inside its region
    centre, radius = (place[0] + dx, place[1] + dy), LESION_RADIUS[truth.size]
    turn = rng.uniform(0, 2 * np.pi)
    lesions = [(centre, radius)]
    if truth.number == "multiple":
        distance = radius + 1.5 * SATELLITE_RADIUS
        for angle in turn + np.arange(N_SATELLITES) * (2 * np.pi / N_SATELLITES):
            satellite = (centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle))
            lesions.append((satellite, SATELLITE_RADIUS))
    return lesions


class Canvas:
    """A picture being drawn; `pixels` is (size, size) float32 when the ground is a grey, (size, size, 3) if a colour.

    Args:
        size: pixels along a side.
        ground: what the canvas is filled with, a grey or an (r, g, b), values in [0, 1].
        rng: shifts and scales everything drawn by up to 3 % (no patient lies the same way twice); None: does not.
    """

    def __init__(self, size: int, ground: Colour = 0.0, rng: np.random.Generator | None = None):
        self.size = size
        shape = (size, size) if np.ndim(ground) == 0 else (size, size, 3)
        self.pixels = np.empty(shape, np.float32)
        self.pixels[...] = ground
        dx, dy, zoom = rng.uniform(-0.03, 0.03, 3) if rng is not None else (0.0, 0.0, 0.0)
        x, y = grid(size)
        # Coordinates of the drawing, not of the frame: shapes are placed in these.
        self.x, self.y = (x - np.float32(dx)) * np.float32(1 + zoom), (y - np.float32(dy)) * np.float32(1 + zoom)
        self.pixel = 2 / size
        self.mask = np.zeros((size, size), bool)  # where the lesion is
        self._marking: np.ndarray | None = None

    @contextmanager
    def lesion(self, difficulty: float) -> Iterator[None]:
        """Take what is drawn inside the `with` for the lesion: blend it in, and add its solid shapes to `mask`.

        Args:
            difficulty: 0 leaves the lesion as drawn; 1 keeps three tenths of its contrast to what lies below.
        """
        below = self.pixels.copy()
        self._marking = np.zeros((self.size, self.size), np.float32)
        yield
        self.mask |= solid(self._marking)
        self._marking = None
        self.pixels += np.float32(0.7 * difficulty) * (below - self.pixels)

    def _window(self, left: float, top: float, right: float, bottom: float):
        columns = slice(*np.searchsorted(self.x[0], (left, right)))
        rows = slice(*np.searchsorted(self.y[:, 0], (top, bottom)))
        return rows, columns, self.x[:, columns], self.y[rows]

    def _lay(self, rows: slice, columns: slice, mask: np.ndarray, colour: Colour, opacity: float) -> None:
        part = self.pixels[rows, columns]
        if self._marking is not None and opacity == 1:  # halos, drawn half transparent, are not the lesion
            np.maximum(self._marking[rows, columns], mask, out=self._marking[rows, columns])
        if opacity != 1:
            mask = mask * np.float32(opacity)
        if part.ndim == 2:
            part += mask * (np.float32(colour) - part)
        else:  # channel by channel is faster than broadcasting over three
            for channel, value in enumerate(colour):
                part[..., channel] += mask * (np.float32(value) - part[..., channel])

    def lay(self, mask: np.ndarray, colour: Colour, opacity: float = 1.0) -> None:
        """Cover the picture with a colour where `mask` (size, size), in [0, 1], is 1."""
        self._lay(slice(None), slice(None), mask, colour, opacity)

    def ellipse(
        self, centre: Point, radii: Point, colour: Colour, *,
        angle: float = 0.0, soft: float = 0.02, opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """Draw a filled ellipse; `angle` in radians, `soft` the width of its edge."""
        soft, reach = max(soft, self.pixel), max(radii) + max(soft, self.pixel)
        (cx, cy), (rx, ry) = centre, radii
        rows, columns, x, y = self._window(cx - reach, cy - reach, cx + reach, cy + reach)
        x, y = x - np.float32(cx), y - np.float32(cy)
        if angle:
            cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            x, y = x * cos + y * sin, y * cos - x * sin
        rho = np.sqrt((x / np.float32(rx)) ** 2 + (y / np.float32(ry)) ** 2)
        self._lay(rows, columns, np.clip((1 - rho) * np.float32(min(rx, ry) / soft) + 0.5, 0, 1), colour, opacity)

    def disc(self, centre: Point, radius: float, colour: Colour, *, soft: float = 0.02, opacity: float = 1.0) -> None:
        """Draw a filled circle."""
        self.ellipse(centre, (radius, radius), colour, soft=soft, opacity=opacity)

    def ring(
        self, centre: Point, radii: Point, width: float, colour: Colour, *, start: float = -1.0, stop: float = 1.0
    ) -> None:
        """Draw the outline of an ellipse, only where y lies between `start` and `stop`."""
        (cx, cy), (rx, ry) = centre, radii
        rows, columns, x, y = self._window(cx - rx - width, max(cy - ry - width, start), cx + rx + width, stop)
        rho = np.sqrt(((x - np.float32(cx)) / np.float32(rx)) ** 2 + ((y - np.float32(cy)) / np.float32(ry)) ** 2)
        edge = width / 2 - np.abs(rho - 1) * np.float32(min(rx, ry))
        self._lay(rows, columns, np.clip(edge / np.float32(self.pixel) + 0.5, 0, 1), colour, 1.0)

    def blob(
        self, centre: Point, radius: float, colour: Colour, *, lobes: int, depth: float, phase: float = 0.0,
        squash: float = 1.0, soft: float = 0.02, opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """Draw a disc with a wavy border: `lobes` bulges, `depth` (of the radius) high; flat with `squash` < 1."""
        soft, reach = max(soft, self.pixel), radius * (1 + 1.6 * depth) + max(soft, self.pixel)
        cx, cy = centre
        tall = reach * max(squash, 1)
        rows, columns, x, y = self._window(cx - reach, cy - tall, cx + reach, cy + tall)
        x, y = x - np.float32(cx), (y - np.float32(cy)) / np.float32(squash)
        theta = np.arctan2(y, x)
        # Slower and faster waves on top keep the border from looking like a cog wheel.
        wave = 0.7 * np.cos(lobes * theta + phase) + 0.7 * np.cos((lobes - 2) * theta + 2.1 * phase)
        wave += 0.4 * np.cos((2 * lobes - 1) * theta + 3.3 * phase)
        border = np.float32(radius) * (1 + np.float32(depth) * wave)
        mask = np.clip((border - np.sqrt(x**2 + y**2)) / np.float32(soft) + 0.5, 0, 1)
        self._lay(rows, columns, mask, colour, opacity)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line through `points` with round ends, never thinner than a pixel."""
        half = np.float32(max(width, self.pixel) / 2)
        reach = float(half) + self.pixel
        for (ax, ay), (bx, by) in pairwise(points):
            box = min(ax, bx) - reach, min(ay, by) - reach, max(ax, bx) + reach, max(ay, by) + reach
            rows, columns, x, y = self._window(*box)
            dx, dy = np.float32(bx - ax), np.float32(by - ay)
            x, y = x - np.float32(ax), y - np.float32(ay)
            along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, np.float32(1e-6)), 0, 1)
            distance = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
            self._lay(rows, columns, np.clip((half - distance) / np.float32(self.pixel) + 0.5, 0, 1), colour, 1.0)

    def dots(self, points: np.ndarray, radius: float, colour: Colour, *, soft: float = 0.02) -> None:
        """Draw many equal discs at `points` (n, 2) at once.

        The distance to the nearest point is taken from a sum of steep Gaussians, which is one matrix product; discs
        that touch run together a little.
        """
        soft = max(soft, self.pixel)
        rows, columns, x, y = self._window(*(points.min(0) - radius - soft), *(points.max(0) + radius + soft))
        steep = np.float32(np.sqrt(6) / radius)
        px, py = points[:, :1].astype(np.float32), points[:, 1:].astype(np.float32)
        field = np.exp2(-(((y.T - py) * steep) ** 2)).T @ np.exp2(-(((x - px) * steep) ** 2))
        distance = np.sqrt(np.maximum(-np.log2(field + np.float32(1e-30)), 0)) / steep
        mask = np.clip((np.float32(radius) - distance) / np.float32(soft) + np.float32(0.5), 0, 1)
        self._lay(rows, columns, mask, colour, 1.0)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Draw a filled polygon, edges hard."""
        corners = np.asarray(points)
        columns = np.interp(corners[:, 0], self.x[0], np.arange(self.size))
        rows = np.interp(corners[:, 1], self.y[:, 0], np.arange(self.size))
        inside = polygon_pixels(rows, columns, self.pixels.shape[:2])
        self.pixels[inside] = colour
        if self._marking is not None:
            self._marking[inside] = 1

    def to_uint8(self) -> np.ndarray:
        """Return the picture as (size, size, 3) uint8."""
        values = np.clip(self.pixels * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
        return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values
