"""How probable each letter is at the place where the answer is written.

A greedy answer says which letter came first, not by how much. Here the model is led to the place of the letter and its
next-token probabilities are read there::

    … assistant: <answer>     A .52   B .31   C .11   D .05   anything else .01

Made to sum to 1 over the letters, they say how sure the model is; :func:`medr1kit.calibration` says whether rightly so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.formats import THINK_BEFORE, ResponseFormat, format_named
from medr1kit.given import questions_given, whole_number
from medr1kit.models.decoding import evaluating
from medr1kit.models.load import base_of, image_token_ids, pair_given
from medr1kit.models.predict import chat_prompt, model_labels, predict
from medr1kit.progress import part_of_work, progress
from medr1kit.results.tables import PREDICTIONS
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

_QUESTION = PREDICTIONS[: PREDICTIONS.index("answer") + 1]


def letter_probabilities(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    labels: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
) -> pd.DataFrame:
    """Return how probable each option's letter is where the model writes its answer.

    In no-think and think-after the tag ``<answer>`` is put into the model's mouth. In the other formats the model
    writes first, greedily, and is read after its own last ``<answer>``; so the probabilities are those *given this
    thinking*, which has mostly settled the letter: they say how sure the model is of its conclusion, not of its
    thinking. A letter counts with and without a blank before it, and in each way a tokenizer can write it.

    Args:
        model, processor, dataset, format, labels, batch_size: as in :func:`medr1kit.predict`.
        max_new_tokens: limit on thinking, as in :func:`medr1kit.predict`.

    Returns:
        A row a question, in the order of the data set: the question's columns and the labels, as in predictions;
        ``prefix`` (what stands before the letter), ``forced`` (whether ``<answer>`` was ours, not the model's),
        ``probabilities`` (a list in letter order, sum 1), ``mass`` (the sum before that: near 0 the model would have
        written something else there, and the probabilities mean little), ``predicted`` (the most probable letter),
        ``confidence`` (its probability) and ``correct``.

    Raises:
        DataError: if an argument is not what :func:`medr1kit.predict` takes, or the processor writes ``<answer>``
            otherwise than its tokenizer.
    """
    format = format_named(format)
    dataset, batch_size = questions_given(dataset, images=True), whole_number(batch_size, "batch_size")
    pair_given(model, processor)
    if max_new_tokens is not None:
        whole_number(max_new_tokens, "max_new_tokens")
    known = model_labels(model, labels)
    tag = format.marks("answer")[0]
    if format.blocks in (("answer",), ("answer", "think")):
        prefixes = [(tag, True)] * len(dataset)
    else:
        thinking = {"format": format, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
        with part_of_work("what stands before the letters"):
            prefixes = [until_answer(text, format) for text in predict(model, processor, dataset, **thinking)["text"]]
    questions = dataset.remove_columns("image").to_list()
    texts = [chat_prompt(processor, format, row["problem"]) + prefix for row, (prefix, _) in zip(questions, prefixes)]
    longest = max(len(row["options"]) for row in questions)
    scored = _score_letters(model, processor, dataset, texts, tag, longest, batch_size)
    known |= {"format": format.name}
    rows = {i: _letter_row(questions[i], known, *prefixes[i], logs) for i, logs in scored}
    return pd.DataFrame([rows[i] for i in range(len(texts))])


def until_answer(text: str, format: ResponseFormat = THINK_BEFORE) -> tuple[str, bool]:
    """Return a completion up to where its letter stands, and whether ``<answer>`` had to be added.

    The tag after the thinking counts, else the first one, or the last where the format has two answers. Thinking that
    was cut off is closed.

    >>> until_answer("<think>A ring, so B.</think><answer>B</answer>")
    ('<think>A ring, so B.</think><answer>', False)
    >>> until_answer("<think>A ring, and")
    ('<think>A ring, and</think><answer>', True)
    """
    (opened, closed), tag = format.marks("think"), format.marks("answer")[0]
    thought = text.find(closed)
    at = text.find(tag, max(thought, 0))
    if format.blocks.count("answer") == 1:
        at = text.find(tag) if at < 0 else at
    elif thought < 0:  # cut off in its thought, or none
        at = -1 if text.rfind(opened) > text.rfind(tag) else text.rfind(tag)
    if at >= 0:
        return text[:at] + tag, False
    if thought >= 0:
        return text[:thought] + closed + tag, True
    return (f"{text}{closed}{tag}" if opened in text else tag), True


def _score_letters(model, processor, dataset, texts: list[str], tag: str, n: int, batch_size: int) -> Iterator[tuple]:
    """Each question's number and the log-probabilities of n letters after its text, which ends with ``tag``."""
    import torch

    end_of_tag, writings = _writings(processor.tokenizer, tag, n)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    bar = progress(None, "letters", total=len(order), unit="question", delay=0)
    with closing(bar), evaluating(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            pictures = [dataset[i]["image"] for i in batch]
            inputs = processor(text=[texts[i] for i in batch], images=pictures, padding=True, return_tensors="pt")
            logs = torch.full((len(batch), n), -torch.inf)
            for opening, letters in writings.items():
                after = _logs_after(model, inputs, end_of_tag, opening)
                before = sum(after[:, place, token] for place, token in enumerate(opening))
                for place, token in letters:
                    logs[:, place] = torch.logaddexp(logs[:, place], before + after[:, -1, token])
            yield from zip(batch, logs.double().numpy())
            bar.update(len(batch))


def _writings(tokenizer, tag: str, n: int) -> tuple[list[int], dict[tuple[int, ...], list[tuple[int, int]]]]:
    """How n letters can follow a tag: with and without a blank, in one text with it and as tokens of their own.

    Returns the tokens that end the tag and may be written otherwise, and, grouped by what stands in their place before
    the last token, opening -> [(place of the letter, last token)]. Where tag and letter are tokens of their own no
    tokens end the tag, and there is one empty opening; a vocabulary with a token ">A" has the openings () and (">",).
    """

    def read(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    own, ways = read(tag), []
    for place, letter in enumerate(LETTERS[:n]):
        texts = (letter, f" {letter}")
        ways += [(place, ids) for text in texts for ids in (read(f"{tag}{text}"), own + read(text))]
    shared = next(i for i, column in enumerate(zip(*(ids for _, ids in ways))) if len(set(column)) > 1)
    writings: dict[tuple[int, ...], dict[tuple[int, int], None]] = {}
    for place, ids in ways:
        writings.setdefault(tuple(ids[shared:-1]), {})[place, ids[-1]] = None
    return own[shared:], {opening: list(letters) for opening, letters in writings.items()}


def _logs_after(model, inputs: Mapping[str, Any], end_of_tag: list[int], opening: tuple[int, ...]):
    """Log-probabilities of what follows, as in prediction, if ``opening`` stands in the place of ``end_of_tag``.

    Returns (rows, opening + 1, vocabulary): those before each token of the opening, and after the last.
    """
    import torch

    kept = inputs["input_ids"].shape[1] - len(end_of_tag)
    if not (inputs["input_ids"][:, kept:] == torch.tensor(end_of_tag).long()).all():
        raise DataError("this processor writes <answer> otherwise than its tokenizer; its letters cannot be scored")
    ends = {"input_ids": opening, "attention_mask": [1] * len(opening), "mm_token_type_ids": [0] * len(opening)}
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    for name in ends.keys() & inputs.keys():
        end = inputs[name].new_tensor(ends[name]).expand(len(inputs[name]), -1)
        inputs[name] = torch.cat([inputs[name][:, :kept], end], dim=1)
    with torch.inference_mode():
        logits = model(**inputs, use_cache=False, logits_to_keep=len(opening) + 1).logits.float()
        logits[..., image_token_ids(base_of(model))] = -torch.inf  # barred in prediction, too
        return torch.log_softmax(logits, dim=-1).cpu()


def _letter_row(question: dict, labels: dict[str, Any], prefix: str, forced: bool, logs: np.ndarray) -> dict[str, Any]:
    logs = logs[: len(question["options"])]
    mass = np.logaddexp.reduce(logs)
    probabilities = np.exp(logs - mass)
    predicted = LETTERS[int(probabilities.argmax())]
    return {
        **{name: question.get(name) for name in _QUESTION},
        **labels,
        "prefix": prefix,
        "forced": forced,
        "probabilities": probabilities.tolist(),
        "mass": float(np.exp(mass)),
        "predicted": predicted,
        "confidence": float(probabilities.max()),
        "correct": predicted == question["answer"],
    }
