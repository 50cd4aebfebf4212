"""How sure one may be of an accuracy, a difference, a whole matrix of them.

A benchmark score is a sample: another draw of questions would give another number. These questions come up, and each
has one tool::

    how accurate is this model?            wilson(137, 200)              interval of a share
    … when questions share an image?       cluster_interval(v, c)        interval that counts images, not questions
    … whichever of the two it is?          share(v, c)                   share and interval
    did training change anything?          paired_difference, mcnemar    the same questions before and after
    … trained again with other seeds?      pooled_difference             mean over seeds, paired by question
    what counts as independent?            medr1kit.results.clusters     the patient, the question, or each answer
    … in any of 64 cells?                  medr1kit.results.multiplicity correction for having looked 64 times
    how many questions does it take?       medr1kit.results.power        before one starts

Before and after are *paired*: both answered the same
questions, so only the questions whose verdict changed carry information, and an interval for two independent shares
would be far too wide. All shares are in 0..1, never percent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import betainc, ndtri, stdtrit  # of binomial, norm and t; scipy.stats takes half a second to import

NAN = float("nan")
_NO_ERROR = 1e-12  # a standard error of zero, up to rounding


class Difference(NamedTuple):
    """A difference of two paired shares, after minus before, with its interval; each in -1..1."""

    difference: float
    low: float
    high: float


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Unlike the textbook ±1.96 standard errors it stays within 0..1 and keeps its width when every answer was right.

    Args:
        successes: how many of the ``n`` were right, 0..n; may be fractional when ties were split.
        n: number of questions.
        level: confidence level, in 0..1.

    Returns:
        (low, high), both in 0..1; (nan, nan) for n = 0.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209; recommended by Brown, Cai and DasGupta, Stat. Sci. 16
    (2001) 101.

    >>> [round(limit, 3) for limit in wilson(10, 10)]
    [0.722, 1.0]
    """
    return _score_interval(successes / n, n, ndtri((1 + level) / 2)) if n else (NAN, NAN)


def _score_interval(share: float, n: float, quantile: float) -> tuple[float, float]:
    """All shares of which the one found is no further than so many of *their* standard errors away."""
    middle, scale = share + quantile**2 / (2 * n), 1 + quantile**2 / n
    reach = quantile * np.sqrt(share * (1 - share) / n + quantile**2 / (4 * n**2))
    low, high = (middle - reach) / scale, (middle + reach) / scale
    return float(low) if share > 0 else 0.0, float(high) if share < 1 else 1.0


