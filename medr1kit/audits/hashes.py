"""Image hashes: is this picture in the training set too, under another name, size or file format?

Two fingerprints are taken of each image. *Content* is the SHA-256 of the file: equal if and only if the files are.
*Look* is a perceptual hash (pHash: the signs of the 64 lowest frequencies of the picture at 32 x 32), which hardly
changes when a picture is resized or saved as JPEG; two looks that differ in few of the 64 bits are one picture, or two
that nobody would tell apart. Hashing means decoding, so results are kept on disk, by path, size and time of change.

How many bits may differ was measured on 200 X-ray, MR, ultrasound and microscopy images: within 2 bits stood every copy
resized to half or to 384 x 384, every JPEG of quality 75, 99 % of those of quality 30, and no other image. At 4 bits
different slices of one brain meet; cropping a copy by 2 % a side moves it 4 to 10 bits away, so such copies are missed.
Pictures drawn by one program, such as the phantoms, come within 2 bits without being copies (up to 6 % of a test).

Looking for near twins compares no pair that need not be: if two hashes differ in at most d bits, then at least one of
d + 1 bands of bits is equal, so only hashes that share a band are compared.

Source: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions (2010), section 3.2.1; the hash
itself is that of the imagehash library.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import PIL.Image
from platformdirs import user_cache_path

from medr1kit.data.files import image_folder
from medr1kit.data.images import find_image, in_threads, open_image, read_image
from medr1kit.data.pixels import Unfit
from medr1kit.vqa import DataError

_CACHE_FILE = "image_hashes_2.sqlite"  # the number changes with the hash
_DRAFT = (256, 256)  # a JPEG is decoded at the smallest of its own scales that is at least this large
_TABLE = (
    "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, content TEXT, look TEXT)"
)
_KNOWN = "SELECT content, look FROM hashes WHERE path = ? AND size = ? AND changed = ?"
_CHUNK = 500


class Hashed(NamedTuple):
    """The fingerprints of an image; both None if it cannot be read, ``look`` None if it is a single flat colour."""

    content: str | None
    look: int | None


UNREADABLE = Hashed(None, None)


def hash_image(source: str | os.PathLike | bytes) -> Hashed:
    """Return the fingerprints of an image file, or of its bytes.

    >>> from io import BytesIO
    >>> buffer = BytesIO(); PIL.Image.linear_gradient("L").save(buffer, "PNG")
    >>> hash_image(buffer.getvalue()).look == hash_image(buffer.getvalue()).look != None
    True
    """
    try:
        with open_image(source) as file:
            content = file.read()
        name = None if isinstance(source, bytes) else os.fspath(source)
        picture = read_image(content, name, frame=0, draft=_DRAFT).convert("L").resize((32, 32), PIL.Image.LANCZOS)
    except (DataError, Unfit, OSError):
        return UNREADABLE
    import imagehash

    low, high = picture.getextrema()
    look = None if low == high else int(str(imagehash.phash(picture)), 16)
    return Hashed(sha256(content).hexdigest(), look)


def cache_folder() -> Path:
    """Return the folder in which hashes are kept: MEDR1KIT_CACHE, or medr1kit in the user's cache folder."""
    return Path(os.environ.get("MEDR1KIT_CACHE") or user_cache_path("medr1kit", appauthor=False, opinion=False))


def hash_files(paths: Iterable[str | os.PathLike]) -> dict[str, Hashed]:
    """Hash image files in a pool of threads (decoding lets other threads run), with a progress bar and a cache on disk.

    Args:
        paths: image files; each distinct path is read once, and not at all if path, size and time of change are those
            of an earlier call.

    Returns:
        The fingerprints of each path; those of files that are missing or unreadable are None.
    """
    places = dict.fromkeys(map(os.path.abspath, paths))
    stamps = {}
    for path in places:
        with suppress(OSError):  # a file that is missing has no stamp, and is not read
            status = os.stat(path)
            stamps[path] = (status.st_size, status.st_mtime_ns)
    with closing(_open_cache()) as cache:
        found = _cached(cache, stamps)
        new = [path for path in stamps if path not in found]
        waiting = []
        for hashed, path in zip(_hash_all(new), new):  # in this order zip runs the generator, and its bar, to the end
            found[path] = hashed
            look = None if hashed.look is None else f"{hashed.look:016x}"  # too large for an integer of SQLite
            waiting.append((path, *stamps[path], hashed.content, look))
            if len(waiting) == _CHUNK or path == new[-1]:
                _store(cache, waiting)
                waiting.clear()
    return {path: found.get(path, UNREADABLE) for path in places}


