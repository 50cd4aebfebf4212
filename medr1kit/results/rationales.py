"""Is the rationale true, and is it used? Answers that only data with known truth can give.

A rationale that reads well may describe another picture. On phantoms every statement in it can be checked against the
image (:mod:`medr1kit.data.phantoms.rationales`), so a table of predictions becomes a table of honesty: how many
statements hold, how often the finding is named, whether the conclusion is the answer given. Chance matters here as in
accuracy: of four findings a blind writer names the right one in a quarter of the cases, and reads the modality off the
options.

A conclusion has up to two parts, the words of an option and a letter ("So the answer is prostate C"), and training can
drive them apart. Where they are, that is disagreement and not a conclusion that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medr1kit.choices import option_mentions
from medr1kit.data.phantoms import ImageId, fact_words, truth_of
from medr1kit.data.phantoms.rationales import Reading, read_rationale, words_said
from medr1kit.progress import progress
from medr1kit.results.clusters import clustering, counted
from medr1kit.results.stats import share
from medr1kit.results.tables import check_predictions, columns_given, groups_by
from medr1kit.vqa import LETTERS, DataError

_COLUMNS = ("image_id", "source", "think", "options", "answer", "predicted")
_SHARES = (
    "names_finding", "concludes", "agrees", "off_options", "says_word", "word_right", "says_letter", "letter_right",
    "answer_right",
)  # fmt: skip


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


@dataclass(frozen=True)
class Conclusion:
    """What the conclusion of a rationale names.

    Attributes:
        by_word: letters of the options whose text it says.
        by_letter: the letters it says.
        strays: the words of phantoms it says that are no option's, where it says no option's text; words that stand in
            the text of the option it names by letter are none ("cyst B" where B is "left cyst").
    """

    by_word: frozenset[str] = frozenset()
    by_letter: frozenset[str] = frozenset()
    strays: tuple[str, ...] = ()

    @property
    def named(self) -> frozenset[str]:
        """The letters of all options it names, by word or by letter."""
        return self.by_word | self.by_letter

    @property
    def letter(self) -> str | None:
        """The one option that every part of it names; None if it names none, several, or strays from the options."""
        return next(iter(self.named)) if len(self.named) == 1 and not self.strays else None


def read_conclusion(conclusion: str, options: Sequence[str]) -> Conclusion:
    """Read which options a conclusion names, in words and by letter.

    Args:
        conclusion: the text after "the answer is", as :class:`Reading` has it.
        options: the option texts in letter order.

    >>> said = read_conclusion("left cyst B", ["left cyst", "right cyst", "left mass"])
    >>> sorted(said.by_word), sorted(said.by_letter), said.letter
    (['A'], ['B'], None)
    >>> read_conclusion("left cyst B", ["CT", "MRI"]).strays
    ('left', 'cyst')
    """
    rest, by_word = conclusion, set()
    for start, end, letters in reversed(option_mentions(conclusion, options)):
        rest, by_word = f"{rest[:start]} {rest[end:]}", by_word.union(letters)  # "H&E stain" holds no letter E
    by_letter = set(re.findall(r"\b[A-Z]\b(?![-&])", rest)) & set(LETTERS[: len(options)])
    beside = {word for letter in by_letter for word in words_said(options[LETTERS.index(letter)], fact_words())}
    strays = () if by_word else (word for word in words_said(rest, fact_words()) if word not in beside)
    return Conclusion(frozenset(by_word), frozenset(by_letter), tuple(strays))


def concluded_letter(conclusion: str | None, options: Sequence[str]) -> str | None:
    """Return the letter of the one option that every part of a conclusion names; None if there is no such option.

    >>> concluded_letter("left cyst B", ["left mass", "left cyst"]), concluded_letter("left cyst", ["left cyst"])
    ('B', 'A')
    """
    return None if conclusion is None else read_conclusion(conclusion, options).letter


def rationale_truth(
    preds: pd.DataFrame, by: str | Sequence[str] | None = None, cluster: str | bool | None = None
) -> pd.DataFrame:
    """Return how true the rationales of predictions on phantoms are, and whether they conclude on the answer given.

    Every share but ``true`` is one of all ``rationales``, also of those that conclude on nothing. A share of the
    concluding ones alone would rise where the others stop concluding; here nothing is left out, ``agrees`` is at most
    ``concludes``, and the difference of the two is the disagreement.

    Args:
        preds: predictions on phantoms; rows without a thinking block count in ``n`` alone.
        by: the column(s) that make a row, such as "format" or "fact"; "fact" splits the statements by what they are
            about (finding, size, …). None for one row.
        cluster: what does not count as independent, as in :func:`medr1kit.score`; None, without patients: the question,
            because the statements of one rationale stand and fall together.

    Returns:
        A frame with the ``by`` columns, then ``n`` (answers), ``rationales`` (with a thinking block), ``statements``
        (checkable ones), ``true`` with ``low`` and ``high`` (share of statements that hold, with its 95 % interval)
        and ``cluster`` (what the interval counts), and as shares of ``rationales``:

        - ``names_finding``: name the image's finding and no other;
        - ``concludes``: end in a conclusion that names an option, by word or letter, in conflict or not;
        - ``agrees``: conclude on the predicted answer with every part, so neither "prostate C" where C is spine, nor
          "left cyst C" where left cyst is no option;
        - ``off_options``: end in a conclusion that names no option, or whose words are no option's beside a letter;
        - ``says_word``, ``word_right``: name an option in words; name the gold one, and no other, in words;
        - ``says_letter``, ``letter_right``: the same by letter;
        - ``answer_right``: have the gold letter as their answer.

    Raises:
        DataError: if a column is missing, a row is not about a phantom, or its text was ended at its answer.
    """
    keys = columns_given(by)
    groups = [key for key in keys if key != "fact"]
    preds = check_predictions(preds, _COLUMNS, cluster, groups)
    unit, by_patient = clustering([preds], cluster)
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
            places = some["row"].to_numpy(int)
            interval = (
                share(some["holds"].astype(float), unit[places])[1:],
                counted(unit[places], by_patient[places], cluster),
            )
            rows.append({key: names[key] for key in keys} | _truth_row(part, some, interval))
    return pd.DataFrame(rows)


def true_share(preds: pd.DataFrame) -> np.ndarray:
    """Return for each prediction on phantoms the share of its statements that hold; nan where there are none.

    Args:
        preds: predictions, with ``think`` and ``image_id``.
    """
    shares = np.full(len(preds), np.nan)
    for place, (think, image_id) in enumerate(zip(preds["think"], preds["image_id"])):
        statements = check_rationale(think, image_id).statements if isinstance(think, str) else ()
        if statements:
            shares[place] = np.mean([statement.holds for statement in statements])
    return shares


def _read_all(preds: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions with what their rationale says, and one row a statement."""
    verdicts, statements = [], []
    bar = progress(preds[list(_COLUMNS)].itertuples(), "reading rationales", total=len(preds), unit="rationale")
    for row in bar:
        if not isinstance(row.think, str):
            verdicts.append({"written": False})
            continue
        reading = check_rationale(row.think, row.image_id)
        verdicts.append({"written": True, "names_finding": reading.names_finding} | _conclusion_verdict(reading, row))
        statements += [(row.Index, row.image_id, statement.fact, statement.holds) for statement in reading.statements]
    rationales = preds.join(pd.DataFrame(verdicts, columns=["written", *_SHARES]))
    return rationales, pd.DataFrame(statements, columns=["row", "image_id", "fact", "holds"])


def _conclusion_verdict(reading: Reading, row: tuple) -> dict[str, bool]:
    """One rationale's part in each share that is about conclusion and answer."""
    said = Conclusion() if reading.conclusion is None else read_conclusion(reading.conclusion, row.options)
    predicted = row.predicted if isinstance(row.predicted, str) else ""  # an answer that was not read agrees with none
    return {
        "concludes": bool(said.named),
        "agrees": said.letter == predicted,
        "off_options": reading.conclusion is not None and (bool(said.strays) or not said.named),
        "says_word": bool(said.by_word),
        "word_right": said.by_word == {row.answer},
        "says_letter": bool(said.by_letter),
        "letter_right": said.by_letter == {row.answer},
        "answer_right": predicted == row.answer,
    }


def _truth_row(rationales: pd.DataFrame, statements: pd.DataFrame, interval: tuple) -> dict[str, float]:
    written = rationales[rationales["written"]]
    holds = statements["holds"].astype(float)
    (low, high), cluster = interval
    counts = {"n": len(rationales), "rationales": len(written), "statements": len(statements)}
    shares = written[list(_SHARES)].astype(float).mean().to_dict()
    return counts | {"true": holds.mean(), "low": low, "high": high, "cluster": cluster} | shares
