"""Images: opened safely, checked before training starts, decoded one way everywhere, saved without metadata.

A vision-language model sees 8-bit RGB. Medical archives hold more than that: DICOM, 16-bit radiographs, stacks,
photographs that a camera rotated only in their EXIF header, files that a broken download cut short. A truncated file
fails hours later, in the middle of an epoch; a pipe is waited for without end; a patient's name travels along.

So an image is checked when a data set is loaded (:func:`check_images`), and decoded when a row is read
(:class:`MedicalImage`): upright, RGB, 384 x 384 as Med-R1 states, or shrunk to a number of pixels. The data set itself
holds only the file's path or its bytes, so choosing, splitting and mapping rows costs nothing.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from threading import Lock
from typing import Any, BinaryIO

import datasets
import PIL.Image
import pyarrow as pa
from datasets.features.features import register_feature

from medr1kit.data.dicom import is_dicom, one_frame, read_dicom
from medr1kit.data.image_paths import find_image, image_path
from medr1kit.data.pixels import Unfit, to_rgb
from medr1kit.progress import progress
from medr1kit.vqa import DataError

LONGEST = 200  # the longer side to the shorter; beyond, the processors of Qwen's models raise an error
DEFAULT_SIZE = 384  # Med-R1 facts, section 1.1: images are stated to be resized to 384 x 384 beforehand
_TYPE_IN_0_1_0 = "medr1kit.images.MedicalImage"  # how data sets name the column that version 0.1.0 saved
_FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "JPEG2000", "PPM")  # EPS would be run by Ghostscript
_LARGE, _LARGE_PIXELS = Lock(), 2**24  # larger images are decoded one at a time, for eight of them fill a memory
_PLAIN = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "adobe", "adobe_transform", "progressive"} | {
    *("progression", "APP0", "APP14", "interlace", "gamma", "srgb", "transparency", "aspect", "chromaticity")
}  # what Pillow reads in a file that concerns the picture alone


def stored_path(folder: str | os.PathLike, image_id: str) -> str:
    """Return how a data set stores an image of a folder: ``FOLDER/./ID``, by which it is found again when it is read.

    What stands before ``/./`` is the image folder: so a link that is laid there after loading is looked at once more.
    """
    folder, path = os.path.abspath(folder), image_path(image_id)
    if not os.path.exists(os.path.join(folder, path)):  # spelled otherwise on disk
        path = find_image(folder, path).relative_to(folder).as_posix()
    return f"{folder}/./{path}"


def open_image(source: str | os.PathLike | bytes) -> BinaryIO:
    """Open the bytes or the file; a pipe, a device or a folder is refused, and never waited for.

    Raises:
        Unfit: if it is one of those.
        DataError: if a stored path (:func:`stored_path`) leads out of its folder by now.
        OSError: if it is missing or may not be read.
    """
    if isinstance(source, bytes):
        return BytesIO(source)
    folder, found_in, relative = os.fspath(source).partition("/./")
    path = find_image(folder, relative) if found_in and os.path.lexists(source) else source
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unfit("is a folder, a pipe or a device; the path must name a file")
    return os.fdopen(handle, "rb")


def read_image(
    source: str | os.PathLike | bytes,
    name: str | None = None,
    *,
    frame: int | None = None,
    draft: tuple[int, int] | None = None,
) -> PIL.Image.Image:
    """Return an image as a model is to see it: upright, 8-bit RGB, without metadata; not resized.

    How each kind of pixel becomes that: :mod:`medr1kit.data.pixels` and :mod:`medr1kit.data.dicom`.

    Args:
        source: the file, or its bytes.
        name: what to call it in an error; default the file's path.
        frame: which one of a stack or an animation, from 0; an image of one frame is taken as it is.
        draft: width and height that are enough; a JPEG is then decoded at down to an eighth of its size.

    Raises:
        DataError: if it is missing, empty, no image, cut short, corrupt, of several frames without ``frame``, longer
            than 200 times its width, or of more pixels than Pillow's limit against decompression bombs
            (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    try:
        with open_image(source) as file:
            if is_dicom(file):
                return _from_dicom(file, frame)
            try:
                return _decoded(file, frame, draft)
            except PIL.UnidentifiedImageError:
                if _name_of(source, name).lower().endswith((".dcm", ".dicom")) and file.seek(0, os.SEEK_END):
                    return _from_dicom(file, frame)  # older than DICOM's mark
                raise
    except Exception as error:  # Pillow's readers raise nearly anything on a corrupt file
        raise _unreadable(source, name, error) from (None if isinstance(error, Unfit) else error)


def _from_dicom(file: BinaryIO, frame: int | None) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(read_dicom(file, frame, PIL.Image.MAX_IMAGE_PIXELS)).convert("RGB")
    _check_shape(picture.size)
    return picture


def _decoded(file: BinaryIO, frame: int | None, draft: tuple[int, int] | None) -> PIL.Image.Image:
    def first() -> PIL.Image.Image:
        file.seek(0)
        return PIL.Image.open(file, formats=_FORMATS)

    def again() -> PIL.Image.Image:
        image = first()
        if (at := one_frame(_frames(image), frame)) > 0:
            image.seek(at)
        return image

    image = again()
    _check_shape(image.size)
    limit = PIL.Image.MAX_IMAGE_PIXELS  # Pillow itself only warns up to twice its limit
    if limit is not None and image.width * image.height > limit:
        raise PIL.Image.DecompressionBombError(f"{image.width} x {image.height} pixels; the limit is {limit}")
    if image.format == "PNG":
        first().verify()  # the checksum of every part, up to the end mark
        image = again()
    if draft:
        image.draft(image.mode, draft)
    with _LARGE if image.width * image.height > _LARGE_PIXELS else nullcontext():
        return to_rgb(image, again)


def _frames(image: PIL.Image.Image) -> int:
    """The pictures that are in an image. A camera's MPO is a JPEG with a preview or a depth map behind it: one."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _check_shape(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise Unfit("has no pixels; fetch it again")
    if max(size) > LONGEST * min(size):
        raise Unfit(f"has {size[0]} x {size[1]} pixels; models refuse more than {LONGEST} to 1, crop it")


def check_image(source: str | os.PathLike | bytes, name: str | None = None, *, frame: int | None = None) -> None:
    """Check that an image can be read, by reading it: a JPEG at an eighth of its size, which still reads every byte.

    Args:
        source: the file, or its bytes.
        name: what to call it in an error; default the file's path.
        frame: which one of a stack or an animation, from 0.

    Raises:
        DataError: as :func:`read_image`.
    """
    read_image(source, name, frame=frame, draft=(1, 1))


def _name_of(source: str | os.PathLike | bytes, name: str | None) -> str:
    return name or ("image bytes" if isinstance(source, bytes) else os.fspath(source))


def _unreadable(source: str | os.PathLike | bytes | None, name: str | None, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    if source is None:
        return DataError("image missing: the row holds neither a path nor bytes; remove the row")
    name = repr(_name_of(source, name))
    if isinstance(error, PIL.Image.DecompressionBombError | PIL.Image.DecompressionBombWarning):
        return DataError(f"image too large: {name} has {error}; shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS")
    if isinstance(error, MemoryError):
        return DataError(f"image too large: {name} needs more memory than there is; shrink it")
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source) if os.path.exists(source) else None
    if size is None:
        return DataError(f"image missing: {name}; it was moved or deleted, load the data set again")
    if isinstance(error, PermissionError):
        return DataError(f"image cannot be reached: {name} ({error.strerror}); check the rights")
    if size == 0 and not isinstance(error, Unfit):
        return DataError(f"image is an empty file: {name}; fetch it again")
    if isinstance(error, Unfit):
        return DataError(f"image unreadable: {name} {error}")
    if isinstance(error, PIL.UnidentifiedImageError):
        kinds = "PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000, PPM or DICOM"
        return DataError(f"image unreadable: {name} is no image ({kinds}); fetch it again or convert it to PNG")
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


def bare(source: str | os.PathLike | bytes, name: str | None = None, *, frame: int | None = None) -> bytes:
    """Return an image as a file that holds a picture and nothing else: what may be saved and passed on.

    A PNG or JPEG without metadata stays byte for byte. One with EXIF, texts or a colour profile, and every other kind
    (DICOM above all), becomes a PNG of what :func:`read_image` returns.

    Raises:
        DataError: as :func:`read_image`.
    """
    try:
        with open_image(source) as file, PIL.Image.open(file, formats=("PNG", "JPEG")) as image:
            image.load()  # a PNG may have texts behind its pixels
            parts = {part for part, _ in getattr(image, "applist", ())} | set(getattr(image, "private_chunks", ()))
            if _frames(image) == 1 and image.format != "MPO" and image.info.keys() <= _PLAIN and parts <= _PLAIN:
                file.seek(0)
                return file.read()
    except Exception:
        pass  # no PNG or JPEG; reading it says what is wrong
    return to_png(read_image(source, name, frame=frame))


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
        frame: which one of a stack or an animation, from 0; None refuses them.
    """

    size: int | None = DEFAULT_SIZE
    max_pixels: int | None = None
    frame: int | None = None
    # The name says which module to import when `datasets` reports it as unknown.
    _type: str = field(default="medr1kit.data.images.MedicalImage", init=False, repr=False)

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None) -> PIL.Image.Image:
        """Return the image of one row; a file that cannot be read is a DataError that names it."""
        if not isinstance(value, dict):
            return value  # already an image
        source = value["bytes"] if value["bytes"] is not None else value["path"]
        if source is None:
            raise _unreadable(None, None, ValueError())
        return self._resized(read_image(source, value["path"], frame=self.frame))

    def embed_storage(self, storage: pa.StructArray, *args: Any, **kwargs: Any) -> pa.StructArray:
        """Return the column as it is saved: pictures without EXIF, texts, profiles or DICOM tags (:func:`bare`)."""
        rows = super().embed_storage(storage, *args, **kwargs).to_pylist()
        for row in rows:
            if row is not None and row["bytes"] is not None:
                row["bytes"] = bare(row["bytes"], row["path"], frame=self.frame)
        return pa.array(rows, type=self.pa_type)

    def _resized(self, image: PIL.Image.Image) -> PIL.Image.Image:
        width, height = image.size
        if self.size is not None:
            width = height = self.size
        elif self.max_pixels is not None and width * height > self.max_pixels:
            scale = math.sqrt(self.max_pixels / (width * height))
            width, height = max(1, int(width * scale)), max(1, int(height * scale))
            # a side that was kept at one pixel makes the other too long
            width, height = min(width, max(1, self.max_pixels // height)), min(height, max(1, self.max_pixels // width))
            width, height = min(width, LONGEST * height), min(height, LONGEST * width)  # rounding made it thinner
        return image.copy() if (width, height) == image.size else image.resize((width, height), PIL.Image.BICUBIC)


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # "register_feature is experimental"; the tests pin what we need of it
    for name in (MedicalImage._type, _TYPE_IN_0_1_0):
        register_feature(MedicalImage, name)
