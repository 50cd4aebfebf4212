"""Response formats: what the prompt asks for, and how an answer is read out of what came back.

One :class:`ResponseFormat` owns both directions, so that training prompt, training reward and evaluation cannot drift
apart. In the reference implementation they did: four wordings of "think", a reward that read only the first tag, and an
evaluation that compared whole outputs with the letter (Med-R1 facts, sections 2, 3 and 5.3).

Five formats exist, and :class:`ResponseFormat` makes others, with tags and wordings of one's own::

    THINK_BEFORE          <think>rationale</think><answer>B</answer>     the prompt of Med-R1
    NO_THINK              <answer>B</answer>                             the prompt of Med-R1
    THINK_AFTER           <answer>B</answer><think>rationale</think>     Med-R1 names it; the wording is ours
    ANSWER_THINK_ANSWER   <answer>A</answer><think>rationale</think><answer>B</answer>     ours: it may change its mind
    ADAPTIVE              think-before or no-think, as the model chooses                   ours

The built-in model has been taught the first three alone; SFT teaches it the others.

Reading is generous about letters and strict about ambiguity. ``(c)``, ``C.``, ``C) CT`` and ``CT`` all mean C when
option C is "CT"; an answer block too many, two letters, or a letter whose text belongs to another option mean nothing
at all, because paying for them teaches a policy to hedge. Of the two answers of answer-think-answer the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from medr1kit.alike import alike
from medr1kit.choices import Letter, Options, choices_of, read_letter
from medr1kit.given import kind, truth
from medr1kit.tags import ANY_TAG, TAG, any_tag, cut, misplaced, tags_given
from medr1kit.untagged import bare_letters, untagged_letter
from medr1kit.vqa import DataError

_WORD = re.compile(r"[^\W_]")  # a letter or digit of any script: less is a thought that no eye sees

ORDERS = (("answer",), ("think", "answer"), ("answer", "think"), ("answer", "think", "answer"))
"""The orders of blocks that can be read."""

FORMATS: dict[str, ResponseFormat] = {}
"""The formats that have a name everywhere, by name; filled below."""


@dataclass(frozen=True, repr=False)
class Parsed:
    """What a completion says.

    Attributes:
        think: the text of the first thinking block, stripped; None if there is none.
        answer: the letter of the one answer block outside the thinking, of the last one where the format has two; None
            if it cannot be read without guessing.
        lenient_answer: ``answer``, or else the one letter that stands as an answer outside the thinking, tagged or
            not (:mod:`medr1kit.untagged`); None if there is none or several.
        well_formed: the format's blocks, once each, in order, nothing between or around them, and a thought with at
            least one letter or digit.
        reason: one sentence that says why ``answer`` is what it is.
        fault: one sentence that says what is malformed; empty if nothing is.
        by_text: the answer was read from an option's own text, without a letter beside it.
        first_answer: where the format has two answers and the completion, too, the letter of the first; None if it
            cannot be read, and in every other format.
    """

    think: str | None
    answer: str | None
    lenient_answer: str | None
    well_formed: bool
    reason: str = ""
    fault: str = ""
    by_text: bool = False
    first_answer: str | None = None

    def __repr__(self) -> str:
        form = f"malformed ({self.fault})" if self.fault else "well-formed"
        first = f"first answer {self.first_answer}, " if self.first_answer else ""
        thought = "no thought" if self.think is None else f"thought {self.think!r}"
        return f"{first}answer {self.answer or 'none'} ({self.reason}); {form}; {thought}"


@dataclass(frozen=True)
class ResponseFormat:
    """A response format: its blocks in order, their tags, and the instruction that asks for them.

    Attributes:
        name: "think-before", "think-after", "no-think", "answer-think-answer" or "adaptive"; another for one's own.
        blocks: "think" and "answer" in the order in which they must appear, one of :data:`ORDERS`. Of two answers the
            last is the answer.
        instruction: the text that follows the problem in the prompt.
        tags: block to the name of its tag, letters only; a block that is left out has its own name.
        think_optional: the thought may be left out; with ("think", "answer").

    Raises:
        DataError: if one of them is none of these, a tag is that of the other block, the instruction asks for a tag
            that was renamed, or the name is that of a format with other blocks.

    >>> mine = ResponseFormat("mine", ("think", "answer"), "Reason in <REASONING>, then answer with a letter in "
    ...                       "<SOLUTION>.", tags={"think": "REASONING", "answer": "SOLUTION"})
    >>> mine.parse("<REASONING>A ring.</REASONING><SOLUTION>B</SOLUTION>").answer
    'B'
    """

    name: str
    blocks: tuple[str, ...]
    instruction: str
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    think_optional: bool = False

    def __post_init__(self) -> None:
        for name in ("name", "instruction"):
            if not isinstance(getattr(self, name), str):
                raise DataError(f"{name} of a format is {kind(getattr(self, name))}; give a text")
        if not self.name.strip():
            raise DataError("a format needs a name, which tables and runs keep; give one, such as name='mine'")
        blocks = tuple(self.blocks) if isinstance(self.blocks, list) else self.blocks  # as JSON has it
        if blocks not in ORDERS:
            raise DataError(f"blocks={blocks!r} is no order that can be read; use one of {', '.join(map(str, ORDERS))}")
        if truth(self.think_optional, "think_optional") and blocks != ("think", "answer"):
            raise DataError("think_optional=True goes with blocks=('think', 'answer') alone; leave it out")
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "tags", tags_given(self.tags, self.instruction))
        known = FORMATS.get(_key(self.name), self)
        if (known.blocks, known.tags, known.think_optional) != (blocks, self.tags, self.think_optional):
            raise DataError(f"name={self.name!r} is that of a format with other blocks or tags; choose another")

    @property
    def tag(self) -> re.Pattern:
        """Any tag of the format."""
        return any_tag(self.tags)

    def marks(self, block: str) -> tuple[str, str]:
        """Return the tags around a block, so that ``text.join(format.marks("think"))`` is the block.

        >>> "B".join(NO_THINK.marks("answer"))
        '<answer>B</answer>'
        """
        return f"<{self.tags[block]}>", f"</{self.tags[block]}>"

    def expected(self, text: str) -> list[str]:
        """Return the tags that a text must have, in order; those of a thought that may be left out, if it has one."""
        left_out = self.think_optional and not any(mark in text for mark in self.marks("think"))
        return [mark for block in self.blocks if not (left_out and block == "think") for mark in self.marks(block)]

    def prompt(self, problem: str) -> str:
        """Return the user turn: the problem, a blank, the instruction.

        >>> NO_THINK.prompt("Sharp? A)yes, B)no")[:32]
        'Sharp? A)yes, B)no Your task: 1.'
        """
        return f"{problem} {self.instruction}"

    def write(self, answer: str, rationale: str = "") -> str:
        """Return a well-formed completion, as used for SFT targets; where the format has two answers they are alike.

        Args:
            answer: the letter.
            rationale: the thought; a pair of think tags around it is taken off. Where it may be left out and is empty,
                there is none.

        Raises:
            DataError: if another tag is in either, or what was written is malformed.

        >>> THINK_AFTER.write("B", "Fluid under the retina.")
        '<answer>B</answer><think>Fluid under the retina.</think>'
        """
        if not isinstance(answer, str) or not isinstance(rationale, str):
            raise DataError(f"the answer is {answer!r:.40}, the rationale {rationale!r:.40}; give texts")
        tagged = rf"\s*<(think|{self.tags['think']})>\s*(.*?)\s*</\1>\s*"
        bare = re.fullmatch(tagged, rationale, re.DOTALL | re.IGNORECASE)
        content = {"answer": answer, "think": bare.group(2) if bare else rationale}
        blocks = self.blocks if content["think"].strip() or not self.think_optional else ("answer",)
        for block in blocks:
            if tag := ANY_TAG.search(content[block]) or self.tag.search(content[block]):
                what = f"the {'rationale' if block == 'think' else 'answer'} holds a tag of its own, {tag[0]}"
                raise DataError(f"{what}, in {content[block][:80]!r}; take it out")
        written = "".join(content[block].join(self.marks(block)) for block in blocks)
        if fault := self.parse(written).fault:
            raise DataError(f"{fault} in {written[:80]!r}; give a letter and, where the format thinks, a rationale")
        return written

    def parse(self, text: str, options: Options | None = None) -> Parsed:
        """Read a completion.

        Args:
            text: the completion, without special tokens.
            options: the option texts in letter order, or a mapping from letter to text. Without them any letter is
                accepted, the text beside a letter cannot be checked, and an option's own text cannot be read.

        >>> THINK_BEFORE.parse("<think>A ring.</think> <answer>b) cyst</answer>", ["mass", "cyst"]).answer
        'B'
        >>> NO_THINK.parse("<answer>B) mass</answer>", ["mass", "cyst"]).reason
        'the letter B stands beside text that is not option B'
        """
        if not isinstance(text, str):
            raise DataError(f"a completion is {type(text).__name__}, not text; pass what the model wrote as a string")
        return _read(text, self, tuple(choices_of(options).items()))


def _key(name: str) -> str:
    """A format's name as FORMATS has it."""
    return {"think": "think-before"}.get(name.casefold(), name.casefold().replace("_", "-"))


