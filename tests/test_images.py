"""Images: checked completely, decoded to what a model sees, saved without metadata."""

import json
import os
import time
import unicodedata
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import tifffile
from datasets.features.features import _FEATURE_TYPES

from medr1kit.data.images import MedicalImage, bare, check_image, check_images, stored_path
from medr1kit.data.load import load_vqa
from medr1kit.data.pixels import to_rgb
from medr1kit.vqa import DataError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")


def noise(width=60, height=40):
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image, kind="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(content, **shape):
    return MedicalImage(**shape).decode_example({"bytes": content, "path": None})


# --- checking --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow says it of the cut TIFF, before it gives up
@pytest.mark.parametrize("kind", FORMATS)
def test_a_sound_image_of_each_format_passes_and_a_truncated_one_does_not(tmp_path, kind):
    content = encoded(noise(), kind)
    check_image(content)
    path = tmp_path / "cut"
    for left in (len(content) - 30, len(content) // 2, 20, 3):
        path.write_bytes(content[:left])
        with pytest.raises(DataError, match="cut' is"):
            check_image(path)


def test_a_png_with_a_flipped_byte_is_refused():
    content = bytearray(encoded(noise()))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(DataError, match="corrupt"):
        check_image(bytes(content))


def test_an_empty_file_text_and_a_vanished_file_are_refused_by_name(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>404</html>")
    for name, message in (("empty.png", "empty file"), ("text.png", "no image"), ("gone.png", "missing")):
        with pytest.raises(DataError, match=message) as error:
            check_image(tmp_path / name)
        assert name in str(error.value)


@pytest.mark.parametrize("factor", [1.5, 3])  # Pillow itself warns from once, and raises from twice the limit
def test_a_decompression_bomb_is_refused_also_where_pillow_only_warns(monkeypatch, factor):
    content = encoded(PIL.Image.new("L", (150, 100)))
    check_image(content)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", int(150 * 100 / factor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for read in (check_image, decode):
            with pytest.raises(DataError, match="image too large"):
                read(content)


def test_many_images_are_checked_once_each():
    seen = []

    def check(key):
        seen.append(key)
        if key == 3:
            raise DataError("three")

    assert check_images([1, 2, 3, 2, 3, 3], check) == {3: "three"}
    assert sorted(seen) == [1, 2, 3]


def test_a_fault_of_the_check_itself_is_not_taken_for_a_bad_image():
    with pytest.raises(ZeroDivisionError):
        check_images([1], lambda key: 1 // 0)


# --- decoding --------------------------------------------------------------------------------------------------------


def test_images_become_384_square_unless_asked_otherwise():
    content = encoded(noise(60, 40))
    assert decode(content).size == (384, 384)
    assert decode(content, size=20).size == (20, 20)
    assert decode(content, size=None).size == (60, 40)


def test_the_pixels_are_those_of_pillows_conversion_and_bicubic_resize():
    image = noise(60, 40)
    expected = np.asarray(image.resize((30, 30), PIL.Image.BICUBIC))
    assert np.array_equal(np.asarray(decode(encoded(image), size=30)), expected)
    assert np.array_equal(np.asarray(decode(encoded(image), size=None)), np.asarray(image))


@pytest.mark.parametrize("shape", [(640, 480), (1, 200), (1990, 10), (31, 33)])
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_max_pixels_shrinks_below_the_limit_and_keeps_the_aspect(shape, limit):
    width, height = decode(encoded(PIL.Image.new("L", shape)), size=None, max_pixels=limit).size
    assert min(width, height) >= 1 and width * height <= limit
    if min(width, height) > 10:
        assert width / height == pytest.approx(shape[0] / shape[1], rel=0.1)


def test_max_pixels_never_enlarges():
    assert decode(encoded(noise(60, 40)), size=None, max_pixels=10**6).size == (60, 40)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_a_png_becomes_rgb(mode):
    image = decode(encoded(PIL.Image.new(mode, (5, 4), 1)), size=8)
    assert (image.mode, image.size) == ("RGB", (8, 8))


def test_a_cmyk_jpeg_keeps_its_colour():
    content = encoded(PIL.Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK"), "JPEG", quality=95)
    check_image(content)
    red, green, blue = np.asarray(decode(content, size=16)).reshape(-1, 3).mean(0)
    assert red > 150 and green < 80 and blue < 80


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_16_bit_image_is_scaled_by_its_range_and_not_clipped(kind):
    values = np.linspace(1000, 60000, 6, dtype=np.uint16).reshape(2, 3)
    content = encoded(PIL.Image.fromarray(values), kind)
    check_image(content)
    assert np.asarray(decode(content, size=None))[..., 0].tolist() == [[0, 51, 102], [153, 204, 255]]


def test_a_float_image_with_holes_is_scaled_and_its_holes_are_black():
    values = np.array([[-1.0, 0.0], [np.nan, 1.0]], dtype=np.float32)
    assert np.asarray(to_rgb(PIL.Image.fromarray(values)))[..., 0].tolist() == [[0, 128], [0, 255]]


def test_a_16_bit_image_of_one_value_is_black():
    assert np.asarray(to_rgb(PIL.Image.fromarray(np.full((2, 2), 40000, dtype=np.uint16)))).max() == 0


def test_one_pixel_loads():
    content = encoded(PIL.Image.new("RGB", (1, 1), (7, 8, 9)))
    check_image(content)
    assert np.unique(np.asarray(decode(content, size=4)).reshape(-1, 3), axis=0).tolist() == [[7, 8, 9]]


def test_an_image_rotated_by_its_exif_header_stands_upright():
    image = PIL.Image.new("RGB", (32, 16), (255, 0, 0))
    image.paste((0, 0, 255), (16, 0, 32, 16))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    content = encoded(image, "JPEG", exif=exif, quality=95)
    check_image(content)
    upright = decode(content, size=None)
    assert upright.size == (16, 32)
    assert upright.getpixel((8, 4))[0] > 200 and upright.getpixel((8, 28))[2] > 200


def test_transparency_in_a_palette_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(noise().quantize(8), transparency=bytes([0, 128, 255])), size=None).mode == "RGB"


# --- stacks and animations -------------------------------------------------------------------------------------------


def stack(kind, count=3):
    pictures = [PIL.Image.new("RGB", (30, 20), (100 * i, 100 * i, 100 * i)) for i in range(count)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_several_pictures_in_a_file_are_refused_or_one_is_chosen(kind):
    content = stack(kind)
    for read in (check_image, decode):
        with pytest.raises(DataError, match=r"holds 3 frames \(a stack or an animation\).* frame=, 0 to 2"):
            read(content)
    for frame in range(3):
        check_image(content, frame=frame)
        assert decode(content, size=None, frame=frame).getpixel((5, 5)) == (100 * frame,) * 3
    with pytest.raises(DataError, match="no frame=3"):
        decode(content, frame=3)


def test_a_frame_of_16_bit_colour_is_read_whole():
    values = np.arange(2 * 30 * 40 * 3, dtype=np.uint16).reshape(2, 30, 40, 3) * np.array([1, 9])[:, None, None, None]
    file = BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for part in values.astype(np.uint16):
            writer.write(part, photometric="rgb", contiguous=False)
    seen = np.asarray(decode(file.getvalue(), size=None, frame=1))
    part = values[1].astype(float)
    assert np.array_equal(seen, ((part - part.min()) * 255 / np.ptp(part)).round())


def test_a_single_picture_is_taken_whatever_the_frame():
    assert decode(encoded(noise()), size=None, frame=7).size == (60, 40)
    assert decode(stack("TIFF", count=1), size=None, frame=7).size == (30, 20)


def test_a_data_set_takes_the_frame_that_was_chosen_for_all(tmp_path):
    (tmp_path / "a.tif").write_bytes(stack("TIFF"))
    (tmp_path / "b.png").write_bytes(encoded(PIL.Image.new("RGB", (8, 8), (7, 7, 7))))
    rows = [
        {"image": name, "problem": "Which? A)a, B)b", "solution": "<answer> B </answer>"} for name in ("a.tif", "b.png")
    ]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    ds = load_vqa(tmp_path / "q.json", images=tmp_path, frame=1)
    assert [image.getpixel((0, 0))[0] for image in ds["image"]] == [100, 7]
    with pytest.raises(DataError, match=r"row 0.*holds 3 frames"):
        load_vqa(tmp_path / "q.json", images=tmp_path)
    for frame in (-1, 1.0, True, "1"):
        with pytest.raises(DataError, match=r"frame=.* is not a whole number of at least 0"):
            load_vqa(tmp_path / "q.json", images=tmp_path, frame=frame)
    with pytest.raises(DataError, match="frame= does not go with phantoms"):
        load_vqa("phantoms", n=1, frame=0)


def test_of_a_camera_s_multi_picture_jpeg_the_first_is_taken():
    content = encoded(noise(), "MPO", save_all=True, append_images=[noise().resize((6, 4))])
    check_image(content)
    assert decode(content, size=None).size == (60, 40)


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(900, 2), (2, 900), (201, 1)])
def test_a_shape_that_models_refuse_is_refused_on_loading(shape):
    for read in (check_image, decode):
        with pytest.raises(DataError, match=f"has {shape[0]} x {shape[1]} pixels; models refuse more than 200 to 1"):
            read(encoded(PIL.Image.new("L", shape)))


@pytest.mark.parametrize("shape", [(1990, 10), (10, 1990), (4000, 21), (200, 1)])
@pytest.mark.parametrize("limit", [1, 100, 1000, 5000])
def test_no_shrinking_makes_a_shape_that_models_refuse(shape, limit):
    width, height = decode(encoded(PIL.Image.new("L", shape)), size=None, max_pixels=limit).size
    assert max(width, height) <= 200 * min(width, height)


# --- files that are none ---------------------------------------------------------------------------------------------


def test_a_png_with_right_checksums_and_broken_pixels_is_found_on_loading():
    good = encoded(noise())
    at = good.index(b"IDAT")
    length = int.from_bytes(good[at - 4 : at])
    for broken in (zlib.compress(b"\0" * 50), b"no stream", zlib.compress(b"\x09" * 40 * (1 + 60 * 3))):
        part = len(broken).to_bytes(4) + b"IDAT" + broken + zlib.crc32(b"IDAT" + broken).to_bytes(4)
        with pytest.raises(DataError, match="cut short or corrupt"):
            check_image(good[: at - 4] + part + good[at + length + 8 :])


def test_a_format_that_pillow_would_hand_to_another_program_is_no_image(tmp_path, monkeypatch):
    import PIL.EpsImagePlugin

    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("Ghostscript was called"))
    (tmp_path / "a.png").write_bytes(encoded(PIL.Image.new("RGB", (20, 20)), "EPS"))
    with pytest.raises(DataError, match="is no image"):
        check_image(tmp_path / "a.png")


def test_a_pipe_a_device_and_a_folder_are_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "pipe.png", tmp_path / "folder.png", Path("/dev/zero"), Path("/dev/null")):
        for read in (check_image, lambda path: MedicalImage().decode_example({"bytes": None, "path": str(path)})):
            with pytest.raises(DataError, match="is a folder, a pipe or a device"):
                read(path)


