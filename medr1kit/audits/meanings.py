"""Do two option texts say the same? A cautious guess from their words, made where a wrong yes costs little."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

from medr1kit.audits.rows import plain
from medr1kit.vqa import DataError, modality_name

_YES_NO = re.compile(r"\W*(yes|no)\b(?:\W*$|\W+(?:it|there|this|that|these|those|the|they)\b)", re.IGNORECASE)
_NEGATIONS = {"no", "not", "non", "without", "absence", "absent", "never"}
# "bowel abnormality" is right for a bowel mass, too
_GENERIC = {"abnormality", "abnormalities", "pathology", "pathologies", "disorder", "disorders"}
_IMAGE_WORDS = {"imaging", "image", "images", "scan", "scans", "scanning", "photography", "photograph", "technique"}
_ADJECTIVES = {
    "dermoscopic": "Dermoscopy",
    "dermatoscopic": "Dermoscopy",
    "microscopic": "Microscopy",
    "radiograph": "X-Ray",
    "radiographic": "X-Ray",
    "sonography": "Ultrasound",
}


def same_meaning(first: str, second: str) -> bool:
    """Whether two option texts must not stand beside each other, because both may be right.

    They are taken to mean the same if they differ only in case, punctuation or a plural; if one is the other with more
    words, none of which denies it ("abnormality" and the like do not count); if both are the same yes or no; or if both
    name the same modality. Other synonyms ("nevus", "mole") are not known.

    >>> same_meaning("Lung", "lungs."), same_meaning("Melanoma", "malignant melanoma")
    (True, True)
    >>> same_meaning("No", "no, it's normal"), same_meaning("No", "no diabetic retinopathy")
    (True, False)
    >>> same_meaning("retinopathy", "no retinopathy"), same_meaning("Dermoscopy", "Dermoscopic imaging")
    (False, True)
    >>> same_meaning("bowel abnormality", "bowel mass"), same_meaning("bowel mass", "bowel inflammation")
    (True, False)
    """
    return bool(same_meanings([first, second]))


def same_meanings(texts: Sequence[str]) -> set[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of texts of :func:`same_meaning`, without a look at every pair.

    A text is compared with those that hold the rarest of its words, which are few also among many texts.
    """
    alike, words = defaultdict(list), {}
    for i, text in enumerate(texts):
        if (answer := yes_or_no(text)) is not None:
            alike[answer, "answer"].append(i)
            continue
        words[i] = _words(text)
        if (name := named_modality(text)) is not None:
            alike[name, "modality"].append(i)
    holding = defaultdict(list)
    for i, some in words.items():
        for word in some:
            holding[word].append(i)
    pairs = {(i, j) for some in alike.values() for i, j in combinations(some, 2)}
    # "MRI" and "MRI (without contrast)" name one modality, but of two texts of which one is longer its words decide.
    pairs = {(i, j) for i, j in pairs if i not in words or not (words[i] <= words[j] or words[j] <= words[i])}
    for i, some in words.items():
        with_rarest = min((holding[word] for word in some), key=len)
        longer = (j for j in with_rarest if some <= words[j] and not (words[j] - some) & _NEGATIONS)
        pairs |= {(min(i, j), max(i, j)) for j in longer if j != i}
    return pairs


def yes_or_no(text: str) -> str | None:
    """Return "yes" or "no" for an answer to a yes-or-no question, None for any other text.

    >>> yes_or_no("No."), yes_or_no("no, the tail appears to be normal"), yes_or_no("No finding")
    ('no', 'no', None)
    """
    match = _YES_NO.match(text)
    return match.group(1).lower() if match else None


@lru_cache(maxsize=4096)
def named_modality(text: str) -> str | None:
    """Return the canonical name of the modality that a text names and nothing else, or None.

    >>> named_modality("Computed tomography (CT)"), named_modality("CT scan"), named_modality("a normal OCT image")
    ('CT', 'CT', None)
    """
    for part in (text, *re.split(r"[()]", text)):
        words = [word for word in plain(part.replace("-", " ")).split() if word not in _IMAGE_WORDS]
        if not words:
            continue
        try:
            return _ADJECTIVES.get(" ".join(words)) or modality_name(" ".join(words))
        except DataError:
            continue
    return None


def _words(text: str) -> frozenset[str]:
    """The words of a text, a plural s taken off; generic ones only where there is no other."""
    words = plain(text).split() or [text.strip().casefold()]
    words = [word for word in words if word not in _GENERIC] or words
    return frozenset(word[:-1] if len(word) > 3 and re.search(r"[^su]s$", word) else word for word in words)
