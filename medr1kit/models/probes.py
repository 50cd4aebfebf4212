"""Probes: does the model look, does it favour a place, does it hang on the wording?

An accuracy answers none of these. Each probe asks the same questions once more with one thing changed::

    visual_reliance        the picture: none, blank, another one, …      a model that looks loses by it
    position_bias          the order of the options: all rotations       a model that means a text follows it
    prompt_sensitivity     the instruction: training, evaluation, …      a model that understands does not mind

The tables come from :mod:`medr1kit.results.perturbations`, which needs no torch. All intervals are 95 %; where several
questions share an image they count images, not questions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import choice, kind, questions_given, whole_number
from medr1kit.models.predict import predict
from medr1kit.models.shown import IMAGES, followed_letter, image_rows
from medr1kit.progress import part_of_work
from medr1kit.results.perturbations import against, followed, position_table, rotate_options
from medr1kit.results.tables import check_predictions
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

_STEPS = "Think through the question step by step in <think>...</think> tags."
_LETTER = "the correct single-letter choice (A, B, C, D,...)"
_TAGS = "inside <answer>...</answer> tags."
_REASON = "Then explain step by step why this choice is correct in <think>...</think> tags."
_README = "First output the thinking process in <think> </think> "
_README += "and final choice (A, B, C, D ...) in <answer> </answer> tags."
WORDINGS: dict[str, dict[str, str]] = {
    "think-before": {"evaluation": f"{_STEPS} Then provide {_LETTER} {_TAGS}", "readme": _README},
    "no-think": {"evaluation": f"Provide {_LETTER} {_TAGS}", "zero-shot": f"Provide {_LETTER}."},
    "think-after": {"evaluation": f"Provide {_LETTER} {_TAGS} {_REASON}"},
}
"""Other wordings of the three formats' instructions. Verbatim from Med-R1's repository: "evaluation" (its scripts
``test_qwen2vl_vqa.py`` and ``…_nothink.py``), "zero-shot" (``…_zero_shot.py``; it asks for no tags) and "readme" (the
inference example). Think-after is not in that repository; its wording is ours, in the same style."""


def visual_reliance(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    images: Sequence[str] = IMAGES,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
    seed: int = 0,
    right: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Answer the same questions with the right image, with none, a blank one, its tiles moved, and three wrong ones.

    A model that looks loses accuracy when the picture is taken away; one that does not was reading the text. No picture
    and a blank one are like nothing the model has seen; a shuffled one is ordinary and wrong, so it is the better
    control (arXiv 2509.23499). Shuffled over the whole data set it does not even tell the modality; the nearest one of
    the same modality with another gold is the hardest. Moved tiles leave colours and textures, and no shapes larger
    than a tile: who loses nothing by it does not need to know where things are. An image that no other can replace
    stays, and a warning counts the questions about it. The field's names of these numbers:
    :func:`medr1kit.reliance_names`.

    Costs one :func:`medr1kit.predict` a kind of image, so choose among them where that is dear.

    Args:
        model, processor, dataset, format, batch_size, max_new_tokens: as in :func:`medr1kit.predict`.
        images: the kinds of image, words of :func:`medr1kit.predict`; "right" is always among them.
        seed: for shuffling images and tiles.
        right: predictions of this very call on the right images, if they are there already.

    Returns:
        A row a kind, "right" first: ``images``, ``n``, ``accuracy``, ``low``, ``high``; ``flipped`` (share of answers
        that differ from those on the right images), ``flipped_low``, ``flipped_high``; ``lost``, ``lost_low``,
        ``lost_high``: accuracy on the right images minus this one, paired. With "nearest" also ``follows``: of the
        ``compared`` questions among whose options the nearest picture's gold stands, the share answered with it, which
        is wrong; ``follows_low``, ``follows_high``. The other rows say how often that is answered without its picture.

    Raises:
        DataError: if the data set has no images or no rows, ``images`` names none, or ``right`` answers other
            questions.
    """
    if isinstance(images, str) or not images:
        raise DataError(f"images is {kind(images)}; give kinds of image, such as ('blank', 'shuffled')")
    for name in images:
        choice(name, "images", IMAGES)
    dataset = questions_given(dataset, images=True)
    settings = {"format": format, "batch_size": batch_size, "max_new_tokens": max_new_tokens, "seed": seed}
    if right is None:
        right = predict(model, processor, dataset, **settings)
    right = check_predictions(right)
    if list(right["id"]) != list(dataset["id"]):
        raise DataError(
            "right= answers other questions than dataset holds, or in another order; leave it out, or predict anew"
        )
    alone = _warn_alone(right, images)
    wrong = _letters_of_nearest(dataset, alone) if "nearest" in images else None
    rows = []
    for name in dict.fromkeys(("right", *images)):
        preds = right if name == "right" else predict(model, processor, dataset, images=name, **settings)
        row = {"images": name} | against(preds, right)
        gained = [row.pop(column) for column in ("difference", "difference_high", "difference_low")]
        row |= {column: 0.0 - gain for column, gain in zip(("lost", "lost_low", "lost_high"), gained)}
        rows.append(row if wrong is None else row | followed(preds, wrong, "compared"))
    return pd.DataFrame(rows)


def _warn_alone(preds: pd.DataFrame, images: Sequence[str]) -> pd.Series:
    """Which questions are about the only image of their modality; said aloud where that matters."""
    alone = preds.groupby("modality", dropna=False)["image_id"].transform("nunique") == 1
    kept = [name for name in ("shuffled", "nearest") if name in images]
    if alone.any() and kept:
        names = ", ".join(preds["modality"][alone].fillna("unknown").unique())
        warnings.warn(
            f"{int(alone.sum())} of {len(preds)} questions are about the only image of their modality ({names}), and "
            f"keep it ({', '.join(kept)}); give more images of it, or leave these questions out",
            stacklevel=3,
        )
    return alone


