"""Blind floors: how many test questions are answered right by rules that never see an image.

The strongest rule is a *lookup*: count in the training rows which option texts were right, and pick the option that was
right most often. It works where right answers come from a small vocabulary of classes while wrong ones were made up per
question. An accuracy means sight only as far as it stands above the floor of the same split.

An option text t scores (times gold + 0.25) / (times seen + 1) over the training rows: a text that was never seen starts
as "a wrong one of four". Knowing the question too, the counts of (stem, t) are smoothed towards it with weight 3.

Source: Med-R1 facts, section 1.7.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # the quantile of t; scipy.stats takes half a second to import

from medr1kit.audits.measures import Found, Measure, interval
from medr1kit.audits.rows import Questions, Wording, encode, read_questions, units_of
from medr1kit.results.numbers import count, percent
from medr1kit.results.said import Said
from medr1kit.vqa import MODALITIES, TASKS, DataError

_PRIOR, _WEIGHT, _STEM_WEIGHT = 0.25, 1.0, 3.0
CURVE = (30, 100, 300, 1000)  # training rows of the learning curve
_CURVE_SEEDS = 5
HARD = "hard subset"  # test rows whose gold is not the one best option of the lookup
_EXACT = ("chance", "best_letter")  # facts about the test file, not estimates


def lookup(train: Wording, test: Wording, *, stem: bool = False, use: np.ndarray | None = None) -> np.ndarray:
    """Answer the test by the lookup and return the credit of each question: 0..1, a tie of k options counts 1/k.

    Args:
        train, test: from one call of :func:`medr1kit.audits.rows.encode`.
        stem: also count which text was right under which stem.
        use: training rows to count, True or False for each; default all.
    """
    weights = np.repeat(np.ones(len(train.counts)) if use is None else use.astype(float), train.counts)
    gold = np.zeros(len(train.texts))
    gold[train.gold] = weights[train.gold]
    size = 1 + max(train.texts.max(), test.texts.max())
    times_gold, times_seen = (np.bincount(train.texts, counted, size) for counted in (gold, weights))
    scores = (times_gold + _PRIOR * _WEIGHT) / (times_seen + _WEIGHT)
    if not stem:
        return pick(scores[test.texts], test)
    pairs = [np.repeat(side.stems, side.counts) * size + side.texts for side in (train, test)]
    _, codes = np.unique(np.concatenate(pairs), return_inverse=True)
    in_train, in_test = codes[: len(gold)], codes[len(gold) :]
    times_gold, times_seen = (np.bincount(in_train, counted, codes.max() + 1) for counted in (gold, weights))
    smoothed = (times_gold[in_test] + _STEM_WEIGHT * scores[test.texts]) / (times_seen[in_test] + _STEM_WEIGHT)
    return pick(smoothed, test)


def pick(scores: np.ndarray, test: Wording) -> np.ndarray:
    """Return the credit of choosing, in each question, the option with the highest score; ties are split evenly.

    Scores that differ only by rounding, as 0.1 + 0.2 and 0.3 do, are a tie.
    """
    scores = scores.round(12)
    best = scores == np.repeat(np.maximum.reduceat(scores, test.starts), test.counts)
    return best[test.gold] / np.add.reduceat(best, test.starts, dtype=int)


def learning_curve(train: Wording, test: Wording) -> dict[int, np.ndarray]:
    """Return the credits of the option lookup after 30, 100, 300 and 1000 training rows, where there are as many.

    Each is an array of five draws x test questions. Draw s takes ``random.Random(s).sample(rows, size)``, as the
    reference does: another draw of 30 rows gives a floor that is 4 points away.
    """
    n, curve = len(train.counts), {}
    for size in (size for size in CURVE if size <= n):
        draws = (random.Random(seed).sample(range(n), size) for seed in range(_CURVE_SEEDS))
        curve[size] = np.array([lookup(train, test, use=np.isin(np.arange(n), draw)) for draw in draws])
    return curve


class Floors(NamedTuple):
    """The credits of every rule on the test questions, 0..1; ``curve`` is that of :func:`learning_curve`.

    The letter is training's commonest gold letter. The rows are those of training that two of the rules learn from:
    with a new stem, and with neither image nor problem text of the test.
    """

    credits: dict[str, np.ndarray]
    curve: dict[int, np.ndarray]
    train_letter: str
    stem_disjoint_rows: int
    disjoint_rows: int


def all_floors(train: Questions, test: Questions, shared: np.ndarray) -> Floors:
    """Answer the test by every blind rule.

    Args:
        train, test: the two sides.
        shared: for each training row whether its image or its problem text is in the test.
    """
    seen, asked = encode(train, test)
    new_stem = ~np.isin(seen.stems, asked.stems)
    letters = np.array(test.gold_letters())
    credits = {
        "chance": 1 / asked.counts,
        "best_letter": (letters == test.commonest_letter).astype(float),
        "train_letter": (letters == train.commonest_letter).astype(float),
        "longest_option": pick(asked.lengths.astype(float), asked),
        "blind_options": lookup(seen, asked),
    }
    if train.stems and test.stems:
        credits["blind_options_stem"] = lookup(seen, asked, stem=True)
        credits["blind_stem_disjoint"] = lookup(seen, asked, use=new_stem)
    credits["blind_disjoint"] = lookup(seen, asked, use=~shared)
    left = int(new_stem.sum()), int((~shared).sum())
    return Floors(credits, learning_curve(seen, asked), train.commonest_letter, *left)


def curve_interval(draws: np.ndarray, clusters: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the mean over draws x questions: both samples' half-widths, added in squares."""
    mean = float(draws.mean())
    low, high = interval(draws.mean(axis=0), clusters)
    reach = stdtrit(len(draws) - 1, 0.975) * draws.mean(axis=1).std(ddof=1) / math.sqrt(len(draws))
    return max(0.0, mean - math.hypot(mean - low, reach)), min(1.0, mean + math.hypot(high - mean, reach))


