"""Before and after, question by question: one pair of predictions, or a whole matrix of them.

Two habits that leaderboards of medical question answering usually lack. A gain is *paired*: both models answered the
same questions, and it is split into format and answers, because a model that learns to write its tags gains accuracy
without learning medicine. And a matrix is *corrected*: of 64 cells in which nothing happened three look significant.

Several seeds are averaged. Then one interval is for these runs on other questions, a wider one for other seeds, too.

:func:`compare` is one comparison, :func:`transfer_table` sets each trained model against the untrained base,
:func:`compare_modes` one response format against another, which is what Med-R1's figures show. All three, and the heat
maps of widget and report (:mod:`medr1kit.results.maps`), get pairs and numbers from :mod:`medr1kit.results.pairs`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from medr1kit.formats import format_named
from medr1kit.results.clusters import codes
from medr1kit.results.numbers import count as told
from medr1kit.results.numbers import interval, p_value, percent, points
from medr1kit.results.pairs import DIFFERENCE, LIMITS, Pairs, Rows, compared, corrected, count, match, pair
from medr1kit.results.said import Said
from medr1kit.results.stats import NAN, share
from medr1kit.results.tables import VERDICT, check_predictions, in_canonical_order, one_checkpoint, rows_by
from medr1kit.vqa import DataError

_ONE = "select one of each training: preds[preds['step'] == …]"
UNKNOWN = "unknown"
"""How a table calls what a model was trained on where nobody knows."""


@dataclass(frozen=True, repr=False)
class Comparison(Said):
    """What changed between two sets of answers to the same questions; all shares in 0..1 or -1..1.

    Attributes:
        n: questions that both answered.
        seeds: runs that were averaged, 1 or more.
        accuracy_before, accuracy_after: mean of ``correct``.
        fixed, broken: questions wrong before and right after, and the reverse; summed over seeds.
        difference, low, high: accuracy after minus before, with its 95 % interval: the choice of questions.
        low_seeds, high_seeds: the interval that covers the choice of seeds, too; nan with one seed. See
            :func:`medr1kit.results.stats.pooled_difference` for how far three seeds can be trusted.
        p: exact McNemar p-value; by turning signs of clusters where there are any. It does not cover seeds.
        cluster: what interval and p count as independent: "patient_id", "id" (the question), "row", or a column.
        repaired_format: the part of ``difference`` from questions whose (leniently read) letter did not change.
        changed_answer: the rest; ``repaired_format + changed_answer == difference``.
    """

    n: int
    seeds: int
    accuracy_before: float
    accuracy_after: float
    fixed: int
    broken: int
    difference: float
    low: float
    high: float
    low_seeds: float
    high_seeds: float
    p: float
    cluster: str
    repaired_format: float
    changed_answer: float

    @property
    def frame(self) -> pd.DataFrame:
        """The same numbers as a frame with one row."""
        return pd.DataFrame([asdict(self)])

    def sentences(self) -> list[str]:
        """Return both accuracies with the difference, and what it is made of."""
        seeds = ""
        if self.seeds > 1:
            seeds = f"; for other seeds, too: {interval(self.low_seeds, self.high_seeds, '+')} ({self.seeds} seeds)"
        return [
            f"{told(self.n, 'question')}, accuracy {percent(self.accuracy_before)} before, "
            f"{percent(self.accuracy_after)} after: {points(self.difference, self.low, self.high)}, "
            f"{p_value(self.p)}{seeds}",
            f"fixed {self.fixed:,}, broken {self.broken:,}; of the difference {points(self.repaired_format)} are "
            f"repaired format, {points(self.changed_answer)} changed answers",
        ]


def compare(before: pd.DataFrame, after: pd.DataFrame, cluster: str | bool | None = None) -> Comparison:
    """Compare two sets of predictions question by question.

    A model that learns to write its tags gains accuracy without learning medicine. So the gain is split: a question
    whose letter, leniently read, is the same before and after can only have changed its verdict by its format.

    Args:
        before: predictions of one model in one format, or in several formats.
        after: predictions on the same questions. Rows are paired on ``id``, and on ``format``, too, when both frames
            hold several formats. Several seeds, told apart by ``seed``, are averaged: each is paired with the same seed
            of the other frame, or with its only one.
        cluster: what does not count as independent. None: the patient where the data names patients, else the
            question (:mod:`medr1kit.results.clusters`). A column of ``before``, such as "image_id", "source" or
            "question" (the stem): what is equal there. False: every pair counts.

    Returns:
        A :class:`Comparison`; ``.frame`` has it as a frame. Questions that only one side answered, or not every seed,
        are left out, with a warning that counts them.

    Raises:
        DataError: if no question is in both, one side answers a question twice, the gold answers disagree, the two
            frames have different seeds, a cluster name is missing, or the numbers are published ones.
    """
    before, after = check_predictions(before, ["id", *VERDICT], cluster), check_predictions(after, ["id", *VERDICT])
    for name, frame in (("before", before), ("after", after)):
        one_checkpoint(frame, [], f"select one: {name}[{name}['step'] == …]")
    several = all("format" in frame and frame["format"].nunique() > 1 for frame in (before, after))
    rows = Rows([before, after], ["id", "format"] if several else ["id"], cluster)
    sides = np.split(np.arange(len(rows.id)), [len(before)])
    [found] = _comparisons(rows, [pair(rows, *sides)], [before, after])
    if any(unmatched := [count(rows.question[side]) - found.n for side in sides]):
        more = " (or not for every seed)" if found.seeds > 1 else ""
        warnings.warn(
            f"compared {found.n} questions; left out {unmatched[0]} that only `before` and {unmatched[1]} that "
            f"only `after` answers{more}",
            stacklevel=2,
        )
    return found


def compare_all(preds: pd.DataFrame, sides: Sequence[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Return :func:`compare` of many pairs of answers in one table; names become numbers once for all of them.

    Args:
        preds: predictions.
        sides: a pair of answers each: the places of the rows before and of those after, both in one format.

    Returns:
        A row a pair: the numbers of a :class:`Comparison`, and ``fault``: why there are none, in a sentence, else "".
    """
    preds = check_predictions(preds, ["id", *VERDICT])
    rows = Rows([preds], ["id"])
    cells, faults = zip(*[_paired(rows, *two) for two in sides])
    return pd.DataFrame(map(asdict, _comparisons(rows, cells, [preds]))).assign(fault=faults)


