"""Corrections for many tests, against numbers counted by hand and against what they promise."""

import math

import numpy as np
import pytest

from medr1kit.results.multiplicity import holm, max_t, together
from medr1kit.results.stats import mcnemar


def test_holm_by_hand():
    # sorted .01, .02, .03, .30 -> times 4, 3, 2, 1 -> .04, .06, .06, .30 (never decreasing)
    assert holm([0.30, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.30, 0.04, 0.06, 0.06])


def test_holm_leaves_out_tests_that_were_not_made():
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])
    assert holm([]).tolist() == []


def cell(fixed, broken, same=0, first=0):
    """Changes of a cell and the names of its questions, counted from ``first``."""
    changes = [1] * fixed + [-1] * broken + [0] * same
    return changes, list(range(first, first + len(changes)))


@pytest.mark.parametrize(("fixed", "broken"), [(6, 2), (5, 0), (3, 3), (9, 1)])
def test_a_single_cell_is_mcnemar_s_test(fixed, broken):
    changes, names = cell(fixed, broken, same=20)
    p, corrected, *_ = max_t([changes], [names])
    assert p == pytest.approx([mcnemar(fixed, broken)]) == corrected


def test_random_signs_come_close_to_the_exact_test():
    changes, names = cell(40, 22, same=100)
    assert max_t([changes], [names]).p[0] == pytest.approx(mcnemar(40, 22), abs=0.006)
    assert max_t([changes], [names]) == max_t([changes], [names]), "the draws are seeded"
    assert max_t([[1] * 50], [range(50)]).p[0] == pytest.approx(1 / 10_001)


def test_cells_about_the_same_questions_cost_no_correction():
    changes, names = cell(8, 1)
    together = max_t([changes] * 5, [names] * 5)
    assert together.p == pytest.approx([mcnemar(8, 1)] * 5)
    assert together.corrected == pytest.approx(together.p)
    assert holm([mcnemar(8, 1)] * 5) == pytest.approx([5 * mcnemar(8, 1)] * 5)


def test_cells_about_other_questions_are_corrected_like_independent_tests():
    one, other = cell(6, 0), cell(6, 0, first=6)
    result = max_t(*zip(one, other))
    assert result.corrected == pytest.approx([1 - (1 - mcnemar(6, 0)) ** 2] * 2)


def test_every_cell_is_compared_with_the_largest_of_all():
    cells = [cell(7, 1), cell(5, 1, first=8)]
    result = max_t(*zip(*cells))
    assert (result.corrected > [mcnemar(7, 1), mcnemar(5, 1)]).all()
    turned = max_t(*zip(*cells[::-1]))
    assert turned.corrected[::-1] == pytest.approx(result.corrected)


def test_questions_of_one_cluster_turn_their_signs_together():
    changes, _ = cell(8, 0)
    assert max_t([changes], [list("aabbccdd")]).p[0] == pytest.approx(2 / 2**4)
    assert max_t([changes], [["a"] * 8]).p[0] == 1.0


def test_empty_cells_stay_nan_and_cells_without_change_are_no_news():
    result = max_t([[], [1, 1, 1, 1, 1], [0, 0]], [[], range(5), range(2)])
    assert math.isnan(result.p[0]) and math.isnan(result.corrected[0])
    assert result.p[1:].tolist() == result.corrected[1:].tolist() == [2 / 32, 1.0]
    assert max_t([[0, 0]], [[0, 1]]).p.tolist() == [1.0]


def test_a_matrix_in_which_nothing_happened_is_seldom_called_significant():
    rng, alarms = np.random.default_rng(0), 0
    for draw in range(100):
        luck = rng.choice([-1, 0, 1], size=(4, 60), p=[0.1, 0.8, 0.1])
        luck += luck[:1] * (np.arange(4) > 0)[:, None]  # rows of a matrix resemble each other
        result = max_t(luck, [range(60)] * 4, draws=200, seed=draw)
        alarms += result.corrected.min() <= 0.05
        assert (result.corrected >= result.p).all()
    assert alarms <= 12  # 5 expected; more than 12 has probability 0.0005


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        max_t([[1, 0]], [["a"]])
    with pytest.raises(ValueError, match="a cell has not as many clusters as changes"):
        max_t([[1, 0], [1]], [["a"], ["a", "b"]])


