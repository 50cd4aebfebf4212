"""Pictures: fetched by id, one at a time, and forgotten when they take too much room."""

import base64
import io

import datasets
import numpy as np
import PIL.Image
import pytest
from widget_fakes import check_safe

from medr1kit.data.images import MedicalImage
from medr1kit.data.phantoms import redraw
from medr1kit.views.pictures import Pictures, encode
from medr1kit.vqa import DataError


def png(colour, size=(300, 200)):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def data(monkeypatch):
    """Twenty images in a data set, and a list of those that were decoded."""
    decoded, decode = [], MedicalImage.decode_example

    def counting(self, value, token_per_repo_id=None):
        decoded.append(value["path"])
        return decode(self, value, token_per_repo_id)

    monkeypatch.setattr(MedicalImage, "decode_example", counting)
    rows = {
        "id": [f"q{i}" for i in range(20)],
        "image_id": [f"i{i}" for i in range(20)],
        "image": [{"bytes": png((i, 0, 0)), "path": f"{i}.png"} for i in range(20)],
    }
    features = datasets.Features(
        {"id": datasets.Value("string"), "image_id": datasets.Value("string"), "image": MedicalImage(size=None)}
    )
    made = datasets.Dataset.from_dict(rows, features=features)
    decoded.clear()
    return made, decoded


def shown(html):
    source = next(value for tag, name, value in check_safe(html).attributes if name == "src")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))


def test_no_image_is_decoded_before_it_is_shown_and_then_only_that(data):
    data, decoded = data
    pictures = Pictures(data)
    assert decoded == []
    assert shown(pictures.html({"id": "q7", "image_id": "i7"}))[0, 0].tolist() == [7, 0, 0]
    assert decoded == ["7.png"]
    pictures.html({"id": "q7", "image_id": "i7"})
    assert decoded == ["7.png"], "the thumbnail is kept"


def test_a_row_is_found_by_its_image_where_its_id_is_unknown(data):
    assert shown(Pictures(data[0]).html({"id": "other", "image_id": "i3"}))[0, 0].tolist() == [3, 0, 0]


def test_thumbnails_keep_their_shape_and_are_never_enlarged(data):
    pictures, row = Pictures(data[0]), {"id": "q1", "image_id": "i1"}
    assert shown(pictures.thumb(row, 60)).shape == (40, 60, 3)
    assert shown(pictures.thumb(row, 900)).shape == (200, 300, 3)


def attributes(html):
    return {name: value for _, name, value in check_safe(html).attributes}


def filed(image, **how):
    """A data set of one image, loaded so."""
    features = {"id": datasets.Value("string"), "image": MedicalImage(**how)}
    row = {"id": ["q"], "image": [{"bytes": image, "path": "q.png"}]}
    return Pictures(datasets.Dataset.from_dict(row, features=datasets.Features(features)))


@pytest.mark.parametrize("how", [{}, {"size": 64}, {"size": None, "max_pixels": 900}])
def test_a_film_is_shown_in_its_own_shape_and_size_however_small_a_model_sees_it(how):
    portrait = png("white", (820, 902))
    html = filed(portrait, **how).html({"id": "q", "image_id": "q"})
    assert shown(html).shape == (902, 820, 3)
    assert attributes(html)["width"] == "204"  # of 224 pixels, the longer side


def test_an_enlarged_image_is_bounded_and_a_heavy_one_is_a_jpeg():
    assert shown(filed(png("white", (3000, 1500))).html({"id": "q", "image_id": "q"})).shape == (512, 1024, 3)
    noise, file = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8), io.BytesIO()
    PIL.Image.fromarray(noise).save(file, "PNG")
    html = filed(file.getvalue()).html({"id": "q", "image_id": "q"})
    assert attributes(html)["src"].startswith("data:image/jpeg;base64,") and shown(html).shape == (600, 600, 3)
    assert len(attributes(html)["src"]) < len(file.getvalue())


