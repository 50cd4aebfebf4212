"""DICOM: one frame of a file as the picture a viewer shows, and nothing else of it.

A DICOM file is a picture among hundreds of tags, the patient's name before it. So only the tags that make the picture
are read at all; no other can reach a message, a table or a saved data set. The picture is made in the standard's own
order, with pydicom's functions: stored values, rescaled (modality), seen through a window or table (VOI), turned where
MONOCHROME1 says that low is bright.
"""

from __future__ import annotations

import warnings
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from medr1kit.data.pixels import Unfit, eight_bits

if TYPE_CHECKING:
    from pydicom import Dataset

_PALETTE = [
    f"{colour}PaletteColorLookupTable{what}" for colour in ("Red", "Green", "Blue") for what in ("Data", "Descriptor")
]
_READ = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("VOILUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *_PALETTE,
    *(f"Segmented{name}" for name in _PALETTE if name.endswith("Data")),
]
_WARNINGS = Lock()  # the filter of warnings belongs to all threads
_DECODERS = 'pip install "pylibjpeg[all]", or decompress it (gdcmconv --raw, dcmdjpeg)'


def is_dicom(file: BinaryIO) -> bool:
    """Return whether a file has DICOM's mark, whatever it is called."""
    file.seek(128)
    mark = file.read(4)
    file.seek(0)
    return mark == b"DICM"


def read_dicom(file: BinaryIO, frame: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """Return one frame of a DICOM file in 8 bits, (height, width) or (height, width, 3).

    The first window or VOI table is applied where there is one. Without, 8-bit grey is taken as it is, and anything
    deeper is scaled by :func:`medr1kit.data.pixels.eight_bits`. Overlays are not drawn.

    Args:
        file: the file, open.
        frame: which frame, from 0; needed where there are several.
        max_pixels: refuse larger frames before they are decoded.

    Raises:
        Unfit: if pydicom is missing, there is no picture, frame or decoder, or the file is damaged. No message
            holds a value of a tag, and no cause is attached, for pydicom's errors quote values.
    """
    pydicom = _pydicom()
    file.seek(0)
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values, too
        return _frame(pydicom, file, frame, max_pixels)


def _frame(pydicom: ModuleType, file: BinaryIO, frame: int | None, max_pixels: int | None) -> np.ndarray:
    try:
        ds = _dataset(pydicom, file)
        frames = int(ds.get("NumberOfFrames") or 1)
        index = one_frame(frames, frame)
        size = int(ds.Columns), int(ds.Rows)
        if max_pixels is not None and size[0] * size[1] > max_pixels:
            raise Unfit(
                f"has {size[0]} x {size[1]} pixels; the limit is {max_pixels}: raise PIL.Image.MAX_IMAGE_PIXELS"
            )
        return _picture(ds, index)
    except (Unfit, MemoryError):
        raise
    except Exception:  # pydicom raises nearly anything on a damaged file
        pass
    raise Unfit("is a DICOM file that is cut short, corrupt or unusual; export it again, or convert it to PNG")


def one_frame(frames: int, frame: int | None) -> int:
    """Return which of an image's frames is taken; where there is one, it is that one.

    Raises:
        Unfit: if there are several and none was chosen, or the one chosen is not there.
    """
    if frames == 1:
        return 0
    if frame is None:
        raise Unfit(
            f"holds {frames} frames (a stack or an animation), and a question has one image; choose one for all images "
            f"with frame=, 0 to {frames - 1}, or save the one that is meant alone"
        )
    if frame >= frames:
        raise Unfit(f"holds {frames} frames, counted from 0, and no frame={frame}")
    return frame


def _pydicom() -> ModuleType:
    try:
        import pydicom
    except ImportError as error:
        raise Unfit('is a DICOM file, and pydicom is not installed; pip install "medr1kit[dicom]"') from error
    return pydicom


def _dataset(pydicom: ModuleType, file: BinaryIO) -> Dataset:
    ds = pydicom.dcmread(file, force=True, specific_tags=_READ)
    if not any(name in ds for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Unfit("is a DICOM file without a picture (a report, a plan, a waveform, or cut short); remove the row")
    if "TransferSyntaxUID" not in ds.file_meta:  # files older than the header; pydicom found out how they are written
        implicit, little = ds.original_encoding
        syntaxes = {(True, True): "ImplicitVRLittleEndian", (False, True): "ExplicitVRLittleEndian"}
        ds.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntaxes.get((implicit, little), "ExplicitVRBigEndian"))
    return ds


def _picture(ds: Dataset, frame: int) -> np.ndarray:
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    values = _stored(ds, frame)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, ds)[..., :3]
        return values.astype(np.uint8) if values.max() <= 255 else (values >> 8).astype(np.uint8)
    if values.ndim == 3:
        return values if values.dtype == np.uint8 else eight_bits(values)
    _display_of_frame(ds, frame)
    rescaled = apply_modality_lut(values, ds)
    shown = _through_window(rescaled, ds)
    if shown is None:
        plain = values.dtype == np.uint8 and ds.get("BitsStored") == 8 and np.array_equal(values, rescaled)
        shown = values if plain else eight_bits(rescaled)
    return 255 - shown if ds.PhotometricInterpretation == "MONOCHROME1" else shown


