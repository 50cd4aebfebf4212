"""Pixels: whatever an image file holds becomes 8-bit RGB by rules that are written down here.

Three defaults of Pillow would lose a medical image in silence. ``convert("RGB")`` *clips* 16-bit grey to white; of
16-bit colour and of grey with alpha it keeps the high bytes alone, so that a scan of 12 bits ends at 15 of 255; and it
drops transparency, which leaves a dark drawing on whatever colour lies hidden below, mostly black.
"""

from __future__ import annotations

import base64
import math
import re
import sys
from collections.abc import Callable
from io import BytesIO

import numpy as np
import PIL.Image
import PIL.ImageOps

_OUTERMOST = 0.001  # share of the pixels at each end that may be dead or hot
_MASK = 16  # an image of at most so many values is a mask, whose rarest value may be what matters
_HEAVY = 8_000  # bytes from which on a PNG becomes a JPEG, hardly to be told from it: a report holds hundreds
_ORIENTATION, _PHOTOMETRIC, _BITS = 0x0112, 262, 258  # EXIF and TIFF tags


class Unfit(Exception):
    """An image that is not taken. The message is the rest of a sentence that begins with the image's name."""


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return values of any depth as 8 bits: the lowest becomes 0, the highest 255, all channels by one range.

    Dead and hot pixels do not count: if the outermost 0.1 % of the values at each end (one at least) take up more than
    half of the range, the others make the range, and those are clipped. An image of 16 values or fewer is a mask, and
    keeps its own range. What is not finite becomes 0; so does an image of a single value.

    Args:
        values: of any shape; integers or floats.

    >>> eight_bits(np.array([1000, 1200, 1255])).tolist()
    [0, 200, 255]
    """
    values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = _range(values[finite])
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return np.where(finite, scaled, 0).clip(0, 255).round().astype(np.uint8)


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    few = math.ceil(len(values) * _OUTERMOST)
    if len(values) <= 2 * few:
        return low, high
    ordered = np.partition(values, (few, len(values) - 1 - few))
    inner_low, inner_high = float(ordered[few]), float(ordered[-1 - few])
    if 0 < inner_high - inner_low < (high - low) / 2:
        sample = values[:: max(1, len(values) // 10_000)]
        if len(np.unique(sample)) > _MASK:
            return inner_low, inner_high
    return low, high


def to_rgb(image: PIL.Image.Image, again: Callable[[], PIL.Image.Image] | None = None) -> PIL.Image.Image:
    """Return the image upright and in 8-bit RGB, with nothing of its file's metadata.

    Grey of more than 8 bits, and 16-bit colour, are scaled by :func:`eight_bits`. What is transparent is laid on white,
    as Qwen's own utilities do; an alpha channel of zeros all over is left out. The EXIF rotation is applied. Colour
    profiles are not.

    Args:
        image: as Pillow opens it; a stack or animation at its frame.
        again: opens the image once more; without it 16-bit colour has 8 bits.

    Raises:
        Unfit: if it holds colours of more than 8 bits in a form that is not read.
    """
    values = None if again is None else _colour_of_16_bits(image, again)
    if values is None and image.mode[0] in "IF":
        values = np.asarray(image)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns 8 bits only
            values = -values.astype(np.float64)
    image.load()
    if values is not None:
        picture = _scaled(values, image.info.get("transparency"))
    elif image.has_transparency_data:
        picture = image.convert("RGBA")
    else:
        picture = image.convert("RGB")
    if picture.mode == "RGBA":
        picture = _on_white(picture)
    picture.info = {}
    if (turned := image.getexif().get(_ORIENTATION)) in range(2, 9):
        picture.getexif()[_ORIENTATION] = turned
        PIL.ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _colour_of_16_bits(image: PIL.Image.Image, again: Callable[[], PIL.Image.Image]) -> np.ndarray | None:
    """The values of a PNG or TIFF with several channels of 16 bits, (height, width, channels); None of any other.

    Pillow keeps the first byte of each value. Told that the bytes stand the other way round, it keeps the second.
    """
    raw = {tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args}
    if raw == {"LA;16B"}:  # four bytes a pixel, which are read as they are
        image._mode, image.tile = "RGBA", [tile._replace(args="RGBA") for tile in image.tile]
        return np.asarray(image).view(">u2")
    known = len(raw) == 1 and re.fullmatch(r"(RGB[AX]?;16)([BLN])", str(*raw))
    if known:
        big = known[2] == "B" or (known[2] == "N" and sys.byteorder == "big")
        other = known[1] + ("L" if big else "B")
        high, low = np.asarray(image), again()
        low.tile = [
            tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:])) for tile in low.tile
        ]
        return high.astype(np.uint16) << 8 | np.asarray(low)
    if image.mode[0] not in "IF" and _declared_bits(image) > (8 if image.format == "TIFF" else 12):
        raise Unfit("holds colours of more than 8 bits in a form that is not read here; save it as an RGB PNG")
    return None


def _declared_bits(image: PIL.Image.Image) -> int:
    """Bits of a channel in the file. PPM and JPEG 2000 say what is used, as long as they do not just say 16."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS, (1,)))
    if image.format == "PPM":
        args = image.tile[0].args
        return int(args[1]).bit_length() if isinstance(args, tuple) and isinstance(args[1], int) else 8
    if image.format == "JPEG2000":
        image.fp.seek(0)
        head = image.fp.read(4096)
        return (head[head.find(b"\xff\x4f\xff\x51") + 42] & 0x7F) + 1  # Ssiz of the first component
    return 8


def _scaled(values: np.ndarray, key: int | tuple[int, ...] | None) -> PIL.Image.Image:
    """Values of grey, grey and alpha, RGB or RGBA as an image of 8 bits; ``key``: the value that is transparent."""
    values = values if values.ndim == 3 else values[..., None]
    alpha, colours = None, values
    if values.shape[2] in (2, 4):
        alpha, colours = (values[..., -1] >> 8).astype(np.uint8), values[..., :-1]
    elif key is not None:
        alpha = np.where((values == key).all(axis=2), 0, 255).astype(np.uint8)
    seen = colours if alpha is None or not alpha.any() else np.where(alpha[..., None] > 0, colours, np.nan)
    colours = np.broadcast_to(eight_bits(seen), (*values.shape[:2], 3))
    picture = PIL.Image.fromarray(np.ascontiguousarray(colours))
    if alpha is not None:
        picture.putalpha(PIL.Image.fromarray(alpha))
    return picture


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    alpha = image.getchannel("A")
    if alpha.getextrema() == (0, 0):  # nobody means an invisible picture: the channel was never filled
        return image.convert("RGB")
    white = PIL.Image.new("RGB", image.size, "white")
    white.paste(image.convert("RGB"), mask=alpha)
    return white


def encode(image: PIL.Image.Image, size: int) -> str:
    """Return an image as a data address, at most ``size`` pixels a side: a PNG, or a JPEG where that is heavy."""
    small = image.convert("RGB")
    small.thumbnail((size, size))
    small.info = {}  # a colour profile would be written along, and may hold a name
    red, green, blue = small.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    small = red if grey else small  # most modalities are grey: half the bytes
    packed = _saved(small, "PNG")
    kind, packed = (
        ("png", packed) if len(packed) < _HEAVY else ("jpeg", _saved(small, "JPEG", quality=90, subsampling=0))
    )
    return f"data:image/{kind};base64,{base64.b64encode(packed).decode()}"


def _saved(image: PIL.Image.Image, kind: str, **how: int) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()