@lru_cache(maxsize=8)  # rewards and widgets read one completion several times; few are kept, it may be a megabyte
def _read(text: str, format: ResponseFormat, letters: tuple[tuple[str, str | None], ...]) -> Parsed:
    """Read a completion; ``letters`` are the choices as pairs."""
    choices, count = dict(letters), format.blocks.count("answer")
    thoughts, answers, outside = cut(text, format.tags)
    answer, reason, by_text = _read_last(answers, format, choices)
    first = _read_block(answers[0], format, choices) if len(answers) == count > 1 else Letter(None, "")
    if not text.strip():
        fault = "the completion is empty"
    elif answer is None:
        fault = reason
    elif len(answers) < count:
        fault = "there is one answer block; the format has two"
    elif wrong := misplaced(format.tag.findall(text), format.expected(text)):
        fault = wrong
    elif outside.strip():
        fault = "there is text outside the blocks"
    elif first.letter is None and count > 1:
        fault = f"of the first answer: {first.reason}"
    else:
        fault = "" if all(_WORD.search(alike(thought)) for thought in thoughts) else "the thinking is empty"
    lenient = answer or _read_untagged(answers, outside, format, choices)
    think = thoughts[0].strip() if thoughts else None
    return Parsed(think, answer, lenient, not fault, reason, fault, by_text, first.letter)


