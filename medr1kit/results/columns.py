"""One column of a table of predictions: what may stand in it, and as what it is used.

A table has seldom come straight from ``predict()``: it was saved as CSV and read back, filtered, put together from two
models, or written by somebody else's program. Then ``options`` is the text of a list, ``correct`` is "True", a patient
is nan, an id that looks like a number has become one. Here each column is read as what it says, once and for everybody;
what says nothing clear is refused with its row. :func:`medr1kit.results.tables.check_predictions` is the only caller.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import is_
from typing import Any

import numpy as np
import pandas as pd

from medr1kit.vqa import LETTERS, DataError, modality_name, task_name

_NOTHING = {"", "nan", "none", "null", "<na>", "nat"}  # what is missing, once it has been written as a text


def read_column(values: pd.Series, methods: Sequence[str] = ()) -> Any:
    """Return a column of predictions as it is used; the very same where it is so already, or is not known here.

    Args:
        values: the column, by its name.
        methods: the words that ``method`` has a meaning for.

    Raises:
        DataError: if a row says something else; it names the row.
    """
    name = str(values.name)
    if name == "options":
        return _options_column(values)
    if name in ("correct", "well_formed"):
        if values.dtype == bool:
            return values
        return _each(values, _truth, "it must be True or False", needed=name == "correct")
    if name in ("answer", "predicted", "lenient_predicted"):
        return _each(values, _letter, "expected the capital letter of an option", needed=name == "answer")
    if name in ("model", "modality", "task", "train_modality", "train_task"):
        return _each(values, _text, "expected a name")
    if name == "patient_id":
        return _each(values, _name, "expected a name or a number")
    if name in ("id", "image_id", "question", "text", "think", "source"):
        texts = isinstance(values.dtype, pd.StringDtype) or pd.api.types.infer_dtype(values, skipna=True) == "string"
        if texts and not (name == "id" and values.isna().any()):
            return values
        return _each(values, _text, "expected a text", needed=name == "id")
    if name in ("seed", "step") and not pd.api.types.is_numeric_dtype(values):
        return _each(values, _number, "expected a whole number")
    if name == "n_tokens" and not pd.api.types.is_numeric_dtype(values):
        return _each(values, _number, "expected a number").astype(float)
    if name == "method":
        values = _each(values, _text, "expected a word")
        for word in pd.unique(pd.Series(values).dropna()):
            _check_method(word, methods)
    return values


def label_values(labels: Mapping[str, Any], methods: Sequence[str] = ()) -> dict[str, Any]:
    """Return what rows are going to be labelled with, as their columns would be read.

    Args:
        labels: by column. A modality or task is called by its canonical name, if it has one.
        methods: as in :func:`read_column`.

    Raises:
        DataError: if one could not be read back from a table.
    """
    said = dict(labels)
    for name, value in labels.items():
        try:
            read = read_column(pd.Series([value], name=name, dtype=object), methods)
        except DataError as error:
            raise DataError(f"labels: {str(error).replace('predictions row 0: ', '')}") from error
        said[name] = read[0]
        canonical = {"train_modality": modality_name, "train_task": task_name}.get(name)
        if canonical and isinstance(said[name], str):
            with suppress(DataError):  # "all", or a word of one's own
                said[name] = canonical(said[name])
    if said.get("method", "given") is None:
        raise DataError("labels: method is None; leave it out, or name how the weights were trained")
    return said


def _each(values: pd.Series, read: Callable[[Any], Any], expected: str, needed: bool = False) -> Any:
    """Each different value read once; None where there is none. The column itself where nothing changes."""
    texts = isinstance(values.dtype, pd.StringDtype)
    objects = values if texts else values.to_numpy(dtype=object)  # texts are numbered sooner where they are
    try:
        codes, found = pd.factorize(objects)
    except TypeError as error:  # a list or an array in a cell
        row = next(row for row, value in enumerate(objects) if getattr(value, "__hash__", None) is None)
        raise DataError(f"predictions row {row}: {values.name} is {objects[row]!r:.60}; {expected}") from error
    found = np.asarray(found, dtype=object)
    said = np.full(len(found) + 1, None, dtype=object)  # the last for what is missing
    for code, value in enumerate(found):
        try:
            said[code] = None if isinstance(value, str) and value.strip().casefold() in _NOTHING else read(value)
        except (ValueError, OverflowError) as error:
            row = int((codes == code).argmax())
            raise DataError(f"predictions row {row}: {values.name} is {value!r:.60}; {expected}") from error
    as_it_is = texts or values.dtype == object
    if as_it_is and not (needed and (codes < 0).any()) and all(map(is_, found, said)):
        return values
    read_values = said[codes]
    if needed and len(missing := np.flatnonzero([value is None for value in read_values])):
        raise DataError(f"predictions row {missing[0]}: {values.name} is {values.iloc[missing[0]]!r:.60}; {expected}")
    return read_values


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}.get(value.casefold())
    if value not in (0, 1):
        raise ValueError
    return bool(value)


def _letter(value: Any) -> str:
    if not isinstance(value, str) or value.strip() not in LETTERS or len(value.strip()) != 1:
        raise ValueError
    return value.strip()


def _name(value: Any) -> str:
    """A patient, an image or a question, also where pandas took its name for a number: 17, 17.0 and "17" are one."""
    if isinstance(value, (float, np.floating)):
        value = int(value) if value == int(value) else value
    return str(value).strip()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _name(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    return int(number) if number == int(number) else number


def _check_method(word: Any, methods: Sequence[str]) -> None:
    """A word of one's own is welcome; "Base" would be taken for one, and then there is nothing to compare with."""
    alike = re.sub(r"[\s_-]", "", str(word).casefold())
    if word not in methods and (meant := [known for known in methods if known.replace("-", "") == alike]):
        raise DataError(
            f"method is {word!r} in some predictions; write {meant[0]!r}, or another word for another thing"
        )


