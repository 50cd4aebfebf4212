"""One check for each kind of argument."""

import datasets
import pandas as pd
import pytest

from medr1kit.given import choice, number, output_file, path_given, questions_given, whole_number
from medr1kit.vqa import DataError

ROW = {"id": "1", "image_id": "a", "problem": "p", "question": "q", "options": ["x", "y"], "answer": "A"}


def test_home_is_expanded_as_a_shell_does(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_given("~/runs", "output_dir") == tmp_path / "runs"


@pytest.mark.parametrize("value", [None, "", 3, ["a"]])
def test_what_is_no_path_is_named(value):
    with pytest.raises(DataError, match="output_dir is"):
        path_given(value, "output_dir")


def test_an_output_file_is_what_its_name_says(tmp_path):
    assert output_file(tmp_path / "new" / "p.parquet", "output", [".parquet"]).parent.is_dir()
    with pytest.raises(DataError, match=r"does not end in \.parquet"):
        output_file(tmp_path / "p.csv", "output", [".parquet"])
    with pytest.raises(DataError, match="is a folder"):
        output_file(tmp_path, "output", [".parquet"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        output_file(tmp_path / "file" / "p.parquet", "output", [".parquet"])


@pytest.mark.parametrize("value", ["10", 1.5, True, 0, None, 11])
def test_whole_numbers_have_a_range(value):
    with pytest.raises(DataError, match="from 1 to 10"):
        whole_number(value, "n", 1, 10)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", 2, True])
def test_numbers_have_a_range(value):
    with pytest.raises(DataError, match="from 0 to 1"):
        number(value, "share", 0, 1)


def test_the_word_that_was_meant_is_named():
    with pytest.raises(DataError, match=r"did you mean 'gpu'\?; use one of tiny, gpu"):
        choice("gpuu", "preset", ["tiny", "gpu"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("phantoms", "load_vqa"),
        (pd.DataFrame([ROW]), "load_vqa"),
        ([ROW], "load_vqa"),
        (datasets.DatasetDict({"test": datasets.Dataset.from_list([ROW])}), "split"),
        (datasets.Dataset.from_list([ROW]).to_iterable_dataset(), "streamed"),
        (datasets.Dataset.from_list([ROW]).remove_columns("options"), "'options'"),
        (datasets.Dataset.from_list([ROW]).select([]), "no rows"),
        (object(), "an object"),
    ],
)
def test_what_is_no_data_set_of_questions_is_named(value, words):
    with pytest.raises(DataError, match=words):
        questions_given(value)


def test_images_are_asked_for_where_they_are_needed():
    table = datasets.Dataset.from_list([ROW])
    assert questions_given(table) is table
    with pytest.raises(DataError, match="images=FOLDER"):
        questions_given(table, images=True)
