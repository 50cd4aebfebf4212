"""Data sets: whatever a question file looks like, :func:`load_vqa` returns the same eleven columns.

Read are drawn phantoms, MedMNIST's files, Med-R1's JSON, OmniMedVQA's own folder, tables in the user's own words (CSV,
Excel, JSON lines, Parquet, frames, lists), and data sets of the `datasets` library, given, saved or on the hub. Each
row passes one check (:mod:`medr1kit.data.record`). Med-R1's files do not say which modality or task a question belongs
to (only their names do), and not every row of a large collection is sound. Hence two rules:

* ``modality=`` and ``task=`` *choose* rows where the rows know theirs, and *label* all rows where none does.
* Nothing is skipped in silence. A bad row is a :class:`~medr1kit.vqa.DataError` that names file, row and remedy; with
  ``check="drop"`` such rows are left out, and one :class:`DroppedRows` warning lists every one of them.
"""

from __future__ import annotations

import os
import random
import re
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from medr1kit.data.images import DEFAULT_SIZE, MedicalImage, check_image, check_images, find_image
from medr1kit.data.rows import Refused, Source
from medr1kit.data.sources import DRAWN, READ, fitting, kind_of, read_dataset
from medr1kit.given import choice, whole_number
from medr1kit.vqa import DataError, modality_name, task_name


class DroppedRows(UserWarning):
    """Emitted once by ``load_vqa(..., check="drop")`` when rows were left out.

    Attributes:
        rows: each dropped row as a dict with ``file``, ``row`` (counted from 0; in CSV, TSV and Excel as the
            spreadsheet counts, where the header is row 1) and ``reason``.

    To read the list::

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DroppedRows)
            ds = load_vqa("CT_train.json", images="folder", check="drop")
        dropped = [row for w in caught if isinstance(w.message, DroppedRows) for row in w.message.rows]
    """

    def __init__(self, refused: list[Refused], total: int):
        self.rows = [{"file": r.file, "row": r.row, "reason": r.reason} for r in refused]
        counts = ", ".join(f"{count} x {kind}" for kind, count in Counter(r.kind for r in refused).most_common())
        first = "; ".join(map(str, refused[:3]))
        super().__init__(f"dropped {len(refused)} of {total} rows ({counts}); the first: {first}")


