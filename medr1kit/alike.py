"""What looks the same and is another code: full-width letters, dashes, quotes, ligatures, accents, what has no width.

A Chinese keyboard writes Ｃ for C, a word processor – for -, a Mac's file names o and two dots for ö. A reader sees one
text; a comparison of codes sees two, and calls a right answer wrong. So texts are compared in one spelling
(:func:`medr1kit.vqa.fold`), and letters are read in it (:mod:`medr1kit.formats`). Letters of other scripts that merely
resemble Latin ones stay what they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Superscripts and fractions after a digit are kept apart from it: 10² is no 102.
_RAISED = re.compile(r"(?<=\d)(?=[⁰¹²³⁴-⁹⁺⁻])"), re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_DASHES = re.compile(r"[\u058a\u2010-\u2015\u2043\u207b\u208b\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d]")
_QUOTES = re.compile(r"[`´\u02b9\u02bc\u2018-\u201b\u2032\u2035\u2039\u203a\uff07]")
_DOUBLE_QUOTES = re.compile(r"[\u00ab\u00bb\u02ba\u201c-\u201f\u2033\u2036\u301d-\u301f\uff02]")
_OTHER_MARKS = str.maketrans({"⁄": "/", "∕": "/", "∼": "~", "。": ".", "、": ",", "×": "x"})
_UNSEEN = re.compile(  # zero-width, direction marks, variation selectors, fillers
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


def alike(text: str) -> str:
    """Return a text with one spelling for what looks the same; case and blanks stay.

    Full-width letters, ligatures and composed accents become the usual ones (Unicode's NFKC), every dash a hyphen,
    every quote or prime a straight one; what has no width is gone. A text in ASCII comes back as it is.

    >>> alike("Ｃ) X‑ray, 10⁵ ’normal’")
    "C) X-ray, 10^5 'normal'"
    """
    if text.isascii():
        return text
    for pattern, plain in zip((*_RAISED, _DASHES, _QUOTES, _DOUBLE_QUOTES, _UNSEEN), ("^", " ", "-", "'", '"', "")):
        text = pattern.sub(plain, text)
    return unicodedata.normalize("NFKC", text).translate(_OTHER_MARKS)


_PIECE = re.compile(r"\d[¹²³⁰⁴-⁹⁺⁻¼-¾⅐-⅞]+|.[\u0300-\u036f]*", re.DOTALL)  # what one character is made of


def alike_in_place(text: str) -> tuple[str, Sequence[int]]:
    """Return a text in one spelling, and for each of its characters, and its end, the place in the text as it stands.

    >>> seen, places = alike_in_place("no\u0308 X\u2011ray")
    >>> seen, places[seen.index("X")], places[-1]
    ('nö X-ray', 4, 9)
    """
    if text.isascii():
        return text, range(len(text) + 1)
    pieces = [(match.start(), alike(match.group())) for match in _PIECE.finditer(text)]
    places = [start for start, piece in pieces for _ in piece]
    return "".join(piece for _, piece in pieces), [*places, len(text)]
