"""Question files: Med-R1's JSON and OmniMedVQA's own folder, read row by row.

Each reader returns a :class:`Source`: the rows that are sound, as records with the columns of :mod:`medr1kit.vqa`, and
the rows that are not, each with its reason. What is wrong with a whole file (missing, cut short, not a list) is an
error at once, because then no row of it can be trusted.

Every reason begins with what is wrong and then names the value in quotes, so that reasons can be counted by kind.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets

from medr1kit.given import path_given
from medr1kit.progress import progress
from medr1kit.vqa import LETTERS, DataError, modality_name, parse_problem, parse_solution, task_name, write_question


@dataclass(frozen=True)
class Refused:
    """A row that cannot be used: its file, its number counted from 0, and the reason."""

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
        records: the sound rows; beside the columns each has ``file``, ``row`` and its ``position`` in ``pictures``.
        refused: the others.
    """

    name: str
    folder: Path | None = None
    pictures: datasets.Dataset | None = None
    records: list[dict] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def read(self, items: Iterable[object], file: str, convert: Callable[[object, int], dict]) -> None:
        """Add the items of one file; ``convert`` makes a record of an item and its number, or raises DataError."""
        for row, item in enumerate(progress(items, f"reading {Path(file).name}", unit="row")):
            try:
                self.records.append({"file": file, "row": row, "position": None, **convert(item, row)})
            except DataError as error:
                self.refused.append(Refused(file, row, str(error)))


def read_json_source(
    path: str | os.PathLike, *, images: str | os.PathLike | None = None, meta: str | os.PathLike | None = None
) -> Source:
    """Read a Med-R1 file: an array of objects with image, problem and solution."""
    path = Path(path)
    source = Source(os.fspath(path), image_folder(images))
    items = read_json(path)
    if meta is not None:
        items = _with_meta(items, Path(meta), path)
    prefix, stem = _prefix(path), _stem(path)
    source.read(items, os.fspath(path), lambda item, row: make_record(item, f"{prefix}-{row}", stem))
    return source


def read_omnimedvqa(path: str | os.PathLike, *, images: str | os.PathLike | None = None) -> Source:
    """Read OmniMedVQA's folder: ``QA_information/Open-access/*.json`` and ``Restricted-access``, as far as there."""
    path = Path(path)
    if images is None and (path / "Images").is_dir():
        images = path
    source = Source(os.fspath(path), image_folder(images))
    files = sorted(path.glob("QA_information/*-access/*.json"))
    if not files:
        raise DataError(
            f"{os.fspath(path)!r} holds no QA_information/Open-access/*.json or Restricted-access/*.json; "
            "unpack OmniMedVQA again"
        )
    for file in files:
        _add_omni(source, file)
    return source


def _add_omni(source: Source, file: Path) -> None:
    stem = _stem(file)
    prefix = stem if is_open(file) else f"{file.parent.name}-{stem}"
    name = os.fspath(file)
    source.read(read_json(file), name, lambda item, row: make_record(_from_omni(item), f"{prefix}-{row}", stem))


def is_open(file: str | os.PathLike) -> bool:
    """Return whether a file of OmniMedVQA is of its open part."""
    return Path(file).parent.name == "Open-access"


def image_folder(images: str | os.PathLike | None) -> Path | None:
    """Return the image folder as a path, if it is one.

    Raises:
        DataError: if there is no such folder.
    """
    images = None if images is None else path_given(images, "images")
    if images is not None and not images.is_dir():
        what = "is a file" if images.exists() else "does not exist"
        raise DataError(f"image folder {os.fspath(images)!r} {what}; give the folder that the image paths start from")
    return images


# --- files -----------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> list:
    """Read a JSON array from a file that may be compressed with gzip.

    Raises:
        DataError: if the file is missing, empty, cut short, corrupt, not JSON, or holds anything but a non-empty array.
    """
    name = os.fspath(path)
    if not path.exists():
        raise DataError(f"file not found: {name!r}; check the path")
    if not re.search(r"\.json(\.gz)?$", name, re.IGNORECASE):
        raise DataError(f"{name}: not a .json or .json.gz file; write the rows as one JSON array and name it so")
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: gzip file cut short or corrupt ({error}); fetch it again") from error
    except UnicodeDecodeError as error:
        remedy = "it may be corrupt: fetch it again" if name.lower().endswith(".gz") else "save it as UTF-8"
        raise DataError(f"{name}: not a text in UTF-8 ({error.reason} at byte {error.start}); {remedy}") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error}); check the file and its permissions") from error
    if not text.strip():
        raise DataError(f"{name}: the file is empty; fetch it again")
    rows = _parse_json(text, name)
    if not isinstance(rows, list):
        kind = "an object" if isinstance(rows, dict) else type(rows).__name__
        raise DataError(f"{name}: expected an array of rows, found {kind}; write the rows as one array [{{…}}, {{…}}]")
    if not rows:
        raise DataError(f"{name}: the array has no rows; fetch the file again")
    return rows


def _parse_json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            remedy = "these look like JSON lines: write the rows as one array"
        elif error.pos >= len(text.rstrip()) - 1 or "Unterminated" in error.msg:
            remedy = "the file seems to be cut short: fetch it again"
        else:
            remedy = "correct it there"
        raise DataError(f"{name}: not valid JSON, {error.msg} in line {error.lineno}; {remedy}") from error
    except RecursionError as error:
        raise DataError(f"{name}: nested too deeply to be rows; check the file") from error


