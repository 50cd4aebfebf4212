"""Results of others: files that other evaluations wrote, read into the predictions table.

Four layouts are read, and told apart by their content, not by their name::

    Med-R1       {"accuracy": 81.2, "results": [{question, ground_truth, model_output, extracted_answer}, …]}
    VLMEvalKit   a table, .xlsx, .tsv, .csv or JSON: index, question, A, B, C, D, answer, prediction, perhaps hit
    lmms-eval    samples as JSON lines: doc_id, input, target, filtered_resps, perhaps resps and doc
    MedEvalKit   results.json: [{prompt or question, choices, answer, response, perhaps correct}, …]

What a model wrote is read again by the parser that reads our own models' answers; what the other tool made of it stands
beside that. Files rarely say everything: ``data=`` gives options, images, patients and modality, and the ids by which
one model's answers are paired with another's.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.formats import ANSWER_THINK_ANSWER, NO_THINK, THINK_AFTER, THINK_BEFORE, ResponseFormat, format_named
from medr1kit.given import choice, kind, path_given, questions_given
from medr1kit.results.layouts import Answered, letter_only, read_rows
from medr1kit.results.tables import LABELS, PREDICTIONS, check_predictions
from medr1kit.rewards import reference_answer
from medr1kit.vqa import LETTERS, DataError, fold, lowered, modality_name, task_name

if TYPE_CHECKING:
    from datasets import Dataset

BESIDE = ("reference_predicted", "their_correct", "category")
"""Columns of an imported table that others lack: the letter that Med-R1's own parser reads, what the tool that wrote
the file held of the answer, and the tool's own grouping; missing where they are not known."""


def import_predictions(
    path: str | os.PathLike,
    *,
    data: Dataset | None = None,
    format: ResponseFormat | str | None = None,
    labels: Mapping[str, Any] | None = None,
    check: str = "error",
) -> pd.DataFrame:
    """Read a result file of Med-R1, VLMEvalKit, lmms-eval or MedEvalKit as predictions.

    Args:
        path: the file; its content says which of the four it is (:mod:`medr1kit.results.imports`).
        data: the questions that were asked, from :func:`medr1kit.load_vqa`. They give the ids, and options, image,
            patient, source, modality and task where the file lacks them. A row is matched by its id, by question, gold
            answer and, where the file names one, image, or by its place if the whole file is in the order of the data.
        format: the response format that was asked for. None: what the answers look like; if none of them has an
            ``<answer>`` tag, none was asked for, a letter without tags counts (also ``\\boxed{B}``), and whether an
            answer is well-formed is missing.
        labels: model, method, seed, step, train_modality, train_task; ``model`` is else the file's name, and ``method``
            "given", weights whose training is not known.
        check: "error" refuses rows that cannot be scored, "drop" leaves them out and lists them in a
            :class:`medr1kit.data.load.DroppedRows` warning: the open questions of VQA-RAD, SLAKE or PathVQA.

    Returns:
        The predictions table in the file's order, with the columns :data:`BESIDE`. Without ``data`` an id is made of
        what the file has, the same for the same question in another model's file, and a question whose image is not
        named counts as one about an image of its own.

    Raises:
        DataError: if the file is none of the four; a row (see ``check``) has no text, no options or no readable gold
            answer, is answered twice, or is no question of ``data``; or no row is left.
    """
    if isinstance(path, (list, tuple)):
        raise DataError(f"path is {kind(path)}; read one file at a time, and join the tables with pandas.concat")
    path, _ = path_given(path, "path"), choice(check, "check", ("error", "drop"))
    if not isinstance(labels, (Mapping, type(None))):
        raise DataError(f"labels is {kind(labels)}; give a dict with some of {', '.join(LABELS)}")
    known = {"model": re.sub(r"(\.(jsonl?|xlsx|[ct]sv|gz))+$", "", path.name), "method": "given"} | dict(labels or {})
    for name in known:
        choice(name, "labels", LABELS)
    rows, unread = read_rows(path)
    lost = _Lost(os.fspath(path), check == "drop", len(rows) + len(unread))
    lost.add(unread, *(f"{lost.name}, row {where}: {why}" for where, why in list(unread.items())[:1]))
    if data is not None:
        rows = _join(rows, questions_given(data, "data"), lost)
    rows = _checked(rows, lost)
    lost.tell(rows)
    tagged = any("<answer>" in row.text for row in rows)
    asked = format_named(format) if format is not None else _looks(rows) if tagged else None
    known = dict.fromkeys(LABELS) | known
    frame = pd.DataFrame([_record(row, asked) | known for row in rows], columns=[*PREDICTIONS, *BESIDE])
    return check_predictions(frame.assign(n_tokens=pd.to_numeric(frame["n_tokens"], errors="coerce")))


