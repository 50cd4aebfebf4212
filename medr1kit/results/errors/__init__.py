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
    seeds       what all seeds get wrong: the hard core
    rows        the errors themselves, to read                  medr1kit.views.page.worksheet: on paper
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from medr1kit.results.errors.kinds import add_change, add_seeds, changes_table, describe, kinds_table, seeds_table
from medr1kit.results.errors.letters import confusion_table, letters_table
from medr1kit.results.errors.slices import slices_table, words_table
from medr1kit.results.numbers import count, percent, points
from medr1kit.results.stats import share
from medr1kit.results.tables import check_predictions, columns_given, who_varies

_SURE = 0.05
_SHOWN = 6  # slices in a notebook's output
_CORRECTED = ("difference_low", "difference_high", "p_holm")
_OURS = ("n_options", "gold_text", "predicted_text", "kind", "reason")  # columns that describe() adds


def errors(
    preds: pd.DataFrame,
    by: str | Sequence[str] = ("modality", "task"),
    before: pd.DataFrame | None = None,
    cluster: str | bool | None = None,
) -> Errors:
    """Sort the errors of a model: what kind, which letter, which option, where, and whether all seeds make them.

    Args:
        preds: predictions. Several formats, methods or models are kept apart in ``kinds``, ``changes``, ``letters`` and
            ``seeds``; in ``confusion``, ``slices`` and ``words`` they are pooled, unless ``by`` names the column. Rows
            of the untrained base (``method`` "base") among others are taken as ``before``.
        by: the one to four columns that cut the test into slices: "modality", "task", "source", "question" and any
            other, also ``n_options``, ``gold_text`` and ``predicted_text``.
        before: predictions of the model before training on the same questions; None: no changes are reported.
        cluster: what does not count as independent, as in :func:`medr1kit.score`: None is the patient where the data
            names patients, else the question.

    Returns:
        An :class:`Errors`: sentences in ``findings``, frames behind them, the erroneous answers in ``rows``.

    Raises:
        DataError: if a column is missing, a format is unknown, a model answers a question twice, or ``before`` answers
            other questions.
    """
    columns = columns_given(by)
    preds = check_predictions(preds, (), cluster, [name for name in columns if name not in _OURS])
    if before is None and "method" in preds:
        base = preds["method"].eq("base")
        if base.any() and not base.all():
            preds, before = preds[~base], preds[base]
    answers = add_seeds(describe(preds, cluster))
    if before is not None:
        answers = add_change(answers, before)
    return Errors(answers, slices_table(answers, columns))


