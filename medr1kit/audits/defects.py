"""Defects: questions that are wrong in themselves, whoever answers them.

Within a question: two options that are the same text, or differ only in case or a full stop; options that are empty,
carry blanks, a line break or an option letter; options of which only some end in a full stop, which tells wrong from
right by punctuation; a question that tells its answer. Between questions: the same row twice, one question with two
keys, one image and stem with several right answers.

Source: Med-R1 facts, section 1.6.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from scipy.special import bdtrc  # scipy.stats takes half a second to import

from medr1kit.audits.measures import Found
from medr1kit.audits.rows import Questions, loose, plain
from medr1kit.vqa import LETTERS, fold

_LETTER = re.compile(r"^\(?[A-Z]\)|,\s*[A-Z]\)\S")  # "B) liver", "liver, C)lung"


def find_defects(train: Questions, test: Questions) -> Found:
    """Return the defects of each side and those between questions, which are looked for on both sides together."""
    found, counted, folded = Found("defects"), defaultdict(list), {}
    told = dict(zip(("train", "test"), _told(train, test))) if train.stems and test.stems else {}
    for side in (train, test):
        folded[side.name] = [[fold(text) for text in options] for options in side.options]
        defects = pd.DataFrame(map(_within, side.options, folded[side.name], side.gold))
        if told:
            defects["told_answers"] = told[side.name]
        if side.images and side.problems:
            rows = pd.Series(side.about_images(side.problems, side.gold), dtype=object)
            defects["duplicate_rows"] = rows.duplicated() & rows.notna()
        for name in defects:
            counted[name].append(found.count(name, _FLAGS[name], defects[name], side.name))
    for name, what in _SENTENCES.items():
        found.say_of(2, what, *counted[name])
    if train.images and test.images and train.stems and test.stems:
        _between(found, train, test, folded["train"] + folded["test"])
    return found


def _told(*sides: Questions) -> list[np.ndarray]:
    """For each side, which questions tell their answer: "Is it normal? (Answer: No)", or by naming it alone.

    An option's words often stand in a question, and mean nothing: "malignant or benign condition?" names the wrong one
    as often. So naming counts only where it is a rule, on all sides together: the one option that a question names is
    right more often than chance (p < 0.01). Then "Is there no abnormality?" counts, whose answer is No wherever it is
    asked.
    """
    told, named = [], []
    for side in sides:
        words = {text: f" {plain(text)} " for text in {*side.stems, *(one for texts in side.options for one in texts)}}
        for stem, options, gold in zip((words[stem] for stem in side.stems), side.options, side.gold):
            places = [place for place, text in enumerate(options) if words[text] in stem]
            named.append((len(places) == 1, places == [gold], 1 / len(options)))
            answers = words[options[gold]], f" {LETTERS[gold].lower()} "
            told.append(any(f" answer{link}{text}" in stem for text in answers for link in ("", " is")))
    alone, right, chance = np.array(named).T
    n, told = int(alone.sum()), np.array(told)
    if n and bdtrc(right.sum() - 1, n, chance[alone > 0].mean()) < 0.01:
        told |= right > 0
    return np.split(told, np.cumsum([len(side) for side in sides])[:-1])


_FLAGS = {  # measure, without the side: what a row with the defect is called
    "told_answers": "answer in the question",
    "repeated_options": "repeated options",
    "near_duplicate_options": "near-duplicate options",
    "repeated_gold": "gold twice",
    "malformed_options": "malformed options",
    "uneven_full_stops": "uneven full stops",
    "duplicate_rows": "duplicate row",
}
_SENTENCES = {  # of equals the first is the worst
    "told_answers": "tell their answer: of their options the question names the right one alone",
    "repeated_gold": "offer their right answer twice",
    "repeated_options": "have two options that are one text, but for case and a full stop",
    "malformed_options": "have a malformed option (empty, padded, a line break, a letter in it)",
    "uneven_full_stops": "end some options in a full stop and others not, which can tell right from wrong",
    "duplicate_rows": "are copies of an earlier row",
}


def _within(options: list[str], folded: list[str], gold: int) -> dict[str, bool]:
    """The defects of one question's options, as they stand and folded; ``gold`` is the place of the right one."""
    return {
        "repeated_options": len(set(folded)) < len(folded),
        "near_duplicate_options": len(set(folded)) < len(set(options)),
        "repeated_gold": folded.count(folded[gold]) > 1,
        "malformed_options": len(options) < 2 or any(map(is_malformed, options)),
        "uneven_full_stops": len({str(text).rstrip().endswith(".") for text in options}) == 2,
    }


def is_malformed(option: object) -> bool:
    """Return whether an option is no text, empty, padded with blanks, broken over lines, or carries a letter.

    >>> [is_malformed(text) for text in ("liver", " liver", "", "B) liver", "liver, C)lung", "T2, N0 (Stage A)")]
    [False, True, True, True, True, False]
    """
    if not isinstance(option, str) or not option or option != option.strip() or "\n" in option:
        return True
    return ")" in option and _LETTER.search(option) is not None


def _between(found: Found, train: Questions, test: Questions, options: list[list[str]]) -> None:
    sides, n = (train, test), len(options)
    problems = [row for side in sides for row in side.about_images(loose(side.problems))]
    stems = [row for side in sides for row in side.about_images(loose(side.stems))]
    golds = [texts[place] for texts, place in zip(options, train.gold + test.gold)]
    letters, answers = _by_key(problems, train.gold + test.gold), _by_key(stems, golds)
    conflicts, several = (sum(len(values) > 1 for values in by_key.values()) for by_key in (letters, answers))
    others = [answers.get(stem, set()) - {gold} for stem, gold in zip(stems, golds)]
    contested = sum(not other.isdisjoint(texts) for other, texts in zip(others, options))
    found.add("conflicting_golds", conflicts, "questions", n)
    found.add("several_golds", several, "questions", n)
    found.add("rows_with_other_gold_as_distractor", contested, "rows", n)
    if conflicts:
        sentence = f"{_questions(conflicts, 'is', 'are')} asked twice, with the same image and options"
        found.say(2, 1, f"{sentence}, and different right answers.")
    if several:
        sentence = f"{_questions(several, 'has', 'have')} different right answers in different rows about one image"
        if contested:
            sentence += f"; {contested} of these rows offer the other right answer as a wrong option"
        found.say(2, 0, f"{sentence}.")


def _questions(number: int, one: str, more: str) -> str:
    return f"1 question {one}" if number == 1 else f"{number} questions {more}"


def _by_key(keys: Iterable[Hashable | None], values: Iterable[Hashable]) -> dict[Hashable, set]:
    """The values that come with each key; None is no key."""
    found = defaultdict(set)
    for key, value in zip(keys, values):
        found[key].add(value)
    found.pop(None, None)
    return found
