"""A worksheet of errors for a human reader, and what readers wrote into it.

No frame replaces reading. A sheet holds one error a row, with three empty columns: ``reader`` (who), ``verdict`` (one
of a few words that the readers agree on, such as "model wrong", "gold wrong", "unclear") and ``comment``::

    mk.export_worksheet(errors, "sheet.html", data=test)    # with images; fill it in a browser, save it as CSV
    mk.export_worksheet(errors, "sheet.csv")                # for a spreadsheet, without images
    one = read_worksheet("ann.csv", errors)                 # the annotations, joined with the errors
    reader_agreement(one, read_worksheet("ben.csv"))        # Cohen's kappa

The page is the reader of the report with these fields. What is typed is also kept in the browser's own storage, so that
a closed tab loses nothing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.given import output_file, path_given, table_given
from medr1kit.results.answers import Answers
from medr1kit.results.errors import Errors
from medr1kit.results.formulas import as_written
from medr1kit.results.numbers import count, percent
from medr1kit.results.said import Said
from medr1kit.results.tables import WHO, check_predictions
from medr1kit.views.csv import as_texts, options_cell, write_csv, write_new
from medr1kit.views.page.page import page_of
from medr1kit.views.page.reader import reader_section
from medr1kit.views.pictures import Gallery
from medr1kit.vqa import LETTERS, DataError, lowered

if TYPE_CHECKING:
    from datasets import Dataset

READER = ("reader", "verdict", "comment")
"""The columns a reader fills."""
VERDICTS = ("model wrong", "gold wrong", "question unclear", "image unclear", "right, form only")
"""Verdicts that the page suggests; readers may agree on others."""
_SUGGESTED = "".join(f"<option>{verdict}</option>" for verdict in VERDICTS)

_NEEDED = ("id", "image_id", "question", "options", "answer", "predicted", "text", "kind", "reason")
_LABELS = ("modality", "task", "method", "format", "seed")
_FIELDS = (
    '<input name="reader" autocomplete="off">',
    f'<input name="verdict" list="verdicts" autocomplete="off"><datalist id="verdicts">{_SUGGESTED}</datalist>',
    '<textarea name="comment" rows="3"></textarea>',
)


def export_worksheet(errors: Errors | pd.DataFrame, path: str | os.PathLike, data: Dataset | None = None) -> Path:
    """Write errors to a sheet that a human reader can annotate.

    Args:
        errors: from :func:`medr1kit.errors`, or some of its ``rows`` (``errors.rows.head(50)``).
        path: a new file. ".html": one self-contained page with images, to be filled in a browser and saved as CSV from
            there. ".csv": the same columns without images, UTF-8, every cell quoted.
        data: the questions, for their images; joined on ``id``. None: phantoms are redrawn from their image id, and
            other images are not shown, with a warning that counts them.

    Returns:
        The path. The sheet holds, a row an error: ``key`` (by which annotations find back), ``id``, ``modality``,
        ``task``, ``method``, ``format``, ``seed`` (those there are), ``question``, ``options``, ``gold``,
        ``predicted``, ``completion``, ``error`` (the kind), ``reason``; and, empty, ``reader``, ``verdict``,
        ``comment``. No ``patient_id``: a sheet is passed on, and who the patient is stays with the predictions. ``id``
        and image are those of the data; where these name the patient, so does the sheet.

    Raises:
        DataError: if there are no errors, the file exists already (it may hold annotations), its name ends in neither,
            it cannot be written, or none of the ids is in ``data``.
    """
    gallery, (sheet, rows) = Gallery(data), _sheet(errors)
    path = output_file(path, "path", (".csv", ".html"), ours=())
    if path.suffix.lower() == ".csv":
        return write_csv(sheet, path)
    written = write_new(_page(sheet, rows, gallery), path, (".html",))
    gallery.say_what_is_missing()
    return written


def _sheet(errors: Errors | pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sheet, all cells texts, and the rows of errors behind it."""
    rows = _rows(errors)
    columns = {"key": _keys(rows), **{name: rows[name] for name in ("id", *_LABELS, "question") if name in rows}}
    columns["options"] = rows["options"].map(options_cell)
    for name, column in (("gold", "answer"), ("predicted", "predicted")):
        columns[name] = [_option(texts, letter) for texts, letter in zip(rows["options"], rows[column])]
    columns |= {
        "completion": rows["text"],
        "error": rows["kind"],
        "reason": rows["reason"],
        **dict.fromkeys(READER, ""),
    }
    return as_texts(pd.DataFrame(columns)), rows


