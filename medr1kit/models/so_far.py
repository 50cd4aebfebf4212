"""Answers so far: what an interrupted prediction goes on from, and what several processes answer together.

A prediction that writes a file keeps each answer beside it until the file is there::

    preds.parquet.partial.jsonl      of the one process, or the first
    preds.parquet.partial-1.jsonl    of the second that torchrun or accelerate started, and so on

Their first line says what was asked of which weights; only the same prediction goes on with them, with as many
processes as it likes: what any of them had answered nobody is asked again. The processes share batches, not questions,
so that each batch is the one that a single process would have made, and its answers are the same to the last bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from medr1kit.progress import progress
from medr1kit.vqa import DataError


def rank_of_world() -> tuple[int, int]:
    """Return which process this is, from 0, and how many torchrun or accelerate started; (0, 1) without them."""
    if "MASTER_ADDR" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def gathered(value: Any) -> list[Any]:
    """Return the value of each process, in order; every process must call it, and waits for the others."""
    import torch.distributed as dist

    if (world := rank_of_world()[1]) == 1:
        return [value]
    found = [None] * world
    dist.all_gather_object(found, value, group=_group())
    return found


@cache
def _group() -> Any:
    """Processes that wait for each other as long as it takes; gloo, because what they exchange is text."""
    import torch.distributed as dist

    patient = {"backend": "gloo", "timeout": timedelta(days=7)}
    if dist.is_initialized():  # by whoever called us
        return dist.new_group(**patient)
    dist.init_process_group(**patient)
    return dist.group.WORLD


class AnswersSoFar(dict[int, tuple[str, int]]):
    """Text and length of each answer so far, by row number, of all processes.

    A file is only ever appended to. It is locked while it is written; the lock ends with its process.

    Args:
        output: the file that is to be written in the end; None keeps answers in memory alone.
        settings: what is asked of which weights.
        total: number of questions.
        what: what the bar says.
        shared: whether all processes answer together; each must then do what the others do.

    Raises:
        DataError: if another prediction writes there, or another one's answers were left there; in all processes.
    """

    def __init__(self, output: Path | None, settings: dict[str, Any], total: int, what: str, shared: bool = False):
        self._rank, self._world = rank_of_world() if shared else (0, 1)
        self._handle, self._files, said = None, [], None
        try:
            if output is not None:
                self._open(output, json.dumps({"rows": total, **settings}, default=str))
        except DataError as error:
            said = error
        for part in self._gathered(said or dict(self)):
            if isinstance(part, DataError):
                self._close_file()
                raise part
            self.update(part)
        hidden = self._rank > 0
        self.bar = progress(None, what, total=total, initial=len(self), unit="question", delay=0, hidden=hidden)

    def _gathered(self, value: Any) -> list[Any]:
        return gathered(value) if self._world > 1 else [value]

    def _open(self, output: Path, header: str) -> None:
        """Open this process's file; the first also reads those of processes that are no more."""
        own, pattern = output.with_name(_partial(output, self._rank)), f"{_partial(output, '*')}"
        self._handle, found = _go_on(own, header)
        self._files.append(own)
        self.update(found)
        if self._rank == 0:
            theirs = {_partial(output, rank) for rank in range(self._world)}
            for left in sorted(output.parent.glob(pattern)):
                if left.name not in theirs:
                    handle, found = _go_on(left, header)
                    handle.close()
                    self._files.append(left)
                    self.update(found)

    def share(self, order: Sequence[int], batch_size: int) -> list[Sequence[int]]:
        """Return the batches that this process answers.

        Args:
            order: the rows to ask, in the order in which they are read.
            batch_size: rows a batch, at most; fewer where processes would have nothing to do.
        """
        size = min(batch_size, -(-len(order) // self._world)) or 1
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        return batches[self._rank :: self._world]

    def add(self, i: int, text: str, n_tokens: int) -> None:
        self[i] = (text, n_tokens)
        self.bar.update(self._world)
        if self._handle:
            _write(self._handle, json.dumps([i, text, n_tokens]))

    def complete(self) -> None:
        """Wait for what the others answered, and take it over."""
        for part in self._gathered(dict(self)):
            self.update(part)

    @property
    def first(self) -> bool:
        """Whether this is the first process, the one that writes."""
        return self._rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._gathered(None)

    def drop(self) -> None:
        """Remove what was kept beside the output."""
        for file in self._files:
            file.unlink(missing_ok=True)

    def close(self) -> None:
        self.bar.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._handle:
            self._handle.close()


def finish(kept: Sequence[AnswersSoFar], write: Callable[[], None]) -> None:
    """Have the first process write the output, and then each remove what it kept beside it.

    Args:
        kept: complete and closed.
        write: what writes it.
    """
    if kept[0].first:
        write()
    kept[0].wait()
    for answers in kept:
        answers.drop()


def _partial(output: Path, rank: int | str) -> str:
    return f"{output.name}.partial{f'-{rank}' if rank else ''}.jsonl"


def _go_on(file: Path, header: str) -> tuple[Any, dict[int, tuple[str, int]]]:
    """Open and lock a file of answers, and read those that are whole."""
    handle, answers = file.open("a+b"), {}
    if not lock_descriptor(handle.fileno(), blocking=False):
        handle.close()
        raise DataError(f"{file} is being written by another prediction; wait for it, or name another output")
    handle.seek(0)
    found, *lines = handle.read().split(b"\n")
    if not lines or not found.strip(b"\0"):  # interrupted in its first line, or zeros after a crash of the machine
        handle.truncate(0)
        _write(handle, header)
        return handle, answers
    if found.decode(errors="replace") != header:
        handle.close()
        raise DataError(f"{file} was left by another prediction; delete it to start anew")
    whole = len(found) + 1
    for line in lines[:-1]:
        try:
            i, text, n_tokens = json.loads(line)
        except (ValueError, TypeError):
            break
        answers[i] = (text, n_tokens)
        whole += len(line) + 1
    handle.truncate(whole)  # what follows was being written when it was interrupted; it is asked again
    return handle, answers


def _write(handle: Any, line: str) -> None:
    handle.write(f"{line}\n".encode())
    handle.flush()
