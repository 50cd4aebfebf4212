"""Repair of the wording: distractors redrawn so that the options alone tell nothing.

OmniMedVQA's wrong options were made up question by question, so they come from another vocabulary than the right ones.
Drawing the distractors from the gold texts is not enough: "airspace opacity" is gold 318 times and "soft tissue mass" 9
times, so among texts drawn alike the frequent one is the best guess.

What works is :mod:`medr1kit.data.blocks`: k questions with k different golds share one option set. Every text is then
gold in exactly 1/k of the rows in which it appears, and a lookup, whatever it was trained on, scores exactly chance.

Which questions can share? Those that ask for the same kind of thing about the same kind of image: same modality, task,
source and *kind*. Questions are of one kind if they are linked through equal stems and equal golds; on the real data
this finds grades, stages, organs, findings and yes-or-no questions without being told. The source counts because labels
exclude each other only within one label set ("malignant epidermal" of one source is "basal cell carcinoma" of another),
and because otherwise recognising the source would give the answer.

It has a price, counted by reason in :class:`DroppedQuestions`: a text that is gold too often is asked only as often as
the others let it, and a question whose kind has one meaning has no honest distractor at all. What this leaves of
Med-R1's tests stands in ``docs/your_own_data.md``. Golds that overlap without sharing words are not recognised.

The stem can still tell: "which stage?" has other golds than "which organ?"; ``strict=True`` closes this too and keeps
less.

Debias *after* splitting, each side alone. In a table that is balanced exactly, one part says what the rest must hold:
a lookup fitted on half of the rows comes out *below* chance on the other half. Cross-fitting has to keep the rows with
the same options in one fold.
"""

from __future__ import annotations

import random
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection
from itertools import chain, combinations

import datasets
import numpy as np
import pandas as pd

from medr1kit.audits.meanings import named_modality, same_meanings, yes_or_no
from medr1kit.audits.repair import linked
from medr1kit.audits.rows import column, plain, read_questions
from medr1kit.data.blocks import exchangeable_blocks, lay_out
from medr1kit.given import questions_given, whole_number
from medr1kit.progress import no_bars_of_datasets, progress
from medr1kit.vqa import LETTERS, DataError, parse_problem, write_question

_RECOGNITION = "Modality Recognition"


class DroppedQuestions(UserWarning):
    """Emitted by :func:`debias_options` when questions were dropped or lost options.

    Attributes:
        rows: each dropped question as a dict with ``id``, ``row`` (counted from 0), ``modality``, ``task``, ``source``,
            ``gold`` (its text) and ``reason``: "one meaning" (no gold of its kind says anything else), "too frequent"
            (its gold is right more often than the other texts of its kind can balance) or, if ``strict``, "stem tells"
            (its stem has one answer).
        frame: the counts, a row per modality, task and reason, with column ``n``.
        n_fewer: questions that were kept with fewer options than they had.

    To read them::

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DroppedQuestions)
            fair = debias_options(ds)
        dropped = [w.message.frame for w in caught if isinstance(w.message, DroppedQuestions)]
    """

    def __init__(self, rows: list[dict], n_fewer: int, total: int):
        self.rows, self.n_fewer = rows, n_fewer
        keys = ["modality", "task", "reason"]
        frame = pd.DataFrame(rows, columns=["id", "row", "modality", "task", "source", "gold", "reason"])
        self.frame = frame.groupby(keys, dropna=False).size().rename("n").reset_index()
        counts = ", ".join(f"{n} x {reason}" for reason, n in Counter(row["reason"] for row in rows).most_common())
        super().__init__(
            f"dropped {len(rows)} of {total} questions{f' ({counts})' if rows else ''}; "
            f"{n_fewer} of the others have fewer options than before"
        )


