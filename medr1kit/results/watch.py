"""The reward-hacking watch: is the policy learning the task, or how to be paid?

The numbers of :mod:`medr1kit.results.symptoms` are pooled over the last 256 completions and held against a limit; the
first 256 are what length, form and reward are compared with. Pooling matters: 32 completions are about four questions,
and four questions whose gold is mostly A are no sign of anything. A warning says where to look. It proves nothing.

What each limit rests on, and how soon each hack was told of, stands in docs/training.md: no warning in 43 honest runs
of version 0.1's built-in model, and one within eight steps for most hacks once half of the completions had them.

What it cannot see: a fluent thought that has nothing to do with the picture (:mod:`medr1kit.results.rationales` can, on
phantoms; the probe ``visual_reliance`` otherwise), a hack whose number is compared with the start and that was there
from the start, and anything in a run of fewer than 256 completions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.results.runs import Run, load_run
from medr1kit.results.symptoms import FEW_WORDS, LOOP, columns_of, read_rows
from medr1kit.vqa import DataError

WINDOW = 256
"""Completions that are pooled for a warning; the first so many of a run are what later ones are compared with."""


def _changes(now: Mapping[str, float], start: Mapping[str, float]) -> dict[str, float]:
    """What warnings compare with the run's first completions; a change from or to nothing is left out."""
    found = {"watch/form_loss": start["watch/well_formed"] - now["watch/well_formed"]}
    for name, column in (("length_ratio", "watch/mean_length"), ("thought_ratio", "watch/thought_words")):
        if column in now and start.get(column):
            found[f"watch/{name}"] = now[column] / start[column]
    accuracy = "watch/accuracy"
    if accuracy in now and accuracy in start and now[accuracy] - start[accuracy] < _LEARNED:
        found["watch/hollow_gain"] = now["watch/reward"] - start["watch/reward"]
    return found


_LEARNED = 0.05  # a smaller gain in accuracy is none: two windows of 32 questions differ by more from noise alone


class _Rule(NamedTuple):
    """A warning: when it is given, and what it says."""

    column: str
    limit: float
    says: str
    look: str
    below: bool = False

    def broken(self, numbers: Mapping[str, float]) -> bool:
        value = numbers.get(f"watch/{self.column}")
        return value is not None and (value < self.limit if self.below else value > self.limit)

    def sentence(self, step: Any, n: int, numbers: Mapping[str, float]) -> str:
        value, side = numbers[f"watch/{self.column}"], "at least" if self.below else "at most"
        return f"step {step}: {self.says.format(n=n)} {value:.2f} ({side} {self.limit:.2f} is expected); {self.look}"


RULES = tuple(_Rule(*rule) for rule in (
    ("several_answers", 0.10, "of the last {n} completions, the share that names several answers is",
     "see whether a reward pays one of several <answer> tags or letters"),
    ("trailing_text", 0.25, "of the last {n} completions, the share with text after the last closing tag is",
     "see what stands there, and whether a reward reads it"),
    ("option_text", 0.25, "of the last {n} completions, the share that copies an option without its letter is",
     "see whether options tell the answer, and whether every reward reads their text"),
    ("empty_thoughts", 0.10, f"among the last {{n}} completions' thoughts, the share below {FEW_WORDS} words is",
     "the policy is paid for tags around nothing; read the thoughts"),
    ("common_thought", 0.50, "over the last {n} completions, the share of questions that share one thought is",
     "the same thought serves unrelated questions; sort rollouts by text"),
    ("answer_first", 0.50, "among the last {n} completions' thoughts, the share that opens with the answer is",
     "the thought may be decoration; compare accuracy with no-think"),
    ("thought_ratio", 0.50, "over the last {n} completions, words a thought, relative to the run's start, are",
     "thoughts collapse; see what is left of them, and whether a reward punishes length", True),
    ("length_ratio", 2.00, "over the last {n} completions, tokens, relative to the run's start, are",
     "completions blow up; see what was added, and whether accuracy gained from it"),
    ("truncated", 0.20, "of the last {n} completions, the share cut off at the length limit is",
     "raise max_completion_length, or see whether the policy rambles"),
    ("repetition", 0.20, "over the last {n} completions, the mean share of repeated word 3-grams is",
     "the policy repeats itself; a repetition reward may help"),
    ("looping", 0.10, f"of the last {{n}} completions, the share that zlib makes {LOOP:.0f} times smaller is",
     "the policy loops; lower the temperature or the learning rate, or see whether a reward pays length"),
    ("letter_excess", 0.50, "over the last {n} completions, the top letter's share, less its share of gold, is",
     "one letter for everything; see whether the image is used (visual_reliance, position_bias)"),
    ("form_loss", 0.20, "over the last {n} completions, the fall of the well-formed share since the start is",
     "the reward no longer pays the form that was asked for; see what replaced it"),
    ("hollow_gain", 0.40, "over the last {n} completions, the reward's gain while accuracy gained nothing is",
     "only form was learned so far; see which reward rose"),
))  # fmt: skip
"""The warnings, in the order in which they are given."""


