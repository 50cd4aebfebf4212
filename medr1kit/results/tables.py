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

import difflib
import os
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from medr1kit.formats import FORMATS
from medr1kit.given import kind
from medr1kit.results.clusters import clustering, counted
from medr1kit.results.columns import read_column
from medr1kit.results.stats import NAN, share
from medr1kit.vqa import LETTERS, MODALITIES, TASKS, DataError

PREDICTIONS = (
    "id", "image_id", "patient_id", "source", "modality", "task", "question", "options", "answer",  # the question
    "model", "train_modality", "train_task", "method", "format", "seed", "step",  # who answered
    "text", "think", "predicted", "lenient_predicted", "correct", "well_formed", "n_tokens",  # what
)  # fmt: skip
"""Columns of predictions. ``options`` holds lists in letter order; ``patient_id`` is missing where the data names no
patients, ``step`` where the weights are not those of a checkpoint. ``method`` is one of :data:`METHODS` or a word of
one's own. ``train_modality`` and ``train_task`` say what was trained on, "all" where that was several together; missing
is unknown. ``well_formed`` and ``think`` are missing where a text was ended at its answer
(``predict(…, stop_at_answer=True)``)."""

ADDED = ("patient_id", "step")
"""Columns that tables of version 0.1 lack; they are read as tables that name no patient and no step."""

METHODS = {
    "base": "the weights as they were before any training of ours: what the others are compared with",
    "sft": "supervised training on gold answers, with their rationales where there are any",
    "sft-answer": "supervised training on gold answers alone",
    "grpo": "reinforcement by GRPO",
    "given": "weights whose training is not known",
    "interrupted": "weights of a training that did not come to its end",
    "ceiling-tower": "no answer of the model: a linear probe of what its vision tower makes of the picture",
    "ceiling-merger": "the same of what its merger makes of that",
}
"""What ``method`` says of the weights that answered. Any other word is one's own, and is left alone."""

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
"""Columns that tell models apart; seeds are repetitions of one, and steps are its checkpoints, never averaged."""

LABELS = ("model", "train_modality", "train_task", "method", "seed", "step")
"""What can be said of the weights that answer."""

ANSWERER = (*WHO, "seed", "step", "sample")
"""Columns that tell apart whoever can answer a question once; ``sample`` is there where answers were drawn."""

_ORDER = {"modality": MODALITIES, "task": TASKS, "format": tuple(FORMATS)}
_ORDER |= {"train_modality": MODALITIES, "train_task": TASKS}
SCORES = ("n", "accuracy", "low", "high", "lenient_accuracy", "well_formed", "chance", "mean_tokens", "cluster")
"""Columns of :func:`score` beside those it was asked for."""