def _comparisons(rows: Rows, cells: Sequence[Pairs], frames: Sequence[pd.DataFrame]) -> list[Comparison]:
    """What the pairs of each cell say, and which part of it comes from questions whose letter stayed."""
    (letters, _), found = codes(frames, ["lenient_predicted"]), []
    for numbers, (before, after, _) in zip(compared(rows, cells).to_dict("records"), cells):
        change, n = rows.right[after] - rows.right[before], len(after) or NAN
        stayed = (letters[before] == letters[after]) & (letters[before] >= 0)
        counts = {"fixed": int((change > 0).sum()), "broken": int((change < 0).sum())}
        parts = {"repaired_format": float(change[stayed].sum() / n), "changed_answer": float(change[~stayed].sum() / n)}
        found.append(Comparison(**numbers, **counts, **parts))
    return found


def _paired(rows: Rows, before: np.ndarray, after: np.ndarray, twice: str = "") -> tuple[Pairs, str]:
    """The pairs of two sides, none where there is nothing before; or why there are none.

    ``twice`` is what to say where a question is answered more than once after, with {id} for the question.
    """
    try:
        if twice:
            rows.check_once(after, rows.answer, twice)
        return pair(rows, before, after) if len(before) else Pairs(), ""
    except DataError as error:
        return Pairs(), str(error)


def transfer_table(preds: pd.DataFrame, by: str = "modality", cluster: str | bool | None = None) -> pd.DataFrame:
    """Return what training on one modality (or task) does to each other one: Med-R1's matrices, with their doubt.

    Each trained row is compared with the untrained base on the same questions. The base is the rows whose ``method``
    is "base", in the same ``format``; of several base models the one whose ``model`` has the same name, of several
    seeds the same ones. Cells without such a base keep their accuracy; their difference is nan, with a warning.

    Args:
        preds: predictions of trained models and of the base. Rows with neither ``train_modality`` nor ``train_task``
            are called "unknown"; models trained by the other of the two (a task, when ``by="modality"``) are not
            part of this table. Runs that differ in nothing but ``seed`` are averaged.
        by: "modality" or "task".
        cluster: what does not count as independent, as in :func:`compare`.

    Returns:
        One row per ``train_<by>``, ``method``, ``format``, ``model`` and test ``<by>``, in canonical order: ``n``
        (questions), ``seeds`` (runs), ``accuracy``, ``low``, ``high``, ``n_paired`` (questions the base answered, too),
        ``base_accuracy`` (on these), ``difference``, ``difference_low``, ``difference_high`` and, covering seeds, too,
        ``difference_low_seeds``, ``difference_high_seeds``; ``p``; ``cluster`` (what was counted). All these are of the
        cell alone, as :func:`compare` has them. ``low_corrected``, ``high_corrected`` and ``p_corrected`` are corrected
        for the whole table (:func:`medr1kit.results.multiplicity.max_t`): all these intervals hold at once, and one
        leaves zero out where its p is at most 0.05. nan cells do not count.

    Raises:
        DataError: if ``by`` is neither, columns or cluster names are missing, no trained model is there, one of them
            answers a question twice, or the numbers are published ones.
    """
    train, other = _trained_by(by, "transfer_table")
    keys = [train, "method", "format", "model", by]
    preds = check_predictions(preds, ["id", "seed", *keys, other, *VERDICT], cluster)
    table = gains(preds, by, cluster)
    if len(faults := table["fault"][table["fault"] != ""]):
        raise DataError(faults.iloc[0])
    if (unpaired := table["n"] - table["n_paired"]).any():
        empty = int((table["n_paired"] == 0).sum())
        warnings.warn(
            f"{int(unpaired.sum())} of {int(table['n'].sum())} predictions have no base to compare with (method "
            f"'base', same format and question); {empty} of {len(table)} cells have no difference. Give the base's "
            "answers to the same questions, too: pandas.concat([base, trained])",
            stacklevel=2,
        )
    return in_canonical_order(table.drop(columns=["fault", "sides"]), keys)


