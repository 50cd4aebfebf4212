"""Defects of single questions and between questions."""

import pytest

from medr1kit.audits.defects import find_defects, is_malformed
from medr1kit.audits.rows import read_questions


def ask(options, answer="A", **columns):
    return {"options": options, "answer": answer, **columns}


SOUND = [ask(["a", "b"])]


def defects(test, train=SOUND):
    sides = read_questions(train, "train"), read_questions(test, "test")
    return {measure.name: measure for measure in find_defects(*sides)}


def test_options_that_are_one_text():
    found = defects(
        [
            ask(["liver", "SPECT", "SPECT"]),
            ask(["liver", "Thyroid Gland", "Thyroid gland."]),
            ask(["No", "no."]),
            ask(["T2, N0", "T2 N0"]),  # a comma is more than an eye overlooks
        ]
    )
    assert found["test_repeated_options"].rows.tolist() == [0, 1, 2]
    assert found["test_near_duplicate_options"].rows.tolist() == [1, 2]
    assert found["test_repeated_gold"].rows.tolist() == [2]
    assert found["train_repeated_options"].value == 0


@pytest.mark.parametrize("option", ["", " liver", "liver ", "li\nver", "B) lung", "(B) lung", "lung, C)heart", None])
def test_a_malformed_option_is_found(option):
    assert is_malformed(option)
    if option is not None:
        assert defects([ask(["heart", option])])["test_malformed_options"].value == 1


@pytest.mark.parametrize("option", ["E. coli", "Computed tomography (CT)", "stain (H&E)", "T2, N0, M0", "A", "C-arm)"])
def test_an_odd_but_sound_option_is_left_alone(option):
    assert not is_malformed(option)


def test_a_single_option_is_malformed():
    assert defects([ask(["heart"]), ask(["heart", "lung"])])["test_malformed_options"].rows.tolist() == [0]


def test_full_stops_on_one_side_only():
    found = defects([ask(["No", "Yes."]), ask(["No.", "Yes."]), ask(["No", "Yes"])])
    assert found["test_uneven_full_stops"].rows.tolist() == [0]


def told(test, train=()):
    """The test rows that tell their answer; a row: question, options, gold letter."""
    rows = [[ask(options, gold, question=question) for question, options, gold in side] for side in (test, train)]
    return defects(rows[0], rows[1] or [ask(["a", "b"], question="Which?")])["test_told_answers"].rows.tolist()


@pytest.mark.parametrize("end", ["(Answer: No)", "(answer is no.)", "The answer is B.", "Answer - No", "ANSWER: (B)"])
def test_a_question_that_says_its_answer_is_found(end):
    sound = ("Is it normal?", ["Yes.", "No"], "B")
    assert told([sound, (f"Is it normal? {end}", ["Yes.", "No"], "B")]) == [1]
    assert told([sound, (f"Is it normal? {end}", ["Yes.", "No"], "A")]) == [], "it says another one"


def test_a_question_that_names_one_option_tells_it_only_where_that_is_a_rule():
    modality = [("Which modality is this MRI scan?", ["CT", "MRI", "OCT"], "B")] * 5
    assert told(modality) == [0, 1, 2, 3, 4]
    assert told(modality[:2]) == [], "twice of two may be chance"
    assert told(modality[:2], modality) == [0, 1], "training and test are looked at together"
    decoys = [("Is it a malignant condition or a benign one?", ["malignant", "none", "cyst"], "C")] * 5
    assert told(modality + decoys) == [], "as often wrong as right"
    assert told([("CT or MRI?", ["CT", "MRI"], "A")] * 9) == [], "two options are named"
    assert told([("Is the noise low?", ["no", "yes"], "A")] * 9) == [], "no part of a word is an option"


def test_phantoms_name_an_option_now_and_then_and_tell_nothing():
    from medr1kit.data.load import load_vqa

    sides = [load_vqa("phantoms", split=split, n=400, size=28).remove_columns("image") for split in ("test", "train")]
    asked = [[(row["question"], row["options"], row["answer"]) for row in side] for side in sides]
    assert any(text in question.split() for question, options, _ in asked[0] for text in options)
    assert told(*asked) == []


def about(image, question, options, answer="A"):
    return ask(options, answer, image_id=image, question=question)


def test_copies_of_a_row_are_counted_but_not_the_first():
    row = about("1", "Which?", ["a", "b"])
    found = defects([row, row, about("2", "Which?", ["a", "b"]), row], [row])
    assert found["test_duplicate_rows"].rows.tolist() == [1, 3]
    assert found["train_duplicate_rows"].value == 0


def test_two_keys_for_one_question_and_several_right_answers_about_one_image():
    train = [
        about("1", "Which?", ["a", "b"], "A"),
        about("2", "Which?", ["cancer", "none"]),
        about("3", "Q?", ["x", "y"]),
    ]
    test = [
        about("1", "Which?", ["a", "b"], "B"),  # the key differs: both a conflict and two right answers
        about("2", "Which?", ["cancer, stage I", "cancer"]),  # two right answers, one of them a distractor here
        about("3", "Q?", ["z", "X."], "B"),  # other options, the same answer
        about("4", "Q?", ["y", "x"], "A"),  # another image
    ]
    found = defects(test, train)
    assert found["conflicting_golds"].value == 1
    assert found["several_golds"].value == 2
    assert found["rows_with_other_gold_as_distractor"].value == 3


def test_rows_without_image_are_not_about_one_image():
    rows = [about("1", "Which?", ["c", "d"]), about(None, "Which?", ["a", "b"], "A")]
    found = defects([*rows, about(None, "Which?", ["a", "b"], "B")], rows)
    assert found["conflicting_golds"].value == found["several_golds"].value == 0
