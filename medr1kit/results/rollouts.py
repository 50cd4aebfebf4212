"""The completions of a run, one step at a time, also while the run is writing them.

A run of a thousand steps holds a hundred thousand completions, and a viewer shows eight. So nothing but the place of
each completion is kept. A finished run has a parquet file, of which the rows of one step are taken out, a few hundred
rows at a time; a growing one has a file of lines, which is read from where the last look ended. What cannot be read,
because it was torn while being copied, is left out, and ``trouble`` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from medr1kit.results.runs import Run
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from pyarrow import RecordBatch

_STEP = re.compile(rb'\{"step": (\d+)[,}]')  # how each line begins; within a text the quotes would be escaped
_PIECE = 1 << 18
_COLUMNS = ("step", "id", "rollout", "question", "options", "answer", "text", "predicted", "advantage", "n_tokens")
_ROWS = 256  # rows of a parquet file that are in memory at once


class Rollouts:
    """The completions of a run folder, read when asked for.

    Args:
        run: the run.

    Attributes:
        steps: the steps that have completions, rising; :meth:`look` again to see what was added.
        growing: whether there are lines that have not become a parquet file yet.
        complete: whether they have.
        trouble: what could not be read; empty if nothing.
    """

    def __init__(self, run: Run):
        self._table, self._lines = run.path / "rollouts.parquet", run.path / "rollouts.jsonl"
        self._places: dict[int, list[int]] = {}  # step -> where its lines begin
        self._end = 0
        self.steps: list[int] = []
        self.growing = self.complete = False
        self.trouble = ""
        self.look()

    def look(self) -> None:
        """Find out which steps there are by now."""
        self.growing = self._lines.exists()
        self.complete = self._table.exists() and not self.growing
        if self.complete:
            self._places, self._end = {}, 0
            try:
                found = {step for batch in _batches(self._table, ["step"]) for step in batch["step"].to_pylist()}
                self.steps, self.trouble = sorted(found - {None}), ""
            except DataError as error:
                self.steps, self.trouble = [], str(error)
        elif self.growing:
            self._read_on()
            self.steps = sorted(self._places)

    def at(self, step: int) -> pd.DataFrame:
        """Return the completions of one step, in the order in which they were written; no rows if there are none.

        Raises:
            DataError: if the file is not whole.
        """
        return self.at_each([step])[step]

    def at_each(self, steps: Sequence[int]) -> dict[int, pd.DataFrame]:
        """Return the completions of some steps, as :meth:`at` does; the file of a finished run is read once for all."""
        try:
            found = {step: self._of_lines(step) for step in steps if step in self._places}
            return found | _of_table(self._table, [step for step in steps if step not in found])
        except FileNotFoundError:  # the run ended between two looks
            self.look()
            return _of_table(self._table, steps)

    def _read_on(self) -> None:
        """Note where each step's lines stand, from where the last look ended to the last whole line."""
        if self._lines.stat().st_size < self._end:  # another run was begun in this folder
            self._places, self._end, self.trouble = {}, 0, ""
        with self._lines.open("rb") as file:
            file.seek(self._end)
            for line in file:
                if line.endswith(b"\n"):  # the last one may be half written
                    self._note(line)
                    self._end += len(line)

    def _note(self, line: bytes) -> None:
        found = _STEP.match(line)
        try:
            step = int(found[1]) if found else int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            self.trouble = f"{self._lines.name}: the line at byte {self._end:,} holds no completion; it is left out"
        else:
            self._places.setdefault(step, []).append(self._end)

    def _of_lines(self, step: int) -> pd.DataFrame:
        rows = []
        with self._lines.open("rb") as file:
            for place in self._places[step]:
                file.seek(place)
                try:
                    rows.append(json.loads(file.readline()))
                except ValueError:
                    self.trouble = f"{self._lines.name}: a line of step {step} is not whole; it is left out"
        return pd.DataFrame(rows)


def _of_table(table: Path, steps: Sequence[int]) -> dict[int, pd.DataFrame]:
    found: dict[int, list[dict]] = {step: [] for step in steps}
    if found and table.exists():
        from pyarrow import array, compute

        for batch in _batches(table):
            wanted = compute.is_in(batch["step"], value_set=array(list(found), batch["step"].type))
            for row in batch.filter(wanted).to_pylist():  # options as lists, as everywhere
                found[row["step"]].append(row)
    return {step: pd.DataFrame(rows) for step, rows in found.items()}


def _batches(table: Path, columns: list[str] | None = None) -> Iterator[RecordBatch]:
    """The rows of a parquet file, some at a time: a filter on the whole file would hold all its texts at once."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(table, buffer_size=_PIECE) as file:
            if missing := [name for name in _COLUMNS if name not in file.schema_arrow.names]:
                raise DataError(f"{table.name} has no column {missing[0]!r}; give the folder of a training")
            yield from file.iter_batches(_ROWS, columns=columns, use_threads=False)
    except FileNotFoundError:
        raise
    except (ArrowException, OSError) as error:
        raise DataError(f"{table.name} is not a whole parquet file ({str(error)[:120]}); copy it again") from error
