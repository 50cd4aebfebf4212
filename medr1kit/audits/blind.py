"""What the blind floors of a test say: every rule that sees no image as a number with its interval, and in words."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from medr1kit.audits.floors import Floors, curve_interval
from medr1kit.audits.measures import Found, Measure
from medr1kit.audits.rows import Questions
from medr1kit.vqa import MODALITIES, TASKS

HARD = "hard subset"  # test rows whose gold is not the one best option of the lookup
_EXACT = ("chance", "best_letter")  # facts about the test file, not estimates


def find_floors(floors: Floors, test: Questions, clusters: Sequence[Hashable] | None = None) -> Found:
    """Return the accuracy of every blind rule on the test, as a whole and by modality and task.

    Args:
        floors: from :func:`medr1kit.audits.floors.all_floors`.
        test: the questions that were answered.
        clusters: what the intervals count, a value a question; None: questions.
    """
    found, credits, curve = Found("floors"), floors.credits, []
    rules = {name: found.share(name, one, clusters, exact=name in _EXACT) for name, one in credits.items()}
    for size, draws in floors.curve.items():
        low, high = (100 * limit for limit in curve_interval(draws, clusters))
        curve.append(found.add(str(size), 100 * float(draws.mean()), "%", len(test), low, high, section="curve"))
    found.add("stem_disjoint_train_rows", floors.stem_disjoint_rows, "rows", floors.train_rows)
    found.add("disjoint_train_rows", floors.disjoint_rows, "rows", floors.train_rows)
    rows = np.flatnonzero(credits["blind_options"] < 1)
    hard = found.add("hard_subset_n", len(rows), "rows", len(test), rows=rows, side="test", flag=HARD)
    if len(rows):
        found.share("hard_subset_chance", credits["chance"][rows], exact=True)
    _by_group(found, "modality", test.modalities, MODALITIES, credits, clusters)
    _by_group(found, "task", test.tasks, TASKS, credits, clusters)

    chance = rules["chance"].value
    if rules["blind_options"].low > chance:
        _say_lookup(found, rules, test)
        _say_cheap_lookups(found, floors, rules, curve)
        if 0 < hard.value < hard.n:
            sentence = f"The lookup does not settle {hard.counted} test questions (hard subset)"
            found.say(3, 100, f"{sentence}: score models on these as well.")
    else:
        _say_no_lookup(found, rules)
    _say_other_rules(found, rules, floors.train_letter)
    if "blind_stem_disjoint" in rules and not floors.stem_disjoint_rows:
        sentence = "Every training stem is also in the test, so blind_stem_disjoint has nothing to learn from"
        found.say(5, 0, f"{sentence}: it is chance.")
    if not curve:
        sentence = f"Training has {floors.train_rows} rows only"
        found.say(5, 0, f"{sentence}: too few for a learning curve, and for floors that say much.")
    return found


def _by_group(found: Found, by: str, values: list, names: Sequence[str], credits: dict, clusters) -> None:
    """The option lookup and chance on each modality or task of a test that mixes several."""
    if len(set(values)) == 1:
        return
    for name in (*names, None):
        chosen = np.array([value == name for value in values])
        if chosen.any():
            within = None if clusters is None else [c for c, is_in in zip(clusters, chosen) if is_in]
            shown = name or "unknown"
            found.share(shown, credits["blind_options"][chosen], within, section=f"blind_options_by_{by}")
            found.share(shown, credits["chance"][chosen], exact=True, section=f"chance_by_{by}")


def _say_lookup(found: Found, rules: dict[str, Measure], test: Questions) -> None:
    blind, chance = rules["blind_options"], rules["chance"].value
    sentence = (
        f"Without an image, a lookup of which option text was right in training answers {blind.value:.1f} % "
        f"(95 % interval [{blind.low:.1f}, {blind.high:.1f}]); chance is {chance:.1f} %"
    )
    if "blind_options_stem" in rules:
        sentence += f", and with the question's stem it answers {rules['blind_options_stem'].estimate}"
    gold, never = test.vocabulary
    if never > gold:
        sentence += (
            f". The reason: right answers are {gold:,} distinct texts, and {never:,} other texts are never right"
        )
    found.say(1, blind.value - chance, f"{sentence}.")


def _say_no_lookup(found: Found, rules: dict[str, Measure]) -> None:
    blind, chance, stem = rules["blind_options"], rules["chance"].value, rules.get("blind_options_stem")
    verdict = "does not beat chance" if blind.high >= chance else "stays below chance"
    found.say(3, 0, f"The option lookup {verdict}: {blind.estimate}, chance {chance:.1f} %.")
    if stem and stem.low > chance:
        sentence = f"Without an image, a lookup by question and option text answers {stem.estimate}"
        found.say(1, stem.value - chance, f"{sentence}; chance is {chance:.1f} %.")


def _say_cheap_lookups(found: Found, floors: Floors, rules: dict[str, Measure], curve: list[Measure]) -> None:
    """What the lookup still answers with little or unrelated training data: one sentence."""
    chance = rules["chance"].value
    told = [(rule, f"{rule.name} training rows") for rule in curve if rule.low > chance][:1]
    for name, rows, shared in (
        ("blind_stem_disjoint", floors.stem_disjoint_rows, "stem"),
        ("blind_disjoint", floors.disjoint_rows, "image or problem text"),
    ):
        if rows and name in rules and rules[name].low > chance:
            told.append((rules[name], f"training rows that share no {shared} with it"))
    if told:
        answers = "; ".join(f"{rule.estimate} from {rows}" for rule, rows in told)
        gap = min(rule.value for rule, _ in told) - chance
        found.say(1, gap / 2, f"That takes neither much data nor leaks: the lookup answers {answers}.")


def _say_other_rules(found: Found, rules: dict[str, Measure], commonest: str) -> None:
    chance, longest, letter = rules["chance"].value, rules["longest_option"], rules["train_letter"]
    if longest.low > chance:
        found.say(1, longest.value - chance, f"Picking the longest option answers {longest.estimate}.")
    elif longest.high < chance:
        sentence = f"Picking the longest option answers only {longest.estimate}; chance is {chance:.1f} %"
        found.say(2, chance - longest.value, f"{sentence}: right answers tend to be short.")
    if letter.low > chance:
        sentence = f"Always answering {commonest}, training's commonest letter, gives {letter.estimate}."
        found.say(1, letter.value - chance, sentence)
