"""Readers of what is no file of Med-R1's: tables in files, frames, lists, and data sets of the `datasets` library.

All of them end in :meth:`medr1kit.data.rows.Source.add`, which understands columns and checks each row. Images are
paths below ``images=``, or stored in the table; paths that somebody else's data set has stored are followed only within
its own folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from medr1kit.data.files import image_folder
from medr1kit.data.rows import Source
from medr1kit.data.tables import read_table
from medr1kit.given import path_given
from medr1kit.vqa import DataError


def read_stored(
    place: str | os.PathLike,
    *,
    split: str | None = None,
    images: str | os.PathLike | None = None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
) -> Source:
    """Read a folder written by ``save_to_disk``, or a data set on the hub, ``"owner/name"``.

    Args:
        place: the folder, or the name.
        split: which one (default "train") of the hub, and of a folder that holds several.
        images, columns, yes_no: as in :func:`medr1kit.load_vqa`.

    Raises:
        DataError: if it is no such folder, is damaged, or has no such split; if the hub cannot be read, in its words.
    """
    name, path = os.fspath(place), path_given(place, "source")
    if path.is_dir():
        table, within = _chosen(_open(path), split, repr(name)), path
    else:
        table, within = _from_hub(name, split or "train"), datasets.config.HF_CACHE_HOME
    return _read_table(table, name, images, columns, yes_no, [within])


def _open(path: Path) -> datasets.Dataset | datasets.DatasetDict:
    if path.name == "QA_information":
        raise DataError(f"{os.fspath(path)!r} is a part of OmniMedVQA; give its parent folder")
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        raise DataError(
            f"{os.fspath(path)!r} holds neither a QA_information folder (OmniMedVQA) nor a data set written by "
            "save_to_disk; give the folder that does, or a file of questions"
        )
    try:
        return datasets.load_from_disk(os.fspath(path))
    except Exception as error:  # files of a folder can be missing or damaged in many ways
        raise DataError(f"{os.fspath(path)!r} cannot be read: {error}; save the data set again") from error


def _chosen(table: Any, split: str | None, name: str) -> datasets.Dataset:
    if isinstance(table, datasets.DatasetDict):
        if (split or "train") not in table:
            there = f"it has {', '.join(table)}: choose one, split={next(iter(table), '…')!r}"
            raise DataError(f"{name} has no split {split or 'train'!r}; {there}")
        return table[split or "train"]
    if split not in (None, str(table.split)):
        raise DataError(f"{name} is a single data set without split {split!r}; leave split= out")
    return table


def _from_hub(name: str, split: str) -> datasets.Dataset:
    try:
        return datasets.load_dataset(name, split=split)
    except Exception as error:  # no network, no such data set, no such split, no access: the hub has its own errors
        raise DataError(
            f"{name!r} is no file or folder here, and loading split {split!r} of it from the hub failed "
            f"({type(error).__name__}: {str(error).strip()[:200]}); check the name, the split and the network"
        ) from error


def read_given(
    table: datasets.Dataset | datasets.DatasetDict,
    *,
    split: str | None = None,
    images: str | os.PathLike | None = None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
) -> Source:
    """Read a data set of the `datasets` library, or one split (default "train") of several."""
    return _read_table(_chosen(table, split, "the data set"), "the data set", images, columns, yes_no, stem="table")


def _read_table(
    table: datasets.Dataset,
    name: str,
    images: str | os.PathLike | None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
    within: Sequence[str | os.PathLike] | None = None,
    stem: str | None = None,
) -> Source:
    """Read a data set of the `datasets` library: of our columns, or of columns that :mod:`.columns` understands.

    ``within``: the only places that stored paths may lead to. A data set of somebody else's can name any file.
    """
    if not len(table):
        raise DataError(f"{name}: no rows; a filter may have left nothing over")
    stem = stem or PurePosixPath(name).name or "table"
    prefix = "row" if within is None else stem
    prefix = f"{prefix}-{table.split}" if table.split else prefix
    source = Source(name, image_folder(images), within=None if within is None else [Path(one) for one in within])
    pictures = [key for key, feature in table.features.items() if isinstance(feature, datasets.Image)]
    if pictures:
        column = _image_column(pictures, name, (columns or {}).get("image"))
        if images is not None:
            raise DataError(f"{name}: images= does not go with a data set that holds its images; leave it out")
        source.pictures = table.select_columns([column]).rename_columns({column: "image"})
        source.pictures = source.pictures.cast_column("image", datasets.Image(decode=False))
        table = table.remove_columns(pictures)
        columns = columns and {role: name for role, name in columns.items() if role != "image"}
    source.add(_to_rows(table), name, prefix, stem, columns, yes_no)
    return source


def _image_column(pictures: list[str], name: str, stated: str | None) -> str:
    if stated in pictures or len(pictures) == 1:
        return stated if stated in pictures else pictures[0]
    if "image" in pictures:
        return "image"
    shown = ", ".join(pictures)
    raise DataError(
        f"{name}: several columns hold images, {shown!r}, and one image a question is supported; "
        f"name one, columns={{'image': {pictures[0]!r}}}"
    )


def _to_rows(table: datasets.Dataset) -> list[dict]:
    """The rows as dicts: classes by name, images of lists not decoded."""
    for name, feature in table.features.items():
        inner = getattr(feature, "feature", None)
        if isinstance(inner, datasets.Image):
            table = table.cast_column(name, datasets.List(datasets.Image(decode=False)))
    rows = table.to_list()
    for name, feature in table.features.items():
        if isinstance(feature, datasets.ClassLabel):
            for row in rows:
                row[name] = None if row[name] is None else feature.int2str(row[name])
    return rows


def read_file(
    path: str | os.PathLike,
    *,
    images: str | os.PathLike | None = None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
    sheet: str | None = None,
    encoding: str | None = None,
) -> Source:
    """Read a .csv, .tsv, .xlsx, .jsonl or .parquet file."""
    path = path_given(path, "source")
    stem = re.sub(r"\.\w+(\.gz)?$", "", path.name)
    if path.suffix.lower() == ".parquet":
        for name, value in (("sheet", sheet), ("encoding", encoding)):
            if value is not None:
                raise DataError(f"{name}= does not go with {os.fspath(path)!r}, a Parquet file; leave it out")
        return _read_table(_open_parquet(path), os.fspath(path), images, columns, yes_no, [path.parent], stem)
    table = read_table(path, sheet, columns, encoding)
    source = Source(table.name, image_folder(images))
    source.add(table.rows, table.name, stem, stem, columns, yes_no, table.numbers, table.about)
    return source


def _open_parquet(path: Path) -> datasets.Dataset:
    import pyarrow.parquet

    try:
        return datasets.Dataset(pyarrow.parquet.read_table(path))
    except Exception as error:
        raise DataError(f"{os.fspath(path)!r} cannot be read ({str(error)[:200]}); write the file again") from error


def read_frame(
    frame: Any,
    *,
    images: str | os.PathLike | None = None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
) -> Source:
    """Read a pandas DataFrame."""
    if frame.columns.nlevels > 1:
        raise DataError(
            "the frame has column names of several levels; keep one, frame.columns = frame.columns.get_level_values(-1)"
        )
    named = [level for level in frame.index.names if level is not None and level not in frame.columns]
    if named:  # an id or a patient that is the index
        frame = frame.reset_index(level=named)
    if not frame.columns.is_unique:
        raise DataError(f"the frame has two columns {frame.columns[frame.columns.duplicated()][0]!r}; rename one")
    cells = [[cell.tolist() if hasattr(cell, "shape") else cell for cell in frame[name].tolist()] for name in frame]
    names = [str(name) for name in frame.columns]
    return _read_rows([dict(zip(names, row)) for row in zip(*cells)], "the frame", images, columns, yes_no)


def read_list(
    rows: Sequence[Any],
    *,
    images: str | os.PathLike | None = None,
    columns: Mapping[str, Any] | None = None,
    yes_no: bool = False,
) -> Source:
    """Read a list of dicts, one a question."""
    return _read_rows(list(rows), "the list", images, columns, yes_no)


def _read_rows(rows, name, images, columns, yes_no) -> Source:
    if not rows:
        raise DataError(f"{name} has no rows; a filter may have left nothing over")
    source = Source(name, image_folder(images))
    source.add(rows, name, "row", "table", columns, yes_no)
    return source
