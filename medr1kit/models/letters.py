"""How probable each letter is at the place where the answer is written.

A greedy answer says which letter came first, not by how much. Here the model is led to the place of the letter and its
next-token probabilities are read there::

    … assistant: <answer>     A .52   B .31   C .11   D .05   anything else .01

Made to sum to 1 over the letters, they say how sure the model is; :func:`medr1kit.calibration` says whether rightly so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import questions_given, whole_number
from medr1kit.models.decoding import evaluating
from medr1kit.models.load import base_of, image_token_ids, pair_given
from medr1kit.models.predict import chat_prompt, model_labels, predict
from medr1kit.progress import part_of_work, progress
from medr1kit.results.tables import PREDICTIONS
from medr1kit.results.thoughts import until_answer
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

    from medr1kit.models.shared_prefix.answering import Reader
    from medr1kit.models.shared_prefix.prompts import Prefix

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


def _score_letters(model, processor, dataset, texts: list[str], tag: str, n: int, batch_size: int) -> Iterator[tuple]:
    """Each question's number and the log-probabilities of n letters after its text, which ends with ``tag``."""
    end_of_tag, writings = _writings(processor.tokenizer, tag, n)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    bar = progress(None, "letters", total=len(order), unit="question", delay=0)
    with closing(bar), evaluating(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            pictures = [dataset[i]["image"] for i in batch]
            inputs = processor(text=[texts[i] for i in batch], images=pictures, padding=True, return_tensors="pt")
            yield from zip(batch, _letter_logs(writings, n, partial(_logs_after, model, inputs, end_of_tag)))
            bar.update(len(batch))


def letter_reader(
    model: PreTrainedModel, processor: ProcessorMixin, tag: str = "<answer>"
) -> Callable[[str, Any, int], Callable[[str], np.ndarray]]:
    """Return a function that reads a prompt about a picture once, to be asked for the letters after several texts.

    Args:
        model, processor: as in :func:`medr1kit.predict`; the weights must not change in the meantime.
        tag: that opens the answer.

    Returns:
        ``read(prompt, picture, n)``, which returns ``letters(text)``: the probabilities of n letters after prompt and
        text, (n,), sum 1. The text ends with the tag. A model that cannot be read so reads all each time.
    """
    from medr1kit.models.shared_prefix.answering import Reader, why_not_read

    reader = Reader(model, processor) if why_not_read(model) is None else None

    def read(prompt: str, picture: Any, n: int) -> Callable[[str], np.ndarray]:
        end_of_tag, writings = _writings(processor.tokenizer, tag, n)
        with evaluating(model):
            prefix = None if reader is None else reader.read([prompt], [picture])[0]

        def letters(text: str) -> np.ndarray:
            if prefix is None:
                inputs = processor(text=[prompt + text], images=[picture], return_tensors="pt")
                after = partial(_logs_after, model, inputs, end_of_tag)
            else:
                ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
                after = partial(_logs_following, reader, prefix, ids, end_of_tag)
            with evaluating(model):
                return _shares(_letter_logs(writings, n, after)[0])[0]

        return letters

    return read


def _letter_logs(writings: dict, n: int, after: Callable[[tuple[int, ...]], torch.Tensor]) -> np.ndarray:
    """Log-probabilities of n letters, (rows, n), each over all its writings.

    Args:
        writings: from :func:`_writings`.
        n: letters.
        after: opening -> log-probabilities (rows, opening + 1, vocabulary): before each of its tokens, after the last.
    """
    import torch

    logs = [torch.tensor(-torch.inf)] * n
    for opening, letters in writings.items():
        found = after(opening)
        before = sum(found[:, place, token] for place, token in enumerate(opening))
        for place, token in letters:
            logs[place] = torch.logaddexp(logs[place], before + found[:, -1, token])
    return torch.stack(logs, dim=1).double().numpy()


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
    _refuse_other_tags(inputs["input_ids"][:, kept:] == torch.tensor(end_of_tag).long())
    ends = {"input_ids": opening, "attention_mask": [1] * len(opening), "mm_token_type_ids": [0] * len(opening)}
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    for name in ends.keys() & inputs.keys():
        end = inputs[name].new_tensor(ends[name]).expand(len(inputs[name]), -1)
        inputs[name] = torch.cat([inputs[name][:, :kept], end], dim=1)
    with torch.inference_mode():
        logits = model(**inputs, use_cache=False, logits_to_keep=len(opening) + 1).logits.float()
        return _logs(logits, image_token_ids(base_of(model)))


def _logs_following(reader: Reader, prefix: Prefix, ids: list[int], end_of_tag: list[int], opening: tuple[int, ...]):
    """The same after a prompt that was read already and the tokens ``ids`` of a text, for this one row."""
    import torch

    from medr1kit.models.shared_prefix.prompts import follow

    kept = len(ids) - len(end_of_tag)
    _refuse_other_tags(torch.tensor(ids[kept:]) == torch.tensor(end_of_tag))
    tokens = torch.tensor([[*ids[:kept], *opening]], device=reader.core.device)
    with torch.inference_mode():
        row = torch.zeros(1, dtype=torch.long, device=tokens.device)
        hidden, _ = follow(reader.core, prefix, row, tokens, torch.ones_like(tokens, dtype=torch.bool))
        return _logs(reader.head(hidden[:, -len(opening) - 1 :]).float(), reader.barred)


def _refuse_other_tags(same: torch.Tensor) -> None:
    if not same.all():
        raise DataError("this processor writes <answer> otherwise than its tokenizer; its letters cannot be scored")


def _logs(logits: torch.Tensor, barred: list[int]) -> torch.Tensor:
    """Log-probabilities without the tokens that are barred in prediction, too."""
    logits[..., barred] = -float("inf")
    return logits.log_softmax(dim=-1).cpu()


def _letter_row(question: dict, labels: dict[str, Any], prefix: str, forced: bool, logs: np.ndarray) -> dict[str, Any]:
    probabilities, mass = _shares(logs[: len(question["options"])])
    predicted = LETTERS[int(probabilities.argmax())]
    return {
        **{name: question.get(name) for name in _QUESTION},
        **labels,
        "prefix": prefix,
        "forced": forced,
        "probabilities": probabilities.tolist(),
        "mass": mass,
        "predicted": predicted,
        "confidence": float(probabilities.max()),
        "correct": predicted == question["answer"],
    }


def _shares(logs: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities made to sum to 1, and what they summed to before."""
    mass = np.logaddexp.reduce(logs)
    return np.exp(logs - mass), float(np.exp(mass))
