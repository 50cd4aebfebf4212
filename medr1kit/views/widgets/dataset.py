"""A data set to leaf through: images by modality and task, with what an audit found wrong with each question.

A count of leaks convinces nobody who has not seen one. Here the flags of an audit become a filter, the questions behind
them come with their images, a page at a time, and what the reader notes goes to a file::

    report = mk.audit(train, test)
    mk.explore_data(test, report)
    mk.explore_data(train, report, side="train")

Only the images of the page that is shown are decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.audits.flagged import ANY, HARD, NONE, Flagged
from medr1kit.results.numbers import count
from medr1kit.views.csv import options_cell
from medr1kit.views.html import badge, badges, escape, page, table
from medr1kit.views.look import in_order
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import ALL, choose, row, shows, stack, steps
from medr1kit.views.widgets.notes import NotesPanel
from medr1kit.views.widgets.question import question_html

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


class DataPanel(NotesPanel):
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
        super().__init__()
        self.questions = Flagged(ds, report, side)
        self._pictures = Pictures(ds if "image" in ds.column_names else None, "load the questions with images=FOLDER")
        self.flag, self.page = ALL, 0
        self.rows, self.row = np.arange(len(ds)), 0 if len(ds) else None

    # --- what the controls do ---

    def choose_flag(self, flag: str) -> None:
        """Keep the questions with a flag of the audit, with "any flag" or with "no flag"; "all" keeps all."""
        self.select(flag=flag)

    def turn(self, pages: int) -> None:
        """Show the page so many further on, and open its first question; past the last comes the first."""
        if len(self.rows):
            self.page = (self.page + pages) % self._pages()
            self.row = int(self.rows[self.page * PAGE])
        self.fill()

    def open(self, number: int | None) -> None:
        """Open a question of the selection, by its row number; the page goes with it."""
        if number is not None and number in self.rows:
            self.row, self.page = int(number), int(np.searchsorted(self.rows, number)) // PAGE
        self.fill()

    def next_question(self) -> None:
        """Open the question after this one."""
        self._step(1)

    def previous_question(self) -> None:
        """Open the question before."""
        self._step(-1)

    def select(self, **filters: str) -> None:
        """Choose anew and open the first question; a text is looked for in stems, options and ids."""
        vars(self).update(filters)
        self.rows = self.questions.chosen(self.modality, self.task, self.flag, self.text)
        self.page, self.row = 0, int(self.rows[0]) if len(self.rows) else None
        self.fill()

    def selected(self) -> np.ndarray:
        return self.rows

    def key(self) -> int | None:
        return self.row

    def _step(self, by: int) -> None:
        if self.row is not None:
            place = int(np.searchsorted(self.rows, self.row)) + by
            self.open(int(self.rows[place % len(self.rows)]))

    def _pages(self) -> int:
        return max(1, -(-len(self.rows) // PAGE))

    def _on_page(self) -> np.ndarray:
        return self.rows[self.page * PAGE : (self.page + 1) * PAGE]

    # --- what is shown ---

    title = "Look through the questions of a data set"
    legend = (
        "✓ gold: the right option. A flag is what the audit found about a question; how many it has stands below each "
        "picture. The open question has a double frame."
    )

    def build(self) -> Box:
        flags, heard = [*([ANY, NONE] if self.questions.flags else []), *self.questions.flags], self.heard
        modality, task, text = self.filters(self._names("modality"), self._names("task"), "text")
        which = choose("question", [("–", None)], heard(self.open), hook="question", width="min(26em, 100%)")
        flag = choose("flag", [ALL, *flags], heard(self.choose_flag), hook="flag")
        pages = steps("page", heard(lambda: self.turn(-1)), heard(lambda: self.turn(1)), ("page-before", "page-after"))
        questions = steps("question", heard(self.previous_question), heard(self.next_question))
        return stack(
            shows("counts"), row(modality, task, flag, text), row(*pages), shows("thumbs"),
            row(which, *questions, *self.hiding()), shows("open"), *self.taken_away(),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        here = [int(number) for number in self._on_page()]
        labels = [f"{number}: {name[:40]}" for number, name in zip(here, self.questions.ids(here))]
        which = {"options": list(zip(labels, here)) or [("–", None)], "value": self.row}
        state = super().state() | {"flag": self.flag, "text": self.text, "question": which}
        return state | {"counts": self._counts_html(), "thumbs": self._thumbs_html(), "open": self._open_html()}

    def static(self) -> str:
        return page(f"{self.headline()}{self._counts_html()}{self._thumbs_html()}{self._open_html()}", "data")

    def summary(self) -> str:
        flags = ", ".join(f"{name} {len(rows):,}" for name, rows in self.questions.flags.items()) or "none"
        return f"{len(self.rows):,} of {len(self.questions):,} questions; flags: {flags}; {len(self.notes)} notes"

    def _names(self, column: str) -> list[str]:
        return in_order(column, self.questions.names[column])

    def _counts_html(self) -> str:
        sizes, having = self.questions.counts(self.flag)
        cells, legend = sizes.map("{:,}".format), "questions by modality and task"
        if self.flag != ALL:
            cells, legend = cells + having.map(" ({:,})".format), f"{legend}; in brackets those with: {self.flag}"
        modalities, tasks = self._names("modality"), self._names("task")
        cells = cells.where(sizes > 0, "–").loc[modalities, tasks].to_numpy()
        lines = [[f"<b>{escape(modality)}</b>", *row] for modality, row in zip(modalities, cells)]
        flags = badges(_badge(name, f"{name} {len(rows):,}") for name, rows in self.questions.flags.items())
        counts = table(lines, ["", *tasks], "counts")
        unfolded = " open" * (self.flag != ALL)  # where there is something to see
        folded = f"<details{unfolded}><summary>{escape(legend)}</summary>{counts}</details>"
        return f'{folded}<p data-mk="all-flags">{flags}</p>'

    def _asked(self, number: int) -> dict[str, Any]:
        asked = self.questions.row(number)
        return asked | {"image_id": asked.get("image_id") or asked["id"]}

    def _thumbs_html(self) -> str:
        if not len(self.rows):
            return '<p data-mk="none">No question passes the filters.</p>'
        parts = []
        for number in self._on_page():
            flags = self.questions.flags_of(number)
            marks = f" · {count(len(flags), 'flag')}" if flags else ""
            name, frame = f"row {number}", "solid transparent"
            if number == self.row:
                name, frame = f"<b>{name}</b>", "double"
            style = f"width:{_THUMB + 18}px;border:3px {frame};padding:3px"
            picture = self._pictures.thumb(self._asked(number), _THUMB)
            parts.append(f'<span style="{style}" data-mk="thumb">{picture} <small>{name}{marks}</small></span> ')
        head = f"<p>page {self.page + 1:,} of {self._pages():,}, {len(self.rows):,} questions</p>"
        return f'{head}<div style="display:flex;flex-wrap:wrap;gap:.3em">{"".join(parts)}</div>'

    def _open_html(self) -> str:
        if self.row is None:
            return ""
        asked = self._asked(self.row)
        if self.hides():
            return question_html(asked, {}, self._pictures, hidden=True) + self.noted()
        flags = badges(_badge(name, name) for name in self.questions.flags_of(self.row)) or "<small>no flags</small>"
        where = " · ".join(escape(asked[name], 300) for name in ("source", "image_id") if asked.get(name))
        why = f"<p><small>{escape(asked['rationale'])}</small></p>" if asked.get("rationale") else ""
        about = f'<p data-mk="flags">{flags}</p><p><small>{where}</small></p>{why}{self.noted()}'
        return question_html(asked, {}, self._pictures) + about

    def sheet(self) -> pd.DataFrame:
        """Return the questions that pass the filters, a row each.

        Columns: ``row``, ``id``, ``image_id``, ``modality``, ``task``, ``question``, ``options``, ``gold``, ``flags``,
        ``note``.
        """
        lines = []
        for number in self.rows:
            asked = self.questions.row(number)
            line = {"row": number} | {key: asked.get(key) for key in ("id", "image_id", "modality", "task", "question")}
            line |= {"options": options_cell(asked["options"]), "gold": asked["answer"]}
            line |= {"flags": " | ".join(self.questions.flags_of(number)), "note": self.notes.get(int(number), "")}
            lines.append(line)
        return pd.DataFrame(lines, dtype=object)


def _badge(flag: str, text: str) -> str:
    """The hard subset is a choice of questions, not a defect."""
    return badge(text, "plain" if flag == HARD else "warn")