@dataclass(frozen=True, repr=False)
class BlindFloor(Said):
    """Accuracy of answering from the option texts alone; all shares in 0..1.

    Attributes:
        n: test questions.
        chance: mean of 1 / number of options.
        accuracy: of the lookup; a tie between k options counts 1/k.
        low, high: 95 % Wilson interval.
        frame: the same columns, a row per modality or task (in canonical order, if there is such a column) and "all".
    """

    n: int
    chance: float
    accuracy: float
    low: float
    high: float
    frame: pd.DataFrame

    def sentences(self) -> list[str]:
        """Return the accuracy of the lookup beside chance."""
        reached = f"{percent(self.accuracy, self.low, self.high)} without an image, {percent(self.chance)} by chance"
        return [f"{count(self.n, 'question')}: {reached}"]

    def shown(self) -> pd.DataFrame:
        """Return ``frame`` with three digits of each share."""
        shares = {name: self.frame[name].map("{:.3f}".format) for name in ("chance", "accuracy", "low", "high")}
        return self.frame.assign(**shares)


def blind_floor(train: Any, test: Any, *, by: str = "modality", cluster: str | bool | None = None) -> BlindFloor:
    """Return the accuracy one reaches on ``test`` by counting, in ``train``, which option texts were right.

    No image, no question, no language model: the lookup of this module, from the option texts alone. Texts are compared
    in lower case, letters, digits and blanks only.

    Args:
        train, test: Datasets, frames or lists of rows with ``options`` (list of texts in letter order) and ``answer``
            (gold letter); ``modality`` or ``task`` is used when the test has it. Images are never decoded.
        by: "modality" or "task": what makes the rows of ``frame``. The lookup itself is learned on all training rows.
        cluster: what intervals count, as in :func:`medr1kit.score`: None is patients where ``test`` has a
            ``patient_id``, else questions.

    Raises:
        DataError: if a column is missing, a table is empty, a gold letter names no option, or ``by`` is neither.

    Source: Med-R1 facts, section 1.7, column "options only, no stem".

    >>> seen = [{"options": ["cyst", "stone"], "answer": "A"}, {"options": ["wall", "cyst"], "answer": "B"}]
    >>> blind_floor(seen, [{"options": ["stone", "Cyst."], "answer": "B"}]).accuracy
    1.0
    """
    if by not in ("modality", "task"):
        raise DataError(f"blind_floor(by={by!r}): use 'modality' or 'task'")
    units, _ = units_of(test, "test", cluster)
    train, test = read_questions(train, "train"), read_questions(test, "test")
    seen, asked = encode(train, test)
    verdicts = pd.DataFrame({"chance": 1 / asked.counts, "accuracy": lookup(seen, asked)})
    verdicts["unit"] = np.arange(len(verdicts)) if units is None else units
    values, names = (test.modalities, MODALITIES) if by == "modality" else (test.tasks, TASKS)
    values = pd.Series(values, dtype=object)
    rows = [{by: name, **_floor_row(verdicts[values == name])} for name in names if (values == name).any()]
    if rows and values.isna().any():
        rows.append({by: None, **_floor_row(verdicts[values.isna()])})
    total = _floor_row(verdicts)
    return BlindFloor(**total, frame=pd.DataFrame([*rows, {by: "all", **total}]))


def _floor_row(verdicts: pd.DataFrame) -> dict[str, float]:
    low, high = interval(verdicts["accuracy"].to_numpy(), verdicts["unit"].to_numpy())
    shares = {column: float(verdicts[column].mean()) for column in ("chance", "accuracy")}
    return {"n": len(verdicts), **shares, "low": low, "high": high}


# --- in an audit ------------------------------------------------------------------------------------------------------


def find_floors(
    train: Questions, test: Questions, shared: np.ndarray, clusters: Sequence[Hashable] | None = None
) -> Found:
    """Return the accuracy of every blind rule on the test, as a whole and by modality and task, and say what it means.

    Args:
        train, test, shared: as in :func:`all_floors`.
        clusters: what the intervals count, a value a test question; None: questions.
    """
    found, floors, curve = Found("floors"), all_floors(train, test, shared), []
    credits = floors.credits
    rules = {name: found.share(name, one, clusters, exact=name in _EXACT) for name, one in credits.items()}
    for size, draws in floors.curve.items():
        low, high = (100 * limit for limit in curve_interval(draws, clusters))
        curve.append(found.add(str(size), 100 * float(draws.mean()), "%", len(test), low, high, section="curve"))
    found.add("stem_disjoint_train_rows", floors.stem_disjoint_rows, "rows", len(train))
    found.add("disjoint_train_rows", floors.disjoint_rows, "rows", len(train))
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
        sentence = f"Training has {len(train)} rows only"
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
        reason = f"right answers are {gold:,} distinct texts, and {never:,} other texts are never right"
        sentence += f". The reason: {reason}"
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
