"""Numbers that others printed, to stand beside one's own and never among them.

Each file in ``published/`` is one table of a paper, a picture or a repository, a row a number, with its ``source``
(paper or repository, version, table or picture), how it was ``read``, and what our audit has to ``remark``: the authors
said none of that. Every row carries ``published=True``; :func:`~medr1kit.results.tables.score`,
:func:`~medr1kit.results.compare.compare` and :func:`~medr1kit.results.compare.transfer_table` refuse such rows, because
there are no answers behind them. None of these numbers came with an interval or a test.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from medr1kit.vqa import DataError

_FOLDER = Path(__file__).parent / "published"
_SHARES = {"points": "difference", "percent": "accuracy"}  # as printed -> in 0..1, as everywhere else


def published(name: str | None = None) -> pd.DataFrame:
    """Return a table of published numbers, or the list of tables.

    Args:
        name: one of the names in the list; None for the list itself.

    Returns:
        The list: ``name``, ``what``, ``rows`` and ``source``. A table: its own columns, then ``published`` (True),
        ``source``, ``read`` and ``remark`` (ours). What was printed stays as ``percent`` or ``points``, with the share
        beside it as ``accuracy`` or ``difference``. The two heat maps have a row a cell with ``train_modality`` or
        ``train_task``, ``n_test`` (questions of the published test) and ``half_width`` (points: what chance does to the
        difference of two models of 70 % accuracy with questions of their own, 95 %);
        :func:`~medr1kit.views.plots.plot_transfer` draws them.

    Raises:
        DataError: if there is no such table.

    >>> heat_map = published("med-r1-no-think-minus-think-task")
    >>> cell = heat_map[(heat_map.train_task == "Lesion Grading") & (heat_map.task == "Lesion Grading")].iloc[0]
    >>> float(cell.points), int(cell.n_test), float(cell.half_width)
    (10.09, 436, 6.1)
    """
    index = pd.read_csv(_FOLDER / "index.csv")
    if name is None:
        tables = [_read(table) for table in index["name"]]
        return index.assign(rows=[len(t) for t in tables], source=["; ".join(t["source"].unique()) for t in tables])
    if name not in set(index["name"]):
        near = difflib.get_close_matches(str(name), index["name"], n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"no published table {name!r}{hint} (mk.published() lists all of them)")
    table = _read(name)
    for printed, share in _SHARES.items():
        if printed in table:
            table.insert(table.columns.get_loc(printed) + 1, share, (table[printed] / 100).round(6))
    if "difference" in table:
        table.insert(table.columns.get_loc("difference") + 1, "p_corrected", float("nan"))  # nobody published one
    return table


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(_FOLDER / f"{name}.csv").fillna({"remark": ""})
