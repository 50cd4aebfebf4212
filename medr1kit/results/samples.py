"""Several sampled answers a question: what a model *can* say, beside what it says first.

A model that is right in 3 of 8 samples has the answer in it, and greedy decoding may never show it. Two numbers over k
samples part what is there from what is chosen::

    pass@k       at least one of k samples is right       what the model can reach
    majority@k   the letter that most of k say is right   what it can be relied on for

Reinforcement that only *sharpens* lifts pass@1 towards the base's pass@k and leaves pass@k where it was, or lower; one
that *widens* lifts pass@k, too. Of multiple-choice questions pass@k is generous: whoever guesses evenly among four
options reaches 90 % at k = 8. So ``chance`` stands beside it, and the majority, which guessing does not lift.

Instead of drawn answers, the answers to the options in other orders may vote
(:func:`medr1kit.models.probes.predict_rotated`). A model that always says A then votes for each option once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd

from medr1kit.results.clusters import clustering, counted
from medr1kit.results.stats import cluster_interval, share
from medr1kit.results.tables import ANSWERER, check_predictions, one_checkpoint, rows_by, who_varies
from medr1kit.vqa import LETTERS, DataError, option_texts

_SUBSETS = 300  # of k samples, at most, that vote

PASSES = (
    *("k", "n", "pass_at_k", "low", "high", "chance"),
    *("majority", "majority_low", "majority_high", "agreement", "agreement_low", "agreement_high", "cluster"),
)
"""Columns of :func:`pass_at_k` beside those that tell models apart."""


def pass_at_k(preds: pd.DataFrame, cluster: str | bool | None = None) -> pd.DataFrame:
    """Return how often at least one of k sampled answers is right, and how often their majority is.

    Args:
        preds: predictions with several answers a question, as ``predict(…, samples=n)`` or ``predict_rotated(…)``
            returns them; models, formats and checkpoints are kept apart, seeds are more samples. An answer votes for
            its option's text, at whatever letter it stood.
        cluster: what does not count as independent, as in :func:`medr1kit.score`.

    Returns:
        A row for each model and k from 1 to the number of samples: the columns that tell models apart, ``k``, ``n``
        (questions), ``pass_at_k`` with ``low`` and ``high`` (95 %), ``chance`` (of k even guesses), ``majority`` with
        its interval (samples without a readable letter do not vote; a tie counts as its share), ``agreement`` (how
        often two samples of a question say the same; nan for one sample) with its interval, and ``cluster``. The first
        two are means over all choices of k samples, of at most 300 for the majority: unbiased, unlike that of the first
        k. Two options have two orders and four have four: where k is more than a question's own orders, all of these
        count.

    Raises:
        DataError: if columns are missing, a question was asked with other options in another row, or questions have
            different numbers of samples and not one for each order of their options.

    Source: Chen et al., "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, equation 1.

    >>> from medr1kit.vqa import LETTERS
    >>> rows = [{"id": "q", "answer": "A", "predicted": letter, "options": ["x", "y"], "format": "no-think",
    ...          "correct": letter == "A", "lenient_predicted": letter, "sample": i} for i, letter in enumerate("ABBB")]
    >>> pass_at_k(pd.DataFrame(rows))[["k", "pass_at_k", "chance"]].head(2).values.tolist()
    [[1.0, 0.25, 0.5], [2.0, 0.5, 0.75]]
    """
    needed = ["id", "answer", "predicted", "options", "correct", "format"]
    preds = check_predictions(preds, needed, cluster)
    who = who_varies(preds)
    one_checkpoint(preds, who, "select one: preds[preds['step'] == …]")
    tables = [_of_model(dict(zip(who, names)), preds.iloc[rows], cluster) for names, rows in rows_by(preds, who)]
    return pd.concat(tables, ignore_index=True)


def vote_shares(preds: pd.DataFrame) -> pd.DataFrame:
    """Return how the sampled answers to a question are shared out among its options: a confidence without a model.

    Args:
        preds: as in :func:`pass_at_k`; every training is an answerer of its own.

    Returns:
        A row for each answerer and question, with the columns of its first sample but ``sample``: ``probabilities``
        (shares in letter order, sum 1; samples without a readable letter are shared out evenly), ``predicted`` (the
        majority; the first of equals), ``confidence`` (its share) and ``correct``. :func:`medr1kit.abstention` and
        :func:`medr1kit.calibration` take it.

    Raises:
        DataError: if columns are missing, or a question was asked with other options in another row.

    >>> rows = [{"id": "q", "answer": "A", "predicted": letter, "options": ["x", "y"], "format": "no-think",
    ...          "correct": letter == "A", "lenient_predicted": letter, "sample": i} for i, letter in enumerate("ABBB")]
    >>> vote_shares(pd.DataFrame(rows))[["predicted", "confidence", "correct"]].values.tolist()
    [['B', 0.75, False]]
    """
    preds = check_predictions(preds, ["id", "answer", "predicted", "options", "correct", "format"])
    answerer = [name for name in ANSWERER if name in preds and name != "sample"]
    tables = []
    for _, places in rows_by(preds, answerer):
        rows = preds.iloc[places]
        questions = rows.drop_duplicates("id")
        letters = _in_first_order(rows, questions)
        votes = pd.crosstab(rows["id"].to_numpy(), letters.to_numpy()).reindex(questions["id"])
        total = rows.groupby("id", sort=False).size().to_numpy()
        shares = []
        for options, n, row in zip(questions["options"], total, votes.to_dict("records")):
            counts = np.array([row.get(letter, 0) for letter in LETTERS[: len(options)]], dtype=float)
            shares.append((counts + (n - counts.sum()) / len(options)) / n)
        said = [LETTERS[int(share.argmax())] for share in shares]
        read = {"probabilities": [share.tolist() for share in shares], "predicted": said}
        read |= {"confidence": [float(share.max()) for share in shares], "correct": said == questions["answer"]}
        tables.append(questions.drop(columns="sample", errors="ignore").assign(**read))
    return pd.concat(tables, ignore_index=True)


def _of_model(who: dict[str, object], rows: pd.DataFrame, cluster: str | bool | None) -> pd.DataFrame:
    questions = rows.drop_duplicates("id")
    options, said = questions["options"].map(len).to_numpy(), _numbers_of_samples(rows, questions)
    order = np.argsort(pd.factorize(rows["id"])[0], kind="stable")
    place = {letter: number for number, letter in enumerate(LETTERS)}
    letters = _in_first_order(rows, questions).map(place).fillna(-1).to_numpy(int)[order]
    right, gold = rows["correct"].to_numpy(int)[order], questions["answer"].map(place).to_numpy(int)
    units, by_patient = clustering([questions], cluster)
    counts = counted(units, by_patient, cluster)
    alike = [(said == n, np.repeat(said == n, said), n) for n in np.unique(said)]  # questions, their rows, how many

    def of_all(measure: Callable[..., np.ndarray]) -> np.ndarray:
        """What is measured of each question, of all that have n samples at once."""
        values = np.empty(len(questions))
        for some, theirs, n in alike:
            values[some] = measure(letters[theirs].reshape(-1, n), right[theirs].reshape(-1, n).sum(1), gold[some])
        return values

    agreement, found = _mean(of_all(_agreement), units), []
    for k in range(1, said.max() + 1):
        chance = float((1 - (1 - 1 / options) ** np.minimum(k, said)).mean())
        reached, voted = of_all(partial(_reached, k=k)), of_all(partial(_majority, k=k))
        found.append((k, len(gold), *_mean(reached, units), chance, *_mean(voted, units), *agreement, counts))
    return pd.DataFrame(found, columns=list(PASSES)).assign(**who)[[*who, *PASSES]]


def _numbers_of_samples(rows: pd.DataFrame, questions: pd.DataFrame) -> np.ndarray:
    """How many answers each question has, (questions,): all alike, or one for each order of its options."""
    said = rows.groupby("id", sort=False).size()
    orders = np.minimum(questions["options"].map(len).to_numpy(), said.max())
    if said.nunique() > 1 and (said.to_numpy() != orders).any():
        raise DataError(
            f"the question {said.idxmin()!r:.60} has {said.min()} answers and {said.idxmax()!r:.60} has {said.max()}; "
            "take as many of each: predict(…, samples=8)"
        )
    return said.to_numpy()


def _in_first_order(rows: pd.DataFrame, questions: pd.DataFrame) -> pd.Series:
    """The letter of each answer where options stand as in their question's first row."""
    first = questions.set_index("id")["options"].reindex(rows["id"])
    moved = [list(one) != list(other) for one, other in zip(first, rows["options"])]
    if not any(moved):
        return rows["predicted"]
    letters = rows["predicted"].tolist()
    for i, text in enumerate(option_texts(rows["options"], letters)):
        if not moved[i]:
            continue
        if sorted(first.iloc[i]) != sorted(rows["options"].iloc[i]):
            asked = f"the question {rows['id'].iloc[i]!r:.60} was asked with other options in another row"
            raise DataError(f"{asked}; give samples of one data set, or each data set by itself")
        letters[i] = None if text is None else LETTERS[list(first.iloc[i]).index(text)]
    return pd.Series(letters, dtype=object)


