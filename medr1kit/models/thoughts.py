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

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import questions_given, whole_number
from medr1kit.models.decoding import answerer, plain_decoding
from medr1kit.models.letters import letter_reader
from medr1kit.models.load import pair_given
from medr1kit.models.predict import answer_row, chat_prompt, predict
from medr1kit.models.shown import reading_order
from medr1kit.progress import part_of_work, progress
from medr1kit.results.tables import LABELS, check_predictions
from medr1kit.results.thoughts import thought_table, thoughts_for
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

    from medr1kit.results.runs import Run

_AFTER = 16  # tokens, at most, for the letter and its closing tag
_READ = 4  # questions that are kept as they were read


def predict_thoughts(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str = "think-before",
    labels: Mapping[str, Any] | Run | None = None,
    own: pd.DataFrame | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Answer the same questions after other thoughts than the model's own.

    Args:
        model, processor, dataset, labels, batch_size, max_new_tokens: as in :func:`medr1kit.predict`.
        format: a response format that thinks before it answers, or its name.
        own: predictions of this model on these questions in this format, if they are there already.
        seed: decides whose thought and which wrong option is taken.

    Returns:
        The predictions of all thoughts below each other, ``thought`` naming them, "own" first: the answer that is
        written after the own thought, closed where it was not. ``n_tokens`` counts what the model wrote after it. The
        thoughts from "true" on are there only if all questions are of phantoms and carry their rationale.

    Raises:
        DataError: if the format does not always think before its one answer, the data set has no images or no rows, or
            ``own`` answers other questions.
    """
    format = _thinking_first(format)
    dataset, batch_size = questions_given(dataset, images=True), whole_number(batch_size, "batch_size")
    questions = dataset.remove_columns("image").to_list()
    if own is None:
        with part_of_work("its own thoughts"):
            asking = {"format": format, "labels": labels, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
            own = predict(model, processor, dataset, **asking)
    own = check_predictions(own)
    if list(own["id"]) != [row["id"] for row in questions]:
        raise DataError(
            "own= answers other questions than dataset holds, or in another order; leave it out, or predict anew"
        )
    thoughts, who = thoughts_for(questions, own["text"].tolist(), seed, format), own[list(LABELS)].to_dict("records")
    said = _answered(model, processor, dataset, format, thoughts, batch_size)
    rows = [
        answer_row(questions[i], format, who[i], *said[name, i]) | {"thought": name}
        for name in thoughts
        for i in range(len(questions))
    ]
    return pd.DataFrame(rows)


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
    """Say what becomes of the answers to the same questions after other thoughts than the model's own.

    Args:
        model, processor, dataset, format, own, batch_size, max_new_tokens, seed: as in :func:`predict_thoughts`.

    Returns:
        What :func:`medr1kit.results.thoughts.thought_table` makes of :func:`predict_thoughts`, a row a thought, "own"
        first: ``thought``, ``n``; ``accuracy``, ``low``, ``high``; ``flipped`` (share of answers that differ from those
        after its own thought), ``flipped_low``, ``flipped_high``; ``difference``, ``difference_low``,
        ``difference_high``: accuracy minus that after its own, paired; ``follows`` (of the ``concluding`` thoughts that
        name one option at their end, in how many that option is answered), ``follows_low``, ``follows_high``. 95 %.

    Raises:
        DataError: as :func:`predict_thoughts`.
    """
    asking = {"format": format, "own": own, "batch_size": batch_size, "max_new_tokens": max_new_tokens, "seed": seed}
    return thought_table(predict_thoughts(model, processor, dataset, **asking))


def thought_asker(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str = "think-before",
) -> Callable[[Mapping[str, Any], str], np.ndarray]:
    """Return a function that says how probable each letter is after a thought that you write.

    The prompts and images of the last questions are kept as the model has read them, so another thought costs no more
    than its own tokens. The weights must not change in the meantime.

    Args:
        model, processor: as in :func:`medr1kit.predict`.
        dataset: the questions that will be asked.
        format: a response format that thinks before it answers, or its name.

    Returns:
        ``ask(row, thought)``: probabilities in letter order, sum 1, after ``<think>thought</think><answer>``, as in
        :func:`medr1kit.letter_probabilities`. Of the row its ``id`` is read. :func:`medr1kit.inspect_outputs` takes it.

    Raises:
        DataError: if the format does not think first, or the data set has no images or no rows; when asked, if the data
            set has no such question.
    """
    format, dataset = _thinking_first(format), questions_given(dataset, images=True)
    pair_given(model, processor)
    from medr1kit.models.shared_prefix.vision import Pictures

    place = {name: i for i, name in enumerate(dataset["id"])}
    shown, letters_after = Pictures(dataset), letter_reader(model, processor, format.marks("answer")[0])
    questions = dataset.remove_columns("image")

    @lru_cache(_READ)
    def letters_of(i: int) -> Callable[[str], np.ndarray]:
        prompt = chat_prompt(processor, format, questions[i]["problem"])
        return letters_after(prompt, shown([i])[0], len(questions[i]["options"]))

    def ask(row: Mapping[str, Any], thought: str) -> np.ndarray:
        if (i := place.get(row["id"])) is None:
            raise DataError(f"ask= knows no question {row['id']!r:.60}; give thought_asker(…) the questions answered")
        return letters_of(i)(_begun(format, thought))

    return ask


def _thinking_first(format: ResponseFormat | str) -> ResponseFormat:
    format = format_named(format)
    if format.blocks != ("think", "answer") or format.think_optional:
        raise DataError(f"in {format.name} not every answer comes after a thought; use think-before")
    return format


def _begun(format: ResponseFormat, thought: str) -> str:
    return thought.join(format.marks("think")) + format.marks("answer")[0]


def _answered(
    model, processor, dataset, format: ResponseFormat, thoughts: dict[str, list[str]], batch_size: int
) -> dict[tuple[str, int], tuple[str, int]]:
    """What is written after each thought, the thought included, and how many tokens that took; (name, question) -> it.

    All thoughts about one picture are in one batch.
    """
    from medr1kit.models.shared_prefix.vision import Pictures

    names, questions = list(thoughts), dataset.remove_columns("image").to_list()
    asked = [(name, i) for i in range(len(questions)) for name in names]  # a question's thoughts side by side
    prompts = [chat_prompt(processor, format, row["problem"]) for row in questions]
    begun = {(name, i): _begun(format, thoughts[name][i]) for name, i in asked}
    texts = [prompts[i] + begun[name, i] for name, i in asked]
    order = reading_order(range(len(asked)), texts, [questions[i] for _, i in asked], range(len(asked)))
    said, shown = {}, Pictures(dataset)
    bar = progress(None, "thoughts", total=len(asked), unit="answer", delay=0)
    with plain_decoding(model, processor, _AFTER, None), bar:
        closed = format.marks("answer")[1]
        answer = answerer(model, processor, _AFTER, lambda text: closed in text, None)
        for batch in _batches(order, batch_size):
            found = answer([texts[row] for row in batch], shown([asked[row][1] for row in batch]))
            for row, (text, n_tokens) in zip(batch, found):
                said[asked[row]] = begun[asked[row]] + text, n_tokens
            bar.update(len(batch))
    return said


def _batches(order: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (order[start : start + size] for start in range(0, len(order), size))
