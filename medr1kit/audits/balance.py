"""Balance and confounding: what is common, what is empty, and what always comes together.

Letters and numbers of options should carry no answer. Modality and task should be crossed: where a modality has one
task only, "generalises to ultrasound" cannot be told from "answers anatomy questions".
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from scipy.stats.contingency import association

from medr1kit.audits.measures import Measure
from medr1kit.audits.rows import Questions, plain
from medr1kit.vqa import LETTERS, MODALITIES, TASKS


def find_balance(train: Questions, test: Questions) -> list[Measure]:
    """Return letters, numbers of options, vocabularies, modalities, and modality x task of both sides."""
    found = []
    for side in (train, test):
        found += _counts(side, "letters", Counter(side.gold_letters()), LETTERS)
        found += _counts(side, "options", Counter(len(options) for options in side.options), range(1, len(LETTERS) + 1))
        found += _counts(side, "modalities", Counter(side.modalities), MODALITIES)
        found += _vocabulary(side)
        found += _two_options(side)
        found += _crossing(side)
    return found


def _counts(side: Questions, name: str, counts: Counter, order) -> list[Measure]:
    section = f"{name}_{side.name}"
    return [Measure(section, str(key), counts[key], "rows", len(side)) for key in order if counts[key]]


def _vocabulary(side: Questions) -> list[Measure]:
    """Distinct right texts, and distinct wrong ones that are right nowhere on this side."""
    gold = {plain(text) for text in set(side.gold_texts)}
    every = {plain(text) for text in {text for options in side.options for text in options}}
    never = len(every - gold)
    return [
        Measure("balance", f"{side.name}_gold_texts", len(gold), "texts", len(side)),
        Measure("balance", f"{side.name}_never_gold_texts", never, "texts", len(side)),
    ]


def _two_options(side: Questions) -> list[Measure]:
    """Among the questions with two options: the share whose right text alone begins with the commonest such word."""
    rows = [(options, place) for options, place in zip(side.options, side.gold) if len(options) == 2]
    if not rows:
        return []
    pairs = [(_first_word(options[place]), _first_word(options[1 - place])) for options, place in rows]
    times = max(Counter(right for right, wrong in pairs if right != wrong).values(), default=0)
    return [Measure("balance", f"{side.name}_two_option_commonest_gold", 100 * times / len(pairs), "%", len(pairs))]


def _first_word(text: str) -> str:
    return plain(text).partition(" ")[0]


def _crossing(side: Questions) -> list[Measure]:
    """Counts of modality x task, its empty cells, and how much one tells about the other (Cramér's V, 0..1)."""
    pairs = [(m, t) for m, t in zip(side.modalities, side.tasks) if m is not None and t is not None]
    if not pairs:
        return []
    cells, n = Counter(pairs), len(pairs)
    modalities = [name for name in MODALITIES if any(name == m for m, _ in cells)]
    found = [
        Measure(f"cells_{side.name}", f"{modality} x {task}", cells[modality, task], "rows", n)
        for modality in modalities
        for task in TASKS
    ]
    empty = sum(measure.value == 0 for measure in found)
    found.append(Measure("balance", f"{side.name}_empty_cells", empty, "cells", len(modalities) * len(TASKS)))
    table = pd.crosstab(*(np.array(names, dtype=object) for names in zip(*pairs)))
    if min(table.shape) > 1:
        found.append(Measure("balance", f"{side.name}_modality_task_v", float(association(table)), "Cramér's V", n))
    return found
