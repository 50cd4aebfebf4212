"""Repair of the split: training and test that share no image, no patient, and if wanted no source."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.audits.rows import column, file_names, patient_names
from medr1kit.given import number, questions_given, whole_number
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def image_disjoint_split(
    ds: Dataset, test_size: float = 0.2, seed: int = 0, by: str = "image"
) -> tuple[Dataset, Dataset]:
    """Split a data set so that no image, and no patient where patients are known, is on both sides.

    Rows that share an ``image_id`` or a ``patient_id``, directly or through others, are one component and stay
    together; with ``by="source"`` rows that share a ``source`` do, too, and the test set asks about sources that were
    never trained on. Components are drawn in random order, each into the test set if that brings the modality x task
    cells closer to ``test_size`` of their rows; so the proportions hold as well as the components allow.

    Args:
        ds: a Dataset with ``image_id``; ``patient_id`` (empty where unknown), ``modality`` and ``task`` are used when
            they are there.
        test_size: share of the rows that go to the test set, between 0 and 1.
        seed: another seed, another split; the same seed, the same split.
        by: what the two sides must not share: "image" (and patient, where known), "patient" (the same, but each row
            must have its ``patient_id``), or "source" (image, patient and source).

    Returns:
        (train, test), rows in their old order. Images are not decoded.

    Raises:
        DataError: if ``image_id`` (or what ``by`` names) is missing somewhere, or everything hangs together so that one
            side would be empty.
    """
    in_test = rows_to_test(questions_given(ds, "ds", ("image_id",)), test_size, seed, by)
    return ds.select(np.flatnonzero(~in_test)), ds.select(np.flatnonzero(in_test))


def rows_to_test(rows: Any, test_size: float, seed: int, by: str = "image") -> np.ndarray:
    """Return for each row of a Dataset, frame or list whether :func:`image_disjoint_split` puts it in the test set."""
    if not 0 < number(test_size, "test_size", 0, 1) < 1:
        raise DataError(f"test_size is {test_size}; it must lie between 0 and 1")
    seed = whole_number(seed, "seed", 0)
    if len(rows) == 0:
        raise DataError("the data set has no rows; pass data with questions in it")
    if by not in ("image", "patient", "source"):
        raise DataError(f"unknown by={by!r}; use 'image', 'patient' or 'source'")
    components = _components(rows, by)
    names = (column(rows, name, None) or [None] * len(rows) for name in ("modality", "task"))
    cells, _ = pd.factorize(pd.Series(list(zip(*names)), dtype=object))
    in_test = _draw(components, cells, test_size, np.random.default_rng(seed))[components]
    if in_test.all() or not in_test.any():
        raise DataError(
            f"cannot split {len(components)} rows into train and test: they hang together in {components.max() + 1} "
            f"group(s) through shared images, patients{' or sources' if by == 'source' else ''}; too few or too large "
            "for this test_size"
        )
    return in_test


def _components(rows: Any, by: str) -> np.ndarray:
    """The component number of each row: connected over equal image, patient and, if wanted, source."""
    needed = {"image": ("image_id",), "patient": ("image_id", "patient_id"), "source": ("image_id", "source")}[by]
    codes = []
    for name in dict.fromkeys(("image_id", "patient_id", *needed)):
        values = column(rows, name, "the data set" if name in needed else None) or [None] * len(rows)
        values = {"image_id": file_names, "patient_id": patient_names}.get(name, list)(values)  # one thing, one name
        codes.append(pd.factorize(pd.Series(values, dtype=object).replace("", None))[0])  # -1 where unknown
        if name in needed and (codes[-1] < 0).any():
            row = np.flatnonzero(codes[-1] < 0)[0]
            raise DataError(f"row {row} has no {name}; without it nobody can tell which rows share it")
    return linked(*codes)


def linked(*codes: np.ndarray) -> np.ndarray:
    """Return the number of each row's component: rows that share a value, directly or through others, have one.

    Args:
        codes: a column each, (n,) whole numbers, equal where the value is; -1 is no value.

    >>> linked(np.array([0, 0, 1, -1]), np.array([0, 1, 1, -1])).tolist()
    [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, starts, ends, nodes = len(codes[0]), [], [], len(codes[0])
    for column_codes in codes:
        known = np.flatnonzero(column_codes >= 0)
        starts.append(known)
        ends.append(nodes + column_codes[known])  # beside the rows, a node for each value
        nodes += 1 + column_codes.max(initial=-1)
    start, end = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(start), dtype=bool), (start, end)), shape=(nodes, nodes))
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
