"""Response formats: what the prompt asks for, and how an answer is read out of what came back.

One :class:`ResponseFormat` owns both directions, so that training prompt, training reward and evaluation cannot drift
apart. In the reference implementation they did: four wordings of "think", a reward that read only the first tag, and an
evaluation that compared whole outputs with the letter (Med-R1 facts, sections 2, 3 and 5.3).

Three formats exist::

    THINK_BEFORE   <think>rationale</think><answer>B</answer>     the prompt of Med-R1
    NO_THINK       <answer>B</answer>                             the prompt of Med-R1
    THINK_AFTER    <answer>B</answer><think>rationale</think>     Med-R1 names it; the wording is ours, in its style

Reading is generous about letters and strict about ambiguity. ``(c)``, ``C.``, ``C) CT`` and ``CT`` all mean C when
option C is "CT"; two answer blocks, two letters, or a letter whose text belongs to another option mean nothing at all,
because paying for them teaches a policy to hedge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from medr1kit.alike import alike, alike_in_place
from medr1kit.untagged import bare_letters, untagged_letter
from medr1kit.vqa import LETTERS, DataError, fold

Options = Sequence[str] | Mapping[str, str]
TAG = re.compile(r"</?(?:think|answer)>")  # any tag of any format
_ANY_TAG = re.compile(r"</?\s*(?:think(ing)?|thoughts?|reason(ing)?|rationale|answer|solution)\s*/?>", re.IGNORECASE)
_TAGGED = re.compile(r"\s*<think>\s*(.*?)\s*</think>\s*", re.DOTALL | re.IGNORECASE)
_WORD = re.compile(r"[^\W_]")  # a letter or digit of any script: less is a thought that no eye sees


@dataclass(frozen=True)
class Parsed:
    """What a completion says.

    Attributes:
        think: the text of the first thinking block, stripped; None if there is none.
        answer: the letter of the one answer block outside the thinking; None if it cannot be read without guessing.
        lenient_answer: ``answer``, or else the one letter that stands as an answer outside the thinking, tagged or
            not (:mod:`medr1kit.untagged`); None if there is none or several.
        well_formed: the format's blocks, once each, in order, nothing between or around them, and a thought with at
            least one letter or digit.
        reason: one sentence that says why ``answer`` is what it is.
        fault: one sentence that says what is malformed; empty if nothing is.
        by_text: the answer was read from an option's own text, without a letter beside it.
    """

    think: str | None
    answer: str | None
    lenient_answer: str | None
    well_formed: bool
    reason: str = ""
    fault: str = ""
    by_text: bool = False


@dataclass(frozen=True)
class ResponseFormat:
    """A response format: its blocks in order, and the instruction that asks for them.

    Attributes:
        name: "think-before", "think-after" or "no-think".
        blocks: the tags in the order in which they must appear.
        instruction: the text that follows the problem in the prompt.
    """

    name: str
    blocks: tuple[str, ...]
    instruction: str

    def prompt(self, problem: str) -> str:
        """Return the user turn: the problem, a blank, the instruction.

        >>> NO_THINK.prompt("Sharp? A)yes, B)no")[:32]
        'Sharp? A)yes, B)no Your task: 1.'
        """
        return f"{problem} {self.instruction}"

    def write(self, answer: str, rationale: str = "") -> str:
        """Return a well-formed completion, as used for SFT targets.

        Args:
            answer: the letter.
            rationale: the thought; a pair of think tags around it is taken off.

        Raises:
            DataError: if another tag is in either, or what was written is malformed.

        >>> THINK_AFTER.write("B", "Fluid under the retina.")
        '<answer>B</answer><think>Fluid under the retina.</think>'
        """
        if not isinstance(answer, str) or not isinstance(rationale, str):
            raise DataError(f"the answer is {answer!r:.40}, the rationale {rationale!r:.40}; give texts")
        bare = _TAGGED.fullmatch(rationale)
        content = {"answer": answer, "think": bare.group(1) if bare else rationale}
        for block in self.blocks:
            if tag := _ANY_TAG.search(content[block]):
                what = f"the {'rationale' if block == 'think' else 'answer'} holds a tag of its own, {tag[0]}"
                raise DataError(f"{what}, in {content[block][:80]!r}; take it out")
        written = "".join(f"<{block}>{content[block]}</{block}>" for block in self.blocks)
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
        return _read(text, self.blocks, tuple(choices_of(options).items()))


@lru_cache(maxsize=8)  # rewards and widgets read one completion several times; few are kept, it may be a megabyte
def _read(text: str, blocks: tuple[str, ...], letters: tuple[tuple[str, str | None], ...]) -> Parsed:
    """Read a completion in a format of these blocks; ``letters`` are the choices as pairs."""
    choices = dict(letters)
    thoughts, answers, outside = _blocks(text)
    answer, reason, by_text = _read_blocks(answers, choices)
    if not text.strip():
        fault = "the completion is empty"
    elif answer is None:
        fault = reason
    elif misplaced := _misplaced(TAG.findall(text), [f"<{slash}{block}>" for block in blocks for slash in ("", "/")]):
        fault = misplaced
    elif outside.strip():
        fault = "there is text outside the blocks"
    else:
        fault = "" if all(_WORD.search(alike(thought)) for thought in thoughts) else "the thinking is empty"
    lenient = answer or _read_untagged(answers, outside, choices)
    return Parsed(thoughts[0].strip() if thoughts else None, answer, lenient, not fault, reason, fault, by_text)


class Mention(NamedTuple):
    """A place where a text says the words of an option.

    Attributes:
        start, end: of the words, in characters.
        letters: of the options that have these words; several where a text stands under several letters.
    """

    start: int
    end: int
    letters: str


def option_mentions(text: str, options: Options) -> list[Mention]:
    """Return where a text says the words of its options, in the order of the text.

    Whole words count, in any case. Of mentions within each other the longest counts, so "left lung" is not "lung".

    >>> option_mentions("No mass, a left cyst.", ["mass", "left cyst", "cyst"])
    [Mention(start=3, end=7, letters='A'), Mention(start=11, end=20, letters='B')]
    """
    letters: dict[tuple[int, int], str] = {}
    seen, places = alike_in_place(text)
    for letter, option in options.items() if isinstance(options, Mapping) else zip(LETTERS, options):
        if name := alike(option or "").strip().rstrip("."):
            for match in _whole_words(name).finditer(seen):
                letters[match.span()] = letters.get(match.span(), "") + letter
    mentions, reached = [], 0
    for start, end in sorted(letters, key=lambda span: (span[0], -span[1])):
        if end > reached:  # else it lies within one that began before it
            mentions.append(Mention(places[start], places[end], letters[start, end]))
            reached = end
    return mentions


@lru_cache(maxsize=4096)
def _whole_words(name: str) -> re.Pattern:
    words = r"\s+".join(map(re.escape, name.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def _misplaced(found: list[str], expected: list[str]) -> str:
    """What is wrong with the tags of a completion; empty if nothing is."""
    if missing := [tag for tag in expected if tag not in found]:
        return f"{' '.join(missing)} missing"
    if len(found) > len(expected):
        return "there are more tags than the format has"
    return "" if found == expected else "the blocks stand in the wrong order"


def choices_of(options: Options | None) -> dict[str, str | None]:
    """Return letter -> folded option text: None where it is not known, and every letter where no option is.

    Raises:
        DataError: if the options are neither a list of texts nor a mapping from letter to text.
    """
    if options is None:
        return dict.fromkeys(LETTERS)
    pairs = options.items() if isinstance(options, Mapping) else None
    if pairs is None and not isinstance(options, (str, bytes)) and hasattr(options, "__getitem__"):
        pairs = zip(LETTERS, options) if len(options) <= len(LETTERS) else None  # a set has no order
    given = None if pairs is None else {str(letter).upper(): text for letter, text in pairs}
    if given is None or not all(k in LETTERS and (t is None or isinstance(t, str)) for k, t in given.items()):
        raise DataError(f"options are {str(options)[:80]!r}; give a list of the option texts, such as ['mass', 'cyst']")
    return {letter: fold(text) for letter, text in given.items() if text is not None}


def _blocks(text: str) -> tuple[list[str], list[str], str]:
    """Cut a completion into thinking texts, answer texts and what stands outside both.

    A block runs from its opening tag to the next closing tag of its kind; whatever lies inside belongs to it. A tag
    without a partner is dropped, so a missing ``</think>`` does not hide the answer after it.
    """
    inside: dict[str, list[str]] = {"think": [], "answer": []}
    outside, position = [], 0
    closing = {kind: [m.start() for m in re.finditer(f"</{kind}>", text)][::-1] for kind in inside}
    while match := TAG.search(text, position):
        outside.append(text[position : match.start()])
        position = match.end()
        kind = match.group().strip("</>")
        while closing[kind] and closing[kind][-1] < position:
            closing[kind].pop()
        if not match.group().startswith("</") and closing[kind]:
            end = closing[kind].pop()
            inside[kind].append(text[position:end])
            position = end + len(f"</{kind}>")
    outside.append(text[position:])
    return inside["think"], inside["answer"], "\n".join(outside)


class _Letter(NamedTuple):
    """The letter that was read, if any; why; and whether an option's own text said it."""

    letter: str | None
    reason: str
    by_text: bool = False


