"""Calibration, against numbers computed by hand and models whose calibration is known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.calibration import calibration
from medr1kit.results.stats import cluster_interval, wilson
from medr1kit.views.plots.bars import plot_calibration
from medr1kit.vqa import DataError

# confidence .9 right, .9 wrong, .6 right, .6 right, .5 wrong
ROWS = [
    ([0.9, 0.05, 0.05], "A"),
    ([0.05, 0.9, 0.05], "A"),
    ([0.3, 0.6, 0.1], "B"),
    ([0.4, 0.6], "B"),
    ([0.5, 0.2, 0.3], "C"),
]


def frame(rows, images=None):
    probabilities, answers = zip(*rows)
    ids = [f"i{k}" for k in range(len(rows))] if images is None else images
    return pd.DataFrame({"probabilities": list(probabilities), "answer": answers, "image_id": ids})


def sampled(n, temperature, seed):
    """Questions whose golds are drawn from softmax(z); the model says softmax(z / temperature)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.2, (n, 4))

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    gold = (softmax(z).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return frame([(list(said), "ABCD"[place]) for said, place in zip(softmax(z / temperature), gold)])


def test_the_numbers_are_those_counted_by_hand():
    found = calibration(frame(ROWS), bins=5)
    assert (found.n, found.accuracy, found.confidence) == (5, 0.6, pytest.approx(3.5 / 5))
    # bins (.4, .6]: three questions, two right, mean confidence 1.7 / 3; (.8, 1]: two, one right, .9
    assert found.ece == pytest.approx((3 * abs(2 / 3 - 1.7 / 3) + 2 * abs(1 / 2 - 0.9)) / 5)
    brier = [0.1**2 + 2 * 0.05**2, 0.95**2 + 0.9**2 + 0.05**2, 0.3**2 + 0.4**2 + 0.1**2, 2 * 0.4**2]
    brier += [0.5**2 + 0.2**2 + 0.7**2]
    assert found.brier == pytest.approx(sum(brier) / 5)
    table = found.frame
    assert table["n"].tolist() == [0, 0, 3, 0, 2]
    assert table["bin_high"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert table["confidence"][2] == pytest.approx(1.7 / 3) and table["accuracy"][2] == pytest.approx(2 / 3)
    assert table["gap"].tolist()[4] == pytest.approx(-0.4) and np.isnan(table["gap"][0])
    assert (table["low"][2], table["high"][2]) == wilson(2, 3)


def test_an_edge_belongs_to_the_bin_below_it():
    rows = [([p, 1 - p], "A") for p in (0.6, 0.7, 0.8, 0.9, 1.0)]
    assert calibration(frame(rows)).frame["n"].tolist() == [0] * 5 + [1] * 5


def test_ece_of_a_model_that_is_always_sure_is_its_error():
    rows = [([1.0, 0.0], letter) for letter in "AAAAAABBBB"]
    found = calibration(frame(rows))
    assert found.ece == pytest.approx(0.4) and found.brier == pytest.approx(0.8)
    assert found.ece_noise == 0.0  # who is sure and calibrated is never wrong
    # Every bin's error has one sign: the resampled ECE is a plain share of 10, and so is its interval's width.
    assert 0.0 < found.ece_low < 0.4 < found.ece_high < 0.8


def test_twenty_right_answers_prove_neither_accuracy_nor_calibration():
    certain = calibration(frame([([1.0, 0.0], "A")] * 20))
    assert certain.ece == 0 and certain.ece_low == 0 and certain.ece_high == pytest.approx(1 - wilson(20, 20)[0])
    wrong = calibration(frame([([1.0, 0.0], "B")] * 20))
    assert wrong.ece == wrong.ece_high == 1 and wrong.ece_low == pytest.approx(1 - wilson(0, 20)[1])


def test_a_calibrated_model_is_not_called_miscalibrated():
    found = [calibration(sampled(300, 1.0, seed)) for seed in range(20)]
    assert sum(one.ece <= one.ece_noise for one in found) >= 17  # 19 expected
    assert all(one.ece_low == 0.0 for one in found if one.ece <= one.ece_noise)
    assert all(one.ece > 0.02 for one in found)  # though it never looks perfect


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_an_over_and_an_under_confident_model_are_found_and_the_interval_holds_the_truth(temperature):
    many = sampled(50_000, temperature, 1)
    confidence = many["probabilities"].map(max)
    right = many["probabilities"].map(np.argmax) == many["answer"].map("ABCD".index)
    truth = (right - confidence).groupby(pd.cut(confidence, np.linspace(0, 1, 11)), observed=True).sum()
    truth = truth.abs().sum() / len(many)
    found = [calibration(sampled(300, temperature, seed)) for seed in range(20)]
    assert sum(one.ece_low <= truth <= one.ece_high for one in found) >= 17
    assert all(one.ece > one.ece_noise and one.ece_low > 0 for one in found)
    assert all((one.confidence > one.accuracy) == (temperature < 1) for one in found)


def test_intervals_count_what_is_independent():
    alone = sampled(60, 0.5, 3)
    tripled = pd.concat([alone] * 3, ignore_index=True)
    same, fooled = calibration(tripled, cluster="image_id"), calibration(tripled)
    patients = calibration(tripled.assign(patient_id=tripled["image_id"]))
    assert (patients.brier_low, patients.brier_high) == (same.brier_low, same.brier_high), "patients count unasked"
    assert (same.ece, same.brier) == pytest.approx((fooled.ece, fooled.brier))
    once = calibration(alone)
    assert (same.brier_low, same.brier_high) == pytest.approx((once.brier_low, once.brier_high))
    assert fooled.brier_high - fooled.brier_low < 0.7 * (same.brier_high - same.brier_low)
    row = same.frame[same.frame["n"] > 30].iloc[0]
    inside = tripled[[row.bin_low < max(p) <= row.bin_high for p in tripled["probabilities"]]]
    right = [np.argmax(p) == "ABCD".index(letter) for p, letter in zip(inside["probabilities"], inside["answer"])]
    assert (row.low, row.high) == pytest.approx(cluster_interval(right, inside["image_id"]))


def test_one_patient_says_nothing_about_others():
    alone = calibration(frame(ROWS).assign(patient_id="a"))
    assert np.isnan([alone.brier_low, alone.brier_high]).all() and alone.brier > 0


def test_the_seed_is_fixed_and_order_is_no_matter():
    rows = sampled(80, 0.5, 4)
    one, other = calibration(rows), calibration(rows)
    assert (one.ece, one.ece_low, one.ece_high, one.ece_noise) == (
        other.ece,
        other.ece_low,
        other.ece_high,
        other.ece_noise,
    )
    assert f"calibration error {100 * one.ece:.1f} % [{100 * one.ece_low:.1f}" in str(one) and len(str(one)) < 300
    assert calibration(rows[::-1]).ece == pytest.approx(calibration(rows).ece)


@pytest.mark.parametrize(
    ("rows", "bins", "message"),
    [
        (frame(ROWS).drop(columns="answer"), 10, "has no column 'answer'; pass what mk.letter_probabilities"),
        (frame(ROWS).head(0), 10, "no rows"),
        (frame(ROWS), 0, "bins=0 is not a whole number"),
        (frame([*ROWS, ([0.5, 0.6], "A")]), 10, "row 5: probabilities are .*sum to 1"),
        (frame([*ROWS, ([1.2, -0.2], "A")]), 10, "row 5: probabilities"),
        (frame([*ROWS, ([float("nan"), 1.0], "A")]), 10, "row 5: probabilities"),
        (frame([*ROWS, ([0.5, 0.5], "C")]), 10, "row 5: the gold letter is 'C', but there are 2"),
    ],
)
def test_bad_frames_are_refused_in_words(rows, bins, message):
    with pytest.raises(DataError, match=message):
        calibration(rows, bins=bins)


# ---- the figure ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_the_figure_shows_the_tables_points_and_their_n(ax):
    table = calibration(frame(ROWS), bins=5).frame
    assert mk.plot_calibration(table, ax=ax) is ax
    points = next(line for line in ax.lines if line.get_marker() == "o")
    full = table[table["n"] > 0]
    assert points.get_xdata().tolist() == full["confidence"].tolist()
    assert points.get_ydata().tolist() == full["accuracy"].tolist()
    assert [text.get_text() for text in ax.texts] == ["n=3", "n=2"]
    bars = ax.collections[0].get_segments()
    assert [bar[0, 1] for bar in bars] == pytest.approx(full["low"].tolist())
    assert [bar[1, 1] for bar in bars] == pytest.approx(full["high"].tolist())


def test_the_figure_refuses_what_is_no_reliability_table(ax):
    with pytest.raises(DataError, match="reliability table"):
        plot_calibration(calibration(frame(ROWS)), ax=ax)
    with pytest.raises(DataError, match="without questions"):
        plot_calibration(calibration(frame(ROWS)).frame.assign(n=0), ax=ax)
