"""One completion as HTML: its tags, what was read from it and why, what it is paid, and which statements are true.

Used wherever a completion is shown, so that a reader learns to read it once. Marks in the text::

    tags        bold; underlined with a wave where the format does not expect them
    outside     text beside the blocks, underlined with a wave, where that is what is malformed
    statements  on phantoms: ✓ true of this image, ✗ false (medr1kit.results.rationales)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from medr1kit.data.phantoms.rationales import Reading
from medr1kit.formats import Parsed, ResponseFormat
from medr1kit.results.rationales import check_rationale, read_conclusion
from medr1kit.rewards import explain_reward
from medr1kit.views.html import LIMIT, Span, attribute, badge, escape, marked
from medr1kit.vqa import LETTERS, DataError

CHECKED = 20_000
"""Characters of a rationale up to which its statements are checked."""

_EXPECTED = '<code class="mk-tag" data-mk="tag">{}</code>'.format
_ODD = '<code class="mk-tag mk-bad" data-mk="odd-tag" title="the format has no such tag here">{}</code>'.format
_OUTSIDE = '<span class="mk-outside" data-mk="outside" title="outside the blocks">{}</span>'.format


def completion_html(
    text: object,
    format: ResponseFormat,
    *,
    gold: str,
    options: Sequence[str],
    image_id: str | None = None,
    name: str = "",
    recorded: Mapping | None = None,
    pay: bool = True,
) -> str:
    """Return everything there is to say about a completion.

    Args:
        text: the completion; a missing one is shown as empty.
        format: the format that was asked for.
        gold: the gold letter.
        options: the option texts in letter order.
        image_id: of the image; the statements are checked where it names a phantom.
        name: who wrote it.
        recorded: ``predicted``, ``correct`` and ``well_formed`` as a table has them; where they differ from what the
            parser reads now, both are shown.
        pay: whether the rewards are named.
    """
    text = text if isinstance(text, str) else ""
    explained = explain_reward(text, gold, format=format, options=list(options))
    parsed, ended_early = explained.parsed, recorded is not None and bool(pd.isna(recorded["well_formed"]))
    reading = _statements_of(parsed.think, image_id)
    rewards = {key: paid for key, paid in explained.rewards.items() if not (ended_early and "format" in key)}
    asked = "" if format.name in name else f" <small>{escape(format.name)}</small>"
    form = "well-formed" if parsed.well_formed else f"malformed: {escape(parsed.fault)}"
    lines = {
        "answer": f"<b>Read:</b> {_read_sentence(parsed, options)}",
        "form": f"<b>Form:</b> {'not known: the text was ended at its answer' if ended_early else form}",
        "truth": f"<b>Rationale:</b> {_truth_sentence(parsed, reading, options)}" if parsed.think and image_id else "",
        "reward": f"<b>Reward:</b> {rewards_sentence(rewards)}" if pay else "",
    }
    return (
        (f"<h4>{escape(name, 200)}{asked}</h4>" if name else "")
        + f'<p data-mk="verdict">{_verdict_badges(parsed, gold, ended_early)}</p>{_differs(parsed, recorded)}'
        + _text_html(text, format, parsed, reading)
        + "".join(f'<p data-mk="{hook}">{line}</p>' for hook, line in lines.items() if line)
    )


def _verdict_badges(parsed: Parsed, gold: str, ended_early: bool) -> str:
    """ "right", "wrong" or "not read", and "malformed" where the form is broken."""
    right = parsed.answer is not None and parsed.answer == gold
    words = [badge("not read" if parsed.answer is None else "right" if right else "wrong", "good" if right else "bad")]
    if ended_early:
        words.append(badge("ended at its answer", "plain"))
    elif not parsed.well_formed:
        words.append(badge("malformed", "warn"))
    return " ".join(words)


def option_text(letter: object, options: Sequence[str]) -> str:
    """Return "B) brain" for a letter, as HTML.

    >>> option_text("B", ["liver", "brain"]), option_text(None, ["liver"])
    ('B) brain', '<em>nothing</em>')
    """
    if not isinstance(letter, str):
        return "<em>nothing</em>"
    place = LETTERS.find(letter)
    return f"{escape(letter, 20)}) {escape(options[place], 300)}" if 0 <= place < len(options) else escape(letter, 20)


def _statements_of(think: str | None, image_id: str | None) -> Reading | None:
    """The checked statements of a rationale; None where the truth is not known or the text is very long."""
    if think is None or image_id is None or len(think) > CHECKED:
        return None
    try:
        return check_rationale(think, image_id)
    except (DataError, KeyError):  # no phantom
        return None


def _text_html(text: str, format: ResponseFormat, parsed: Parsed, reading: Reading | None) -> str:
    """The text itself with its marks."""
    if not text:
        return '<div class="mk-text" data-mk="text"><em>(empty)</em></div>'
    spans = list(_tag_spans(text[:LIMIT], format))
    if reading is not None and parsed.think:
        begin = text.find(format.marks("think")[0])
        spans += _statement_spans(text.find(parsed.think, max(0, begin)), reading)
    if not parsed.well_formed:
        spans += _outside_spans(text[:LIMIT], format)
    body = marked(text, sorted(spans, key=lambda span: span[:2]))
    return f'<div class="mk-text" data-mk="text" dir="auto" tabindex="0">{body}</div>'


def _tag_spans(text: str, format: ResponseFormat) -> Iterator[Span]:
    """Every tag; one that the format does not expect at its place is marked as such."""
    expected = format.expected(text)
    for match in format.tag.finditer(text):
        tag = match.group()
        fits = tag in expected
        if fits:
            expected = expected[expected.index(tag) + 1 :]
        yield (*match.span(), _EXPECTED if fits else _ODD)


def _statement_spans(start: int, reading: Reading) -> Iterator[Span]:
    for one in reading.statements:
        kind, sign = ("true", "✓") if one.holds else ("false", "✗")
        title = attribute(f"{one.fact}{', denied' if one.negated else ''}: {kind} of this image")
        mark = f'<mark class="mk-{kind}" data-mk="statement-{kind}" title="{title}">{{}}<sup>{sign}</sup></mark>'
        yield start + one.start, start + one.end, mark.format


def _outside_spans(text: str, format: ResponseFormat) -> list[Span]:
    """Text that stands in no block, tags left out; line by line."""
    blocks = "|".join(".*?".join(format.marks(block)) for block in ("think", "answer"))
    inside = re.compile(f"{blocks}|{format.tag.pattern}", re.DOTALL)
    outside = inside.sub(lambda found: "\n" * len(found.group()), text)
    return [(*piece.span(), _OUTSIDE) for piece in re.finditer(r"\S(?:.*\S)?", outside)]


def _read_sentence(parsed: Parsed, options: Sequence[str]) -> str:
    """What was read and why; what is read leniently where that is nothing."""
    said = f"{option_text(parsed.answer, options)} <small>because {escape(parsed.reason)}</small>"
    if parsed.first_answer is not None:
        said += f" <small>(at first: {option_text(parsed.first_answer, options)})</small>"
    if parsed.answer is not None or parsed.lenient_answer is None:
        return said
    return f"{said} <small>(leniently: {option_text(parsed.lenient_answer, options)})</small>"


def _truth_sentence(parsed: Parsed, reading: Reading | None, options: Sequence[str]) -> str:
    """How much of the rationale is true, and whether its conclusion is the answer."""
    if reading is None:
        return "too long to check" if len(parsed.think) > CHECKED else "its truth is not known for this image"
    said = "no statement that can be checked"
    if reading.statements:
        true = sum(statement.holds for statement in reading.statements)
        names = "names" if reading.names_finding else "does not name"
        said = f"{true} of {len(reading.statements)} statements true; {names} the finding"
    if reading.conclusion is None:
        return f"{said}; concludes nothing"
    concluded = read_conclusion(reading.conclusion, options)
    if (letter := concluded.letter) is not None:
        agrees = "is" if letter == parsed.answer else "is <b>not</b>"
        return f"{said}; its conclusion, {option_text(letter, options)}, {agrees} the answer it gives"
    named = " and ".join(option_text(letter, options) for letter in sorted(concluded.named))
    named += " beside words that are no option" if concluded.strays else ""
    named = f"{named}, which is no single option" if concluded.named else "no option"
    return f"{said}; its conclusion, “{escape(reading.conclusion, 80)}”, names {named}"


def rewards_sentence(rewards: Mapping[str, float | None]) -> str:
    """Return what is paid, ours first, then the reference's.

    >>> rewards_sentence({"accuracy": 1.0, "agreement": None, "reference accuracy": 0.0})
    'accuracy 1, agreement –; the reference: accuracy 0'
    """
    said = {name: f"{escape(name.removeprefix('reference '))} {paid(value)}" for name, value in rewards.items()}
    theirs = [said.pop(name) for name in rewards if name.startswith("reference")]
    return ", ".join(said.values()) + (f"; the reference: {', '.join(theirs)}" if theirs else "")


def paid(value: float | None) -> str:
    """Return a reward as text: at most two decimals, a dash where it does not apply."""
    return "–" if value is None else f"{value:.2f}".rstrip("0").rstrip(".").replace("-", "−")


def _differs(parsed: Parsed, recorded: Mapping | None) -> str:
    """A warning where the table's verdict is not what the parser reads now."""
    if recorded is None:
        return ""
    told, now = (read if isinstance(read, str) else "not read" for read in (recorded["predicted"], parsed.answer))
    said = f"The table says {escape(told, 20)}; read now, with these options, it is {escape(now, 20)}."
    return "" if told == now else f'<p class="mk-warn" data-mk="differs">{said}</p>'
