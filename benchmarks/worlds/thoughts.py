"""Is a thought used? What a model answers when something else stands in its thought.

Each question is asked several times, in think-before, and the beginning of the answer is put into the model's mouth:

own       nothing: the model thinks and answers
emptied   ``<think></think><answer>``
true      the true facts of the picture; the model concludes and answers
another   the true facts of another picture of the same modality; the model concludes and answers
named     all of a true rationale, which names the right option in words and no letter; the model answers
misled    the same, but it names a wrong option
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset

from medr1kit.data.phantoms.truth import ImageId
from medr1kit.formats import FORMATS, THINK_BEFORE
from medr1kit.models.decoding import evaluating
from medr1kit.models.load import base_of
from medr1kit.models.predict import chat_prompt
from medr1kit.models.shared_prefix.answering import Answerer
from medr1kit.models.shared_prefix.vision import Pictures
from medr1kit.vqa import LETTERS

KINDS = ("own", "emptied", "true", "another", "named", "misled")
LIMIT, BATCH = 64, 64  # completion tokens; questions at a time


def interventions(model: Any, processor: Any, dataset: Dataset) -> pd.DataFrame:
    """Return what a model answers after each kind of thought.

    Args:
        model, processor: from ``load_model``.
        dataset: phantoms of one modality, with their rationales.

    Returns:
        A row a question and kind: id, task, n_facts, kind, text, predicted, correct, and for "misled" whether the
        answer is the option that was named (``followed``).
    """
    questions = dataset.remove_columns("image").to_list()
    rows = []
    for kind in KINDS:
        beginnings, named = zip(*(_beginning(kind, questions, i) for i in range(len(questions))))
        texts = written_on(model, processor, dataset, beginnings)
        for question, text, other in zip(questions, texts, named):
            predicted = THINK_BEFORE.parse(text, question["options"]).answer
            row = {name: question[name] for name in ("id", "modality", "task", "n_facts")}
            row |= {"kind": kind, "text": text, "predicted": predicted, "correct": predicted == question["answer"]}
            rows.append(row | {"followed": None if other is None else predicted == other})
    return pd.DataFrame(rows)


def written_on(model: Any, processor: Any, dataset: Dataset, beginnings: Sequence[str]) -> list[str]:
    """Return completions that start with the given beginnings and that the model writes on, greedily."""
    prompts = [chat_prompt(processor, THINK_BEFORE, problem) for problem in dataset["problem"]]
    shown, texts = Pictures(dataset), [""] * len(prompts)
    ends = {processor.tokenizer.pad_token_id, processor.tokenizer.eos_token_id}
    with evaluating(model):
        answer = Answerer(base_of(model), processor, limit=LIMIT, ends=ends)
        order = np.argsort([len(beginning) for beginning in beginnings], kind="stable")
        for batch in np.array_split(order, max(1, len(order) // BATCH)):
            batch = batch.tolist()
            said = answer([prompts[i] + beginnings[i] for i in batch], shown(batch))
            for i, (text, _) in zip(batch, said):
                texts[i] = beginnings[i] + text
    return texts


def sampled(model: Any, processor: Any, dataset: Dataset, format: str, k: int = 8) -> pd.DataFrame:
    """Return k answers to each question, sampled at temperature 1 as in training: a row an answer, kind "sampled"."""
    format, rows = FORMATS[format], dataset.remove_columns("image").to_list()
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": k}
    found = []
    torch.manual_seed(0)
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(rows), 16):
            part = rows[start : start + 16]
            texts = [chat_prompt(processor, format, row["problem"]) for row in part]
            pictures = dataset[start : start + 16]["image"]
            inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
            written = model.generate(**inputs, max_new_tokens=LIMIT, **settings)[:, inputs["input_ids"].shape[1] :]
            said = processor.batch_decode(written, skip_special_tokens=True)
            for i, text in enumerate(said):
                question = part[i // k]
                predicted = format.parse(text, question["options"]).answer
                row = {name: question[name] for name in ("id", "modality", "task", "n_facts")}
                row |= {"kind": "sampled", "text": text, "predicted": predicted}
                found.append(row | {"correct": predicted == question["answer"], "followed": None})
    return pd.DataFrame(found)


def _beginning(kind: str, questions: list[dict], i: int) -> tuple[str, str | None]:
    """What is put into the model's mouth for question i, and the letter of the wrong option that it names, if any."""
    rationale, options = questions[i]["rationale"], questions[i]["options"]
    if kind == "own":
        return "", None
    if kind == "emptied":
        return "<think></think><answer>", None
    if kind == "true":
        return f"<think>{described(rationale)}", None
    if kind == "another":
        return f"<think>{described(questions[_other(questions, i)]['rationale'])}", None
    if kind == "named":
        return f"<think>{rationale}</think><answer>", None
    gold = LETTERS.index(questions[i]["answer"])
    wrong = (gold + 1 + ImageId.read(questions[i]["image_id"]).number % (len(options) - 1)) % len(options)
    facts, _, _ = rationale.rpartition(" So the answer is ")
    return f"<think>{facts} So the answer is {options[wrong]}</think><answer>", LETTERS[wrong]


def described(rationale: str) -> str:
    """Return the part of a rationale that says what is seen: its first sentence."""
    return rationale.partition(".")[0] + "."


def _other(questions: list[dict], i: int) -> int:
    """The next question of the same task about a picture of which this question's right option is not right."""
    gold = set(questions[i]["options"][LETTERS.index(questions[i]["answer"])].split())
    asks_absent = questions[i]["n_facts"] == 4
    for step in range(1, len(questions)):
        other = questions[(i + step) % len(questions)]
        seen = gold & {str(fact) for fact in other["truth"].values()}
        if other["task"] == questions[i]["task"] and bool(seen) == asks_absent:
            return (i + step) % len(questions)
    return (i + 1) % len(questions)  # Modality Recognition: within a modality no picture differs
