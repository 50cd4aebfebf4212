"""Images that a table holds itself: as bytes, as base64 text, as Pillow's objects, or as `datasets` stores them."""

from __future__ import annotations

import ast
import base64
import binascii
import contextlib
import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from medr1kit.data.cells import missing
from medr1kit.data.images import to_png
from medr1kit.vqa import CLOSED, DataError


def stored_images(rows: Sequence[Any]) -> list[dict | DataError | None] | None:
    """Return the column ``image`` of rows as `datasets` stores it; None if it holds paths or is not there.

    A short text in a column of base64 is the id of the row whose image it shares, as VLMEvalKit writes it.

    Returns:
        For each row bytes and path, None where there is no image, or the error that says what is there instead.
    """
    values = [unwrapped(row.get("image")) if isinstance(row, dict) else None for row in rows]
    if not any(map(holds_image, values)):
        return None
    shared = {str(row.get("id")): i for i, row in enumerate(rows) if isinstance(row, dict)}
    stored: list[dict | DataError | None] = []
    for value in values:
        seen: set[object] = set()
        while isinstance(value, str) and len(value) < 64 and value.strip() in shared and value not in seen:
            seen.add(value)
            value = values[shared[value.strip()]]
        try:
            stored.append(_stored(value))
        except DataError as error:
            stored.append(error)
    return stored


def unwrapped(value: Any) -> Any:
    """Return what a cell of an image column holds: the only image of a list, the path of a dict without bytes."""
    if isinstance(value, str) and re.match(r"\[\s*['\"]", value):  # a list that was saved as text
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    only_path = isinstance(value, dict) and value.get("bytes") is None and isinstance(value.get("path"), str)
    return value["path"] if only_path else value


def holds_image(value: object) -> bool:
    """Return whether a cell is an image and no path: bytes, Pillow's object, base64 that begins as one."""
    starts = ("iVBORw0KG", "/9j/", "R0lGOD", "UklGR", "Qk0", "SUkq", "TU0AK", "data:image/")
    if isinstance(value, str):
        return len(value) >= 64 and value.startswith(starts)
    return (
        isinstance(value, (bytes, bytearray))
        or hasattr(value, "getbands")
        or (isinstance(value, dict) and "bytes" in value)
    )


def _packed(image: Any) -> bytes:
    """An image as the bytes of a file that keeps all its bits: PNG knows neither CMYK nor float."""
    if image.mode not in ("CMYK", "F", "LAB", "YCbCr", "HSV"):
        return to_png(image)
    buffer = BytesIO()
    image.save(buffer, "TIFF")
    return buffer.getvalue()


def _stored(value: Any) -> dict | None:
    if isinstance(value, (list, tuple)):
        raise DataError(f"several images: {len(value)} in one row; {CLOSED}: choose one, or join them")
    if isinstance(value, dict):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value), "path": None}
    if hasattr(value, "getbands"):
        return {"bytes": _packed(value), "path": None}
    if missing(value):
        return None
    if len(str(value)) < 64:
        raise DataError(f"image is missing: it names row {str(value)!r}, which holds none; write the image itself")
    text = "".join(str(value).split())
    try:
        return {"bytes": base64.b64decode(text.partition("base64,")[2] or text, validate=True), "path": None}
    except (binascii.Error, ValueError) as error:
        raise DataError(f"image is no base64 text: {str(value)[:40]!r}; write it anew") from error
