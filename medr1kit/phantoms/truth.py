"""What is true of a phantom image, and how a truth is drawn at random.

A phantom is painted *from* its truth, so every question about it has a known answer. The truth comes from a random
stream that depends on modality, split, seed and number of the image alone: not on its size, nor on which other images
are asked for. Hence an image can be redrawn from its id, and two splits share no image whatever seeds they are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medr1kit.vqa import MODALITIES, DataError

GRADES = ("minimal", "mild", "moderate", "severe")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Truth:
    """The five facts a phantom image shows.

    Attributes:
        modality: one of :data:`medr1kit.vqa.MODALITIES`.
        anatomy: what the whole picture shows, from the painter's ANATOMIES.
        finding: the kind of lesion, from the painter's FINDINGS.
        grade: how large or numerous the lesion is, from GRADES.
        attribute: where the lesion lies or what colour it has, from the painter's ATTRIBUTES.
    """

    modality: str
    anatomy: str
    finding: str
    grade: str
    attribute: str


@dataclass(frozen=True)
class ImageId:
    """The name of a phantom image; everything needed to draw it again.

    Attributes:
        modality: one of :data:`medr1kit.vqa.MODALITIES`.
        split: "train", "val" or "test".
        seed: the data set's seed, 0 or more.
        number: the image's number within its modality, 0 or more.
    """

    modality: str
    split: str
    seed: int
    number: int

    def __str__(self) -> str:
        return f"{self.modality}-{self.split}-{self.seed}-{self.number}"

    @classmethod
    def read(cls, text: str) -> ImageId:
        """Read an image id; a question's id ("CT-test-0-17-DD") is taken for its image's.

        Raises:
            DataError: if the text does not name a phantom image.

        >>> ImageId.read("X-Ray-test-0-17-DD")
        ImageId(modality='X-Ray', split='test', seed=0, number=17)
        """
        for modality in MODALITIES:
            parts = text.removeprefix(f"{modality}-").split("-")
            numbers = len(parts) >= 3 and parts[1].isdecimal() and parts[2].isdecimal()
            if text.startswith(f"{modality}-") and numbers and parts[0] in SPLITS:
                return cls(modality, parts[0], int(parts[1]), int(parts[2]))
        raise DataError(f"{text!r} names no phantom image; expected MODALITY-SPLIT-SEED-NUMBER such as CT-test-0-17")

    def stream(self, purpose: int) -> np.random.Generator:
        """Return the random stream of this image for one purpose (0 truth, 1 pixels, 2 question)."""
        words = (MODALITIES.index(self.modality), SPLITS.index(self.split), self.seed, self.number, purpose)
        return np.random.default_rng(words)
