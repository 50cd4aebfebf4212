"""The tables that travel between training, evaluation and plots, and what is computed from them.

Models stay in the torch half of medr1kit. What leaves it are three pandas frames::

    metrics        a row per logged training step      what TRL logs
    rollouts       a row per sampled completion        what the policy wrote, what it was paid, its advantage
    predictions    a row per question, model, format   what a model answers when it is tested

Everything below takes predictions and returns a frame of shares in 0..1. Three habits are built in that leaderboards of
medical question answering usually lack: each accuracy comes with n, an interval and the chance level of its questions;
before and after are compared question by question; and a matrix of cells is corrected for its many tests.

``correct`` is the strict verdict (the reward's own rule); ``lenient_predicted`` also reads a letter written without its
tags. The gap between the two is format, not medicine, and :func:`compare` says how much of a gain is only that.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from medr1kit.formats import FORMATS
from medr1kit.stats import NAN, cluster_interval, holm, mcnemar, paired_difference, wilson
from medr1kit.vqa import MODALITIES, TASKS, DataError

PREDICTIONS = (
    "id", "image_id", "source", "modality", "task", "question", "options", "answer",  # the question
    "model", "train_modality", "train_task", "method", "format", "seed",  # who answered
    "text", "think", "predicted", "lenient_predicted", "correct", "well_formed", "n_tokens",  # what
)  # fmt: skip
"""Columns of predictions. ``method`` is "base" for the untrained model; ``options`` holds lists in letter order."""

ROLLOUTS = (
    "step", "id", "rollout", "question", "options", "answer", "modality", "task", "text", "predicted",
    "advantage", "n_tokens", "truncated",
)  # fmt: skip
"""Columns of every rollouts table; one more column a reward function, named after it, stands before ``advantage``."""

METRICS = (
    "step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens", "reward", "reward_std", "frac_reward_zero_std",
    "kl", "entropy", "completions/mean_length", "completions/min_length", "completions/max_length",
    "completions/clipped_ratio",
)  # fmt: skip
"""Columns of metrics under TRL's names; GRPO adds ``rewards/<function>/mean`` and ``/std``, SFT fills fewer."""

_VERDICT = ("answer", "lenient_predicted", "correct")
_ORDER = {"modality": MODALITIES, "task": TASKS, "format": tuple(FORMATS)}
_ORDER |= {"train_modality": MODALITIES, "train_task": TASKS}
_SCORES = ("n", "accuracy", "low", "high", "lenient_accuracy", "well_formed", "chance", "mean_tokens")


