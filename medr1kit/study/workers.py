"""Many cells: workers that take the next free cell from one queue, on this machine or as jobs of a cluster.

The queue is the study itself, in its order: free is a cell that is not done, that nobody holds, and that has not failed
twice since the command began; those that failed once come after the others. Nothing else is shared, so a worker may
join or leave at any time, here or on another node: another task of a job array, the same command in a second shell. A
cell whose worker is gone is taken by another one, which goes on from its newest checkpoint. Where the worker went
without a word (killed for want of memory, say) that is a failure: no cell ends all workers, one after the other.

A worker lives for many cells, because importing torch and drawing the test questions takes longer than some trainings.

**Here** (:func:`run_here`) workers are subprocesses, each with its own GPUs, that end with the study, also in the
middle of a cell and also if it is killed: no training goes on behind the back of the next study. A new worker takes the
place of one that dies.

**On a cluster** (:func:`submit`) a worker is a job of submitit's and lives on when the command has ended. Before its
time is over Slurm sends it a signal; then the job is put into the queue of the cluster anew, by submitit.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, TimeoutExpired
from typing import Any

from filelock import Timeout

from medr1kit.study.cell import launched, mark_failed, run_cell
from medr1kit.study.folder import (
    STUDY_FILE,
    cell_folder,
    cell_lock,
    failures_since,
    is_locked,
    make_folder,
    state_of,
)
from medr1kit.study.grid import Cell, read_study, select
from medr1kit.vqa import DataError

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# CI: no bar of its own. That threads which wait do not spin is seen to by medr1kit itself, when it is imported.
ENVIRONMENT = dict.fromkeys(_THREADS, "1") | {"CI": "true", "TOKENIZERS_PARALLELISM": "false"}
"""What a worker's process finds in its environment, before numpy or torch is imported."""
_TRIES, _TIMEOUTS = 2, 20


def work(cells: Sequence[Cell], root: Path, since: float, run: Callable[[Cell, Path], Any] = run_cell) -> None:
    """Run cells, one after the other, until none is free.

    Args:
        cells: of a study.
        root: its folder.
        since: when the command began, in seconds of :func:`time.time`; failures before do not count.
        run: called with a cell and its folder.
    """
    over: set[str] = set()
    while (cell := _next(cells, root, since, over)) is not None:
        run(cell, cell_folder(root, cell))


def _next(cells: Sequence[Cell], root: Path, since: float, over: set[str]) -> Cell | None:
    """The next free cell, or None; the names of those that are over are added to ``over``."""
    again = []
    for cell in (cell for cell in cells if cell.name not in over):
        state, folder = state_of(root, cell), cell_folder(root, cell)
        failures = 0 if state.why == "changed" else failures_since(state.record, since)
        if state.state == "done" or (state.state == "failed" and failures >= _TRIES):
            over.add(cell.name)
        elif state.state == "running" or is_locked(folder):
            continue
        elif failures >= _TRIES:
            with suppress(Timeout), cell_lock(folder):
                mark_failed(folder, state.record, WorkerDied(_DIED))
        elif failures:
            again.append(cell)
        else:
            return cell
    return again[0] if again else None


class WorkerDied(RuntimeError):
    """The processes that ran a cell ended in the middle of it."""


_DIED = "whoever ran it was killed, twice; on Linux this is often want of memory: take fewer workers"


def logged(run: Callable[[Cell, Path], Any], cell: Cell, folder: Path) -> None:
    """Run a cell; what is printed meanwhile goes to the end of its log, beside its folder, which it may empty."""
    with _printing_to(folder.parent / f"{folder.name}.log"):
        run(cell, folder)


@contextmanager
def _printing_to(file: Path) -> Iterator[None]:
    """Send everything that is printed, by Python or below it, to the end of a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    kept = {stream: os.dup(stream) for stream in (1, 2)}
    with file.open("a") as log:
        for stream in kept:
            os.dup2(log.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        for stream, before in kept.items():
            os.dup2(before, stream)
            os.close(before)


@dataclass(frozen=True)
class Worker:
    """The work on a study as something to call, in another process or on another machine.

    Attributes:
        root: the study's folder, with its file.
        only: some of its cells, as in :func:`~medr1kit.study.grid.select`.
        since: as in :func:`work`.
        gpus_per_cell: processes of a cell; 0 is one process without a GPU.
        gpus: the GPUs that it sees, as CUDA_VISIBLE_DEVICES names them; None leaves what its process sees.
    """

    root: Path
    only: str
    since: float
    gpus_per_cell: int = 1
    gpus: str | None = None

    def __call__(self) -> None:
        """Work until no cell is free."""
        if self.gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus
        run, n = run_cell, self.gpus_per_cell
        if n > 1:
            run = partial(run_cell, train=partial(launched, "train", n), predict=partial(launched, "predict", n))
        cells = select(read_study(self.root / STUDY_FILE).cells, self.only)
        work(cells, self.root, self.since, partial(logged, run))

    def checkpoint(self) -> Any:
        """Return what submitit puts into the queue anew when the time of a job is over: the same work."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def command(self) -> list[str]:
        """Return the command line that does the same."""
        words = [sys.executable, "-m", "medr1kit", "study", "work", str(self.root), "--only", self.only]
        return [*words, "--since", repr(self.since), "--gpus-per-cell", str(self.gpus_per_cell)]


