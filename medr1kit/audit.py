"""What a score is worth before any model is trained: how far one gets without looking, and what leaks into the test.

Two traps make a medical multiple-choice benchmark look solved. *Wording*: right answers come from a small vocabulary of
classes, wrong ones were made up per question, so whoever counts which texts were right in training needs no image; on
OmniMedVQA this answers 83 to 100 % (:func:`blind_floor`). *Sharing*: several questions ask about one image, and a split
by question puts the same image on both sides (:func:`image_disjoint_split` splits by image).

An accuracy means sight only as far as it stands above the blind floor of the same split.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medr1kit.stats import wilson
from medr1kit.vqa import LETTERS, MODALITIES, DataError

if TYPE_CHECKING:
    from datasets import Dataset

# How strongly an option text starts from "a wrong one of four", in questions (Med-R1 facts, section 1.7).
_PRIOR, _WEIGHT = 0.25, 1.0


@dataclass(frozen=True)
class BlindFloor:
    """Accuracy of answering from the option texts alone; all shares in 0..1.

    Attributes:
        n: test questions.
        chance: mean of 1 / number of options.
        accuracy: of the lookup; a tie between k options counts 1/k.
        low, high: 95 % Wilson interval.
        frame: the same columns, a row per modality (in canonical order, if there is a modality column) and "all".
    """

    n: int
    chance: float
    accuracy: float
    low: float
    high: float
    frame: pd.DataFrame


def blind_floor(train: Any, test: Any) -> BlindFloor:
    """Return the accuracy one reaches on ``test`` by counting, in ``train``, which option texts were right.

    No image, no question, no language model: an option text t scores (times gold + 0.25) / (times seen + 1) over the
    training rows, and the best-scoring option is the answer. Texts are compared in lower case, letters, digits and
    blanks only.

    Args:
        train, test: Datasets, frames or lists of rows with ``options`` (list of texts in letter order) and ``answer``
            (gold letter); ``modality`` is used when the test has it. Images are never decoded.

    Raises:
        DataError: if a column is missing, a table is empty, or a gold letter names no option.

    Source: Med-R1 facts, section 1.7, column "options only, no stem".

    >>> seen = [{"options": ["cyst", "stone"], "answer": "A"}, {"options": ["wall", "cyst"], "answer": "B"}]
    >>> blind_floor(seen, [{"options": ["stone", "Cyst."], "answer": "B"}]).accuracy
    1.0
    """
    seen: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for options, place in _questions(train, "train"):
        seen.update(options)
        gold[options[place]] += 1
    right, chance = [], []
    for options, place in _questions(test, "test"):
        scores = [(gold[text] + _PRIOR * _WEIGHT) / (seen[text] + _WEIGHT) for text in options]
        best = max(scores)
        right.append((scores[place] == best) / scores.count(best))
        chance.append(1 / len(options))
    verdicts = pd.DataFrame({"chance": chance, "accuracy": right})
    modalities = _column(test, "modality", None)
    rows = [] if modalities is None else [
        {"modality": name, **_floor_row(verdicts[names])}
        for name in _modality_order(modalities)
        if (names := np.array([modality == name for modality in modalities])).any()
    ]  # fmt: skip
    total = _floor_row(verdicts)
    return BlindFloor(**total, frame=pd.DataFrame([*rows, {"modality": "all", **total}]))


def _floor_row(verdicts: pd.DataFrame) -> dict[str, float]:
    n = len(verdicts)
    low, high = wilson(verdicts["accuracy"].sum(), n)
    shares = {column: float(verdicts[column].mean()) for column in ("chance", "accuracy")}
    return {"n": n, **shares, "low": low, "high": high}


def _modality_order(names: list[str | None]) -> list[str | None]:
    others = sorted({name for name in names if name is not None} - set(MODALITIES))
    return [*MODALITIES, *others, None]


def _questions(data: Any, name: str) -> list[tuple[list[str], int]]:
    """Normalised option texts and the place of the gold one, a question a row."""
    questions = []
    for row, (options, answer) in enumerate(zip(_column(data, "options", name), _column(data, "answer", name))):
        place = LETTERS.find(answer) if isinstance(answer, str) and len(answer) == 1 else -1
        if options is None or isinstance(options, str) or not 0 <= place < len(options):
            raise DataError(f"{name} row {row}: the answer {answer!r} names none of the options {options!r:.80}")
        questions.append(([_plain(text) for text in options], place))
    if not questions:
        raise DataError(f"{name} has no rows; pass data with questions in it")
    return questions


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]", "", str(text).lower()).split())


def _column(data: Any, column: str, name: str | None) -> list[Any] | None:
    """One column as a list, images left alone. Missing: DataError, or None when ``name`` is None."""
    if hasattr(data, "select_columns"):
        values = list(data.select_columns([column])[column]) if column in data.column_names else None
    elif isinstance(data, pd.DataFrame):
        values = data[column].tolist() if column in data else None
    else:
        rows = list(data)
        values = [row[column] for row in rows] if all(column in row for row in rows) else None
    if values is None and name is not None:
        raise DataError(f"{name} has no column {column!r}; load it with load_vqa")
    return values


def image_disjoint_split(ds: Dataset, test_size: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Split a data set so that no image, and no patient where patients are known, is on both sides.

    Rows that share an ``image_id`` or a ``patient_id``, directly or through others, are one component and stay
    together. Components are drawn in random order, each into the test set if that brings the modality x task cells
    closer to ``test_size`` of their rows; so the proportions hold as well as the components allow.

    Args:
        ds: a Dataset with ``image_id``; ``patient_id`` (empty where unknown), ``modality`` and ``task`` are used when
            they are there.
        test_size: share of the rows that go to the test set, between 0 and 1.
        seed: another seed, another split; the same seed, the same split.

    Returns:
        (train, test), rows in their old order. Images are not decoded.

    Raises:
        DataError: if ``image_id`` is missing somewhere, or everything hangs together so that one side would be empty.
    """
    if not 0 < test_size < 1:
        raise DataError(f"test_size is {test_size}; it must lie between 0 and 1")
    if len(ds) == 0:
        raise DataError("the data set has no rows; pass data with questions in it")
    components = _components(ds)
    absent = [None] * len(components)
    cells, _ = pd.factorize(
        pd.Series(list(zip(*(_column(ds, column, None) or absent for column in ("modality", "task")))), dtype=object)
    )
    in_test = _draw(components, cells, test_size, np.random.default_rng(seed))[components]
    if in_test.all() or not in_test.any():
        raise DataError(
            f"cannot split {len(components)} rows into train and test: they hang together in {components.max() + 1} "
            "group(s) through shared images or patients, too few or too large for this test_size"
        )
    return ds.select(np.flatnonzero(~in_test)), ds.select(np.flatnonzero(in_test))


