"""One HTML page of a run or a study, for places where no Python runs.

The page is a single file that asks for nothing: no network, no server, no library. It shows what the notebook widgets
show, made by the same functions (:mod:`medr1kit.views.widgets`); a short script only sorts, chooses and shows ready
pieces::

    story.py     the first view: one question before and after, one curve, one sentence
    scores.py    tables of scores and gains, and transfer maps with what is behind each cell
    reader.py    answers side by side, of a stated sample of questions: a study answers more than a page can hold
    worksheet.py errors for a human reader, to annotate: a page with the reader alone, or a CSV file
    steps.py     curves of a training, and its groups of completions
    page.py      the frame: style, script, what is embedded how
    page.css, script/*.js

Tables and maps are over all answers. Texts are embedded for a stated sample of questions, the same for everybody.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.given import output_file, path_given, whole_number
from medr1kit.results.answers import Answers
from medr1kit.results.numbers import percent
from medr1kit.results.runs import Run, load_run, replace_file
from medr1kit.results.tables import check_predictions, same_letter
from medr1kit.views.html import escape, table
from medr1kit.views.page.page import generator, page_of, section
from medr1kit.views.page.reader import answers_section, sample_ids
from medr1kit.views.page.scores import maps_section, scores_section
from medr1kit.views.page.steps import steps_section
from medr1kit.views.page.story import story_of, story_section
from medr1kit.views.pictures import Gallery
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

QUESTIONS = 200
"""Questions whose texts and images a page holds, unless told otherwise; and groups of completions of a run."""

_OLD_DEMO = b"<title>medr1kit demo</title>"  # a page that the demo once wrote under the report's name
_PREDICTIONS, _PROVENANCE, _STUDY = "predictions.parquet", "provenance.json", "study.yaml"
_SHOWN = ("method", "model", "format", "seed", "labels", "continued_from", "data", "rewards", "summary", "versions")
READ_IT_SO = "read it so"
"""The fact that says how a result is to be read; it stands in the first view."""
_OF_STUDY = (
    *("commands", "cells", "model", "methods", "formats", "trained on", READ_IT_SO),
    *("right at home, without Modality Recognition", "seeds", "answers", "questions", "blind floor"),
    *("versions", "started", "ended", "hours of training and testing", "wall clock"),
)


def write_report(
    path: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    data: Dataset | None = None,
    source: Source | None = None,
) -> Path:
    """Write a run or a study as one HTML page that needs neither Python nor a network.

    Args:
        path: a run folder, a study's folder (as of its tables: ``medr1kit study tables``), a folder of such tables, a
            predictions file (.parquet), or another tool's result file (:func:`medr1kit.import_predictions`).
        output: the page; ``report.html`` in the folder, or beside the file, if None. An earlier report is replaced.
        questions: how many questions to embed with image and answers, spread evenly over modalities and tasks; and at
            most how many groups of completions of a run, spread evenly over its steps.
        seed: decides which questions.
        data: the questions with their images. None: phantoms are redrawn from their image id, and of other images it is
            said that they are not given, with a warning that counts them.
        source: what ``path`` holds, where the caller has read it; the command does so for a study that is not finished.

    Returns:
        The path of the page.

    Raises:
        DataError: if there is no run and no study, nothing in it is finished, ``questions`` is below 1, or the page
            cannot be written or would replace a file of another kind.
    """
    whole_number(questions, "questions")
    whole_number(seed, "seed", 0)
    path = path_given(path, "path")
    source = read_source(path, data) if source is None else source
    output = (path if path.is_dir() else path.parent) / "report.html" if output is None else output
    output = report_file(output)
    gallery, sections, embedded = Gallery(data), [facts_section(source)], {}
    if source.run is not None and source.preds is not None and (story := story_of(source.preds, source.run)):
        sections.insert(0, story_section(story, str(source.facts.get(READ_IT_SO, ""))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of compare and score: what they say of n is seen in the tables
        if source.run is not None:
            steps, embedded["run"] = steps_section(source.run, gallery, questions)
            sections.append(steps)
        if source.preds is not None:
            preds = source.preds
            if source.run is None:  # of a run the data may be what it was trained on
                gallery.refuse_others(preds, "answers")
            ids = sample_ids(preds, questions, seed)
            answers = Answers([preds[preds["id"].isin(ids)].reset_index(drop=True)])
            maps, embedded["maps"] = maps_section(preds, answers)
            reader, embedded["reader"], embedded["questions"] = answers_section(answers, gallery, preds["id"].nunique())
            sections += [scores_section(preds), maps, reader]
    embedded["images"] = gallery.images
    try:
        replace_file(output, page_of(source.title, source.identity, sections, embedded))
    except OSError as error:
        raise DataError(f"{str(output)!r} cannot be written: {error.strerror or error}; give another file") from error
    gallery.say_what_is_missing()
    return output


def report_file(output: object) -> Path:
    """Return the path of a report that is to be written; only an earlier report is replaced by it.

    Raises:
        DataError: as :func:`medr1kit.given.output_file` does.
    """
    return output_file(output, "output", (".html",), (generator("report").encode(), _OLD_DEMO))


# --- what a folder holds: a study, the tables of one, a run, or answers alone; and where they came from ---------------


@dataclass(frozen=True)
class Source:
    """What a page is about.

    Attributes:
        title: in words.
        facts: what was run: name -> value.
        preds: all predictions; None if there are none.
        run: the training; None for a study of several and for answers alone.
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


