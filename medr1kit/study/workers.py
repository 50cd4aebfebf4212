"""Many cells: processes of one thread each, every one working through cells until none is left.

A worker lives for many cells, because importing torch and drawing the test questions takes longer than some trainings.
It is told a cell by a line on its standard input and answers by a line. When that input closes while a cell is being
run, the study has died, and the worker ends with it: no training goes on behind the back of the next study. When a
worker dies (killed for want of memory, say), its cell has failed, and the next cell gets a new worker.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medr1kit.study.cell import mark_failed, run_cell
from medr1kit.study.folder import cell_folder, read_record
from medr1kit.study.grid import Cell

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# CI: no bar of its own. Threads that wait by spinning would slow down the other workers.
_ENVIRONMENT = dict.fromkeys(_THREADS, "1") | {
    "CI": "true",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
COMMAND = (sys.executable, "-m", "medr1kit", "study", "worker")


class WorkerDied(RuntimeError):
    """A worker process ended while it ran a cell."""


class Worker:
    """The study's end of a worker process."""

    def __init__(self, command: Iterable[str] = COMMAND):
        # A session of its own: Ctrl-C reaches the study alone, which then stops its workers.
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,
            text=True,
        )

    def run(self, cell: Cell, folder: Path) -> None:
        """Have a cell run and wait for its end; what became of it stands in its cell.json.

        Raises:
            WorkerDied: if the process ended before the cell did.
        """
        try:
            self.process.stdin.write(json.dumps({"cell": asdict(cell), "folder": str(folder)}) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise WorkerDied(_last_words(self.process.wait()))

    def close(self) -> None:
        """End the process, which is idle, and release its pipes."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def kill(self) -> None:
        """End the process in the middle of its cell."""
        self.process.kill()


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
        tick: called about twice a second, for the progress bar. If it raises (or Ctrl-C is pressed), the workers are
            killed; their cells are left as interrupted.
    """
    waiting, running, stopped = deque(cells), set(), threading.Event()

    def work() -> None:
        worker = None
        while waiting and not stopped.is_set():
            try:
                cell = waiting.popleft()
            except IndexError:  # another thread took the last one
                break
            if worker is None:
                running.add(worker := start())
                if stopped.is_set():  # between the last look and now
                    worker.kill()
            folder = cell_folder(root, cell)
            try:
                worker.run(cell, folder)
            except WorkerDied as error:
                running.discard(worker)
                worker = None
                if not stopped.is_set():
                    begun = read_record(folder)
                    same = begun if begun.get("fingerprint") == cell.fingerprint else {"name": cell.name}
                    mark_failed(folder, same | {"fingerprint": cell.fingerprint}, error)
        if worker is not None:
            worker.close()

    count = max(1, min(workers, len(waiting)))
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work) for _ in range(count)]
        try:
            while wait(futures, timeout=0.5).not_done:
                tick()
                _raise_early(futures)
        except BaseException:
            stopped.set()
            for worker in list(running):
                worker.kill()
            raise
        tick()
        for future in futures:
            future.result()


def _raise_early(futures: list) -> None:
    """A thread that failed by itself (no process could be started, the disk is full) ends the study."""
    for future in futures:
        if future.done():
            future.result()


# --- the worker's end -------------------------------------------------------------------------------------------------


def serve(run: Callable[[Cell, Path], bool] = run_cell) -> None:
    """Be a worker: run the cells that standard input names, one a line, until it closes."""
    lines: queue.Queue[str | None] = queue.Queue()
    busy = threading.Event()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a training prints must not pass for an answer

    def listen() -> None:
        for line in sys.stdin:
            busy.set()
            lines.put(line)
        if busy.is_set():
            os._exit(1)  # the study has died
        lines.put(None)

    threading.Thread(target=listen, daemon=True).start()
    while (line := lines.get()) is not None:
        order = json.loads(line)
        folder = Path(order["folder"])
        with _output_to(folder):
            done = run(Cell(**order["cell"]), folder)
        busy.clear()
        answers.write(f"{'done' if done else 'failed'}\n")
        answers.flush()


@contextmanager
def _output_to(folder: Path):
    """Send everything printed, by Python or below it, to FOLDER.log: beside the folder, which a cell may empty."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(stream) for stream in (1, 2)]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, before in zip((1, 2), kept):
                os.dup2(before, stream)
                os.close(before)
