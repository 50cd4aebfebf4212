"""Read answers beside their question: what changed, why it was read so, what it was paid, and whether it is true.

Scores say that something changed; reading says what. The inspector puts one question at a time on the table, with its
image and two or three completions beside each other: before and after training, SFT and GRPO, thinking first and
answering first. Filters lead to the questions worth reading, a note is kept for each, and the selection with its notes
goes to a CSV file::

    mk.inspect_outputs(before, after)                       # two tables
    mk.inspect_outputs(preds[preds["method"] != "base"])    # one table with several methods or formats
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.results.answers import PAIRED, SINGLE, Answers
from medr1kit.views.csv import write_csv
from medr1kit.views.html import escape, page, side_by_side
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import ALL, Panel, choose, in_order, number, press, row, shows, slide, stack, write
from medr1kit.views.widgets.question import answer_html, question_html
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box

NOTED = "with a note"
_NOBODY = -1  # in the list of the third place: a control cannot show None as chosen
_WRITTEN = {"predicted": "predicted", "correct": "correct", "well_formed": "well_formed", "completion": "text"}


def inspect_outputs(
    before: pd.DataFrame,
    after: pd.DataFrame | None = None,
    *others: pd.DataFrame,
    data: Dataset | None = None,
    names: Sequence[str] | None = None,
) -> Inspector:
    """Return a widget that shows answers side by side with their question.

    Args:
        before: predictions. Where a table holds several models, formats or seeds, each is an answerer of its own.
        after: predictions on the same questions, for example after training.
        others: further ones. Two or three answers are shown at a time; which ones can be chosen.
        data: the questions with their images, joined on ``id``. None: phantoms are redrawn from their image id, and of
            other images it is said that they are not given.
        names: a name for each answerer; made from what tells them apart by default.

    Returns:
        An :class:`Inspector`. The last expression of a cell shows it; everything its controls do is a method.

    Raises:
        DataError: if a column is missing, an answerer answers a question twice, or gold answers differ.
    """
    frames = [frame for frame in (before, after, *others) if frame is not None]
    return Inspector(Answers(frames, names), Pictures(data))


class Inspector(Panel):
    """The widget of :func:`inspect_outputs`.

    Attributes:
        answers: the questions and who answered them.
        shown: numbers of the answerers that are shown, from left to right.
        selection: numbers of the questions that the filters leave.
        position: which of them is shown, from 0.
        notes: question id -> what the reader wrote.
    """

    def __init__(self, answers: Answers, pictures: Pictures) -> None:
        self.answers, self.pictures = answers, pictures
        self.shown = list(range(min(len(answers.answerers), 3 if len(answers.answerers) == 3 else 2)))
        self.kind, self.modality, self.task, self.text = ALL, ALL, ALL, ""
        self.notes: dict[str, str] = {}
        self.selection = np.arange(len(answers))
        self.position = 0

    # --- what the controls do -----------------------------------------------------------------------------------------

    def choose_kind(self, kind: str) -> None:
        """Keep "all", or the questions that are "fixed", "broken", "both wrong", … between the answers shown."""
        self._filter(kind=kind)

    def choose_modality(self, modality: str) -> None:
        """Keep the questions about images of a modality, or "all"."""
        self._filter(modality=modality)

    def choose_task(self, task: str) -> None:
        """Keep the questions of a task, or "all"."""
        self._filter(task=task)

    def search(self, text: str) -> None:
        """Keep the questions in whose stem, options or shown completions a text occurs, in any case."""
        self._filter(text=text)

    def show(self, place: int, answerer: int | None) -> None:
        """Show another answerer.

        Args:
            place: 0 for the first, 1 for the second, 2 for the third.
            answerer: its number; None leaves the third place empty.

        Raises:
            DataError: if there is no such answerer, or another place than the third were left empty.
        """
        known = range(len(self.answers.answerers))
        if answerer not in known and not (answerer is None and place == 2):
            raise DataError(f"there is no answerer {answerer!r}; they are numbered 0 to {known[-1]}")
        shown = [*self.shown[:place], answerer, *self.shown[place + 1 :]]
        self.shown = [k for k in shown if k is not None]
        self._filter()

    def go(self, number: int) -> None:
        """Show a question of the selection by its number, from 1; beyond the ends the nearest one."""
        number = int(np.clip(number - 1, 0, max(0, len(self.selection) - 1)))
        if number != self.position:
            self.position = number
            self._refresh()

    def next(self) -> None:
        """Show the next question of the selection."""
        self.go(self.position + 2)

    def previous(self) -> None:
        """Show the question before."""
        self.go(self.position)

    def note(self, text: str) -> None:
        """Keep a note for the question that is shown; an empty one removes it."""
        if (name := self._id()) is None:
            return
        if text.strip():
            self.notes[name] = text
        else:
            self.notes.pop(name, None)

    def _filter(self, **changes: str) -> None:
        """Choose anew, and stay at the question that is shown if it is still among the chosen."""
        if changes.get("kind", self.kind) not in self.kinds():
            raise DataError(f"unknown filter {changes['kind']!r}; use one of {', '.join(self.kinds())}")
        here = self.selection[self.position] if len(self.selection) else -1
        for name, value in changes.items():
            setattr(self, name, value)
        self.selection = self._chosen()
        found = np.flatnonzero(self.selection == here)
        self.position = int(found[0]) if len(found) else 0
        self._refresh()

    def kinds(self) -> tuple[str, ...]:
        """Return what the first filter can be set to."""
        return (*(PAIRED if len(self.shown) > 1 else SINGLE), NOTED)

    def _chosen(self) -> np.ndarray:
        if self.kind == NOTED:
            keep = np.array([str(name) in self.notes for name in self.answers.ids], dtype=bool)
        else:
            keep = self.answers.where(self.kind, self.shown)
        for column, value in (("modality", self.modality), ("task", self.task)):
            if value != ALL:
                there = self.answers.column(column)  # may hold pd.NA, which is equal to nothing and not unequal either
                keep = keep & np.array([isinstance(name, str) and name == value for name in there], dtype=bool)
        numbers = np.flatnonzero(keep)
        return self.answers.containing(self.text, numbers, self.shown) if self.text else numbers

    def _id(self) -> str | None:
        return str(self.answers.ids[self.selection[self.position]]) if len(self.selection) else None

    # --- what is shown ------------------------------------------------------------------------------------------------

    def html(self) -> str:
        """Return the question that is shown and its answers, without style."""
        if not len(self.selection):
            return '<p data-mk="none">No question is left; loosen the filters.</p>'
        question = int(self.selection[self.position])
        some = [self.answers.answerers[k] for k in self.shown]
        replies = [one.answer(question) for one in some]
        chosen = {one.name: reply["predicted"] for one, reply in zip(some, replies) if reply is not None}
        cells = [answer_html(one, reply) for one, reply in zip(some, replies)]
        return question_html(self.answers.question(question), chosen, self.pictures) + side_by_side(cells)

    def status(self) -> str:
        """Return what the filters leave, and what changed between the first and the last answer, without style."""
        words = PAIRED[1:] if len(self.shown) > 1 else SINGLE[1:]
        counts = [f"{kind} {int(self.answers.where(kind, self.shown).sum()):,}" for kind in words]
        return (
            f'<p data-mk="status"><b>{len(self.selection):,}</b> of {len(self.answers):,} questions · '
            f"in all: {', '.join(counts)}</p>"
        )

    def static(self) -> str:
        place = f"<p><small>question {self.position + 1:,} of {len(self.selection):,}</small></p>"
        note = self.notes.get(self._id() or "", "")
        written = f'<p data-mk="note"><b>Note:</b> {escape(note)}</p>' if note else ""
        return page(self.status() + (place if len(self.selection) else "") + self.html() + written, "inspector")

    def summary(self) -> str:
        names = ", ".join(self.answers.answerers[k].name for k in self.shown)
        return f"{len(self.selection)} of {len(self.answers)} questions answered by {names}; {len(self.notes)} notes"

    # --- the controls -------------------------------------------------------------------------------------------------

    def build(self) -> Box:
        heard, names = self.heard, [(one.name, k) for k, one in enumerate(self.answers.answerers)]
        self._places = [
            choose(
                label,
                [*names, ("none", _NOBODY)] if place == 2 else names,
                heard(lambda answerer, place=place: self.show(place, None if answerer == _NOBODY else answerer)),
                hook=f"show-{label}",
            )
            for place, label in enumerate(("first", "second", "third")[: len(names)])
        ]
        self._kind = choose("show", self.kinds(), heard(self.choose_kind), hook="kind")
        self._modality = choose("modality", self._values("modality"), heard(self.choose_modality), hook="modality")
        self._task = choose("task", self._values("task"), heard(self.choose_task), hook="task")
        self._search = write("text", heard(self.search), hook="search")
        self._number = number("question", heard(self.go), hook="number", low=1, high=1, value=1)
        self._slider = slide("move", heard(self.go), hook="slider", low=1, high=1, value=1)
        self._slider.readout = False
        steps = [
            press("◀ previous", heard(self.previous), hook="previous"),
            press("next ▶", heard(self.next), hook="next"),
        ]
        self._note = write("note", heard(self.note), hook="note", lines=2)
        self._file = write("file", lambda _: None, hook="file", value="selection.csv")
        save = press("save the selection as CSV", self._save, hook="save")
        self._status, self._main, self._said = shows("status"), shows("main"), shows("said")
        filters = row(self._kind, self._modality, self._task, self._search)
        controls = [filters, row(*steps, self._number, self._slider)]
        if len(names) > 1:
            controls.insert(0, row(*self._places))
        self._fill()
        return stack(*controls, self._status, self._main, self._note, row(self._file, save), self._said)

    def _values(self, column: str) -> list[str]:
        return [ALL, *in_order(column, self.answers.column(column))]

    def _refresh(self) -> None:
        if self._root is not None:
            self._fill()

    def _fill(self) -> None:
        """Bring every control to the state."""
        with self.filling():
            for control, answerer in zip(self._places, [*self.shown, _NOBODY]):
                control.value = answerer
            self._kind.value, self._modality.value, self._task.value = self.kind, self.modality, self.task
            self._search.value = self.text
            for control in (self._number, self._slider):
                control.max = max(1, len(self.selection))
                control.value = self.position + 1
            self._status.value, self._main.value = page(self.status(), "status"), page(self.html(), "inspector")
            self._note.value = self.notes.get(self._id() or "", "")
            self._note.disabled = not len(self.selection)

    def _save(self) -> None:
        try:
            said = f"saved {len(self.selection):,} questions to {self.export(self._file.value)}"
        except DataError as error:
            said = str(error)
        self._said.value = page(f'<span role="status" data-mk="said">{escape(said)}</span>', "message")

    def export(self, path: str | os.PathLike) -> Path:
        """Write the selection to a new CSV file.

        Args:
            path: a file that does not exist yet: it may hold notes.

        Returns:
            The path. The file holds, a row a question: ``id``, ``image_id``, ``modality``, ``task``, ``question``,
            ``options``, ``gold``; for each answerer that is shown ``… predicted``, ``… correct``, ``… well_formed`` and
            ``… completion``; and ``note``. UTF-8, every cell quoted; a cell that a spreadsheet would run as a formula
            has an apostrophe in front, a null byte is written [U+0000].

        Raises:
            DataError: if the selection is empty, or the file exists or cannot be written.
        """
        if not len(self.selection):
            raise DataError("no question is left to save; loosen the filters")
        return write_csv(self._sheet(), path)

    def _sheet(self) -> pd.DataFrame:
        """The selection, all cells texts."""
        answers, chosen = self.answers, self.selection
        columns = {name: answers.column(name)[chosen] for name in ("id", "image_id", "modality", "task", "question")}
        columns["options"] = [
            " | ".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options))
            for options in answers.column("options")[chosen]
        ]
        columns["gold"] = answers.column("answer")[chosen]
        for one in (answers.answerers[k] for k in self.shown):
            for label, column in _WRITTEN.items():
                columns[f"{one.name} {label}"] = one.column(column)[chosen]
        columns["note"] = [self.notes.get(str(name), "") for name in columns["id"]]
        return pd.DataFrame(columns, dtype=object).map(lambda cell: "" if pd.isna(cell) else str(cell))
