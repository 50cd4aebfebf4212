"""The blind floor against counts made by hand; the split against what it promises."""

import random

import datasets
import pandas as pd
import pytest

from medr1kit.audit import blind_floor, image_disjoint_split
from medr1kit.stats import wilson
from medr1kit.vqa import DataError


def ask(options, answer, **columns):
    return {"options": options, "answer": answer, **columns}


TRAIN = [
    ask(["cyst", "stone", "wall"], "A"),
    ask(["Stone.", "cyst"], "B"),
    ask(["stone", "mass"], "A"),
]  # scores: cyst (2 + .25)/3 = .75, stone (1 + .25)/4 = .3125, wall .125, mass .125, anything new .25


def test_blind_floor_picks_the_text_that_was_gold_most_often():
    test = [
        ask(["stone", "cyst", "mass"], "B"),  # .3125 .75 .125 -> right
        ask(["wall", "stone"], "A"),  # .125 .3125 -> wrong
        ask(["wall", "a new word"], "B"),  # .125 .25 -> right: a text never seen beats one that was always wrong
    ]
    floor = blind_floor(TRAIN, test)
    assert floor.n == 3
    assert floor.accuracy == pytest.approx(2 / 3)
    assert floor.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert (floor.low, floor.high) == pytest.approx(wilson(2, 3))


def test_ties_are_split_evenly():
    tied = [ask(["wall", "mass", "stone"], "A"), ask(["one", "two", "three", "four"], "C"), ask(["wall", "mass"], "B")]
    # first: stone .3125 wins, wrong; second: four texts never seen, 1/4; third: .125 twice, 1/2
    assert blind_floor(TRAIN, tied).accuracy == pytest.approx((0 + 1 / 4 + 1 / 2) / 3)


def test_spelling_does_not_hide_a_text():
    floor = blind_floor([ask(["It's a T2,  stage", "other"], "A")], [ask(["none", "its a t2 STAGE."], "B")])
    assert floor.accuracy == 1


def test_blind_floor_is_broken_down_by_modality_in_canonical_order():
    test = [ask(["cyst", "mass"], letter, modality=m) for m, letter in (("OCT", "A"), ("CT", "B"), ("OCT", "A"))]
    frame = blind_floor(TRAIN, test).frame
    assert frame["modality"].tolist() == ["CT", "OCT", "all"]
    assert frame["n"].tolist() == [1, 2, 3]
    assert frame["accuracy"].tolist() == pytest.approx([0, 1, 2 / 3])
    assert blind_floor(TRAIN, TRAIN).frame["modality"].tolist() == ["all"]


def test_blind_floor_reads_lists_frames_and_datasets_alike_without_decoding_images():
    rows = [row | {"image": {"path": None, "bytes": b"not an image"}} for row in TRAIN]
    features = datasets.Features(
        options=datasets.List(datasets.Value("string")), answer=datasets.Value("string"), image=datasets.Image()
    )
    ds = datasets.Dataset.from_list(rows, features=features)
    assert blind_floor(ds, pd.DataFrame(TRAIN)).accuracy == blind_floor(TRAIN, TRAIN).accuracy == pytest.approx(1.0)


def test_blind_floor_refuses_what_it_cannot_count():
    with pytest.raises(DataError, match="test row 1: the answer 'C' names none of the options"):
        blind_floor(TRAIN, [TRAIN[0], ask(["x", "y"], "C")])
    with pytest.raises(DataError, match="train has no column 'options'"):
        blind_floor([{"answer": "A"}], TRAIN)
    with pytest.raises(DataError, match="test has no rows"):
        blind_floor(TRAIN, pd.DataFrame(TRAIN).iloc[:0])