def _letters_of_nearest(dataset: Dataset, alone: pd.Series) -> list[str | None]:
    """For each question the wrong letter that the nearest picture is gold for; None where it is no option's."""
    from medr1kit.models.shared_prefix.vision import Pictures

    questions = dataset.remove_columns("image").to_list()
    nearest = image_rows(questions, "nearest", 0, Pictures(dataset))
    same = [i == other for i, other in enumerate(nearest)]
    if stays := sum(same) - int(alone.sum()):
        warnings.warn(
            f"for {stays} of {len(same)} questions no other image of their modality has another gold, and they keep "
            "theirs (nearest); give images with other golds, or leave these questions out",
            stacklevel=3,
        )
    return [None if one else followed_letter(row, questions[j]) for row, j, one in zip(questions, nearest, same)]


def predict_rotated(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    rotations: int | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
) -> pd.DataFrame:
    """Answer every question once in each rotation of its options.

    :func:`medr1kit.pass_at_k` lets these answers vote, each for its option's text.

    Args:
        model, processor, dataset, format, batch_size, max_new_tokens: as in :func:`medr1kit.predict`.
        rotations: how often a question is asked, 2 or more; None: as often as it has options. A question is never asked
            more often than that.

    Returns:
        The predictions of all rotations below each other; ``sample`` says by how many places the options were moved on,
        0 first. ``options``, ``answer``, ``text`` and ``predicted`` are those of the rotation.

    Raises:
        DataError: if the data set has no images or no rows, or ``rotations`` is below 2.
    """
    if rotations is not None:
        whole_number(rotations, "rotations", 2)
    dataset = questions_given(dataset, images=True)
    times = min(max(map(len, dataset["options"])), rotations or len(LETTERS))
    settings = {"format": format, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
    asked = []
    for by in range(times):
        with part_of_work(f"rotation {by + 1} of {times}"):
            asked.append(predict(model, processor, rotate_options(dataset, by), **settings).assign(sample=by))
    return pd.concat(asked, ignore_index=True)


def position_bias(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    rotations: int | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
) -> pd.DataFrame:
    """Ask every question with its options rotated: does the answer follow the option, or stay at its letter?

    Costs one :func:`medr1kit.predict` a rotation.

    Args:
        model, processor, dataset, format, batch_size, max_new_tokens: as in :func:`medr1kit.predict`.
        rotations: as in :func:`predict_rotated`; None has the gold stand at each letter once. With fewer, the
            accuracies by letter are of different questions.

    Returns:
        What :func:`medr1kit.results.perturbations.position_table` makes of :func:`predict_rotated`: share of each
        chosen letter, accuracy by the gold's letter, share of questions with the same option text chosen in all
        rotations, and right in all; each with its interval and the value of guessing evenly.

    Raises:
        DataError: if the data set has no images or no rows, or ``rotations`` is below 2.
    """
    settings = {"format": format, "rotations": rotations, "batch_size": batch_size, "max_new_tokens": max_new_tokens}
    return position_table(predict_rotated(model, processor, dataset, **settings))


def prompt_sensitivity(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    *,
    format: ResponseFormat | str,
    wordings: Mapping[str, str] | None = None,
    batch_size: int = 64,
    max_new_tokens: int | None = None,
) -> pd.DataFrame:
    """Ask the same questions under other wordings of the instruction.

    Med-R1 trains with one wording and evaluates with another, in every mode. What that costs or gives is the
    ``difference`` of the row "evaluation".

    On the built-in tiny model this probe shows only how a model breaks: its tokenizer has *one token* for each of our
    three instructions, and any other wording reaches it as dozens of byte pieces it was never trained on. Its numbers
    say nothing about how sensitive a language model is; use one of the Qwen models for that.

    Args:
        model, processor, dataset, batch_size, max_new_tokens: as in :func:`medr1kit.predict`.
        format: the response format; its own instruction is the row "training".
        wordings: name -> instruction; None takes those of :data:`WORDINGS` for this format.

    Returns:
        A row a wording, "training" first: ``wording``, ``n``, ``accuracy``, ``low``, ``high``; ``flipped`` (share of
        answers that differ from those under "training"), ``flipped_low``, ``flipped_high``; ``difference``,
        ``difference_low``, ``difference_high``: accuracy minus that of "training", paired; ``lenient_accuracy`` (a
        letter without its tags counts, too) and ``well_formed``, which tell a lost format from lost knowledge;
        ``instruction``.

    Raises:
        DataError: if the data set has no images or no rows, a wording is called "training", or there is no other one.
    """
    format = format_named(format)
    wordings = WORDINGS.get(format.name, {}) if wordings is None else wordings
    if not isinstance(wordings, Mapping) or not wordings or "training" in wordings:
        raise DataError("give wordings as name -> instruction, one or more; 'training' is the format's own")
    if other := next((text for text in wordings.values() if not isinstance(text, str) or not text.strip()), None):
        raise DataError(f"an instruction in wordings is {kind(other)}; give its text")
    settings = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    own, rows = None, []
    for name, instruction in {"training": format.instruction, **wordings}.items():
        worded = replace(format, instruction=instruction)
        with part_of_work(f"{name} wording"):
            preds = check_predictions(predict(model, processor, dataset, format=worded, **settings))
        own = preds if own is None else own
        row = {"wording": name} | against(preds, own)
        row["lenient_accuracy"] = (preds["lenient_predicted"] == preds["answer"]).mean()
        rows.append(row | {"well_formed": preds["well_formed"].mean(), "instruction": instruction})
    return pd.DataFrame(rows)
