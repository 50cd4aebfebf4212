"""Rationales whose truth can be checked: a grammar that writes them, and a reader that marks them.

A rationale says what the image shows, reasons where reasoning is needed, and concludes::

    In the liver: small cyst, multiple, left. Taken together, small and multiple is mild. So the answer is mild

Because a phantom's truth is known, each statement in it is true or false, whoever wrote it: the grammar, a trained
model, a person. :func:`read_rationale` finds every fact word, minds "no" and "not" before it, and compares it with the
truth. What follows "the answer is" is the conclusion; it is compared with the answer, not with the image. Real data has
no such truth: there one can only ask whether a rationale *sounds* right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medr1kit.data.phantoms.questions import Question
from medr1kit.data.phantoms.truth import Truth

STYLES = (
    "In the {anatomy}: {size} {finding}, {number}, {attribute}.",
    "A {size} {finding}, {number}, {attribute}, in the {anatomy}.",
)


def write_rationale(truth: Truth, question: Question, rng: np.random.Generator) -> str:
    """Write what is true of the image and what follows for the question.

    Args:
        truth: what the image shows.
        question: the question to conclude on.
        rng: picks one of the styles.
    """
    sentences = [STYLES[rng.integers(len(STYLES))].format(**vars(truth))]
    if question.kind.facts == ("grade",):
        sentences.append(f"Taken together, {truth.size} and {truth.number} is {truth.grade}.")
    if question.kind.absent:
        checked = (f"{option} {'no' if option == question.gold else 'yes'}" for option in question.options)
        sentences.append(f"Of these: {', '.join(checked)}.")
    return " ".join([*sentences, f"So the answer is {question.gold}"])


@dataclass(frozen=True)
class Statement:
    """A checkable statement found in a rationale.

    Attributes:
        start, end: where its word stands in the text, in characters, a plural's ending included.
        fact: the attribute of :class:`Truth` that it is about.
        word: the word, as :class:`Truth` spells it.
        negated: True after "no" or "not".
        holds: True if it is true of the image.
    """

    start: int
    end: int
    fact: str
    word: str
    negated: bool
    holds: bool


@dataclass(frozen=True, repr=False)
class Reading:
    """What a rationale says.

    Attributes:
        statements: in the order of the text.
        names_finding: True if it names the image's finding and no other.
        conclusion: the text after "the answer is"; None if nothing is concluded.
    """

    statements: tuple[Statement, ...]
    names_finding: bool
    conclusion: str | None

    def __repr__(self) -> str:
        words = [f"{'no ' * s.negated}{s.word} ({'true' if s.holds else 'false'})" for s in self.statements]
        said = f"It says: {', '.join(words)}." if words else "It says nothing that can be checked."
        finding = "names the finding" if self.names_finding else "does not name the finding, or names another, too"
        return f"{said} It {finding}, and concludes {self.conclusion or 'nothing'!r}."


def read_rationale(text: str, truth: Truth, fact_of: Mapping[str, str]) -> Reading:
    """Find the statements of a rationale and say which are true of the image.

    Args:
        text: the rationale, whoever wrote it.
        truth: what the image shows.
        fact_of: word -> attribute of Truth, as :func:`medr1kit.data.phantoms.fact_words` gives it.

    >>> truth = Truth("CT", "supine", "liver", "cyst", "small", "single", "left")
    >>> words = {"cyst": "finding", "mass": "finding", "right": "attribute"}
    >>> reading = read_rationale("A cyst, no mass, to the right. So the answer is cyst B", truth, words)
    >>> [(statement.word, statement.holds) for statement in reading.statements], reading.conclusion
    ([('cyst', True), ('mass', True), ('right', False)], 'cyst B')
    """
    seen = _CONCLUDES.split(text, maxsplit=1)[0]
    spelling = {word.casefold(): word for word in fact_of}
    statements: list[Statement] = []
    for match in _pattern(tuple(fact_of)).finditer(seen):
        word = spelling[match["word"].casefold()]
        start, end = match.start("word"), match.end("whole")
        # "no small cyst" denies both: a "no" reaches over words that stand side by side
        beside = statements and statements[-1].negated and not seen[statements[-1].end : start].strip()
        negated = match["no"] is not None or match["denied"] is not None or bool(beside)
        holds = (getattr(truth, fact_of[word]) == word) != negated
        statements.append(Statement(start, end, fact_of[word], word, negated, holds))
    named = {s.word for s in statements if s.fact == "finding" and not s.negated}
    return Reading(tuple(statements), named == {truth.finding}, conclusion_of(text))


def conclusion_of(text: str) -> str | None:
    """Return what a rationale says after "the answer is"; None if it concludes on nothing.

    >>> conclusion_of("A cyst. So the answer is cyst B."), conclusion_of("A cyst.")
    ('cyst B', None)
    """
    _, *concluded = _CONCLUDES.split(text, maxsplit=1)
    return concluded[0].strip(" .:") if concluded else None


def words_said(text: str, fact_of: Mapping[str, str]) -> list[str]:
    """Return the fact words that a text says, denied or not, in its order and as :class:`Truth` spells them.

    >>> words_said("Cysts, no MASS.", {"cyst": "finding", "mass": "finding"})
    ['cyst', 'mass']
    """
    spelling = {word.casefold(): word for word in fact_of}
    return [spelling[match["word"].casefold()] for match in _pattern(tuple(fact_of)).finditer(text)]


_CONCLUDES = re.compile(r"\b(?:so|thus|therefore|hence)?,?\s*the answer is\b", re.IGNORECASE)


@lru_cache(maxsize=8)
def _pattern(words: tuple[str, ...]) -> re.Pattern:
    """Any of the words, singular or plural, with a negation and an article before it, or a "no" that ends a part."""
    longest_first = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    negation = r"(?P<no>\b(?:no|not|not seen:|without)\s+(?:(?:a|an|the|any)\s+)?)?"
    word = rf"(?<!\w)(?P<whole>(?P<word>{longest_first})(?:s|es)?)(?!\w)"
    return re.compile(rf"{negation}{word}(?P<denied>:?\s+no(?=\s*(?:[,.;]|$)))?", re.IGNORECASE)
