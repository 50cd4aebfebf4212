"""Prediction: plain ``generate`` with the settings of the reference's evaluation, against :func:`medr1kit.predict`.

Plain: rows in their order, 64 a batch, greedy, 256 new tokens at most, every row's image and prompt read. The two take
turns in one process. Image features of an earlier turn are forgotten before each, so that every turn pays for its
images; the cases "again" keep them, as when base and trained model answer the same test, or a probe asks it once more.

``exact`` says that every question has the same answer; ``same_texts`` is the share of texts that are equal, too, which
is less than 1 where reading stops at the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.cases.timing import compared, say, timed
from medr1kit.data.load import load_vqa
from medr1kit.formats import ResponseFormat, format_named
from medr1kit.models.adapters import lora
from medr1kit.models.load import load_model
from medr1kit.models.predict import chat_prompt, predict
from medr1kit.models.shared_prefix.vision import forget_images
from medr1kit.results.perturbations import rotate_options

if TYPE_CHECKING:
    from datasets import Dataset

REPEATS = 3
QUESTIONS = 256
BATCH, NEW_TOKENS = 64, 256  # the reference's


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: its name in the report.
        about: in words, what is asked.
        format: the response format.
        settings: arguments of :func:`medr1kit.predict`.
        an_image: questions about each image.
        adapter: put a LoRA adapter on the model, as a trained one has. It is new and changes no answer.
        again: keep the image features of the turn before.
    """

    name: str
    about: str
    format: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    an_image: int = 1
    adapter: bool = False
    again: bool = False


_STOP = {"stop_at_answer": True}
CASES = (
    Case("think_after", "think-after, stopped at the answer", "think-after", _STOP),
    Case("no_think", "no-think, stopped at the answer", "no-think", _STOP),
    Case("think_after_full", "think-after, whole texts", "think-after"),
    Case("no_think_full", "no-think, whole texts", "no-think"),
    Case("think_before", "think-before, whole texts", "think-before"),
    Case(
        "think_after_adapter", "think-after, stopped, a LoRA adapter on the model", "think-after", _STOP, adapter=True
    ),
    Case("no_think_adapter", "no-think, stopped, a LoRA adapter on the model", "no-think", _STOP, adapter=True),
    Case("think_after_again", "think-after, stopped, images seen before", "think-after", _STOP, again=True),
    Case("no_think_again", "no-think, stopped, images seen before", "no-think", _STOP, again=True),
    Case("think_after_4_an_image", "think-after, stopped, four questions an image", "think-after", _STOP, 4),
    Case("no_think_4_an_image", "no-think, stopped, four questions an image", "no-think", _STOP, 4),
)


def measure_all(repeats: int) -> list[dict]:
    """Return all cases."""
    return [measure(case, repeats) for case in CASES]


def measure(case: Case, repeats: int, *, n: int = QUESTIONS) -> dict:
    """Answer the same questions both ways in turn.

    Args:
        case: what to ask.
        repeats: turns, 1 or more.
        n: questions about phantoms' test images.
    """
    import torch
    from peft import get_peft_model

    format, threads = format_named(case.format), torch.get_num_threads()
    model, processor = load_model("tiny", device="cpu")
    if case.adapter:
        model = get_peft_model(model, lora(merger=True)).eval()
    questions = several_questions(load_vqa("phantoms", split="test", n=n // case.an_image), case.an_image)
    ways = {
        "stock": lambda: plain_generate(model, processor, questions, format),
        "fast": lambda: predict(
            model, processor, questions, format=format, batch_size=BATCH, max_new_tokens=NEW_TOKENS, **case.settings
        ),
    }
    turns: dict[str, list] = {"stock": [], "fast": []}
    torch.set_num_threads(1)
    try:
        for turn in range(-1, repeats):  # turn -1: first calls are slow and are not counted
            for name in ("stock", "fast") if turn % 2 == 0 else ("fast", "stock"):
                if not case.again:
                    forget_images()
                found, took = timed(ways[name])
                if turn >= 0:
                    turns[name].append(([took], found))
    finally:
        torch.set_num_threads(threads)
    stock, fast = ([took for took, _ in turns[name]] for name in ("stock", "fast"))
    agreement = [agree(texts, frame, questions, format) for (_, texts), (_, frame) in zip(*turns.values())]
    found = compared(
        case.name,
        stock,
        fast,
        exact=all(same_answers == 1 for same_answers, _ in agreement),
        same_texts=min(same_texts for _, same_texts in agreement),
        rows=len(questions),
        about=f"{len(questions)} questions, {case.about}",
    )
    say(f"{case.name}: stock {found['stock_s']:.3g} s, fast {found['fast_s']:.3g} s, x{found['ratio']:.2f}")
    return found


def several_questions(dataset: Dataset, times: int) -> Dataset:
    """Return each row ``times`` times, its options rotated: several questions about an image."""
    from datasets import concatenate_datasets

    return concatenate_datasets([rotate_options(dataset, by) for by in range(times)]) if times > 1 else dataset


def plain_generate(model: Any, processor: Any, dataset: Dataset, format: ResponseFormat) -> list[str]:
    """Return texts as the reference's evaluation gets them."""
    import torch

    texts = []
    for start in range(0, len(dataset), BATCH):
        rows = [dataset[i] for i in range(start, min(start + BATCH, len(dataset)))]
        prompts = [chat_prompt(processor, format, row["problem"]) for row in rows]
        inputs = processor(text=prompts, images=[row["image"] for row in rows], padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(**inputs, use_cache=True, max_new_tokens=NEW_TOKENS, do_sample=False)
        texts += processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def agree(texts: list[str], frame: pd.DataFrame, questions: Dataset, format: ResponseFormat) -> tuple[float, float]:
    """Return the shares of equal answers and of equal texts.

    Where reading stops at the answer, the text that would have gone on is read as far: a second answer would unread it.
    """
    ended = [text[: len(cut)] if text.startswith(cut) else text for text, cut in zip(texts, frame["text"], strict=True)]
    answers = [format.parse(text, options).answer for text, options in zip(ended, questions["options"], strict=True)]
    fast = [None if pd.isna(letter) else letter for letter in frame["predicted"]]
    same = sum(a == b for a, b in zip(answers, fast, strict=True)) / len(texts)
    return same, round(sum(a == b for a, b in zip(texts, frame["text"])) / len(texts), 4)