def _rows(errors: object) -> pd.DataFrame:
    rows = errors.rows if isinstance(errors, Errors) else errors
    if getattr(rows, "empty", False):
        raise DataError("no errors to write: every answer is right and well formed, or a filter left nothing over")
    rows = table_given(rows, "errors", _NEEDED, "what mk.errors(…) returned, or some of its rows")
    return check_predictions(rows, ())


def _keys(rows: pd.DataFrame) -> list[str]:
    """A short name for each answer, from who gave it and to which question; the same whenever it is made again."""
    parts = [rows[column].astype(object) for column in ("id", *WHO, "seed") if column in rows]
    joined = ["\x1f".join("" if pd.isna(value) else _plain(value) for value in values) for values in zip(*parts)]
    if "step" in rows:  # only where there is one: keys of sheets without stay what they were
        steps = rows["step"].astype(object)
        joined = [text if pd.isna(step) else f"{text}\x1f{_plain(step)}" for text, step in zip(joined, steps)]
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in joined]


def _plain(value: object) -> str:
    """Seed 0 and seed 0.0 (a column with gaps) are one seed."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _option(texts: list[str], letter: object) -> str:
    return f"{letter}) {texts[LETTERS.index(letter)]}" if isinstance(letter, str) else "(not read)"


def _page(sheet: pd.DataFrame, rows: pd.DataFrame, gallery: Gallery) -> str:
    gallery.refuse_others(rows, "errors")
    same = [name for name in _LABELS[2:] if name in sheet and sheet[name].nunique() == 1 and sheet[name].iloc[0]]
    whose = ", ".join(f"seed {sheet[name].iloc[0]}" if name == "seed" else sheet[name].iloc[0] for name in same)
    said = (
        f"{len(rows):,} errors{f' ({whose})' * bool(whose)}. A verdict is one of a few words that the readers agree "
        "on. What is typed stays in this browser until it is saved: all rows, whatever the filters leave. Keys ← and → "
        "go back and on."
    )
    answers = Answers([rows.assign(id=sheet["key"])])  # an item an error, not one a question
    fixed = sheet.drop(columns=list(READER))
    section, ready, packed = reader_section(answers, gallery, fixed, said, dict(zip(READER, _FIELDS)))
    identity = hashlib.sha256("".join(sheet["key"]).encode()).hexdigest()[:12]
    embedded = {"reader": ready, "questions": packed, "images": gallery.images}
    return page_of("worksheet of errors", identity, [section], embedded, kind="worksheet")


def read_worksheet(path: str | os.PathLike, errors: Errors | pd.DataFrame | None = None) -> pd.DataFrame:
    """Read an annotated sheet.

    Args:
        path: the CSV file, from a spreadsheet (commas or semicolons) or saved from the HTML page.
        errors: what the sheet was made of, or more; None for the sheet alone.

    Returns:
        The rows that have a verdict or a comment; with ``errors``, all columns of theirs, then ``key``, ``reader``,
        ``verdict`` and ``comment``. Verdicts lose blanks around them.

    Raises:
        DataError: if the file is no worksheet, not UTF-8, repeats a row, or has one that is not among ``errors``.
    """
    path = path_given(path, "path")
    if path.suffix.lower() in (".xlsx", ".xls"):
        raise DataError(f"{path.name!r} is a workbook; save it as 'CSV UTF-8' in the spreadsheet and read that")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{str(path)!r} cannot be read: {error.strerror or error}; give the CSV that was filled in"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is not UTF-8; save it as 'CSV UTF-8' in the spreadsheet") from error
    if path.suffix == ".html":
        raise DataError(f"{path.name!r} is the page to fill in; open it in a browser, save it as CSV, read that")
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    try:
        sheet = pd.read_csv(StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise DataError(f"{path.name!r} is not a table: {str(error).strip()}") from error
    if missing := [column for column in ("key", *READER) if column not in sheet]:
        raise DataError(f"{path.name!r} has no column {missing[0]!r}; it is no worksheet, or a column was removed")
    sheet = sheet.map(as_written)
    for column in READER:
        sheet[column] = sheet[column].str.strip()
    filled = sheet[(sheet["verdict"] != "") | (sheet["comment"] != "")].reset_index(drop=True)
    if (repeated := filled["key"].duplicated()).any():
        raise DataError(f"{path.name!r} holds the row {filled['key'][repeated].iloc[0]!r} twice; keep one")
    return filled if errors is None else _join(filled, errors, path.name)


def _join(filled: pd.DataFrame, errors: Errors | pd.DataFrame, name: str) -> pd.DataFrame:
    rows = _rows(errors)
    rows = rows.assign(key=_keys(rows))
    if unknown := sorted(set(filled["key"]) - set(rows["key"])):
        raise DataError(
            f"{name!r} holds {len(unknown)} of {len(filled)} rows that are not among these errors, such as "
            f"{unknown[0]!r}; give the errors the sheet was made of"
        )
    return rows.merge(filled[["key", *READER]], on="key", validate="one_to_one")


@dataclass(frozen=True, repr=False)
class Agreement(Said):
    """How far two readers agree beyond chance.

    Attributes:
        n: rows that both gave a verdict.
        agreed: share of them with the same verdict, 0..1.
        kappa, low, high: Cohen's kappa with its 95 % interval: 1 for readers of one mind, 0 for two who judge equally
            often this and that, but about different rows; nan if both use a single verdict.
        table: verdicts of one reader (rows) and of the other (columns), counted.
    """

    n: int
    agreed: float
    kappa: float
    low: float
    high: float
    table: pd.DataFrame

    def sentences(self) -> list[str]:
        """Return the share of equal verdicts, and kappa."""
        kappa = f"kappa {self.kappa:.2f} [{self.low:.2f}, {self.high:.2f}]"
        return [f"{count(self.n, 'row')} that both judged, {percent(self.agreed)} alike; {kappa}"]

    def shown(self) -> pd.DataFrame:
        """Return the verdicts of both, counted."""
        return self.table.rename_axis(columns=None).reset_index()


def _verdicts(sheet: pd.DataFrame, name: str) -> pd.DataFrame:
    """Key and verdict of the rows that were judged; "Model wrong " is "model wrong"."""
    said = sheet["verdict"].fillna("").astype(str).map(lowered)
    judged = sheet[["key"]].assign(verdict=said)[said != ""]
    if (twice := judged["key"].duplicated()).any():
        raise DataError(f"{name} judges the row {judged['key'][twice].iloc[0]!r} twice; keep one")
    return judged


def reader_agreement(one: pd.DataFrame, other: pd.DataFrame) -> Agreement:
    """Return how far two readers agree on the rows that both judged; upper and lower case count as one.

    Args:
        one: from :func:`read_worksheet`.
        other: the other reader's.

    Raises:
        DataError: if they judged no row in common.

    Source: Cohen, Educ. Psychol. Meas. 20 (1960) 37; the interval is statsmodels', from the asymptotic variance.

    >>> one = pd.DataFrame({"key": list("abcd"), "verdict": ["gold wrong", "model wrong", "model wrong", "unclear"]})
    >>> other = one.assign(verdict=["gold wrong", "model wrong", "gold wrong", "unclear"])
    >>> round(reader_agreement(one, other).kappa, 2)
    0.64
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    sides = [
        _verdicts(table_given(frame, name, ("key", "verdict"), "mk.read_worksheet(…)"), name)
        for name, frame in (("one", one), ("other", other))
    ]
    both = sides[0].merge(sides[1], on="key", suffixes=("_one", "_other"))
    if both.empty:
        raise DataError("the two readers judged no row in common; give them the same sheet")
    verdicts = sorted({*both["verdict_one"], *both["verdict_other"]})
    table = pd.crosstab(both["verdict_one"], both["verdict_other"])
    table = table.reindex(index=verdicts, columns=verdicts, fill_value=0)
    same = float((both["verdict_one"] == both["verdict_other"]).mean())
    with np.errstate(invalid="ignore", divide="ignore"):  # no variance where all verdicts of a reader are one
        found = cohens_kappa(table.to_numpy())
    return Agreement(len(both), same, *map(float, (found.kappa, found.kappa_low, found.kappa_upp)), table)
