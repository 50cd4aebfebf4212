"""The same questions asked otherwise: how much of an accuracy is the order of the options, the wording, the picture.

A score is one number for one way of asking. Move the options, and a model that likes the letter A answers something
else; change the instruction, or the picture, and see what stays. Whoever asks a model for this is in
:mod:`medr1kit.models.probes`; here is what needs no model: the rotated questions, and the tables that are made from
answers.

    A)liver, B)lung, C)brain        asked as it is: says A
    A)brain, B)liver, C)lung        every option moved on by one: says A again, and now means something else
    A)lung, B)brain, C)liver        by two

Over all rotations the gold stands at each letter once. So a model without a favourite letter chooses each equally
often; and only a model that means the *text* gives the same one each time. MMBench scores a question right only if it
is right in every rotation (CircularEval; Liu et al., arXiv 2307.06281, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.progress import no_bars_of_datasets
from medr1kit.results.clusters import clustering
from medr1kit.results.stats import paired_difference, share
from medr1kit.results.tables import check_predictions
from medr1kit.vqa import LETTERS, DataError, format_problem, format_solution, option_texts

if TYPE_CHECKING:
    from datasets import Dataset


def rotate_options(dataset: Dataset, by: int) -> Dataset:
    """Return the questions with every option moved on by some places; what falls off the end comes first.

    Args:
        dataset: rows of :mod:`medr1kit.vqa`, with or without images.
        by: places, 0 or more. Questions with ``by`` options or fewer are left out: this rotation of theirs is an
            earlier one again.

    Returns:
        The data set with ``problem`` (written anew, also for ``by=0``, so that nothing but the order differs),
        ``options``, ``answer`` and ``solution`` of the rotated questions; ``id`` stays. A column ``rationale`` is
        dropped, because it names the letter. Option texts that speak of others ("both A and B") are not rewritten.
    """
    long_enough = [i for i, options in enumerate(dataset["options"]) if len(options) > by]
    rows = dataset if len(long_enough) == len(dataset) else dataset.select(long_enough)
    options = [texts[len(texts) - by :] + texts[: len(texts) - by] for texts in rows["options"]]
    answers = [LETTERS[(LETTERS.index(gold) + by) % len(texts)] for gold, texts in zip(rows["answer"], options)]
    changed = {
        "problem": [format_problem(question, texts) for question, texts in zip(rows["question"], options)],
        "options": options,
        "answer": answers,
        "solution": [format_solution(answer) for answer in answers],
    }
    rows = rows.remove_columns([name for name in (*changed, "rationale") if name in rows.column_names])
    with no_bars_of_datasets():
        for name, column in changed.items():
            rows = rows.add_column(name, column)
    return rows


def against(preds: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """Return accuracy, and how many answers differ from those to the questions as they were.

    Args:
        preds: predictions on perturbed questions.
        reference: predictions on the questions as they were, in the same order.

    Returns:
        ``n``; ``accuracy``, ``low``, ``high``; ``flipped`` (share of questions with another letter; an unreadable
        answer counts as one more letter), ``flipped_low``, ``flipped_high``; ``difference`` (accuracy minus that of
        ``reference``, paired), ``difference_low``, ``difference_high``. Intervals count
        what those of :func:`medr1kit.score` count; those of the reference itself are 0, by definition.
    """
    units, _ = clustering([preds])
    shared = len(np.unique(units)) < len(units)
    row = {"n": len(preds)} | _named("accuracy low high", share(preds["correct"], units))
    flipped = difference = (0.0, 0.0, 0.0)
    if preds is not reference:
        other = preds["predicted"].fillna("-").to_numpy() != reference["predicted"].fillna("-").to_numpy()
        flipped = share(other, units)
        difference = paired_difference(reference["correct"], preds["correct"], units if shared else None)
    row |= _named("flipped flipped_low flipped_high", flipped)
    return row | _named("difference difference_low difference_high", difference)


def _named(names: str, numbers: Sequence[float]) -> dict[str, float]:
    return dict(zip(names.split(), numbers))


def position_table(preds: pd.DataFrame) -> pd.DataFrame:
    """Return what the place of an option does to the answers.

    Args:
        preds: predictions on :func:`rotate_options`, all rotations below each other: rows with the same ``id`` are one
            question, asked two times or more; ``options``, ``answer`` and ``predicted`` are those of the rotation.

    Returns:
        A frame with the columns ``measure``, ``letter``, ``n``, ``value``, ``low``, ``high`` (95 %; rotations of one
        question count as one, and questions about one patient, too) and ``chance``, the value of guessing evenly:

        - "chosen": share of answers that chose this letter, among the n that had it; "none": could not be read.
        - "accuracy": share of right answers where the gold stands at this letter; "all": over all rotations.
        - "consistent": share of the n questions whose chosen option *text* was the same in all rotations.
        - "right in all": share of the n questions that were right in all rotations.

    Raises:
        DataError: if columns are missing, there are no rows, or a question was asked only once.
    """
    preds = check_predictions(preds, ["id", "options", "answer", "predicted", "correct"])
    preds = preds.assign(unit=clustering([preds])[0])
    questions = _by_question(preds)
    if (once := questions["asked"] < 2).any():
        raise DataError(f"question {questions.index[once][0]!r} was asked once; ask it with rotated options, too")
    units, right, even = preds["unit"], preds["correct"].astype(bool), 1 / preds["options"].map(len)
    letters = LETTERS[: preds["options"].map(len).max()]
    rows = []

    def add(measure: str, letter: str, values: pd.Series, units: pd.Series, chance: float) -> None:
        row = {"measure": measure, "letter": letter, "n": len(values)}
        rows.append(row | _named("value low high", share(values, units)) | {"chance": chance})

    for place, letter in enumerate(letters):
        offered = preds["options"].map(len) > place
        chosen = preds["predicted"][offered] == letter
        add("chosen", letter, chosen, units[offered], even[offered].mean())
    add("chosen", "none", preds["predicted"].isna(), units, 0.0)
    for letter in letters:
        gold = preds["answer"] == letter
        add("accuracy", letter, right[gold], units[gold], even[gold].mean())
    add("accuracy", "all", right, units, even.mean())
    guesses = 1.0 / questions["options"]
    chance = guesses ** (questions["asked"] - 1)
    add("consistent", "all", questions["consistent"], questions["unit"], chance.mean())
    add("right in all", "all", questions["right"], questions["unit"], (guesses * chance).mean())
    return pd.DataFrame(rows)


def _by_question(preds: pd.DataFrame) -> pd.DataFrame:
    """One row a question: unit, options (how many), asked (how often), consistent, right (each time)."""
    texts = option_texts(preds["options"], preds["predicted"])
    rows = preds.assign(text=texts, options=preds["options"].map(len), right=preds["correct"].astype(bool))
    groups = rows.groupby("id", sort=False)
    questions = groups.agg(unit=("unit", "first"), options=("options", "first"), asked=("id", "size"))
    same = (groups["text"].nunique() == 1) & (groups["text"].count() == questions["asked"])  # count: without None
    return questions.assign(consistent=same, right=groups["right"].all())
