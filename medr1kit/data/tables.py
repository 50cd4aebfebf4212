"""Files of rows and columns: CSV, TSV, Excel, JSON lines, Parquet. What a cell shows is what is read.

A spreadsheet says little about itself. Excel's "CSV" has semicolons and cp1252 in Germany, commas in America, a byte
order mark where one asked for UTF-8, and UTF-16 with tabs where one asked for "Unicode text". So encoding and separator
are found out from the file, and said. No cell is guessed at: "NA" and "None" may be an option, 007 may be a patient.

Rows of CSV, TSV and Excel are numbered as the spreadsheet numbers them (the header is row 1), all others from 0.
"""

from __future__ import annotations

import csv
import io
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medr1kit.data.cells import missing
from medr1kit.data.files import decoded, load_json, read_bytes
from medr1kit.vqa import DataError

SHEETS = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm")
ENDINGS = (*SHEETS, ".jsonl", ".ndjson", ".parquet")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass
class Table:
    """Rows as they stand in a file.

    Attributes:
        name: the file, as an error calls it.
        rows: the rows, a dict of cells each; what is no row is kept as it is, to be refused by number.
        numbers: what each row is called.
        about: how the file was read: separator, encoding, sheet.
    """

    name: str
    rows: list[Any]
    numbers: Sequence[int]
    about: str = ""


def is_table(path: str | os.PathLike) -> bool:
    """Return whether a file is a table by its name, perhaps packed with gzip."""
    return _ending(Path(path)) in ENDINGS


def _ending(path: Path) -> str:
    return Path(re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)).suffix.lower()


def read_table(path: str | os.PathLike, sheet: str | None = None) -> Table:
    """Read a .csv, .tsv, .txt, .xlsx or .jsonl file.

    Args:
        path: the file.
        sheet: of an Excel file: which sheet. Default: the one with rows.

    Raises:
        DataError: if it cannot be read, has no rows, or holds several sheets and none is named.
    """
    path = Path(path)
    ending = _ending(path)
    if sheet is not None and ending not in (".xlsx", ".xlsm"):
        raise DataError(f"sheet= does not go with {os.fspath(path)!r}; it is for Excel files, leave it out")
    if ending in (".xlsx", ".xlsm"):
        return _read_excel(path, sheet)
    return _read_lines(path) if ending in (".jsonl", ".ndjson") else _read_csv(path, ending)


# --- text ------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, ending: str) -> Table:
    name = os.fspath(path)
    content = read_bytes(path)
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{name}: an Excel file by its content; name it .xlsx")
    text, encoding = _as_text(content, name)
    stated = re.match(r"sep=(.)\r?\n", text)  # Excel writes and reads this line
    text = text[stated.end() :] if stated else text
    separator = stated.group(1) if stated else _separator(text, ending)
    limit = csv.field_size_limit(2**31 - 1)  # images in cells
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{name}: not a table of text ({error}); save it anew as CSV") from error
    finally:
        csv.field_size_limit(limit)
    about = f"{_SEPARATORS.get(separator, repr(separator))} between columns, {encoding}"
    return _headed(name, lines, 1, about)


