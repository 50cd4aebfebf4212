"""Several tables of answers to the same questions, side by side without copying them.

An :class:`Answerer` is one model in one format with one seed. What is kept of its table is where its answer to each
question stands and what filters need: a letter and two flags a question. Texts, options and questions stay in the frame
they came in, and are looked up when they are shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pandas as pd

from medr1kit.formats import (
    ADAPTIVE,
    ANSWER_THINK_ANSWER,
    FORMATS,
    NO_THINK,
    THINK_AFTER,
    THINK_BEFORE,
    ResponseFormat,
    format_named,
)
from medr1kit.results.tables import ANSWERER, check_predictions, rows_by
from medr1kit.vqa import DataError

_NEEDED = ("id", "image_id", "question", "options", "answer", "format", "text", "predicted", "correct", "well_formed")

PAIRED = ("all", "fixed", "broken", "both wrong", "both right", "malformed", "disagree")
"""What questions can be chosen by, where two or more answers are shown; fixed and broken go from the first to the last,
"both" means all that are shown."""
SINGLE = ("all", "right", "wrong", "malformed")
"""… and where one is shown."""


@dataclass(frozen=True)
class Answerer:
    """One model in one format with one seed.

    Attributes:
        name: what tells it from the others.
        format: the response format it was asked for.
        frame: the predictions it came in, checked; texts are not copied.
        rows: for each question, the row of its answer in ``frame``; -1 where it did not answer.
        right: 1 right, 0 wrong, -1 not answered.
        malformed: True where an answer is known to be malformed.
        letters: the letter that was read; None where none was.
    """

    name: str
    format: ResponseFormat
    frame: pd.DataFrame
    rows: np.ndarray
    right: np.ndarray
    malformed: np.ndarray
    letters: np.ndarray

    def answer(self, question: int) -> dict | None:
        """Return the row that answers a question, by its number; None if there is none."""
        place = self.rows[question]
        return None if place < 0 else self.frame.iloc[place].to_dict()

    def column(self, name: str) -> np.ndarray:
        """Return what a column says of each question; None where it was not answered."""
        said, here = np.full(len(self.rows), None, dtype=object), self.rows >= 0
        said[here] = self.frame[name].iloc[self.rows[here]].to_numpy(dtype=object)  # not the whole column for each one
        return said


class Answers:
    """The questions of several predictions, and who answered them.

    Args:
        frames: predictions; one that holds several models, formats or seeds counts as several answerers.
        names: one for each answerer, in order; made from what tells them apart by default.

    Raises:
        DataError: if a column, a gold letter or an option list is missing, one answerer answers a question twice, the
            gold answers of two frames differ, no question is in two of them, or ``names`` do not fit the answerers.
    """

    def __init__(self, frames: Sequence[pd.DataFrame], names: Sequence[str] | None = None) -> None:
        frames = [check_predictions(frame, _NEEDED) for frame in frames]
        if not frames:
            raise DataError("no predictions were given; pass what predict() returned")
        self.ids = np.asarray(pd.unique(pd.concat([frame["id"] for frame in frames])), dtype=object)
        place = pd.Index(self.ids)
        parts = []
        for k, frame in enumerate(frames):
            known = [column for column in ANSWERER if column in frame]
            parts += [(k, frame, rows) for _, rows in rows_by(frame, known)]
        made = _names([(k, frame, rows[0]) for k, frame, rows in parts], len(frames))
        if names is not None and len(names) != len(parts):
            raise DataError(f"names= has {len(names)} names for {len(parts)} answerers: {', '.join(made)}")
        made = made if names is None else list(names)
        if len(set(made)) < len(made):
            raise DataError(f"names= repeats a name: {', '.join(made)}; each answerer needs its own")
        self.answerers = [_answerer(name, frame, rows, place) for name, (_, frame, rows) in zip(made, parts)]
        self._home = np.argmax([one.rows >= 0 for one in self.answerers], axis=0)
        self._check(len(frames))

    def _check(self, n_frames: int) -> None:
        """Refuse what cannot be shown side by side."""
        gold = self.column("answer")
        if n_frames > 1 and not (np.sum([one.rows >= 0 for one in self.answerers], axis=0) > 1).any():
            raise DataError(
                f"no question is answered twice: {self.answerers[0].name!r} has ids such as {self.ids[0]!r}, "
                f"{self.answerers[-1].name!r} such as {self.ids[-1]!r}; predict on the same data, or import with data="
            )
        for one in self.answerers:
            if (other := (one.rows >= 0) & (one.column("answer") != gold)).any():
                raise DataError(
                    f"the gold answer of {self.ids[other.argmax()]!r} differs between {self.answerers[0].name!r} and "
                    f"{one.name!r}; give predictions on the same questions"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def question(self, number: int) -> dict:
        """Return a row that holds a question, by its number from 0."""
        return self.answerers[self._home[number]].answer(number)

    def column(self, name: str) -> np.ndarray:
        """Return what a column says of each question; None where its frame has no such column."""
        values = np.full(len(self.ids), None, dtype=object)
        for k, one in enumerate(self.answerers):
            if name in one.frame and (here := self._home == k).any():
                values[here] = one.frame[name].iloc[one.rows[here]].to_numpy(dtype=object)
        return values

    def where(self, kind: str, shown: Sequence[int]) -> np.ndarray:
        """Return for each question whether it is of a kind, for the answerers that are shown.

        Args:
            kind: one of :data:`PAIRED`, or of :data:`SINGLE` where one is shown.
            shown: numbers of answerers.
        """
        some = [self.answerers[k] for k in shown]
        right = np.stack([one.right for one in some])
        if kind == "all":
            return np.ones(len(self.ids), dtype=bool)
        if kind == "malformed":
            return np.any([one.malformed for one in some], axis=0)
        if kind == "disagree":
            letters = [one.letters for one in some]
            return (right >= 0).all(0) & np.any([letters[0] != other for other in letters[1:]], axis=0)
        if kind in ("fixed", "broken"):
            was, now = (0, 1) if kind == "fixed" else (1, 0)
            return (right[0] == was) & (right[-1] == now)
        if kind not in (*PAIRED, *SINGLE):
            raise DataError(f"unknown filter {kind!r}; use one of {', '.join(PAIRED if len(some) > 1 else SINGLE)}")
        return (right == kind.endswith("right")).all(0)

    def containing(self, text: str, numbers: np.ndarray, shown: Sequence[int]) -> np.ndarray:
        """Return those of some questions whose stem, options or shown completions hold a text, in any case."""
        text = text.casefold()
        stems, options = (self.column(name)[numbers] for name in ("question", "options"))
        found = [_holds(stem, text) or any(_holds(o, text) for o in some) for stem, some in zip(stems, options)]
        for k in shown:
            texts = self.answerers[k].column("text")[numbers]
            found = [known or _holds(written, text) for known, written in zip(found, texts)]
        return numbers[np.array(found, dtype=bool)]


def _holds(value: object, text: str) -> bool:
    return isinstance(value, str) and text in value.casefold()


def _names(parts: Sequence[tuple[int, pd.DataFrame, int]], n_frames: int) -> list[str]:
    """A name for each answerer: what tells it from the others, and its frame where that does not do."""
    labels = [{key: _label(key, frame[key].iloc[row]) for key in ANSWERER if key in frame} for _, frame, row in parts]
    varying = [key for key in ANSWERER if len({label.get(key, "") for label in labels} - {""}) > 1]
    names = [" · ".join(filter(None, (label.get(key, "") for key in varying))) for label in labels]
    if len(set(names)) == len(names) and all(names):
        return names
    roles = [("before", "after")[k] if k < 2 <= n_frames else f"table {k + 1}" for k, _, _ in parts]
    if n_frames > 1:
        names = [" · ".join(filter(None, pair)) for pair in zip(roles, names)]
    return [
        name or "answers" if names.count(name) == 1 else f"{name or 'answers'} ({i + 1})"
        for i, name in enumerate(names)
    ]


def _label(key: str, value: object) -> str:
    if pd.isna(value):
        return ""
    if key in ("seed", "step"):
        return f"{key} {int(value)}" if isinstance(value, float) and value.is_integer() else f"{key} {value}"
    return f"trained on {value}" if key.startswith("train_") else str(value)


def format_of(rows: pd.DataFrame) -> ResponseFormat:
    """Return the format in which answers were read; ``rows`` are predictions that name one format.

    The name of a format of a user's own says nothing of its blocks and tags, but its answers do: it is taken for the
    one of ours, with the tags that are in the texts, that reads the same answers and finds the same well-formed.

    Raises:
        DataError: if none of ours does.
    """
    name = rows["format"].iloc[0]
    if not isinstance(name, str):
        return format_named(name)  # its refusal says which there are
    with suppress(DataError):
        return format_named(name)
    known = rows[rows["well_formed"].notna()].iloc[:500]  # enough to tell
    texts = known["text"].fillna("").astype(str).tolist()
    said = list(zip(texts, known["options"], known["well_formed"].astype(bool), _letters(known["predicted"])))
    for format in _candidates(texts):
        read = ((format.parse(text, options), formed, letter) for text, options, formed, letter in said)
        if all(parsed.well_formed == formed and parsed.answer == letter for parsed, formed, letter in read):
            return replace(format, name=name)
    raise DataError(
        f"unknown format {name!r}, and none of ours reads its answers as this table does; set its column format to one "
        f"of {', '.join(FORMATS)}"
    )


def _candidates(texts: Sequence[str]) -> Iterator[ResponseFormat]:
    """The formats that some texts may be in, those with fewer blocks first: ours, and with the tags in the texts."""
    tags = Counter(tag for text in texts for tag in set(re.findall(r"</([A-Za-z]+)>", text)))
    found = list(dict.fromkeys(["think", "answer", *(tag for tag, _ in tags.most_common(3)), *_UNSEEN]))
    for think, answer in sorted(permutations(found, 2), key=lambda pair: pair != ("think", "answer")):
        for format in (NO_THINK, THINK_AFTER, THINK_BEFORE, ANSWER_THINK_ANSWER, ADAPTIVE):
            with suppress(DataError):  # tags that are alike, or each other's
                yield replace(format, name="?", instruction="", tags={"think": think, "answer": answer})


_UNSEEN = ("ANSWER", "THOUGHT")  # for tags that no text has


def _letters(predicted: pd.Series) -> np.ndarray:
    """Letters as texts, None where none was read."""
    return predicted.astype(object).where(predicted.notna(), None).to_numpy()


def _answerer(name: str, frame: pd.DataFrame, rows: np.ndarray, place: pd.Index) -> Answerer:
    numbers = place.get_indexer(frame["id"].iloc[rows])
    if len(twice := np.flatnonzero(np.bincount(numbers) > 1)):
        raise DataError(f"{name!r} answers {place[twice[0]]!r} more than once; select one run")
    where = np.full(len(place), -1, dtype=np.int32)
    where[numbers] = rows
    right, malformed = np.full(len(place), -1, dtype=np.int8), np.zeros(len(place), dtype=bool)
    letters = np.full(len(place), None, dtype=object)
    right[numbers] = frame["correct"].iloc[rows].to_numpy(dtype=bool)
    malformed[numbers] = (frame["well_formed"].iloc[rows] == False).fillna(False).to_numpy(dtype=bool)  # noqa: E712
    letters[numbers] = _letters(frame["predicted"].iloc[rows])
    return Answerer(name, format_of(frame.iloc[rows[:500]]), frame, where, right, malformed, letters)