def _read_blocks(answers: list[str], choices: dict[str, str | None]) -> _Letter:
    if not answers:
        return _Letter(None, "there is no <answer>…</answer> block outside the thinking")
    if len(answers) > 1:
        return _Letter(None, f"there are {len(answers)} answer blocks; exactly one counts")
    if TAG.search(answers[0]):
        return _Letter(None, "the answer block holds another tag")
    return _read_letter(answers[0], choices)


# One letter, perhaps in parentheses, then its delimiter, then perhaps the option's text.
_LETTER = re.compile(r"(\()?\s*([A-Za-z])\s*(\))?\s*([.:])?\s*(.*)", re.DOTALL)
_OTHER_LETTER = re.compile(r"(?:^|[\s,(])[A-Za-z](?:[).:]|$)")


def _read_letter(content: str, choices: dict[str, str | None]) -> _Letter:
    """Read the one letter an answer block names, with the reason."""
    content = alike(content).strip()
    if not content:
        return _Letter(None, "the answer block is empty")
    match = _LETTER.fullmatch(content)
    letter, rest = (match.group(2).upper(), match.group(5).strip()) if match else (None, "")
    delimited = bool(match and (match.group(3) or match.group(4)))
    if letter in choices and not rest:
        return _Letter(letter, f"the answer block holds the letter {letter}")
    spaced = bool(match) and match.start(5) > match.end(2)  # "C CT" as well as "C) CT"
    beside = (delimited or spaced) and choices.get(letter) == fold(rest)
    whole = fold(content)
    named = {key for key, text in choices.items() if text and text == whole} | ({letter} if beside else set())
    if len(named) > 1:
        return _Letter(None, f"the text stands under several letters ({', '.join(sorted(named))})")
    if named:
        letter = named.pop()
        text = f"the letter {letter} and its text" if beside else f"the text of option {letter}"
        return _Letter(letter, f"the answer block holds {text}", by_text=not beside)
    if letter and letter not in choices and (delimited or not rest):
        return _Letter(None, f"the letter {letter} is not among the options")
    if not delimited:
        return _Letter(None, "the answer block is neither a letter nor the text of one option")
    if choices[letter] is not None:
        return _Letter(None, f"the letter {letter} stands beside text that is not option {letter}")
    if _OTHER_LETTER.search(rest):
        return _Letter(None, "the answer block names more than one letter")
    return _Letter(letter, f"the answer block holds the letter {letter} and text that could not be checked")


def _read_untagged(answers: list[str], outside: str, choices: dict[str, str | None]) -> str | None:
    """Read a letter without its tags; of several answer blocks only where all of them are one letter."""
    several = len(answers) > 1
    text = alike(TAG.sub("\n", "\n".join(answers if several else [*answers, outside])))
    if not several and (letter := _read_letter(text, choices).letter):
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
FORMATS = {format.name: format for format in (THINK_BEFORE, THINK_AFTER, NO_THINK)}


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
    key = {"think": "think-before"}.get(name.casefold(), name.casefold().replace("_", "-"))
    if key not in FORMATS:
        raise DataError(f"unknown format {name!r}; use one of {', '.join(FORMATS)}")
    return FORMATS[key]