def test_a_link_or_pipe_that_is_laid_after_loading_is_not_followed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        noise().save(folder / name)
    noise().save(tmp_path / "secret.png")
    stored = [stored_path(folder, name) for name in ("a.png", "b.png")]
    assert [Path(path) for path in stored] == [folder / "a.png", folder / "b.png"]
    ds = datasets.Dataset.from_dict({"image": stored}, features=datasets.Features({"image": MedicalImage()}))
    assert ds[0]["image"].size == (384, 384)
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "b.png")
    with pytest.raises(DataError, match="link to outside"):
        ds[0]
    with pytest.raises(DataError, match="no regular file"):
        ds[1]


def test_a_stored_path_has_the_name_that_is_on_the_disk(tmp_path):
    file = tmp_path / unicodedata.normalize("NFD", "é.png")
    noise().save(file)
    assert stored_path(tmp_path, unicodedata.normalize("NFC", "é.png")) == f"{tmp_path}/./{file.name}"


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    busy = []

    def slow(image, again):
        busy.append(1)
        assert len(busy) == 1
        time.sleep(0.01)
        busy.pop()
        return to_rgb(image, again)

    monkeypatch.setattr("medr1kit.data.images.to_rgb", slow)
    monkeypatch.setattr("medr1kit.data.images._LARGE_PIXELS", 100)
    content = encoded(noise())
    assert check_images(range(6), lambda key: check_image(content)) == {}


