"""Transfer, cell by cell: what training on one modality or task does to another, and the answers behind the number.

Med-R1 prints heat maps. A heat map invites one to read every cell, and 64 cells hold three that look significant where
nothing happened. So each cell here says whether it may be chance, and opens: its numbers with their intervals, what was
taken for what, and the answers themselves. Differences of two formats stand beside the map that Med-R1 published::

    mk.explore_transfer(preds)      # predictions of several trained models and of the base, below each other
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.results.answers import PAIRED, SINGLE, Answers
from medr1kit.results.errors.kinds import describe
from medr1kit.results.errors.letters import confusion_table
from medr1kit.results.kept import published
from medr1kit.results.maps import cell_answers, cell_numbers, map_table, maps_of, slim
from medr1kit.results.numbers import number
from medr1kit.views.html import escape, page, side_by_side
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import Panel, choose, press, row, shows, stack
from medr1kit.views.widgets.heat import axes_of, cell_html, cell_text, cells_of, colours_of, limit_of, map_html, short
from medr1kit.views.widgets.question import answer_html, question_html
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box

_CONFUSIONS = 6
_LEGEND = (
    "? may be chance (p above 0.05, corrected for the whole map) · – nothing to compare with · thick frame: diagonal"
)


def explore_transfer(preds: pd.DataFrame, data: Dataset | None = None) -> TransferPanel:
    """Return a panel of the transfer heat maps, whose cells open.

    Args:
        preds: predictions of trained models, with ``train_modality`` or ``train_task``, and of the untrained base. The
            frame is not copied.
        data: the questions, for their images; None: phantoms are drawn again from their id.

    Raises:
        DataError: if columns are missing, no model was trained on one modality or task, or ``data`` has no images.
    """
    return TransferPanel(preds, data)


class TransferPanel(Panel):
    """The panel of :func:`explore_transfer`; every control has a method of its own.

    Attributes:
        maps: the maps that can be shown.
        map: the one that is shown.
        value: "difference" or "accuracy".
        train, test: the chosen cell.
        kind: which of its answers are shown: "all", "fixed", …
        place: which of these, from 0.
    """

    def __init__(self, preds: pd.DataFrame, data: Dataset | None = None):
        self._preds, self._pictures = preds, Pictures(data)
        self._slim = slim(preds)
        self.maps = maps_of(self._slim)
        self._tables: dict[Any, pd.DataFrame] = {}
        self._cell: dict[str, Any] = {}
        self._buttons: dict[tuple[str, str], tuple[Any, str]] = {}
        self._frames: dict[str, Any] = {}
        self.value = "difference"
        self.map, self.train, self.test = self.maps[0], "", ""
        self._enter(self.map)

    # --- what the controls do ---

    def choose_map(self, place: int) -> None:
        """Show another map, by its number in ``maps``; the cell stays where the new map has it."""
        self._enter(self.maps[place])
        self._show(anew=True)

    def choose_value(self, value: str) -> None:
        """Draw the "difference" or the "accuracy" of each cell."""
        self.value = value
        self._show(anew=True)

    def choose_cell(self, train: str, test: str) -> None:
        """Open a cell: what was trained on, and what was tested."""
        with self._as_before_if_refused():
            self.train, self.test = train, test
            self._open()
        self._show()

    def move(self, down: int, across: int) -> None:
        """Open the cell so many rows down and columns across; over an edge it goes on at the other side."""
        rows, columns = axes_of(self.table, self.map.by)
        train = rows[(rows.index(self.train) + down) % len(rows)]
        self.choose_cell(train, columns[(columns.index(self.test) + across) % len(columns)])

    def choose_kind(self, kind: str) -> None:
        """Keep the answers of the cell that are "fixed", "broken", "both wrong", …"""
        self.kind, self.place = kind, 0
        self._show()

    def next_answer(self) -> None:
        """Show the next answer of the cell; after the last comes the first."""
        self.place = (self.place + 1) % max(1, len(self._chosen()))
        self._show()

    def previous_answer(self) -> None:
        """Show the answer before."""
        self.place = (self.place - 1) % max(1, len(self._chosen()))
        self._show()

    @property
    def table(self) -> pd.DataFrame:
        """The cells of the map that is shown; see :func:`medr1kit.results.maps.map_table`."""
        if self.map not in self._tables:
            self._tables[self.map] = map_table(self._slim, self.map)
        return self._tables[self.map]

    # --- what is shown ---

    def build(self) -> Box:
        from ipywidgets import GridBox

        heard = self.heard
        names = [(one.name, place) for place, one in enumerate(self.maps)]
        self._which = choose("map", names, heard(self.choose_map), hook="map-choice")
        self._which.layout.width = "min(40em, 100%)"
        self._value = choose("draw", ["difference", "accuracy"], heard(self.choose_value), hook="value")
        self._rows = choose("trained on", [""], heard(lambda train: self.choose_cell(train, self.test)), hook="train")
        self._columns = choose("tested on", [""], heard(lambda test: self.choose_cell(self.train, test)), hook="test")
        arrows = [
            press(sign, heard(lambda way=way: self.move(*way)), hook=hook, tip=f"cell {hook}")
            for sign, hook, way in (
                ("▲", "up", (-1, 0)),
                ("▼", "down", (1, 0)),
                ("◀", "left", (0, -1)),
                ("▶", "right", (0, 1)),
            )
        ]
        self._kinds = choose("answers", ["all"], heard(self.choose_kind), hook="kind")
        back = press("◀ answer", heard(self.previous_answer), hook="previous", tip="previous answer")
        on = press("answer ▶", heard(self.next_answer), hook="next", tip="next answer")
        self._about, self._beside, self._numbers, self._answer = map(shows, ("about", "published", "cell", "answer"))
        self._grid = GridBox([]).add_class("mk-grid")
        box = stack(
            row(self._which, self._value), self._about, row(self._grid, self._beside),
            row(self._rows, self._columns, *arrows), self._numbers, row(self._kinds, back, on), self._answer,
        )  # fmt: skip
        self._show(box, anew=True)
        return box

    def static(self) -> str:
        drawn = map_html(self.table, self.map.by, self.value, (self.train, self.test))
        maps = side_by_side([f"<h4>{escape(self._title())}</h4>{drawn}", *self._published_html()])
        return page(f"{self._legend_html()}{maps}{self._cell_html()}{self._answer_html()}", "transfer")

    def summary(self) -> str:
        rows, columns = axes_of(self.table, self.map.by)
        size = f"{len(rows)} x {len(columns)} cells, of {len(self.maps)} maps"
        return f"{self.map.name}: {size}; at {self.train} → {self.test}"

    def _enter(self, chosen) -> None:
        with self._as_before_if_refused():
            self.map = chosen
            rows, columns = axes_of(self.table, chosen.by)
            self.train = self.train if self.train in rows else rows[0]
            self.test = self.test if self.test in columns else self.train if self.train in columns else columns[0]
            self._open()

    @contextmanager
    def _as_before_if_refused(self) -> Iterator[None]:
        """Stay at the cell that is shown where another cannot be: its name is not to stand over these numbers."""
        before = self.map, self.train, self.test
        try:
            yield
        except DataError:
            self.map, self.train, self.test = before
            self._show()  # the lists go back
            raise

    def _open(self) -> None:
        """What the chosen cell holds: its numbers, its answers and its confusions, of which all are shown."""
        numbers = cell_numbers(self.table, self.map, self.train, self.test)
        places, names, seed = cell_answers(self._slim, self.map, numbers)
        sides = [self._preds.iloc[rows] for rows in places]
        answers = Answers(sides, names) if sides else None
        confusion = (
            confusion_table(describe(sides[-1])).query("taken > 0").head(_CONFUSIONS) if sides else pd.DataFrame()
        )
        self._cell = {"numbers": numbers, "answers": answers, "confusion": confusion, "seed": seed}
        self.kind, self.place = "all", 0

    def _kinds_there(self) -> tuple[str, ...]:
        answers = self._cell["answers"]
        return ("all",) if answers is None else PAIRED if len(answers.answerers) > 1 else SINGLE

    def _chosen(self) -> list[int]:
        answers = self._cell["answers"]
        if answers is None:
            return []
        return answers.where(self.kind, range(len(answers.answerers))).nonzero()[0].tolist()

    def _show(self, box: Box | None = None, anew: bool = False) -> None:
        """Bring the controls and what they show into line with the state; nothing before they are built."""
        if self._root is None and box is None:
            return
        rows, columns = axes_of(self.table, self.map.by)
        with self.filling():
            for control, options, value in (
                (self._which, None, self.maps.index(self.map)), (self._value, None, self.value),
                (self._rows, rows, self.train), (self._columns, columns, self.test),
                (self._kinds, self._kinds_there(), self.kind),
            ):  # fmt: skip
                if options is not None:
                    control.options = [(option, option) for option in options]
                control.value = value
        if anew:
            self._lay_out(rows, columns)
            self._about.value = page(f"<h4>{escape(self._title())}</h4>{self._legend_html()}", "about")
        for cell, (button, text) in self._buttons.items():
            chosen = cell == (self.train, self.test)
            button.layout = self._frames["chosen" if chosen else "diagonal" if cell[0] == cell[1] else "other"]
            button.description = f"[{text}]" if chosen else text
        self._beside.value = page("".join(self._published_html()), "published")
        self._numbers.value = page(self._cell_html(), "cell")
        self._answer.value = page(self._answer_html(), "answer")

    def _lay_out(self, rows: list[str], columns: list[str]) -> None:
        """A button a cell; those of the map before are closed with their styles, because ipywidgets would keep them."""
        from ipywidgets import Button, Label, Layout

        for old in self._grid.children:
            old.style.close()
            old.close()
        for layout in self._frames.values():
            layout.close()
        ink = "var(--jp-content-font-color1, currentColor)"  # of the page: a button's own is white on dark colours
        frames = {"chosen": f"4px double {ink}", "diagonal": f"2px solid {ink}", "other": "0"}
        self._frames = {
            name: Layout(width="auto", height="2.4em", margin="1px", border=border) for name, border in frames.items()
        }
        name_layout, cell_at = self._frames.setdefault("name", Layout(width="auto")), cells_of(self.table, self.map.by)
        parts: list[Any] = [Label("trained ↓ tested →", layout=name_layout)]
        parts += [Label(short(column), layout=name_layout) for column in columns]
        self._buttons, choose_cell, limit = {}, self.heard(self.choose_cell), limit_of(self.table)
        for train in rows:
            parts.append(Label(train, layout=name_layout))
            for test in columns:
                cell = cell_at(train, test)
                text = "–" if cell is None else cell_text(cell, self.value)
                tip = f"trained on {train}, tested on {test}: {text}"
                button = Button(description=text, tooltip=tip, layout=self._frames["other"])
                button.style.button_color, button.style.text_color = colours_of(cell, self.value, limit)
                button.on_click(lambda _, cell=(train, test): choose_cell(*cell))
                self._buttons[train, test] = (button, text)
                parts.append(button.add_class("mk-map-cell"))
        self._grid.layout.grid_template_columns = f"minmax(6em, auto) repeat({len(columns)}, minmax(4.6em, 1fr))"
        self._grid.children = parts

    def _title(self) -> str:
        drawn = "accuracy (%)" if self.value == "accuracy" else "difference in points"
        return f"{self.map.name}: {drawn}"

    def _legend_html(self) -> str:
        return f"<p><small>{escape(_LEGEND)}</small></p>"

    def _published_html(self) -> list[str]:
        """Med-R1's own map, where it shows the same difference; and what is to be remarked of it."""
        if self.map.formats != ("no-think", "think-before"):
            return []
        theirs = published(f"med-r1-no-think-minus-think-{self.map.by}")
        drawn = map_html(theirs, self.map.by, "difference", hook="published-map")
        said = f"published: {theirs['quantity'].iloc[0]}, in points; no test and no interval was published"
        here = theirs[(theirs[self.map.train] == self.train) & (theirs[self.map.by] == self.test)]
        source = escape(theirs["source"].iloc[0])
        said_there = cell_text(here.iloc[0], "difference") if len(here) else ""
        cell = f"<p>{escape(self.train)} → {escape(self.test)}: {said_there}</p>" if len(here) else ""
        return [f"<h4>{escape(said)}</h4>{drawn}{cell}<p><small>{source}</small></p>"]

    def _cell_html(self) -> str:
        cell = self._cell
        return cell_html(self.train, self.test, cell["numbers"], cell["confusion"], self.map.formats, cell["seed"])

    def _answer_html(self) -> str:
        chosen, answers = self._chosen(), self._cell["answers"]
        if not chosen:
            return f'<p data-mk="none">No answer of this cell is of the kind "{escape(self.kind)}".</p>'
        question = chosen[self.place]
        asked = answers.question(question)
        replies = [(one, one.answer(question)) for one in answers.answerers]
        cells = [answer_html(one, reply) for one, reply in replies if reply is not None]
        letters = {one.name: reply["predicted"] for one, reply in replies if reply is not None}
        several = f", seed {number(self._cell['seed'])}" if (self._cell["numbers"] or {}).get("seeds", 1) > 1 else ""
        head = f"<p>{escape(self.kind)}: {self.place + 1} of {len(chosen)}{several}</p>"
        return head + question_html(asked, letters, self._pictures) + side_by_side(cells)