def read_source(path: Path, data: Dataset | None = None, check: str = "error") -> Source:
    """Return what a path holds.

    Args:
        path: as in :func:`write_report`.
        data, check: of another tool's result file, as in :func:`medr1kit.import_predictions`.

    Raises:
        DataError: if it holds nothing that can be shown.
    """
    if path.is_file() and path.suffix == ".parquet":
        return Source(f"answers in {path.name}", {}, _read(path))
    if path.is_file():
        return _theirs(path, data, check)
    if not path.is_dir():
        raise DataError(
            f"no run or study at {str(path)!r}: there is no such folder; pass one that a training or a study wrote, or "
            "a file of answers"
        )
    if (path / "run.json").is_file():
        return _run(path)
    if (path / _PREDICTIONS).is_file():
        return _tables(path)
    if (path / _STUDY).is_file():
        raise DataError(f"the study in {str(path)!r} has no tables yet; write them: medr1kit study tables {path}")
    raise DataError(
        f"no run or study in {str(path)!r}: it has no run.json, no {_STUDY} and no {_PREDICTIONS}; pass the "
        "output_dir of a training, or the folder that `medr1kit study run` wrote to"
    )


def _theirs(file: Path, data: Dataset | None, check: str) -> Source:
    """Another tool's answers; what a score owes to who reads them stands beside each other."""
    from medr1kit.results.imports import import_predictions

    preds = import_predictions(file, data=data, check=check)
    facts = {"model": preds["model"].iloc[0], "format": preds["format"].iloc[0], **_counts(preds)}
    facts["right, as read here"] = percent(preds["correct"].mean())
    facts["right, as Med-R1's parser reads"] = percent(
        same_letter(preds["reference_predicted"], preds["answer"]).mean()
    )
    said = preds["their_correct"].dropna().astype(bool)
    facts["right, as the file says"] = f"{percent(said.mean())}, of {len(said):,} answers" if len(said) else "not said"
    return Source(f"answers in {file.name}", facts, preds)


def _tables(folder: Path) -> Source:
    """A study's tables, in its folder or recorded; or whatever else has predictions, such as its untrained base."""
    preds = _read(folder / _PREDICTIONS)
    file = next((file for file in (folder / "tables" / _PROVENANCE, folder / _PROVENANCE) if file.is_file()), None)
    if file is None:
        return Source(f"answers in {folder.resolve().name}", _counts(preds), preds)
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}); write the tables again: medr1kit study tables") from error
    if not isinstance(known, dict):
        raise DataError(f"{file} holds a {type(known).__name__}; write the tables again: medr1kit study tables")
    opens = folder / "grpo"  # a demo opens with this training
    run = load_run(opens) if known.get("study") == "demo" and (opens / "run.json").is_file() else None
    return study_source(preds, known, run)


def study_source(preds: pd.DataFrame, known: Mapping[str, Any], run: Run | None = None) -> Source:
    """Return what a page says of a study.

    Args:
        preds: predictions of its finished cells.
        known: what its tables' provenance.json says of it.
        run: the training that its page opens with.
    """
    every = {**known.get("settings", {}), **known, **_counts(preds)}
    if {"finished", "cells"} <= known.keys():
        every["cells"] = f"{known['finished']} of {known['cells']} finished"
    every["methods"] = list(every.get("methods", ()))
    every["hours of training and testing"] = round(every.get("seconds", 0) / 3600, 1)
    facts = {name: every[name] for name in _OF_STUDY if every.get(name)}
    details = {**known.get("settings", {}), "not finished": known.get("missing")}
    return Source(known.get("title", f"study {known.get('study', '')}"), facts, check_predictions(preds), run, details)


def _run(folder: Path) -> Source:
    run = load_run(folder)
    preds = check_predictions(run.predictions) if len(run.predictions) else None
    if run.metrics.empty and preds is None:
        raise DataError(
            f"the run in {str(folder)!r} has logged nothing and answered nothing yet; wait for its first step"
        )
    facts = {name: run.config[name] for name in _SHOWN if run.config.get(name)}
    details = {"steps logged": len(run.metrics), **run.config.get("arguments", {}), "lora": run.config.get("lora")}
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
    return check_predictions(preds)


def _counts(preds: pd.DataFrame) -> dict[str, str]:
    return {"answers": f"{len(preds):,}", "questions": f"{preds['id'].nunique():,}"}


def facts_section(source: Source) -> str:
    """Return the section that says what was run, with what."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    facts = {**source.facts, "this page": f"written {now} by medr1kit {version('medr1kit')}"}
    rows = [(escape(name.replace("_", " ")), _value(value)) for name, value in facts.items()]
    shown = table(rows, ["", "value"], "facts")
    if source.details:
        rows = [(escape(name), _value(value)) for name, value in source.details.items() if value is not None]
        shown += f"<details><summary>all settings</summary>{table(rows, ['setting', 'value'], 'settings')}</details>"
    return section("facts", "What this is", shown)


def _value(value: Any) -> str:
    """A setting as HTML, however deep; what is long gets lines of its own."""
    if isinstance(value, Mapping):
        parts = [f"{escape(name)}: {_value(inner)}" for name, inner in value.items()]
    elif isinstance(value, list | tuple):
        parts = [_value(inner) for inner in value]
    else:
        return escape(f"{value:.4g}" if isinstance(value, float) else value)
    return ("<br>" if any(len(part) > 40 for part in parts) else ", ").join(parts)
