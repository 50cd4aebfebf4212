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
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from medr1kit.data.record import Doubled, check_texts, make_record
from medr1kit.data.rows import Source
from medr1kit.given import path_given
from medr1kit.vqa import CLOSED, LETTERS, DataError, write_question


def read_json_source(
    path: str | os.PathLike,
    *,
    images: str | os.PathLike | None = None,
    meta: str | os.PathLike | None = None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
) -> Source:
    """Read a Med-R1 file: an array of objects with image, problem and solution; or with keys of one's own."""
    path = path_given(path, "source")
    source = Source(os.fspath(path), image_folder(images))
    items = read_json(path)
    if meta is not None:
        items = _with_meta(items, path_given(meta, "meta"), path)
    source.add(items, os.fspath(path), _prefix(path), _stem(path), columns, yes_no)
    return source


def read_omnimedvqa(path: str | os.PathLike, *, images: str | os.PathLike | None = None) -> Source:
    """Read OmniMedVQA's folder: ``QA_information/Open-access/*.json`` and ``Restricted-access``, as far as there."""
    path = path_given(path, "source")
    if images is None and (path / "Images").is_dir():
        images = path
    source = Source(os.fspath(path), image_folder(images))
    files = sorted(path.glob("QA_information/*-access/*.json"))
    if not files:
        remedy = (
            "this is for OmniMedVQA's folder, load_vqa reads a file" if path.is_file() else "unpack OmniMedVQA again"
        )
        raise DataError(
            f"{os.fspath(path)!r} holds no QA_information/Open-access/*.json or Restricted-access/*.json; {remedy}"
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
    if images is None:
        return None
    folder = path_given(images, "images")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"image folder {os.fspath(images)!r} {what}; give the folder that the image paths start from")
    return folder


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
        other = re.search(r"\.(?:xlsb?|ods|numbers|docx?|pdf|html?)$", name, re.IGNORECASE)
        remedy = "save it as .xlsx or CSV" if other else "give .json, .csv, .tsv, .xlsx, .jsonl or .parquet"
        raise DataError(f"{name}: no file of questions by its name; {remedy}")
    text = decoded(read_bytes(path), name)
    if not text.strip():
        raise DataError(f"{name}: the file is empty; fetch it again")
    rows = _parse_json(text, name)
    if not isinstance(rows, list):
        kind = "an object" if isinstance(rows, dict) else type(rows).__name__
        raise DataError(f"{name}: expected an array of rows, found {kind}; write the rows as one array [{{…}}, {{…}}]")
    if not rows:
        raise DataError(f"{name}: the array has no rows; fetch the file again")
    return rows


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked if it is packed with gzip.

    Raises:
        DataError: if it cannot be read, is cut short, or unpacks to far more than text ever does.
    """
    name = os.fspath(path)
    try:
        content = path.read_bytes()
        if not content.startswith(b"\x1f\x8b"):
            return content
        limit = max(64_000_000, 100 * len(content))
        with gzip.open(BytesIO(content)) as file:
            unpacked = file.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: gzip file cut short or corrupt ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error}); check the file and its permissions") from error
    if len(unpacked) > limit:
        raise DataError(f"{name}: unpacks to more than {limit:,} bytes, 100 times its size; unpack it first")
    return unpacked


def decoded(content: bytes, name: str) -> str:
    """Return bytes as text if they are UTF-8, with or without a mark.

    Raises:
        DataError: if they are not.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        remedy = "it may be corrupt: fetch it again" if name.lower().endswith(".gz") else "save it as UTF-8"
        raise DataError(f"{name}: not a text in UTF-8 ({error.reason} at byte {error.start}); {remedy}") from error


def load_json(text: str) -> object:
    """Parse JSON so that a bad row stays a row: long numbers are texts, an object with a key twice is a Doubled."""
    return json.loads(text, parse_int=_whole, object_pairs_hook=_object)


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) < 40 else digits  # Python refuses to read thousands of digits


def _object(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    return content if len(content) == len(pairs) else Doubled(content)


def _parse_json(text: str, name: str) -> object:
    try:
        return load_json(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            remedy = "these look like JSON lines: name the file .jsonl"
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
        merged.append(type(item)({**item, **known}) if isinstance(item, dict) else item)
    return merged


# --- rows ------------------------------------------------------------------------------------------------------------


def _from_omni(item: object) -> dict:
    """Make a row of Med-R1's form out of an OmniMedVQA item, whose gold is the text of an option."""
    check_texts(item, ("question", "gt_answer", "image_path"))
    given = {letter: item[f"option_{letter}"] for letter in LETTERS if item.get(f"option_{letter}") not in (None, "")}
    check_texts({f"option_{letter}": text for letter, text in given.items()}, [f"option_{key}" for key in given])
    options = [text.strip() for text in given.values()]
    if "".join(given) != LETTERS[: len(given)] or not all(options):
        raise DataError(f"option is empty: only {', '.join(given)} have a text, in {options!r}; correct the row")
    if len(options) < 2:
        raise DataError(f"fewer than two options in {options!r}; {CLOSED}: add the others")
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
