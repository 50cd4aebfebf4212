"""What all answers say: tables of scores and of gains, and transfer maps with what is behind each cell.

A cell holds its numbers, what was taken for what, and whose answers to open. The numbers are those of
:func:`medr1kit.explore_transfer`, which opens one cell at a time. Here all cells of a map are opened at once, so the
confusions of its cells are counted in one go.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.answers import Answers
from medr1kit.results.compare import UNKNOWN, compare_all
from medr1kit.results.errors.kinds import describe
from medr1kit.results.errors.letters import confusion_table
from medr1kit.results.maps import Map, cell_answers, map_table, maps_of, slim
from medr1kit.results.numbers import interval, percent, points
from medr1kit.results.tables import ANSWERER, WHO, groups_by, rows_by, score
from medr1kit.views.html import escape, side_by_side, table
from medr1kit.views.page.page import button, pack, section, select
from medr1kit.views.widgets.curves import curve
from medr1kit.views.widgets.heat import cell_html, map_html, published_html
from medr1kit.vqa import DataError

_SCORE_LEGEND = (
    "All answers count. Intervals are of 95 %, and count {counted}; seeds of one training are one row. Chance is what "
    "guessing scores. A heading sorts, and sorts the other way round."
)
_SCORE_COLUMNS = ("accuracy", "95 %", "well-formed", "chance", "tokens", "answers", "seeds")
_GAIN_LEGEND = (
    "Each model against the untrained base, on the questions that both answered: points gained, by form where the "
    "letter stayed (leniently read), by answers where it changed. An interval is for its own row, uncorrected."
)
_GAIN_COLUMNS = (
    *("trained on", "tested on", "gain, points", "95 %", "by form", "by answers"),
    *("fixed", "broken", "questions", "seeds"),
)
CONFUSIONS = 6
"""Confusions that are shown of a cell, as in the widget."""

_DRAWN = ("difference", "accuracy")
_KINDS = ("fixed", "broken", "both wrong", "both right", "all")
_MAP_LEGEND = (
    "Rows: what was trained on; columns: what was tested. ? may be chance (p above 0.05, corrected for the whole map); "
    "– nothing to compare with; thick frame: the same modality or task. A cell opens: its numbers, what was taken for "
    "what, and its answers."
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
    legend = escape(_SCORE_LEGEND.format(counted=_counted(preds)))
    body = (
        f'<p><small>{legend}</small></p><div class="controls">{select("tested", "table", tables)}'
        '<label>rows with <input type="search" data-mk="filter" placeholder="grpo think-before CT"></label>'
        f'<span data-mk="filtered" role="status"></span></div>{shown}{_curves(preds)}'
    )
    return section("scores", "Scores", body)


def _counted(preds: pd.DataFrame) -> str:
    known = preds["patient_id"].notna()
    return (
        "questions" if not known.any() else "patients" if known.all() else "patients, and questions where none is named"
    )


def _table(preds: pd.DataFrame, by: str | None) -> str:
    who, tested = _told(preds), [by] if by else []
    keys = [*who, "train_modality", "train_task", *tested]
    groups = preds.groupby(keys, dropna=False, observed=True)["seed"].nunique()
    seeds, rows = {tuple(map(str, names)): max(1, n) for names, n in groups.items()}, []
    for row in score(preds, by=keys).to_dict("records"):
        names = [*(row[name] for name in who), _trained_on(row), *(row[name] for name in tested)]
        limits = interval(row["low"], row["high"]) or None
        shares = percent(row["accuracy"]), limits, percent(row["well_formed"]), percent(row["chance"])
        tokens = None if pd.isna(row["mean_tokens"]) else f"{row['mean_tokens']:.1f}"
        counts = f"{row['n']:,}", seeds[tuple(str(row[key]) for key in keys)]
        rows.append([escape(cell) for cell in (*names, *shares, tokens, *counts)])
    columns = [*who, "trained on", *(["tested on"] if by else []), *_SCORE_COLUMNS]
    return table(rows, columns, f"scores-{by or 'all'}")


def _curves(preds: pd.DataFrame) -> str:
    """The accuracy of each training over its checkpoints, where several were asked."""
    table, drawn = score(preds[preds["step"].notna()], by=[*WHO, "step"]) if preds["step"].nunique() > 1 else None, []
    for names, rows in groups_by(table, WHO) if table is not None else ():
        if len(rows) > 1:
            title = " ".join(map(str, filter(None, (names["method"], names["format"], _trained_on(names)))))
            lines = {"accuracy": rows["accuracy"], "95 %, low": rows["low"], "high": rows["high"]}
            drawn.append(curve(f"{title}: accuracy by step", rows["step"], lines))
    return side_by_side(drawn) if drawn else ""


def _trained_on(row: dict) -> str | None:
    """What a model was trained on: a modality, a task, both, all, unknown; None for the base."""
    if row["method"] == "base":
        return None
    named = [str(row[name]) for name in ("train_modality", "train_task") if not pd.isna(row[name])]
    return ", ".join(name for name in named if name != "all") or (named or [UNKNOWN])[0]


def _told(preds: pd.DataFrame) -> list[str]:
    """The columns that name each model: its own name where there are several, its step where there is one."""
    left_out = {"model"} if preds["model"].nunique() < 2 else set()
    left_out |= set() if preds["step"].notna().any() else {"step"}
    return [name for name in ("model", "method", "step", "format") if name not in left_out]


def gains_table(preds: pd.DataFrame) -> str:
    """Return a table of paired gains over the base of the same model and format; empty where there is none.

    A gain is told apart twice: on what was trained and on everything else, and as form and answers
    (:func:`medr1kit.compare`), because a model that learns to write its tags gains accuracy without learning medicine.

    Args:
        preds: predictions, rows numbered from 0.
    """
    labels = preds[[*WHO, "step", "modality", "task"]]  # no texts: each group is a copy
    untrained, told = labels["method"].eq("base"), _told(preds)
    bases = {who: rows.index for who, rows in labels[untrained].groupby(["model", "format"], observed=True)}
    named, sides = [], []
    for (model, *trained, method, format, step), after in labels[~untrained].groupby(
        [*WHO, "step"], dropna=False, sort=False, observed=True
    ):
        names = {by: name for by, name in zip(("modality", "task"), trained) if isinstance(name, str) and name != "all"}
        inside = np.logical_and.reduce([after[by].eq(name) for by, name in names.items()])
        places = {"the same": after[inside], "all others": after[~inside]} if names else {"all": after}
        on = _trained_on(dict(zip(("method", "train_modality", "train_task"), (method, *trained))))
        known = {"model": model, "method": method, "step": step, "format": format}
        who = [*(known[name] for name in told), on]
        for place, some in places.items():
            if len(some) and (model, format) in bases:
                named.append([*who, place])
                sides.append((bases[model, format], some.index))
    rows, refused = [], []
    for names, change in zip(named, compare_all(preds, sides).itertuples() if sides else ()):
        if change.fault:
            refused.append(
                f'<p class="mk-warn">{escape(" ".join(map(str, names[:-1])))}, {names[-1]}: {escape(change.fault)}</p>'
            )
        else:
            rows.append([*map(escape, names), *_gain(change)])
    head = [*told, *_GAIN_COLUMNS]
    said = f"<p><small>{escape(_GAIN_LEGEND)}</small></p>{''.join(refused)}"
    return said + table(rows, head, "gains") if rows else ""


def _gain(change: Any) -> list[str]:
    gain, form, answers = (
        points(share).partition(" ")[0] for share in (change.difference, change.repaired_format, change.changed_answer)
    )
    limits = interval(change.low, change.high, "+") or "–"
    return [gain, limits, form, answers, *(f"{n:,}" for n in (change.fixed, change.broken, change.n, change.seeds))]


# --- transfer maps ----------------------------------------------------------------------------------------------------


def maps_section(preds: pd.DataFrame, answers: Answers) -> tuple[str, list[dict[str, Any]]]:
    """Return the section of maps, and the packed cells of each; no section where nothing is compared with a base.

    Args:
        preds: all predictions.
        answers: the answerers of the reader, to which a cell leads.
    """
    rows = slim(preds)
    try:
        maps = maps_of(rows)
    except DataError:  # no model was trained on one modality or task
        return "", []
    tables, refused = [], []
    for one in progress(maps, "computing maps", unit="map"):
        try:
            matrix = map_table(rows, one)
        except DataError as error:  # the other maps are shown all the same
            refused.append(f'<p class="mk-warn">{escape(one.name)}: {escape(error)}</p>')
            continue
        if matrix["difference"].notna().any():
            tables.append((one, matrix))
    shown = [
        f'<div data-map="{number}"{" hidden" if number else ""}>{_drawn(*one)}</div>'
        for number, one in enumerate(tables)
    ]
    names = [one.name for one, _ in tables]
    if not names:
        return "", []
    controls = select("map", "map", names, range(len(names))) + select("draw", "draw", _DRAWN)
    body = (
        f'<p><small>{escape(_MAP_LEGEND)}</small></p><div class="controls">{controls}</div>'
        f'{"".join(refused)}{"".join(shown)}<div data-mk="cell" aria-live="polite"></div>'
        '<div class="controls" data-mk="examples" hidden>'
        f"<span>in the reader:</span>{''.join(button(kind, kind) for kind in _KINDS)}</div>"
    )
    cells = _cells(preds, rows, tables, answers)
    packed = [{"by": one.by, "cells": pack(of_map)} for (one, _), of_map in zip(tables, cells)]
    return section("maps", "Transfer, cell by cell", body), packed


def _drawn(one: Map, matrix: pd.DataFrame) -> str:
    """A map as differences and, hidden, as accuracies; the published one beside it where there is one."""
    two = [
        f'<div data-draw="{value}"{" hidden" if value == "accuracy" else ""}>{map_html(matrix, one.by, value)}</div>'
        for value in _DRAWN
    ]
    return side_by_side([f"<h4>{escape(one.name)}</h4>{''.join(two)}", *published_html(one)])


def _cells(
    preds: pd.DataFrame, rows: pd.DataFrame, tables: list[tuple[Map, pd.DataFrame]], answers: Answers
) -> list[dict[str, Any]]:
    """Of each map each cell's HTML, the numbers of its answerers in the reader, and their names; by "train → test"."""
    asked = pd.DataFrame({"id": pd.factorize(rows["id"])[0], "seed": rows["seed"].to_numpy()})  # sooner copied
    facts = [(number, cell) for number, (_, matrix) in enumerate(tables) for cell in matrix.to_dict("records")]
    sides = [cell_answers(asked, tables[number][0], cell) for number, cell in facts]
    confusions = _confusions(preds, [places[-1] for places, _, _ in sides])
    places_in_reader = _in_reader(preds, answers)
    found: list[dict[str, Any]] = [{} for _ in tables]
    for (number, cell), (places, names, seed), confusion in zip(facts, sides, confusions):
        one = tables[number][0]
        train, test = cell[one.train], cell[one.by]
        html = cell_html(train, test, cell, confusion, one.formats, seed)
        if fault := cell.get("fault"):
            html += f'<p class="mk-warn">{escape(fault)}</p>'
        who = [int(places_in_reader[side[0]]) for side in places]
        found[number][f"{train} → {test}"] = {"html": html, "who": who, "test": test, "names": names}
    return found


