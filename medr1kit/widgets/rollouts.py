"""The completions of a run, one step at a time, also while the run is writing them.

A run of a thousand steps holds a hundred thousand completions, and a viewer shows eight. So nothing but the place of
each step is kept. A finished run has a parquet file, of which the rows of one step are taken out; a growing one has a
file of lines, which is read from where the last look ended.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from medr1kit.runs import Run

_STEP = re.compile(rb'\{"step": (\d+)[,}]')  # how each line begins; within a text the quotes would be escaped
_PIECE = 1 << 18


class Rollouts:
    """The completions of a run folder, read when asked for.

    Args:
        run: the run.

    Attributes:
        steps: the steps that have completions, rising; :meth:`look` again to see what was added.
        growing: whether there are lines that have not become a parquet file yet.
        complete: whether they have.
    """

    def __init__(self, run: Run):
        self._table, self._lines = run.path / "rollouts.parquet", run.path / "rollouts.jsonl"
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._end = 0
        self.steps: list[int] = []
        self.growing = self.complete = False
        self.look()

    def look(self) -> None:
        """Find out which steps there are by now."""
        self.growing = self._lines.exists()
        self.complete = self._table.exists() and not self.growing
        if self.complete:
            self._places, self._end = {}, 0
            self.steps = _steps_of(self._table)
        elif self.growing:
            self._read_on()
            self.steps = sorted(self._places)

    def at(self, step: int) -> pd.DataFrame:
        """Return the completions of one step, in the order in which they were written; no rows if there are none."""
        try:
            return self._of_lines(step) if step in self._places else _of_table(self._table, step)
        except FileNotFoundError:  # the run ended between two looks
            self.look()
            return _of_table(self._table, step)

    def _read_on(self) -> None:
        """Note where each step's lines stand, from where the last look ended to the last whole line."""
        if self._lines.stat().st_size < self._end:  # another run was begun in this folder
            self._places, self._end = {}, 0
        with self._lines.open("rb") as file:
            file.seek(self._end)
            rest = b""
            while piece := file.read(_PIECE):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    self._note(line, self._end, self._end + len(line) + 1)
                    self._end += len(line) + 1

    def _note(self, line: bytes, start: int, end: int) -> None:
        found = _STEP.match(line)
        step = int(found[1]) if found else json.loads(line)["step"]
        places = self._places.setdefault(step, [])
        if places and places[-1][1] == start:
            start = places.pop()[0]
        places.append((start, end))

    def _of_lines(self, step: int) -> pd.DataFrame:
        rows = []
        with self._lines.open("rb") as file:
            for start, end in self._places[step]:
                file.seek(start)
                rows += [json.loads(line) for line in file.read(end - start).split(b"\n")[:-1]]
        return pd.DataFrame(rows)


def _steps_of(table: Path) -> list[int]:
    from pyarrow import parquet

    steps = parquet.read_table(table, columns=["step"])["step"]
    return sorted(steps.unique().to_pylist())


def _of_table(table: Path, step: int) -> pd.DataFrame:
    if not table.exists():
        return pd.DataFrame()
    from pyarrow import dataset

    rows = dataset.dataset(table, format="parquet").to_table(filter=dataset.field("step") == step)
    return pd.DataFrame(rows.to_pylist())  # options as lists, as the table has them everywhere
