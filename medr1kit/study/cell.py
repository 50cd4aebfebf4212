"""A cell is run: trained, and then tested.

The model that is tested is the one on disk, loaded anew: so a cell that was interrupted after its training goes on with
its predictions, and what was tested is what one can load later.

A cell may be given several GPUs. Then torchrun starts a process for each, once for the training and once for the test
(:func:`launched`); a step takes as many rows as in one process, and the folder holds what one process would write.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from subprocess import PIPE, Popen
from threading import Thread
from typing import Any

from filelock import Timeout

from medr1kit.formats import format_named
from medr1kit.models.machine import free_memory
from medr1kit.study.folder import (
    PREDICTIONS_FILE,
    STUDY_FILE,
    cell_lock,
    clear,
    failures_in,
    now,
    read_record,
    state_in,
    write_record,
)
from medr1kit.study.grid import Cell, read_study
from medr1kit.study.questions import ask, questions
from medr1kit.training.checks import processes
from medr1kit.training.presets import PRESETS
from medr1kit.vqa import DataError

_PACKAGES = ("medr1kit", "torch", "transformers", "trl", "peft", "datasets", "numpy")


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
    record["failures"] = failures_in(earlier)
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
    except BaseException:  # Ctrl-C, or the time of a job is over
        write_record(folder, record | {"state": "waiting"})
        raise
    write_record(folder, record)
    return True


def mark_failed(folder: Path, record: dict[str, Any], error: Exception) -> None:
    """Write that a cell failed and when, the first line of the reason, and error.txt with all of it."""
    text = "".join(traceback.format_exception(error))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(text, encoding="utf-8")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    record = record | {"failures": [*record.get("failures", []), time.time()]}
    write_record(folder, record | {"state": "failed", "ended": now(), "error": f"{type(error).__name__}: {reason}"})


def train_cell(cell: Cell, folder: Path) -> None:
    """Train as the cell's definition says; the run goes to the cell's folder."""
    from medr1kit.models.load import load_model
    from medr1kit.training.reward_functions import rewards_named
    from medr1kit.training.train import train_grpo, train_sft

    definition = cell.definition
    dataset = questions(definition["train"])
    free_memory()  # of the model before
    reference = definition["preset"] == PRESETS["med-r1"][definition["method"]]  # which trains weights in float32
    loading = ({"dtype": "float32"} if reference else {}) | definition.get("load", {})
    model, processor = load_model(definition["model"], **loading)
    method = {"sft": train_sft, "grpo": train_grpo}[definition["method"]]
    settings = definition["settings"] | shared_step(definition, processes())
    if "rewards" in settings:
        settings["rewards"] = rewards_named(settings["rewards"], format_named(cell.format))
    arguments = {"format": cell.format, "output_dir": folder, "seed": cell.seed}
    arguments["resume"] = (folder / "run.json").is_file()  # of the same definition: `_run` has cleared others
    method(model, processor, dataset, preset=definition["preset"], **arguments, **settings)


def predict_cell(cell: Cell, folder: Path) -> None:
    """Answer the test questions with the trained model, or with the base."""
    from medr1kit.models.load import load_model

    definition = cell.definition
    free_memory()
    name = folder if cell.train_by is not None else definition["model"]
    model, processor = load_model(name, **definition.get("load", {}))
    ask(model, processor, cell, folder)


def _timed(record: dict[str, Any], what: str, work: Callable, cell: Cell, folder: Path) -> None:
    started, cpu = time.perf_counter(), sum(os.times()[:4])  # with the processes that it starts
    work(cell, folder)
    record["seconds"][what] = round(time.perf_counter() - started, 1)
    record["cpu_seconds"][what] = round(sum(os.times()[:4]) - cpu, 1)


# --- a cell on several GPUs -------------------------------------------------------------------------------------------


def shared_step(definition: Mapping[str, Any], n: int) -> dict[str, int]:
    """Return the settings by which ``n`` processes take the rows of a step that one would take.

    Raises:
        DataError: if they cannot share them evenly.
    """
    settings = definition["settings"]
    both = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1} | definition["preset"] | settings
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    if n < 2 or ("questions" in both and not set(names) & set(settings)):  # which the preset itself shares
        return {}
    rows = both[names[0]] * both[names[1]]
    device = max(1, min(both[names[0]], rows // n))
    if rows % (device * n):
        raise DataError(
            f"a step of this cell has {rows} rows, which {n} processes cannot share evenly; choose another "
            "--gpus-per-cell, or other per_device_train_batch_size and gradient_accumulation_steps in the study"
        )
    return {names[0]: device, names[1]: rows // (device * n)}


def launched(what: str, n: int, cell: Cell, folder: Path) -> None:
    """Train or test a cell by several processes; each is a ``medr1kit study cell`` that torchrun starts.

    Args:
        what: "train" or "predict".
        n: processes.
        cell, folder: as in :func:`run_cell`.

    Raises:
        RuntimeError: if they failed: what the first of them to fail said.
    """
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}"]
    line += ["-m", "medr1kit", "study", "cell", what, str(folder)]
    with Popen(line, stdin=PIPE, start_new_session=True) as process:  # whatever ends us closes the pipe, and ends them
        status = process.wait()
    if status:
        file = folder / "error.txt"
        said = file.read_text(encoding="utf-8") if file.is_file() else f"exit status {status}, see {folder}.log"
        raise RuntimeError(f"{said.strip().splitlines()[-1]}\n{said}")


def one_of_several(what: str, folder: Path) -> None:
    """Be one of the processes that :func:`launched` starts.

    Raises:
        DataError: if the study was changed since the cell began.
    """
    end_with_parent()
    study = read_study(folder.parents[1] / STUDY_FILE)
    cell = next((cell for cell in study.cells if cell.name == folder.name), None)
    try:
        if cell is None or read_record(folder).get("fingerprint") != cell.fingerprint:
            raise DataError(f"{STUDY_FILE} was changed since {folder.name} began; run the study again")
        {"train": train_cell, "predict": predict_cell}[what](cell, folder)
    except Exception as error:
        with suppress(FileExistsError), (folder / "error.txt").open("x", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
        raise


def end_with_parent() -> None:
    """End this process when its standard input closes: a pipe from the process that started it, however that ends."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    Thread(target=wait, daemon=True).start()
