"""A ceiling beside the floor: what can be read off the picture's features without the language model.

A wrong answer has two causes. Either the vision tower does not see it, and then no training of the language model
helps; or it is seen and not said::

    image ── vision tower ──┬── merger ──┬── language model ── answer
                            │            │
                      ceiling-tower  ceiling-merger      a linear probe each: which option's words go with it?

What a probe reads is there. What it does not read may still be there, tangled up, or shown by too few training
questions; so this is a ceiling for what is *easily* seen, and a model can stand above it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from medr1kit.formats import NO_THINK
from medr1kit.given import questions_given
from medr1kit.models.choices import Asked, choose
from medr1kit.models.decoding import evaluating
from medr1kit.models.load import base_of, pair_given
from medr1kit.models.predict import answer_row, model_labels
from medr1kit.progress import progress
from medr1kit.results.numbers import count
from medr1kit.results.tables import PREDICTIONS, columns_given
from medr1kit.vqa import LETTERS, DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, ProcessorMixin

FEATURES = ("tower", "merger")
_ASKS_WHAT_IS_NOT = re.compile(r"\b(not|except)\b", re.IGNORECASE)
_AT_ONCE = 64  # images


def ceiling(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    train: Dataset,
    test: Dataset,
    *,
    by: str | Sequence[str] = "task",
) -> pd.DataFrame:
    """Answer ``test`` by linear probes of the vision tower and of the merger, which ``train`` has taught.

    Each kind of question has a probe of its own. It reads mean, maximum and minimum of the features over the picture,
    and predicts the *text* of the right option, word by word, never its letter (:mod:`medr1kit.models.choices`). The
    language model is not asked. What counting words alone reaches a probe reaches, too: set it beside
    :func:`medr1kit.blind_floor`.

    Args:
        model, processor: as in :func:`medr1kit.predict`.
        train: questions with images that teach the probes; a few hundred of a kind, about other images than ``test``.
        test: questions with images to be answered.
        by: the column(s) that make a kind of question. Questions that ask what is *not* are kinds of their own.

    Returns:
        Predictions, a row a question of ``test`` with ``method`` "ceiling-tower", and as many with "ceiling-merger". A
        choice is written down as a no-think answer would be. A question of whose options no word was ever in a right
        answer of its kind is not answered: it counts as wrong, and a warning says how many there are.

    Raises:
        DataError: if one of the data sets has no images or no rows, ``by`` names a column that one lacks, or model and
            processor are none.
    """
    names = columns_given(by)
    train, test = (questions_given(d, name, images=True) for d, name in ((train, "train"), (test, "test")))
    for name, dataset in (("train", train), ("test", test)):
        if missing := [column for column in names if column not in dataset.column_names]:
            raise DataError(f"by={missing[0]!r}: {name} has no such column; name others, or [] for one kind")
    pair_given(model, processor)
    labels = model_labels(model, None)
    seen, asked = (dataset.remove_columns("image").to_list() for dataset in (train, test))
    if shared := len({row["image_id"] for row in asked} & {row["image_id"] for row in seen}):
        said = f"{count(shared, 'image')} of test are in train, too, and a probe may remember them"
        warnings.warn(f"{said}; mk.image_disjoint_split parts them", stacklevel=2)
    numbers = [_features(model, processor, dataset, name) for dataset, name in ((train, "train"), (test, "test"))]
    kinds = [np.array([_kind(row, names) for row in rows], dtype=object) for rows in (seen, asked)]
    table = []
    for feature, taught, shown in zip(FEATURES, *numbers):
        places = np.full(len(asked), -1)
        for kind in dict.fromkeys(kinds[1]):
            of_train, of_test = (np.flatnonzero(side == kind) for side in kinds)
            if len(of_train):
                places[of_test] = choose(_asked(seen, taught, of_train), _asked(asked, shown, of_test))
        known = labels | {"method": f"ceiling-{feature}"}
        texts = ("" if place < 0 else NO_THINK.write(LETTERS[place]) for place in places)
        table += [answer_row(row, NO_THINK, known, text, 0) for row, text in zip(asked, texts)]
    frame = pd.DataFrame(table, columns=list(PREDICTIONS))
    if unread := int(frame["predicted"].isna().sum()) // len(FEATURES):
        said = f"{unread} of {len(asked)} questions have no option of which a word was right in train, for their kind"
        warnings.warn(f"{said}; they count as wrong. Give more training questions, or another by=", stacklevel=2)
    return frame


def _kind(row: dict, names: Sequence[str]) -> str:
    """What makes a kind of question, as one text."""
    return repr((*(row[name] for name in names), bool(_ASKS_WHAT_IS_NOT.search(row["question"]))))


def _asked(rows: list[dict], numbers: np.ndarray, places: np.ndarray) -> Asked:
    chosen = [rows[place] for place in places]
    gold = [LETTERS.index(row["answer"]) for row in chosen]
    groups = [row.get("patient_id") or row["image_id"] for row in chosen]
    return Asked(numbers[places].astype(float), [row["options"] for row in chosen], gold, groups)


def _features(model, processor, dataset: Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What describes each question's picture before and after the merger, (questions, 3 x width) each."""
    from medr1kit.models.shared_prefix.prompts import cut_up
    from medr1kit.models.shared_prefix.vision import CPU_PATCHES, Pictures, VisionFeatures, names_of

    core, shown = base_of(model).model, Pictures(dataset)
    vision, found, digests = VisionFeatures(core), {}, []
    vision.at_once = CPU_PATCHES if core.device.type == "cpu" else 0
    bar = progress(None, f"features of {name}", total=len(dataset), unit="question", delay=0)
    with evaluating(model), bar:
        for start in range(0, len(dataset), _AT_ONCE):
            pictures = shown(range(start, min(start + _AT_ONCE, len(dataset))))
            digests += names_of(pictures)
            new = {digest: picture for digest, picture in zip(digests[start:], pictures) if digest not in found}
            pixels = list(cut_up(processor, new).values())
            pairs = vision.around_merger(pixels) if pixels else []
            found |= {image.digest: list(map(_pooled, pair)) for image, pair in zip(pixels, pairs)}
            bar.update(len(pictures))
    return tuple(np.stack([found[digest][place] for digest in digests]) for place in range(len(FEATURES)))


def _pooled(features) -> np.ndarray:
    """Mean, maximum and minimum over a picture of (places, width)."""
    features = features.float().cpu().numpy()
    return np.concatenate([features.mean(axis=0), features.max(axis=0), features.min(axis=0)])
