"""The record: one medical multiple-choice question about one image.

Everything in medr1kit works on the same eleven columns, whatever file they came from::

    id        "CT-train-0-17"                         unique in a data set
    image     a PIL image, RGB                        absent when no image folder was given
    problem   "What organ is shown? A)liver, B)lung"  question and options on one line, as Med-R1 writes it
    solution  "<answer> B </answer>"                  the gold letter, as Med-R1 writes it
    question  "What organ is shown?"                  the stem alone
    options   ["liver", "lung"]                       in letter order
    answer    "B"                                     the gold letter
    modality  one of MODALITIES, or None if unknown
    task      one of TASKS, or None if unknown
    source    the data set an image came from
    image_id  equal for questions about the same image

Med-R1's files hold only ``image``, ``problem`` and ``solution``; the rest is read out of them here. The hard part is
the problem text: option texts contain commas ("T2, N0, M0") and things that look like letters ("stain (H&E)"), so
options are found by the *letter sequence* A, B, C, ... and never by splitting on commas.
"""

from __future__ import annotations

import re
import string
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache

from medr1kit.alike import alike
from medr1kit.leftovers import control_token, cut_tail, told_answer

LETTERS = string.ascii_uppercase

# Every spelling met in Med-R1's file names, in OmniMedVQA's `modality_type` and in the papers' tables; case and marks
# do not count.
CLOSED = "questions are multiple choice, about one image each"
"""What can be asked, as refusals of other questions say it."""

_MODALITY_SPELLINGS = {
    "CT": ("computed tomography", "ct (computed tomography)"),
    "MRI": ("mr", "magnetic resonance imaging", "mr (magnetic resonance imaging)"),
    "X-Ray": ("xr", "radiography", "radiograph", "chest x-ray", "chest radiograph", "cxr"),
    "Ultrasound": ("us", "ultrasonography"),
    "Dermoscopy": ("der", "derm", "dermatoscopy"),
    "Fundus": ("fp", "fundus photography"),
    "OCT": ("optical coherence tomography", "oct (optical coherence tomography)"),
    "Microscopy": ("micro", "microscopy images", "mic"),
}
_TASK_SPELLINGS = {
    "Anatomy Identification": ("ai", "anatomy"),
    "Disease Diagnosis": ("dd", "diagnosis"),
    "Lesion Grading": ("lg", "grading"),
    "Modality Recognition": ("mr", "modality"),
    "Other Biological Attributes": ("oba", "other attributes", "other"),
}
MODALITIES, TASKS = tuple(_MODALITY_SPELLINGS), tuple(_TASK_SPELLINGS)


class DataError(ValueError):
    """Data that cannot be used as it is: the message names the file, the row and what to do."""


def _squeeze(name: str) -> str:
    """Fold case, underscores, hyphens and blanks, so that "Lesion_Grading" and "lesion grading" meet."""
    return re.sub(r"[^a-z0-9]+", "", name.casefold())


_MODALITY_OF = {_squeeze(s): name for name, more in _MODALITY_SPELLINGS.items() for s in (name, *more)}
_TASK_OF = {_squeeze(s): name for name, more in _TASK_SPELLINGS.items() for s in (name, *more)}


def modality_name(text: str) -> str:
    """Return the canonical name of an imaging modality.

    Args:
        text: a canonical name, a short name (US, Der, FP, Micro), or a spelling of Med-R1's files, in any case.

    Raises:
        DataError: if the name is none of the eight.

    >>> modality_name("OCT (Optical Coherence Tomography"), modality_name("fp")
    ('OCT', 'Fundus')
    """
    return _canonical(text, _MODALITY_OF, "modality", MODALITIES)


def task_name(text: str) -> str:
    """Return the canonical name of a question type.

    Args:
        text: a canonical name, a short name (AI, DD, LG, MR, OBA) or Med-R1's file spelling, in any case.

    Raises:
        DataError: if the name is none of the five.

    >>> task_name("Lesion_Grading"), task_name("oba")
    ('Lesion Grading', 'Other Biological Attributes')
    """
    return _canonical(text, _TASK_OF, "task", TASKS)


def _canonical(text: str, table: dict[str, str], kind: str, names: tuple[str, ...]) -> str:
    name = table.get(_squeeze(str(text)))
    if name is None:
        raise DataError(f"unknown {kind} {text!r}; use one of {', '.join(names)}, or leave it out")
    return name


MAX_CHARACTERS = 50_000
"""The longest text of a question: Med-R1's longest has under a thousand; no model reads a problem of this length."""


