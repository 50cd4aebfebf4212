"""Transfer, cell by cell: what training on one modality or task does to another, and the answers behind the number.

Med-R1 prints heat maps. A heat map invites one to read every cell, and 64 cells hold three that look significant where
nothing happened. So each cell here says whether it may be chance, and opens: its numbers with their intervals, what was
taken for what, and the answers themselves. Differences of two formats stand beside the map that Med-R1 published::

    mk.explore_transfer(preds)      # predictions of several trained models and of the base, below each other
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.results.answers import PAIRED, SINGLE, Answers
from medr1kit.results.errors.kinds import describe
from medr1kit.results.errors.letters import confusion_table
from medr1kit.results.maps import Map, cell_answers, cell_numbers, map_table, maps_of, slim
from medr1kit.results.numbers import number
from medr1kit.views.html import escape, page, side_by_side
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import Panel, choose, close, press, row, shows, stack, steps
from medr1kit.views.widgets.heat import axes_of, cell_html, cells_of, map_html, published_html, short
from medr1kit.views.widgets.question import answered_html

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box

_CONFUSIONS = 6


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
        self._pictures.refuse_others(preds, "answers")
        self.maps = maps_of(self._slim)
        self._table = cache(partial(map_table, self._slim))
        self.value, self.train, self.test = "difference", "", ""
        self._enter(self.maps[0])

    # --- what the controls do ---

    def choose_map(self, place: int) -> None:
        """Show another map, by its number in ``maps``; the cell stays where the new map has it."""
        self._enter(self.maps[place])
        self.fill()

    def choose_value(self, value: str) -> None:
        """Draw the "difference" or the "accuracy" of each cell."""
        self.change(value=value)

    def choose_cell(self, train: str, test: str) -> None:
        """Open a cell: what was trained on, and what was tested."""
        self._open(self.map, train, test)
        self.fill()

    def move(self, down: int, across: int) -> None:
        """Open the cell so many rows down and columns across; over an edge it goes on at the other side."""
        rows, columns = axes_of(self.table, self.map.by)
        train = rows[(rows.index(self.train) + down) % len(rows)]
        self.choose_cell(train, columns[(columns.index(self.test) + across) % len(columns)])

    def choose_kind(self, kind: str) -> None:
        """Keep the answers of the cell that are "fixed", "broken", "both wrong", …"""
        self.change(kind=kind, place=0)

    def next_answer(self) -> None:
        """Show the next answer of the cell; after the last comes the first."""
        self.change(place=(self.place + 1) % max(1, len(self._chosen())))

    def previous_answer(self) -> None:
        """Show the answer before."""
        self.change(place=(self.place - 1) % max(1, len(self._chosen())))

    @property
    def table(self) -> pd.DataFrame:
        """The cells of the map that is shown; see :func:`medr1kit.results.maps.map_table`."""
        return self._table(self.map)

    # --- what is shown ---

    title = "What training on one thing does to another"
    legend = (
        "A row is what was trained on, a column what was tested. Differences: orange is better, violet worse; ? may be "
        "chance (p above 0.05, corrected for the whole map); – nothing to compare with; thick frame: tested on what "
        "was trained. Choose a cell: its numbers and its answers stand below."
    )

    def build(self) -> Box:
        from ipywidgets import GridBox

        self._drawn, self._buttons, self._frames = None, {}, {}
        heard, names = self.heard, [(one.name, place) for place, one in enumerate(self.maps)]
        which = choose("map", names, heard(self.choose_map), hook="map-choice", width="min(40em, 100%)")
        value = choose("cells show", ["difference", "accuracy"], heard(self.choose_value), hook="value")
        train = choose("trained on", [""], heard(lambda train: self.choose_cell(train, self.test)), hook="train")
        test = choose("tested on", [""], heard(lambda test: self.choose_cell(self.train, test)), hook="test")
        ways = (("▲", "up", -1, 0), ("▼", "down", 1, 0), ("◀", "left", 0, -1), ("▶", "right", 0, 1))
        arrows = [press(sign, heard(partial(self.move, *way)), hook=to, tip=f"cell {to}") for sign, to, *way in ways]
        kinds = choose("answers", ["all"], heard(self.choose_kind), hook="kind")
        return stack(
            row(which, value), shows("about"), row(GridBox([]).add_class("mk-grid"), shows("published")),
            row(train, test, *arrows), shows("cell"),
            row(kinds, *steps("answer", heard(self.previous_answer), heard(self.next_answer))), shows("answer"),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        rows, columns = axes_of(self.table, self.map.by)
        kinds = ("all",) if self._answers is None else PAIRED if len(self._answers.answerers) > 1 else SINGLE
        return {
            "map-choice": self.maps.index(self.map),
            "value": self.value,
            "train": {"options": rows, "value": self.train},
            "test": {"options": columns, "value": self.test},
            "kind": {"options": kinds, "value": self.kind},
            "about": f"<h4>{escape(self._title())}</h4>",
            "published": "".join(published_html(self.map, (self.train, self.test))),
            "cell": self._cell_html(),
            "answer": self._answer_html(),
        }

    def fill(self) -> None:
        super().fill()
        if self._root is None:
            return
        if self._drawn != (self.map, self.value):
            self._lay_out()
        for cell, (button, text) in self._buttons.items():
            chosen = cell == (self.train, self.test)
            button.layout = self._frames["chosen" if chosen else "diagonal" if cell[0] == cell[1] else "other"]
            button.description = f"[{text}]" if chosen else text

    def static(self) -> str:
        drawn = map_html(self.table, self.map.by, self.value, (self.train, self.test))
        theirs = published_html(self.map, (self.train, self.test))
        maps = side_by_side([f"<h4>{escape(self._title())}</h4>{drawn}", *theirs])
        return page(f"{self.headline()}{maps}{self._cell_html()}{self._answer_html()}", "transfer")

    def summary(self) -> str:
        rows, columns = axes_of(self.table, self.map.by)
        size = f"{len(rows)} x {len(columns)} cells, of {len(self.maps)} maps"
        return f"{self.map.name}: {size}; at {self.train} → {self.test}"

    def _enter(self, chosen: Map) -> None:
        rows, columns = axes_of(self._table(chosen), chosen.by)
        train = self.train if self.train in rows else rows[0]
        self._open(chosen, train, next(name for name in (self.test, train, *columns) if name in columns))

    def _open(self, chosen: Map, train: str, test: str) -> None:
        """Open a cell: its numbers, its answers, all of them, and its confusions; one that is refused changes nothing.

        The name of another cell is not to stand over the numbers of this one.
        """
        numbers = cell_numbers(self._table(chosen), chosen, train, test)
        places, names, seed = cell_answers(self._slim, chosen, numbers)
        sides = [self._preds.iloc[rows] for rows in places]
        answers = Answers(sides, names) if sides else None
        confusion = confusion_table(describe(sides[-1]), least=1).head(_CONFUSIONS).to_dict("records") if sides else []
        self._numbers, self._seed = numbers, seed
        self._answers, self._confusion = answers, confusion
        self.map, self.train, self.test, self.kind, self.place = chosen, train, test, "all", 0

    def _chosen(self) -> list[int]:
        shown = range(len(self._answers.answerers)) if self._answers else ()
        return self._answers.where(self.kind, shown).nonzero()[0].tolist() if shown else []

    def _lay_out(self) -> None:
        """A button a cell; those of the map before are closed with their styles, because ipywidgets would keep them."""
        from ipywidgets import Button, Label, Layout

        grid, (_, columns) = self.controls["grid"], axes_of(self.table, self.map.by)
        close(*grid.children, *self._frames.values())
        ink = "var(--jp-content-font-color1, currentColor)"  # of the page: a button's own is white on dark colours
        borders = {"chosen": f"4px double {ink}", "diagonal": f"2px solid {ink}", "other": "0"}
        size = {"width": "auto", "height": "2.4em", "margin": "1px"}
        self._frames = {name: Layout(**size, border=border) for name, border in borders.items()}
        named, choose_cell = self._frames.setdefault("name", Layout(width="auto")), self.heard(self.choose_cell)
        parts: list[Any] = [Label(name, layout=named) for name in ("trained ↓ tested →", *map(short, columns))]
        self._drawn, self._buttons = (self.map, self.value), {}
        for (train, test), (text, *colours) in cells_of(self.table, self.map.by, self.value).items():
            if test == columns[0]:
                parts.append(Label(train, layout=named))
            tip = f"trained on {train}, tested on {test}: {text}"
            button = Button(description=text, tooltip=tip, layout=self._frames["other"]).add_class("mk-map-cell")
            button.on_click(lambda _, cell=(train, test): choose_cell(*cell))
            button.style.button_color, button.style.text_color = colours
            self._buttons[train, test] = (button, text)
            parts.append(button)
        grid.layout.grid_template_columns = f"minmax(6em, auto) repeat({len(columns)}, minmax(4.6em, 1fr))"
        grid.children = parts

    def _title(self) -> str:
        return f"{self.map.name}: {'accuracy (%)' if self.value == 'accuracy' else 'difference in points'}"

    def _cell_html(self) -> str:
        return cell_html(self.train, self.test, self._numbers, self._confusion, self.map.formats, self._seed)

    def _answer_html(self) -> str:
        chosen = self._chosen()
        if not chosen:
            return f'<p data-mk="none">No answer of this cell is of the kind "{escape(self.kind)}".</p>'
        several = f", seed {number(self._seed)}" if (self._numbers or {}).get("seeds", 1) > 1 else ""
        head = f"<p>{escape(self.kind)}: {self.place + 1} of {len(chosen)}{several}</p>"
        return head + answered_html(self._answers, chosen[self.place], self._answers.answerers, self._pictures)
