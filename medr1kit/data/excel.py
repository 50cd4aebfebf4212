"""Excel files: a sheet as lines of cells, each cell as it is shown.

What a sheet shows is not what its file holds: a merged cell is shown in all its rows and stored in the first, a formula
is shown by a result that only Excel has computed, a hidden sheet is not shown at all, 7 is shown as 0007. Read is what
is shown; a formula without its result is refused, because an empty cell would be read in its place.
"""

from __future__ import annotations

import os
import re
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from medr1kit.vqa import DataError

OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How an .xls file begins, and an .xlsx file with a password."""

_UNCOMPUTED = re.compile(
    rb"<c\b(?![^>]*\bt=\"str\")[^>]*>\s*<f\b(?:[^>]*/>|[^>]*>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>"
)


def read_sheet(path: Path, sheet: str | None = None) -> tuple[list[list[Any]], str]:
    """Return the lines of a sheet and how it was read.

    Args:
        path: an .xlsx or .xlsm file.
        sheet: which one; default the one with rows among those that are not hidden.

    Raises:
        DataError: if the file cannot be read, several sheets have rows and none is named, or a formula has no result.
    """
    name = os.fspath(path)
    _refuse_others(path, name)
    try:
        import openpyxl

        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
            if size > max(64_000_000, 100 * path.stat().st_size):
                raise DataError(f"{name}: unpacks to {size:,} bytes, over 100 times its size; save it as CSV")
            parts = [packed.read(one) for one in packed.namelist() if one.startswith("xl/worksheets/sheet")]
        merged = any(b"<mergeCell " in part for part in parts)
        book = openpyxl.load_workbook(path, read_only=not merged, data_only=True)
        lines = {one.title: [[_shown(cell) for cell in line] for line in one.iter_rows()] for one in book.worksheets}
        hidden = {one.title for one in book.worksheets if one.sheet_state != "visible"}
        chosen = _chosen(lines, hidden, sheet, name)
        repeated = merged and _repeat(book[chosen].merged_cells.ranges, lines[chosen])
        book.close()
        if any(map(_UNCOMPUTED.search, parts)):
            _refuse_uncomputed(openpyxl.load_workbook(path, read_only=True), chosen, lines[chosen], name)
    except DataError:
        raise
    except Exception as error:  # damaged files fail in many ways
        raise DataError(
            f"{name}: not an Excel file that can be read ({error}); save it anew as .xlsx or CSV"
        ) from error
    about = f"sheet {chosen!r}" + ", merged cells taken for each of their rows" * bool(repeated)
    unseen = [title for title in hidden if title != chosen and any(map(any, lines[title]))]
    return lines[chosen], about + (f", not the hidden {', '.join(map(repr, unseen))}" if unseen else "")


def _refuse_others(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            begin = file.read(512)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error}); check the file and its permissions") from error
    if begin.startswith(OLD_OFFICE):
        raise DataError(
            f"{name}: has a password, or is an old .xls by its content; in Excel, save it as .xlsx without a password"
        )
    if begin and not begin.startswith(b"PK") and b"\0" not in begin:
        raise DataError(f"{name}: a text by its content, no Excel file; name it .csv")


def _chosen(lines: dict[str, list], hidden: set[str], sheet: str | None, name: str) -> str:
    if sheet is not None and sheet not in lines:
        raise DataError(f"{name}: no sheet {sheet!r}; it has {', '.join(map(repr, lines))}")
    filled = [title for title, rows in lines.items() if any(map(any, rows))]
    shown = [title for title in filled if title not in hidden] or filled
    if sheet is None and len(shown) > 1:
        raise DataError(
            f"{name}: several sheets hold rows: {', '.join(map(repr, shown))}; name one, sheet={shown[0]!r}"
        )
    return sheet or (shown or list(lines))[0]


def _repeat(ranges: Any, lines: list[list[Any]]) -> bool:
    """Write what is merged over several rows into each of them; a heading over several columns stays in the first."""
    repeated = False
    for area in ranges:
        value = lines[area.min_row - 1][area.min_col - 1]
        for row in range(area.min_row, area.max_row if value is not None else 0):
            lines[row][area.min_col - 1] = value
            repeated = True
    return repeated


def _refuse_uncomputed(book: Any, sheet: str, lines: list[list[Any]], name: str) -> None:
    for row, cells in enumerate(book[sheet].iter_rows()):
        for place, cell in enumerate(cells):
            if isinstance(cell.value, str) and cell.value[:1] == "=" and lines[row][place] is None:
                raise DataError(
                    f"{name}: cell {cell.coordinate} of {sheet!r} holds a formula without its result; open the file in "
                    "Excel, save it and load it again"
                )


def _shown(cell: Any) -> object:
    """What a cell shows: a number as its format writes it. Dates stay dates: an option must not be one."""
    value = cell.value
    if value is None or isinstance(value, (str, datetime, date, time)):
        return value
    if isinstance(value, bool):
        return str(value).upper()
    written = re.fullmatch(r"(?:#,##)?(0+)(?:\.(0+))?( ?%)?", cell.number_format or "")
    if written:
        whole, digits, percent = len(written[1]), len(written[2] or ""), written[3] or ""
        width = whole + digits + bool(digits) if whole > 1 else 0
        return f"{value * 100 if percent else value:0{width}.{digits}f}{percent}"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
