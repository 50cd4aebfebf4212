"""Pictures of a data set, each file once and decoded only when somebody looks at the pixels.

An image whose features are known need not be decoded: a digest of its file says which one it is. Pillow decodes at the
first look; only the few files that may have to be turned or converted are decoded at once, by ``datasets``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

# In the ``info`` of a picture: a digest of the file that it was opened from.
FILE_DIGEST = "medr1kit file digest"
# Metadata that may say how to turn an image; they stand anywhere in a file.
_MAY_TURN = (b"Exif", b"eXIf", b"tiff:Orientation")


class Pictures:
    """The pictures of a data set by row.

    Args:
        dataset: rows with a column ``image``.
    """

    def __init__(self, dataset: Dataset):
        from datasets import Image

        self.dataset, self.feature = dataset.select_columns(["image"]), dataset.features["image"]
        plain = type(self.feature) is Image and dataset.format["type"] is None
        self.stored = self.dataset.cast_column("image", Image(decode=False)) if plain else None

    def __call__(self, rows: Sequence[int | None]) -> list[Any]:
        """Return a PIL image for each row, None a grey one; rows that hold the same file share one object."""
        from PIL import Image

        known = [row for row in dict.fromkeys(rows) if row is not None]
        found: dict[int | None, Any] = {}
        if None in rows:
            found[None] = Image.new("RGB", self.dataset[0]["image"].size, (127, 127, 127))
        if self.stored is None:
            found |= {row: self.dataset[row]["image"] for row in known}
        elif known:
            files = [(file["path"], file["bytes"]) for file in self.stored[known]["image"]]
            opened = {file: self._open(*file) for file in dict.fromkeys(files)}
            found |= {row: opened[file] for row, file in zip(known, files)}
        return [found[row] for row in rows]

    def _open(self, path: str | None, content: bytes | None) -> Any:
        from PIL import Image

        file = {"path": path, "bytes": content}
        if content is None and os.path.isfile(path):
            content = Path(path).read_bytes()
        if content is None or self.feature.mode is not None or any(tag in content for tag in _MAY_TURN):
            return self.feature.decode_example(file)
        picture = Image.open(BytesIO(content))
        picture.info[FILE_DIGEST] = hashlib.blake2b(content, digest_size=16).hexdigest()
        return picture
