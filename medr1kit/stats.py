"""How sure one may be of an accuracy, a difference, a whole matrix of them.

A benchmark score is a sample: another draw of questions would give another number. Four questions come up, and each has
one tool here::

    how accurate is this model?            wilson(137, 200)           interval of a share
    … when questions share an image?       cluster_interval(v, c)     interval that counts images, not questions
    did training change anything?          paired_difference, mcnemar the same questions before and after
    … in any of 64 cells?                  holm(pvalues)              correction for having looked 64 times

Before and after are *paired*: both answered the same questions, so only the questions whose verdict changed carry
information, and an interval for two independent shares would be far too wide. All shares are in 0..1, never percent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

NAN = float("nan")


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
    if n == 0:
        return NAN, NAN
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    return float(low), float(high)


def cluster_interval(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> tuple[float, float]:
    """Return an interval for a mean of 0/1 values that come in clusters, such as several questions about one image.

    The variance sums the residuals within each cluster before squaring, so that questions that stand and fall together
    count once; the quantile is Student's t with (number of clusters - 1) degrees of freedom.

    Args:
        values: n verdicts, 0 or 1.
        clusters: n cluster names, for example image ids; none may be missing.
        level: confidence level, in 0..1.

    Returns:
        (low, high), cut to 0..1; (nan, nan) with fewer than two clusters. When all values are equal the estimated
        variance is zero, which nobody should believe: the Wilson interval with one value a cluster is returned instead.

    Raises:
        ValueError: if the lengths differ or a cluster name is missing.

    Source: the CR1 estimator for a mean, Cameron and Miller, J. Human Resources 50 (2015) 317, sections II and VI; for
    language model benchmarks Miller, "Adding Error Bars to Evals", arXiv 2411.00640, section 2.2.

    >>> [round(limit, 3) for limit in cluster_interval([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])]
    [0.0, 1.0]
    """
    values = np.asarray(values, dtype=float)
    codes, names = pd.factorize(pd.Series(clusters, dtype=object))
    if len(codes) != len(values):
        raise ValueError(f"{len(values)} values but {len(codes)} clusters; give one cluster name a value")
    if (codes < 0).any():
        raise ValueError(f"cluster name missing for value {int(np.argmax(codes < 0))}; give every value its cluster")
    n, groups = len(values), len(names)
    if groups < 2:
        return NAN, NAN
    mean = values.mean()
    if (values == values[0]).all():
        return wilson(groups * mean, groups, level)
    residuals = np.bincount(codes, weights=values - mean)
    error = np.sqrt(groups / (groups - 1) * (residuals**2).sum()) / n
    reach = t.ppf((1 + level) / 2, groups - 1) * error
    return float(max(0.0, mean - reach)), float(min(1.0, mean + reach))


def paired_difference(before: Sequence[float], after: Sequence[float], level: float = 0.95) -> Difference:
    """Return the difference of two accuracies on the same questions, with its interval.

    The two Wilson intervals are added in squares, less what the correlation of the pairs takes away; so the interval
    keeps an honest width when no verdict changed.

    Args:
        before: n verdicts, 0 or 1.
        after: the n verdicts on the same questions, in the same order.
        level: confidence level, in 0..1.

    Returns:
        ``Difference(difference, low, high)``, after minus before; all nan for n = 0.

    Raises:
        ValueError: if the lengths differ.

    Source: Newcombe, Stat. Med. 17 (1998) 2635, method 10.

    >>> [round(x, 4) for x in paired_difference([1] * 38 + [0] * 12, [1] * 36 + [0] * 2 + [1] * 12)]
    [0.2, 0.0569, 0.3404]
    """
    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if len(before) != len(after):
        raise ValueError(f"{len(before)} verdicts before but {len(after)} after; pair them first")
    n = len(before)
    if n == 0:
        return Difference(NAN, NAN, NAN)
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


def _newcombe_phi(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of two series of verdicts, shrunk by n/2 when positive (Newcombe's continuity correction)."""
    n, right_before, right_after = len(before), float(before.sum()), float(after.sum())
    margins = right_before * (n - right_before) * right_after * (n - right_after)
    if margins == 0:
        return 0.0
    same_right, same_wrong = float((before & after).sum()), float((~before & ~after).sum())
    product = same_right * same_wrong - float((~before & after).sum()) * float((before & ~after).sum())
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
    changed = int(fixed) + int(broken)
    return float(binomtest(int(fixed), changed, 0.5).pvalue) if changed else 1.0


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """Return p-values corrected for the number of tests, after Holm.

    Args:
        pvalues: m p-values in 0..1; nan marks a test that was not made, stays nan and does not count.

    Returns:
        m corrected p-values, in the same order, each in 0..1.

    Source: Holm, Scand. J. Stat. 6 (1979) 65.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    corrected = np.array(pvalues, dtype=float)
    made = ~np.isnan(corrected)
    if made.any():
        corrected[made] = multipletests(corrected[made], method="holm")[1]
    return corrected