def gains(preds: pd.DataFrame, by: str, cluster: str | bool | None = None) -> pd.DataFrame:
    """Return the cells of :func:`transfer_table`, also where some cannot be compared.

    Args:
        preds, by, cluster: as there, checked.

    Returns:
        The same columns, in the order of the predictions; ``fault``: why a cell has no difference although there is a
        base, in a sentence, empty otherwise; and ``sides``: the places of the base's rows and of the cell's.

    Raises:
        DataError: if no trained model is there.
    """
    train, other = _trained_by(by, "gains")
    keys = [train, "method", "format", "model", by]
    base = preds["method"].eq("base").to_numpy(bool)
    trained = np.flatnonzero(~base & (preds[train].notna() | preds[other].isna()).to_numpy())
    if not len(trained):
        none = f"no trained model in the predictions: no row has a {train} and a method other than 'base'"
        raise DataError(f"{none}; say what was trained: predict(…, labels=run), or labels={{'method': 'grpo', …}}")
    one_checkpoint(preds.iloc[trained], keys, _ONE)
    labels = preds[keys].iloc[trained]
    labels = labels.assign(**{train: labels[train].astype(object).where(labels[train].notna(), UNKNOWN)})
    rows, untrained = Rows([preds], ["id"], cluster), np.flatnonzero(base)
    format, model = (codes([preds], [column])[0] for column in ("format", "model"))
    remedy = "with equal method, format, model and seed; label the runs apart or select one"
    found, paired, sides = [], [], []
    for names, part in rows_by(labels, keys):
        cell = trained[part]
        partners = _base_of(rows, untrained[format[untrained] == format[cell[0]]], cell, model)
        right = rows.right[cell]
        found.append((*names, count(rows.id[cell]), count(rows.seed[cell]), *share(right, rows.unit[cell])))
        twice = f"the model trained on {names[0]!r} answers {{id}} more than once {remedy}"
        paired.append(_paired(rows, partners, cell, twice))
        sides.append((partners, cell))
    table, (cells, faults) = pd.DataFrame(found, columns=[*keys, "n", "seeds", "accuracy", "low", "high"]), zip(*paired)
    names = {"n": "n_paired", "accuracy_before": "base_accuracy"} | {name: f"difference_{name}" for name in LIMITS}
    table = table.join(compared(rows, cells).drop(columns=["seeds", "accuracy_after"]).rename(columns=names))
    return table.assign(**_corrected(rows, cells), fault=faults, sides=sides)


def _corrected(rows: Rows, cells: Sequence[Pairs]) -> dict[str, np.ndarray]:
    """The columns that allow for all cells: never one of them without the others."""
    found = corrected(rows, cells)
    return {"p_corrected": found.corrected, "low_corrected": found.low, "high_corrected": found.high}


def _base_of(rows: Rows, base: np.ndarray, cell: np.ndarray, model: np.ndarray) -> np.ndarray:
    """The base answers a cell is compared with; none if there are none, or several models and none by name."""
    base = base[np.isin(rows.id[base], rows.id[cell])]
    named = base[model[base] == model[cell[0]]]
    if len(named) or count(model[base]) > 1:
        base = named
    several = count(rows.id[base]) < len(base)
    return base[np.isin(rows.seed[base], rows.seed[cell])] if several else base


