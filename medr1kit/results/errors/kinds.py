"""What kind of error an answer is: wrong, or never read; what a training did to it, and whether all seeds make it.

Every answer has one kind. The first word says whether it counts as right; the rest says what to look at::

    right                    the gold letter, in its form
    right, malformed         the gold letter is read, but the form is broken: costs the format reward only
    wrong                    another letter
    wrong, malformed         another letter, in broken form
    unread, right letter     no letter could be read, but one without its tags is right: format, not medicine
    unread, wrong letter     … is wrong
    unread, no letter        none or several

An unread answer is a wrong one for the score. The parser of the format says why it could not be read.

Bad luck or a hard question? If three seeds are wrong on a third of the questions each, and their errors had nothing to
do with each other, one question in 27 would be wrong in all three. Usually it is far more: the same questions are hard
for all of them. These are the *hard core*; more training of the same kind will hardly move them, so they are worth
reading one by one. The questions wrong in some seeds only are the luck of a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medr1kit.formats import Parsed
from medr1kit.results.answers import format_of
from medr1kit.results.clusters import clustering
from medr1kit.results.pairs import Rows
from medr1kit.results.stats import share
from medr1kit.results.tables import check_predictions, groups_by, in_canonical_order, same_letter, who_varies
from medr1kit.vqa import option_texts

KINDS = (
    "right", "right, malformed", "wrong", "wrong, malformed",
    "unread, right letter", "unread, wrong letter", "unread, no letter",
)  # fmt: skip
CHANGES = ("fixed", "broken", "still wrong, same letter", "still wrong, other letter", "still right")
_SEEDS = ("wrong_in", "seeds", "n", "of", "share", "low", "high", "expected")
_NEEDED = ("id", "question", "options", "answer", "format", "text", "predicted", "lenient_predicted")


def describe(preds: pd.DataFrame, cluster: str | bool | None = None) -> pd.DataFrame:
    """Return the predictions with what is needed to sort their errors.

    Args:
        preds: predictions.
        cluster: what does not count as independent, as in :func:`medr1kit.score`.

    Returns:
        The same rows, numbered anew, with ``kind`` (one of :data:`KINDS`), ``reason`` (why it was not read, or what is
        malformed; empty otherwise), ``gold_text``, ``predicted_text`` (missing if unread), ``n_options`` and ``unit``
        (equal where answers do not count as independent: :mod:`medr1kit.results.clusters`).

    Raises:
        DataError: if a column is missing, there are no rows, a gold letter is no option, or the format is unknown.
    """
    rows = check_predictions(preds, [*_NEEDED, "correct", "well_formed"], cluster).copy()
    read, right = rows["predicted"].notna().to_numpy(), rows["correct"].astype(bool).to_numpy()
    malformed = (rows["well_formed"] == False).to_numpy()  # noqa: E712 - it may be missing, where texts were ended early
    lenient = same_letter(rows["lenient_predicted"], rows["answer"])
    unread = np.select([lenient, rows["lenient_predicted"].notna()], KINDS[4:6], KINDS[6])
    kinds = np.where(right, np.where(malformed, *KINDS[1::-1]), np.where(malformed, *KINDS[3:1:-1]))
    rows["kind"] = np.where(read, kinds, unread)
    formats = {name: format_of(part) for name, part in rows.groupby("format", sort=False, dropna=False)}
    rows["reason"] = [
        "" if read and not bad else _why(formats[name].parse(text if isinstance(text, str) else "", options))
        for name, text, options, read, bad in zip(rows["format"], rows["text"], rows["options"], read, malformed)
    ]
    rows["gold_text"] = option_texts(rows["options"], rows["answer"])
    rows["predicted_text"] = option_texts(rows["options"], rows["predicted"])
    rows["n_options"] = rows["options"].map(len)
    rows["unit"] = clustering([rows], cluster)[0]
    return rows


def _why(parsed: Parsed) -> str:
    return parsed.fault or parsed.reason  # the parser may read now what it could not when the table was made


def kinds_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many answers are of each kind, for each model and format.

    Args:
        rows: from :func:`describe`.

    Returns:
        ``format`` and what else tells models apart, ``kind``, ``n`` (answers of this kind), ``of`` (all answers),
        ``share`` with ``low`` and ``high`` (95 %, as those of :func:`medr1kit.score`).
    """
    return _shares(rows, "kind", KINDS)


