"""Images: found safely, checked before training starts, and decoded one way everywhere.

A vision-language model sees 8-bit RGB. Medical archives hold more than that: 16-bit radiographs, CMYK scans,
photographs that a camera rotated only in their EXIF header, files that a broken download cut short. Two things go wrong
in silence if one leaves this to the defaults: Pillow's ``convert("RGB")`` *clips* a 16-bit image to white, and a
truncated file fails hours later, in the middle of an epoch.

So an image is checked when a data set is loaded (:func:`check_images`), and decoded when a row is read
(:class:`MedicalImage`): upright, RGB, 384 x 384 as Med-R1 states, or shrunk to a number of pixels. The data set itself
holds only the file's path or its bytes, so choosing, splitting and mapping rows costs nothing.
"""

from __future__ import annotations

import math
import os
import stat
import unicodedata
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import datasets
import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets.features.features import register_feature

from medr1kit.progress import progress
from medr1kit.vqa import DataError

DEFAULT_SIZE = 384  # Med-R1 facts, section 1.1: images are stated to be resized to 384 x 384 beforehand
_TYPE_IN_0_1_0 = "medr1kit.images.MedicalImage"  # how data sets name the column that version 0.1.0 saved


def image_path(text: str) -> str:
    """Return the one spelling of an image path, which is the image's id: two spellings of a file are one image.

    Blanks around it, ``./``, doubled slashes and Windows' backslashes go, and accents are composed (Unicode NFC). Nothing
    is refused here, for questions load without images too; :func:`find_image` refuses.

    >>> image_path(".\\\\img\\\\a.png"), image_path("img//./a.png "), image_path("img/../a.png")
    ('img/a.png', 'img/a.png', 'img/../a.png')
    """
    text = unicodedata.normalize("NFC", text.strip())
    if "://" in text:
        return text
    text = text.replace("\\", "/")
    return "/" * text.startswith("/") + "/".join(part for part in text.split("/") if part not in ("", "."))


def find_image(folder: str | os.PathLike, relative: str) -> Path:
    """Return the file an image path of a data set means, if it is a file of the image folder.

    A path need not be spelled as on disk where :func:`image_path` makes both one. A folder link directly in the image
    folder (``Images``, to a cluster's shared copy) is followed, because it is a part of the folder that was given. Every
    other link counts by where it leads: it may not lead out.

    Args:
        folder: the folder that the paths in the data set start from.
        relative: the path as the data set has it, for example ``"Images/ISIC2019/ISIC_0000001.jpg"``.

    Raises:
        DataError: if the path is empty, absolute, a URL, climbs out with ``..`` or through a link, names a directory,
            or there is no such file; then with the file that was probably meant.
    """
    shown, path = _shown(relative), image_path(relative)
    if not path or "\0" in path:
        raise DataError(f"unusable image path: {shown}; give a path below the image folder")
    if "://" in path or path.startswith("data:"):
        raise DataError(f"image path is a URL: {shown}; download the file and give a path below the image folder")
    if path.startswith(("/", "~/")) or PureWindowsPath(path).drive:
        raise DataError(f"image path is absolute: {shown}; give a path below the image folder")
    if ".." in (parts := path.split("/")):
        raise DataError(f"image path leaves the image folder: {shown}; remove the '..'")
    try:
        found = Path(folder, path)
        if not _is_there(found):
            found = _spelled_otherwise(Path(folder), parts, shown)
        mode = found.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"image missing: {shown} is a link to a file that is not there; fetch the file") from error
    except OSError as error:  # a name that is too long, a circle of links, a folder we may not read
        raise DataError(f"image cannot be reached: {shown} ({error.strerror}); check path and rights") from error
    if not _belongs(found, Path(folder)):
        raise DataError(
            f"image path leaves the image folder: {shown} is a link to outside; copy the file, or pass images= the real "
            "folder that holds it"
        )
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise DataError(f"image is {kind}: {shown}; the path must name a file")
    return found