def _stored(ds: Dataset, frame: int) -> np.ndarray:
    from pydicom.pixels import get_decoder, pixel_array

    syntax = ds.file_meta.TransferSyntaxUID
    compressed = "is compressed" if syntax.is_private else f"is compressed ({syntax.name})"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise Unfit(f"{compressed} in a way that needs another decoder; {_DECODERS}")
    try:
        return pixel_array(ds, index=frame)
    except Exception:
        if not syntax.is_encapsulated:
            raise
    raise Unfit(f"{compressed} and cannot be decompressed here; it is damaged, or needs another decoder: {_DECODERS}")


def _display_of_frame(ds: Dataset, frame: int) -> None:
    """Lay rescale and window where simple objects have them; enhanced ones keep them in groups, for all or a frame."""
    groups = [*(ds.get("SharedFunctionalGroupsSequence") or [])[:1]]
    groups += (ds.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for group in groups:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(name) or []:
                ds.update(item)
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        for item in ds.get(name) or []:  # pydicom looks values up in as many bits as the table has; 8 are too few
            item.LUTDescriptor = [*list(item.LUTDescriptor)[:2], 16]
    ds.setdefault("BitsStored", 16)  # float pixels have none; the window's ends are measured below
    ds.setdefault("PixelRepresentation", 0)


def _through_window(values: np.ndarray, ds: Dataset) -> np.ndarray | None:
    """Values through the first VOI table or window in 8 bits; None where there is none.

    pydicom maps to a range that depends on bits and slope; its ends are measured, by what it makes of extreme values.
    """
    from pydicom.pixels import apply_voi, apply_windowing

    if ds.get("VOILUTSequence"):
        entries, first, _ = ds.VOILUTSequence[0].LUTDescriptor
        table = apply_voi(np.arange(first, first + (entries or 2**16)), ds)
        shown, dark, bright = apply_voi(values, ds), float(table.min()), float(table.max())
    else:
        center, width = (_first(ds.get(name)) for name in ("WindowCenter", "WindowWidth"))
        if center is None or width is None or width < (1 if ds.get("VOILUTFunction", "LINEAR") == "LINEAR" else 1e-9):
            return None
        dark, bright = apply_windowing(np.array([center - 9 * width, center + 9 * width]), ds)
        shown = apply_windowing(values, ds)
    if dark == bright:
        return None
    return ((shown - dark) * (255 / (bright - dark))).clip(0, 255).round().astype(np.uint8)


def _first(value: object) -> float | None:
    value = value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value
    return None if value in (None, "") else float(value)
