"""Tables of runs that were made once and kept, so that nobody has to train for an hour to read a plot.

Each file in ``recorded/`` was written by a command that its README names, and a test holds the prose to the tables:

    gains, base, rationales, …    the built-in model, three modalities; recorded/README.md
    quick/…                       the quick study, studies/quick.yaml, eight modalities, five tasks; provenance.json

They are about the built-in 1.9 M model on phantoms, and show what the machinery does; what a real model does on real
images is for ``medr1kit study run`` to say.
"""

from __future__ import annotations

import difflib
from pathlib import Path

import pandas as pd

from medr1kit.vqa import DataError

_FOLDER = Path(__file__).parent / "recorded"
_READ = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


def recorded(name: str | None = None) -> pd.DataFrame:
    """Return a table of recorded runs, or the list of tables.

    Args:
        name: one of the names in the list, such as "gains" or "quick/predictions"; None for the list itself.

    Returns:
        The list: ``name``, ``rows`` and ``columns``. A table: as it was written. Shares are in 0..1; ``seed`` is a
        whole number, missing for the untrained base; ``options`` holds lists, as :func:`medr1kit.predict` returns them.

    Raises:
        DataError: if there is no such table; it names those there are.

    >>> gains = recorded("gains")
    >>> sorted(gains["method"].unique())
    ['grpo', 'sft']
    """
    files = {path.relative_to(_FOLDER).with_suffix("").as_posix(): path for path in sorted(_FOLDER.rglob("*.*"))}
    files = {key: path for key, path in files.items() if path.suffix in _READ}
    if name is None:
        sizes = [_size(path) for path in files.values()]
        return pd.DataFrame([(key, n, ", ".join(columns)) for key, (n, columns) in zip(files, sizes)], columns=_LIST)
    if name not in files:
        near = difflib.get_close_matches(str(name), files, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"no recorded table {name!r}{hint} (there are {', '.join(files)})")
    return _read(files[name])


_LIST = ["name", "rows", "columns"]


def _size(path: Path) -> tuple[int, list[str]]:
    """Rows and columns; of predictions without reading them."""
    if path.suffix == ".parquet":
        from pyarrow.parquet import read_metadata

        found = read_metadata(path)
        return found.num_rows, found.schema.to_arrow_schema().names
    table = pd.read_csv(path)
    return len(table), list(table)


def _read(path: Path) -> pd.DataFrame:
    table = _READ[path.suffix](path)
    if "seed" in table and not pd.api.types.is_integer_dtype(table["seed"]):
        table["seed"] = table["seed"].astype("Int64")
    if "options" in table:
        table["options"] = table["options"].map(list)
    return table
