"""Twins: findings that the built-in model was never taught to tell apart, and the questions that need them."""

from collections import Counter

import numpy as np
import pytest

import medr1kit as mk
from medr1kit.data.phantoms import needs_twins, phantom_rows, question_of, truth_of, words_of
from medr1kit.data.phantoms.truth import ImageId, Truth
from medr1kit.data.phantoms.twins import TWINS, asks_twins, mistaken, twin_of
from medr1kit.vqa import LETTERS, MODALITIES, DataError


def truth(modality="CT", finding="cyst"):
    words = words_of(modality)
    return Truth(modality, words["view"][0], words["anatomy"][0], finding, "small", "single", words["attribute"][0])


def test_each_twin_is_a_finding_of_its_modality_and_the_twin_of_its_twin():
    for modality, pair in TWINS.items():
        assert set(pair) < set(words_of(modality)["finding"]) and len(set(pair)) == 2
        one, other = (truth(modality, finding) for finding in pair)
        assert (twin_of(one), twin_of(other)) == (pair[1], pair[0])
    assert {name for name, pair in TWINS.items() if pair == ("cyst", "mass")} == {"CT", "MRI", "Ultrasound"}


@pytest.mark.parametrize(("modality", "finding"), [("CT", "hemorrhage"), ("OCT", "cyst")])
def test_other_findings_have_no_twin_and_are_never_mistaken(modality, finding):
    seen = truth(modality, finding)
    assert twin_of(seen) is None
    assert {mistaken(seen, np.random.default_rng(seed)) for seed in range(20)} == {seen}


def test_twins_are_mistaken_as_often_as_not_and_nothing_else_changes():
    rng = np.random.default_rng(0)
    believed = Counter(mistaken(truth(), rng) for _ in range(1000))
    assert set(believed) == {truth(), truth(finding="mass")}
    assert abs(believed[truth()] - 500) < 64  # four standard deviations


def test_what_the_annotator_writes_tells_nothing_about_which_twin_it_is():
    """Over many pictures of one twin the other is written as often, in every kind of question."""
    rng, written = np.random.default_rng(0), Counter()
    for number in range(3000):
        image_id = ImageId("MRI", "train", 0, number)
        if truth_of(image_id).finding in TWINS["MRI"]:
            believed = mistaken(truth_of(image_id), rng)
            question = question_of(image_id, believed)
            written[truth_of(image_id).finding, question.kind.facts, believed.finding] += 1
    for (finding, facts, believed), n in written.items():
        others = sum(written[finding, facts, name] for name in TWINS["MRI"])
        assert abs(n - others / 2) < 2 * others**0.5, (finding, facts, believed)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_question_needs_twins_exactly_if_exchanging_them_changes_the_right_option(modality):
    for row in phantom_rows("test", modality=modality, n=150, size=28):
        pair, gold = TWINS.get(modality, ("", "")), row["options"][LETTERS.index(row["answer"])]
        swapped = [gold.replace(a, b) for a, b in (pair, pair[::-1]) if a and a in gold.split()]
        expected = row["task"] == "Disease Diagnosis" and bool(set(swapped) & set(row["options"]))
        assert needs_twins(row["id"]) == needs_twins(row["image_id"]) == expected
        image_id = ImageId.read(row["id"])
        assert asks_twins(truth_of(image_id), question_of(image_id)) == expected


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_twins_is_what_was_asked_for_in_every_modality(share):
    rows = phantom_rows("train", n=80, size=28, twins=share)
    of = Counter(row["modality"] for row in rows)
    assert dict(of) == (dict.fromkeys(TWINS, 20) if share else dict.fromkeys(MODALITIES, 10))
    for modality in TWINS:
        assert sum(needs_twins(row["id"]) for row in rows if row["modality"] == modality) == round(share * of[modality])
    assert len({row["id"] for row in rows}) == 80


def test_rows_with_and_without_twins_are_rows_of_the_whole():
    whole = {row["id"]: row["problem"] for row in phantom_rows("val", modality="CT", n=200, size=28)}
    some = phantom_rows("val", modality="CT", n=10, size=28, twins=0.5)
    assert all(whole[row["id"]] == row["problem"] for row in some)


def test_twins_go_with_the_other_axes():
    rows = phantom_rows("train", modality="Dermoscopy", n=10, size=28, twins=1.0, shortcut=1.0, scanner="B")
    assert all(needs_twins(row["id"]) for row in rows), "judged by what would have been asked without the shortcut"
    ds = mk.load_vqa("phantoms", modality="Dermoscopy", task="DD", n=10, size=28, twins=1.0)
    assert len(ds) == 10 and all(map(needs_twins, ds["id"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"twins": 1.5}, "twins=1.5 is out of range; it goes from 0 to 1"),
        ({"twins": -0.1}, "twins=-0.1 is out of range"),
        ({"twins": 0.5, "modality": "OCT"}, "OCT has no twins; choose modality= from CT, MRI, Ultrasound, Dermoscopy"),
        ({"twins": 0.5, "task": "LG"}, "only Disease Diagnosis asks for twins"),
    ],
)
def test_a_share_that_cannot_be_had_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        mk.load_vqa("phantoms", n=4, size=28, **arguments)
