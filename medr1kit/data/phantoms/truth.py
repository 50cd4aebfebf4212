"""What is true of a phantom image, and how a truth is drawn at random.

A phantom is painted *from* its truth, so every question about it has a known answer, and every sentence about it can be
checked. An :class:`ImageId` names everything that made the image: besides modality, split, seed and number, the axes of
an experiment (scanner, shortcut, difficulty, imbalance). Its random streams depend on the first four alone, so that the
same patient can be seen by two scanners, and two splits share no image whatever seeds they are given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medr1kit.vqa import MODALITIES, TASKS, DataError

SPLITS = ("train", "val", "test")
SIZES = ("small", "large")
NUMBERS = ("single", "multiple")
# A grade is read off two signs: how large the lesion is, and whether it has satellites.
GRADE_OF = {
    ("small", "single"): "minimal",
    ("small", "multiple"): "mild",
    ("large", "single"): "moderate",
    ("large", "multiple"): "severe",
}
GRADES = tuple(GRADE_OF.values())
MAX_DIFFICULTY = 0.5  # of an image that draws its own difficulty


@dataclass(frozen=True)
class Truth:
    """The facts a phantom image shows.

    Attributes:
        modality: one of :data:`medr1kit.vqa.MODALITIES`.
        view: projection, position, eye or stain; one of the painter's VIEWS.
        anatomy: what the whole picture shows, from the painter's ANATOMIES.
        finding: the kind of lesion, from the painter's FINDINGS.
        size: "small" or "large", of the main lesion.
        number: "single", or "multiple" for a main lesion with satellites.
        attribute: where the lesion lies or what colour it has, from the painter's ATTRIBUTES.

    >>> Truth("CT", "supine", "liver", "cyst", "large", "single", "left").grade
    'moderate'
    """

    modality: str
    view: str
    anatomy: str
    finding: str
    size: str
    number: str
    attribute: str

    @property
    def grade(self) -> str:
        """How severe the finding is: minimal, mild, moderate or severe."""
        return GRADE_OF[self.size, self.number]


@dataclass(frozen=True)
class ImageId:
    """The name of a phantom image; everything needed to draw it again.

    Attributes:
        modality: one of :data:`medr1kit.vqa.MODALITIES`.
        split: "train", "val" or "test".
        seed: the data set's seed, 0 or more.
        number: the image's number within its modality, 0 or more.
        scanner: the machine that took it, "A" or "B".
        shortcut: probability that marker and distractors give the answer away, 0 to 1.
        difficulty: how faint the lesion is, 0 to 1; None: drawn for this image, up to MAX_DIFFICULTY.
        imbalance: how unequal the classes are, 0 (equally frequent) to below 1; each is (1 - imbalance) times as
            frequent as the one before.
    """

    modality: str
    split: str
    seed: int
    number: int
    scanner: str = "A"
    shortcut: float = 0.0
    difficulty: float | None = None
    imbalance: float = 0.0

    def __str__(self) -> str:
        """The plain id, followed by the axes that are not at their default.

        >>> str(ImageId("CT", "test", 0, 17, scanner="B", shortcut=0.5))
        'CT-test-0-17+scanner=B+shortcut=0.5'
        """
        axes = {name: getattr(self, name) for name in ("scanner", "shortcut", "difficulty", "imbalance")}
        axes = {name: value for name, value in axes.items() if value != getattr(ImageId, name)}
        changed = [f"+{name}={value if name == 'scanner' else float(value)}" for name, value in axes.items()]
        return f"{self.modality}-{self.split}-{self.seed}-{self.number}" + "".join(changed)

    @classmethod
    def read(cls, text: str) -> ImageId:
        """Read an image id; a question's id ("CT-test-0-17-DD") is taken for its image's.

        Raises:
            DataError: if the text does not name a phantom image.

        >>> ImageId.read("X-Ray-test-0-17-DD").number
        17
        """
        if not (match := _ID.fullmatch(text)):
            raise DataError(
                f"{text!r} names no phantom image; expected MODALITY-SPLIT-SEED-NUMBER such as CT-test-0-17"
            )
        axes = dict(axis.split("=") for axis in match["axes"].split("+")[1:])
        axes = {name: value if name == "scanner" else float(value) for name, value in axes.items()}
        return cls(match["modality"], match["split"], int(match["seed"]), int(match["number"]), **axes)

    @property
    def task(self) -> str:
        """What the image's one question asks; tasks take turns."""
        return TASKS[self.number % len(TASKS)]

    def stream(self, purpose: int) -> np.random.Generator:
        """Return the random stream of this image for one purpose.

        Args:
            purpose: 0 truth, 1 pixels, 2 question, 3 difficulty, 4 scanner noise, 5 shortcut, 6 marker, 7 rationale.
        """
        words = (MODALITIES.index(self.modality), SPLITS.index(self.split), self.seed, self.number, purpose)
        return np.random.default_rng(words)

    def own_difficulty(self) -> float:
        """The difficulty of this very image, 0 to 1."""
        return self.stream(3).uniform(0, MAX_DIFFICULTY) if self.difficulty is None else self.difficulty

    def choose(self, rng: np.random.Generator, classes: Sequence[str]) -> str:
        """Draw one of the classes, as unequally as `imbalance` says."""
        if not self.imbalance:
            return classes[rng.integers(len(classes))]
        weights = (1 - self.imbalance) ** np.arange(len(classes))
        return classes[rng.choice(len(classes), p=weights / weights.sum())]


_SHARE = r"(?:0|1|1\.0|0\.\d+|\d(?:\.\d+)?e-\d+)"  # 0 to 1 as Python writes it
_ID = re.compile(
    rf"(?P<modality>{'|'.join(MODALITIES)})-(?P<split>{'|'.join(SPLITS)})-(?P<seed>\d+)-(?P<number>\d+)"
    rf"(?P<axes>(?:\+scanner=[AB])?(?:\+shortcut={_SHARE})?(?:\+difficulty={_SHARE})?(?:\+imbalance={_SHARE})?)"
    r"(?:-[A-Z]+)?"
)
