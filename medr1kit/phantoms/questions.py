"""Questions and rationales about a phantom, in the wording of Med-R1's files.

The options of a question are drawn from the words that are the gold answer of *some* image of the same modality and
task, each equally often; for Modality Recognition from all eight modality names. So no option text is right more often
than another, and over the pooled modalities the text alone gains nothing. Inside one modality, Modality Recognition has
one answer by nature; the audit says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medr1kit.phantoms.truth import Truth
from medr1kit.vqa import LETTERS

STEMS = {
    "Anatomy Identification": (
        "What part of the body is shown in this image?",
        "Which anatomical structure is visible in this image?",
        "What body part can be seen here?",
    ),
    "Disease Diagnosis": (
        "What abnormality can be observed in this image?",
        "Which finding is present in this image?",
        "What is the most likely diagnosis?",
    ),
    "Lesion Grading": (
        "How severe is the lesion in this image?",
        "Which grade does the lesion have?",
        "What is the extent of the abnormality?",
    ),
    "Modality Recognition": (
        "What imaging technique was used to take this image?",
        "Which imaging modality is shown here?",
        "How was this image captured?",
    ),
    "Other Biological Attributes": (
        "Which attribute describes the lesion?",
        "What characterises the lesion in this image?",
        "How can the lesion be described?",
    ),
}
# The fact of the truth that a task asks for.
FACT = {
    "Anatomy Identification": "anatomy",
    "Disease Diagnosis": "finding",
    "Lesion Grading": "grade",
    "Modality Recognition": "modality",
    "Other Biological Attributes": "attribute",
}
N_OPTIONS = 4


def ask(truth: Truth, task: str, vocabulary: Sequence[str], rng: np.random.Generator) -> tuple[str, list[str], str]:
    """Write one question about a phantom.

    Args:
        truth: what the image shows.
        task: one of :data:`medr1kit.vqa.TASKS`.
        vocabulary: the gold words of this modality and task, at least four.
        rng: the stream that picks the stem, the distractors and their order.

    Returns:
        The stem, four options in letter order, the gold letter.
    """
    gold = getattr(truth, FACT[task])
    stem = STEMS[task][rng.integers(len(STEMS[task]))]
    distractors = rng.permutation([word for word in vocabulary if word != gold])[: N_OPTIONS - 1]
    options = [str(word) for word in rng.permutation([gold, *distractors])]
    return stem, options, LETTERS[options.index(gold)]


def rationale(truth: Truth, task: str, letter: str) -> str:
    """Write what is true of the image and what follows for the question, as an SFT target's thinking.

    >>> rationale(Truth("CT", "liver", "cyst", "mild", "left"), "Disease Diagnosis", "B")
    'CT of liver, mild cyst, left. So the answer is cyst B'
    """
    facts = f"{truth.modality} of {truth.anatomy}, {truth.grade} {truth.finding}, {truth.attribute}."
    return f"{facts} So the answer is {getattr(truth, FACT[task])} {letter}"
