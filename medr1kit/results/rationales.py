"""Is the rationale true, and is it used? Answers that only data with known truth can give.

A rationale that reads well may describe another picture. On phantoms every statement in it can be checked against the
image (:mod:`medr1kit.data.phantoms.rationales`), so a table of predictions becomes a table of honesty: how many
statements hold, how often the finding is named, whether the conclusion is the answer given. Chance matters here as in
accuracy: of four findings a blind writer names the right one in a quarter of the cases, and reads the modality off the
options.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from medr1kit.data.phantoms import ImageId, fact_words, truth_of
from medr1kit.data.phantoms.rationales import Reading, read_rationale
from medr1kit.progress import progress
from medr1kit.results.stats import cluster_interval
from medr1kit.results.tables import check_predictions, groups_by
from medr1kit.vqa import LETTERS, DataError

_COLUMNS = ("image_id", "source", "think", "options", "predicted")


def check_rationale(text: str, row_id: str) -> Reading:
    """Return the statements of a rationale about a phantom, each marked true or false.

    Args:
        text: the rationale.
        row_id: ``id`` or ``image_id`` of the phantom.

    Raises:
        DataError: if the id names no phantom: only there the truth is known.

    >>> [(s.word, s.holds) for s in check_rationale("A cyst of the brain.", "CT-test-0-0").statements]
    [('cyst', False), ('brain', True)]
    """
    return read_rationale(text, truth_of(ImageId.read(row_id)), fact_words())


def rationale_truth(preds: pd.DataFrame, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return how true and how relevant the rationales of predictions on phantoms are.

    Args:
        preds: predictions on phantoms; rows without a thinking block count in ``n`` alone.
        by: the column(s) that make a row, such as "format" or "fact"; "fact" splits the statements by what they are
            about (finding, size, …). None for one row.

    Returns:
        A frame with the ``by`` columns, then ``n`` (answers), ``rationales`` (with a thinking block), ``statements``
        (checkable ones), ``true`` with ``low`` and ``high`` (share of statements that hold; interval by image, because
        the statements of one rationale stand and fall together), ``names_finding`` (share of rationales that name the
        image's finding and no other), ``concludes`` (share that end in a conclusion) and ``agrees`` (share of these
        whose conclusion is the predicted answer).

    Raises:
        DataError: if a column is missing, a row is not about a phantom, or its text was ended at its answer.
    """
    keys = [] if by is None else [by] if isinstance(by, str) else list(by)
    groups = [key for key in keys if key != "fact"]
    preds = check_predictions(preds, [*_COLUMNS, *groups]).reset_index(drop=True)
    if len(other := preds.index[preds["source"] != "phantoms"]):
        raise DataError(
            f"predictions row {other[0]} is about {preds.loc[other[0], 'source']!r}, not phantoms; only of these the "
            "truth is known"
        )
    if "well_formed" in preds and (cut := preds["well_formed"].isna()).any():
        raise DataError(
            f"{int(cut.sum())} of {len(preds)} predictions were ended at their answer, so their rationales are not "
            "known; predict without stop_at_answer"
        )
    rationales, statements = _read_all(preds)
    rows = []
    for names, part in groups_by(rationales, groups):
        own = statements[statements["row"].isin(part.index)]
        for fact, some in own.groupby("fact", sort=False) if "fact" in keys else [(None, own)]:
            names = names | {"fact": fact}
            rows.append({key: names[key] for key in keys} | _truth_row(part, some))
    return pd.DataFrame(rows)


def _read_all(preds: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions with what their rationale says, and one row a statement."""
    verdicts, statements = [], []
    texts = zip(preds["image_id"], preds["think"], preds["options"], preds["predicted"])
    bar = progress(texts, "reading rationales", total=len(preds), unit="rationale")
    for row, (image_id, think, options, predicted) in enumerate(bar):
        if not isinstance(think, str):
            verdicts.append((False, None, None, None))
            continue
        reading = check_rationale(think, image_id)
        letter = concluded_letter(reading.conclusion, options)
        verdicts.append((True, reading.names_finding, letter is not None, letter == predicted))
        statements += [(row, image_id, statement.fact, statement.holds) for statement in reading.statements]
    rationales = preds.join(pd.DataFrame(verdicts, columns=["written", "names_finding", "concludes", "agrees"]))
    return rationales, pd.DataFrame(statements, columns=["row", "image_id", "fact", "holds"])


def concluded_letter(conclusion: str | None, options: Sequence[str]) -> str | None:
    """Return the letter that a conclusion names, by letter or by option text; None if neither or both in conflict.

    >>> concluded_letter("left cyst B", ["left mass", "left cyst"]), concluded_letter("left cyst", ["left cyst"])
    ('B', 'A')
    """
    if conclusion is None:
        return None
    letters = set(re.findall(r"\b[A-Z]\b(?![-&])", conclusion)) & set(LETTERS[: len(options)])
    texts = {conclusion.casefold(), re.sub(r"[\s(]*\b[A-Z]\)?$", "", conclusion).casefold()}
    named = {LETTERS[i] for i, option in enumerate(options) if option.casefold() in texts}
    both = letters | named
    return both.pop() if len(both) == 1 else None


def _truth_row(rationales: pd.DataFrame, statements: pd.DataFrame) -> dict[str, float]:
    written = rationales[rationales["written"]]
    holds, concluding = statements["holds"].astype(float), written[written["concludes"].astype(bool)]
    low, high = cluster_interval(holds, statements["image_id"]) if len(statements) else (np.nan, np.nan)
    counts = {"n": len(rationales), "rationales": len(written), "statements": len(statements)}
    shares = written[["names_finding", "concludes"]].astype(float).mean().to_dict()
    agrees = concluding["agrees"].astype(float).mean()
    return counts | {"true": holds.mean(), "low": low, "high": high} | shares | {"agrees": agrees}
