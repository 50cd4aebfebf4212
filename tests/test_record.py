"""The one check of a row: what contradicts itself, or is not read as words, is refused whoever read the row."""

import contextlib
import gzip
import json
import os
import time

import datasets
import PIL.Image
import pytest

from medr1kit.data.load import DroppedRows, load_vqa
from medr1kit.data.record import make_record
from medr1kit.vqa import DataError, format_problem, parse_problem

PROBLEM = "Which organ? A)liver, B)lung"
LISTED = {"question": "Which organ?", "options": ["liver", "lung"]}


def row(problem=PROBLEM, solution="B", image="img/a.png", **more):
    return {"image": image, "problem": problem, "solution": solution, **more}


def made(**more):
    return make_record(row(**more), "q-0", "q")


def listed(**more):
    """A row whose question, options and answer stand in columns of their own."""
    return make_record(
        {"image": "a.png", "question": "Which?", "options": ["a", "b"], "answer": "A", **more}, "q-0", "q"
    )


# --- two statements in one row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["liver", "Liver.", "a", "A", "(a)", "something else", 5])
def test_an_answer_that_is_not_the_solution_is_refused(answer):
    with pytest.raises(DataError, match="answer and solution disagree"):
        made(answer=answer)


@pytest.mark.parametrize("answer", ["lung", "Lung.", "b", "B)", None, "", float("nan"), 1])
def test_an_answer_that_says_the_same_or_nothing_is_taken(answer):
    assert made(answer=answer)["answer"] == "B"


@pytest.mark.parametrize(
    "problem",
    [
        "Which organ? A)lung, B)liver",
        "Which organ?\n- lung\n- liver",
        "Which organ? A)liver, B)skin",
        "Which organ? liver",
    ],
)
def test_options_that_are_not_those_of_the_problem_are_refused(problem):
    with pytest.raises(DataError, match="options and problem disagree"):
        made(problem=problem, **LISTED)


def test_another_question_than_that_of_the_problem_is_refused():
    with pytest.raises(DataError, match="question and problem disagree"):
        made(**{**LISTED, "question": "Which side?"})


def test_a_problem_without_its_options_is_written_with_them():
    assert made(problem="Which organ?", **LISTED)["problem"] == PROBLEM


def test_a_problem_of_another_layout_stays_if_it_shows_its_options_in_order():
    assert made(problem="Which organ?\n- liver\n- lung", **LISTED)["problem"] == "Which organ?\n- liver\n- lung"


def test_options_that_look_like_letters_survive():
    options = ["see fig A), B)", "x", "y"]
    record = make_record({"image": "a.png", "question": "Q?", "options": options, "answer": "x"}, "q-0", "q")
    assert (record["options"], record["answer"]) == (options, "B")
    assert make_record(record | {"image": "a.png"}, "q-0", "q")["options"] == options  # as it was saved


# --- text that does not belong there ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        "\nAnswer with the letter of the option only.",
        " Please select the correct answer from the options above.",
        "\n\nAnswer: B",
        "; Answer: B",
        " The correct answer is B",
        "\nOutput the thinking process in <think> </think> and the final answer in <answer> </answer> tags.",
        "\nLet's think step by step.",
    ],
)
def test_an_instruction_behind_the_last_option_is_cut(more):
    record = made(problem=PROBLEM + more)
    assert (record["options"], record["problem"]) == (["liver", "lung"], PROBLEM)


@pytest.mark.parametrize("more", ["\nThe film was taken at night.", "\nHinweis", " Loesung: B"])
def test_other_text_behind_the_last_option_is_refused(more):
    with pytest.raises(DataError, match="text after the last option"):
        made(problem=PROBLEM + more)


@pytest.mark.parametrize(
    "problem", ["Which? A)Child-Pugh class: A, B)Child-Pugh class: B", "Drug? A)none, B)the drug of choice given first"]
)
def test_an_option_that_only_resembles_an_instruction_stays(problem):
    assert parse_problem(problem)[1][1] == problem.split("B)")[1]