def compare_modes(
    preds: pd.DataFrame,
    one: str = "no-think",
    other: str = "think-before",
    by: str = "modality",
    cluster: str | bool | None = None,
) -> pd.DataFrame:
    """Return accuracy in one format minus accuracy in another, by what was trained on and what was tested on.

    Args:
        preds: predictions of models trained and tested in both formats, on the same questions. Rows of the untrained
            base make a row "untrained"; models trained by the other of modality and task are left out; runs that differ
            in nothing but ``seed`` are averaged, seed by seed.
        one, other: the two formats; the difference is ``one`` minus ``other``.
        by: "modality" or "task".
        cluster: what does not count as independent, as in :func:`compare`.

    Returns:
        A row per ``method``, ``model``, ``train_<by>`` and ``<by>`` that both formats answered: ``n`` (questions),
        ``seeds``, ``accuracy_one``, ``accuracy_other``, ``difference`` with ``low`` and ``high`` (95 %, paired) and
        ``low_seeds``, ``high_seeds`` (covering other seeds, too; nan with one), ``p``, ``cluster`` (what was counted);
        ``p_corrected`` with ``low_corrected`` and ``high_corrected`` (for all rows, as in :func:`transfer_table`); and
        ``quantity`` (what is drawn). :func:`medr1kit.plot_transfer` draws one method of it.

    Raises:
        DataError: if a format is unknown or has no rows, ``by`` is neither, a column is missing, the formats share no
            question, one answers a question twice, or their gold answers disagree.
    """
    train, other_train = _trained_by(by, "compare_modes")
    needed = ["method", "model", train, other_train, by, "id", "seed", "format", "answer", "correct"]
    return modes(check_predictions(preds, needed, cluster), one, other, by, cluster).drop(columns="sides")


def modes(preds: pd.DataFrame, one: str, other: str, by: str, cluster: str | bool | None = None) -> pd.DataFrame:
    """Return the table of :func:`compare_modes` with one column more, ``sides``: the places of the pairs' rows, those
    in the format ``other`` first.
    """
    train, other_train = _trained_by(by, "compare_modes")
    there, keys = set(preds["format"]), ["method", "model", train, by]
    names = [name if name in there else format_named(name).name for name in (one, other)]  # also one of a user's own
    one_checkpoint(preds, ["format", *keys], _ONE)
    base, named, format = preds["method"].eq("base"), preds[train].notna(), preds["format"].to_numpy(object)
    preds = preds.assign(**{train: preds[train].astype(object).where(named, UNKNOWN).mask(base, "untrained")})
    rows = Rows([preds], [*keys, "id"], cluster)
    meant, places = base | named | preds[other_train].isna(), []
    for name in names:
        places.append(np.flatnonzero(meant & (format == name)))
        if not len(places[-1]):
            raise DataError(f"no predictions in the format {name!r}; there are {', '.join(pd.unique(format[meant]))}")
        remedy = "by one method, model and seed; label the runs apart or select one"
        rows.check_once(places[-1], rows.answer, f"{{id}} is answered more than once in {name} {remedy}")
    after, before = (side[at] for side, at in zip(places, match(*(rows.answer[side] for side in places))))
    if not len(after):
        none = f"no question is answered in both {names[0]} and {names[1]} by one method, model and seed"
        raise DataError(f"{none}; predict the same questions in both, format={names[0]!r} and format={names[1]!r}")
    rows.check_gold(before, after, "two formats")
    who = preds[keys].iloc[after]
    labels, parts = zip(*rows_by(who, keys))
    cells = [Pairs(before[part], after[part], rows.seed[after[part]]) for part in parts]
    table = pd.DataFrame(labels, columns=keys)
    numbers = compared(rows, cells)[["n", "seeds", "accuracy_after", "accuracy_before", *DIFFERENCE, "cluster"]]
    table = table.join(numbers.rename(columns={"accuracy_after": "accuracy_one", "accuracy_before": "accuracy_other"}))
    table = table.assign(**_corrected(rows, cells), quantity=f"{names[0]} minus {names[1]}")
    return in_canonical_order(table.assign(sides=[cell[:2] for cell in cells]), keys)


def _trained_by(by: str, function: str) -> tuple[str, str]:
    """The column that says what was trained on, and the one that says it of models that are not meant."""
    if by not in ("modality", "task"):
        raise DataError(f"{function}(by={by!r}): a model is trained by 'modality' or by 'task'")
    return f"train_{by}", "train_task" if by == "modality" else "train_modality"
