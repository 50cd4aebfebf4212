"""Numbers of questions, against exact power and against statsmodels."""

import math

import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import power_proportions_2indep

import medr1kit as mk
from medr1kit.results.power import discordant_share, questions_needed, smallest_difference
from medr1kit.results.stats import mcnemar
from medr1kit.vqa import DataError


def exact_power(n, difference, discordant):
    """Probability that McNemar's exact test finds the difference, over all numbers of changed and fixed questions."""
    fixed_share = (discordant + difference) / 2 / discordant
    power = 0.0
    for changed in range(n + 1):
        if (weight := binom.pmf(changed, n, discordant)) > 1e-9:
            least = next((k for k in range(changed // 2, changed + 1) if mcnemar(k, changed - k) <= 0.05), changed + 1)
            power += weight * binom.sf(least - 1, changed, fixed_share)
    return power


@pytest.mark.parametrize(("difference", "discordant"), [(0.1, 0.2), (0.1, 0.4)])
def test_the_paired_number_has_the_promised_power(difference, discordant):
    n = questions_needed(difference, discordant=discordant)
    assert 0.76 < exact_power(n, difference, discordant) < 0.83  # the exact test is a little weaker


def test_the_unpaired_number_has_the_promised_power():
    n = questions_needed(0.05, accuracy=0.7)
    result = power_proportions_2indep(0.05, 0.7, n, alpha=0.05, return_results=False)
    assert result == pytest.approx(0.8, abs=0.002)
    assert questions_needed(0.05, accuracy=0.98) == questions_needed(0.05, accuracy=0.93), "no accuracy above 1"


def test_pairing_saves_questions_and_more_certainty_costs_some():
    paired = questions_needed(0.03, discordant=discordant_share(0.7, 0.73))
    assert paired < questions_needed(0.03, accuracy=0.7) / 1.9
    assert questions_needed(0.03, power=0.9) > questions_needed(0.03)
    assert questions_needed(0.03, level=1 - 0.05 / 64) > 2 * questions_needed(0.03)
    assert mk.questions_needed() == questions_needed(0.03, discordant=0.2)


def test_the_smallest_difference_is_the_inverse():
    for n in (300, 436, 3000):
        shown = smallest_difference(n, discordant=0.2)
        assert questions_needed(shown, discordant=0.2) in (n, n + 1)
    assert math.isnan(smallest_difference(5))


def test_the_discordant_share_by_hand():
    assert discordant_share(0.7, 0.7, correlation=1) == pytest.approx(0)
    assert discordant_share(0.7, 0.7, correlation=0) == pytest.approx(2 * 0.7 * 0.3)
    assert discordant_share(0.7, 0.7) == pytest.approx(0.21)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: questions_needed(0.3), "discordant is 0.2; it must be at least the difference, 0.3"),
        (lambda: questions_needed(3), "difference is 3; it must be between 0 and 1"),
        (lambda: questions_needed(0.03, discordant=0.2, accuracy=0.7), "not both"),
        (lambda: questions_needed(0.03, accuracy=1.2), "accuracy is 1.2"),
        (lambda: questions_needed(0.03, power=0.1), "power is 0.1"),
        (lambda: questions_needed(0.03, level=95), "level is 95"),
        (lambda: smallest_difference(0), "n=0"),
        (lambda: discordant_share(0.5, 0.9, correlation=0.9), "cannot correlate 0.9; it must be -0.33 to 0.33"),
        (lambda: discordant_share(0.5, 0.5, correlation=5), "correlation is 5"),
    ],
)
def test_impossible_numbers_are_refused_in_words(call, words):
    with pytest.raises(DataError, match=words):
        call()