def cluster_interval(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> tuple[float, float]:
    """Return an interval for a mean of 0/1 values that come in clusters, such as several questions about one image.

    The variance sums the residuals within each cluster before squaring, so that questions that stand and fall together
    count once. So many independent questions as would have this variance are put into Wilson's formula, with the
    quantile of Student's t with (number of clusters - 1) degrees of freedom. The mean plus and minus that many standard
    errors would do in the middle, but not near 0 and 1: with 100 questions in clusters of 5, true share 95 %,
    correlation 0.3 within a cluster, it holds the true share in 83 of 100 simulated samples, this interval in 98. With
    as few as 3 or 4 large clusters this one, too, may hold it in only 90.

    Args:
        values: n verdicts, 0 or 1.
        clusters: n cluster names, for example image ids; none may be missing.
        level: confidence level, in 0..1.

    Returns:
        (low, high), in 0..1; (nan, nan) with fewer than two clusters. When no value, or no cluster in sum, departs from
        the mean, the estimated variance is zero, which nobody should believe: the Wilson interval with one value a
        cluster is returned instead.

    Raises:
        ValueError: if the lengths differ or a cluster name is missing.

    Source: the CR1 estimator for a mean, Cameron and Miller, J. Human Resources 50 (2015) 317, sections II and VI; for
    language model benchmarks Miller, "Adding Error Bars to Evals", arXiv 2411.00640, section 2.2; Wilson's formula with
    an effective number, Franco, Little, Louis and Slud, J. Survey Stat. Methodol. 7 (2019) 334.

    >>> [round(limit, 3) for limit in cluster_interval([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])]
    [0.036, 0.964]
    """
    values = np.asarray(values, dtype=float)
    codes, groups = cluster_codes(clusters, len(values))
    if groups < 2:
        return NAN, NAN
    mean, error = float(values.mean()), cluster_error(values, codes, groups)
    if error < _NO_ERROR:
        return wilson(groups * mean, groups, level)
    return _score_interval(mean, mean * (1 - mean) / error**2, stdtrit(groups - 1, (1 + level) / 2))


def share(values: Sequence[bool], clusters: Sequence[Hashable]) -> tuple[float, float, float]:
    """Return a share with its 95 % interval: Wilson's, or that of clusters where several values share one.

    Args:
        values: n verdicts, true or false.
        clusters: n names of what does not count as independent (:mod:`medr1kit.results.clusters`); none missing.

    Returns:
        (share, low, high), each in 0..1; all nan for n = 0, the limits nan if all of several values share one cluster.

    >>> [round(number, 2) for number in share([True, True, False, True], ["a", "b", "c", "d"])]
    [0.75, 0.3, 0.95]
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        return (NAN, NAN, NAN)
    independent = len(set(clusters)) == len(values)
    return float(values.mean()), *(
        wilson(values.sum(), len(values)) if independent else cluster_interval(values, clusters)
    )


def cluster_codes(clusters: Sequence[Hashable], n: int) -> tuple[np.ndarray, int]:
    """Return a number for each of n values' clusters, and how many clusters there are.

    Raises:
        ValueError: if there are not n cluster names or one is missing.
    """
    numbers = isinstance(clusters, np.ndarray) and clusters.dtype.kind == "i"  # as they are: much the quickest
    codes, names = pd.factorize(clusters if numbers else pd.Series(clusters, dtype=object))
    if len(codes) != n:
        raise ValueError(f"{n} values but {len(codes)} clusters; give one cluster name a value")
    if (codes < 0).any():
        raise ValueError(f"cluster name missing for value {int(np.argmax(codes < 0))}; give every value its cluster")
    return codes, len(names)


def cluster_error(values: np.ndarray, codes: np.ndarray, groups: int) -> float:
    """The CR1 standard error of a mean."""
    residuals = np.bincount(codes, weights=values - values.mean())
    return float(np.sqrt(groups / (groups - 1) * (residuals**2).sum()) / len(values))


def paired_difference(
    before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable] | None = None, level: float = 0.95
) -> Difference:
    """Return the difference of two accuracies on the same questions, with its interval.

    Without clusters the two Wilson intervals are added in squares, less what the correlation of the pairs takes away;
    so the interval keeps an honest width when no verdict changed. With clusters it is that of a mean of changes, as in
    :func:`cluster_interval`.

    Args:
        before: n verdicts, 0 or 1.
        after: the n verdicts on the same questions, in the same order.
        clusters: n cluster names, such as image, source or stem; None for independent questions.
        level: confidence level, in 0..1.

    Returns:
        ``Difference(difference, low, high)``, after minus before; all nan for n = 0. With fewer than two clusters the
        limits are nan; if every question, or every cluster in sum, changed alike, they are those of one question a
        cluster.

    Raises:
        ValueError: if the lengths differ or a cluster name is missing.

    Source: Newcombe, Stat. Med. 17 (1998) 2635, method 10; with clusters, Miller, arXiv 2411.00640, sections 2.2, 4.2.

    >>> [round(x, 4) for x in paired_difference([1] * 38 + [0] * 12, [1] * 36 + [0] * 2 + [1] * 12)]
    [0.2, 0.0569, 0.3404]
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} verdicts before but {len(after)} after; pair them first")
    n = len(before)
    if n == 0:
        return Difference(NAN, NAN, NAN)
    if clusters is not None:
        return _clustered_difference(before, after, clusters, level)
    share_before, share_after = before.mean(), after.mean()
    low_before, high_before = wilson(before.sum(), n, level)
    low_after, high_after = wilson(after.sum(), n, level)
    correlation = _newcombe_phi(before, after)

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2)))

    difference = (int(after.sum()) - int(before.sum())) / n
    return Difference(
        difference,
        difference - reach(share_after - low_after, high_before - share_before),
        difference + reach(high_after - share_after, share_before - low_before),
    )


def _clustered_difference(
    before: np.ndarray, after: np.ndarray, clusters: Sequence[Hashable], level: float
) -> Difference:
    changes = after.astype(float) - before
    codes, groups = cluster_codes(clusters, len(changes))
    mean = float(changes.mean())
    if groups < 2:
        return Difference(mean, NAN, NAN)
    error = cluster_error(changes, codes, groups)
    if error < _NO_ERROR:  # which nobody should believe: as if each cluster were one question
        single = (np.arange(groups) < round(groups * verdicts.mean()) for verdicts in (before, after))
        _, low, high = paired_difference(*single, level=level)
        return Difference(mean, min(low, mean), max(high, mean))
    reach = stdtrit(groups - 1, (1 + level) / 2) * error
    return Difference(mean, max(-1.0, float(mean - reach)), min(1.0, float(mean + reach)))


