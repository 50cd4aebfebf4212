"""OmniMedVQA's own files -> training and test files in Med-R1's form.

OmniMedVQA comes as one JSON file a source (``QA_information/Open-access/*.json``, 42 files, 88,996 questions). Med-R1
cut it three times, by modality, by task and by source, each time row by row at random. So 13 % of its CT test rows show
an image of the CT training file, and four fifths of the rows of any task test are training rows of the modality files.

:func:`convert_omnimedvqa` cuts once, by image: a row of any test file is in no training file, of neither family, and
neither is its image. Given Med-R1's published files it repeats their membership instead, row by row, for comparison.
Two of these are not published, MRI's and Disease Diagnosis' training file; they are what is left over.

The result is the same on every machine: rows are sorted, or stand in the published order, and a manifest has the
fingerprint of each file, to be compared with those of others. It is a sha256 over the sorted rows, so it does not
depend on their order.

Source: Med-R1 facts, sections 1.1 (schemas), 1.2 (files), 1.6 (leaks).
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from medr1kit.audits.repair import rows_to_test
from medr1kit.data.files import is_open, read_json_source, read_omnimedvqa
from medr1kit.data.load import DroppedRows
from medr1kit.given import path_given
from medr1kit.vqa import DataError, modality_name, task_name

FAMILIES = {"modality": modality_name, "question_type": task_name}
_COLUMN = {"modality": "modality", "question_type": "task"}
_SIDES = ("train", "test")
_KEYS = ["image", "problem", "solution"]


def convert_omnimedvqa(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    test_size: float = 0.2,
    seed: int = 0,
    published: str | os.PathLike | None = None,
    check: str = "error",
) -> dict:
    """Write OmniMedVQA's open-access part as ``modality/train/CT.json`` ... ``question_type/test/Lesion_Grading.json``.

    Each file is an array of objects with Med-R1's keys image, problem and solution, and further modality, task and
    source; :func:`medr1kit.load_vqa` reads it, with ``images=folder``.

    Args:
        folder: OmniMedVQA's folder, the one that contains ``QA_information``.
        out: a folder that does not exist yet or is empty.
        test_size, seed: of the image-disjoint split, as in :func:`medr1kit.image_disjoint_split`.
        published: a folder with Med-R1's JSON files, any of them, named after a modality or task and, in the name or a
            folder, "train" or "test". Rows are matched by image path and question. Where one of the two files of a
            modality or task is not there, it is made of the rows that the other one does not have; rows that have no
            place, because both are there or neither, are left out and counted.
        check: "error" refuses malformed rows, "drop" leaves them out and lists them in a
            :class:`~medr1kit.data.load.DroppedRows` warning.

    Returns:
        The manifest, which is also written to ``out/manifest.json``: ``questions`` (the fingerprint of each file that
        was read), ``dropped`` (counts by reason), ``split`` (how rows were placed), ``files`` (for each file: path,
        rows, images, sha256, and for a published one whether it is ``same_as_published``), ``unplaced`` (rows in no
        file, by family) and ``leaks`` (test rows whose image is in the training file, by family and name). With
        ``published``, ``split`` has ``not_found``, the published rows that OmniMedVQA does not have, by family.

    Raises:
        DataError: if a file cannot be read, a row is bad, a published file's name does not say what it is, or ``out``
            has files in it.
    """
    folder, out = path_given(folder, "folder"), path_given(out, "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{os.fspath(out)!r} is not an empty folder; give a new one")
    rows, dropped, read = _read(folder, check)
    if published is None:
        sides = np.where(rows_to_test(rows, test_size, seed), "test", "train").tolist()
        places = {family: list(zip(rows[column].fillna("unknown"), sides)) for family, column in _COLUMN.items()}
        split, files = {"kind": "image-disjoint", "test_size": test_size, "seed": seed}, {}
    else:
        files = _published(path_given(published, "published"))
        places, not_found = _as_published(rows, files)
        split = {"kind": "published", "not_found": not_found}
    manifest = {"questions": read, "dropped": dropped, "split": split, "files": [], "unplaced": {}, "leaks": {}}
    for family, placed in places.items():
        manifest["unplaced"][family] = placed.count(None)
        groups = dict(iter(rows.groupby(pd.Series(placed, dtype=object))))  # by name and side; None is in no group
        manifest["leaks"][family] = _leaks(groups)
        for (name, side), group in groups.items():
            theirs = files.get((family, name, side))
            entry = _write(out, family, name, side, group if theirs is None else _in_order_of(theirs, group))
            if theirs is not None:
                entry["same_as_published"] = entry["sha256"] == fingerprint(theirs)
            manifest["files"].append(entry)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def fingerprint(rows: Iterable[dict]) -> str:
    """Return a sha256 over the image, problem and solution of rows; their order does not matter.

    >>> one, two = ({"image": name, "problem": "?", "solution": "A"} for name in "ab")
    >>> fingerprint([one, two]) == fingerprint([two, one]) != fingerprint([one, one])
    True
    """
    lines = sorted(json.dumps([row[key] for key in _KEYS]) for row in rows)
    return sha256("\n".join(lines).encode()).hexdigest()


def _read(folder: Path, check: str) -> tuple[pd.DataFrame, dict[str, int], dict[str, dict]]:
    """The sound rows in a fixed order, the number of the others by reason, and what was read."""
    if check not in ("error", "drop"):
        raise DataError(f"unknown check {check!r}; use 'error' or 'drop'")
    source = read_omnimedvqa(folder)
    records = [record for record in source.records if is_open(record["file"])]
    refused = [row for row in source.refused if is_open(row.file)]
    if refused and check == "error":
        raise DataError(f"{refused[0]} (check='drop' leaves this and {len(refused) - 1} other rows out)")
    if not records:
        raise DataError(
            f"{os.fspath(folder)!r} has no sound row in QA_information/Open-access; unpack OmniMedVQA again"
        )
    if refused:
        warnings.warn(DroppedRows(refused, len(records) + len(refused)), stacklevel=3)
    rows = pd.DataFrame(records, dtype=object)
    rows["image"] = rows["image_id"]
    by_file = rows.groupby("file", sort=False)
    read = {
        Path(file).name: {"rows": len(part), "sha256": fingerprint(part.to_dict("records"))} for file, part in by_file
    }
    return rows.sort_values(_KEYS, ignore_index=True), dict(Counter(row.kind for row in refused)), read


def _published(folder: Path) -> dict[tuple[str, str, str], list[dict]]:
    """Med-R1's files below a folder: (family, name, side) -> rows."""
    files = {}
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.json.gz")]):
        place = _place(path.relative_to(folder))
        if place in files:
            raise DataError(f"{os.fspath(path)} is a second file for {' '.join(place)}; leave one of them out")
        source = read_json_source(path)
        if source.refused:
            raise DataError(str(source.refused[0]))
        files[place] = [{**record, "image": record["image_id"]} for record in source.records]
    if not files:
        raise DataError(f"{os.fspath(folder)!r} has no .json or .json.gz file; give the folder with Med-R1's splits")
    return files