def _is_there(path: Path) -> bool:
    """`os.path.lexists`, but a name that is too long and a folder that is closed are errors and no absence."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}…")


def _belongs(path: Path, folder: Path) -> bool:
    """Whether a file lies in the folder, or in a folder that is linked directly into it."""
    real, (first, *deeper) = os.path.realpath(path), path.relative_to(folder).parts
    roots = [folder, folder / first] if deeper else [folder]
    return any(Path(real).is_relative_to(os.path.realpath(root)) for root in roots)


def _spelled_otherwise(folder: Path, parts: list[str], shown: str) -> Path:
    """Return the file whose name on disk is another spelling: decomposed accents, backslashes in a name.

    Raises:
        DataError: if there is none.
    """
    place = folder
    for i, part in enumerate(parts):
        names = _names(place)
        if (rest := "/".join(parts[i:])) in names:  # an archive of Windows, unpacked here: "img\\a.png" is one name
            return place / names[rest]
        if os.path.lexists(place / part):
            place /= part
        elif part in names:
            place /= names[part]
        else:
            break
    hint = _near(part, names) or _folder_hint(folder, parts[0])
    raise DataError(f"image missing: {shown} is not in {os.fspath(folder)!r}; {hint}")


def _names(place: Path) -> dict[str, str]:
    """The names in a folder, by their one spelling; none where it cannot be read."""
    try:
        return _listed(os.fspath(place), os.stat(place).st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _listed(place: str, changed: int) -> dict[str, str]:
    return {image_path(name): name for name in sorted(os.listdir(place))}


def _near(part: str, names: dict[str, str]) -> str | None:
    """A hint at the name that was probably meant: in another case, or with an ending."""
    for name, real in names.items():
        if name.casefold() == part.casefold():
            return f"there is {real!r}: upper and lower case count, correct the path"
    real = next((real for name, real in names.items() if os.path.splitext(name)[0].casefold() == part.casefold()), None)
    return real and f"there is {real!r}: write the path with its ending"


def _folder_hint(folder: Path, first: str) -> str:
    if folder.resolve().name == first:
        return f"the paths begin with '{first}/' themselves: pass the parent, images={os.fspath(folder.parent)!r}"
    return "images= must be the folder that the paths start from, or pass check='drop' to leave such rows out"


def _opened(source: str | os.PathLike | bytes) -> PIL.Image.Image:
    """Open an image and refuse one whose header announces too many pixels. Pillow only warns up to twice its limit."""
    image = PIL.Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise PIL.Image.DecompressionBombError(f"{image.width} x {image.height} pixels; the limit is {limit}")
    return image


def check_image(source: str | os.PathLike | bytes, name: str | None = None) -> None:
    """Check that an image can be decoded completely, as cheaply as its format allows.

    A JPEG is decoded at an eighth of its size, which still reads every byte; of a PNG the checksum of each part is
    compared, up to the end mark; all other formats are decoded.

    Args:
        source: the file, or its bytes.
        name: what to call it in an error; default the file's path.

    Raises:
        DataError: if it is empty, no image, cut short, corrupt, or has more pixels than Pillow's limit against
            decompression bombs (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    try:
        with _opened(source) as image:
            if image.format == "PNG":
                image.verify()
            elif image.format == "JPEG":
                image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
                image.load()
                PIL.ImageOps.exif_transpose(image)
            else:
                to_rgb(image)
    except Exception as error:  # Pillow's readers raise nearly anything on a corrupt file
        raise _unreadable(source, name, error) from error


def _unreadable(source: str | os.PathLike | bytes | None, name: str | None, error: Exception) -> DataError:
    if source is None:
        return DataError("image missing: the row holds neither a path nor bytes; remove the row")
    name = repr(name or ("image bytes" if isinstance(source, bytes) else os.fspath(source)))
    if isinstance(error, PIL.Image.DecompressionBombError | PIL.Image.DecompressionBombWarning):
        return DataError(f"image too large: {name} has {error}; shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS")
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source) if os.path.exists(source) else None
    if size is None:
        return DataError(f"image missing: {name}; it was moved or deleted, load the data set again")
    if size == 0:
        return DataError(f"image is an empty file: {name}; fetch it again")
    if isinstance(error, PIL.UnidentifiedImageError):
        return DataError(f"image unreadable: {name} is no image that Pillow knows; fetch it again or convert it to PNG")
    return DataError(f"image unreadable: {name} is cut short or corrupt ({str(error)[:120]}); fetch it again")


