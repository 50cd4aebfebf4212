"""The split against what it promises."""

import random

import datasets
import pytest

from medr1kit.audits import image_disjoint_split
from medr1kit.vqa import DataError


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
    with pytest.raises(DataError, match=r"test_size=1\.5 is not a number from 0 to 1"):
        image_disjoint_split(one, test_size=1.5)
    with pytest.raises(DataError, match="no rows"):
        image_disjoint_split(one.select([]))


def scattered(seed, n=300):
    """Rows whose images, patients and sources overlap at random, some unknown."""
    rng = random.Random(seed)
    return datasets.Dataset.from_list(
        [
            {
                "image_id": f"i{rng.randrange(n)}",
                "patient_id": rng.choice([None, "", f"p{rng.randrange(n)}"]),
                "source": f"s{rng.randrange(25)}" if row else "s0",
                "modality": rng.choice(["CT", "OCT"]),
                "task": rng.choice(["Disease Diagnosis", None]),
            }
            for row in range(n)
        ]
    )


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_data_nothing_is_shared(seed):
    ds = scattered(seed)
    train, test = image_disjoint_split(ds, test_size=0.3, seed=seed)
    assert len(train) + len(test) == len(ds)
    for name in ("image_id", "patient_id"):
        assert not set(train[name]) & set(test[name]) - {None, ""}


@pytest.mark.parametrize("seed", range(4))
def test_sources_can_be_kept_apart(seed):
    ds = scattered(seed).remove_columns("patient_id")
    images = [f"{source} {image}" for source, image in zip(ds["source"], ds["image_id"])]
    ds = ds.remove_columns("image_id").add_column("image_id", images)
    train, test = image_disjoint_split(ds, seed=seed, by="source")
    assert not set(train["source"]) & set(test["source"])
    assert len(test) == pytest.approx(60, abs=15)
    assert set(image_disjoint_split(ds, seed=seed)[0]["source"]) == set(ds["source"])


def test_what_the_split_goes_by_must_be_known():
    ds = scattered(0)
    with pytest.raises(DataError, match=r"row \d+ has no patient_id"):
        image_disjoint_split(ds, by="patient")
    with pytest.raises(DataError, match="no column 'source'"):
        image_disjoint_split(ds.remove_columns("source"), by="source")
    with pytest.raises(DataError, match="unknown by='scanner'; use 'image', 'patient' or 'source'"):
        image_disjoint_split(ds, by="scanner")
    with pytest.raises(DataError, match="images, patients or sources"):
        image_disjoint_split(ds, by="source")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"test_size": 0}, "test_size is 0; it must lie between 0 and 1"),
        ({"test_size": "0.2"}, "test_size='0.2' is not a number"),
        ({"seed": "1"}, "seed='1' is not a whole number"),
        ({"by": "cluster"}, "unknown by='cluster'"),
        ({"ds": "phantoms"}, "ds is the text 'phantoms'; load it first"),
        ({"ds": [{"image_id": "a"}]}, "ds is a list; load it first"),
        ({"ds": None}, "ds is None; expected the data set"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(given, sentence):
    with pytest.raises(DataError, match=sentence):
        image_disjoint_split(**{"ds": questions(), **given})


TWO_SPELLINGS = [
    ("image_id", "img/a.png", "./img/a.png"),
    ("image_id", "img/a.png", "img//a.png"),
    ("image_id", "img/a.png", "img\\a.png"),
    ("image_id", "r\u00f6ntgen.png", "ro\u0308ntgen.png"),
    ("patient_id", "M\u00fcller", "Mu\u0308ller"),
    ("patient_id", "P7", " P7 "),
]


@pytest.mark.parametrize(("column", "one", "other"), TWO_SPELLINGS)
@pytest.mark.parametrize("seed", range(4))
def test_one_thing_under_two_spellings_stays_on_one_side(column, one, other, seed):
    rows = [{"image_id": f"{n}.png", "patient_id": f"Q{n}", "id": f"{n}"} for n in range(6)]
    for row, spelling in zip(rows, (one, other)):
        row[column] = spelling
    train, _ = image_disjoint_split(datasets.Dataset.from_list(rows), test_size=0.5, seed=seed)
    assert len({"0", "1"} & set(train["id"])) in (0, 2)


def test_patients_who_are_unknown_are_not_one_patient():
    rows = [{"image_id": f"{n}.png", "patient_id": word} for n, word in enumerate(["", "nan", "unknown", "n/a", None])]
    train, test = image_disjoint_split(datasets.Dataset.from_list(rows), test_size=0.4)
    assert (len(train), len(test)) == (3, 2)
