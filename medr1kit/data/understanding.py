"""Rows of a table as questions: cells as their author sees them, options, the gold, and what was understood.

What was understood is printed in three lines, because a column that was taken for another one is seen nowhere else. The
problem text is written from the columns (:func:`medr1kit.vqa.format_problem`) and never read back from a text, so an
option that looks like a letter stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from medr1kit.data.cells import failed, texts_of
from medr1kit.data.columns import Columns, find_columns
from medr1kit.data.golds import Golds, listed, read_golds, without_letters, yes_no_options
from medr1kit.data.record import Doubled
from medr1kit.data.stored import holds_image
from medr1kit.data.wording import without_list
from medr1kit.leftovers import without_place
from medr1kit.vqa import CLOSED, LETTERS, DataError, fold, modality_name, parse_problem, task_name


def as_questions(
    rows: Sequence[Any],
    numbers: Sequence[int],
    where: str,
    columns: Mapping[str, Any] | None,
    yes_no: bool,
    about: str,
    pictured: bool = True,
) -> list[dict | DataError]:
    """Return rows of a table as rows that :func:`medr1kit.data.record.make_record` takes.

    A row that cannot be understood is returned as the error that says why. What was understood is printed, and so is
    that images are named which nobody can open, where ``pictured`` is False.
    """
    good = [isinstance(row, dict) and not isinstance(row, Doubled) for row in rows]
    names = list(dict.fromkeys(key for row, sound in zip(rows, good) if sound for key in row))
    if {"predicted", "well_formed"} <= set(names):
        raise DataError(f"{where}: these are predictions, not questions; load the questions that were asked")
    found = find_columns(names, columns, where)
    used = {*found.of.values(), *found.options, *found.golds, *found.images, *found.twice}
    cells = {name: [row.get(name) if ok else None for row, ok in zip(rows, good)] for name in used}
    images = (found.of.get("image"), *found.images)
    cells = {name: column if name in images else texts_of(column) for name, column in cells.items()}
    _leave_unknown(found, cells)
    reasons: list[DataError | None] = [None if ok else _no_row(row) for row, ok in zip(rows, good)]
    for name in (found.of["question"], found.of["answer"], *found.options, *found.golds):
        for i, cell in enumerate(cells[name]):
            if reasons[i] is None and failed(cell):
                reasons[i] = DataError(f"formula failed: {name!r} shows {cell!r}; correct the cell")
    answers = [
        value[0] if isinstance(value, list) and len(value) == 1 else value for value in cells[found.of["answer"]]
    ]
    options = _options(found, cells, answers, yes_no, reasons)
    golds = read_golds([None if value is None else str(value) for value in answers], options)
    others = [(name, read_golds([None if v is None else str(v) for v in cells[name]], options)) for name in found.golds]
    found.golds = [name for name, other in others if other.way is not None]
    items = []
    for i, reason in enumerate(reasons):
        try:
            if reason is not None:
                raise reason
            items.append(_item(i, found, cells, options[i], golds, others))
        except DataError as error:
            items.append(error)
    paths = [] if pictured else cells.get(images[0], ())
    named = any(isinstance(path, str) for path in paths) and not any(map(holds_image, paths))
    _say(where, about, found, names, numbers, golds, options, named)
    return items


def _no_row(row: object) -> DataError:
    if isinstance(row, DataError):
        return row
    if isinstance(row, Doubled):
        return DataError(f"key is doubled: the row has {', '.join(map(str, row))[:120]!r}; keep one value for each key")
    return DataError(f"row is not an object: {str(row)[:60]!r}; expected a dict of column and value")


def _leave_unknown(found: Columns, cells: dict[str, list]) -> None:
    """A column that is named like modality or task, by whose values none is one, means something else."""
    for role, name_of in (("modality", modality_name), ("task", task_name)):
        if role in found.of and role not in found.stated:
            values = {value for value in cells[found.of[role]] if isinstance(value, str)}
            if not any(_named(value, name_of) for value in values):
                del found.of[role]


def _named(value: str, name_of: Any) -> bool:
    try:
        return bool(name_of(value))
    except DataError:
        return False


def _options(
    found: Columns, cells: dict[str, list], answers: list, yes_no: bool, reasons: list[DataError | None]
) -> list[list[str] | None]:
    """The options of each row; where they cannot be read, ``reasons`` gets why."""
    questions = cells[found.of["question"]]
    own = [cells[name] for name in found.options]
    options: list[list[str] | None] = [None] * len(questions)
    for i, question in enumerate(questions):
        if reasons[i] is None:
            try:
                texts = _options_of([column[i] for column in own])
                if not texts and yes_no:
                    texts = yes_no_options(answers[i])
                elif not own and question is not None:
                    questions[i], texts = _within(str(question))
                if not texts:
                    raise DataError(_without_options(question, answers[i], bool(own), yes_no))
                for name in found.twice:
                    if cells[name][i] is not None and not _same(listed(cells[name][i]), texts):
                        raise DataError(
                            f"options and {name} disagree: {texts!r:.80}, {cells[name][i]!r:.80}; correct one"
                        )
                options[i] = texts
            except DataError as error:
                reasons[i] = error
    return options


def _without_options(question: object, answer: object, there: bool, yes_no: bool) -> str:
    if there and answer is None:
        what = "options and answer" if question else "question, options and answer"
        shown = f"{question!r:.60} stands there without" if question else "a line without"
        return f"row is no question: {shown} {what}; delete the row"
    if yes_no:
        return f"options are missing: {question!r:.60} is answered {answer!r:.40}, not yes or no; leave it out"
    remedy = "give them" if there else "columns={'options': ['…', '…']} names their columns"
    return (
        f"options are missing: {question!r:.60} is open, and {CLOSED}; {remedy}, leave the row out, or yes_no=True if "
        "it is answered so"
    )


def _same(texts: list, others: list[str]) -> bool:
    return [fold(str(text)) for text in without_letters(texts_of(texts))] == [fold(text) for text in others]


def _within(question: str) -> tuple[str, list[str]]:
    """Question and options of a table that has them in one text; none if the text has none."""
    try:
        return parse_problem(question)
    except DataError as error:
        if "fewer than two options" in str(error):
            return question, []
        raise


def _options_of(cells: list[object]) -> list[str]:
    if len(cells) == 1:
        cells = texts_of(listed(cells[0])) if cells[0] is not None else []
    last = max((i for i, cell in enumerate(cells) if cell is not None), default=-1)
    texts = cells[: last + 1]
    if None in texts:
        raise DataError(
            f"option is empty: {LETTERS[texts.index(None) % 26]!r} is, and a later one is not; correct the row"
        )
    if odd := next((text for text in texts if not isinstance(text, str)), None):
        what = "a date: format the column as text" if isinstance(odd, (date, time)) else "no text: correct it"
        raise DataError(f"option is no text: {str(odd)!r:.60} is {what}")
    if len(texts) > len(LETTERS):
        raise DataError(f"more than {len(LETTERS)} options: {len(texts)} in {str(texts)[:80]!r}; leave some out")
    return without_letters(texts)


def _item(
    i: int, found: Columns, cells: dict[str, list], options: list[str], golds: Golds, others: list[tuple[str, Golds]]
) -> dict:
    item = {role: cells[name][i] for role, name in found.of.items() if role not in ("question", "answer")}
    question, letter = cells[found.of["question"]][i], golds.letters[i]
    if question is None:
        raise DataError("question is missing: its cell is empty; fill it in")
    if sum(cells[name][i] is not None for name in found.images) > 1:
        raise DataError(
            f"several images: {len(found.images)!r} columns; {CLOSED}: choose one, or join them into one picture"
        )
    question = without_list(without_place(str(question)), options)
    if letter is None:
        raise DataError(golds.reasons[i])
    for name, other in others:
        if other.letters[i] not in (None, letter):
            mine = cells[found.of["answer"]][i]
            raise DataError(
                f"{found.of['answer']} and {name} disagree: {mine!r:.60}, {cells[name][i]!r:.60}; correct one"
            )
    return {**item, "question": question, "options": options, "answer": letter}


# --- what was understood ---------------------------------------------------------------------------------------------


def _say(
    where: str,
    about: str,
    found: Columns,
    names: Sequence[str],
    numbers: Sequence[int],
    golds: Golds,
    options: Sequence[list[str] | None],
    unopened: bool,
) -> None:
    first, *_, last = found.options or [None, None] if len(found.options) != 1 else found.options * 2
    shown = {"question": found.of["question"], "options": first if first == last else f"{first}…{last}"}
    shown |= {role: name for role, name in found.of.items() if role not in shown}
    said = [f"{role} <- {name}" for role, name in shown.items() if name is not None]
    said = [f"{one} (not loaded: images= is not given)" if unopened and one[:9] == "image <- " else one for one in said]
    used = {*found.of.values(), *found.options, *found.golds, *found.twice}
    rest = [str(name) for name in names if name not in used]
    said += [f"the options also in {found.twice[0]}"] if found.twice else []
    said += [f"the gold also in {', '.join(found.golds)}"] if found.golds else []
    said += [f"not read: {', '.join(rest)[:200]}"] if rest else []
    bad = [number for number, letter in zip(numbers, golds.letters) if letter is None]
    count = {len(texts) for texts in options if texts}
    width = f"{min(count)} to {max(count)}" if len(count) > 1 else str(max(count, default=0))
    unread = f", {len(bad)} not: row{'s' * (len(bad) > 1)} {', '.join(map(str, bad[:12]))}" if bad else ""
    print(f"{where}: {len(numbers)} rows of {width} options{f' ({about})' if about else ''}")
    print("; ".join(said))
    print(f"gold as {golds.way or 'nothing known'}: {len(numbers) - len(bad)} matched{unread}{' …' * (len(bad) > 12)}")
