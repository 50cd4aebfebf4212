"""The audit: everything that can be known about a pair of training and test files before a model is trained.

:func:`audit` measures, :class:`AuditReport` keeps the measures and says in plain sentences what they mean.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medr1kit.audits.balance import find_balance
from medr1kit.audits.defects import find_defects
from medr1kit.audits.floors import find_floors
from medr1kit.audits.hashes import hash_data
from medr1kit.audits.leaks import image_leaks, shared_rows, text_leaks
from medr1kit.audits.lookalikes import Pair, Twins, find_twins, frame_of, pairs_of
from medr1kit.audits.measures import Found, Measure, worst_first
from medr1kit.audits.page import TITLE, body, page
from medr1kit.audits.rows import Questions, read_questions, units_of
from medr1kit.given import output_file, whole_number
from medr1kit.progress import progress
from medr1kit.results.runs import replace_file
from medr1kit.results.stats import wilson
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 100  # rows below which a test is called small
_SHOWN_IN_TRAINING = ("test_rows_with_train_image", "test_rows_with_train_image_lookalike")
_FLAT = ("size", "floors", "leaks", "balance", "defects")  # sections whose measures are top-level JSON keys


def audit(
    train: Any,
    test: Any,
    *,
    images: str | os.PathLike | None = None,
    cluster: str | bool | None = None,
    distance: int = 2,
) -> AuditReport:
    """Measure how far one gets on ``test`` without looking, what leaks into it from ``train``, and what is wrong in it.

    Args:
        train, test: Datasets (from :func:`medr1kit.load_vqa`), frames or lists of rows, with ``options`` (texts in
            letter order) and ``answer`` (gold letter), or Med-R1's ``problem`` and ``solution``. Of the other columns
            of :mod:`medr1kit.vqa` each is used if it is there; what cannot be measured without it is left out and named
            in the findings.
        images: the folder that the image paths start from, to compare the images themselves. Default: the images that
            the Datasets hold, if they do. Hashes are kept in the user's cache folder; the first time takes minutes for
            80,000 images.
        cluster: what intervals count, as in :func:`medr1kit.score`. None: patients where ``test`` has a ``patient_id``,
            else questions. A column of ``test``, such as "image_id", "question" or "source". False: questions.
        distance: how many of the 64 bits of two perceptual hashes may differ in pictures that count as lookalikes; why
            2, see :mod:`medr1kit.audits.hashes`.

    Returns:
        The report. A warning is emitted if every test row is also a training row.

    Raises:
        DataError: if a side has no rows, lacks its columns, has a gold letter that names no option, or ``cluster`` is
            missing.

    Source: formulas and counts are those of the Med-R1 facts, sections 1.6 and 1.7.

    >>> seen = [{"options": ["cyst", "stone"], "answer": "A"}, {"options": ["wall", "cyst"], "answer": "B"}]
    >>> report = audit(seen, [{"options": ["stone", "Cyst."], "answer": "B"}])
    >>> report.summary["chance"], report.summary["blind_options"], report.summary["hard_subset_n"]
    (50.0, 100.0, 0)
    """
    distance = whole_number(distance, "distance", 0, 16)  # of 64 bits
    rows = {"train": read_questions(train, "train"), "test": read_questions(test, "test")}
    units, counted = units_of(test, "test", cluster)
    for name, side in rows.items():
        if images is not None and side.images is None:
            raise DataError(f"{name} has neither image_id nor image paths; leave images= out")
    given = {"train": train, "test": test}
    hashed = [hash_data(data, rows[name].images, images) for name, data in given.items()]
    twins = None if None in hashed else find_twins(*hashed, distance)
    total = 5 if twins is None else 6
    parts = list(progress(_parts(*rows.values(), units, hashed, twins, distance), "audit", total=total, unit="part"))
    about = {"cluster": counted, "distance": distance, "train_letter_used": rows["train"].commonest_letter}
    measures = tuple(measure for part in parts for measure in part)
    lookalikes = None if twins is None else frame_of(twins, *rows.values())
    pairs = () if lookalikes is None else pairs_of(lookalikes, rows, given, images)
    report = AuditReport(measures, worst_first(parts), about, rows["test"].ids, lookalikes, pairs)
    if len(report.rows.get("test_rows_in_train", ())) == len(rows["test"]):
        warnings.warn("every test row is a training row: a score on this test measures memory only", stacklevel=2)
    return report


def _parts(
    train: Questions, test: Questions, units: np.ndarray | None, hashed: list, twins: Twins | None, distance: int
) -> Iterator[Found]:
    """The parts of an audit, in the order of the report."""
    yield _sizes(train, test)
    floors = find_floors(train, test, shared_rows(train, test), units)
    yield floors
    leaks = text_leaks(train, test)
    if twins is None:
        leaks.say(3, 0, "The images themselves were not compared: give the image folder to find copies among them.")
    yield leaks
    if twins is not None:
        by_path = next((leak.value for leak in leaks if leak.name == "test_rows_with_train_image"), 0)
        yield image_leaks(*hashed, twins, distance, by_path)
    yield find_balance(train, test, [rule for rule in floors if rule.section == "blind_options_by_modality"])
    yield find_defects(train, test)


def _sizes(train: Questions, test: Questions) -> Found:
    found, n = Found("size"), len(test)
    for side in (train, test):
        found.add(f"n_{side.name}", len(side), "rows", len(side), side=side.name)
    if len(train) < n:
        found.say(2, 100, f"The test has more rows ({n:,}) than training ({len(train):,}): are they swapped?")
    if n < _FEW:
        low, high = (100 * limit for limit in wilson(n / 2, n))
        at_half = f"at 50 % accuracy the 95 % interval is {low:.0f} to {high:.0f} %"
        found.say(0, 1, f"The test has only {n} row{'s' if n > 1 else ''}: {at_half}.")
    return found


@dataclass(frozen=True, repr=False)
class AuditReport:
    """What an audit found.

    Attributes:
        measures: every number, with the rows behind it.
        findings: what the measures mean, in plain sentences, the worst first.
        about: the settings it was made with.
        test_ids: the ids of the test rows, or None.
        lookalikes: a row for each test picture that has a twin in training: ``test_row``, ``train_row``, ``bits`` by
            which the two looks differ, ``same_file``, ``same_name``; None where the images were not compared.
        pairs: the first few of them with their pictures, as the report shows them.
    """

    measures: tuple[Measure, ...]
    findings: list[str]
    about: dict[str, Any]
    test_ids: list[str] | None = None
    lookalikes: pd.DataFrame | None = field(default=None, compare=False)
    pairs: tuple[Pair, ...] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The measures as a table: section, measure, value, unit, low, high, n. Shares are in percent."""
        names = ["section", "name", "value", "unit", "low", "high", "n"]
        return pd.DataFrame(map(vars, self.measures))[names].rename(columns={"name": "measure"})

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """The numbers of the rows behind a count, by its name: of the training rows if it begins with "train_".

        ``test.select(report.rows["hard_subset_n"])`` is the hard subset: the questions whose gold is not the one best
        option of the lookup. A model that has only learned the wording fails there, so accuracy on it says more; but it
        is chosen against the lookup, which scores below chance on it by construction.
        """
        return {measure.name: measure.rows for measure in self.measures if measure.rows is not None}

    @cached_property
    def verdict(self) -> str:
        """Whether models may be compared by this test as to what they see, and why not.

        "No" where the lookup's interval lies more than 10 points above chance, more than 5 % of the test's images are
        in training, or the test's rows are training rows; "with care" where it is less; else "yes", with the
        difference that so many questions show (two models, a fifth of the verdicts differ, power 0.8).
        """
        by = {measure.name: measure for measure in self.measures if measure.section in _FLAT}
        lookup, chance = by["blind_options"], by["chance"].value
        leaks = [by[name] for name in _SHOWN_IN_TRAINING if name in by and by[name].value]
        reasons, grave = [], lookup.low > chance + 10 or any(leak.part > 5 for leak in leaks)
        if lookup.low > chance:
            reasons.append(
                f"a lookup of option texts answers {lookup.estimate} without an image, chance is {chance:.1f} %"
            )
        if leaks:
            reasons.append(f"{max(leaks, key=lambda leak: leak.value).counted} test rows show an image of training")
        if by["n_test"].value < _FEW:
            reasons.append(f"{by['n_test'].value} questions tell little")
        if reasons:
            return f"Fit to compare models by looking? {'No' if grave else 'With care'}: {'; '.join(reasons)}."
        compared = (
            "and no test image is in training" if set(_SHOWN_IN_TRAINING) & set(by) else "images were not compared"
        )
        from medr1kit.results.power import smallest_difference  # scipy.stats, which takes a second

        points = 100 * smallest_difference(lookup.n)
        return (
            f"Fit to compare models by looking? Yes: without an image a lookup stays at chance ({lookup.estimate}, "
            f"chance {chance:.1f} %), {compared}; {lookup.n:,} questions show differences of {points:.1f} points and "
            "more."
        )

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of :meth:`to_json` as a dict."""
        content: dict[str, Any] = {}
        for measure in self.measures:
            place = content if measure.section in _FLAT else content.setdefault(measure.section, {})
            place[measure.name] = _number(measure.value)
        limits = {m.name: [_number(m.low), _number(m.high)] for m in self.measures if m.section == "floors"}
        content["intervals"] = {name: pair for name, pair in limits.items() if None not in pair}
        hard = self.rows["hard_subset_n"].tolist()
        content["hard_subset_rows"] = hard
        content["hard_subset_ids"] = None if self.test_ids is None else [self.test_ids[row] for row in hard]
        return content | {"about": self.about, "verdict": self.verdict, "findings": self.findings}

    def to_json(self, path: str | os.PathLike | None = None) -> str | None:
        """Return the report as JSON, or write it to ``path`` (.json), where only an earlier one is replaced.

        Shares are in percent, counts in rows; a key is absent if the data lacks the column it needs. "Lookup" is that
        of :mod:`medr1kit.audits.floors`, learned on all training rows, ties split evenly. {side} is train or test.

        Floors, each the accuracy of a rule on the test:

        * n_train, n_test: rows; chance: mean of 1 / number of options over the test
        * best_letter: share of the most frequent gold letter in the test
        * train_letter: always the most frequent gold letter of training, which is about.train_letter_used
        * longest_option: the option with the longest normalised text
        * blind_options: lookup by option text; blind_options_stem: by option text and stem
        * blind_stem_disjoint: blind_options from the stem_disjoint_train_rows rows whose stem is not in the test
        * blind_disjoint: … from the disjoint_train_rows rows whose image and problem text are not in the test
        * curve: blind_options after 30, 100, 300 and 1000 training rows, mean of five draws
        * blind_options_by_modality, blind_options_by_task, chance_by_modality, chance_by_task: parts of a mixed test
        * intervals: 95 % limits of the floors, by key
        * hard_subset_n: test rows whose gold is not the one best option of blind_options; hard_subset_rows,
          hard_subset_ids: which; hard_subset_chance: chance on them

        Leaks:

        * test_rows_with_train_image: image path also in training; test_rows_with_train_image_and_answer: image path
          and gold text in one training row
        * test_rows_with_train_patient: patient_id also in training (where both sides name patients)
        * test_rows_with_train_problem: problem text (question and options) also in training;
          test_rows_with_train_stem: question also in training
        * test_rows_in_train: image, problem text and gold in one training row
        * {side}_rows_with_answer_in_path: the gold text's letters stand in the image path
        * test_rows_with_train_image_content: a training image is the same file, byte by byte (images on disk only);
          test_rows_with_train_image_lookalike: … or differs in at most about.distance bits of the perceptual hash
        * {side}_rows_with_unreadable_image: missing or corrupt, so not compared

        Balance:

        * letters_{side}: rows by gold letter; options_{side}: by number of options; modalities_{side}: by modality;
          cells_{side}: by modality x task
        * {side}_empty_cells: cells without a row; {side}_modality_task_v: Cramér's V of modality and task, 0..1
        * {side}_gold_texts: distinct right option texts; {side}_never_gold_texts: distinct texts right nowhere there
        * {side}_two_option_commonest_gold: of the two-option questions, share whose gold begins with one word, the
          commonest, and the wrong option with another

        Defects:

        * {side}_told_answers: the question tells its answer, in words ("Answer: No"), or by naming one option, where
          that option is right more often than chance
        * {side}_repeated_options: two options are one text, but for case and a full stop at the end;
          {side}_near_duplicate_options: … and differ in just that; {side}_repeated_gold: … and one of them is gold
        * {side}_malformed_options: see :func:`medr1kit.audits.defects.is_malformed`
        * {side}_uneven_full_stops: some options end in a full stop, others do not
        * {side}_duplicate_rows: copies of an earlier row
        * conflicting_golds: questions (image and problem text) with two gold letters, in both sides together
        * several_golds: questions (image and stem) with two gold texts; rows_with_other_gold_as_distractor: their rows
          in which the other gold text is a wrong option

        And: about, the settings (cluster, distance, …); verdict, one sentence; findings, the others.
        """
        file = None if path is None else output_of("json", path)
        text = json.dumps(self.summary, indent=1, ensure_ascii=False, allow_nan=False)
        return _written(file, text)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the blind floors; see :func:`medr1kit.audits.picture.plot_audit`."""
        from medr1kit.audits.picture import plot_audit

        return plot_audit(self.frame, ax=ax)

    def to_html(self, path: str | os.PathLike | None = None) -> str | None:
        """Return the report as one HTML page, or write it to ``path`` (.html); only an earlier one is replaced."""
        file = None if path is None else output_of("html", path)
        return _written(file, page(self))

    def _repr_html_(self) -> str:
        return body(self)

    def __repr__(self) -> str:
        findings = (f"{number}. {sentence}" for number, sentence in enumerate(self.findings, 1))
        pairs = (f"Lookalikes: {pair}." for pair in self.pairs)
        return "\n".join([*findings, *pairs, self.verdict])


def output_of(kind: str, path: str | os.PathLike) -> Path:
    """Return the path of a report that is to be written, "json" or "html"; no other file is replaced by it.

    Raises:
        DataError: as :func:`medr1kit.given.output_file` does.
    """
    ours = {"json": b'{\n "n_train":', "html": TITLE.encode()}[kind]
    return output_file(path, "path", (f".{kind}",), (ours,))


def _written(file: Path | None, text: str) -> str | None:
    """The text, or None if it was written: the last line of a cell is then no wall of it."""
    if file is None:
        return text
    try:
        replace_file(file, text + "\n")
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be written: {error.strerror or error}; give another file") from error
    return None


def _number(value: float) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else round(float(value), 4)
