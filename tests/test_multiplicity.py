"""Corrections for many tests, against numbers counted by hand and against what they promise."""

import math

import numpy as np
import pytest

from medr1kit.results.multiplicity import holm, max_t
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
