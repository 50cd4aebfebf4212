"""Columns: which one is the question, which are the options, which tells the gold.

A table of one's own has its own words. English column names in use are known; a row of columns that count (``opt1`` …
``opt5``, ``Antwort A`` … ``Antwort D``) is taken for the options; everything else is said by ``columns=``.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from medr1kit.given import choice, kind
from medr1kit.vqa import DataError

_GOLD = (
    *("answer", "correct answer", "gt answer", "gold answer", "right answer", "gold", "solution", "answer letter"),
    *("answer text", "answer idx", "answer index", "correct option", "correct letter", "correct", "answer label"),
)
_SPELLINGS = {
    "question": ("question", "question text", "stem", "prompt", "query", "problem"),
    "options": ("options", "choices", "candidates", "answer choices", "answer options", "option list"),
    "answer": (*_GOLD, "ground truth", "target", "label", "right", "key", "cop"),
    "image": (
        *("image", "image path", "img path", "image file", "image name", "image filename", "img", "img name", "file"),
        *("file name", "filename", "figure path", "picture", "film", "images", "path", "image 1"),
    ),
    "id": ("id", "question id", "qid", "index", "idx", "uid"),
    "patient_id": ("patient id", "patient", "pid", "subject id", "subject"),
    "modality": ("modality", "modality type", "image modality"),
    "task": ("task", "question type"),
    "source": ("source", "dataset"),
    "rationale": ("rationale", "explanation"),
    "image_id": ("image id",),
}
_COUNTED = ("opt", "option", "options", "choice", "op", "answer", "alternative", "candidate", "")


@dataclass
class Columns:
    """Which column holds what.

    Attributes:
        of: for a role of a record (question, answer, image, …) its column.
        options: the columns of the options in letter order, or one that holds them all.
        stated: the roles that the user named.
        golds: further columns that tell the gold and must agree.
        twice: where columns count as options: a further one that lists them, too, and must agree.
        images: where columns of images are numbered: all of them, of which a row may fill one.
    """

    of: dict[str, str]
    options: list[str]
    stated: set[str] = field(default_factory=set)
    golds: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


def plain(name: object) -> str:
    """Return a column's name without case, blanks and marks: "Question_Text" and "question text" meet."""
    return "".join(c for c in unicodedata.normalize("NFKC", str(name)).casefold() if c.isalnum())


@lru_cache(maxsize=1024)
def tells_gold(name: object) -> bool:
    """Return whether a column of this name beside ``answer`` and ``solution`` tells the gold, too."""
    return name not in ("answer", "solution") and plain(name) in _STRONG


_STRONG = {plain(one) for one in _GOLD}


def is_options(name: str) -> bool:
    """Return whether a column is called what options are called.

    >>> is_options("Options"), is_options("Antworten"), is_options("Patient")
    (True, True, False)
    """
    return plain(name) in {plain(one) for one in (*_SPELLINGS["options"], "option", "choice", "antworten", "optionen")}


