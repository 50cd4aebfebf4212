"""What a study found: all predictions in one table, and small tables to keep, with what made them.

predictions.parquet   every answer of every finished cell (columns of medr1kit.results.tables.PREDICTIONS)
tables/
  transfer_modality.csv, transfer_task.csv   medr1kit.transfer_table
  scores_modality.csv, scores_task.csv       accuracy of every model, base included, seeds averaged
  curves.csv                                 GRPO's rewards and lengths, a row a logged step
  runs.csv                                   a row a cell: seconds of wall clock and of CPU
  provenance.json                            commands, study, seeds, versions, dates, cells

With a folder of their own, as for ``medr1kit/results/recorded/``, the tables are followed there by the predictions
themselves, all rows and all columns, sorted by question and packed: texts about one image are alike, and 190,000
answers of 25 tokens take 1.5 MB.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.compare import transfer_table
from medr1kit.results.formulas import harmless_table
from medr1kit.results.runs import load_run, read_parquet, replace_file
from medr1kit.results.tables import PREDICTIONS, VERDICT, check_predictions, score
from medr1kit.study.folder import PREDICTIONS_FILE, cell_folder, commands_so_far, make_folder, now, state_of
from medr1kit.study.grid import Cell, Study
from medr1kit.study.settings import GROUPS
from medr1kit.vqa import DataError

_CURVES = ("step", "reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "entropy")
_PARTS, CLOCKS = ("train", "predict"), ("seconds", "cpu_seconds")
ASKED = ("part", "asked", "sample", "thought")
"""Columns of the answers to a study of several parts, beside those of predictions."""
_WHO = ("train_modality", "train_task", "method", "format", "seed")
PROVENANCE, _BY_GROUP = "provenance.json", [f"{what}_{by}.csv" for what in ("transfer", "scores") for by in GROUPS]


def finished(cells: Iterable[Cell], root: Path) -> list[Cell]:
    """Return the cells that are done."""
    return [cell for cell in cells if state_of(root, cell).state == "done"]


def read_predictions(study: Study, root: Path, cells: Iterable[Cell] | None = None) -> pd.DataFrame:
    """Return the predictions of all finished cells, or of some, in the order of the study.

    Raises:
        DataError: if no cell is finished.
    """
    cells = progress(finished(study.cells, root) if cells is None else list(cells), "reading predictions", unit="cell")
    frames = [_answers(cell_folder(root, cell) / PREDICTIONS_FILE).assign(part=cell.part) for cell in cells]
    if not frames:
        raise DataError(f"no cell of {study.name} in {root} is finished; run the study first")
    return one_table(frames, PREDICTIONS if "" in study.parts else (*PREDICTIONS, *ASKED))


def one_table(frames: Sequence[pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Return several tables as one, with these columns."""
    # Columns of nothing but missing values (the base has no seed) would decide the type of the whole column.
    columns = {name: [value for frame in frames for value in frame.get(name, [None] * len(frame))] for name in names}
    preds = pd.DataFrame(columns, columns=list(names))
    whole = [name for name in ("seed", "sample") if name in names]
    return preds.astype(dict.fromkeys(whole, "Int64"))


def _answers(file: Path) -> pd.DataFrame:
    try:
        return check_predictions(read_parquet(file), ["id", *VERDICT])
    except DataError as error:
        why = " ".join(str(error).split())
        raise DataError(f"{why}; delete {file}, and `medr1kit study run` runs its cell again") from error


def write_tables(study: Study, root: Path, folder: Path | None = None) -> Path:
    """Write predictions.parquet to the study's folder and the small tables to another one.

    Args:
        study: the study.
        root: its folder.
        folder: for the tables, and for predictions.parquet once more, packed; ``root/tables``, and no such copy, if
            None. Made if missing; earlier tables of a study are replaced.

    Returns:
        The folder of the tables.

    Raises:
        DataError: if no cell is finished or one cannot be read, or the folder holds files of the same names that are
            not of a study.
    """
    apart, folder = folder is not None, Path(folder or root / "tables")
    refuse_foreign(folder)
    preds = read_predictions(study, root)
    replace_file(root / PREDICTIONS_FILE, preds.to_parquet(index=False))
    make_folder(folder)
    text = json.dumps(provenance(study, root, preds), indent=2, ensure_ascii=False)
    replace_file(folder / PROVENANCE, text + "\n")  # first: by it the folder is known as ours
    if apart:
        replace_file(folder / PREDICTIONS_FILE, packed(preds))
    for by in study.settings["train_by"]:
        if preds[f"train_{by}"].notna().any():
            write_csv(transfer_table(preds, by=by), folder / f"transfer_{by}.csv")
        keys = ["method", "format", "train_modality", "train_task", by]
        write_csv(score(preds, by=keys), folder / f"scores_{by}.csv")
    if (logged := curves(study.cells, root)) is not None:
        write_csv(logged, folder / "curves.csv")
    write_csv(runs(study.cells, root), folder / "runs.csv")
    return folder


