"""The tables of a study of several parts, and answers that are recorded part by part, seed by seed.

A large study is run over days or on several machines. What is kept of it is a file for each part and seed, written when
all its cells are finished; the tables are made of all files that are there::

    answers/base.parquet, answers/machine-10.parquet, …    predictions, with part, asked, sample and thought
    comparisons.csv     what the study stated beforehand (medr1kit.study.comparisons)
    transfer_modality.csv, transfer_task.csv    medr1kit.transfer_table of each part, of the first set of questions
    scores.csv          accuracy by part, set, method, format, thought, and place: home, away
    samples.csv         medr1kit.pass_at_k of what was drawn
    truth.csv           medr1kit.rationale_truth, of phantoms
    curves.csv, runs.csv, provenance.json       as of any study

The machine that ran a part may be gone: what is recorded is trusted by the digest of its cells' definitions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from medr1kit.results.compare import transfer_table
from medr1kit.results.rationales import rationale_truth
from medr1kit.results.runs import read_parquet, replace_file
from medr1kit.results.samples import pass_at_k
from medr1kit.results.tables import PREDICTIONS, score
from medr1kit.study.comparisons import at_home, compare_stated
from medr1kit.study.folder import PREDICTIONS_FILE, make_folder
from medr1kit.study.grid import Cell, Study
from medr1kit.study.results import (
    ASKED,
    PROVENANCE,
    curves,
    finished,
    one_table,
    packed,
    provenance,
    read_predictions,
    refuse_foreign,
    runs,
    write_csv,
)
from medr1kit.study.settings import GROUPS
from medr1kit.vqa import DataError


def write_parts(study: Study, root: Path, folder: Path | None = None) -> Path:
    """Write the tables of a study of several parts.

    Args:
        study: the study.
        root: its folder.
        folder: where parts are recorded that are finished; tables there are of all that is recorded. None: the tables
            go to ``root/tables``, of every finished cell, and nothing is recorded.

    Returns:
        The folder of the tables.

    Raises:
        DataError: if nothing is finished, or what is recorded is of another definition.
    """
    apart, folder = folder is not None, Path(folder or root / "tables")
    refuse_foreign(folder)
    make_folder(folder / "answers" if apart else folder)
    if apart:
        known = _record(study, root, folder)
        frames = [read_parquet(_file(folder, unit)) for unit in known]
        answers = one_table(frames, (*PREDICTIONS, *ASKED))
    else:
        answers = read_predictions(study, root)
        replace_file(root / PREDICTIONS_FILE, answers.to_parquet(index=False))
        replace_file(folder / PROVENANCE, _as_text(provenance(study, root, answers)))
        for name, make in {"curves": curves, "runs": runs}.items():
            if (table := make(study.cells, root)) is not None:
                write_csv(table, folder / f"{name}.csv")
    for name, table in tables(study, answers):
        write_csv(table, folder / f"{name}.csv")
    return folder


def tables(study: Study, answers: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield name and table of what the answers to a study of several parts tell."""
    greedy = answers[answers["sample"].isna() & answers["thought"].isna()]
    if study.settings["comparisons"]:
        yield "comparisons", compare_stated(study.settings["comparisons"], answers)
    for by in GROUPS:
        if found := [table for part in study.parts if (table := _transfer(study, answers, part, by)) is not None]:
            yield f"transfer_{by}", pd.concat(found)
    who = ["part", "asked", "method", "format"]
    told = answers[answers["sample"].isna()].assign(place=_place)
    yield "scores", score(told, by=[*who, "thought", "place"], cluster="id").drop(columns="cluster")
    if len(drawn := answers[answers["sample"].notna()]):
        groups = drawn.groupby(who, sort=False)
        yield (
            "samples",
            pd.concat([_passes(rows).assign(**dict(zip(who, names)))[[*who, *_PASSES]] for names, rows in groups]),
        )
    if len(thinking := greedy[(greedy["source"] == "phantoms") & greedy["think"].notna()]):
        yield "truth", rationale_truth(thinking.assign(place=_place), by=[*who, "place"], cluster="id")


_PASSES = ["k", "n", "pass_at_k", "low", "high", "chance", "majority", "majority_low", "majority_high", "agreement"]


def _passes(rows: pd.DataFrame) -> pd.DataFrame:
    """pass@k of one method, its trainings taken together: each answered its questions as often."""
    training = rows.groupby(["train_modality", "train_task", "seed"], dropna=False).ngroup().astype(str)
    same = rows.assign(id=rows["id"] + " " + training, model="", train_modality=None, train_task=None, seed=pd.NA)
    return pass_at_k(same, cluster="image_id")


