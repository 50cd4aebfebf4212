"""The question that a page or a panel opens with: one at which there is something to see, chosen by a rule.

Not the first one, at which mostly nothing changed, and not the best one. Of the questions that went from wrong to right
it is the one in the middle, by how much truer the thought became; where no truth is known, in the order of the table.
If none went so, those that went from right to wrong are taken, and else those whose answers differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medr1kit.results.answers import Answers
from medr1kit.results.rationales import true_share
from medr1kit.vqa import DataError

_READ = ("predicted", "correct", "think", "image_id", "source")  # only the first two are needed
_MOST = 200  # thoughts are read a third of a millisecond each: of more questions so many, spread evenly


def where_to_open(answers: Answers, shown: Sequence[int]) -> tuple[int, str]:
    """Return :func:`opening_question` of the first and the last answerer shown; of one 0 and an empty text.

    Args:
        answers: who answered what.
        shown: numbers of answerers, at least one.
    """
    first, last = (answers.answerers[shown[end]] for end in (0, -1))
    both = np.flatnonzero((first.rows >= 0) & (last.rows >= 0))
    if first is last or not len(both):
        return 0, ""
    sides = (one.frame[one.frame.columns.intersection(_READ)].iloc[one.rows[both]] for one in (first, last))
    place, how = opening_question(*sides)
    return int(both[place]), how


def opening_question(before: pd.DataFrame, after: pd.DataFrame) -> tuple[int, str]:
    """Return the number of the question to open with, from 0, and in words why that one.

    Args:
        before, after: predictions, at least one row; row by row on the same questions.

    >>> before = pd.DataFrame({"predicted": ["A", "B", None], "correct": [True, False, False]})
    >>> opening_question(before, before.assign(predicted=["A", "C", "C"], correct=[True, True, False]))
    (1, 'of 1 that went from wrong to right (0 went the other way), the one in the middle')
    """
    was, now = (rows["correct"].to_numpy(bool) for rows in (before, after))
    said, says = (rows["predicted"].astype(object).fillna("").to_numpy() for rows in (before, after))
    fixed, broken, other = np.flatnonzero(~was & now), np.flatnonzero(was & ~now), np.flatnonzero(said != says)
    if len(fixed):
        found, how = fixed, f"of {len(fixed)} that went from wrong to right ({len(broken)} went the other way)"
    elif len(broken):
        found, how = broken, f"of {len(broken)} that went from right to wrong (none went the other way)"
    elif len(other):
        found, how = other, f"of {len(other)} with another answer (none right before or after)"
    else:
        return 0, "no answer changed, so the first"
    found = found[np.linspace(0, len(found) - 1, min(len(found), _MOST)).astype(int)]
    gained = _truth(after.iloc[found]) - _truth(before.iloc[found])
    order = found[np.argsort(np.nan_to_num(gained, nan=-2), kind="stable")]
    by_truth = "" if np.isnan(gained).all() else " when ordered by how much truer the thought became"
    return int(order[len(order) // 2]), f"{how}, the one in the middle{by_truth}"


def _truth(rows: pd.DataFrame) -> np.ndarray:
    """The share of true statements in each thought; nan where it is not known."""
    if not {"think", "image_id", "source"} <= set(rows) or not rows["source"].eq("phantoms").all():
        return np.full(len(rows), np.nan)
    try:
        return true_share(rows)
    except (DataError, KeyError):  # no phantoms after all
        return np.full(len(rows), np.nan)
