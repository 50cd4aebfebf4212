"""What comes between the patient and the pixels: the scanner, and the marker it burns in.

Models learn the machine along with the disease. Scanner B sees a narrower field, blurs it, flattens the contrast and
adds noise; a model trained on A and tested on B shows what that costs. Every picture carries a small bright marker at
its edge. Normally its place means nothing; with a ``shortcut`` it tells the class of the right answer, as a hospital's
tag on every positive film once did.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from medr1kit.data.phantoms.canvas import grid, pixel_noise, solid


@dataclass(frozen=True)
class Scanner:
    """How a machine renders what is there.

    Attributes:
        field_of_view: the part of scanner A's field that it sees along a side, above 0 to 1; 0.5 shows everything at
            twice the size.
        blur: standard deviation of its point spread, in half picture widths (0.02 is about one pixel of 112).
        contrast: factor on the distance from mid-grey, 0 to 1.
        noise: standard deviation of white noise, of a range of 1.
    """

    field_of_view: float = 1.0
    blur: float = 0.0
    contrast: float = 1.0
    noise: float = 0.0


SCANNERS = {"A": Scanner(), "B": Scanner(field_of_view=0.88, blur=0.02, contrast=0.7, noise=0.06)}


def scan(pixels: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Return a picture as another scanner would have taken it.

    Args:
        pixels: (size, size) or (size, size, 3), range 0 to 1.
        scanner: the machine; the plain ``Scanner()`` returns the picture as it is.
        rng: for its noise.
    """
    if scanner == Scanner():
        return pixels
    size = len(pixels)
    weights = _resample(size, scanner.field_of_view, scanner.blur)
    seen = np.tensordot(weights, pixels, axes=(1, 0))  # rows
    seen = np.moveaxis(np.tensordot(weights, seen, axes=(1, 1)), 0, 1)  # columns
    seen = np.float32(0.5) + np.float32(scanner.contrast) * (seen - np.float32(0.5))
    noise = pixel_noise(rng, size, scanner.noise)
    return seen + (noise if seen.ndim == 2 else noise[..., None])


def undo_scanner(picture: Image.Image, scanner: str = "B") -> Image.Image:
    """Return a picture with the contrast and magnification of scanner A: arithmetic, no learning.

    It needs to know the machine. Blur and noise stay; where the narrower field saw nothing the edge is repeated.

    Args:
        picture: taken by ``scanner``, square, RGB.
        scanner: a name in :data:`SCANNERS`.

    >>> undo_scanner(Image.new("RGB", (56, 56), (217, 128, 38))).getpixel((28, 28))
    (255, 128, 0)
    """
    machine, side = SCANNERS[scanner], picture.width
    plain = 0.5 + (np.asarray(picture, np.float32) / 255 - 0.5) / machine.contrast
    inner = round(side * machine.field_of_view)
    small = Image.fromarray((255 * plain.clip(0, 1)).round().astype(np.uint8))
    small = np.asarray(small.resize((inner, inner), Image.Resampling.BILINEAR))
    before = (side - inner) // 2
    after = side - inner - before
    return Image.fromarray(np.pad(small, ((before, after), (before, after), (0, 0)), mode="edge"))


def scan_mask(mask: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Return a lesion mask (size, size), bool, at the place where the scanner shows it."""
    weights = _resample(len(mask), scanner.field_of_view, 0.0)
    return solid(weights @ mask.astype(np.float32) @ weights.T)


@lru_cache(maxsize=16)
def _resample(size: int, field_of_view: float, blur: float) -> np.ndarray:
    """Weights (size, size) that magnify and blur a row of pixels."""
    line = grid(size)[0][0]
    centres = line * field_of_view
    width = np.hypot(blur, 0.5 / size)  # half a pixel's spread at least, so that every row has weight
    weights = np.exp(-0.5 * ((centres[:, None] - line) / width) ** 2)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    weights.setflags(write=False)
    return weights


# Where the marker can be, in the picture's [-1, 1]: the corners and, inwards of them, four more at the upper and lower
# edge. The middles of the edges would touch the satellites of a lesion that lies far out.
MARKER_PLACES = (
    (-0.92, -0.92), (0.92, -0.92), (-0.92, 0.92), (0.92, 0.92), (-0.6, -0.92), (0.6, -0.92), (-0.6, 0.92), (0.6, 0.92),
)  # fmt: skip


def burn_marker(picture: np.ndarray, place: int) -> None:
    """Burn the marker into a finished picture: a white square in a black frame, 7 % of a side wide.

    Args:
        picture: (size, size, 3) uint8, changed in place.
        place: index into :data:`MARKER_PLACES`.
    """
    size = len(picture)
    x, y = ((1 + coordinate) * size / 2 for coordinate in MARKER_PLACES[place])
    for half, colour in ((0.035 * size, 0), (0.025 * size, 255)):
        picture[round(y - half) : round(y + half), round(x - half) : round(x + half)] = colour
