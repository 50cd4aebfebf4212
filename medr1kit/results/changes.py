"""Means of paired changes over questions and over trainings: for any number a question has, verdicts and others.

Two things vary from one study to the next: which questions were asked, and what this training made of its data, its
adapter and its dice. A mean over 800 questions that three trainings answered is therefore no mean of 2,400 things.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from medr1kit.results.stats import NAN, cluster_codes, cluster_error


class MeanChange(NamedTuple):
    """A mean with its standard error, the degrees of freedom of that, and the p of "it is zero", two-sided."""

    mean: float
    error: float
    freedom: float
    p: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the mean's interval at a confidence level, in 0..1."""
        reach = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.mean - reach, self.mean + reach


def mean_change(
    changes: Sequence[float], questions: Sequence[Hashable], runs: Sequence[Hashable] | None = None
) -> MeanChange:
    """Return the mean of changes, with an error that lets the questions vary, and the trainings.

    Args:
        changes: n numbers, after minus before, a row each question and training.
        questions: n names: the question, or what questions share (image, patient).
        runs: n names of trainings; None, or one name for all: the trainings are taken as they are.

    Returns:
        :class:`MeanChange`; nan but for the mean where there are fewer than two questions.

    Source: two-way clustering, Cameron, Gelbach and Miller, J. Bus. Econ. Stat. 29 (2011) 238, without its subtraction
    of the part counted twice, so rather too wide; degrees of freedom, Satterthwaite, Biometrics Bulletin 2 (1946) 110.

    >>> change = mean_change([1, 0, 1, 1], list("abab"), [0, 0, 1, 1])
    >>> change.mean, round(change.error, 3), round(change.freedom, 2)
    (0.75, 0.354, 2.0)
    """
    changes = np.asarray(changes, dtype=float)
    codes, groups = cluster_codes(questions, len(changes))
    mean = float(changes.mean()) if len(changes) else NAN
    if groups < 2:
        return MeanChange(mean, NAN, NAN, NAN)
    over_questions = cluster_error(changes, codes, groups) ** 2
    variance, freedom = over_questions, float(groups - 1)
    if runs is not None and (trainings := cluster_codes(runs, len(changes)))[1] > 1:
        by_run = np.bincount(trainings[0], weights=changes) / np.bincount(trainings[0])
        over_runs = by_run.var(ddof=1) / len(by_run)
        variance = over_questions + over_runs
        parts = over_questions**2 / (groups - 1) + over_runs**2 / (len(by_run) - 1)
        freedom = float(variance**2 / parts) if parts else freedom
    error = float(np.sqrt(variance))
    p = 2 * float(stdtr(freedom, -abs(mean) / error)) if error else float(mean == 0)
    return MeanChange(mean, error, freedom, p)
