"""The image of a row, when it is looked at and not before.

Tables carry ids, never pictures. A picture is fetched by id from the data set that holds it, or, for phantoms, drawn
again from its id. What was fetched is kept as a small encoded thumbnail, as long as all of them together stay below a
few megabytes: forty students on one server hold forty lists of thumbnails, not forty copies of the images.

A reader sees a film in its own shape, as it lies in its file, even where the data set squashes it for a model. A click
or Enter enlarges it (``zoom.js``), to at most :data:`LARGEST` pixels a side.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from medr1kit.data.pixels import encode
from medr1kit.given import questions_given
from medr1kit.views.html import attribute, escape
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from PIL import Image


LARGEST = 1024
"""The longer side of an enlarged image, in pixels, at most."""


class Pictures:
    """Images as HTML, looked up by the id of a row.

    Args:
        data: a data set with ``id`` and ``image``; joined on ``id``, or else on ``image_id``. None: phantoms are drawn
            again from their ``image_id``, and of other rows it is said that the image is not given.
        remedy: what to do where an image is not given.
        budget: bytes of encoded thumbnails that are kept; the one not used for longest goes first.

    Raises:
        DataError: if ``data`` is no data set, or has no images or no ids.

    >>> Pictures().html({"id": "CT-test-0-0", "image_id": "CT-test-0-0"})[:10]
    '<img class'
    >>> Pictures().html({"id": "7", "image_id": "a.png"})
    '<div class="mk-none" data-mk="no-image">image not given; pass data=, the questions with their images</div>'
    """

    def __init__(
        self,
        data: Dataset | None = None,
        remedy: str = "pass data=, the questions with their images",
        budget: int = 8_000_000,
    ) -> None:
        if data is not None:
            data = as_filed(questions_given(data, "data", ("id",), images=True))
        self.data, self.budget, self.remedy = data, budget, remedy
        self.kept = 0
        """Bytes that are kept now."""
        self._thumbnails: OrderedDict[tuple[str, int], tuple[str, int]] = OrderedDict()
        self._place: dict[str, int] | None = None

    def html(self, row: Mapping, name: str | None = None) -> str:
        """Return the image of a row as an ``<img>`` that can be enlarged, or a box that says why there is none.

        Args:
            row: with ``id`` and ``image_id``.
            name: what it is called for those who do not see it; its id by default, which may tell the answer.
        """
        return self._html(row, 224, LARGEST, name)

    def thumb(self, row: Mapping, size: int) -> str:
        """Return the image of a row, its longer side so many pixels, not to be enlarged."""
        return self._html(row, size, size)

    def _html(self, row: Mapping, shown: int, pixels: int, name: str | None = None) -> str:
        try:
            source, width = self._thumbnail(str(row["id"]), str(row["image_id"]), shown, pixels)
        except DataError as error:
            return f'<div class="mk-none" data-mk="no-image">{escape(error, 300)}</div>'
        called, stop = attribute(row["id"] if name is None else name), ' tabindex="0"' if pixels > shown else ""
        return f'<img class="mk-image" data-mk="image" alt="{called}" width="{width}"{stop} src="{source}">'

    def _thumbnail(self, row_id: str, image_id: str, shown: int, pixels: int) -> tuple[str, int]:
        """An image as a data address, and its width on the page."""
        key = (row_id, pixels)
        if key in self._thumbnails:
            self._thumbnails.move_to_end(key)
            return self._thumbnails[key]
        image = self._image(row_id, image_id)
        source, width = encode(image, pixels), max(1, round(shown * image.width / max(image.size)))
        self._thumbnails[key], self.kept = (source, width), self.kept + len(source)
        while self.kept > self.budget and len(self._thumbnails) > 1:
            self.kept -= len(self._thumbnails.popitem(last=False)[1][0])
        return source, width

    def _image(self, row_id: str, image_id: str) -> Image.Image:
        if self.data is None:
            return self._phantom(image_id)
        if (found := self._find(row_id, image_id)) is None:
            raise DataError("image not in data=")
        try:
            image = self.data[found]["image"]
        except OSError as error:
            raise DataError(f"image unreadable: {error}") from error
        if image is None:
            raise DataError("image not given")
        return image

    def _phantom(self, image_id: str) -> Image.Image:
        from medr1kit.data.phantoms import redraw

        try:
            return redraw(image_id)
        except (DataError, KeyError) as error:  # no phantom, or one by a scanner that is not there
            raise DataError(f"image not given; {self.remedy}") from error

    def refuse_others(self, rows: pd.DataFrame, what: str) -> None:
        """Raise a DataError if ``data`` holds none of some rows (``id``, ``image_id``), which are called ``what``."""
        if self.data is None:
            return
        pairs = zip(rows["id"].astype(str), rows["image_id"].astype(str))
        if all(self._find(*pair) is None for pair in pairs):
            raise DataError(
                f"no id of the {what} is in data=; the first is {rows['id'].iloc[0]!r}, in data= it is "
                f"{self.data['id'][0]!r}; pass the questions that were asked"
            )

    def _find(self, row_id: str, image_id: str) -> int | None:
        """Where a row stands in the data; its two text columns are read at the first look-up."""
        if self._place is None:
            columns = [column for column in ("image_id", "id") if column in self.data.column_names]
            self._place = {str(name): i for column in columns for i, name in enumerate(self.data[column])}
        return self._place.get(row_id, self._place.get(image_id))


class Gallery(Pictures):
    """Pictures that are kept once each, in ``images``; where one belongs, a page has its number."""

    def __init__(self, data: Dataset | None = None) -> None:
        super().__init__(data, "write the page with data=, or with --dataset_name and --image_folder")
        self.images: list[str] = []
        self._numbers: dict[str, int] = {}

    def html(self, row: Mapping, name: str | None = None) -> str:
        """Return the place of a row's image: ``<span data-image="7">``, to be filled with ``images[7]``."""
        key = str(row["image_id"])
        if key not in self._numbers:
            self._numbers[key] = len(self.images)
            self.images.append(super().html(row, name))
        return f'<span data-image="{self._numbers[key]}"></span>'

    def say_what_is_missing(self) -> None:
        """Warn of images that are not in the page."""
        if missing := sum("no-image" in image for image in self.images):
            warnings.warn(f"{missing:,} of {len(self.images):,} images are not given; {self.remedy}", stacklevel=3)


def as_filed(data: Dataset) -> Dataset:
    """Return a data set whose images have the size and shape of their files, not what a model is shown."""
    kind = data.features["image"]
    if getattr(kind, "size", None) is None and getattr(kind, "max_pixels", None) is None:
        return data
    return data.cast_column("image", replace(kind, size=None, max_pixels=None))
