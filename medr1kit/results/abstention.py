"""Abstention: a model that may say "I do not know" answers fewer questions, and should answer them better.

Sort the questions by the model's confidence, the most confident first, and let it answer the first k of n alone. The
share it answers is the *coverage* k/n, the share of these that it gets wrong the *risk*::

    coverage      20 %   40 %   60 %   80 %   100 %
    risk           2 %    6 %   13 %   21 %    30 %      it knows what it does not know
    risk          30 %   30 %   30 %   30 %    30 %      its confidence says nothing

One number sums the curve up: AURC, the mean of the risks over all k. It rewards good answers *and* a good order, so two
models are held against each other by AURC only where their accuracies are alike; beside it stand the AURC of the best
possible order of the same answers, and the plain risk, which is that of an order without any sense.

Abstaining needs a confidence that can be believed only in its order. Where the number itself is to be told to someone,
:func:`temper` first divides the logits by one *temperature*, fitted on questions that are not reported on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medr1kit.given import number
from medr1kit.results.calibration import letters_given
from medr1kit.results.clusters import clustering
from medr1kit.results.numbers import count, percent
from medr1kit.results.said import Said
from medr1kit.results.stats import cluster_codes, share

_DRAWS, _BLOCK = 2000, 100  # resamples; how many of them are in memory at a time
_LEVELS = np.arange(1, 21) / 20  # coverages of the table


@dataclass(frozen=True, repr=False)
class Abstention(Said):
    """What a model gains by not answering where it is least sure.

    Attributes:
        n: questions.
        accuracy: with every question answered, 0..1.
        aurc, aurc_low, aurc_high: area under the risk-coverage curve, 0..1, less is better, with a 95 % interval.
        aurc_best: of the best order of these answers, right ones first; 1 - ``accuracy`` is that of no order.
        frame: a row for each coverage asked for, 5 to 100 %: ``asked``, ``coverage`` (of a rule that answers from a
            confidence up: at least what was asked for, more where many are equally sure), ``threshold`` (that
            confidence), ``n`` answered, ``accuracy`` of these, ``low``, ``high``.
    """

    n: int
    accuracy: float
    aurc: float
    aurc_low: float
    aurc_high: float
    aurc_best: float
    frame: pd.DataFrame

    def sentences(self) -> list[str]:
        """Return what answering the surest four fifths gains, and the area under the curve."""
        row = self.frame.loc[self.frame["asked"] == 0.8].iloc[0]
        answered = f"{percent(row['coverage'])} of them, confidence {row['threshold']:.2f} or more"
        return [
            f"{count(self.n, 'question')}: {percent(self.accuracy)} right; of the surest ({answered}) "
            f"{percent(row['accuracy'], row['low'], row['high'])}",
            f"AURC {self.aurc:.3f} [{self.aurc_low:.3f}, {self.aurc_high:.3f}]; the best order of these answers has "
            f"{self.aurc_best:.3f}, none at all {1 - self.accuracy:.3f}",
        ]


def abstention(frame: pd.DataFrame, cluster: str | bool | None = None) -> Abstention:
    """Return how accurate a model is on the questions it is surest of.

    Args:
        frame: from :func:`medr1kit.letter_probabilities`, or any frame with ``probabilities`` (a list in letter order
            that sums to 1) and ``answer`` (the gold letter).
        cluster: what does not count as independent, as in :func:`medr1kit.score`.

    Returns:
        An :class:`Abstention`. Among equally sure answers the order is no order: each counts as the mean of them. The
        interval of AURC is the middle 95 % of a bootstrap with a fixed seed that draws what counts as independent;
        those of accuracies are as in ``score``, for a threshold fixed beforehand: choose it on other questions.

    Raises:
        DataError: if columns are missing, there are no rows, a row's probabilities are none, or its gold letter has
            none.

    Source: Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers",
    arXiv 1805.08206.

    >>> sure = pd.DataFrame({"probabilities": [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], "answer": list("AABB")})
    >>> round(abstention(sure).aurc, 4)  # risks 0, 0, 1/3, 1/4
    0.1458
    """
    probabilities, gold = letters_given(frame)
    confidence = np.array([row.max() for row in probabilities])
    right = np.array([row.argmax() == place for row, place in zip(probabilities, gold)])
    units, _ = clustering([frame], cluster)
    order = np.argsort(-confidence, kind="stable")
    codes, groups = cluster_codes(units, len(right))
    ends = _ends_of_ties(confidence[order])
    wrong = ~right[order]
    draws = _resamples(groups, codes[order])
    aurcs = np.concatenate([_aurc(wrong, weights, ends) for weights in draws])
    low, high = np.quantile(aurcs, [0.025, 0.975]) if groups > 1 else (np.nan, np.nan)
    once = np.ones((1, len(right)), dtype=int)
    return Abstention(
        n=len(right),
        accuracy=float(right.mean()),
        aurc=float(_aurc(wrong, once, ends)[0]),
        aurc_low=float(low),
        aurc_high=float(high),
        aurc_best=float(_aurc(np.sort(wrong), once, np.arange(1, len(right) + 1))[0]),
        frame=_levels(confidence, right, units),
    )


def _ends_of_ties(confidence: np.ndarray) -> np.ndarray:
    """Where each run of equal values in a sorted array ends: (runs,), counted from 1."""
    return np.append(np.flatnonzero(np.diff(confidence)) + 1, len(confidence))


def _resamples(groups: int, codes: np.ndarray):
    rng = np.random.default_rng(0)
    even = np.full(groups, 1 / groups)
    for _ in range(_DRAWS // _BLOCK):
        yield rng.multinomial(groups, even, _BLOCK)[:, codes]  # (draws, questions)


def _aurc(wrong: np.ndarray, weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """AURC of each of some resamples.

    Args:
        wrong: (questions,), in the order of confidence.
        weights: (resamples, questions), how often each question was drawn.
        ends: where runs of equal confidence end; within a run the wrong ones are spread evenly.
    """
    starts = np.append(0, ends[:-1])
    answered = np.add.reduceat(weights, starts, axis=1).cumsum(axis=1)  # (resamples, runs), up to the run's end
    errors = np.add.reduceat(weights * wrong, starts, axis=1).cumsum(axis=1)
    before, errors_before = (np.pad(kept, ((0, 0), (1, 0)))[:, :-1] for kept in (answered, errors))
    rate = (errors - errors_before) / np.maximum(answered - before, 1)
    # At its k-th answer a run's risk is (errors_before + (k - before) * rate) / k; summed over k, by harmonic numbers.
    harmonic = np.append(0.0, (1 / np.arange(1, weights.sum(axis=1).max() + 1)).cumsum())
    risks = (answered - before) * rate + (errors_before - before * rate) * (harmonic[answered] - harmonic[before])
    return risks.sum(axis=1) / answered[:, -1]


def _levels(confidence: np.ndarray, right: np.ndarray, units: np.ndarray) -> pd.DataFrame:
    sorted_down, rows = np.sort(confidence)[::-1], []
    for level in _LEVELS:
        threshold = sorted_down[int(np.ceil(round(level * len(right), 9))) - 1]
        answered = confidence >= threshold
        rows.append((level, answered.mean(), threshold, int(answered.sum()), *share(right[answered], units[answered])))
    return pd.DataFrame(rows, columns=["asked", "coverage", "threshold", "n", "accuracy", "low", "high"])


def fit_temperature(frame: pd.DataFrame) -> float:
    """Return the temperature that makes the gold letters of some held-out questions most probable.

    Args:
        frame: as for :func:`abstention`; of questions that nothing is reported on.

    Returns:
        Above 1 for an over-confident model, below 1 for a timid one; within 0.05 to 20.

    Raises:
        DataError: as :func:`abstention`.

    Source: Guo et al., arXiv 1706.04599, section 4.2.

    >>> sure = pd.DataFrame({"probabilities": [[0.9, 0.1]] * 4, "answer": list("AAAB")})
    >>> round(fit_temperature(sure), 2)  # .9 becomes .75: log(9) / 2 = log(3)
    2.0
    """
    from scipy.optimize import minimize_scalar

    probabilities, gold = letters_given(frame)

    def surprise(log_temperature: float) -> float:
        tempered = _tempered(probabilities, np.exp(log_temperature))
        return -float(np.mean([np.log(max(row[place], 1e-300)) for row, place in zip(tempered, gold)]))

    return float(np.exp(minimize_scalar(surprise, bounds=np.log([0.05, 20]), method="bounded").x))


def temper(frame: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Return the same answers with their probabilities at another temperature: no letter changes, only how sure it is.

    Args:
        frame: as for :func:`abstention`.
        temperature: 0.01 to 100, from :func:`fit_temperature` on *other* questions.

    Raises:
        DataError: as :func:`abstention`, or if the temperature is out of its range.

    >>> sure = pd.DataFrame({"probabilities": [[0.9, 0.1]], "answer": ["A"]})
    >>> [round(float(p), 2) for p in temper(sure, 2.0)["probabilities"][0]]
    [0.75, 0.25]
    """
    probabilities, _ = letters_given(frame)
    tempered = _tempered(probabilities, number(temperature, "temperature", 0.01, 100))
    frame = frame.assign(probabilities=[list(row) for row in tempered])
    return frame.assign(confidence=[row.max() for row in tempered]) if "confidence" in frame else frame


def _tempered(probabilities: list[np.ndarray], temperature: float) -> list[np.ndarray]:
    logs = [np.log(np.maximum(row, 1e-300)) / temperature for row in probabilities]
    powers = [np.exp(row - row.max()) for row in logs]
    return [row / row.sum() for row in powers]