def check_images(keys: Iterable[Hashable], check: Callable[[Any], None]) -> dict[Hashable, str]:
    """Check many images in a pool of threads, with a progress bar if it takes more than two seconds.

    Args:
        keys: what stands for an image, for example its path; each distinct key is checked once.
        check: called with a key; raises DataError if the image is bad.

    Returns:
        The reason for each key that was refused.
    """

    def reason(key: Hashable) -> str | None:
        try:
            check(key)
        except DataError as error:
            return str(error)
        return None

    keys = list(dict.fromkeys(keys))
    reasons = in_threads(reason, keys, "checking images")
    return {key: why for key, why in zip(keys, reasons, strict=True) if why is not None}


def in_threads(work: Callable[[Any], Any], images: Sequence[Any], what: str) -> Iterator[Any]:
    """Do some work on each image in a pool of threads (decoding lets others run), with a bar if it takes long.

    Pillow's warnings about odd files are dropped. The filter is set once, because inside the threads it were a race.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")
        yield from progress(pool.map(work, images), what, total=len(images), unit="image")


def to_png(image: PIL.Image.Image) -> bytes:
    """Return an image as a PNG file, packed fast rather than small."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return the image upright and in 8-bit RGB.

    The EXIF rotation is applied. Images of more than 8 bits (16-bit, 32-bit, float) are scaled from their own minimum
    and maximum to 0 and 255, because Pillow's conversion would clip them; one of a single value becomes black.
    Transparency is dropped.
    """
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 0.0)
        scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
        image = PIL.Image.fromarray(np.nan_to_num(scaled).round().astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the palette's transparency as bytes; Pillow warns otherwise
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass
class MedicalImage(datasets.Image):
    """An image column of a `datasets.Dataset` that decodes to an upright RGB image of the size a model is to see.

    It stores what `datasets.Image` stores (a path or bytes) and survives select, filter, map, train_test_split,
    save_to_disk and load_from_disk. To read a saved data set outside :func:`medr1kit.load_vqa`, import
    ``medr1kit.data.images`` first; ``ds.cast_column("image", datasets.Image())`` gives the images as they lie in their
    files. A ``map`` whose function reads the image stores it anew, decoded and resized, as `datasets` always does;
    give ``input_columns=`` where it is not needed.

    Attributes:
        size: width and height in pixels; None leaves the image as large as it is.
        max_pixels: shrink images of more pixels than this, keeping the aspect; only without ``size``.
    """

    size: int | None = DEFAULT_SIZE
    max_pixels: int | None = None
    # The name says which module to import when `datasets` reports it as unknown.
    _type: str = field(default="medr1kit.data.images.MedicalImage", init=False, repr=False)

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None) -> PIL.Image.Image:
        """Return the image of one row; a file that cannot be read is a DataError that names it."""
        if not isinstance(value, dict):
            return value  # already an image
        source = value["bytes"] if value["bytes"] is not None else value["path"]
        try:
            with _opened(source) as image:
                return self._resized(to_rgb(image))
        except Exception as error:  # see check_image
            raise _unreadable(source, value["path"], error) from error

    def _resized(self, image: PIL.Image.Image) -> PIL.Image.Image:
        width, height = image.size
        if self.size is not None:
            width = height = self.size
        elif self.max_pixels is not None and width * height > self.max_pixels:
            scale = math.sqrt(self.max_pixels / (width * height))
            width, height = max(1, int(width * scale)), max(1, int(height * scale))
            # a side that was kept at one pixel makes the other too long
            width, height = min(width, max(1, self.max_pixels // height)), min(height, max(1, self.max_pixels // width))
        return image.copy() if (width, height) == image.size else image.resize((width, height), PIL.Image.BICUBIC)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "register_feature is experimental"; the tests pin what we need of it
    for name in (MedicalImage._type, _TYPE_IN_0_1_0):
        register_feature(MedicalImage, name)
