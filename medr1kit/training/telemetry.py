"""What a training step cost: seconds by phase, tokens a second, what was shared, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Telemetry:
    """Collects the numbers of the steps since the last log; :meth:`columns` hands them out and starts anew."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.steps = 0  # optimizer steps done

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds inside to a phase; a phase within a phase is taken out of the outer one."""
        inner_before, start = sum(self.seconds.values()), time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on while Python goes on; a phase ends when its work is done
            inner = sum(self.seconds.values()) - inner_before
            self.seconds[name] += time.perf_counter() - start - inner

    def columns(self) -> dict[str, float]:
        """Return metric columns, each a mean over the steps: ``time/PHASE`` in seconds and ``count/NAME``.

        ``tokens_per_second`` (sampled tokens over decoding time) and ``peak_memory_gb`` come with them.
        """
        steps = max(1, self.steps)
        columns = {f"time/{name}": seconds / steps for name, seconds in self.seconds.items()}
        columns |= {f"count/{name}": count / steps for name, count in self.counts.items()}
        if self.seconds.get("decode"):
            columns["tokens_per_second"] = self.counts["tokens"] / self.seconds["decode"]
        columns["peak_memory_gb"] = peak_memory()
        self.seconds.clear()
        self.counts.clear()
        self.steps = 0
        return columns


def peak_memory() -> float:
    """Return the most memory used so far in GB: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
