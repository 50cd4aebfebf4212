"""What a reader returns: the rows that are sound, as records, and those that are not, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import datasets

from medr1kit.data.record import make_record
from medr1kit.data.stored import stored_images, unwrapped
from medr1kit.data.understanding import as_questions
from medr1kit.progress import progress
from medr1kit.vqa import DataError


@dataclass(frozen=True)
class Refused:
    """A row that cannot be used: its file, its number (from 0; in spreadsheets as they count) and the reason."""

    file: str
    row: int
    reason: str

    @property
    def kind(self) -> str:
        """What is wrong, without the particular value."""
        return re.split(r"[:;'\"]", self.reason)[0].strip().removesuffix(" in").rstrip(",")

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.reason}"


@dataclass
class Source:
    """The rows of a source.

    Attributes:
        name: what to call the source in an error.
        folder: the image folder, or None.
        pictures: for a table with stored images: a data set of that one column, not decoded.
        within: of such a table: the only places that paths stored in it may lead to; None for any.
        records: the sound rows; beside the columns each has ``file``, ``row`` and its ``position`` in ``pictures``.
        refused: the others.
    """

    name: str
    folder: Path | None = None
    pictures: datasets.Dataset | None = None
    within: list[Path] | None = None
    records: list[dict] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def read(
        self,
        items: Sequence[object],
        file: str,
        convert: Callable[[object, int], dict],
        numbers: Iterable[int] | None = None,
    ) -> None:
        """Add the items of one file; ``convert`` makes a record of an item and its number, or raises DataError.

        ``numbers``: what the rows are called, where they are not counted from 0.
        """
        seen = {record["id"] for record in self.records}
        numbers = range(len(items)) if numbers is None else numbers
        for row, item in zip(numbers, progress(items, f"reading {Path(file).name}", unit="row")):
            try:
                record = convert(item, row)
                if record["id"] in seen:
                    hint = "ids must be unique; columns={'id': None} numbers the rows"
                    raise DataError(f"id used twice: {record['id']!r}, {hint}")
            except DataError as error:
                self.refused.append(Refused(file, row, str(error)))
                continue
            seen.add(record["id"])
            self.records.append({"file": file, "row": row, "position": None, **record})

    def add(
        self,
        rows: Sequence[Any],
        file: str,
        prefix: str,
        stem: str,
        columns: Mapping[str, Any] | None = None,
        yes_no: bool = False,
        numbers: Sequence[int] | None = None,
        about: str = "",
    ) -> None:
        """Add the rows of a table: of Med-R1's form, or of columns that are to be understood.

        Args:
            rows: dicts; an error stands for a row that could not be read.
            file: what the table is called in an error.
            prefix: the beginning of ids where rows have none.
            stem: the source where no row names one.
            columns: what the user says about the columns.
            yes_no: whether yes and no become the options of questions without any.
            numbers: what the rows are called; None: they are counted from 0.
            about: how the file was read.
        """
        if not isinstance(yes_no, bool):
            raise DataError(f"yes_no={yes_no!r} is neither True nor False")
        numbers = range(len(rows)) if numbers is None else numbers
        pictured = self.folder is not None or self.pictures is not None
        finished = columns is None and not yes_no and _as_med_r1_writes(rows)
        rows = rows if finished else as_questions(rows, numbers, file, columns, yes_no, about, pictured)
        stored = None if self.pictures is not None else stored_images(rows)
        if stored is not None:
            column = [one if isinstance(one, dict) else None for one in stored]
            features = datasets.Features({"image": datasets.Image(decode=False)})
            self.pictures = datasets.Dataset.from_dict({"image": column}, features=features)
            if self.folder is not None:
                raise DataError(f"{file}: images= does not go with a table that holds its images; leave it out")
        named = ["image" in row for row in rows if isinstance(row, dict)]
        if self.folder is not None and named and not any(named):
            raise DataError(f"{file}: images= is given, and no column names an image; columns={{'image': …}} does")
        places, stored_here = count(), self.pictures is not None

        def convert(row: Any, number: int) -> dict:
            place = next(places)
            refused = row if isinstance(row, DataError) else stored[place] if stored is not None else None
            if isinstance(refused, DataError):
                raise refused
            sound = type(row) is dict  # what is none, or has a key twice, is refused as it is
            if sound and stored_here:
                row = {key: value for key, value in row.items() if key != "image"}
            elif sound and "image" in row:
                row = {**row, "image": unwrapped(row["image"])}
            if sound and (stored_here or (not finished and "image" not in row)):
                row = {"image_id": None, **row}
            record = make_record(row, f"{prefix}-{number}", stem)
            record["image_id"] = record["image_id"] or (None if stored_here else record["id"])
            return {**record, "position": place if stored_here else None}

        self.read(rows, file, convert, numbers)


def _as_med_r1_writes(rows: Sequence[Any]) -> bool:
    """Whether rows say problem and solution, with options, if any, as a list; and where none of them is a row.

    A problem without any option is a question of a table, whose options stand elsewhere.
    """
    some = [row for row in rows[:100] if isinstance(row, dict)]
    listed = all(isinstance(row.get("options"), (list, tuple, type(None))) for row in some)
    problems = [row["problem"] for row in some if isinstance(row.get("problem"), str)]
    shown = not problems or any(map(_SHOWN.search, problems)) or any(row.get("options") for row in some)
    return not some or (
        listed and shown and any("problem" in row for row in some) and any("solution" in row for row in some)
    )


_SHOWN = re.compile(r"(?:^|\s)A\)|\n\s*A:")
