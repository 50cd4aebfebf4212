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

from medr1kit.alike import alike
from medr1kit.data.cells import missing
from medr1kit.vqa import LETTERS, DataError, fold

WAYS = ("letter", "text", "number from 1", "number from 0")
YES_NO = (("yes", "no"), ("ja", "nein"), ("oui", "non"), ("sí", "no"), ("是", "否"), ("true", "false"))
_SHORT = {"y": "yes", "n": "no"}
_SAYS = [{*column, *short} for column, short in zip(zip(*YES_NO), (("y", "j", "wahr"), ("n", "falsch")))]


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
    if max(counts) > max(counts[:2]) and all(_coded(*row) for row in zip(values, options) if None not in row):
        return Golds([None] * len(read), [_coded_reason(value) for value in values], None)
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


def _coded(value: str, options: list[str]) -> bool:
    """Whether 0 or 1 answers a question of yes and no: a place, or a code for one of the words."""
    return value in ("0", "1") and [any(fold(text) in says for says in _SAYS) for text in options] == [True, True]


def _readings(value: str, options: list[str]) -> tuple[str | None, ...]:
    """What a cell means as a letter, as an option's words, as a number from 1 and from 0; None for nothing."""
    return _by_letter(value, options), _by_text(value, options), *_by_number(value, len(options))


_WORD = r"(?:option|choice|answer|antwort|opt|lösung|réponse|respuesta)[\s_]*[:=]?\s*"
_NUMBER = re.compile(rf"(?:{_WORD})?\(?([0-9]{{1,2}})(?:\.0|[.)])?", re.IGNORECASE)
_LETTER = re.compile(
    rf"(?:<answer>\s*|{_WORD})?"
    r"[(\[]?([A-Z])(?:[)\].:,]+|(?=\s|$|</))\s*(?:[-=:]\s+)?(\S.*?)??(?:\s*</answer>)?",
    re.DOTALL | re.IGNORECASE,
)


def _by_letter(value: str, options: list[str]) -> str | None:
    known = LETTERS[: len(options)]
    value = alike(value).strip(" \t\n\"'*")
    if len(value) == 1:
        return value.upper() if value.upper() in known else None
    found = _LETTER.fullmatch(value) if len(value) < 2000 else None
    if found is None or found.group(1).upper() not in known:
        return None
    letter, rest = found.group(1).upper(), found.group(2)
    if rest is None:
        return letter
    own = fold(options[LETTERS.index(letter)])
    return letter if own in (fold(rest), fold(re.sub(r"\((.*)\)", r"\1", rest))) else None


def _by_text(value: str, options: list[str]) -> str | None:
    if options.count(value) == 1:
        return LETTERS[options.index(value)]
    for plain in (fold, _number):
        if (wanted := plain(value)) is None:
            continue
        found = [letter for letter, text in zip(LETTERS, options) if plain(text) == wanted]
        if found:
            return found[0] if len(found) == 1 else None
    if numbered := re.fullmatch(r"\(?(\d{1,2})[).:]\s*([^\d\s].*)", value, re.DOTALL):  # "2) lung"
        letter = _by_text(numbered[2], options)
        return letter if letter and int(numbered[1]) - LETTERS.index(letter) in (0, 1) else None
    meant = [says for says in _SAYS if fold(value) in says]  # TRUE of yes and no
    found = [letter for letter, text in zip(LETTERS, options) for says in meant if fold(text) in says]
    return found[0] if len(found) == 1 == len(meant) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _by_number(value: str, n: int) -> tuple[str | None, str | None]:
    number = _NUMBER.fullmatch(value) if len(value) < 24 else None
    if number is None:
        return None, None
    place = int(number[1])
    return (LETTERS[place - 1] if 1 <= place <= n else None), (LETTERS[place] if place < n else None)


def _ambiguous(value: str | None) -> str:
    return f"gold is ambiguous: {value!r} may count from 0 or from 1, no row tells which; write letters or the option"


def _coded_reason(value: str | None) -> str:
    return f"gold is ambiguous: {value!r} of yes and no may be a place, or 1 stand for yes; write yes or no"


