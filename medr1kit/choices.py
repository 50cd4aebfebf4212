"""Options: the letters they stand under, where a text says their words, and which one an answer block means.

The tags around an answer are another matter, that of :mod:`medr1kit.formats`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from medr1kit.alike import alike, alike_in_place
from medr1kit.vqa import LETTERS, DataError, fold

Options = Sequence[str] | Mapping[str, str]


def choices_of(options: Options | None) -> dict[str, str | None]:
    """Return letter -> folded option text: None where it is not known, and every letter where no option is.

    Raises:
        DataError: if the options are neither a list of texts nor a mapping from letter to text.
    """
    if options is None:
        return dict.fromkeys(LETTERS)
    pairs = options.items() if isinstance(options, Mapping) else None
    if pairs is None and not isinstance(options, (str, bytes)) and hasattr(options, "__getitem__"):
        pairs = zip(LETTERS, options) if len(options) <= len(LETTERS) else None  # a set has no order
    given = None if pairs is None else {str(letter).upper(): text for letter, text in pairs}
    if given is None or not all(k in LETTERS and (t is None or isinstance(t, str)) for k, t in given.items()):
        raise DataError(f"options are {str(options)[:80]!r}; give a list of the option texts, such as ['mass', 'cyst']")
    return {letter: fold(text) for letter, text in given.items() if text is not None}


class Mention(NamedTuple):
    """A place where a text says the words of an option.

    Attributes:
        start, end: of the words, in characters.
        letters: of the options that have these words; several where a text stands under several letters.
    """

    start: int
    end: int
    letters: str


def option_mentions(text: str, options: Options) -> list[Mention]:
    """Return where a text says the words of its options, in the order of the text.

    Whole words count, in any case. Of mentions within each other the longest counts, so "left lung" is not "lung".

    >>> option_mentions("No mass, a left cyst.", ["mass", "left cyst", "cyst"])
    [Mention(start=3, end=7, letters='A'), Mention(start=11, end=20, letters='B')]
    """
    letters: dict[tuple[int, int], str] = {}
    seen, places = alike_in_place(text)
    for letter, option in options.items() if isinstance(options, Mapping) else zip(LETTERS, options):
        if name := alike(option or "").strip().rstrip("."):
            for match in _whole_words(name).finditer(seen):
                letters[match.span()] = letters.get(match.span(), "") + letter
    mentions, reached = [], 0
    for start, end in sorted(letters, key=lambda span: (span[0], -span[1])):
        if end > reached:  # else it lies within one that began before it
            mentions.append(Mention(places[start], places[end], letters[start, end]))
            reached = end
    return mentions


@lru_cache(maxsize=4096)
def _whole_words(name: str) -> re.Pattern:
    words = r"\s+".join(map(re.escape, name.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


class Letter(NamedTuple):
    """The letter that was read, if any; why; and whether an option's own text said it."""

    letter: str | None
    reason: str
    by_text: bool = False


# One letter, perhaps in parentheses, then its delimiter, then perhaps the option's text.
_LETTER = re.compile(r"(\()?\s*([A-Za-z])\s*(\))?\s*([.:])?\s*(.*)", re.DOTALL)
_OTHER_LETTER = re.compile(r"(?:^|[\s,(])[A-Za-z](?:[).:]|$)")


def read_letter(content: str, choices: dict[str, str | None]) -> Letter:
    """Read the one letter an answer block names, with the reason."""
    content = alike(content).strip()
    if not content:
        return Letter(None, "the answer block is empty")
    match = _LETTER.fullmatch(content)
    letter, rest = (match.group(2).upper(), match.group(5).strip()) if match else (None, "")
    delimited = bool(match and (match.group(3) or match.group(4)))
    if letter in choices and not rest:
        return Letter(letter, f"the answer block holds the letter {letter}")
    spaced = bool(match) and match.start(5) > match.end(2)  # "C CT" as well as "C) CT"
    beside = (delimited or spaced) and choices.get(letter) == fold(rest)
    whole = fold(content)
    named = {key for key, text in choices.items() if text and text == whole} | ({letter} if beside else set())
    if len(named) > 1:
        return Letter(None, f"the text stands under several letters ({', '.join(sorted(named))})")
    if named:
        letter = named.pop()
        text = f"the letter {letter} and its text" if beside else f"the text of option {letter}"
        return Letter(letter, f"the answer block holds {text}", by_text=not beside)
    if letter and letter not in choices and (delimited or not rest):
        return Letter(None, f"the letter {letter} is not among the options")
    if not delimited:
        return Letter(None, "the answer block is neither a letter nor the text of one option")
    if choices[letter] is not None:
        return Letter(None, f"the letter {letter} stands beside text that is not option {letter}")
    if _OTHER_LETTER.search(rest):
        return Letter(None, "the answer block names more than one letter")
    return Letter(letter, f"the answer block holds the letter {letter} and text that could not be checked")
