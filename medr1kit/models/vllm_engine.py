"""Greedy answers by vLLM instead of by the model in memory: for many questions on a GPU.

vLLM reads a folder. The model is written to a temporary one as it is at this moment, its adapter added to the weights
and the processor with its own bounds on images beside it, so that the same thing is asked that was handed over. The
prompts, the end tokens, the limit and the barred image tokens are those of :mod:`medr1kit.models.predict`.

What cannot be the same is rounding: vLLM adds up in another order, an adapter is added to half-precision weights, and
greedy texts part where two words are nearly as probable. So a few questions are answered both ways, and the table keeps
how many came out alike, in ``frame.attrs["engine"]``, which its Parquet file holds as well.

**This has not been run with vLLM itself**: it was written from vLLM's documentation and tested against a stand-in with
the same signatures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medr1kit.formats import ResponseFormat
from medr1kit.given import choice, package_given
from medr1kit.models.adapters import acting_adapters
from medr1kit.models.decoding import Answers
from medr1kit.models.export import write_plain
from medr1kit.models.load import base_of, image_token_ids, origin_of
from medr1kit.models.machine import free_memory
from medr1kit.models.so_far import rank_of_world
from medr1kit.models.weights import one_sentence
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

SAMPLE = 8
"""Questions that the model in memory answers as well."""


def engine_given(engine: object, stop_at_answer: bool = False, share: bool = False, samples: int = 0) -> str | None:
    """Return what is to answer: None for the model in memory, or "vllm".

    Raises:
        DataError: if it is neither, is not installed, or cannot do what else is asked.
    """
    if engine is None:
        return None
    choice(engine, "engine", ("vllm",))
    package_given("vllm", "engine='vllm'")
    if stop_at_answer:
        raise DataError("engine='vllm' writes whole texts; leave stop_at_answer out")
    if samples:
        raise DataError("engine='vllm' answers greedily; leave samples out, or leave engine= out to draw here")
    if share and rank_of_world()[1] > 1:
        raise DataError("engine='vllm' is asked by one process; start it without torchrun, or leave it out")
    return engine


@contextmanager
def vllm_answers(model: PreTrainedModel, processor: ProcessorMixin, limit: int, ends: set[int]) -> Iterator[Answers]:
    """Have vLLM load the model, for as long as the context lasts; what it gives answers prompts about pictures.

    Args:
        model, processor: as :func:`medr1kit.predict` takes them; they stay where they are.
        limit: completion tokens at most.
        ends: ids of tokens that end a completion.

    Raises:
        DataError: if the model cannot be written, or vLLM not load it.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process: a child would need the main guard
    base = base_of(model)
    with tempfile.TemporaryDirectory(prefix="medr1kit-vllm-") as folder:
        with one_sentence("the model, by vLLM,", "leave engine= out to have it answer by itself"):
            from vllm import LLM, SamplingParams

            write_plain(_plain(model), processor, Path(folder))
            dtype, images = str(base.dtype).removeprefix("torch."), {"image": 1, "video": 0}
            # "vllm": without the sampling settings that the folder brings along.
            how = {"generation_config": "vllm", "seed": 0, **_memory(base)}
            engine = LLM(model=folder, dtype=dtype, limit_mm_per_prompt=images, **how)
        settings = SamplingParams(
            temperature=0.0,
            repetition_penalty=1.0,
            max_tokens=limit,
            stop_token_ids=sorted(ends),
            logit_bias=dict.fromkeys(image_token_ids(base), -100.0),
        )

        def answer(prompts: Sequence[str], pictures: Sequence[Any]) -> list[tuple[str, int]]:
            shown = [{"multi_modal_data": {"image": one.convert("RGB")}} if one is not None else {} for one in pictures]
            asked = [{"prompt": text} | image for text, image in zip(prompts, shown)]
            found = engine.generate(asked, sampling_params=settings, use_tqdm=False)
            said = [output.outputs[0].token_ids for output in found]
            return [(processor.tokenizer.decode(ids, skip_special_tokens=True), len(ids)) for ids in said]

        yield answer


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model without adapters: itself if none is on it, else a copy with those that act added to the weights."""
    acting = acting_adapters(base_of(model))
    if not acting:
        return base_of(model)
    wrapper = model if base_of(model) is not model else origin_of(model).wrapper
    if wrapper is None:
        raise DataError("the adapter on this model was put there by others; hand over its PeftModel, or merge it")
    off = all(disabled for _, disabled, *_ in acting)
    return deepcopy(wrapper).unload() if off else deepcopy(wrapper).merge_and_unload()


def _memory(base: PreTrainedModel) -> dict[str, float]:
    """How much of the GPU vLLM may take: most of what the model in memory leaves."""
    import torch

    if base.device.type != "cuda":
        return {}
    free_memory()  # of what an earlier vLLM held
    free, total = torch.cuda.mem_get_info(0)  # vLLM takes the first one that is visible
    return {"gpu_memory_utilization": round(0.9 * free / total, 3)}


def sample_of(rows: Sequence[int]) -> list[int]:
    """Return the rows to be answered both ways, spread over all."""
    return list(rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE])


def held_against(
    ours: Mapping[int, tuple[str, int]],
    theirs: Mapping[int, tuple[str, int]],
    questions: Sequence[dict],
    format: ResponseFormat,
) -> dict[str, Any]:
    """Say, and return, how many of the questions that both answered came out alike.

    Args:
        ours: text and length of answers of the model in memory, by row.
        theirs: likewise vLLM's, of these rows and others.
        questions, format: to read the letters.
    """
    import vllm

    def letter(i: int, text: str) -> str | None:
        return format.parse(text, questions[i]["options"]).answer

    words = sum(text == theirs[i][0] for i, (text, _) in ours.items())
    letters = sum(letter(i, text) == letter(i, theirs[i][0]) for i, (text, _) in ours.items())
    if ours:
        print(
            f"vLLM answered {words} of {len(ours)} sample questions in the same words, {letters} with the same letter"
        )
    found = {"name": "vllm", "version": vllm.__version__, "sample": len(ours)}
    return found | {"same_words": words, "same_letter": letters}
