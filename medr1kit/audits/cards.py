"""Data cards whose numbers can be checked: what a card says is compared with the files it describes.

A card is Markdown with the front matter of the Hugging Face hub. Three kinds of its tables are read by
:func:`check_card`, told apart by the head of their first column; all other tables are for people only.

``file``
    A row a file below the data folder, without its suffix (``modality/train/CT`` for ``CT.json`` or ``CT.json.gz``).
    Columns: rows, images, sources, 2 options, 3 options, 4 options, A, B, C, D (gold letters), chance (percent). Of a
    CSV file rows only.
``pair``
    A row a training and a test file, with ``*`` in the place of train and test (``modality/*/CT``). Columns: keys of
    the audit's JSON (:meth:`medr1kit.audits.AuditReport.to_json`), those inside another as ``curve.30``.
``modality``
    A row a modality, "unknown" or "all", of OmniMedVQA's folder as a whole. Columns: tasks, and rows.

A number agrees if what is found, rounded to as many decimals, is equal. Empty cells and dashes are not compared.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.audits import audit
from medr1kit.data.files import is_open, read_omnimedvqa
from medr1kit.data.load import load_vqa
from medr1kit.progress import progress
from medr1kit.vqa import LETTERS, MODALITIES, TASKS, DataError, modality_name, task_name

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard

_CARDS = Path(__file__).parents[2] / "data_cards"
_SUFFIXES = (".json", ".json.gz", ".csv")
_KINDS = ("file", "pair", "modality")


def read_card(card: str | os.PathLike) -> DatasetCard:
    """Return a data card: ``.data`` is its front matter, ``.text`` the rest.

    Args:
        card: a Markdown file, or the name of a card in the repository's ``data_cards``, such as "phantoms".

    Raises:
        DataError: if there is no such card.
    """
    from huggingface_hub import DatasetCard

    return DatasetCard(_find_card(card).read_text(encoding="utf-8"))


def _find_card(card: str | os.PathLike) -> Path:
    for path in (Path(card), _CARDS / f"{os.fspath(card)}.md"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in _CARDS.glob("*.md")))
    raise DataError(f"no data card {os.fspath(card)!r}; give a Markdown file{f' or one of {known}' if known else ''}")


def check_card(card: str | os.PathLike, data: str | os.PathLike) -> pd.DataFrame:
    """Compare the numbers of a data card with the files on disk.

    Args:
        card: as in :func:`read_card`.
        data: the folder that the file names in the card start from, or OmniMedVQA's own folder.

    Returns:
        A row a number: ``file`` (the first cell of its row), ``measure`` (the head of its column), ``card`` (as it is
        printed), ``found`` (nan if the files are not there, or too small for the measure) and ``verdict``: "agrees",
        "differs" or "not there".

    Raises:
        DataError: if there is no such card or folder, the card has no table of counts, a column is not a known measure,
            a cell is not a number, or none of the files is in the folder.
    """
    path, folder = _find_card(card), Path(data)
    if not folder.is_dir():
        raise DataError(f"{os.fspath(data)!r} is not a folder; give the one that the card's file names start from")
    files, lines = _Files(folder), []
    tables = _tables(path.read_text(encoding="utf-8"))
    counted = [(kind, names, row) for kind, names, rows in tables for row in rows]
    for kind, names, (name, *cells) in progress(counted, f"checking {path.name}", unit="row"):
        printed = {measure: cell for measure, cell in zip(names, cells) if cell.strip("–- ")}
        found = files.measure(kind, name) if printed else None
        lines += [_line(path.name, kind, name, measure, cell, found) for measure, cell in printed.items()]
    table = pd.DataFrame(lines, columns=["file", "measure", "card", "found", "verdict"])
    if table.empty:
        raise DataError(f"{path.name} has no table of counts: none whose first column is {' or '.join(_KINDS)}")
    if (table["verdict"] == "not there").all():
        kind, _, (name, *_) = counted[0]
        first = "QA_information" if kind == "modality" else name
        raise DataError(f"{os.fspath(data)!r} holds nothing of {path.name}, such as {first}; give the folder that does")
    return table


def _tables(text: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """The tables that are to be checked: kind, names of the columns, rows of cells."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        head, *rows = [[cell.strip(" `") for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        if head[0] in _KINDS and (head[0] != "modality" or all(_is_count(name) for name in head[1:])):
            yield head[0], head[1:], rows[1:]


def _is_count(name: str) -> bool:
    try:
        return name == "rows" or bool(task_name(name))
    except DataError:
        return False  # a table of modalities for people


def _line(card: str, kind: str, name: str, measure: str, cell: str, found: dict[str, float] | None) -> tuple:
    number = re.fullmatch(r"-?\d+(?:\.(\d+))?", cell.removesuffix("%").strip().replace(",", ""))
    if number is None:
        raise DataError(f"{card}, row {name!r}: {measure} is {cell!r}; write a number, or a dash for none")
    if found is None:
        return name, measure, cell, float("nan"), "not there"
    measure_key = task_name(measure) if kind == "modality" and measure != "rows" else measure
    if measure_key not in found:
        part = measure_key.partition(".")[0]  # of the audit, without this entry; small files have no curve at all
        if part == "curve" or any(key.startswith(f"{part}.") for key in found):
            return name, measure, cell, float("nan"), "not there"
        known = textwrap.shorten(", ".join(map(str, found)), 200, placeholder=" …")
        raise DataError(f"{card}, row {name!r}: {measure!r} is not measured; known are {known}")
    decimals = len(number[1] or "")
    agrees = f"{found[measure_key]:.{decimals}f}" == f"{float(number[0]):.{decimals}f}"
    return name, measure, cell, found[measure_key], "agrees" if agrees else "differs"


class _Files:
    """What is measured on the files of a folder, each of them read once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.load = lru_cache(maxsize=2)(lambda path: load_vqa(path, check="drop"))
        self.measure = lru_cache(maxsize=None)(self._measure)  # several tables of a card may name one pair of files

    def _measure(self, kind: str, name: str) -> dict[str, float] | None:
        """All measures of a row of a card by name; None if its files are not there."""
        if kind == "modality":
            name = name if name in ("unknown", "all") else modality_name(name)
            return self._crossing[name] if (self.folder / "QA_information").is_dir() else None
        if kind == "file":
            path = self._path(name)
            return None if path is None else _count_rows(path, self.load)
        sides = [self._path(name.replace("*", side)) for side in ("train", "test")]
        return None if None in sides else _flat(audit(*map(self.load, sides)).summary)

    def _path(self, name: str) -> Path | None:
        paths = (self.folder / f"{name}{suffix}" for suffix in _SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    @cached_property
    def _crossing(self) -> dict[str, dict[str, float]]:
        """Modality x task of the open part, "unknown" and "all" among the modalities, and "rows" among the tasks."""
        rows = [row for row in read_omnimedvqa(self.folder).records if is_open(row["file"])]
        table = pd.DataFrame(rows, columns=["modality", "task"], dtype=object).fillna("unknown")
        counts = pd.crosstab(table["modality"], table["task"], margins=True, margins_name="all")
        counts = counts.rename(columns={"all": "rows"})
        return counts.reindex(index=[*MODALITIES, "unknown", "all"], columns=["rows", *TASKS], fill_value=0).T.to_dict()


def _count_rows(path: Path, load: Any) -> dict[str, float]:
    if path.suffix == ".csv":
        return {"rows": len(pd.read_csv(path))}
    data = load(path)
    options, letters = Counter(map(len, data["options"])), Counter(data["answer"])
    return {
        "rows": len(data),
        "images": len(set(data["image_id"])),
        "sources": len(set(data["source"])),
        **{f"{n} options": options[n] for n in range(2, len(LETTERS) + 1)},
        **{letter: letters[letter] for letter in LETTERS},
        "chance": 100 * sum(count / n for n, count in options.items()) / len(data),
    }


def _flat(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers of an audit, those inside a part under ``part.name``."""
    flat = pd.json_normalize(summary).iloc[0]
    return {name: number for name, number in flat.items() if isinstance(number, int | float | np.number)}
