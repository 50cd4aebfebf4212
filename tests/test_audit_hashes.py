"""Image hashes: what counts as one picture, and that no picture is read twice."""

import os
import random
import sqlite3
from io import BytesIO

import datasets
import numpy as np
import pytest
from PIL import Image

from medr1kit.audits import hashes
from medr1kit.audits.hashes import UNREADABLE, cache_folder, hash_data, hash_files, hash_image, nearest
from medr1kit.data.images import MedicalImage
from medr1kit.vqa import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDR1KIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch):
    """What was hashed, in order."""
    seen = []
    monkeypatch.setattr(hashes, "hash_image", lambda source: seen.append(source) or hash_image(source))
    return seen


def picture(seed=0, size=(300, 240)):
    """Smooth blobs on a dark ground, another one a seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray((255 * rng.random((6, 8))).astype(np.uint8))
    return coarse.resize(size, Image.BICUBIC).convert("RGB")


def encoded(image, kind="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bits(one, other):
    return (one.look ^ other.look).bit_count()


def test_a_copy_in_another_size_or_format_looks_alike_and_another_picture_does_not():
    first = hash_image(encoded(picture()))
    for copy in (
        encoded(picture(), "JPEG", quality=75),
        encoded(picture().resize((384, 384))),
        encoded(picture().resize((150, 120)), "JPEG", quality=75),
        encoded(picture(size=(1200, 960)), "JPEG"),  # decoded at a smaller scale
    ):
        hashed = hash_image(copy)
        assert bits(first, hashed) <= 2 and hashed.content != first.content
    assert all(bits(first, hash_image(encoded(picture(seed)))) > 10 for seed in range(1, 6))
    assert hash_image(encoded(picture())) == first


def test_a_16_bit_image_looks_like_its_8_bit_copy():
    values = np.asarray(picture().convert("L"))
    deep = Image.fromarray(values.astype(np.uint16) * 256)
    assert bits(hash_image(encoded(deep)), hash_image(encoded(Image.fromarray(values)))) <= 2


def test_a_flat_image_has_no_look_and_a_broken_one_nothing(tmp_path):
    flat = hash_image(encoded(Image.new("RGB", (50, 50), (9, 9, 9))))
    assert flat.look is None and flat.content is not None
    assert hash_image(b"no image") == hash_image(tmp_path / "missing.png") == UNREADABLE
    assert hash_image(encoded(picture())[:200]) == UNREADABLE


def test_files_are_read_once_until_they_change(tmp_path, reads):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        path.write_bytes(encoded(picture(seed)))
    first = hash_files([*paths, paths[0], tmp_path / "missing.png"])
    assert len(first) == 3 and sorted(reads) == sorted(map(str, paths))
    assert first[str(paths[0])] == hash_image(paths[0]) and first[str(tmp_path / "missing.png")] == UNREADABLE
    assert hash_files([*paths, tmp_path / "missing.png"]) == first and len(reads) == 2
    paths[0].write_bytes(encoded(picture(7)))
    os.utime(paths[0], ns=(1, 1))
    assert hash_files(paths)[str(paths[0])] == hash_image(paths[0]) != first[str(paths[0])]
    assert len(reads) == 3


def test_the_cache_holds_large_hashes_and_flat_images(tmp_path):
    path = tmp_path / "flat.png"
    path.write_bytes(encoded(Image.new("L", (9, 9), 3)))
    assert hash_files([path]) == hash_files([path]) == {str(path): hash_image(path)}


def test_a_cache_that_cannot_be_written_does_not_stop_hashing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDR1KIT_CACHE", str(tmp_path / "file"))
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    assert hash_files([tmp_path / "a.png"]) == {str(tmp_path / "a.png"): hash_image(tmp_path / "a.png")}


def test_a_damaged_cache_does_not_stop_hashing(tmp_path):
    cache_folder().mkdir(parents=True)
    (cache_folder() / hashes._CACHE_FILE).write_bytes(b"no database" * 200)
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    assert hash_files([tmp_path / "a.png"])[str(tmp_path / "a.png")].look is not None


def test_the_cache_lies_where_the_user_wants_it(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("MEDR1KIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "other" / "medr1kit"
    hash_files([])
    with sqlite3.connect(cache_folder() / hashes._CACHE_FILE) as cache:
        assert cache.execute("SELECT count(*) FROM hashes").fetchone() == (0,)


def test_rows_about_one_image_read_it_once_from_a_folder(tmp_path, reads):
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images/a.png").write_bytes(encoded(picture()))
    rows = ["Images/a.png", "Images/b.png", "Images/a.png", None, "../escape.png"]
    found = hash_data([{}] * 5, rows, tmp_path)
    assert [hashed == UNREADABLE for hashed in found] == [False, True, False, True, True]
    assert len(reads) == 1
    with pytest.raises(DataError, match="does not exist"):
        hash_data([{}], ["a.png"], tmp_path / "nowhere")


@pytest.mark.parametrize("feature", [datasets.Image(), MedicalImage()])
def test_the_images_of_a_data_set_are_hashed_as_they_lie_in_their_files(feature, tmp_path, reads):
    (tmp_path / "a.jpg").write_bytes(encoded(picture(), "JPEG"))
    stored = [
        {"path": str(tmp_path / "a.jpg"), "bytes": None},
        {"path": None, "bytes": encoded(picture(1))},
        {"path": str(tmp_path / "gone.jpg"), "bytes": None},
        {"path": None, "bytes": encoded(picture(1))},
    ]
    ds = datasets.Dataset.from_dict({"image": stored}, features=datasets.Features(image=feature))
    found = hash_data(ds, ["a", "b", "c", "b"], None)
    assert found == [hash_image(tmp_path / "a.jpg"), hash_image(encoded(picture(1))), UNREADABLE, found[1]]
    assert len(reads) == 2
    assert hash_data(ds, None, None) == found
    assert hash_data([{}], ["a"], None) is None


def test_near_twins_are_those_of_comparing_all_pairs():
    rng = random.Random(0)
    centres = [rng.getrandbits(64) for _ in range(30)]

    def looks(n):
        found = []
        for _ in range(n):
            look = rng.choice(centres)
            for _ in range(rng.randrange(9)):
                look ^= 1 << rng.randrange(64)
            found.append(look)
        return found

    known, asked = looks(200), looks(300)
    for distance in (0, 1, 2, 4, 8):
        apart = [min((look ^ other).bit_count() for other in known) for look in asked]
        found = nearest(asked, known, distance).tolist()
        assert [place >= 0 for place in found] == [bits <= distance for bits in apart]
        near = [(look, place, bits) for look, place, bits in zip(asked, found, apart) if place >= 0]
        assert all((look ^ known[place]).bit_count() == bits for look, place, bits in near) and 0 < len(near) < 300


def test_no_look_is_near_nothing():
    assert nearest([None, 5], [None], 4).tolist() == [-1, -1]
    assert nearest([], [1], 4).tolist() == []
    assert nearest([6], [None, 6, 6], 4).tolist() == [1], "of equals the first"
