"""Where the errors are: each part of the test against the rest, the worst first, allowing for how many were looked at.

Cut a test into enough slices and one of them looks terrible by chance. So every slice is compared with all other
questions, and the p-values are corrected, after Holm, for all slices of the table. And slices are sorted by the *upper*
end of their interval: a slice of three questions, all wrong, may be bad luck; one of 200 with 30 % right is bad.

The test is Fisher's, of right and wrong inside and outside, on as many answers as there is independent evidence:
questions about one patient, and several seeds' answers to one question, stand and fall together, so both sides' counts
are divided by their design effect, 1 + rho (m - 1) for m answers a patient, with rho the correlation of two answers
about one patient, by moments over the whole test (Rao and Scott, Biometrics 48 (1992) 577). Checked by simulation: of
slices that are like the rest 1 to 5 in 100 have p below 0.05, also small ones and where nearly all is right. Beside
the corrected p stands an interval of the difference that allows for all slices, too, of the same effective counts
(Newcombe, at Bonferroni's level). Of simulated slices the two agreed on 98 in 100; where they do not, go by p.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from medr1kit.results.multiplicity import holm, together
from medr1kit.results.stats import NAN, share, two_shares
from medr1kit.vqa import DataError

ANY = "any"
_COLUMNS = ("n", "images", "accuracy", "low", "high", "chance", "rest", "p", "difference")


def slices_table(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return accuracy on every part of the test that the columns make, alone and combined.

    Args:
        rows: from :func:`medr1kit.results.errors.kinds.describe`.
        by: one to four columns, such as ``["modality", "task", "n_options"]``.

    Returns:
        A row a slice: ``slice`` (its name), the ``by`` columns ("any" where the slice takes all), ``n`` (answers),
        ``images``, ``accuracy`` with ``low`` and ``high`` (95 %, as those of :func:`medr1kit.score`), ``chance``,
        ``rest`` (accuracy on all other answers), ``p`` (of this slice alone); corrected for all slices, ``difference``
        (to the rest) with ``difference_low``, ``difference_high`` and ``p_holm``; the last five nan where a side has
        fewer than two that count as independent. The worst
        first, by ``high``. Slices that hold the very same answers stand once, under the shorter name; one that holds
        all of them is left out.

    Raises:
        DataError: if a column is missing, or there are none, or more than four.
    """
    if not 1 <= len(by) <= 4:
        raise DataError(f"by= names {len(by)} columns; give one to four: more make slices of single questions")
    if missing := [column for column in by if column not in rows]:
        raise DataError(
            f"by={missing[0]!r}: the predictions have no such column; there are {', '.join(map(str, rows))[:200]}"
        )
    return _table(rows, _parts(rows, by), ["slice", *by])


def words_table(rows: pd.DataFrame, least: int = 20) -> pd.DataFrame:
    """Return accuracy on the questions that have a word in their stem, word by word.

    Args:
        rows: from :func:`medr1kit.results.errors.kinds.describe`.
        least: answers a word must occur in, and be missing in.

    Returns:
        As :func:`slices_table`, with ``word`` for ``slice``; of words that occur in the very same questions the first
        of the alphabet stands for all, and ``word`` names up to three of them.
    """
    stems, place = np.unique(rows["question"].astype(str), return_inverse=True)
    has = [set(re.findall(r"[^\W\d_]{3,}", stem.casefold())) for stem in stems]
    together: dict[bytes, tuple[list[str], np.ndarray]] = {}
    for word in sorted(set().union(*has)):
        mask = np.array([word in words for words in has])[place]
        if least <= mask.sum() <= len(mask) - least:
            together.setdefault(mask.tobytes(), ([], mask))[0].append(word)
    names = [{"word": ", ".join(words[:3]) + (", …" if len(words) > 3 else "")} for words, _ in together.values()]
    return _table(rows, zip(names, (mask for _, mask in together.values())), ["word"])


def _parts(rows: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict, np.ndarray]]:
    """Each value, then each combination of two, …; without those that hold all answers, or the same as one before."""
    filled = {c: rows[c].astype(object).where(rows[c].notna(), "unknown") for c in by}
    seen = {np.ones(len(rows), bool).tobytes()}
    for size in range(1, len(by) + 1):
        for columns in combinations(by, size):
            codes = pd.MultiIndex.from_arrays([filled[c] for c in columns]).factorize()
            for code, values in enumerate(codes[1]):
                mask = codes[0] == code
                if (key := mask.tobytes()) not in seen:
                    seen.add(key)
                    name = {"slice": " · ".join(map(str, values))}
                    yield name | dict.fromkeys(by, ANY) | dict(zip(columns, values)), mask


def _table(rows: pd.DataFrame, parts: Iterable[tuple[dict, np.ndarray]], first: list[str]) -> pd.DataFrame:
    """A row for each part: what names it, and which answers it holds."""
    right, codes = rows["correct"].astype(float).to_numpy(), rows["unit"].to_numpy()
    images = pd.factorize(rows["image_id"])[0] if "image_id" in rows else codes
    chance, rho, found, sides = 1 / rows["n_options"].to_numpy(float), _correlation(right, codes), [], []
    for name, mask in parts:
        accuracy, rest = right[mask].mean(), right[~mask].mean()
        sides.append(_effective(right, mask, codes, rho))
        numbers = (mask.sum(), len(np.unique(images[mask])), *share(right[mask], codes[mask]), chance[mask].mean())
        found.append(name | dict(zip(_COLUMNS, (*numbers, rest, _against_rest(sides[-1]), accuracy - rest))))
    table, level = pd.DataFrame(found, columns=[*first, *_COLUMNS]), together(sum(side is not None for side in sides))
    limits = [(NAN, NAN) if side is None else two_shares(*side, level)[1:] for side in sides]
    table[["difference_low", "difference_high"]] = np.array(limits, dtype=float).reshape(-1, 2)
    table["p_holm"] = holm(table["p"])
    return table.sort_values(["high", "n"], ascending=[True, False], kind="stable", ignore_index=True)


def _correlation(right: np.ndarray, codes: np.ndarray) -> float:
    """Correlation of two answers that belong together, 0..1, from the squared sums of residuals."""
    variance = right.mean() * (1 - right.mean())
    spare = (np.bincount(codes) ** 2).sum() - len(right)  # pairs of answers that belong together
    if variance == 0 or spare == 0:
        return 0.0
    squares = (np.bincount(codes, weights=right - right.mean()) ** 2).sum()
    return float(np.clip((squares / variance - len(right)) / spare, 0, 1))


def _effective(
    right: np.ndarray, mask: np.ndarray, codes: np.ndarray, rho: float
) -> tuple[float, float, float, float] | None:
    """How many are right, of how many, in a slice and outside, as if all were independent; None if unknown."""
    found = []
    for side in (mask, ~mask):
        n, sizes = side.sum(), np.bincount(codes[side])
        if (sizes > 0).sum() < 2:
            return None
        worth = n / (1 + rho * ((sizes**2).sum() / n - 1))
        found += [right[side].mean() * worth, worth]
    return tuple(found)


def _against_rest(sides: tuple[float, float, float, float] | None) -> float:
    """p of the difference in accuracy between the answers of a slice and all others."""
    from scipy.stats import fisher_exact

    if sides is None:
        return NAN
    inside, n, outside, others = sides
    return float(fisher_exact(np.rint([[inside, n - inside], [outside, others - outside]]).astype(int)).pvalue)
