"""Right answers and options as tables write them: letters, numbers from 1 or from 0, or the option's own words.

One cell cannot tell whether "2" is the second option, the third, or the option that reads 2. The column can: how a
table writes its gold is decided for all rows at once, by what reads the most of them. Where two ways read the same rows
and disagree, nothing is guessed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from medr1kit.data.record import missing
from medr1kit.vqa import LETTERS, DataError, fold

WAYS = ("letter", "text", "number from 1", "number from 0")
YES_NO = (("yes", "no"), ("ja", "nein"), ("oui", "non"), ("sí", "no"), ("是", "否"), ("true", "false"))


@dataclass
class Golds:
    """The gold of each row.

    Attributes:
        letters: the letter, or None.
        reasons: for a row without one: why.
        way: how the column writes it, one of WAYS, or some rows so, some so; None if no row could be read.
    """

    letters: list[str | None]
    reasons: list[str | None]
    way: str | None


def read_golds(values: Sequence[str | None], options: Sequence[list[str] | None]) -> Golds:
    """Read a column of right answers.

    Args:
        values: the cells as text; None where there is none.
        options: the options of each row; None where they could not be read.
    """
    read = [
        (None,) * 4 if value is None or texts is None else _readings(value, texts)
        for value, texts in zip(values, options, strict=True)
    ]
    counts = [sum(readings[way] is not None for readings in read) for way in range(4)]
    if counts[2] == counts[3] == max(counts) > max(counts[:2]) and any(r[2] != r[3] for r in read):
        return Golds([None] * len(read), [_ambiguous(value) for value in values], None)
    # Numbers that are options' own words in every row are words; letters win where a column of letters is also words.
    ranked = sorted(range(4), key=lambda way: (-counts[way], way in (2, 3)))
    best = ranked[0] if counts[ranked[0]] else None
    rivals = [way for way in (0, 1) if best in (0, 1) and way != best and counts[way] == counts[best]]
    letters, reasons, mixed = [], [], False
    for value, texts, readings in zip(values, options, read, strict=True):
        letter = readings[best] if best is not None else None
        if letter is None and best in (0, 1):
            letter = readings[1 - best]  # some rows by letter, some by words
            mixed = mixed or letter is not None
        elif any(readings[way] not in (None, letter) for way in rivals):
            letter = None
        letters.append(letter)
        reasons.append(None if letter or texts is None else _unread(value, texts, readings))
    return Golds(letters, reasons, "letter and text" if mixed else None if best is None else WAYS[best])


def _readings(value: str, options: list[str]) -> tuple[str | None, ...]:
    """What a cell means as a letter, as an option's words, as a number from 1 and from 0; None for nothing."""
    return _by_letter(value, options), _by_text(value, options), *_by_number(value, len(options))


_LETTER = re.compile(
    r"\s*(?:<answer>\s*)?[(\[]?([A-Za-z])(?:[)\].:]+(?:\s*(\S.*))?)?\s*?(?:\s*</answer>)?\s*", re.DOTALL
)


def _by_letter(value: str, options: list[str]) -> str | None:
    known = LETTERS[: len(options)]
    if len(value) == 1:
        return value.upper() if value.upper() in known else None
    found = _LETTER.fullmatch(value) if len(value) < 2000 else None
    if found is None or found.group(1).upper() not in known:
        return None
    letter, rest = found.group(1).upper(), found.group(2)
    return letter if rest is None or fold(rest) == fold(options[LETTERS.index(letter)]) else None


def _by_text(value: str, options: list[str]) -> str | None:
    if options.count(value) == 1:
        return LETTERS[options.index(value)]
    for plain in (fold, _number):
        wanted = plain(value)
        found = [letter for letter, text in zip(LETTERS, options) if plain(text) == wanted is not None]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _by_number(value: str, n: int) -> tuple[str | None, str | None]:
    if not value[:1].isdigit() or not re.fullmatch(r"[0-9]{1,2}(?:\.0)?", value):
        return None, None
    place = int(float(value))
    return (LETTERS[place - 1] if 1 <= place <= n else None), (LETTERS[place] if place < n else None)


