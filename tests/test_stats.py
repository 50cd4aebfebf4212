"""Intervals and tests, against textbook formulas and published examples."""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from medr1kit.stats import cluster_interval, holm, mcnemar, paired_difference, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (137, 200), (2.5, 7)])
def test_wilson_follows_the_textbook_formula(successes, n):
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert wilson(successes, n) == pytest.approx((centre - reach, centre + reach), abs=1e-12)


def test_wilson_narrows_with_a_lower_level_and_knows_nothing_without_questions():
    low, high = wilson(30, 40)
    low90, high90 = wilson(30, 40, level=0.9)
    assert low < low90 < high90 < high
    assert all(math.isnan(limit) for limit in wilson(0, 0))


def test_cluster_interval_by_hand():
    # mean 1/2; residual sums 1, 0, 0, 0, 0, -1 -> variance 6/5 * 2 / 12**2; t(5 degrees of freedom, .975) = 2.570582
    reach = 2.570582 * math.sqrt(1.2 * 2 / 144)
    interval = cluster_interval([1, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0], list("aabbccddeeff"))
    assert interval == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)


def test_cluster_interval_stays_within_0_and_1():
    assert cluster_interval([1, 1, 1, 0, 1, 0], list("aabbcc")) == (0.0, 1.0)


def test_cluster_interval_is_the_cluster_robust_regression_on_a_constant():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, 300)
    verdicts = (rng.random(300) < rng.random(40)[images]).astype(float)
    fit = sm.OLS(verdicts, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": images}, use_t=True)
    assert cluster_interval(verdicts, images) == pytest.approx(tuple(fit.conf_int()[0]), abs=1e-12)
    assert cluster_interval(verdicts, [f"image {i}" for i in images]) == cluster_interval(verdicts, images)


def test_repeating_every_question_widens_nothing_and_narrows_nothing():
    verdicts, images = [1, 0, 0, 1, 1, 1, 0, 1], list(range(8))
    once = cluster_interval(verdicts, images)
    assert cluster_interval(verdicts * 5, images * 5) == pytest.approx(once)
    low, high = wilson(25, 40)
    assert high - low < once[1] - once[0], "40 rows about 8 images are not 40 independent questions"


def test_cluster_interval_of_a_perfect_score_keeps_its_width():
    assert cluster_interval([1] * 30, list(range(10)) * 3) == wilson(10, 10)
    assert cluster_interval([0] * 30, list(range(10)) * 3) == wilson(0, 10)


def test_cluster_interval_needs_two_clusters_and_a_name_for_each_value():
    assert all(math.isnan(limit) for limit in cluster_interval([1, 0, 1], ["a"] * 3))
    with pytest.raises(ValueError, match="missing for value 1"):
        cluster_interval([1, 0], ["a", None])
    with pytest.raises(ValueError, match="2 values but 3 clusters"):
        cluster_interval([1, 0], list("abc"))


def pairs(both, only_after, only_before, neither):
    before = [1] * both + [0] * only_after + [1] * only_before + [0] * neither
    after = [1] * both + [1] * only_after + [0] * only_before + [0] * neither
    return before, after


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ((36, 12, 2, 0), (0.2000, 0.0569, 0.3404)),  # Newcombe 1998, a table with few discordant pairs
        ((14, 5, 0, 22), (0.122, 0.011, 0.226)),  # Altman et al., Statistics with Confidence (2000), p. 52
    ],
)
def test_paired_difference_gives_the_published_intervals(table, expected):
    assert paired_difference(*pairs(*table)) == pytest.approx(expected, abs=6e-4)


def test_paired_difference_turns_its_sign_with_the_direction():
    before, after = pairs(20, 9, 4, 7)
    forth, back = paired_difference(before, after), paired_difference(after, before)
    assert forth.difference == pytest.approx(5 / 40)
    assert (back.difference, back.low, back.high) == pytest.approx((-forth.difference, -forth.high, -forth.low))


def test_paired_difference_is_sure_of_no_change_only_as_far_as_n_allows():
    few, many = paired_difference(*pairs(5, 0, 0, 5)), paired_difference(*pairs(500, 0, 0, 500))
    assert few.difference == many.difference == 0
    assert few.low < many.low < 0 < many.high < few.high


def test_paired_difference_does_not_overflow_on_a_large_benchmark():
    result = paired_difference(*pairs(60_000, 9_000, 8_000, 23_000))
    assert result.difference == pytest.approx(0.01)
    assert 0.005 < result.low < result.difference < result.high < 0.015


def test_paired_difference_refuses_series_of_different_length():
    with pytest.raises(ValueError, match="2 verdicts before but 1 after"):
        paired_difference([1, 0], [1])
    assert math.isnan(paired_difference([], []).difference)


def test_mcnemar_is_the_exact_binomial():
    # 8 changed: P(X <= 2) = (1 + 8 + 28) / 256, twice
    assert mcnemar(6, 2) == mcnemar(2, 6) == pytest.approx(2 * 37 / 256)
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0


def test_holm_by_hand():
    # sorted .01, .02, .03, .30 -> times 4, 3, 2, 1 -> .04, .06, .06, .30 (never decreasing)
    assert holm([0.30, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.30, 0.04, 0.06, 0.06])


def test_holm_leaves_out_tests_that_were_not_made():
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])
    assert holm([]).tolist() == []
