"""One check for each kind of argument."""

import os

import datasets
import numpy as np
import pandas as pd
import pytest

from medr1kit.given import (
    QUESTIONS,
    choice,
    number,
    output_file,
    path_given,
    questions_given,
    table_given,
    texts_given,
    truth,
    whole_number,
)
from medr1kit.results.runs import Run
from medr1kit.vqa import DataError

ROW = {"id": "1", "image_id": "a", "problem": "p", "question": "q", "options": ["x", "y"], "answer": "A"}


def test_home_is_expanded_as_a_shell_does(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_given("~/runs", "output_dir") == tmp_path / "runs"


@pytest.mark.parametrize("value", [None, "", 3, ["a"]])
def test_what_is_no_path_is_named(value):
    with pytest.raises(DataError, match="output_dir is"):
        path_given(value, "output_dir")


def test_a_variable_is_expanded_as_a_shell_does(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.delenv("NOWHERE", raising=False)
    assert path_given("$SCRATCH/a", "output") == path_given("${SCRATCH}/a", "output") == tmp_path / "a"
    with pytest.raises(DataError, match=r"the variable \$NOWHERE is not set"):
        path_given("$NOWHERE/a", "output")
    (tmp_path / "$NOWHERE ").mkdir()  # a strange name of something that is there
    assert path_given(tmp_path / "$NOWHERE ", "path").is_dir()
    assert path_given("cost 5$", "path").name == "cost 5$"


@pytest.mark.parametrize("value", ["runs/x ", " ", "runs/x\n", "a\0b", "x" * 300])
def test_what_can_be_no_name_of_a_file_is_refused(value):
    with pytest.raises(DataError, match=r"begins or ends with a blank|cannot be a path") as refusal:
        path_given(value, "output_dir")
    assert len(str(refusal.value)) < 250


def test_no_is_not_taken_for_true():
    assert truth(True, "overwrite") and not truth(np.bool_(False), "overwrite")
    for value in ("no", 1, None):
        with pytest.raises(DataError, match=r"overwrite is .*; give True or False"):
            truth(value, "overwrite")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"problem": None}, "problem is None"),
        ({"problem": "p <|image_pad|>"}, "control token"),
        ({"answer": "C"}, "the gold answer 'C' is none of its options"),
        ({"answer": None}, "the gold answer None"),
        ({"options": ["x"]}, "of two or more"),
        ({"solution": "B"}, "answer 'A' and solution 'B' disagree"),
        ({"solution": None}, "unknown answer letter"),
    ],
)
def test_rows_changed_after_loading_are_looked_at_again(change, said):
    rows = datasets.Dataset.from_list([ROW | {"solution": "A"}, ROW | {"solution": "A"} | change])
    with pytest.raises(DataError, match=f"dataset, row 1 .1.: .*{said}.*pass changed rows through load_vqa"):
        questions_given(rows, columns=(*QUESTIONS, "solution"))


def test_an_output_file_is_what_its_name_says(tmp_path):
    assert output_file(tmp_path / "new" / "p.parquet", "output", [".parquet"]).parent.is_dir()
    with pytest.raises(DataError, match=r"does not end in \.parquet"):
        output_file(tmp_path / "p.csv", "output", [".parquet"])
    with pytest.raises(DataError, match="is a folder"):
        output_file(tmp_path, "output", [".parquet"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        output_file(tmp_path / "file" / "p.parquet", "output", [".parquet"])


def test_only_a_file_of_ours_is_replaced(tmp_path):
    ours, theirs = tmp_path / "a.html", tmp_path / "b.html"
    ours.write_text("<html><title>ours</title>")
    theirs.write_text("<html>" + " " * 2000 + "<title>ours</title>")
    assert output_file(ours, "output", [".html"], (b"<title>ours",)) == ours
    for path, mark, said in ((theirs, (b"<title>ours",), "none that medr1kit wrote"), (ours, (), "may hold notes")):
        with pytest.raises(DataError, match=said):
            output_file(path, "output", [".html"], mark)
    (tmp_path / "link.html").symlink_to(tmp_path / "nowhere.html")
    os.mkfifo(tmp_path / "pipe.html")  # to read it would wait for ever
    for name in ("link", "pipe"):
        with pytest.raises(DataError, match="none that medr1kit wrote"):
            output_file(tmp_path / f"{name}.html", "output", [".html"], (b"x",))
    with pytest.raises(DataError, match="cannot be a path"):
        output_file(tmp_path / f"{'x' * 300}.html", "output", [".html"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Run("runs/ct", {}), "a Run, not a table; pass run.metrics; the tables of a run are run.metrics, run.rollouts"),
        ("runs/ct", "the text 'runs/ct', not a table; pass run.metrics; load_run"),
        (datasets.Dataset.from_list([ROW]), "a Dataset, not a table"),
        (pd.Series([1]), "a Series, not a table"),
        (None, "None, not a table"),
        ([{"step": 1}], "a list, not a table"),
        (pd.DataFrame({"step": []}), "no rows"),
        (pd.DataFrame({"loss": [1]}), "no column 'step'; pass run.metrics"),
    ],
)
def test_what_is_no_table_is_named(value, words):
    with pytest.raises(DataError, match=words):
        table_given(value, "metrics", ["step"], "run.metrics")


@pytest.mark.parametrize("value", ["mass,cyst", None, 3, {"A": "mass"}, ["mass", 3], ["mass", None]])
def test_one_text_is_no_list_of_texts(value):
    with pytest.raises(DataError, match=r"options is .*; give a list of texts"):
        texts_given(value, "options")


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
