"""Blind floors: how many test questions are answered right by rules that never see an image.

The strongest rule is a *lookup*: count in the training rows which option texts were right, and pick the option that was
right most often. It works where right answers come from a small vocabulary of classes while wrong ones were made up per
question. An accuracy means sight only as far as it stands above the floor of the same split.

An option text t scores (times gold + 0.25) / (times seen + 1) over the training rows: a text that was never seen starts
as "a wrong one of four". Knowing the question too, the counts of (stem, t) are smoothed towards it with weight 3.

Source: Med-R1 facts, section 1.7.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # the quantile of t; scipy.stats takes half a second to import

from medr1kit.audits.measures import interval
from medr1kit.audits.rows import Questions, Wording, encode, read_questions
from medr1kit.vqa import MODALITIES, TASKS, DataError

_PRIOR, _WEIGHT, _STEM_WEIGHT = 0.25, 1.0, 3.0
CURVE = (30, 100, 300, 1000)  # training rows of the learning curve
_CURVE_SEEDS = 5


def lookup(train: Wording, test: Wording, *, stem: bool = False, use: np.ndarray | None = None) -> np.ndarray:
    """Answer the test by the lookup and return the credit of each question: 0..1, a tie of k options counts 1/k.

    Args:
        train, test: from one call of :func:`medr1kit.audits.rows.encode`.
        stem: also count which text was right under which stem.
        use: training rows to count, True or False for each; default all.
    """
    weights = np.repeat(np.ones(len(train.counts)) if use is None else use.astype(float), train.counts)
    gold = np.zeros(len(train.texts))
    gold[train.gold] = weights[train.gold]
    size = 1 + max(train.texts.max(), test.texts.max())
    times_gold, times_seen = (np.bincount(train.texts, counted, size) for counted in (gold, weights))
    scores = (times_gold + _PRIOR * _WEIGHT) / (times_seen + _WEIGHT)
    if not stem:
        return pick(scores[test.texts], test)
    pairs = [np.repeat(side.stems, side.counts) * size + side.texts for side in (train, test)]
    _, codes = np.unique(np.concatenate(pairs), return_inverse=True)
    in_train, in_test = codes[: len(gold)], codes[len(gold) :]
    times_gold, times_seen = (np.bincount(in_train, counted, codes.max() + 1) for counted in (gold, weights))
    smoothed = (times_gold[in_test] + _STEM_WEIGHT * scores[test.texts]) / (times_seen[in_test] + _STEM_WEIGHT)
    return pick(smoothed, test)


def pick(scores: np.ndarray, test: Wording) -> np.ndarray:
    """Return the credit of choosing, in each question, the option with the highest score; ties are split evenly.

    Scores that differ only by rounding, as 0.1 + 0.2 and 0.3 do, are a tie.
    """
    scores = scores.round(12)
    best = scores == np.repeat(np.maximum.reduceat(scores, test.starts), test.counts)
    return best[test.gold] / np.add.reduceat(best, test.starts, dtype=int)


def learning_curve(train: Wording, test: Wording) -> dict[int, np.ndarray]:
    """Return the credits of the option lookup after 30, 100, 300 and 1000 training rows, where there are as many.

    Each is an array of five draws x test questions. Draw s takes ``random.Random(s).sample(rows, size)``, as the
    reference does: another draw of 30 rows gives a floor that is 4 points away.
    """
    n = len(train.counts)
    curve = {}
    for size in (size for size in CURVE if size <= n):
        draws = []
        for seed in range(_CURVE_SEEDS):
            use = np.zeros(n, dtype=bool)
            use[random.Random(seed).sample(range(n), size)] = True
            draws.append(lookup(train, test, use=use))
        curve[size] = np.array(draws)
    return curve


class Floors(NamedTuple):
    """The credits of every rule on the test questions, 0..1, and what the rules had to learn from.

    ``curve`` is that of :func:`learning_curve`, the letter is training's commonest gold letter, the rows are those of
    training: all, with a new stem, with neither image nor problem text of the test.
    """

    credits: dict[str, np.ndarray]
    curve: dict[int, np.ndarray]
    train_letter: str
    train_rows: int
    stem_disjoint_rows: int
    disjoint_rows: int


def all_floors(train: Questions, test: Questions, shared: np.ndarray) -> Floors:
    """Answer the test by every blind rule.

    Args:
        train, test: the two sides.
        shared: for each training row whether its image or its problem text is in the test.
    """
    seen, asked = encode(train, test)
    new_stem = ~np.isin(seen.stems, asked.stems)
    letters = np.array(test.gold_letters())
    credits = {
        "chance": 1 / asked.counts,
        "best_letter": (letters == test.commonest_letter).astype(float),
        "train_letter": (letters == train.commonest_letter).astype(float),
        "longest_option": pick(asked.lengths.astype(float), asked),
        "blind_options": lookup(seen, asked),
    }
    if train.stems and test.stems:
        credits["blind_options_stem"] = lookup(seen, asked, stem=True)
        credits["blind_stem_disjoint"] = lookup(seen, asked, use=new_stem)
    credits["blind_disjoint"] = lookup(seen, asked, use=~shared)
    curve = learning_curve(seen, asked)
    left = int(new_stem.sum()), int((~shared).sum())
    return Floors(credits, curve, train.commonest_letter, len(train), *left)


def curve_interval(draws: np.ndarray, clusters: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the mean over draws x questions: both samples' half-widths, added in squares."""
    mean = float(draws.mean())
    low, high = interval(draws.mean(axis=0), clusters)
    reach = stdtrit(len(draws) - 1, 0.975) * draws.mean(axis=1).std(ddof=1) / math.sqrt(len(draws))
    return max(0.0, mean - math.hypot(mean - low, reach)), min(1.0, mean + math.hypot(high - mean, reach))


