"""Which option texts must not stand beside each other."""

from itertools import combinations

import pytest

from medr1kit.audits.meanings import named_modality, same_meaning, same_meanings, yes_or_no


@pytest.mark.parametrize(
    "first, second",
    [
        ("Macular Hole (MH)", "macular hole"),
        ("It's a good retinal image.", "its a good retinal image"),
        ("Stage IIIa", "stage IIIa of squamous cell carcinoma of the left hilum."),
        ("no", "No, the tail appears to be normal."),
        ("Yes.", "yes, it is"),
        ("CT", "Computed tomography (CT)"),
        ("X-ray", "Radiography"),
        ("+", " + "),
        ("bowel abnormality", "bowel inflammation"),
        ("Gallbladder pathologies", "gallbladder"),
    ],
)
def test_the_same_in_other_words(first, second):
    assert same_meaning(first, second)
    assert same_meaning(second, first)


@pytest.mark.parametrize(
    "first, second",
    [
        ("Yes", "No."),
        ("No", "No diabetic retinopathy"),
        ("No diabetic retinopathy", "Diabetic retinopathy"),
        ("Mild diabetic retinopathy", "Severe diabetic retinopathy"),
        ("left kidney", "right kidney"),
        ("CT", "MRI"),
        ("+", "-"),
        ("bowel abnormality", "bladder abnormality"),
        ("abnormality", "pathology"),
    ],
)
def test_not_the_same(first, second):
    assert not same_meaning(first, second)
    assert not same_meaning(second, first)


def test_what_a_text_is():
    assert [yes_or_no(text) for text in ("Yes, there is", "no", "Normal", "nodule")] == ["yes", "no", None, None]
    assert [
        named_modality(text) for text in ("Dermoscopic imaging.", "MR scan", "fundus photography", "scan", "liver")
    ] == [
        "Dermoscopy",
        "MRI",
        "Fundus",
        None,
        None,
    ]


def test_a_vocabulary_s_pairs_are_those_of_its_texts_two_by_two():
    places, kinds = (
        ("lung", "left lung", "liver", "lungs", "no lung"),
        ("", "mass", "masses", "abnormality", "not mass"),
    )
    texts = [f"{place} {kind}".strip() for place in places for kind in kinds]
    texts += ["yes", "No.", "no, it is", "no finding", "CT", "CT scan", "CT (without contrast)", "MRI", "Lung"]
    pairs = {(i, j) for (i, one), (j, two) in combinations(enumerate(texts), 2) if same_meaning(one, two)}
    assert same_meanings(texts) == pairs and 30 < len(pairs) < 300


def test_a_large_vocabulary_is_not_compared_two_by_two():
    """Of 4,000 texts there are 8 million pairs; comparing all of them took minutes."""
    texts = [f"finding{i} of organ{i % 900}" for i in range(4_000)] + ["finding7"]
    assert same_meanings(texts) == {(7, 4_000)}