def _read_last(answers: list[str], format: ResponseFormat, choices: dict[str, str | None]) -> Letter:
    """Read the last answer block, if there are no more than the format has."""
    count = format.blocks.count("answer")
    if not answers:
        return Letter(None, f"there is no {'…'.join(format.marks('answer'))} block outside the thinking")
    if len(answers) > count:
        counts = "exactly one counts" if count == 1 else "the format has two"
        return Letter(None, f"there are {len(answers)} answer blocks; {counts}")
    return _read_block(answers[-1], format, choices)


def _read_block(content: str, format: ResponseFormat, choices: dict[str, str | None]) -> Letter:
    if format.tag.search(content):
        return Letter(None, "the answer block holds another tag")
    return read_letter(content, choices)


def _read_untagged(
    answers: list[str], outside: str, format: ResponseFormat, choices: dict[str, str | None]
) -> str | None:
    """Read a letter without its tags; of more answer blocks than there may be only where all of them are one letter."""
    several = len(answers) > format.blocks.count("answer")
    text = format.tag.sub("\n", "\n".join(answers if several else [*answers[-1:], outside]))
    text = alike(TAG.sub("\n", text))  # also where the format has tags of its own
    if not several and (letter := read_letter(text, choices).letter):
        return letter
    letter = untagged_letter(text, choices)
    return None if several and bare_letters(text) & set(choices) - {letter} else letter


THINK_BEFORE = ResponseFormat(
    name="think-before",
    blocks=("think", "answer"),
    # Verbatim the training prompt of Med-R1 (facts, section 2), also used for evaluation here.
    instruction=(
        "Your task: 1. Think through the question step by step, enclose your reasoning process in <think>...</think> "
        "tags. 2. Then provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags. "
        "3. No extra information or text outside of these tags."
    ),
)
NO_THINK = ResponseFormat(
    name="no-think",
    blocks=("answer",),
    # Verbatim the no-think training prompt of Med-R1.
    instruction=(
        "Your task: 1. Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags. "
        "2. No extra information or text outside of this tag."
    ),
)
THINK_AFTER = ResponseFormat(
    name="think-after",
    blocks=("answer", "think"),
    # Ours: the reference repositories hold no think-after prompt.
    instruction=(
        "Your task: 1. Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags. "
        "2. Then explain step by step why this choice is correct, enclose your explanation in <think>...</think> tags. "
        "3. No extra information or text outside of these tags."
    ),
)
ANSWER_THINK_ANSWER = ResponseFormat(
    name="answer-think-answer",
    blocks=("answer", "think", "answer"),
    # Ours, as is the next.
    instruction=(
        "Your task: 1. Provide your first single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags. "
        "2. Then think through the question step by step, enclose your reasoning process in <think>...</think> tags. "
        "3. Then provide the correct single-letter choice inside <answer>...</answer> tags again; it may differ from "
        "the first. 4. No extra information or text outside of these tags."
    ),
)
ADAPTIVE = ResponseFormat(
    name="adaptive",
    blocks=("think", "answer"),
    instruction=(
        "Your task: 1. If the question needs it, think through it step by step, enclose your reasoning process in "
        "<think>...</think> tags; if not, leave them out. 2. Then provide the correct single-letter choice "
        "(A, B, C, D,...) inside <answer>...</answer> tags. 3. No extra information or text outside of these tags."
    ),
    think_optional=True,
)
FORMATS |= {one.name: one for one in (THINK_BEFORE, THINK_AFTER, NO_THINK, ANSWER_THINK_ANSWER, ADAPTIVE)}


def format_named(name: str | ResponseFormat) -> ResponseFormat:
    """Return the format with this name; a format is returned as it is.

    Raises:
        DataError: if no format has this name.

    >>> format_named("no_think") is NO_THINK
    True
    """
    if isinstance(name, ResponseFormat):
        return name
    if not isinstance(name, str):
        raise DataError(f"a format has a name, not {name!r}; use one of {', '.join(FORMATS)}")
    if _key(name) not in FORMATS:
        raise DataError(f"unknown format {name!r}; use one of {', '.join(FORMATS)}")
    return FORMATS[_key(name)]
