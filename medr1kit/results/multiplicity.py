"""Having looked many times: p-values for a whole matrix of differences.

Of 64 cells in which nothing happened about three have p below 0.05. Two corrections say how surprising a cell is as
one of many. :func:`holm` needs nothing but the p-values. :func:`max_t` takes the answers themselves, sees how much the
cells depend on each other, and counts clusters of questions where those are what is independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from medr1kit.results.stats import NAN, cluster_codes

_BLOCK = 250  # sign patterns tried at a time: 34 MB for 17,000 questions
_DRAWS = 10_000
_ROUNDING = 1e-9  # |t| that are equal up to rounding are equal


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
    made = np.flatnonzero(~np.isnan(corrected))
    rising = made[np.argsort(corrected[made], kind="stable")]
    times = np.arange(len(rising), 0, -1)  # the smallest counts for all tests, the largest for itself
    corrected[rising] = np.minimum(np.maximum.accumulate(corrected[rising] * times), 1)
    return corrected


class Flips(NamedTuple):
    """p-values of m cells, each in 0..1: of a cell by itself, and corrected for all of them; nan for an empty cell."""

    p: np.ndarray
    corrected: np.ndarray


def max_t(
    changes: Sequence[Sequence[float]], clusters: Sequence[Sequence[Hashable]], draws: int = _DRAWS, seed: int = 0
) -> Flips:
    """Test many paired differences at once, by turning signs.

    If training did nothing, a question is as likely fixed as broken, so the sign of its change is a coin. Each draw
    turns coins for all clusters, *the same in every cell that asks about them*, and notes the largest |t| over the
    cells. A cell is significant if its |t| is rarely reached by the largest of all. Holm's correction has to allow for
    cells that know nothing of each other; this one sees that rows of a matrix answer the same questions and share one
    base, and is therefore less strict. Step-down: after the largest cell the rest are compared among themselves.

    The p-values are about these questions and these trained models. That another seed would do the same is not tested.

    Args:
        changes: m cells, each with a change a question: after minus before, -1..1.
        clusters: m cells, each with the cluster names of these: the question, or what questions share.
        draws: random sign patterns; if all patterns are no more than that (14 clusters or fewer), all are tried and the
            p-values are exact. The smallest p-value is 1 / (draws + 1), or 2 / (number of patterns).
        seed: of the draws.

    Returns:
        ``Flips(p, corrected)``.

    Raises:
        ValueError: if a cell's lengths differ or a cluster name is missing.

    Source: Westfall and Young, Resampling-Based Multiple Testing (1993), step-down max-T; never p = 0, after Phipson
    and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.

    >>> max_t([[1, 1, 1, 1, 0]], [["a", "b", "c", "d", "e"]]).p.tolist()  # as McNemar: 2 of 2 ** 4 patterns
    [0.125]
    """
    p, corrected = np.full(len(changes), NAN), np.full(len(changes), NAN)
    units, t_values = _units(_cluster_sums(changes, clusters))
    made = np.array([len(cell) > 0 for cell in changes], dtype=bool)
    order = np.flatnonzero(made)[np.argsort(-t_values[made], kind="stable")][::-1]  # the largest last
    units, t_values = units[:, order], t_values[order] - _ROUNDING
    alone, largest, total = np.zeros(len(order)), np.zeros(len(order)), 0
    for signs in _signs(len(units), draws, seed):
        flipped = np.abs(signs @ units)
        alone += np.count_nonzero(flipped >= t_values, axis=0)
        np.maximum.accumulate(flipped, axis=1, out=flipped)  # the largest of this cell and the lesser
        largest += np.count_nonzero(flipped >= t_values, axis=0)
        total += len(signs)
    p[order], corrected[order] = alone / total, np.maximum.accumulate((largest / total)[::-1])[::-1]
    return Flips(p, corrected)


def flip_p(changes: Sequence[Sequence[float]], clusters: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """Return the p-value of each cell by itself: what :func:`max_t` says of it when no other cell is there.

    Cells in which equally many clusters changed share their draws, which for a matrix is most of the work.

    Args:
        changes, clusters: as in :func:`max_t`.

    Returns:
        m p-values in 0..1; nan for an empty cell.
    """
    p, sums = np.full(len(changes), NAN), [_cluster_sums(*([one] for one in cell)) for cell in zip(changes, clusters)]
    for n in {len(own) for own, cell in zip(sums, changes) if len(cell)}:
        alike = [number for number, own in enumerate(sums) if len(own) == n and len(changes[number])]
        units, t_values = _units(np.hstack([sums[number] for number in alike]))
        reached = [np.abs(signs @ units) >= t_values - _ROUNDING for signs in _signs(n)]
        p[alike] = np.concatenate(reached).mean(axis=0)
    return p


def _units(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters x cells with columns of length 1, and the cells' |t|."""
    lengths = np.sqrt((sums**2).sum(axis=0))
    units = sums / np.where(lengths > 0, lengths, 1)
    return units, np.abs(units.sum(axis=0))


def _cluster_sums(changes: Sequence[Sequence[float]], clusters: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """Clusters x cells: the sum of changes; without the clusters in which nothing changed."""
    numbers = len(clusters) and all(isinstance(cell, np.ndarray) and cell.dtype.kind == "i" for cell in clusters)
    names = np.concatenate(clusters) if numbers else [name for cell in clusters for name in cell]
    lengths = [len(cell) for cell in changes]
    codes, groups = cluster_codes(names, sum(lengths))
    if [len(cell) for cell in clusters] != lengths:
        raise ValueError("a cell has not as many clusters as changes; give one cluster name a change")
    sums = np.zeros((groups, len(changes)))
    np.add.at(sums, (codes, np.repeat(np.arange(len(changes)), lengths)), np.concatenate([[], *changes]))
    return sums[(sums != 0).any(axis=1)]


def _signs(n: int, draws: int = _DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks of sign patterns for n clusters: all of them if they are few, else no turn at all and random ones."""
    if 2**n <= draws * 2:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
        yield 1.0 - 2.0 * patterns
        return
    yield np.ones((1, n))
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _BLOCK):
        yield 1.0 - 2.0 * rng.integers(0, 2, (min(_BLOCK, draws - start), n), dtype=np.int8)
