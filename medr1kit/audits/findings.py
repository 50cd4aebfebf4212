"""Findings: the measures of an audit as plain sentences, the worst first.

A finding belongs to one of four ranks; within a rank the one that concerns the larger share of the test comes first:

0. the test is no test: its rows were trained on, or there are too few;
1. a high score does not need sight: blind floors above chance, images shared with training;
2. less direct ways to the answer, and what cannot be told apart: stems, paths, punctuation, confounded tasks, defects;
3. what is in order, what was not measured, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medr1kit.audits.measures import Measure
from medr1kit.results.stats import wilson

Finding = tuple[int, float, str]  # rank, share of the test in percent, sentence
_SIDES = {"test": "test", "train": "training"}
_FEW = 100  # rows below which a test is called small


class Book:
    """The measures by section and name."""

    def __init__(self, measures: Iterable[Measure]):
        self.sections: dict[str, dict[str, Measure]] = {}
        for measure in measures:
            self.sections.setdefault(measure.section, {})[measure.name] = measure
        self.all = {name: m for section in self.sections.values() for name, m in section.items()}

    def __contains__(self, name: str) -> bool:
        return name in self.all

    def __getitem__(self, name: str) -> Measure:
        return self.all[name]

    def value(self, name: str) -> float:
        """The value of a measure; 0 if it was not measured."""
        return self.all[name].value if name in self.all else 0

    def part(self, section: str) -> dict[str, Measure]:
        """The measures of a section."""
        return self.sections.get(section, {})


def write_findings(measures: Iterable[Measure], about: dict[str, Any]) -> list[str]:
    """Return the findings as sentences, the worst first."""
    book = Book(measures)
    found: list[Finding] = []
    for part in (_no_test, _floors, _other_floors, _shared, _given_away, _pictures, _mixture, _defects, _next):
        found += part(book, about)
    return [sentence for _, _, sentence in sorted(found, key=lambda finding: (finding[0], -finding[1]))]


def _rows(measure: Measure) -> str:
    """For example "435 of 3,241 (13.4 %)"."""
    return f"{measure.value:,} of {measure.n:,} ({_part(measure):.1f} %)"


def _part(measure: Measure) -> float:
    return 100 * measure.value / measure.n


def _share(measure: Measure) -> str:
    return f"{measure.value:.1f} % [{measure.low:.1f}, {measure.high:.1f}]"


# --- rank 0 ----------------------------------------------------------------------------------------------------------


def _no_test(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = []
    n = book["n_test"].value
    same = book.all.get("test_rows_in_train")
    if same and same.value == n:
        sentence = f"Every test row is a training row ({n:,} of {n:,}): a score here measures memory only."
        found.append((0, 100, sentence + " Was one file given as both?"))
    elif same and same.value:
        found.append((0, _part(same), f"{_rows(same)} test rows are training rows, with image, problem and answer."))
    if book["n_train"].value < n:
        found.append(
            (2, 100, f"The test has more rows ({n:,}) than training ({book['n_train'].value:,}): are they swapped?")
        )
    if n < _FEW:
        low, high = wilson(n / 2, n)
        rows = "1 row" if n == 1 else f"{n} rows"
        width = f"{100 * low:.0f} to {100 * high:.0f} %"
        found.append((0, 1, f"The test has only {rows}: at 50 % accuracy the 95 % interval is {width}."))
    return found


# --- rank 1 ----------------------------------------------------------------------------------------------------------


def _floors(book: Book, about: dict[str, Any]) -> list[Finding]:
    blind, chance = book["blind_options"], book["chance"].value
    if blind.low <= chance:
        verdict = "does not beat chance" if blind.high >= chance else "stays below chance"
        found: list[Finding] = [(3, 0, f"The option lookup {verdict}: {_share(blind)}, chance {chance:.1f} %.")]
        stem = book.all.get("blind_options_stem")
        if stem and stem.low > chance:
            sentence = f"Without an image, a lookup by question and option text answers {_share(stem)}"
            found.append((1, stem.value - chance, f"{sentence}; chance is {chance:.1f} %."))
        return found
    sentence = (
        f"Without an image, a lookup of which option text was right in training answers {blind.value:.1f} % "
        f"(95 % interval [{blind.low:.1f}, {blind.high:.1f}]); chance is {chance:.1f} %"
    )
    if "blind_options_stem" in book:
        sentence += f", and with the question's stem it answers {_share(book['blind_options_stem'])}"
    gold, never = (book.value(f"test_{name}_texts") for name in ("gold", "never_gold"))
    if never > gold:
        sentence += (
            f". The reason: right answers are {gold:,} distinct texts, and {never:,} other texts are never right"
        )
    return [(1, blind.value - chance, sentence + "."), *_cheap_lookups(book, chance)]


def _cheap_lookups(book: Book, chance: float) -> list[Finding]:
    """What the lookup still answers with little or unrelated training data: one sentence."""
    parts = [
        (measure.value - chance, f"{_share(measure)} from {size} training rows")
        for size, measure in book.part("curve").items()
        if measure.low > chance
    ][:1]
    for name, left in (("stem", "stem"), ("", "image or problem text")):
        key = f"{name}_disjoint".lstrip("_")
        measure = book.all.get(f"blind_{key}")
        if measure and book.value(f"{key}_train_rows") and measure.low > chance:
            parts.append((measure.value - chance, f"{_share(measure)} from training rows that share no {left} with it"))
    if not parts:
        return []
    sentence = f"That takes neither much data nor leaks: the lookup answers {'; '.join(text for _, text in parts)}."
    return [(1, min(gap for gap, _ in parts) / 2, sentence)]


def _other_floors(book: Book, about: dict[str, Any]) -> list[Finding]:
    found, chance = [], book["chance"].value
    longest, letter = book["longest_option"], book["train_letter"]
    if longest.low > chance:
        found.append((1, longest.value - chance, f"Picking the longest option answers {_share(longest)}."))
    elif longest.high < chance:
        sentence = f"Picking the longest option answers only {_share(longest)}; chance is {chance:.1f} %"
        sentence += ": right answers tend to be short."
        found.append((2, chance - longest.value, sentence))
    if letter.low > chance:
        sentence = (
            f"Always answering {about['train_letter_used']}, training's commonest letter, gives {_share(letter)}."
        )
        found.append((1, letter.value - chance, sentence))
    return found


def _shared(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = []
    if "test_rows_with_train_image" in book and (image := book["test_rows_with_train_image"]).value:
        answer = book["test_rows_with_train_image_and_answer"].value
        more = f", {answer:,} of them with the same answer" if answer else ""
        found.append((1, _part(image), f"{_rows(image)} test rows ask about an image that is also in training{more}."))
    if "test_rows_with_train_problem" in book and (problem := book["test_rows_with_train_problem"]).value:
        sentence = f"{_rows(problem)} test rows have a problem text (question and options) that is also in training."
        found.append((1, _part(problem), sentence))
    if "test_rows_with_train_image_content" in book:
        content, alike = (book[f"test_rows_with_train_image_{name}"] for name in ("content", "lookalike"))
        if content.value > book.value("test_rows_with_train_image"):
            found.append(
                (1, _part(content), f"{_rows(content)} test rows show an image whose file is also in training.")
            )
        if alike.value > content.value:
            sentence = (
                f"{_rows(alike)} test rows show an image that has a twin or lookalike in training (perceptual hashes "
                f"differ in at most {about['distance']} of 64 bits)."
            )
            found.append((1, _part(alike), sentence))
    return found


# --- rank 2 ----------------------------------------------------------------------------------------------------------


def _given_away(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = []
    if book.value("test_rows_with_train_stem"):
        stem = book["test_rows_with_train_stem"]
        found.append((2, _part(stem), f"{_rows(stem)} test rows ask a question that was also asked in training."))
    found += _both(
        book, "rows_with_answer_in_path", "have their answer in the image path; a path must never reach a prompt"
    )
    two = {side: book.all.get(f"{side}_two_option_commonest_gold") for side in _SIDES}
    two = {side: m for side, m in two.items() if m and m.value > 75 and m.n >= 10}
    if two:
        parts = " and ".join(f"{m.value:.1f} % of {m.n:,} {_SIDES[side]} rows" for side, m in two.items())
        weight = two["test"].value * two["test"].n / book["n_test"].value if "test" in two else 0
        sentence = f"With two options, the right one, and not the other, begins with one and the same word in {parts}."
        found.append((2, weight, sentence))
    return found


def _both(book: Book, name: str, what: str) -> list[Finding]:
    """One sentence about the rows of test and training that have a defect, ranked by the test's share."""
    sides = [(side, book.all.get(f"{side}_{name}")) for side in ("test", "train")]
    counted = [(side, measure) for side, measure in sides if measure and measure.value]
    if not counted:
        return []
    rows = " and ".join(f"{_rows(measure)} {_SIDES[side]} rows" for side, measure in counted)
    side, measure = counted[0]
    return [(2, _part(measure) if side == "test" else 0, f"{rows} {what}.")]


