"""Reading questions for an audit: a Dataset, a frame or a list of dicts; column by column, images left alone.

An audit compares texts by the million, so every option text is normalised once, gets a number, and is a number from
then on: see :func:`encode`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from medr1kit.alike import alike
from medr1kit.data.cells import missing, unknown
from medr1kit.data.image_paths import image_path
from medr1kit.data.record import plain_name
from medr1kit.given import kind
from medr1kit.results.clusters import clustering
from medr1kit.results.columns import read_column
from medr1kit.vqa import (
    LETTERS,
    DataError,
    format_problem,
    lowered,
    modality_name,
    parse_problem,
    parse_solution,
    task_name,
)


@dataclass
class Questions:
    """One side of an audit, a list entry a row; None where a side does not have the column.

    Attributes:
        name: "train" or "test", for messages.
        options: option texts as they stand.
        gold: place of the gold option.
        stems, problems: question without and with its options.
        images: image_id, or the image path; None in a row without.
        ids, modalities, tasks: as in :mod:`medr1kit.vqa`.
        patients: patient_id, one spelling for one patient; None in a row without.
    """

    name: str
    options: list[list[str]]
    gold: list[int]
    stems: list[str] | None
    problems: list[str] | None
    images: list[str | None] | None
    ids: list[str] | None
    modalities: list[str | None]
    tasks: list[str | None]
    patients: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.options)

    @cached_property
    def gold_texts(self) -> list[str]:
        """The gold option's text, a row."""
        return [options[place] for options, place in zip(self.options, self.gold)]

    @cached_property
    def vocabulary(self) -> tuple[int, int]:
        """How many distinct texts are right, and how many others are right in no row; see :func:`plain`."""
        gold = {plain(text) for text in set(self.gold_texts)}
        every = {plain(text) for text in {text for options in self.options for text in options}}
        return len(gold), len(every - gold)

    @cached_property
    def files(self) -> list[str | None] | None:
        """The images in one spelling for one file: "./a.png" is "a.png"; accents composed."""
        return None if self.images is None else file_names(self.images)

    def about_images(self, *others: Sequence[Hashable]) -> list[tuple | None]:
        """The image together with other things, a row; None in a row without image."""
        rows = zip(self.files or [None] * len(self), *others)
        return [None if row[0] is None else row for row in rows]

    def gold_letters(self) -> list[str]:
        """The gold letter, a row."""
        return [LETTERS[place] for place in self.gold]

    @cached_property
    def commonest_letter(self) -> str:
        """The letter that is gold most often; of equals the first."""
        return max(LETTERS, key=self.gold_letters().count)