def find_columns(names: Sequence[str], columns: Mapping[str, Any] | None, where: str) -> Columns:
    """Find out which column is what.

    Args:
        names: the table's columns.
        columns: what the user said: for a role the column, for ``options`` a list of columns or one; None for a role
            that no column has.
        where: the table, as an error calls it.

    Raises:
        DataError: if a role or a column is unknown, or question or answer are not found.
    """
    stated = _stated(names, columns, where)
    taken = {name for value in stated.values() for name in (value if isinstance(value, list) else [value])}
    free = {plain(name): name for name in reversed(names) if name not in taken}
    found = Columns({}, [], set(stated) - {"options"})
    options = stated.pop("options", _NOT_SAID) if stated else _NOT_SAID
    if options is _NOT_SAID:
        known, other = _counted([name for name in names if name not in taken], where)
        lists = [free[plain(one)] for one in _SPELLINGS["options"] if plain(one) in free][:1]
        options = known or lists or other
        found.twice = [name for name in lists if known and name not in known]
    found.options = [options] if isinstance(options, str) else list(options or ())
    for role, spellings in _SPELLINGS.items():
        there = [free[plain(one)] for one in spellings if plain(one) in free]
        there = [name for name in there if name not in found.options]
        if role in stated:
            found.of |= {role: stated[role]} if stated[role] is not None else {}
        elif there and role != "options":
            found.of[role] = there[0]
        if role == "answer" and there:
            found.golds = [name for name in there if name != found.of.get("answer") and plain(name) in _STRONG]
    if plain(found.of.get("image")) == "image1" and "image" not in stated:
        found.images = [name for name in names if re.fullmatch(r"image\d", plain(name))]
    for role in ("question", "answer"):
        chat = [free[one] for one in ("conversations", "messages") if one in free]
        if role not in found.of and chat:
            remedy = "write question, options and answer in columns of their own"
            raise DataError(f"{where}: {chat[0]!r} holds chats, not questions; {remedy}")
        if role not in found.of:
            hint = f"columns={{{role!r}: '…'}} names it"
            raise DataError(f"{where}: no column is the {role}; it has {', '.join(map(str, names))[:160]!r}; {hint}")
    return found


_NOT_SAID = object()


def _stated(names: Sequence[str], columns: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise DataError(f"columns is {kind(columns)}; give a dict such as {{'question': 'Frage', 'answer': 'Lösung'}}")
    stated = {}
    for role, value in columns.items():
        choice(role, "columns", tuple(_SPELLINGS))
        several = role == "options" and isinstance(value, (list, tuple))
        chosen = [_column(one, names, role, where) for one in (value if several else [value]) if one is not None]
        stated[role] = chosen if several else (chosen or [None])[0]
    return stated


def _column(name: object, names: Sequence[str], role: str, where: str) -> str:
    if name in names:
        return name
    alike = [one for one in names if plain(one) == plain(name)]
    if len(alike) == 1:
        return alike[0]
    near = difflib.get_close_matches(str(name), names, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(str, names))[:160]!r}"
    raise DataError(f"{where}: no column {name!r}, which columns= names for {role}; {meant}")


def _counted(names: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """The columns that count A, B, C … or 1, 2, 3 … behind a word for options, and those behind any other word."""
    rows: dict[tuple[str, bool], dict[str, str]] = {}
    for one in names:
        name = re.sub(r"[\s_]*(?:text|value)$", "", str(one), flags=re.IGNORECASE)  # "Option 1 text"
        found = re.fullmatch(r"(.*?)(\d{1,2}|[a-z])", plain(name))
        lone = found and found.group(2).isalpha() and found.group(1) and not re.search(r"(?:[\W_].|[A-Z])$", name)
        if found and not (lone and found.group(1) not in _COUNTED):
            rows.setdefault((found.group(1), found.group(2).isdigit()), {})[found.group(2).lstrip("0") or "0"] = one
    runs = {}
    for (word, digits), there in rows.items():
        marks = [str(i) for i in range(0 if "0" in there else 1, 100)] if digits else list("abcdefghijklmnopqrstuvwxyz")
        run = next(i for i, mark in enumerate([*marks, None]) if mark not in there)
        if run >= 2 and not (digits and not word):
            if word in _COUNTED and marks[run + 1 : run + 2] and marks[run + 1] in there:
                raise DataError(
                    f"{where}: columns {', '.join(there.values())!r} skip one; name them, columns={{'options': […]}}"
                )
            runs[word] = [there[mark] for mark in marks[:run]]
    roles = {plain(one) for role, spellings in _SPELLINGS.items() if role != "answer" for one in spellings}
    known = [runs[word] for word in _COUNTED if word in runs]
    others = [run for word, run in runs.items() if word not in _COUNTED and word not in roles]
    if len(known or others) > 1:
        shown = " or ".join(f"{run[0]}…{run[-1]}" for run in known or others)
        raise DataError(f"{where}: which columns are the options, {shown}? Name them, columns={{'options': […]}}")
    return (known or [[]])[0], (others or [[]])[0]
