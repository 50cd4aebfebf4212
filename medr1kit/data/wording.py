"""Wording: the problem text of a row, its question and its options, which must not contradict each other.

Med-R1's files have the problem text alone, others a question and a list of options, many both. Where a row says a thing
twice, both are compared: options in another order than the prompt shows make every score of the row false.
"""

from __future__ import annotations

import re
from itertools import pairwise

from medr1kit.alike import alike
from medr1kit.data.cells import missing, unknown
from medr1kit.leftovers import without_place
from medr1kit.vqa import (
    CLOSED,
    LETTERS,
    DataError,
    fold,
    format_problem,
    lowered,
    read_problem,
    refuse_control,
    refuse_told,
)


def wording(item: dict) -> tuple[str, str, list[str]]:
    """Return the problem text, its question and its options, which agree with what else the row says about them.

    Args:
        item: a row with ``problem``, or ``question`` and ``options``, or all three.

    Raises:
        DataError: if they disagree, an option is missing, or nothing is asked.
    """
    problem, question = (_as_words(item.get(key)) for key in ("problem", "question"))
    options = None if missing(item.get("options")) else check_options(item["options"])
    if question is None and options is not None and problem is not None and not _shows_options(problem):
        question = problem  # the choices stand beside it
    if question is None or options is None:
        shown, stem, parsed = read_problem(item.get("problem") if problem is None else problem)
        if options is not None and list(map(fold, parsed)) != list(map(fold, options)):
            raise DataError(
                f"options and problem disagree: {options!r:.120} is not what {shown[:120]!r} shows; correct one of them"
            )
        if question is not None and lowered(question) not in lowered(shown):
            raise DataError(f"question and problem disagree: {question[:80]!r}, {shown[:120]!r}; correct one of them")
        problem, question, options = shown, stem, parsed
    else:
        without_list(question, options)
        written = format_problem(question, options)
        problem = written if problem in (None, written) else _agreed(problem, written, question, options)
    refuse_told(question, options)
    if unknown(alike(question)):
        raise DataError(f"question is missing: {question[:60]!r} asks nothing; fill it in")
    return problem, question, options


def _as_words(text: object) -> str | None:
    """A text without the place holder of its image; None where there is none."""
    return without_place(text) if isinstance(text, str) and not missing(text) else None


def _shows_options(problem: str) -> bool:
    try:
        return bool(read_problem(problem))
    except DataError as error:
        return "fewer than two options" not in str(error)


def without_list(question: str, options: list[str]) -> str:
    """Return a question without the list of its own options, "(A) liver (B) lung" or a line for each.

    Raises:
        DataError: if it shows them under other letters than their order gives them.

    >>> without_list("Which organ? (A) liver (B) lung", ["liver", "lung"])
    'Which organ?'
    """
    if not _LISTED.search(question):
        return question
    marks = [
        re.search(rf"(?:^|(?<=[\s,;]))(\(?)([A-Z])([).:])\s*{re.escape(text)}(?!\w)", question, re.IGNORECASE)
        for text in options
    ]
    if not all(marks):
        return question
    if "".join(mark[2].upper() for mark in marks) != LETTERS[: len(marks)]:
        raise DataError(f"options and question disagree: {options!r:.120}, {question[:120]!r}; correct one of them")
    ordered = all(one.end() <= other.start() for one, other in pairwise(marks))
    listed = ordered and (marks[0][3] != ":" or question[: marks[0].start()].endswith("\n"))
    rest = question[marks[-1].end() :].strip(" \n.,;")
    return question[: marks[0].start()].strip() if listed and not rest else question


_LISTED = re.compile(r"(?:^|[\s,;])\(?[A-Z][).:]\s*\S")


def check_options(options: object) -> list[str]:
    """Return options if they are two to 26 texts.

    Raises:
        DataError: if not.
    """
    if not isinstance(options, (list, tuple)) or not all(isinstance(text, str) and text.strip() for text in options):
        raise DataError(f"options are not a list of texts: {str(options)[:120]!r}; correct them")
    if len(options) < 2:
        raise DataError(f"fewer than two options in {options!r}; add the others, {CLOSED}")
    if len(options) > len(LETTERS):
        raise DataError(f"more than {len(LETTERS)} options: {len(options)} in {str(options)[:80]!r}; leave some out")
    return list(options)


def _agreed(problem: str, written: str, question: str, options: list[str]) -> str:
    """The problem text of a row that has question and options beside it: its own if it shows them, else written."""
    stem, text = lowered(question), lowered(problem)
    if stem not in text:
        raise DataError(f"question and problem disagree: {question[:80]!r}, {problem[:120]!r}; correct one of them")
    rest = text.replace(stem, " ", 1).strip()
    if not re.search(r"\w", rest):
        return written  # the problem is the bare question
    if lowered(written).removeprefix(stem).strip() == rest:
        return problem
    try:
        shown, _, parsed = read_problem(problem)
    except DataError:
        refuse_control(problem)
        shown, parsed = problem, []
    if [fold(one) for one in parsed] == [fold(one) for one in options]:
        return shown
    if not parsed and _in_order(rest, options):
        return problem
    raise DataError(
        f"options and problem disagree: {options!r:.120} is not what {problem[:120]!r} shows; correct one of them"
    )


def _in_order(text: str, options: list[str]) -> bool:
    """Whether a text shows the options one after the other, whatever stands between them."""
    position = 0
    for option in map(lowered, options):
        found = re.compile(rf"(?<!\w){re.escape(option)}(?!\w)").search(text, position)
        if found is None:
            return False
        position = found.end()
    return True