def _confusions(preds: pd.DataFrame, sides: list[np.ndarray]) -> list[list[dict]]:
    """The first confusions of many sides, counted at once, and once where two maps show the same answers."""
    different = {side.tobytes(): side for side in sides}
    where = np.repeat(np.arange(len(different)), [len(side) for side in different.values()])
    rows = describe(preds.iloc[np.concatenate([*different.values()])])
    modality = rows["modality"].fillna("unknown")
    rows["modality"] = [f"{side}\t{name}" for side, name in zip(where, modality)]  # the side travels with the modality
    found = confusion_table(rows, least=1)
    of_side = {key: [] for key in different}
    lists = list(of_side.values())
    for row in found.to_dict("records"):
        side, row["modality"] = row["modality"].split("\t", 1)
        if len(shown := lists[int(side)]) < CONFUSIONS:
            shown.append(row)
    return [of_side[side.tobytes()] for side in sides]


def _in_reader(preds: pd.DataFrame, answers: Answers) -> np.ndarray:
    """The number in the reader of who gave each answer, -1 where it is not there."""
    known = [name for name in ANSWERER if name in preds]
    here, there, found = answers.answerers[0].frame[known], preds[known], np.full(len(preds), -1)
    numbers = {_who(here.iloc[one.rows.max()]): k for k, one in enumerate(answers.answerers)}
    for _, places in rows_by(there, known):
        found[places] = numbers.get(_who(there.iloc[places[0]]), -1)
    return found


def _who(row: pd.Series) -> tuple[str, ...]:
    return tuple("" if pd.isna(row.get(name)) else str(row[name]) for name in ANSWERER)
