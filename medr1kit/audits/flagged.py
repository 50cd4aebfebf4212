"""Questions with the flags of an audit: read column by column, images left alone.

An audit says *how many* test rows share an image with training, name the answer in their path, or offer an option
twice. To believe it, or to mend it, one has to see *which*. The rows behind each count become flags here, under short
plain names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.audits.floors import HARD
from medr1kit.audits.rows import column
from medr1kit.given import choice, kind, questions_given
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

    from medr1kit.audits import AuditReport

NONE = "no flag"
ANY = "any flag"


class Flagged:
    """The questions of a data set, and which flags each has.

    Args:
        ds: the questions.
        report: of an audit in which they were one side; None: no flags.
        side: "test" or "train": which side they were.

    Attributes:
        flags: name -> row numbers, rising; only flags that some row has.

    Raises:
        DataError: if ``side`` is neither, or the audit was not made with these questions.
    """

    def __init__(self, ds: Dataset, report: AuditReport | None = None, side: str = "test"):
        questions_given(ds, "ds", ("id", "question", "options", "answer"))
        choice(side, "side", ("test", "train"))
        if report is not None and not hasattr(report, "measures"):
            raise DataError(f"report is {kind(report)}; pass what medr1kit.audit(train, test) returned")
        self.ds = ds
        self._ids = column(ds, "id", None)
        if report is not None:
            self._check(report, side)
        measures = [] if report is None else report.measures
        self.flags = {one.flag: one.rows for one in measures if one.flag and one.side == side and len(one.rows)}
        self.names = {name: _labels(column(ds, name, None) or [None] * len(ds)) for name in ("modality", "task")}

    def __len__(self) -> int:
        return len(self.ds)

    def chosen(self, modality: str = "all", task: str = "all", flag: str = "all", text: str = "") -> np.ndarray:
        """Return the numbers of the rows that pass every filter.

        Args:
            modality, task: a name, "unknown" or "all".
            flag: a name of ``flags``, :data:`ANY` and :data:`NONE` (the hard subset does not count), or "all".
            text: what question, options or id must contain; case does not count.
        """
        keep = np.ones(len(self), dtype=bool)
        for label, name in (("modality", modality), ("task", task)):
            if name != "all":
                keep &= self.names[label] == name
        if flag != "all":
            keep &= self._has(flag)
        if wanted := text.casefold().strip():
            keep[keep] = [wanted in self._texts[row] for row in np.flatnonzero(keep)]
        return np.flatnonzero(keep)

    def counts(self, flag: str = "all") -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return how many rows each modality has of each task, and how many of them have a flag."""
        if not len(self):
            return pd.DataFrame(), pd.DataFrame()
        frame = pd.DataFrame(self.names).assign(has=self._has(flag).astype(int))
        grid = frame.groupby(["modality", "task"], sort=False)["has"].agg(["size", "sum"]).unstack(fill_value=0)
        return grid["size"], grid["sum"]

    def row(self, number: int) -> dict:
        """Return one row without its image; no options where it has none."""
        row = self.ds.select_columns([c for c in self.ds.column_names if c != "image"])[int(number)]
        return row | {"options": row["options"] or []}

    def flags_of(self, number: int) -> list[str]:
        """Return the flags of a row."""
        return [name for name, rows in self.flags.items() if number in rows]

    def ids(self, rows: Sequence[int]) -> list[str]:
        """Return the ids of some rows."""
        return [str(self._ids[row]) for row in rows]

    def _has(self, flag: str) -> np.ndarray:
        has = np.zeros(len(self), dtype=bool)
        for name, rows in self.flags.items():
            if flag == name or (flag in (ANY, NONE) and name != HARD):
                has[rows] = True
        return ~has if flag == NONE else has

    @cached_property
    def _texts(self) -> list[str]:
        """What is searched, a row: id, question and options, without case."""
        rows = zip(self._ids, *(column(self.ds, name, None) for name in ("question", "options")))
        return ["\n".join(map(str, [id, stem, *(options or ())])).casefold() for id, stem, options in rows]

    def _check(self, report: AuditReport, side: str) -> None:
        n = next(measure.n for measure in report.measures if measure.section == "size" and measure.side == side)
        other_ids = side == "test" and report.test_ids is not None and list(report.test_ids) != self._ids
        if n != len(self.ds) or other_ids:
            raise DataError(
                f"the audit's {side} side has {n:,} rows, the data has {len(self.ds):,}"
                + (" with other ids" if n == len(self.ds) else "")
                + "; pass the data that was audited, with side='train' if it was the training side"
            )


def _labels(values: list) -> np.ndarray:
    return np.array(["unknown" if value is None else str(value) for value in values], dtype=object)
