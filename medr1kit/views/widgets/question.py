"""A question and the answers to it as HTML: image, stem, options with the gold one, and what was said.

That is a card an answerer, where answers are compared; or a row a completion, where a training step sampled a group of
them, with what each was paid and is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from medr1kit.results.answers import Answerer, Answers
from medr1kit.results.numbers import number
from medr1kit.results.tables import ROLLOUTS
from medr1kit.views.html import badge, escape, side_by_side, table
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
    asked = {"gold": reply["answer"], "options": list(reply["options"]), "image_id": str(reply["image_id"])}
    return completion_html(reply["text"], one.format, name=one.name, recorded=reply, **asked)


def answered_html(
    answers: Answers, question: int, some: Sequence[Answerer], pictures: Pictures, hidden: bool = False
) -> str:
    """Return a question with the answers of some answerers side by side.

    Args:
        answers: who answered what.
        question: its number.
        some: whose answers are shown, from left to right.
        pictures: where the image comes from.
        hidden: whether the gold answer is hidden; of the answers the texts alone are then shown.
    """
    replies = [(one, one.answer(question)) for one in some]
    if hidden:
        asked = question_html(answers.question(question), {}, pictures, hidden=True)
        return asked + side_by_side(_said_html(one, reply) for one, reply in replies)
    chosen = {one.name: reply["predicted"] for one, reply in replies if reply is not None}
    asked = question_html(answers.question(question), chosen, pictures)
    return asked + side_by_side(answer_html(one, reply) for one, reply in replies)


def _said_html(one: Answerer, reply: dict | None) -> str:
    """What an answerer wrote, not judged."""
    said = "<em>not answered</em>" if reply is None else escape(reply["text"])
    return f'<h4>{escape(one.name, 200)}</h4><div class="mk-text" dir="auto" tabindex="0">{said}</div>'


def question_html(
    asked: dict, chosen: dict[str, object], pictures: Pictures, beside: str = "", hidden: bool = False
) -> str:
    """Return a question with its image, and its options with the gold one and who chose which.

    Args:
        asked: a row with ``id``, ``image_id``, ``question``, ``options`` and ``answer``.
        chosen: name of an answerer -> the letter that was read.
        pictures: where the image comes from.
        beside: HTML to the right of it.
        hidden: whether the gold answer is hidden, with the labels, which may tell it: "CT-test-0-1".
    """
    items, gold = [], '<li class="mk-gold" data-mk="gold"><b>{}</b> ✓ gold'
    for letter, _ in zip(LETTERS, asked["options"]):
        by = ", ".join(escape(name, 80) for name, said in chosen.items() if said == letter)
        item = (gold if letter == asked["answer"] and not hidden else "<li>{}").format(
            option_text(letter, asked["options"])
        )
        items.append(item + (f" <small>← {by}</small></li>" if by else "</li>"))
    named = [asked[key] for key in ("id", "modality", "task") if isinstance(asked.get(key), str) and not hidden]
    labels, picture = " · ".join(escape(name, 120) for name in named), pictures.html(asked, "image" if hidden else None)
    return (
        f'<div class="mk-head"><figure>{picture}</figure><div><small data-mk="id">{labels}</small>'
        f'<p data-mk="question"><b>{escape(asked["question"])}</b></p><ul data-mk="options">{"".join(items)}</ul>'
        f"</div>{beside}</div>"
    )


def groups_of(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the groups of a step: neighbouring rows about one question, numbered upwards.

    A group that dynamic sampling replaced stands apart from one about the same question that was used.
    """
    if rows.empty:
        return []
    keys = [name for name in ("id", "question", "used") if name in rows]
    changed = rows[keys].astype(str).ne(rows[keys].astype(str).shift()).any(axis=1)
    place = pd.to_numeric(rows["rollout"])
    return [group for _, group in rows.groupby((changed | place.le(place.shift())).cumsum().to_numpy())]


def _replaced(rows: pd.DataFrame) -> bool:
    return "used" in rows and rows["used"].eq(False).all()


def teaches(rows: pd.DataFrame) -> bool:
    """Return whether anything is learned from a group: it was trained on, and not all of it was paid alike."""
    return bool(rows["advantage"].fillna(0).any()) and not _replaced(rows)


