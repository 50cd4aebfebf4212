"""Questions about a phantom, in the wording of Med-R1's files.

Some need one fact of the image, some several: a grade is read off size and number, "left cyst" against "right cyst" and
"left mass" takes place and kind, and what is *not* seen is found by going through what is. So whether it helps to think
first is a real question, not settled in advance.

Two rules keep the text from giving the answer away. Every option is gold for *some* image of the same modality, equally
often; and the options of one question are alike: all of one kind, or all pairs of two facts crossed with each other. So
over the pooled modalities the text alone gains nothing. Inside one modality, Modality Recognition has one answer by
nature; the audit says so. ``shortcut`` breaks the rules on purpose: its distractors are :data:`DECOYS`, words that are
never right.

The kinds of question and their wordings stand in ``questions.csv`` beside this file.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from medr1kit.data.phantoms.truth import Truth
from medr1kit.vqa import LETTERS, TASKS

N_OPTIONS = 4


@dataclass(frozen=True)
class Kind:
    """One kind of question: the facts it combines, how often it is asked within its task, and its wordings.

    Attributes:
        facts: attributes of :class:`Truth`; how many visual facts the answer needs is `n_facts`.
        stems: wordings, drawn equally often.
        share: of the task's questions; 0 to 1.
        absent: True if the answer is the one word that does *not* fit.
    """

    facts: tuple[str, ...]
    stems: tuple[str, ...]
    share: float
    absent: bool

    @property
    def n_facts(self) -> int:
        """Visual facts to combine: 1 for a name, 2 for a grade or a pair, 4 to find what is absent."""
        return 2 if self.facts == ("grade",) else len(self.facts)


def _read_kinds(path: Path) -> dict[str, tuple[Kind, ...]]:
    """The kinds of each task, a row each; facts stand between plus signs, wordings between bars."""
    kinds = dict.fromkeys(TASKS, ())
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            share, absent = float(Fraction(row["share"])), row["absent"] == "yes"
            kind = Kind(tuple(row["facts"].split("+")), tuple(row["stems"].split("|")), share, absent)
            kinds[row["task"]] += (kind,)
    return kinds


KINDS = _read_kinds(Path(__file__).with_suffix(".csv"))

WORDING = {stem: i for kinds in KINDS.values() for kind in kinds for i, stem in enumerate(kind.stems)}
"""The text of a question -> which of its kind's wordings it is, from 0."""

# Words that sound right and are never the answer, for the shortcut: as many as a question has distractors.
DECOYS = {
    "modality": ("PET", "endoscopy", "mammography"),
    "anatomy": ("spleen", "ankle", "tongue"),
    "finding": ("abscess", "aneurysm", "hernia"),
    "grade": ("absent", "trace", "extreme"),
    "attribute": ("diffuse", "mobile", "deep"),
    "number": ("double", "triple", "countless"),
}


@dataclass(frozen=True)
class Question:
    """One question about one phantom.

    Attributes:
        kind: what it combines.
        stem: the wording.
        options: four texts in letter order.
        answer: the gold letter.
        place: a number that says which class the gold is, for the shortcut's marker; from 0.
        n_places: how many such classes there are.
    """

    kind: Kind
    stem: str
    options: list[str]
    answer: str
    place: int
    n_places: int

    @property
    def gold(self) -> str:
        """The text of the right option."""
        return self.options[LETTERS.index(self.answer)]


def ask(
    truth: Truth, task: str, words: Mapping[str, Sequence[str]], rng: np.random.Generator, decoys: bool = False
) -> Question:
    """Write one question about a phantom.

    Args:
        truth: what the image shows.
        task: one of :data:`medr1kit.vqa.TASKS`.
        words: for each fact the words that are true of some image of this modality.
        rng: the stream that picks kind, stem, distractors and their order.
        decoys: take distractors that are never right (the shortcut); what is absent has no such distractors.
    """
    kinds = KINDS[task]
    kind = kinds[rng.choice(len(kinds), p=[kind.share for kind in kinds])]
    stem = kind.stems[rng.integers(len(kind.stems))]
    options, place, n_places = (_absent if kind.absent else _fitting)(truth, kind, words, rng)
    if decoys and not kind.absent:
        options[1:] = [" ".join(parts) for parts in zip(*(DECOYS[fact] for fact in kind.facts))]
    order = rng.permutation(N_OPTIONS)
    answer = LETTERS[int(np.flatnonzero(order == 0)[0])]
    return Question(kind, stem, [options[i] for i in order], answer, place, n_places)


def _fitting(truth: Truth, kind: Kind, words: Mapping[str, Sequence[str]], rng: np.random.Generator):
    """Four options, the first true: of one fact four of its words, of two facts both crossed with another word each."""
    gold = [getattr(truth, fact) for fact in kind.facts]
    others = [rng.permutation([w for w in words[fact] if w != right]) for fact, right in zip(kind.facts, gold)]
    place = list(words[kind.facts[-1]]).index(gold[-1])
    if len(gold) == 1:
        return [gold[0], *(str(word) for word in others[0][: N_OPTIONS - 1])], place, len(words[kind.facts[0]])
    first, second = (gold[0], str(others[0][0])), (gold[1], str(others[1][0]))
    return [f"{one} {two}" for one in first for two in second], place, len(words[kind.facts[-1]])


def _absent(truth: Truth, kind: Kind, words: Mapping[str, Sequence[str]], rng: np.random.Generator):
    """One word a fact, the first option false and the others true."""
    false = int(rng.integers(len(kind.facts)))
    fact = kind.facts[false]
    wrong = str(rng.permutation([word for word in words[fact] if word != getattr(truth, fact)])[0])
    true = [getattr(truth, other) for other in kind.facts if other != fact]
    return [wrong, *true], false, len(kind.facts)
