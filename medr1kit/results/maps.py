"""Heat maps of transfer: which maps a set of predictions holds, their numbers, and the answers behind a cell.

A map has a row for what was trained on and a column for what was tested. Its numbers are those of
:func:`medr1kit.results.compare.transfer_table` or :func:`medr1kit.results.compare.compare_modes`, corrected for this
map.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from medr1kit.formats import FORMATS
from medr1kit.results.compare import gains, modes
from medr1kit.results.pairs import LIMITS
from medr1kit.results.tables import VERDICT, check_predictions
from medr1kit.vqa import DataError

_LABELS = ("method", "format", "model", "modality", "task", "train_modality", "train_task")
_NEEDED = ("id", "seed", "step", *_LABELS, *VERDICT)


@dataclass(frozen=True)
class Map:
    """One heat map that can be drawn.

    Attributes:
        by: "modality" or "task".
        method, model: who was trained.
        formats: one format: trained minus untrained base; two: accuracy in the first minus accuracy in the second.
    """

    by: str
    method: str
    model: str
    formats: tuple[str, ...]

    @property
    def name(self) -> str:
        """What is drawn, in words."""
        other = self.formats[1] if self.compares_formats else "base"
        return f"{self.method}: {self.formats[0]} minus {other}, by {self.by} ({self.model})"

    @property
    def compares_formats(self) -> bool:
        """Whether it is the difference of two formats, as in the published maps."""
        return len(self.formats) == 2

    @property
    def train(self) -> str:
        """The column that says what a model was trained on."""
        return f"train_{self.by}"


def maps_of(preds: pd.DataFrame) -> list[Map]:
    """Return the maps that predictions hold: gains first, then differences of two formats.

    Args:
        preds: predictions, made :func:`slim`; as in all functions here.

    Raises:
        DataError: if no model was trained on one modality or task.
    """
    trained = preds[preds["method"] != "base"]
    trainings, pairs = [], []
    for by in ("modality", "task"):
        named = trained[trained[f"train_{by}"].notna() & trained[by].notna()]
        for (method, model), rows in named.groupby(["method", "model"], sort=False, dropna=False, observed=True):
            there = set(rows["format"].dropna())
            formats = [name for name in [*FORMATS, *sorted(there - FORMATS.keys())] if name in there]
            trainings += [Map(by, method, model, (name,)) for name in formats]
            pairs += [Map(by, method, model, pair[::-1]) for pair in combinations(formats, 2)]
    if not trainings:
        raise DataError(
            "no model in the predictions was trained on one modality or task: give predictions of several trained "
            "models, with train_modality or train_task, below each other, and those of the base"
        )
    return trainings + pairs


def slim(preds: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that maps are made of, names as categories, rows numbered from 0: small, and quick to filter.

    Raises:
        DataError: if columns are missing, or a row does not say which question it answers, by which model and method.
    """
    preds = check_predictions(preds, [*_NEEDED, "patient_id"])
    rows = preds[[*_NEEDED, "patient_id"]]
    for column in ("model", "method"):
        if (missing := rows[column].isna().to_numpy()).any():
            raise DataError(f"predictions row {int(missing.argmax())} has no {column}; every row needs one")
    return rows.astype(dict.fromkeys(_LABELS, "category"))


def map_table(preds: pd.DataFrame, chosen: Map) -> pd.DataFrame:
    """Return a map's cells.

    Args:
        preds: slim predictions.
        chosen: one of :func:`maps_of`.

    Returns:
        A row a cell, with the numbers of :func:`medr1kit.results.compare.transfer_table` or
        :func:`medr1kit.results.compare.compare_modes` under the same names for both: ``train_<by>``, ``<by>``, ``n``
        (questions), ``seeds``, ``accuracy``, ``before`` (of the base, or in the second format), ``difference``,
        ``low``, ``high``, ``low_seeds``, ``high_seeds``, ``p``, ``cluster``; ``low_corrected``, ``high_corrected``,
        ``p_corrected`` (for the whole map, by max-T); gains also ``accuracy_low``, ``accuracy_high`` and ``fault``, why
        a cell cannot be compared. ``sides`` has the rows of ``preds`` behind the cell, those before and those after.
    """
    base, same = preds["method"].eq("base"), preds["model"].eq(chosen.model)
    rows = preds[(base | preds["method"].eq(chosen.method) & same) & preds["format"].isin(chosen.formats)]
    if chosen.compares_formats:
        table = modes(rows[rows["model"].eq(chosen.model)], *chosen.formats, chosen.by)
        table = table.rename(columns={"accuracy_one": "accuracy", "accuracy_other": "before"})
    else:
        names = {"low": "accuracy_low", "high": "accuracy_high", "base_accuracy": "before"}
        table = gains(rows, chosen.by).rename(columns=names | {f"difference_{name}": name for name in LIMITS})
    index = rows.index.to_numpy()
    return table.assign(sides=[[index[side] for side in sides] for sides in table["sides"]])


def cell_numbers(table: pd.DataFrame, chosen: Map, train: str, test: str) -> dict | None:
    """Return the numbers of one cell of :func:`map_table`; None if the map has no such cell.

    Raises:
        DataError: if the cell cannot be compared.
    """
    found = table[(table[chosen.train] == train) & (table[chosen.by] == test)]
    if found.empty:
        return None
    cell = found.iloc[0].to_dict()
    if fault := cell.pop("fault", ""):
        raise DataError(fault)
    return cell


def cell_answers(preds: pd.DataFrame, chosen: Map, cell: dict | None) -> tuple[list[np.ndarray], list[str], object]:
    """Return which answers are behind a cell: those before (where there are any) and after, by their place in
    ``preds``; what to call them; and the seed. Of several seeds the first is taken.

    Args:
        preds, chosen: as in :func:`map_table`.
        cell: from :func:`cell_numbers`.
    """
    if cell is None:
        return [], [], None
    names = chosen.formats[::-1] if chosen.compares_formats else ("base", f"trained on {cell[chosen.train]}")
    seed = preds["seed"].iloc[cell["sides"][1][0]]
    kept = [(_of_seed(preds, side, seed), name) for side, name in zip(cell["sides"], names) if len(side)]
    return [side for side, _ in kept], [name for _, name in kept], seed


def _of_seed(preds: pd.DataFrame, side: np.ndarray, seed: object) -> np.ndarray:
    ids = preds["id"].to_numpy()[side]
    if len(pd.unique(ids)) == len(ids):
        return side
    seeds = preds["seed"].iloc[side]
    return side[seeds.eq(seed if seeds.eq(seed).any() else seeds.iloc[0]).to_numpy(bool, na_value=False)]