def refuse_control(text: str, tags: bool = True) -> None:
    """Refuse a text that holds what a chat model reads as something else than words.

    Args:
        text: a question, an option, a rationale.
        tags: whether the tags of an answer (``<think>``, ``<answer>``) are refused, too.

    Raises:
        DataError: naming the token.
    """
    if token := control_token(text, tags):
        raise DataError(f"a control token of chat models, {token!r}, in {text[:120]!r}; take it out")


def parse_problem(problem: str) -> tuple[str, list[str]]:
    """Split a problem text into its question and its options, in letter order.

    The options are the letter sequence A), B), C) ... in order, each preceded by a blank and, after the first, by a
    comma. Where an option or the question itself contains something like " A)", the right-most start that leaves no
    option empty is taken. The newline form of the Med-R1 fork ("question\\nA: liver\\nB: lung") is read too; and
    "(A) liver (B) lung" and "A. liver B. lung", behind the end of a sentence or on lines of their own. An instruction
    behind the last option ("Answer with the letter only.") is left out.

    Args:
        problem: for example ``"Which stage? A)T2, N0, B)T1 (stage A), N1"``.

    Returns:
        The question and a list of at least two option texts.

    Raises:
        DataError: if fewer than two non-empty options are found, a letter of the sequence is skipped, other text
            follows the last option, the text is very long, or it holds a control token of a chat model, which a
            tokenizer would take for an image or the end of a turn.

    >>> parse_problem("Which stage? A)T2, N0, B)T1, N1 (H&E)")
    ('Which stage?', ['T2, N0', 'T1, N1 (H&E)'])
    >>> parse_problem("Which organ? (A) liver (B) lung")
    ('Which organ?', ['liver', 'lung'])
    """
    return read_problem(problem)[1:]


def read_problem(problem: str) -> tuple[str, str, list[str]]:
    """Return a problem text without what follows its options, its question, and its options (:func:`parse_problem`)."""
    if len(problem) > MAX_CHARACTERS:
        raise DataError(f"text is too long: {len(problem):,} characters in {problem[:60]!r}…; shorten it")
    for first, following, kept in _FORMS:
        starts = [match.span() for match in first.finditer(problem)]
        places: dict[str, list[tuple[int, int]]] = {}
        for match in following.finditer(problem) if starts else ():
            places.setdefault(match.group(1), []).append(match.span())
        for start, end in reversed(starts):
            spans = _option_spans(places, end, len(problem))
            options = [problem[a:b].strip() for a, b in spans]
            options[:-1] = [text.rstrip("," if kept else ",;").rstrip() for text in options[:-1]]
            if len(options) >= 2 and all(options):
                if (_LATER_LETTER if kept else _skipped(len(options))).search(options[-1]):
                    raise DataError(
                        f"an option letter is skipped or doubled in {problem[:120]!r}; letters must be A, B, C, ..."
                    )
                options[-1], stem = _without_instruction(options), problem[:start].strip()
                shown = problem[: problem.index(options[-1], spans[-1][0]) + len(options[-1])]
                shown = problem if shown == problem.rstrip() else shown
                shown = shown if kept else format_problem(stem, options)
                refuse_control(shown)
                return shown, stem, options
    refuse_control(problem)
    raise DataError(
        f"fewer than two options, or an empty one, in {problem[:120]!r}; {CLOSED}: write '… A)first, B)second', or "
        "leave the row out"
    )


_BEHIND = r"(?:(?<=[?:.!])\s+|\n[^\S\n]*)"  # the end of a sentence, or of a line
_FORMS = tuple(
    (re.compile(first), re.compile(following), kept)
    for first, following, kept in (
        (r"(?:^|\s)A\)", r",\s*([B-Z])\)", True),  # Med-R1: "… A)x, B)y"
        (r"(?:^|\s)A\)", r"\s([B-Z])\)", True),  # the same without commas
        (r"\n[^\S\n]*A:", r"\n[^\S\n]*([B-Z]):", True),  # the fork's converter
        (rf"{_BEHIND}\(A\)", r"[\s,;]\(([B-Z])\)", False),  # others', written as Med-R1's: "Which? (A) x (B) y"
        (rf"{_BEHIND}A\.\s", r"[\s,;]([B-Z])\.\s", False),  # "Which? A. x B. y"
    )
)
# What a letter that is skipped or doubled leaves in the last option: "A)x, B)y, D)z". Med-R1's have none like this.
_LATER_LETTER = re.compile(r",\s*[A-Z]\)\s?\S")


def _skipped(n: int) -> re.Pattern:
    """The same in others' forms of n options: the last letter again, or the one after the next."""
    return re.compile(rf"[\s,;]\(?[{LETTERS[n - 1]}{LETTERS[n + 1 : n + 2]}][.)]\s?\S")