def hash_data(data: Any, images: Sequence[str | None] | None, folder: str | os.PathLike | None) -> list[Hashed] | None:
    """Return the fingerprints of every row's image, each image read once; None if there are no images to read.

    Args:
        data: Dataset, frame or list of rows.
        images: the rows' image paths or image ids, or None.
        folder: where the paths start from; None: the Dataset's own images, if it holds any.

    Raises:
        DataError: if there is no such folder.
    """
    if folder is not None:
        if images is None:
            return None
        folder, places = image_folder(folder), {}
        for name in dict.fromkeys(filter(None, images)):
            with suppress(DataError):
                places[name] = os.path.abspath(find_image(folder, name))
        hashed = hash_files(places.values())
        return [hashed[places[name]] if name in places else UNREADABLE for name in images]
    if not isinstance(getattr(data, "features", {}).get("image"), datasets.Image):
        return None
    names = [row if name is None else name for row, name in enumerate(images or [None] * len(data))]
    first = pd.Series(names, dtype=object).drop_duplicates()  # the row that is read for each
    stored = data.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    hashed = dict(zip(first, _hash_stored(stored.select(first.index.tolist()))))
    return [hashed[name] for name in names]


def _hash_stored(pictures: datasets.Dataset) -> list[Hashed]:
    """Hash a column of images that are not decoded: bytes as they come, files through the cache."""
    found: list[Hashed | str] = []
    for start in range(0, len(pictures), _CHUNK):  # a part at a time, for bytes fill the memory
        part = [picture or {"bytes": None, "path": None} for picture in pictures[start : start + _CHUNK]["image"]]
        hashed = iter([*_hash_all([picture["bytes"] for picture in part if picture["bytes"] is not None])])
        found += [next(hashed) if one["bytes"] is not None else one["path"] or UNREADABLE for one in part]
    paths = [one for one in found if isinstance(one, str)]
    of_file = hash_files(paths) if paths else {}
    return [of_file[os.path.abspath(one)] if isinstance(one, str) else one for one in found]


def _hash_all(sources: Sequence[str | bytes]) -> Iterator[Hashed]:
    return in_threads(hash_image, sources, "hashing images")


def _open_cache() -> sqlite3.Connection:
    """The cache file, or a database in memory where the folder cannot be written."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        cache = sqlite3.connect(cache_folder() / _CACHE_FILE, timeout=60)
        cache.execute(_TABLE)
    except (OSError, sqlite3.Error):
        cache = sqlite3.connect(":memory:")
        cache.execute(_TABLE)
    return cache


def _cached(cache: sqlite3.Connection, stamps: dict[str, tuple[int, int]]) -> dict[str, Hashed]:
    found = {}
    for path, stamp in stamps.items():
        for content, look in cache.execute(_KNOWN, (path, *stamp)):
            found[path] = Hashed(content, None if look is None else int(look, 16))
    return found


def _store(cache: sqlite3.Connection, rows: list[tuple]) -> None:
    """Keep results; where that fails (a full disk, a lock) they are hashed again another time."""
    with suppress(sqlite3.Error), cache:
        cache.executemany("REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", rows)


# --- near twins ------------------------------------------------------------------------------------------------------


def nearest(looks: Sequence[int | None], known: Sequence[int | None], distance: int) -> np.ndarray:
    """Return for each look the place of the known one that differs least, in at most ``distance`` bits; -1: none does.

    >>> nearest([0b1111, 0b1000, None], [0b0011, 0b0111], 1).tolist()
    [1, -1, -1]
    """
    places = {look: place for place, look in reversed([*enumerate(known)]) if look is not None}  # the first of equals
    wanted, there = (np.array(sorted(set(side) - {None}), dtype=np.uint64) for side in (looks, places))
    least, closest = np.full(len(wanted), distance + 1), np.zeros(len(wanted), dtype=int)
    for first, last in pairwise(64 * edge // (distance + 1) for edge in range(distance + 2)):  # the bands
        mask = np.uint64((1 << last) - (1 << first))
        order = np.argsort(there & mask, kind="stable")
        keys = (there & mask)[order]
        starts, ends = (np.searchsorted(keys, wanted & mask, side) for side in ("left", "right"))
        for place in np.flatnonzero((ends > starts) & (least > 0)):
            candidates = order[starts[place] : ends[place]]
            differing = np.bitwise_count(there[candidates] ^ wanted[place])
            if differing.min() < least[place]:
                least[place], closest[place] = differing.min(), candidates[differing.argmin()]
    near = np.flatnonzero(least <= distance)
    found = {int(wanted[place]): places[int(there[closest[place]])] for place in near}
    return np.array([found.get(look, -1) for look in looks], dtype=int)