def two_shares(right: float, n: float, other_right: float, other_n: float, level: float = 0.95) -> Difference:
    """Return the difference of the shares of two samples that have no question in common, the first less the other.

    Args:
        right, n: how many of how many are right in the first, above 0; may be fractional, as effective numbers are.
        other_right, other_n: in the other.
        level: confidence level, in 0..1.

    Source: Newcombe, Stat. Med. 17 (1998) 873, method 10.

    >>> [round(x, 4) for x in two_shares(56, 70, 48, 80)]
    [0.2, 0.0524, 0.3339]
    """
    one, other = right / n, other_right / other_n
    (low, high), (other_low, other_high) = wilson(right, n, level), wilson(other_right, other_n, level)
    down, up = np.hypot(one - low, other_high - other), np.hypot(high - one, other - other_low)
    return Difference(one - other, float(one - other - down), float(one - other + up))


class PooledDifference(NamedTuple):
    """A paired difference averaged over seeds; ``low``..``high`` is for these runs, ``…_seeds`` for any further one."""

    difference: float
    low: float
    high: float
    low_seeds: float
    high_seeds: float


def pooled_difference(
    before: Sequence[float],
    after: Sequence[float],
    clusters: Sequence[Hashable],
    seeds: Sequence[Hashable],
    level: float = 0.95,
) -> PooledDifference:
    """Return the mean over seeds of a paired difference, with two intervals.

    ``low`` and ``high`` take the trained models as they are and let the questions vary: what would these runs gain on
    other questions? ``low_seeds`` and ``high_seeds`` let the seeds vary, too: what does the *recipe* gain? Their
    variance is that over questions plus that over seeds, with Satterthwaite's degrees of freedom. What is left when
    both are known enters twice, so they are wide rather than narrow. Even so, three seeds say little: if the seeds
    differ much, Student's t has 2 degrees of freedom and the interval is 4.3 standard errors to each side; and by
    chance three seeds may look alike.

    Args:
        before: n verdicts, 0 or 1, a row each question and seed; a base that answered once is repeated for each seed.
        after: the n verdicts after training.
        clusters: n names: the question, or what questions share (image, source, stem). Each seed answered all of them.
        seeds: n seeds.
        level: confidence level, in 0..1.

    Returns:
        ``PooledDifference``; nan where there are fewer than two clusters or, for the last two, two seeds.

    Raises:
        ValueError: if the lengths differ or a name is missing.

    Source: two-way clustering, Cameron, Gelbach and Miller, J. Bus. Econ. Stat. 29 (2011) 238, without its subtraction
    of the part counted twice; Satterthwaite, Biometrics Bulletin 2 (1946) 110.

    >>> pooled = pooled_difference([0] * 8, [1, 1, 0, 1, 0, 1, 0, 1], list("abcdabcd"), [0] * 4 + [1] * 4)
    >>> [round(limit, 2) for limit in pooled]
    [0.62, -0.14, 1.0, -0.23, 1.0]
    """
    difference, low, high = paired_difference(before, after, clusters, level)
    changes = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    codes, groups = cluster_codes(clusters, len(changes))
    seed_codes, runs = cluster_codes(seeds, len(changes))
    if groups < 2 or runs < 2:
        return PooledDifference(difference, low, high, NAN, NAN)
    by_seed = np.bincount(seed_codes, weights=changes) / np.bincount(seed_codes)
    over_questions, over_seeds = cluster_error(changes, codes, groups) ** 2, by_seed.var(ddof=1) / runs
    variance = over_questions + over_seeds
    if variance == 0:
        return PooledDifference(difference, low, high, low, high)
    freedom = variance**2 / (over_questions**2 / (groups - 1) + over_seeds**2 / (runs - 1))
    reach = float(stdtrit(min(freedom, groups - 1), (1 + level) / 2) * np.sqrt(variance))
    return PooledDifference(difference, low, high, max(-1.0, difference - reach), min(1.0, difference + reach))


def _newcombe_phi(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of two series of verdicts, shrunk by n/2 when positive (Newcombe's continuity correction)."""
    n, right_before, right_after = len(before), float(before.sum()), float(after.sum())
    margins = right_before * (n - right_before) * right_after * (n - right_after)
    if margins == 0:
        return 0.0
    product = n * float((before & after).sum()) - right_before * right_after  # both right x both wrong - fixed x broken
    if product > 0:
        product = max(product - n / 2, 0.0)
    return product / float(np.sqrt(margins))


def mcnemar(fixed: int, broken: int) -> float:
    """Return the exact two-sided p-value that as many questions are truly fixed as broken.

    Args:
        fixed: questions wrong before and right after.
        broken: questions right before and wrong after.

    Returns:
        p in 0..1; 1.0 when no verdict changed.

    Source: McNemar, Psychometrika 12 (1947) 153, with the binomial distribution instead of chi square.

    >>> mcnemar(6, 2)
    0.2890625
    """
    fewer, more = sorted((int(fixed), int(broken)))
    return min(1.0, 2 * float(betainc(more, fewer + 1, 0.5))) if more else 1.0  # the lower tail, and the upper one