def debias_options(ds: datasets.Dataset, seed: int = 0, strict: bool = False) -> datasets.Dataset:
    """Redraw all distractors so that no rule on the option texts does better than chance.

    Distractors are gold texts of questions of the same modality, task, source and kind; see the module's own text.
    Never offered are a near-duplicate of the gold (see :func:`medr1kit.audits.meanings.same_meaning`), any other gold
    of the same image, and, where images are kept in a folder a class, another gold of the same class. Among the
    questions with k options each letter is gold equally often. The number of options stays where the vocabulary is
    large enough.

    Args:
        ds: a Dataset with ``question``, ``options`` and ``answer``; ``modality``, ``task``, ``source``, ``image_id``
            and ``id`` are used when they are there. Images are not decoded.
        seed: another seed, another draw; the same seed, the same draw.
        strict: share options only among questions with the same stem. Then not even a rule on stem and options together
            does better than chance; fewer questions are left.

    Returns:
        The questions that can be asked honestly, in their old order, with the same columns. New are ``options`` and
        ``answer``, ``problem`` and ``solution`` if there, and the letter at the end of a ``rationale``. A
        :class:`DroppedQuestions` warning counts the others.

    Raises:
        DataError: if a column is missing, a gold letter names no option, or no question can be kept.
    """
    seed = whole_number(seed, "seed", 0)
    asked = _Asked(questions_given(ds, "ds", ("options", "answer")))
    rng = random.Random(seed)
    orders: dict[int, list[int]] = {}  # for each question kept: the questions whose golds it offers, in letter order
    reasons: dict[int, str] = {}
    with progress(None, "debias", total=len(asked), unit="question") as bar:
        for kind in asked.kinds():
            blocks, left = asked.share(kind, rng, strict)
            reasons |= left
            for block in blocks:
                orders |= dict(zip(block, lay_out(block, rng)))
            bar.update(len(kind))
    if not orders:
        raise DataError(f"none of the {len(asked)} questions can be kept: no kind of question has two different golds")
    dropped = [{**asked.summary(row), "reason": reasons[row]} for row in sorted(reasons)]
    fewer = sum(len(order) < len(asked.options[row]) for row, order in orders.items())
    if dropped or fewer:
        warnings.warn(DroppedQuestions(dropped, fewer, len(asked)), stacklevel=2)
    return _rewritten(ds, asked, orders)


class _Asked:
    """The questions of a data set, a list entry a row, and what kind each is of."""

    def __init__(self, ds: datasets.Dataset):
        read = read_questions(ds, "the data set")
        none = [None] * len(read)
        self.options, self.shown, self.letters = read.options, read.gold_texts, read.gold_letters()
        self.golds = [plain(text) for text in read.gold_texts]
        self.stems = [plain(stem) for stem in read.stems or [""] * len(read)]
        self.modalities, self.tasks, self.images = read.modalities, read.tasks, read.images or none
        self.sources = column(ds, "source", None) or none
        self.about = {"id": read.ids or none, "gold": self.shown, "source": self.sources}
        self.about |= {"modality": self.modalities, "task": self.tasks}
        self.golds_of: dict[str, set[str]] = defaultdict(set)  # by image
        for image, gold in zip(self.images, self.golds):
            self.golds_of[image].add(gold)

    def __len__(self) -> int:
        return len(self.options)

    def summary(self, row: int) -> dict[str, object]:
        return {"row": row} | {name: values[row] for name, values in self.about.items()}

    def kinds(self) -> list[list[int]]:
        """The rows, sorted into kinds of question."""
        cells = defaultdict(list)
        for row, text in enumerate(self.shown):
            task = self.tasks[row]
            recognition = task == _RECOGNITION or (task is None and named_modality(text) is not None)
            # Which modality it is can only be asked across sources: a source has one.
            where = _RECOGNITION if recognition else (task, self.sources[row], yes_or_no(text) is not None)
            cells[self.modalities[row], where].append(row)
        return [kind for cell in cells.values() for kind in self._linked(cell)]

    def _linked(self, cell: list[int]) -> list[list[int]]:
        """Rows that hang together through equal stems and equal golds."""
        stems, stem_names = pd.factorize(pd.Series([self.stems[row] for row in cell], dtype=object))
        golds, gold_names = pd.factorize(pd.Series([self.golds[row] for row in cell], dtype=object))
        labels = linked(stems, golds)
        if len(stem_names) > 0.9 * len(cell) and len(pd.unique(labels)) == len(gold_names):
            return [cell]  # stems that never repeat tell no kinds apart
        order = np.argsort(labels, kind="stable")  # labels are numbered as they appear
        return [[cell[i] for i in part] for part in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)]

    def share(self, kind: list[int], rng: random.Random, strict: bool) -> tuple[list[list[int]], dict[int, str]]:
        """Blocks of rows that share their golds as options, and the rows that are left over, each with the reason."""
        clashes = self._clashes(kind)
        if _one_meaning(clashes, clashes):
            return [], dict.fromkeys(kind, "one meaning")
        pools = defaultdict(list)
        for row in kind:
            pools[len(self.options[row]), self.stems[row] if strict else ""].append(row)
        blocks, reasons = [], {}
        for (size, _), rows in sorted(pools.items(), reverse=True):
            told = strict and _one_meaning(clashes, {self.golds[row] for row in rows})
            for smaller in range(size, 1, -1):  # what full blocks leave over may fill one with fewer options
                found, rows = self._blocks(rows, smaller, clashes, rng)
                blocks += found
            reasons |= dict.fromkeys(rows, "stem tells" if told else "too frequent")
        return blocks, reasons

    def _blocks(self, rows: list[int], size: int, clashes: dict[str, set[str]], rng: random.Random):
        golds, stems = ([texts[row] for row in rows] for texts in (self.golds, self.stems))
        barred = {i: texts for i, row in enumerate(rows) if (texts := self._also_right(row, clashes))}
        blocks, rest = exchangeable_blocks(golds, size, rng, stems=stems, clashes=clashes, barred=barred)
        return [[rows[i] for i in block] for block in blocks], [rows[i] for i in rest]

    def _clashes(self, kind: list[int]) -> dict[str, set[str]]:
        """For each gold of a kind the others that mean the same."""
        texts = {self.golds[row]: self.shown[row] for row in kind}
        clashes: dict[str, set[str]] = {gold: set() for gold in texts}
        one = self.modalities[kind[0]] is not None and self.tasks[kind[0]] == _RECOGNITION
        classes = self._classes(kind)
        alike = defaultdict(list)  # golds of one class, or all of them
        for gold in texts:
            alike["" if one else classes.get(gold, gold)].append(gold)
        golds = list(texts)
        pairs = [(golds[i], golds[j]) for i, j in same_meanings(list(texts.values()))]
        for first, second in chain(pairs, *(combinations(some, 2) for some in alike.values())):
            clashes[first].add(second)
            clashes[second].add(first)
        return clashes

    def _classes(self, kind: list[int]) -> dict[str, str]:
        """The class folder of each gold's images, if that is how the images of a kind are kept.

        It is where each gold has images in one folder name only ("…/MH/3.jpg", in test/MH as in val/MH), and the golds
        do not all have the same. Two golds of one such folder are one finding in two wordings.
        """
        folders = defaultdict(set)
        for row in kind:
            folders[self.golds[row]].add((self.images[row] or "").rpartition("/")[0].rpartition("/")[2])
        named = {gold: names.pop() for gold, names in folders.items() if len(names) == 1}
        return named if len(named) == len(folders) and len(set(named.values())) > 1 else {}

    def _also_right(self, row: int, clashes: dict[str, set[str]]) -> set[str]:
        """Texts that are right for the image of a row, beside its own gold."""
        if self.images[row] is None:
            return set()
        others = self.golds_of[self.images[row]] - {self.golds[row]}
        return {text for other in others for text in (other, *clashes.get(other, ()))}


