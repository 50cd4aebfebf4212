"""Rotated options and the tables of the probes, against numbers counted by hand."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from medr1kit.results.perturbations import against, followed, position_table, reliance_names, rotate_options
from medr1kit.results.stats import cluster_interval, paired_difference, share, wilson
from medr1kit.vqa import DataError, parse_problem, parse_solution

TEXTS = [["liver", "lung", "brain"], ["yes", "no"]]


@pytest.fixture
def rows():
    problems = ["Which organ is it, please? A)liver, B)lung, C)brain", "Sharp?\nA: yes\nB: no"]
    return Dataset.from_dict(
        {
            "id": ["q1", "q2"],
            "problem": problems,
            "solution": ["<answer> B </answer>", "<answer> A </answer>"],
            "question": ["Which organ is it, please?", "Sharp?"],
            "options": TEXTS,
            "answer": ["B", "A"],
            "image_id": ["i1", "i2"],
            "rationale": ["So the answer is lung B", "So the answer is yes A"],
        }
    )


def test_options_move_on_and_the_gold_with_them(rows):
    first = rotate_options(rows, 1)
    assert list(first["options"]) == [["brain", "liver", "lung"], ["no", "yes"]]
    assert list(first["answer"]) == ["C", "B"]
    assert list(first["id"]) == ["q1", "q2"] and list(first["image_id"]) == ["i1", "i2"]
    assert first[0]["problem"] == "Which organ is it, please? A)brain, B)liver, C)lung"
    for row in first:
        assert parse_problem(row["problem"]) == (row["question"], row["options"])
        assert parse_solution(row["solution"], len(row["options"])) == row["answer"]


def test_a_rotation_that_repeats_an_earlier_one_is_left_out(rows):
    assert list(rotate_options(rows, 2)["id"]) == ["q1"]
    assert len(rotate_options(rows, 3)) == 0


def test_over_all_rotations_the_gold_stands_at_each_letter_once(rows):
    golds = [(row["id"], row["answer"]) for by in range(3) for row in rotate_options(rows, by)]
    assert sorted(golds) == [("q1", "A"), ("q1", "B"), ("q1", "C"), ("q2", "A"), ("q2", "B")]


def test_no_rotation_is_the_same_question_in_one_spelling(rows):
    same = rotate_options(rows, 0)
    assert list(same["options"]) == TEXTS and list(same["answer"]) == ["B", "A"]
    assert same[1]["problem"] == "Sharp? A)yes, B)no"  # as the other rotations are written


def test_a_rationale_that_names_the_letter_is_dropped_and_pictures_stay(rows, val_phantoms):
    assert "rationale" not in rotate_options(rows, 0).column_names
    rotated = rotate_options(val_phantoms.select([3, 5]), 1)
    assert rotated[1]["image"].tobytes() == val_phantoms[5]["image"].tobytes()


# ---- tables ----------------------------------------------------------------------------------------------------------


def answers(says):
    """Predictions of a model on one question of three options and one of two, in all rotations."""
    rows = []
    for name, options, gold in (("q1", TEXTS[0], "lung"), ("q2", TEXTS[1], "yes")):
        for by in range(len(options)):
            turned = [options[(i - by) % len(options)] for i in range(len(options))]
            answer, letter = "ABC"[turned.index(gold)], says(name, turned)
            row = {"id": name, "image_id": f"image of {name}", "options": turned, "answer": answer}
            rows.append(row | {"predicted": letter, "correct": letter == answer})
    return pd.DataFrame(rows)


def values(table):
    return {(row.measure, row.letter): (row.n, row.value, row.chance) for row in table.itertuples()}


def test_a_model_that_always_says_a():
    found = values(position_table(answers(lambda name, options: "A")))
    assert found["chosen", "A"] == (5, 1.0, pytest.approx((3 / 3 + 2 / 2) / 5))
    assert found["chosen", "C"] == (3, 0.0, pytest.approx(1 / 3))  # three answers had a C to choose
    assert found["chosen", "none"] == (5, 0.0, 0.0)
    assert found["accuracy", "A"] == (2, 1.0, pytest.approx((1 / 3 + 1 / 2) / 2))
    assert found["accuracy", "B"][:2] == (2, 0.0) and found["accuracy", "C"][:2] == (1, 0.0)
    assert found["accuracy", "all"] == (5, 0.4, 0.4)
    assert found["consistent", "all"] == (2, 0.0, pytest.approx((1 / 9 + 1 / 2) / 2))
    assert found["right in all", "all"] == (2, 0.0, pytest.approx((1 / 27 + 1 / 4) / 2))


def test_a_model_that_means_a_text_is_consistent_though_it_may_be_wrong():
    means = {"q1": "brain", "q2": "yes"}
    found = values(position_table(answers(lambda name, options: "ABC"[options.index(means[name])])))
    assert found["chosen", "A"][1] == found["chosen", "B"][1] == 0.4 and found["chosen", "C"][1] == 1 / 3
    assert found["consistent", "all"][1] == 1.0 and found["right in all", "all"][1] == 0.5
    assert found["accuracy", "all"][1] == 0.4


def test_answers_that_cannot_be_read_are_shown_and_never_consistent():
    found = values(position_table(answers(lambda name, options: None if name == "q1" else "A")))
    assert found["chosen", "none"][:2] == (5, 0.6)
    assert found["consistent", "all"][1] == 0.0
    half = answers(lambda name, options: None if options[0] == "no" else "ABC"[options.index(sorted(options)[0])])
    assert values(position_table(half))["consistent", "all"][1] == 0.5  # q2 was read once, which is not agreement


def test_the_tables_intervals_count_questions(rows):
    table = position_table(answers(lambda name, options: "A")).set_index(["measure", "letter"])
    verdicts = [True, False, False, True, False]
    assert tuple(table.loc[("accuracy", "all"), ["low", "high"]]) == cluster_interval(verdicts, [1, 1, 1, 2, 2])
    assert tuple(table.loc[("consistent", "all"), ["low", "high"]]) == wilson(0, 2)


def test_a_question_asked_once_is_refused():
    asked = answers(lambda name, options: "A")
    with pytest.raises(DataError, match="question 'q2' was asked once; ask it with rotated options"):
        position_table(asked.drop(index=4))
    with pytest.raises(DataError, match=r"column\(s\) predicted"):
        position_table(asked.drop(columns="predicted"))


def test_a_share_is_clustered_only_where_images_repeat():
    verdicts = [True, True, False, True]
    assert share(verdicts, list("abcd")) == (0.75, *wilson(3, 4))
    assert share(verdicts, list("aabc")) == (0.75, *cluster_interval(verdicts, list("aabc")))
    assert np.isnan(share([], [])).all()


def test_answers_are_held_against_those_to_the_questions_as_they_were():
    frame = {"image_id": list("abcd"), "predicted": ["A", "B", None, "C"], "correct": [True, True, False, False]}
    before = pd.DataFrame(frame)
    after = before.assign(predicted=["A", "C", None, None], correct=[True, False, False, False])
    row = against(after, before)
    assert (row["n"], row["accuracy"], row["flipped"], row["difference"]) == (4, 0.25, 0.5, -0.25)
    assert (row["low"], row["high"]) == wilson(1, 4)
    assert (row["flipped_low"], row["flipped_high"]) == wilson(2, 4)
    limits = (row["difference"], row["difference_low"], row["difference_high"])
    assert limits == tuple(paired_difference(before["correct"], after["correct"]))
    shared = against(after.assign(patient_id=list("aabb")), before)
    assert (shared["low"], shared["high"]) == cluster_interval(after["correct"], list("aabb"))
    clustered = paired_difference(before["correct"], after["correct"], list("aabb"))
    assert (shared["difference_low"], shared["difference_high"]) == (clustered.low, clustered.high)
    itself = against(before, before)
    assert [itself[name] for name in ("flipped", "flipped_high", "difference_low", "difference_high")] == [0.0] * 4


# ---- what a wrong picture or thought suggests, and what papers call it ----------------------------------------------


def test_answers_that_follow_a_suggestion_are_counted_where_there_is_one():
    preds = pd.DataFrame({"id": list("abcd"), "predicted": ["A", None, "C", "D"]})
    found = followed(preds, ["A", "B", "D", None], "compared")
    assert found.pop("compared") == 3 and tuple(found.values()) == share([True, False, False], "abc")


def test_papers_names_are_those_of_the_images_shuffled_over_all():
    numbers = {"images": ["right", "shuffled-all", "shuffled"], "n": [50] * 3}
    for column, value in (("lost", 0.4), ("flipped", 0.6)):
        numbers |= {column: [0, value, 0], f"{column}_low": [0, value - 0.1, 0], f"{column}_high": [0, value + 0.1, 0]}
    found = reliance_names(pd.DataFrame(numbers)).set_index("name")
    assert found.loc["VRS", ["value", "low", "high", "n"]].tolist() == [0.4, 0.4 - 0.1, 0.5, 50]
    assert found.loc["IS", ["value", "low", "high", "n"]].tolist() == [0.6, 0.5, 0.6 + 0.1, 50]
    assert np.isnan(found.loc["HVRR", "value"]) and "not computed" in found.loc["HVRR", "definition"]
    assert found["source"].str.contains("2603.03437").all()


def test_names_are_not_given_to_other_numbers():
    frame = pd.DataFrame({"images": ["right"], "n": [50], "lost_low": [0.0], "flipped_low": [0.0]})
    with pytest.raises(DataError, match="'shuffled-all' images; call visual_reliance with them"):
        reliance_names(frame)
    with pytest.raises(DataError, match="frame has no column 'images'"):
        reliance_names(pd.DataFrame({"wording": ["training"]}))