@dataclass(frozen=True, eq=False, repr=False)
class Errors:
    """The answers of a model, their errors sorted; shares in 0..1, intervals 95 %, as those of :func:`~medr1kit.score`.

    Attributes:
        answers: all answers, with ``kind``, ``reason``, ``gold_text``, ``predicted_text``, ``n_options``, ``unit``,
            ``seeds``, ``wrong_in`` and, with a model before, ``change``, ``kind_before`` and ``predicted_before``.
        slices: accuracy by slice, the worst first; see :func:`medr1kit.results.errors.slices.slices_table`.
    """

    answers: pd.DataFrame
    slices: pd.DataFrame = field(repr=False)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The answers that are not plainly right (wrong, unread or malformed), those that most seeds miss first."""
        rows = self.answers[self.answers["kind"] != "right"]
        worst = (rows["wrong_in"] / rows["seeds"]).sort_values(ascending=False, kind="stable").index
        return rows.loc[worst].reset_index(drop=True)

    @cached_property
    def kinds(self) -> pd.DataFrame:
        """How many answers are of each kind; see :func:`medr1kit.results.errors.kinds.kinds_table`."""
        return kinds_table(self.answers)

    @cached_property
    def changes(self) -> pd.DataFrame | None:
        """Fixed and broken, see :func:`~medr1kit.results.errors.kinds.changes_table`; None without a model before."""
        return changes_table(self.answers) if "change" in self.answers else None

    @cached_property
    def letters(self) -> pd.DataFrame:
        """How often each letter is chosen; see :func:`medr1kit.results.errors.letters.letters_table`."""
        return letters_table(self.answers)

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Which option is taken for which; see :func:`medr1kit.results.errors.letters.confusion_table`."""
        return confusion_table(self.answers)

    @cached_property
    def words(self) -> pd.DataFrame:
        """Accuracy by the words of the question; see :func:`medr1kit.results.errors.slices.words_table`."""
        return words_table(self.answers)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """How many seeds fail together, see :func:`~medr1kit.results.errors.kinds.seeds_table`; empty for one seed."""
        return seeds_table(self.answers)

    @cached_property
    def hard_core(self) -> pd.DataFrame:
        """One row a question (and model) that every one of several seeds got wrong."""
        rows = self.answers[(self.answers["seeds"] > 1) & (self.answers["wrong_in"] == self.answers["seeds"])]
        return rows.drop_duplicates([*who_varies(rows), "id"]).reset_index(drop=True)

    @cached_property
    def findings(self) -> list[str]:
        """What the frames say: one plain sentence or two for each, with the number of answers behind it."""
        found = (self._kinds(), self._unread(), self._changes(), self._letters(), self._confusion(), self._slices())
        return [sentence for sentence in (*found, self._seeds()) if sentence]

    def _kinds(self) -> str:
        rows, right = self.answers, self.answers["correct"].astype(bool)
        unread, malformed = rows["kind"].str.startswith("unread"), rows["kind"].str.contains("malformed")
        return (
            f"Right: {percent(*share(right, rows['unit']))} of {count(len(rows), 'answer')}. Another letter: "
            f"{percent((~right & ~unread).mean())}; not read: {percent(unread.mean())}; read, but malformed: "
            f"{percent(malformed.mean())}."
        )

    def _unread(self) -> str | None:
        unread = self.answers[self.answers["kind"].str.startswith("unread")]
        if unread.empty:
            return None
        lenient, reasons = unread["kind"].eq("unread, right letter"), unread["reason"].value_counts()
        return (
            f"Of {count(len(unread), 'unread answer')}, {int(lenient.sum()):,} would be right if tags did not count: "
            f"format, not medicine. Commonest reason: {reasons.index[0]} ({reasons.iloc[0]:,})."
        )

    def _changes(self) -> str | None:
        if "change" not in self.answers:
            return None
        rows = self.answers[self.answers["change"].notna()]
        found = Counter(rows["change"])
        unread = int((rows["change"].eq("fixed") & rows["kind_before"].str.startswith("unread")).sum())
        return (
            f"Since before, {found['fixed']:,} of {count(len(rows), 'answer')} were fixed ({unread:,} of them were "
            f"unread) and {found['broken']:,} broken; {found['still wrong, same letter']:,} stay wrong with the same "
            f"letter, {found['still wrong, other letter']:,} with another one."
        )

    def _letters(self) -> str | None:
        if self.letters.empty:
            return None
        sure = self.letters[self.letters["p_corrected"] < _SURE]
        row = self.letters.loc[(self.letters if sure.empty else sure)["bias"].idxmax()]
        doubt = "more than chance would" if row["p_corrected"] < _SURE else "which may be chance"
        return (
            f"Letter chosen too often: {row['letter']}{self._who(row)}, in {percent(row['predicted'])} of "
            f"{count(row['n'], 'read answer')} and gold in {percent(row['gold'])}: "
            f"{points(row['bias'], row['bias_low'], row['bias_high'])}, {doubt}."
        )

    def _confusion(self) -> str | None:
        taken = self.confusion[self.confusion["taken"] > 0]
        if taken.empty:
            return None
        row = taken.iloc[0]
        where = f" in {row['modality']}" if row.get("modality", "unknown") != "unknown" else ""
        doubt = "" if row["low"] > row["chance"] else "; it may be chance"
        return (
            f'Surest confusion{where}: "{row["gold_text"]}" is taken for "{row["predicted_text"]}" in {row["taken"]:,} '
            f"of {count(row['offered'], 'answer')} that could ({percent(row['share'], row['low'], row['high'])}; a "
            f"guess: {percent(row['chance'])}), of {count(len(self.confusion), 'pair')} looked at{doubt}."
        )

    def _slices(self) -> str | None:
        if self.slices.empty:
            return None
        row, worse = self.slices.iloc[0], self.slices[(self.slices["p_holm"] < _SURE) & (self.slices["difference"] < 0)]
        sentence = (
            f"Worst slice: {row['slice']}, {percent(row['accuracy'], row['low'], row['high'])} right of "
            f"{count(row['n'], 'answer')} (a guess: {percent(row['chance'])}); the rest {percent(row['rest'])}. "
        )
        names = ", ".join(worse["slice"][:_SHOWN]) + (", …" if len(worse) > _SHOWN else "")
        which = f"worse than the rest, corrected for all, {'is' if len(worse) == 1 else 'are'} {len(worse) or 'none'}"
        return sentence + f"Of {count(len(self.slices), 'slice')}, {which}{': ' + names if len(worse) else ''}."

    def _seeds(self) -> str | None:
        core = self.seeds[self.seeds["wrong_in"] == self.seeds["seeds"]]
        if core.empty:
            return None
        row = core.sort_values("share", kind="stable").iloc[-1]
        return (
            f"Hard core{self._who(row)}: {row['n']:,} of {count(row['of'], 'question')} "
            f"({percent(row['share'], row['low'], row['high'])}) are wrong in all {row['seeds']} seeds; "
            f"if seeds erred independently, {percent(row['expected'])} would be."
        )

    def _who(self, row: pd.Series) -> str:
        """The model a row is about, by what tells it from the others."""
        several = [c for c in who_varies(self.answers) if self.answers[c].nunique() > 1 and pd.notna(row.get(c))]
        return f" ({' · '.join(str(row[column]) for column in several)})" if several else ""

    def __repr__(self) -> str:
        return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(self.findings, 1))

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.findings)
        shown = self.slices[["slice", "n", "accuracy", "rest", "difference", *_CORRECTED]].head(_SHOWN)
        table = shown.to_html(index=False, border=0, na_rep="", float_format="{:.3f}".format)
        return f"<ol>{items}</ol><details><summary>Worst slices</summary>{table}</details>"
