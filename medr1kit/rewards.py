"""Rewards: what a completion is paid, as reward functions that TRL's GRPOTrainer takes.

Each maker returns a function ``(completions, solution, options=None, **columns) -> list[float | None]``; TRL passes
every data-set column as a keyword, and None means "does not apply". The accuracy and format rewards read completions
with :meth:`ResponseFormat.parse`, the parser of the evaluation, so a rising reward is a rising score.

The reference's own two rewards are here as well, for fidelity runs. They differ: they read the first answer tag, on one
line, and compare it character by character, so that ``C)`` earns nothing and two tags earn full marks (Med-R1 facts,
section 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from medr1kit.formats import NO_THINK, THINK_BEFORE, Options, Parsed, ResponseFormat, option_mentions
from medr1kit.vqa import DataError, parse_solution

Completion = str | Sequence[dict[str, str]]
RewardFunction = Callable[..., list[float | None]]


def text_of(completion: Completion) -> str:
    """Return the text of a completion, which TRL hands over as a string or as a list of chat messages.

    >>> text_of([{"role": "assistant", "content": "hello"}])
    'hello'
    """
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _read(format: ResponseFormat, completions: Sequence[Completion], options: Sequence | None) -> list[Parsed]:
    """What each completion says; ``options`` are those of each, or None."""
    each = [None] * len(completions) if options is None else options
    return [format.parse(text_of(completion), choices) for completion, choices in zip(completions, each, strict=True)]


def accuracy_reward(format: ResponseFormat) -> RewardFunction:
    """Return a reward of 1 for the gold letter and 0 otherwise, read as the evaluation reads it.

    >>> accuracy_reward(NO_THINK)(["<answer>(b) cyst</answer>"], ["<answer> B </answer>"], options=[["mass", "cyst"]])
    [1.0]
    """

    def accuracy_reward(completions, solution, options=None, **columns) -> list[float | None]:
        read = _read(format, completions, options)
        return [float(parsed.answer == parse_solution(gold)) for parsed, gold in zip(read, solution, strict=True)]

    return accuracy_reward


def format_reward(format: ResponseFormat) -> RewardFunction:
    """Return a reward of 1 for a well-formed completion and 0 otherwise.

    >>> format_reward(THINK_BEFORE)(["<think></think><answer>A</answer>", "<think>x</think> <answer>A</answer>"])
    [0.0, 1.0]
    """

    def format_reward(completions, solution=None, options=None, **columns) -> list[float | None]:
        return [float(parsed.well_formed) for parsed in _read(format, completions, options)]

    return format_reward


def reference_accuracy_reward() -> RewardFunction:
    """Return Med-R1's accuracy reward: the first ``<answer>`` on one line, or the whole text, equal to the gold.

    Its math-verify branch is left out because it can never pay: the gold parses to nothing (Med-R1 facts, section 3).

    >>> reference_accuracy_reward()(["<answer>C)</answer>", "C"], ["<answer> C </answer>"] * 2)
    [0.0, 1.0]
    """

    def reference_accuracy_reward(completions, solution, **columns) -> list[float | None]:
        pairs = zip(completions, solution, strict=True)
        return [float(reference_answer(text_of(said)) == reference_answer(gold)) for said, gold in pairs]

    return reference_accuracy_reward


def reference_answer(text: str) -> str:
    """Return what Med-R1's reward takes for the answer: the first ``<answer>`` on one line, or else the whole text.

    >>> reference_answer("<answer> C) </answer><answer>D</answer>"), reference_answer("C")
    ('C)', 'C')
    """
    match = re.search(r"<answer>(.*?)</answer>", text)
    return (match.group(1) if match else text).strip()


# The patterns of the two reference scripts (Med-R1 facts, section 3); think-after is in neither repository.
_REFERENCE_PATTERN = {
    THINK_BEFORE.name: r"<think>.*?</think>\s*<answer>.*?</answer>",
    NO_THINK.name: r"\s*<answer>.*?</answer>",
}


def reference_format_reward(format: ResponseFormat) -> RewardFunction:
    """Return Med-R1's format reward: its pattern must match the whole completion.

    Raises:
        DataError: for think-after, which the reference does not have.

    >>> reference_format_reward(THINK_BEFORE)(["<think></think><answer></answer>"])
    [1.0]
    """
    if format.name not in _REFERENCE_PATTERN:
        raise DataError(f"the reference has no {format.name} reward; use format_reward({format.name})")
    pattern = re.compile(_REFERENCE_PATTERN[format.name], re.DOTALL)

    def reference_format_reward(completions, **columns) -> list[float | None]:
        return [float(pattern.fullmatch(text_of(completion)) is not None) for completion in completions]

    return reference_format_reward


def soft_overlong_reward(max_length: int, margin: int) -> RewardFunction:
    """Return a penalty from 0 down to -1 for completions that come near the length limit (DAPO, equation 13).

    Args:
        max_length: the limit in tokens, above ``margin``.
        margin: the penalty starts this many tokens before the limit, 1 or more.

    Raises:
        DataError: if ``margin`` is not between 1 and ``max_length``.

    >>> soft_overlong_reward(10, 4)(["…", "…", "…"], completion_ids=[[0] * 6, [0] * 8, [0] * 11])
    [0.0, -0.5, -1.0]
    """
    if not 1 <= margin < max_length:
        raise DataError(f"soft overlong penalty needs 1 <= margin < max_length; got {margin} and {max_length}")

    def soft_overlong_reward(completions, completion_ids, **columns) -> list[float | None]:
        free = max_length - margin
        return [max(-1.0, min(0.0, (free - len(ids)) / margin)) for ids in completion_ids]

    return soft_overlong_reward


def repetition_reward(words: int = 3) -> RewardFunction:
    """Return a penalty from 0 to -1: the share of word n-grams that have occurred before in the completion.

    Args:
        words: length of an n-gram, 1 or more.

    Raises:
        DataError: if ``words`` is below 1.

    >>> repetition_reward(1)(["a b a b", "a b c d"])
    [-0.5, 0.0]
    """

    if words < 1:
        raise DataError(f"repetition penalty needs n-grams of 1 word or more; got words={words}")

    def repetition_reward(completions, **columns) -> list[float | None]:
        rewards = []
        for completion in completions:
            tokens = text_of(completion).split()
            grams = [tuple(tokens[i : i + words]) for i in range(len(tokens) - words + 1)]
            rewards.append(len(set(grams)) / len(grams) - 1.0 if grams else 0.0)
        return rewards

    return repetition_reward


def agreement_reward(format: ResponseFormat) -> RewardFunction:
    """Return a reward of 1 where the rationale's conclusion is the answer, 0 where it is another option.

    The conclusion is the option whose text is named last in the thinking. Where the thinking names no option, or no
    answer can be read, the reward does not apply (None).

    >>> reward = agreement_reward(THINK_BEFORE)
    >>> reward(["<think>Not a mass but a cyst.</think><answer>A</answer>"], options=[["mass", "cyst"]])
    [0.0]
    """

    def agreement_reward(completions, solution=None, options=None, **columns) -> list[float | None]:
        if options is None:
            return [None] * len(completions)
        read = _read(format, completions, options)
        concluded = [concluded_option(parsed, choices) for parsed, choices in zip(read, options)]
        return [None if letter is None else float(letter == parsed.answer) for letter, parsed in zip(concluded, read)]

    return agreement_reward


def concluded_option(parsed: Parsed, options: Options | None) -> str | None:
    """Return the letter of the option whose text the thinking names last.

    Letters in the thinking do not count: to repeat one's letter would cost a policy nothing. That, and that any data is
    read, sets it apart from the measure of :func:`medr1kit.results.rationales.read_conclusion`; both find an option's
    words by :func:`medr1kit.formats.option_mentions`. None where the thinking names no option, where the last one
    stands under several letters, and where there is no answer.
    """
    if options is None or parsed.think is None or parsed.answer is None:
        return None
    mentions = option_mentions(parsed.think, options)
    return mentions[-1].letters if mentions and len(mentions[-1].letters) == 1 else None


@dataclass(frozen=True)
class Explanation:
    """Why a completion is paid what it is paid.

    Attributes:
        parsed: what was read.
        rewards: reward name to value, the reference's beside ours; None where a reward does not apply.
    """

    parsed: Parsed
    rewards: dict[str, float | None]

    def __str__(self) -> str:
        lines = [f"answer: {self.parsed.answer or 'none'} ({self.parsed.reason})"]
        lines.append(f"well-formed: {'yes' if self.parsed.well_formed else 'no'}")
        lines += [f"{name}: {'does not apply' if value is None else value}" for name, value in self.rewards.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def explain_reward(
    text: str, solution: str, *, format: ResponseFormat = THINK_BEFORE, options: Options | None = None
) -> Explanation:
    """Explain what a completion earns under our rewards and under the reference's.

    Args:
        text: the completion.
        solution: the gold, "<answer> B </answer>" or a bare letter.
        format: the response format that was asked for.
        options: the option texts, in letter order or by letter.

    >>> explain_reward("<answer>B</answer><answer>A</answer>", "B", format=NO_THINK).rewards["accuracy"]
    0.0
    """
    makers = {
        "accuracy": accuracy_reward(format),
        "format": format_reward(format),
        "agreement": agreement_reward(format),
        "repetition": repetition_reward(),
        "reference accuracy": reference_accuracy_reward(),
    }
    if format.name in _REFERENCE_PATTERN:
        makers["reference format"] = reference_format_reward(format)
    gold = f"<answer> {parse_solution(solution)} </answer>"
    rewards = {name: reward([text], solution=[gold], options=[options])[0] for name, reward in makers.items()}
    return Explanation(format.parse(text, options), rewards)
