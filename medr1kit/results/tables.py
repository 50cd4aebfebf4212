"""The tables that travel between training, evaluation and plots, and what is computed from them.

Models stay in the torch half of medr1kit. What leaves it are three pandas frames::

    metrics        a row per logged training step      what TRL logs
    rollouts       a row per sampled completion        what the policy wrote, what it was paid, its advantage
    predictions    a row per question, model, format   what a model answers when it is tested

:func:`score` takes predictions and returns accuracies, 0..1, each with n, an interval and the chance level of its
questions; :mod:`medr1kit.results.compare` compares two sets of predictions, or a whole matrix.

``correct`` is the strict verdict (the reward's own rule); ``lenient_predicted`` also reads a letter written without its
tags. The gap between the two is format, not medicine.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from medr1kit.formats import FORMATS
from medr1kit.results.stats import cluster_interval, wilson
from medr1kit.vqa import MODALITIES, TASKS, DataError

PREDICTIONS = (
    "id", "image_id", "patient_id", "source", "modality", "task", "question", "options", "answer",  # the question
    "model", "train_modality", "train_task", "method", "format", "seed", "step",  # who answered
    "text", "think", "predicted", "lenient_predicted", "correct", "well_formed", "n_tokens",  # what
)  # fmt: skip
"""Columns of predictions. ``method`` is "base" for the untrained model; ``options`` holds lists in letter order.
``well_formed`` and ``think`` are missing where a text was ended at its answer (``predict(…, stop_at_answer=True)``)."""

ROLLOUTS = (
    "step", "id", "rollout", "question", "options", "answer", "modality", "task", "text", "predicted",
    "advantage", "n_tokens", "truncated", "used",
)  # fmt: skip
"""Columns of every rollouts table; one more column a reward function, named after it, stands before ``advantage``.
``used`` is False for completions that dynamic sampling drew and did not train on (:mod:`medr1kit.training.dynamic`)."""

METRICS = (
    "step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens", "reward", "reward_std", "frac_reward_zero_std",
    "kl", "entropy", "completions/mean_length", "completions/min_length", "completions/max_length",
    "completions/clipped_ratio",
)  # fmt: skip
"""Columns of metrics under TRL's names; GRPO adds ``rewards/<function>/mean`` and ``/std``, SFT fills fewer."""

VERDICT = ("answer", "lenient_predicted", "correct")
"""Columns that say whether an answer is right."""

WHO = ("model", "train_modality", "train_task", "method", "format")
"""Columns that tell models apart; seeds are repetitions of one."""

_ORDER = {"modality": MODALITIES, "task": TASKS, "format": tuple(FORMATS)}
_ORDER |= {"train_modality": MODALITIES, "train_task": TASKS}
_SCORES = ("n", "accuracy", "low", "high", "lenient_accuracy", "well_formed", "chance", "mean_tokens")


