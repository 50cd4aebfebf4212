"""Two answers to the same question, put beside each other: the one pairing behind every comparison.

:func:`medr1kit.results.compare.compare` has one pair of tables, a matrix has hundreds of cells. So names become numbers
once (:class:`Rows`), a cell is an array of places, and what is computed of it is numpy. Whoever compares says which
places stand on either side; which rows belong together, and what follows from them, is only said here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from medr1kit.results.clusters import clustering, codes, counted
from medr1kit.results.multiplicity import Flips, flip_p, max_t
from medr1kit.results.stats import NAN, mcnemar, paired_difference, pooled_difference
from medr1kit.vqa import DataError

LIMITS = ("low", "high", "low_seeds", "high_seeds")
DIFFERENCE = ("difference", *LIMITS, "p")
"""What :func:`compared` says of a difference; as in :func:`medr1kit.results.stats.pooled_difference`, and its p."""


class Rows:
    """Rows of predictions as numbers, which are equal where names are; -1 for a missing name.

    Args:
        frames: predictions, counted as if they stood below each other.
        unit: the columns that say which question is answered.
        cluster: what does not count as independent, as in :func:`medr1kit.results.clusters.clustering`.

    Attributes:
        id, question, seed, gold: what is answered (by its id; by ``unit``), by which run, and the right letter.
        answer: the question and the seed.
        right: 1.0 right, 0.0 wrong.
        unit: equal where rows do not count as independent; ``by_patient``: where that is a patient.
        cluster: what was asked for.
    """

    def __init__(self, frames: Sequence[pd.DataFrame], unit: Sequence[str], cluster: str | bool | None = None):
        self.id, names = codes(frames, ["id"])
        self.ids = np.append(names, None)  # of a row without id, too
        self.question = 1 + (self.id if list(unit) == ["id"] else codes(frames, unit)[0])
        self.seed, self.seeds = codes(frames, ["seed"])
        self.answer = self.question * (len(self.seeds) + 1) + self.seed + 1
        self.gold, _ = codes(frames, ["answer"])
        self.right = np.concatenate([frame["correct"].to_numpy(float) for frame in frames])
        self.unit, self.by_patient = clustering(frames, cluster)
        self.cluster = cluster

    def check_once(self, side: np.ndarray, keys: np.ndarray, what: str) -> None:
        """Refuse places of which two have the same key; ``what`` is the sentence, with {id} for the question."""
        if count(keys[side]) < len(side):
            place = side[pd.Series(keys[side]).duplicated().to_numpy().argmax()]
            raise DataError(what.replace("{id}", repr(self.ids[self.id[place]])))

    def matched(self, before: np.ndarray, after: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of either side whose keys are equal, in the order of ``before``; refuse sides without any,
        and two gold answers to one question.
        """
        one, other = match(keys[before], keys[after])
        if not len(one):
            first, second = (self.ids[self.id[side[0]]] for side in (before, after))
            raise DataError(
                f"no question is in both frames: `before` has ids such as {first!r}, `after` such as {second!r}; "
                "predict on the same data, or import with data="
            )
        self.check_gold(before[one], after[other], "frames")
        return before[one], after[other]

    def check_gold(self, before: np.ndarray, after: np.ndarray, between: str) -> None:
        """Refuse pairs with two gold answers."""
        if (other := (self.gold[before] != self.gold[after]) | (self.gold[before] < 0)).any():
            raise DataError(
                f"the gold answer of {self.ids[self.id[before[other.argmax()]]]!r} differs between the two {between} "
                f"({int(other.sum())} such questions); the ids name different questions"
            )


_NONE = np.zeros(0, dtype=int)


class Pairs(NamedTuple):
    """Places of two answers to the same question, and the number of the seed; all arrays of the same length."""

    before: np.ndarray = _NONE
    after: np.ndarray = _NONE
    seed: np.ndarray = _NONE


def count(numbers: np.ndarray) -> int:
    """Return how many different numbers there are."""
    return len(np.unique(numbers))


