"""What each training changed: its answers against those of the untrained base to the same questions.

A gain is told apart twice: on what was trained and on everything else, and as form and answers
(:func:`medr1kit.compare`), because a model that learns to write its tags gains accuracy without learning medicine.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.compare import Comparison, compare
from medr1kit.results.tables import WHO
from medr1kit.views.html import escape, table
from medr1kit.vqa import DataError

_LEGEND = (
    "Each model against the untrained base, on the questions that both answered: points gained, by form where the "
    "letter stayed (leniently read), by answers where it changed. An interval is for its own row, uncorrected."
)
_COLUMNS = (
    *("method", "format", "trained on", "tested on", "gain, points", "95 %", "by form", "by answers"),
    *("fixed", "broken", "questions", "seeds"),
)


def gains_table(preds: pd.DataFrame) -> str:
    """Return a table of paired gains over the base of the same model and format; empty where there is none."""
    untrained, several = preds["method"].eq("base"), preds["model"].nunique() > 1
    bases = dict(list(preds[untrained].groupby(["model", "format"], observed=True)))
    groups = preds[~untrained].groupby(list(WHO), dropna=False, sort=False, observed=True)
    groups = [(who, after) for who, after in groups if (who[0], who[-1]) in bases]
    rows, refused = [], []
    for (model, *trained, method, format), after in progress(groups, "comparing with the base", unit="model"):
        names = {by: name for by, name in zip(("modality", "task"), trained) if isinstance(name, str) and name != "all"}
        who = [*([model] if several else []), method, format, ", ".join(names.values()) or "all"]
        inside = np.logical_and.reduce([after[by].eq(name) for by, name in names.items()]) if names else None
        places = {"all": after} if inside is None else {"the same": after[inside], "all others": after[~inside]}
        for place, some in places.items():
            try:
                if len(some):
                    rows.append([*map(escape, (*who, place)), *_cells(compare(bases[model, format], some))])
            except DataError as error:
                refused.append(f'<p class="mk-warn">{escape(" ".join(who))}, {place}: {escape(error)}</p>')
    head = [*(["model"] if several else []), *_COLUMNS]
    said = f"<p><small>{escape(_LEGEND)}</small></p>{''.join(refused)}"
    return said + table(rows, head, "gains") if rows else ""


def _cells(change: Comparison) -> list[str]:
    gain, form, answers = (
        f"{100 * share:+.1f}" for share in (change.difference, change.repaired_format, change.changed_answer)
    )
    limits = "–" if pd.isna(change.low) else f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    return [gain, limits, form, answers, *(f"{n:,}" for n in (change.fixed, change.broken, change.n, change.seeds))]
