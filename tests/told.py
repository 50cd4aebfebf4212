"""Numbers told in prose, each followed by a comment that says which recorded number it is.

``+20.0 [+10.4, +29.6] points<!-- comparisons: GRPO gains at home, think-before -->`` is looked up in comparisons.csv.
All are in percent or points; an interval is that of the same row.
"""

import re
from functools import lru_cache

import pandas as pd

import medr1kit as mk
from medr1kit.results.thoughts import thought_table

_TOLD = re.compile(
    r"([+\u2212-]?\d+(?:\.\d+)?)(?: %)?(?: \[([+\u2212-]?[\d.]+), ([+\u2212-]?[\d.]+)\])?(?: %| points)?"
    r"<!-- (\w+): (.*?) -->"
)


def told(text):
    """Yield (numbers as told, table, what) of each marked number."""
    for match in _TOLD.finditer(text):
        numbers = [float(part.replace("\u2212", "-")) for part in match.groups()[:3] if part is not None]
        yield numbers, match[4], match[5]


def recorded_number(table, what):
    """The number, and its interval where it has one, in percent."""
    return [100 * value for value in _LOOKUP[table](what)]


def _comparison(what):
    row = mk.recorded("clinic/comparisons").set_index("comparison").loc[what]
    return row[["difference", "low", "high"]]


def _sample(what):
    method, format, k, column = what.split()
    rows = mk.recorded("clinic/samples")
    rows = rows[(rows["asked"] == "B sampled") & (rows["method"] == method) & (rows["format"] == format)]
    rows = rows[rows["part"].isna() | (rows["part"] == "machine")].set_index("k")
    ends = {"pass_at_k": ["low", "high"], "majority": ["majority_low", "majority_high"]}.get(column, [])
    return rows.loc[int(k), [column, *ends]]


@lru_cache
def _answers():
    answers = mk.recorded("clinic/answers")
    return answers[answers["part"].isin(["", "machine"])]


def _asked(what, method):
    answers = _answers()
    return answers[(answers["asked"] == what) & (answers["method"] == method)]


@lru_cache
def _thoughts(method):
    rows = _asked("B thoughts", method)
    return thought_table(rows.reset_index(drop=True)).set_index("thought")


def _thought(what):
    method, column, thought = what.split(maxsplit=2)
    ends = {"accuracy": ["low", "high"]}.get(column, [f"{column}_low", f"{column}_high"])
    return _thoughts(method).loc[thought, [column, *ends]]


@lru_cache
def _silent(method, format):
    return mk.abstention(
        mk.vote_shares(_answers().query("asked == 'B sampled' and method == @method and format == @format"))
    )


def _abstained(what):
    method, format, column = what.split()
    found = _silent(method, format)
    if column == "aurc":
        return pd.Series([found.aurc, found.aurc_low, found.aurc_high])
    row = found.frame.set_index("asked").loc[float(column)]
    return row[["accuracy", "low", "high"]]


_LOOKUP = {"comparisons": _comparison, "samples": _sample, "thoughts": _thought, "abstention": _abstained}