# --- options ----------------------------------------------------------------------------------------------------------

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_WRITTEN_LIST = re.compile(rf"[\[(]\s*(?:{_QUOTED})(?:\s*,?\s*(?:{_QUOTED}))*\s*,?\s*[\])]", re.DOTALL)


def _options_column(values: pd.Series) -> Any:
    """Lists of option texts; a text that is a list as Python, JSON or numpy print it is read back."""
    objects, known = values.to_numpy(dtype=object), {}
    if set(map(type, objects)) == {list} and all(objects) and set(map(type, chain.from_iterable(objects))) == {str}:
        return values
    lists = np.empty(len(objects), dtype=object)
    for row, options in enumerate(objects):
        if isinstance(options, str):
            if options not in known:
                known[options] = _written_list(options)
            lists[row] = known[options]
        elif isinstance(options, (list, tuple, np.ndarray)):
            lists[row] = list(options)
        if not lists[row] or not _are_texts(lists[row]):
            raise DataError(f"predictions row {row}: options are {options!r:.60}; expected a list of option texts")
    return lists


def _are_texts(options: Sequence[Any]) -> bool:
    return bool(options) and all(isinstance(text, str) for text in options)


def _written_list(text: str) -> list[str] | None:
    """The list that a text is; None where that cannot be told.

    >>> _written_list("['liver', 'a \\"lung\\"']"), _written_list("['liver'\\n 'lung']"), _written_list("liver, lung")
    (['liver', 'a "lung"'], ['liver', 'lung'], None)
    """
    text = text.strip()
    try:
        options = json.loads(text)
        return options if isinstance(options, list) else None
    except ValueError:
        # Not literal_eval of the whole: it takes numpy's ['liver' 'lung'] for one option, "liverlung".
        return [ast.literal_eval(one) for one in re.findall(_QUOTED, text)] if _WRITTEN_LIST.fullmatch(text) else None
