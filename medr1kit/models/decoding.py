"""How answers are decoded: greedily or by lot, from a shared prefix where a model can be read so, else by ``generate``.

A checkpoint's own generation settings are put aside for the time, because they would apply to evaluation and not to
training; and drawing leaves the generators of random numbers as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from medr1kit.models.load import base_of, image_token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


Answers = Callable[[Sequence[str], Sequence[Any]], Iterable[tuple[str, int]]]
"""Prompts and a picture for each -> the text and the number of tokens of each answer."""


def answerer(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    limit: int,
    closed: Callable[[str], bool] | None,
    temperature: float | None,
    pictured: bool = True,
) -> Answers:
    """Return what answers prompts about pictures: by what they have in common where that can be read, else one by one.

    Args:
        model, processor: as :func:`medr1kit.predict` takes them; decode within :func:`plain_decoding`.
        limit: completion tokens at most.
        closed: whether a text has said enough; None: texts end by themselves.
        temperature: of drawing; None: the most probable tokens are taken.
        pictured: False: the prompts show no image, so there is none that they could share; each picture is None.
    """
    from medr1kit.models.shared_prefix.answering import Answerer, why_not_read

    if not pictured or why_not_read(model) is not None:
        return partial(generate, model, processor, closed)
    return Answerer(
        model, processor, limit=limit, ends=end_tokens(model, processor), closed=closed, temperature=temperature
    )


def generate(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    closed: Callable[[str], bool] | None,
    prompts: Sequence[str],
    pictures: Sequence[Any],
) -> Iterator[tuple[str, int]]:
    """Yield text and number of tokens of each answer, by ``generate`` of transformers; arguments as above."""
    import torch

    images = None if None in pictures else pictures
    inputs = processor(text=prompts, images=images, padding=True, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs)  # (rows, prompt + completion)
    completions, ends = output[:, inputs["input_ids"].shape[1] :], end_tokens(model, processor)
    for ids in completions.tolist():
        length = next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))
        texts = (processor.tokenizer.decode(ids[:k], skip_special_tokens=True) for k in range(length + 1))
        if closed is not None:
            length = next((k for k, text in enumerate(texts) if closed(text)), length)
        yield processor.tokenizer.decode(ids[:length], skip_special_tokens=True), length


def end_tokens(model: PreTrainedModel, processor: ProcessorMixin) -> set[int]:
    """Return the ids of tokens that end a completion."""
    eos = model.generation_config.eos_token_id
    return {processor.tokenizer.pad_token_id, *(eos if isinstance(eos, list) else [eos])}


@contextmanager
def plain_decoding(model: PreTrainedModel, processor: ProcessorMixin, limit: int, temperature: float | None):
    """Replace the checkpoint's generation settings for the time of a prediction: greedy, or drawn at a temperature."""
    from transformers import GenerationConfig

    base = base_of(model)
    kept = base.generation_config
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0}
    how = {"do_sample": False} if temperature is None else drawn
    base.generation_config = GenerationConfig(
        **how,
        max_new_tokens=limit,
        eos_token_id=kept.eos_token_id or processor.tokenizer.eos_token_id,
        pad_token_id=processor.tokenizer.pad_token_id,
        suppress_tokens=image_token_ids(base),
    )
    try:
        with evaluating(model):
            yield
    finally:
        base.generation_config = kept


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put a model into evaluation mode and afterwards back into the one it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def drawing(model: PreTrainedModel, seed: int, rows: Sequence[int]) -> Iterator[None]:
    """Random numbers of a batch's own, whatever was drawn before it; afterwards all is as if none had been drawn."""
    import torch

    device = model.device
    own = hashlib.sha256(f"{seed} {list(rows)}".encode()).digest()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(own[:8], "big"))
        yield
