"""Before and after, question by question: one pair of predictions, or a whole matrix of them.

Two habits that leaderboards of medical question answering usually lack. A gain is *paired*: both models answered the
same questions, and it is split into format and answers, because a model that learns to write its tags gains accuracy
without learning medicine. And a matrix is *corrected*: of 64 cells in which nothing happened three look significant.

Several seeds are averaged. Then one interval is for these runs on other questions, a wider one for other seeds, too.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from medr1kit.progress import progress
from medr1kit.results.multiplicity import holm, max_t
from medr1kit.results.stats import NAN, cluster_interval, mcnemar, paired_difference, pooled_difference, wilson
from medr1kit.results.tables import VERDICT, check_clusters, check_predictions, in_canonical_order, same_letter
from medr1kit.vqa import DataError


@dataclass(frozen=True)
class Comparison:
    """What changed between two sets of answers to the same questions; all shares in 0..1 or -1..1.

    Attributes:
        n: questions that both answered.
        seeds: runs that were averaged, 1 or more.
        accuracy_before, accuracy_after: mean of ``correct``.
        fixed, broken: questions wrong before and right after, and the reverse; summed over seeds.
        difference, low, high: accuracy after minus before, with its 95 % interval: the choice of questions.
        low_seeds, high_seeds: the interval that covers the choice of seeds, too; nan with one seed. See
            :func:`medr1kit.results.stats.pooled_difference` for how far three seeds can be trusted.
        p: exact McNemar p-value; by turning signs of clusters where there are any. It does not cover seeds.
        repaired_format: the part of ``difference`` from questions whose (leniently read) letter did not change.
        changed_answer: the rest; ``repaired_format + changed_answer == difference``.
    """

    n: int
    seeds: int
    accuracy_before: float
    accuracy_after: float
    fixed: int
    broken: int
    difference: float
    low: float
    high: float
    low_seeds: float
    high_seeds: float
    p: float
    repaired_format: float
    changed_answer: float

    @property
    def frame(self) -> pd.DataFrame:
        """The same numbers as a frame with one row."""
        return pd.DataFrame([asdict(self)])


def compare(before: pd.DataFrame, after: pd.DataFrame, cluster: str | None = None) -> Comparison:
    """Compare two sets of predictions question by question.

    A model that learns to write its tags gains accuracy without learning medicine. So the gain is split: a question
    whose letter, leniently read, is the same before and after can only have changed its verdict by its format.

    Args:
        before: predictions of one model in one format, or in several formats.
        after: predictions on the same questions. Rows are paired on ``id``, and on ``format``, too, when both frames
            hold several formats. Several seeds, told apart by ``seed``, are averaged: each is paired with the same seed
            of the other frame, or with its only one.
        cluster: a column of ``before`` whose equal values do not count as independent: "image_id", "source" or
            "question" (the stem). Default: questions are independent; answers to one question are not.

    Returns:
        A :class:`Comparison`; ``.frame`` has it as a frame. Questions that only one side answered, or not every seed,
        are left out, with a warning that counts them.

    Raises:
        DataError: if no question is in both, one side answers a question twice, the gold answers disagree, the two
            frames have different seeds, a cluster name is missing, or the numbers are published ones.
    """
    pairs, unmatched = _pair(before, after, cluster)
    if any(unmatched):
        several = " (or not for every seed)" if pairs["seed"].nunique() > 1 else ""
        warnings.warn(
            f"compared {_n_questions(pairs)} questions; left out {unmatched[0]} that only `before` and {unmatched[1]} "
            f"that only `after` answers{several}",
            stacklevel=2,
        )
    return _compare_pairs(pairs)


def _pair(before: pd.DataFrame, after: pd.DataFrame, cluster: str | None) -> tuple[pd.DataFrame, tuple[int, int]]:
    """One row a question and seed that both answered, and how many questions of either side are left out.

    Columns: id, format, seed, cluster (None: all independent), and the verdicts with suffixes _before and _after.
    """
    frames = {"before": before, "after": after}
    several = {name: [c for c in ("format", "seed") if c in f and f[c].nunique() > 1] for name, f in frames.items()}
    unit = ["id", "format"] if all("format" in columns for columns in several.values()) else ["id"]
    keys = {name: [*unit, *(["seed"] if "seed" in several[name] else [])] for name in frames}
    for name, frame in frames.items():
        check_predictions(frame, [*keys[name], *VERDICT, *([cluster] if cluster and name == "before" else [])])
    _check_seeds(frames, keys)
    shared = min(keys.values(), key=len)
    sides = [frame[[*keys[name], *VERDICT]] for name, frame in frames.items()]
    pairs = sides[0].merge(sides[1], on=shared, suffixes=("_before", "_after"))
    _check_pairs(pairs, before, after)
    if "seed" not in pairs:
        pairs["seed"] = 0
    pairs = pairs[pairs.groupby(unit)["seed"].transform("size") == pairs["seed"].nunique()].reset_index(drop=True)
    if pairs.empty:
        raise DataError("no question was answered by every seed; compare one seed at a time")
    left_out = [len(frame[unit].drop_duplicates()) - len(pairs[unit].drop_duplicates()) for frame in frames.values()]
    if cluster is not None:
        check_clusters(before, cluster)
        pairs["cluster"] = pairs["id"].map(before.drop_duplicates("id").set_index("id")[cluster])
    else:
        pairs["cluster"] = pairs["id"] if pairs["id"].duplicated().any() else None
    return pairs, tuple(left_out)


def _check_seeds(frames: dict[str, pd.DataFrame], keys: dict[str, list[str]]) -> None:
    """Each side answers a question once, or once a seed; with the same seeds where both have several."""
    for name, frame in frames.items():
        if (repeated := frame.duplicated(keys[name])).any():
            raise DataError(
                f"`{name}` answers the question {frame.loc[repeated, 'id'].iloc[0]!r} more than once; select one "
                "model and format, and label its runs by seed"
            )
    if all("seed" in columns for columns in keys.values()):
        before, after = (sorted(frame["seed"].dropna().unique()) for frame in frames.values())
        if before != after:
            first, second = (", ".join(map(str, names)) for names in (before, after))
            raise DataError(f"`before` has the seeds {first} and `after` the seeds {second}; give both the same")


def _check_pairs(pairs: pd.DataFrame, before: pd.DataFrame, after: pd.DataFrame) -> None:
    if pairs.empty:
        raise DataError(
            f"no question is in both frames: `before` has ids such as {before['id'].iloc[0]!r}, `after` such as "
            f"{after['id'].iloc[0]!r}; predict on the same data"
        )
    other = ~same_letter(pairs["answer_before"], pairs["answer_after"])
    if other.any():
        raise DataError(
            f"the gold answer of {pairs.loc[other, 'id'].iloc[0]!r} differs between the two frames ({int(other.sum())} "
            "such questions); the ids name different questions"
        )


def _n_questions(pairs: pd.DataFrame) -> int:
    return len(pairs) // pairs["seed"].nunique()


def _changes(pairs: pd.DataFrame) -> np.ndarray:
    return pairs["correct_after"].astype(int).to_numpy() - pairs["correct_before"].astype(int).to_numpy()


def _compare_pairs(pairs: pd.DataFrame) -> Comparison:
    before, after = (pairs[f"correct_{when}"].astype(int).to_numpy() for when in ("before", "after"))
    change = _changes(pairs)
    same = same_letter(pairs["lenient_predicted_before"], pairs["lenient_predicted_after"])
    fixed, broken = int((change > 0).sum()), int((change < 0).sum())
    if pairs["cluster"].isna().all():
        difference, p = (*paired_difference(before, after), NAN, NAN), mcnemar(fixed, broken)
    else:
        difference = pooled_difference(before, after, pairs["cluster"], pairs["seed"])
        p = float(max_t([change], [pairs["cluster"]]).p[0])
    return Comparison(
        _n_questions(pairs),
        pairs["seed"].nunique(),
        float(before.mean()),
        float(after.mean()),
        fixed,
        broken,
        *difference,
        p,
        repaired_format=float(change[same].sum() / len(pairs)),
        changed_answer=float(change[~same].sum() / len(pairs)),
    )


# --- matrices ---------------------------------------------------------------------------------------------------------


def transfer_table(preds: pd.DataFrame, by: str = "modality", cluster: str | None = None) -> pd.DataFrame:
    """Return what training on one modality (or task) does to each other one: Med-R1's matrices, with their doubt.

    Each trained row is compared with the untrained base on the same questions. The base is the rows whose ``method``
    is "base", in the same ``format``; of several base models the one whose ``model`` has the same name, of several
    seeds the same ones. Cells without such a base keep their accuracy; their difference is nan, with a warning.

    Args:
        preds: predictions of trained models and of the base. Rows with neither ``train_modality`` nor ``train_task``
            count as trained on "all"; models trained by the other of the two (a task, when ``by="modality"``) are not
            part of this table. Runs that differ in nothing but ``seed`` are averaged.
        by: "modality" or "task".
        cluster: a column whose equal values do not count as independent, as in :func:`compare`.

    Returns:
        One row per ``train_<by>``, ``method``, ``format``, ``model`` and test ``<by>``, in canonical order: ``n``
        (questions), ``seeds`` (runs), ``accuracy``, ``low``, ``high``, ``n_paired`` (questions the base answered, too),
        ``base_accuracy`` (on these), ``difference``, ``difference_low``, ``difference_high`` and, covering seeds, too,
        ``difference_low_seeds``, ``difference_high_seeds``; ``p``; ``p_holm`` and ``p_corrected``, corrected over the
        whole table by Holm and by max-T (:func:`medr1kit.results.multiplicity.max_t`), which sees that cells share
        questions and base. Intervals and ``p`` are those of :func:`compare`; nan cells do not count.

    Raises:
        DataError: if ``by`` is neither, columns or cluster names are missing, no trained model is there, one of them
            answers a question twice, or the numbers are published ones.
    """
    if by not in ("modality", "task"):
        raise DataError(f"transfer_table(by={by!r}): a model is trained by 'modality' or by 'task'")
    train, other = (f"train_{by}", "train_task" if by == "modality" else "train_modality")
    keys = [train, "method", "format", "model", by]
    check_predictions(preds, ["id", "seed", *keys, other, *([cluster] if cluster else []), *VERDICT])
    if cluster is not None:
        check_clusters(preds, cluster)
    base = preds[preds["method"] == "base"]
    trained = preds[(preds["method"] != "base") & (preds[train].notna() | preds[other].isna())]
    if trained.empty:
        raise DataError(f"no trained model in the predictions: no row has a {train} and a method other than 'base'")
    trained = trained.assign(**{train: trained[train].astype(object).where(trained[train].notna(), "all")})
    rows, pairs = [], []
    cells = trained.groupby(keys, dropna=False, sort=False, observed=True)
    for values, cell in progress(cells, "transfer table", total=cells.ngroups, unit="cell"):
        row, paired = _cell(cell, base, train, cluster)
        rows.append(dict(zip(keys, values)) | row)
        pairs.append(paired)
    table = pd.DataFrame(rows)
    if (unpaired := table["n"] - table["n_paired"]).any():
        empty = int((table["n_paired"] == 0).sum())
        warnings.warn(
            f"{int(unpaired.sum())} of {int(table['n'].sum())} predictions have no base to compare with (method "
            f"'base', same format and question); {empty} of {len(table)} cells have no difference",
            stacklevel=2,
        )
    clusters = [paired["cluster"].where(paired["cluster"].notna(), paired["id"]) for paired in pairs]
    table["p_holm"] = holm(table["p"])
    table["p_corrected"] = max_t([_changes(paired) for paired in pairs], clusters).corrected
    return in_canonical_order(table, keys)


_NO_PAIRS = pd.DataFrame(columns=["id", "cluster", "correct_before", "correct_after"])


def _cell(
    cell: pd.DataFrame, base: pd.DataFrame, train: str, cluster: str | None
) -> tuple[dict[str, float], pd.DataFrame]:
    """Accuracy of one trained model on one test set, its paired difference to the base, and the pairs."""
    if (repeated := cell.duplicated(["id", "seed"])).any():
        raise DataError(
            f"the model trained on {cell[train].iloc[0]!r} answers {cell.loc[repeated, 'id'].iloc[0]!r} more than once "
            "with equal method, format, model and seed; label the runs apart or select one"
        )
    right, seeds = cell["correct"].astype(int), cell["seed"].nunique(dropna=False)
    counted = cluster or ("id" if seeds > 1 else None)
    low, high = wilson(right.sum(), len(cell)) if counted is None else cluster_interval(right, cell[counted])
    row = {"n": cell["id"].nunique(), "seeds": seeds, "accuracy": right.mean(), "low": low, "high": high, "n_paired": 0}
    limits = [f"difference_{name}" for name in ("low", "high", "low_seeds", "high_seeds")]
    row |= dict.fromkeys(("base_accuracy", "difference", *limits, "p"), NAN)
    untrained = _base_of(cell, base[base["id"].isin(cell["id"])])
    if untrained.empty:
        return row, _NO_PAIRS
    pairs, _ = _pair(untrained, cell, cluster)
    result = _compare_pairs(pairs)
    row |= {"n_paired": result.n, "base_accuracy": result.accuracy_before, "difference": result.difference}
    row |= dict(zip(limits, (result.low, result.high, result.low_seeds, result.high_seeds)))
    return row | {"p": result.p}, pairs


def _base_of(cell: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """The base predictions a cell is compared with; no rows if there are none, or several models and none by name."""
    who = cell.iloc[0]
    base = base[base["format"] == who["format"]]
    named = base[base["model"] == who["model"]]
    if len(named) or base["model"].nunique(dropna=False) > 1:
        base = named
    if base["id"].duplicated().any():
        base = base[base["seed"].isin(cell["seed"])]
    return base
