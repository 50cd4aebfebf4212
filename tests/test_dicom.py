"""DICOM: the picture that a viewer shows, one sentence where there is none, and no tag beside it."""

import io
import sys
import warnings

import datasets
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from medr1kit.data.images import MedicalImage, check_image, read_image
from medr1kit.data.load import load_vqa
from medr1kit.vqa import DataError

SECRET = "DOE^JANE"


def dicom(values, *, frames=None, syntax=ExplicitVRLittleEndian, drop=(), **tags):
    """A DICOM file in memory, with a patient's name in many places."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about what is meant to be wrong
        ds = _dataset(values, frames, syntax, tags)
        for name in drop:
            delattr(ds, name)
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _dataset(values, frames, syntax, tags):
    ds, values = Dataset(), np.asarray(values)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.SOPClassUID, ds.PatientName, ds.PatientID = CTImageStorage, SECRET, SECRET
    ds.StudyDescription = ds.InstitutionName = ds.ImageComments = SECRET
    block = ds.private_block(0x0011, SECRET, create=True)
    block.add_new(1, "LO", SECRET)
    shape = values.shape[1:] if frames else values.shape
    ds.Rows, ds.Columns = shape[:2]
    ds.SamplesPerPixel = shape[2] if len(shape) == 3 else 1
    ds.PhotometricInterpretation = "RGB" if ds.SamplesPerPixel == 3 else "MONOCHROME2"
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * values.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(values.dtype.kind == "i")
    if frames:
        ds.NumberOfFrames = frames
    ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def item(**tags):
    one = Dataset()
    for name, value in tags.items():
        setattr(one, name, value)
    return one


def seen(content, **options):
    picture = np.asarray(read_image(content, **options))
    assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    return picture


def grey(content, **options):
    picture = seen(content, **options)
    assert (picture == picture[..., :1]).all()
    return picture[..., 0].tolist()


# --- grey ------------------------------------------------------------------------------------------------------------


def test_8_bits_without_a_window_are_taken_as_they_are():
    assert grey(dicom(np.array([[10, 20], [30, 40]], np.uint8))) == [[10, 20], [30, 40]]


def test_deeper_values_without_a_window_are_scaled_by_their_range():
    values = np.array([[-1000, 0], [500, 1550]], np.int16)
    assert grey(dicom(values)) == [[0, 100], [150, 255]]
    assert grey(dicom(values, RescaleSlope=2, RescaleIntercept=-1024)) == [[0, 100], [150, 255]]


def test_the_first_window_is_applied_to_rescaled_values():
    values = np.array([[0, 1024], [1064, 4000]], np.uint16)  # Hounsfield units: -1024, 0, 40, 2976
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": [40, 500], "WindowWidth": [401, 2000]}
    # Linear by PS3.3 C.11.2: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255; for 0: ((0 - 39.5) / 400 + 0.5) * 255 = 102.3
    assert grey(dicom(values, **tags)) == [[0, 102], [128, 255]]
    exact = {**tags, "WindowWidth": [400, 2000], "VOILUTFunction": "LINEAR_EXACT"}  # ((0 - 40) / 400 + 0.5) * 255
    assert grey(dicom(values, **exact)) == [[0, 102], [128, 255]]
    sigmoid = grey(dicom(values, **exact | {"VOILUTFunction": "SIGMOID"}))
    assert sigmoid == [[0, 102], [128, 255]]  # 255 / (1 + e^0.4) = 102.3


def test_a_window_gives_the_same_picture_for_a_negative_slope():
    values = np.array([[0, 100], [200, 255]], np.uint16)
    turned = dicom(255 - values, RescaleSlope=-1, RescaleIntercept=255, WindowCenter=128, WindowWidth=256)
    assert grey(turned) == grey(dicom(values, WindowCenter=128, WindowWidth=256)) == [[0, 100], [200, 255]]


@pytest.mark.parametrize("width", [0, -1, None])
def test_a_window_without_width_is_none(width):
    values = np.array([[0, 1000], [2000, 2550]], np.uint16)
    assert grey(dicom(values, WindowCenter=5, WindowWidth=width)) == [[0, 100], [200, 255]]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_table_goes_before_a_window(bits):
    table = [0] * 100 + [2**bits - 1] * 900  # a threshold at 600
    voi = item(LUTDescriptor=[1000, 500, bits], LUTData=table)
    voi["LUTData"].VR = "US"
    values = np.array([[0, 599], [600, 4000]], np.uint16)
    content = dicom(values, VOILUTSequence=Sequence([voi]), WindowCenter=2000, WindowWidth=4000)
    assert grey(content) == [[0, 0], [255, 255]]


def test_a_modality_table_is_applied():
    table = item(LUTDescriptor=[4, 0, 12], LUTData=[0, 1000, 200, 2550], ModalityLUTType="US")
    table["LUTData"].VR = "US"
    values = np.array([[0, 1], [2, 3]], np.uint16)
    assert grey(dicom(values, ModalityLUTSequence=Sequence([table]))) == [[0, 100], [20, 255]]


def test_monochrome1_is_turned():
    values = np.array([[0, 1000], [2000, 2550]], np.uint16)
    assert grey(dicom(values, PhotometricInterpretation="MONOCHROME1")) == [[255, 155], [55, 0]]
    windowed = dicom(values, PhotometricInterpretation="MONOCHROME1", WindowCenter=1276, WindowWidth=2552)
    assert grey(windowed) == [[255, 155], [55, 0]]
    plain = dicom(np.array([[0, 100], [200, 255]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    assert grey(plain) == [[255, 155], [55, 0]]


def test_a_hot_pixel_takes_no_contrast_away():
    values = np.linspace(0, 4095, 1600).round().astype(np.uint16).reshape(40, 40)
    values[0, 0] = 65535
    assert grey(dicom(values))[20][0] == pytest.approx(128, abs=3)


# --- colour ----------------------------------------------------------------------------------------------------------


def test_rgb_ybr_and_palette_become_rgb():
    rgb = np.array([[[255, 0, 0], [10, 20, 30]]], np.uint8)
    assert seen(dicom(rgb)).tolist() == rgb.tolist()
    ybr = np.array([[[76, 85, 255], [128, 128, 128]]], np.uint8)
    red = seen(dicom(ybr, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(red.astype(int) - [[[255, 0, 0], [128, 128, 128]]]).max() <= 2
    tables = {}
    for colour, entries in {"Red": [0, 65535], "Green": [0, 32768], "Blue": [65535, 0]}.items():
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = np.array(entries, np.uint16).tobytes()
    palette = dicom(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **tables)
    assert seen(palette).tolist() == [[[0, 0, 255], [255, 128, 0]]]


def test_colour_of_16_bits_has_one_range():
    values = np.array([[[0, 1000, 2000], [2550, 100, 0]]], np.uint16)
    assert seen(dicom(values)).tolist() == [[[0, 100, 200], [255, 10, 0]]]


# --- frames ----------------------------------------------------------------------------------------------------------


def test_several_frames_are_refused_or_chosen():
    values = np.array([[[0, 50]], [[100, 150]], [[200, 250]]], np.uint8)
    content = dicom(values, frames=3)
    with pytest.raises(DataError, match=r"holds 3 frames .* frame=, 0 to 2"):
        check_image(content)
    assert [grey(content, frame=i) for i in range(3)] == values.tolist()
    with pytest.raises(DataError, match="holds 3 frames, counted from 0, and no frame=3"):
        read_image(content, frame=3)
    assert grey(dicom(values[0]), frame=2) == values[0].tolist(), "a single image is taken as it is"


def test_an_enhanced_object_has_each_frame_s_own_window():
    values = np.array([[[0, 100]], [[0, 100]]], np.uint16)
    rescale = item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")
    windows = [item(WindowCenter=50.5, WindowWidth=101), item(WindowCenter=100.5, WindowWidth=201)]
    content = dicom(
        values,
        frames=2,
        SharedFunctionalGroupsSequence=Sequence([item(PixelValueTransformationSequence=Sequence([rescale]))]),
        PerFrameFunctionalGroupsSequence=Sequence([item(FrameVOILUTSequence=Sequence([one])) for one in windows]),
    )
    assert [grey(content, frame=i) for i in (0, 1)] == [[[0, 255]], [[0, 128]]]


# --- what is no picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (dicom(np.zeros((2, 2), np.uint8), drop=["PixelData"]), "without a picture"),
        (dicom(np.zeros((40, 40), np.uint16))[:-900], "cut short, corrupt or unusual"),
        (dicom(np.zeros((40, 40), np.uint16))[:200], "without a picture"),
        (dicom(np.zeros((2, 2), np.uint8), drop=["Rows"]), "cut short, corrupt or unusual"),
        (dicom(np.zeros((2, 2), np.uint8), BitsAllocated=7), "cut short, corrupt or unusual"),
        (dicom(np.zeros((2, 2), np.uint8), PhotometricInterpretation=SECRET), "cut short, corrupt or unusual"),
        (dicom(np.zeros((2, 2), np.uint8), Rows=0), "cut short, corrupt or unusual"),
        (dicom(np.zeros((2, 900), np.uint8)), "models refuse more than 200 to 1"),
        (b"\0" * 128 + b"DICM", "without a picture"),
    ],
)
def test_what_is_no_picture_ends_in_one_sentence_without_a_tag(content, says):
    for read in (read_image, check_image):
        with pytest.raises(DataError, match=says) as error:
            read(content, "scan.dcm")
        message = str(error.value)
        assert "'scan.dcm'" in message and "\n" not in message and len(message) < 300
        assert SECRET not in message and error.value.__cause__ is None and error.value.__suppress_context__


def test_a_compression_without_decoder_names_the_remedy():
    file = get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)
    if pydicom.pixels.get_decoder(JPEGLSLossless).is_available:
        pytest.skip("this decoder is installed here")
    with pytest.raises(DataError, match=r"is compressed \(JPEG-LS Lossless.*another decoder; pip install"):
        check_image(file)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    content = dicom(np.zeros((30, 40), np.uint8))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="has 40 x 30 pixels; the limit is 1000"):
        read_image(content)


def test_without_pydicom_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r'pip install "medr1kit\[dicom\]"'):
        read_image(dicom(np.zeros((2, 2), np.uint8)))


# --- as a file -------------------------------------------------------------------------------------------------------


def test_dicom_is_known_by_its_mark_or_its_name(tmp_path):
    values = np.array([[10, 20], [30, 40]], np.uint8)
    content = dicom(values, syntax=ImplicitVRLittleEndian)
    for name in ("IM0001", "a.png", "b.dcm"):
        (tmp_path / name).write_bytes(content)
        assert grey(tmp_path / name) == values.tolist()
    bare = content[content.index(b"\x08\x00\x16\x00") :]  # the data set alone, as before there was a header
    (tmp_path / "old.DCM").write_bytes(bare)
    assert grey(tmp_path / "old.DCM") == values.tolist()
    with pytest.raises(DataError, match="is no image"):
        read_image(bare)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("CT_small.dcm", (128, 128)), ("MR_small_RLE.dcm", (64, 64)), ("MR_small_bigendian.dcm", (64, 64))),
        *(("image_dfl.dcm", (512, 512)), ("SC_rgb_rle_16bit.dcm", (100, 100)), ("examples_palette.dcm", (800, 350))),
        *(("SC_ybr_full_422_uncompressed.dcm", (100, 100)), ("MR_small_jp2klossless.dcm", (64, 64))),
    ],
)
def test_files_of_pydicom_are_read(name, size):
    file = get_testdata_file(name, download=False)
    check_image(file)
    picture = read_image(file)
    assert picture.size == size and np.ptp(np.asarray(picture)) > 150


def test_byte_orders_and_compressions_of_one_picture_agree():
    names = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm")
    first, *others = (grey(get_testdata_file(name, download=False)) for name in names)
    assert all(other == first for other in others)


def test_a_data_set_of_dicom_is_loaded_and_saved_without_its_tags(tmp_path):
    (tmp_path / "img").mkdir()
    content = dicom(np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6))
    (tmp_path / "img" / "a.dcm").write_bytes(content)
    assert SECRET.encode() in content
    (tmp_path / "q.json").write_text(
        '[{"image": "img/a.dcm", "problem": "Which organ? A)liver, B)lung", "solution": "<answer> B </answer>"}]'
    )
    ds = load_vqa(tmp_path / "q.json", images=tmp_path, max_pixels=1000)
    image = ds[0]["image"]
    assert image.size == (6, 4) and not image.info and ds["image_id"][0] == "img/a.dcm"
    ds.save_to_disk(tmp_path / "saved")
    ds.to_parquet(tmp_path / "rows.parquet")
    written = b"".join(path.read_bytes() for path in [*(tmp_path / "saved").iterdir(), tmp_path / "rows.parquet"])
    assert SECRET.encode() not in written and b"DICM" not in written
    (tmp_path / "img" / "a.dcm").unlink()
    again = datasets.load_from_disk(tmp_path / "saved")
    assert isinstance(again.features["image"], MedicalImage)
    assert again[0]["image"].tobytes() == image.tobytes()
