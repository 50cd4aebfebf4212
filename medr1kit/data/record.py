"""The one check: every row of every reader becomes a record here, or is refused with its reason.

A row says some things twice: the options stand in the problem text and in a column, the gold as a letter and as a text.
Two statements that disagree make every score of the row false, so they are compared, and nothing is believed because it
came in a finished form. What two files write differently and mean alike (``./img/a.png``, a patient 7.0) is written one
way, because audits and splits compare by spelling.

Every reason begins with what is wrong and then names the value in quotes, so that reasons can be counted by kind.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from medr1kit.data.image_paths import image_path
from medr1kit.vqa import (
    LETTERS,
    MAX_CHARACTERS,
    DataError,
    fold,
    format_problem,
    format_solution,
    lowered,
    modality_name,
    parse_solution,
    read_problem,
    refuse_control,
    refuse_told,
    task_name,
)

UNKNOWN = ("", "nan", "none", "null", "na", "n/a", "<na>", "unknown")


class Doubled(dict):
    """An object of a file that has a key twice: which of its two values is meant, nobody knows."""


def missing(value: object) -> bool:
    """Return whether a cell says nothing: None, NaN in any library's form, blank, or the text "nan".

    >>> [missing(value) for value in (None, float("nan"), " ", "nan", 0, "NA", "None")]
    [True, True, True, True, False, False, False]
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value or value.isspace() or (len(value) == 3 and value.casefold() == "nan")
    if isinstance(value, (bool, int, list, dict, bytes)):
        return False
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def make_record(item: object, id: str, stem: str) -> dict:
    """Make a record of a row.

    Args:
        item: an object with ``image`` (a path) or ``image_id``; with ``problem``, or ``question`` and ``options``, or
            all three; with ``solution`` (a letter), or ``answer`` (a letter or an option's text), or both. Modality,
            task (or question_type), source, patient_id and rationale are read where it has them.
        id: the record's id where the row has none of its own.
        stem: the source, where neither the path nor the object names one.

    Returns:
        The columns of :mod:`medr1kit.vqa`; ``image_id`` is None where neither is given. ``patient_id`` and
        ``rationale`` are there where the row has such a key, None if unknown.

    Raises:
        DataError: if something is missing, malformed, contradictory, very long, or holds what a chat model reads as
            something else than words.
    """
    check_texts(item, _keys(item), {"gt_answer": "pass the folder of OmniMedVQA instead"})
    problem, question, options = _question(item)
    answer = _gold(item, options)
    image = _image(item)
    path = (image or "").split("/")
    source = None if missing(item.get("source")) else item["source"]
    if source is not None and not isinstance(source, str):
        raise DataError(f"value is no text: 'source' is {str(source)[:60]!r}; write it as a string")
    record = {
        "id": id if missing(item.get("id")) else plain_name(item["id"], "id"),
        "problem": problem,
        "solution": format_solution(answer) if missing(item.get("solution")) else item["solution"],
        "question": question,
        "options": options,
        "answer": answer,
        "modality": _known(item.get("modality"), modality_name),
        "task": _known(item.get("task", item.get("question_type")), task_name),
        "source": path[1] if len(path) > 2 and path[0] == "Images" else source or stem,
        "image_id": image,
    }
    if "patient_id" in item:
        patient = item["patient_id"]
        unknown = missing(patient) or str(patient).strip().casefold() in UNKNOWN
        record["patient_id"] = None if unknown else plain_name(patient, "patient_id")
    if "rationale" in item:
        record["rationale"] = None if missing(item["rationale"]) else str(item["rationale"])
    _check_written(record)
    return record


def _keys(item: object) -> list[str]:
    """The keys that a row needs: what it lacks may be said by another."""
    if not isinstance(item, dict):
        return ["image", "problem", "solution"]
    question = item.get("question")
    listed = isinstance(question, str) and not missing(question) and not missing(item.get("options"))
    by_answer = "solution" not in item and not missing(item.get("answer"))
    keys = [] if "image" not in item and "image_id" in item else ["image"]
    return [
        *keys,
        *([] if listed and missing(item.get("problem")) else ["problem"]),
        *([] if by_answer else ["solution"]),
    ]


def check_texts(item: object, keys: Sequence[str], hints: dict[str, str] | None = None) -> None:
    """Refuse a row that is no object or lacks a text; ``hints``: by a key it has instead, what to do.

    Raises:
        DataError: naming the key.
    """
    if not isinstance(item, dict):
        raise DataError(f"row is not an object: {str(item)[:60]!r}; expected the keys {', '.join(keys)}")
    if isinstance(item, Doubled):
        raise DataError(f"key is doubled: the row has {', '.join(map(str, item))[:120]!r}; keep one value for each key")
    for key in keys:
        if key not in item:
            hint = next((hint for other, hint in (hints or {}).items() if other in item), "add it")
            raise DataError(f"key is missing: {key!r}, the row has {', '.join(map(str, item))[:120]!r}; {hint}")
        if key == "image" and isinstance(item[key], (list, tuple)):
            raise DataError(f"several images: {str(item[key])[:80]!r}; one image a question is supported: choose one")
        if not isinstance(item[key], str):
            raise DataError(f"value is no text: {key!r} is {str(item[key])[:60]!r}; write it as a string")


