"""Tables that come with the package: what others printed, and what was run here once, so that nobody has to again.

Each file in ``published/`` is one table of a paper, a picture or a repository, with its source and what our audit has
to remark: numbers to stand beside one's own and never among them. :func:`~medr1kit.results.tables.score`,
:func:`~medr1kit.results.compare.compare` and :func:`~medr1kit.results.compare.transfer_table` refuse such rows, because
there are no answers behind them. None of these numbers came with an interval or a test.

Each file in ``recorded/`` was written by a command that its README names, and a test holds the prose to the tables::

    clinic/…       the study studies/clinic.yaml, part by part; provenance.json says with what and when
    worlds/…       smaller trainings before it: the two worlds of the phantoms, benchmarks/worlds
    blind_floor    right letters without any picture

They are about a built-in model of 1.9 M weights on phantoms, and show what the machinery does; what a real model does
on real images is for ``medr1kit study run`` to say.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from medr1kit.given import choice
from medr1kit.results.runs import read_parquet
from medr1kit.vqa import DataError

_FOLDER = Path(__file__).parent
_ANSWERS = "answers"
_SHARES = {"points": "difference", "percent": "accuracy"}  # as printed -> in 0..1, as everywhere else


def published(name: str | None = None) -> pd.DataFrame:
    """Return a table of published numbers, or the list of tables.

    Args:
        name: one of the names in the list; None for the list itself.

    Returns:
        The list: ``name``, ``what``, ``rows`` and ``source``. A table: its own columns, then ``published`` (True),
        ``source``, how it was ``read`` and ``remark`` (ours; the authors said none of that). What was printed stays as
        ``percent`` or ``points``, with the share beside it as ``accuracy`` or ``difference``. The two heat maps have a
        row a cell with ``train_modality`` or ``train_task``, ``n_test`` (questions of the published test) and
        ``half_width`` (points: what chance does to the difference of two models of 70 % accuracy with questions of
        their own, 95 %); :func:`~medr1kit.plot_transfer` draws them.

    Raises:
        DataError: if there is no such table.

    >>> heat_map = published("med-r1-no-think-minus-think-task")
    >>> cell = heat_map[(heat_map.train_task == "Lesion Grading") & (heat_map.task == "Lesion Grading")].iloc[0]
    >>> float(cell.points), int(cell.n_test), float(cell.half_width)
    (10.09, 436, 6.1)
    """
    files = _files("published")
    index = pd.read_csv(files.pop("index"))
    if name is None:
        tables = [_read(files[table]) for table in index["name"]]
        return index.assign(rows=[len(t) for t in tables], source=["; ".join(t["source"].unique()) for t in tables])
    table = _read(_named(name, files, "published")).fillna({"remark": ""})
    for printed, share in _SHARES.items():
        if printed in table:
            table.insert(table.columns.get_loc(printed) + 1, share, (table[printed] / 100).round(6))
    if "difference" in table:
        table.insert(table.columns.get_loc("difference") + 1, "p_corrected", float("nan"))  # nobody published one
    return table


def recorded(name: str | None = None, **wanted: str | Sequence[str]) -> pd.DataFrame:
    """Return a table of recorded runs, or the list of tables.

    Args:
        name: one of the names in the list, such as "blind_floor" or "clinic/answers"; None for the list itself.
        wanted: the rows to read, by columns of text and their value or values: ``asked="B", part=["", "machine"]``. All
            answers of a study take much memory, those to one set of questions a fraction of it.

    Returns:
        The list: ``name``, ``rows`` and ``columns``. A table: as it was written. Shares are in 0..1; ``seed`` is a
        whole number, missing for the untrained base; ``options`` holds lists, as :func:`medr1kit.predict` returns them.

    Raises:
        DataError: if there is no such table, it names those there are; or no such column or value.

    >>> floor = recorded("blind_floor")
    >>> floor["shortcut"].tolist()
    [0.0, 0.5, 1.0]
    """
    files = _files("recorded")
    if name is None:
        return pd.DataFrame([(key, *_size(path)) for key, path in files.items()], columns=["name", "rows", "columns"])
    table = _read(_named(name, files, "recorded"), wanted)
    if "seed" in table and not pd.api.types.is_integer_dtype(table["seed"]):
        table["seed"] = table["seed"].astype("Int64")
    return table


def _files(kind: str) -> dict[str, Path]:
    """The tables of a folder, by name; the answers to a study's parts are one table, in a folder of its own."""
    found = sorted(path for path in (_FOLDER / kind).rglob("*.*") if path.suffix in (".csv", ".parquet"))
    tables = (path.parent if path.parent.name == _ANSWERS else path for path in found)
    return {path.relative_to(_FOLDER / kind).with_suffix("").as_posix(): path for path in tables}


def _named(name: str, files: dict[str, Path], kind: str) -> Path:
    if not isinstance(name, str) or name not in files:
        near = difflib.get_close_matches(str(name), files, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"no {kind} table {name!r:.60}; {hint}mk.{kind}() lists them")
    return files[name]


def _read(path: Path, wanted: Mapping[str, str | Sequence[str]] | None = None) -> pd.DataFrame:
    """A table, all of it or the rows with the values that are wanted."""
    values = {column: [value] if isinstance(value, str) else list(value) for column, value in (wanted or {}).items()}
    for column in values:
        choice(column, f"column of recorded {path.stem}", _size(path)[1].split(", "))
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        return table[table[list(values)].isin(values).all(axis=1)].reset_index(drop=True) if values else table
    tables = [read_parquet(file, values) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    if not any(map(len, tables)):
        raise DataError(f"recorded {path.stem} has no row with {', '.join(f'{c} in {v}' for c, v in values.items())}")
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _size(path: Path) -> tuple[int, str]:
    """Rows and columns; of predictions without reading them."""
    if path.is_dir():
        sizes = [_size(file) for file in sorted(path.iterdir())]
        return sum(rows for rows, _ in sizes), sizes[0][1]
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_metadata

        found = read_metadata(path)
        return found.num_rows, ", ".join(found.schema.to_arrow_schema().names)
    table = pd.read_csv(path)
    return len(table), ", ".join(table)
