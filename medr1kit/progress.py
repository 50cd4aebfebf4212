"""Progress: one bar at a time, named after what goes on; silent in CI.

What can take more than two seconds shows a bar of tqdm, in a terminal on standard error and in a notebook as a widget.
Work that is often done in a blink shows none until two seconds have passed. With ``CI`` in the environment, as build
servers have it, there is none, and with ``MEDR1KIT_STATIC``, under which notebooks are committed, neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

_PART: ContextVar[str] = ContextVar("part", default="")


def progress(
    work: Iterable | None = None,
    what: str = "",
    *,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    delay: float = 2.0,
    hidden: bool = False,
) -> tqdm:
    """Return a progress bar, to be looped over or moved on by ``update()``.

    Args:
        work: what is looped over; None for a bar that is moved on by hand.
        what: what goes on ("predict"); inside :func:`part_of_work` the part's name follows it.
        unit: what is counted, in the singular.
        total: how much there is; None takes the length of ``work``.
        initial: how much is done already.
        delay: seconds before the bar appears; 0 where the first step alone may take long.
        hidden: show none, whatever the environment says.
    """
    from tqdm.auto import tqdm

    name = ": ".join(filter(None, (what, _PART.get())))
    nowhere = sys.stderr is None  # a program without a terminal, such as pythonw or a service
    silent = hidden or nowhere or bool(os.environ.get("CI")) or os.environ.get("MEDR1KIT_STATIC", "") not in ("", "0")
    return tqdm(work, name, total, unit=unit, initial=initial, delay=delay, disable=silent)


@contextmanager
def part_of_work(name: str) -> Iterator[None]:
    """Give the bars shown meanwhile a second name: "predict: blank images"."""
    token = _PART.set(name)
    try:
        yield
    finally:
        _PART.reset(token)


@contextmanager
def no_bars_of_datasets() -> Iterator[None]:
    """Keep the `datasets` library from showing bars of its own, such as "Flattening the indices"."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
