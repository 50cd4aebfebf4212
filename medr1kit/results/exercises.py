"""Exercises of the notebooks that can be checked: is this the answer?

What is right stands here as a digest, so that nobody reads it by accident. It is no secret: whoever tries all words of
a notebook finds it. Answers follow from committed tables, from arithmetic, or from code that needs no model, and a test
computes each of them again; a number that another processor would round otherwise is never asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from numbers import Real
from typing import Any, NamedTuple

from medr1kit.given import choice, kind
from medr1kit.rewards import explain_reward
from medr1kit.vqa import DataError


class Exercise(NamedTuple):
    """What an exercise asks for.

    Attributes:
        asks: for what, in words.
        hint: said when the answer is not right.
        digest: of the right answer; empty where a rule judges it.
        digits: of numbers, after the point: the last one may be off by one, unless there is none. None: words.
    """

    asks: str
    hint: str
    digest: str = ""
    digits: int | None = None


EXERCISES = {
    "00.3": Exercise(
        "four numbers: what we pay for accuracy and for form, and what Med-R1 pays for accuracy and for form",
        "explain_reward(…).rewards has all four. Which letter stands first, and which one is gold?",
        "3cf37231aba43413",
        0,
    ),
    "01.2": Exercise(
        "the blind floor at shortcut=0.25, a share with two decimals",
        "A quarter of the questions gives itself away, three quarters do not: mix the floors at 1 and at 0.",
        "7052910d592f2062",
        2,
    ),
    "01.3": Exercise(
        "the corner in which the marker of a cyst stands, such as 'lower right'",
        "Take the pixel of each corner from the grey image, and count the brightest corner against the gold text.",
        "ca1dde5b8909083a",
    ),
    "02.1": Exercise(
        "two completions for a question with gold C: one that Med-R1's two rewards pay 2 and ours 0, and one that ours "
        "pay 2 and Med-R1's 1 or less",
        "Look at the table of twelve: Med-R1 takes the first answer it finds, and takes no brackets.",
    ),
    "02.2": Exercise(
        "two numbers: what Med-R1's two rewards and what ours pay such a completion together, where A is wrong",
        "Is the form kept? Ours asks what stands in the thought.",
        "31bde82f17a3a4ef",
        0,
    ),
    "02.3": Exercise(
        "two columns of the watch that tell, by their names",
        "What becomes of a thought that costs its writer a reward by every word? Look at watched.columns.",
        "86246e212c5af5c2",
    ),
    "03.2": Exercise(
        "two numbers with two decimals: the advantage of a right completion and of a wrong one",
        "Five of eight are right, and the standard deviation divides by seven.",
        "5ef8f13dd54c527c",
        2,
    ),
    "03.3": Exercise(
        "the column of run.metrics by its name",
        "Look for the word clip; of the shares of tokens it is the one for both sides together.",
        "34943e651e4a402d",
    ),
    "03.4": Exercise(
        "two numbers with two decimals: what a single hit among eight counts with the division by s, and without it",
        "The mean of one 1 and seven 0 is 1/8; what is s, divided by seven?",
        "cb45bec12353057e",
        2,
    ),
    "04.2": Exercise(
        "one word, 'more' or 'less': are the seeds further apart than the interval of one of them is wide?",
        "mk.recorded('worlds/changes') has low and high, and the least and the most of three seeds.",
        "74a52b17747e3729",
    ),
    "05.5": Exercise(
        "three words of the pair: its train_modality, its format and where it was asked",
        "Pivot the difference by method, and sort the column sft less the column grpo.",
        "187bcc00ab2f5898",
    ),
}
"""Notebook and number of an exercise -> what it asks for."""


@dataclass(frozen=True)
class Checked:
    """Whether an answer is right; true in an ``if``.

    Attributes:
        right: whether it is; None where no answer was given.
        said: one or two sentences for the one who answered.
    """

    right: bool | None
    said: str

    def __bool__(self) -> bool:
        return bool(self.right)

    def __repr__(self) -> str:
        return self.said


def check_answer(exercise: str, value: Any = None) -> Checked:
    """Return whether the answer to an exercise of a notebook is right, with a hint if it is not.

    Args:
        exercise: the notebook and the number, such as "03.2"; :data:`EXERCISES` has all that can be checked.
        value: a number, a text, or a list of them, as the exercise asks; None: say what it asks for.

    Raises:
        DataError: if there is no such exercise, or the value is not of the kind that it asks for.

    >>> check_answer("03.3", "loss")
    03.3: not yet. Look for the word clip; of the shares of tokens it is the one for both sides together.
    """
    asked = EXERCISES[choice(exercise, "exercise", EXERCISES)]
    if value is None:
        return Checked(None, f"{exercise} asks for {asked.asks}: mk.check_answer({exercise!r}, …)")
    if exercise == "02.1":
        right = _pays(_texts(value, exercise))
    else:
        right = asked.digest in {_digest(exercise, one) for one in _spellings(value, exercise)}
    return Checked(right, f"{exercise}: right." if right else f"{exercise}: not yet. {asked.hint}")


def _spellings(value: Any, exercise: str) -> Iterable[str]:
    """What counts as the same answer: numbers off by one in their last digit, words in any order and case."""
    digits = EXERCISES[exercise].digits
    if digits is None:
        return [
            " ".join(sorted({re.sub(r"[^a-z0-9]+", " ", text.lower()).strip() for text in _texts(value, exercise)}))
        ]
    off = (-1, 0, 1) if digits else (0,)
    units = [[round(one * 10**digits) + by for by in off] for one in _numbers(value, exercise)]
    return (" ".join(map(str, some)) for some in product(*units))


def _digest(exercise: str, answer: str) -> str:
    return sha256(f"medr1kit {exercise} {answer}".encode()).hexdigest()[:16]


def _numbers(value: Any, exercise: str) -> list[float]:
    listed = _listed(value)
    if not 0 < len(listed) < 9 or not all(isinstance(one, Real) and abs(one) < 1e9 for one in listed):  # nan is not
        raise DataError(f"value is {kind(value)}; exercise {exercise} asks for {EXERCISES[exercise].asks}")
    return [float(one) for one in listed]


def _texts(value: Any, exercise: str) -> list[str]:
    listed = _listed(value)
    if not listed or not all(isinstance(one, str) for one in listed):
        raise DataError(f"value is {kind(value)}; exercise {exercise} asks for {EXERCISES[exercise].asks}")
    return listed


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def _pays(texts: Sequence[str]) -> bool:
    """Exercise 02.1: any two texts are right that are paid so."""
    if len(texts) != 2:
        return False
    paid = [explain_reward(text, "C", options=["upper", "right", "lower", "left"]).rewards for text in texts]
    ours = [one["accuracy"] + one["format"] for one in paid]
    theirs = [one["reference accuracy"] + one["reference format"] for one in paid]
    return (theirs[0], ours[0], ours[1]) == (2, 0, 2) and theirs[1] <= 1
