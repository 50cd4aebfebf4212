"""Tables of scores: every model in every format, over all questions, by modality and by task."""

from __future__ import annotations

import pandas as pd

from medr1kit.results.numbers import interval, percent
from medr1kit.results.tables import score
from medr1kit.views.html import escape, table
from medr1kit.views.page.gains import gains_table
from medr1kit.views.page.page import section, select

_LEGEND = (
    "All answers count. Intervals are of 95 %, over questions; seeds of one training are one row. Chance is what "
    "guessing scores. A heading sorts, and sorts the other way round."
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
    who = ["model", "method", "format", "train_modality", "train_task"]
    keys = [*(["model"] if preds["model"].nunique() > 1 else []), *who[1:], *([by] if by else [])]
    found = score(preds, by=keys, cluster="id")
    groups = preds.groupby(keys, dropna=False, observed=True)["seed"].nunique()
    seeds = {tuple(map(str, values)): n for values, n in groups.items()}
    columns = [
        *(["model"] if "model" in keys else []), "method", "format", "trained on", *(["tested on"] if by else []),
        "accuracy", "95 %", "well-formed", "chance", "tokens", "answers", "seeds",
    ]  # fmt: skip
    rows = [
        [
            *([escape(row["model"])] if "model" in keys else []), escape(row["method"]), escape(row["format"]),
            trained_on(row), *([escape(row[by])] if by else []),
            percent(row["accuracy"]), interval(row["low"], row["high"]) or "–",
            percent(row["well_formed"]), percent(row["chance"]), _number(row["mean_tokens"]), f"{row['n']:,}",
            f"{max(1, seeds[tuple(str(row[key]) for key in keys)])}",
        ]
        for row in found.to_dict("records")
    ]  # fmt: skip
    return table(rows, columns, f"scores-{by or 'all'}")


def trained_on(row: dict) -> str:
    """Return what a model was trained on, as HTML: a modality, a task, both, or nothing."""
    if row["method"] == "base":
        return "–"
    named = [
        str(row[name]) for name in ("train_modality", "train_task") if not pd.isna(row[name]) and row[name] != "all"
    ]
    return escape(", ".join(named) or "all")


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.1f}"
