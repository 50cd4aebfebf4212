"""What was passed: one check for each kind of argument, so that twenty public functions cannot answer differently.

Each check takes a value and its name, and returns it in the form the callee uses, or raises one
:class:`~medr1kit.vqa.DataError` that says what was given, what is expected and what to do. None imports torch,
`datasets` or pandas: an object is known by what it can do.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.vqa import LETTERS, DataError, parse_solution, refuse_control

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

QUESTIONS = ("id", "image_id", "problem", "question", "options", "answer")
"""Columns without which rows are no questions (:mod:`medr1kit.vqa`)."""


def kind(value: object) -> str:
    """Return what a value is, as a sentence calls it.

    >>> kind("runs/ct"), kind(None), kind([1])
    ("the text 'runs/ct'", 'None', 'a list')
    """
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, os.PathLike):
        return f"the path {os.fspath(value)[:60]!r}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def path_given(value: object, name: str) -> Path:
    """Return a path, ``~``, ``~user`` and ``$NAME`` expanded as a shell does.

    Raises:
        DataError: if it is neither a text nor a path, is empty, names a home folder or a variable that nobody knows,
            begins or ends with a blank, or cannot be the name of a file.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else b""
    if not text or not isinstance(text, str):
        raise DataError(f"{name} is {kind(value)}; give the path of a file or folder")
    given = f"{name}={text[:100]!r}"
    try:
        there = os.path.lexists(text)
        text = text if there else os.path.expandvars(text)
        if not there and (unknown := _VARIABLE.search(text)):
            raise DataError(f"{given}: the variable {unknown.group()} is not set; write the path out")
        if not there and text != text.strip():
            raise DataError(f"{given} begins or ends with a blank; leave it out")
        path = Path(text).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()  # it need not be there, but it must be possible to ask
    except RuntimeError as error:
        raise DataError(f"{name}: the home folder in {text!r} is not known; write it out") from error
    except DataError:
        raise
    except (OSError, ValueError) as error:  # too long, or with a NUL in it
        raise DataError(f"{given} cannot be a path ({getattr(error, 'strerror', None) or error})") from error
    return path


_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})")


def output_file(value: object, name: str, endings: Sequence[str], ours: Sequence[bytes] | None = None) -> Path:
    """Return the path of a file that is to be written, its folder made.

    Args:
        value: what was given.
        name: the argument's.
        endings: what the file may be called, ``(".parquet", ".csv")``: its content is what its name says.
        ours: one of these stands in the first kilobyte of a file of this kind that medr1kit wrote: only such a file is
            replaced, and with ``()`` none; None asks nothing of a file that is there.

    Raises:
        DataError: if it is a folder, lies under a file, ends otherwise, would replace what is not ours, or its folder
            cannot be made.
    """
    path = path_given(value, name)
    given = f"{name}={os.fspath(path)!r}"
    try:
        if path.is_dir():
            raise DataError(f"{given} is a folder; name a file in it that ends in {' or '.join(endings)}")
        if not path.name.lower().endswith(tuple(endings)):
            raise DataError(f"{given} does not end in {' or '.join(endings)}, which is what is written")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise DataError(f"{given} cannot be written (its folder is read-only); choose another place")
        if ours is not None and os.path.lexists(path) and not any(mark in _begin(path) for mark in ours):
            why = "is none that medr1kit wrote" if ours else "may hold notes"
            raise DataError(f"{given} exists and {why}; give another name or remove it")
    except OSError as error:
        raise DataError(f"{given} cannot be written ({error.strerror}); choose another place") from error
    return path


def _begin(path: Path) -> bytes:
    """The first kilobyte of a file; of a pipe or a device nothing, because reading one may wait for ever."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(1024)


def whole_number(value: object, name: str, low: int = 1, high: int | None = None) -> int:
    """Return a whole number within its range.

    Raises:
        DataError: if it is no whole number (True is none, "10" is none), or out of range.

    >>> whole_number(8, "batch_size")
    8
    """
    inside = isinstance(value, Integral) and not isinstance(value, bool) and value >= low
    if not inside or (high is not None and value > high):
        upto = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise DataError(f"{name}={value!r} is not a whole number {upto}")
    return int(value)


def truth(value: object, name: str) -> bool:
    """Return True or False; "no" is neither, and Python would take it for True.

    Raises:
        DataError: if it is something else.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's
        return bool(value)
    raise DataError(f"{name} is {kind(value)}; give True or False")


