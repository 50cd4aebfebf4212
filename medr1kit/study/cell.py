"""One cell of a study: train, then answer the test questions.

The model that is tested is the one on disk, loaded anew: so a cell that was interrupted after its training goes on with
its predictions, and what was tested is what one can load later.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from filelock import Timeout

from medr1kit.study.folder import cell_lock, clear, now, read_record, state_in, write_record
from medr1kit.study.grid import Cell

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
    (folder / "error.txt").unlink(missing_ok=True)
    record = {"name": cell.name, "fingerprint": cell.fingerprint, "definition": cell.definition}
    record |= {"state": "running", "started": now(), "seconds": {}, "cpu_seconds": {}, "trained": False}
    if earlier.get("trained"):
        record |= {"trained": True}
        record |= {name: {"train": earlier[name]["train"]} for name in ("seconds", "cpu_seconds")}
    write_record(folder, record)
    try:
        record["versions"] = _versions()
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
    model, processor = load_model(definition["model"])
    method = {"sft": train_sft, "grpo": train_grpo}[definition["method"]]
    arguments = {"format": cell.format, "output_dir": folder, "seed": cell.seed, "overwrite": True}
    method(model, processor, dataset, preset=definition["preset"], **arguments, **definition["settings"])


def predict_cell(cell: Cell, folder: Path) -> None:
    """Answer the test questions with the trained model, or with the base."""
    from medr1kit.models.load import load_model
    from medr1kit.models.predict import predict

    definition = cell.definition
    model, processor = load_model(folder if cell.train_by is not None else definition["model"])
    dataset = _questions(json.dumps(definition["test"]))
    output = folder / "predictions.parquet"
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


@cache
def _versions() -> dict[str, str]:
    from importlib.metadata import version
    from platform import python_version

    return {"python": python_version(), **{name: version(name) for name in _PACKAGES}}
