"""Minds that changed: what was answered before the thought and after it, in formats with two answers.

In answer-think-answer a completion says a letter, thinks, and says a letter again. Whether the thought is worth its
tokens is then seen within one completion::

    A … B, gold B     for the better
    B … A, gold B     for the worse
    A … C, gold B     changed all the same
    B … B             an ornament, or a confirmation

:func:`first_answers` gives the first ones as a table of predictions, so that whatever compares two tables compares
them, too: ``errors(preds, before=first_answers(preds))``, ``inspect_outputs(first_answers(preds), preds)``.
"""

from __future__ import annotations

import pandas as pd

from medr1kit.results.answers import format_of
from medr1kit.results.perturbations import against
from medr1kit.results.tables import check_predictions, in_canonical_order, rows_by, who_varies
from medr1kit.vqa import DataError

_NEEDED = ("id", "question", "options", "answer", "format", "text", "predicted", "correct", "well_formed")


def first_answers(preds: pd.DataFrame) -> pd.DataFrame:
    """Return the answers that were given before the thought, as predictions that ended there.

    Args:
        preds: predictions, some of them in a format with two answers, such as answer-think-answer.

    Returns:
        The rows whose completion has two answers, the first of them readable, numbered as in ``preds``,
        from 0: ``text`` up to that answer, ``predicted``, ``lenient_predicted`` and ``correct`` of it; ``think``,
        ``well_formed`` and ``n_tokens`` are missing, as where :func:`medr1kit.predict` stops at an answer.

    Raises:
        DataError: if no format has two answers, no completion has them, or a column is missing.

    >>> row = {"id": "q", "question": "?", "options": ["liver", "lung"], "answer": "B", "format": "answer-think-answer",
    ...        "text": "<answer>A</answer><think>Air.</think><answer>B</answer>", "predicted": "B", "correct": True,
    ...        "lenient_predicted": "B", "well_formed": True}
    >>> first_answers(pd.DataFrame([row]))[["text", "predicted", "correct"]].values.tolist()
    [['<answer>A</answer>', 'A', False]]
    """
    preds, found = check_predictions(preds, _NEEDED), {}
    for _, rows in rows_by(preds, ["format"]):
        format = format_of(preds.iloc[rows])
        if format.blocks.count("answer") < 2:
            continue
        closed = format.marks("answer")[1]
        for row in rows:
            text = preds["text"].iat[row]
            if letter := format.parse(text if isinstance(text, str) else "", preds["options"].iat[row]).first_answer:
                found[row] = (text[: text.index(closed)] + closed, letter)
    if not found:
        raise DataError("no completion has two answers to compare; predict in a format that has, answer-think-answer")
    first = preds.iloc[sorted(found)].copy()
    first["text"], first["predicted"] = zip(*(found[row] for row in sorted(found)))
    first["lenient_predicted"], first["correct"] = first["predicted"], first["predicted"] == first["answer"]
    return first.assign(**{name: None for name in ("think", "well_formed", "n_tokens") if name in first})


def changed_minds(preds: pd.DataFrame) -> pd.DataFrame:
    """Return how often the answer after the thought is another one, and whether that is for the better.

    Args:
        preds: predictions, some of them in a format with two answers.

    Returns:
        A row for each model and format: what tells them apart; ``n`` (completions with two answers, the first of them
        readable; the others are left out), ``of`` (all in this format); ``first_accuracy``; ``accuracy`` of the last
        answer with ``low`` and ``high``; ``changed`` (share whose last answer is another one; an unreadable last one
        counts as another), ``changed_low``, ``changed_high``; ``better`` and ``worse`` (how many became right, and
        wrong); ``difference`` (last minus first accuracy, paired), ``difference_low``, ``difference_high``. 95 %; what
        counts as independent is what does in :func:`medr1kit.score`.

    Raises:
        DataError: as :func:`first_answers`.
    """
    first = first_answers(preds)
    preds = check_predictions(preds, _NEEDED)
    who, table = who_varies(preds), []
    for names, rows in rows_by(preds, who):
        last = preds.iloc[rows]
        of, last = len(last), last[last.index.isin(first.index)]
        if last.empty:
            continue
        before = first.loc[last.index]
        was, now = before["correct"].astype(bool), last["correct"].astype(bool)
        row = against(last, before)
        row = {"n": row.pop("n"), "of": of, "first_accuracy": was.mean()} | row
        row |= {"better": int((~was & now).sum()), "worse": int((was & ~now).sum())}
        table.append(dict(zip(who, names)) | {name.replace("flipped", "changed"): value for name, value in row.items()})
    return in_canonical_order(pd.DataFrame(table), who)