# --- the questions ----------------------------------------------------------------------------------------------------


@dataclass
class _Lost:
    """Rows of a file that cannot be scored: refused in a sentence, or left out and told together."""

    name: str
    drop: bool
    total: int
    why: dict[int, str] = field(default_factory=dict)

    def add(self, found: Mapping[int, str], sentence: str = "") -> None:
        if found and not self.drop:
            raise DataError(sentence)
        self.why |= found

    def tell(self, left: Sequence[Answered]) -> None:
        from medr1kit.data.load import DroppedRows
        from medr1kit.data.rows import Refused

        refused = [Refused(self.name, where, why) for where, why in sorted(self.why.items())]
        if not left:
            raise DataError(f"{self.name}: no row is left, {len(refused)} are refused; the first: {refused[0]}")
        if refused:
            warnings.warn(DroppedRows(refused, self.total), stacklevel=3)


def _join(rows: Sequence[Answered], data: Dataset, lost: _Lost) -> list[Answered]:
    """Give each row what the data says of its question; return those of which it says something."""
    questions = data.select_columns([column for column in data.column_names if column != "image"]).to_list()
    ids = {one["id"]: place for place, one in enumerate(questions)}
    fits = {row.where: some for row, some in zip(rows, _fitting(rows, questions))}
    fits |= {row.where: [place] for row in rows if (place := ids.get(str(row.known.get("own")))) in fits[row.where]}
    rows = _fit(rows, fits, "no question", lost)
    if all(place in fits[row.where] for place, row in enumerate(rows)):  # the file is in the order of the data
        fits = {row.where: [place] for place, row in enumerate(rows)}
    rows = _fit(rows, fits, "several questions", lost)
    for row in rows:
        one = questions[fits[row.where][0]]
        row.stems, row.options = [one["question"]], row.options or one["options"]
        said = {key: value for key, value in row.known.items() if value is not None or key in BESIDE}
        row.known = one | said | {"id": one["id"], "image_id": one["image_id"]}
    return rows


def _fit(rows: Sequence[Answered], fits: Mapping[int, list[int]], wrong: str, lost: _Lost) -> list[Answered]:
    """The rows that do not fit ``wrong``: no question, or several."""
    some = [row for row in rows if (not fits[row.where] if wrong == "no question" else len(fits[row.where]) > 1)]
    listed = ", ".join(str(row.where) for row in some[:10]) + (", …" if len(some) > 10 else "")
    advice = "load the very questions of the file"
    advice += ", or leave such rows out with check='drop'" if wrong == "no question" else ", in its order"
    lost.add(
        {row.where: f"fits {wrong} of data=: {(row.stems or [''])[0]!r:.60}" for row in some},
        f"{lost.name}: {len(some)} of {lost.total} rows fit {wrong} of data= (rows {listed}); the first asks "
        + "".join(f"{(row.stems or [''])[0]!r:.120}, gold {row.gold!r:.40}; " for row in some[:1])
        + advice,
    )
    return [row for row in rows if row.where not in lost.why]


def _fitting(rows: Sequence[Answered], questions: Sequence[dict]) -> list[list[int]]:
    """For each row the places of the questions that it may answer: by stem, gold, image and options."""
    places: dict[tuple, list[int]] = {}
    for place, one in enumerate(questions):
        texts = tuple(map(fold, one["options"]))
        golds = {one["answer"], texts[LETTERS.index(one["answer"])]}  # letters are upper case, texts are not
        for key in product([lowered(one["question"])], golds, {"", _file(one["image_id"])}, [(), texts]):
            places.setdefault(key, []).append(place)
    images = {_file(one["image_id"]) for one in questions} & {_file(row.known.get("image_id")) for row in rows} - {""}
    fits = []
    for row in rows:
        letter, path = _letter(row.gold, row.options), row.known.get("image_id") if images else None
        texts = tuple(map(fold, row.options or ()))
        gold = texts[LETTERS.index(letter)] if texts and letter else letter or fold(row.gold)
        keys = product(map(lowered, row.stems), [gold], [_file(path)], dict.fromkeys([texts, ()]))
        some = next((places[key] for key in keys if key in places), [])
        if path:
            some = [place for place in some if _same_image(questions[place]["image_id"], path)]
        fits.append(some)
    return fits