def check_predictions(
    frame: pd.DataFrame, columns: Sequence[str] = PREDICTIONS, cluster: str | None = None
) -> pd.DataFrame:
    """Return the frame if it can be used as predictions.

    Args:
        frame: a predictions table.
        columns: the columns that must be there; those of the full schema by default.
        cluster: one more column, which must say something in every row.

    Raises:
        DataError: if it is no frame or an empty one, columns are missing, a verdict (``correct``) or a cluster name is,
            or it has published numbers in it. ``well_formed`` may be missing in rows that were ended at their answer.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"predictions are a table, not a {type(frame).__name__}; pass what predict() returned")
    if "published" in frame.columns and (frame["published"] == True).any():  # noqa: E712 - own rows may hold nan
        raise DataError(
            "these are published numbers, not predictions: they hold no answers to score or compare; leave the rows "
            "with published=True out, and show them beside your own"
        )
    if missing := [column for column in (*columns, cluster) if column is not None and column not in frame]:
        raise DataError(f"predictions without the column(s) {', '.join(missing)}; predict() writes all of them")
    if frame.empty:
        raise DataError("predictions without rows; nothing was predicted, or a filter left nothing over")
    for column in [column for column in ("correct", "well_formed") if column in columns]:
        allowed = frame[column].isin([0, 1]) | (frame[column].isna() & (column == "well_formed"))
        if not allowed.all():
            row = int((~allowed).to_numpy().argmax())
            raise DataError(f"predictions row {row}: {column} is {frame[column].iloc[row]!r}; it must be True or False")
    if cluster is not None and (missing := frame[cluster].isna().to_numpy()).any():
        raise DataError(
            f"predictions row {int(missing.argmax())} has no {cluster} ({int(missing.sum())} such rows); cluster= "
            "needs it in every row"
        )
    return frame


def score(preds: pd.DataFrame, by: str | Sequence[str] | None = "modality", cluster: str | None = None) -> pd.DataFrame:
    """Return accuracy with its interval, and what is needed to judge it.

    Args:
        preds: predictions; rows of several models or formats are only kept apart if ``by`` names the column.
        by: the column(s) that make a row: "modality", "task", ["method", "format", "modality"], …; None for one row.
        cluster: a column whose equal values do not count as independent, such as "image_id", "source", "question"
            (the stem) or, when several seeds answered each question, "id"; None for independent questions.

    Returns:
        A frame with the ``by`` columns, then ``n`` (rows), ``accuracy`` (mean of ``correct``), ``low`` and ``high``
        (95 %: Wilson, or cluster-robust with ``cluster``), ``lenient_accuracy`` (the letter alone is right),
        ``well_formed`` (nan where it is not known of every row), ``chance`` (mean of 1 / number of options) and
        ``mean_tokens``. Modalities, tasks and formats stand in canonical order, other values in alphabetical order,
        missing ones last. A single ``by`` column gets a final row "all" over all questions; several columns or None
        get none.

    Raises:
        DataError: if columns, verdicts or cluster names are missing, or options are not lists.
    """
    keys = [] if by is None else [by] if isinstance(by, str) else list(by)
    check_predictions(preds, [*keys, *VERDICT, "well_formed", "options", "n_tokens"], cluster)
    if cluster is None:
        _warn_repeated(preds, keys)
    rows = preds.assign(
        n_options=_n_options(preds),
        lenient=same_letter(preds["lenient_predicted"], preds["answer"]),
        n_tokens=pd.to_numeric(preds["n_tokens"]),
    )
    scores = [names | _score_row(group, cluster) for names, group in groups_by(rows, keys)]
    table = in_canonical_order(pd.DataFrame(scores, columns=[*keys, *_SCORES]), keys)
    if len(keys) == 1:
        total = pd.DataFrame([{keys[0]: "all"} | _score_row(rows, cluster)])
        table = pd.concat([table.astype({keys[0]: object}), total], ignore_index=True)
    return table


def _score_row(rows: pd.DataFrame, cluster: str | None) -> dict[str, float]:
    n, right = len(rows), rows["correct"].astype(float)
    low, high = wilson(right.sum(), n) if cluster is None else cluster_interval(right, rows[cluster])
    shares = (right.mean(), low, high, rows["lenient"].mean(), rows["well_formed"].astype(float).mean(skipna=False))
    return dict(zip(_SCORES, (n, *shares, (1 / rows["n_options"]).mean(), rows["n_tokens"].mean())))


def _warn_repeated(preds: pd.DataFrame, keys: list[str]) -> None:
    """Averaging over models is seldom meant, and counting a question twice makes the interval too narrow."""
    if "id" not in preds or not (repeated := preds.duplicated([*keys, "id"], keep=False)).any():
        return
    varying = [c for c in (*WHO, "seed") if c in preds and c not in keys and preds[c].nunique(dropna=False) > 1]
    warnings.warn(
        f"{int(repeated.sum())} rows answer a question that another row of the same group answers, too, so the "
        f"intervals are too narrow; add {' or '.join(varying) or 'the column that tells them apart'} to by=, select "
        "rows, or pass cluster='id'",
        stacklevel=3,
    )


def who_varies(rows: pd.DataFrame) -> list[str]:
    """Return the columns that tell several models of a frame apart; ``format`` always."""
    return [c for c in WHO if c == "format" or (c in rows and rows[c].nunique(dropna=False) > 1)]


def _n_options(preds: pd.DataFrame) -> np.ndarray:
    for row, options in enumerate(preds["options"]):
        if isinstance(options, str) or not hasattr(options, "__len__") or not len(options):
            raise DataError(f"predictions row {row}: options are {options!r:.60}; expected a list of option texts")
    return preds["options"].map(len).to_numpy()


def same_letter(one: pd.Series, other: pd.Series) -> np.ndarray:
    """Return where two columns of letters are equal; a missing letter equals nothing."""
    return np.array([a == b if isinstance(a, str) else False for a, b in zip(one, other)], dtype=bool)


def groups_by(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """Yield the names that make a group, and its rows; as :func:`rows_by` does."""
    for names, places in rows_by(frame, columns):
        yield dict(zip(columns, names)), frame.iloc[places]


def rows_by(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[tuple, np.ndarray]]:
    """Return the names that make a group, and the places of its rows, in the order in which groups appear.

    A missing name is one, too. Without columns all rows are one group.
    """
    if not columns:
        return [((), np.arange(len(frame)))]
    groups = frame.groupby(list(columns), dropna=False, sort=False, observed=True)
    names, group = groups.size().index.to_frame(), groups.ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return list(zip(names.itertuples(index=False, name=None), parts))


def in_canonical_order(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows sorted by columns, each in its canonical order: known names, then others, missing values last."""

    def rank(column: pd.Series) -> pd.Categorical:
        known = _ORDER.get(column.name, ())
        others = sorted(set(column.dropna()) - set(known), key=lambda v: (not isinstance(v, (int, float)), v, str(v)))
        return pd.Categorical(column, [*known, *others], ordered=True)

    return table.sort_values(list(columns), key=rank, kind="stable", ignore_index=True) if columns else table