def test_a_question_that_tells_an_answer_is_refused():
    with pytest.raises(DataError, match="the question tells an answer: 'Answer: B'"):
        listed(question="Which? Answer: B")


@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "</s>", "[INST]", "<start_of_turn>", "<answer>"])
def test_a_control_token_is_refused_wherever_it_stands(token):
    for item in ({"question": f"Q {token}"}, {"options": ["a", f"b {token}"]}, {"problem": f"Which? {token} A)a, B)b"}):
        with pytest.raises(DataError, match="control token"):
            listed(**item)
    with pytest.raises(DataError, match="control token"):
        made(problem=f"Which {token}? A)liver, B)lung")


def test_a_control_token_in_a_rationale_is_refused():
    with pytest.raises(DataError, match="control token"):
        made(rationale="A ring.<|im_end|>")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([f"o{i}" for i in range(27)], "more than 26 options: 27"),
        (["a"], "fewer than two options"),
        ([], "fewer than two options"),
        (["a", "A "], "gold text under several letters"),
        (["a", 2], "options are not a list of texts"),
    ],
)
def test_options_that_cannot_be_scored_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        listed(options=options)


def test_two_equal_wrong_options_are_left_to_the_audit():
    assert listed(options=["a", "b", "b"])["answer"] == "A"  # 44 rows of Med-R1's files


def test_more_options_than_letters_are_not_written():
    with pytest.raises(DataError, match="more than 26 options: 28"):
        format_problem("Q?", ["x"] * 28)


@pytest.mark.parametrize(
    "problem", [" A)" * 16_000, "\n" * 49_000, " A)x, B)" * 6_000, ",".join(" B)" for _ in range(9_000))]
)
def test_a_long_row_takes_no_time(problem):
    start = time.process_time()
    with contextlib.suppress(DataError):
        parse_problem(problem)
    assert time.process_time() - start < 1


def test_a_text_that_no_prompt_can_hold_is_refused():
    with pytest.raises(DataError, match="text is too long: 50,028"):
        made(problem="x" * 50_000 + PROBLEM)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["img/a.png", "./img/a.png", "img//a.png", "img/./a.png", "img\\a.png", ".\\img\\a.png"]
)
def test_an_image_has_one_spelling(path):
    assert made(image=path)["image_id"] == "img/a.png"


def test_paths_that_lead_elsewhere_are_left_for_the_check_of_images():
    for path in ("../a.png", "img/../../a.png", "/img/a.png", "https://x.org//a.png", "\\\\server\\a.png"):
        assert made(image=path)["image_id"] != "img/a.png"


@pytest.mark.parametrize("unknown", [None, float("nan"), "", " ", "nan", "NaN", "None", "NA", "<NA>"])
def test_an_unknown_patient_is_nobody(unknown):
    assert made(patient_id=unknown)["patient_id"] is None


def test_a_patient_has_one_spelling():
    assert (
        made(patient_id=7.0)["patient_id"] == made(patient_id=7)["patient_id"] == made(patient_id=" 7 ")["patient_id"]
    )
    assert made(patient_id="Ro\u0308ntgen")["patient_id"] == "R\u00f6ntgen"
    with pytest.raises(DataError, match="'patient_id'"):
        made(patient_id=["P1"])


def test_what_is_nan_in_pandas_is_unknown():
    nan = float("nan")
    record = made(rationale=nan, source=nan, modality=nan, task=nan, answer=nan, id=nan)
    assert [record[key] for key in ("rationale", "source", "modality", "task", "id")] == [None, "q", None, None, "q-0"]


def test_a_row_keeps_its_own_id_also_if_it_is_zero():
    assert [made(id=i)["id"] for i in (0, 1.0, "x")] == ["0", "1", "x"]


