"""What a study is for: differences that its file states before the first cell runs, tested as one family.

Whoever looks at a hundred differences finds some. So those that a study is about are written down in its file, with
names, and corrected together::

    comparisons:
      reinforcement gains at home:
        of: {part: machine, method: grpo, format: no-think}
        against: {method: base, format: no-think}
        asked: B
        where: home
        without: [Modality Recognition]

    of, against     who answers: columns of the predictions and their values; a part is not asked of the base
    asked           the set of questions, of both sides; thought: what the model was made to think, of both sides
    where           home: what a model was trained on; away: the rest; both where it is left out
    without         tasks that are left out
    measure         correct (the default), lenient, tokens, truth (share of true statements in its rationale),
                    any (of the sampled answers to a question one is right), mean (share of them that is)
    less            what is subtracted on each side first: {asked: B shuffled} makes it a difference of
                    (right minus shuffled)

Pairs are the same question, of the same training where both sides are trained. A difference is a mean over all pairs,
with an error that lets questions and trainings vary (:func:`~medr1kit.results.changes.mean_change`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from medr1kit.formats import format_named
from medr1kit.given import choice
from medr1kit.results.changes import mean_change
from medr1kit.results.multiplicity import holm, together
from medr1kit.results.rationales import true_share
from medr1kit.vqa import DataError, task_name

_KEYS = ("of", "against", "asked", "thought", "where", "without", "measure", "less")
_SIDE = ("part", "method", "format", "asked", "thought", "train_modality", "train_task")
_RUN = ["train_modality", "train_task", "seed"]
_MEASURES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "correct": lambda rows: rows["correct"],
    "lenient": lambda rows: rows["lenient_predicted"] == rows["answer"],
    "tokens": lambda rows: rows["n_tokens"],
    "truth": true_share,
    "any": lambda rows: rows["correct"],
    "mean": lambda rows: rows["correct"],
}
_OF_SAMPLES = {"any": "max", "mean": "mean"}
POWER = 0.8


def check_comparisons(stated: Any, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse comparisons that cannot be meant.

    Args:
        stated: what the file says.
        parts: the study's, by name.

    Raises:
        DataError: naming the comparison, and what is allowed.
    """
    if not isinstance(stated, Mapping):
        raise DataError("comparisons: expected the name of a comparison, then what is compared")
    sets = {name for part in parts.values() if "name" not in part["test"] for name in part["test"]}
    for name, one in stated.items():
        key = f"comparisons: {name}"
        if not isinstance(one, Mapping) or not {"of", "against"} <= one.keys() <= set(_KEYS):
            raise DataError(f"{key}: expected of and against, and beside them nothing but {', '.join(_KEYS[2:])}")
        for side in ("of", "against", "less"):
            given = one.get(side, {})
            if not isinstance(given, Mapping) or set(given) - set(_SIDE):
                raise DataError(f"{key}: {side}: expected 'key: value' pairs with keys among {', '.join(_SIDE)}")
            if "format" in given:
                format_named(given["format"])
            for word, allowed in (("part", parts), ("asked", sets)):
                if word in given:
                    choice(given[word], f"{key}: {side}: {word}", allowed)
        if "asked" in one:
            choice(one["asked"], f"{key}: asked", sets)
        choice(one.get("where", "home"), f"{key}: where", ("home", "away"))
        choice(one.get("measure", "correct"), f"{key}: measure", tuple(_MEASURES))
        for task in one.get("without", []):
            task_name(task)