def _one_meaning(clashes: dict[str, set[str]], golds: Collection[str]) -> bool:
    return all(other == gold or other in clashes[gold] for gold, other in combinations(golds, 2))


def _rewritten(ds: datasets.Dataset, asked: _Asked, orders: dict[int, list[int]]) -> datasets.Dataset:
    """The rows kept, with their new options; other columns, images among them, stay as they are stored."""
    kept = sorted(orders)
    stems = column(ds, "question", None) or [parse_problem(problem)[0] for problem in column(ds, "problem", None)]
    rationales = column(ds, "rationale", None)
    rows = []
    for row in kept:
        letter = LETTERS[orders[row].index(row)]
        rows.append(write_question(stems[row], [asked.shown[other] for other in orders[row]], letter))
        if rationales:
            rows[-1]["rationale"] = _relettered(rationales[row], asked.letters[row], letter)
    columns = {name: [row[name] for row in rows] for name in rows[0] if name in ds.column_names}
    features = datasets.Features({name: ds.features[name] for name in columns})
    new = datasets.Dataset.from_dict(columns, features=features)
    rest = ds.select(kept).remove_columns(list(columns))
    if not rest.column_names:
        return new.select_columns(ds.column_names)
    with no_bars_of_datasets():
        return datasets.concatenate_datasets([rest, new], axis=1).select_columns(ds.column_names)


def _relettered(rationale: str | None, old: str, new: str) -> str | None:
    """A rationale that ends with the gold letter, with the new one."""
    if rationale is None or not re.search(rf"\b{old}\W*$", rationale):
        return rationale
    place = rationale.rindex(old)
    return rationale[:place] + new + rationale[place + 1 :]
