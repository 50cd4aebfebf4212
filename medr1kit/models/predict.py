"""Prediction: ask a model every question of a data set and keep what it said.

The result is the predictions table: a row a question, with the full text, what was read from it by the same parser that
pays the reward, and labels that say which model answered. Decoding is greedy, unless several answers a question are to
be drawn, and uses no hidden setting: a checkpoint's own generation defaults (Qwen2.5-VL's repetition penalty, say) are
put aside, because they would apply to evaluation and not to training.

Greedy tokens are those of ``model.generate``, but an image is read once for all its questions and a row leaves its
batch when it is done (:mod:`medr1kit.models.shared_prefix.answering`). A model that cannot be read so is asked by
``generate``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medr1kit.formats import NO_THINK, ResponseFormat, format_named
from medr1kit.given import choice, kind, number, output_file, questions_given, truth, whole_number
from medr1kit.models.decoding import Answers, answerer, drawing, end_tokens, plain_decoding
from medr1kit.models.digests import weights_digest
from medr1kit.models.load import origin_of, pair_given
from medr1kit.models.processor import user_turn, warn_of_open_thinking
from medr1kit.models.shown import IMAGES, image_rows, patches_moved, reading_order
from medr1kit.models.so_far import AnswersSoFar, finish
from medr1kit.models.vllm_engine import engine_given, held_against, sample_of, vllm_answers
from medr1kit.results.columns import label_values
from medr1kit.results.locks import refuse_without_locks
from medr1kit.results.runs import Run, replace_file
from medr1kit.results.tables import LABELS, METHODS, PREDICTIONS
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin


def predict(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    labels: Mapping[str, Any] | Run | None = None,
    images: str = "right",
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    output: str | Path | None = None,
    seed: int = 0,
    stop_at_answer: bool = False,
    share: bool = False,
    engine: str | None = None,
    samples: int = 0,
    temperature: float = 1.0,
) -> pd.DataFrame:
    """Answer every question, greedily or several times by lot, and read the answers.

    Args:
        model: from :func:`medr1kit.load_model`.
        processor: the model's.
        dataset: rows of :mod:`medr1kit.vqa` with images.
        format: the response format, or its name.
        labels: model, method, seed, step, train_modality, train_task, or the run that trained the model; those not
            given are what :func:`medr1kit.models.load.origin_of` knows of the model. ``method`` is "base" only for a
            base; weights whose training is not known are "given".
        images: "right"; "absent" (no image in the prompt), "blank" (grey pictures), "patches" (the right one, its tiles
            in another order), "shuffled-all" (another image of the data set), "shuffled" (another one of the same
            modality) or "nearest" (the most similar one of the same modality whose question has another gold):
            :mod:`medr1kit.models.shown`.
        batch_size: questions a batch, 1 or more; ``samples`` times as many rows where answers are sampled.
        max_new_tokens: limit on completion tokens, 1 or more; None: the checkpoint's, or 256 as the reference has it.
        output: a .parquet file to write. If it is interrupted, calling again goes on where it stopped. What is there is
            replaced if it holds predictions.
        seed: for shuffling images and patches, and for drawing.
        stop_at_answer: where the format begins with its answer, end each text where its first answer block closes;
            enough for accuracies. What would have followed is not known: ``think`` and ``well_formed`` of these rows
            are missing, and ``n_tokens`` counts up to there. A second answer block, which would have made the answer
            unreadable, is not seen; of the answers of version 0.1's built-in model and of 36 policies trained from it
            that changed 11 of 42,400 in think-after and none of 42,400 in no-think. In the other
            formats the argument has no effect: there the answer comes last.
        share: under torchrun or ``accelerate launch``, have all processes answer together: each must call this with the
            same arguments, each returns the whole table, the first writes the file.
        samples: answers a question, drawn from one reading of its prompt and image, for :func:`medr1kit.pass_at_k`; the
            table has a row for each and a column ``sample``, 0 to ``samples`` - 1. 0: one greedy answer. The same
            questions, seed and ``batch_size`` draw the same answers.
        temperature: of drawing, 0.01 to 10; 1 draws from the distribution that was trained.
        engine: "vllm" has vLLM answer (:mod:`medr1kit.models.vllm_engine`, not run with vLLM itself yet); None: here.

    Returns:
        The predictions table, in the order of the data set.

    Raises:
        DataError: before the first question is asked, if it is no data set of questions with images, model and
            processor are none, another argument is out of its range, or ``output`` is something else, or being written.
    """
    output = None if output is None else predictions_file(output)
    asked = {"format": format, "labels": labels, "images": images, "batch_size": batch_size}
    asked |= {
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "stop_at_answer": stop_at_answer,
        "share": share,
        "engine": engine,
        "samples": samples,
        "temperature": temperature,
    }
    frame, done = answered(model, processor, dataset, output, **asked)
    finish([done], lambda: write_predictions(frame, output))
    return frame


def answered(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    beside: Path | None,
    *,
    format: ResponseFormat | str,
    labels: Mapping[str, Any] | Run | None = None,
    images: str = "right",
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    seed: int = 0,
    stop_at_answer: bool = False,
    share: bool = False,
    engine: str | None = None,
    samples: int = 0,
    temperature: float = 1.0,
) -> tuple[pd.DataFrame, AnswersSoFar]:
    """Return the table of :func:`predict`, and the answers that are kept until it is written.

    Args:
        beside: the file beside which they are kept; None keeps none.
        format, labels, …, temperature: as there.
    """
    from medr1kit.models.shared_prefix.vision import Pictures

    engine, samples = engine_given(engine, stop_at_answer, share, samples), whole_number(samples, "samples", 0)
    number(temperature, "temperature", 0.01, 10)
    format = format_named(format)
    dataset = questions_given(dataset, images=True)
    pair_given(model, processor)
    choice(images, "images", IMAGES)
    batch_size, seed = whole_number(batch_size, "batch_size"), whole_number(seed, "seed", 0)
    if max_new_tokens is not None:
        whole_number(max_new_tokens, "max_new_tokens")
    questions, pictured, pictures = dataset.remove_columns("image").to_list(), images != "absent", Pictures(dataset)
    prompts = [chat_prompt(processor, format, row["problem"], pictured) for row in questions]
    warn_of_open_thinking(prompts[0])
    picture_of = image_rows(questions, images, seed, pictures)
    known = model_labels(model, labels)
    limit = max_new_tokens or getattr(model.generation_config, "max_new_tokens", None) or 256
    asked = hashlib.sha256(repr([(row["id"], prompt) for row, prompt in zip(questions, prompts)]).encode())
    seeded = images == "patches" or "shuffled" in images
    settings = {"format": format.name, "images": images, "seed_of_images": seed if seeded else None}
    settings |= {"questions": asked.hexdigest()[:16], "limit": limit, "weights": weights_digest(model)}
    settled = truth(stop_at_answer, "stop_at_answer") and format.blocks in (("answer",), ("answer", "think"))
    stopped = partial(answer_closed, format=format) if settled else None
    settings |= ({"stop_at_answer": True} if stopped else {}) | ({"engine": engine} if engine else {})
    drawn = {"samples": samples, "temperature": temperature, "seed": seed, "batch_size": batch_size} if samples else {}
    what = "predict" if images == "right" else f"predict: {images} images"
    copies = samples or 1  # rows a question: its first is number copies * i
    done = AnswersSoFar(beside, settings | drawn | known, copies * len(questions), what, share)
    open_ones = [i for i in range(len(questions)) if samples or i not in done]  # a batch is drawn as a whole
    order = reading_order(open_ones, prompts, questions, picture_of)
    both = sample_of(order) if engine else []

    def shown(batch: Sequence[int]) -> list[Any]:
        if not pictured:
            return [None] * len(batch)
        found = pictures([picture_of[i] for i in batch])
        if images != "patches":
            return found
        names = [questions[i]["image_id"] for i in batch]  # one order for all questions about an image
        moved = {name: patches_moved(one, processor, [seed, *name.encode()]) for name, one in zip(names, found)}
        return [moved[name] for name in names]

    def asked_of(answer: Answers, batch: Sequence[int]) -> list[tuple[str, int]]:
        return list(answer([prompts[i] for i in batch], shown(batch)))

    heat = temperature if samples else None
    with plain_decoding(model, processor, limit, heat), closing(done), ExitStack() as started:
        answer, ours = answerer(model, processor, limit, stopped, heat, pictured), {}
        if both:
            ours = dict(zip(both, asked_of(answer, both)))
            answer = started.enter_context(vllm_answers(model, processor, limit, end_tokens(model, processor)))
        for batch in done.share(order, batch_size):
            rows = [copies * i + j for i in batch for j in range(copies)]
            if done.keys() >= set(rows):
                continue
            with drawing(model, seed, rows) if samples else nullcontext():
                said = asked_of(answer, [row // copies for row in rows])
            for row, (text, n_tokens) in zip(rows, said):
                if row not in done:
                    done.add(row, text, n_tokens)
        done.complete()
    table = [answer_row(questions[row // copies], format, known, *done[row], stopped) for row in range(len(done))]
    frame = pd.DataFrame(table, columns=list(PREDICTIONS))
    if samples:
        frame.insert(list(frame).index("step") + 1, "sample", [row % copies for row in range(len(done))])
    frame.attrs |= {"engine": held_against(ours, done, questions, format)} if engine else {}
    return frame, done


def write_predictions(frame: pd.DataFrame, output: Path | None) -> None:
    """Write a table of predictions as a whole, in place of an earlier one; nowhere for None."""
    if output is not None:
        replace_file(output, frame.to_parquet(index=False))


def chat_prompt(processor: ProcessorMixin, format: ResponseFormat, problem: str, image: bool = True) -> str:
    """Return the text that a model reads: the user turn, image first, in its chat template, up to its own turn."""
    return user_turn(processor, format.prompt(problem), image)


def model_labels(model: PreTrainedModel, labels: Mapping[str, Any] | Run | None) -> dict[str, Any]:
    """Return who answers, as in :func:`predict`: from the run that trained the model, overridden by ``labels``."""
    given = labels.labels if isinstance(labels, Run) else labels or {}
    if not isinstance(given, Mapping):
        raise DataError(f"labels is {kind(labels)}; give a dict of {', '.join(LABELS)}, or a run")
    known = dict.fromkeys(LABELS) | origin_of(model).labels | dict(given)
    if extra := set(known) - set(LABELS):
        raise DataError(f"unknown labels {sorted(map(str, extra))}; use {', '.join(LABELS)}")
    return label_values(known, tuple(METHODS))


def answer_closed(text: str, format: ResponseFormat = NO_THINK) -> bool:
    """Return whether a text that began with its answer has closed its answer block, thinking apart.

    What follows cannot change the letter any more, except by a second answer block.

    >>> answer_closed("<answer>B</answer>"), answer_closed("<answer>B"), answer_closed("<think><answer>B</answer>")
    (True, False, False)
    """
    opened, closed = format.marks("answer")
    before, closing, _ = text.partition(closed)
    return bool(closing) and opened in before and format.marks("think")[0] not in before


def answer_row(
    question: dict, format: ResponseFormat, labels: dict, text: str, n_tokens: int, stopped=None
) -> dict[str, Any]:
    """Return a row of predictions: the question, who answered, and what is read from the text.

    Args:
        question: a row of :mod:`medr1kit.vqa`.
        format: by which the text is read.
        labels: as :func:`model_labels` returns them.
        text, n_tokens: the answer.
        stopped: a function of a text, true where it was ended at its answer; None: none was.
    """
    parsed = format.parse(text, question["options"])
    cut = stopped is not None and stopped(text)  # what would have followed is not known
    read = {
        "format": format.name,
        "text": text,
        "think": None if cut else parsed.think,
        "predicted": parsed.answer,
        "lenient_predicted": parsed.lenient_answer,
        "correct": parsed.answer == question["answer"],
        "well_formed": None if cut else parsed.well_formed,
        "n_tokens": n_tokens,
    }
    return {**{name: question.get(name) for name in PREDICTIONS}, **labels, **read}


def predictions_file(output: object, name: str = "output") -> Path:
    """Return the file to write, on a file system that locks files.

    Args:
        output: what was given.
        name: the argument's.

    Raises:
        DataError: if it cannot be written there, or something else than predictions is there: not ours to replace.
    """
    import pyarrow.parquet

    path = output_file(output, name, (".parquet",))
    refuse_without_locks(path.parent)
    try:
        ours = {"id", "text", "predicted"} <= set(pyarrow.parquet.read_schema(path).names)
    except (OSError, ValueError):  # not there, empty, or left half-written by an earlier version
        ours = not path.is_file() or path.read_bytes()[:4] in (b"", b"PAR1")
    if not ours:
        raise DataError(f"{path} is there and holds no predictions; choose another name for {name}")
    return path
