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
from medr1kit.formats import TAG, Parsed, ResponseFormat
from medr1kit.results.rationales import check_rationale, concluded_letter
from medr1kit.rewards import explain_reward
from medr1kit.views.html import LIMIT, Span, attribute, badge, escape, marked
from medr1kit.vqa import LETTERS, DataError

CHECKED = 20_000
"""Characters of a rationale up to which its statements are checked."""

_BLOCK = re.compile(r"<think>.*?</think>|<answer>.*?</answer>", re.DOTALL)
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
    reading = statements_of(parsed.think, image_id)
    rewards = {key: paid for key, paid in explained.rewards.items() if not (ended_early and "format" in key)}
    lines = (
        _heading(name, format),
        f'<p data-mk="verdict">{verdict_badges(parsed, gold, ended_early)}</p>',
        _differs(parsed, recorded),
        text_html(text, format, parsed, reading),
        f'<p data-mk="answer"><b>Read:</b> {option_text(parsed.answer, options)} <small>because {escape(parsed.reason)}'
        f"</small>{_lenient(parsed, options)}</p>",
        f'<p data-mk="form"><b>Form:</b> {form_sentence(parsed, ended_early)}</p>',
        f'<p data-mk="truth"><b>Rationale:</b> {truth_sentence(parsed, reading, options)}</p>'
        if parsed.think and image_id
        else "",
        f'<p data-mk="reward"><b>Reward:</b> {rewards_sentence(rewards)}</p>' if pay else "",
    )
    return "".join(lines)


def _heading(name: str, format: ResponseFormat) -> str:
    asked = "" if format.name in name else f" <small>{escape(format.name)}</small>"
    return f"<h4>{escape(name, 200)}{asked}</h4>" if name else ""


def verdict_badges(parsed: Parsed, gold: str, ended_early: bool = False) -> str:
    """Return "right", "wrong" or "not read", and "malformed" where the form is broken."""
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


def statements_of(think: str | None, image_id: str | None) -> Reading | None:
    """Return the checked statements of a rationale; None where the truth is not known or the text is very long."""
    if think is None or image_id is None or len(think) > CHECKED:
        return None
    try:
        return check_rationale(think, image_id)
    except (DataError, KeyError):  # no phantom
        return None


def text_html(text: str, format: ResponseFormat, parsed: Parsed, reading: Reading | None) -> str:
    """Return the text itself with its marks."""
    if not text:
        return '<div class="mk-text" data-mk="text"><em>(empty)</em></div>'
    spans = list(_tag_spans(text[:LIMIT], format))
    if reading is not None and parsed.think:
        spans += _statement_spans(text, parsed.think, reading)
    if not parsed.well_formed:
        spans += _outside_spans(text[:LIMIT])
    body = marked(text, sorted(spans, key=lambda span: span[:2]))
    return f'<div class="mk-text" data-mk="text" dir="auto" tabindex="0">{body}</div>'


def _tag_spans(text: str, format: ResponseFormat) -> Iterator[Span]:
    """Every tag; one that the format does not expect at its place is marked as such."""
    expected = [f"<{slash}{block}>" for block in format.blocks for slash in ("", "/")]
    for match in TAG.finditer(text):
        tag = match.group()
        fits = tag in expected
        if fits:
            expected = expected[expected.index(tag) + 1 :]
        yield (*match.span(), _EXPECTED if fits else _ODD)


def _statement_spans(text: str, think: str, reading: Reading) -> list[Span]:
    start = text.find(think, max(0, text.find("<think>")))
    return [(start + s.start, start + s.end, _statement(s.fact, s.negated, s.holds)) for s in reading.statements]


def _statement(fact: str, negated: bool, holds: bool):
    kind, sign = ("true", "✓") if holds else ("false", "✗")
    title = attribute(f"{fact}{', denied' if negated else ''}: {kind} of this image")
    return lambda inner: (
        f'<mark class="mk-{kind}" data-mk="statement-{kind}" title="{title}">{inner}<sup>{sign}</sup></mark>'
    )


def _outside_spans(text: str) -> Iterator[Span]:
    """Text that stands in no block, tags left out."""
    end = 0
    for match in [*_BLOCK.finditer(text), None]:
        start, stop = (match.start(), match.end()) if match else (len(text), len(text))
        for piece in re.finditer(r"\S(?:.*\S)?", TAG.sub(lambda tag: "\n" * len(tag.group()), text[end:start])):
            yield end + piece.start(), end + piece.end(), _OUTSIDE
        end = stop


def form_sentence(parsed: Parsed, ended_early: bool) -> str:
    """Return whether the form is kept, and if not, what is wrong with it."""
    if ended_early:
        return "not known: the text was ended at its answer"
    return "well-formed" if parsed.well_formed else f"malformed: {escape(parsed.fault)}"


def truth_sentence(parsed: Parsed, reading: Reading | None, options: Sequence[str]) -> str:
    """Return how much of the rationale is true, and whether its conclusion is the answer."""
    if reading is None:
        long = len(parsed.think or "") > CHECKED
        return "too long to check" if long else "its truth is not known for this image"
    true = sum(statement.holds for statement in reading.statements)
    parts = ["no statement that can be checked"]
    if reading.statements:
        names = "names" if reading.names_finding else "does not name"
        parts = [f"{true} of {len(reading.statements)} statements true", f"{names} the finding"]
    letter = concluded_letter(reading.conclusion, options)
    if reading.conclusion is None:
        parts.append("concludes nothing")
    elif letter is None:
        parts.append(f"its conclusion, “{escape(reading.conclusion, 80)}”, fits no single option")
    else:
        agrees = "is" if letter == parsed.answer else "is <b>not</b>"
        parts.append(f"its conclusion, {option_text(letter, options)}, {agrees} the answer it gives")
    return "; ".join(parts)


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


def _lenient(parsed: Parsed, options: Sequence[str]) -> str:
    if parsed.answer is not None or parsed.lenient_answer is None:
        return ""
    return f" <small>(leniently: {option_text(parsed.lenient_answer, options)})</small>"


def _differs(parsed: Parsed, recorded: Mapping | None) -> str:
    """A warning where the table's verdict is not what the parser reads now."""
    if recorded is None:
        return ""
    predicted = recorded["predicted"] if isinstance(recorded["predicted"], str) else None
    if predicted == parsed.answer:
        return ""
    return (
        f'<p class="mk-warn" data-mk="differs">The table says {escape(predicted or "not read", 20)}; read now, '
        f"with these options, it is {escape(parsed.answer or 'not read', 20)}.</p>"
    )