def load_vqa(
    source: Any,
    *,
    split: str | None = None,
    modality: str | None = None,
    task: str | None = None,
    n: int | None = None,
    seed: int = 0,
    images: str | os.PathLike | None = None,
    meta: str | os.PathLike | None = None,
    size: int | None = None,
    max_pixels: int | None = None,
    frame: int | None = None,
    check: str = "error",
    **of_source: Any,
) -> datasets.Dataset:
    """Load medical multiple-choice questions, with or without their images.

    The columns are id, image (only when images are known), problem, solution, question, options (list of str in letter
    order), answer, modality, task, source and image_id, as :mod:`medr1kit.vqa` describes them; further patient_id and
    rationale where the source has them, and for phantoms n_facts and truth
    (:func:`medr1kit.data.phantoms.phantom_rows`). Other keys of the source are not read. Images are decoded when a row
    is read.

    Args:
        source: one of

            * ``"phantoms"``: drawn images and questions, made on the spot;
            * ``"medmnist"``: the MedMNIST files in ``data_dir``, see :mod:`medr1kit.data.medmnist`;
            * a Med-R1 file, ``.json`` or ``.json.gz``: an array of objects with image, problem and solution; modality
              and task (or question_type) are read where the rows have them;
            * SLAKE (``language="en"`` or "zh"), VQA-RAD, PathVQA, PMC-VQA or MedXpertQA, a folder or file in its
              authors' layout: the closed questions, see :mod:`medr1kit.data.benchmark_sets`;
            * a table: ``.csv``, ``.tsv``, ``.xlsx``, ``.jsonl``, ``.parquet``, ``.json``, a pandas DataFrame, a list of
              dicts. Which column is question, options, answer and image is found out and printed;
            * OmniMedVQA's own folder, the one that contains ``QA_information``;
            * a data set of the `datasets` library, a folder written by its ``save_to_disk``, or a hub name
              (``"owner/name"``); its columns are understood as a table's are.
        split: phantoms, medmnist: "train", "val" or "test"; a data set of `datasets`: the name of one of its splits;
            default "train"; others' sets: as their authors call it. The other sources have no splits.
        modality: where rows know their modality: keep the rows of this one. Where no row does, as in Med-R1's files
            without ``meta``: label all rows with it, because there it is the file's name that says it.
        task: the same for the task.
        n: how many rows to take, after choosing by modality and task; at random, in the file's order. Default all
            (phantoms, medmnist: 2000). Fewer rows than ``n`` are all taken, with a warning.
        seed: for this random choice.
        images: the folder that the image paths start from. Default: OmniMedVQA's folder if it holds ``Images``;
            otherwise the data set has no image column.
        meta: a JSON file that says, row by row for a Med-R1 file, image, modality, task (or question_type) and, if
            known, patient_id and source (or source_repo). It goes before what the rows say themselves.
        size: width and height of the decoded images in pixels. Default 384, as Med-R1 states; phantoms 112; medmnist
            as they are stored.
        max_pixels: instead of ``size``: shrink images of more pixels than this and keep their aspect.
        frame: of images that hold several pictures (DICOM, TIFF, GIF and others): which one, from 0. Default: such
            images are refused. Not for phantoms and medmnist.
        check: "error" refuses bad rows, "drop" leaves them out and lists them in a :class:`DroppedRows` warning. Of
            the images only those of the rows that are taken are checked, each once.
        **of_source: what one kind of source takes beside these; any other source refuses it.

            * phantoms: ``scanner`` "A" (default), or "B", which sees a narrower field, blurred, flatter and noisier;
              ``shortcut``, the probability that a marker in the image and the wording of the wrong options give the
              answer away, 0 (default) to 1, meant for training data; ``difficulty``, how faint lesions are, 0 to 1,
              default each image its own, up to a half; ``imbalance``, how unequal the classes are, 0 (default) to
              below 1, see :class:`medr1kit.data.phantoms.ImageId`; ``twins``, the share of questions that need two
              findings told apart that the built-in model was never taught to tell apart, 0 to 1, default as they come
              (:mod:`medr1kit.data.phantoms.twins`);
            * medmnist: ``data_dir``, the folder with its ``.npz`` files;
            * tables, JSON and data sets: ``columns``, a dict that says which column is what, where that is not found
              out: {"question": "Frage", "options": ["Antwort 1", "Antwort 2"], "answer": …, "image": …, "id": …,
              "patient_id": …, "modality": …, "task": …, "source": …, "rationale": …}; None: there is none;
              ``yes_no``: give questions without options, answered with yes or no, these two (default False);
              an Excel file: ``sheet``, where several have rows; a CSV or TSV file: ``encoding``, as Python calls it,
              where it is none of UTF-8, UTF-16 and cp1252.

    Raises:
        DataError: if the source cannot be read, does not take an argument, a row is bad (see ``check``), or no row is
            left.
        TypeError: if no source has an argument of that name.

    Source: Med-R1 facts, sections 1.1 (files, size of images) and 1.6 (their defects).
    """
    _check_arguments(check, n, size, max_pixels, frame)
    modality = None if modality is None else modality_name(modality)
    task = None if task is None else task_name(task)
    given = {"split": split, "images": images, "meta": meta}
    kind = kind_of(source)
    if kind is None:
        fitting(kind, of_source)  # what only other kinds take is named first
        raise DataError(
            f"file not found: {os.fspath(source)!r}; give 'phantoms', 'medmnist', a file of questions (.json, .csv, "
            ".xlsx, .jsonl, .parquet), OmniMedVQA's folder, one of save_to_disk, or a hub name 'owner/name'"
        )
    if kind in DRAWN:
        if frame is not None:
            raise DataError(f"frame= does not go with {kind}; leave it out")
        fit = fitting(kind, {**given, "max_pixels": max_pixels, **of_source})
        return DRAWN[kind](modality, task, n, seed, size, **fit)
    loaded = READ[kind](source, **fitting(kind, {**given, **of_source}))
    total = len(loaded.records) + len(loaded.refused)
    _raise_first(loaded.refused, check)
    records = _label_or_choose(loaded.records, "modality", modality)
    records = _label_or_choose(records, "task", task)
    if loaded.records and not records:
        raise DataError(_none_chosen(loaded, modality, task))
    records, bad_images = _take(loaded, records, n, seed, check, frame)
    refused = loaded.refused + bad_images
    if not records:
        raise DataError(f"{loaded.name}: no row is left, {len(refused)} are refused; the first: {refused[0]}")
    if refused:
        warnings.warn(DroppedRows(refused, total), stacklevel=2)
    if n is not None and len(records) < n:
        warnings.warn(f"{loaded.name}: only {len(records)} of the {n} rows asked for are there; took all", stacklevel=2)
    if alike := _spellings(records):
        warnings.warn(f"{loaded.name}: {alike}; they count as several, write each patient one way", stacklevel=2)
    size = None if max_pixels else size or DEFAULT_SIZE
    return read_dataset(records, loaded, MedicalImage(size=size, max_pixels=max_pixels, frame=frame))


