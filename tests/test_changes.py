import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from medr1kit.results.changes import mean_change


def test_with_one_training_and_each_question_once_it_is_the_t_test_of_paired_changes():
    changes = np.array([1, 0, 1, -1, 1, 0, 0, 1.0])
    change, known = mean_change(changes, range(8)), ttest_1samp(changes, 0)
    assert change.mean == changes.mean() and change.freedom == 7
    assert change.p == pytest.approx(known.pvalue)
    assert change.interval() == pytest.approx(tuple(known.confidence_interval()))


def test_trainings_that_differ_widen_the_interval_by_hand():
    # Two trainings, +1 and 0 on each of four questions: the questions differ by nothing, the trainings by 1.
    change = mean_change([1, 1, 1, 1, 0, 0, 0, 0], list("abcdabcd"), [0] * 4 + [1] * 4)
    assert (change.mean, change.error, change.freedom) == pytest.approx((0.5, 0.5, 1))  # sqrt(0.5 / 2), 2 - 1
    assert change.p == pytest.approx(2 * t.sf(1, 1))
    both = mean_change([1, 0, 0, 0], list("abab"), [0, 0, 1, 1])
    # Sums of residuals by question: .5, -.5 -> 2/1 * .5 / 16 = .0625; by training: means .5, 0 -> .125 / 2 = .0625
    assert both.error == pytest.approx(np.sqrt(0.125))
    assert both.freedom == pytest.approx(0.125**2 / (0.0625**2 + 0.0625**2))


def test_repeating_a_question_in_other_trainings_is_no_new_question():
    once, thrice = mean_change([1, 0, 0, 1], list("abcd")), mean_change([1, 0, 0, 1] * 3, list("abcd") * 3, [0] * 12)
    assert thrice.error == pytest.approx(once.error) and thrice.freedom == once.freedom


def test_one_question_has_a_mean_and_no_interval_and_no_change_at_all_is_certain_of_nothing_else():
    one = mean_change([1, 0], ["a", "a"], [0, 1])
    assert one.mean == 0.5 and np.isnan([one.error, one.p]).all()
    assert mean_change([0, 0, 0], list("abc")).p == 1 and mean_change([1, 1, 1], list("abc")).p == 0
    assert np.isnan(mean_change([], []).mean)
