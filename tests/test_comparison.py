"""Paired comparisons and transfer matrices, against numbers counted by hand."""

import math

import pandas as pd
import pytest
from test_tables import predictions

from medr1kit.results.compare import compare, transfer_table
from medr1kit.results.kept import published
from medr1kit.results.stats import cluster_interval, paired_difference, pooled_difference, wilson
from medr1kit.vqa import DataError


def test_compare_splits_the_gain_into_format_and_answers():
    # q0 stays right; q1 only gains its tags; q2 loses them; q3 changes B -> A; q4 was unreadable; q5 breaks A -> C
    before = predictions(["A", "a", "A", "B", "", "A"])
    after = predictions(["A", "A", "a", "A", "A", "C"])
    result = compare(before, after)
    assert (result.n, result.fixed, result.broken) == (6, 3, 2)
    assert result.difference == pytest.approx(1 / 6)
    assert result.repaired_format == pytest.approx((1 - 1) / 6)
    assert result.changed_answer == pytest.approx((2 - 1) / 6)
    assert result.p == 1.0
    assert result.low < result.difference < result.high


def test_a_comparison_is_printed_in_words_and_rounded():
    result = compare(predictions("BBBBAAAA"), predictions("AAAABAAA"))  # 4 fixed, 1 broken of 8
    assert str(result).splitlines() == [
        f"8 questions, accuracy 50.0 % before, 87.5 % after: +37.5 points [{100 * result.low:+.1f}, "
        f"{100 * result.high:+.1f}], p = 0.375",
        "fixed 4, broken 1; of the difference +0.0 points are repaired format, +37.5 points changed answers",
    ]


def test_a_model_that_only_learns_its_tags_gains_format_alone():
    result = compare(predictions("aaaaab"), predictions("AAAAAB"))
    assert (result.fixed, result.broken) == (5, 0)
    assert result.repaired_format == result.difference == pytest.approx(5 / 6)
    assert result.changed_answer == 0
    assert result.p == pytest.approx(2 / 32)


def test_the_comparison_has_a_frame_and_the_split_sums_up():
    result = compare(predictions(["a", "B", "A", "", "C"]), predictions(["A", "A", "C", "a", "c"]))
    assert result.repaired_format + result.changed_answer == pytest.approx(result.difference)
    assert result.frame.shape[0] == 1 and result.frame["fixed"][0] == result.fixed


def test_compare_pairs_on_id_whatever_the_order_and_counts_the_unmatched():
    before, after = predictions("ABAB"), predictions("AAAAA").iloc[[4, 2, 1, 0]]
    with pytest.warns(UserWarning, match="compared 3 questions; left out 1 that only `before` and 1 that only"):
        result = compare(before, after)
    assert (result.n, result.fixed, result.broken) == (3, 1, 0)


def test_compare_pairs_on_format_too_when_both_have_several():
    before = pd.concat([predictions("AB"), predictions("BB", format="think-after")])
    after = pd.concat([predictions("AA", format="think-after"), predictions("BB")])
    result = compare(before, after)
    assert (result.n, result.fixed, result.broken) == (4, 2, 1)
    with pytest.raises(DataError, match="`before` answers the question 'q0' more than once"):
        compare(before, predictions("AA"))


def test_compare_refuses_other_questions():
    with pytest.raises(DataError, match="no question is in both"):
        compare(predictions("AB"), predictions("AB", id=["x", "y"]))
    with pytest.raises(DataError, match="gold answer of 'q1' differs"):
        compare(predictions("AB"), predictions("AB", answer=["A", "B"]))


def matrix():
    """Two modalities, ten questions each; the base gets 4 of 10 right everywhere."""
    frames = []
    for test in ("MRI", "CT"):
        ids = [f"{test}{i}" for i in range(10)]
        frames.append(predictions("AAAABBBBBB", id=ids, modality=test))
        for train in ("MRI", "CT"):
            answers = "AAAAAAAAAA" if train == test else "AAABABBBBB"
            frames.append(predictions(answers, id=ids, modality=test, train_modality=train, method="grpo"))
    return pd.concat(frames, ignore_index=True)


