"""Balance and confounding: what is common, what is empty, and what always comes together.

Letters and numbers of options should carry no answer. Modality and task should be crossed: where a modality has one
task only, "generalises to ultrasound" cannot be told from "answers anatomy questions".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from medr1kit.audits.measures import SIDES, Found, Measure
from medr1kit.audits.rows import Questions, plain
from medr1kit.vqa import LETTERS, MODALITIES, TASKS


def find_balance(train: Questions, test: Questions, lookups: Sequence[Measure] = ()) -> Found:
    """Return letters, numbers of options, vocabularies, modalities, and modality x task of both sides.

    Args:
        train, test: the two sides.
        lookups: the blind floor of each modality of a mixed test, to say how far they are apart.
    """
    found, two, cells = Found("balance"), [], {}
    for side in (train, test):
        _counts(found, side, "letters", Counter(side.gold_letters()), LETTERS)
        _counts(found, side, "options", Counter(len(options) for options in side.options), range(1, len(LETTERS) + 1))
        _counts(found, side, "modalities", Counter(side.modalities), MODALITIES)
        for name, number in zip(("gold_texts", "never_gold_texts"), side.vocabulary):
            found.add(f"{side.name}_{name}", number, "texts", len(side))
        two += _two_options(found, side)
        cells[side.name] = _crossing(found, side)
    _say_first_words(found, two, len(test))
    _say_mixture(found, *({name for name in side.modalities if name is not None} for side in (train, test)))
    if lookups:
        _say_lookups(found, lookups)
    if unknown := [SIDES[side] for side, there in cells.items() if not there]:
        found.say(4, 0, f"Modality x task was not counted in {' and '.join(unknown)}: the rows do not say both.")
    _say_confounded(found, cells["test"])
    return found


def _counts(found: Found, side: Questions, name: str, counts: Counter, order) -> None:
    for key in order:
        if counts[key]:
            found.add(str(key), counts[key], "rows", len(side), section=f"{name}_{side.name}")


def _two_options(found: Found, side: Questions) -> list[Measure]:
    """Among the questions with two options: the share whose right text alone begins with the commonest such word."""
    rows = [(options, place) for options, place in zip(side.options, side.gold) if len(options) == 2]
    if not rows:
        return []
    pairs = [(_first_word(options[place]), _first_word(options[1 - place])) for options, place in rows]
    times = max(Counter(right for right, wrong in pairs if right != wrong).values(), default=0)
    name = f"{side.name}_two_option_commonest_gold"
    return [found.add(name, 100 * times / len(pairs), "%", len(pairs), side=side.name)]


def _first_word(text: str) -> str:
    return plain(text).partition(" ")[0]


def _crossing(found: Found, side: Questions) -> list[Measure]:
    """Counts of modality x task, its empty cells, and how much one tells about the other (Cramér's V, 0..1)."""
    pairs = pd.DataFrame({"modality": side.modalities, "task": side.tasks}, dtype=object).dropna()
    if pairs.empty:
        return []
    table, n = pd.crosstab(pairs["modality"], pairs["task"]), len(pairs)
    full = table.reindex(index=[name for name in MODALITIES if name in table.index], columns=TASKS, fill_value=0)
    cells = [
        found.add(f"{modality} x {task}", int(count), "rows", n, section=f"cells_{side.name}")
        for (modality, task), count in full.stack().items()
    ]
    found.add(f"{side.name}_empty_cells", sum(cell.value == 0 for cell in cells), "cells", len(cells))
    if min(table.shape) > 1:
        from scipy.stats.contingency import association

        found.add(f"{side.name}_modality_task_v", float(association(table)), "Cramér's V", n)
    return cells


def _say_first_words(found: Found, sides: list[Measure], n_test: int) -> None:
    told = [side for side in reversed(sides) if side.value > 75 and side.n >= 10]  # the test first
    if told:
        parts = " and ".join(f"{side.value:.1f} % of {side.n:,} {SIDES[side.side]} rows" for side in told)
        share = told[0].value * told[0].n / n_test if told[0].side == "test" else 0
        sentence = "With two options, the right one, and not the other, begins with one and the same word in"
        found.say(2, share, f"{sentence} {parts}.")


def _say_mixture(found: Found, trained: set[str], tested: set[str]) -> None:
    there, asked = (", ".join(sorted(names)) for names in (trained, tested))
    if trained and tested and not trained & tested:
        found.say(2, 100, f"Training holds {there}, the test {asked}: the floors are for transfer.")
    elif len(trained) > len(tested) == 1:
        sentence = f"Training holds {len(trained)} modalities, the test {asked} only"
        found.say(2, 100, f"{sentence}: a floor from {asked} alone may differ.")


def _say_lookups(found: Found, lookups: Sequence[Measure]) -> None:
    low, high = (chosen(lookups, key=lambda one: one.value) for chosen in (min, max))
    range_ = f"run from {low.value:.1f} % ({low.name}) to {high.value:.1f} % ({high.name})"
    if low.value == high.value:
        range_ = f"all answer {low.value:.1f} %"
    sentence = f"The test mixes {len(lookups)} modalities, whose option lookups {range_}"
    found.say(2, 100, f"{sentence}: audit each by itself.")


def _say_confounded(found: Found, cells: list[Measure]) -> None:
    empty = sum(cell.value == 0 for cell in cells)
    if empty:
        largest = max(cells, key=lambda cell: cell.value)
        sentence = (
            f"{empty} of the test's {len(cells)} modality x task cells are empty, and the largest, {largest.name}, "
            f"holds {largest.part:.0f} % of the rows: modality and task cannot be told apart."
        )
        found.say(2, largest.part / 2, sentence)
