"""A data set to leaf through: images by modality and task, with what an audit found wrong with each question.

A count of leaks convinces nobody who has not seen one. Here the flags of an audit become a filter, the questions behind
them come with their images, a page at a time, and what the reader notes goes to a file::

    report = mk.audit(train, test)
    mk.explore_data(test, report)
    mk.explore_data(train, report, side="train")

Only the images of the page that is shown are decoded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.audits.flagged import ANY, HARD, NONE, Flagged
from medr1kit.views.csv import write_csv
from medr1kit.views.html import badge, badges, escape, page, table
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import ALL, Panel, choose, in_order, press, row, shows, stack, write
from medr1kit.views.widgets.question import question_html
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box

    from medr1kit.audits import AuditReport

PAGE = 12
"""Questions a page."""
_THUMB = 96


def explore_data(ds: Dataset, report: AuditReport | None = None, *, side: str = "test") -> DataPanel:
    """Return a panel of the questions of a data set, filtered by modality, task, text and the flags of an audit.

    Args:
        ds: the questions, from :func:`medr1kit.load_vqa`; without images phantoms are drawn again from their id.
        report: what :func:`medr1kit.audit` returned for them; None: no flags.
        side: which side of the audit they were, "test" or "train".

    Raises:
        DataError: if columns are missing, ``side`` is neither, or the audit was not made with these questions.
    """
    return DataPanel(ds, report, side=side)


class DataPanel(Panel):
    """The panel of :func:`explore_data`; every control has a method of its own.

    Attributes:
        questions: the questions and their flags.
        modality, task, flag, text: the filters; "all" or "" lets everything pass.
        rows: numbers of the rows that pass.
        page: which page of them is shown, from 0.
        row: the number of the row that is open; None if none passes.
        notes: row number -> what the reader noted.
    """

    def __init__(self, ds: Dataset, report: AuditReport | None = None, *, side: str = "test"):
        self.questions = Flagged(ds, report, side)
        self._pictures = Pictures(ds if "image" in ds.column_names else None)
        self.modality = self.task = self.flag = ALL
        self.text, self.page, self.notes = "", 0, {}
        self.rows, self.row = np.arange(len(ds)), 0 if len(ds) else None

    # --- what the controls do ---

    def choose_modality(self, modality: str) -> None:
        """Keep the questions of one modality; "all" keeps all."""
        self._filter(modality=modality)

    def choose_task(self, task: str) -> None:
        """Keep the questions of one task; "all" keeps all."""
        self._filter(task=task)

    def choose_flag(self, flag: str) -> None:
        """Keep the questions with a flag of the audit, with "any flag" or with "no flag"; "all" keeps all."""
        self._filter(flag=flag)

    def search(self, text: str) -> None:
        """Keep the questions whose stem, options or id contain a text."""
        self._filter(text=text)

    def turn(self, pages: int) -> None:
        """Show the page so many further on, and open its first question; past the last comes the first."""
        if len(self.rows):
            self.page = (self.page + pages) % self._pages()
            self.row = int(self.rows[self.page * PAGE])
        self._show()

    def open(self, number: int | None) -> None:
        """Open a question of the selection, by its row number; the page goes with it."""
        if number is not None and number in self.rows:
            self.row, self.page = int(number), int(np.searchsorted(self.rows, number)) // PAGE
        self._show()

    def next_question(self) -> None:
        """Open the question after this one."""
        self._step(1)

    def previous_question(self) -> None:
        """Open the question before."""
        self._step(-1)

    def note(self, text: str) -> None:
        """Keep a note on the question that is open; an empty one is dropped."""
        if self.row is not None:
            self.notes.pop(self.row, None)
            if text.strip():
                self.notes[self.row] = text

    def _filter(self, **changes: str) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        self.rows = self.questions.chosen(self.modality, self.task, self.flag, self.text)
        self.page, self.row = 0, int(self.rows[0]) if len(self.rows) else None
        self._show()

    def _step(self, by: int) -> None:
        if self.row is not None:
            place = int(np.searchsorted(self.rows, self.row)) + by
            self.open(int(self.rows[place % len(self.rows)]))

    def _pages(self) -> int:
        return max(1, -(-len(self.rows) // PAGE))

    def _on_page(self) -> np.ndarray:
        return self.rows[self.page * PAGE : (self.page + 1) * PAGE]

    # --- what is shown ---

    def build(self) -> Box:
        flags = [*([ANY, NONE] if self.questions.flags else []), *self.questions.flags]
        heard, names = self.heard, {column: [ALL, *self._names(column)] for column in ("modality", "task")}
        self._filters = [
            choose("modality", names["modality"], heard(self.choose_modality), hook="modality"),
            choose("task", names["task"], heard(self.choose_task), hook="task"),
            choose("flag", [ALL, *flags], heard(self.choose_flag), hook="flag"),
            write("text", heard(self.search), hook="text"),
        ]
        pages = [
            press("◀ page", heard(lambda: self.turn(-1)), hook="page-before", tip="page before"),
            press("page ▶", heard(lambda: self.turn(1)), hook="page-after", tip="page after"),
        ]
        self._which = choose("question", [("–", None)], heard(self.open), hook="question")
        self._which.layout.width = "min(26em, 100%)"
        steps = [
            press("◀ question", heard(self.previous_question), hook="previous", tip="question before"),
            press("question ▶", heard(self.next_question), hook="next", tip="question after"),
        ]
        self._note = write("note", heard(self.note), hook="note", lines=2)
        self._file = write("file", lambda _: None, hook="file", value="selection.csv")
        save = press("save the selection as CSV", self._save, hook="save")
        self._table, self._thumbs, self._open, self._said = map(shows, ("counts", "thumbs", "open", "said"))
        box = stack(
            self._table, row(*self._filters), row(*pages), self._thumbs, row(self._which, *steps), self._open,
            self._note, row(self._file, save), self._said,
        )  # fmt: skip
        self._show(box)
        return box

    def static(self) -> str:
        return page(f"{self._counts_html()}{self._thumbs_html()}{self._open_html()}", "data")

    def summary(self) -> str:
        flags = ", ".join(f"{name} {len(rows):,}" for name, rows in self.questions.flags.items()) or "none"
        return f"{len(self.rows):,} of {len(self.questions):,} questions; flags: {flags}; {len(self.notes)} notes"

    def _show(self, box: Box | None = None) -> None:
        """Bring the controls and what they show into line with the state; nothing before they are built."""
        if self._root is None and box is None:
            return
        here = [int(number) for number in self._on_page()]
        with self.filling():
            for control, value in zip(self._filters, (self.modality, self.task, self.flag, self.text)):
                control.value = value
            labels = [f"{number}: {name[:40]}" for number, name in zip(here, self.questions.ids(here))]
            self._which.options = list(zip(labels, here)) or [("–", None)]
            self._which.value = self.row
            self._note.value = self.notes.get(self.row, "")
            self._note.disabled = self.row is None
        self._table.value = page(self._counts_html(), "counts")
        self._thumbs.value = page(self._thumbs_html(), "thumbs")
        self._open.value = page(self._open_html(), "open")

    def _names(self, column: str) -> list[str]:
        return in_order(column, self.questions.names[column])

    def _counts_html(self) -> str:
        sizes, having = self.questions.counts(self.flag)
        tasks = [name for name in self._names("task") if name in sizes]
        lines = []
        for modality in self._names("modality"):
            cells = [_count(sizes.loc[modality, name], having.loc[modality, name], self.flag) for name in tasks]
            lines.append([f"<b>{escape(modality)}</b>", *cells])
        legend = "" if self.flag == ALL else f"; in brackets those with: {self.flag}"
        flags = badges(_badge(name, f"{name} {len(rows):,}") for name, rows in self.questions.flags.items())
        counts = table(lines, ["", *tasks], "counts")
        return f'<p><small>questions{escape(legend)}</small></p>{counts}<p data-mk="all-flags">{flags}</p>'

    def _thumbs_html(self) -> str:
        if not len(self.rows):
            return '<p data-mk="none">No question passes the filters.</p>'
        parts = []
        for number in self._on_page():
            asked = self.questions.row(number)
            asked["image_id"] = asked.get("image_id") or asked["id"]
            flags = self.questions.flags_of(number)
            marks = f" · {len(flags)} flag{'' if len(flags) == 1 else 's'}" if flags else ""
            frame, name = "solid transparent", f"row {int(number)}"
            if number == self.row:
                frame, name = "double", f"<b>{name}</b>"
            parts.append(
                f'<span style="width:{_THUMB + 18}px;border:3px {frame};padding:3px" data-mk="thumb">'
                f"{self._pictures.html(asked, _THUMB)} "
                f"<small>{name}{marks}</small></span> "
            )
        head = f"<p>page {self.page + 1:,} of {self._pages():,}, {len(self.rows):,} questions</p>"
        return f'{head}<div style="display:flex;flex-wrap:wrap;gap:.3em">{"".join(parts)}</div>'

    def _open_html(self) -> str:
        if self.row is None:
            return ""
        asked = self.questions.row(self.row)
        asked["image_id"] = asked.get("image_id") or asked["id"]
        flags = badges(_badge(name, name) for name in self.questions.flags_of(self.row)) or "<small>no flags</small>"
        where = " · ".join(escape(asked[name], 300) for name in ("source", "image_id") if asked.get(name))
        why = f"<p><small>{escape(asked['rationale'])}</small></p>" if asked.get("rationale") else ""
        note = f'<p data-mk="note">note: {escape(self.notes[self.row])}</p>' if self.row in self.notes else ""
        about = f'<p data-mk="flags">{flags}</p><p><small>{where}</small></p>{why}{note}'
        return question_html(asked, {}, self._pictures) + about

    # --- what is taken away ---

    def _save(self) -> None:
        try:
            said = f"saved {len(self.rows):,} questions to {self.export(self._file.value)}"
        except DataError as error:
            said = str(error)
        self._said.value = page(f'<span role="status">{escape(said)}</span>', "said")

    def export(self, path: str | os.PathLike) -> Path:
        """Write the questions that pass the filters, with their flags and notes, to a new CSV file.

        Args:
            path: a file that does not exist yet: it may hold notes.

        Returns:
            The path. Columns: ``row``, ``id``, ``image_id``, ``modality``, ``task``, ``question``, ``options``,
            ``gold``, ``flags``, ``note``. UTF-8, every cell quoted; what a spreadsheet would run as a formula has an
            apostrophe in front, a null byte is written [U+0000].

        Raises:
            DataError: if no question passes, or the file exists or cannot be written.
        """
        if not len(self.rows):
            raise DataError("no question passes the filters; there is nothing to save")
        return write_csv(self._sheet(), path)

    def _sheet(self) -> pd.DataFrame:
        """The selection, all cells texts."""
        lines = []
        for number in self.rows:
            asked = self.questions.row(number)
            line = {"row": number} | {key: asked.get(key) for key in ("id", "image_id", "modality", "task", "question")}
            line["options"] = " | ".join(f"{letter}) {text}" for letter, text in zip(LETTERS, asked["options"]))
            line |= {"gold": asked["answer"], "flags": " | ".join(self.questions.flags_of(number))}
            lines.append(line | {"note": self.notes.get(int(number), "")})
        return pd.DataFrame(lines, dtype=object).map(lambda cell: "" if pd.isna(cell) else str(cell))


def _count(size: int, having: int, flag: str) -> str:
    if not size:
        return "–"
    return f"{size:,}" if flag == ALL else f"{size:,} ({having:,})"


def _badge(flag: str, text: str) -> str:
    """The hard subset is a choice of questions, not a defect."""
    return badge(text, "plain" if flag == HARD else "warn")
