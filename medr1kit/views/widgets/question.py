"""A question and the answers to it as HTML: image, stem, options with the gold one, and a card an answerer."""

from __future__ import annotations

from collections.abc import Sequence

from medr1kit.results.answers import Answerer, Answers
from medr1kit.views.html import escape, side_by_side
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.completion import completion_html, option_text
from medr1kit.vqa import LETTERS


def answer_html(one: Answerer, reply: dict | None) -> str:
    """Return what an answerer wrote, and all there is to say about it.

    Args:
        one: who.
        reply: its row; None where it did not answer the question.
    """
    if reply is None:
        return f"<h4>{escape(one.name, 200)}</h4><p><em>not answered</em></p>"
    return completion_html(
        reply["text"],
        one.format,
        gold=reply["answer"],
        options=list(reply["options"]),
        image_id=str(reply["image_id"]),
        name=one.name,
        recorded=reply,
    )


def answered_html(answers: Answers, question: int, some: Sequence[Answerer], pictures: Pictures) -> str:
    """Return a question with the answers of some answerers side by side.

    Args:
        answers: who answered what.
        question: its number.
        some: whose answers are shown, from left to right.
        pictures: where the image comes from.
    """
    replies = [(one, one.answer(question)) for one in some]
    chosen = {one.name: reply["predicted"] for one, reply in replies if reply is not None}
    asked = question_html(answers.question(question), chosen, pictures)
    return asked + side_by_side(answer_html(one, reply) for one, reply in replies)


def question_html(asked: dict, chosen: dict[str, object], pictures: Pictures) -> str:
    """Return a question with its image, and its options with the gold one and who chose which.

    Args:
        asked: a row with ``id``, ``image_id``, ``question``, ``options`` and ``answer``.
        chosen: name of an answerer -> the letter that was read.
        pictures: where the image comes from.
    """
    items = []
    for letter, _ in zip(LETTERS, asked["options"]):
        by = [escape(name, 80) for name, said in chosen.items() if said == letter]
        tail = f" <small>← {', '.join(by)}</small>" if by else ""
        start, end = (
            ('<li class="mk-gold" data-mk="gold"><b>', "</b> ✓ gold") if letter == asked["answer"] else ("<li>", "")
        )
        items.append(f"{start}{option_text(letter, asked['options'])}{end}{tail}</li>")
    labels = " · ".join(
        escape(asked[key], 120) for key in ("id", "modality", "task") if isinstance(asked.get(key), str)
    )
    return (
        f'<div class="mk-head"><figure>{pictures.html(asked)}</figure><div><small data-mk="id">{labels}</small>'
        f'<p data-mk="question"><b>{escape(asked["question"])}</b></p><ul data-mk="options">{"".join(items)}</ul>'
        "</div></div>"
    )
