"""What an interval counts: patients, else questions, else each answer; the same at every door."""

import numpy as np
import pandas as pd
import pytest
from errors_fakes import many
from test_comparison import matrix
from test_tables import predictions

import medr1kit as mk
from medr1kit.results.clusters import clustering
from medr1kit.results.stats import cluster_interval, paired_difference, share, wilson

PATIENTS = ["a", "a", "b", "b", "c", "c", "d", "d"]
FEW = "AAAABBBB"  # all of a patient's questions right, or all wrong


def limits(row, low="low", high="high"):
    return row[low], row[high]


def test_a_score_counts_patients_where_the_data_names_them_and_says_so():
    row = mk.score(predictions(FEW, patient_id=PATIENTS), by=None).iloc[0]
    assert limits(row) == cluster_interval([1] * 4 + [0] * 4, PATIENTS)
    assert row["cluster"] == "patient_id"
    alone = mk.score(predictions(FEW), by=None).iloc[0]
    assert limits(alone) == wilson(4, 8) and alone["cluster"] == "row"
    rows = mk.score(predictions(FEW, patient_id=PATIENTS), by=None, cluster=False).iloc[0]
    assert limits(rows) == wilson(4, 8) and rows["cluster"] == "row"
    named = mk.score(predictions(FEW, site=list("xxyyxxyy")), by=None, cluster="site").iloc[0]
    assert limits(named) == cluster_interval([1] * 4 + [0] * 4, list("xxyyxxyy")) and named["cluster"] == "site"


def test_without_patients_a_question_that_is_answered_again_counts_once():
    frame = pd.concat([predictions("ABAB", seed=0), predictions("AAAB", seed=1)])
    row = mk.score(frame, by=None).iloc[0]
    assert limits(row) == cluster_interval([1, 0, 1, 0, 1, 1, 1, 0], list("abcdabcd")) and row["cluster"] == "id"
    by_seed = mk.score(frame, by="seed")
    assert by_seed["cluster"].tolist() == ["row", "row", "id"], "each row of a table by what stands in it"
    assert limits(by_seed.iloc[0]) == wilson(2, 4)


@pytest.mark.parametrize("unknown", [None, np.nan, "nan", "", pd.NA])
def test_an_unknown_patient_is_nobody(unknown):
    frame = predictions(FEW, patient_id=["a"] * 4 + [unknown] * 4)
    row = mk.score(frame, by=None).iloc[0]
    assert limits(row) == cluster_interval([1] * 4 + [0] * 4, [0] * 4 + [1, 2, 3, 4]) and row["cluster"] == "patient_id"
    assert mk.score(frame.assign(patient_id=unknown), by=None)["cluster"].tolist() == ["row"]


def test_one_patient_says_nothing_about_others():
    row = mk.score(predictions("AB", patient_id="a"), by=None).iloc[0]
    assert np.isnan(row["low"]) and np.isnan(row["high"])


def test_a_patient_named_in_one_row_is_known_for_the_question():
    old, new = predictions("ABAB"), predictions("AABB", method="grpo", patient_id=["a", "a", "b", "b"])
    units, by_patient = clustering([old, new])
    assert units[:4].tolist() == units[4:].tolist() and len(set(units)) == 2 and by_patient.all()
    found = mk.compare(old.drop(columns=["patient_id", "step"]), new)
    assert found.cluster == "patient_id"
    assert (found.low, found.high) == paired_difference([1, 0, 1, 0], [1, 1, 0, 0], list("aabb"))[1:]


def test_every_door_has_the_interval_of_the_score():
    verdicts = [1, 1, 1, 1, 0, 0, 1, 0]
    rows = many(verdicts, patient_id=PATIENTS)
    score = mk.score(rows, by=None).iloc[0]
    found = mk.errors(rows, by="modality")
    assert f"{100 * score.low:.1f}, {100 * score.high:.1f}" in found.findings[0]
    kinds = found.kinds.set_index("kind").loc["right"]
    assert limits(kinds) == limits(score) == share(verdicts, PATIENTS)[1:]
    assert limits(mk.errors(rows, by="modality", cluster=False).kinds.iloc[0]) == wilson(5, 8)
    frame = matrix().assign(patient_id=lambda rows: rows["id"].str[-1].astype(int) // 2)
    table = mk.transfer_table(frame)
    assert table["cluster"].eq("patient_id").all()
    scores = mk.score(frame, by=["train_modality", "modality"]).dropna()
    assert table[["low", "high"]].to_numpy() == pytest.approx(scores[["low", "high"]].to_numpy())
    assert table["p"][0] == pytest.approx(2 / 8), "six questions of three patients were fixed"
    assert mk.transfer_table(frame, cluster=False)["p"][0] == pytest.approx(2 / 64)
    panel = mk.explore_transfer(frame).table
    assert panel["p"].tolist() == table["p"].tolist(), "a map counts as the table does"


def test_with_few_patients_the_interval_holds_what_it_promises():
    rng, patients, hits, naive = np.random.default_rng(0), np.repeat(np.arange(9), 4), 0, 0
    for _ in range(400):  # two answers about one patient correlate .5
        right = rng.random(36) < rng.beta(0.7, 0.3, 9)[patients]
        _, low, high = share(right, patients)
        hits += low <= 0.7 <= high
        low, high = wilson(right.sum(), 36)
        naive += low <= 0.7 <= high
    assert hits >= 370 and naive < 345  # 380 promised