def questions(n=600, seed=0):
    """Rows about shared images (up to six each) in five unequal modality x task cells."""
    rng = random.Random(seed)
    cells = [("CT", "Disease Diagnosis")] * 6 + [("MRI", "Disease Diagnosis")] * 3 + [("CT", "Lesion Grading")] * 2
    cells += [("OCT", "Modality Recognition"), (None, None)]
    rows = []
    while len(rows) < n:
        image, (modality, task) = f"image {len(rows)}", rng.choice(cells)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
            rows.append({"id": f"q{len(rows)}", "image_id": image, "modality": modality, "task": task})
    rng.shuffle(rows)
    return datasets.Dataset.from_list(rows)


@pytest.mark.parametrize("seed", range(5))
def test_no_image_is_on_both_sides_and_no_row_is_lost(seed):
    ds = questions(seed=seed)
    train, test = image_disjoint_split(ds, seed=seed)
    assert not set(train["image_id"]) & set(test["image_id"])
    assert sorted([*train["id"], *test["id"]]) == sorted(ds["id"])
    places = {name: place for place, name in enumerate(ds["id"])}
    for side in (train, test):
        order = [places[name] for name in side["id"]]
        assert order == sorted(order)


@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5])
def test_every_modality_and_task_keeps_its_share(test_size):
    ds = questions()
    _, test = image_disjoint_split(ds, test_size=test_size)
    whole, drawn = (frame.to_pandas().groupby(["modality", "task"], dropna=False).size() for frame in (ds, test))
    assert len(whole) == 5
    # no cell is further off than half of its largest component, six rows
    assert ((drawn.reindex(whole.index, fill_value=0) - test_size * whole).abs() <= 3).all()


def test_the_test_set_is_not_made_of_the_images_with_most_questions():
    ds = questions(3000)
    _, test = image_disjoint_split(ds)
    per_image = [len(side) / len(set(side["image_id"])) for side in (ds, test)]
    assert per_image[1] == pytest.approx(per_image[0], rel=0.1)


def test_a_patient_is_on_one_side_even_through_a_chain_of_images():
    rows = []
    for chain in range(20):
        # image 0 - patient 0 - image 1 - patient 1 - image 2: rows 0 and 4 share nothing directly
        for image, patient in ((0, 0), (1, 0), (1, 1), (2, 1), (2, "")):
            name = f"patient {chain} {patient}" if patient != "" else ""
            rows.append({"image_id": f"image {chain} {image}", "patient_id": name, "chain": chain})
    train, test = image_disjoint_split(datasets.Dataset.from_list(rows))
    assert not set(train["chain"]) & set(test["chain"])
    assert len(set(test["chain"])) == 4


def test_an_unknown_patient_ties_nobody_together():
    rows = [{"image_id": f"i{k}", "patient_id": None if k % 2 else ""} for k in range(50)]
    _, test = image_disjoint_split(datasets.Dataset.from_list(rows))
    assert len(test) == 10


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    ds = questions()
    first, again, other = (image_disjoint_split(ds, seed=seed)[1]["id"] for seed in (3, 3, 4))
    assert list(first) == list(again) != list(other)


def test_the_split_does_not_decode_images():
    features = datasets.Features(image_id=datasets.Value("string"), image=datasets.Image())
    broken = {"path": None, "bytes": b"not an image"}
    ds = datasets.Dataset.from_list([{"image_id": f"i{k}", "image": broken} for k in range(10)], features=features)
    train, test = image_disjoint_split(ds)
    assert (len(train), len(test)) == (8, 2)


def test_a_split_that_cannot_be_made_is_refused():
    one = datasets.Dataset.from_list([{"image_id": "same"}] * 5)
    with pytest.raises(DataError, match=r"hang together in 1 group"):
        image_disjoint_split(one)
    with pytest.raises(DataError, match="row 1 has no image_id"):
        image_disjoint_split(datasets.Dataset.from_list([{"image_id": "a"}, {"image_id": ""}]))
    with pytest.raises(DataError, match="no column 'image_id'"):
        image_disjoint_split(datasets.Dataset.from_list([{"id": "a"}]))
    with pytest.raises(DataError, match=r"test_size is 1\.5"):
        image_disjoint_split(one, test_size=1.5)
    with pytest.raises(DataError, match="no rows"):
        image_disjoint_split(one.select([]))
