"""The kinds of sources: how to tell them, who reads them, what each reader takes, and what comes out of them all."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Iterable
from hashlib import sha1
from typing import Any

import datasets

from medr1kit.data.benchmark_sets import READ_SETS, benchmark_set
from medr1kit.data.files import read_json_source, read_omnimedvqa
from medr1kit.data.images import MedicalImage, stored_path, to_png
from medr1kit.data.readers import read_file, read_frame, read_given, read_list, read_stored
from medr1kit.data.rows import Source
from medr1kit.data.tables import is_table
from medr1kit.given import kind as what_it_is
from medr1kit.given import path_given
from medr1kit.progress import progress
from medr1kit.vqa import DataError

TEXT_COLUMNS = ("problem", "solution", "question", "options", "answer", "modality", "task", "source", "image_id")
EXTRA_COLUMNS = ("patient_id", "rationale", "n_facts", "truth")  # where a source has them; the last two: phantoms only
_COMMON = ("split", "modality", "task", "n", "seed", "images", "meta", "size", "frame", "max_pixels", "check")


def kind_of(source: Any) -> str | None:
    """Return what a source is, as :data:`DRAWN` and :data:`READ` call it; None if it is not there.

    Raises:
        DataError: if it is nothing that holds questions.
    """
    if hasattr(source, "iloc") and hasattr(source, "to_parquet"):
        return "a DataFrame"
    if hasattr(source, "column_names"):
        if type(source).__name__.startswith("Iterable"):
            raise DataError("the data set is streamed; load it whole, without streaming=True")
        return "a Dataset"
    if isinstance(source, (list, tuple)) and source and all(re.search(_FILE, str(one)) for one in source):
        remedy = "load each, and join them with datasets.concatenate_datasets"
        raise DataError(f"source is a list of {len(source)} files; {remedy}")
    if isinstance(source, (list, tuple)):
        return "a list of rows"
    if isinstance(source, dict):
        raise DataError("source is a dict; give a list of dicts, one a question, or a DataFrame")
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(f"source is {what_it_is(source)}; give a file, a DataFrame, a list of dicts or a Dataset")
    path = path_given(source, "source")
    if source in DRAWN:
        return source
    if name := benchmark_set(path):
        return name
    if path.is_file():
        return "a table file" if is_table(path) else "a JSON file"
    if (path / "QA_information").is_dir():
        return "OmniMedVQA's folder"
    if path.is_dir():
        return "a saved data set"
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and not re.search(_FILE, str(source), re.IGNORECASE)
    return "a data set on the hub" if is_name else None


_FILE = r"\.(json|gz|csv|tsv|txt|xls[xm]?|jsonl|ndjson|parquet|ods)$"


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
            where = kind if name in _COMMON or len(owners) > 2 else f"any source but {' and '.join(owners)}"
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


# What a kind of source is called in a sentence, and its reader. The kind takes what its reader takes by keyword.
DRAWN = {"phantoms": _draw_phantoms, "medmnist": _read_medmnist}  # (modality, task, n, seed, size) -> Dataset
READ = {  # (source) -> Source
    "a JSON file": read_json_source,
    "a table file": read_file,
    "a DataFrame": read_frame,
    "a list of rows": read_list,
    "a Dataset": read_given,
    "OmniMedVQA's folder": read_omnimedvqa,
    "a saved data set": read_stored,
    "a data set on the hub": read_stored,
    **READ_SETS,
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
    paths = [{"path": stored_path(loaded.folder, record["image_id"]), "bytes": None} for record in records]
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
