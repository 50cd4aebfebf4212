"""Which picture each question is shown, and in which order questions are read.

From nothing at all to what is nearest to the right picture::

    absent          no picture: the prompt has no place for one
    blank           a grey picture
    patches         the right picture, its tiles in another order: colours and textures, no shapes larger than a tile
    shuffled-all    a picture of the data set
    shuffled        a picture of the same modality
    nearest         the most similar picture of the same modality whose question has another gold

Similar means near in pixels: the squared difference of the pictures at 16 x 16. That needs no other model, and so no
other model's view of what matters; it is deterministic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medr1kit.data.closed import yes_or_no
from medr1kit.vqa import LETTERS, fold

if TYPE_CHECKING:
    from transformers import ProcessorMixin

IMAGES = ("right", "absent", "blank", "patches", "shuffled-all", "shuffled", "nearest")
_THUMBNAIL = (16, 16)
_AT_ONCE = 64  # pictures in memory


def image_rows(
    questions: list[dict], images: str, seed: int, pictures: Callable[[Sequence[int]], list[Any]]
) -> list[int | None]:
    """For each question the row whose image is shown; None for none, or a blank one.

    Shuffled images, of a modality or of all, are moved on by one along a random circle: never the right ones.

    Args:
        questions: rows of :mod:`medr1kit.vqa`.
        images: one of :data:`IMAGES`.
        seed: of the circle.
        pictures: gives the PIL images of rows; asked where images are compared.
    """
    if images in ("right", "patches"):
        return list(range(len(questions)))
    if images in ("absent", "blank"):
        return [None] * len(questions)
    if images == "nearest":
        return _nearest(questions, pictures)
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


def _nearest(questions: list[dict], pictures: Callable[[Sequence[int]], list[Any]]) -> list[int]:
    """For each question the most similar picture of its modality that is gold for something else; itself if none is.

    Pictures come first whose gold is one of this question's other options: there it can be seen whether an answer
    follows the wrong picture. Next come those of the same task. A picture of which any question has this gold is left
    out.
    """
    golds, of_image, rows_of = [_gold(row) for row in questions], defaultdict(set), defaultdict(list)
    for i, (row, gold) in enumerate(zip(questions, golds)):
        of_image[row["image_id"]].add(gold)
        kind = row.get("modality"), row.get("task"), gold
        for level in (1, 2, 3):
            rows_of[kind[:level]].append(i)
    looks, found = _thumbnails(questions, pictures), []
    for i, (row, gold) in enumerate(zip(questions, golds)):
        kind = row.get("modality"), row.get("task")
        offered = [j for text in map(fold, row["options"]) for j in rows_of.get((*kind, text), ())]
        offered = [j for j in offered if followed_letter(row, questions[j])]
        for rows in (offered, rows_of[kind], rows_of[kind[:1]]):
            others = [j for j in rows if gold not in of_image[questions[j]["image_id"]]]
            if others:
                far = np.square(looks[others] - looks[i]).sum(1)  # (others,)
                found.append(others[int(far.argmin())])
                break
        else:
            found.append(i)
    return found


def _gold(question: dict) -> str:
    return fold(question["options"][LETTERS.index(question["answer"])])


def _thumbnails(questions: list[dict], pictures: Callable[[Sequence[int]], list[Any]]) -> np.ndarray:
    """The picture of each question at 16 x 16, in one row of numbers: (questions, 768)."""
    first: dict[str, int] = {}
    for i, row in enumerate(questions):
        first.setdefault(row["image_id"], i)
    rows, small = list(first.values()), []
    for start in range(0, len(rows), _AT_ONCE):
        shown = pictures(rows[start : start + _AT_ONCE])
        small += [np.asarray(one.convert("RGB").resize(_THUMBNAIL, Image.Resampling.BOX)).ravel() for one in shown]
    place = {image: k for k, image in enumerate(first)}
    return np.array(small, dtype=np.float32)[[place[row["image_id"]] for row in questions]]


def followed_letter(question: dict, other: dict) -> str | None:
    """Return the letter that another question's gold has in this one, which is wrong here; None if that says nothing.

    It says something if both are of one task and the gold stands among this question's options; of yes and no only if
    both ask the same.

    >>> liver = {"question": "Organ?", "options": ["liver", "lung"], "answer": "A"}
    >>> followed_letter(liver, {"question": "Which?", "options": ["heart", "Lung"], "answer": "B"})
    'B'
    """
    gold, options = _gold(other), [fold(text) for text in question["options"]]
    if question.get("task") != other.get("task") or gold == _gold(question) or gold not in options:
        return None
    if yes_or_no(other["question"], gold) and fold(question["question"]) != fold(other["question"]):
        return None
    return LETTERS[options.index(gold)]


def patches_moved(picture: Image.Image, processor: ProcessorMixin, seed: Sequence[int]) -> Image.Image:
    """Return a picture at the size in which a model reads it, its tiles moved on by one along a random circle.

    A tile is what becomes one image token, so that each token keeps what it shows and loses its place. (Under bounds on
    pixels so tight that the processor would resize its own size again, tiles and tokens lie beside each other.)

    Args:
        picture: a PIL image.
        processor: the model's.
        seed: numbers that decide the circle.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    images = processor.image_processor
    side, bounds = images.patch_size * images.merge_size, images.size
    height, width = smart_resize(*picture.size[::-1], side, bounds["shortest_edge"], bounds["longest_edge"])
    pixels = np.asarray(picture.convert("RGB").resize((width, height), images.resample))  # (height, width, 3)
    tiles = pixels.reshape(height // side, side, width // side, side, 3).swapaxes(1, 2)  # (down, across, side, side, 3)
    flat = tiles.reshape(-1, side, side, 3)
    moved, circle = np.empty_like(flat), np.random.default_rng(seed).permutation(len(flat))
    moved[np.roll(circle, 1)] = flat[circle]
    return Image.fromarray(moved.reshape(tiles.shape).swapaxes(1, 2).reshape(pixels.shape))


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