def read_questions(data: Any, name: str) -> Questions:
    """Read one side of an audit.

    Args:
        data: Dataset, frame or list of rows with ``options`` (texts in letter order) and ``answer`` (gold letter), or
            with Med-R1's own ``problem`` and ``solution``; other columns are used where they are there.
        name: what to call the data in an error.

    Raises:
        DataError: if the columns are missing, there are no rows, a gold letter names no option, or a modality or task
            is unknown.
    """
    if isinstance(data, str | os.PathLike | Mapping):
        what = "a name" if isinstance(data, str | os.PathLike) else "several splits"
        raise DataError(f"{name} is {what}, not a table of questions; load it with load_vqa and pass one split")
    if not hasattr(data, "columns") and not hasattr(data, "column_names"):
        data = list(data) if isinstance(data, Iterable) else [data]
        if others := [row for row in data if not isinstance(row, Mapping)]:
            raise DataError(f"{name} is or holds {kind(others[0])}, no table of questions; load it with load_vqa")
    if {"predicted", "well_formed"} <= {*getattr(data, "column_names", getattr(data, "columns", ()))}:
        raise DataError(f"{name} holds predictions, not questions; pass the data set whose questions were asked")
    if len(data) == 0:
        raise DataError(f"{name} has no rows; pass data with questions in it")
    problems, stems = column(data, "problem", None), column(data, "question", None)
    options, answers = column(data, "options", None), column(data, "answer", None)
    if problems is not None and (options is None or answers is None):
        solutions = column(data, "solution", name)
        parsed = (_named(name, row, parse_problem, problem) for row, problem in enumerate(problems))
        stems, options = map(list, zip(*parsed))
        answers = [_named(name, row, parse_solution, solution) for row, solution in enumerate(solutions)]
    options, answers = options or column(data, "options", name), answers or column(data, "answer", name)
    gold = [_place(name, row, *pair) for row, pair in enumerate(zip(options, answers))]
    options = [list(texts) for texts in options]
    if problems is None and stems is not None:
        problems = [format_problem(str(stem), texts) for stem, texts in zip(stems, options)]
    images = _known(column(data, "image_id", None)) or _known(_paths(data))
    unknown = [None] * len(gold)
    modalities = _canonical(name, column(data, "modality", None) or unknown, modality_name)
    tasks = _canonical(name, column(data, "task", None) or unknown, task_name)
    patients = column(data, "patient_id", None)
    patients = _known(None if patients is None else patient_names(patients))
    ids = column(data, "id", None)
    return Questions(name, options, gold, stems, problems, images, ids, modalities, tasks, patients)


def file_names(paths: Iterable[Any]) -> list[str | None]:
    """Return image paths in one spelling for one file, however they are written; None where there is none.

    >>> file_names(["./img/a.png", "img\\\\a.png", None])
    ['img/a.png', 'img/a.png', None]
    """
    return [None if missing(path) else image_path(str(path)) for path in paths]


def patient_names(values: Iterable[Any]) -> list[str | None]:
    """Return patient ids in one spelling for one patient: 7.0 is 7, look-alikes are one; None where unknown."""
    return [None if unknown(value) else plain_name(value, "patient_id") for value in values]


def _place(name: str, row: int, options: Any, answer: Any) -> int:
    place = LETTERS.find(answer) if isinstance(answer, str) and len(answer) == 1 else -1
    if isinstance(options, str) or not hasattr(options, "__len__") or not 0 <= place < len(options):
        said = f"{name} row {row}: the answer {answer!r} names none of the options {options!r:.80}"
        raise DataError(f"{said}; correct it, or pass what load_vqa(…, check='drop') returns, without such rows")
    return place


def _named(name: str, row: int, parse: Callable, *values: Any) -> Any:
    try:
        return parse(*values)
    except (DataError, TypeError) as error:
        raise DataError(f"{name} row {row}: {error}") from error


def _known(values: list[Any] | None) -> list[str | None] | None:
    """Names as texts, None where a row has none; None if no row has one."""
    if values is None:
        return None
    values = [None if value is None or value != value or value == "" else str(value) for value in values]
    return values if any(value is not None for value in values) else None


def _paths(data: Any) -> list[str] | None:
    if hasattr(data, "features") and getattr(data.features.get("image"), "dtype", None) != "string":
        return None  # the images themselves; they are not to be decoded
    values = column(data, "image", None)
    return values if values is not None and all(isinstance(value, str) for value in values) else None


def _canonical(name: str, values: list[Any], canonical: Callable[[str], str]) -> list[str | None]:
    known = [isinstance(value, str) and value.casefold() not in ("", "unknown") for value in values]
    return [_named(name, row, canonical, value) if known[row] else None for row, value in enumerate(values)]


def column(data: Any, name: str, table: str | None) -> list[Any] | None:
    """Return one column as a list; images are never decoded.

    Args:
        data: Dataset, frame or list of rows.
        name: the column.
        table: what to call the data in an error; None: a missing column is None.

    Raises:
        DataError: if the column is missing and ``table`` is given.
    """
    if hasattr(data, "select_columns"):
        values = data.select_columns([name]).with_format(None)[:][name] if name in data.column_names else None
    elif isinstance(data, pd.DataFrame):
        values = data[name].tolist() if name in data else None
    else:
        rows = list(data)
        values = [row[name] for row in rows] if all(name in row for row in rows) else None
    if values is None and table is not None:
        raise DataError(f"{table} has no column {name!r}; load it with load_vqa")
    return values


