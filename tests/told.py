"""Numbers told in prose, each followed by a comment that says which recorded number it is.

``+20.0 [+10.4, +29.6] points<!-- comparisons: GRPO gains at home, think-before -->`` is looked up in comparisons.csv.
All but tokens, seconds and seeds are in percent or points; an interval is that of the same row.

Whose answers are meant is told by method, format, place and what was asked: ``accuracy: grpo, think-before, home, B``,
a task behind it where it is that task alone. Places: untrained, home, away, joint (one model for all modalities).
Unless it is that task, Modality Recognition is left out: inside one modality its answer is always the same.

    python tests/told.py notebooks/0[6-9]*.ipynb        writes the recorded numbers in, after a study has grown
"""

import re
import sys
from functools import lru_cache
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

import medr1kit as mk
from medr1kit.results.rationales import true_share
from medr1kit.results.stats import cluster_interval
from medr1kit.results.thoughts import thought_table
from medr1kit.study.comparisons import at_home

_MODALITY = "Modality Recognition"
_PART_OF_FORMAT = {"answer-think-answer": "formats", "adaptive": "adaptive"}  # of four modalities
_SIGNS = "+\u2212-"
_NUMBER = re.compile(rf"[{_SIGNS}]?\d+(?:\.\d+)?")
_TOLD = re.compile(
    r"([+\u2212-]?\d+(?:\.\d+)?)(?: %)?(?: \[([+\u2212-]?[\d.]+), ([+\u2212-]?[\d.]+)\])?(?: %| points)?"
    r"<!-- ([\w -]+): (.*?) -->"
)


def told(text):
    """Yield (numbers as told, table, what) of each marked number."""
    for match in _TOLD.finditer(text):
        numbers = [float(part.replace("\u2212", "-")) for part in match.groups()[:3] if part is not None]
        yield numbers, match[4], match[5]


def recorded_number(table, what):
    """The number, and its interval where it has one, in percent; tokens, seconds and seeds as they are."""
    return [(1 if table in _PLAIN else 100) * value for value in _LOOKUP[table](what)]


def retold(text):
    """The text with the recorded numbers in it, each with the sign and the decimals that it had."""

    def marked(match):
        head, comment = match[0].split("<!--")
        values = iter(recorded_number(match[4], match[5]))

        def number(old):
            signed, decimals = "+" if old[0][0] in _SIGNS else "", len(old[0].partition(".")[2])
            return f"{next(values):{signed}.{decimals}f}".replace("-", "\u2212")

        return f"{_NUMBER.sub(number, head)}<!--{comment}"

    return _TOLD.sub(marked, text)


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
def _recorded():
    return mk.recorded("clinic/answers")


@lru_cache
def _answers():
    return _recorded()[_recorded()["part"].isin(["", "machine"])]


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


@lru_cache
def _one_sft():
    return _recorded().replace({"method": {"sft-answer": "sft"}})


@lru_cache
def _rows(method, format, place, asked, task=None):
    rows = _one_sft()
    rows = rows[(rows["method"] == method) & (rows["format"] == format) & (rows["asked"] == asked)]
    part = _PART_OF_FORMAT.get(format, "machine")
    rows = rows[rows["part"] == {"untrained": "", "joint": "joint"}.get(place, part)]
    if place in ("home", "away"):
        rows = rows[at_home(rows) == (place == "home")]
    return rows[rows["task"] == task] if task else rows[rows["task"] != _MODALITY]


def _scored(what, columns=("accuracy", "low", "high")):
    return mk.score(_rows(*what.split(", ")), by="format", cluster="id").loc[0, list(columns)]


@lru_cache
def _truth(*who):
    return mk.rationale_truth(_rows(*who)).iloc[0]


def _true(what):
    *who, column = what.split(", ")
    return _truth(*who)[[column, *(["low", "high"] if column == "true" else [])]]


def _something_false(what):
    """How many of the right answers stand beside a thought that holds something false."""
    rows = _rows(*what.split(", "))
    rows = rows[rows["correct"] & rows["think"].notna()]
    return mk.score(rows.assign(correct=true_share(rows) < 1), by="format", cluster="id").loc[
        0, ["accuracy", "low", "high"]
    ]


def _changed(what):
    found = mk.compare(*(_rows(*side.split(", ")) for side in what.split(" -> ")))
    ends = ["low", "high"] if pd.isna(found.low_seeds) else ["low_seeds", "high_seeds"]
    return found.frame.loc[0, ["difference", *ends]]


