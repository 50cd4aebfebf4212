"""Phantoms: what is asked about the drawn images, and that splits and filters keep their promises."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medr1kit.data import load_vqa
from medr1kit.phantoms import GRADES, PAINTERS, ImageId, phantom_rows, pixels, redraw, truth_of, vocabulary
from medr1kit.phantoms.questions import FACT
from medr1kit.vqa import MODALITIES, TASKS, DataError, parse_problem, parse_solution


@pytest.fixture(scope="module")
def rows():
    return phantom_rows("train", n=400, size=28)


def test_every_cell_of_modality_and_task_is_filled_equally(rows):
    counts = Counter((row["modality"], row["task"]) for row in rows)
    assert set(counts) == {(m, t) for m in MODALITIES for t in TASKS}
    assert set(counts.values()) == {10}


def test_the_gold_option_is_the_truth_and_comes_from_the_cell_s_vocabulary(rows):
    for row in rows:
        truth = truth_of(ImageId.read(row["id"]))
        gold = row["options"]["ABCD".index(row["answer"])]
        assert gold == getattr(truth, FACT[row["task"]])
        assert set(row["options"]) <= set(vocabulary(row["modality"], row["task"]))
        assert len(set(row["options"])) == 4
        assert row["rationale"].endswith(f"So the answer is {gold} {row['answer']}")


def test_questions_are_written_as_med_r1_writes_them(rows):
    for row in rows:
        assert parse_problem(row["problem"]) == (row["question"], row["options"])
        assert parse_solution(row["solution"], 4) == row["answer"]


def test_letters_and_option_texts_give_nothing_away_over_the_pooled_modalities():
    """Each option text is gold in a quarter of the questions that offer it, so a lookup of texts stays at chance."""
    offered, gold, letters = Counter(), Counter(), Counter()
    for number in range(1500):
        for modality in ("CT", "Fundus"):
            image = ImageId(modality, "train", 3, number)
            row = _question(image, TASKS[number % len(TASKS)])
            offered.update((modality, text) for text in row[1])
            gold[modality, row[1]["ABCD".index(row[2])]] += 1
            letters[row[2]] += 1
    for (modality, text), n in offered.items():
        if text in MODALITIES:
            continue  # inside one modality, Modality Recognition has one answer: known, and said by the module
        assert abs(gold[modality, text] / n - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5
    assert all(abs(count / 3000 - 0.25) < 0.04 for count in letters.values())


def _question(image, task):
    from medr1kit.phantoms.questions import ask

    return ask(truth_of(image), task, vocabulary(image.modality, task), image.stream(2))


def test_splits_share_no_image_whatever_the_seeds():
    """Equal number and equal seed in different splits still draw different noise, hence different pixels."""
    digests = [
        hashlib.sha256(pixels(ImageId(modality, split, seed, number), 56).tobytes()).hexdigest()
        for modality in ("CT", "OCT", "Fundus", "Microscopy")
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for number in range(8)
    ]
    assert len(set(digests)) == len(digests)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    first, again, other = (phantom_rows("test", n=16, seed=seed, size=28) for seed in (0, 0, 1))
    assert [row["problem"] for row in first] == [row["problem"] for row in again]
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(first, again))
    assert [row["problem"] for row in first] != [row["problem"] for row in other]


def test_a_filter_gives_exactly_the_rows_that_the_whole_has():
    whole = {row["id"]: row["problem"] for row in phantom_rows("val", n=400, size=28)}
    for filters in ({"modality": "OCT"}, {"task": "Lesion Grading"}, {"modality": "X-Ray", "task": "Lesion Grading"}):
        part = phantom_rows("val", n=5, size=28, **filters)
        assert all(whole[row["id"]] == row["problem"] for row in part)


def test_an_image_can_be_redrawn_from_its_id():
    row = phantom_rows("test", modality="X-Ray", n=3, size=112)[2]
    assert np.array_equal(redraw(row["id"]), row["image"])
    assert np.array_equal(redraw(row["image_id"]), row["image"])


@pytest.mark.parametrize("text", ["CT", "CT-train-0", "PET-train-0-1", "CT-dev-0-1", "CT-train-x-1", ""])
def test_an_id_that_names_no_phantom_is_refused(text):
    with pytest.raises(DataError, match="names no phantom image"):
        ImageId.read(text)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"seed": -1}, {"size": 10}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(DataError, match="phantoms need n >= 1"):
        phantom_rows(**{"n": 1, "size": 28, **arguments})


def test_load_vqa_returns_them_as_a_data_set_with_images():
    ds = load_vqa("phantoms", split="test", modality="us", task="ai", n=4)
    assert set(ds["modality"]) == {"Ultrasound"} and set(ds["task"]) == {"Anatomy Identification"}
    assert ds[0]["image"].size == (112, 112) and ds[0]["image"].mode == "RGB"


def test_every_modality_has_a_painter():
    assert tuple(PAINTERS) == MODALITIES


def test_the_data_card_s_vocabulary_is_the_painters():
    card = (Path(__file__).parent.parent / "data_cards" / "phantoms.md").read_text()
    for modality, painter in PAINTERS.items():
        words = [", ".join(part) for part in (painter.ANATOMIES, painter.FINDINGS, painter.ATTRIBUTES)]
        assert f"| {modality} | {' | '.join(words)} |" in card
    assert all(grade in card for grade in GRADES)
