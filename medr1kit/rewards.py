"""Rewards: what a completion is paid, as reward functions that TRL's GRPOTrainer takes.

Each maker returns a function ``(completions, solution, options=None, **columns) -> list[float | None]``; TRL passes
every data-set column as a keyword, and None means "does not apply". The accuracy and format rewards read completions
with :meth:`ResponseFormat.parse`, the parser of the evaluation, so a rising reward is a rising score.

The reference's own two rewards are here as well, for fidelity runs. They differ: they read the first answer tag, on one
line, and compare it character by character, so that ``C)`` earns nothing and two tags earn full marks (Med-R1 facts,
section 3). Their patterns are kept, and with them that a completion of nothing but tags takes time that grows with the
square of its length: 60 kB of them some seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from medr1kit.choices import Options, choices_of, option_mentions
from medr1kit.formats import NO_THINK, THINK_BEFORE, Parsed, ResponseFormat, format_named
from medr1kit.given import kind
from medr1kit.vqa import DataError, fold, parse_solution

Completion = str | Sequence[dict[str, str]]
RewardFunction = Callable[..., list[float | None]]


def text_of(completion: Completion) -> str:
    """Return the text of a completion: a string, or chat messages as TRL hands them over, of which the last counts.

    A message's content is a text or a list of parts, ``[{"type": "text", "text": "…"}]``, whose texts are joined.

    Raises:
        DataError: if it is neither.

    >>> text_of([{"role": "assistant", "content": [{"type": "text", "text": "hello"}]}])
    'hello'
    """
    content = completion
    if isinstance(completion, (list, tuple)) and completion and isinstance(completion[-1], Mapping):
        content = completion[-1].get("content")
        if isinstance(content, (list, tuple)) and all(isinstance(part, Mapping) for part in content):
            texts = [part.get("text") for part in content if part.get("type", "text") == "text"]
            content = "".join(texts) if all(isinstance(text, str) for text in texts) else None
    if not isinstance(content, str):
        raise DataError(f"a completion is {kind(completion)}; expected a text, or chat messages with a content")
    return content


def _texts(completions: Sequence[Completion], **columns: Sequence | None) -> list[str]:
    """The text of each completion; columns beside them must be lists of the same length, or None."""
    for name, values in {"completions": completions, **columns}.items():
        if values is not None and (isinstance(values, (str, Mapping)) or not hasattr(values, "__len__")):
            raise DataError(f"{name} is {kind(values)}; give a list with one entry a completion")
        if values is not None and len(values) != len(completions):
            raise DataError(
                f"{name} has {len(values)} entries for {len(completions)} completions; give one a completion"
            )
    return [text_of(completion) for completion in completions]


def _read(format: ResponseFormat, completions: Sequence[Completion], options: Sequence | None) -> list[Parsed]:
    """What each completion says; ``options`` are those of each, or None."""
    texts = _texts(completions, options=options)
    return [format.parse(text, choices) for text, choices in zip(texts, options or [None] * len(texts), strict=True)]


def accuracy_reward(format: str | ResponseFormat) -> RewardFunction:
    """Return a reward of 1 for the gold letter and 0 otherwise, read as the evaluation reads it.

    >>> accuracy_reward(NO_THINK)(["<answer>(b) cyst</answer>"], ["<answer> B </answer>"], options=[["mass", "cyst"]])
    [1.0]
    """
    format = format_named(format)

    def accuracy_reward(completions, solution, options=None, **columns) -> list[float | None]:
        read = _read(format, completions, options)
        _texts(completions, solution=solution)
        return [float(parsed.answer == parse_solution(gold)) for parsed, gold in zip(read, solution, strict=True)]

    return accuracy_reward


def format_reward(format: str | ResponseFormat) -> RewardFunction:
    """Return a reward of 1 for a well-formed completion and 0 otherwise.

    >>> format_reward(THINK_BEFORE)(["<think></think><answer>A</answer>", "<think>x</think> <answer>A</answer>"])
    [0.0, 1.0]
    """
    format = format_named(format)

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


def reference_format_reward(format: str | ResponseFormat) -> RewardFunction:
    """Return Med-R1's format reward: its pattern must match the whole completion.

    Raises:
        DataError: for another format than think-before and no-think: the reference has these two.

    >>> reference_format_reward(THINK_BEFORE)(["<think></think><answer></answer>"])
    [1.0]
    """
    format = format_named(format)
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


def agreement_reward(format: str | ResponseFormat) -> RewardFunction:
    """Return a reward of 1 where the rationale's conclusion is the answer, 0 where it is another option.

    The conclusion is the option whose text is named last in the thinking. Where the thinking names no option, or no
    answer can be read, the reward does not apply (None).

    >>> reward = agreement_reward(THINK_BEFORE)
    >>> reward(["<think>Not a mass but a cyst.</think><answer>A</answer>"], options=[["mass", "cyst"]])
    [0.0]
    """
    format = format_named(format)

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
    words by :func:`medr1kit.choices.option_mentions`. None where the thinking names no option, where the last one
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
        lines += [f"first answer: {self.parsed.first_answer}"] if self.parsed.first_answer else []
        lines.append(f"well-formed: {'yes' if self.parsed.well_formed else 'no'}")
        lines += [f"{name}: {'does not apply' if value is None else value}" for name, value in self.rewards.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def explain_reward(
    text: str, solution: str, *, format: str | ResponseFormat = THINK_BEFORE, options: Options | None = None
) -> Explanation:
    """Explain what a completion earns under our rewards and under the reference's.

    Args:
        text: the completion.
        solution: the gold, "<answer> B </answer>" or a bare letter.
        format: the response format that was asked for, or its name.
        options: the option texts, a list in letter order or a dict by letter.

    Raises:
        DataError: if the options are no such list or dict, or the solution is no letter of theirs.

    >>> explain_reward("<answer>B</answer><answer>A</answer>", "B", format=NO_THINK).rewards["accuracy"]
    0.0
    """
    format = format_named(format)
    gold = f"<answer> {_gold_letter(solution, options)} </answer>"
    makers = {
        "accuracy": accuracy_reward(format),
        "format": format_reward(format),
        "agreement": agreement_reward(format),
        "repetition": repetition_reward(),
        "reference accuracy": reference_accuracy_reward(),
    }
    if format.name in _REFERENCE_PATTERN:
        makers["reference format"] = reference_format_reward(format)
    rewards = {name: reward([text], solution=[gold], options=[options])[0] for name, reward in makers.items()}
    return Explanation(format.parse(text, options), rewards)


def _gold_letter(solution: object, options: Options | None) -> str:
    """The gold letter of a solution, which must be among the options where they are known."""
    choices = choices_of(options)
    said = [letter for letter, text in choices.items() if text and isinstance(solution, str) and fold(solution) == text]
    if said and solution.strip().upper() not in choices:
        raise DataError(f"solution={solution!r} is the text of option {said[0]}; give the letter, solution={said[0]!r}")
    letter = parse_solution(solution)
    if letter not in choices:
        raise DataError(
            f"solution={solution!r} names none of the options {', '.join(choices)}; give one of these letters"
        )
    return letter