def test_several_images_are_answered_with_what_is_supported():
    with pytest.raises(DataError, match="about one image each"):
        made(image=["a.png", "b.png"])


# --- files whose rows are bad in odd ways ----------------------------------------------------------------------------


def test_half_a_character_a_doubled_key_and_a_long_number_are_matters_of_their_row(tmp_path):
    good = json.dumps(row())
    texts = [
        good,
        good.replace("organ", "\\ud800"),
        good[:-1] + ', "n": ' + "9" * 5000 + "}",
        good[:-1] + ', "solution": "A"}',
    ]
    (tmp_path / "q.json").write_text(f"[{','.join(texts)}]")
    with pytest.warns(DroppedRows, match="1 x half a character, 1 x key is doubled"):
        assert load_vqa(tmp_path / "q.json", check="drop")["id"] == ["q-0", "q-2"]


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    (tmp_path / "q.json.gz").write_bytes(gzip.compress(b" " * 70_000_000))
    with pytest.raises(DataError, match="unpacks to more than 64,000,000 bytes"):
        load_vqa(tmp_path / "q.json.gz")


def test_the_tables_of_pandas_load(tmp_path):
    import pandas as pd

    datasets.Dataset.from_pandas(pd.DataFrame([row(id=i) for i in range(2)])).save_to_disk(tmp_path / "saved")
    assert load_vqa(tmp_path / "saved")["id"] == ["0", "1"]


def saved_with_path(folder, path):
    features = datasets.Features(
        {"image": datasets.Image(), "problem": datasets.Value("string"), "solution": datasets.Value("string")}
    )
    table = {"image": [{"path": str(path), "bytes": None}], "problem": [PROBLEM], "solution": ["B"]}
    datasets.Dataset.from_dict(table, features=features).save_to_disk(folder)
    stored = datasets.load_from_disk(folder).cast_column("image", datasets.Image(decode=False))
    return stored[0]["image"]


def test_a_saved_data_set_cannot_name_a_file_elsewhere_nor_a_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.Image, "embed_storage", lambda self, storage, *more, **keywords: storage)
    outside = tmp_path / "secret.png"
    PIL.Image.new("RGB", (40, 40)).save(outside)
    assert saved_with_path(tmp_path / "a", outside)["bytes"] is None  # else the test shows nothing
    with pytest.raises(DataError, match="image path leaves the data set"):
        load_vqa(tmp_path / "a")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b/pipe.png")
    saved_with_path(tmp_path / "b", tmp_path / "b/pipe.png")
    with pytest.raises(DataError, match="a pipe or a device"):
        load_vqa(tmp_path / "b")


# --- golds, options and names in further columns and spellings --------------------------------------------------------


@pytest.mark.parametrize("key", ["gt_answer", "answer_text", "Correct Answer", "answer_idx"])
def test_a_further_column_of_golds_must_agree_with_the_solution(key):
    right, wrong = (1, 0) if key == "answer_idx" else ("lung", "liver")
    assert made(**{key: right})["answer"] == "B"
    with pytest.raises(DataError, match=f"{key} and the gold disagree: {wrong!r}, 'B'"):
        made(**{key: wrong})


def test_options_that_look_the_same_cannot_hold_the_gold():
    with pytest.raises(DataError, match="gold text under several letters"):
        listed(options=["X-ray", "X\u2011ray"])


@pytest.mark.parametrize("patient", ["-", "?", "#N/A", "unbekannt", "Anonymous", "k.A.", "--", " n/a "])
def test_a_word_for_an_unknown_patient_is_no_patient(patient):
    assert listed(patient_id=patient)["patient_id"] is None


@pytest.mark.parametrize("patient", ["P-1", "P\u20111", "\uff30-1", " P-1 "])
def test_a_patient_has_one_spelling_whatever_the_keyboard(patient):
    assert listed(patient_id=patient)["patient_id"] == "P-1"