def _mean(values: np.ndarray, units: np.ndarray) -> tuple[float, float, float]:
    """A mean with its interval: that of verdicts where all are 0 or 1; shares of questions vary less."""
    if np.isin(values, (0, 1)).all():
        return share(values, units)
    return float(values.mean()), *cluster_interval(values, units)


def _agreement(letters: np.ndarray, *_: np.ndarray) -> np.ndarray:
    """How often two samples of a question say the same letter; what cannot be read agrees with nothing."""
    n = letters.shape[1]
    if n < 2:
        return np.full(len(letters), np.nan)
    counts = [(letters == letter).sum(1) for letter in range(len(LETTERS))]
    return sum(count * (count - 1) for count in counts) / (n * (n - 1))


def _reached(letters: np.ndarray, right: np.ndarray, _: np.ndarray, k: int) -> np.ndarray:
    """How often one of k of a question's samples is right, (questions,)."""
    n = letters.shape[1]
    k = min(k, n)
    return np.array([1 - comb(n - c, k) / comb(n, k) for c in right])


def _majority(letters: np.ndarray, _: np.ndarray, gold: np.ndarray, k: int) -> np.ndarray:
    """How often the majority of k of a question's samples is right, (questions,): over all choices, or 300 of them."""
    n = letters.shape[1]
    k = min(k, n)
    if comb(n, k) <= _SUBSETS:
        chosen = np.array(list(combinations(range(n), k)))  # (choices, k)
    else:
        chosen = np.random.default_rng(0).random((_SUBSETS, n)).argsort(1)[:, :k]
    votes = np.stack([(letters == letter)[:, chosen].sum(2) for letter in range(letters.max(initial=0) + 1)], axis=2)
    most = votes.max(2, keepdims=True)  # (questions, choices, 1)
    leading = (votes == most) & (most > 0)
    mine = np.take_along_axis(leading, np.minimum(gold, votes.shape[2] - 1)[:, None, None], axis=2)[..., 0]
    return ((gold < votes.shape[2])[:, None] * mine / np.maximum(leading.sum(2), 1)).mean(1)
