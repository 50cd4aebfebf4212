"""A panel of questions that filters choose from, one of which is open, with notes that are kept and saved.

What the inspector and the panel of a data set have in common: the filters by modality, task and text, a note a
question, and the selection with its notes as a CSV file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.views.csv import as_texts, write_csv
from medr1kit.views.html import escape, page
from medr1kit.views.widgets.base import ALL, Panel, choose, press, row, shows, tick, write
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from ipywidgets import DOMWidget


class NotesPanel(Panel):
    """A panel of questions.

    Subclasses write, too: ``select(**filters)``, which sets filters by their names and chooses anew; ``selected()``,
    the numbers of the questions that pass; ``key()``, under which the open question is noted, None if none is open;
    and ``sheet()``, the selection as a table, a row a question.

    Attributes:
        modality, task, text: the filters; "all" or "" lets everything pass.
        notes: key of a question -> what the reader wrote.
        hidden: whether gold answers are hidden until they are revealed, one by one.
        revealed: key of the question whose gold answer was revealed.
    """

    def __init__(self) -> None:
        self.modality = self.task = ALL
        self.text, self.notes = "", {}
        self.hidden, self.revealed = False, None

    # --- what the controls do ---

    def choose_modality(self, modality: str) -> None:
        """Keep the questions of one modality; "all" keeps all."""
        self.select(modality=modality)

    def choose_task(self, task: str) -> None:
        """Keep the questions of one task; "all" keeps all."""
        self.select(task=task)

    def search(self, text: str) -> None:
        """Keep the questions that contain a text, in any case; the class says where it looks."""
        self.select(text=text)

    def hide(self, hidden: bool) -> None:
        """Hide the gold answers, with all that tells them, until they are revealed one by one; or show them."""
        self.change(hidden=hidden, revealed=None)

    def reveal(self) -> None:
        """Show the gold answer of the open question; the next one is hidden again."""
        self.change(revealed=self.key())

    def hides(self) -> bool:
        """Return whether the gold answer of the open question is hidden."""
        return self.hidden and (self.revealed is None or self.revealed != self.key())

    def note(self, text: str) -> None:
        """Keep a note on the open question; an empty one is dropped."""
        if (key := self.key()) is not None:
            self.notes.pop(key, None)
            if text.strip():
                self.notes[key] = text

    def noted(self) -> str:
        """Return the note on the open question as HTML; empty without one."""
        note = self.notes.get(self.key())
        return f'<p data-mk="note"><b>Note:</b> {escape(note)}</p>' if note else ""

    def export(self, path: str | os.PathLike) -> Path:
        """Write the selection with its notes to a new CSV file.

        Args:
            path: a file that does not exist yet: it may hold notes.

        Returns:
            The path. The file holds the columns of ``sheet()``. UTF-8, every cell quoted; a cell that a spreadsheet
            would run as a formula has an apostrophe in front, a null byte is written [U+0000].

        Raises:
            DataError: if the selection is empty, or the file exists or cannot be written.
        """
        if not len(self.selected()):
            raise DataError("no question is left, so there is nothing to save; loosen the filters")
        return write_csv(as_texts(self.sheet()), path)

    # --- the controls ---

    def filters(self, modalities: Sequence[str], tasks: Sequence[str], hook: str) -> tuple[DOMWidget, ...]:
        """Return the lists of modalities and tasks, and the field for a text, which gets a hook."""
        return (
            choose("modality", [ALL, *modalities], self.heard(self.choose_modality), hook="modality"),
            choose("task", [ALL, *tasks], self.heard(self.choose_task), hook="task"),
            write("with the text", self.heard(self.search), hook=hook),
        )

    def hiding(self) -> tuple[DOMWidget, ...]:
        """Return the box that hides the gold answers, and the button that reveals one."""
        reveal = press("reveal", self.heard(self.reveal), hook="reveal", tip="show the gold answer of this question")
        return tick("hide gold", self.heard(self.hide), hook="hide"), reveal

    def taken_away(self) -> tuple[DOMWidget, ...]:
        """Return the field for the note, the file with its button, and where it is said what was saved."""
        file = write("file", lambda _: None, hook="file", value="selection.csv")
        save = press("save the selection as CSV", lambda: self._save(file.value), hook="save")
        return write("note", self.heard(self.note), hook="note", lines=2), row(file, save), shows("said")

    def state(self) -> dict[str, Any]:
        key = self.key()
        noted = {"value": self.notes.get(key, ""), "disabled": key is None}
        shown = {"modality": self.modality, "task": self.task, "note": noted}
        return shown | {"hide": self.hidden, "reveal": {"disabled": not self.hides()}}

    def _save(self, path: str) -> None:
        try:
            said = f"saved {len(self.selected()):,} questions to {self.export(path)}"
        except DataError as error:
            said = str(error)
        self.controls["said"].value = page(f'<span role="status" data-mk="said">{escape(said)}</span>', "message")