def check_predictions(
    frame: pd.DataFrame,
    columns: Sequence[str] = PREDICTIONS,
    cluster: str | bool | None = None,
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """Return predictions as every function of ours uses them: the very frame where it is so already, else another one.

    Rows are numbered from 0, options are lists, verdicts True or False, letters and patients texts or missing, ids
    texts; each column by :func:`medr1kit.results.columns.read_column`. Columns that version 0.1 did not write
    are added, and missing in every row.

    Args:
        frame: a predictions table, as ``predict()`` returned it, or read back from a file of any kind.
        columns: the columns that must be there; those of the full schema by default.
        cluster: one more column, which must say something in every row; None and False name none.
        by: more columns, which the caller was asked for.

    Raises:
        DataError: if it is no frame or an empty one, columns are missing, a row says what cannot be, such as a gold
            letter that is no option's, or there are published numbers in it. ``well_formed`` may be missing in rows
            that were ended at their answer.
    """
    _check_table(frame)
    if cluster is True or not isinstance(cluster, (str, bool, type(None))):
        raise DataError(f"cluster is {kind(cluster)}; give the name of one column, None (by patient) or False (rows)")
    added = [column for column in ADDED if column in (*columns, cluster, *by) and column not in frame]
    if added:
        frame = frame.assign(**dict.fromkeys(added))
        known = [name for name in PREDICTIONS if name in frame]
        frame = frame[[*known, *(name for name in frame if name not in known)]]
    if missing := [column for column in columns if column not in frame]:
        raise DataError(f"predictions without the column(s) {', '.join(missing)}; predict() writes all of them")
    for argument, names in (("by", by), ("cluster", [cluster] if cluster not in (None, False) else [])):
        for name in names:
            if not isinstance(name, str) or name not in frame:
                near = difflib.get_close_matches(str(name), map(str, frame), n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else f" (there are {', '.join(map(str, frame))})"
                raise DataError(f"{argument}={name!r}: the predictions have no such column{hint}")
            if name == "options":
                raise DataError(f"{argument}='options': a list makes no group; give 'question', or a column of texts")
    if frame.empty:
        raise DataError("predictions without rows; nothing was predicted, or a filter left nothing over")
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        frame = frame.reset_index(drop=True)
    columns = {name: frame[name] for name in PREDICTIONS if name in frame}
    read = {name: read_column(values, tuple(METHODS)) for name, values in columns.items()}
    if changed := {name: values for name, values in read.items() if values is not columns[name]}:
        frame = frame.assign(**changed)
    _check_letters(frame)
    if isinstance(cluster, str) and (missing := frame[cluster].isna().to_numpy()).any():
        raise DataError(
            f"predictions row {int(missing.argmax())} has no {cluster} ({int(missing.sum())} such rows); cluster= "
            "needs it in every row"
        )
    return frame


def columns_given(by: object, taken: Sequence[str] = ()) -> list[str]:
    """Return the columns that make a group: of one name, a list or tuple of them, or None for none.

    Args:
        by: what was given.
        taken: the names of the result's own columns.

    Raises:
        DataError: if it is something else, or names a column twice or one that is taken.
    """
    names = [] if by is None else [by] if isinstance(by, str) else by
    if not isinstance(names, (list, tuple)):  # a set has no order, a Series holds values
        raise DataError(f"by is {kind(by)}; give the name of a column, a list of names, or None")
    for place, name in enumerate(names):
        if name in taken or name in names[:place]:
            why = "as a column of the result is called; rename it" if name in taken else "twice; name it once"
            raise DataError(f"by= names {name!r}, {why}")
    return list(names)


def _check_table(frame: object) -> None:
    """Refuse what is no table of answers, by what it is."""
    if not isinstance(frame, pd.DataFrame):
        remedy = "pass what predict() returned"
        if isinstance(frame, (str, os.PathLike)):
            remedy = f"read it first: pandas.read_parquet({os.fspath(frame)!r})"
        elif hasattr(frame, "predictions"):
            remedy = "pass its table: run.predictions"
        what = "a path" if isinstance(frame, (str, os.PathLike)) else kind(frame)
        raise DataError(f"predictions are a table, not {what}; {remedy}")
    if "published" in frame.columns and (frame["published"] == True).any():  # noqa: E712 - own rows may hold nan
        raise DataError(
            "these are published numbers, not predictions: they hold no answers to score or compare; leave the rows "
            "with published=True out, and show them beside your own"
        )
    if "correct" not in frame and {"n", "accuracy"} <= set(frame):
        raise DataError("these are scores, not predictions; pass the predictions themselves, which predict() returned")
    if twice := [name for name in PREDICTIONS if list(frame.columns).count(name) > 1]:
        raise DataError(f"predictions have the column {twice[0]!r} twice; keep one")


def _check_letters(frame: pd.DataFrame) -> None:
    """Refuse letters that name none of the options."""
    if "options" not in frame:
        return
    lengths = np.fromiter(map(len, frame["options"]), int, len(frame))
    for column in ("answer", "predicted", "lenient_predicted"):
        if column not in frame:
            continue
        number, letters = pd.factorize(frame[column])
        places = np.append([LETTERS.index(letter) for letter in letters], -1)  # a missing letter is beyond nothing
        if (beyond := places[number] >= lengths).any():
            row, what = int(beyond.argmax()), "the gold answer" if column == "answer" else column
            found = (
                f"predictions row {row}: {what} is {frame[column].iloc[row]!r}, but there are {lengths[row]} options"
            )
            raise DataError(f"{found}; were options joined to the wrong rows? import_predictions(…, data=) joins by id")


def score(
    preds: pd.DataFrame, by: str | Sequence[str] | None = "modality", cluster: str | bool | None = None
) -> pd.DataFrame:
    """Return accuracy with its interval, and what is needed to judge it.

    Args:
        preds: predictions; rows of several models or formats are only kept apart if ``by`` names the column.
        by: the column(s) that make a row: "modality", "task", ["method", "format", "modality"], …; None for one row.
        cluster: what does not count as independent (:mod:`medr1kit.results.clusters`). None: the patient where the data
            names patients, else the question, which seeds and formats answer again. A column, such as "image_id",
            "source", "question" (the stem): what is equal there. False: every row counts.

    Returns:
        A frame with the ``by`` columns, then ``n`` (rows), ``accuracy`` (mean of ``correct``), ``low`` and ``high``
        (95 %: Wilson where no two rows belong together, else cluster-robust; nan where all do), ``lenient_accuracy``
        (the letter alone is right), ``well_formed`` (nan where it is not known of every row), ``chance`` (mean of 1 /
        number of options), ``mean_tokens`` and ``cluster`` (what the interval counts: "patient_id", "id", "row", or the
        column that was given). Modalities, tasks and formats stand in canonical order, other values in alphabetical
        order, missing ones last. A single ``by`` column gets a final row "all" over all questions; several columns or
        None get none, and "step" neither: checkpoints of one training are not averaged.

    Raises:
        DataError: if columns, verdicts or cluster names are missing, a row cannot be (:func:`check_predictions`), or
            one number would be of several checkpoints of one training.
    """
    keys = columns_given(by, SCORES)
    preds = check_predictions(preds, [*VERDICT, "well_formed", "options", "n_tokens"], cluster, keys)
    one_checkpoint(preds, keys, "add 'step' to by=, or select one: preds[preds['step'] == …]")
    if cluster is None:
        _warn_averaged(preds, keys)
    unit, by_patient = clustering([preds], cluster)
    said = {name: preds[name].astype(float).to_numpy() for name in ("correct", "well_formed", "n_tokens")}
    said |= {"lenient": same_letter(preds["lenient_predicted"], preds["answer"])}
    said |= {"chance": 1 / preds["options"].map(len).to_numpy()}
    totalled = len(keys) == 1 and keys != ["step"]
    places = [*rows_by(preds, keys), *([(("all",), np.arange(len(preds)))] if totalled else [])]
    found = []
    for names, some in places:  # only numbers are taken out of the table: texts would be copied group by group
        numbers = _score_row(unit[some], **{name: column[some] for name, column in said.items()})
        found.append((*names, *numbers, counted(unit[some], by_patient[some], cluster)))
    table = pd.DataFrame(found, columns=[*keys, *SCORES])
    total = table.iloc[len(table) - totalled :]
    table = in_canonical_order(table.iloc[: len(table) - len(total)], keys)
    return pd.concat([table, total], ignore_index=True) if len(total) else table


def _score_row(
    unit: np.ndarray,
    correct: np.ndarray,
    lenient: np.ndarray,
    well_formed: np.ndarray,
    chance: np.ndarray,
    n_tokens: np.ndarray,
) -> tuple[float, ...]:
    counts = n_tokens[~np.isnan(n_tokens)]
    shares = (*share(correct, unit), lenient.mean(), well_formed.mean())
    return len(unit), *shares, chance.mean(), counts.mean() if len(counts) else NAN


def _warn_averaged(preds: pd.DataFrame, keys: list[str]) -> None:
    """The mean over several models is seldom meant, and an answer that stands twice never is."""
    if "id" not in preds or not (repeated := preds.duplicated([*keys, "id"], keep=False)).any():
        return
    varying = [c for c in ANSWERER if c in preds and c not in keys and preds[c].nunique(dropna=False) > 1]
    if set(varying) - {"format", "seed", "sample"}:
        said = f"so that several models are averaged; add {' or '.join(varying)} to by=, or select rows"
    elif not varying:
        said = "and nothing tells the answers apart; is a table in it twice?"
    else:
        return
    warnings.warn(
        f"{int(repeated.sum())} rows answer a question that another row of the same group answers, too, {said}",
        stacklevel=3,
    )


def one_checkpoint(preds: pd.DataFrame, keys: Sequence[str], remedy: str) -> None:
    """Refuse rows of several checkpoints of one training, which stand as one model where ``keys`` do not part them.

    Args:
        preds: checked predictions.
        keys: the columns that part them.
        remedy: what to do, in an imperative.

    Raises:
        DataError: naming the steps.
    """
    if "step" not in preds or "step" in keys or preds["step"].nunique(dropna=False) < 2:
        return
    model = [name for name in dict.fromkeys((*keys, *WHO)) if name in preds]
    for _, rows in rows_by(preds[model], model):
        steps = preds["step"].iloc[rows].unique()
        if len(steps) > 1:
            named = ", ".join("none" if pd.isna(step) else f"{step:.0f}" for step in steps[:5])
            more = ", …" if len(steps) > 5 else ""
            raise DataError(
                f"answers of {len(steps)} checkpoints of one model (step {named}{more}) are not averaged; {remedy}"
            )


def who_varies(rows: pd.DataFrame) -> list[str]:
    """Return the columns that tell several models of a frame apart, their checkpoints too; ``format`` always."""
    return [c for c in (*WHO, "step") if c == "format" or (c in rows and rows[c].nunique(dropna=False) > 1)]


def same_letter(one: pd.Series, other: pd.Series) -> np.ndarray:
    """Return where two columns of letters are equal; a missing letter equals nothing."""
    pairs = zip(one.to_numpy(object), other.to_numpy(object))  # a column of pyarrow's makes its texts one by one
    return np.array([a == b if isinstance(a, str) else False for a, b in pairs], dtype=bool)


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