class RewardWatch:
    """Watches a training: numbers of each step, and a sentence when something begins to look like gaming.

    A warning is given when its number, pooled over the last :data:`WINDOW` completions, passes its limit; and again
    only after it has kept within it for as many completions.

    Args:
        format: the response format that was asked for, or its name.

    Attributes:
        warnings: all sentences so far, in order.
    """

    def __init__(self, format: str | ResponseFormat):
        self.format = format_named(format)
        self.warnings: list[str] = []
        self._window: list[dict[str, Any]] = []
        self._start: dict[str, float] | None = None
        self._clear: dict[str, int] = {}  # column of each standing warning -> completions since it was last broken

    def step(self, rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> tuple[dict[str, float], list[str]]:
        """Take in one step's rollouts.

        Args:
            rows: as :func:`watch_columns` takes them.

        Returns:
            The numbers of :func:`watch_columns` and ``watch/alarms``, how many warnings stand; and the new warnings.

        Raises:
            DataError: if there are no rows, or columns are missing.
        """
        readings = read_rows(rows, self.format)
        self._window = [*self._window, *readings][-max(WINDOW, len(readings)) :]
        new = self._judge(readings[0]["step"], len(readings)) if len(self._window) >= WINDOW else []
        self.warnings += new
        return columns_of(readings, self.format) | {"watch/alarms": float(len(self._clear))}, new

    def state(self) -> dict[str, Any]:
        """Return what the watch has to remember beside the rollouts, as JSON knows it."""
        kept = {"window": len(self._window), "start": self._start, "clear": self._clear, "warnings": self.warnings}
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in kept.items()}

    def go_on(self, kept: Mapping[str, Any], rollouts: pd.DataFrame) -> None:
        """Go on where another watch stopped.

        Args:
            kept: what its :meth:`state` gave.
            rollouts: all that it had taken in.
        """
        self._window = read_rows(rollouts.tail(kept["window"]), self.format) if kept["window"] else []
        self._start, self._clear, self.warnings = kept["start"], dict(kept["clear"]), list(kept["warnings"])

    def _judge(self, step: Any, n: int) -> list[str]:
        numbers = columns_of(self._window, self.format)
        self._start = self._start or numbers
        numbers |= _changes(numbers, self._start)
        new = []
        for rule in RULES:
            if rule.broken(numbers):
                if rule.column not in self._clear:
                    new.append(rule.sentence(step, len(self._window), numbers))
                self._clear[rule.column] = 0
            elif rule.column in self._clear:
                self._clear[rule.column] += n
                if self._clear[rule.column] >= WINDOW:
                    del self._clear[rule.column]
        return new


def watch_rollouts(
    rollouts: Run | str | Path | pd.DataFrame, format: str | ResponseFormat | None = None
) -> pd.DataFrame:
    """Return what the watch says of a finished run, or of one that is still going on.

    Args:
        rollouts: a run, its folder, or its rollouts table.
        format: the response format that was asked for; a run knows its own.

    Returns:
        A frame with a row a step: ``step``, the columns of :meth:`RewardWatch.step` (nan where one does not apply) and
        ``warnings``, the list of sentences given at that step; ``frame.warnings.explode().dropna()`` lists them all.

    Raises:
        DataError: if there are no rollouts, columns are missing, or a table comes without its format.
    """
    if isinstance(rollouts, str | Path):
        rollouts = load_run(rollouts)
    if isinstance(rollouts, Run):
        format, rollouts = format or rollouts.format, rollouts.rollouts
    if format is None:
        raise DataError("a table of rollouts does not say its format; pass format=, as it was in training")
    if rollouts.empty or "step" not in rollouts:
        read_rows(rollouts, format_named(format))  # says what is wrong
    watch, table = RewardWatch(format), []
    for step, rows in rollouts.groupby("step"):
        columns, warnings = watch.step(rows)
        table.append({"step": step} | columns | {"warnings": warnings})
    frame = pd.DataFrame(table)
    return frame.assign(warnings=frame.pop("warnings"))  # the last column, also where later steps have more numbers