# --- what is saved ---------------------------------------------------------------------------------------------------

SECRET = b"Jane Doe 48.137N"


def with_secrets(kind):
    exif, info = PIL.Image.Exif(), PIL.PngImagePlugin.PngInfo()
    exif[0x010E] = SECRET.decode()
    info.add_text("Patient", SECRET.decode())
    options = {
        "JPEG": {"exif": exif},
        "JPEG comment": {"comment": SECRET},
        "JPEG profile": {"icc_profile": SECRET * 9},
        "PNG": {"pnginfo": info},
        "PNG exif": {"exif": exif},
        "PNG profile": {"icc_profile": SECRET * 9},
        "WEBP": {"exif": exif, "lossless": True},
        "TIFF": {"tiffinfo": {270: SECRET.decode()}},
        "GIF": {"comment": SECRET},
        "MPO": {"exif": exif, "save_all": True, "append_images": [noise()]},
    }[kind]
    return encoded(noise(), kind.split()[0], **options)


@pytest.mark.parametrize(
    "kind",
    ["JPEG", "JPEG comment", "JPEG profile", "PNG", "PNG exif", "PNG profile", "WEBP", "TIFF", "GIF", "MPO"],
)
def test_no_metadata_travels_into_what_is_saved(kind, tmp_path):
    content = with_secrets(kind)
    assert kind == "PNG profile" or SECRET in content
    (tmp_path / "a.img").write_bytes(content)
    features = datasets.Features({"image": MedicalImage(size=None)})
    values = [str(tmp_path / "a.img"), {"bytes": content, "path": None}, None]
    ds = datasets.Dataset.from_dict({"image": values}, features=features)
    ds.save_to_disk(tmp_path / "saved")
    saved = datasets.load_from_disk(tmp_path / "saved")
    raw = saved.cast_column("image", datasets.Image(decode=False))["image"]
    for row in raw[:2]:
        assert SECRET not in row["bytes"]
        image = PIL.Image.open(BytesIO(row["bytes"]))
        image.load()
        assert not dict(image.getexif()) and not {"icc_profile", "comment", "exif", "Patient"} & image.info.keys()
    assert raw[2] is None
    expected = np.asarray(decode(content, size=None))
    assert all(np.array_equal(np.asarray(saved[i]["image"]), expected) for i in (0, 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_without_metadata_is_saved_byte_for_byte(kind):
    content = encoded(noise(), kind)
    assert bare(content) == content


def test_a_rotated_picture_is_saved_upright():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    content = encoded(noise(60, 40), "JPEG", exif=exif)
    assert PIL.Image.open(BytesIO(bare(content))).size == (40, 60)


def test_the_chosen_frame_is_what_is_saved(tmp_path):
    features = datasets.Features({"image": MedicalImage(size=None, frame=2)})
    ds = datasets.Dataset.from_dict({"image": [{"bytes": stack("TIFF"), "path": "a.tif"}]}, features=features)
    ds.save_to_disk(tmp_path / "saved")
    saved = datasets.load_from_disk(tmp_path / "saved")
    assert saved.features["image"].frame == 2 and saved[0]["image"].getpixel((5, 5)) == (200, 200, 200)


# --- as a column -----------------------------------------------------------------------------------------------------


@pytest.fixture
def column(tmp_path):
    for i in range(6):
        PIL.Image.new("RGB", (40, 30), (i * 20, 0, 0)).save(tmp_path / f"{i}.png")
    features = datasets.Features({"i": datasets.Value("int64"), "image": MedicalImage(size=16)})
    data = {"i": list(range(6)), "image": [str(tmp_path / f"{i}.png") for i in range(6)]}
    return datasets.Dataset.from_dict(data, features=features)


def shades(ds):
    assert isinstance(ds.features["image"], MedicalImage) and ds.features["image"].size == 16
    assert all(row["image"].size == (16, 16) for row in ds)
    return [row["image"].getpixel((0, 0))[0] for row in ds] == [i * 20 for i in ds["i"]]


def test_the_column_survives_what_one_does_with_a_data_set(column, tmp_path):
    assert shades(column)
    assert shades(column.select([4, 1]))
    assert shades(column.filter(lambda i: i > 2, input_columns="i"))
    assert shades(column.map(lambda row: {"j": row["i"] + 1}))
    assert shades(column.map(lambda row: {"red": row["image"].getpixel((0, 0))[0]}))
    assert shades(column.shuffle(seed=0).add_column("k", list(range(6))))
    assert shades(datasets.concatenate_datasets([column, column]))
    split = column.train_test_split(2, seed=0)
    assert shades(split["train"]) and shades(split["test"])
    split.save_to_disk(tmp_path / "saved")
    for file in tmp_path.glob("*.png"):
        file.unlink()  # a saved data set stands alone
    assert shades(datasets.load_from_disk(tmp_path / "saved")["train"])


def test_a_saved_column_names_the_module_to_import_where_it_is_not_known(column, tmp_path, monkeypatch):
    column.save_to_disk(tmp_path / "saved")
    monkeypatch.delitem(_FEATURE_TYPES, "medr1kit.data.images.MedicalImage")
    with pytest.raises(ValueError, match=r"'medr1kit\.data\.images\.MedicalImage' not found"):
        datasets.load_from_disk(tmp_path / "saved")


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_a_column_saved_by_version_0_1_0_loads_and_is_saved_under_its_new_name(column, tmp_path, kind, monkeypatch):
    def save(ds, folder):
        if kind == "saved":
            ds.save_to_disk(folder)
        else:
            folder.mkdir()
            ds.to_parquet(folder / "rows.parquet")

    def load(folder):
        if kind == "saved":
            return datasets.load_from_disk(folder)
        return datasets.Dataset.from_parquet(str(folder / "rows.parquet"), cache_dir=str(tmp_path / "cache"))

    new, old = b"medr1kit.data.images.MedicalImage", b"medr1kit.images.MedicalImage"
    with monkeypatch.context() as patch:
        patch.setattr(MedicalImage, "_type", old.decode())
        save(column, tmp_path / "old")
    assert shades(load(tmp_path / "old"))
    save(load(tmp_path / "old"), tmp_path / "again")
    files = {
        folder: b"".join(path.read_bytes() for path in (tmp_path / folder).iterdir()) for folder in ("old", "again")
    }
    assert old in files["old"] and new not in files["old"] and new in files["again"] and old not in files["again"]


def test_adding_a_column_or_choosing_rows_decodes_no_image(column, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(MedicalImage, "decode_example", refuse)
    column.map(lambda row: {"j": row["i"] + 1}).filter(lambda i: i > 2, input_columns="i").select([0])
    with pytest.raises(AssertionError, match="decoded"):
        column[0]


def test_a_file_that_breaks_later_is_an_error_that_names_it(column, tmp_path):
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:-40])
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        column[1]
    with pytest.raises(DataError, match=r"image missing: .*2\.png"):
        column[2]
    assert column[0]["image"].size == (16, 16)


def test_the_image_as_it_lies_in_its_file_can_still_be_had(column):
    assert column.cast_column("image", datasets.Image())[0]["image"].size == (40, 30)
    assert Path(column.cast_column("image", datasets.Image(decode=False))[0]["image"]["path"]).name == "0.png"