def _as_text(content: bytes, name: str) -> tuple[str, str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif content[:400].count(0) * 3 > len(content[:400]):
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    else:
        encoding = "utf-8"
        try:
            return content.decode("utf-8-sig"), encoding
        except UnicodeDecodeError:
            encoding = "cp1252"
    try:
        return content.decode(encoding), encoding
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: neither UTF-8, UTF-16 nor cp1252 ({error.reason}); save it as UTF-8") from error


def _separator(text: str, ending: str) -> str:
    """The separator that cuts the first lines into equally many cells, and into most of them."""

    def fit(separator: str) -> tuple[float, int]:
        lines = [line for line in csv.reader(sample, delimiter=separator) if any(line)]
        width = len(lines[0]) if lines else 0
        return (sum(1 < len(line) <= width for line in lines) / len(lines) if width > 1 else 0.0, width)

    sample = text[:200_000].splitlines(keepends=True)[:50]
    first = "\t" if ending == ".tsv" else ","
    try:
        return max((first, *(one for one in _SEPARATORS if one != first)), key=fit)
    except csv.Error:  # a cell of more than 131,072 characters: an image
        return max(_SEPARATORS, key=sample[0].count)


def _headed(name: str, lines: Sequence[Sequence[Any]], first: int, about: str) -> Table:
    """A table out of lines of cells; the first line of several cells names the columns, what is above is a title."""
    kept = [(number, line) for number, line in enumerate(lines, first) if any(line)]
    if not kept:
        raise DataError(f"{name}: the file is empty; fetch it again, or write a line of column names and the rows")
    wide = [i for i, (_, line) in enumerate(kept) if sum(map(bool, line)) > 1]
    (place, names), *body = kept[wide[0] if wide else 0 :]
    about += f", column names in row {place}" if place > 1 else ""
    header = ["" if missing(cell) else str(cell).strip() for cell in names]
    if not body:
        raise DataError(f"{name}: no rows below the column names {', '.join(header)[:120]!r}; fill them in")
    if double := sorted({one for one in header if one and header.count(one) > 1}):
        raise DataError(f"{name}: two columns are named {double[0]!r}; rename one")
    width, rows = len(header), []
    for _, line in body:
        if len(line) > width and any(line[width:]):
            rows.append(
                DataError(f"more cells than columns: {len(line)}, not {width}: {line[-1]!r:.60}; quote the cell")
            )
            continue
        rows.append(dict(zip_longest(header, line[:width])))
    if "" in header:  # cells beside the table
        rows = [{key: row[key] for key in row if key} if isinstance(row, dict) else row for row in rows]
    return Table(name, rows, [number for number, _ in body], about)


def _read_lines(path: Path) -> Table:
    name, rows = os.fspath(path), []
    for line in decoded(read_bytes(path), name).split("\n"):
        if line.strip():
            try:
                rows.append(load_json(line))
            except (ValueError, RecursionError):
                rows.append(DataError(f"line is not valid JSON: {line[:60]!r}; correct it"))
    if not rows:
        raise DataError(f"{name}: the file is empty; fetch it again")
    return Table(name, rows, range(len(rows)), "JSON lines")


# --- Excel -----------------------------------------------------------------------------------------------------------


def _read_excel(path: Path, sheet: str | None) -> Table:
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > max(64_000_000, 100 * path.stat().st_size):
            raise DataError(f"{name}: unpacks to {size:,} bytes, over 100 times its size; save it as CSV")
        import openpyxl

        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        lines = {one.title: [[_shown(cell) for cell in line] for line in one.iter_rows()] for one in book.worksheets}
        book.close()
    except DataError:
        raise
    except Exception as error:  # damaged and protected files fail in many ways
        raise DataError(
            f"{name}: not an Excel file that can be read ({error}); save it anew as .xlsx or CSV"
        ) from error
    filled = [title for title, rows in lines.items() if any(any(row) for row in rows)]
    if sheet is None and len(filled) > 1:
        raise DataError(
            f"{name}: several sheets hold rows: {', '.join(map(repr, filled))}; name one, sheet={filled[0]!r}"
        )
    if sheet is not None and sheet not in lines:
        raise DataError(f"{name}: no sheet {sheet!r}; it has {', '.join(map(repr, lines))}")
    chosen = sheet or (filled or list(lines))[0]
    return _headed(name, lines[chosen], 1, f"sheet {chosen!r}")


def _shown(cell: Any) -> object:
    """What a cell shows: a number as its format writes it. Dates stay dates: an option must not be one."""
    value = cell.value
    if value is None or isinstance(value, (str, datetime, date, time)):
        return value
    if isinstance(value, bool):
        return str(value).upper()
    written = re.fullmatch(r"0(?:\.(0+))?(%?)", cell.number_format or "")
    if written:
        digits, percent = len(written.group(1) or ""), written.group(2)
        return f"{value * 100 if percent else value:.{digits}f}{percent}"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
