"""Two response formats against each other: does it help to think first?

Med-R1's figures show one number a cell: accuracy without thinking minus accuracy with it, by what was trained on and
what was tested on. This is that table on one's own predictions, with what the figures lack: the same questions on both
sides, an interval, a p-value that allows for the number of cells, and the seeds.
"""

from __future__ import annotations

import pandas as pd

from medr1kit.formats import format_named
from medr1kit.results.multiplicity import max_t
from medr1kit.results.stats import mcnemar, paired_difference, pooled_difference
from medr1kit.results.tables import check_clusters, check_predictions, in_canonical_order, same_letter
from medr1kit.vqa import DataError

_NUMBERS = ("n", "seeds", "accuracy_one", "accuracy_other", "difference", "low", "high", "low_seeds", "high_seeds", "p")


def compare_modes(
    preds: pd.DataFrame,
    one: str = "no-think",
    other: str = "think-before",
    by: str = "modality",
    cluster: str | None = None,
) -> pd.DataFrame:
    """Return accuracy in one format minus accuracy in another, by what was trained on and what was tested on.

    Args:
        preds: predictions of models trained and tested in both formats, on the same questions. Rows of the untrained
            base make a row "untrained"; models trained by the other of modality and task are left out; runs that differ
            in nothing but ``seed`` are averaged, seed by seed.
        one, other: the two formats; the difference is ``one`` minus ``other``.
        by: "modality" or "task".
        cluster: a column whose equal values do not count as independent, as in
            :func:`medr1kit.results.compare.compare`; None: the question.

    Returns:
        A row per ``method``, ``model``, ``train_<by>`` and ``<by>`` that both formats answered: ``n`` (questions),
        ``seeds``, ``accuracy_one``, ``accuracy_other``, ``difference`` with ``low`` and ``high`` (95 %, paired) and
        ``low_seeds``, ``high_seeds`` (covering other seeds, too; nan with one), ``p``, ``p_corrected`` (for all rows,
        by max-T) and ``quantity`` (what is drawn). :func:`medr1kit.views.plots.plot_transfer` draws one method of it.

    Raises:
        DataError: if a format is unknown or has no rows, ``by`` is neither, a column is missing, the formats share no
            question, one answers a question twice, or their gold answers disagree.
    """
    if by not in ("modality", "task"):
        raise DataError(f"compare_modes(by={by!r}): a model is trained by 'modality' or by 'task'")
    names = [format_named(name).name for name in (one, other)]
    train, other_train = f"train_{by}", "train_task" if by == "modality" else "train_modality"
    keys = ["method", "model", train, by]
    check_predictions(
        preds, [*keys, other_train, "id", "seed", "format", "answer", "correct", *([cluster] if cluster else [])]
    )
    if cluster:
        check_clusters(preds, cluster)
    base, named = preds["method"].eq("base"), preds[train].notna()
    rows = preds.assign(**{train: preds[train].astype(object).where(named, "all").mask(base, "untrained")})
    rows = rows[base | named | preds[other_train].isna()].copy()
    rows["seed"] = rows["seed"].astype(object).where(rows["seed"].notna(), "-")
    rows["_cluster"] = rows[cluster] if cluster else rows["id"]
    pairs = _pairs(rows, names, [*keys, "seed", "id"])
    found, changes, clusters = [], [], []
    for values, cell in pairs.groupby(keys, dropna=False, sort=False, observed=True):
        found.append(dict(zip(keys, values)) | dict(zip(_NUMBERS, _cell(cell, cluster))))
        changes.append(cell["correct_one"].astype(float) - cell["correct_other"].astype(float))
        clusters.append(cell["_cluster"])
    table = pd.DataFrame(found, columns=[*keys, *_NUMBERS])
    table["p_corrected"] = max_t(changes, clusters).corrected
    table["quantity"] = f"{names[0]} minus {names[1]}"
    return in_canonical_order(table, keys)


def _pairs(rows: pd.DataFrame, names: list[str], unit: list[str]) -> pd.DataFrame:
    """One row a model, seed and question that both formats answered."""
    sides = []
    for name in names:
        side = rows[rows["format"] == name]
        if side.empty:
            raise DataError(f"no predictions in the format {name!r}; there are {', '.join(rows['format'].unique())}")
        if (repeated := side.duplicated(unit)).any():
            raise DataError(
                f"{side.loc[repeated, 'id'].iloc[0]!r} is answered more than once in {name} by one method, model and "
                "seed; label the runs apart or select one"
            )
        sides.append(side[[*unit, "answer", "correct", "_cluster"]])
    pairs = sides[0].merge(sides[1].drop(columns="_cluster"), on=unit, suffixes=("_one", "_other"))
    if pairs.empty:
        raise DataError(f"no question is answered in both {names[0]} and {names[1]} by one method, model and seed")
    if (off := ~same_letter(pairs["answer_one"], pairs["answer_other"])).any():
        raise DataError(f"the gold answer of {pairs['id'][off].iloc[0]!r} differs between the two formats")
    return pairs


def _cell(cell: pd.DataFrame, cluster: str | None) -> tuple[float, ...]:
    first, second, seeds = cell["correct_one"].astype(int), cell["correct_other"].astype(int), cell["seed"].nunique()
    n, shares = cell["id"].nunique(), (first.mean(), second.mean())
    if cluster is None and seeds == 1:
        fixed, broken = int((first > second).sum()), int((first < second).sum())
        nan = float("nan")
        return n, seeds, *shares, *paired_difference(second, first), nan, nan, mcnemar(fixed, broken)
    pooled = pooled_difference(second, first, cell["_cluster"], cell["seed"])
    p = max_t([first - second], [cell["_cluster"]]).p[0]
    return n, seeds, *shares, *pooled, float(p)
