"""What a folder holds: a study, the tables of one, a run, or answers alone; and where they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any

import pandas as pd

from medr1kit.results.runs import Run, load_run
from medr1kit.results.tables import check_predictions
from medr1kit.study.folder import STUDY_FILE, commands_so_far, now, state_of
from medr1kit.study.grid import read_study
from medr1kit.study.results import read_predictions
from medr1kit.views.html import escape, table
from medr1kit.views.page.page import section
from medr1kit.views.widgets.run import metrics_of
from medr1kit.vqa import DataError

_PREDICTIONS, _PROVENANCE = "predictions.parquet", "provenance.json"
_SHOWN = ("method", "model", "format", "seed", "labels", "continued_from", "data", "rewards", "summary", "versions")


@dataclass(frozen=True)
class Source:
    """What a page is about.

    Attributes:
        title: in words.
        facts: what was run: name -> value.
        preds: all predictions; None if there are none.
        run: the training; None for a study and for answers alone.
        details: more settings, shown folded.
    """

    title: str
    facts: Mapping[str, Any]
    preds: pd.DataFrame | None = None
    run: Run | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What stays when the page is written again after more cells; a reader's notes are kept under it."""
        asked = [] if self.preds is None else sorted(set(map(str, self.preds["id"])))
        known = [self.title, self.facts.get("data"), self.facts.get("seed"), asked]
        return hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()[:12]


def read_source(path: Path) -> Source:
    """Return what a path holds.

    Raises:
        DataError: if it holds nothing that can be shown.
    """
    if path.is_file() and path.suffix == ".parquet":
        return Source(f"answers in {path.name}", {}, _read(path))
    if not path.is_dir():
        raise DataError(
            f"no run or study at {str(path)!r}: there is no such folder; pass one that a training or a study wrote"
        )
    if (path / STUDY_FILE).is_file():
        return _study(path)
    if (path / "run.json").is_file():
        return _run(path)
    if (path / _PREDICTIONS).is_file():
        return _tables(path)
    raise DataError(
        f"no run or study in {str(path)!r}: it has no run.json, no {STUDY_FILE} and no {_PREDICTIONS}; pass the "
        "output_dir of a training, or the folder that `medr1kit study run` wrote to"
    )


def _study(root: Path) -> Source:
    study = read_study(root / STUDY_FILE)
    preds = _plain(read_predictions(study, root))
    states = [state_of(root, cell) for cell in study.cells]
    done = [state.record for state in states if state.state == "done"]
    settings = study.settings
    facts = {
        "commands": [line.replace(str(root.resolve()), root.name) for line in commands_so_far(root)],
        "cells": f"{len(done)} of {len(study.cells)} finished",
        "model": settings["model"],
        "methods": list(settings["methods"]),
        "formats": settings["formats"],
        "seeds": settings["seeds"],
        **_counts(preds),
        "versions": _versions([record["versions"] for record in done]),
        "started": min(record["started"] for record in done),
        "ended": max(record["ended"] for record in done),
        "hours of training and testing": round(sum(sum(record["seconds"].values()) for record in done) / 3600, 1),
    }
    missing = [cell.name for cell, state in zip(study.cells, states) if state.state != "done"]
    return Source(f"study {study.name}", facts, preds, details={**settings, "not finished": missing})


def _tables(folder: Path) -> Source:
    """Recorded tables, or whatever else has predictions: the untrained base of a study, the demo."""
    preds, file = _read(folder / _PREDICTIONS), folder / _PROVENANCE
    if not file.is_file():
        return Source(f"answers in {folder.resolve().name}", _counts(preds), preds)
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}); write the tables again: medr1kit study tables") from error
    if not isinstance(known, dict):
        raise DataError(f"{file} holds a {type(known).__name__}; write the tables again: medr1kit study tables")
    facts = {name: known[name] for name in ("commands", "seeds", "versions", "started", "ended") if name in known}
    if {"finished", "cells"} <= known.keys():
        facts["cells"] = f"{known['finished']} of {known['cells']} finished"
    return Source(f"study {known.get('study', '')}", facts | _counts(preds), preds, details=known.get("settings", {}))


def _run(folder: Path) -> Source:
    run = load_run(folder)
    preds = _plain(check_predictions(run.predictions)) if len(run.predictions) else None
    if metrics_of(run).empty and preds is None:
        raise DataError(
            f"the run in {str(folder)!r} has logged nothing and answered nothing yet; wait for its first step"
        )
    facts = {name: run.config[name] for name in _SHOWN if run.config.get(name)}
    details = {"steps logged": len(metrics_of(run)), **run.config.get("arguments", {}), "lora": run.config.get("lora")}
    facts |= _counts(preds) if preds is not None else {}
    return Source(f"run {folder.resolve().name}", _without_places(facts), preds, run, _without_places(details))


def _without_places(value: Any) -> Any:
    """Settings in which the name alone is left of every full path: it is nobody's business where a run lay."""
    if isinstance(value, Mapping):
        return {name: _without_places(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(inner) for inner in value]
    if isinstance(value, str):
        for path in (Path(value), PureWindowsPath(value)):
            if path.is_absolute():
                return path.name
    return value


def _read(file: Path) -> pd.DataFrame:
    try:
        preds = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{str(file)!r} cannot be read ({error}); it is no table of predictions") from error
    return _plain(check_predictions(preds))


def _plain(preds: pd.DataFrame) -> pd.DataFrame:
    """Rows numbered from 0, options as lists."""
    preds = preds.reset_index(drop=True)
    for place, options in enumerate(preds["options"]):
        if isinstance(options, str) or not hasattr(options, "__len__"):
            raise DataError(f"predictions row {place}: the options are {options!r:.60}; expected a list of texts")
    preds["options"] = [list(options) for options in preds["options"]]
    return preds


def _counts(preds: pd.DataFrame) -> dict[str, str]:
    return {"answers": f"{len(preds):,}", "questions": f"{preds['id'].nunique():,}"}


def _versions(records: list[Mapping[str, str]]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: sorted({record[name] for record in records if name in record}) for name in names}


def facts_section(source: Source) -> str:
    """Return the section that says what was run, with what."""
    facts = {**source.facts, "this page": f"written {now()} by medr1kit {version('medr1kit')}"}
    shown = table(
        [(escape(name.replace("_", " ")), _value(value)) for name, value in facts.items()], ["", "value"], "facts"
    )
    if source.details:
        rows = [(escape(name), _value(value)) for name, value in source.details.items() if value is not None]
        shown += f"<details><summary>all settings</summary>{table(rows, ['setting', 'value'], 'settings')}</details>"
    return section("facts", "What this is", shown)


def _value(value: Any) -> str:
    """A setting as HTML, however deep; what is long gets lines of its own."""
    if isinstance(value, Mapping):
        joint = (
            "<br>"
            if any(isinstance(inner, Mapping | list | tuple) and len(inner) > 1 for inner in value.values())
            else " · "
        )
        return joint.join(f"{escape(name)}: {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        joint = "<br>" if any(len(str(inner)) > 40 for inner in value) else ", "
        return joint.join(_value(inner) for inner in value)
    return escape(value)
