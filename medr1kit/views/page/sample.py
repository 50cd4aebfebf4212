"""Which questions are embedded, and their images, each once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from medr1kit.views.pictures import Pictures


def sample_ids(preds: pd.DataFrame, n: int, seed: int) -> list[str]:
    """Return the ids of n questions, as many of each modality and task as of any other, as far as there are.

    Args:
        preds: predictions.
        n: how many; all ids if there are no more.
        seed: decides which; the same ids, whatever order the predictions come in.

    >>> rows = pd.DataFrame({"id": ["a", "b", "c", "d"], "modality": ["CT", "CT", "CT", "MRI"], "task": None})
    >>> len(sample_ids(rows, 2, seed=0)), "d" in sample_ids(rows, 2, seed=0)
    (2, True)
    """
    asked = preds.drop_duplicates("id").sort_values("id")
    order = np.random.default_rng(seed).permutation(len(asked))
    mixed = asked.iloc[order]
    turn = mixed.groupby(["modality", "task"], dropna=False, sort=False, observed=True).cumcount()
    return mixed.loc[turn.sort_values(kind="stable").index, "id"].head(n).tolist()


class Gallery(Pictures):
    """Pictures that are kept once each, in ``images``; where one belongs, a page has its number."""

    def __init__(self, data=None) -> None:
        super().__init__(data)
        self.images: list[str] = []
        self._numbers: dict[str, int] = {}

    def html(self, row: Mapping, size: int = 224) -> str:
        """Return the place of a row's image: ``<span data-image="7">``, to be filled with ``images[7]``."""
        key = str(row["image_id"])
        if key not in self._numbers:
            self._numbers[key] = len(self.images)
            self.images.append(super().html(row, size))
        return f'<span data-image="{self._numbers[key]}"></span>'
