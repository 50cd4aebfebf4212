"""The kinds of sources: how to tell them, who reads them, what each reader takes, and what comes out of them all."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from medr1kit.data.files import Source, image_folder, read_json_source, read_omnimedvqa
from medr1kit.data.images import MedicalImage, to_png
from medr1kit.data.record import make_record
from medr1kit.progress import progress
from medr1kit.vqa import DataError

TEXT_COLUMNS = ("problem", "solution", "question", "options", "answer", "modality", "task", "source", "image_id")
EXTRA_COLUMNS = ("patient_id", "rationale", "n_facts", "truth")  # where a source has them; the last two: phantoms only
_COMMON = ("split", "modality", "task", "n", "seed", "images", "meta", "size", "max_pixels", "check")


def kind_of(source: str | os.PathLike) -> str | None:
    """Return what a source is, as :data:`DRAWN` and :data:`READ` call it; None if it is not there."""
    path = Path(source)
    if source in DRAWN:
        return source
    if path.is_file():
        return "a JSON file"
    if (path / "QA_information").is_dir():
        return "OmniMedVQA's folder"
    if path.is_dir():
        return "a saved data set"
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and not re.search(r"\.(json|gz)$", str(source))
    return "a data set on the hub" if is_name else None


def fitting(kind: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that the reader of a kind takes; another's may be given if they only repeat its default.

    Raises:
        DataError: if an argument is another reader's and says something.
        TypeError: if it is nobody's.
    """
    own = own_arguments()
    takes, everybody = own.get(kind, {}), {name for arguments in own.values() for name in arguments}
    for name, value in given.items():
        owners = [other for other, arguments in own.items() if name in arguments]
        if not owners:
            near = difflib.get_close_matches(name, {*_COMMON, *everybody}, n=1)
            hint = f"did you mean {near[0]}=?" if near else f"there are {_listed([*_COMMON, *takes])}"
            raise TypeError(f"load_vqa has no argument {name!r}; {hint}")
        if name not in takes and value not in [own[other][name] for other in owners]:
            where = kind if name in _COMMON else f"any source but {' and '.join(owners)}"
            hint = f"; {kind} takes {_listed(takes)}" if kind else ""
            raise DataError(f"{name}= does not go with {where}{hint}; leave it out")
    return {name: value for name, value in given.items() if name in takes}


def own_arguments() -> dict[str, dict[str, Any]]:
    """Return for each kind of source what its reader takes by keyword, with the defaults."""
    own = {}
    for kind, read in (DRAWN | READ).items():
        parameters = inspect.signature(read).parameters.values()
        own[kind] = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    return own


def _listed(names: Iterable[str]) -> str:
    *others, last = (f"{name}=" for name in dict.fromkeys(names))
    return f"{', '.join(others)} and {last}" if others else last


# --- readers ---------------------------------------------------------------------------------------------------------


def _draw_phantoms(
    modality, task, n, seed, size, *, split=None, scanner="A", shortcut=0.0, difficulty=None, twins=None, imbalance=0.0
) -> datasets.Dataset:
    from medr1kit.data.phantoms import phantom_rows

    axes = {"scanner": scanner, "shortcut": shortcut, "difficulty": difficulty, "imbalance": imbalance}
    axes |= {} if twins is None else {"twins": twins}
    rows = phantom_rows(split, modality, task, n, seed, size, **axes)
    images = (row["image"] for row in progress(rows, "storing phantoms", unit="image"))
    pictures = [{"bytes": to_png(image), "path": None} for image in images]
    whole, text = datasets.Value("int64"), datasets.Value("string")
    truth = {name: datasets.List(whole) if name == "box" else text for name in rows[0]["truth"]}
    return _dataset(rows, pictures, image=datasets.Image(), n_facts=whole, truth=truth)


def _read_medmnist(modality, task, n, seed, size, *, split=None, max_pixels=None, data_dir=None) -> datasets.Dataset:
    from medr1kit.data.medmnist import medmnist_rows

    rows = medmnist_rows(data_dir, split, modality, task, n, seed)
    image = MedicalImage(size=size, max_pixels=max_pixels)
    return _dataset(rows, [{"bytes": row["image"], "path": None} for row in rows], image=image)


def read_saved(
    folder: str | os.PathLike, *, split: str | None = None, images: str | os.PathLike | None = None
) -> Source:
    """Read a folder written by ``save_to_disk``; ``split`` (default "train") if it holds several.

    Raises:
        DataError: if it is no such folder, is damaged, or has no such split.
    """
    return _read_table(_open(Path(folder), split), os.fspath(folder), images)


def _open(path: Path, split: str | None) -> datasets.Dataset:
    if path.name == "QA_information":
        raise DataError(f"{os.fspath(path)!r} is a part of OmniMedVQA; give its parent folder")
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        raise DataError(
            f"{os.fspath(path)!r} holds neither a QA_information folder (OmniMedVQA) nor a data set written by "
            "save_to_disk; give the folder that does, or a .json file"
        )
    try:
        saved = datasets.load_from_disk(os.fspath(path))
    except Exception as error:  # files of a folder can be missing or damaged in many ways
        raise DataError(f"{os.fspath(path)!r} cannot be read: {error}; save the data set again") from error
    if isinstance(saved, datasets.DatasetDict):
        if (split or "train") not in saved:
            raise DataError(f"{os.fspath(path)!r} has no split {split or 'train'!r}; it has {', '.join(saved)}")
        return saved[split or "train"]
    if split not in (None, str(saved.split)):
        raise DataError(f"{os.fspath(path)!r} is a single data set without split {split!r}; leave split= out")
    return saved


