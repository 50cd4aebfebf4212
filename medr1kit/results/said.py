"""A result in words: the same sentences in a terminal and in a notebook, and a small table below them if it has one."""

from __future__ import annotations

import html

import pandas as pd


class Said:
    """What shows itself by :meth:`sentences` and :meth:`shown`, neither as its fields nor as a frame of raw numbers."""

    def sentences(self) -> list[str]:
        """Return what was found, in plain sentences."""
        raise NotImplementedError

    def shown(self) -> pd.DataFrame | None:
        """Return a few rows and columns as a reader is to see them, numbers as text; None: the sentences say it all."""
        return None

    def __repr__(self) -> str:
        table = self.shown()
        return "\n".join([*self.sentences(), *([] if table is None else [table.to_string(index=False)])])

    def _repr_html_(self) -> str:
        said, table = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences()), self.shown()
        return said + ("" if table is None else table.to_html(index=False, border=0))