def _file(path: object) -> str:
    return PurePosixPath(str(path or "")).name


def _same_image(one: str, other: str) -> bool:
    """Whether one path ends as the other does: tools put their own folder before a path."""
    shorter, longer = sorted((PurePosixPath(one).parts, PurePosixPath(other).parts), key=len)
    return longer[len(longer) - len(shorter) :] == shorter


def _letter(gold: str, options: Sequence[str] | None) -> str | None:
    """The gold letter: a letter, perhaps with its text, or an option's text."""
    return NO_THINK.parse(f"<answer>{gold}</answer>", options).answer


def _checked(rows: Sequence[Answered], lost: _Lost) -> list[Answered]:
    """The rows that can be scored, each question named."""
    bare = {row.where: "no options; pass data=" for row in rows if not row.options or len(row.options) < 2}
    lost.add(
        bare,
        f"{lost.name}: {len(bare)} of {lost.total} rows have no options, the first is row {min(bare, default=0)}; pass "
        "data=, the questions as load_vqa reads them, or leave such rows out with check='drop'",
    )
    seen: dict[str, int] = {}
    for row in (row for row in rows if row.where not in bare):
        row.answer = _letter(row.gold, row.options)
        asked = sha1(repr((lowered(row.stems[0] if row.stems else ""), row.options)).encode()).hexdigest()[:8]
        own = next((row.known[key] for key in ("own", "image_id") if row.known.get(key) not in (None, "")), row.where)
        row.known.setdefault("id", f"{own}-{asked}")
        row.known["image_id"] = row.known.get("image_id") or row.known["id"]
        if row.answer is None:
            why = f"the gold answer {row.gold!r:.60} is none of {row.options}"
            lost.add({row.where: why}, f"{lost.name}, row {row.where}: {why}")
        elif (first := seen.setdefault(row.known["id"], row.where)) != row.where:
            why = f"rows {first} and {row.where} answer the same question; keep one of them"
            lost.add({row.where: why}, f"{lost.name}: {why}")
    return [row for row in rows if row.where not in lost.why]


# --- answers ----------------------------------------------------------------------------------------------------------


def _looks(rows: Sequence[Answered]) -> ResponseFormat:
    """The format that most answers with a thought have; none has one: no-think."""
    thoughts = [row.text for row in rows if "<think>" in row.text and "<answer>" in row.text]
    if 2 * len(thoughts) < sum("<answer>" in row.text for row in rows):
        return NO_THINK
    before = sum(text.find("<think>") < text.find("<answer>") for text in thoughts)
    if 2 * before >= len(thoughts):
        return THINK_BEFORE
    again = sum(text.find("<answer>") < text.find("<think>") < text.rfind("<answer>") for text in thoughts)
    return ANSWER_THINK_ANSWER if 2 * again >= len(thoughts) else THINK_AFTER


def _record(row: Answered, asked: ResponseFormat | None) -> dict[str, Any]:
    """A row of predictions; without a format a letter counts however it is written."""
    parsed = (asked or NO_THINK).parse(row.text, row.options)
    boxed = {_letter(said, row.options) for said in re.findall(r"\\boxed\{([^{}]*)\}", row.text)} if not asked else ()
    lenient = (boxed.pop() if len(boxed) == 1 else None) if boxed else parsed.lenient_answer  # two boxes: no answer
    answer = parsed.answer if asked else lenient
    known = {"reference_predicted": letter_only(reference_answer(row.text))} | row.known
    for column, name in (("modality", modality_name), ("task", task_name)):
        known[column] = _named(known.get(column), name)
    return {column: known.get(column) for column in (*PREDICTIONS, *BESIDE)} | {
        "question": row.stems[0] if row.stems else "",
        "options": row.options,
        "answer": row.answer,
        "format": (asked or NO_THINK).name,
        "text": row.text,
        "think": parsed.think,
        "predicted": answer,
        "lenient_predicted": lenient,
        "correct": answer == row.answer,
        "well_formed": parsed.well_formed if asked else None,
    }


def _named(value: object, name: Any) -> str | None:
    """A canonical name, or else the file's own word: it says more than nothing."""
    if value is None or str(value).casefold() in ("", "unknown", "nan"):
        return None
    try:
        return name(str(value))
    except DataError:
        return str(value)
