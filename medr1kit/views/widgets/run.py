"""A training run, step by step: its curves, and the groups of completions that each step learned from.

GRPO learns from differences *within* a group: the completions of one question, what each was paid, and its advantage,
which is its reward compared with those of its group. A curve says that the reward rises. A group says what it was paid
for. This panel shows both for any step of a run folder, also of one that is being written::

    mk.explore_run("runs/ct")       # a folder, or a run that was loaded

Metrics are small and held; completions are read a step at a time (:mod:`medr1kit.results.rollouts`).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.given import kind, path_given
from medr1kit.results.numbers import number
from medr1kit.results.rollouts import Rollouts
from medr1kit.results.runs import Run, load_run
from medr1kit.views.html import badge, escape, page, table
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.base import Panel, choose, press, row, shows, slide, stack, steps, tick
from medr1kit.views.widgets.curves import curve
from medr1kit.views.widgets.question import first_to_teach, group_html, groups_of, label_of
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from ipywidgets import Box

_PATIENCE = 600  # seconds without news after which a run that did not end is taken for a killed one
_EXTRAS = ("watch/alarms", "entropy", "grad_norm")  # what is drawn beside the curves at first, where it was logged
_WATCHED = ("well_formed", "accuracy", "repetition", "several_answers", "truncated", "top_letter")


def explore_run(run: Run | str | Path, data: Dataset | None = None) -> RunPanel:
    """Return a panel of a run's curves and of the groups behind each step.

    Args:
        run: a run folder, or a run; also one that is going on. Its folder is read anew at each look.
        data: the questions it was trained on, for their images; None: phantoms are drawn again from their id.

    Raises:
        DataError: if there is no run, or ``data`` has no images.
    """
    return RunPanel(run, data)


class RunPanel(Panel):
    """The panel of :func:`explore_run`; every control has a method of its own, so it can be driven without a browser.

    Attributes:
        step: the step that is shown.
        group: which of its groups, from 0; of a step that is opened the first that teaches something.
        following: whether it looks for news by itself.
        trouble: why the last look failed; empty if it did not.
        every: seconds between two looks while it follows a run.
    """

    every = 5.0

    def __init__(self, run: Run | str | Path, data: Dataset | None = None):
        if not isinstance(run, (Run, str, os.PathLike)):
            raise DataError(f"run is {kind(run)}; pass the run that a training returned, or its folder")
        self._path = run.path if isinstance(run, Run) else path_given(run, "run")
        self._pictures = Pictures(data)
        self._lock, self._stop, self._news = threading.RLock(), threading.Event(), 0.0
        self.following, self.trouble, self.extra = False, "", None
        self._rollouts = Rollouts(load_run(self._path))
        self.steps, self.step, self.group = [0], 0, 0
        self._seen = self._written()
        self._read_all()

    @property
    def growing(self) -> bool:
        """Whether the run is being written, or was killed."""
        return self._rollouts.growing or not (self._rollouts.complete or "summary" in self._run.config)

    # --- what the controls do ---

    def go_to(self, step: int) -> None:
        """Show a step: its place on the curves, and its first group that teaches something."""
        with self._lock:
            self.step, self.group = int(step), None
            self._read_groups()
            self.fill()

    def choose_group(self, group: int | None) -> None:
        """Show a group of the step, counted from 0; beyond the last comes the first."""
        with self._lock:
            self.change(group=0 if group is None or not self._groups else group % len(self._groups))

    def next_group(self) -> None:
        """Show the group after this one."""
        self.choose_group(self.group + 1)

    def previous_group(self) -> None:
        """Show the group before this one."""
        self.choose_group(self.group - 1)

    def choose_extra(self, column: str) -> None:
        """Draw another column of the metrics beside the curves."""
        self.change(extra=column)

    def refresh(self) -> bool:
        """Read what the run has written since the last look; return whether there was anything.

        A reader who stands at the last step is taken along to the new one. What cannot be read is said in ``trouble``.
        """
        with self._lock:
            if (written := self._written()) == self._seen:
                return False
            self._seen, self.trouble = written, ""
            try:
                self._rollouts.look()
                self._read_all()
            except (DataError, OSError) as error:
                self.trouble = str(error)
            self.fill()
            return True

    def _read_all(self) -> None:
        last = self.step == self.steps[-1]
        self._run = load_run(self._path)
        self.metrics = self._run.metrics
        numbers = self.metrics.apply(pd.to_numeric, errors="coerce").dropna(axis=1, how="all")
        logged = numbers["step"].dropna().astype(int) if "step" in numbers else []
        self.steps = sorted({*logged, *self._rollouts.steps}) or [0]
        self._columns = [column for column in numbers if column != "step"]
        self.extra = self.extra or next((column for column in _EXTRAS if column in self._columns), None)
        if last or not self.steps[0] <= self.step <= self.steps[-1]:
            self.step, self.group = self.steps[-1], None
        self._read_groups()

    def follow(self, on: bool) -> None:
        """Look for news every few seconds, or no more. It ends by itself with the run, or when the panel is closed."""
        self._stop.set()
        self.change(following=on)
        if on:
            self._stop, self._news = threading.Event(), time.monotonic()
            arguments = (weakref.ref(self), self._stop, self.every)
            threading.Thread(target=_follow, args=arguments, name="medr1kit-follow", daemon=True).start()

    def _look_again(self) -> bool:
        """Look for news; return whether more is to be expected."""
        if self.refresh():
            self._news = time.monotonic()
        if self.growing and time.monotonic() - self._news < _PATIENCE:
            return True
        self.change(following=False)
        return False

    def close(self) -> None:
        self.following = False
        self._stop.set()
        super().close()

    # --- what is shown ---

    title = "A training, step by step: what was sampled, what it was paid"
    legend = (
        "Curves are of the whole training; a line marks the step. Below are the completions that this step sampled, a "
        "group for each question. Advantage: pay compared with the group's mean; above 0 a text is made likelier. A "
        "group whose completions are all paid alike teaches nothing."
    )

    def build(self) -> Box:
        heard, first, last = self.heard, self.steps[0], self.steps[-1]
        slider = slide("step", heard(self.go_to), hook="step", low=first, high=last, value=self.step)
        slider.layout.width = "min(34em, 100%)"
        groups = choose("group", [("–", None)], heard(self.choose_group), hook="group", width="min(34em, 100%)")
        more = choose("one more curve", ["–"], heard(self.choose_extra), hook="extra")
        look = press("read new steps", heard(self.refresh), hook="refresh", tip="read what the run has written since")
        follow = tick(f"read new steps every {self.every:g} s", heard(self.follow), hook="follow")
        return stack(
            shows("about"), row(slider, more, look, follow), shows("curves"),
            row(groups, *steps("group", heard(self.previous_group), heard(self.next_group))), shows("completions"),
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        columns = self._columns or ["–"]
        return {
            "step": {"min": self.steps[0], "max": self.steps[-1], "value": self.step},
            "group": {"options": self._labels() or [("–", None)], "value": self.group if self._groups else None},
            "extra": {"options": columns, "value": self.extra or columns[0]},
            "follow": self.following,
            "about": self._about_html(),
            "curves": curves_html(self.metrics, self.step, self.extra) + step_html(self.metrics, self.step),
            "completions": self._group_html(),
        }

    def fill(self) -> None:
        with self._lock:
            super().fill()

    def static(self) -> str:
        shown, labels, groups = self.state(), [escape(label) for label, _ in self._labels()], ""
        if labels:
            items = "".join(f"<li>{label}</li>" for label in labels)
            groups = f"<details><summary>all groups of the step</summary><ul>{items}</ul></details>"
            groups += f"<h4>step {self._sampled_at}, group {labels[self.group]}</h4>"
        return page(f"{self.headline()}{shown['about']}{shown['curves']}{groups}{shown['completions']}", "run")

    def summary(self) -> str:
        sampled = f"{len(self._rollouts.steps)} of them with completions" if self._rollouts.steps else "no completions"
        state = "not ended" if self.growing else "ended"
        return f"run {self._path.name}: {len(self.metrics)} steps logged, {sampled}; {state}; at step {self.step}"

    def _about_html(self) -> str:
        state = badge("not ended", "warn") if self.growing else badge("ended")
        said = self.trouble or self._rollouts.trouble
        trouble = f'<p class="mk-warn" role="status" data-mk="trouble">{escape(said)}</p>' if said else ""
        return f"<p><b>{escape(self._path.name)}</b> {state} {len(self.metrics):,} steps logged</p>{trouble}"

    def _labels(self) -> list[tuple[str, int]]:
        return [(label_of(rows, i, len(self._groups)), i) for i, rows in enumerate(self._groups)]

    def _group_html(self) -> str:
        if not self._groups:
            why = "supervised training samples none, and a run killed in its first step has none"
            return f"<p>No completions: {why}.</p>"
        earlier = f"<p>Step {self.step} sampled nothing; these are of step {self._sampled_at}.</p>"
        html = group_html(self._groups[self.group], self._pictures)
        return html if self._sampled_at == self.step else earlier + html

    # --- what is read ---

    def _written(self) -> list[tuple]:
        """What changes on disk when the run writes: sizes and times of its tables."""
        found = []
        for name in ("run.json", "metrics.csv", "rollouts.jsonl", "rollouts.parquet"):
            with suppress(FileNotFoundError):
                stat = (self._path / name).stat()
                found.append((name, stat.st_size, stat.st_mtime_ns))
        return found

    def _read_groups(self) -> None:
        """The groups of the step; of the last one before it that sampled, if it did not."""
        self._groups, steps = [], self._rollouts.steps
        if steps:
            self._sampled_at = max((step for step in steps if step <= self.step), default=steps[0])
            try:
                self._groups = groups_of(self._rollouts.at(self._sampled_at))
            except DataError as error:
                self._rollouts.trouble = str(error)
        opens = first_to_teach(self._groups) if self.group is None else self.group
        self.group = min(opens, max(0, len(self._groups) - 1))


def _follow(panel: weakref.ref, stop: threading.Event, every: float) -> None:
    """Look for news until told to stop, the panel is gone, or no more is to be expected; hold no panel in between."""
    while not stop.wait(every):
        if (seen := panel()) is None or not seen._look_again():
            return
        del seen


# --- pure functions: from tables to HTML ------------------------------------------------------------------------------


def curves_html(metrics: pd.DataFrame, step: int | None, extra: str | None) -> str:
    """Return the curves of a run as pictures, with a step marked.

    Args:
        metrics: a metrics table.
        step: the step to mark; None for none.
        extra: one more column to draw; None for none.
    """
    numbers = metrics.apply(pd.to_numeric, errors="coerce")
    if numbers.empty or "step" not in numbers:
        return "<p>Nothing was logged yet.</p>"
    drawn = []
    for title, lines in _curves(list(numbers)) + ([(extra, {extra: extra})] if extra in numbers else []):
        values = {name: numbers[column].to_numpy(float) for name, column in lines.items()}
        if any(np.isfinite(line).any() for line in values.values()):
            drawn.append(curve(title, numbers["step"], values, at=step))
    return f'<div class="mk-cells" data-mk="curves">{"".join(drawn)}</div>'


def _curves(columns: list[str]) -> list[tuple[str, dict[str, str]]]:
    """Title, and name -> column, of the curves that a run of these columns has."""
    parts = {c.split("/")[1]: c for c in columns if c.startswith("rewards/") and c.endswith("/mean")}
    length = {name: f"completions/{name}_length" for name in ("mean", "min", "max")}
    dull = {"trained on": "frac_reward_zero_std", "all drawn": "dynamic/zero_variance_drawn"}
    phases = {c.removeprefix("time/"): c for c in columns if c.startswith("time/")}
    watched = {name.replace("_", " "): f"watch/{name}" for name in _WATCHED}
    found = (
        ("mean reward", {"sum": "reward", **parts}),
        ("completion length (tokens)", length),
        ("groups that teach nothing (share)", dull),
        ("seconds a step, by phase", phases or {"step": "step_time"}),
        ("watch (shares of completions)", watched),
        ("loss", {"loss": "loss"} if "reward" not in columns else {}),
    )
    return [(title, there) for title, lines in found if (there := {k: c for k, c in lines.items() if c in columns})]


def step_html(metrics: pd.DataFrame, step: int) -> str:
    """Return all numbers that were logged at a step, folded."""
    return steps_html(metrics, [step])[0]


def steps_html(metrics: pd.DataFrame, steps: Sequence[int]) -> list[str]:
    """Return :func:`step_html` of each of some steps; of 20,000 it takes two seconds."""
    places = {step: place for place, step in enumerate(metrics["step"])} if "step" in metrics else {}
    columns = [(escape(name), metrics[name].tolist()) for name in metrics]
    return [_numbers_html(step, columns, places.get(step)) for step in steps]


def _numbers_html(step: int, columns: Sequence[tuple[str, list]], place: int | None) -> str:
    if place is None:
        return f"<p>Nothing was logged at step {step}.</p>"
    logged = ((name, values[place]) for name, values in columns)
    cells = [(name, escape(number(value))) for name, value in logged if not pd.isna(value)]
    numbers = table(cells, ["column", "value"], "step")
    return f"<details><summary>all numbers of step {step}</summary>{numbers}</details>"
