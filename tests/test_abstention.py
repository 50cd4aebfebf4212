"""Abstention, against risks counted by hand and models that know, or do not know, what they know."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.stats import wilson
from medr1kit.vqa import DataError

# confidence .9 right, .8 wrong, .7 right, .6 right, .5 wrong
ROWS = [([0.9, 0.1], "A"), ([0.2, 0.8], "A"), ([0.3, 0.7], "B"), ([0.6, 0.4], "A"), ([0.5, 0.5], "B")]


def frame(rows):
    probabilities, answers = zip(*rows)
    return pd.DataFrame({"probabilities": list(probabilities), "answer": answers})


def knowing(n, seed, knows=True):
    """Two options; right as often as the confidence says, or in half of all whatever it says."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, n)
    right = rng.random(n) < (confidence if knows else 0.75)
    return frame([([p, 1 - p], "A" if hit else "B") for p, hit in zip(confidence, right)])


def test_the_area_is_the_mean_of_the_risks_counted_by_hand():
    found = mk.abstention(frame(ROWS))
    assert (found.n, found.accuracy) == (5, 0.6)
    assert found.aurc == pytest.approx(np.mean([0, 1 / 2, 1 / 3, 1 / 4, 2 / 5]))
    assert found.aurc_best == pytest.approx(np.mean([0, 0, 0, 1 / 4, 2 / 5]))
    assert found.aurc_low <= found.aurc <= found.aurc_high


def test_each_coverage_has_its_threshold_and_the_interval_of_what_is_answered():
    table = mk.abstention(frame(ROWS)).frame
    row = table[table["asked"] == 0.8].iloc[0]
    assert (row["coverage"], row["threshold"], row["n"], row["accuracy"]) == (0.8, 0.6, 4, 0.75)
    assert (row["low"], row["high"]) == pytest.approx(wilson(3, 4))
    assert table["n"].tolist() == sorted(table["n"]) and table["n"].iloc[-1] == 5


def test_equally_sure_answers_are_in_no_order():
    rows = [([0.9, 0.1], "A"), ([0.8, 0.2], "A"), ([0.8, 0.2], "B"), ([0.8, 0.2], "B")]
    found = [mk.abstention(frame(order)) for order in (rows, rows[::-1])]
    assert found[0].aurc == found[1].aurc == pytest.approx(np.mean([0, (2 / 3) / 2, (4 / 3) / 3, 2 / 4]))
    assert found[0].frame["coverage"].iloc[9] == 1.0, "a rule that answers from .8 up answers all"


def test_the_area_of_a_resample_is_that_of_its_copies_one_by_one():
    """Ten questions drawn three times each are thirty, equally sure in threes."""
    ten = knowing(10, 2)
    thirty = pd.concat([ten] * 3, ignore_index=True)
    confidence = np.array([row[0] for row in ten["probabilities"]])
    wrong = (ten["answer"] == "B").to_numpy()[np.argsort(-confidence)]
    by_hand = np.mean(np.repeat(wrong, 3).cumsum() / np.arange(1, 31))
    assert mk.abstention(thirty, cluster=False).aurc == pytest.approx(by_hand)


def test_a_model_that_knows_gains_and_one_that_does_not_gains_nothing():
    knows, blind = mk.abstention(knowing(4000, 0)), mk.abstention(knowing(4000, 1, knows=False))
    assert knows.aurc_high < 1 - knows.accuracy - 0.05
    assert blind.aurc_low < 1 - blind.accuracy < blind.aurc_high


def test_the_interval_holds_the_true_area_in_about_95_of_100_samples():
    truth = 0.125  # the surest c of all are right in 1 - c / 4: confidences from 1 - c / 2 to 1; the mean of c / 4
    found = [mk.abstention(knowing(100, seed)) for seed in range(60)]
    assert 52 <= sum(one.aurc_low <= truth <= one.aurc_high for one in found) <= 60


def test_questions_of_one_image_count_together():
    apart = knowing(60, 3)
    thrice = pd.concat([apart.assign(image_id=range(60))] * 3, ignore_index=True)
    once, together = mk.abstention(apart), mk.abstention(thrice, cluster="image_id")
    assert together.aurc == pytest.approx(once.aurc, abs=0.01)
    assert together.aurc_high - together.aurc_low == pytest.approx(once.aurc_high - once.aurc_low, rel=0.15)


def test_a_temperature_is_found_again_and_changes_no_letter():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1.5, (4000, 4))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gold = ["ABCD"[(row.cumsum() > rng.random()).argmax()] for row in true]
    sharp = np.exp(3 * logits) / np.exp(3 * logits).sum(1, keepdims=True)
    said = pd.DataFrame({"probabilities": list(sharp), "answer": gold, "confidence": sharp.max(1)})
    temperature = mk.fit_temperature(said[:2000])
    assert temperature == pytest.approx(3, rel=0.1)
    cooled = mk.temper(said[2000:], temperature)
    assert mk.calibration(cooled).ece < 0.04 < 0.15 < mk.calibration(said[2000:]).ece
    assert [np.argmax(row) for row in cooled["probabilities"]] == list(sharp[2000:].argmax(1))
    assert cooled["confidence"].tolist() == [max(row) for row in cooled["probabilities"]]


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), "2", True])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(DataError, match="temperature"):
        mk.temper(frame(ROWS), temperature)


@pytest.mark.parametrize("function", [mk.abstention, mk.fit_temperature])
def test_a_table_without_probabilities_is_refused_with_where_they_come_from(function):
    with pytest.raises(DataError, match="letter_probabilities"):
        function(pd.DataFrame({"answer": ["A"]}))
    with pytest.raises(DataError, match="row 0: probabilities"):
        function(frame([([0.9, 0.9], "A")]))


def test_a_curve_a_model_is_drawn_and_rows_that_are_not_told_apart_are_refused():
    one = mk.abstention(frame(ROWS)).frame
    ax = mk.plot_abstention(pd.concat([one.assign(method="base"), one.assign(method="grpo")]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["base", "grpo"]
    assert ax.lines[0].get_ydata()[-1] == 0.6
    with pytest.raises(DataError, match="method"):
        mk.plot_abstention(pd.concat([one, one]))
    plt.close("all")


def test_a_single_question_has_no_interval():
    found = mk.abstention(frame(ROWS[:1]))
    assert (found.aurc, found.accuracy) == (0.0, 1.0) and np.isnan(found.aurc_low)
    assert "1 question" in repr(found)
