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

import numpy as np

from medr1kit.audits.measures import Found
from medr1kit.audits.rows import Questions, loose
from medr1kit.vqa import fold

_LETTER = re.compile(r"^\(?[A-Z]\)|,\s*[A-Z]\)\S")  # "B) liver", "liver, C)lung"


def find_defects(train: Questions, test: Questions) -> Found:
    """Return the defects of each side and those between questions, which are looked for on both sides together."""
    found, counted, folded = Found("defects"), defaultdict(list), {}
    for side in (train, test):
        folded[side.name] = [[fold(text) for text in options] for options in side.options]
        for name, (flag, is_bad, what) in _WITHIN.items():
            bad = [is_bad(*row) for row in zip(side.options, folded[side.name], side.gold)]
            counted[what].append(found.count(name, flag, bad, side.name))
        if side.images and side.problems:
            copies = found.count("duplicate_rows", "duplicate row", _duplicates(side), side.name)
            counted["are copies of an earlier row"].append(copies)
    for what in sorted(filter(None, counted), key=lambda what: what != _GOLD_TWICE):  # of equals this is the worst
        found.say_of_both(counted[what], what)
    if train.images and test.images and train.stems and test.stems:
        _between(found, train, test, folded["train"] + folded["test"])
    return found


def is_malformed(option: object) -> bool:
    """Return whether an option is no text, empty, padded with blanks, broken over lines, or carries a letter.

    >>> [is_malformed(text) for text in ("liver", " liver", "", "B) liver", "liver, C)lung", "T2, N0 (Stage A)")]
    [False, True, True, True, True, False]
    """
    if not isinstance(option, str) or not option or option != option.strip() or "\n" in option:
        return True
    return ")" in option and _LETTER.search(option) is not None


def _repeated(options: list[str], folded: list[str], gold: int) -> bool:
    return len(set(folded)) < len(folded)


def _near_duplicate(options: list[str], folded: list[str], gold: int) -> bool:
    return len(set(folded)) < len(set(options))


def _repeated_gold(options: list[str], folded: list[str], gold: int) -> bool:
    return folded.count(folded[gold]) > 1


def _malformed(options: list[str], folded: list[str], gold: int) -> bool:
    return len(options) < 2 or any(is_malformed(option) for option in options)


def _full_stops(options: list[str], folded: list[str], gold: int) -> bool:
    return len({str(text).rstrip().endswith(".") for text in options}) == 2


_GOLD_TWICE = "offer their right answer twice"
_ONE_TEXT = "have two options that are one text, but for case and a full stop"
_MALFORMED = "have a malformed option (empty, padded, a line break, a letter in it)"
_FULL_STOPS = "end some options in a full stop and others not, which can tell right from wrong"
# Name of the measure, without the side: what a row with the defect is called, whether its options have it (as they
# stand, folded, and where the gold is), and what to say.
_WITHIN: dict[str, tuple[str, Callable[[list[str], list[str], int], bool], str]] = {
    "repeated_options": ("repeated options", _repeated, _ONE_TEXT),
    "near_duplicate_options": ("near-duplicate options", _near_duplicate, ""),
    "repeated_gold": ("gold twice", _repeated_gold, _GOLD_TWICE),
    "malformed_options": ("malformed options", _malformed, _MALFORMED),
    "uneven_full_stops": ("uneven full stops", _full_stops, _FULL_STOPS),
}


def _duplicates(side: Questions) -> np.ndarray:
    """Rows of which an earlier row is a copy: image, problem and gold."""
    seen, found = {None}, []
    for row in side.about_images(side.problems, side.gold):
        found.append(row is not None and row in seen)
        seen.add(row)
    return np.array(found, dtype=bool)


def _between(found: Found, train: Questions, test: Questions, options: list[list[str]]) -> None:
    sides = (train, test)
    problems = [row for side in sides for row in side.about_images(loose(side.problems))]
    stems = [row for side in sides for row in side.about_images(loose(side.stems))]
    letters = [letter for side in sides for letter in side.gold_letters()]
    golds = [texts[place] for texts, place in zip(options, train.gold + test.gold)]
    conflicts, several, n = len(_several(problems, letters)), _several(stems, golds), len(golds)
    contested = sum(
        any(golds[other] != golds[row] and golds[other] in options[row] for other in rows)
        for rows in several
        for row in rows
    )
    found.add("conflicting_golds", conflicts, "questions", n)
    found.add("several_golds", len(several), "questions", n)
    found.add("rows_with_other_gold_as_distractor", contested, "rows", n)
    if conflicts:
        sentence = f"{_questions(conflicts, 'is', 'are')} asked twice, with the same image and options"
        found.say(2, 1, f"{sentence}, and different right answers.")
    if several:
        sentence = (
            f"{_questions(len(several), 'has', 'have')} different right answers in different rows about one image"
        )
        if contested:
            sentence += f"; {contested} of these rows offer the other right answer as a wrong option"
        found.say(2, 0, f"{sentence}.")


def _questions(number: int, one: str, more: str) -> str:
    return f"1 question {one}" if number == 1 else f"{number} questions {more}"


def _several(keys: Sequence[Hashable | None], values: Sequence[str]) -> list[list[int]]:
    """The row numbers under each key that has more than one value."""
    groups = defaultdict(list)
    for row, key in enumerate(keys):
        if key is not None:
            groups[key].append(row)
    return [rows for rows in groups.values() if len({values[row] for row in rows}) > 1]
