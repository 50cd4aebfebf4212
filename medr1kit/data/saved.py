"""Data sets of the `datasets` library: saved on disk or on the hub, with their images inside or with paths."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import datasets

from medr1kit.data.files import Source, image_folder, make_record
from medr1kit.vqa import DataError

# What is read of a row.
READ_KEYS = (
    *("id", "image", "problem", "solution", "question", "options", "answer"),
    *("modality", "task", "question_type", "source", "image_id", "patient_id", "rationale"),
)


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
    columns = [key for key in READ_KEYS if key in table.column_names and (has_paths or key != "image")]
    source.read(table.select_columns(columns).to_list(), name, convert)
    return source
