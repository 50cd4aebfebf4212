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

from medr1kit.given import table_given
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


def followed(preds: pd.DataFrame, letters: Sequence[str | None], counted: str) -> dict[str, float]:
    """Return how often the answer is the letter that something suggests, such as a thought or a wrong picture.

    Args:
        preds: predictions.
        letters: the letter for each row; None: the row is left out.
        counted: the name under which rows with a letter are counted.

    Returns:
        That count, ``follows`` (share of these rows answered so), ``follows_low``, ``follows_high``.

    >>> followed(pd.DataFrame({"id": ["a", "b"], "predicted": ["A", "C"]}), ["A", None], "compared")["follows"]
    1.0
    """
    there = np.array([letter is not None for letter in letters])
    units, _ = clustering([preds])
    said = np.array([letter == answer for letter, answer in zip(letters, preds["predicted"])])[there]
    return {counted: int(there.sum())} | _named("follows follows_low follows_high", share(said, units[there]))


_SOURCE = "Zafar et al., Beyond Accuracy: Evaluating Visual Grounding in Multimodal Medical Reasoning, arXiv 2603.03437"


def reliance_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return visual reliance under the names that papers give it, each with its definition and source.

    The definitions are the authors' own in words (labscommunity.cohere.com/blog/2026/visual-grounding-medical-vlms);
    their "shuffled" image is a random one of the same data set, so ours is "shuffled-all". Other papers use the same
    names for other numbers (VRS also in arXiv 2607.03647), so give the definition beside the name.

    Args:
        frame: from :func:`medr1kit.visual_reliance`, with the images "shuffled-all".

    Returns:
        Three rows: ``name`` ("VRS", "IS", "HVRR"), ``value``, ``low``, ``high`` (95 %), ``n``, ``definition``,
        ``source``. HVRR has no value: what counts as a visual claim, and of what it is a share, is not said there.

    Raises:
        DataError: if it is no such frame.
    """
    table_given(frame, "frame", ["images", "n", "flipped_low", "lost_low"], "what visual_reliance returned")
    if len(row := frame[frame["images"] == "shuffled-all"]) != 1:
        raise DataError("these names are about 'shuffled-all' images; call visual_reliance with them")
    row = row.iloc[0]
    means = {
        "lost": ("VRS", "Visual Reliance Score: accuracy on the right images minus that on images shuffled over all"),
        "flipped": ("IS", "Image Sensitivity: share of answers that change when images are shuffled over all"),
    }
    rows = [
        {"name": name, "value": row[column], "low": row[f"{column}_low"], "high": row[f"{column}_high"]}
        | {"n": row["n"], "definition": definition}
        for column, (name, definition) in means.items()
    ]
    unread = "Hallucinated Visual Reasoning Rate: the text claims to see something, and the answer is the same with "
    rows.append({"name": "HVRR", "n": row["n"], "definition": f"{unread}another image; not computed"})
    return pd.DataFrame(rows).assign(source=_SOURCE)


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
