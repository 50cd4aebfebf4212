"""Does it like a letter, and which option does it take for which?

Two shapes of error that an accuracy hides. A model that says A when it does not know is right a quarter of the time and
has learnt nothing; its letters are not spread as the gold letters are. And a model that takes cysts for masses makes
the same mistake many times; counted by option *text*, whatever letter it stood at, that mistake can be seen.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import pandas as pd

from medr1kit.results.multiplicity import max_t
from medr1kit.results.stats import share
from medr1kit.results.tables import groups_by, in_canonical_order, rows_by, who_varies
from medr1kit.vqa import LETTERS, fold

_LETTERS = ("n", "predicted", "low", "high", "gold", "bias", "bias_low", "bias_high", "p_corrected", "accuracy")
_CONFUSION = ("gold_text", "predicted_text", "taken", "offered", "share", "low", "high", "chance", "accuracy", "n_gold")


def letters_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often each letter is chosen, and how often it is right.

    Args:
        rows: from :func:`medr1kit.results.errors.kinds.describe`.

    Returns:
        A row a letter and format (and what else tells models apart): ``n`` (answers that were read, of questions with
        such an option), ``predicted`` (share that chose it) with ``low`` and ``high``, ``gold`` (share where it is
        right), ``bias`` (the difference) with ``bias_low``, ``bias_high`` and ``p_corrected``, that there is no bias
        (all three corrected for all rows: :func:`medr1kit.results.multiplicity.max_t`), and ``accuracy`` where the gold
        stands at this letter. Letters under which no read answer had an option are left out.
    """
    keys, found, cells, units = who_varies(rows), [], [], []
    read = rows[rows["predicted"].notna()]
    for names, group in groups_by(read, keys):
        for place, letter in enumerate(LETTERS[: group["n_options"].max()]):
            offered = group[group["n_options"] > place]
            chosen, gold = (offered[c].eq(letter).to_numpy(bool) for c in ("predicted", "answer"))
            right = offered["correct"].to_numpy(bool)[gold].mean() if gold.any() else float("nan")
            units.append(offered["unit"].to_numpy())
            cells.append(chosen.astype(float) - gold)
            numbers = (
                len(offered),
                *share(chosen, units[-1]),
                gold.mean(),
                cells[-1].mean(),
                *[float("nan")] * 3,
                right,
            )
            found.append((*names.values(), letter, *numbers))
    table = pd.DataFrame(found, columns=[*keys, "letter", *_LETTERS])
    if len(table):
        tested = max_t(cells, units)
        table = table.assign(p_corrected=tested.corrected, bias_low=tested.low, bias_high=tested.high)
    return in_canonical_order(table, [*keys, "letter"])


def confusion_table(rows: pd.DataFrame, least: int = 0) -> pd.DataFrame:
    """Return which gold option is taken for which other one, among the options of the same question.

    Args:
        rows: from :func:`medr1kit.results.errors.kinds.describe`.
        least: pairs that were taken less often are left out, and no interval is computed of them.

    Returns:
        A row for each ``modality`` (if there is such a column), ``gold_text`` and wrong option ``predicted_text`` that
        stood together: ``taken`` (answers that chose it), ``offered`` (answers that could have), ``share`` with ``low``
        and ``high`` (95 %), ``chance`` (mean of 1 / number of options), ``accuracy`` on questions with this
        gold, ``n_gold`` (how many). Texts that differ in case or a full stop are one. Sorted by ``low``, the surest
        confusion first. An unread answer has taken nothing.
    """
    keys = ["modality"] if "modality" in rows else []
    texts = list(dict.fromkeys(chain.from_iterable(rows["options"])))
    numbers, names = pd.factorize(pd.Index([fold(text) for text in texts]))
    number_of = dict(zip(texts, numbers))  # texts stay numbers up to the end: much sooner compared and grouped
    data = pd.DataFrame(
        {"gold_text": rows["gold_text"].map(number_of), "chosen": rows["predicted_text"].map(number_of)}
    )
    data = data.assign(right=rows["correct"].astype(float), unit=rows["unit"])
    data = data.assign(chance=1 / rows["n_options"], **{key: rows[key].fillna("unknown") for key in keys})
    ours = [*keys, "gold_text"]
    golds = data.groupby(ours, observed=True)["right"].agg(accuracy="mean", n_gold="size").reset_index()
    wide = data.iloc[np.repeat(np.arange(len(data)), rows["n_options"])]
    wide = wide.assign(predicted_text=[number_of[text] for text in chain.from_iterable(rows["options"])])
    wide = wide[wide["predicted_text"] != wide["gold_text"]]
    wide["taken"] = (wide["predicted_text"] == wide["chosen"]).astype(int)
    pair = [*ours, "predicted_text"]
    wide = wide[wide.groupby(pair, observed=True)["taken"].transform("sum") >= least]
    counted = {"taken": ("taken", "sum"), "offered": ("taken", "size"), "chance": ("chance", "mean")}
    table = wide.groupby(pair, sort=False, observed=True).agg(**counted).reset_index()
    taken, unit = wide["taken"].to_numpy(), wide["unit"].to_numpy()
    limits = [share(taken[places], unit[places])[1:] for _, places in rows_by(wide, pair)]
    table[["low", "high"]] = np.array(limits, dtype=float).reshape(-1, 2)
    table["share"] = table["taken"] / table["offered"]
    table = table.merge(golds, on=ours)[[*keys, *_CONFUSION]]
    table = table.assign(**{column: names.take(table[column]) for column in ("gold_text", "predicted_text")})
    order = np.lexsort((-table["offered"], -table["share"], -table["low"].fillna(0)))
    return table.iloc[order].reset_index(drop=True)
