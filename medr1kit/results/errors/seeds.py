"""Bad luck or a hard question? What several seeds of one training get wrong together.

If three seeds are wrong on a third of the questions each, and their errors had nothing to do with each other, one
question in 27 would be wrong in all three. Usually it is far more: the same questions are hard for all of them. These
are the *hard core*; more training of the same kind will hardly move them, so they are worth reading one by one. The
questions wrong in some seeds only are the luck of a run.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medr1kit.results.pairs import Rows
from medr1kit.results.stats import share
from medr1kit.results.tables import groups_by, in_canonical_order, who_varies

_COLUMNS = ("wrong_in", "seeds", "n", "of", "share", "low", "high", "expected")


def add_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ``seeds`` (how many answered this question) and ``wrong_in`` (how many of them wrongly).

    Raises:
        DataError: if one seed of one model answers a question twice.
    """
    keys = [*who_varies(rows), "id"]
    coded, remedy = Rows([rows], keys), "label the runs apart (seed, method, model, …) or select one"
    said = f"the question {{id}} is answered more than once by one model and seed; {remedy}"
    coded.check_once(np.arange(len(rows)), coded.answer, said)
    groups = (~rows["correct"].astype(bool)).groupby([rows[key] for key in keys], dropna=False, observed=True)
    return rows.assign(seeds=groups.transform("size"), wrong_in=groups.transform("sum"))


def seeds_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many questions are wrong in none, some and all seeds.

    Args:
        rows: from :func:`add_seeds`.

    Returns:
        For each model and format with several seeds a row for each number of wrong ones: ``wrong_in``, ``seeds``, ``n``
        (questions), ``of`` (questions that every seed answered), ``share`` with ``low`` and ``high``, and ``expected``:
        the share if seeds erred independently of each other, each as often as it does.
    """
    keys, found = who_varies(rows), []
    for names, group in groups_by(rows, keys):
        seeds = int(group["seeds"].max())
        if seeds < 2:
            continue
        group = group[group["seeds"] == seeds]
        questions = group.drop_duplicates("id")
        expected = _independent((~group["correct"].astype(bool)).groupby(group["seed"], dropna=False).mean())
        for wrong in range(seeds + 1):
            is_so = questions["wrong_in"] == wrong
            numbers = (wrong, seeds, int(is_so.sum()), len(questions), *share(is_so, questions["image_id"]))
            found.append((*names.values(), *numbers, expected[wrong]))
    return in_canonical_order(pd.DataFrame(found, columns=[*keys, *_COLUMNS]), keys)


def _independent(rates: pd.Series) -> np.ndarray:
    """Probability of 0, 1, … errors from independent tries with these rates."""
    expected = np.ones(1)
    for rate in rates:
        expected = np.convolve(expected, [1 - rate, rate])
    return expected
