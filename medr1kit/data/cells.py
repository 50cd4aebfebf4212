"""Cells: what one of them says, as its author sees it, and whether it says anything.

Libraries have many ways to write nothing (None, NaN, NA, a blank), people have more ("-", "keine Angabe"), and a
spreadsheet whose formula failed writes ``#REF!`` where a text was meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, time

UNKNOWN = ("nan", "none", "null", "na", "n/a", "<na>", "n.a.", "unknown", "not known", "not available", "missing")
UNKNOWN += (
    "anonymous",
    "anonymized",
    "anonymised",
    "anonym",
    "unbekannt",
    "k.a.",
    "keine angabe",
    "inconnu",
)


def missing(value: object) -> bool:
    """Return whether a cell says nothing: None, NaN in any library's form, blank, or the text "nan".

    >>> [missing(value) for value in (None, float("nan"), " ", "nan", 0, "NA", "None")]
    [True, True, True, True, False, False, False]
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value or value.isspace() or (len(value) == 3 and value.casefold() == "nan")
    if isinstance(value, (bool, int, list, dict, bytes)):
        return False
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def unknown(value: object) -> bool:
    """Return whether a cell says that something is not known: nothing, only marks, or a word for it.

    >>> [unknown(value) for value in (None, "-", "N/A", "#N/A", "keine Angabe", 0, "P1")]
    [True, True, True, True, True, False, False]
    """
    text = "" if missing(value) else str(value).strip().casefold()
    return not _WORD.search(text) or text.lstrip("#") in UNKNOWN


_WORD = re.compile(r"[^\W_]")  # a letter or digit of any script
_FAILED = re.compile(r"#(?:N/A|NV|NAME\?|[A-ZÄÖÜ0/]{2,9}!)|#{3,}")  # in the words of English and German spreadsheets


def failed(cell: object) -> bool:
    """Return whether a cell shows that a formula failed, or a column too narrow for its number.

    >>> failed("#REF!"), failed("#NV"), failed("#1")
    (True, True, False)
    """
    return isinstance(cell, str) and cell[:1] == "#" and _FAILED.fullmatch(cell.strip()) is not None


def texts_of(cells: Sequence[object]) -> list[object]:
    """Return a column as its author sees it: 64.0 of a column of whole numbers is "64"; None where nothing is.

    Lists, dicts and dates are left as they are.
    """
    floats = [cell for cell in cells if isinstance(cell, float) and cell == cell]
    whole = all(cell.is_integer() for cell in floats)
    return [_text(cell, whole) for cell in cells]


def _text(cell: object, whole: bool) -> object:
    if isinstance(cell, str):
        cell = cell.strip()
        return None if not cell or (len(cell) == 3 and cell.casefold() == "nan") else cell
    if missing(cell):
        return None
    if isinstance(cell, (list, tuple, dict, bytes, date, time)):
        return cell
    return str(int(cell)) if isinstance(cell, float) and whole else str(cell)