def _option_spans(places: dict[str, list[tuple[int, int]]], position: int, end: int) -> list[tuple[int, int]]:
    """Where the options lie that begin at a position; ``places`` holds each later letter's marks, in order."""
    spans = []
    for letter in LETTERS[1:]:
        marks = places.get(letter, [])
        i = bisect_left(marks, (position, 0))
        if i == len(marks):
            break
        spans.append((position, marks[i][0]))
        position = marks[i][1]
    return [*spans, (position, end)]


def _without_instruction(options: list[str]) -> str:
    """The last option without an instruction or an answer behind it; other text behind it is refused."""
    kept, tail = cut_tail(options)
    if tail:
        raise DataError(f"text after the last option: {tail[:80]!r}; take it out")
    return kept


def refuse_told(question: str, options: Sequence[str] = ()) -> None:
    """Refuse a question that tells an answer: "Which organ? Answer: B", "… Lösung: lung".

    Raises:
        DataError: naming what tells it.
    """
    if told := told_answer(question, options, fold):
        raise DataError(f"the question tells an answer: {told.strip()[:60]!r} in {question[:120]!r}; take it out")


def format_problem(question: str, options: list[str]) -> str:
    """Write a question and its options the way Med-R1's files do.

    >>> format_problem("What organ is shown?", ["liver", "lung"])
    'What organ is shown? A)liver, B)lung'

    Raises:
        DataError: if there are more options than letters.
    """
    if len(options) > len(LETTERS):
        raise DataError(f"more than {len(LETTERS)} options: {len(options)} in {str(options)[:80]}…; leave some out")
    return f"{question} " + ", ".join(f"{letter}){text}" for letter, text in zip(LETTERS, options))


def format_solution(letter: str) -> str:
    """Write a gold letter the way Med-R1's files do.

    >>> format_solution("B")
    '<answer> B </answer>'
    """
    return f"<answer> {letter} </answer>"


def write_question(question: str, options: list[str], letter: str) -> dict:
    """Return the columns of a record that say a question and its answer.

    >>> write_question("What organ is shown?", ["liver", "lung"], "B")["problem"]
    'What organ is shown? A)liver, B)lung'
    """
    said = {"problem": format_problem(question, options), "solution": format_solution(letter)}
    return said | {"question": question, "options": options, "answer": letter}


_SOLUTION = re.compile(r"\s*(?:<answer>\s*)?([A-Za-z])\s*(?:</answer>\s*)?")


def parse_solution(solution: str, n_options: int = len(LETTERS)) -> str:
    """Return the gold letter of a solution text.

    Args:
        solution: ``"<answer> B </answer>"`` or a bare letter.
        n_options: how many options the question has; the letter must be among the first ``n_options``.

    Raises:
        DataError: if there is no single letter, or it names no option.

    >>> parse_solution("<answer> B </answer>", 4)
    'B'
    """
    match = _SOLUTION.fullmatch(solution) if isinstance(solution, str) else None
    letter = match.group(1).upper() if match else None
    if letter is None or letter not in LETTERS[:n_options]:
        raise DataError(
            f"unknown answer letter in {str(solution)[:60]!r}; expected '<answer> X </answer>' "
            f"with X from A to {LETTERS[min(n_options, len(LETTERS)) - 1]}"
        )
    return letter


def option_texts(options: Iterable[Sequence[str]], letters: Iterable[str | None]) -> list[str | None]:
    """Return the option that each question's letter stands for; None for a missing letter.

    >>> option_texts([["liver", "lung"], ["CT", "MRI"]], ["B", None])
    ['lung', None]
    """
    pairs = zip(options, letters, strict=True)
    return [texts[LETTERS.index(letter)] if isinstance(letter, str) else None for texts, letter in pairs]


def lowered(text: str) -> str:
    """Return a text in lower case with single blanks and one spelling for what looks the same (:func:`alike`).

    So stems, problems and thoughts are compared.
    """
    text = str(text)
    return _lowered_short(text) if len(text) < 200 else _lowered(text)


def _lowered(text: str) -> str:
    return " ".join(alike(alike(text).casefold()).split())


_lowered_short = lru_cache(maxsize=2**14)(
    _lowered
)  # the options of a data set are few texts, asked for again and again


def fold(text: str) -> str:
    """Return a text without what an eye overlooks: case, repeated blanks, look-alike marks, full stops at the end.

    So texts are compared wherever an option is looked for by its words: in an answer, a file, a list of options. An
    audit that asks whether two wordings *mean* the same goes further (:func:`medr1kit.audits.rows.plain`).

    >>> fold("Thyroid  Gland.") == fold("thyroid gland"), fold("0–2 cm") == fold("0-2 cm")
    (True, True)
    """
    return lowered(text).rstrip(". ")