def read_hub(name: str | os.PathLike, *, split: str | None = None, images: str | os.PathLike | None = None) -> Source:
    """Read one split (default "train") of a data set on the hub, ``"owner/name"``.

    Raises:
        DataError: if that fails, with the hub's own words.
    """
    name, split = os.fspath(name), split or "train"
    try:
        table = datasets.load_dataset(name, split=split)
    except Exception as error:  # no network, no such data set, no such split, no access: the hub has its own errors
        raise DataError(
            f"{name!r} is no file or folder here, and loading split {split!r} of it from the hub failed "
            f"({type(error).__name__}: {str(error).strip()[:200]}); check the name, the split and the network"
        ) from error
    return _read_table(table, name, images)


def _read_table(table: datasets.Dataset, name: str, images: str | os.PathLike | None) -> Source:
    """Read a data set of the `datasets` library with the columns image, problem and solution, or all of ours."""
    missing = [column for column in ("image", "problem", "solution") if column not in table.column_names]
    if missing:
        raise DataError(f"{name}: no column {missing[0]!r}; it has {', '.join(table.column_names)}")
    stem = PurePosixPath(name).name or "table"
    prefix = f"{stem}-{table.split}" if table.split else stem
    has_paths = table.features["image"] == datasets.Value("string")
    if not has_paths and not isinstance(table.features["image"], datasets.Image):
        raise DataError(f"{name}: column 'image' holds {table.features['image']}; expected images or their paths")
    if not has_paths and images is not None:
        raise DataError(f"{name}: images= does not go with a data set that holds its images; leave it out")
    seen: set[str] = set()

    def convert(item: dict, row: int) -> dict:
        id = item.get("id") or f"{prefix}-{row}"
        if id in seen:
            raise DataError(f"id used twice: {id!r}; ids must be unique")
        seen.add(id)
        if has_paths:
            return make_record(item, id, stem)
        return {**make_record({**item, "image": "-"}, id, stem), "image_id": item.get("image_id"), "position": row}

    source = Source(name, image_folder(images))
    if not has_paths:
        source.pictures = table.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    read = {"id", "question_type", "patient_id", "rationale", *TEXT_COLUMNS} | ({"image"} if has_paths else set())
    columns = [name for name in table.column_names if name in read]
    source.read(table.select_columns(columns).to_list(), name, convert)
    return source


# What a kind of source is called in a sentence, and its reader. The kind takes what its reader takes by keyword.
DRAWN = {"phantoms": _draw_phantoms, "medmnist": _read_medmnist}  # (modality, task, n, seed, size) -> Dataset
READ = {  # (source) -> Source
    "a JSON file": read_json_source,
    "OmniMedVQA's folder": read_omnimedvqa,
    "a saved data set": read_saved,
    "a data set on the hub": read_hub,
}


# --- the data set ----------------------------------------------------------------------------------------------------


def _dataset(records: list[dict], images: list[dict] | None = None, **features: object) -> datasets.Dataset:
    """The columns of a data set, with an image a record if there are any; ``features``: of what is no text."""
    extra = [name for name in EXTRA_COLUMNS if any(name in record for record in records)]
    columns: dict[str, list] = {name: [one.get(name) for one in records] for name in ("id", *TEXT_COLUMNS, *extra)}
    text = datasets.Value("string")
    features = {name: datasets.List(text) if name == "options" else text for name in columns} | features
    if images is not None:
        columns["image"] = images
    return _ordered(datasets.Dataset.from_dict(columns, features=datasets.Features(features)))


def _ordered(table: datasets.Dataset) -> datasets.Dataset:
    names = ("id", "image", *TEXT_COLUMNS, *EXTRA_COLUMNS)
    return table.select_columns([name for name in names if name in table.column_names])


def read_dataset(records: list[dict], loaded: Source, image: MedicalImage) -> datasets.Dataset:
    """Return records that were read as a data set, with the images of their source if it has any."""
    if loaded.pictures is not None:
        return _beside_pictures(records, loaded.pictures, image)
    if loaded.folder is None:
        return _dataset(records)
    folder = os.path.abspath(loaded.folder)
    paths = [{"path": os.path.join(folder, record["image_id"]), "bytes": None} for record in records]
    return _dataset(records, paths, image=image)


def _beside_pictures(records: list[dict], pictures: datasets.Dataset, image: MedicalImage) -> datasets.Dataset:
    """Put the columns beside a stored image column without copying it: rows that were not taken stay empty, unseen."""
    for record in records:
        if record["image_id"] is None:
            stored = pictures[record["position"]]["image"]
            record["image_id"] = stored["path"] if stored["bytes"] is None else sha1(stored["bytes"]).hexdigest()[:16]
    at = {record["position"]: record for record in records}
    text = _dataset([at.get(position, {}) for position in range(len(pictures))])
    both = datasets.concatenate_datasets([pictures.cast_column("image", image), text], axis=1)
    return _ordered(both).select(sorted(at))
