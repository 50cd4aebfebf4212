"""Files of rows and columns: CSV, TSV, Excel, JSON lines, Parquet. What a cell shows is what is read.

A spreadsheet says little about itself. Excel's "CSV" has semicolons and cp1252 in Germany, commas in America, a byte
order mark where one asked for UTF-8, and UTF-16 with tabs where one asked for "Unicode text". So encoding and separator
are found out from the file, and said; what can be none of these is refused until ``encoding=`` names it. No cell is
guessed at: "NA" and "None" may be an option, 007 may be a patient.

Rows of CSV, TSV and Excel are numbered as the spreadsheet numbers them (the header is row 1), all others from 0.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medr1kit.data.cells import missing
from medr1kit.data.columns import find_columns, is_options
from medr1kit.data.excel import OLD_OFFICE, read_sheet
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


def read_table(
    path: str | os.PathLike,
    sheet: str | None = None,
    columns: Mapping[str, Any] | None = None,
    encoding: str | None = None,
) -> Table:
    """Read a .csv, .tsv, .txt, .xlsx or .jsonl file.

    Args:
        path: the file.
        sheet: of an Excel file: which sheet. Default: the one with rows that is not hidden.
        columns: what the user said about columns, by which the line of their names is found.
        encoding: of a CSV or TSV file, as Python calls it. Default: found out.

    Raises:
        DataError: if it cannot be read, has no rows, or holds several sheets and none is named.
    """
    path = Path(path)
    ending = _ending(path)
    if sheet is not None and ending not in (".xlsx", ".xlsm"):
        raise DataError(f"sheet= does not go with {os.fspath(path)!r}; it is for Excel files, leave it out")
    if encoding is not None and ending not in (".csv", ".tsv", ".txt"):
        raise DataError(f"encoding= does not go with {os.fspath(path)!r}; it is for CSV and TSV files, leave it out")
    if ending in (".xlsx", ".xlsm"):
        lines, about = read_sheet(path, sheet)
        return _headed(os.fspath(path), lines, 1, about, columns)
    return _read_lines(path) if ending in (".jsonl", ".ndjson") else _read_csv(path, ending, columns, encoding)


# --- text ------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, ending: str, columns: Mapping[str, Any] | None, encoding: str | None) -> Table:
    name = os.fspath(path)
    content = read_bytes(path)
    _refuse_others(content, name)
    lines, about = cells_of(content, name, ending, encoding)
    return _headed(name, lines, 1, about, columns)


def cells_of(content: bytes, name: str, ending: str = "", encoding: str | None = None) -> tuple[list[list[str]], str]:
    """Return a text's lines of cells, and how they were read: separator and encoding.

    Args:
        content: of a CSV or TSV file.
        name: what to call it in an error.
        ending: of its name; ".tsv" says that tabs are likely.
        encoding: as Python calls it; None: UTF-8, UTF-16 or cp1252, whichever it is.

    Raises:
        DataError: if it is no text, no table, or in another encoding.
    """
    text, encoding = _as_text(content, name, encoding)
    # A line for Excel, which does not count it:
    stated = re.match(r"\"?sep=(.)\"?[,;\t]*\r?\n", text, re.IGNORECASE)
    text = text[stated.end() :] if stated else text
    separator = stated.group(1) if stated else _separator(text, ending)
    limit = csv.field_size_limit(2**31 - 1)  # images in cells
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{name}: not a table of text ({error}); save it anew as CSV") from error
    finally:
        csv.field_size_limit(limit)
    return lines, f"{_SEPARATORS.get(separator, repr(separator))} between columns, {encoding}"


def _refuse_others(content: bytes, name: str) -> None:
    """Refuse what is no text of rows, whatever its name says."""
    begin = content[:8].lstrip(b"\xef\xbb\xbf \r\n")
    if begin.startswith(b"PK\x03\x04"):
        raise DataError(f"{name}: an Excel file by its content; name it .xlsx")
    if begin.startswith(OLD_OFFICE):
        raise DataError(f"{name}: an old Excel file by its content; save it as .xlsx in Excel")
    if begin.startswith(b"PAR1"):
        raise DataError(f"{name}: a Parquet file by its content; name it .parquet")
    if begin[:1] in (b"[", b"{") and re.match(rb"\W*\{\s*\"", content[:200]):
        kind = ".json" if begin[:1] == b"[" else ".jsonl"
        raise DataError(f"{name}: JSON by its content; name it {kind}")
    if begin[:1] == b"<" and re.match(rb"\W*<(?:!doctype|html|table|\?xml)", content[:200], re.IGNORECASE):
        raise DataError(f"{name}: a web page by its content; open it in Excel and save it as .xlsx or CSV")


def _as_text(content: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    remedy = "save it as UTF-8, or name its encoding, encoding='gb18030' say (--encoding)"
    if given := encoding:
        pass
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
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
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"not {given}" if given else "neither UTF-8, UTF-16 nor cp1252"
        raise DataError(f"{name}: {what} ({error.reason}); {remedy}") from error
    except LookupError as error:
        raise DataError(f"encoding={encoding!r} is none that Python knows; {remedy}") from error
    if not given and encoding == "cp1252" and (strange := _strange(text)):
        raise DataError(f"{name}: no UTF-8, and as cp1252 it would read {strange!r}; {remedy}")
    return text, encoding


def _strange(text: str) -> str:
    """A piece of a text that is hardly cp1252: of runs of accents (Chinese, Cyrillic), or of marks within words (Mac).

    >>> _strange("肺部有结节吗".encode("gb18030").decode("cp1252")), _strange("Größe, l’œdème, 5 µm ± 2 °C")
    ('·Î²¿ÓÐ½á½ÚÂð', '')
    """
    high = len(_HIGH.findall(text))
    for pattern in (r"[^\0-\x7f]{3,}", r"\w*[A-Za-zš](?:[ŠŽŸ§ˆ‰‡†]+[a-z]+|§)\w*"):
        pieces = [piece for piece in re.findall(pattern, text) if len(set(piece)) > 1]  # a line of dashes is none
        if (found := sum(len(_HIGH.findall(piece)) for piece in pieces)) > 1 and found >= high / 2:
            return pieces[0][:20]
    return ""


_HIGH = re.compile(r"[^\0-\x7f]")


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


def _headed(
    name: str, lines: Sequence[Sequence[Any]], first: int, about: str, columns: Mapping[str, Any] | None
) -> Table:
    """A table out of lines of cells, the line of column names found; what is above is a title."""
    kept = [(number, line) for number, line in enumerate(lines, first) if any(line)]
    if not kept:
        raise DataError(f"{name}: the file is empty; fetch it again, or write a line of column names and the rows")
    (place, names), *body = kept[_names_at([line for _, line in kept[:20]], columns, name) :]
    about += f", column names in row {place}" if place > 1 else ""
    if not body:
        shown = ", ".join(map(str, filter(None, names)))
        raise DataError(f"{name}: no rows below the column names {shown[:120]!r}; fill them in")
    header = _header(names, [line for _, line in body])
    if double := sorted({one for one in header if one and header.count(one) > 1}):
        raise DataError(f"{name}: two columns are named {double[0]!r}; rename one")
    width, rows = len(header), []
    for _, line in body:
        if len(line) > width and any(line[width:]):
            rows.append(
                DataError(f"more cells than columns: {len(line)}, not {width}: {line[-1]!r:.60}; quote the cell")
            )
            continue
        rows.append({key: cell for key, cell in zip_longest(header, line[:width]) if key})
    return Table(name, rows, [number for number, _ in body], about)


def _names_at(lines: Sequence[Sequence[Any]], columns: Mapping[str, Any] | None, name: str) -> int:
    """Which line names the columns: the first that names a question and an answer, else the first that is filled."""
    filled = [sum(not missing(cell) for cell in line) for line in lines]
    wide = [i for i, count in enumerate(filled) if count > 1]
    for i in wide:
        try:
            find_columns([one for one in _header(lines[i], lines[i + 1 :]) if one], columns, name)
            return i
        except DataError:
            continue
    return next((i for i in wide if filled[i] >= 0.8 * max(filled)), 0)


def _header(names: Sequence[Any], body: Sequence[Sequence[Any]]) -> list[str]:
    """The names of the columns; a column without one has "" if it is empty, else a name that tells where it is.

    Beside "Options" the columns without a name are options: so a heading over several columns is saved as text.
    """
    header, word, count = ["" if missing(cell) else " ".join(str(cell).split()) for cell in names], "", 1
    for i, one in enumerate(header):
        if not one and any(len(line) > i and not missing(line[i]) for line in body):
            count += 1
            header[i] = f"{word} {count}" if word else f"(column {i + 1} without a name)"
            if word and count == 2:
                header[i - 1] = f"{word} 1"
        else:
            word, count = one if is_options(one) else "", 1
    return header


def _read_lines(path: Path) -> Table:
    name, rows = os.fspath(path), []
    text = decoded(read_bytes(path), name)
    if text.lstrip()[:1] == "[":
        raise DataError(f"{name}: an array of rows by its content, no lines; name it .json")
    for line in text.split("\n"):
        if line.strip():
            try:
                rows.append(load_json(line))
            except (ValueError, RecursionError):
                rows.append(DataError(f"line is not valid JSON: {line[:60]!r}; correct it"))
    if not rows:
        raise DataError(f"{name}: the file is empty; fetch it again")
    return Table(name, rows, range(len(rows)), "JSON lines")