def _pictures(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = _both(book, "rows_with_unreadable_image", "have an image that is missing or unreadable")
    for side in ("train", "test"):
        measure = book.all.get(f"{side}_rows_with_unreadable_image")
        if measure and measure.value == measure.n:
            found.append((0, 0, f"No {_SIDES[side]} image could be read: is it the folder that the paths start from?"))
    if "test_rows_with_train_image_content" not in book:
        found.append(
            (3, 0, "The images themselves were not compared: give the image folder to find copies among them.")
        )
    if "test_rows_with_train_problem" not in book:
        found.append((3, 0, "Questions were not compared: a side has no column question or problem."))
    if "test_rows_with_train_image" not in book:
        found.append((3, 0, "Shared images could not be counted: a side has neither image_id nor image paths."))
    return found


def _mixture(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = []
    trained, tested = (book.part(f"modalities_{side}") for side in ("train", "test"))
    if trained and tested and not trained.keys() & tested.keys():
        found.append(
            (2, 100, f"Training holds {_names(trained)}, the test {_names(tested)}: the floors are for transfer.")
        )
    elif len(trained) > len(tested) == 1:
        here = f"Training holds {len(trained)} modalities, the test {_names(tested)} only"
        found.append((2, 100, f"{here}: a floor from {_names(tested)} alone may differ."))
    if parts := book.part("blind_options_by_modality"):
        low, high = (chosen(parts.values(), key=lambda m: m.value) for chosen in (min, max))
        lookups = f"run from {low.value:.1f} % ({low.name}) to {high.value:.1f} % ({high.name})"
        if low.value == high.value:
            lookups = f"all answer {low.value:.1f} %"
        sentence = f"The test mixes {len(parts)} modalities, whose option lookups {lookups}: audit each by itself."
        found.append((2, 100, sentence))
    return found + _cells(book)


def _cells(book: Book) -> list[Finding]:
    """Whether the test's modality and task can be told apart."""
    unknown = [_SIDES[side] for side in ("train", "test") if not book.part(f"cells_{side}")]
    found = []
    if unknown:
        sentence = f"Modality x task was not counted in {' and '.join(unknown)}: the rows do not say both."
        found.append((3, 0, sentence))
    if not book.value("test_empty_cells"):
        return found
    empty = book["test_empty_cells"]
    largest = max(book.part("cells_test").values(), key=lambda m: m.value)
    sentence = (
        f"{empty.value} of the test's {empty.n} modality x task cells are empty, and the largest, {largest.name}, "
        f"holds {_part(largest):.0f} % of the rows: modality and task cannot be told apart."
    )
    return [*found, (2, _part(largest) / 2, sentence)]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


_DEFECTS = {
    "repeated_gold": "offer their right answer twice",
    "repeated_options": "have two options that are one text, but for case and a full stop",
    "malformed_options": "have a malformed option (empty, padded, a line break, a letter in it)",
    "uneven_full_stops": "end some options in a full stop and others not, which can tell right from wrong",
    "duplicate_rows": "are copies of an earlier row",
}


def _defects(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = []
    for name, what in _DEFECTS.items():
        found += _both(book, name, what)
    if number := book.value("conflicting_golds"):
        asked = "question is" if number == 1 else "questions are"
        sentence = f"{number} {asked} asked twice, with the same image and options, and different right answers."
        found.append((2, 1, sentence))
    if number := book.value("several_golds"):
        asked = "question has" if number == 1 else "questions have"
        sentence = f"{number} {asked} different right answers in different rows about one image"
        if rows := book.value("rows_with_other_gold_as_distractor"):
            sentence += f"; {rows} of these rows offer the other right answer as a wrong option"
        found.append((2, 0, sentence + "."))
    return found


# --- rank 3 ----------------------------------------------------------------------------------------------------------


def _next(book: Book, about: dict[str, Any]) -> list[Finding]:
    found = []
    hard = book["hard_subset_n"]
    if 0 < hard.value < hard.n and book["blind_options"].low > book["chance"].value:
        sentence = (
            f"The lookup does not settle {_rows(hard)} test questions (hard subset): score models on these as well."
        )
        found.append((3, 100, sentence))
    if "blind_stem_disjoint" in book and not book.value("stem_disjoint_train_rows"):
        sentence = (
            "Every training stem is also in the test, so blind_stem_disjoint has nothing to learn from: it is chance."
        )
        found.append((3, 0, sentence))
    if not book.part("curve"):
        n = book["n_train"].value
        found.append((3, 0, f"Training has {n} rows only: too few for a learning curve, and for floors that say much."))
    return found
