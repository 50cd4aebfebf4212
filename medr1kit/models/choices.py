"""Which option goes with a picture: a linear model of choice, fitted to right answers.

Each *word* has weights of its own, one for each number that describes a picture. An option fits as well as its words
do, and is set against the options of its own question alone::

    p(option | picture) = softmax over the question's options of  sum over the option's words of  w[word] · (x, 1)

"Lower cyst" is lower and cyst, so a combination that was never right can still be found. "Liver" and "severe" never
stand side by side and need not be told apart. Letters do not occur. Where all questions offer the same single words
this is multinomial logistic regression.

Source: D. McFadden, "Conditional logit analysis of qualitative choice behavior" (1974), with a ridge penalty.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import log_softmax

from medr1kit.audits.rows import plain

PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""Half of it, times the sum of squared weights, is what a fit pays; a picture's numbers have length 1 on average."""
FOLDS = 4
_DIRECTIONS = 1000  # of pictures, those in which they differ most


@dataclass(frozen=True)
class Asked:
    """Questions of one kind.

    Attributes:
        x: what is known of each picture, (questions, numbers).
        options: the option texts of each question.
        gold: place of the right one in each.
        groups: what each picture belongs to, such as a patient.
    """

    x: np.ndarray
    options: Sequence[Sequence[str]]
    gold: Sequence[int]
    groups: Sequence[Hashable]


def choose(seen: Asked, asked: Asked) -> np.ndarray:
    """Return the place of the option that fits each picture best, -1 where no word of any was ever in a right answer.

    The penalty is the one of :data:`PENALTIES` under which right answers are most probable in parts of the training
    questions that were left out; no group stands on both sides. Words that never were in a right answer have no
    weights: that they are wrong could be learned without a look.

    Args:
        seen: training questions, one or more.
        asked: test questions; their gold and groups are not looked at.
    """
    right = {word for texts, place in zip(seen.options, seen.gold) for word in words_of(texts[place])}
    texts, words = {}, {word: number for number, word in enumerate(sorted(right))}
    places, offered = zip(*(_offered(side.options, texts, words) for side in (seen, asked)))
    pairs = [(number, words[word]) for text, number in texts.items() for word in words_of(text) if word in words]
    parts = csr_array((np.ones(len(pairs)), tuple(np.array(pairs).T)), shape=(len(texts), len(words)))
    x, shown = _scaled(seen.x, asked.x)
    gold = (places[0] == np.array(seen.gold)[:, None]).argmax(axis=1)
    penalty = _penalty(x, offered[0], gold, parts, seen.groups)
    fit = fits(fitted(x, offered[0], gold, parts, penalty), shown, offered[1], parts)
    best = fit.argmax(axis=1)
    rows = np.arange(len(fit))
    return np.where(np.isneginf(fit[rows, best]), -1, places[1][rows, best])


def words_of(text: str) -> list[str]:
    """Return the distinct words of an option, in lower case, in alphabetical order.

    >>> words_of("Lower cyst, lower.")
    ['cyst', 'lower']
    """
    return sorted(set(plain(text).split()))


def _offered(options: Sequence[Sequence[str]], texts: dict[str, int], words: dict[str, int]) -> tuple:
    """For each question the places of its options, in the order of their texts, and the numbers of these texts.

    Letters cannot decide, not even between equal fits. -1 fills up, and stands for options without a known word.
    """
    shape = len(options), max(map(len, options))
    places, offered = np.full(shape, -1), np.full(shape, -1)
    for row, given in enumerate(options):
        for column, place in enumerate(sorted(range(len(given)), key=lambda place: plain(given[place]))):
            places[row, column] = place
            if any(word in words for word in words_of(given[place])):
                offered[row, column] = texts.setdefault(plain(given[place]), len(texts))
    return places, offered


def _scaled(x: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of equal spread, turned so that as few as possible tell training pictures apart; a constant goes last.

    A ridge penalty does not mind the turn, and no fit leaves the space of its training pictures.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread < 1e-6 * (1 + abs(mean))] = np.inf  # a constant says nothing
    x, other = ((numbers - mean) / spread / np.sqrt(x.shape[1]) for numbers in (x, other))
    turn = np.linalg.svd(x, full_matrices=False)[2][:_DIRECTIONS].T
    return tuple(np.column_stack([numbers @ turn, np.ones(len(numbers))]) for numbers in (x, other))


def fits(weights: np.ndarray, x: np.ndarray, offered: np.ndarray, parts: csr_array) -> np.ndarray:
    """Return how well each option fits, (questions, options), minus infinity for -1.

    Args:
        weights: (numbers, words).
        x: (questions, numbers).
        offered: number of each option's text, (questions, options).
        parts: 1 where a word is in a text, (texts, words).
    """
    found = np.take_along_axis((parts @ (x @ weights).T).T, offered.clip(0), axis=1)
    return np.where(offered < 0, -np.inf, found)


def fitted(
    x: np.ndarray,
    offered: np.ndarray,
    gold: np.ndarray,
    parts: csr_array,
    penalty: float,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Return the weights, (numbers, words), under which the right answers are most probable, less the penalty.

    Args:
        x, offered, parts: as in :func:`fits`.
        gold: column of the right option in ``offered``, (questions,).
        penalty: times half the sum of squared weights.
        start: weights to begin from; zeros when None.
    """
    from scipy.optimize import minimize

    rows, (n_texts, n_words) = np.arange(len(x)), parts.shape
    cells = (rows[:, None] * n_texts + offered.clip(0)).ravel()

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = values.reshape(-1, n_words)
        logs = log_softmax(fits(weights, x, offered, parts), axis=1)
        error = np.exp(logs)
        error[rows, gold] -= 1
        by_text = np.bincount(cells, error.ravel(), len(x) * n_texts).reshape(len(x), n_texts)
        slope = x.T @ (by_text @ parts) + penalty * weights
        return penalty / 2 * (values @ values) - logs[rows, gold].sum(), slope.ravel()

    first = np.zeros((x.shape[1], n_words)) if start is None else start
    options = {"maxiter": 500, "maxfun": 1000}
    return minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(first.shape)


def _penalty(x: np.ndarray, offered: np.ndarray, gold: np.ndarray, parts: csr_array, groups: Sequence) -> float:
    codes, names = pd.factorize(np.array(groups, dtype=object))
    folds = np.random.default_rng(0).permutation(len(names))[codes] % FOLDS
    probable = dict.fromkeys(PENALTIES, 0.0)
    for left_out in (folds == fold for fold in range(min(FOLDS, len(names)))):
        if left_out.all():
            continue
        weights, kept = None, ~left_out
        for penalty in PENALTIES:
            weights = fitted(x[kept], offered[kept], gold[kept], parts, penalty, weights)
            logs = log_softmax(fits(weights, x[left_out], offered[left_out], parts), axis=1)
            probable[penalty] += np.take_along_axis(logs, gold[left_out, None], axis=1).sum()
    return max(PENALTIES, key=probable.get)  # of equals the strongest
