"""MedMNIST's files, made small in their own layout: questions, balance, and what is wrong with a bad file."""

from collections import Counter

import numpy as np
import pytest

from medr1kit.audits import blind_floor
from medr1kit.data.load import load_vqa
from medr1kit.data.medmnist import SETS, medmnist_rows, read_sets
from medr1kit.vqa import MODALITIES, TASKS, DataError, parse_problem

SIDE = 8


def picture(label, number):
    """An image that says which label and number it has."""
    image = np.full((SIDE, SIDE), 10 * label, np.uint8)
    image[0, 0], image[0, 1] = number % 256, number // 256
    return image


def write(folder, name, counts, several=False, rgb=True, size="", **arrays):
    """Write one set with so many images of each class, the same in each split."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.stack([picture(label, number) for number, label in enumerate(order)])
    labels = (np.eye(len(SETS[name].classes), dtype=np.uint8)[order]) if several else order[:, None].astype(np.uint8)
    content = {}
    for split in ("train", "val", "test"):
        content[f"{split}_images"] = np.repeat(images[..., None], 3, -1) if rgb else images
        content[f"{split}_labels"] = labels
    np.savez_compressed(folder / f"{name}{size}.npz", **{**content, **arrays})
    return order


def gold(row):
    return row["options"]["ABCD".index(row["answer"])]


def test_the_sets_cover_seven_modalities_and_their_texts_survive_the_problem_format():
    assert {one.modality for one in SETS.values()} == set(MODALITIES) - {"MRI"}
    assert {one.task for one in SETS.values()} <= set(TASKS)
    assert [len(SETS[name].classes) for name in ("pathmnist", "chestmnist", "bloodmnist", "organamnist")] == [
        9,
        14,
        8,
        11,
    ]
    for one in SETS.values():
        assert len(set(one.classes)) == len(one.classes)
        assert parse_problem(f"{one.question} A){one.classes[-1]}, B){one.classes[0]}")[1] == [
            one.classes[-1],
            one.classes[0],
        ]


def test_the_facts_of_the_twelve_sets_are_those_of_the_collection():
    assert list(SETS) == [
        *("pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist", "breastmnist"),
        *("bloodmnist", "tissuemnist", "organamnist", "organcmnist", "organsmnist"),
    ]
    assert [len(one.classes) for one in SETS.values()] == [9, 14, 7, 4, 2, 5, 2, 8, 8, 11, 11, 11]
    assert SETS["breastmnist"].classes == ("malignant", "normal, benign")
    assert SETS["chestmnist"].classes[12] == "pleural thickening"
    assert SETS["octmnist"].question == "What does this OCT image of the retina show?"
    assert (SETS["retinamnist"].modality, SETS["retinamnist"].task) == ("Fundus", "Lesion Grading")
    planes = {name: SETS[name].question.split()[4] for name in SETS if name.startswith("organ")}
    assert planes == {"organamnist": "axial", "organcmnist": "coronal", "organsmnist": "sagittal"}


@pytest.mark.parametrize(
    "row",
    [
        "octmnist,OCT,Disease Diagnosis,What is it?,drusen",
        "octmnist,OCT,Disease Diagnosis,What is it?,drusen|drusen",
        "octmnist,OCT,Disease Diagnosis,What is it,drusen|normal",
        "octmnist,PET,Disease Diagnosis,What is it?,drusen|normal",
        "octmnist,OCT,Disease Diagnosis,What is it?,drusen|normal\noctmnist,OCT,Disease Diagnosis,What?,drusen|normal",
    ],
)
def test_a_bad_row_of_the_table_of_sets_is_refused(tmp_path, row):
    path = tmp_path / "medmnist.csv"
    path.write_text(f"name,modality,task,question,classes\n{row}\n")
    with pytest.raises(DataError, match=r"octmnist|unknown modality 'PET'"):
        read_sets(path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_question_fits_its_image(tmp_path, split):
    order = write(tmp_path, "pathmnist", [10] * 9)
    ds = load_vqa("medmnist", data_dir=tmp_path, split=split, n=40)
    assert len(ds) == len(set(ds["image_id"])) == 40
    for row in ds:
        number = int(row["id"].rsplit("-", 1)[1])
        pixels = np.asarray(row["image"])
        assert pixels.shape == (SIDE, SIDE, 3) and pixels[0, 0, 0] == number and pixels[3, 3, 0] == 10 * order[number]
        assert gold(row) == SETS["pathmnist"].classes[order[number]]
        assert row["image_id"] == f"pathmnist/{split}/{number}"
        assert (row["modality"], row["task"], row["source"]) == ("Microscopy", "Anatomy Identification", "pathmnist")
        assert parse_problem(row["problem"]) == (row["question"], row["options"])
        assert len(set(row["options"])) == 4


def test_grey_images_become_rgb_of_the_size_asked_for(tmp_path):
    write(tmp_path, "octmnist", [3, 3, 3, 3], rgb=False)
    assert load_vqa("medmnist", data_dir=tmp_path, n=4)[0]["image"].size == (SIDE, SIDE)
    large = load_vqa("medmnist", data_dir=tmp_path, n=4, size=56)[0]["image"]
    assert large.size == (56, 56) and large.mode == "RGB"


def test_classes_are_taken_as_equally_as_there_are_images_and_the_blind_floor_is_chance(tmp_path):
    write(tmp_path, "dermamnist", [12, 20, 40, 5, 40, 300, 6])
    train, test = (
        load_vqa("medmnist", data_dir=tmp_path, split=split, n=n) for split, n in (("train", 120), ("test", 80))
    )
    counts = Counter(map(gold, train))
    assert max(counts.values()) <= 30 and counts["dermatofibroma"] == 5
    for fitted in (train, test):
        floor = blind_floor(fitted, test)
        assert floor.chance == floor.accuracy == 0.25
    assert set(Counter(test["answer"]).values()) == {20}


def test_rows_are_shared_among_sets_as_equally_as_their_images_allow(tmp_path):
    write(tmp_path, "chestmnist", [20] * 14, several=True, rgb=False)
    write(tmp_path, "pneumoniamnist", [4, 90], rgb=False)
    ds = load_vqa("medmnist", data_dir=tmp_path, modality="xray", n=100)
    assert Counter(ds["source"]) == {"pneumoniamnist": 8, "chestmnist": 92}
    assert {len(options) for options in ds["options"]} == {2, 4}
    with pytest.warns(UserWarning, match="only 8 of the 50 rows"):
        assert len(medmnist_rows(tmp_path / "pneumoniamnist.npz", n=50)) == 8


def test_only_chest_images_with_one_finding_are_asked_about(tmp_path):
    labels = np.zeros((40, 14), np.uint8)
    labels[np.arange(28), np.arange(28) % 14] = 1
    labels[:6, 13] = 1  # five of them have a second one; number 13 alone keeps it
    write(tmp_path, "chestmnist", [40], rgb=False, train_labels=labels)
    rows = medmnist_rows(tmp_path, n=None)
    numbers = {int(row["id"].rsplit("-", 1)[1]) for row in rows}
    assert numbers <= set(range(6, 28)) and len(numbers) >= 20


def test_the_largest_size_is_read(tmp_path):
    for size, value in (("", 1), ("_64", 2), ("_224", 3)):
        write(tmp_path, "breastmnist", [5, 5], size=size, train_images=np.full((10, 4, 4), value, np.uint8))
    ds = load_vqa("medmnist", data_dir=tmp_path, modality="US", n=2)
    assert np.asarray(ds[0]["image"]).max() == 3
    assert sorted(ds[0]["options"]) == ["malignant", "normal, benign"]


def test_modality_and_task_choose_sets(tmp_path):
    write(tmp_path, "organamnist", [3] * 11, rgb=False)
    write(tmp_path, "retinamnist", [3] * 5)
    assert set(load_vqa("medmnist", data_dir=tmp_path, task="LG", n=8)["source"]) == {"retinamnist"}
    assert set(load_vqa("medmnist", data_dir=tmp_path, modality="CT", n=8)["source"]) == {"organamnist"}
    with pytest.raises(
        DataError, match=r"no MedMNIST file of MRI; it has retinamnist \(Fundus x Lesion Grading\), organ"
    ):
        load_vqa("medmnist", data_dir=tmp_path, modality="MRI")


def test_a_split_without_one_of_the_classes_offers_the_others(tmp_path):
    write(tmp_path, "octmnist", [6, 6, 6])
    ds = load_vqa("medmnist", data_dir=tmp_path, n=18)
    assert {tuple(sorted(options)) for options in ds["options"]} == {tuple(sorted(SETS["octmnist"].classes[:3]))}


def test_the_same_seed_gives_the_same_questions(tmp_path):
    write(tmp_path, "bloodmnist", [9] * 8)
    first, again, other = (medmnist_rows(tmp_path, n=20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    def load(**arguments):
        return load_vqa("medmnist", **{"data_dir": tmp_path, **arguments})

    with pytest.raises(DataError, match="has no file of a two-dimensional MedMNIST set"):
        load()
    with pytest.raises(DataError, match="does not exist"):
        load(data_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match="medmnist needs data_dir="):
        load(data_dir=None)
    with pytest.raises(DataError, match="data_dir= does not go with any source but medmnist"):
        load_vqa("CT.json", data_dir=tmp_path)
    with pytest.raises(DataError, match="images= does not go with medmnist"):
        load(images=tmp_path)
    path = tmp_path / "octmnist.npz"
    write(tmp_path, "octmnist", [3, 3, 3, 3])
    with pytest.raises(DataError, match="no split 'validation'"):
        load(split="validation")
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:300] + bytes(60) + whole[360:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"octmnist\.npz.*fetch the file again"):
            load(n=12)
    for bad, message in (
        ({"train_labels": np.full((12, 1), 7)}, "train_labels go from 7 to 7; octmnist has 4 classes"),
        ({"train_labels": np.zeros((12, 3), int)}, r"expected whole numbers, \(n, 1\) or \(n, 4\)"),
        ({"train_labels": np.arange(9)[:, None] % 4}, "12 images, but 9 labels in train"),
        ({"train_images": np.zeros((12, SIDE, SIDE))}, "train_images are float64"),
        ({"train_images": np.zeros((12, SIDE, SIDE, 2), np.uint8)}, "expected uint8"),
        ({"train_labels": np.zeros((12, 1), int)}, "images of fewer than two classes"),
        ({"train_labels": np.array([[None]] * 12)}, "not stored row by row as numbers"),
    ):
        write(tmp_path, "octmnist", [3, 3, 3, 3], **bad)
        with pytest.raises(DataError, match=message):
            load(n=12)
    np.savez(path, pictures=np.zeros(3))
    with pytest.raises(DataError, match="has no train_labels; it has pictures"):
        load(n=12)
