"""Calibration: is a model that gives its answer 80 % right in 80 % of such answers?

:func:`medr1kit.letter_probabilities` reads, at the place where the letter is written, how probable each option's letter
is. The *confidence* is the largest of these. Sort the questions into bins of confidence, and compare in each bin the
mean confidence with the share of right answers: the reliability table. Two numbers sum it up::

    ECE    = sum over bins of n_bin / n * |accuracy_bin - confidence_bin|      0 is perfect, 1 the worst
    Brier  = mean over questions of sum over options of (p_option - [option is gold])^2    0 .. 2; guessing: 1 - 1/k

Training for a reward pushes probabilities towards 0 and 1 whether or not the answers get better, so look at both before
and after. The ECE of few questions is too large, because chance in each bin counts as an error: of a model that *is*
calibrated, 100 questions show some .09. :attr:`Calibration.ece_noise` says how large it may be by chance alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medr1kit.given import table_given, whole_number
from medr1kit.results.clusters import clustering
from medr1kit.results.numbers import count, percent
from medr1kit.results.said import Said
from medr1kit.results.stats import cluster_codes, share
from medr1kit.vqa import LETTERS, DataError

_DRAWS, _BLOCK = 2000, 100  # resamples; how many of them are in memory at a time


@dataclass(frozen=True, repr=False)
class Calibration(Said):
    """How far stated probabilities can be believed.

    Attributes:
        n: questions.
        accuracy: share of questions whose most probable letter is the gold one, in 0..1.
        confidence: mean probability of the most probable letter; above ``accuracy``: over-confident.
        ece, ece_low, ece_high: expected calibration error, 0..1, with a 95 % interval.
        ece_noise: the ECE that a perfectly calibrated model of these confidences stays below in 95 of 100 samples of
            so many questions; an ``ece`` below it is no sign of miscalibration, and then ``ece_low`` is 0.
        brier, brier_low, brier_high: Brier score over all options, 0..2, with a 95 % interval.
        frame: the reliability table, a row a bin: ``bin_low``, ``bin_high`` (the bin holds what is above the first and
            not above the second), ``n``, ``confidence`` (mean), ``accuracy`` with ``low`` and ``high``, and ``gap``,
            accuracy minus confidence; nan in empty bins.
    """

    n: int
    accuracy: float
    confidence: float
    ece: float
    ece_low: float
    ece_high: float
    ece_noise: float
    brier: float
    brier_low: float
    brier_high: float
    frame: pd.DataFrame

    def sentences(self) -> list[str]:
        """Return accuracy beside confidence, and the two errors with their intervals."""
        return [
            f"{count(self.n, 'question')}: {percent(self.accuracy)} right, {percent(self.confidence)} sure on average",
            f"calibration error {percent(self.ece, self.ece_low, self.ece_high)}; a perfect one stays below "
            f"{percent(self.ece_noise)}; Brier {self.brier:.3f} [{self.brier_low:.3f}, {self.brier_high:.3f}]",
        ]


def calibration(frame: pd.DataFrame, bins: int = 10, cluster: str | bool | None = None) -> Calibration:
    """Return how well the probabilities of letters agree with how often these letters are right.

    Args:
        frame: from :func:`medr1kit.letter_probabilities`, or any frame with ``probabilities`` (a list in letter order
            that sums to 1) and ``answer`` (the gold letter).
        bins: number of equally wide bins of confidence, 1 or more.
        cluster: what does not count as independent, as in :func:`medr1kit.score`.

    Returns:
        A :class:`Calibration`. Intervals come from a bootstrap with a fixed seed that draws what counts as independent:
        questions, or patients with all of theirs. The percentiles of a resampled ECE cannot be used as they are:
        resampling adds noise, and noise is counted as error, so that for a calibrated model they would never hold the
        true value. So the lower limit is mirrored at the estimate ("basic" bootstrap), and 0 when ``ece`` is below
        ``ece_noise``; the upper one is the estimate plus what the upper percentile exceeds the mean of the resamples
        by, but no less than the accuracy's own interval allows, which counts when every answer was right. In
        simulations (four options, 100 and 400 questions, calibrated to strongly over-confident) these limits held the
        true value in 94 to 99 % of 150 data sets each. The Brier score is a plain mean with plain percentiles: too
        narrow below some 30 that count as independent, nan with one.

    Raises:
        DataError: if columns are missing, there are no rows, ``bins`` is below 1, a row's probabilities are
            none, or its gold letter has none.

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, equation 3; Brier, Monthly Weather
    Review 78 (1950) 1; ``ece_noise``: consistency resampling, Bröcker and Smith, Weather Forecast. 22 (2007) 651.

    >>> sure = pd.DataFrame({"probabilities": [[0.9, 0.1]] * 4, "answer": list("AAAB")})
    >>> found = calibration(sure)
    >>> round(found.ece, 2), round(found.brier, 2)  # said 90 %, right 75 %; (3 * .02 + 1.62) / 4
    (0.15, 0.42)
    """
    probabilities, gold = letters_given(frame)
    whole_number(bins, "bins")
    confidence = np.array([row.max() for row in probabilities])
    right = np.array([row.argmax() == place for row, place in zip(probabilities, gold)])
    brier = np.array([((row - np.eye(len(row))[place]) ** 2).sum() for row, place in zip(probabilities, gold)])
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)  # an edge belongs to the bin below it
    member = np.eye(bins)[bin_of]  # questions x bins
    units, _ = clustering([frame], cluster)
    ece = float(np.abs((right - confidence) @ member).sum() / len(right))
    noise = float(np.quantile(_calibrated_eces(confidence, member), 0.95))
    eces, briers = _resampled(np.column_stack([(right - confidence)[:, None] * member, brier]), units)
    low, high = _ece_limits(ece, eces, noise, confidence.mean(), right, units)
    brier_low, brier_high = np.quantile(briers, [0.025, 0.975]) if len(set(units)) > 1 else (np.nan, np.nan)
    return Calibration(
        n=len(right),
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        ece=ece,
        ece_low=low,
        ece_high=high,
        ece_noise=noise,
        brier=float(brier.mean()),
        brier_low=float(brier_low),
        brier_high=float(brier_high),
        frame=_reliability(confidence, right, bin_of, units, bins),
    )


def _ece_limits(
    ece: float, eces: np.ndarray, noise: float, confidence: float, right: np.ndarray, units: np.ndarray
) -> tuple[float, float]:
    upper = float(np.quantile(eces, 0.975))
    low, high = 0.0 if ece <= noise else 2 * ece - upper, ece + upper - eces.mean()
    accuracy, *limits = share(right, units)
    gaps = np.abs(np.subtract(limits, confidence))  # of accuracy and confidence over all bins; the ECE is no smaller
    high = np.fmax(high, gaps.max())
    if accuracy in (0, 1):  # nothing varies in the resamples, which nobody should believe
        low = min(low, gaps.min())
    return float(np.clip(low, 0, ece)), float(np.clip(high, ece, 1))


def letters_given(frame: pd.DataFrame) -> tuple[list[np.ndarray], list[int]]:
    """Return the probabilities of a table's rows, arrays in letter order, and the places of their gold letters.

    Raises:
        DataError: if a column is missing, there are no rows, or a row is not what it should be.
    """
    table_given(frame, "probabilities", ("probabilities", "answer"), "what mk.letter_probabilities(…) returned")
    probabilities = [np.asarray(row, dtype=float) for row in frame["probabilities"]]
    for row, (values, letter) in enumerate(zip(probabilities, frame["answer"])):
        if values.ndim != 1 or not (values >= 0).all() or abs(values.sum() - 1) > 1e-3:
            raise DataError(f"row {row}: probabilities are {values!s:.80}; expected numbers of 0..1 that sum to 1")
        if letter not in list(LETTERS[: len(values)]):
            found = f"row {row}: the gold letter is {letter!r}, but there are {len(values)} probabilities"
            raise DataError(f"{found}; give each option one, in letter order")
    return probabilities, [LETTERS.index(letter) for letter in frame["answer"]]


def _calibrated_eces(confidence: np.ndarray, member: np.ndarray) -> np.ndarray:
    """ECEs of answers that are right as often as their confidence says."""
    rng = np.random.default_rng(0)
    draws = (rng.random((_BLOCK, len(confidence))) < confidence for _ in range(_DRAWS // _BLOCK))
    return np.concatenate([np.abs((right - confidence) @ member).sum(axis=1) for right in draws]) / len(confidence)


def _resampled(parts: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap by cluster: ECEs and Brier scores from a question's parts, its gap in its bin and its Brier score."""
    codes, groups = cluster_codes(units, len(parts))
    sums = np.zeros((groups, parts.shape[1] + 1))
    np.add.at(sums, codes, np.column_stack([parts, np.ones(len(parts))]))
    rng = np.random.default_rng(0)
    even = np.full(groups, 1 / groups)
    totals = np.concatenate([rng.multinomial(groups, even, _BLOCK) @ sums for _ in range(_DRAWS // _BLOCK)])
    return np.abs(totals[:, :-2]).sum(axis=1) / totals[:, -1], totals[:, -2] / totals[:, -1]


def _reliability(
    confidence: np.ndarray, right: np.ndarray, bin_of: np.ndarray, units: np.ndarray, bins: int
) -> pd.DataFrame:
    rows = []
    for number in range(bins):
        here = bin_of == number
        mean = float(confidence[here].mean()) if here.any() else float("nan")
        accuracy, low, high = share(right[here], units[here])
        rows.append((number / bins, (number + 1) / bins, int(here.sum()), mean, accuracy, low, high, accuracy - mean))
    return pd.DataFrame(rows, columns=["bin_low", "bin_high", "n", "confidence", "accuracy", "low", "high", "gap"])
