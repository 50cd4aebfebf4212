"""What a cell's model is asked: one set of questions, or several, each with its own way of asking.

Answers to several sets stand in one table with the columns ``asked`` (the set's name), ``sample`` where answers were
drawn and ``thought`` where the model was made to think something else.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.formats import format_named
from medr1kit.models.probes import WORDINGS
from medr1kit.results.runs import read_parquet, replace_file
from medr1kit.study.folder import ASKED_FOLDER, PREDICTIONS_FILE, damage_of
from medr1kit.study.grid import Cell
from medr1kit.study.settings import CHANGED, TOGETHER
from medr1kit.training.checks import processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin


def questions(arguments: Mapping[str, Any]) -> Dataset:
    """Return a data set by arguments of load_vqa and what is done to it then, as a cell's definition holds them."""
    return _loaded(json.dumps(arguments))


@lru_cache(maxsize=12)  # a worker asks for the same test questions again and again
def _loaded(arguments: str) -> Dataset:
    from medr1kit.data.load import load_vqa

    chosen = json.loads(arguments)
    changed = {name: chosen.pop(name, False) for name in CHANGED}
    chosen.pop("digests", None)
    dataset = load_vqa(chosen.pop("name"), **chosen)
    if changed["wrong_pictures"]:
        dataset = _beside_wrong_pictures(dataset, chosen.get("seed", 0))
    if changed["undone"]:
        from medr1kit.data.phantoms.scanner import undo_scanner

        dataset = dataset.map(lambda row: {"image": undo_scanner(row["image"])}, features=dataset.features)
    return dataset


def _beside_wrong_pictures(dataset: Dataset, seed: int) -> Dataset:
    from datasets import concatenate_datasets

    from medr1kit.models.shown import image_rows

    shown = image_rows(dataset.remove_columns("image").to_list(), "shuffled", seed, lambda rows: [])
    pictures = dataset.select(shown).select_columns("image").flatten_indices()
    return concatenate_datasets([dataset.remove_columns("image"), pictures], axis=1)


def ask(model: PreTrainedModel, processor: ProcessorMixin, cell: Cell, folder: Path) -> None:
    """Ask a cell's model what its definition says; the answers go to its predictions.

    What was answered of several sets is kept set by set until the last one is, so that a cell that is stopped between
    two of them goes on.
    """
    definition = cell.definition
    file = folder / PREDICTIONS_FILE
    if "tests" not in definition:
        _ask(model, processor, cell, definition["test"], file)
        return
    kept, alone = folder / ASKED_FOLDER, processes() == 1
    kept.mkdir(parents=True, exist_ok=True)
    tables = []
    for number, (name, test) in enumerate(definition["tests"].items()):
        answers = kept / f"{number}.parquet"
        known = alone and answers.is_file() and not damage_of(answers)  # of several processes none runs ahead
        table = read_parquet(answers) if known else _ask(model, processor, cell, test, answers)
        tables.append(table.assign(asked=name))
    if os.environ.get("RANK", "0") == "0":
        replace_file(file, pd.concat(tables, ignore_index=True).to_parquet(index=False))
        shutil.rmtree(kept)


def _ask(model: PreTrainedModel, processor: ProcessorMixin, cell: Cell, test: Mapping[str, Any], file: Path):
    """Ask one set of questions; the answers, which go to a file, too."""
    from medr1kit.models.predict import predict, write_predictions
    from medr1kit.models.thoughts import predict_thoughts

    test = dict(test)
    own, thoughts, wording = (test.pop(name, None) for name in ("own", "thoughts", "wording"))
    asking = dict(cell.definition["predict"]) | test.pop("predict", {})
    dataset = questions(test)
    if own and cell.trained_on not in (None, TOGETHER):
        mine = [place for place, name in enumerate(dataset[cell.train_by]) if name == cell.trained_on]
        dataset = dataset.select(mine)
    format = format_named(cell.format)
    if wording:
        format = replace(format, instruction=WORDINGS[cell.format][wording])
    asking |= {"format": format, "labels": cell.labels}
    if not thoughts:
        return predict(model, processor, dataset, **asking, output=file, share=True)
    answers = predict_thoughts(model, processor, dataset, **asking)
    write_predictions(answers, file)
    return answers