@lru_cache
def _map(by):
    rows = _one_sft()
    part = "machine" if by == "modality" else "task"
    rows = rows[rows["part"].isin(["", part]) & (rows["asked"] == "B")]
    if by == "modality":
        rows = rows[rows["task"] != _MODALITY]
    return mk.transfer_table(rows[rows["format"].isin(rows.loc[rows["method"] == "grpo", "format"])], by=by)


def _transfer(what):
    by, method, format, place, column = what.split(", ")
    rows = _map(by)
    rows = rows[(rows["method"] == method) & (rows["format"] == format)]
    rows = rows[(rows[f"train_{by}"] == rows[by]) == (place == "home")]
    sure = rows["p_corrected"] <= 0.05
    found = {"difference": rows["difference"], "survive": sure, "lost": sure & (rows["difference"] < 0)}
    return [found[column].mean()]


@lru_cache
def _errors(method, format):
    place = "untrained" if method == "base" else "home"
    before = None if method == "base" else _rows("base", format, "untrained", "B")
    return mk.errors(_rows(method, format, place, "B").assign(train_modality="its own"), before=before)


def _change(what):
    method, format, change = what.split(", ", 2)
    return _errors(method, format).changes.set_index("change").loc[change, ["share", "low", "high"]]


def _letter(what):
    method, format, letter = what.split(", ")
    return _errors(method, format).letters.set_index("letter").loc[letter, ["bias", "bias_low", "bias_high"]]


@lru_cache
def _calibrated(*who):
    return mk.calibration(mk.vote_shares(_rows(*who, "B sampled")))


def _calibration(what):
    *who, column = what.split(", ")
    found = _calibrated(*who)
    return [getattr(found, name) for name in (("ece", "ece_low", "ece_high") if column == "ece" else (column,))]


def _wrong_formats(method):
    """A row a question and seed, a column a format: whether its answer is wrong."""
    rows = pd.concat([_rows(method, name, "home", "B") for name in ("think-before", "think-after", "no-think")])
    return rows.pivot(index=["seed", "id"], columns="format", values="correct").eq(False)


def _core(method):
    core = _wrong_formats(method).all(axis=1)
    return [core.mean(), *cluster_interval(core, core.index.get_level_values("id"))]


def _nothing_false(method):
    """How many wrong answers stand beside a thought without a false statement; a grade is the answer itself."""
    rows = _errors(method, "think-before").rows.dropna(subset="think")
    readings = [mk.check_rationale(text, image) for text, image in zip(rows["think"], rows["image_id"])]
    return [np.mean([all(s.holds for s in one.statements if s.fact != "grade") for one in readings])]


def _seconds(what):
    method, format = what.split(", ")
    runs = mk.recorded("clinic/runs").replace({"method": {"sft-answer": "sft"}})
    runs = runs[(runs["part"] == "machine") & (runs["method"] == method) & (runs["format"] == format)]
    return [runs["train_cpu_seconds"].median()]


def _whole_output(what):
    """How many answers are right if the whole output has to be the letter."""
    rows = _rows(*what.split(", "))
    rows = rows.assign(correct=rows["text"].str.strip() == rows["answer"])
    return mk.score(rows, by="format").loc[0, ["accuracy"]]


def _seeds(part):
    runs = mk.recorded("clinic/runs")
    return [runs.loc[runs["part"] == part, "seed"].nunique()]


_PLAIN = ("tokens", "seconds", "seeds")
_LOOKUP = {
    "comparisons": _comparison,
    "samples": _sample,
    "thoughts": _thought,
    "abstention": _abstained,
    "accuracy": _scored,
    "well-formed": lambda what: _scored(what, ["well_formed"]),
    "tokens": lambda what: _scored(what, ["mean_tokens"]),
    "truth": _true,
    "false": _something_false,
    "change": _changed,
    "transfer": _transfer,
    "errors": _change,
    "letters": _letter,
    "calibration": _calibration,
    "seconds": _seconds,
    "whole output": _whole_output,
    "seeds": _seeds,
    "core": _core,
    "independent": lambda method: [_wrong_formats(method).mean().prod()],
    "nothing false": _nothing_false,
}

if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        if path.suffix == ".ipynb":
            notebook = nbformat.read(path, 4)
            for cell in notebook.cells:
                cell["source"] = retold(cell.source) if cell.cell_type == "markdown" else cell.source
            path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        else:
            path.write_text(retold(path.read_text(encoding="utf-8")), encoding="utf-8")
