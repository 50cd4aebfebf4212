"""What each training changed: its answers against those of the untrained base to the same questions.

A gain is told apart twice: on what was trained and on everything else, and as form and answers
(:func:`medr1kit.compare`), because a model that learns to write its tags gains accuracy without learning medicine.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.compare import Comparison, compare
from medr1kit.results.errors.kinds import WHO
from medr1kit.views.html import escape, table
from medr1kit.vqa import DataError

_COLUMNS = (
    *("method", "format", "trained on", "tested on", "gain, points", "95 %", "from form", "from answers"),
    *("before", "after", "fixed", "broken", "p", "questions", "seeds"),
)


def gains_table(preds: pd.DataFrame) -> str:
    """Return a table of paired gains over the base of the same model and format; empty where there is none."""
    untrained, several = preds["method"].eq("base"), preds["model"].nunique() > 1
    bases = dict(list(preds[untrained].groupby(["model", "format"], observed=True)))
    groups = preds[~untrained].groupby([*WHO], dropna=False, sort=False, observed=True) if bases else []
    rows, refused = [], []
    for (model, *trained, method, format), after in progress(list(groups), "comparing with the base", unit="model"):
        named = [name for name in trained if isinstance(name, str) and name != "all"]
        who = [*([model] if several else []), method, format, ", ".join(named) or "all"]
        for place, some in _places(after, trained):
            try:
                change = compare(bases[model, format], some)
            except (DataError, KeyError) as error:
                refused.append(
                    f"{', '.join(who)}: {error if isinstance(error, DataError) else 'no base to compare with'}"
                )
                break
            rows.append([*map(escape, (*who, place)), *_cells(change)])
    said = "".join(f'<p class="mk-warn">{escape(sentence)}</p>' for sentence in refused)
    return said + table(rows, [*(["model"] if several else []), *_COLUMNS], "gains") if rows else ""


def _places(after: pd.DataFrame, trained: list) -> Iterator[tuple[str, pd.DataFrame]]:
    """What was trained and everything else; all together where what was trained has no name."""
    inside = pd.Series(True, index=after.index)
    for column, name in zip(("modality", "task"), trained):
        if isinstance(name, str) and name != "all":
            inside &= after[column].eq(name)
    if inside.all():
        yield "all questions", after
        return
    if inside.any():
        yield "the same", after[inside]
    yield "all others", after[~inside]


def _cells(change: Comparison) -> list[str]:
    limits = "–" if pd.isna(change.low) else f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    points = [f"{100 * share:+.1f}" for share in (change.difference, change.repaired_format, change.changed_answer)]
    shares = [f"{100 * share:.1f} %" for share in (change.accuracy_before, change.accuracy_after)]
    counts = [f"{n:,}" for n in (change.fixed, change.broken)]
    p = "–" if pd.isna(change.p) else "< 0.001" if change.p < 0.001 else f"{change.p:.3f}"
    return [points[0], limits, *points[1:], *shares, *counts, p, f"{change.n:,}", f"{change.seeds}"]
