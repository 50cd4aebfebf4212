"""Texts that a spreadsheet would run, made harmless wherever a CSV file is written.

What a model writes is not to be trusted with a spreadsheet: a cell that begins with ``=``, ``+``, ``-`` or ``@``, also
in full width or behind blanks, would be run as a formula; and where the semicolon parts cells, what follows one begins
a cell. Such places get an apostrophe in front, and lose it when they are read back (:func:`as_written`).
``views/page/script/common.js`` does the same in a browser; a test compares the two, byte by byte.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

_BLANK = r"\x00-\x20\x7f-\xa0\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
_SIGN = r"[=+\-@\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20]"
_PLACES = rf"^(?='*[\t\r\n]|[{_BLANK};']*{_SIGN})|;(?=[ \t\xa0;']*{_SIGN})"
_FORMULA, _GUARDED = re.compile(_PLACES), re.compile(_PLACES.replace("(?=", "'(?="))


def harmless(text: str) -> str:
    """Return a text that a spreadsheet takes for a text.

    >>> harmless("=1+1"), harmless(" ＝1+1"), harmless("a;=1"), harmless("a = 1")
    ("'=1+1", "' ＝1+1", "a;'=1", 'a = 1')
    """
    return _FORMULA.sub(lambda place: place[0] + "'", text)


def as_written(cell: str) -> str:
    """Return a cell without what :func:`harmless` put in.

    >>> as_written("'=1+1"), as_written("a;'=1"), as_written("'tis")
    ('=1+1', 'a;=1', "'tis")
    """
    return _GUARDED.sub(lambda place: place[0][:-1], cell)


def harmless_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts, headings too, a spreadsheet does not run; numbers stay numbers."""

    def safe(cell: Any) -> Any:
        return harmless(cell) if isinstance(cell, str) else cell

    texts = {name: table[name].map(safe) for name in table.select_dtypes(exclude=["number", "bool"])}
    return table.assign(**texts).rename(columns=safe)
