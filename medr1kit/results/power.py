"""How many questions a comparison needs, and what the questions at hand can show.

Answers to the same questions are compared in pairs, and only questions whose verdict changed count. So what matters is
the share of these *discordant* questions: two models that agree on 80 % of them need far fewer questions than two that
were tested on different ones::

    questions_needed(0.03, discordant=0.2)         3 points, paired, a fifth of the verdicts differ
    questions_needed(0.03, accuracy=0.7)           3 points, each model on questions of its own, at 70 %
    smallest_difference(436, discordant=0.2)       what Med-R1's lesion grading test can show at all

``(fixed + broken) / n`` of :func:`medr1kit.results.compare.compare` is the share from one's own runs. It can be guessed
from two accuracies and the correlation of the verdicts, which is 0.3 to 0.7 for language models
(:func:`discordant_share`). Questions that share images or sources are worth fewer than they are: then count clusters.
"""

from __future__ import annotations

import math
from numbers import Real

from scipy.optimize import brentq
from scipy.stats import norm

from medr1kit.given import kind, whole_number
from medr1kit.vqa import DataError


def questions_needed(
    difference: float = 0.03,
    *,
    discordant: float | None = None,
    accuracy: float | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """Return how many questions it takes to find a difference of two accuracies.

    Args:
        difference: the true difference, above 0 and below 1; 0.03 are 3 points.
        discordant: both models answer the same questions, and this share of them is right for one and wrong for the
            other; at least ``difference``, at most 1. Default 0.2: two models near 70 %, correlation 0.5.
        accuracy: instead of ``discordant``: each model has questions of its own, and one is right in this share.
        power: the probability to find the difference, 0.5 to below 1.
        level: 1 minus the probability to "find" a difference that is not there; for one of 64 cells ``1 - 0.05 / 64``.

    Returns:
        Questions, which both models answer; with ``accuracy`` questions for each model.

    Raises:
        DataError: if a share is out of its range, or both ``discordant`` and ``accuracy`` are given.

    Source: paired, Connor, Biometrics 43 (1987) 207 (McNemar's test, two-sided); unpaired, Fleiss, Levin and Paik,
    Statistical Methods for Rates and Proportions (2003), chapter 4. Exact tests need a few more.

    >>> questions_needed(0.03), questions_needed(0.03, accuracy=0.7)
    (1742, 3554)
    """
    if discordant is not None and accuracy is not None:
        raise DataError("give discordant= (same questions) or accuracy= (each model its own questions), not both")
    _check("difference", difference, 0, 1)
    if accuracy is None:
        discordant = 0.2 if discordant is None else discordant
        return math.ceil(_paired(difference, discordant, power, level))
    other = accuracy + difference if accuracy + difference < 1 else accuracy - difference
    _check("accuracy", accuracy, 0, 1)
    _check(f"accuracy {accuracy} changed by {difference}", other, 0, 1)
    mean, (wide, narrow) = (accuracy + other) / 2, _quantiles(power, level)
    by_chance, true = math.sqrt(2 * mean * (1 - mean)), math.sqrt(accuracy * (1 - accuracy) + other * (1 - other))
    return math.ceil((wide * by_chance + narrow * true) ** 2 / difference**2)


def smallest_difference(n: int, *, discordant: float = 0.2, power: float = 0.8, level: float = 0.95) -> float:
    """Return the smallest difference that ``n`` questions, answered by both models, show with this power.

    Args:
        n: questions, at least 1.
        discordant, power, level: as in :func:`questions_needed`.

    Returns:
        The difference, 0..1; nan if even the largest possible one, ``discordant``, needs more questions.

    Raises:
        DataError: if a number is out of its range.

    >>> round(smallest_difference(436), 3)
    0.06
    """
    whole_number(n, "n")
    _check("discordant", discordant, 0, 1, ends=True)
    if _paired(discordant, discordant, power, level) > n:
        return math.nan
    return float(brentq(lambda d: _paired(d, discordant, power, level) - n, 1e-9, discordant))


def discordant_share(before: float, after: float, correlation: float = 0.5) -> float:
    """Return the share of questions that one model has right and the other wrong.

    Args:
        before, after: the two accuracies, 0..1.
        correlation: of the verdicts, -1..1; 0.3 to 0.7 is usual (Miller, arXiv 2411.00640, section 4.2).

    Raises:
        DataError: if a number is out of its range, or no two models have these accuracies and this correlation.

    >>> round(discordant_share(0.7, 0.73), 3)
    0.205
    """
    for name, share in (("before", before), ("after", after)):
        _check(name, share, 0, 1, ends=True)
    _check("correlation", correlation, -1, 1, ends=True)
    spread = math.sqrt(before * (1 - before) * after * (1 - after))
    both = before * after + correlation * spread
    low, high = max(0.0, before + after - 1), min(before, after)
    if not low - 1e-12 <= both <= high + 1e-12:
        least, most = ((limit - before * after) / spread for limit in (low, high))
        raise DataError(
            f"verdicts that are right in {before:.0%} and {after:.0%} cannot correlate {correlation}; it must be "
            f"{least:.2f} to {most:.2f}"
        )
    return before + after - 2 * both


def _paired(difference: float, discordant: float, power: float, level: float) -> float:
    if not difference <= discordant <= 1:
        raise DataError(
            f"discordant is {discordant}; it must be at least the difference, {difference:g}, because only questions "
            "whose verdict differs make one, and at most 1"
        )
    by_chance, true = _quantiles(power, level)
    root = by_chance * math.sqrt(discordant) + true * math.sqrt(max(0.0, discordant - difference**2))
    return (root / difference) ** 2


def _quantiles(power: float, level: float) -> tuple[float, float]:
    _check("level", level, 0, 1)
    _check("power", power, 0, 1)
    if power < 0.5:
        raise DataError(f"power is {power}; it must be 0.5 to below 1")
    return float(norm.ppf((1 + level) / 2)), float(norm.ppf(power))


def _check(name: str, value: float, low: float, high: float, ends: bool = False) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise DataError(f"{name} is {kind(value)}; give a number between {low} and {high}")
    if not (low <= value <= high if ends else low < value < high):
        raise DataError(f"{name} is {value:g}; it must be between {low} and {high}{'' if ends else ', not at an end'}")
