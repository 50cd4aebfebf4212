"""A reader: items one by one, as HTML that is ready to be shown, with fields to fill in and a file to save.

In a report an item is a question with all answers to it; on a worksheet it is one answer (:mod:`.worksheet`). Many
models give one answer: of 81 models of a study asked one question, 24 different texts came back. So each text
is rendered once a question and format, and each answerer points to its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.answers import PAIRED, SINGLE, Answers
from medr1kit.results.opening import where_to_open
from medr1kit.views.csv import as_texts, options_cell
from medr1kit.views.html import escape
from medr1kit.views.look import in_order
from medr1kit.views.page.page import button, pack, section, select
from medr1kit.views.pictures import Gallery
from medr1kit.views.widgets.base import ALL
from medr1kit.views.widgets.question import answer_html, question_html

NOTED = "with a note"
_FILTERS, _TOLD = ("modality", "task", "error"), ("predicted", "correct", "well_formed")
_REPLY = ("answer", "options", "image_id", "text", *_TOLD)  # of an answer, beside its question
# What differs; "told" is of each answer that is shown, in the file.
_REPORT = {"title": "Reader", "unit": "questions", "told": (*_TOLD, "completion"), "save": "save the selection as CSV"}
_REPORT["kinds"] = {"paired": (*PAIRED, NOTED), "single": (*SINGLE, NOTED)}
_WORKSHEET = {"title": "Errors", "unit": "errors", "told": (), "save": "Save as CSV"}
_WORKSHEET["kinds"] = dict.fromkeys(("paired", "single"), (ALL, NOTED, "without a note"))


def sample_ids(preds: pd.DataFrame, n: int, seed: int) -> list[str]:
    """Return the ids of n questions, as many of each modality and task as of any other, as far as there are.

    Args:
        preds: predictions.
        n: how many; all ids if there are no more.
        seed: decides which; the same ids, whatever order the predictions come in.

    >>> rows = pd.DataFrame({"id": ["a", "b", "c", "d"], "modality": ["CT", "CT", "CT", "MRI"], "task": None})
    >>> len(sample_ids(rows, 2, seed=0)), "d" in sample_ids(rows, 2, seed=0)
    (2, True)
    """
    asked = preds.drop_duplicates("id").sort_values("id")
    order = np.random.default_rng(seed).permutation(len(asked))
    mixed = asked.iloc[order]
    turn = mixed.groupby(["modality", "task"], dropna=False, sort=False, observed=True).cumcount()
    return mixed.loc[turn.sort_values(kind="stable").index, "id"].head(n).tolist()


def answers_section(answers: Answers, gallery: Gallery, n_all: int) -> tuple[str, dict[str, Any], list[str]]:
    """Return :func:`reader_section` of the questions that a report embeds, ``n_all`` being how many there are."""
    columns = {name: answers.column(name) for name in ("id", "image_id", "modality", "task", "question")}
    columns["options"] = [options_cell(options) for options in answers.column("options")]
    sheet = as_texts(pd.DataFrame(columns | {"gold": answers.column("answer")}))
    said = (
        f"{len(answers):,} of {n_all:,} questions are in this page, the same for every answerer, spread evenly over "
        "modalities and tasks; the tables above are over all. Keys ← and → go back and on."
    )
    note = '<textarea name="note" data-mk="note" rows="2"></textarea>'
    return reader_section(answers, gallery, sheet, said, {"note": note})


def reader_section(
    answers: Answers, gallery: Gallery, sheet: pd.DataFrame, said: str, fields: Mapping[str, str]
) -> tuple[str, dict[str, Any], list[str]]:
    """Return the section of a reader, what its script needs, and the packed items.

    Args:
        answers: the items, and who answered them.
        gallery: where their images come from.
        sheet: a row an item, all cells texts: the file that is saved begins with these columns. ``id`` is shown and
            finds the image; ``modality``, ``task`` and ``error`` are filters.
        said: what the items are, in words.
        fields: name -> the control that is filled in for each item. With one named "reader", for the page, it is a
            worksheet: of each item that one answer is shown, and all rows are saved.
    """
    annotated, names = "reader" in fields, [one.name for one in answers.answerers]
    shown = list(range(len(names))) if annotated else _first_shown(answers)
    opens, how = (0, "") if annotated else where_to_open(answers, shown)
    said += f" It opens at a question chosen by rule: {how}." if how else ""
    ready = {
        **(_WORKSHEET if annotated else _REPORT),
        "names": names,
        "formats": [one.format.name for one in answers.answerers],
        "right": ["".join("-01"[right + 1] for right in one.right) for one in answers.answerers],
        "malformed": ["".join("01"[int(bad)] for bad in one.malformed) for one in answers.answerers],
        "letters": [["" if letter is None else letter for letter in one.letters] for one in answers.answerers],
        "keys": answers.ids.tolist(),
        "rows": {name: sheet[name].tolist() for name in ("id", *_FILTERS) if name in sheet},
        "filters": [name for name in _FILTERS if name in sheet],
        "shown": shown,
        "opens": opens,
        "heads": list(sheet),
        "fields": list(fields),
    }
    numbers = progress(range(len(answers)), f"rendering {ready['unit']}", unit=ready["unit"][:-1])
    rows = answers.answerers[0].frame[list(_REPLY)].to_dict("records")  # they share one frame
    packed = [pack(_item(answers, rows, number, sheet.iloc[number], gallery)) for number in numbers]
    return section("reader", ready["title"], _controls(ready, said, fields)), ready, packed


def _controls(ready: Mapping[str, Any], said: str, fields: Mapping[str, str]) -> str:
    """The controls, and the places that the script fills."""
    names = ready["names"]
    fields = {name: f'<label class="note">{name} {field}</label>' for name, field in fields.items()}
    choosers = [select("first", "first", names, range(len(names)))]
    for name in ("second", "third")[: len(names) - 1]:
        choosers.append(select(name, name, [*names, "none"], [*range(len(names)), -1]))
    top = fields.pop("reader", "".join(choosers))
    filters = [select("kind", "show", ready["kinds"]["paired" if len(names) > 1 else "single"])]
    for name in ready["filters"]:
        filters.append(select(name, name, [ALL, *in_order(name, filter(None, ready["rows"][name]))]))
    search = '<label>text <input type="search" data-mk="search"></label>'
    number = f'<label>{ready["unit"][:-1]} <input type="number" data-mk="number" min="1" value="1"></label>'
    moves = [button("previous", "◀ previous"), button("next", "next ▶"), number]
    return (
        f'<p data-mk="sampled"><small>{escape(said)}</small></p><div class="controls">{top}</div>'
        f'<div class="controls">{"".join(filters)}{search}</div>'
        f'<div class="controls">{"".join(moves)}<span data-mk="status" role="status"></span></div>'
        '<div class="paper" data-mk="paper"></div><div class="stage"><div data-mk="question"></div>'
        f'<div data-mk="answers" class="mk-cells"></div>{"".join(fields.values())}</div>'
        f'<div class="controls">{button("save", ready["save"])}<span data-mk="said" role="status"></span></div>'
    )


def _item(answers: Answers, rows: Sequence[dict], number: int, line: pd.Series, gallery: Gallery) -> dict[str, Any]:
    """A question with all its answers; each text once."""
    asked = answers.question(number)
    found, places = {}, []
    for one in answers.answerers:
        if one.rows[number] < 0:
            places.append(-1)
            continue
        reply = rows[one.rows[number]]
        text = reply["text"] if isinstance(reply["text"], str) else ""
        told = ["" if pd.isna(reply[name]) else str(reply[name]) for name in _TOLD]
        key = (one.format.name, text, *told)
        if key not in found:
            found[key] = len(found), text, answer_html(replace(one, name=""), reply), [*told, text]
        places.append(found[key][0])
    _, texts, shown, told = zip(*found.values())
    return {
        "line": line.tolist(),
        "words": [str(asked["question"]), *map(str, asked["options"])],
        "html": question_html(asked | {"id": line["id"]}, {}, gallery),
        **{"texts": texts, "shown": shown, "told": told, "places": places},
    }


def _first_shown(answers: Answers) -> list[int]:
    """The untrained model beside the first one that was trained, in the same format; otherwise the first two."""
    labels = [one.frame.iloc[one.rows.max()] for one in answers.answerers]
    base = next((k for k, row in enumerate(labels) if row["method"] == "base"), None)
    if base is not None:
        for k, row in enumerate(labels):
            if row["method"] != "base" and row["format"] == labels[base]["format"]:
                return [base, k]
    return list(range(min(2, len(labels))))