def test_transfer_table_compares_each_cell_with_the_base_and_corrects_for_all_cells():
    table = transfer_table(matrix())
    assert list(zip(table["train_modality"], table["modality"])) == [
        ("CT", "CT"), ("CT", "MRI"), ("MRI", "CT"), ("MRI", "MRI"),
    ]  # fmt: skip
    assert table["accuracy"].tolist() == [1.0, 0.4, 0.4, 1.0]
    assert table["base_accuracy"].tolist() == [0.4] * 4
    assert table["difference"].tolist() == pytest.approx([0.6, 0, 0, 0.6])
    assert table["p"].tolist() == pytest.approx([2 / 64, 1, 1, 2 / 64])  # 6 fixed, 0 broken; 1 fixed, 1 broken
    # max-T by hand: CT and MRI questions are different coins, so either of two cells has all six alike: 1 - (31/32)²
    assert table["p_corrected"].tolist() == pytest.approx([63 / 1024, 1, 1, 63 / 1024])
    assert (table["low"][0], table["high"][0]) == pytest.approx(wilson(10, 10))
    assert (table["difference_low"] < table["difference"]).all()


def test_transfer_table_takes_the_base_of_the_same_format_and_model():
    frame = matrix()
    other_format = frame[frame["method"] == "base"].assign(format="think-after", correct=True)
    other_model = frame[frame["method"] == "base"].assign(model="large", correct=True)
    expected = transfer_table(frame)
    pd.testing.assert_frame_equal(transfer_table(pd.concat([frame, other_format, other_model])), expected)
    adapter = frame.assign(model=frame["model"].where(frame["method"] == "base", "runs/ct"))
    assert transfer_table(adapter)["difference"].tolist() == expected["difference"].tolist()


def test_transfer_table_leaves_the_difference_empty_without_a_base():
    frame = matrix()
    with pytest.warns(UserWarning, match="20 of 40 predictions have no base .* 2 of 4 cells"):
        table = transfer_table(frame[(frame["method"] != "base") | (frame["modality"] == "CT")])
    assert table["difference"].isna().tolist() == [False, True, False, True]
    assert table["p_corrected"][0] == pytest.approx(2 / 64), "cells that were not tested do not count"
    assert table["low_corrected"].isna().tolist() == [False, True, False, True]
    assert table["p_corrected"].isna().tolist() == [False, True, False, True]
    assert table["accuracy"].tolist() == [1.0, 0.4, 0.4, 1.0]


def test_transfer_table_averages_seeds_and_pairs_each_with_its_base():
    frame = matrix()
    second = frame.assign(seed=1)
    second.loc[second["method"] == "base", "correct"] = False
    second.loc[second["method"] == "grpo", "correct"] = [True] * 10 + [False] * 30
    table = transfer_table(pd.concat([second, frame]))
    assert table["seeds"].tolist() == [2] * 4 and table["n"].tolist() == [10] * 4
    assert table["base_accuracy"].tolist() == [0.2] * 4
    own = table[table["train_modality"] == "MRI"].set_index("modality").loc["MRI"]
    by_hand = pooled_difference([1] * 4 + [0] * 16, [1] * 20, clusters=list(range(10)) * 2, seeds=[0] * 10 + [1] * 10)
    limits = ("difference", "difference_low", "difference_high", "difference_low_seeds", "difference_high_seeds")
    assert tuple(own[name] for name in limits) == pytest.approx(tuple(by_hand))
    assert (own["low"], own["high"]) == cluster_interval([1] * 20, list(range(10)) * 2)
    once = transfer_table(pd.concat([frame, second[second["method"] != "base"]]))
    assert once["base_accuracy"].tolist() == [0.4] * 4, "a base that answered once goes with every seed"


def test_transfer_table_counts_clusters_when_asked_to():
    frame = matrix()
    by_question, by_image = transfer_table(frame), transfer_table(frame, cluster="image_id")
    assert (by_image["p"] > by_question["p"]).tolist() == [True, False, False, True]
    assert by_image["p"][0] == pytest.approx(2 / 8)  # ten questions about five images, three of which changed
    assert (by_image["low"][0], by_image["high"][0]) == pytest.approx(wilson(5, 5))
    with pytest.raises(DataError, match="row 0 has no source"):
        transfer_table(frame.assign(source=None), cluster="source")


def test_transfer_table_refuses_two_runs_that_carry_the_same_labels():
    frame = matrix()
    with pytest.raises(DataError, match="trained on 'CT' answers 'MRI0' more than once"):
        transfer_table(pd.concat([frame, frame[frame["train_modality"] == "CT"]]))


def test_transfer_table_by_task_leaves_models_trained_by_modality_out():
    by_task = matrix().assign(train_modality=None, task="Lesion Grading")
    by_task["train_task"] = by_task["method"].map({"grpo": "Disease Diagnosis", "base": None})
    by_task = by_task.drop_duplicates(["id", "method"])
    table = transfer_table(pd.concat([by_task, matrix()[lambda f: f["method"] == "grpo"]]), by="task")
    assert table["train_task"].tolist() == ["Disease Diagnosis"] and table["task"].tolist() == ["Lesion Grading"]
    assert table["n"].tolist() == [20]