def _components(ds: Dataset) -> np.ndarray:
    """The component number of each row: connected over equal image_id and equal patient_id."""
    images = _column(ds, "image_id", "the data set")
    for row, image in enumerate(images):
        if image is None or image == "":
            raise DataError(f"row {row} has no image_id; without it nobody can tell which rows share an image")
    n, starts, ends, names = len(images), [], [], 0
    for column in (images, _column(ds, "patient_id", None) or []):
        known = pd.Series(column, dtype=object).replace("", None)
        codes, uniques = pd.factorize(known)  # -1 where unknown
        starts.append(np.flatnonzero(codes >= 0))
        ends.append(n + names + codes[codes >= 0])  # one extra node for each image and each patient
        names += len(uniques)
    start, end = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(start), dtype=bool), (start, end)), shape=(n + names, n + names))
    return pd.factorize(connected_components(graph, directed=False)[1][:n])[0]


def _draw(components: np.ndarray, cells: np.ndarray, test_size: float, rng: np.random.Generator) -> np.ndarray:
    """Choose which components go to the test set: True or False for each.

    The distance to the wanted split is the sum over cells of (rows wanted - rows drawn)² / rows. Components come in
    random order, not the large ones first: that would fill the test set with the images about which most is asked.
    """
    size = np.bincount(cells)
    wanted = test_size * size  # rows still wanted in the test set, by cell
    members: list[Counter[int]] = [Counter() for _ in range(components.max() + 1)]
    for component, cell in zip(components.tolist(), cells.tolist()):
        members[component][cell] += 1
    chosen = np.zeros(len(members), dtype=bool)
    for component in rng.permutation(len(members)):
        counts = members[component].items()
        if sum(count * (2 * wanted[cell] - count) / size[cell] for cell, count in counts) > 0:
            chosen[component] = True
            for cell, count in counts:
                wanted[cell] -= count
    return chosen
