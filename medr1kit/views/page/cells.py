"""Transfer maps, and what is behind each cell: its numbers, what was taken for what, and whose answers to open.

The numbers are those of :func:`medr1kit.explore_transfer`, which opens one cell at a time. Here all cells of a map are
opened at once, so the confusions of its cells are counted in one go.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.answers import Answers
from medr1kit.results.errors.kinds import describe
from medr1kit.results.errors.letters import confusion_table
from medr1kit.results.maps import Map, cell_answers, map_table, maps_of, slim
from medr1kit.results.tables import WHO
from medr1kit.views.html import escape, side_by_side
from medr1kit.views.page.page import button, pack, section, select
from medr1kit.views.widgets.heat import cell_html, map_html, published_html
from medr1kit.vqa import DataError

CONFUSIONS = 6
"""Confusions that are shown of a cell, as in the widget."""

_DRAWN = ("difference", "accuracy")
_KINDS = ("fixed", "broken", "both wrong", "both right", "all")
_LEGEND = (
    "Rows: what was trained on; columns: what was tested. ? may be chance (p above 0.05, corrected for the whole map); "
    "– nothing to compare with; thick frame: the same modality or task. A cell opens: its numbers, what was taken for "
    "what, and its answers."
)


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
    numbers = {_who(one.frame.iloc[one.rows.max()]): k for k, one in enumerate(answers.answerers)}
    shown, cells, names, refused = [], [], [], []
    for one in progress(maps, "computing maps", unit="map"):
        try:
            table = map_table(rows, one)
        except DataError as error:  # the other maps are shown all the same
            refused.append(f'<p class="mk-warn">{escape(one.name)}: {escape(error)}</p>')
            continue
        if table["difference"].isna().all():
            continue
        hidden = " hidden" if names else ""
        shown.append(f'<div data-map="{len(names)}"{hidden}>{_drawn(one, table)}</div>')
        cells.append({"by": one.by, "cells": pack(_cells(preds, rows, one, table, numbers))})
        names.append(one.name)
    if not names:
        return "", []
    controls = select("map", "map", names, range(len(names))) + select("draw", "draw", _DRAWN)
    body = (
        f'<p><small>{escape(_LEGEND)}</small></p><div class="controls">{controls}</div>'
        f'{"".join(refused)}{"".join(shown)}<div data-mk="cell" aria-live="polite"></div>'
        '<div class="controls" data-mk="examples" hidden>'
        f"<span>in the reader:</span>{''.join(button(kind, kind) for kind in _KINDS)}</div>"
    )
    return section("maps", "Transfer, cell by cell", body), cells


def _drawn(one: Map, table: pd.DataFrame) -> str:
    """A map as differences and, hidden, as accuracies; the published one beside it where there is one."""
    two = [
        f'<div data-draw="{value}"{" hidden" if value == "accuracy" else ""}>{map_html(table, one.by, value)}</div>'
        for value in _DRAWN
    ]
    return side_by_side([f"<h4>{escape(one.name)}</h4>{''.join(two)}", *published_html(one)])


def _cells(preds: pd.DataFrame, rows: pd.DataFrame, one: Map, table: pd.DataFrame, numbers: dict) -> dict[str, Any]:
    """Each cell's HTML, the numbers of its answerers in the reader, and their names; by "train → test"."""
    facts, asked = table.to_dict("records"), rows[["id", "seed"]]
    sides = [cell_answers(asked, one, cell) for cell in facts]
    confusions = _confusions(preds, [places[-1] for places, _, _ in sides])
    found = {}
    for number, (cell, (places, names, seed)) in enumerate(zip(facts, sides)):
        train, test = cell[one.train], cell[one.by]
        confusion = confusions[confusions["cell"] == number].head(CONFUSIONS)
        who = [numbers.get(_who(preds.iloc[side[0]]), -1) for side in places]
        html = cell_html(train, test, cell, confusion, one.formats, seed)
        if fault := cell.get("fault"):
            html += f'<p class="mk-warn">{escape(fault)}</p>'
        found[f"{train} → {test}"] = {"html": html, "who": who, "test": test, "names": names}
    return found


def _confusions(preds: pd.DataFrame, cells: list) -> pd.DataFrame:
    """The confusions of many cells, counted at once: the number of the cell travels with the modality."""
    where = np.repeat(np.arange(len(cells)), [len(places) for places in cells])
    if not len(where):
        return pd.DataFrame({"cell": []})
    rows = describe(preds.iloc[np.concatenate(cells)])
    rows["modality"] = [f"{cell}\t{modality}" for cell, modality in zip(where, rows["modality"].fillna("unknown"))]
    table = confusion_table(rows).query("taken > 0")
    parts = table["modality"].str.split("\t", n=1, expand=True)
    return table.assign(cell=parts[0].astype(int), modality=parts[1]) if len(table) else table.assign(cell=[])


def _who(row: pd.Series) -> tuple[str, ...]:
    return tuple("" if pd.isna(row[name]) else str(row[name]) for name in (*WHO, "seed"))
