"""Read answers beside their question: what changed, why it was read so, what it was paid, and whether it is true.

Scores say that something changed; reading says what. The inspector puts one question at a time on the table, with its
image and two or three completions beside each other: before and after training, SFT and GRPO, thinking first and
answering first. It opens where answers differ, at a question that a rule chose (:mod:`medr1kit.results.opening`); all
others are left and right of it. Filters lead to the questions worth reading, a note is kept for each, and the selection
with its notes goes to a CSV file::

    mk.inspect_outputs(before, after)                       # two tables
    mk.inspect_outputs(preds[preds["method"] != "base"])    # one table with several methods or formats
    mk.inspect_outputs(preds, ask=mk.thought_asker(model, processor, data))    # edit the thought, see the letters move
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.given import kind, texts_given
from medr1kit.results.answers import PAIRED, SINGLE, Answers
from medr1kit.results.opening import where_to_open
from medr1kit.results.thoughts import ANYWHERE, ON_PHANTOMS, thoughts_given
from medr1kit.views.csv import options_cell
from medr1kit.views.html import escape, page
from medr1kit.views.look import in_order
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import ALL, choose, number, press, row, shows, slide, stack, steps, write
from medr1kit.views.widgets.notes import NotesPanel
from medr1kit.views.widgets.question import answered_html
from medr1kit.views.widgets.thought import Ask, asked, letters_html, recorded_html, thinks_first, thoughts_of
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box, DOMWidget

NOTED = "with a note"
_SIGNS = (
    "✓ gold: the right option; ←: who chose it. In a thought about a drawn image ✓ marks a true statement, ✗ a false "
    "one; a wavy line is under what the format does not allow there."
)
_WENT = " fixed: wrong in the first answer, right in the last; broken: the other way; disagree: two letters."
_NOBODY = -1  # in the list of the third place: a control cannot show None as chosen
_WRITTEN = {"predicted": "predicted", "correct": "correct", "well_formed": "well_formed", "completion": "text"}


def inspect_outputs(
    before: pd.DataFrame,
    after: pd.DataFrame | None = None,
    *others: pd.DataFrame,
    data: Dataset | None = None,
    names: Sequence[str] | None = None,
    ask: Ask | None = None,
    thoughts: pd.DataFrame | None = None,
) -> Inspector:
    """Return a widget that shows answers side by side with their question.

    Args:
        before: predictions. Where a table holds several models, formats or seeds, each is an answerer of its own.
        after: predictions on the same questions, for example after training.
        others: further ones. Two or three answers are shown at a time; which ones can be chosen.
        data: the questions with their images, joined on ``id``. None: phantoms are redrawn from their image id, and of
            other images it is said that they are not given.
        names: a name for each answerer; made from what tells them apart by default.
        ask: from :func:`medr1kit.thought_asker`, with the model whose answers are shown last among those that were to
            think first. Their thought can be edited or replaced, and the probabilities of the letters are seen to move.
        thoughts: from :func:`medr1kit.predict_thoughts`: what was answered after other thoughts is shown, too.

    Returns:
        An :class:`Inspector`. The last expression of a cell shows it; everything its controls do is a method. Of two or
        more answerers it opens at a question that the last one answers otherwise than the first, in the middle of those
        that went from wrong to right by how much truer the thought became, and says so; of one at the first question.

    Raises:
        DataError: if a column is missing, an answerer answers a question twice, gold answers differ, ``data`` or
            ``thoughts`` holds none of the questions, or ``ask`` is no function.
    """
    frames = [frame for frame in (before, after, *others) if frame is not None]
    answers, pictures = Answers(frames, None if names is None else texts_given(names, "names")), Pictures(data)
    for frame in frames if data is not None else ():
        pictures.refuse_others(frame, "answers")
    if ask is not None and not callable(ask):
        raise DataError(f"ask is {kind(ask)}; give what thought_asker(model, processor, data) returns")
    if thoughts is not None and not (thoughts := thoughts_given(thoughts))["id"].isin(answers.ids).any():
        raise DataError("thoughts= holds none of these questions; predict_thoughts(…) on the same data")
    return Inspector(answers, pictures, ask, thoughts)


class Inspector(NotesPanel):
    """The widget of :func:`inspect_outputs`.

    Attributes:
        answers: the questions and who answered them.
        shown: numbers of the answerers that are shown, from left to right.
        selection: numbers of the questions that the filters leave.
        position: which of them is shown, from 0.
        kind, modality, task, text: the filters; "all" or "" lets everything pass.
        opened: the number of the question at which the panel opened, and why.
        notes: question id -> what the reader wrote.
        edited: question id -> the thought that the reader put in place of the model's own.
    """

    def __init__(
        self, answers: Answers, pictures: Pictures, ask: Ask | None = None, thoughts: pd.DataFrame | None = None
    ) -> None:
        super().__init__()
        self.edited, self._recorded = {}, thoughts
        self._asks = ask is not None and any(map(thinks_first, answers.answerers))
        names = (*ANYWHERE, *(ON_PHANTOMS if "phantoms" in set(map(str, answers.column("source"))) else ()))
        self._put = {name: "-".join(["put", *re.findall(r"\w+", name)]) for name in names}  # thought -> its button
        self._shares = lru_cache(64)(lambda question, thought: asked(ask, answers.question(question), thought))
        self._tried = lru_cache(64)(lambda one, question: thoughts_of(answers.answerers[one], question))
        self.answers, self.pictures, self.kind = answers, pictures, ALL
        self.shown = list(range(min(len(answers.answerers), 3 if len(answers.answerers) == 3 else 2)))
        self.selection, self.opened = np.arange(len(answers)), where_to_open(answers, self.shown)
        self.position = self.opened[0]

    # --- what the controls do -----------------------------------------------------------------------------------------

    def choose_kind(self, kind: str) -> None:
        """Keep "all", or the questions that are "fixed", "broken", "both wrong", … between the answers shown."""
        self.select(kind=kind)

    def show(self, place: int, answerer: int | None) -> None:
        """Show another answerer.

        Args:
            place: 0 for the first, 1 for the second, 2 for the third.
            answerer: its number; None leaves the third place empty.

        Raises:
            DataError: if there is no such answerer, or another place than the third were left empty.
        """
        n = len(self.answers.answerers)
        if answerer not in range(n) and not (answerer is None and place == 2):
            raise DataError(f"there is no answerer {answerer!r}; they are numbered 0 to {n - 1}")
        self.shown[place : place + 1] = [] if answerer is None else [answerer]
        self.select()

    def go(self, number: int) -> None:
        """Show a question of the selection by its number, from 1; beyond the ends the nearest one."""
        number = int(np.clip(number - 1, 0, max(0, len(self.selection) - 1)))
        if number != self.position:
            self.change(position=number)

    def next(self) -> None:
        """Show the next question of the selection."""
        self.go(self.position + 2)

    def previous(self) -> None:
        """Show the question before."""
        self.go(self.position)

    def select(self, **filters: str) -> None:
        """Choose anew, and stay at the question that is shown if it is still among the chosen.

        A text is looked for in stems, options and the completions that are shown.
        """
        if filters.get("kind", self.kind) not in self.kinds():
            raise DataError(f"unknown filter {filters['kind']!r}; use one of {', '.join(self.kinds())}")
        here = self.selection[self.position] if len(self.selection) else -1
        vars(self).update(filters)
        self.selection = self._chosen()
        found = np.flatnonzero(self.selection == here)
        self.position = int(found[0]) if len(found) else 0
        self.fill()

    def think(self, thought: str) -> None:
        """Put a thought into the model's mouth, in place of its own."""
        if (key := self.key()) is not None:
            self.edited[key] = thought
            self.fill()

    def put(self, name: str) -> None:
        """Put in a thought by its name, one of :meth:`thoughts`."""
        if name not in (thoughts := self.thoughts()):
            raise DataError(f"there is no thought {name!r} here; use one of {', '.join(thoughts)}")
        self.think(thoughts[name])

    def thoughts(self) -> dict[str, str]:
        """Return by their names the thoughts that can be put in; none where nobody shown thought before answering."""
        return self._tried(*thinker) if (thinker := self._thinker()) else {}

    def _thinker(self) -> tuple[int, int] | None:
        """The last answerer shown that thought before it answered the question that is shown, and this question."""
        if not len(self.selection):
            return None
        question, some = int(self.selection[self.position]), self.answers.answerers
        thought = (k for k in reversed(self.shown) if thinks_first(some[k]) and some[k].rows[question] >= 0)
        return next(((k, question) for k in thought), None)

    @property
    def thought(self) -> str:
        """The thought that stands in the model's mouth: its own, until a reader puts in another."""
        return self.edited.get(self.key(), self.thoughts().get("own", ""))

    def selected(self) -> np.ndarray:
        return self.selection

    def key(self) -> str | None:
        return str(self.answers.ids[self.selection[self.position]]) if len(self.selection) else None

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

    # --- what is shown ------------------------------------------------------------------------------------------------

    title = "Read answers side by side"

    @property
    def legend(self) -> str:
        """The signs in words."""
        return _SIGNS + _WENT * (len(self.shown) > 1)

    def html(self) -> str:
        """Return the question that is shown and its answers, without style."""
        if not len(self.selection):
            return '<p data-mk="none">No question is left; loosen the filters.</p>'
        some = [self.answers.answerers[k] for k in self.shown]
        answered = answered_html(self.answers, int(self.selection[self.position]), some, self.pictures, self.hides())
        if self.hides() or self._recorded is None or not self.thoughts():
            return answered
        recorded = self._recorded[self._recorded["id"] == self.key()]
        return answered + (recorded_html(recorded) if len(recorded) else "")

    def letters(self) -> str:
        """Return how probable the letters are after its own thought and after the one put in, without style."""
        if not self._asks or self.hides() or (thinker := self._thinker()) is None:
            return ""
        try:
            own, now = (self._shares(thinker[1], thought) for thought in (self.thoughts()["own"], self.thought))
        except DataError as error:
            return f'<p class="mk-warn" data-mk="chances">{escape(error, 600)}</p>'
        return letters_html(self.answers.answerers[thinker[0]].answer(thinker[1]), own, now)

    def status(self) -> str:
        """Return what the filters leave, and what changed between the first and the last answer, without style."""
        words = [word for word in self.kinds() if word not in (ALL, NOTED)]
        counts = ", ".join(f"{word} {int(self.answers.where(word, self.shown).sum()):,}" for word in words)
        left = f"<b>{len(self.selection):,}</b> of {len(self.answers):,} questions"
        (question, how), at = self.opened, self.selection[self.position : self.position + 1]
        chosen = f'<p data-mk="how"><small>This question was chosen by rule: {how}.</small></p>'
        told = how and question in at and not self.hides()  # who was right would tell the gold
        return f'<p data-mk="status">{left} · in all: {counts}</p>' + chosen * bool(told)

    def static(self) -> str:
        place = f"<p><small>question {self.position + 1:,} of {len(self.selection):,}</small></p>"
        if letters := self.letters():
            letters = f'<p data-mk="thought"><b>Thought:</b> {escape(self.thought)}</p>{letters}'
        shown = (place if len(self.selection) else "") + self.html() + letters
        return page(self.headline() + self.status() + shown + self.noted(), "inspector")

    def summary(self) -> str:
        names = ", ".join(self.answers.answerers[k].name for k in self.shown)
        return f"{len(self.selection)} of {len(self.answers)} questions answered by {names}; {len(self.notes)} notes"

    # --- the controls -------------------------------------------------------------------------------------------------

    def build(self) -> Box:
        heard, places = self.heard, []
        names = [(one.name, k) for k, one in enumerate(self.answers.answerers)]
        for place, hook in enumerate(self._places()):
            show = heard(lambda answerer, place=place: self.show(place, None if answerer == _NOBODY else answerer))
            some = [*names, ("none", _NOBODY)] if place == 2 else names
            places.append(choose(f"{hook.removeprefix('show-')} answer by", some, show, hook=hook))
        there = (in_order(column, self.answers.column(column)) for column in ("modality", "task"))
        filters = choose("show", self.kinds(), heard(self.choose_kind), hook="kind"), *self.filters(*there, "search")
        at = number("question", heard(self.go), hook="number", low=1, high=1, value=1)
        slider = slide("or slide to it", heard(self.go), hook="slider", low=1, high=1, value=1)
        slider.readout = False
        return stack(
            *([row(*places)] if places else []), row(*filters),
            row(*steps("", heard(self.previous), heard(self.next)), at, slider, *self.hiding()),
            shows("status"), shows("main"), *self._mouth(), *self.taken_away(),
        )  # fmt: skip

    def _mouth(self) -> tuple[DOMWidget, ...]:
        """The field for a thought, the buttons that put one in, and the letters after it; none if nobody is asked."""
        if not self._asks:
            return ()
        put = [press(name, self.heard(partial(self.put, name)), hook=hook) for name, hook in self._put.items()]
        return write("thought", self.heard(self.think), hook="thought", lines=4), row(*put), shows("letters")

    def _places(self) -> list[str]:
        """The hooks of the lists that say whose answers are shown; one answerer needs none."""
        n = len(self.answers.answerers)
        return ["show-first", "show-second", "show-third"][: n if n > 1 else 0]

    def state(self) -> dict[str, Any]:
        here = {"max": max(1, len(self.selection)), "value": self.position + 1}
        state = super().state() | dict(zip(self._places(), [*self.shown, _NOBODY]))
        state |= {"kind": self.kind, "search": self.text, "number": here, "slider": here}
        state |= {"status": self.status(), "main": self.html()}
        if self._asks:
            thoughts = self.thoughts()
            state |= {hook: {"disabled": name not in thoughts} for name, hook in self._put.items()}
            state |= {"thought": {"value": self.thought, "disabled": not thoughts}, "letters": self.letters()}
        return state

    def sheet(self) -> pd.DataFrame:
        """Return the selection, a row a question.

        Columns: ``id``, ``image_id``, ``modality``, ``task``, ``question``, ``options``, ``gold``; for each answerer
        that is shown ``… predicted``, ``… correct``, ``… well_formed`` and ``… completion``; and ``note``.
        """
        answers, chosen = self.answers, self.selection
        columns = {name: answers.column(name)[chosen] for name in ("id", "image_id", "modality", "task", "question")}
        columns["options"] = [options_cell(options) for options in answers.column("options")[chosen]]
        columns["gold"] = answers.column("answer")[chosen]
        for one in (answers.answerers[k] for k in self.shown):
            for label, column in _WRITTEN.items():
                columns[f"{one.name} {label}"] = one.column(column)[chosen]
        columns["note"] = [self.notes.get(str(name), "") for name in columns["id"]]
        return pd.DataFrame(columns, dtype=object)
