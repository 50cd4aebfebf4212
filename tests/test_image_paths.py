"""Image paths: one spelling, found only inside their folder, and a hint where they are not."""

import os
import unicodedata

import PIL.Image
import pytest

from medr1kit.data.files import image_folder
from medr1kit.data.image_paths import find_image, image_path
from medr1kit.vqa import DataError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (6, 4)).save(path, "PNG")
    return path


# --- one spelling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "img/a.png",
        "./img/a.png",
        "img//a.png",
        "img/./a.png",
        "img\\a.png",
        ".\\img\\a.png",
        " img/a.png\n",
        "img/a.png/",
    ],
)
def test_spellings_of_one_file_are_one_path(text):
    assert image_path(text) == "img/a.png"


def test_composed_and_decomposed_accents_are_one_path():
    one, other = (unicodedata.normalize(form, "röntgen/é.png") for form in ("NFC", "NFD"))
    assert one != other and image_path(one) == image_path(other) == one


@pytest.mark.parametrize("text", ["https://x.org//a.png", "/etc/./a.png", "a/../b.png", "..\\a.png", "IMG/A.png", ""])
def test_what_is_another_place_stays_one(text):
    kept = {"/etc/./a.png": "/etc/a.png", "..\\a.png": "../a.png"}
    assert image_path(text) == kept.get(text, text)


# --- finding ---------------------------------------------------------------------------------------------------------


def test_an_image_inside_the_folder_is_found_whatever_its_name(tmp_path):
    for name in ("a.png", "Images/NLM- Malaria Data/x (1) & é.png", "dots..in..name.png"):
        path = tmp_path / name
        picture(path)
        assert find_image(tmp_path, name) == path


@pytest.mark.parametrize(
    ("relative", "message"),
    [
        ("", "unusable image path"),
        ("a\0b.png", "unusable image path"),
        ("https://example.org/a.png", "is a URL"),
        ("file:///etc/passwd", "is a URL"),
        ("/etc/passwd", "is absolute"),
        ("~/a.png", "is absolute"),
        (".", "unusable image path"),
        ("C:\\images\\a.png", "is absolute"),
        ("\\\\server\\a.png", "is absolute"),
        ("../a.png", "leaves the image folder"),
        ("Images/../../a.png", "leaves the image folder"),
        ("Images\\..\\..\\a.png", "leaves the image folder"),
        ("missing.png", "image missing"),
        ("file.png/deeper.png", "image missing"),
        ("folder.png", "image is a directory"),
        ("x" * 5000 + ".png", "image cannot be reached"),
    ],
)
def test_other_paths_are_refused_with_the_path_named(tmp_path, relative, message):
    (tmp_path / "in" / "folder.png").mkdir(parents=True)
    picture(tmp_path / "in" / "file.png")
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        find_image(tmp_path / "in", relative)


def test_a_link_counts_by_where_it_leads(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png")
    picture(tmp_path / "secret.png")
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "broken.png").symlink_to(folder / "gone.png")
    assert find_image(folder, "inside.png").samefile(folder / "a.png")
    for name, message in (("outside.png", "link to outside"), ("circle.png", "reached"), ("broken.png", "missing")):
        with pytest.raises(DataError, match=message):
            find_image(folder, name)


