"""Intervals and tests, against textbook formulas and published examples."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t

from medr1kit.results.stats import cluster_interval, mcnemar, paired_difference, pooled_difference, wilson


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
    # mean 1/2; residual sums 1, 0, 0, 0, 0, -1 -> variance 6/5 * 2 / 12**2 = 1/60, that of 15 independent questions
    quantile = 2.570582  # Student's t, 5 degrees of freedom, .975
    reach = quantile / (1 + quantile**2 / 15) * math.sqrt(0.25 / 15 + quantile**2 / (4 * 15**2))
    interval = cluster_interval([1, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 0], list("aabbccddeeff"))
    assert interval == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)


def test_the_limits_are_as_many_of_their_own_cluster_robust_errors_away_as_student_s_t_says():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, 300)
    verdicts = (rng.random(300) < rng.random(40)[images]).astype(float)
    fit = sm.OLS(verdicts, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": images}, use_t=True)
    mean, design = verdicts.mean(), fit.bse[0] ** 2 / (verdicts.mean() * (1 - verdicts.mean()))
    for limit in cluster_interval(verdicts, images):
        assert abs(mean - limit) / math.sqrt(design * limit * (1 - limit)) == pytest.approx(t.ppf(0.975, 39))
    assert cluster_interval(verdicts, [f"image {i}" for i in images]) == cluster_interval(verdicts, images)


def test_cluster_interval_holds_the_true_share_near_1_too():
    """100 questions about 20 images, 95 % right, correlation 0.3: plus and minus t standard errors holds it in 83 %."""
    rng = np.random.default_rng(0)
    images, held = np.repeat(np.arange(20), 5), 0
    for _ in range(400):
        verdicts = rng.random(100) < np.repeat(rng.beta(0.95 * 7 / 3, 0.05 * 7 / 3, 20), 5)
        low, high = cluster_interval(verdicts, images)
        assert 0 <= low <= verdicts.mean() <= high <= 1
        held += low <= 0.95 <= high
    assert held / 400 > 0.93


def test_repeating_every_question_widens_nothing_and_narrows_nothing():
    verdicts, images = [1, 0, 0, 1, 1, 1, 0, 1], list(range(8))
    once = cluster_interval(verdicts, images)
    assert cluster_interval(verdicts * 5, images * 5) == pytest.approx(once)
    low, high = wilson(25, 40)
    assert high - low < once[1] - once[0], "40 rows about 8 images are not 40 independent questions"


def test_cluster_interval_of_a_perfect_score_keeps_its_width():
    assert cluster_interval([1] * 30, list(range(10)) * 3) == wilson(10, 10)
    assert cluster_interval([0] * 30, list(range(10)) * 3) == wilson(0, 10)


def test_clusters_that_all_have_the_same_share_do_not_make_one_sure():
    """A model that always says A is right in one rotation of four, whatever the question."""
    assert cluster_interval([1, 0, 0, 0] * 10, [i // 4 for i in range(40)]) == wilson(2.5, 10)
    before, after = [1, 0] * 20, [0, 1] * 20
    low, high = paired_difference(before, after, [i // 2 for i in range(40)])[1:]
    assert -0.2 < low < -0.05 < 0.05 < high < 0.2


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


# --- clusters and seeds -----------------------------------------------------------------------------------------------


def test_a_clustered_difference_is_the_cluster_robust_regression_of_the_changes():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 60, 400)
    before, after = (rng.random(400) < 0.5 + 0.3 * rng.random(60)[images] for _ in range(2))
    changes = after.astype(float) - before
    fit = sm.OLS(changes, np.ones(400)).fit(cov_type="cluster", cov_kwds={"groups": images}, use_t=True)
    result = paired_difference(before, after, images)
    assert result == pytest.approx((changes.mean(), *fit.conf_int()[0]), abs=1e-12)


def test_questions_that_stand_and_fall_together_widen_the_difference():
    before, after = pairs(20, 9, 4, 7)
    once = paired_difference(before, after, range(40))
    copied = paired_difference(before * 5, after * 5, [*range(40)] * 5)
    assert copied == pytest.approx(once)
    naive = paired_difference(before * 5, after * 5)
    assert copied.high - copied.low > 2 * (naive.high - naive.low)


def test_a_clustered_difference_without_variance_keeps_its_width():
    same = paired_difference(*pairs(15, 0, 0, 15), [*range(10)] * 3)
    assert same == paired_difference(*pairs(5, 0, 0, 5)) and same.low < 0 < same.high
    all_fixed = paired_difference([0] * 30, [1] * 30, [*range(10)] * 3)
    assert all_fixed == paired_difference([0] * 10, [1] * 10) and all_fixed.low < 1
    one = paired_difference([0, 1], [1, 1], ["a", "a"])
    assert one.difference == 0.5 and math.isnan(one.low)


def test_pooled_difference_by_hand():
    # two seeds, four questions; changes 1 1 0 0 and 1 0 0 0: mean 3/8, question means 1, 1/2, 0, 0
    result = pooled_difference([0] * 8, [1, 1, 0, 0, 1, 0, 0, 0], list("abcdabcd"), [0] * 4 + [1] * 4)
    over_questions = (0.625**2 + 0.125**2 + 2 * 0.375**2) / 3 / 4
    over_seeds = (0.125**2 + 0.125**2) / 1 / 2
    reach = t.ppf(0.975, 3) * math.sqrt(over_questions)
    variance = over_questions + over_seeds
    freedom = min(3, variance**2 / (over_questions**2 / 3 + over_seeds**2 / 1))
    wide = t.ppf(0.975, freedom) * math.sqrt(variance)
    assert result == pytest.approx((0.375, 0.375 - reach, min(1, 0.375 + reach), 0.375 - wide, min(1, 0.375 + wide)))


def test_one_seed_says_nothing_about_seeds_and_equal_seeds_add_nothing():
    before, after = pairs(20, 9, 4, 7)
    one = pooled_difference(before, after, range(40), [0] * 40)
    assert one[:3] == paired_difference(before, after, range(40))
    assert math.isnan(one.low_seeds) and math.isnan(one.high_seeds)
    twice = pooled_difference(before * 2, after * 2, [*range(40)] * 2, [0] * 40 + [1] * 40)
    assert (twice.low_seeds, twice.high_seeds) == pytest.approx((twice.low, twice.high))
    assert (twice.low, twice.high) == pytest.approx(one[1:3])


def test_the_interval_over_seeds_covers_what_the_one_over_questions_misses():
    rng = np.random.default_rng(2)
    covered = np.zeros(2)
    for _ in range(300):  # true gain 0.2; seeds scatter by 0.12, far more than 200 questions do
        gains = np.repeat(rng.normal(0.2, 0.12, 3), 200)
        before, after = rng.random(600) < 0.4, rng.random(600) < 0.4 + gains
        result = pooled_difference(before, after, np.tile(np.arange(200), 3), np.repeat([0, 1, 2], 200))
        covered += [result.low <= 0.2 <= result.high, result.low_seeds <= 0.2 <= result.high_seeds]
    assert covered[0] / 300 < 0.7
    assert covered[1] / 300 > 0.92
