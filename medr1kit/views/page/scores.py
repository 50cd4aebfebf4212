"""Tables of scores: every model in every format, over all questions, by modality, by task, and against its base."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medr1kit.results.compare import compare_all
from medr1kit.results.numbers import interval, percent, points
from medr1kit.results.tables import WHO, score
from medr1kit.views.html import escape, table
from medr1kit.views.page.page import section, select

_LEGEND = (
    "All answers count. Intervals are of 95 %, over questions; seeds of one training are one row. Chance is what "
    "guessing scores. A heading sorts, and sorts the other way round."
)
_SCORE_COLUMNS = ("accuracy", "95 %", "well-formed", "chance", "tokens", "answers", "seeds")
_GAIN_LEGEND = (
    "Each model against the untrained base, on the questions that both answered: points gained, by form where the "
    "letter stayed (leniently read), by answers where it changed. An interval is for its own row, uncorrected."
)
_GAIN_COLUMNS = (
    *("method", "format", "trained on", "tested on", "gain, points", "95 %", "by form", "by answers"),
    *("fixed", "broken", "questions", "seeds"),
)


def scores_section(preds: pd.DataFrame) -> str:
    """Return the section of scores: over all questions, by modality, by task, and as gains over the base."""
    tables = {"all questions": _table(preds, None)}
    tables |= {f"by {by}": _table(preds, by) for by in ("modality", "task") if preds[by].nunique() > 1}
    if gains := gains_table(preds):
        tables["gains over the untrained base"] = gains
    shown = "".join(
        f'<div data-table="{name}"{" hidden" if number else ""}>{one}</div>'
        for number, (name, one) in enumerate(tables.items())
    )
    search = '<label>rows with <input type="search" data-mk="filter" placeholder="grpo think-before CT"></label>'
    return section(
        "scores",
        "Scores",
        f'<p><small>{escape(_LEGEND)}</small></p><div class="controls">{select("tested", "table", tables)}{search}'
        f'<span data-mk="filtered" role="status"></span></div>{shown}',
    )


def _table(preds: pd.DataFrame, by: str | None) -> str:
    who, tested = [*(["model"] if preds["model"].nunique() > 1 else []), "method", "format"], [by] if by else []
    keys = [*who, "train_modality", "train_task", *tested]
    groups = preds.groupby(keys, dropna=False, observed=True)["seed"].nunique()
    seeds, rows = {tuple(map(str, names)): max(1, n) for names, n in groups.items()}, []
    for row in score(preds, by=keys, cluster="id").to_dict("records"):
        names = [*(row[name] for name in who), _trained_on(row), *(row[name] for name in tested)]
        limits = interval(row["low"], row["high"]) or None
        shares = percent(row["accuracy"]), limits, percent(row["well_formed"]), percent(row["chance"])
        tokens = None if pd.isna(row["mean_tokens"]) else f"{row['mean_tokens']:.1f}"
        counts = f"{row['n']:,}", seeds[tuple(str(row[key]) for key in keys)]
        rows.append([escape(cell) for cell in (*names, *shares, tokens, *counts)])
    columns = [*who, "trained on", *(["tested on"] if by else []), *_SCORE_COLUMNS]
    return table(rows, columns, f"scores-{by or 'all'}")


def _trained_on(row: dict) -> str | None:
    """What a model was trained on: a modality, a task, both, all; None for the base."""
    if row["method"] == "base":
        return None
    named = (row[name] for name in ("train_modality", "train_task"))
    return ", ".join(str(name) for name in named if not pd.isna(name) and name != "all") or "all"


def gains_table(preds: pd.DataFrame) -> str:
    """Return a table of paired gains over the base of the same model and format; empty where there is none.

    A gain is told apart twice: on what was trained and on everything else, and as form and answers
    (:func:`medr1kit.compare`), because a model that learns to write its tags gains accuracy without learning medicine.

    Args:
        preds: predictions, rows numbered from 0.
    """
    untrained, several = preds["method"].eq("base"), preds["model"].nunique() > 1
    bases = {who: rows.index for who, rows in preds[untrained].groupby(["model", "format"], observed=True)}
    named, sides = [], []
    for (model, *trained, method, format), after in preds[~untrained].groupby(
        list(WHO), dropna=False, sort=False, observed=True
    ):
        names = {by: name for by, name in zip(("modality", "task"), trained) if isinstance(name, str) and name != "all"}
        inside = np.logical_and.reduce([after[by].eq(name) for by, name in names.items()])
        places = {"the same": after[inside], "all others": after[~inside]} if names else {"all": after}
        who = [*([model] if several else []), method, format, ", ".join(names.values()) or "all"]
        for place, some in places.items():
            if len(some) and (model, format) in bases:
                named.append([*who, place])
                sides.append((bases[model, format], some.index))
    rows, refused = [], []
    for names, change in zip(named, compare_all(preds, sides).itertuples() if sides else ()):
        if change.fault:
            refused.append(
                f'<p class="mk-warn">{escape(" ".join(names[:-1]))}, {names[-1]}: {escape(change.fault)}</p>'
            )
        else:
            rows.append([*map(escape, names), *_gain(change)])
    head = [*(["model"] if several else []), *_GAIN_COLUMNS]
    said = f"<p><small>{escape(_GAIN_LEGEND)}</small></p>{''.join(refused)}"
    return said + table(rows, head, "gains") if rows else ""


def _gain(change: Any) -> list[str]:
    gain, form, answers = (
        points(share).partition(" ")[0] for share in (change.difference, change.repaired_format, change.changed_answer)
    )
    limits = interval(change.low, change.high, "+") or "–"
    return [gain, limits, form, answers, *(f"{n:,}" for n in (change.fixed, change.broken, change.n, change.seeds))]
