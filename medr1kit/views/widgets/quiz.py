"""Beat the machine: a reader answers some questions, then sees how the model did, and a lookup without eyes.

A blind floor of 96 % is a number; to lose against it is an experience. The gold answer of a question is not in the page
before the question is answered, and nothing else that tells it: no id, no modality, no name of a file::

    mk.quiz(test)                            # you, and the lookup
    mk.quiz(test, preds, train=train)        # the model, too; the lookup learns from the training questions

Keys: A, B, C, … answer, Enter goes on; click into the panel first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.audits.floors import lookup
from medr1kit.audits.measures import interval
from medr1kit.audits.rows import Questions, encode, read_questions, units_of
from medr1kit.given import choice, questions_given, whole_number
from medr1kit.results.answers import Answers
from medr1kit.results.numbers import count, percent, points
from medr1kit.results.stats import paired_difference
from medr1kit.views.html import badge, escape, page, table
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import Panel, press, row, shows, stack
from medr1kit.views.widgets.question import question_html
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box

YOU, LOOKUP = "you", "a lookup without eyes"


def quiz(
    ds: Dataset, preds: pd.DataFrame | None = None, *, train: Dataset | None = None, n: int = 10, seed: int = 0
) -> Quiz:
    """Return a panel that asks a reader some questions, and then says how the reader, a model and a lookup did.

    Args:
        ds: the questions, from :func:`medr1kit.load_vqa`; without images phantoms are drawn again from their id.
        preds: a model's answers to them; questions that it did not answer are not asked. A table of several models,
            formats or seeds counts as several. None: the reader and the lookup alone.
        train: the questions that the lookup learns from; None: those of ``ds`` that are not asked.
        n: how many questions to ask, at most.
        seed: decides which, and their order.

    Returns:
        A :class:`Quiz`. The last expression of a cell shows it; without a running Python it is a sheet of the questions
        without their gold answers.

    Raises:
        DataError: if columns are missing, ``preds`` answer none of the questions or have another gold answer.
    """
    return Quiz(ds, preds, train, n, seed)


class Quiz(Panel):
    """The panel of :func:`quiz`.

    Attributes:
        rows: numbers of the rows that are asked, in their order.
        place: which of them is open, from 0; ``len(rows)`` when the result is shown.
        said: the letters that the reader answered so far, in the same order.
        seed: decides which questions are asked.
    """

    def __init__(self, ds: Dataset, preds: pd.DataFrame | None, train: Dataset | None, n: int, seed: int) -> None:
        questions_given(ds, "ds", ("id", "question", "options", "answer"))
        self._pictures = Pictures(ds if "image" in ds.column_names else None, "load the questions with images=FOLDER")
        self._ds = ds.remove_columns("image") if "image" in ds.column_names else ds
        self._train = None if train is None else read_questions(train, "train")
        self._units, _ = units_of(ds, "ds")
        self._letters, known = ({}, np.arange(len(ds))) if preds is None else _said(self._ds, Answers([preds]))
        self._known, self._n = known, min(whole_number(n, "n"), len(known))
        self._most = max(map(len, self._ds["options"]))
        self.draw(whole_number(seed, "seed", 0))

    # --- what the controls do ---

    def draw(self, seed: int) -> None:
        """Begin anew, with the questions of a seed."""
        rows = np.random.default_rng(seed).permutation(self._known)[: self._n]
        self.change(seed=seed, rows=rows, place=0, said=[])

    def answer(self, letter: str) -> None:
        """Answer the open question; a second answer to it does not count.

        Raises:
            DataError: if no option has the letter.
        """
        if self.place < len(self.rows) and not self.answered():
            self.said.append(choice(letter, "letter", LETTERS[: len(self._asked(self.place)["options"])]))
            self.fill()

    def next(self) -> None:
        """Open the next question once this one is answered; after the last one the result."""
        if self.answered():
            self.change(place=self.place + 1)

    def again(self) -> None:
        """Begin anew with other questions: those of the next seed."""
        self.draw(self.seed + 1)

    def answered(self) -> bool:
        """Return whether the open question is answered."""
        return len(self.said) > self.place

    # --- the result ---

    def result(self) -> pd.DataFrame:
        """Return who was right how often, of the questions that the reader has answered.

        Columns: ``who``, ``right`` (of ``n``; a tie of the lookup between k options counts 1/k), ``n``, ``accuracy``,
        ``low``, ``high`` (0..1, 95 %: patients are counted where the data names them, else questions). The last row is
        chance, which has no interval. Without other questions to learn from there is no lookup.
        """
        credits, units = self._credits(), self._counted()
        rows = [(who, one.sum(), len(one), one.mean(), *interval(one, units)) for who, one in credits.items()]
        chance = np.array([1 / len(self._asked(place)["options"]) for place in range(len(self.said))])
        rows.append(("chance", chance.sum(), len(chance), chance.mean(), np.nan, np.nan))
        return pd.DataFrame(rows, columns=["who", "right", "n", "accuracy", "low", "high"])

    def _credits(self) -> dict[str, np.ndarray]:
        """Who was right in which of the answered questions: 0..1 each."""
        if not self.said:
            raise DataError("no question is answered yet; answer one first")
        rows = self.rows[: len(self.said)]
        asked = read_questions(self._ds.select(rows), "ds")
        gold = np.array(asked.gold_letters(), dtype=object)
        said = {YOU: np.array(self.said, dtype=object)} | {who: one[rows] for who, one in self._letters.items()}
        credits = {who: (letters == gold).astype(float) for who, letters in said.items()}
        if (seen := self._seen()) is not None:
            credits[LOOKUP] = lookup(*encode(seen, asked))
        return credits

    def _seen(self) -> Questions | None:
        """What the lookup learns from; None where every question is asked."""
        others = np.setdiff1d(np.arange(len(self._ds)), self.rows)
        if self._train is not None or not len(others):
            return self._train
        return read_questions(self._ds.select(others), "ds")

    def _counted(self) -> np.ndarray | None:
        return None if self._units is None else self._units[self.rows[: len(self.said)]]

    # --- what is shown ---

    title = "Beat the machine"
    legend = "Answer each question; then it says which option is right, and ← who chose which."

    def html(self) -> str:
        """Return the open question, with the gold answer once it is answered; or the result; without style."""
        if self.place == len(self.rows):
            return self.result_html()
        keys = f"A to {LETTERS[len(self._asked(self.place)['options']) - 1]} answer, Enter goes on"
        place = f'<span data-mk="place">question {self.place + 1} of {len(self.rows)}</span>'
        told = self._told_html() if self.answered() else ""
        return f"<p><small>{place} · keys: {keys}</small></p>{self._question_html(self.place)}{told}"

    def _asked(self, place: int) -> dict[str, Any]:
        asked = self._ds[int(self.rows[place])]
        return asked | {"image_id": asked.get("image_id") or asked["id"]}

    def _question_html(self, place: int) -> str:
        answered = place < len(self.said)
        others = {who: letters[self.rows[place]] for who, letters in self._letters.items()}
        chosen = {YOU: self.said[place]} | others if answered else {}
        return question_html(self._asked(place), chosen, self._pictures, hidden=not answered)

    def _told_html(self) -> str:
        right = self.said[self.place] == self._asked(self.place)["answer"]
        return f'<p role="status" data-mk="verdict">{badge("right", "good") if right else badge("wrong", "bad")}</p>'

    def result_html(self) -> str:
        """Return who was right how often, and the questions that the reader missed, without style."""
        rows = [
            [escape(one.who), f"{one.right:.4g} of {one.n}", percent(one.accuracy, one.low, one.high)]
            for one in self.result().itertuples()
        ]
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in self._sentences())
        missed = [place for place, letter in enumerate(self.said) if letter != self._asked(place)["answer"]]
        head = f"<h4>You missed {len(missed)} of {count(len(self.said), 'question')}</h4>"
        shown = "".join(f'<div data-mk="missed">{self._question_html(place)}</div>' for place in missed)
        return table(rows, ["who", "right", "share, 95 % interval"], "result") + said + head + shown

    def _sentences(self) -> list[str]:
        """What the reader's lead over each of the others is worth, and what the lookup is."""
        credits, units, n, said = self._credits(), self._counted(), count(len(self.said), "question"), []
        for who in self._letters:
            lead = paired_difference(credits[who], credits[YOU], units)
            sure = lead.low > 0 or lead.high < 0
            worth = "more than chance would do" if sure else f"{n} cannot tell which of you is better"
            said.append(f"You against {who}: {points(*lead)}; {worth}.")
        if LOOKUP in credits:
            others = len(self._ds) - len(self.rows) if self._train is None else len(self._train)
            said.append(
                f"The lookup saw neither image nor question: it counted, in {count(others, 'other question')}, which "
                "option texts were right."
            )
        return said

    def static(self) -> str:
        if self.place == len(self.rows):
            return page(self.headline() + self.result_html(), "quiz")
        sheet = (f"<p><b>{place + 1}.</b></p>{self._question_html(place)}" for place in range(len(self.rows)))
        return page(self.headline() + "".join(sheet), "quiz")

    def summary(self) -> str:
        done = f"{len(self.said)} of {count(len(self.rows), 'question')} answered"
        if self.place < len(self.rows):
            return done
        return "\n".join(
            [done, *(f"{one.who}: {percent(one.accuracy, one.low, one.high)}" for one in self.result().itertuples())]
        )

    # --- the controls ---

    def build(self) -> Box:
        letters = [
            press(letter, self.heard(lambda letter=letter: self.answer(letter)), hook=f"option-{letter}")
            for letter in LETTERS[: self._most]
        ]
        for letter, button in zip(LETTERS, letters):
            button.add_class(f"mk-key-{letter.lower()}")
        on = press("next ▶", self.heard(self.next), hook="next", tip="next question: Enter").add_class("mk-key-enter")
        again = press("other questions", self.heard(self.again), hook="again")
        return stack(shows("main"), row(*letters, on, again)).add_class("mk-keyed")

    def state(self) -> dict[str, Any]:
        over = self.place == len(self.rows)
        n = 0 if over or self.answered() else len(self._asked(self.place)["options"])
        # In this order, for the browser hears of one after another: where no letter answers, Enter goes on already.
        state = {"next": {"disabled": over or not self.answered()}}
        state |= {f"option-{letter}": {"disabled": k >= n} for k, letter in enumerate(LETTERS[: self._most])}
        return state | {"main": self.html()}


def _said(ds: Dataset, answers: Answers) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The letters that each answerer said to each row, None where none was read; and the rows that all answered."""
    place = {name: k for k, name in enumerate(answers.ids)}
    asked = np.array([place.get(str(name), -1) for name in ds["id"]])
    known = np.flatnonzero(np.all([(asked >= 0) & (one.rows[asked] >= 0) for one in answers.answerers], axis=0))
    if not len(known):
        raise DataError(
            f"preds answer no question of ds: ids such as {answers.ids[0]!r}, and in ds such as {ds['id'][0]!r}; give "
            "predictions on these questions"
        )
    for column in ("answer", "options"):
        ours, theirs = ds[column], answers.column(column)
        if wrong := [k for k in known if list(ours[k]) != list(theirs[asked[k]])]:
            raise DataError(
                f"the {column} of {ds['id'][wrong[0]]!r} differs between ds and preds ({len(wrong)} such questions); "
                "give the questions that were asked"
            )
    names = ["the model"] if len(answers.answerers) == 1 else [one.name for one in answers.answerers]
    return {who: one.letters[asked] for who, one in zip(names, answers.answerers)}, known