def _place(rows: pd.DataFrame) -> pd.Series:
    """Where each question lies, seen from what its model was trained on."""
    return at_home(rows).map({True: "home", False: "away"}).mask(rows["method"] == "base", "any")


def first_set(study: Study, answers: pd.DataFrame, part: str | None = None) -> pd.DataFrame:
    """Return the greedy answers of a part, the first if None, and of the base to the part's first set of questions."""
    part = next(iter(study.parts)) if part is None else part
    test = study.parts[part]["test"]
    greedy = answers[answers["sample"].isna() & answers["thought"].isna() & answers["part"].isin(["", part])]
    asked = greedy["asked"].isna() if "name" in test else greedy["asked"] == next(iter(test))
    return greedy[asked].reset_index(drop=True)


def _transfer(study: Study, answers: pd.DataFrame, part: str, by: str) -> pd.DataFrame | None:
    """The map of a part; None if it trains on nothing of the kind, or not yet."""
    rows = first_set(study, answers, part)
    trained = rows[f"train_{by}"].notna() & (rows[f"train_{by}"] != "all")
    if not trained.any():
        return None
    formats = rows[trained]["format"].unique()
    rows = rows[(trained | (rows["method"] == "base")) & rows["format"].isin(formats)]
    return transfer_table(rows.reset_index(drop=True), by=by).assign(part=part)


# --- recording --------------------------------------------------------------------------------------------------------


def units(study: Study) -> dict[str, list[Cell]]:
    """Return the cells of what is recorded as one: the base, and each part and seed."""
    found: dict[str, list[Cell]] = {}
    for cell in study.cells:
        found.setdefault(f"{cell.part}-{cell.seed}" if cell.part else "base", []).append(cell)
    return found


def _record(study: Study, root: Path, folder: Path) -> dict[str, Any]:
    """Write what is finished in ``root`` beside what was recorded before; what is there then, by unit."""
    known = _recorded(folder)
    cells = units(study)
    logs = {name: _read_csv(folder / f"{name}.csv") for name in ("curves", "runs")}
    for unit, some in cells.items():
        if len(finished(some, root)) == len(some):
            answers = read_predictions(study, root, some)
            replace_file(_file(folder, unit), packed(answers))
            known[unit] = provenance(study, root, answers, some)
            known[unit]["digest"] = _digest(some, known[unit])
            for name, make in {"curves": curves, "runs": runs}.items():
                old = logs[name]
                kept = old[old["unit"] != unit] if "unit" in old else old
                new = make(some, root)
                logs[name] = pd.concat([kept, *([] if new is None else [new.assign(unit=unit)])], ignore_index=True)
    same = {unit for unit in known if unit in cells and known[unit]["digest"] == _digest(cells[unit], known[unit])}
    if stale := [unit for unit in known if unit not in same]:
        raise DataError(
            f"{_file(folder, stale[0])} was recorded from another definition of its cells; delete it and its entry in "
            f"{folder / PROVENANCE}, or run that part and seed again"
        )
    if not known:
        none = f"no part of {study.name} in {root} is finished, and none is recorded in {folder}"
        raise DataError(f"{none}; run it first: medr1kit study run")
    known = {unit: known[unit] for unit in cells if unit in known}
    missing = [unit for unit in cells if unit not in known]
    text = {"study": study.name, "settings": study.settings, "recorded": known, "missing": missing}
    replace_file(folder / PROVENANCE, _as_text(text))
    for name, table in logs.items():
        write_csv(table, folder / f"{name}.csv")
    return known


def _recorded(folder: Path) -> dict[str, Any]:
    file = folder / PROVENANCE
    known = json.loads(file.read_text(encoding="utf-8")).get("recorded", {}) if file.is_file() else {}
    return {unit: record for unit, record in known.items() if _file(folder, unit).is_file()}


def _file(folder: Path, unit: str) -> Path:
    return folder / "answers" / f"{unit}.parquet"


def _digest(cells: list[Cell], record: Mapping[str, Any]) -> str:
    """Of the cells' definitions, with the version that recorded them: what an earlier release recorded stays."""
    version = {"medr1kit": record["versions"]["medr1kit"][0]}
    once = (replace(cell, definition=cell.definition | version) for cell in cells)
    return hashlib.sha256(" ".join(sorted(cell.fingerprint for cell in once)).encode()).hexdigest()[:16]


def _read_csv(file: Path) -> pd.DataFrame:
    return pd.read_csv(file) if file.is_file() else pd.DataFrame()


def _as_text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"