def add_change(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with what became of each answer since ``before``.

    Args:
        rows: from :func:`describe`.
        before: predictions of the model before training on the same questions; paired on ``id``, on ``format`` if
            either side holds several, and on ``model`` and ``seed`` if ``before`` does.

    Returns:
        The rows with ``change`` (one of :data:`CHANGES`; missing where ``before`` did not answer the question),
        ``kind_before`` and ``predicted_before``.

    Raises:
        DataError: if no question is in both, or ``before`` answers one twice, or with another gold answer.
    """
    old = describe(before)
    several = {c for c in ("format", "model", "seed") if c in old and c in rows and old[c].nunique() > 1}
    keys = ["id", *sorted(several | ({"format"} if rows["format"].nunique() > 1 else set()))]
    both = Rows([old, rows], keys)
    sides = np.split(np.arange(len(both.id)), [len(old)])
    both.check_once(sides[0], both.question, "`before` answers {id} more than once; select one run")
    places = np.full(len(rows), -1)
    was, now = both.matched(*sides, both.question)
    places[now - len(old)] = was
    old = old[["correct", "kind", "predicted", "lenient_predicted"]].reindex(places).reset_index(drop=True)
    wrong, right = (old["correct"] == False).to_numpy(), rows["correct"].astype(bool).to_numpy()  # noqa: E712
    same = same_letter(old["lenient_predicted"], rows["lenient_predicted"])
    fixed, broken, same_wrong, other_wrong, still_right = CHANGES
    which = [wrong & right, ~wrong & ~right, right, same]
    change = np.where(places >= 0, np.select(which, [fixed, broken, still_right, same_wrong], other_wrong), None)
    return rows.assign(change=change, kind_before=old["kind"], predicted_before=old["predicted"])


def changes_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how many answers were fixed, broken or left, for each model and format.

    Args:
        rows: from :func:`add_change`.

    Returns:
        As :func:`kinds_table`, with ``change`` in place of ``kind``, and ``was_unread``: how many of the ``n`` were not
        read before. Answers without a partner are left out.
    """
    rows = rows[rows["change"].notna()]
    table = _shares(rows, "change", CHANGES)
    keys, unread = [*who_varies(rows), "change"], rows["kind_before"].str.startswith("unread")
    counts = unread.groupby([rows[key] for key in keys], dropna=False, observed=True).sum()
    return table.merge(counts.rename("was_unread").reset_index(), on=keys)


def _shares(rows: pd.DataFrame, column: str, values: Sequence[str]) -> pd.DataFrame:
    """The share of each value of a column, in the order given, for each model and format."""
    keys, found = who_varies(rows), []
    for names, group in groups_by(rows, keys):
        for value in values:
            if (is_so := group[column] == value).any():
                found.append((*names.values(), value, int(is_so.sum()), len(group), *share(is_so, group["unit"])))
    table = pd.DataFrame(found, columns=[*keys, column, "n", "of", "share", "low", "high"])
    return in_canonical_order(table, keys)


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
            numbers = (wrong, seeds, int(is_so.sum()), len(questions), *share(is_so, questions["unit"]))
            found.append((*names.values(), *numbers, expected[wrong]))
    return in_canonical_order(pd.DataFrame(found, columns=[*keys, *_SEEDS]), keys)


def _independent(rates: pd.Series) -> np.ndarray:
    """Probability of 0, 1, … errors from independent tries with these rates."""
    expected = np.ones(1)
    for rate in rates:
        expected = np.convolve(expected, [1 - rate, rate])
    return expected