@dataclass(frozen=True)
class BlindFloor:
    """Accuracy of answering from the option texts alone; all shares in 0..1.

    Attributes:
        n: test questions.
        chance: mean of 1 / number of options.
        accuracy: of the lookup; a tie between k options counts 1/k.
        low, high: 95 % Wilson interval.
        frame: the same columns, a row per modality or task (in canonical order, if there is such a column) and "all".
    """

    n: int
    chance: float
    accuracy: float
    low: float
    high: float
    frame: pd.DataFrame


def blind_floor(train: Any, test: Any, *, by: str = "modality") -> BlindFloor:
    """Return the accuracy one reaches on ``test`` by counting, in ``train``, which option texts were right.

    No image, no question, no language model: the lookup of this module, from the option texts alone. Texts are compared
    in lower case, letters, digits and blanks only.

    Args:
        train, test: Datasets, frames or lists of rows with ``options`` (list of texts in letter order) and ``answer``
            (gold letter); ``modality`` or ``task`` is used when the test has it. Images are never decoded.
        by: "modality" or "task": what makes the rows of ``frame``. The lookup itself is learned on all training rows.

    Raises:
        DataError: if a column is missing, a table is empty, a gold letter names no option, or ``by`` is neither.

    Source: Med-R1 facts, section 1.7, column "options only, no stem".

    >>> seen = [{"options": ["cyst", "stone"], "answer": "A"}, {"options": ["wall", "cyst"], "answer": "B"}]
    >>> blind_floor(seen, [{"options": ["stone", "Cyst."], "answer": "B"}]).accuracy
    1.0
    """
    if by not in ("modality", "task"):
        raise DataError(f"blind_floor(by={by!r}): use 'modality' or 'task'")
    train, test = read_questions(train, "train"), read_questions(test, "test")
    seen, asked = encode(train, test)
    verdicts = pd.DataFrame({"chance": 1 / asked.counts, "accuracy": lookup(seen, asked)})
    values, names = (test.modalities, MODALITIES) if by == "modality" else (test.tasks, TASKS)
    values = pd.Series(values, dtype=object)
    rows = [{by: name, **_floor_row(verdicts[values == name])} for name in names if (values == name).any()]
    if rows and values.isna().any():
        rows.append({by: None, **_floor_row(verdicts[values.isna()])})
    total = _floor_row(verdicts)
    return BlindFloor(**total, frame=pd.DataFrame([*rows, {by: "all", **total}]))


def _floor_row(verdicts: pd.DataFrame) -> dict[str, float]:
    low, high = interval(verdicts["accuracy"].to_numpy())
    shares = {column: float(verdicts[column].mean()) for column in ("chance", "accuracy")}
    return {"n": len(verdicts), **shares, "low": low, "high": high}
