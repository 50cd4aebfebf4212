"""A group of a step as HTML: one question, and what each of its completions said, was paid and is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medr1kit.results.numbers import number
from medr1kit.results.tables import ROLLOUTS
from medr1kit.views.html import badge, escape, table
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.question import question_html


def groups_of(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the groups of a step: neighbouring rows about one question, numbered upwards.

    A group that dynamic sampling replaced stands apart from one about the same question that was used.
    """
    if rows.empty:
        return []
    keys = [name for name in ("id", "question", "used") if name in rows]
    changed = rows[keys].astype(str).ne(rows[keys].astype(str).shift()).any(axis=1)
    number = pd.to_numeric(rows["rollout"])
    return [group for _, group in rows.groupby((changed | number.le(number.shift())).cumsum().to_numpy())]


def _replaced(rows: pd.DataFrame) -> bool:
    return "used" in rows and rows["used"].eq(False).all()


def label_of(rows: pd.DataFrame, place: int, n: int) -> str:
    """Return a group's name in a list of n: its question, and how many of its completions are right."""
    right = int((rows["predicted"] == rows["answer"]).sum())
    what = rows["id"].iloc[0] if pd.notna(rows["id"].iloc[0]) else rows["question"].iloc[0]
    replaced = ", replaced" if _replaced(rows) else ""
    return f"{place + 1} of {n}: {str(what)[:60]}, {right} of {len(rows)} right{replaced}"


def group_html(rows: pd.DataFrame, pictures: Pictures) -> str:
    """Return one group: image, question, and what each completion said, was paid and is worth.

    Args:
        rows: the completions of one question.
        pictures: where its image comes from.
    """
    first = rows.iloc[0].to_dict()
    rewards = [column for column in rows if column not in ROLLOUTS]
    sums = rows[rewards].sum(axis=1)
    says = []
    if _replaced(rows):
        says = [badge("replaced by dynamic sampling: not trained on", "warn")]
    elif rows["advantage"].eq(0).all():
        says = [badge("every advantage is 0: nothing is learned from this group", "warn")]
    spread = f"rewards summed: mean {number(sums.mean())}, from {number(sums.min())} to {number(sums.max())}"
    columns = ["", "completion", "read as", *(name.replace("_", " ") for name in rewards), "advantage", "tokens"]
    body = [_completion(row, rewards) for row in rows.to_dict("records")]
    asked = first | {"image_id": first["id"], "options": first.get("options") or []}
    said = " ".join([spread, *says])
    return f'{question_html(asked, {}, pictures)}<p data-mk="rewards">{said}</p>{table(body, columns, "completions")}'


def _completion(row: Mapping[str, Any], rewards: list[str]) -> list[str]:
    mark, kind = ("right", "good") if row["predicted"] == row["answer"] else ("wrong", "bad")
    read = badge("not read", "warn") if pd.isna(row["predicted"]) else badge(row["predicted"], kind)
    cut = " " + badge("cut off", "warn") if row.get("truncated") is True else ""
    return [
        escape(row["rollout"]),
        f'<div class="mk-text" dir="auto" tabindex="0">{escape(row["text"])}</div>',
        f"{read} <small>{mark}</small>",
        *(escape(number(row[name])) for name in rewards),
        escape(number(row["advantage"], sign=True)),
        f"{escape(row['n_tokens'])}{cut}",
    ]
