"""Answers side by side: every answer of the embedded questions, as HTML that is ready to be shown.

Many models give one answer: of 81 models of the quick study asked one question, 24 different texts come back. So each
text is rendered once a question and format, and each answerer points to its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.answers import PAIRED, SINGLE, Answers
from medr1kit.views.html import escape
from medr1kit.views.look import in_order
from medr1kit.views.page.page import button, pack, section, select
from medr1kit.views.page.sample import Gallery
from medr1kit.views.widgets.base import ALL
from medr1kit.views.widgets.question import answer_html, question_html

NOTED = "with a note"


def reader_section(answers: Answers, gallery: Gallery, n_all: int) -> tuple[str, dict[str, Any], list[str]]:
    """Return the section of the reader, what its filters need, and the packed questions.

    Args:
        answers: of the questions to embed.
        gallery: where their images come from.
        n_all: how many questions there are in all.
    """
    numbers = progress(range(len(answers)), "rendering answers", unit="question")
    rows = answers.answerers[0].frame.to_dict("records")  # they share one frame
    packed = [pack(_question(answers, rows, number, gallery)) for number in numbers]
    kinds = PAIRED if len(answers.answerers) > 1 else SINGLE
    ready = {
        "names": [one.name for one in answers.answerers],
        "formats": [one.format.name for one in answers.answerers],
        "right": ["".join("-01"[right + 1] for right in one.right) for one in answers.answerers],
        "malformed": ["".join("01"[int(bad)] for bad in one.malformed) for one in answers.answerers],
        "letters": [["" if letter is None else letter for letter in one.letters] for one in answers.answerers],
        "kinds": {"paired": [*PAIRED, NOTED], "single": [*SINGLE, NOTED]},
        "rows": {
            name: [None if pd.isna(value) else str(value) for value in answers.column(name)]
            for name in ("id", "image_id", "modality", "task", "answer")
        },
        "shown": _first_shown(answers),
    }
    return section("reader", "Reader", _controls(answers, kinds, n_all)), ready, packed


def _controls(answers: Answers, kinds: tuple[str, ...], n_all: int) -> str:
    names = [one.name for one in answers.answerers]
    places = [str(number) for number in range(len(names))]
    choosers = [
        select(label, label, names + ["none"] * (k > 0), places + ["-1"] * (k > 0))
        for k, label in enumerate(("first", "second", "third")[: len(names)])
    ]
    values = {column: [ALL, *in_order(column, answers.column(column))] for column in _BY}
    filters = [select("kind", "show", [*kinds, NOTED]), *(select(name, name, values[name]) for name in _BY)]
    search = '<label>text <input type="search" data-mk="search"></label>'
    number = '<label>question <input type="number" data-mk="number" min="1" value="1"></label>'
    moves = [button("previous", "◀ previous"), button("next", "next ▶"), number]
    said = (
        f"{len(answers):,} of {n_all:,} questions are in this page, the same for every answerer, spread evenly over "
        "modalities and tasks; the tables above are over all. Keys ← and → go back and on."
    )
    return (
        f'<p data-mk="sampled"><small>{escape(said)}</small></p><div class="controls">{"".join(choosers)}</div>'
        f'<div class="controls">{"".join(filters)}{search}</div>'
        f'<div class="controls">{"".join(moves)}<span data-mk="status" role="status"></span></div>'
        '<div data-mk="question"></div><div data-mk="answers" class="mk-cells"></div>'
        '<label class="note">note <textarea data-mk="note" rows="2"></textarea></label>'
        f'<div class="controls">{button("save", "save the selection as CSV")}<span data-mk="said" role="status"></span>'
        "</div>"
    )


_BY = ("modality", "task")


def _question(answers: Answers, rows: list[dict], number: int, gallery: Gallery) -> dict[str, Any]:
    """A question with all its answers; each text once."""
    asked = answers.question(number)
    found: dict[tuple, int] = {}
    texts, shown, places, formed = [], [], [], []
    for one in answers.answerers:
        if one.rows[number] < 0:
            places.append(-1)
            formed.append("")
            continue
        reply = rows[one.rows[number]]
        text = reply["text"] if isinstance(reply["text"], str) else ""
        key = (one.format.name, text, str(reply["predicted"]), str(reply["well_formed"]))
        if key not in found:
            found[key] = len(texts)
            texts.append(text)
            shown.append(answer_html(replace(one, name=""), reply))
        places.append(found[key])
        formed.append("" if pd.isna(reply["well_formed"]) else str(bool(reply["well_formed"])))
    return {
        "question": str(asked["question"]),
        "options": [str(option) for option in asked["options"]],
        "html": question_html(asked, {}, gallery),
        "texts": texts,
        "shown": shown,
        "places": places,
        "formed": formed,
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
