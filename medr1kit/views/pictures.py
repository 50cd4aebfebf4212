"""The image of a row, when it is looked at and not before.

Tables carry ids, never pictures. A picture is fetched by id from the data set that holds it, or, for phantoms, drawn
again from its id. What was fetched is kept as a small encoded thumbnail, as long as all of them together stay below a
few megabytes: forty students on one server hold forty lists of thumbnails, not forty copies of the images.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from medr1kit.views.html import attribute, escape
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from PIL import Image


class Pictures:
    """Images as HTML, looked up by the id of a row.

    Args:
        data: a data set with ``id`` and ``image``; joined on ``id``, or else on ``image_id``. None: phantoms are drawn
            again from their ``image_id``, and of other rows it is said that the image is not given.
        budget: bytes of encoded thumbnails that are kept; the one not used for longest goes first.

    Raises:
        DataError: if ``data`` has no images or no ids.

    >>> Pictures().html({"id": "CT-test-0-0", "image_id": "CT-test-0-0"}, size=56)[:10]
    '<img class'
    >>> Pictures().html({"id": "7", "image_id": "a.png"})
    '<div class="mk-none" data-mk="no-image">image not given</div>'
    """

    def __init__(self, data: Dataset | None = None, budget: int = 8_000_000) -> None:
        if data is not None and (missing := [c for c in ("id", "image") if c not in data.column_names]):
            raise DataError(
                f"data= has no images that can be found: there is no column {missing[0]!r}; load it with images=, or "
                "leave data= out"
            )
        self.data, self.budget = data, budget
        self.kept = 0
        """Bytes that are kept now."""
        self._thumbnails: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._place: dict[str, int] | None = None

    def html(self, row: Mapping, size: int = 224) -> str:
        """Return the image of a row as an ``<img>`` with its data inside, or a box that says why there is none.

        Args:
            row: with ``id`` and ``image_id``.
            size: the longer side on the page, in pixels; the thumbnail is at most that large and never enlarged.
        """
        try:
            source = self._thumbnail(str(row["id"]), str(row["image_id"]), size)
        except DataError as error:
            return f'<div class="mk-none" data-mk="no-image">{escape(error, 300)}</div>'
        return f'<img class="mk-image" data-mk="image" alt="{attribute(row["id"])}" width="{size}" src="{source}">'

    def _thumbnail(self, row_id: str, image_id: str, size: int) -> str:
        key = (row_id, size)
        if key in self._thumbnails:
            self._thumbnails.move_to_end(key)
            return self._thumbnails[key]
        source = encode(self._image(row_id, image_id), size)
        self._thumbnails[key], self.kept = source, self.kept + len(source)
        while self.kept > self.budget and len(self._thumbnails) > 1:
            self.kept -= len(self._thumbnails.popitem(last=False)[1])
        return source

    def _image(self, row_id: str, image_id: str) -> Image.Image:
        if self.data is None:
            return _phantom(image_id)
        if (found := self._find(row_id, image_id)) is None:
            raise DataError("image not in data=")
        try:
            image = self.data[found]["image"]
        except OSError as error:
            raise DataError(f"image unreadable: {error}") from error
        if image is None:
            raise DataError("image not given")
        return image

    def has_any(self, rows: pd.DataFrame) -> bool:
        """Return whether ``data`` holds one of some rows (``id``, ``image_id``) at least; True without ``data``."""
        pairs = zip(rows["id"].astype(str), rows["image_id"].astype(str))
        return self.data is None or any(self._find(*pair) is not None for pair in pairs)

    def _find(self, row_id: str, image_id: str) -> int | None:
        """Where a row stands in the data; its two text columns are read at the first look-up."""
        if self._place is None:
            columns = [column for column in ("image_id", "id") if column in self.data.column_names]
            self._place = {str(name): i for column in columns for i, name in enumerate(self.data[column])}
        return self._place.get(row_id, self._place.get(image_id))


class Gallery(Pictures):
    """Pictures that are kept once each, in ``images``; where one belongs, a page has its number."""

    def __init__(self, data: Dataset | None = None) -> None:
        super().__init__(data)
        self.images: list[str] = []
        self._numbers: dict[str, int] = {}

    def html(self, row: Mapping, size: int = 224) -> str:
        """Return the place of a row's image: ``<span data-image="7">``, to be filled with ``images[7]``."""
        key = str(row["image_id"])
        if key not in self._numbers:
            self._numbers[key] = len(self.images)
            self.images.append(super().html(row, size))
        return f'<span data-image="{self._numbers[key]}"></span>'


def encode(image: Image.Image, size: int) -> str:
    """Return an image as a data address: a PNG whose longer side is at most ``size`` pixels."""
    small, file = image.convert("RGB"), BytesIO()
    small.thumbnail((size, size))
    small.info = {}  # a colour profile would be written along, and may hold a name
    red, green, blue = small.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    (red if grey else small).save(file, "PNG")  # most modalities are grey: half the bytes
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _phantom(image_id: str) -> Image.Image:
    from medr1kit.data.phantoms import redraw

    try:
        return redraw(image_id)
    except (DataError, KeyError) as error:  # no phantom, or one by a scanner that is not there
        raise DataError("image not given") from error
