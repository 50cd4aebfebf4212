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

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.data.phantoms.rationales import conclusion_of
from medr1kit.formats import THINK_BEFORE, ResponseFormat, format_named
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
        DataError: if the format does not always think before its one answer, the data set has no images or no rows, or
            ``own`` answers other questions.
    """
    format = format_named(format)
    asking = {"format": format, "own": own, "batch_size": batch_size, "max_new_tokens": max_new_tokens, "seed": seed}
    answers = thought_answers(model, processor, dataset, **asking)
    tables = {name: table.reset_index(drop=True) for name, table in answers.groupby("thought", sort=False)}
    rows = (
        {"thought": name} | against(table, tables["own"]) | _follows(table, format) for name, table in tables.items()
    )
    return pd.DataFrame(rows)


def thought_answers(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str = "think-before",
    labels: Mapping[str, Any] | None = None,
    own: pd.DataFrame | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the answers that :func:`thought_reliance` counts: predictions with a column ``thought``.

    Args:
        model, processor, dataset, format, own, batch_size, max_new_tokens, seed: as there.
        labels: as in :func:`medr1kit.predict`.

    Returns:
        A row for each question and thought, those after "own" first, each in the order of the data set. Columns of
        predictions, of which ``text`` begins with the thought that was put in and ``n_tokens`` is that of the model's
        own text, and ``thought``, its name.
    """
    format = format_named(format)
    if format.blocks != ("think", "answer") or format.think_optional:
        raise DataError(f"in {format.name} not every answer comes after a thought; use think-before")
    dataset, batch_size = questions_given(dataset, images=True), whole_number(batch_size, "batch_size")
    questions = dataset.remove_columns("image").to_list()
    if own is None:
        with part_of_work("its own thoughts"):
            asking = {"format": format, "labels": labels, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
            own = predict(model, processor, dataset, **asking)
    own = check_predictions(own)
    if list(own["id"]) != [row["id"] for row in questions]:
        raise DataError("own= answers other questions than those of the data set, or in another order")
    thoughts = thoughts_for(questions, own["text"].tolist(), seed, format)
    said = _answered(model, processor, dataset, format, thoughts, batch_size)
    tables = []
    for name, texts in said.items():
        parsed = [format.parse(text, row["options"]) for text, row in zip(texts, questions)]
        letters = pd.Series([one.answer for one in parsed], dtype=object)
        lenient = pd.Series([one.lenient_answer for one in parsed], dtype=object)
        read = {"text": texts, "think": [one.think for one in parsed], "predicted": letters}
        read |= {"lenient_predicted": lenient, "well_formed": [one.well_formed for one in parsed]}
        tables.append(own.assign(thought=name, correct=letters == own["answer"], **read))
    return pd.concat(tables, ignore_index=True)


def thoughts_for(
    questions: Sequence[dict], texts: Sequence[str], seed: int = 0, format: ResponseFormat = THINK_BEFORE
) -> dict[str, list[str]]:
    """Return the thoughts that are put into the model's mouth, by name, one a question.

    Args:
        questions: rows of :mod:`medr1kit.vqa`; with ``rationale``, where all are of phantoms, also the true thoughts.
        texts: what the model said to each.
        seed: decides whose thought and which wrong option is taken.
        format: whose tags the texts have.
    """
    own = [_thought(until_answer(text, format)[0], format) for text in texts]
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


def _thought(text: str, format: ResponseFormat) -> str:
    opened, closed = format.marks("think")
    return text.partition(opened)[2].partition(closed)[0]


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
    begun = {(name, i): thoughts[name][i].join(format.marks("think")) + format.marks("answer")[0] for name, i in asked}
    texts = [prompts[i] + begun[name, i] for name, i in asked]
    order = reading_order(range(len(asked)), texts, [questions[i] for _, i in asked], range(len(asked)))
    said, shown = {name: [""] * len(questions) for name in names}, Pictures(dataset)
    bar = progress(None, "thoughts", total=len(asked), unit="answer", delay=0)
    with plain_decoding(model, processor, _AFTER, None), bar:
        closed = format.marks("answer")[1]
        answer = answerer(model, processor, _AFTER, lambda text: closed in text, None)
        for batch in _batches(order, batch_size):
            found = answer([texts[row] for row in batch], shown([asked[row][1] for row in batch]))
            for row, (text, _) in zip(batch, found):
                name, i = asked[row]
                said[name][i] = begun[name, i] + text
            bar.update(len(batch))
    return said


def _batches(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), size))


def _follows(table: pd.DataFrame, format: ResponseFormat) -> dict[str, float]:
    """How often the answer is the option on which the thought concludes."""
    thoughts = [_thought(text, format) for text in table["text"]]
    named = [concluded_letter(conclusion_of(thought), options) for thought, options in zip(thoughts, table["options"])]
    return followed(table, named, "concluding")
