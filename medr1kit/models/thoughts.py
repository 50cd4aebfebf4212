"""Is the thought used? The same question once more, with another thought put into the model's mouth.

A thought that is written before the answer looks like its cause. Whether it is one is seen by changing it::

    <think>In the liver: small cyst … So the answer is cyst</think><answer>      what does it answer now?

    own                 what it thought itself
    empty               nothing
    first quarter, …    its own words, cut off
    another's           what it thought about another picture of the same kind
    true                the truth, with its conclusion     ┐
    facts               the truth, without a conclusion    │ phantoms only:
    misled              the truth, with a wrong conclusion │ there the truth is known
    other facts         the truth about another picture    ┘

A model that uses its thought answers worse without it, better with the true facts, and follows a wrong conclusion. One
that answers the same whatever stands there has written an ornament.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.data.phantoms.rationales import conclusion_of
from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import questions_given, whole_number
from medr1kit.models.decoding import answerer, plain_decoding
from medr1kit.models.letters import until_answer
from medr1kit.models.predict import chat_prompt, predict
from medr1kit.models.shown import reading_order
from medr1kit.progress import part_of_work, progress
from medr1kit.results.perturbations import against, followed
from medr1kit.results.rationales import concluded_letter
from medr1kit.results.tables import check_predictions
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

PARTS = {"first quarter": 0.25, "first half": 0.5, "first three quarters": 0.75}
_AFTER = 16  # tokens, at most, for the letter and its closing tag


def thought_reliance(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str = "think-before",
    own: pd.DataFrame | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Answer the same questions after other thoughts than the model's own.

    Args:
        model, processor, dataset, batch_size, max_new_tokens: as in :func:`medr1kit.predict`.
        format: a response format that thinks before it answers, or its name.
        own: predictions of this model on these questions in this format, if they are there already.
        seed: decides whose thought and which wrong option is taken.

    Returns:
        A row a thought, "own" first: ``thought``, ``n``; ``accuracy``, ``low``, ``high``; ``flipped`` (share of answers
        that differ from those after its own thought), ``flipped_low``, ``flipped_high``; ``difference``,
        ``difference_low``, ``difference_high``: accuracy minus that after its own, paired; ``follows`` (of the
        ``concluding`` thoughts that name one option at their end, in how many that option is answered),
        ``follows_low``, ``follows_high``. 95 %. The rows from "true" on are there only if all questions are of phantoms
        and carry their rationale. "own" is the answer that is written after the own thought, closed where it was not.

    Raises:
        DataError: if the format does not think first, the data set has no images or no rows, or ``own`` answers other
            questions.
    """
    format = format_named(format)
    if format.blocks[0] != "think":
        raise DataError(f"in {format.name} the thought does not come before the answer; use think-before")
    dataset, batch_size = questions_given(dataset, images=True), whole_number(batch_size, "batch_size")
    questions = dataset.remove_columns("image").to_list()
    if own is None:
        with part_of_work("its own thoughts"):
            asking = {"format": format, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
            own = predict(model, processor, dataset, **asking)
    own = check_predictions(own)
    if list(own["id"]) != [row["id"] for row in questions]:
        raise DataError("own= answers other questions than those of the data set, or in another order")
    thoughts = thoughts_for(questions, own["text"].tolist(), seed)
    said = _answered(model, processor, dataset, format, thoughts, batch_size)
    tables = {}
    for name, texts in said.items():
        parsed = [format.parse(text, row["options"]).answer for text, row in zip(texts, questions)]
        right = [letter == row["answer"] for letter, row in zip(parsed, questions)]
        tables[name] = own.assign(text=texts, predicted=pd.Series(parsed, dtype=object), correct=right)
    rows = ({"thought": name} | against(table, tables["own"]) | _follows(table) for name, table in tables.items())
    return pd.DataFrame(rows)


def thoughts_for(questions: Sequence[dict], texts: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Return the thoughts that are put into the model's mouth, by name, one a question.

    Args:
        questions: rows of :mod:`medr1kit.vqa`; with ``rationale``, where all are of phantoms, also the true thoughts.
        texts: what the model said to each.
        seed: decides whose thought and which wrong option is taken.
    """
    own = [_thought(until_answer(text)[0]) for text in texts]
    others = _others(questions, seed)
    thoughts = {"own": own, "empty": [""] * len(own)}
    thoughts |= {name: [_first(thought, part) for thought in own] for name, part in PARTS.items()}
    thoughts["another's"] = [own[other] for other in others]
    if not all(row.get("source") == "phantoms" and row.get("rationale") for row in questions):
        return thoughts
    facts = [row["rationale"].rpartition(" So the answer is ")[0] for row in questions]
    rng, wrong = np.random.default_rng(seed), []
    for row in questions:
        places = [place for place in range(len(row["options"])) if LETTERS[place] != row["answer"]]
        wrong.append(row["options"][places[rng.integers(len(places))]])
    return thoughts | {
        "true": [row["rationale"] for row in questions],
        "facts": facts,
        "misled": [f"{fact} So the answer is {option}" for fact, option in zip(facts, wrong)],
        "other facts": [facts[other] for other in others],
    }


def _thought(text: str) -> str:
    return text.partition("<think>")[2].partition("</think>")[0]


def _first(thought: str, part: float) -> str:
    words = thought.split()
    return " ".join(words[: round(part * len(words))])


def _others(questions: Sequence[dict], seed: int) -> list[int]:
    """For each question one of the same modality and task about another picture; itself where there is none."""
    rng = np.random.default_rng(seed)
    others = list(range(len(questions)))
    kinds: dict[tuple, list[int]] = {}
    for i in rng.permutation(len(questions)).tolist():
        kinds.setdefault((questions[i].get("modality"), questions[i].get("task")), []).append(i)
    for circle in kinds.values():
        for place, i in enumerate(circle):
            following = (circle[(place + step) % len(circle)] for step in range(1, len(circle)))
            picture = questions[i]["image_id"]
            others[i] = next((j for j in following if questions[j]["image_id"] != picture), i)
    return others


def _answered(
    model, processor, dataset, format: ResponseFormat, thoughts: dict[str, list[str]], batch_size: int
) -> dict[str, list[str]]:
    """What is written after each thought, the thought included; all thoughts about one picture in one batch."""
    from medr1kit.models.shared_prefix.vision import Pictures

    names, questions = list(thoughts), dataset.remove_columns("image").to_list()
    asked = [(name, i) for i in range(len(questions)) for name in names]  # a question's thoughts side by side
    prompts = [chat_prompt(processor, format, row["problem"]) for row in questions]
    begun = {(name, i): f"<think>{thoughts[name][i]}</think><answer>" for name, i in asked}
    texts = [prompts[i] + begun[name, i] for name, i in asked]
    order = reading_order(range(len(asked)), texts, [questions[i] for _, i in asked], range(len(asked)))
    said, shown = {name: [""] * len(questions) for name in names}, Pictures(dataset)
    bar = progress(None, "thoughts", total=len(asked), unit="answer", delay=0)
    with plain_decoding(model, processor, _AFTER, None), bar:
        answer = answerer(model, processor, _AFTER, _closed, None)
        for batch in _batches(order, batch_size):
            found = answer([texts[row] for row in batch], shown([asked[row][1] for row in batch]))
            for row, (text, _) in zip(batch, found):
                name, i = asked[row]
                said[name][i] = begun[name, i] + text
            bar.update(len(batch))
    return said


def _closed(text: str) -> bool:
    return "</answer>" in text


def _batches(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), size))


def _follows(table: pd.DataFrame) -> dict[str, float]:
    """How often the answer is the option on which the thought concludes."""
    thoughts = map(_thought, table["text"])
    named = [concluded_letter(conclusion_of(thought), options) for thought, options in zip(thoughts, table["options"])]
    return followed(table, named, "concluding")
