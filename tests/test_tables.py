"""The schemas and scores, against numbers counted by hand."""

import warnings

import pandas as pd
import pytest

from medr1kit.results.stats import cluster_interval, wilson
from medr1kit.results.tables import METRICS, PREDICTIONS, ROLLOUTS, check_predictions, score
from medr1kit.vqa import DataError


def predictions(answers, gold="A", **columns):
    """One row an answer: "A" well-formed, "a" right letter without tags (read leniently only), "" nothing readable."""
    strict = [answer if answer.isupper() else None for answer in answers]
    rows = {
        "id": [f"q{i}" for i in range(len(answers))],
        "image_id": [f"image{i // 2}" for i in range(len(answers))],
        "patient_id": None, "source": "phantoms", "modality": "CT", "task": "Disease Diagnosis",
        "question": "What is shown?",
        "options": [["cyst", "mass", "stone", "bleed"]] * len(answers), "answer": list(gold * len(answers)),
        "model": "tiny", "train_modality": None, "train_task": None, "method": "base", "format": "no-think", "seed": 0,
        "step": None, "text": list(answers), "think": None, "predicted": strict,
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


def test_tables_written_before_there_were_patients_and_steps_are_still_read():
    now = predictions("AB")
    old = check_predictions(now.drop(columns=["patient_id", "step"]))
    assert tuple(old) == PREDICTIONS and old[["patient_id", "step"]].isna().all(axis=None)
    assert score(now.drop(columns=["patient_id", "step"])).equals(score(now))


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


def test_score_refuses_rows_without_a_cluster_and_published_numbers():
    with pytest.raises(DataError, match="row 1 has no source \\(1 such rows\\)"):
        score(predictions("AB", source=["RadImageNet", None]), cluster="source")
    own = predictions("AB")
    for frame in (own.assign(published=True), pd.concat([own, pd.DataFrame([{"published": True}])])):
        with pytest.raises(DataError, match="these are published numbers, not predictions"):
            score(frame)
    assert score(own.assign(published=False), by=None)["n"].tolist() == [2]
