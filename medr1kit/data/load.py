"""Data sets: whatever a question file looks like, :func:`load_vqa` returns the same eleven columns.

Five kinds of source are read: drawn phantoms, Med-R1's JSON, OmniMedVQA's own folder, MedMNIST's files, and a data set
of the `datasets` library, saved or on the hub. Med-R1's files do not say which modality or task a question belongs to
(only their names do), and not every row of a large collection is sound. Hence two rules:

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
from collections.abc import Callable, Iterable
from hashlib import sha1
from io import BytesIO
from numbers import Integral
from pathlib import Path

import datasets

from medr1kit.data.files import Refused, Source, read_json_source, read_omnimedvqa
from medr1kit.data.images import DEFAULT_SIZE, MedicalImage, check_image, check_images, find_image
from medr1kit.data.medmnist import medmnist_rows
from medr1kit.data.saved import open_hub, open_saved, read_table
from medr1kit.progress import progress
from medr1kit.vqa import DataError, modality_name, task_name

TEXT_COLUMNS = ("problem", "solution", "question", "options", "answer", "modality", "task", "source", "image_id")
EXTRA_COLUMNS = ("patient_id", "rationale", "n_facts", "truth")  # where a source has them; the last two: phantoms only


class DroppedRows(UserWarning):
    """Emitted once by ``load_vqa(..., check="drop")`` when rows were left out.

    Attributes:
        rows: each dropped row as a dict with ``file``, ``row`` (counted from 0) and ``reason``.

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
    source: str | os.PathLike,
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
    check: str = "error",
    data_dir: str | os.PathLike | None = None,
    scanner: str = "A",
    shortcut: float = 0.0,
    difficulty: float | None = None,
    imbalance: float = 0.0,
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
            * OmniMedVQA's own folder, the one that contains ``QA_information``;
            * a folder written by ``save_to_disk`` of `datasets`, or the hub name of such a data set
              (``"owner/name"``), with at least the columns image, problem and solution.
        split: phantoms, medmnist: "train", "val" or "test"; a saved or hub data set: the name of one of its splits;
            default "train". The other sources have no splits.
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
        check: "error" refuses bad rows, "drop" leaves them out and lists them in a :class:`DroppedRows` warning. Of
            the images only those of the rows that are taken are checked, each once.
        data_dir: medmnist: the folder with its ``.npz`` files.
        scanner: phantoms: "A", or "B", which sees a narrower field, blurred, flatter and noisier.
        shortcut: phantoms: probability that a marker in the image and the wording of the wrong options give the answer
            away, 0 to 1; meant for training data.
        difficulty: phantoms: how faint lesions are, 0 to 1; None: each image its own, up to a half.
        imbalance: phantoms: how unequal the classes are, 0 to below 1; see :class:`medr1kit.data.phantoms.ImageId`.

    Raises:
        DataError: if the source cannot be read, a row is bad (see ``check``), or no row is left.

    Source: Med-R1 facts, sections 1.1 (files, size of images) and 1.6 (their defects).
    """
    _check_arguments(check, n, size, max_pixels)
    modality = None if modality is None else modality_name(modality)
    task = None if task is None else task_name(task)
    axes = {"scanner": scanner, "shortcut": shortcut, "difficulty": difficulty, "imbalance": imbalance}
    if source == "phantoms":
        _refuse("phantoms", images=images, meta=meta, max_pixels=max_pixels, data_dir=data_dir)
        return _load_phantoms(split, modality, task, n, seed, size, axes)
    _refuse("any source but phantoms", **{name: value for name, value in axes.items() if value != _NO_AXES[name]})

    if source == "medmnist":
        _refuse("medmnist", images=images, meta=meta)
        rows = medmnist_rows(data_dir, split, modality, task, n, seed)
        return _drawn(rows, [row["image"] for row in rows], {"image": MedicalImage(size=size, max_pixels=max_pixels)})
    _refuse("any source but medmnist", data_dir=data_dir)

    loaded = _open_source(source, split, images, meta)
    total = len(loaded.records) + len(loaded.refused)
    if check == "error":
        _raise_first(loaded.refused)
    records = _label_or_choose(loaded.records, "modality", modality)
    records = _label_or_choose(records, "task", task)
    if loaded.records and not records:
        raise DataError(_none_chosen(loaded, modality, task))
    records, bad_images = _take(records, n, seed, _image_check(loaded), check)
    refused = loaded.refused + bad_images
    if not records:
        raise DataError(f"{loaded.name}: no row is left, {len(refused)} are refused; the first: {refused[0]}")
    if refused:
        warnings.warn(DroppedRows(refused, total), stacklevel=2)
    if n is not None and len(records) < n:
        warnings.warn(f"{loaded.name}: only {len(records)} of the {n} rows asked for are there; took all", stacklevel=2)
    shape = {"size": None if max_pixels else size or DEFAULT_SIZE, "max_pixels": max_pixels}
    return _dataset(records, loaded, MedicalImage(**shape))


def _check_arguments(check: str, n: int | None, size: int | None, max_pixels: int | None) -> None:
    if check not in ("error", "drop"):
        raise DataError(f"unknown check {check!r}; use 'error' or 'drop'")
    for name, value in (("n", n), ("size", size), ("max_pixels", max_pixels)):
        if value is not None and (not isinstance(value, Integral) or value < 1):
            raise DataError(f"{name}={value!r} is not a whole number of at least 1")
    if size is not None and max_pixels is not None:
        raise DataError("size= and max_pixels= exclude each other; give one")


def _refuse(kind: str, **arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise DataError(f"{name}= does not go with {kind}; leave it out")


# --- sources ---------------------------------------------------------------------------------------------------------


_NO_AXES = {"scanner": "A", "shortcut": 0.0, "difficulty": None, "imbalance": 0.0}


def _load_phantoms(split, modality, task, n, seed, size, axes: dict[str, object]) -> datasets.Dataset:
    from medr1kit.data.phantoms import phantom_rows

    rows = phantom_rows(split, modality, task, n, seed, size, **axes)
    pictures = []
    for row in progress(rows, "storing phantoms", unit="image"):
        buffer = BytesIO()
        row["image"].save(buffer, "PNG", compress_level=1)
        pictures.append(buffer.getvalue())
    return _drawn(rows, pictures, {"image": datasets.Image(), **_phantom_features(rows[0])})


def _drawn(rows: list[dict], pictures: list[bytes], features: dict[str, object]) -> datasets.Dataset:
    """A data set that holds its images itself."""
    columns = _columns(rows)
    features = datasets.Features({**_features(columns), **features})
    columns["image"] = [{"bytes": picture, "path": None} for picture in pictures]
    return datasets.Dataset.from_dict(columns, features=features).select_columns(_order(features))


def _phantom_features(row: dict) -> dict[str, object]:
    whole = datasets.Value("int64")
    truth = {name: datasets.List(whole) if name == "box" else datasets.Value("string") for name in row["truth"]}
    return {"n_facts": whole, "truth": truth}


def _open_source(
    source: str | os.PathLike, split: str | None, images: str | os.PathLike | None, meta: str | os.PathLike | None
) -> Source:
    path = Path(source)
    if path.is_file():
        _refuse("a JSON file", split=split)
        return read_json_source(path, images, meta)
    if (path / "QA_information").is_dir():
        _refuse("OmniMedVQA's folder", split=split, meta=meta)
        return read_omnimedvqa(path, images)
    if path.is_dir():
        _refuse("a saved data set", meta=meta)
        return read_table(open_saved(path, split), os.fspath(source), images)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and not re.search(r"\.(json|gz)$", str(source)):
        _refuse("a data set on the hub", meta=meta)
        return read_table(open_hub(str(source), split or "train"), str(source), images)
    raise DataError(
        f"file not found: {os.fspath(source)!r}; give 'phantoms', 'medmnist', a .json or .json.gz file, OmniMedVQA's "
        "folder, a folder written by save_to_disk, or the hub name 'owner/name' of a data set"
    )


# --- rows ------------------------------------------------------------------------------------------------------------


def _label_or_choose(records: list[dict], column: str, value: str | None) -> list[dict]:
    if value is None:
        return records
    if all(record[column] is None for record in records):
        return [{**record, column: value} for record in records]
    return [record for record in records if record[column] == value]


def _image_check(loaded: Source) -> Callable[[Iterable[dict]], dict[object, str]] | None:
    """Return a function that gives, for records, the reason of each image that is refused; None without images."""
    if loaded.folder is not None:
        return lambda records: check_images(
            [r["image_id"] for r in records], lambda key: check_image(find_image(loaded.folder, key), key)
        )
    if loaded.pictures is not None:
        return lambda records: check_images([r["position"] for r in records], lambda key: _check_stored(loaded, key))
    return None


def _check_stored(loaded: Source, position: int) -> None:
    stored = loaded.pictures[position]["image"]
    if stored is None or (stored["bytes"] is None and stored["path"] is None):
        raise DataError("image missing: the row has none; remove the row")
    check_image(stored["bytes"] if stored["bytes"] is not None else stored["path"], stored["path"])


def _take(
    records: list[dict], n: int | None, seed: int, image_check: Callable | None, check: str
) -> tuple[list[dict], list[Refused]]:
    """Take n records at random; a record whose image is refused makes room for the next one."""
    waiting = list(range(len(records)))
    if n is not None and n < len(records):
        random.Random(seed).shuffle(waiting)
    n = len(records) if n is None else n
    taken, refused = [], []
    while waiting and len(taken) < n:
        batch, waiting = waiting[: n - len(taken)], waiting[n - len(taken) :]
        reasons = image_check([records[i] for i in batch]) if image_check else {}
        for i in sorted(batch):
            key = records[i]["image_id"] if records[i]["position"] is None else records[i]["position"]
            if key in reasons:
                refused.append(Refused(records[i]["file"], records[i]["row"], reasons[key]))
            else:
                taken.append(i)
        if check == "error":
            _raise_first(refused)
    return [records[i] for i in sorted(taken)], refused


def _raise_first(refused: list[Refused]) -> None:
    if refused:
        more = f"; {len(refused) - 1} more rows are refused" if len(refused) > 1 else ""
        raise DataError(f"{refused[0]} (check='drop' loads the other rows{more})")


def _wanted(modality: str | None, task: str | None) -> str:
    wanted = {"modality": modality, "task": task}
    return " and ".join(f"{name} {value}" for name, value in wanted.items() if value) or "no filter"


def _none_chosen(loaded: Source, modality: str | None, task: str | None) -> str:
    there = Counter((r["modality"] or "unknown", r["task"] or "unknown") for r in loaded.records)
    known = ", ".join(f"{m} x {t} ({count})" for (m, t), count in sorted(there.items()))
    refused = f"; {len(loaded.refused)} rows are refused, the first: {loaded.refused[0]}" if loaded.refused else ""
    return f"{loaded.name}: no row has {_wanted(modality, task)}; it has {known[:600]}{refused}"


# --- the data set ----------------------------------------------------------------------------------------------------


def _columns(records: list[dict]) -> dict[str, list]:
    extra = [name for name in EXTRA_COLUMNS if any(name in record for record in records)]
    return {name: [record.get(name) for record in records] for name in ("id", *TEXT_COLUMNS, *extra)}


def _features(columns: Iterable[str]) -> dict[str, object]:
    text = datasets.Value("string")
    return {name: datasets.List(text) if name == "options" else text for name in columns}


def _order(names: Iterable[str]) -> list[str]:
    return [name for name in ("id", "image", *TEXT_COLUMNS, *EXTRA_COLUMNS) if name in names]


def _dataset(records: list[dict], loaded: Source, image: MedicalImage) -> datasets.Dataset:
    if loaded.pictures is not None:
        return _beside_pictures(records, loaded.pictures, image)
    columns = _columns(records)
    features = _features(columns)
    if loaded.folder is not None:
        folder = os.path.abspath(loaded.folder)
        columns["image"] = [{"path": os.path.join(folder, r["image_id"]), "bytes": None} for r in records]
        features["image"] = image
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features)).select_columns(_order(features))


def _beside_pictures(records: list[dict], pictures: datasets.Dataset, image: MedicalImage) -> datasets.Dataset:
    """Put the columns beside a stored image column without copying it: rows that were not taken stay empty, unseen."""
    for record in records:
        if record["image_id"] is None:
            stored = pictures[record["position"]]["image"]
            record["image_id"] = stored["path"] if stored["bytes"] is None else sha1(stored["bytes"]).hexdigest()[:16]
    at = {record["position"]: record for record in records}
    columns = _columns([at.get(position, {}) for position in range(len(pictures))])
    text = datasets.Dataset.from_dict(columns, features=datasets.Features(_features(columns)))
    both = datasets.concatenate_datasets([pictures.cast_column("image", image), text], axis=1)
    return both.select_columns(_order(both.column_names)).select(sorted(at))