def refuse_foreign(folder: Path) -> None:
    """Tables replace tables: a folder with files of their names holds the provenance of a study, or is not ours.

    Raises:
        DataError: if it is not.
    """
    with suppress(OSError, ValueError, TypeError):
        if "study" in dict(json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))):
            return
    names = (PREDICTIONS_FILE, PROVENANCE, "curves.csv", "runs.csv", *_BY_GROUP)
    if found := [name for name in names if os.path.lexists(folder / name)]:
        raise DataError(
            f"{folder / found[0]} is no table of a study and would be replaced; give another folder with --to"
        )


def packed(preds: pd.DataFrame) -> bytes:
    """Return predictions in an eighth of the usual size; what was answered to one question stands together."""
    rows = preds.sort_values(["format", "id"], kind="stable")
    return rows.to_parquet(index=False, compression="zstd", compression_level=19)


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table, replaced as a whole, rounded to four places."""
    replace_file(file, harmless_table(table.round(4)).to_csv(index=False))


def _who(cell: Cell) -> dict[str, Any]:
    part = {"part": cell.part} if cell.part else {}
    return part | {name: (cell.labels | {"format": cell.format})[name] for name in _WHO}


def curves(cells: Iterable[Cell], root: Path) -> pd.DataFrame | None:
    """Return rewards and lengths of every finished GRPO cell, a row a logged step; reward functions by their names."""
    frames = []
    for cell in finished(cells, root):
        if cell.definition["method"] != "grpo":
            continue
        metrics = load_run(cell_folder(root, cell)).metrics
        rewards = [name for name in metrics if name.startswith("rewards/") and name.endswith("/mean")]
        chosen = metrics[[name for name in _CURVES if name in metrics] + rewards]
        who = _who(cell)
        frames.append(chosen.assign(**who)[[*who, *chosen.columns]])
    return pd.concat(frames, ignore_index=True) if frames else None


def runs(cells: Iterable[Cell], root: Path) -> pd.DataFrame:
    """Return a row a cell, with the seconds of each that is done."""
    rows = []
    for cell in cells:
        state = state_of(root, cell)
        record = state.record if state.state == "done" else {}
        timed = {f"{what}_{kind}": record.get(kind, {}).get(what) for what in _PARTS for kind in CLOCKS}
        rows.append(_who(cell) | {"state": state.state} | timed)
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def provenance(study: Study, root: Path, preds: pd.DataFrame, cells: Sequence[Cell] | None = None) -> dict[str, Any]:
    """Return what made the predictions of a study's finished cells, as provenance.json holds it; or of some cells."""
    states = {cell.name: state_of(root, cell) for cell in cells or study.cells}
    done = [state.record for state in states.values() if state.state == "done"]
    versions = pd.DataFrame([record["versions"] for record in done])
    whole = {"study": study.name, "settings": study.settings} if cells is None else {}
    return whole | {
        # Where on this machine the folder lay is nobody's business.
        "commands": [line.replace(str(Path(root).resolve()), root.name) for line in commands_so_far(root)],
        "seeds": sorted({cell.seed for cell in cells or study.cells if cell.seed is not None}),
        "cells": len(states),
        "finished": len(done),
        "missing": [name for name, state in states.items() if state.state != "done"],
        "questions": int(preds["id"].nunique()),
        "versions": {name: sorted(versions[name].dropna().unique()) for name in versions},
        "started": min(record["started"] for record in done),
        "ended": max(record["ended"] for record in done),
        "written": now(),
        **{kind: round(sum(sum(record.get(kind, {}).values()) for record in done)) for kind in CLOCKS},
    }
