"""What an audit reads, whatever form the questions come in."""

import datasets
import pandas as pd
import pytest

from medr1kit.audits.rows import column, encode, plain, read_questions
from medr1kit.vqa import DataError, fold

RAW = {"image": "Images/a.png", "problem": "What is it? A)liver, B)lung", "solution": "<answer> B </answer>"}
ROW = {"question": "What is it?", "options": ["liver", "lung"], "answer": "B", "image_id": "Images/a.png"}


def test_med_r1_rows_and_loaded_rows_are_read_alike():
    raw, loaded = read_questions([RAW], "train"), read_questions([ROW], "train")
    for side in (raw, loaded):
        assert side.options == [["liver", "lung"]] and side.gold_texts == ["lung"] and side.gold_letters() == ["B"]
        assert side.stems == ["What is it?"] and side.images == ["Images/a.png"] and side.problems == [RAW["problem"]]


@pytest.mark.parametrize("form", [pd.DataFrame, datasets.Dataset.from_list, iter])
def test_frames_datasets_and_iterators_are_read(form):
    side = read_questions(form([ROW, ROW | {"answer": "A"}]), "test")
    assert len(side) == 2 and side.gold == [1, 0] and side.images == ["Images/a.png"] * 2
    raw = read_questions(form([RAW]), "test")
    assert raw.images == ["Images/a.png"]


def test_modality_and_task_are_normalised_and_may_be_missing():
    rows = [ROW | {"modality": "us", "task": "DD"}, ROW | {"modality": None, "task": float("nan")}]
    side = read_questions(pd.DataFrame(rows), "test")
    assert side.modalities == ["Ultrasound", None] and side.tasks == ["Disease Diagnosis", None]
    with pytest.raises(DataError, match="test row 0: unknown modality 'PET'"):
        read_questions([ROW | {"modality": "PET"}], "test")


def test_a_row_without_image_has_none():
    rows = [ROW, ROW | {"image_id": None}, ROW | {"image_id": ""}]
    side = read_questions(rows, "test")
    assert side.images == ["Images/a.png", None, None]
    assert side.about_images(side.gold) == [("Images/a.png", 1), None, None]
    assert read_questions([ROW | {"image_id": None}], "test").images is None


def test_what_cannot_be_read_is_refused_with_side_and_row():
    with pytest.raises(DataError, match="train has no rows"):
        read_questions([], "train")
    with pytest.raises(DataError, match="test has no column 'options'"):
        read_questions([{"answer": "A"}], "test")
    with pytest.raises(DataError, match="test has no column 'solution'"):
        read_questions([{"problem": RAW["problem"]}], "test")
    with pytest.raises(DataError, match="train row 1: fewer than two options"):
        read_questions([RAW, RAW | {"problem": "What?"}], "train")
    with pytest.raises(DataError, match="train row 0: unknown answer letter"):
        read_questions([RAW | {"solution": "lung"}], "train")
    with pytest.raises(DataError, match="test is a name, not a table"):
        read_questions("CT_test.json", "test")
    with pytest.raises(DataError, match="test is several splits"):
        read_questions(datasets.DatasetDict({"test": datasets.Dataset.from_list([ROW])}), "test")
    for nothing in (None, float("nan"), "liver", []):
        with pytest.raises(DataError, match="test row 0: the answer 'A' names none"):
            read_questions([ROW | {"options": nothing, "answer": "A"}], "test")
    with pytest.raises(DataError, match="train row 0: the answer 'D' names none"):
        read_questions([ROW | {"answer": "D"}], "train")


def test_images_are_never_decoded():
    features = datasets.Features(image=datasets.Image(), id=datasets.Value("string"))
    broken = {"image": {"path": None, "bytes": b"not an image"}, "id": "a"}
    assert column(datasets.Dataset.from_list([broken], features=features), "id", "train") == ["a"]


def test_plain_keeps_letters_of_any_script_and_signs_that_stand_alone():
    assert plain("It's a T2,  N0") == "its a t2 n0"
    assert plain("Leberzyste (groß)") == "leberzyste groß"
    assert plain("+") != plain("-")


def test_fold_forgives_case_blanks_and_a_full_stop_and_nothing_else():
    assert fold("No.") == fold(" no ") and fold("<5 mm") != fold(">5 mm")


def test_equal_texts_have_equal_numbers_on_both_sides():
    train, test = read_questions([ROW], "train"), read_questions([ROW | {"options": ["Lung.", "LIVER", "x"]}], "test")
    seen, asked = encode(train, test)
    assert seen.texts.tolist() == [0, 1] and asked.texts.tolist() == [1, 0, 2]
    assert asked.starts.tolist() == [0] and asked.counts.tolist() == [3] and asked.gold.tolist() == [1]
    assert seen.stems.tolist() == asked.stems.tolist() == [0]


@pytest.mark.parametrize("given", [None, 3, ["a.json"], iter([1]), [None]])
def test_what_is_no_table_is_refused_with_what_it_is(given):
    with pytest.raises(DataError, match=r"train is or holds (None|an int|the text 'a.json'), no table of questions"):
        read_questions(given, "train")


def test_predictions_are_no_questions():
    frame = pd.DataFrame([ROW | {"predicted": "A", "well_formed": True}])
    for form in (frame, datasets.Dataset.from_pandas(frame)):
        with pytest.raises(DataError, match="test holds predictions, not questions; pass the data set"):
            read_questions(form, "test")


@pytest.mark.parametrize(
    ("one", "other"),
    [("X\u2011ray", "X-ray"), ("0\u20132 cm", "0-2 cm"), ("Sjo\u0308gren", "Sj\xf6gren"), ("\ufb01broma", "fibroma")],
)
def test_texts_that_look_the_same_are_the_same(one, other):
    assert plain(one) == plain(other) and fold(one) == fold(other)