def compare_stated(stated: Mapping[str, Mapping[str, Any]], answers: pd.DataFrame) -> pd.DataFrame:
    """Return the stated comparisons, corrected as one family.

    Args:
        stated: the comparisons of a study's file.
        answers: predictions of its cells, with the columns ``part``, ``asked``, ``sample`` and ``thought``.

    Returns:
        A row a comparison: ``comparison``, ``measure``, ``n`` (pairs), ``questions``, ``trainings``, ``of``,
        ``against`` (means), ``difference`` with ``low``, ``high`` (95 %, of this one alone), ``low_all``, ``high_all``
        (all intervals of the family hold at once), ``p`` and ``p_corrected`` (Holm); ``smallest``: the true difference
        that would have been found with power 0.8 at the family's level, by the error that there was. Where a side has
        no answers yet, n is 0.
    """
    rows, found = [], []
    for name, one in stated.items():
        pairs = _pairs(answers, one)
        trained = pairs[_RUN].astype(str).agg(" ".join, axis=1) if len(pairs) else pairs["id"]
        change = mean_change(pairs["of"] - pairs["against"], pairs["id"], trained)
        found.append(change)
        rows.append({"comparison": name, "measure": one.get("measure", "correct"), "n": len(pairs)})
        rows[-1] |= {"questions": pairs["id"].nunique(), "trainings": trained.nunique() if len(pairs) else 0}
        rows[-1] |= {"of": pairs["of"].mean(), "against": pairs["against"].mean(), "difference": change.mean}
        rows[-1] |= dict(zip(("low", "high"), change.interval()))
    level = together(len(found))
    for row, change in zip(rows, found):
        row |= dict(zip(("low_all", "high_all"), change.interval(level)))
        row["smallest"] = float(ndtri((1 + level) / 2) + ndtri(POWER)) * change.error
    p = [change.p for change in found]
    return pd.DataFrame(rows).assign(p=p, p_corrected=holm(p)) if rows else pd.DataFrame()


def _pairs(answers: pd.DataFrame, one: Mapping[str, Any]) -> pd.DataFrame:
    """A row a pair: id, the training, and the values of both sides."""
    measure = one.get("measure", "correct")
    common = {key: one[key] for key in ("asked", "thought") if key in one}
    sides = {}
    for side in ("of", "against"):
        chosen = common | dict(one[side])
        values = _values(answers, chosen, measure)
        if "less" in one:
            keys = _keys(values)
            less = _values(answers, chosen | dict(one["less"]), measure)
            values = values.merge(less[[*keys, "value"]], on=keys, suffixes=("", "_less"))
            values["value"] -= values.pop("value_less")
        sides[side] = values
    of, against = sides["of"], sides["against"]
    keys = ["id"] if _untrained(of) or _untrained(against) else ["id", *_RUN]
    pairs = of.merge(against, on=keys, suffixes=("", "_against")).rename(
        columns={"value": "of", "value_against": "against"}
    )
    if _untrained(of) and not _untrained(against):
        pairs[_RUN] = pairs[[f"{name}_against" for name in _RUN]]
    if "where" in one:
        pairs = pairs[at_home(pairs) == (one["where"] == "home")]
    pairs = pairs[~pairs["task"].isin([task_name(task) for task in one.get("without", [])])]
    return pairs.dropna(subset=["of", "against"])[["id", *_RUN, "of", "against"]]


def at_home(rows: pd.DataFrame) -> pd.Series:
    """Return whether each question is of what its model was trained on; one trained on all is at home everywhere."""
    own = (rows["modality"] == rows["train_modality"]) | (rows["task"] == rows["train_task"])
    return own | rows["train_modality"].eq("all") | rows["train_task"].eq("all")


def _untrained(values: pd.DataFrame) -> bool:
    return bool((values["method"] == "base").all())


def _keys(values: pd.DataFrame) -> list[str]:
    return ["id"] if _untrained(values) else ["id", *_RUN]


def _values(answers: pd.DataFrame, chosen: Mapping[str, Any], measure: str) -> pd.DataFrame:
    """The measure of the chosen answers, a row a question and training."""
    wanted = answers["sample"].notna() if measure in _OF_SAMPLES else answers["sample"].isna()
    if "thought" not in chosen:
        wanted &= answers["thought"].isna()
    for column, value in chosen.items():
        same = answers[column] == (format_named(value).name if column == "format" else value)
        wanted &= same | (answers["method"] == "base") if column == "part" else same
    rows = answers[wanted]
    rows = rows.assign(value=np.asarray(_MEASURES[measure](rows), dtype=float) if len(rows) else 0.0)
    rows[_RUN] = rows[_RUN].astype(object).where(rows[_RUN].notna(), "")
    keys = ["id", "method", "modality", "task", *_RUN]
    if measure in _OF_SAMPLES:
        return rows.groupby(keys, as_index=False, sort=False)["value"].agg(_OF_SAMPLES[measure])
    return rows.drop_duplicates(keys)[[*keys, "value"]]
