"""Defects: questions that are wrong in themselves, whoever answers them.

Within a question: two options that are the same text, or differ only in case or a full stop; options that are empty,
carry blanks, a line break or an option letter; options of which only some end in a full stop, which tells wrong from
right by punctuation. Between questions: the same row twice, one question with two keys, one image and stem with several
right answers.

Source: Med-R1 facts, section 1.6.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np

from medr1kit.audits.measures import Measure, count
from medr1kit.audits.rows import Questions, loose
from medr1kit.vqa import fold

_fold = lru_cache(maxsize=100_000)(fold)  # every question is looked at several times, and most options come again

_LETTER = re.compile(r"^\(?[A-Z]\)|,\s*[A-Z]\)\S")  # "B) liver", "liver, C)lung"


def find_defects(train: Questions, test: Questions) -> list[Measure]:
    """Return the defects of each side and those between questions, which are looked for on both sides together."""
    found = []
    for side in (train, test):
        for name, is_bad in _WITHIN.items():
            found.append(count("defects", f"{side.name}_{name}", _rows(side, is_bad)))
        if side.images and side.problems:
            found.append(count("defects", f"{side.name}_duplicate_rows", _duplicates(side)))
    if train.images and test.images and train.stems and test.stems:
        found += _between(train, test)
    return found


def is_malformed(option: object) -> bool:
    """Return whether an option is no text, empty, padded with blanks, broken over lines, or carries a letter.

    >>> [is_malformed(text) for text in ("liver", " liver", "", "B) liver", "liver, C)lung", "T2, N0 (Stage A)")]
    [False, True, True, True, True, False]
    """
    if not isinstance(option, str) or not option or option != option.strip() or "\n" in option:
        return True
    return ")" in option and _LETTER.search(option) is not None


def _repeated(options: list[str], gold: int) -> bool:
    return len({_fold(text) for text in options}) < len(options)


def _near_duplicate(options: list[str], gold: int) -> bool:
    return len({_fold(text) for text in options}) < len(set(options))


def _repeated_gold(options: list[str], gold: int) -> bool:
    return [_fold(text) for text in options].count(_fold(options[gold])) > 1


def _malformed(options: list[str], gold: int) -> bool:
    return len(options) < 2 or any(is_malformed(option) for option in options)


def _full_stops(options: list[str], gold: int) -> bool:
    return len({str(text).rstrip().endswith(".") for text in options}) == 2


# Name of the measure, without the side: whether a question has the defect.
_WITHIN: dict[str, Callable[[list[str], int], bool]] = {
    "repeated_options": _repeated,
    "near_duplicate_options": _near_duplicate,
    "repeated_gold": _repeated_gold,
    "malformed_options": _malformed,
    "uneven_full_stops": _full_stops,
}


def _rows(side: Questions, is_bad: Callable[[list[str], int], bool]) -> np.ndarray:
    return np.array([is_bad(options, gold) for options, gold in zip(side.options, side.gold)], dtype=bool)


def _duplicates(side: Questions) -> np.ndarray:
    """Rows of which an earlier row is a copy: image, problem and gold."""
    seen, found = {None}, []
    for row in side.about_images(side.problems, side.gold):
        found.append(row is not None and row in seen)
        seen.add(row)
    return np.array(found, dtype=bool)


def _between(train: Questions, test: Questions) -> list[Measure]:
    sides = (train, test)
    problems = [row for side in sides for row in side.about_images(loose(side.problems))]
    stems = [row for side in sides for row in side.about_images(loose(side.stems))]
    letters = [letter for side in sides for letter in side.gold_letters()]
    golds = [_fold(text) for side in sides for text in side.gold_texts]
    options = [frozenset(_fold(text) for text in texts) for side in sides for texts in side.options]
    conflicts = _several(problems, letters)
    several = _several(stems, golds)
    n = len(golds)
    contested = sum(
        any(golds[other] != golds[row] and golds[other] in options[row] for other in rows)
        for rows in several
        for row in rows
    )
    return [
        Measure("defects", "conflicting_golds", len(conflicts), "questions", n),
        Measure("defects", "several_golds", len(several), "questions", n),
        Measure("defects", "rows_with_other_gold_as_distractor", contested, "rows", n),
    ]


def _several(keys: Sequence[Hashable | None], values: Sequence[str]) -> list[list[int]]:
    """The row numbers under each key that has more than one value."""
    groups = defaultdict(list)
    for row, key in enumerate(keys):
        if key is not None:
            groups[key].append(row)
    return [rows for rows in groups.values() if len({values[row] for row in rows}) > 1]
