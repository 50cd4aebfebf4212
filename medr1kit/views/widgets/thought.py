"""Another thought in the model's mouth, and how the probabilities of the letters move.

What is asked comes from :func:`medr1kit.thought_asker`, what was recorded from :func:`medr1kit.predict_thoughts`. Here
is what the inspector makes of both; no model is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from medr1kit.data.phantoms import rationale_of
from medr1kit.results.answers import Answerer
from medr1kit.results.numbers import percent, points
from medr1kit.results.thoughts import thought_of, thoughts_for
from medr1kit.views.html import badge, escape, table
from medr1kit.views.widgets.completion import option_text
from medr1kit.vqa import LETTERS, DataError

Ask = Callable[[Mapping[str, Any], str], Sequence[float]]
"""A row and a thought -> the probability of each letter after it."""


def thinks_first(one: Answerer) -> bool:
    """Return whether an answerer was asked to think before it answers."""
    return one.format.blocks[0] == "think"


def thoughts_of(one: Answerer, question: int) -> dict[str, str]:
    """Return the thoughts that can be put in an answerer's mouth: name -> thought, "own" first.

    Another's is that of the next question of the same modality and task about another picture; the true ones are there
    for phantoms.
    """
    kinds = [*zip(*(one.column(name).astype(str) for name in ("modality", "task")))]
    images, there = one.column("image_id").astype(str), one.rows >= 0
    around = (*range(question + 1, len(kinds)), *range(question))
    alike = (i for i in around if there[i] and kinds[i] == kinds[question] and images[i] != images[question])
    pair = [_with_truth(one.answer(i)) for i in (question, next(alike, question))]
    texts = [row["text"] if isinstance(row["text"], str) else "" for row in pair]
    return {name: both[0] for name, both in thoughts_for(pair, texts).items()}


def _with_truth(row: dict) -> dict:
    if row.get("source") != "phantoms":
        return row
    try:
        return row | {"rationale": rationale_of(row["image_id"])}
    except (DataError, KeyError):  # no phantom after all
        return row


def asked(ask: Ask, row: Mapping, thought: str) -> list[float]:
    """Return what ``ask`` says of a row and a thought: a number for each option, or a DataError."""
    found = [float(share) for share in ask(row, thought)]
    if len(found) != len(row["options"]):
        raise DataError(f"ask= gave {len(found)} probabilities of {len(row['options'])} options")
    return found


def letters_html(row: Mapping, own: Sequence[float], now: Sequence[float]) -> str:
    """Return the probabilities of the letters as bars: after the model's own thought, and after another one.

    Args:
        row: a prediction.
        own, now: a probability for each option.
    """
    options, cells = row["options"], []
    for letter, before, after in zip(LETTERS, own, now):
        name, kind = option_text(letter, options), "plain"
        if letter == row["answer"]:
            name, kind = f'<b class="mk-gold">{name}</b> ✓ gold', "good"
        moved = "" if list(own) == list(now) else f" <small>{points(after - before)}</small>"
        cells.append((name, _bar(before, kind), _bar(after, kind) + moved))
    said, would = row["predicted"], LETTERS[max(range(len(own)), key=own.__getitem__)]
    doubt = f"The table says {escape(said, 20)} after its own thought, ask= says {would}: of another model, perhaps."
    return (
        table(cells, ("", "after its own thought", "after the thought above"), "chances")
        + (f'<p class="mk-warn" data-mk="doubt">{doubt}</p>' if isinstance(said, str) and said != would else "")
    )  # fmt: skip


def _bar(share: float, kind: str) -> str:
    bar = f'<span class="mk-bar mk-{kind}" style="width:{8 * share:.2f}em"></span>'
    return f'<span class="mk-number">{bar} {percent(share)}</span>'


def recorded_html(rows: pd.DataFrame) -> str:
    """Return what was answered to one question after other thoughts; rows of :func:`medr1kit.predict_thoughts`."""
    cells = []
    for row in rows.to_dict("records"):
        said = escape(thought_of(row["text"])) or "<em>(empty)</em>"
        thought = f'<div class="mk-text" dir="auto" tabindex="0">{said}</div>'
        verdict = badge("right", "good") if row["correct"] else badge("wrong", "bad")
        cells.append((escape(row["thought"]), thought, f"{option_text(row['predicted'], row['options'])} {verdict}"))
    return "<h4>Other thoughts in its mouth</h4>" + table(cells, ("thought", "what it says", "answer"), "thoughts")
