"""Scores, paired comparisons and transfer matrices, against numbers counted by hand."""

import warnings

import pandas as pd
import pytest

from medr1kit.stats import cluster_interval, wilson
from medr1kit.tables import METRICS, PREDICTIONS, ROLLOUTS, check_predictions, compare, score, transfer_table
from medr1kit.vqa import DataError


def predictions(answers, gold="A", **columns):
    """One row an answer: "A" well-formed, "a" right letter without tags (read leniently only), "" nothing readable."""
    strict = [answer if answer.isupper() else None for answer in answers]
    rows = {
        "id": [f"q{i}" for i in range(len(answers))],
        "image_id": [f"image{i // 2}" for i in range(len(answers))],
        "source": "phantoms", "modality": "CT", "task": "Disease Diagnosis", "question": "What is shown?",
        "options": [["cyst", "mass", "stone", "bleed"]] * len(answers), "answer": list(gold * len(answers)),
        "model": "tiny", "train_modality": None, "train_task": None, "method": "base", "format": "no-think", "seed": 0,
        "text": list(answers), "think": None, "predicted": strict,
        "lenient_predicted": [answer.upper() or None for answer in answers],
        "correct": [answer == gold for answer in strict], "well_formed": [answer is not None for answer in strict],
        "n_tokens": 5,
    }  # fmt: skip
    return pd.DataFrame(rows | columns)


def test_the_schemas_are_those_of_the_contract():
    assert tuple(predictions("A").columns) == PREDICTIONS
    assert {"step", "rollout", "advantage", "truncated"} < set(ROLLOUTS)
    assert METRICS[0] == "step" and {"reward", "completions/mean_length"} < set(METRICS)


def test_missing_columns_are_all_named_in_one_error():
    with pytest.raises(DataError, match="model, n_tokens"):
        check_predictions(predictions("AB").drop(columns=["n_tokens", "model"]))
    with pytest.raises(DataError, match="well_formed"):
        score(predictions("AB").drop(columns="well_formed"))


def test_an_empty_table_or_a_missing_verdict_is_refused():
    with pytest.raises(DataError, match="without rows"):
        score(predictions("AB").iloc[:0])
    with pytest.raises(DataError, match="row 1: correct is None"):
        score(predictions("AB", correct=[True, None]))


def test_score_counts_strict_lenient_and_form_apart():
    row = score(predictions("AABa", n_tokens=[4, 6, 8, None]), by=None).iloc[0]
    assert (row.n, row.accuracy, row.lenient_accuracy, row.well_formed) == (4, 0.5, 0.75, 0.75)
    assert (row.low, row.high) == pytest.approx(wilson(2, 4))
    assert row.mean_tokens == 6


def test_chance_is_the_mean_over_each_questions_own_options():
    frame = predictions("AAA", options=[["yes", "no"], ["a", "b", "c"], ["a", "b", "c", "d"]])
    assert score(frame, by=None).chance[0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    with pytest.raises(DataError, match="row 0: options are 'yes, no'"):
        score(predictions("A", options="yes, no"))


def test_score_rows_stand_in_canonical_order_with_the_unknown_last_and_all_at_the_end():
    frame = predictions("AABBAA", modality=["OCT", "zeta", None, "CT", "X-Ray", "alpha"])
    table = score(frame)
    assert table["modality"].tolist()[:5] == ["CT", "X-Ray", "OCT", "alpha", "zeta"]
    assert pd.isna(table["modality"][5]) and table["modality"][6] == "all"
    assert table["n"].tolist() == [1] * 6 + [6]
    assert table["accuracy"].iloc[-1] == pytest.approx(4 / 6)


def test_several_columns_make_one_row_each_and_no_all():
    frame = predictions(
        "AABB", task=["Lesion Grading", "Anatomy Identification"] * 2, modality=["MRI", "MRI", "CT", "CT"]
    )
    table = score(frame, by=["modality", "task"])
    assert list(zip(table["modality"], table["task"])) == [
        ("CT", "Anatomy Identification"), ("CT", "Lesion Grading"),
        ("MRI", "Anatomy Identification"), ("MRI", "Lesion Grading"),
    ]  # fmt: skip
    assert table["accuracy"].tolist() == [0, 0, 1, 1]
    assert "modality" not in score(frame, by=None)


def test_score_counts_images_when_asked_to():
    frame = predictions("AAABBBAABA")
    row = score(frame, by=None, cluster="image_id").iloc[0]
    assert (row.low, row.high) == pytest.approx(cluster_interval(frame["correct"], frame["image_id"]))


def test_averaging_over_models_is_said_aloud_until_it_is_named():
    both = pd.concat([predictions("AB"), predictions("AA", method="grpo", format="think-after")])
    with pytest.warns(UserWarning, match="add method or format to by="):
        score(both)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(both, by=["method", "format"])
        score(both, by=None, cluster="id")


def test_score_reads_predictions_back_from_parquet(tmp_path):
    frame = predictions("AaB", options=[["x", "y"], ["x", "y"], ["x", "y", "z"]])
    frame.to_parquet(tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(score(pd.read_parquet(tmp_path / "p.parquet")), score(frame))


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
    assert table["p_corrected"].tolist() == pytest.approx([4 * 2 / 64, 1, 1, 4 * 2 / 64])
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
    assert table["p_corrected"][0] == pytest.approx(2 * 2 / 64), "cells that were not tested do not count"
    assert table["accuracy"].tolist() == [1.0, 0.4, 0.4, 1.0]


def test_transfer_table_keeps_seeds_apart_and_pairs_them():
    frame = matrix()
    second = frame.assign(seed=1)
    second.loc[second["method"] == "base", "correct"] = False
    table = transfer_table(pd.concat([second, frame]))
    assert table["seed"].tolist() == [0, 0, 1, 1] * 2
    assert table["base_accuracy"].tolist() == [0.4, 0.4, 0, 0] * 2
    untested_base = pd.concat([frame, second[second["method"] != "base"]])
    assert transfer_table(untested_base)["base_accuracy"].tolist() == [0.4] * 8


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


def test_a_model_trained_on_everything_is_called_all():
    frame = matrix()
    everything = frame[frame["train_modality"] == "CT"].assign(train_modality=None)
    table = transfer_table(pd.concat([frame, everything]))
    assert table["train_modality"].tolist() == ["CT", "CT", "MRI", "MRI", "all", "all"]


def test_transfer_table_needs_a_trained_model_and_a_known_grouping():
    with pytest.raises(DataError, match="no trained model"):
        transfer_table(predictions("AB"))
    with pytest.raises(DataError, match="'modality' or by 'task'"):
        transfer_table(matrix(), by="source")
