"""Pictures of the test that have a twin in training, as pairs: whether two pictures are one, a reader sees at a glance.

A count of lookalikes convinces nobody who has not seen a case, and of drawn pictures some are no copies. So an audit
keeps the pairs, and the pictures of a few of them, small, so that a report needs no data set to be shown.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd

from medr1kit.audits.hashes import Hashed, nearest
from medr1kit.audits.measures import SIDES
from medr1kit.audits.rows import Questions
from medr1kit.data.images import find_image, read_image
from medr1kit.data.pixels import Unfit, encode
from medr1kit.vqa import LETTERS, DataError

SHOWN = 4
"""Pairs of which a report keeps the pictures."""
_SIDE = 192  # pixels
_PAIRS = '<div data-mk="lookalikes">{}<div style="display:flex;flex-wrap:wrap;gap:1em 3em">{}</div></div>'
_PAIR = '<div><p>{}:</p><div style="display:flex;gap:1em">{}{}</div></div>'
_CARD = (
    '<div style="width:{width}px">{picture}<div><b>{title}</b></div><div>{question}</div><div>gold: {gold}</div></div>'
)


class Twins(NamedTuple):
    """The training row whose picture is most like that of each test row.

    Attributes:
        train: its number, -1 where none is alike.
        bits: in how many of their 64 bits the two looks differ.
        same_file: whether the two are one file, byte by byte.
    """

    train: np.ndarray
    bits: np.ndarray
    same_file: np.ndarray


class Card(NamedTuple):
    """One picture of a pair with what is asked about it; ``picture`` is a data address, empty if it cannot be read."""

    side: str
    row: int
    name: str
    question: str
    gold: str
    picture: str


class Pair(NamedTuple):
    """Two pictures that look alike, and what is known of them in words."""

    test: Card
    train: Card
    alike: str

    def __str__(self) -> str:
        one, other = (f"{card.side} row {card.row} ({card.name}, gold {card.gold})" for card in self[:2])
        return f"{one} and {other}: {self.alike}"


def find_twins(train: Sequence[Hashed], test: Sequence[Hashed], distance: int) -> Twins:
    """Return the twins of test pictures: the same file if training has it, else the nearest look within ``distance``.

    Args:
        train, test: one :class:`~medr1kit.audits.hashes.Hashed` a row.
        distance: bits of two looks that may differ.
    """
    first = {image.content: row for row, image in reversed([*enumerate(train)])}
    files = np.array([-1 if image.content is None else first.get(image.content, -1) for image in test], dtype=int)
    looks = nearest([image.look for image in test], [image.look for image in train], distance)
    places = np.where(files < 0, looks, files)
    apart = [0 if files[row] >= 0 or place < 0 else (test[row].look ^ train[place].look).bit_count()
             for row, place in enumerate(places.tolist())]  # fmt: skip
    return Twins(places, np.array(apart, dtype=int), files >= 0)


def frame_of(twins: Twins, train: Questions, test: Questions) -> pd.DataFrame:
    """Return the pairs, one a test picture, those under two names first and of these the ones most alike.

    Returns:
        ``test_row``, ``train_row``, ``bits``, ``same_file``, ``same_name`` (one image path or id on both sides).
    """
    rows = np.flatnonzero(twins.train >= 0)
    names, known = test.files or [None] * len(test), train.files or [None] * len(train)
    frame = pd.DataFrame({"test_row": rows, "train_row": twins.train[rows]})
    frame = frame.assign(bits=twins.bits[rows], same_file=twins.same_file[rows])
    frame["same_name"] = [names[row] is not None and names[row] == known[twins.train[row]] for row in rows]
    one_each = ~pd.Series([names[row] or row for row in rows], dtype=object).duplicated().to_numpy()
    return frame[one_each].sort_values(["same_name", "same_file", "bits"], kind="stable").reset_index(drop=True)


def pairs_of(pairs: pd.DataFrame, sides: dict[str, Questions], data: dict[str, Any], folder: str | os.PathLike | None):
    """Return the first :data:`SHOWN` pairs with their pictures.

    Args:
        pairs: from :func:`frame_of`.
        sides, data: the questions as they were read and as they were given, by "train" and "test".
        folder: where image paths start from; None: the images are in the data.
    """
    found = []
    for pair in pairs.head(SHOWN).itertuples():
        rows = {"test": pair.test_row, "train": pair.train_row}
        cards = [_card(sides[side], row, _picture(data[side], sides[side], row, folder)) for side, row in rows.items()]
        file = f"one file under {'one name' if pair.same_name else 'two names'}"
        alike = file if pair.same_file else f"their looks differ in {pair.bits} of 64 bits"
        found.append(Pair(*cards, alike))
    return tuple(found)


def _card(side: Questions, row: int, picture: str) -> Card:
    name = str(side.images[row]) if side.images and side.images[row] is not None else "no name"
    question = side.stems[row] if side.stems else "question not given"
    return Card(
        SIDES[side.name], row, name, str(question), f"{LETTERS[side.gold[row]]}) {side.gold_texts[row]}", picture
    )


def _picture(data: Any, side: Questions, row: int, folder: str | os.PathLike | None) -> str:
    try:
        if folder is not None:
            return encode(read_image(find_image(folder, side.images[row]), frame=0), _SIDE)
        stored = data.select([row]).select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
        image = stored[0]["image"]
        source = image["path"] if image["bytes"] is None else image["bytes"]
        return encode(read_image(source, frame=0), _SIDE)
    except (DataError, Unfit, OSError):  # it was there when it was hashed
        return ""


def pairs_html(pairs: Sequence[Pair], total: int) -> str:
    """Return pairs as HTML, two pictures side by side with question and gold; nothing where there are none."""
    if not pairs:
        return ""
    more = f"{len(pairs)} of {total:,} pairs: " if total > len(pairs) else ""
    head = f"<p><strong>Lookalikes</strong>, {more}test on the left, training on the right. One picture, or two?</p>"
    shown = (_PAIR.format(html.escape(pair.alike), *map(_card_html, pair[:2])) for pair in pairs)
    return _PAIRS.format(head, "".join(shown))


def _card_html(card: Card) -> str:
    title = html.escape(f"{card.side} row {card.row}: {card.name}")
    picture = f'<img alt="{title}" width="100%" src="{card.picture}">' if card.picture else "picture not readable"
    question, gold = html.escape(card.question), html.escape(card.gold)
    return _CARD.format(width=_SIDE, picture=picture, title=title, question=question, gold=gold)