def _place(path: Path) -> tuple[str, str, str]:
    """What a path such as ``modality/train/CT.json.gz`` or ``Lesion_Grading_test.json`` holds."""
    name = path.name.removesuffix(".gz").removesuffix(".json")
    sides = [side for side in _SIDES if name.lower().endswith(f"_{side}") or side in path.parts[:-1]]
    if len(sides) == 1:
        name = re.sub(f"_{sides[0]}$", "", name, flags=re.IGNORECASE)
        # "MR" is a modality and a task; the folder says which.
        for family in [known for known in FAMILIES if known in path.parts] or FAMILIES:
            if name.lower() == "unknown" and family == "modality":
                return family, "unknown", sides[0]
            with suppress(DataError):
                return family, FAMILIES[family](name), sides[0]
    raise DataError(
        f"{os.fspath(path)}: the name does not say which modality or task it is, and train or test; rename it"
    )


def _as_published(
    rows: pd.DataFrame, files: dict[tuple[str, str, str], list[dict]]
) -> tuple[dict[str, list[tuple[str, str] | None]], dict[str, int]]:
    """For each family, the place of each row; and how many published rows are not among them."""
    at = rows.groupby(["image", "question"]).indices
    places: dict[str, list] = {family: [None] * len(rows) for family, _, _ in files}
    not_found = dict.fromkeys(places, 0)
    for (family, name, side), theirs in files.items():
        for row in theirs:
            free = [i for i in at.get((row["image"], row["question"]), ()) if places[family][i] is None]
            if not free:
                not_found[family] += 1
                continue
            exact = [i for i in free if rows["problem"][i] == row["problem"]]
            places[family][(exact or free)[0]] = (name, side)
    for family, placed in places.items():
        for i, name in enumerate(rows[_COLUMN[family]]):
            missing = [side for side in _SIDES if (family, name, side) not in files]
            if placed[i] is None and len(missing) == 1:
                placed[i] = (name, missing[0])
    return places, not_found


def _in_order_of(published: list[dict], rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as they follow each other in a published file, because a training run meets them in that order."""
    order = {(row["image"], row["problem"]): number for number, row in enumerate(published)}
    places = [order.get(key, len(order)) for key in zip(rows["image"], rows["problem"])]
    return rows.iloc[np.argsort(places, kind="stable")]


def _leaks(groups: dict[tuple[str, str], pd.DataFrame]) -> dict[str, int]:
    """For each name, the test rows whose image is in the training file of that name."""
    images = {name: set(rows["image"]) for (name, side), rows in groups.items() if side == "train"}
    tests = {name: rows["image"] for (name, side), rows in groups.items() if side == "test"}
    return {name: int(tested.isin(images.get(name, ())).sum()) for name, tested in tests.items()}


def _write(out: Path, family: str, name: str, side: str, rows: pd.DataFrame) -> dict:
    path = Path(family, side, f"{name.replace(' ', '_')}.json")
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    written = rows[[*_KEYS, "modality", "task", "source"]].to_dict("records")
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in written)
    (out / path).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    images = rows["image"].nunique()
    return {"path": path.as_posix(), "rows": len(rows), "images": images, "sha256": fingerprint(written)}
