"""A training in the cell that runs it: the groups of the current step as they are paid, and buttons to hold it.

This is the panel of :func:`medr1kit.train_grpo` with ``live=True``. It knows nothing of models. The training tells it
the completions of each step and when the step has ended, and asks whether to wait or to stop
(:mod:`medr1kit.training.live`). Afterwards its cell holds the last step as plain HTML.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.views.html import badge, escape, page
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import Panel, press, row, shows, stack, steps
from medr1kit.views.widgets.curves import curve
from medr1kit.views.widgets.question import first_to_teach, group_html, groups_of, label_of, teaches

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box


class LivePanel(Panel):
    """The panel of a training that is going on; every button has a method of its own.

    Args:
        data: the questions that are trained on, with their images.

    Attributes:
        step: steps that are done.
        of: steps that were asked for.
        group: which group of the step is shown, from 0.
        paused: whether the training is to wait after each step, for a click.
        waiting: whether it does so now.
        stopped: whether it is to end with the step that is going on.
        ended: whether it has.
    """

    def __init__(self, data: Dataset | None = None):
        self._pictures, self._lock = Pictures(data), threading.RLock()  # a click may come in a thread of its own
        self.step = self.of = self.group = 0
        self.paused = self.waiting = self.stopped = self.ended = False
        self._single = 0  # steps that may be taken although it is paused
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._cut: tuple[Sequence, list[pd.DataFrame]] = ((), [])  # these rows, and their groups
        self._paid: dict[int, float] = {}  # step -> mean of its rewards, summed

    # --- what the buttons do ---

    def pause(self) -> None:
        """Wait once the step that is going on has ended; or go on."""
        self.change(paused=not self.paused, _single=0)

    def one_step(self) -> None:
        """Take one step, and wait again."""
        self.change(paused=True, _single=self._single + self.paused)

    def stop(self) -> None:
        """End the training after this step, and keep what it has learned."""
        self.change(stopped=True)

    def next_group(self) -> None:
        """Show the group after this one."""
        self._turn(1)

    def previous_group(self) -> None:
        """Show the group before this one."""
        self._turn(-1)

    def _turn(self, by: int) -> None:
        n = max(1, len(self._groups))
        self.change(group=(self.group + by) % n)

    # --- what the training tells and asks ---

    @property
    def waits(self) -> bool:
        """Whether the training is not to take the next step yet."""
        return self.paused and not self.stopped and not self._single

    def paid(self, rows: Sequence[Mapping[str, Any]], rewards: Sequence[str]) -> None:
        """Take the completions that were sampled for a step; :meth:`fill` shows them.

        Args:
            rows: as they go to the run's rollouts.
            rewards: names of the columns that say what was paid.
        """
        self._rows = rows
        sums = [sum(row[name] or 0.0 for name in rewards) for row in rows if row["used"]]
        self._paid[rows[0]["step"]] = sum(sums) / len(sums)

    def end_step(self, step: int) -> None:
        """Count a step as done."""
        self.step, self._single = step, max(0, self._single - 1)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the panel in the running cell while this lasts, and leave it there as plain HTML."""
        from IPython.display import display

        place = display(self, display_id=True)
        try:
            yield
        except BaseException:
            self.stopped = False  # or not only: nothing is kept
            raise
        finally:
            self.change(ended=True)
            place.update({"text/plain": self.summary(), "text/html": self.static()}, raw=True)

    # --- what is shown ---

    title = "A training as it runs"
    legend = "A group is the completions of one question. What is paid above the group's mean is made likelier."

    @property
    def _groups(self) -> list[pd.DataFrame]:
        """The groups of the rows; the first that teaches something is opened."""
        if self._cut[0] is not self._rows:
            groups = groups_of(pd.DataFrame(self._rows))
            self._cut = self._rows, groups
            self.group = first_to_teach(groups)
        return self._cut[1]

    def build(self) -> Box:
        return stack(
            row(
                press("pause", self.pause, hook="pause", tip="wait after this step, or go on"),
                press("one step", self.one_step, hook="one", tip="take one step and wait again"),
                press("stop and keep", self.stop, hook="stop", tip="end after this step; what was learned is saved"),
                *steps("group", self.previous_group, self.next_group),
            ),
            shows("about"),
            shows("group"),
        )

    def state(self) -> dict[str, Any]:
        over = self.ended or self.stopped
        return {
            "pause": {"description": "go on" if self.paused else "pause", "disabled": over},
            "one": {"disabled": over or not self.paused},
            "stop": {"disabled": over},
            "about": self._about_html(),
            "group": self._group_html(),
        }

    def fill(self) -> None:
        with self._lock:
            super().fill()

    def static(self) -> str:
        return page(self.headline() + self._about_html() + self._group_html(), "live")

    def summary(self) -> str:
        return f"training: step {self.step} of {self.of}, {self._standing()[0]}"

    def _standing(self) -> tuple[str, str]:
        """What the training does now, and the kind of badge that says so."""
        if self.ended:
            whole, kept = ("ended", "plain"), ("stopped and kept", "good")
            return whole if self.step == self.of else kept if self.stopped else ("broken off", "bad")
        if self.stopped:
            return "stops after this step", "warn"
        if self.waiting and self.waits:
            return "paused", "warn"
        return ("running", "good") if not self.paused else ("pauses after this step", "warn")

    def _about_html(self) -> str:
        said = "the first completions are being sampled"
        if self._groups:
            dull = sum(not teaches(group) for group in self._groups)
            said = f"{dull} of {len(self._groups)} groups teach nothing: all their completions are paid alike"
        return f'<p><b data-mk="step">step {self.step} of {self.of}</b> {badge(*self._standing())} {said}</p>'

    def _group_html(self) -> str:
        if not self._groups:
            return ""
        rows, (at, *_) = self._groups[self.group], reversed(self._paid)
        drawn = curve("mean pay of a step", list(self._paid), {"": list(self._paid.values())}, at=at)
        label = label_of(rows, self.group, len(self._groups))
        group = group_html(rows, self._pictures, f"<figure>{drawn}</figure>")
        return f'<div class="mk-lit"><h4 data-mk="label">step {at}, group {escape(label)}</h4>{group}</div>'
