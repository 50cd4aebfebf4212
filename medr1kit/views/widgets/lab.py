"""Write a completion and see what it earns: what is read, each reward and its reason, and what the reference would pay.

Two rewards that sound alike differ where it matters. The reference (Med-R1) reads the first ``<answer>`` that opens and
closes on one line and compares it character by character; here the parser of the evaluation reads it. The near misses
of :func:`near_misses` are the cases where the two part, or where a policy may learn a trick; :attr:`RewardLab.frame`
has them all with their pay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.formats import FORMATS, THINK_BEFORE, Parsed, ResponseFormat, format_named
from medr1kit.given import texts_given
from medr1kit.rewards import Explanation, concluded_option, explain_reward
from medr1kit.views.html import escape, page, table
from medr1kit.views.widgets.base import Panel, choose, row, shows, stack, write
from medr1kit.views.widgets.completion import completion_html, paid
from medr1kit.vqa import LETTERS, DataError, parse_solution

if TYPE_CHECKING:
    from ipywidgets import Box

OPTIONS = ("cyst", "mass", "stone", "no finding")
"""The options of the question that is asked where none is given."""

WRITTEN = "well formed"
OWN = "(your own)"


def reward_lab(
    format: ResponseFormat | str = THINK_BEFORE, solution: str = "B", options: Sequence[str] = OPTIONS
) -> RewardLab:
    """Return a widget in which one types a completion and sees what it is paid.

    Args:
        format: the response format that was asked for; can be changed in the widget.
        solution: the gold, "<answer> B </answer>" or a bare letter.
        options: two or more option texts in letter order.

    Returns:
        A :class:`RewardLab`. The last expression of a cell shows it; ``.frame`` has the near misses with their pay.

    Raises:
        DataError: if the gold is not the letter of an option, or the format is unknown.
    """
    return RewardLab(format_named(format), solution, options)


class RewardLab(Panel):
    """The widget of :func:`reward_lab`.

    Attributes:
        format: the format that was asked for.
        formats: those that can be chosen, by name.
        gold: the gold letter.
        options: the option texts.
        text: the completion.
    """

    def __init__(self, format: ResponseFormat, solution: str, options: Sequence[str]) -> None:
        self.formats = FORMATS | {format.name: format}
        self.format, self.gold, self.options = format, parse_solution(solution), texts_given(options, "options", 2)
        if self.gold not in LETTERS[: len(self.options)]:
            there = f"the gold is {self.gold!r}, but there are {len(self.options)} options"
            raise DataError(f"{there}; give a letter of theirs as solution=")
        self.text = self.examples()[WRITTEN]

    # --- what the controls do -----------------------------------------------------------------------------------------

    def type(self, text: str) -> None:
        """Take another completion."""
        if text != self.text:
            self.change(text=text)

    def choose_example(self, name: str) -> None:
        """Take one of the near misses as the completion; "(your own)" leaves what stands there."""
        self.type(self.examples().get(name, self.text))

    def choose_format(self, name: str) -> None:
        """Ask for another format; a near miss that stands in the field is written in it."""
        example = {text: key for key, text in self.examples().items()}.get(self.text)
        self.format = self.formats[name]
        self.change(text=self.examples().get(example, self.text))

    def choose_gold(self, letter: str) -> None:
        """Make another option the gold one; the completion stays."""
        self.change(gold=letter)

    def examples(self) -> dict[str, str]:
        """Return the near misses for this format, gold and options."""
        return near_misses(self.format, self.gold, self.options)

    # --- what is shown ------------------------------------------------------------------------------------------------

    title = "Write a completion, see what it is paid"
    legend = (
        "✓ gold: the right option. A wavy line is under what the format does not allow there. “The reference” is what "
        "Med-R1's code pays for the same text."
    )

    @property
    def rewards(self) -> pd.DataFrame:
        """What the completion is paid: ``reward``, ``paid`` (None: does not apply), ``reason``, and ``reference``, what
        the reference pays under that name, with ``reference_reason``."""
        return reward_table(self.text, self.format, self.gold, self.options)

    @property
    def frame(self) -> pd.DataFrame:
        """The near misses with their pay: ``example``, ``completion`` and one column a reward."""
        near = self.examples()
        rows = [{"example": name, "completion": near[name]} | self._explained(near[name]).rewards for name in near]
        frame = pd.DataFrame(rows, dtype=object)  # half of a pair of characters is no text for pandas
        return frame.astype(dict.fromkeys(frame.columns[2:], float))

    def html(self) -> str:
        """Return the question, the completion and its pay, without style."""
        options = " · ".join(
            f"<b>{letter}) {escape(text, 200)} ✓ gold</b>" if letter == self.gold else f"{letter}) {escape(text, 200)}"
            for letter, text in zip(LETTERS, self.options)
        )
        rows = [
            (escape(name), paid(ours), escape(why, 300), paid(theirs), escape(their_why, 300))
            for name, ours, why, theirs, their_why in self.rewards.itertuples(index=False)
        ]
        return (
            f'<p data-mk="options"><small>{escape(self.format.name)}</small> {options}</p>'
            + completion_html(self.text, self.format, gold=self.gold, options=self.options, pay=False)
            + table(rows, ("reward", "paid", "because", "the reference pays", "because"), "rewards")
        )

    def static(self) -> str:
        rows = []
        for name, text in self.examples().items():
            pay = self._explained(text).rewards
            rows.append([escape(name), f"<code>{escape(text, 200)}</code>", *(_pay(pay, reward) for reward in pay)])
        near = f"<h4>Near misses</h4>{table(rows, ('', 'completion', *pay), 'near-misses')}"
        near += "<p><small>≠ the reference pays otherwise than medr1kit</small></p>"
        return page(self.headline() + self.html() + near, "lab")

    def summary(self) -> str:
        return f"{self.format.name}, gold {self.gold}\n{self._explained(self.text)}"

    def _explained(self, text: str) -> Explanation:
        return explain_reward(text, self.gold, format=self.format, options=self.options)

    # --- the controls -------------------------------------------------------------------------------------------------

    def build(self) -> Box:
        heard = self.heard
        letters = [(f"{letter}) {text}"[:60], letter) for letter, text in zip(LETTERS, self.options)]
        format = choose("format", list(self.formats), heard(self.choose_format), hook="format")
        gold = choose("gold", letters, heard(self.choose_gold), hook="gold")
        example = choose("near miss", [OWN], heard(self.choose_example), hook="example")
        text = write("completion", heard(self.type), hook="text", lines=4)
        return stack(row(format, gold, example), text, shows("main"))

    def state(self) -> dict[str, Any]:
        examples = self.examples()
        example = next((name for name, text in examples.items() if text == self.text), OWN)
        state = {"format": self.format.name, "gold": self.gold, "text": self.text, "main": self.html()}
        return state | {"example": {"options": (OWN, *examples), "value": example}}


def _pay(rewards: dict[str, float | None], name: str) -> str:
    """A cell of the near misses; where the reference pays otherwise than we do, it says so."""
    differs = rewards[name] != rewards[name.removeprefix("reference ")]
    return f'<b class="mk-warn" data-mk="differs">{paid(rewards[name])} ≠</b>' if differs else paid(rewards[name])


def near_misses(format: ResponseFormat, gold: str, options: Sequence[str]) -> dict[str, str]:
    """Return completions that almost earn, or almost do not: name -> completion.

    Args:
        format: the format they (nearly) keep.
        gold: the gold letter.
        options: two or more option texts.

    >>> near_misses(THINK_BEFORE, "B", ["cyst", "mass"])["letter and text"]
    '<think>A mass is seen.</think><answer>B) mass</answer>'
    """
    other = "B" if gold == "A" else "A"
    right, wrong = (options[LETTERS.index(letter)] for letter in (gold, other))
    thought = f"A {right} is seen."

    def written(answer: str, rationale: str = thought) -> str:
        said = {"answer": answer, "think": rationale}  # as it stands: format.write() refuses tags in an option's words
        return "".join(said[block].join(format.marks(block)) for block in format.blocks)

    mark, two = format.marks("answer"), format.blocks.count("answer") > 1
    answer = gold.join(mark)
    examples = {
        WRITTEN: written(gold),
        "another letter": written(other),
        "letter in parentheses": written(f"({gold})"),
        "small letter": written(gold.lower()),
        "letter and text": written(f"{gold}) {right}"),
        "text alone": written(right),
        "letter beside another option's text": written(f"{gold}) {wrong}"),
        "two letters": written(f"{gold} or {other}"),
        "three answer blocks" if two else "two answer blocks": written(gold) + other.join(mark),
        "letter on a line of its own": written(f"\n{gold}\n"),
        "a word before the blocks": "Sure! " + written(gold),
        "no tags": f"The answer is {gold}.",
        "the letter alone": gold,
        "closing tag missing": written(gold).replace(mark[1], ""),
        "a letter that is no option": written(LETTERS[len(options) % len(LETTERS)]),
        "nothing": "",
    }
    if "think" in format.blocks:
        thinking = thought.join(format.marks("think"))
        swapped = answer + thinking if format.blocks[0] == "think" else thinking + answer * (1 + two)
        examples |= {} if two else {"a second block before the thinking": answer + written(other)}
        examples |= {
            "empty thinking": written(gold, ""),
            "blocks in the other order": swapped,
            "thinking not closed": written(gold).replace(format.marks("think")[1], ""),
            "answer inside the thinking": f"{thought} {answer}".join(format.marks("think")),
            "thinking that concludes otherwise": written(gold, f"Not a {right} but a {wrong}."),
            "thinking that repeats itself": written(gold, " ".join([thought] * 6)),
        }
    if format.think_optional:
        examples["no thinking"] = answer
    if two:
        changed = other.join(mark)
        examples |= {
            "a mind changed for the better": changed + thinking + answer,
            "a mind changed for the worse": answer + thinking + changed,
            "the first answer alone": answer,
        }
    return examples


def reward_table(text: str, format: ResponseFormat, gold: str, options: Sequence[str]) -> pd.DataFrame:
    """Return what a completion is paid and why, ours beside the reference's; columns as :attr:`RewardLab.rewards`."""
    explained = explain_reward(text, gold, format=format, options=list(options))
    parsed, earned = explained.parsed, explained.rewards
    repeated = f"{-earned['repetition']:.0%} of the three-word sequences have occurred before"
    reasons = {
        "accuracy": f"{parsed.reason}; the gold is {gold}",
        "format": parsed.fault or "the form is kept",
        "agreement": _agreement(parsed, options),
        "repetition": repeated if earned["repetition"] else "no three words in a row occur twice",
    }
    theirs = dict.fromkeys(reasons, "it has no such reward") | {"accuracy": _reference_accuracy(text, gold)}
    theirs["format"] = _reference_format(earned.get("reference format"), format)
    rows = [(name, earned[name], reasons[name], earned.get(f"reference {name}"), theirs[name]) for name in reasons]
    columns = ["reward", "paid", "reason", "reference", "reference_reason"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _agreement(parsed: Parsed, options: Sequence[str]) -> str:
    if parsed.answer is None:
        return "does not apply: no answer was read"
    if (concluded := concluded_option(parsed, options)) is None:
        return "does not apply: the thinking names no single option"
    return f"the thinking ends with option {concluded}, the answer is {parsed.answer}"


def _reference_accuracy(text: str, gold: str) -> str:
    """What the reference compares (Med-R1 facts, section 3)."""
    match = re.search(r"<answer>(.*?)</answer>", text)
    if match is None:
        return f"no <answer> opens and closes on one line, so the whole text is compared with {gold!r}"
    return f"{match.group(1).strip()!r}, the first answer on one line, is compared with {gold!r}"


def _reference_format(value: float | None, format: ResponseFormat) -> str:
    if value is None:
        return f"it has no {format.name} reward"
    return "its pattern matches the whole text" if value else "its pattern does not match the whole text"
