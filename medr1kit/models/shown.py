"""Which picture each question is shown, and in which order questions are read."""

from __future__ import annotations

from typing import Any

import numpy as np

IMAGES = ("right", "blank", "shuffled", "shuffled-all")


def image_rows(questions: list[dict], images: str, seed: int) -> list[int | None]:
    """For each question the row whose image is shown; None for a blank one.

    Shuffled images, of a modality or of all, are moved on by one along a random circle: never the right ones.
    """
    if images == "right":
        return list(range(len(questions)))
    if images == "blank":
        return [None] * len(questions)
    rng = np.random.default_rng(seed)
    circles = [(row.get("modality") or "") if images == "shuffled" else "" for row in questions]
    first_row: dict[str, dict[str, int]] = {}
    for i, (circle, row) in enumerate(zip(circles, questions)):
        first_row.setdefault(circle, {}).setdefault(row["image_id"], i)
    other = {}
    for circle, rows in first_row.items():
        order = [str(image) for image in rng.permutation(list(rows))]
        for image, following in zip(order, order[1:] + order[:1]):
            other[circle, image] = rows[following]
    return [other[circle, row["image_id"]] for circle, row in zip(circles, questions)]


def reading_order(
    rows: list[int], prompts: list[str], questions: list[dict], picture_of: list[int | None]
) -> list[int]:
    """Questions about one image together, and long prompts together, so that a batch is padded little.

    The longest come first, so that too large a batch fails at once.
    """
    images = {i: i if picture_of[i] is None else questions[picture_of[i]]["image_id"] for i in rows}
    longest: dict[Any, int] = {}
    for i in rows:
        longest[images[i]] = max(longest.get(images[i], 0), len(prompts[i]))
    return sorted(rows, key=lambda i: (-longest[images[i]], str(images[i]), -len(prompts[i])))