def number(value: object, name: str, low: float, high: float) -> float:
    """Return a number within its range, both ends included.

    Raises:
        DataError: if it is no number, not finite, or out of range.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not low <= value <= high:  # nan is not within
        raise DataError(f"{name}={value!r} is not a number from {low:g} to {high:g}")
    return float(value)


def choice(value: object, name: str, allowed: Collection[str]) -> str:
    """Return one of some words.

    Raises:
        DataError: naming all of them, and first the one that was probably meant.
    """
    if isinstance(value, str) and value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"{name}={value!r} is unknown{meant}; use one of {', '.join(map(str, allowed))}")


def package_given(package: str, asked: str, remedy: str = "leave it out") -> None:
    """Refuse what needs a package that is not installed.

    Args:
        package: as it is imported.
        asked: what needs it, as it was given: "use_vllm=True".
        remedy: what to do where it cannot be installed.

    Raises:
        DataError: naming it and what installs it.
    """
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise DataError(f"{asked} needs the package {name}, which is not installed: pip install {name}, or {remedy}")


def questions_given(
    value: Any, name: str = "dataset", columns: Sequence[str] = QUESTIONS, *, images: bool = False
) -> Dataset:
    """Return a data set of questions that can be asked, trained on or audited.

    Args:
        value: what was given.
        name: the argument's.
        columns: those that are needed.
        images: whether each question needs its image.

    Raises:
        DataError: if it is no data set (a name, a path, a frame, a list), one of several splits, a streamed one, has no
            rows, lacks a column, or was changed after loading so that a row is no question any more.
    """
    if isinstance(value, (str, os.PathLike, list, tuple)) or (hasattr(value, "to_parquet") and hasattr(value, "iloc")):
        raise DataError(f"{name} is {kind(value)}; load it first: load_vqa(…) takes files, names, frames and lists")
    if hasattr(value, "column_names") and isinstance(value, dict):  # a DatasetDict
        raise DataError(f"{name} is a DatasetDict with the splits {', '.join(value)}; choose a split: {name}[…]")
    if type(value).__name__.startswith("Iterable") and hasattr(value, "take"):
        raise DataError(f"{name} is a streamed data set; load it whole, without streaming=True")
    if not hasattr(value, "column_names") or not hasattr(value, "select_columns"):
        raise DataError(f"{name} is {kind(value)}; expected the data set that load_vqa(…) returns")
    if images and "image" not in value.column_names:
        raise DataError(f"{name} has no images, and they are needed here; load it with images=FOLDER")
    if missing := [column for column in columns if column not in value.column_names]:
        raise DataError(f"{name} has no column {', '.join(map(repr, missing))}; pass it through load_vqa(…), unrenamed")
    if not len(value):
        raise DataError(f"{name} has no rows; a filter may have left nothing over")
    if set(_ROW) <= set(columns):
        _check_rows(value, name, solved="solution" in columns)
    return value


_ROW = ("id", "problem", "options", "answer")


def _check_rows(value: Dataset, name: str, solved: bool) -> None:
    """Refuse a row that load_vqa would have refused: between loading and here a data set can be mapped at will."""
    solutions = value["solution"][:] if solved else [None] * len(value)  # whole: row by row takes ten times as long
    for row, (key, problem, options, letter, solution) in enumerate(zip(*(value[c][:] for c in _ROW), solutions)):
        try:
            if not isinstance(problem, str) or not problem.strip():
                raise DataError(f"problem is {kind(problem)}")
            if not options or len(options) < 2 or letter not in list(LETTERS[: len(options)]):
                raise DataError(f"the gold answer {letter!r} is none of its options, {options!r:.60}, of two or more")
            if solved and parse_solution(solution, len(options)) != letter:
                raise DataError(f"answer {letter!r} and solution {solution!r:.40} disagree")
            refuse_control(problem)
        except (DataError, TypeError) as error:
            raise DataError(
                f"{name}, row {row} ({str(key)[:40]}): {str(error)[:150]}; pass changed rows through load_vqa(…) again"
            ) from error


def table_given(
    value: Any, name: str, columns: Sequence[str] = (), source: str = "what medr1kit returned"
) -> DataFrame:
    """Return a pandas table that has rows and the columns that are needed.

    Args:
        value: what was given.
        name: the argument's.
        columns: those that are needed.
        source: where such a table comes from: "run.metrics", "mk.score(…)".

    Raises:
        DataError: if it is no table (a run, a path, a data set, a report), has no rows, or lacks a column.
    """
    if not hasattr(value, "iloc") or not hasattr(value, "columns"):
        remedy = f"pass {source}"
        if hasattr(value, "metrics") and hasattr(value, "rollouts"):
            remedy += "; the tables of a run are run.metrics, run.rollouts and run.predictions"
        elif isinstance(value, (str, os.PathLike)):
            remedy += "; load_run(…) opens the folder of a run, pandas.read_parquet(…) a table"
        raise DataError(f"{name} is {kind(value)}, not a table; {remedy}")
    if missing := [column for column in columns if column not in value.columns]:
        raise DataError(f"{name} has no column {', '.join(map(repr, missing))}; pass {source}")
    if not len(value):
        raise DataError(f"{name} has no rows; nothing was written yet, or a filter left nothing over")
    return value


def texts_given(value: Any, name: str, least: int = 1) -> list[str]:
    """Return a list of texts, such as the options of a question in letter order.

    Raises:
        DataError: if it is one text (whose letters are no list), no list, holds something else, or is too short.

    >>> texts_given(("mass", "cyst"), "options")
    ['mass', 'cyst']
    """
    listed = list(value) if isinstance(value, (list, tuple)) or hasattr(value, "tolist") else None
    if listed is None or not all(isinstance(text, str) for text in listed):
        raise DataError(f"{name} is {kind(value)}; give a list of texts, such as ['mass', 'cyst']")
    if len(listed) < least:
        raise DataError(f"{name} has {len(listed)} of at least {least} texts; give a list such as ['mass', 'cyst']")
    return listed
