"""A device's clock and memory: work is waited for before a clock is read, and what is not needed is given back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Missing(Exception):
    """A part that this machine has not; its message becomes the row."""


def now(device: str) -> float:
    """Return the seconds on the clock after all work of the device so far; a GPU works on while Python goes on."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak(device: str) -> None:
    """Let the peak of memory begin anew."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> float | None:
    """Return the most memory that tensors have taken since then, weights included, in GB; None where nobody counts."""
    import torch

    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.startswith("cuda") else None


class Phases:
    """Seconds by phase of calls that are wrapped; a call inside another counts as the outer one's."""

    def __init__(self, device: str):
        self.device, self.seconds, self._inside = device, {}, False

    def watch(self, owner: Any, method: str, phase: str) -> None:
        """Count the seconds of an object's method, where it has one of that name."""
        if not callable(call := getattr(owner, method, None)):
            return

        def counted(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs) if self._inside else self.spent(phase, lambda: call(*args, **kwargs))

        setattr(owner, method, counted)

    def spent(self, phase: str, call: Callable[[], Any]) -> Any:
        """Return what a call returns, and add its seconds to a phase."""
        self._inside, start = True, now(self.device)
        try:
            return call()
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now(self.device) - start
            self._inside = False
