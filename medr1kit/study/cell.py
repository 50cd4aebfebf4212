"""Cells are run: one, trained and then tested; or many, by processes of one thread each.

The model that is tested is the one on disk, loaded anew: so a cell that was interrupted after its training goes on with
its predictions, and what was tested is what one can load later.

A worker lives for many cells, because importing torch and drawing the test questions takes longer than some trainings.
It is told a cell through a pipe, and answers when the cell has ended. It ends with the study, also in the middle of a
cell: no training goes on behind the back of the next study. When a worker dies (killed for want of memory, say), its
cell has failed, and the next cell gets a new worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from platform import python_version
from typing import Any

from filelock import Timeout
from tqdm import tqdm

from medr1kit.models.machine import free_memory
from medr1kit.study.folder import (
    PREDICTIONS_FILE,
    cell_folder,
    cell_lock,
    clear,
    now,
    read_record,
    state_in,
    write_record,
)
from medr1kit.study.grid import Cell

_PACKAGES = ("medr1kit", "torch", "transformers", "trl", "peft", "datasets", "numpy")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# CI: no bar of its own. That threads which wait do not spin is seen to by medr1kit itself, when it is imported.
_ENVIRONMENT = dict.fromkeys(_THREADS, "1") | {"CI": "true", "TOKENIZERS_PARALLELISM": "false"}


def run_cell(cell: Cell, folder: Path, train: Callable | None = None, predict: Callable | None = None) -> bool:
    """Train and test a cell, whatever was done of it before; its state goes to cell.json.

    A cell that another process is running, or has finished meanwhile, is left alone.

    Args:
        cell: of a study.
        folder: the cell's folder.
        train, predict: called with cell and folder; :func:`train_cell` and :func:`predict_cell` if None.

    Returns:
        Whether the cell is done. If it failed, error.txt holds the traceback.
    """
    try:
        with cell_lock(folder):
            done = state_in(folder, cell).state == "done"
            return done or _run(cell, folder, train or train_cell, predict or predict_cell)
    except Timeout:
        return False


def _run(cell: Cell, folder: Path, train: Callable, predict: Callable) -> bool:
    earlier = read_record(folder)
    if earlier.get("fingerprint") != cell.fingerprint:
        clear(folder)
        earlier = {}
    for name in ("error.txt", PREDICTIONS_FILE):  # answers are there and the cell is not done: they are damaged
        (folder / name).unlink(missing_ok=True)
    record = {"name": cell.name, "fingerprint": cell.fingerprint, "definition": cell.definition}
    record |= {"state": "running", "started": now(), "seconds": {}, "cpu_seconds": {}, "trained": False}
    if earlier.get("trained"):
        record |= {"trained": True, **{name: {"train": earlier[name]["train"]} for name in ("seconds", "cpu_seconds")}}
    write_record(folder, record)
    try:
        record["versions"] = {"python": python_version(), **{name: version(name) for name in _PACKAGES}}
        if cell.train_by is not None and not record["trained"]:
            _timed(record, "train", train, cell, folder)
            record["trained"] = True
            write_record(folder, record)
        _timed(record, "predict", predict, cell, folder)
        record |= {"state": "done", "ended": now()}
    except Exception as error:  # whatever it is, the other cells go on
        mark_failed(folder, record, error)
        return False
    write_record(folder, record)
    return True


def mark_failed(folder: Path, record: dict[str, Any], error: Exception) -> None:
    """Write that a cell failed, the first line of the reason, and error.txt with all of it."""
    text = "".join(traceback.format_exception(error))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(text, encoding="utf-8")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    write_record(folder, record | {"state": "failed", "ended": now(), "error": f"{type(error).__name__}: {reason}"})


def train_cell(cell: Cell, folder: Path) -> None:
    """Train as the cell's definition says; the run goes to the cell's folder."""
    from medr1kit.models.load import load_model
    from medr1kit.training.train import train_grpo, train_sft

    definition = cell.definition
    dataset = _questions(json.dumps(definition["train"]))
    free_memory()  # of the model before
    model, processor = load_model(definition["model"])
    method = {"sft": train_sft, "grpo": train_grpo}[definition["method"]]
    arguments = {"format": cell.format, "output_dir": folder, "seed": cell.seed}
    arguments["resume"] = (folder / "run.json").is_file()  # of the same definition: `_run` has cleared others
    method(model, processor, dataset, preset=definition["preset"], **arguments, **definition["settings"])


def predict_cell(cell: Cell, folder: Path) -> None:
    """Answer the test questions with the trained model, or with the base."""
    from medr1kit.models.load import load_model
    from medr1kit.models.predict import predict

    definition = cell.definition
    free_memory()
    model, processor = load_model(folder if cell.train_by is not None else definition["model"])
    dataset = _questions(json.dumps(definition["test"]))
    output = folder / PREDICTIONS_FILE
    predict(model, processor, dataset, format=cell.format, labels=cell.labels, output=output, **definition["predict"])


@lru_cache(maxsize=4)
def _questions(arguments: str):
    """A data set by the arguments of load_vqa, as JSON; a worker asks for the same test questions again and again."""
    from medr1kit.data.load import load_vqa

    chosen = json.loads(arguments)
    chosen.pop("digests", None)
    return load_vqa(chosen.pop("name"), **chosen)


def _timed(record: dict[str, Any], what: str, work: Callable, cell: Cell, folder: Path) -> None:
    started, cpu = time.perf_counter(), time.process_time()
    work(cell, folder)
    record["seconds"][what] = round(time.perf_counter() - started, 1)
    record["cpu_seconds"][what] = round(time.process_time() - cpu, 1)


# --- many cells ------------------------------------------------------------------------------------------------------


class WorkerDied(RuntimeError):
    """A worker process ended while it ran a cell."""


class Worker:
    """A process that runs cells, seen from the study.

    Args:
        run: what it does with a cell and its folder; a function of a module, which the process imports.
        gpu: the one GPU that it sees, as CUDA_VISIBLE_DEVICES names it; None leaves what the study sees.

    Attributes:
        pipe: has something to read when the cell has ended, or the process.
        gpu: as given.
    """

    def __init__(self, run: Callable[[Cell, Path], Any] = run_cell, gpu: str | None = None):
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.gpu = gpu
        self.process = context.Process(target=_serve, args=(theirs, run, gpu))
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
    start: Callable[..., Any] = Worker,
    tick: Callable[[], None] = lambda: None,
    gpus: Sequence[str] = (),
) -> None:
    """Run cells in order on ``workers`` processes; returns when all have ended, well or badly.

    Args:
        cells: the cells to run.
        root: the study's folder.
        workers: processes, at least 1.
        start: makes a worker; called with ``gpu=`` where there are some.
        tick: called whenever a cell has ended, and every two seconds, for the progress bar. If it raises (or Ctrl-C is
            pressed), the workers are killed; their cells are left as interrupted.
        gpus: each worker sees one of these, and each is seen by as few workers as possible.
    """
    waiting, idle, busy = deque(cells), [], {}

    def new() -> Any:
        if not gpus:
            return start()
        taken = Counter(worker.gpu for worker in [*idle, *(worker for worker, _ in busy.values())])
        return start(gpu=min(gpus, key=taken.__getitem__))

    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker, cell = idle.pop() if idle else new(), waiting.popleft()
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


def _serve(pipe: Connection, run: Callable[[Cell, Path], Any], gpu: str | None) -> None:
    """Be a worker: run the cells that come through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the study, which then ends its workers
    os.environ |= _ENVIRONMENT | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})  # before numpy or torch is imported
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
