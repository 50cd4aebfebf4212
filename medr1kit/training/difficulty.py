"""Difficulty-aware sampling: questions that were answered now right, now wrong come up more often in training.

A group of completions teaches as far as they differ. With pass rate p the variance of a right-or-wrong reward is
p (1 - p): largest at 0.5, nothing at 0 and 1. So rows of a data set are repeated or left out in proportion to
p (1 - p), plus a floor that keeps every question in play: pass rates are estimates, and training changes them.

    pass rate of a question    (right + 2 m) / (rollouts + 2)       m: mean pass rate of all rollouts
    weight                     p (1 - p) + 0.02                     0.27 at p = 0.5, 0.02 at 0 and 1

A question that was never tried has the pass rate m. Two rollouts' worth of m keep eight right ones of eight from
counting as certainty.

**What it changes.** The policy is trained for another mixture of questions than the data set's, and on it alone the
objective is GRPO's. Nothing corrects for it: a weight 1 / (sampling weight) would take the gain back. If hard and easy
questions differ in modality or task, the mixture of these shifts, too; the table says by how much. Pass rates are those
of the earlier run's policies, early and late ones alike, and are not updated while training goes on.

**What it was worth here.** Built-in model, 320 CT questions, 40 steps of 4 groups, weights from a plain run of the same
length, which had tried half of the questions; means of 3 seeds, accuracy on 200 validation questions a run::

                    groups that earn one reward    accuracy
                    GRPO    weighted               GRPO     weighted
    no-think        0.45    0.41                   0.768    0.768
    think-before    0.24    0.21                   0.657    0.668

A few more groups teach; in accuracy there is nothing to see (differences are known to about 0.05).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.results.runs import Run, load_run
from medr1kit.results.tables import same_letter
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

PRIOR = 2.0
"""How many rollouts the mean pass rate counts for in each question's own."""
FLOOR = 0.02
"""Weight of a question that is always, or never, answered right."""


def difficulty_table(dataset: Dataset, rollouts: Run | str | Path | pd.DataFrame) -> pd.DataFrame:
    """Return the weight of each row of a data set.

    Args:
        dataset: rows of :mod:`medr1kit.vqa`.
        rollouts: an earlier run or its folder, its rollouts (all of them count, also those that were not ``used``), or
            predictions; matched by ``id``.

    Returns:
        A frame with a row a row of the data set: ``id``, ``rollouts`` (how many there were), ``pass_rate`` (as above)
        and ``weight`` (mean 1 over the data set).

    Raises:
        DataError: if there are no rollouts, columns are missing, or none is of a question of the data set.
    """
    if isinstance(rollouts, str | Path):
        rollouts = load_run(rollouts)
    frame = rollouts.rollouts if isinstance(rollouts, Run) else rollouts
    if missing := [column for column in ("id", "answer", "predicted") if column not in frame]:
        raise DataError(f"difficulty: no column {', '.join(missing)}; pass an earlier GRPO run, its rollouts or folder")
    if frame.empty:
        raise DataError("difficulty: the earlier run has no rollouts; SFT runs have none, pass a GRPO run")
    right = pd.Series(same_letter(frame["predicted"], frame["answer"]), dtype=float)
    tried = right.groupby(frame["id"].to_numpy()).agg(["size", "sum"])
    ids = pd.Series(dataset["id"])
    n, passed = (ids.map(tried[column]).fillna(0).astype(float) for column in ("size", "sum"))
    if not n.any():
        raise DataError(
            f"difficulty: none of its {len(tried)} questions is among the {len(ids)} to train on; pass a run on the "
            "same data set and split"
        )
    rate = (passed + PRIOR * right.mean()) / (n + PRIOR)
    weight = rate * (1 - rate) + FLOOR
    return pd.DataFrame({"id": ids, "rollouts": n.astype(int), "pass_rate": rate, "weight": weight / weight.mean()})


def weighted(
    dataset: Dataset, rollouts: Run | str | Path | pd.DataFrame, seed: int = 0
) -> tuple[Dataset, pd.DataFrame]:
    """Return a data set of the same length with its rows repeated or left out by weight, and the table of weights.

    A row of weight 2.3 comes two or three times, one of 0.4 once or not at all (systematic sampling: one random offset,
    then equal strides along the sum of weights in a random order), so an epoch is as long as before.

    Args:
        dataset: rows of :mod:`medr1kit.vqa`.
        rollouts: as :func:`difficulty_table` takes them.
        seed: of the offset and the order.

    Returns:
        The data set, and :func:`difficulty_table` with one more column, ``times``.

    Raises:
        DataError: as :func:`difficulty_table`.
    """
    table = difficulty_table(dataset, rollouts)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table))
    ends = np.cumsum(table["weight"].to_numpy()[order])
    marks = (np.arange(len(table)) + generator.random()) * ends[-1] / len(table)
    drawn = order[np.searchsorted(ends, marks, side="right").clip(max=len(table) - 1)]
    return dataset.select(drawn), table.assign(times=np.bincount(drawn, minlength=len(table)))