def test_an_image_folder_that_is_itself_a_link_works(tmp_path):
    (tmp_path / "real").mkdir()
    picture(tmp_path / "real" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert find_image(tmp_path / "link", "a.png").is_file()


def test_passing_the_folder_images_itself_is_answered_with_its_parent(tmp_path):
    (tmp_path / "Images" / "X").mkdir(parents=True)
    picture(tmp_path / "Images" / "X" / "a.png")
    with pytest.raises(DataError) as error:
        find_image(tmp_path / "Images", "Images/X/a.png")
    assert f"images={str(tmp_path)!r}" in str(error.value)


@pytest.mark.parametrize("asked", ["NFC", "NFD"])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_an_accent_is_found_however_it_is_composed(tmp_path, asked, on_disk):
    file = picture(tmp_path / unicodedata.normalize(on_disk, "Köln") / unicodedata.normalize(on_disk, "röntgen é.png"))
    assert find_image(tmp_path, unicodedata.normalize(asked, "Köln/röntgen é.png")) == file


def test_backslashes_are_found_as_folders_and_as_a_part_of_a_name(tmp_path):
    file = picture(tmp_path / "img" / "a.png")
    assert find_image(tmp_path, "img\\a.png") == find_image(tmp_path, ".\\img\\a.png") == file
    if os.sep == "/":  # an archive made on Windows and unpacked elsewhere
        odd = picture(tmp_path / "x" / "img\\b.png")
        assert find_image(tmp_path, "x\\img\\b.png") == odd


def test_a_file_that_appears_after_a_first_look_is_found(tmp_path):
    with pytest.raises(DataError, match="image missing"):
        find_image(tmp_path, "é.png")
    file = picture(tmp_path / unicodedata.normalize("NFD", "é.png"))
    os.utime(tmp_path, (1, 1))  # a coarse clock would not see the change
    assert find_image(tmp_path, "é.png") == file


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("img/A.PNG", "there is 'a.png': upper and lower case count"),
        ("IMG/a.png", "there is 'img': upper and lower case count"),
        ("img/a", "there is 'a.png': write the path with its ending"),
        ("img/b.png", "images= must be the folder"),
    ],
)
def test_a_missing_image_is_answered_with_the_one_that_was_meant(tmp_path, asked, hint):
    picture(tmp_path / "img" / "a.png")
    if (tmp_path / asked).exists():
        pytest.skip("this disk does not tell case")
    with pytest.raises(DataError, match="image missing") as error:
        find_image(tmp_path, asked)
    assert hint in str(error.value)


def test_an_image_in_the_text_of_a_path_does_not_fill_the_message(tmp_path):
    with pytest.raises(DataError, match="is a URL") as error:
        find_image(tmp_path, "data:image/png;base64," + "A" * 9000)
    assert len(str(error.value)) < 500


def test_a_folder_linked_into_the_image_folder_is_a_part_of_it_and_no_deeper_link_is(tmp_path):
    store, folder = tmp_path / "store", tmp_path / "in"
    file, secret = picture(store / "X" / "a.png"), picture(tmp_path / "private" / "s.png")
    folder.mkdir()
    (folder / "Images").symlink_to(store)
    assert find_image(folder, "Images/X/a.png").samefile(file)
    (store / "X" / "out.png").symlink_to(secret)
    (store / "deep").symlink_to(secret.parent)
    (folder / "own").mkdir()
    (folder / "own" / "deep").symlink_to(secret.parent)
    (folder / "s.png").symlink_to(secret)
    for name in ("Images/X/out.png", "Images/deep/s.png", "own/deep/s.png", "s.png"):
        with pytest.raises(DataError, match=r"link to outside.*images="):
            find_image(folder, name)


def test_a_tilde_in_images_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    file = picture(tmp_path / "films" / "a.png")
    assert find_image(image_folder("~/films"), "a.png") == file


def test_a_path_without_its_folder_and_several_paths_in_one_get_a_hint(tmp_path):
    (tmp_path / "ct").mkdir()
    for name in ("ct/a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="in its folder 'ct': pass images="):
        find_image(tmp_path, "a.png")
    with pytest.raises(DataError, match="it names several images"):
        find_image(tmp_path, "b.png;c.png")


@pytest.mark.parametrize("asked", ["a\u00a0b-c.png", "a b\u2011c.png"])
def test_a_name_that_looks_the_same_gets_a_hint(tmp_path, asked):
    (tmp_path / "a b-c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'a b-c.png': a character that looks the same is another one"):
        find_image(tmp_path, asked)
