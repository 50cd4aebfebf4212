"""Which option texts must not stand beside each other."""

import pytest

from medr1kit.audits.debias import named_modality, same_meaning, yes_or_no


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