# --- here -------------------------------------------------------------------------------------------------------------


def run_here(worker: Worker, n: int, gpus: Sequence[str] = (), tick: Callable[[], None] = lambda: None) -> None:
    """Run cells by ``n`` subprocesses; returns when none is free any more.

    Args:
        worker: what each of them does.
        n: processes, at least 1.
        gpus: what each of them sees, in turn.
        tick: called every two seconds or more often, for the progress bar. If it raises (or Ctrl-C is pressed), the
            workers are killed; their cells are left as interrupted.

    Raises:
        DataError: if a worker ended by itself, and none has begun a cell since it was started.
    """
    running: dict[Popen, tuple[str | None, float]] = {}
    try:
        for number in range(n):
            _start(worker, gpus[number % len(gpus)] if gpus else None, running)
        while running:
            with suppress(TimeoutExpired):
                next(iter(running)).wait(2)
            for process in [process for process in running if process.poll() is not None]:
                its_gpus, begun = running.pop(process)
                if process.returncode:
                    if max((file.stat().st_mtime for file in worker.root.glob("cells/*/cell.json")), default=0) < begun:
                        log = worker.root / "workers.log"
                        raise DataError(
                            f"a worker ended with exit status {process.returncode}; its last words are in {log}"
                        )
                    _start(worker, its_gpus, running)
            tick()
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start(worker: Worker, gpus: str | None, running: dict[Popen, tuple[str | None, float]]) -> None:
    environment = os.environ | ENVIRONMENT | ({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})
    make_folder(worker.root)
    begun = time.time()
    with (worker.root / "workers.log").open("a") as log:  # a session of its own: Ctrl-C is for the study
        given = {"stdin": PIPE, "stdout": log, "stderr": STDOUT, "env": environment, "start_new_session": True}
        running[Popen(worker.command(), **given)] = gpus, begun


# --- on a cluster -----------------------------------------------------------------------------------------------------


def check_cluster(cluster: str) -> None:
    """Refuse a cluster that cannot be reached from here.

    Raises:
        DataError: saying what is missing.
    """
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise DataError(
            "--cluster needs the package submitit, which is not installed: pip install 'medr1kit[cluster]', or leave "
            "--cluster out and submit the command by sbatch --array"
        ) from error
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise DataError(
            "--cluster slurm: there is no Slurm here (no sbatch and srun among the programs); run the command on a "
            "node of the cluster that has them, or leave --cluster out to run the study on this machine"
        )


def submit(
    worker: Worker, cluster: str, n: int, minutes: int, words: Mapping[str, Any], gpus: Sequence[str] = ()
) -> list[Any]:
    """Submit ``n`` workers, each as a job, and return submitit's jobs.

    Args:
        worker: what each of them does.
        cluster: "slurm", or "local" for processes of this machine that are treated alike.
        n: jobs.
        minutes: after which a job is put into the queue anew, 20 times at most.
        words: further options of sbatch.
        gpus: what each of them sees, in turn; none on Slurm, which says so itself.

    Raises:
        DataError: what the cluster says if it refuses them.
    """
    import submitit

    timeouts = {f"{cluster}_max_num_timeout": _TIMEOUTS}
    executor = submitit.AutoExecutor(worker.root / "jobs", cluster=cluster, **timeouts)
    asked = {"name": worker.root.name, "timeout_min": minutes, "gpus_per_node": worker.gpus_per_cell or None}
    executor.update_parameters(**asked, slurm_additional_parameters=dict(words))
    each = [replace(worker, gpus=gpus[number % len(gpus)] if gpus else None) for number in range(n)]
    try:
        with submitit.helpers.environment_variables(**ENVIRONMENT), executor.batch():
            return [executor.submit(one) for one in each]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise DataError(f"the jobs were not submitted: {' '.join(str(error).split())[:400]}") from error


def wait_for(jobs: Sequence[Any], tick: Callable[[], None]) -> None:
    """Wait until jobs have ended; if Ctrl-C is pressed they are cancelled.

    Args:
        jobs: from :func:`submit`.
        tick: called every two seconds, for the progress bar.
    """
    try:
        while not all(job.done() for job in jobs):
            time.sleep(2)
            tick()
    except KeyboardInterrupt:
        for job in jobs:
            job.cancel()
        raise