def _check_arguments(check: str, n: int | None, size: int | None, max_pixels: int | None, frame: int | None) -> None:
    choice(check, "check", ("error", "drop"))
    for name, value, low in (("n", n, 1), ("size", size, 1), ("max_pixels", max_pixels, 1), ("frame", frame, 0)):
        if value is not None:
            whole_number(value, name, low)
    if size is not None and max_pixels is not None:
        raise DataError("size= and max_pixels= exclude each other; give one")


# --- rows ------------------------------------------------------------------------------------------------------------


def _label_or_choose(records: list[dict], column: str, value: str | None) -> list[dict]:
    if value is None:
        return records
    if all(record[column] is None for record in records):
        return [{**record, column: value} for record in records]
    return [record for record in records if record[column] == value]


def _take(
    loaded: Source, records: list[dict], n: int | None, seed: int, check: str, frame: int | None
) -> tuple[list[dict], list[Refused]]:
    """Take n records at random; a record whose image is refused makes room for the next one."""
    waiting = list(range(len(records)))
    if n is not None and n < len(records):
        random.Random(seed).shuffle(waiting)
    n = len(records) if n is None else n
    pictured = loaded.folder is not None or loaded.pictures is not None
    taken, refused = [], []
    while waiting and len(taken) < n:
        batch, waiting = sorted(waiting[: n - len(taken)]), waiting[n - len(taken) :]
        keys = [_image_key(records[i]) for i in batch]
        reasons = check_images(keys, partial(_check_image, loaded, frame)) if pictured else {}
        for i, key in zip(batch, keys):
            if key in reasons:
                refused.append(Refused(records[i]["file"], records[i]["row"], reasons[key]))
            else:
                taken.append(i)
        _raise_first(refused, check)
    return [records[i] for i in sorted(taken)], refused


def _spellings(records: list[dict]) -> str:
    """What patients differ in case, a blank, a mark or leading zeros alone; empty if none do."""
    patients: dict[str, list[str]] = {}
    for one in dict.fromkeys(record.get("patient_id") for record in records):
        if one is not None:
            key = re.sub(r"(?<=[^\W\d])-(?=\d)", "", re.sub(r"[\W_]+", "-", one.casefold()))
            patients.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", key), []).append(one)
    several = [names for names in patients.values() if len(names) > 1]
    shown = ", ".join(" and ".join(map(repr, names[:4])) for names in several[:3])
    return f"patients that may be one: {shown}{' …' * (len(several) > 3)}" if several else ""


def _image_key(record: dict) -> object:
    """What tells the image of a record: its place among the stored images, else its path."""
    return record["image_id"] if record["position"] is None else record["position"]


def _check_image(loaded: Source, frame: int | None, key: Any) -> None:
    if loaded.folder is not None:
        return check_image(find_image(loaded.folder, key), key, frame=frame)
    stored = loaded.pictures[key]["image"]
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise DataError("image missing: the row has none; remove the row")
    if stored["bytes"] is not None:
        return check_image(stored["bytes"], stored["path"], frame=frame)
    path = Path(stored["path"])
    if loaded.within is not None and not any(path.resolve().is_relative_to(one.resolve()) for one in loaded.within):
        where = os.fspath(loaded.within[0])
        raise DataError(
            f"image path leaves the data set: {os.fspath(path)!r} is not in {where!r}; store the images in it"
        )
    check_image(path, stored["path"], frame=frame)


def _raise_first(refused: list[Refused], check: str) -> None:
    if refused and check == "error":
        more = f"; {len(refused) - 1} more rows are refused" if len(refused) > 1 else ""
        raise DataError(f"{refused[0]} (check='drop' loads the other rows{more})")


def _none_chosen(loaded: Source, modality: str | None, task: str | None) -> str:
    there = Counter((r["modality"] or "unknown", r["task"] or "unknown") for r in loaded.records)
    known = ", ".join(f"{m} x {t} ({count})" for (m, t), count in sorted(there.items()))
    wanted = " and ".join(f"{name} {one}" for name, one in (("modality", modality), ("task", task)) if one)
    refused = f"; {len(loaded.refused)} rows are refused, the first: {loaded.refused[0]}" if loaded.refused else ""
    return f"{loaded.name}: no row has {wanted}; it has {known[:600]}{refused}"
