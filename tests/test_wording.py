"""Problem, question and options of one row: said twice, they must be the same."""

import pytest

from medr1kit.data.load import load_vqa
from medr1kit.data.wording import without_list, wording
from medr1kit.vqa import DataError

PROBLEM = "Which organ? A)liver, B)lung"


def test_options_beside_a_problem_without_a_question_must_be_its_own():
    assert wording({"problem": PROBLEM, "options": ["liver", "lung"]})[2] == ["liver", "lung"]
    for options in (["lung", "liver"], ["liver", "lung", "heart"]):
        with pytest.raises(DataError, match="options and problem disagree"):
            wording({"problem": PROBLEM, "options": options})


def test_a_question_beside_a_problem_without_options_must_be_its_own():
    assert wording({"problem": PROBLEM, "question": "which organ?"})[1] == "Which organ?"
    with pytest.raises(DataError, match="question and problem disagree: 'Which side"):
        wording({"problem": PROBLEM, "question": "Which side?"})


def test_a_bare_problem_gets_the_options_that_stand_beside_it():
    row = {"image": "a.png", "problem": "Which organ?", "options": ["liver", "lung"], "solution": "B"}
    assert list(load_vqa([row])["problem"]) == [PROBLEM]


@pytest.mark.parametrize(
    "shown", ["A)liver, B)lung", "(A) liver (B) lung", "\nA. liver\nB. lung", "\nA: liver\nB: lung."]
)
def test_a_question_that_shows_its_options_shows_them_once(shown):
    ds = load_vqa([{"question": f"Which organ? {shown}", "options": ["liver", "lung"], "answer": "B"}])
    assert list(ds["problem"]) == [PROBLEM]


@pytest.mark.parametrize("shown", ["A)liver, B)lung", "(A) liver (B) lung", "\nA. liver\nB. lung"])
def test_a_question_that_shows_its_options_under_other_letters_is_refused(shown):
    with pytest.raises(DataError, match="options and question disagree"):
        load_vqa([{"question": f"Which organ? {shown}", "options": ["lung", "liver"], "answer": "B"}])


def test_letters_that_name_something_else_stay_in_the_question():
    question = "Arrow A: liver or lung; arrow B: lung?"
    assert without_list(question, ["liver", "lung"]) == question


@pytest.mark.parametrize("question", ["?", "\u200b", "...", "N/A"])
def test_a_question_without_a_word_is_missing(question):
    for row in ({"question": question, "options": ["liver", "lung"], "answer": "B"},):
        with pytest.raises(DataError, match="question is missing"):
            load_vqa([row])
    with pytest.raises(DataError, match="question is missing"):
        wording({"problem": f"{question} A)liver, B)lung"})


def test_a_letter_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="skipped or doubled"):
        wording({"problem": "Which organ? A)liver, B)lung, B)heart"})