def _ambiguous(value: str | None) -> str:
    return f"gold is ambiguous: {value!r} may count from 0 or from 1, no row tells which; write letters or the option"


def _unread(value: str | None, options: list[str], readings: tuple[str | None, ...]) -> str:
    if value is None:
        return "gold is missing: the cell is empty; fill it in"
    if re.fullmatch(r"\[.*\]|[A-Za-z](?:\s*[,;&/+]\s*[A-Za-z])+", value):
        return f"several right answers: {value[:60]!r}; one a question is supported, leave the row out"
    if len({letter for letter in readings[:2] if letter}) > 1:
        return f"gold is ambiguous: {value[:60]!r} is a letter and the text of another option; write 'B) text'"
    if sum(fold(text) == fold(value) for text in options) > 1:
        return f"gold text under several letters: {value[:60]!r} in {options!r:.120}; correct them"
    return f"gold matches no option: {value[:60]!r} in {options!r:.120}; correct the row"


# --- options ---------------------------------------------------------------------------------------------------------


def listed(value: object) -> list:
    """Return the options of one cell: a list, a dict by letter, or a text of one of these, of lines or of "a | b".

    Raises:
        DataError: if it cannot be told where one option ends.

    >>> listed("['liver', 'lung']"), listed("liver | lung"), listed("A. liver B. lung")
    (['liver', 'lung'], ['liver', 'lung'], ['liver', 'lung'])
    """
    if isinstance(value, str):
        value = _literal(value.strip()) if value.strip()[:1] in ("[", "{", "(") else _cut(value.strip())
    if isinstance(value, dict):
        value = _by_key(value)
    if not isinstance(value, (list, tuple)):
        raise DataError(f"options are no list: {value!r:.120}; write ['first', 'second'], or first | second")
    return [_by_key(one) if isinstance(one, dict) else one for one in value]


def _literal(text: str) -> object:
    text = re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", text)  # numpy writes ['a' 'b']
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, (list, tuple, dict)):
            return value
    return _cut(text)


def _by_key(value: dict) -> object:
    """{"A": "liver", "B": "lung"}, {"key": "A", "value": "liver"} or {"label": […], "text": […]}."""
    for key in ("text", "value"):
        if key in value and len(value) == 2:
            return value[key]
    keys = [str(key).strip().upper() for key, text in value.items() if not missing(text)]
    if "".join(keys) != LETTERS[: len(keys)]:
        raise DataError(f"options have keys out of order: {', '.join(keys)!r:.60}; name them A, B, C, …")
    return [text for text in value.values() if not missing(text)]


def _cut(text: str) -> list[str]:
    marks, position = [], 0
    for letter in LETTERS:
        mark = re.compile(rf"(?:^|(?<=[\s,;|]))\(?{letter}[).:]\s*").search(text, position)
        if mark is None or (letter == "A" and mark.start()):
            break
        marks.append(mark)
        position = mark.end()
    if len(marks) > 1:
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        return [text[mark.end() : end].strip().rstrip(",;|").rstrip() for mark, end in zip(marks, ends)]
    for separator in (" | ", "|", "\n", ";"):
        if separator in text:
            return [part.strip() for part in text.split(separator)]
    raise DataError(f"options are no list: {text[:120]!r}; write ['first', 'second'], or first | second")


def without_letters(options: list[str]) -> list[str]:
    """Return options without letters of their own: "A: liver", "B: lung" in this order.

    >>> without_letters(["A: liver", "B: lung"]), without_letters(["A: liver", "lung"])
    (['liver', 'lung'], ['A: liver', 'lung'])
    """
    if not options or options[0][:2].lstrip("(")[:1] != "A":
        return options
    found = [re.match(rf"\(?{letter}[).:]\s*(?=\S)", text) for letter, text in zip(LETTERS, options)]
    return [text[match.end() :] for match, text in zip(found, options)] if all(found) else options


def yes_no_options(value: object) -> list[str] | None:
    """Return the two options of a question that is answered with yes or no, in its language; None if it is not."""
    return next((list(pair) for pair in YES_NO if isinstance(value, str) and fold(value) in pair), None)