# --- question and options --------------------------------------------------------------------------------------------


def _question(item: dict) -> tuple[str, str, list[str]]:
    """The problem text, its question and its options, which agree with what else the row says about them."""
    problem, question, options = item.get("problem"), item.get("question"), item.get("options")
    if not isinstance(question, str) or missing(question) or missing(options):
        problem, question, options = read_problem(problem)
        refuse_told(question)
        return problem, question, options
    options = check_options(options)
    refuse_told(question)
    written = format_problem(question, options)
    if problem == written or missing(problem):
        return written, question, options
    return _agreed(problem, written, question, options), question, options


def check_options(options: object) -> list[str]:
    """Return options if they are two to 26 texts.

    Raises:
        DataError: if not.
    """
    if not isinstance(options, (list, tuple)) or not all(isinstance(text, str) and text.strip() for text in options):
        raise DataError(f"options are not a list of texts: {str(options)[:120]!r}; correct them")
    if len(options) < 2:
        raise DataError(f"fewer than two options in {options!r}; add the others, open questions are not supported")
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


# --- the gold --------------------------------------------------------------------------------------------------------


def _gold(item: dict, options: list[str]) -> str:
    """The gold letter, on which solution and answer agree."""
    solution, answer = item.get("solution"), item.get("answer")
    said = None if missing(answer) else letters_meant(answer, options)
    if "solution" in item and not missing(solution):
        letter = parse_solution(solution, len(options))
        if said is not None and letter not in said:
            raise DataError(f"answer and solution disagree: {answer!r:.60}, {solution[:60]!r}; correct one of them")
    elif missing(answer):
        raise DataError(
            f"gold is missing: answer is {answer!r} and there is no solution; fill it in, or leave the row out"
        )
    elif len(said) != 1:
        raise DataError(f"gold text not among the options: {answer!r:.60} is none of {options!r:.120}; correct the row")
    else:
        letter = said[0]
    texts = [text.casefold().strip() for text in options]
    gold = texts[LETTERS.index(letter)]
    if texts.count(gold) > 1:
        raise DataError(f"gold text under several letters: {gold[:60]!r} in {options!r:.120}; correct them")
    return letter


def letters_meant(answer: object, options: list[str]) -> list[str]:
    """Return the letters that an answer beside a solution can mean: a letter, an option's text, a number.

    >>> letters_meant("b", ["liver", "lung"]), letters_meant("Lung.", ["liver", "lung"]), letters_meant("x", ["a", "b"])
    (['B'], ['B'], [])
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        return [LETTERS[place] for place in (answer, answer - 1) if 0 <= place < len(options)]
    letter = re.fullmatch(r"\s*[(\[]?([A-Za-z])[)\].:]?\s*", str(answer))
    if letter and letter.group(1).upper() in LETTERS[: len(options)]:
        return [letter.group(1).upper()]
    exact = [letter for letter, text in zip(LETTERS, options) if text.strip() == str(answer).strip()]
    return exact or [letter for letter, text in zip(LETTERS, options) if fold(text) == fold(str(answer))]


# --- names -----------------------------------------------------------------------------------------------------------


def _image(item: dict) -> str | None:
    if "image" not in item:
        return None if missing(item["image_id"]) else image_path(str(item["image_id"]))
    if not item["image"].strip():
        raise DataError("image path is empty; write the image's path below the image folder")
    return image_path(item["image"])


def plain_name(value: object, key: str) -> str:
    """Return an id as text, one spelling for one thing: 7 and 7.0, composed and decomposed letters.

    Raises:
        DataError: if it is a list, an object or a truth value.
    """
    if isinstance(value, (bool, list, dict, tuple, bytes)):
        raise DataError(f"value is no name: {key!r} is {str(value)[:60]!r}; write it as a text or a number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return unicodedata.normalize("NFC", str(value)).strip()


def _known(value: object, name: Callable[[str], str]) -> str | None:
    return None if missing(value) or str(value).strip().casefold() in UNKNOWN else name(value)


# --- texts -----------------------------------------------------------------------------------------------------------


def _check_written(record: dict) -> None:
    """Refuse texts that no file can hold, that are very long, or that a chat model does not read as words."""
    asked = "\n".join((record["question"], record["problem"], *record["options"]))
    named = [str(record.get(key) or "") for key in ("id", "source", "image_id", "patient_id", "rationale", "solution")]
    try:
        "\n".join((asked, *named)).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"half a character: {error.object[error.start]!a} in the row's texts; correct it") from error
    if len(asked) > 2 * MAX_CHARACTERS:
        raise DataError(f"text is too long: {len(asked):,} characters in {asked[:60]!r}…; shorten it")
    if "<" in asked or "[" in asked:
        refuse_control(asked)
    if "<" in named[4] or "[" in named[4]:
        refuse_control(named[4], tags=False)
