"""Error analysis: which answers are wrong, how, where, and what to read first.

An accuracy says how often a model errs. What to do about it depends on the errors: a form that is not kept costs a few
steps of training, a favourite letter is a habit, one confusion that comes back is a gap in the data, one bad slice may
be bad luck. :func:`errors` sorts all of them, in frames and sentences::

    kinds       wrong, malformed, unread: format or answer?     medr1kit.results.errors.kinds
    changes     fixed and broken since before
    letters     a favourite letter?                             medr1kit.results.errors.letters
    confusion   which option is taken for which?
    slices      which part of the test is worst, surely?        medr1kit.results.errors.slices
    words       … by the words of the question
    seeds       what all seeds get wrong: the hard core         medr1kit.results.errors.seeds
    rows        the errors themselves, to read                  medr1kit.views.page.worksheet: on paper
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from medr1kit.results.errors.kinds import add_change, describe
from medr1kit.results.errors.report import Errors
from medr1kit.results.errors.seeds import add_seeds
from medr1kit.results.errors.slices import slices_table

__all__ = ["Errors", "errors"]


def errors(
    preds: pd.DataFrame, by: str | Sequence[str] = ("modality", "task"), before: pd.DataFrame | None = None
) -> Errors:
    """Sort the errors of a model: what kind, which letter, which option, where, and whether all seeds make them.

    Args:
        preds: predictions. Several formats, methods or models are kept apart in ``kinds``, ``changes``, ``letters`` and
            ``seeds``; in ``confusion``, ``slices`` and ``words`` they are pooled, unless ``by`` names the column. Rows
            of the untrained base (``method`` "base") among others are taken as ``before``.
        by: the one to four columns that cut the test into slices: "modality", "task", "source", "question" and any
            other, also ``n_options``, ``gold_text`` and ``predicted_text``.
        before: predictions of the model before training on the same questions; None: no changes are reported.

    Returns:
        An :class:`Errors`: sentences in ``findings``, frames behind them, the erroneous answers in ``rows``.

    Raises:
        DataError: if a column is missing, a format is unknown, a model answers a question twice, or ``before`` answers
            other questions.
    """
    columns = [by] if isinstance(by, str) else list(by)
    if before is None and "method" in preds:
        base = preds["method"].eq("base")
        if base.any() and not base.all():
            preds, before = preds[~base], preds[base]
    answers = add_seeds(describe(preds))
    if before is not None:
        answers = add_change(answers, before)
    return Errors(answers, slices_table(answers, columns))
