"""Fair seconds: two sides in turn, medians, and the machine they were measured on.

On a machine with neighbours wall time says how busy the others were. With one thread the CPU time of the process is the
work itself, so ratios are taken from it; wall time stands beside it. Neighbours still disturb it through caches and
clock rates, and therefore the two sides take turns and the lowest and highest ratio of a turn are given, too.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from medr1kit.models.machine import version_of

PACKAGES = ("medr1kit", "torch", "transformers", "trl", "peft", "datasets")


@dataclass(frozen=True)
class Seconds:
    """How long something took.

    Attributes:
        cpu: seconds of processor time of this process, all threads together.
        wall: seconds on the clock.
    """

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> Seconds:
        """Return the readings of both clocks; only differences mean something."""
        return cls(time.process_time(), time.perf_counter())

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu - other.cpu, self.wall - other.wall)


def timed(call: Callable[[], Any]) -> tuple[Any, Seconds]:
    """Return what a call returns and how long it took."""
    start = Seconds.now()
    result = call()
    return result, Seconds.now() - start


def compared(name: str, stock: Sequence[Sequence[Seconds]], fast: Sequence[Sequence[Seconds]], **facts: Any) -> dict:
    """Return a case: two sides that took turns.

    Args:
        name: the case.
        stock, fast: for each turn the seconds of each of its steps.
        **facts: further entries, ``exact`` among them.

    Returns:
        ``name``; ``stock_s`` and ``fast_s``, medians over all steps in CPU seconds; ``ratio`` between them, and
        ``ratio_low`` and ``ratio_high``, the lowest and highest of a turn; ``repeats``, the turns; the same in wall
        seconds; and the facts.

    >>> turns = [[Seconds(3.0, 3.5), Seconds(3.2, 9.0)]], [[Seconds(1.0, 1.0), Seconds(1.0, 2.0)]]
    >>> compared("think", *turns, exact=True)["ratio"]
    3.1
    """
    cpu = [[median(step.cpu for step in turn) for turn in side] for side in (stock, fast)]
    ratios = [slow / quick for slow, quick in zip(*cpu)]
    stock_s, fast_s = (median(step.cpu for turn in side for step in turn) for side in (stock, fast))
    stock_wall, fast_wall = (median(step.wall for turn in side for step in turn) for side in (stock, fast))
    return {
        "name": name,
        "stock_s": round(stock_s, 4),
        "fast_s": round(fast_s, 4),
        "ratio": round(stock_s / fast_s, 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        "repeats": len(stock),
        "clock": "cpu",
        "stock_wall_s": round(stock_wall, 4),
        "fast_wall_s": round(fast_wall, 4),
        "ratio_wall": round(stock_wall / fast_wall, 3),
        **facts,
    }


def alone(name: str, took: Sequence[Seconds], **facts: Any) -> dict:
    """Return a case that has nothing to be compared with: ``stock_s`` and ``ratio`` are None."""
    return {
        "name": name,
        "stock_s": None,
        "fast_s": round(median(one.cpu for one in took), 4),
        "ratio": None,
        "repeats": len(took),
        "clock": "cpu",
        "fast_wall_s": round(median(one.wall for one in took), 4),
        **facts,
    }


def machine(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, threads used, versions, and how busy the machine is."""
    return {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version_of(package) for package in PACKAGES},
        "load_average": load_average(),
    }


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def load_average() -> float | None:
    """Return how many processes wanted to run, on average over the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def say(text: str) -> None:
    """Print a line of progress beside the results."""
    print(text, file=sys.stderr, flush=True)
