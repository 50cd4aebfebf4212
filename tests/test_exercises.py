"""Exercises that check themselves: each right answer is computed here, from what is committed or by running it."""

import itertools
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results import exercises
from medr1kit.results.exercises import EXERCISES
from medr1kit.vqa import DataError

FOLDER = Path(__file__).parent.parent / "notebooks"


def printed(number, text):
    """The outputs of the cells of a notebook that hold a text."""
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    cells = [
        cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" and text in cell.source
    ]
    return "\n".join(output.get("text", "") for cell in cells for output in cell.outputs)


def paid_for_two_blocks():
    rewards = mk.explain_reward("<think>A hole.</think><answer>C</answer><answer>B</answer>", "B").rewards
    return [rewards[name] for name in ("accuracy", "format", "reference accuracy", "reference format")]


def floor_of_a_quarter():
    """As it is predicted, .43; computed on 2,000 questions it is .447, which takes a minute: both are right."""
    floors = mk.recorded("blind_floor").set_index("shortcut")["accuracy"]
    return 0.25 * floors[1.0] + 0.75 * floors[0.0]


def corner_of_a_cyst():
    easy = mk.load_vqa("phantoms", split="test", modality="CT", task="Disease Diagnosis", n=24, shortcut=1.0)
    places = {"upper left": (4, 4), "upper right": (107, 4), "lower left": (4, 107), "lower right": (107, 107)}
    found = {
        max(places, key=lambda name: row["image"].convert("L").getpixel(places[name]))
        for row in easy
        if row["options"]["ABCD".index(row["answer"])].endswith("cyst")
    }
    (corner,) = found
    return corner


def paid_for_an_empty_thought():
    rewards = mk.explain_reward("<think></think><answer>A</answer>", "C", format="think-before").rewards
    theirs, ours = ([rewards[prefix + name] for name in ("accuracy", "format")] for prefix in ("reference ", ""))
    return [sum(theirs), sum(ours)]


def columns_that_tell_short_thoughts():
    long, short = [f"word{k}" for k in range(12)], ["word"]
    rows = [
        {"step": step, "text": mk.THINK_BEFORE.write("A", " ".join(long if step < 20 else short)), "n_tokens": 9}
        for step in range(40)
        for _ in range(32)
    ]
    rows = pd.DataFrame(rows).assign(answer="A", question="What?", truncated=False)
    said = mk.watch_rollouts(rows.assign(options=[["a", "b"]] * len(rows)), "think-before").drop(columns="watch/alarms")
    numbers = said.filter(like="watch/").astype(float)
    return numbers.columns[(numbers.iloc[-1] - numbers.iloc[10]).abs() > 0.5]


def advantages_of_the_letter_alone():
    paid = np.array([text == "2" for text in re.findall(r"paid (\d)", printed("03", "check_rationale"))], dtype=float)
    by_hand = (paid - paid.mean()) / (paid.std(ddof=1) + 1e-4)
    return [by_hand.max(), by_hand.min()]


def one_hit_among_eight():
    hits = np.eye(8)[0]
    return [(1 - hits.mean()) / hits.std(ddof=1), 1 - hits.mean()]


def seeds_against_the_interval():
    rows = mk.recorded("worlds/changes").query(
        "group == 'twins-0.5' and method == 'grpo' and format == 'no-think' and asked == 'twins' and images == 'right' "
        "and part == 'all' and train_modality == 'MRI'"
    )
    ((_, row),) = rows.iterrows()
    return "less" if row.most_seed - row.least_seed < row.high - row.low else "more"


def where_sft_is_behind_by_most():
    rows = mk.recorded("worlds/changes").query("images == 'right' and part == 'without MR' and group == 'machine'")
    rows = rows[rows["train_modality"] != "all"].replace({"method": {"sft-answer": "sft"}})
    rows = rows.pivot(index=["train_modality", "format", "asked"], columns="method", values="difference")
    return (rows["sft"] - rows["grpo"]).idxmin()


RIGHT = {
    "00.3": paid_for_two_blocks,
    "01.2": floor_of_a_quarter,
    "01.3": corner_of_a_cyst,
    "02.1": lambda: ["<think>x</think><answer>C</answer><answer>A</answer>", "<think>x</think><answer>(C)</answer>"],
    "02.2": paid_for_an_empty_thought,
    "02.3": columns_that_tell_short_thoughts,
    "03.2": advantages_of_the_letter_alone,
    "03.3": lambda: "clip_ratio/region_mean",
    "03.4": one_hit_among_eight,
    "04.2": seeds_against_the_interval,
    "05.5": where_sft_is_behind_by_most,
}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_answer_that_is_computed_is_right(exercise):
    checked = mk.check_answer(exercise, RIGHT[exercise]())
    assert checked and repr(checked) == f"{exercise}: right."


WRONG = {"00.3": [1, 0, 0, 1], "01.2": 0.25, "01.3": "lower right", "02.1": ["C", "C"], "02.2": [1, 1], "02.3": "loss"}
WRONG |= {"03.2": [0.72, 1.21], "03.3": "kl", "03.4": [2.47], "04.2": "more", "05.5": ["CT", "think-after", "A own"]}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_another_answer_is_not_and_gets_a_hint(exercise):
    checked = mk.check_answer(exercise, WRONG[exercise])
    assert not checked and repr(checked) == f"{exercise}: not yet. {EXERCISES[exercise].hint}"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_without_an_answer_it_says_what_is_asked_for_and_that_is_no_answer(exercise):
    checked = mk.check_answer(exercise)
    assert checked.right is None and not checked and EXERCISES[exercise].asks in checked.said


def test_a_number_may_be_off_by_one_in_its_last_digit_and_no_more():
    assert all(mk.check_answer("01.2", value) for value in (0.431, 0.44, 0.447, np.float64(0.4261), [0.43]))
    assert not any(mk.check_answer("01.2", value) for value in (0.42, 0.46, -0.44, 44, 0))
    assert not any(mk.check_answer("02.2", value) for value in ([1, 1], [0, 0], [0, 1], [2, 0])), "whole ones may not"


def test_words_count_in_any_order_case_and_container():
    three = ("mri", "A away", "Think-Before")
    assert all(mk.check_answer("05.5", some) for some in itertools.permutations(three))
    assert mk.check_answer("05.5", pd.Series(three)) and not mk.check_answer("05.5", three[:2])
    assert mk.check_answer("01.3", " Upper  left")


@pytest.mark.parametrize(
    ("exercise", "value"),
    [
        ("03.2", "0.72"),
        ("03.2", [0.7, None]),
        ("03.2", float("nan")),
        ("01.2", "0.43"),
        ("03.3", 3),
        ("03.3", []),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_is_asked_for(exercise, value):
    with pytest.raises(DataError, match=f"exercise {exercise} asks for"):
        mk.check_answer(exercise, value)


def test_an_exercise_that_is_not_there_is_said():
    with pytest.raises(DataError, match=r"exercise='03.9' is unknown.*; use one of 00.3, 01.2"):
        mk.check_answer("03.9", 1)


def test_no_answer_stands_in_the_module_as_plain_text():
    source = Path(exercises.__file__).read_text()
    for words in ("upper left", "thought_words", "region_mean", "A away", "0.72", "2.47", "0.43"):
        assert words not in source


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_notebook_has_the_exercise_and_says_that_it_can_be_checked(exercise):
    number, item = exercise.split(".")
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    (cell,) = (
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.source.startswith("## Exercises")
    )
    assert f"\n{item}. " in cell and "mk.check_answer" in cell and f'"{exercise}"' in cell
