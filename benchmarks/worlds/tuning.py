"""The trials behind the preset ``tiny``: as many for either method, on the validation split of both worlds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

import medr1kit as mk
from benchmarks.worlds.cells import N_TRAIN, TWIN_SHARE, model_digest
from benchmarks.worlds.run import run_all, train
from medr1kit.study.cell import run_cell
from medr1kit.study.folder import cell_folder, read_record, state_of
from medr1kit.study.grid import Cell
from medr1kit.training.presets import PRESETS

RUNS = Path("runs/worlds-tuning")
SEED, N_VAL = 0, 400
WORLDS = {"machine": ("OCT", {"scanner": "B"}), "twins": ("MRI", {"twins": TWIN_SHARE})}
FORMATS = ("no-think", "think-before")
TRIALS = {  # what differs from the preset; either method sees 2,000 questions
    "grpo": (
        {"learning_rate": 2.5e-4},
        {"learning_rate": 5e-4},
        {"learning_rate": 1e-3},
        {"learning_rate": 5e-4, "lora": {"tower": False}},
    ),
    "sft": (
        {"learning_rate": 5e-4},
        {"learning_rate": 1e-3},
        {"learning_rate": 2e-3},
        {"learning_rate": 1e-3, "lora": {"tower": False}},
    ),
}
BEST = {"grpo": 5e-4, "sft": 2e-3}  # then the tower once more, on the other modalities
TOWER = [(modality, tower) for modality in ("CT", "Dermoscopy", "MRI") for tower in (True, False)]


def trials() -> list[Cell]:
    """Return a cell for each trial, world and format."""
    found = []
    for number in range(4):
        for world, (modality, data) in WORLDS.items():
            for format in FORMATS:
                for method, settings in TRIALS.items():
                    found.append(_trial(world, modality, data, method, format, settings[number], number))
    for number, (modality, tower) in enumerate(TOWER, 4):
        for method, rate in BEST.items():
            settings = {"learning_rate": rate, "lora": {"tower": tower}}
            found.append(_trial("machine", modality, {"scanner": "B"}, method, "no-think", settings, number))
    return found


def _trial(world: str, modality: str, data: dict, method: str, format: str, settings: dict, number: int) -> Cell:
    definition = {"group": "tuning", "world": world, "data": data, "n": N_TRAIN, "number": number, "method": method}
    definition |= {"model": model_digest(), "preset": PRESETS["tiny"][method], "settings": settings}
    return Cell(f"{world}_{method}_{format}_{number}", "modality", modality, method, format, SEED, definition)


def ask(cell: Cell, folder: Path) -> None:
    """Ask the validation questions of the cell's world."""
    data = cell.definition["data"]
    model, processor = mk.load_model(folder)
    questions = mk.load_vqa("phantoms", split="val", modality=cell.trained_on, n=N_VAL, **data)
    preds = mk.predict(model, processor, questions, format=cell.format, labels=cell.labels)
    preds.to_parquet(folder / "predictions.parquet", index=False)


def tune(workers: int = 2) -> pd.DataFrame:
    """Run the trials that are not done, and return a row a trial."""
    run_all(trials(), RUNS, workers, partial(run_cell, train=train, predict=ask))
    rows = []
    for cell in trials():
        if state_of(RUNS, cell).state == "done":
            preds = pd.read_parquet(cell_folder(RUNS, cell) / "predictions.parquet")
            tower = cell.definition["settings"].get("lora", {}).get("tower", True)
            row = {"world": cell.definition["world"], "modality": cell.trained_on, "format": cell.format}
            row |= {"method": cell.method, "learning_rate": cell.definition["settings"]["learning_rate"]}
            row |= {"tower": int(tower), "n": len(preds), "accuracy": preds["correct"].mean()}
            row |= {"without_mr": preds[preds["task"] != "Modality Recognition"]["correct"].mean()}
            seconds = read_record(cell_folder(RUNS, cell))["cpu_seconds"]["train"]
            rows.append(row | {"well_formed": preds["well_formed"].mean(), "cpu_seconds": seconds})
    return pd.DataFrame(rows)
