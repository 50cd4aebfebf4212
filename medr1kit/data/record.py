"""The one check: every row of every reader becomes a record here, or is refused with its reason.

A row says some things twice: the options stand in the problem text and in a column, the gold as a letter and as a text.
Two statements that disagree make every score of the row false, so they are compared, and nothing is believed because it
came in a finished form. What two files write differently and mean alike (``./img/a.png``, a patient 7.0) is written one
way, because audits and splits compare by spelling.

Every reason begins with what is wrong and then names the value in quotes, so that reasons can be counted by kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from medr1kit.alike import alike
from medr1kit.data.cells import missing, unknown
from medr1kit.data.columns import tells_gold
from medr1kit.data.image_paths import image_path
from medr1kit.data.wording import wording
from medr1kit.vqa import (
    CLOSED,
    LETTERS,
    MAX_CHARACTERS,
    DataError,
    fold,
    format_solution,
    lowered,
    modality_name,
    parse_solution,
    refuse_control,
    task_name,
)


class Doubled(dict):
    """An object of a file that has a key twice: which of its two values is meant, nobody knows."""


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
    problem, question, options = wording(item)
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
        record["patient_id"] = None if unknown(patient) else plain_name(patient, "patient_id")
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
            raise DataError(f"several images: {str(item[key])[:80]!r}; {CLOSED}: choose one, or join them")
        if not isinstance(item[key], str):
            raise DataError(f"value is no text: {key!r} is {str(item[key])[:60]!r}; write it as a string")


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
    for key in filter(tells_gold, item):
        others = letters_meant(item[key], options) if isinstance(item[key], (str, int)) else []
        if others and letter not in others:
            raise DataError(f"{key} and the gold disagree: {item[key]!r:.60}, {letter!r}; correct one of them")
    texts = [lowered(text) for text in options]
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
    """Return an id as text, one spelling for one thing: 7 and 7.0, P‑1 and P-1, composed and decomposed letters.

    Raises:
        DataError: if it is a list, an object or a truth value.
    """
    if isinstance(value, (bool, list, dict, tuple, bytes)):
        raise DataError(f"value is no name: {key!r} is {str(value)[:60]!r}; write it as a text or a number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(alike(str(value)).split())


def _known(value: object, name: Callable[[str], str]) -> str | None:
    """The name of a modality or task; another word may be the source, by which scores can be told apart, too."""
    try:
        return None if unknown(value) else name(value)
    except DataError as error:
        role = "modality" if name is modality_name else "task"
        raise DataError(
            f"{error}; for a table, columns={{{role!r}: None, 'source': '…'}} keeps your own word as the source"
        ) from error


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
        for text in (record["question"], *record["options"], record["problem"]):
            refuse_control(text)
    if "<" in named[4] or "[" in named[4]:
        refuse_control(named[4], tags=False)