def _stem(path: Path) -> str:
    return re.sub(r"\.json(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _prefix(path: Path) -> str:
    """The beginning of the ids: the file's stem, with the split before it where only the folder tells it."""
    folder = path.resolve().parent.name
    return f"{folder}-{_stem(path)}" if folder in ("train", "val", "validation", "test") else _stem(path)


def _with_meta(items: list, meta: Path, path: Path) -> list:
    """Lay modality, task, patient and source of the meta file over the rows."""
    name, rows = os.fspath(meta), read_json(meta)
    if len(rows) != len(items):
        raise DataError(f"{name}: {len(rows)} rows, but {os.fspath(path)} has {len(items)}; they must match row by row")
    merged = []
    for number, (item, row) in enumerate(zip(items, rows, strict=True)):
        if not isinstance(row, dict):
            raise DataError(f"{name}, row {number}: expected an object with image, modality and task; correct the row")
        task_key = "task" if "task" in row else "question_type"
        for key in ("image", "modality", task_key):
            if key not in row:
                raise DataError(f"{name}, row {number}: key {key!r} is missing; add it")
        if isinstance(item, dict) and row["image"] != item.get("image"):
            raise DataError(
                f"{name}, row {number}: image {row['image']!r}, but {os.fspath(path)} has {item.get('image')!r} there; "
                "the two files must have the same rows in the same order"
            )
        known = {name: row[name] for name in ("modality", "patient_id") if name in row}
        known |= {"task": row[task_key], "source": row.get("source_repo") or row.get("source")}
        merged.append({**item, **known} if isinstance(item, dict) else item)
    return merged


# --- rows ------------------------------------------------------------------------------------------------------------


def make_record(item: object, id: str, stem: str) -> dict:
    """Make a record of an object with image, problem and solution.

    Args:
        item: the object; modality, task, source and more are read where it has them.
        id: the record's id.
        stem: the source, where neither the path nor the object names one.

    Raises:
        DataError: if something is missing, malformed or contradictory.
    """
    _check_strings(item, ("image", "problem", "solution"), {"gt_answer": "pass the folder of OmniMedVQA instead"})
    question, options = _question(item)
    answer = parse_solution(item["solution"], len(options))
    if item.get("answer") in tuple(LETTERS) and item["answer"] != answer:
        raise DataError(f"answer and solution disagree: {item['answer']!r}, {item['solution']!r}; correct one of them")
    if not item["image"].strip():
        raise DataError("image path is empty; write the image's path below the image folder")
    path = item["image"].split("/")
    record = {
        "id": id,
        "problem": item["problem"],
        "solution": item["solution"],
        "question": question,
        "options": options,
        "answer": answer,
        "modality": _known(item.get("modality"), modality_name),
        "task": _known(item.get("task", item.get("question_type")), task_name),
        "source": path[1] if len(path) > 2 and path[0] == "Images" else item.get("source") or stem,
        "image_id": item["image"],
    }
    extra = {key: item[key] for key in ("patient_id", "rationale") if key in item}
    return {**record, **{key: None if value in (None, "") else str(value) for key, value in extra.items()}}


def _check_strings(item: object, keys: Sequence[str], hints: dict[str, str] | None = None) -> None:
    if not isinstance(item, dict):
        raise DataError(f"row is not an object: {str(item)[:60]!r}; expected the keys {', '.join(keys)}")
    for key in keys:
        if key not in item:
            hint = next((hint for other, hint in (hints or {}).items() if other in item), "add it")
            raise DataError(f"key is missing: {key!r}, the row has {', '.join(map(str, item))[:120]}; {hint}")
        if not isinstance(item[key], str):
            raise DataError(f"value is no text: {key!r} is {str(item[key])[:60]!r}; write it as a string")


def _question(item: dict) -> tuple[str, list[str]]:
    """The question and its options: as the row has them, else read out of the problem text."""
    question, options = item.get("question"), item.get("options")
    if not isinstance(question, str) or options is None:
        return parse_problem(item["problem"])
    if not isinstance(options, list) or not all(isinstance(text, str) and text.strip() for text in options):
        raise DataError(f"options are not a list of texts: {str(options)[:120]!r}; correct them")
    if len(options) < 2:
        raise DataError(f"fewer than two options in {options!r}; add the others")
    return question, options


def _known(value: object, name: Callable[[str], str]) -> str | None:
    return None if value is None or str(value).casefold() in ("", "unknown") else name(value)


def _from_omni(item: object) -> dict:
    """Make a row of Med-R1's form out of an OmniMedVQA item, whose gold is the text of an option."""
    _check_strings(item, ("question", "gt_answer", "image_path"))
    given = {letter: item[f"option_{letter}"] for letter in LETTERS if item.get(f"option_{letter}") not in (None, "")}
    _check_strings({f"option_{letter}": text for letter, text in given.items()}, [f"option_{key}" for key in given])
    options = [text.strip() for text in given.values()]
    if "".join(given) != LETTERS[: len(given)] or not all(options):
        raise DataError(f"option is empty: only {', '.join(given)} have a text, in {options!r}; correct the row")
    if len(options) < 2:
        raise DataError(f"fewer than two options in {options!r}; add the others")
    return {
        **write_question(item["question"].strip(), options, _gold_letter(item["gt_answer"], options)),
        "image": item["image_path"],
        "modality": item.get("modality_type"),
        "task": item.get("question_type"),
        "source": item.get("dataset"),
    }


def _gold_letter(gold: str, options: list[str]) -> str:
    """The letter of the gold text: compared exactly, else without case and full stop (Med-R1 facts, section 1.1)."""
    for fold in (str.strip, lambda text: text.strip().casefold().rstrip(".").strip()):
        letters = [letter for letter, text in zip(LETTERS, options, strict=False) if fold(text) == fold(gold)]
        if len(letters) == 1:
            return letters[0]
        if letters:
            raise DataError(f"gold text under several letters: {gold!r} is {' and '.join(letters)}; correct them")
    raise DataError(f"gold text not among the options: {gold!r} is none of {options}; correct the row")