def test_a_coloured_image_of_a_page_takes_less_than_half_of_its_png_and_looks_the_same():
    row, file = {"id": "X-Ray-test-0-3", "image_id": "X-Ray-test-0-3"}, io.BytesIO()
    redraw(row["image_id"]).save(file, "PNG")
    html = Pictures().html(row)
    assert len(attributes(html)["src"]) < len(base64.b64encode(file.getvalue())) / 2
    assert np.abs(shown(html).astype(int) - np.asarray(redraw(row["image_id"]).convert("RGB"))).mean() < 4  # of 255


def test_an_image_that_enlarges_is_a_stop_for_the_keys_and_a_thumbnail_is_none(data):
    pictures, row = Pictures(data[0]), {"id": "q1", "image_id": "i1"}
    assert attributes(pictures.html(row))["tabindex"] == "0" and "tabindex" not in attributes(pictures.thumb(row, 60))


def test_an_image_can_be_called_something_else_than_its_id(data):
    assert "q1" not in Pictures(data[0]).html({"id": "q1", "image_id": "i1"}, "image").partition(" src=")[0]


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(data):
    data, decoded = data
    one = Pictures(data)
    one.html({"id": "q5", "image_id": "i5"})
    pictures = Pictures(data, budget=3 * one.kept + one.kept // 2)
    decoded.clear()
    for i in (5, 6, 7, 5, 8, 5, 6):
        pictures.html({"id": f"q{i}", "image_id": f"i{i}"})
    assert decoded == ["5.png", "6.png", "7.png", "8.png", "6.png"], "5 was used again, so 6 went"
    assert 0 < pictures.kept <= pictures.budget


def test_a_thumbnail_above_the_budget_is_shown_all_the_same(data):
    assert "<img" in Pictures(data[0], budget=1).html({"id": "q1", "image_id": "i1"})


def test_phantoms_are_drawn_again_from_their_id():
    html = Pictures().html({"id": "MRI-test-0-3-MR", "image_id": "MRI-test-0-3"})
    assert np.array_equal(shown(html), np.asarray(redraw("MRI-test-0-3")))


@pytest.mark.parametrize("image_id", ["a/b.png", "CT-test-0-1+scanner=Z", "<img src=x>", "nan"])
def test_an_image_that_is_not_given_is_said_so(image_id):
    said = check_safe(Pictures().html({"id": "<b>", "image_id": image_id})).texts
    assert said == {"no-image": ["image not given; pass data=, the questions with their images"]}


def test_other_reasons_are_named_and_escaped(data):
    data, _ = data
    assert "image not in data=" in Pictures(data).html({"id": "x", "image_id": "y"})
    broken = {"id": ["q"], "image": [{"bytes": b"no image", "path": "<script>.png"}]}
    features = datasets.Features({"id": datasets.Value("string"), "image": MedicalImage()})
    html = Pictures(datasets.Dataset.from_dict(broken, features=features)).html({"id": "q", "image_id": "q"})
    assert "image unreadable: '<script>.png'" in check_safe(html).texts["no-image"][0]
    features["image"] = datasets.Image()
    html = Pictures(datasets.Dataset.from_dict(broken, features=features)).html({"id": "q", "image_id": "q"})
    assert "image unreadable" in check_safe(html).texts["no-image"][0]


def test_data_without_images_is_refused():
    with pytest.raises(DataError, match="data has no images"):
        Pictures(datasets.Dataset.from_dict({"id": ["q"]}))


def test_the_name_of_an_image_stays_in_its_attribute(data):
    data = data[0].map(lambda row: {"id": '"><script>' + row["id"]}, input_columns=None)
    html = Pictures(data).html({"id": '"><script>q1', "image_id": "i1"})
    assert check_safe(html).elements == ["img"]


def test_a_picture_on_a_page_carries_nothing_of_its_file():
    file = io.BytesIO()
    PIL.Image.new("RGB", (30, 20), "red").save(file, "PNG", icc_profile=b"Jane Doe" * 30)
    page = encode(PIL.Image.open(io.BytesIO(file.getvalue())), 224)
    assert PIL.Image.open(io.BytesIO(base64.b64decode(page.split(",")[1]))).info == {}
