"""The one question that the pictures are about, what is written to it, and the tokens of both."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import medr1kit as mk
from medr1kit.formats import ResponseFormat
from medr1kit.models.found import TINY
from medr1kit.models.predict import chat_prompt
from medr1kit.models.processor import load_processor
from medr1kit.vqa import LETTERS

FORMAT = mk.THINK_BEFORE
GROUP = (
    "<think>Large cyst, right.</think><answer>D</answer>",
    "<think>A small mass, left.</think><answer>D</answer>",
    "<think>Large cyst, right.</think><answer>C</answer>",
    "<think>A mass, in the liver.</think><answer>C</answer>",
    "<think>A hemorrhage.</think><answer>B</answer>",
    "<answer>D</answer>",
    "<think>A cyst.</think><answer>D</answer><answer>C</answer>",
    "It may be a cyst.",
)
"""Completions of the question, made by hand: each of a kind that a model writes."""


@cache
def question() -> dict[str, Any]:
    """Return the row."""
    return mk.load_vqa("phantoms", split="test", modality="CT", n=12)[11]


def lettered(options: list[str]) -> list[str]:
    """Return options as a problem writes them."""
    return [f"{letter}) {text}" for letter, text in zip(LETTERS, options)]


@cache
def processor() -> Any:
    """Return the built-in model's processor; no picture needs the model."""
    return load_processor(TINY, "qwen2_vl")


def written(text: str) -> list[str]:
    """Return the tokens of a completion, its end token too."""
    tokenizer = processor().tokenizer
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
    return [tokenizer.decode(one) for one in ids]


class Prompt(NamedTuple):
    """What the model reads: the tokens, and how the image was cut (rows and columns of patches)."""

    tokens: list[str]
    rows: int
    columns: int

    @property
    def image(self) -> range:
        """The places of the image tokens."""
        places = [i for i, token in enumerate(self.tokens) if token == processor().image_token]
        return range(places[0], places[-1] + 1)


def prompt(format: ResponseFormat = FORMAT) -> Prompt:
    """Return the prompt of the question, as training and prediction build it."""
    row = question()
    text = chat_prompt(processor(), format, row["problem"])
    read = processor()(text=[text], images=[row["image"]], return_tensors="pt")
    _, rows, columns = read["image_grid_thw"][0].tolist()
    return Prompt([processor().tokenizer.decode(one) for one in read["input_ids"][0]], rows, columns)