def match(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of equal numbers in two arrays, in the order of the first.

    >>> [places.tolist() for places in match(np.array([7, 5, 8]), np.array([5, 7, 5]))]
    [[0, 1, 1], [1, 0, 2]]
    """
    order = np.argsort(other, kind="stable")
    first, last = (np.searchsorted(other, one, side, sorter=order) for side in ("left", "right"))
    times = last - first
    nth = np.arange(times.sum()) - np.repeat(times.cumsum() - times, times)
    return np.repeat(np.arange(len(one)), times), order[np.repeat(first, times) + nth]


def pair(rows: Rows, before: np.ndarray, after: np.ndarray) -> Pairs:
    """Return the pairs of two sides: by question and seed where both have several seeds, else by question.

    Args:
        rows: both sides' rows.
        before, after: the places of either side.

    Returns:
        A pair a question and seed, in the order of ``before``, of the questions that every seed answered.

    Raises:
        DataError: if one side answers a question twice, the seeds or gold answers differ, or no question is left.
    """
    known = [set(rows.seed[side].tolist()) - {-1} for side in (before, after)]
    several = [len(seeds) > 1 for seeds in known]
    for name, side, many in zip(("before", "after"), (before, after), several):
        remedy = "select one model and format, and label its runs by seed"
        said = f"`{name}` answers the question {{id}} more than once; {remedy}"
        rows.check_once(side, rows.answer if many else rows.question, said)
    if all(several) and known[0] != known[1]:
        first, second = (", ".join(map(str, sorted(rows.seeds[list(seeds)]))) for seeds in known)
        raise DataError(f"`before` has the seeds {first} and `after` the seeds {second}; give both the same")
    before, after = rows.matched(before, after, rows.answer if all(several) else rows.question)
    seed = rows.seed[after if several[1] else before] if any(several) else np.zeros(len(before), dtype=int)
    question = rows.question[before]
    whole = np.bincount(question)[question] == count(seed[seed >= 0])
    if not whole.any():
        raise DataError("no question was answered by every seed; compare one seed at a time")
    return Pairs(before[whole], after[whole], seed[whole])


def compared(rows: Rows, cells: Sequence[Pairs]) -> pd.DataFrame:
    """Return what the pairs of each cell say.

    Returns:
        A row a cell: ``n`` (questions), ``seeds``, ``accuracy_before``, ``accuracy_after``, the columns
        :data:`DIFFERENCE` and ``cluster`` (what was counted); nan where there are no pairs. Independent pairs have
        Newcombe's interval and McNemar's p, others those of clusters.
    """
    found, clustered, (changes, units) = [], [], _changes(rows, cells)
    for number, cell in enumerate(cells):
        before, after = rows.right[cell.before], rows.right[cell.after]
        n, seeds, p = count(rows.question[cell.before]), count(cell.seed), NAN
        if seeds <= 1 and count(units[number]) == len(before):
            difference = (*paired_difference(before, after), NAN, NAN)
            p = mcnemar(int((before < after).sum()), int((before > after).sum())) if n else NAN
        else:
            difference = pooled_difference(before, after, units[number], cell.seed)
            clustered.append(number)
        what = counted(units[number], rows.by_patient[cell.before], rows.cluster)
        found.append((n, seeds, before.mean() if n else NAN, after.mean() if n else NAN, *difference, p, what))
    names = ["n", "seeds", "accuracy_before", "accuracy_after", *DIFFERENCE, "cluster"]
    table = pd.DataFrame(found, columns=names)
    table.loc[clustered, "p"] = flip_p(*([given[k] for k in clustered] for given in (changes, units)))
    return table


def corrected(rows: Rows, cells: Sequence[Pairs]) -> Flips:
    """Return p-values and intervals of the cells, corrected for all of them by max-T; nan where there are no pairs."""
    return max_t(*_changes(rows, cells))


def _changes(rows: Rows, cells: Sequence[Pairs]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What changed in each cell, and what the changes count as."""
    sides = [cell.after if rows.cluster is False else cell.before for cell in cells]  # a base row may be in many pairs
    return [rows.right[cell.after] - rows.right[cell.before] for cell in cells], [rows.unit[side] for side in sides]
