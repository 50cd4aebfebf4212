"""Something new: one pair of findings a modality that the built-in model was never taught to tell apart.

A model can be weak because the machine changed, and then arithmetic on the pixels helps as much as training does. Or
it can lack a piece of knowledge, which no arithmetic restores. The second is made here: who annotated the built-in
model's training data could not tell the two findings of a pair apart (:func:`mistaken`), so the label within a pair was
a coin's throw, in every stage of the build. In three modalities the pair is the same, cyst and mass, so whether
learning it in one carries over to the others is a real question; each modality paints them in its own way. Four
modalities have no such pair.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from medr1kit.data.phantoms.questions import Question
    from medr1kit.data.phantoms.truth import Truth

TWINS = {
    "CT": ("cyst", "mass"),
    "MRI": ("cyst", "mass"),
    "Ultrasound": ("cyst", "mass"),
    "Dermoscopy": ("nevus", "melanoma"),
}


def twin_of(truth: Truth) -> str | None:
    """Return the finding that the built-in model cannot tell from this image's; None where there is none.

    >>> from medr1kit.data.phantoms.truth import Truth
    >>> twin_of(Truth("CT", "supine", "liver", "cyst", "small", "single", "left"))
    'mass'
    """
    pair = TWINS.get(truth.modality, ())
    return pair[1 - pair.index(truth.finding)] if truth.finding in pair else None


def mistaken(truth: Truth, rng: np.random.Generator) -> Truth:
    """Return what an annotator believes who cannot tell twins apart: one of the two, whichever it is."""
    twin = twin_of(truth)
    return truth if twin is None or rng.random() < 0.5 else replace(truth, finding=twin)


def asks_twins(truth: Truth, question: Question) -> bool:
    """Say whether a question needs twins told apart: the right option with the twin in it is on offer, too."""
    twin = twin_of(truth)
    if twin is None or question.kind.absent or "finding" not in question.kind.facts:
        return False
    return question.gold.replace(truth.finding, twin) in question.options
