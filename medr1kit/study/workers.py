"""Many cells: processes of one thread each, every one working through cells until none is left.

A worker lives for many cells, because importing torch and drawing the test questions takes longer than some trainings.
It is told a cell through a pipe, and answers when the cell has ended. It ends with the study, also in the middle of a
cell: no training goes on behind the back of the next study. When a worker dies (killed for want of memory, say), its
cell has failed, and the next cell gets a new worker.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from filelock import Timeout
from tqdm import tqdm

from medr1kit.study.cell import mark_failed, run_cell
from medr1kit.study.folder import cell_folder, cell_lock, read_record
from medr1kit.study.grid import Cell

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# CI: no bar of its own. Threads that wait by spinning would slow down the other workers.
_ENVIRONMENT = dict.fromkeys(_THREADS, "1") | {
    "CI": "true",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


class WorkerDied(RuntimeError):
    """A worker process ended while it ran a cell."""


class Worker:
    """A process that runs cells, seen from the study.

    Args:
        run: what it does with a cell and its folder; a function of a module, which the process imports.

    Attributes:
        pipe: has something to read when the cell has ended, or the process.
    """

    def __init__(self, run: Callable[[Cell, Path], Any] = run_cell):
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, run))
        self.process.start()
        theirs.close()

    def begin(self, cell: Cell, folder: Path) -> None:
        """Have a cell run; what becomes of it stands in its cell.json."""
        with suppress(OSError):  # it has died: `finish` says so
            self.pipe.send((cell, folder))

    def finish(self) -> None:
        """Wait for the cell's end.

        Raises:
            WorkerDied: if the process ended before the cell did.
        """
        try:
            self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise WorkerDied(_last_words(self.process.exitcode)) from error

    def kill(self) -> None:
        """End the process, in the middle of its cell if it has one."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _last_words(code: int) -> str:
    if code >= 0:
        return f"the worker process ended with exit status {code}; its last words stand in the cell's log"
    name = signal.Signals(-code).name
    hint = "; on Linux this is often want of memory: take fewer workers" if name == "SIGKILL" else ""
    return f"the worker process was ended by {name}{hint}"


def run_cells(
    cells: Iterable[Cell],
    root: Path,
    workers: int,
    *,
    start: Callable[[], Any] = Worker,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run cells in order on ``workers`` processes; returns when all have ended, well or badly.

    Args:
        cells: the cells to run.
        root: the study's folder.
        workers: processes, at least 1.
        start: makes a worker.
        tick: called whenever a cell has ended, and every two seconds, for the progress bar. If it raises (or Ctrl-C is
            pressed), the workers are killed; their cells are left as interrupted.
    """
    waiting, idle, busy = deque(cells), [], {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker, cell = idle.pop() if idle else start(), waiting.popleft()
                busy[worker.pipe] = worker, cell
                worker.begin(cell, cell_folder(root, cell))
            for pipe in wait(list(busy), timeout=2):
                worker, cell = busy.pop(pipe)
                idle.append(worker)
                try:
                    worker.finish()
                except WorkerDied as error:
                    idle.remove(worker)
                    worker.kill()
                    _mark_dead(cell, cell_folder(root, cell), error)
            tick()
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.kill()


def _mark_dead(cell: Cell, folder: Path, error: WorkerDied) -> None:
    with suppress(Timeout), cell_lock(folder):
        begun = read_record(folder)
        same = begun if begun.get("fingerprint") == cell.fingerprint else {"name": cell.name}
        mark_failed(folder, same | {"fingerprint": cell.fingerprint}, error)


# --- the worker's end -------------------------------------------------------------------------------------------------


def _serve(pipe: Connection, run: Callable[[Cell, Path], Any]) -> None:
    """Be a worker: run the cells that come through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the study, which then ends its workers
    os.environ |= _ENVIRONMENT  # before anything imports numpy or torch
    tqdm.set_lock(threading.RLock())  # its own is one between processes, which a killed worker would leave behind
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    with suppress(EOFError):
        while True:
            cell, folder = pipe.recv()
            _print_to(folder.parent / f"{folder.name}.log")  # beside the folder, which a cell may empty
            run(cell, folder)
            sys.stdout.flush()
            pipe.send(None)


def _end_with_the_study() -> None:
    wait([parent_process().sentinel])
    os._exit(1)


def _print_to(file: Path) -> None:
    """Send everything that is printed from here on, by Python or below it, to the end of a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