def test_what_a_model_was_trained_on_is_all_only_where_that_is_known():
    frame = matrix()
    ct = frame[frame["train_modality"] == "CT"]
    table = transfer_table(pd.concat([frame, ct.assign(train_modality=None), ct.assign(train_modality="all")]))
    assert table["train_modality"].tolist() == ["CT", "CT", "MRI", "MRI", "all", "all", "unknown", "unknown"]


def test_transfer_table_needs_a_trained_model_and_a_known_grouping():
    with pytest.raises(DataError, match="no trained model"):
        transfer_table(predictions("AB"))
    with pytest.raises(DataError, match="'modality' or by 'task'"):
        transfer_table(matrix(), by="source")


# --- clusters and seeds -----------------------------------------------------------------------------------------------


def test_compare_counts_images_when_asked_to():
    before, after = predictions("BBBBBBAAAA"), predictions("AAAAAAAAAA")
    questions, images = compare(before, after), compare(before, after, cluster="image_id")
    assert (questions.p, images.p) == pytest.approx((2 / 64, 2 / 8))  # six questions about three images
    changes = paired_difference([0] * 6 + [1] * 4, [1] * 10, clusters=before["image_id"])
    assert (images.difference, images.low, images.high) == changes
    assert math.isnan(images.low_seeds) and images.seeds == 1
    one_source = compare(before, after, cluster="source")
    assert math.isnan(one_source.low) and one_source.p == 1.0, "one source says nothing about other sources"
    with pytest.raises(DataError, match="row 0 has no patient_id"):
        compare(before, after, cluster="patient_id")


def test_compare_averages_seeds_and_pairs_each_with_a_base_that_answered_once():
    before = predictions("ABBBABABBB")
    after = pd.concat([predictions("AABBAAABBA", seed=0), predictions("AAAAAAABBA", seed=1)])
    result = compare(before, after)
    each = [compare(before, rows).difference for _, rows in after.groupby("seed")]
    assert (result.n, result.seeds) == (10, 2)
    assert result.difference == pytest.approx(sum(each) / 2)
    assert result.repaired_format + result.changed_answer == pytest.approx(result.difference)
    assert result.low_seeds < result.low < result.difference < result.high < result.high_seeds
    assert (result.fixed, result.broken) == (8, 0)
    back = compare(after, before)
    assert (back.difference, back.low, back.high) == pytest.approx((-result.difference, -result.high, -result.low))


def test_compare_pairs_equal_seeds_and_refuses_other_ones():
    before = pd.concat([predictions("AB", seed=0), predictions("BB", seed=1)])
    after = pd.concat([predictions("BB", seed=1), predictions("AB", seed=0)])
    assert (compare(before, after).fixed, compare(before, after).broken) == (0, 0)
    with pytest.raises(DataError, match="`before` has the seeds 0, 1 and `after` the seeds 1, 2; give both the same"):
        compare(before, after.assign(seed=after["seed"].map({0: 2, 1: 1})))


def test_compare_leaves_out_what_not_every_seed_answered_and_says_so():
    before = predictions("BBBB")
    after = pd.concat([predictions("AAAA", seed=0), predictions("AAB", seed=1)])
    with pytest.warns(UserWarning, match=r"compared 3 questions; left out 1 .* and 1 .* \(or not for every seed\)"):
        result = compare(before, after)
    assert (result.n, result.difference) == (3, pytest.approx(5 / 6))


def test_seeds_that_answered_different_questions_are_not_averaged():
    parts = [predictions("AB", seed=0), predictions("AB", seed=1, id=["q2", "q3"])]
    with pytest.raises(DataError, match="no question was answered by every seed"):
        compare(predictions("BBBB"), pd.concat(parts))


def test_runs_without_a_seed_cannot_be_told_apart():
    twice = pd.concat([predictions("AB", seed=None)] * 2)
    with pytest.raises(DataError, match=r"`after` answers the question 'q0' more than once; .* label its runs by seed"):
        compare(predictions("AB"), twice)


def test_published_numbers_are_not_compared():
    heat_map = published("med-r1-no-think-minus-think-modality")
    for refused in (lambda: compare(predictions("AB"), heat_map), lambda: transfer_table(heat_map)):
        with pytest.raises(DataError, match="these are published numbers, not predictions"):
            refused()