# --- texts -----------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Return a text in lower case, with letters, digits and single blanks only (Med-R1 facts, section 1.7).

    A text without any letter or digit stays as it is, so that "+" and "-" are two texts. What looks the same counts as
    the same (:func:`medr1kit.alike.alike`).

    >>> plain("It's  a T2, N0 stage.")
    'its a t2 n0 stage'
    """
    text = alike(str(text))
    return " ".join(re.sub(r"[^\w\s]|_", "", text.lower()).split()) or text.strip()


@dataclass(frozen=True)
class Wording:
    """The texts of a list of questions as numbers; equal numbers are equal texts, in training and test.

    Attributes:
        texts: number of every option's text, question after question.
        lengths: length of every option's normalised text.
        starts: where each question's options begin in ``texts``.
        counts: options a question.
        gold: where each question's gold option stands in ``texts``.
        stems: number of each question's stem, -1 where unknown.
    """

    texts: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    gold: np.ndarray
    stems: np.ndarray


def encode(*sides: Questions) -> list[Wording]:
    """Number the normalised option texts and stems of several sides in one go."""
    options = [[text for texts in side.options for text in texts] for side in sides]
    plain_of = {text: plain(text) for text in set().union(*options)}
    texts = _numbered([[plain_of[text] for text in side] for side in options])
    stems = _numbered([loose(side.stems) if side.stems else [None] * len(side) for side in sides])
    coded = []
    for place, side in enumerate(sides):
        counts = np.array(list(map(len, side.options)))
        starts = np.cumsum(counts) - counts
        lengths = np.array([len(plain_of[text]) for text in options[place]])
        coded.append(Wording(texts[place], lengths, starts, counts, starts + np.array(side.gold), stems[place]))
    return coded


def _numbered(sides: list[list[str | None]]) -> list[np.ndarray]:
    """Numbers instead of texts, equal where these are; -1 for None."""
    codes, _ = pd.factorize(np.array([text for side in sides for text in side], dtype=object))
    return np.split(codes, np.cumsum([len(side) for side in sides])[:-1])


def loose(texts: Iterable[str]) -> list[str]:
    """Return texts as stems and problems are compared: case and repeated blanks do not count."""
    return [lowered(text) for text in texts]


def seen_in(values: Sequence[Hashable], known: Iterable[Hashable]) -> np.ndarray:
    """Return for each value whether it is among the known ones; None never is."""
    known = set(known) - {None}
    return np.array([value in known for value in values], dtype=bool)


def units_of(data: Any, table: str, cluster: str | bool | None = None) -> tuple[np.ndarray | None, str | None]:
    """Return what the rows of a side count as, and its name; None and None where each counts for itself.

    Args:
        data: Dataset, frame or list of rows.
        table: what to call the data in an error.
        cluster: as in :func:`medr1kit.score`.

    Raises:
        DataError: if the column is missing, or in some row.
    """
    if isinstance(cluster, str):
        names = pd.Series(column(data, cluster, table), dtype=object)
        if (missing := names.isna().to_numpy()).any():
            raise DataError(f"{table} row {int(missing.argmax())} has no {cluster}; cluster= needs it in every row")
        return pd.factorize(names)[0], cluster
    patients = column(data, "patient_id", None) if cluster is None else None
    if patients is None:
        return None, None
    frame = pd.DataFrame({"patient_id": read_column(pd.Series(patients, dtype=object, name="patient_id"))})
    units, by_patient = clustering([frame])
    return (units, "patient_id") if by_patient.any() else (None, None)
