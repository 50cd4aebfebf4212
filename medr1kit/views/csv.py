"""Tables of texts as CSV files in which a spreadsheet runs nothing.

What a model writes is not to be trusted with a spreadsheet: a cell that begins with ``=``, ``+``, ``-`` or ``@`` would
be run as a formula. Such cells get an apostrophe in front, and lose it when they are read back (:func:`as_written`).
``page/script/common.js`` does the same in a browser; a test compares the two, byte by byte.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from medr1kit.vqa import LETTERS, DataError

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def write_csv(sheet: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Write a table of texts to a new CSV file in which a spreadsheet takes no cell for a formula.

    Args:
        sheet: all cells texts. What looks like a formula, headings too, gets an apostrophe in front; a null byte is
            written [U+0000], and half of a pair of characters, which no file takes, by its number.
        path: a file that does not exist yet: it may hold what a reader wrote.

    Returns:
        The path.

    Raises:
        DataError: if the file exists or cannot be written.
    """
    safe = sheet.map(_harmless).rename(columns=_harmless)
    return write_new(safe.to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n"), path, "utf-8-sig")


def as_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with all cells as texts; what is missing is an empty one."""
    columns = {name: ["" if pd.isna(cell) else str(cell) for cell in table[name]] for name in table}
    return pd.DataFrame(columns, table.index, dtype=object)


def _harmless(text: str) -> str:
    text = text.replace("\0", "[U+0000]").encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if _FORMULA.match(text) else text


def as_written(cell: str) -> str:
    """Return a cell without the apostrophe that :func:`write_csv` put in front.

    >>> as_written("'=1+1"), as_written("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def write_new(content: str, path: str | os.PathLike, encoding: str = "utf-8") -> Path:
    """Write a file that does not exist yet, and return its path.

    Raises:
        DataError: if the file exists or cannot be written.
    """
    try:
        with open(path, "x", encoding=encoding, newline="") as file:
            file.write(content)
    except FileExistsError as error:
        raise DataError(f"{str(path)!r} exists, and may hold notes; give a new name or remove it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be written: {error}; give another file") from error
    return Path(path)


def options_cell(options: Iterable[str]) -> str:
    """Return the options of a question as one cell.

    >>> options_cell(["liver", "lung"])
    'A) liver | B) lung'
    """
    return " | ".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options))
