"""Pixels: what any file holds becomes 8-bit RGB, by the rules and not by Pillow's defaults."""

import struct
import zlib
from io import BytesIO

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
import pytest
import tifffile

from medr1kit.data.images import read_image
from medr1kit.data.pixels import eight_bits, to_rgb
from medr1kit.vqa import DataError

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # colour types of a PNG


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values, colour, *, interlaced=False, extra=b""):
    """A 16-bit PNG of (height, width, channels), written by hand: Pillow cannot."""
    height, width = values.shape[:2]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [values[y::down, x::right] for y, x, down, right in passes] if interlaced else [values]
    raw = b"".join(b"\0" + line.astype(">u2").tobytes() for part in parts if part.size for line in part)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, int(interlaced))
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(values, **options):
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def saved(image, kind="PNG", **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(content, **options):
    return np.asarray(read_image(content, **options))


def ramp(*shape, top=4095):
    return np.linspace(0, top, int(np.prod(shape))).round().astype(np.uint16).reshape(shape)


def scaled(values):
    """The rule by hand, for values without outliers."""
    values = values.astype(float)
    return ((values - values.min()) * 255 / (values.max() - values.min())).round().astype(np.uint8)


# --- the range -------------------------------------------------------------------------------------------------------


def test_the_whole_range_is_used_where_no_pixel_stands_out():
    assert eight_bits(np.array([-100, 0, 100, 155])).tolist() == [0, 100, 200, 255]


@pytest.mark.parametrize("side", [20, 40, 500])
@pytest.mark.parametrize("hot", [65535, 0])
def test_a_dead_pixel_takes_no_contrast_away(side, hot):
    values = ramp(side, side) + np.uint16(20000)
    expected = eight_bits(values)
    values[side // 2, 3] = hot
    difference = np.abs(eight_bits(values).astype(int) - expected)
    difference[side // 2, 3] = 0
    assert difference.max() <= 2 and eight_bits(values)[side // 2, 3] == (255 if hot else 0)


def test_one_pixel_of_a_thousand_is_clipped_and_more_are_not():
    values = ramp(100, 100)
    values.flat[:10] = 60000  # 0.1 %
    assert int(eight_bits(values)[50, 50]) == pytest.approx(128, abs=2)
    values.flat[:11] = 60000
    assert int(eight_bits(values)[50, 50]) == pytest.approx(255 * 2048 / 60000, abs=1)


def test_a_moderate_peak_is_not_clipped():
    values = ramp(100, 100)
    values[0, 0] = 8000  # less than twice the range of the others
    assert eight_bits(values).max() == 255 and eight_bits(values)[-1, -1] == round(4095 * 255 / 8000)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_the_rarest_value_of_a_mask_survives(top):
    mask = np.zeros((200, 200), np.uint16)
    mask[100, 100:103] = top
    assert eight_bits(mask)[100, 101] == 255 and eight_bits(mask).sum() == 3 * 255
    labels = np.arange(40_000).reshape(200, 200) // 4000  # ten structures, and a small eleventh
    labels[0, 0] = 40
    assert len(np.unique(eight_bits(labels))) == 11


def test_a_single_value_and_nothing_finite_are_black():
    assert not eight_bits(np.full((3, 3), 40000, np.uint16)).any()
    assert not eight_bits(np.full((3, 3), np.nan)).any()


def test_what_is_not_finite_is_black_and_takes_no_part():
    assert eight_bits(np.array([np.nan, -1.0, np.inf, 0.0, 1.0])).tolist() == [0, 0, 0, 128, 255]


# --- 16 bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("top", [4095, 65535])
def test_a_colour_png_of_16_bits_keeps_all_its_bits(top, interlaced):
    values = ramp(20, 30, 3, top=top)
    assert np.array_equal(seen(png16(values, RGB, interlaced=interlaced)), scaled(values))


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_a_colour_tiff_of_16_bits_keeps_all_its_bits(options):
    values = ramp(32, 48, 3)
    assert np.array_equal(seen(tiff(values, photometric="rgb", planarconfig="contig", **options)), scaled(values))


@pytest.mark.parametrize("interlaced", [False, True])
def test_grey_with_alpha_of_16_bits_lies_on_white_and_its_hidden_values_take_no_part(interlaced):
    values = np.zeros((20, 30, 2), np.uint16)
    values[..., 0], values[..., 1] = ramp(20, 30), 65535
    values[:5] = (60000, 0)
    picture = seen(png16(values, GREY_ALPHA, interlaced=interlaced))
    assert (picture[:5] == 255).all()
    assert np.array_equal(picture[5:, :, 0], scaled(values[5:, :, 0]))


@pytest.mark.parametrize("write", [lambda v: png16(v, RGBA), lambda v: tiff(v, photometric="rgb", extrasamples=[2])])
def test_rgba_of_16_bits_lies_on_white(write):
    values = np.dstack([ramp(20, 30, 3), np.full((20, 30), 65535, np.uint16)])
    values[:2, :, 3] = 0
    picture = seen(write(values))
    assert (picture[:2] == 255).all()
    assert np.array_equal(picture[2:], scaled(values[2:, :, :3]))


def test_a_key_of_16_bits_is_transparent_exactly():
    values = ramp(20, 30, 3)
    values[0, 0] = (7, 8, 9)
    values[0, 1] = (7, 8, 10)  # the same in 8 bits
    picture = seen(png16(values, RGB, extra=chunk(b"tRNS", struct.pack(">HHH", 7, 8, 9))))
    assert picture[0, 0].tolist() == [255, 255, 255] and picture[0, 1].max() < 5
    grey = seen(png16(ramp(20, 30, 1), GREY, extra=chunk(b"tRNS", struct.pack(">H", 0))))
    assert grey[0, 0].tolist() == [255, 255, 255] and grey[0, 1].max() < 5


def test_16_bits_in_planes_are_refused_and_not_misread():
    content = tiff(ramp(3, 32, 48), photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match="more than 8 bits in a form that is not read here; save it as an RGB PNG"):
        read_image(content)


def test_colour_of_a_ppm_is_scaled_by_its_declared_depth_and_refused_where_that_is_16_bits():
    values = ramp(20, 30, 3).astype(">u2").tobytes()
    assert np.array_equal(seen(b"P6 30 20 4095\n" + values), scaled(ramp(20, 30, 3)))
    assert np.array_equal(seen(b"P5 30 60 65535\n" + values)[..., 0], scaled(ramp(60, 30)))
    with pytest.raises(DataError, match="more than 8 bits in a form that is not read here"):
        read_image(b"P6 30 20 65535\n" + values)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_where_zero_is_white_the_picture_is_turned(kind):
    values = np.array([[0, 100], [200, 255]], kind)
    expected = np.array([[255, 155], [55, 0]])
    assert np.array_equal(seen(tiff(values, photometric="miniswhite"))[..., 0], expected)
    assert np.array_equal(seen(tiff(values, photometric="minisblack"))[..., 0], 255 - expected)


def test_colour_of_16_bits_stands_upright():
    content = png16(ramp(10, 30, 3), RGB, extra=chunk(b"eXIf", PIL.Image.Exif().tobytes()))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = png16(ramp(10, 30, 3), RGB, extra=chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert read_image(content).size == (30, 10) and read_image(turned).size == (10, 30)
    assert np.array_equal(seen(turned), np.rot90(seen(content), -1))


# --- transparency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "key", "L key", "PA"])
def test_what_is_transparent_is_white(mode):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[5:15, 5:15] = (30, 30, 30, 255)
    image = PIL.Image.fromarray(pixels)
    options = {}
    if mode == "P":
        image, options = image.convert("RGB").quantize(4), {}
        options = {"transparency": image.getpixel((0, 0))}
    elif mode == "key":
        image, options = image.convert("RGB"), {"transparency": (0, 0, 0)}
    elif mode == "L key":
        image, options = image.convert("L"), {"transparency": 0}
    else:
        image = image.convert(mode) if mode != "PA" else image.convert("RGB").quantize(4)
        options = {"transparency": image.getpixel((0, 0))} if mode == "PA" else {}
    picture = seen(saved(image, **options))
    assert picture[0, 0].tolist() == [255, 255, 255] and picture[10, 10].tolist() == [30, 30, 30]


def test_half_transparent_lies_half_on_white():
    assert seen(saved(PIL.Image.new("RGBA", (4, 4), (100, 0, 200, 51))))[0, 0].tolist() == [224, 204, 244]


def test_an_alpha_channel_that_was_never_filled_hides_nothing():
    assert seen(saved(PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 0))))[0, 0].tolist() == [10, 20, 30]
    values = np.dstack([ramp(20, 30, 3), np.zeros((20, 30), np.uint16)])
    assert np.array_equal(seen(png16(values, RGBA)), scaled(values[..., :3]))


# --- other colours ---------------------------------------------------------------------------------------------------


def test_one_bit_ycbcr_and_lab_are_read():
    assert seen(saved(PIL.Image.new("1", (4, 4), 1), "TIFF"))[0, 0].tolist() == [255, 255, 255]
    assert seen(saved(PIL.Image.new("RGB", (4, 4), "red").convert("YCbCr"), "TIFF"))[0, 0, 0] > 250
    lab = saved(PIL.Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF")  # lightness 100 %, no colour
    assert seen(lab)[0, 0].min() > 250


def test_nothing_but_pixels_is_left_of_a_file():
    texts = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    texts[270] = "Jane Doe"
    image = PIL.Image.open(BytesIO(saved(PIL.Image.new("RGB", (4, 4)), "TIFF", tiffinfo=texts, icc_profile=b"x" * 200)))
    picture = to_rgb(image)
    assert picture.info == {} and not dict(picture.getexif())
    for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
        assert b"Jane" not in saved(picture, kind) and b"x" * 100 not in saved(picture, kind)
