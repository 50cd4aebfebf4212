"""Train a cell, and ask its model every question that the tables need."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets
from PIL import Image

import medr1kit as mk
from benchmarks.worlds.cells import HOME
from benchmarks.worlds.thoughts import interventions, sampled
from medr1kit.data.phantoms import draw, question_of
from medr1kit.data.phantoms.scanner import undo_scanner
from medr1kit.data.phantoms.truth import ImageId
from medr1kit.data.phantoms.twins import TWINS
from medr1kit.study.cell import run_cell
from medr1kit.study.grid import Cell
from medr1kit.study.workers import ENVIRONMENT, logged, work

RUNS = Path("runs/worlds")
SEED = 909  # of the test questions; no setting was chosen on them
N_OWN, N_OWN_A, N_AWAY, N_TWINS = 500, 250, 480, 400  # questions; away: over all eight modalities
N_THOUGHTS, N_SAMPLED = 200, 100


def run(cells: list[Cell], workers: int) -> None:
    """Train and ask cells that are not finished yet."""
    run_all(cells, RUNS, workers, partial(run_cell, train=train, predict=ask))


def run_all(cells: list[Cell], root: Path, workers: int, run_one: Callable[[Cell, Path], None]) -> None:
    """Run cells by processes of one thread each, until none is left."""
    os.environ |= ENVIRONMENT
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        started = [pool.submit(work, cells, root, time.time(), partial(logged, run_one)) for _ in range(workers)]
        for worker in started:
            worker.result()


def train(cell: Cell, folder: Path) -> None:
    """Train as the cell's definition says."""
    definition = cell.definition
    dataset = training_questions(cell)
    model, processor = mk.load_model("tiny")
    method = {"sft": mk.train_sft, "grpo": mk.train_grpo}[definition["method"]]
    arguments = {"format": cell.format, "preset": definition["preset"], "seed": cell.seed, "overwrite": True}
    method(model, processor, dataset, output_dir=folder, **arguments, **definition["settings"])


def training_questions(cell: Cell) -> Dataset:
    """Return the questions that a cell trains on."""
    definition = cell.definition
    place = {"modality": cell.trained_on, "n": definition["n"], "seed": cell.seed}
    dataset = mk.load_vqa("phantoms", split="train", **place, **definition["data"])
    if not definition["group"].endswith("permuted"):
        return dataset
    wrong = dataset.select(np.roll(np.arange(len(dataset)), 7))  # each question beside another one's picture
    return concatenate_datasets([dataset.remove_columns("image"), wrong.select_columns("image")], axis=1)


def ask(cell: Cell, folder: Path) -> None:
    """Ask a cell's model all its question sets, and keep the answers in one table."""
    model, processor = mk.load_model("tiny" if cell.method == "base" else folder)
    tables = []
    for name, questions, images in question_sets(cell):
        preds = mk.predict(model, processor, questions, format=cell.format, labels=cell.labels, images=images)
        tables.append(preds.assign(group=cell.definition["group"], asked=name, images=images))
    pd.concat(tables).to_parquet(folder / "predictions.parquet", index=False)
    if cell.definition["group"] in ("base", "machine") and cell.seed in (None, 0):
        looked_into(cell, model, processor).to_parquet(folder / "looked_into.parquet", index=False)


def looked_into(cell: Cell, model, processor) -> pd.DataFrame:
    """Return what the model makes of other thoughts, in think-before, and of being sampled several times."""
    tables = []
    for scanner in "AB" if cell.method == "base" else "B":
        for modality in HOME if cell.method == "base" else [cell.trained_on]:
            dataset = _questions(modality=modality, n=N_THOUGHTS, scanner=scanner)
            part = dataset.select(range(N_SAMPLED))
            tables.append(sampled(model, processor, part, cell.format).assign(scanner=scanner))
            if cell.format == "think-before":
                tables.append(interventions(model, processor, dataset).assign(scanner=scanner))
    return pd.concat(tables).assign(format=cell.format, **cell.labels)


def question_sets(cell: Cell):
    """Yield name, questions and images ("right", "shuffled", "blank") of what a cell's model is asked."""
    group, base = cell.definition["group"], cell.method == "base"
    if base or not group.startswith(("twins", "same")):
        for modality in HOME if base else [cell.trained_on]:
            for images in ("right", "shuffled", "blank"):
                yield "B own", _questions(modality=modality, n=N_OWN, scanner="B"), images
            if base:
                yield "B own, undone", _undone(modality), "right"
            yield "A own", _questions(modality=modality, n=N_OWN_A), "right"
            if base or group == "shortcut":
                yield "B own, told", _questions(modality=modality, n=N_OWN, scanner="B", shortcut=1.0), "right"
                yield "B own, misled", _misled(modality), "right"
        yield "B away", _questions(n=N_AWAY, scanner="B"), "right"
        yield "A away", _questions(n=N_AWAY), "right"
    if base or group.startswith("twins"):
        for modality in TWINS:
            own = base or modality == cell.trained_on
            for images in ("right", "shuffled", "blank") if own else ("right",):
                yield "twins", _questions(modality=modality, n=N_TWINS, twins=1.0), images
            if own:
                yield "A own, no twins", _questions(modality=modality, n=N_TWINS, twins=0.0), "right"
        if not base:
            yield "A away", _questions(n=N_AWAY), "right"
    if base or group == "same":
        for modality in HOME if base else [cell.trained_on]:
            for images in ("right", "shuffled", "blank"):
                yield "A own, all", _questions(modality=modality, n=N_OWN), images


@lru_cache(maxsize=64)
def _questions(**which) -> Dataset:
    return mk.load_vqa("phantoms", split="test", seed=SEED, **which)


@lru_cache
def _undone(modality: str) -> Dataset:
    """Scanner B's pictures, its field of view and contrast undone by arithmetic."""
    dataset = _questions(modality=modality, n=N_OWN, scanner="B")
    return dataset.map(lambda row: {"image": undo_scanner(row["image"])}, features=dataset.features)


@lru_cache
def _misled(modality: str) -> Dataset:
    """Plain questions whose marker stands where it would for another answer."""
    plain = _questions(modality=modality, n=N_OWN, scanner="B")
    return plain.map(lambda row: {"image": misled(row["image_id"])}, features=plain.features)


def misled(image_id: str) -> Image.Image:
    """Return a phantom with its marker where a shortcut would have it for another answer."""
    phantom = ImageId.read(image_id)
    question = question_of(phantom)
    return Image.fromarray(draw(phantom, marker=(question.place + 1) % question.n_places)[0])