# --- the intervals that go with the tests -----------------------------------------------------------------------------


def test_an_interval_by_hand():
    # Eight questions changed, so 256 patterns: |sum| is 8 in 2 of them and 6 in 16. More than 12 reach 6, so |t| has to
    # be above 6 / sqrt(8): c² = 4.5. Six fixed, two broken of 20: 310 d² - 124 d - 20 <= 0.
    changes, names = cell(6, 2, same=12)
    result = max_t([changes], [names])
    root = math.sqrt(62**2 + 310 * 20)
    assert (result.low[0], result.high[0]) == pytest.approx(((62 - root) / 310, (62 + root) / 310))


def test_cells_in_which_all_changed_alike_or_nothing_did_keep_their_width():
    changes, names = cell(8, 0)
    result = max_t([changes, [0] * 8], [names, names])
    assert result.low == pytest.approx([1 - 4.5 / 12.5, -4.5 / 12.5]) and result.high == pytest.approx([1, 4.5 / 12.5])
    few = max_t([[1, 1, 1]], [[0, 1, 2]])
    assert few.corrected == 0.25 and (few.low[0], few.high[0]) == (-1, 1), "three questions show nothing"
    assert np.isnan(max_t([[], [1]], [[], [0]]).low[0])


def test_an_interval_leaves_zero_out_if_and_only_if_the_corrected_p_is_small():
    rng, seen = np.random.default_rng(0), set()
    for draw in range(40):
        m, n = rng.integers(1, 8), rng.integers(3, 60)
        changes = [rng.choice([-1, 0, 1], n, p=[0.1, 0.6 - gain, 0.3 + gain]) for gain in rng.uniform(0, 0.4, m)]
        patients = [rng.integers(0, max(2, n // 3), n) for _ in range(m)]
        result = max_t(changes, patients, draws=300, seed=draw)
        sure = (result.low > 0) | (result.high < 0)
        assert (sure == (result.corrected <= 0.05)).all()
        mean = [np.mean(cell) for cell in changes]
        assert (result.low <= mean).all() and (mean <= result.high).all()
        seen |= set(sure.tolist())
    assert seen == {True, False}


def test_all_intervals_of_a_matrix_hold_at_once():
    rng, hits = np.random.default_rng(1), 0
    for draw in range(150):
        asked = rng.random(80)
        base = rng.random(80) < asked
        gains = np.array([0.0, 0.1, 0.3, 0.0, 0.1, 0.3])
        after = rng.random((6, 80)) < asked * (1 - gains[:, None]) + gains[:, None]
        result = max_t(after.astype(float) - base, [range(80)] * 6, draws=400, seed=draw)
        hits += ((result.low <= gains / 2) & (gains / 2 <= result.high)).all()
    assert hits >= 136  # 142.5 promised; fewer than 136 has probability 0.01


def test_bonferroni_s_level():
    assert together(5) == pytest.approx(0.99) and together(0) == together(1) == 0.95


@pytest.mark.parametrize("n", [15, 18, 33])
def test_sign_patterns_are_those_of_numpys_generator(n):
    changes = np.random.default_rng(1).integers(-1, 2, n) + 0.25  # no zeros: every cluster has a sign
    generator, reached = np.random.default_rng(0), [1]  # no turn at all, and 1,010 random patterns
    for rows in (250, 250, 250, 250, 10):
        signs = 1.0 - 2.0 * generator.integers(0, 2, (rows, n), dtype=np.int8)
        reached += (np.abs(signs @ changes) >= abs(changes.sum()) - 1e-9).tolist()
    assert max_t([changes], [np.arange(n)], draws=1010).p[0] == pytest.approx(np.mean(reached), abs=1e-12)