def check_predictions(frame: pd.DataFrame, columns: Sequence[str] = PREDICTIONS) -> pd.DataFrame:
    """Return the frame if it can be used as predictions.

    Args:
        frame: a predictions table.
        columns: the columns that must be there; those of the full schema by default.

    Raises:
        DataError: if the frame is empty, columns are missing, or a verdict (``correct``, ``well_formed``) is.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"predictions without the column(s) {', '.join(missing)}; predict() writes all of them")
    if frame.empty:
        raise DataError("predictions without rows; nothing was predicted, or a filter left nothing over")
    for column in ("correct", "well_formed"):
        if column in columns and not frame[column].isin([0, 1]).all():
            row = int((~frame[column].isin([0, 1])).to_numpy().argmax())
            raise DataError(f"predictions row {row}: {column} is {frame[column].iloc[row]!r}; it must be True or False")
    return frame


def score(preds: pd.DataFrame, by: str | Sequence[str] | None = "modality", cluster: str | None = None) -> pd.DataFrame:
    """Return accuracy with its interval, and what is needed to judge it.

    Args:
        preds: predictions; rows of several models or formats are only kept apart if ``by`` names the column.
        by: the column(s) that make a row: "modality", "task", ["method", "format", "modality"], …; None for one row.
        cluster: a column whose equal values do not count as independent, such as "image_id" or, when several seeds
            answered each question, "id"; None for independent questions.

    Returns:
        A frame with the ``by`` columns, then ``n`` (rows), ``accuracy`` (mean of ``correct``), ``low`` and ``high``
        (95 %: Wilson, or cluster-robust with ``cluster``), ``lenient_accuracy`` (the letter alone is right),
        ``well_formed``, ``chance`` (mean of 1 / number of options) and ``mean_tokens``. Modalities, tasks and formats
        stand in canonical order, other values in alphabetical order, missing ones last. A single ``by`` column gets a
        final row "all" over all questions; several columns or None get none.

    Raises:
        DataError: if columns or verdicts are missing, or options are not lists.
    """
    keys = [] if by is None else [by] if isinstance(by, str) else list(by)
    check_predictions(preds, [*keys, *([cluster] if cluster else []), *_VERDICT, "well_formed", "options", "n_tokens"])
    if cluster is None:
        _warn_repeated(preds, keys)
    rows = preds.assign(
        n_options=_n_options(preds),
        lenient=_same(preds["lenient_predicted"], preds["answer"]),
        n_tokens=pd.to_numeric(preds["n_tokens"]),
    )
    if not keys:
        return pd.DataFrame([_score_row(rows, cluster)], columns=list(_SCORES))
    scores = [
        dict(zip(keys, values)) | _score_row(group, cluster)
        for values, group in rows.groupby(keys, dropna=False, sort=False, observed=True)
    ]
    table = _canonical(pd.DataFrame(scores, columns=[*keys, *_SCORES]), keys)
    if len(keys) == 1:
        total = pd.DataFrame([{keys[0]: "all"} | _score_row(rows, cluster)])
        table = pd.concat([table.astype({keys[0]: object}), total], ignore_index=True)
    return table


def _score_row(rows: pd.DataFrame, cluster: str | None) -> dict[str, float]:
    n, right = len(rows), rows["correct"].astype(float)
    low, high = wilson(right.sum(), n) if cluster is None else cluster_interval(right, rows[cluster])
    shares = (right.mean(), low, high, rows["lenient"].mean(), rows["well_formed"].astype(float).mean())
    return dict(zip(_SCORES, (n, *shares, (1 / rows["n_options"]).mean(), rows["n_tokens"].mean())))


def _warn_repeated(preds: pd.DataFrame, keys: list[str]) -> None:
    """Averaging over models is seldom meant, and counting a question twice makes the interval too narrow."""
    if "id" not in preds or not (repeated := preds.duplicated([*keys, "id"], keep=False)).any():
        return
    who = ("model", "train_modality", "train_task", "method", "format", "seed")
    varying = [c for c in who if c in preds and c not in keys and preds[c].nunique(dropna=False) > 1]
    warnings.warn(
        f"{int(repeated.sum())} rows answer a question that another row of the same group answers, too, so the "
        f"intervals are too narrow; add {' or '.join(varying) or 'the column that tells them apart'} to by=, select "
        "rows, or pass cluster='id'",
        stacklevel=3,
    )


def _n_options(preds: pd.DataFrame) -> np.ndarray:
    for row, options in enumerate(preds["options"]):
        if isinstance(options, str) or not hasattr(options, "__len__") or not len(options):
            raise DataError(f"predictions row {row}: options are {options!r:.60}; expected a list of option texts")
    return preds["options"].map(len).to_numpy()


def _same(one: pd.Series, other: pd.Series) -> np.ndarray:
    """Equal and both there: a missing letter equals nothing."""
    return np.array([a == b if isinstance(a, str) else False for a, b in zip(one, other)], dtype=bool)


def _canonical(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Sort rows by columns, each in its canonical order: known names first, then others, missing values last."""

    def rank(column: pd.Series) -> pd.Series:
        known = {name: place for place, name in enumerate(_ORDER.get(column.name, ()))}
        others = sorted(set(column.dropna()) - set(known), key=lambda v: (not isinstance(v, (int, float)), v, str(v)))
        known |= {name: len(known) + place for place, name in enumerate(others)}
        return column.map(known).fillna(len(known)).astype(int)

    return table.sort_values(list(columns), key=rank, kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Comparison:
    """What changed between two sets of answers to the same questions; all shares in 0..1 or -1..1.

    Attributes:
        n: questions that both answered.
        accuracy_before, accuracy_after: mean of ``correct``.
        fixed, broken: questions wrong before and right after, and the reverse.
        difference, low, high: accuracy after minus before, with its 95 % interval.
        p: exact McNemar p-value.
        repaired_format: the part of ``difference`` from questions whose (leniently read) letter did not change.
        changed_answer: the rest; ``repaired_format + changed_answer == difference``.
    """

    n: int
    accuracy_before: float
    accuracy_after: float
    fixed: int
    broken: int
    difference: float
    low: float
    high: float
    p: float
    repaired_format: float
    changed_answer: float

    @property
    def frame(self) -> pd.DataFrame:
        """The same numbers as a frame with one row."""
        return pd.DataFrame([asdict(self)])


def compare(before: pd.DataFrame, after: pd.DataFrame) -> Comparison:
    """Compare two sets of predictions question by question.

    A model that learns to write its tags gains accuracy without learning medicine. So the gain is split: a question
    whose letter, leniently read, is the same before and after can only have changed its verdict by its format.

    Args:
        before: predictions of one model in one format, or in several formats.
        after: predictions on the same questions. Rows are paired on ``id``, and on ``format``, too, when both frames
            hold several formats.

    Returns:
        A :class:`Comparison`; ``.frame`` has it as a frame. Questions that only one side answered are left out, with a
        warning that counts them.

    Raises:
        DataError: if no question is in both, one side answers a question twice, or the gold answers disagree.
    """
    pairs = _pair(before, after)
    unmatched = [len(before) - len(pairs), len(after) - len(pairs)]
    if any(unmatched):
        warnings.warn(
            f"compared {len(pairs)} questions; left out {unmatched[0]} that only `before` and {unmatched[1]} that only "
            "`after` answers",
            stacklevel=2,
        )
    return _compare_pairs(pairs)


def _pair(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row a question that both answered; columns with the suffixes _before and _after."""
    several = all("format" in frame and frame["format"].nunique() > 1 for frame in (before, after))
    keys = ["id", "format"] if several else ["id"]
    for name, frame in (("before", before), ("after", after)):
        check_predictions(frame, [*keys, *_VERDICT])
        repeated = frame.duplicated(keys)
        if repeated.any():
            raise DataError(
                f"`{name}` answers the question {frame.loc[repeated, 'id'].iloc[0]!r} more than once; select one "
                "model, format and seed"
            )
    pairs = before[[*keys, *_VERDICT]].merge(after[[*keys, *_VERDICT]], on=keys, suffixes=("_before", "_after"))
    if pairs.empty:
        raise DataError(
            f"no question is in both frames: `before` has ids such as {before['id'].iloc[0]!r}, `after` such as "
            f"{after['id'].iloc[0]!r}; predict on the same data"
        )
    other = ~_same(pairs["answer_before"], pairs["answer_after"])
    if other.any():
        raise DataError(
            f"the gold answer of {pairs.loc[other, 'id'].iloc[0]!r} differs between the two frames ({int(other.sum())} "
            "such questions); the ids name different questions"
        )
    return pairs


def _compare_pairs(pairs: pd.DataFrame) -> Comparison:
    before, after = (pairs[f"correct_{when}"].astype(int).to_numpy() for when in ("before", "after"))
    change = after - before
    same_letter = _same(pairs["lenient_predicted_before"], pairs["lenient_predicted_after"])
    fixed, broken = int((change > 0).sum()), int((change < 0).sum())
    return Comparison(
        len(pairs),
        float(before.mean()),
        float(after.mean()),
        fixed,
        broken,
        *paired_difference(before, after),
        mcnemar(fixed, broken),
        repaired_format=float(change[same_letter].sum() / len(pairs)),
        changed_answer=float(change[~same_letter].sum() / len(pairs)),
    )


def transfer_table(preds: pd.DataFrame, by: str = "modality") -> pd.DataFrame:
    """Return what training on one modality (or task) does to each other one: Med-R1's matrices, with their doubt.

    Each trained row is compared with the untrained base on the same questions. The base is the rows whose ``method``
    is "base", in the same ``format``; of several base models the one whose ``model`` has the same name, of several
    seeds the same ``seed``. Cells without such a base keep their accuracy; their difference is nan, with a warning.

    Args:
        preds: predictions of trained models and of the base. Rows with neither ``train_modality`` nor ``train_task``
            count as trained on "all"; models trained by the other of the two (a task, when ``by="modality"``) are not
            part of this table.
        by: "modality" or "task".

    Returns:
        One row per ``train_<by>``, ``method``, ``format``, ``model``, ``seed`` and test ``<by>``, in canonical order:
        ``n``, ``accuracy``, ``low``, ``high`` (Wilson), ``n_paired`` (questions the base answered, too),
        ``base_accuracy`` (on these), ``difference``, ``difference_low``, ``difference_high``, ``p`` (exact McNemar)
        and ``p_corrected`` (Holm over the whole table; nan cells do not count).

    Raises:
        DataError: if ``by`` is neither, columns are missing, no trained model is there, or one of them answers a
            question twice.
    """
    if by not in ("modality", "task"):
        raise DataError(f"transfer_table(by={by!r}): a model is trained by 'modality' or by 'task'")
    train, other = (f"train_{by}", "train_task" if by == "modality" else "train_modality")
    keys = [train, "method", "format", "model", "seed", by]
    check_predictions(preds, ["id", *keys, other, *_VERDICT])
    base = preds[preds["method"] == "base"]
    trained = preds[(preds["method"] != "base") & (preds[train].notna() | preds[other].isna())]
    if trained.empty:
        raise DataError(f"no trained model in the predictions: no row has a {train} and a method other than 'base'")
    trained = trained.assign(**{train: trained[train].astype(object).where(trained[train].notna(), "all")})
    cells = trained.groupby(keys, dropna=False, sort=False, observed=True)
    table = pd.DataFrame([dict(zip(keys, values)) | _cell(cell, base, train) for values, cell in cells])
    if (unpaired := table["n"] - table["n_paired"]).any():
        empty = int((table["n_paired"] == 0).sum())
        warnings.warn(
            f"{int(unpaired.sum())} of {int(table['n'].sum())} predictions have no base to compare with (method "
            f"'base', same format and question); {empty} of {len(table)} cells have no difference",
            stacklevel=2,
        )
    table["p_corrected"] = holm(table["p"])
    return _canonical(table, keys)


def _cell(cell: pd.DataFrame, base: pd.DataFrame, train: str) -> dict[str, float]:
    """Accuracy of one trained model on one test set, and its paired difference to the base."""
    if (repeated := cell["id"].duplicated()).any():
        raise DataError(
            f"the model trained on {cell[train].iloc[0]!r} answers {cell.loc[repeated, 'id'].iloc[0]!r} more than once "
            "with equal method, format, model and seed; label the runs apart or select one"
        )
    n, right = len(cell), int(cell["correct"].astype(int).sum())
    low, high = wilson(right, n)
    row = {"n": n, "accuracy": right / n, "low": low, "high": high, "n_paired": 0}
    row |= dict.fromkeys(("base_accuracy", "difference", "difference_low", "difference_high", "p"), NAN)
    untrained = _base_of(cell, base[base["id"].isin(cell["id"])])
    if untrained.empty:
        return row
    result = _compare_pairs(_pair(untrained, cell))
    row |= {"n_paired": result.n, "base_accuracy": result.accuracy_before, "difference": result.difference}
    return row | {"difference_low": result.low, "difference_high": result.high, "p": result.p}


def _base_of(cell: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """The base predictions a cell is compared with; no rows if there are none, or several models and none by name."""
    who = cell.iloc[0]
    base = base[base["format"] == who["format"]]
    named = base[base["model"] == who["model"]]
    if len(named) or base["model"].nunique(dropna=False) > 1:
        base = named
    if base["id"].duplicated().any():
        base = base[base["seed"] == who["seed"]]
    return base