def _unread(value: str | None, options: list[str], readings: tuple[str | None, ...]) -> str:
    if value is None:
        return "gold is missing: the cell is empty; fill it in"
    parts = re.split(r"\s*(?:[,;&/+|]|\b(?:and|or|und|oder|et|ou|y)\b)\s*", value, flags=re.IGNORECASE)
    read = [re.fullmatch("[A-Za-z]", one) or _by_letter(one, options) or _by_text(one, options) for one in parts]
    if value[0] == "[" or (len(parts) > 1 and all(read)):
        return f"several right answers: {value[:60]!r}; one a question is supported, leave the row out"
    if len({letter for letter in readings[:2] if letter}) > 1:
        return f"gold is ambiguous: {value[:60]!r} is a letter and the text of another option; write 'B) text'"
    if sum(fold(text) == fold(value) for text in options) > 1:
        return f"gold text under several letters: {value[:60]!r} in {options!r:.120}; correct them"
    strange = f" (U+{ord(value):04X}, no Latin letter)" if len(value) == 1 and value.isalpha() > value.isascii() else ""
    return f"gold matches no option: {value[:60]!r}{strange} in {options!r:.120}; correct the row"


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
    _in_order([one.get("key", one.get("id", one.get("label"))) for one in value if isinstance(one, dict)])
    return [_by_key(one) if isinstance(one, dict) else one for one in value]


def _in_order(keys: Sequence[object]) -> None:
    """Refuse letters that do not count A, B, C: whoever wrote them did not mean the order of the list."""
    keys = [str(key).strip().upper() for key in keys]
    if all(re.fullmatch("[A-Z]", key) for key in keys) and "".join(keys) != LETTERS[: len(keys)]:
        raise DataError(f"options have keys out of order: {', '.join(keys)!r:.60}; name them A, B, C, …")


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
            _in_order([one for name in value if name != key and isinstance(value[name], list) for one in value[name]])
            return value[key]
    keys = [str(key).strip().upper() for key, text in value.items() if not missing(text)]
    if "".join(keys) != LETTERS[: len(keys)]:
        raise DataError(f"options have keys out of order: {', '.join(keys)!r:.60}; name them A, B, C, …")
    return [text for text in value.values() if not missing(text)]


_COUNTS = (LETTERS, LETTERS.lower(), [str(number) for number in range(1, 27)])


def _cut(text: str) -> list[str]:
    for count in _COUNTS:
        marks, position = [], 0
        for one in count:
            mark = re.compile(rf"(?:^|(?<=[\s,;|]))\(?{one}[).:]\s*").search(text, position)
            if mark is None or (one == count[0] and mark.start()):
                break
            marks.append(mark)
            position = mark.end()
        if len(marks) > 1:
            ends = [mark.start() for mark in marks[1:]] + [len(text)]
            return [text[mark.end() : end].strip().rstrip(",;|").rstrip() for mark, end in zip(marks, ends)]
    for separator in ("|", "\n", ";"):
        if separator in text:
            return [part.strip() for part in text.strip(f"{separator} \n").split(separator)]
    raise DataError(f"options are no list: {text[:120]!r}; write ['first', 'second'], or first | second")


def without_letters(options: list[str]) -> list[str]:
    """Return options without letters or numbers of their own, which count in this order, or the dots of a list.

    Raises:
        DataError: if they have letters of their own in another order.

    >>> without_letters(["A: liver", "B: lung"]), without_letters(["A: liver", "lung"]), without_letters(["- x", "- y"])
    (['liver', 'lung'], ['A: liver', 'lung'], ['x', 'y'])
    """
    if not options:
        return options
    first = options[0][:2].lstrip("(")[:1]
    if first in "A1a" or first in "-•*":
        for count in (*_COUNTS, ["[-•*]"] * len(options)):
            end = r"\s+" if count[0] == "[-•*]" else r"(?:[).:]|\s-\s)\s*"
            found = [re.match(rf"\(?{one}{end}(?=\S)", text) for one, text in zip(count, options)]
            bare = [text[match.end() :] for match, text in zip(found, options)] if all(found) else []
            if bare and len(set(bare)) == len(options):  # "1. Rippe" and "2. Rippe" count ribs
                return bare
    letters = [re.match(r"\(?([A-Z])[):]\s*\S", text) for text in options] if first.isupper() else [None]
    if all(letters) and sorted(match[1] for match in letters) == list(LETTERS[: len(letters)]):
        _in_order([match[1] for match in letters])
    return options


def yes_no_options(value: object) -> list[str] | None:
    """Return the two options of a question that is answered with yes or no, in its language; None if it is not."""
    said = _SHORT.get(fold(value), fold(value)) if isinstance(value, str) else None
    return next((list(pair) for pair in YES_NO if said in pair), None)
