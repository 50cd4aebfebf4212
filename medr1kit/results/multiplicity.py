"""Having looked many times: p-values and intervals for a whole matrix of differences.

Of 64 cells in which nothing happened about three have p below 0.05, and about three intervals of 95 % leave zero out.
So a cell of many has a p and an interval that allow for all of them, and **the two come from one test**: an interval
leaves zero out exactly where its corrected p is at most 0.05. A corrected p beside the cell's own interval would say
"+33 points, from +4 to +57, which may be chance".

:func:`max_t` takes the answers themselves, sees how much the cells depend on each other, and counts clusters of
questions where those are what is independent. :func:`holm` needs nothing but the p-values; the interval to stand beside
it is one at the level :func:`together` (Bonferroni's, all hold at once; Holm himself gives none).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from medr1kit.results.stats import NAN, cluster_codes

_BLOCK = 250  # sign patterns; two blocks are tried at a time: 68 MB for 17,000 questions
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


def together(tests: int, level: float = 0.95) -> float:
    """Return the level at which each of many intervals has to be, so that all of them hold at once; Bonferroni's.

    >>> together(10)
    0.995
    """
    return 1 - (1 - level) / max(1, tests)


class Flips(NamedTuple):
    """Of m cells, nan where one is empty: p by itself; and corrected for all of them p and the limits, -1..1."""

    p: np.ndarray
    corrected: np.ndarray
    low: np.ndarray
    high: np.ndarray


def max_t(
    changes: Sequence[Sequence[float]],
    clusters: Sequence[Sequence[Hashable]],
    draws: int = _DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Flips:
    """Test many paired differences at once, by turning signs, and give the intervals that go with the tests.

    If training did nothing, a question is as likely fixed as broken, so the sign of its change is a coin. Each draw
    turns coins for all clusters, *the same in every cell that asks about them*, and notes the largest |t| over the
    cells. A cell is significant if its |t| is rarely reached by the largest of all. Holm's correction has to allow for
    cells that know nothing of each other; this one sees that rows of a matrix answer the same questions and share one
    base, and is therefore less strict.

    The interval of a cell holds every difference that the same test, with the same critical |t|, would not reject. So
    all intervals hold at once with probability ``level``, about, and one excludes zero if and only if its corrected p
    is at most 1 - level. (Step-down max-T would find a little more, but no such intervals go with it.) Where all
    clusters changed alike, which nobody should take for certainty, it keeps the width of Wilson's for as many clusters.

    p-values and intervals are about these questions and these trained models, not about other seeds.

    Args:
        changes: m cells, each with a change a question: after minus before, -1..1.
        clusters: m cells, each with the cluster names of these: the question, or what questions share.
        draws: random sign patterns; if all patterns are no more than that (14 clusters or fewer), all are tried and the
            p-values are exact. The smallest p-value is 1 / (draws + 1), or 2 / (number of patterns).
        seed: of the draws.
        level: probability, 0..1, with which all intervals hold.

    Returns:
        ``Flips(p, corrected, low, high)``.

    Raises:
        ValueError: if a cell's lengths differ or a cluster name is missing.

    Source: Westfall and Young, Resampling-Based Multiple Testing (1993), single-step max-T; its intervals, Hothorn,
    Bretz and Westfall, Biom. J. 50 (2008) 346; a ratio's interval by inverting the test, Fieller, J. R. Stat. Soc. B 16
    (1954) 175; never p = 0, after Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.

    >>> max_t([[1, 1, 1, 1, 0]], [["a", "b", "c", "d", "e"]]).p.tolist()  # as McNemar: 2 of 2 ** 4 patterns
    [0.125]
    """
    p, corrected, low, high = (np.full(len(changes), NAN) for _ in range(4))
    sums, sizes = _cluster_sums(changes, clusters)
    units, t_values = _units(sums[(sums != 0).any(axis=1)])
    made = np.flatnonzero([len(cell) > 0 for cell in changes])
    if not len(made):
        return Flips(p, corrected, low, high)
    units, t_values = units[:, made], t_values[made] - _ROUNDING
    alone, largest = np.zeros(len(made)), []
    for signs in _signs(len(units), draws, seed):
        flipped = np.abs(signs @ units)
        alone += np.count_nonzero(flipped >= t_values, axis=0)
        largest.append(flipped.max(axis=1))
    largest = np.sort(np.concatenate(largest))
    total = len(largest)
    p[made] = alone / total
    corrected[made] = (total - np.searchsorted(largest, t_values)) / total
    critical = largest[total - 1 - int((1 - level) * total + _ROUNDING)] + _ROUNDING  # the least t that is rejected
    low[made], high[made] = _limits(sums[:, made], sizes[:, made], critical)
    return Flips(p, corrected, low, high)


def _limits(sums: np.ndarray, sizes: np.ndarray, critical: float) -> tuple[np.ndarray, np.ndarray]:
    """All differences d with |t(d)| up to the critical one, where t(d) is that of the sums less d times the sizes.

    t(d)² <= c² is a quadratic inequality, a d² - 2 b d + e <= 0.
    """
    n, change, square = sizes.sum(axis=0), sums.sum(axis=0), critical**2
    mean, groups = change / n, (sizes > 0).sum(axis=0)
    a = n**2 - square * (sizes**2).sum(axis=0)
    b = n * change - square * (sums * sizes).sum(axis=0)
    e = change**2 - square * (sums**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.maximum(b**2 - a * e, 0))
        one, other = (b - root) / a, (b + root) / a
    # Too few clusters for a limit on both sides: only what lies between the roots is rejected. That zero does (e > 0)
    # is all that is told then, and on which side of it the mean is.
    below, above = (a <= 0) & (e > 0) & (mean >= one), (a <= 0) & (e > 0) & (mean < one)
    low = np.select([a > 0, below], [one, one], -1.0)
    high = np.select([a > 0, above], [other, other], 1.0)
    alike = (a > 0) & (((sums - mean * sizes) ** 2).sum(axis=0) < _ROUNDING)
    width = square / (groups + square)
    low, high = np.where(alike, mean - width, low), np.where(alike, mean + width, high)
    return np.clip(low, -1, mean), np.clip(high, mean, 1)


def flip_p(changes: Sequence[Sequence[float]], clusters: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """Return the p-value of each cell by itself: what :func:`max_t` says of it when no other cell is there.

    Cells in which equally many clusters changed share their draws, which for a matrix is most of the work.

    Args:
        changes, clusters: as in :func:`max_t`.

    Returns:
        m p-values in 0..1; nan for an empty cell.
    """
    p, sums = (
        np.full(len(changes), NAN),
        [_cluster_sums(*([one] for one in cell))[0] for cell in zip(changes, clusters)],
    )
    sums = [own[own[:, 0] != 0] for own in sums]
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


def _cluster_sums(
    changes: Sequence[Sequence[float]], clusters: Sequence[Sequence[Hashable]]
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters x cells: the sum of changes, and how many there are."""
    numbers = len(clusters) and all(isinstance(cell, np.ndarray) and cell.dtype.kind == "i" for cell in clusters)
    names = np.concatenate(clusters) if numbers else [name for cell in clusters for name in cell]
    lengths = [len(cell) for cell in changes]
    codes, groups = cluster_codes(names, sum(lengths))
    if [len(cell) for cell in clusters] != lengths:
        raise ValueError("a cell has not as many clusters as changes; give one cluster name a change")
    sums, sizes = np.zeros((groups, len(changes))), np.zeros((groups, len(changes)))
    where = codes, np.repeat(np.arange(len(changes)), lengths)
    np.add.at(sums, where, np.concatenate([[], *changes]))
    np.add.at(sizes, where, 1)
    return sums, sizes


def _signs(n: int, draws: int = _DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks of sign patterns for n clusters: all of them if they are few, else no turn at all and random ones."""
    if 2**n <= draws * 2:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
        yield 1.0 - 2.0 * patterns
        return
    yield np.ones((1, n))
    # Each byte's highest bit: what integers(0, 2, (_BLOCK, n), dtype=np.int8) draws, and ten times as soon. A block
    # begins with a new word of four bytes.
    generator, words = np.random.default_rng(seed).bit_generator, -(-_BLOCK * n // 4)
    for start in range(0, draws, 2 * _BLOCK):
        drawn = generator.random_raw(words).astype("<u8").view(np.int8).reshape(2, 4 * words)  # a word is half a number
        yield (drawn[:, : _BLOCK * n].reshape(-1, n)[: draws - start] >> 7 | 1).astype(float)
