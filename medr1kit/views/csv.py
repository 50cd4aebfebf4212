"""Tables of texts as CSV files in which a spreadsheet runs nothing, and new files that replace none."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from medr1kit.given import output_file
from medr1kit.results.formulas import harmless
from medr1kit.results.runs import replace_file
from medr1kit.vqa import LETTERS, DataError


def write_csv(sheet: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Write a table of texts to a new CSV file in which a spreadsheet takes no cell for a formula.

    Args:
        sheet: all cells texts. What looks like a formula, headings too, gets an apostrophe in front; a null byte is
            written [U+0000], and half of a pair of characters, which no file takes, by its number.
        path: a file that does not exist yet, because it might hold what a reader wrote; it ends in .csv.

    Returns:
        The path.

    Raises:
        DataError: if the file exists, ends otherwise or cannot be written.
    """
    safe = sheet.map(_harmless).rename(columns=_harmless)
    content = safe.to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    return write_new("\ufeff" + content, path, (".csv",))  # the mark by which a spreadsheet knows UTF-8


def as_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with all cells as texts; what is missing is an empty one."""
    columns = {name: ["" if pd.isna(cell) else str(cell) for cell in table[name]] for name in table}
    return pd.DataFrame(columns, table.index, dtype=object)


def _harmless(text: str) -> str:
    return harmless(text.replace("\0", "[U+0000]").encode("utf-8", "backslashreplace").decode("utf-8"))


def write_new(content: str, path: str | os.PathLike, endings: Sequence[str]) -> Path:
    """Write a file that does not exist yet, and return its path.

    Raises:
        DataError: if the file exists, is called otherwise than ``endings`` allow, or cannot be written.
    """
    file = output_file(path, "path", endings, ours=())
    try:
        replace_file(file, content)
    except (OSError, ValueError) as error:
        raise DataError(f"{str(file)!r} cannot be written: {error}; give another file") from error
    return file


def options_cell(options: Iterable[str]) -> str:
    """Return the options of a question as one cell.

    >>> options_cell(["liver", "lung"])
    'A) liver | B) lung'
    """
    return " | ".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options))