def first_to_teach(groups: Sequence[pd.DataFrame]) -> int:
    """Return the number of the first group that teaches something; 0 if none does."""
    return next((place for place, rows in enumerate(groups) if teaches(rows)), 0)


def label_of(rows: pd.DataFrame, place: int, n: int) -> str:
    """Return a group's name in a list of n: its question, and how many of its completions are right."""
    right = int((rows["predicted"] == rows["answer"]).sum())
    what = rows["id"].iloc[0] if pd.notna(rows["id"].iloc[0]) else rows["question"].iloc[0]
    replaced = ", replaced" if _replaced(rows) else ""
    return f"{place + 1} of {n}: {str(what)[:60]}, {right} of {len(rows)} right{replaced}"


def group_html(rows: pd.DataFrame, pictures: Pictures, beside: str = "") -> str:
    """Return one group: image, question, and what each completion said, was paid and is worth.

    A bar shows a completion's pay, a line across it the group's mean. A text that training makes likelier has another
    ground than one that it makes less likely, the stronger, the larger its advantage; all tokens of it share that.

    Args:
        rows: the completions of one question.
        pictures: where its image comes from.
        beside: HTML to the right of the question.
    """
    first = rows.iloc[0].to_dict()
    rewards = [column for column in rows if column not in ROLLOUTS]
    sums = rows[rewards].sum(axis=1)
    said = f"rewards summed: mean {number(sums.mean())}, from {number(sums.min())} to {number(sums.max())}"
    if _replaced(rows):
        said += " " + badge("replaced by dynamic sampling: not trained on", "warn")
    elif rows["advantage"].eq(0).all():
        said += " " + badge("every advantage is 0: nothing is learned from this group", "warn")
    else:
        said += " <small>(on green: made likelier, on red: less likely; the line across a bar: the mean)</small>"
    named = [name.replace("_", " ") for name in rewards]
    columns = ["", "completion", "read as", "paid", *named, "advantage", "tokens"]
    body = [_completion(row, rewards, bar) for row, bar in zip(rows.to_dict("records"), _bars(sums))]
    asked = first | {"image_id": first["id"], "options": first.get("options") or []}
    said = f'<p data-mk="rewards">{said}</p>'
    return question_html(asked, {}, pictures, beside) + said + table(body, columns, "completions")


def _bars(sums: pd.Series) -> list[str]:
    """What each completion was paid as a bar, from the group's lowest pay or 0, and the mean as a line across it."""
    low = min(0.0, sums.min())
    wide = (sums.max() - low) or 1.0
    places = [f"{100 * (value - low) / wide:.0f}%" for value in (*sums, sums.mean())]
    bar = '<span class="mk-number">{} <span class="mk-pay" style="--mk-paid:{};--mk-mean:{}"></span></span>'.format
    return [bar(escape(number(value)), place, places[-1]) for place, value in zip(places, sums)]


def _tinted(text: str, advantage: float) -> str:
    """A text as HTML on the ground that says which way, and how strongly, training pushes it."""
    if pd.isna(advantage) or not advantage:
        return escape(text)
    way, strength = "up" if advantage > 0 else "down", min(45, round(10 + 14 * abs(advantage)))  # from 2.5 on all alike
    return f'<span class="mk-{way}" style="--mk-push:{strength}%">{escape(text)}</span>'


def _completion(row: dict, rewards: list[str], bar: str) -> list[str]:
    mark, kind = ("right", "good") if row["predicted"] == row["answer"] else ("wrong", "bad")
    read = badge("not read", "warn") if pd.isna(row["predicted"]) else badge(row["predicted"], kind)
    cut = " " + badge("cut off", "warn") if row.get("truncated") is True else ""
    text = f'<div class="mk-text" dir="auto" tabindex="0">{_tinted(row["text"], row["advantage"])}</div>'
    numbers = [*(number(row[name]) for name in rewards), number(row["advantage"], sign=True)]
    says = [escape(row["rollout"]), text, f"{read} <small>{mark}</small>", bar, *map(escape, numbers)]
    return [*says, f"{escape(row['n_tokens'])}{cut}"]
