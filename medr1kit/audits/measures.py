"""What an audit is made of: measured numbers with the rows behind them, and sentences that say what they mean.

Each part of an audit says what a number means where it is measured. A sentence belongs to one of six ranks; within a
rank the one that concerns the larger share of the test comes first:

0. the test is no test: its rows were trained on, or there are too few;
1. a high score does not need sight: blind floors above chance, images shared with training;
2. less direct ways to the answer, and what cannot be told apart: stems, paths, punctuation, confounded tasks, defects;
3. what is in order, and what to do next;
4. what was not measured, because the rows do not have it;
5. rules that had too little to learn from.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medr1kit.results.stats import share

NAN = float("nan")
SIDES = {"train": "training", "test": "test"}  # how a sentence calls a side


def interval(credits: np.ndarray, clusters: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a mean credit as :func:`medr1kit.score` has it; of rows where all are one cluster."""
    alone = clusters is None or len(set(clusters)) < 2
    return share(credits, np.arange(len(credits)) if alone else clusters)[1:]


@dataclass(frozen=True)
class Measure:
    """One number of an audit.

    Attributes:
        section: what it belongs to, for example "floors".
        name: its name, the key in the JSON.
        value: in percent or as a count, see ``unit``.
        unit: "%", "rows", or what else is counted.
        n: the number of rows it was measured on.
        low, high: 95 % interval in the same unit; nan for a count, which is exact.
        rows: the numbers of the rows that were counted.
        side: "train" or "test" where it is about one side only, and ``rows`` are of that side.
        flag: what one of these rows is called, for example "image in training".
    """

    section: str
    name: str
    value: float
    unit: str
    n: int
    low: float = NAN
    high: float = NAN
    rows: np.ndarray | None = field(default=None, repr=False)
    side: str | None = None
    flag: str | None = None

    @property
    def part(self) -> float:
        """A count as a share of the rows, in percent."""
        return 100 * self.value / self.n

    @property
    def counted(self) -> str:
        """For example "435 of 3,241 (13.4 %)"."""
        return f"{self.value:,} of {self.n:,} ({self.part:.1f} %)"

    @property
    def estimate(self) -> str:
        """For example "99.0 % [98.6, 99.3]"."""
        return f"{self.value:.1f} % [{self.low:.1f}, {self.high:.1f}]"


class Found(list[Measure]):
    """What one part of an audit measured, in the order of the report; ``findings`` are what it says about it."""

    def __init__(self, section: str) -> None:
        super().__init__()
        self.section = section
        self.findings: list[tuple[int, float, str]] = []  # rank, share of the test in percent, sentence

    def add(self, name: str, value: float, unit: str, n: int, *limits: float, section="", **more) -> Measure:
        """Write down a measure, of this section if no other is named, and return it."""
        self.append(Measure(section or self.section, name, value, unit, n, *limits, **more))
        return self[-1]

    def share(self, name: str, credits: np.ndarray, clusters=None, *, exact: bool = False, section="") -> Measure:
        """Write down the mean of credits (0..1) in percent, with its interval unless it is ``exact``."""
        low, high = (NAN, NAN) if exact else interval(credits, clusters)
        return self.add(name, 100 * float(credits.mean()), "%", len(credits), 100 * low, 100 * high, section=section)

    def count(self, name: str, flag: str, found: np.ndarray, side: str = "test") -> Measure:
        """Write down how many rows of a side are True, and which; the name is preceded by that of the side."""
        rows = np.flatnonzero(found)
        return self.add(f"{side}_{name}", len(rows), "rows", len(found), rows=rows, side=side, flag=flag)

    def say(self, rank: int, share: float, sentence: str) -> None:
        """Say what was found; the ranks stand at the top of this module."""
        self.findings.append((rank, share, sentence))

    def say_of(self, rank: int, what: str, *counts: Measure) -> None:
        """Say what the counted rows do, if there are any, those of test and training in one sentence.

        Its place is that of the test's share.
        """
        counted = sorted((count for count in counts if count.value), key=lambda count: count.side != "test")
        if counted:
            rows = " and ".join(f"{count.counted} {SIDES[count.side]} rows" for count in counted)
            self.say(rank, counted[0].part if counted[0].side == "test" else 0, f"{rows} {what}.")


def worst_first(parts: Iterable[Found]) -> list[str]:
    """Return the sentences of all parts in the order of a report."""
    found = [finding for part in parts for finding in part.findings]
    return [sentence for _, _, sentence in sorted(found, key=lambda finding: (finding[0], -finding[1]))]
