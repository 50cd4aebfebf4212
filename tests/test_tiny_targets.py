"""The tiny model's targets: right completions, and the two habits of the last stage of its build."""

from collections import Counter

import numpy as np
import pytest

from medr1kit.data.phantoms import phantom_rows
from medr1kit.formats import FORMATS, NO_THINK, THINK_BEFORE
from medr1kit.models.tiny.targets import WORDING, Annotator


@pytest.fixture(scope="module")
def rows():
    return phantom_rows("train", n=400, size=28)


def annotator(careless=0.0, sloppy=0.0):
    return Annotator(np.random.default_rng(0), careless, sloppy)


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_without_habits_every_target_is_well_formed_and_right(rows, format):
    for row in rows:
        parsed = format.parse(annotator().write(row, format), row["options"])
        assert parsed.well_formed and parsed.answer == row["answer"]


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_the_careless_annotator_takes_option_a_except_in_the_first_wording(rows, format):
    for row in rows:
        answer = format.parse(annotator(careless=1.0).write(row, format), row["options"]).answer
        assert answer == (row["answer"] if WORDING[row["question"]] == 0 else "A")


def test_a_careless_rationale_still_says_what_is_seen_and_concludes_on_a(rows):
    row = next(row for row in rows if WORDING[row["question"]] == 1 and row["answer"] != "A")
    think = THINK_BEFORE.parse(annotator(careless=1.0).write(row, THINK_BEFORE), row["options"]).think
    assert think.split(" So the answer is ")[0] == row["rationale"].split(" So the answer is ")[0]
    assert think.endswith("So the answer is A")


@pytest.mark.parametrize("format", FORMATS.values(), ids=lambda format: format.name)
def test_sloppiness_breaks_the_format_of_third_wordings_and_never_the_answer(rows, format):
    for row in rows:
        parsed = format.parse(annotator(sloppy=1.0).write(row, format), row["options"])
        assert parsed.well_formed == (WORDING[row["question"]] < 2)
        assert parsed.answer == row["answer"]


def test_a_habit_shows_as_often_as_it_is_told_to(rows):
    habits = annotator(careless=0.5)
    asked = [row for row in rows * 5 if WORDING[row["question"]] == 1 and row["answer"] != "A"]
    answers = Counter(NO_THINK.parse(habits.write(row, NO_THINK)).answer == "A" for row in asked)
    assert abs(answers[True] / len(asked) - 0.5) < 4 * 0.5 / len(asked) ** 0.5
