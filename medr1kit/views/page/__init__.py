"""One HTML page of a run or a study, for places where no Python runs.

The page is a single file that asks for nothing: no network, no server, no library. It shows what the notebook widgets
show, made by the same functions (:mod:`medr1kit.views.widgets`); a short script only sorts, chooses and shows ready
pieces::

    source.py    what a folder holds: a study, a run, or answers alone
    scores.py    tables of scores
    gains.py     what each training changed, as form and as answers
    cells.py     transfer maps, and what is behind each cell
    reader.py    answers side by side, of a stated sample of questions: a study answers more than a page can hold
    worksheet.py errors for a human reader, to annotate: a page with the reader alone, or a CSV file
    steps.py     curves of a training, and its groups of completions
    page.py      the frame: style, script, what is embedded how
    page.css, script/*.js

Tables and maps are over all answers. Texts are embedded for a stated sample of questions, the same for everybody.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from medr1kit.results.answers import Answers
from medr1kit.views.page.cells import maps_section
from medr1kit.views.page.page import generator, page_of
from medr1kit.views.page.reader import answers_section, sample_ids
from medr1kit.views.page.scores import scores_section
from medr1kit.views.page.source import Source, facts_section, read_source
from medr1kit.views.page.steps import steps_section
from medr1kit.views.pictures import Gallery
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset

QUESTIONS = 200
"""Questions whose texts and images a page holds, unless told otherwise; and groups of completions of a run."""

_OLD_DEMO = b"<title>medr1kit demo</title>"  # a page that the demo once wrote under the report's name


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
        path: a run folder, a study's folder (as of its tables: ``medr1kit study tables``), a folder of such tables, or
            a predictions file (.parquet).
        output: the page; ``report.html`` in the folder, or beside the file, if None. An earlier report is replaced.
        questions: how many questions to embed with image and answers, spread evenly over modalities and tasks; and at
            most how many groups of completions of a run, spread evenly over its steps.
        seed: decides which questions.
        data: the questions with their images. None: phantoms are redrawn from their image id, and of other images it is
            said that they are not given.
        source: what ``path`` holds, where the caller has read it; the command does so for a study that is not finished.

    Returns:
        The path of the page.

    Raises:
        DataError: if there is no run and no study, nothing in it is finished, ``questions`` is below 1, or the page
            cannot be written or would replace a file of another kind.
    """
    if questions < 1:
        raise DataError(f"--questions {questions}: at least one is needed")
    path = Path(path)
    output = Path(output) if output is not None else (path if path.is_dir() else path.parent) / "report.html"
    check_output(output)
    source = read_source(path) if source is None else source
    gallery, sections, embedded = Gallery(data), [facts_section(source)], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of compare and score: what they say of n is seen in the tables
        if source.run is not None:
            steps, embedded["run"] = steps_section(source.run, gallery, questions)
            sections.append(steps)
        if source.preds is not None:
            preds = source.preds
            ids = sample_ids(preds, questions, seed)
            answers = Answers([preds[preds["id"].isin(ids)].reset_index(drop=True)])
            maps, embedded["maps"] = maps_section(preds, answers)
            reader, embedded["reader"], embedded["questions"] = answers_section(answers, gallery, preds["id"].nunique())
            sections += [scores_section(preds), maps, reader]
    embedded["images"] = gallery.images
    _write(output, page_of(source.title, source.identity, sections, embedded))
    return output


def check_output(output: Path) -> None:
    """Refuse before the work what would be refused after it; a page of another kind is not replaced."""
    if not output.resolve().parent.is_dir():
        raise DataError(f"{str(output)!r} cannot be written: there is no such folder; make it first")
    try:
        begins = output.read_bytes()[:1000]
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{str(output)!r} cannot be written: {error.strerror}; give another file") from error
    if generator("report").encode() not in begins and _OLD_DEMO not in begins:
        raise DataError(f"{str(output)!r} exists and is no report of this command; give another name with --output")


def _write(output: Path, page: str) -> None:
    beside = output.with_name(output.name + ".part")
    try:
        beside.write_text(page, encoding="utf-8", newline="")
        os.replace(beside, output)
    except OSError as error:
        raise DataError(f"{str(output)!r} cannot be written: {error.strerror or error}; give another file") from error
