"""Symptoms: what the completions of one training step show that a policy which games its reward would show.

Every number has a column, which goes into a run's metrics beside TRL's own::

    watch/several_answers    share with too many <answer> tags, or an unreadable block that holds several answers
    watch/trailing_text      share with text after the format's last closing tag
    watch/option_text        share whose answer is an option's text without its letter
    watch/repetition         mean share of word 3-grams said before in the same completion
    watch/looping            share that zlib makes more than 3 times smaller
    watch/mean_length        tokens
    watch/truncated          share cut off at the length limit
    watch/reward             mean sum of the rewards, unweighted
    watch/well_formed        share in the format that was asked for
    watch/accuracy           share of gold letters where a letter can be read, with or without its tags
    watch/top_letter         share of the most frequent letter among the letters read
    watch/letter_excess      that share, less the letter's share among the gold answers of the same rows
    watch/empty_thoughts     thoughts: share of fewer than 3 words
    watch/thought_words      thoughts: mean number of words
    watch/distinct_thoughts  thoughts: distinct ones per (question, thought) pair; 1 if no two questions share one
    watch/common_thought     thoughts: share of the questions in which the most widespread thought occurs
    watch/thinks             adaptive: share with a thought
    watch/changed_mind       answer-think-answer: of those with two answers, the share whose last is another one
    watch/answer_first       thinking first: share of thoughts whose first 5 words name the answer that is then given

Completions are read with the parser of reward and evaluation (:mod:`medr1kit.formats`). Two thoughts count as the same
if they differ only in option texts and lone letters, so "I look, so B" and "I look, so C" are one. Accuracy leaves form
out: as a policy learns its tags, the strict accuracy rises though no more is known.

:mod:`medr1kit.results.watch` says when a number is reason to look.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from medr1kit.formats import NO_THINK, ResponseFormat, format_named
from medr1kit.results.tables import ROLLOUTS
from medr1kit.rewards import repetition_reward
from medr1kit.vqa import DataError, lowered

FEW_WORDS = 3  # a thought of fewer words says nothing about a picture: "", "…", "ok then"
_FIRST_WORDS = 5  # "The answer is B because"
_repetition = repetition_reward(3)  # the reward's own idea of repetition, so that watch and reward agree
LOOP = 3.0  # zlib makes English prose of 0.2 to 6 kB 1.1 to 2.6 times smaller, a phrase said ten times 4 times


def watch_columns(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, format: str | ResponseFormat) -> dict[str, float]:
    """Return what one step's completions show, as numbers for the run's metrics; about 1 ms for 32 short completions.

    Args:
        rows: a step's rollouts, as :data:`medr1kit.results.tables.ROLLOUTS` names their columns. Every other column of
            numbers is taken for a reward; rewards are summed unweighted.
        format: the response format that was asked for, or its name.

    Returns:
        Column to number, as the module's text describes them; one that does not apply is left out (thoughts in
        no-think, letters where none can be read).

    Raises:
        DataError: if there are no rows, or columns are missing.
    """
    format = format_named(format)
    return columns_of(read_rows(rows, format), format)


def read_rows(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, format: ResponseFormat) -> list[dict[str, Any]]:
    """Read each completion of a step: what it shows, by name; what is said of its thought is None if it has none.

    Raises:
        DataError: if there are no rows, or columns are missing.
    """
    rows = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)
    if not rows:
        raise DataError("no rollouts to watch; SFT runs and runs killed in their first step have none")
    if missing := [name for name in _NEEDED if name not in rows[0]]:
        raise DataError(f"rollouts without the column(s) {', '.join(missing)}; the watch reads the rollouts of a run")
    return [_read(row, format) for row in rows]


def _read(row: Mapping[str, Any], format: ResponseFormat) -> dict[str, Any]:
    text, options = row["text"], row.get("options")
    parsed = format.parse(text, options)
    thought = parsed.think if "think" in format.blocks else None
    start = " ".join(thought.split()[:_FIRST_WORDS]) if thought and format.blocks[0] == "think" else ""
    rewards = [value for name, value in row.items() if name not in ROLLOUTS and isinstance(value, int | float)]
    return dict(
        step=row["step"],
        question=_question(row),
        gold=row.get("answer"),
        letter=parsed.lenient_answer,
        well_formed=parsed.well_formed,
        several_answers=_several(text, format, parsed.answer, options),
        trailing_text=_trailing(text, format),
        option_text=parsed.by_text,
        changed_mind=None if parsed.first_answer is None else parsed.first_answer != parsed.answer,
        masked=_mask(thought, options) if thought else None,
        words=None if thought is None else len(thought.split()),
        answer_first=_names(start, parsed.answer, options),
        repetition=abs(_repetition([text])[0]),
        looping=len(data := text.encode()) > LOOP * len(zlib.compress(data, 1)),
        mean_length=row["n_tokens"],
        truncated=bool(row["truncated"]),
        reward=sum(value for value in rewards if value == value),
    )


_NEEDED = ("step", "question", "answer", "text", "n_tokens", "truncated")


def _question(row: Mapping[str, Any]) -> Any:
    """What tells questions apart: the id, or else the words (rows of one's own data may have no id)."""
    key, options = row.get("id"), row.get("options")
    return key if isinstance(key, str | int) else (row["question"], *(() if options is None else options))


def _trailing(text: str, format: ResponseFormat) -> bool:
    """Whether text follows the last block; one that was never closed is unfinished, and nothing follows it."""
    _, closed, rest = text.rpartition(format.marks(format.blocks[-1])[1])
    return bool(closed and rest.strip())


# Between two answers in one block: "A, B", "A or B", "A/B", "A) mass B) cyst".
_BETWEEN = re.compile(r"[,;/&|\n]|\b(?:or|and)\b|\s+(?=\(?[A-Za-z][).:]*(?:\s|$))")


def _several(text: str, format: ResponseFormat, answer: str | None, options: Sequence[str] | None) -> bool:
    """Whether there are too many answer tags, or an unreadable last answer block whose pieces are different answers."""
    opened, closed = format.marks("answer")
    if text.count(opened) > format.blocks.count("answer"):
        return True
    content = text.rpartition(opened)[2].partition(closed)[0] if opened in text else ""
    if answer is not None or not content:
        return False
    pieces = (NO_THINK.parse(f"<answer>{piece}</answer>", options).answer for piece in _BETWEEN.split(content))
    return len(set(pieces) - {None}) > 1


def _names(start: str, answer: str | None, options: Sequence[str] | None) -> bool:
    """Whether the first words of a thought name the answer; most name no letter at all and are not parsed."""
    return answer is not None and bool(_LONE.search(start)) and NO_THINK.parse(start, options).lenient_answer == answer


_LONE = re.compile(r"\b[A-Za-z]\b")


def _mask(thought: str, options: Sequence[str] | None) -> str:
    """The thought with option texts and lone letters blanked, so that "… so B" and "… so C" are one and the same."""
    masked = lowered(thought)
    for text in sorted(() if options is None else options, key=len, reverse=True):
        masked = masked.replace(lowered(text) or "_", "_")
    return _LONE.sub("_", masked)


def columns_of(readings: Sequence[dict[str, Any]], format: ResponseFormat) -> dict[str, float]:
    """Return the columns of :func:`watch_columns` for completions that were read before, of one step or of several."""
    columns = {name: _mean(reading[name] for reading in readings) for name in _MEANS}
    read = [(reading["letter"], reading["gold"]) for reading in readings if reading["letter"]]
    columns["accuracy"] = _mean(letter == gold for letter, gold in read)
    if read:
        top, uses = Counter(letter for letter, _ in read).most_common(1)[0]
        columns["top_letter"] = uses / len(read)
        columns["letter_excess"] = columns["top_letter"] - _mean(gold == top for _, gold in read)
    if "think" in format.blocks:
        words = [reading["words"] for reading in readings if reading["words"] is not None]
        columns["empty_thoughts"] = _mean(n < FEW_WORDS for n in words)
        columns |= {"thought_words": _mean(words)} | _shared_thoughts(readings)
    if format.think_optional:
        columns["thinks"] = _mean(reading["words"] is not None for reading in readings)
    if format.blocks.count("answer") > 1:
        columns["changed_mind"] = _mean(r["changed_mind"] for r in readings if r["changed_mind"] is not None)
    if format.blocks[0] == "think":
        columns["answer_first"] = _mean(reading["answer_first"] for reading in readings if reading["words"])
    return {f"watch/{name}": float(value) for name, value in columns.items() if value is not None}


_MEANS = (
    "several_answers", "trailing_text", "option_text", "repetition", "looping", "mean_length", "truncated", "reward",
    "well_formed",
)  # fmt: skip


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None


def _shared_thoughts(readings: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """How far questions share their thoughts; empty thoughts are left to their own column."""
    pairs = {(r["question"], r["masked"]) for r in readings if (r["words"] or 0) >= FEW_WORDS}
    questions = len({question for question, _ in pairs})
    uses = Counter(thought for _, thought in pairs)  # thought -> number of questions it occurs in
    return {
        "distinct_thoughts": len(uses) / len(pairs) if pairs else None,
        "common_thought": max(uses.values()) / questions if questions > 1 else None,
    }
