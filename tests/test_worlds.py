"""The benchmark of the two worlds: its cells, its controls on pictures, and what it puts into a model's mouth."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

import medr1kit as mk
from benchmarks.worlds import run, tables, thoughts
from benchmarks.worlds.cells import HOME, SEEDS, cells
from medr1kit.data.phantoms import draw, needs_twins, question_of
from medr1kit.data.phantoms.truth import ImageId
from medr1kit.formats import THINK_BEFORE
from medr1kit.vqa import LETTERS


@pytest.fixture(scope="module")
def questions():
    return mk.load_vqa("phantoms", split="test", modality="CT", n=60, seed=5, size=56)


def test_every_cell_has_a_name_of_its_own_and_every_training_its_seeds():
    names = [cell.name for cell in cells()]
    assert len(set(names)) == len(names)
    trained = [cell for cell in cells() if cell.method != "base"]
    for group, ways in (("machine", 4 * 4), ("twins-0.5", 3 * 2)):
        some = [cell for cell in trained if cell.definition["group"] == group]
        seeds = Counter((cell.trained_on, cell.format, cell.method) for cell in some)
        assert sum(number == len(SEEDS) for number in seeds.values()) == ways


def test_training_questions_are_those_of_the_cell_and_wrong_pictures_are_another_questions(monkeypatch):
    chosen = {cell.definition["group"]: cell for cell in cells() if cell.trained_on == "MRI" and cell.seed == 0}
    for cell in chosen.values():
        monkeypatch.setitem(cell.definition, "n", 20)
    twins, wrong = (run.training_questions(chosen[name]) for name in ("twins-0.5", "twins-permuted"))
    assert sum(map(needs_twins, twins["id"])) == 10 and twins["id"] == wrong["id"]
    pictures = [np.asarray(image).tobytes() for image in twins["image"]]
    beside = [np.asarray(image).tobytes() for image in wrong["image"]]
    assert sorted(pictures) == sorted(beside) and not any(a == b for a, b in zip(pictures, beside))
    assert {i.split("+")[1] for i in run.training_questions(chosen["machine"])["image_id"]} == {"scanner=B"}


@pytest.mark.parametrize("modality", HOME)
def test_arithmetic_brings_pictures_of_scanner_b_nearer_to_scanner_a(modality):
    a, b = (mk.load_vqa("phantoms", split="test", modality=modality, n=6, scanner=name)["image"] for name in "AB")
    for before, after in zip(a, b):
        inner = np.s_[16:-16, 16:-16]  # the rim is lost on scanner B
        wanted, seen, undone = (np.asarray(p, float)[inner] for p in (before, after, run.undo_scanner(after)))
        assert np.abs(undone - wanted).mean() < np.abs(seen - wanted).mean()


def test_a_misled_picture_differs_from_the_plain_one_in_its_marker_alone():
    for row in mk.load_vqa("phantoms", split="test", modality="CT", n=10, scanner="B"):
        image_id = ImageId.read(row["image_id"])
        question, before, after = question_of(image_id), np.asarray(row["image"]), np.array(run.misled(str(image_id)))
        places = [place for place in range(8) if np.array_equal(before, draw(image_id, marker=place)[0])]
        assert len(places) == 1
        other = (question.place + 1) % question.n_places
        assert np.array_equal(after, draw(image_id, marker=other)[0])
        changed = (before != after).any(2).sum()
        assert 0 < changed < 200 if places != [other] else changed == 0  # two squares of 8 x 8 of 12,544 pixels


def test_telling_twins_apart_is_counted_among_answers_that_are_right_up_to_the_twin():
    cross = ["left cyst", "left mass", "upper cyst", "upper mass"]
    single = ["infarct", "mass", "cyst", "edema"]
    said = [(cross, "A", "A"), (cross, "A", "B"), (cross, "A", "D"), (single, "C", "C"), (single, "C", "A")]
    rows = pd.DataFrame(said, columns=["options", "answer", "predicted"]).assign(modality="MRI", images="right")
    rows = rows.assign(id=[f"q{i}" for i in range(len(rows))], correct=rows["answer"] == rows["predicted"])
    rows = rows.assign(group="twins-1", format="no-think", method="grpo", train_modality="MRI", seed=0, asked="twins")
    rows = rows.assign(lenient_predicted=rows["predicted"], well_formed=True, n_tokens=4, task="Disease Diagnosis")
    (found,) = tables.twins(rows).itertuples()
    assert (found.place, found.n, found.accuracy, found.up_to_twin) == ("own", 5, 0.4, 0.6)
    assert found.right_of_these == pytest.approx(2 / 3) and found.low_of_these < 2 / 3 < found.high_of_these


def test_what_is_put_into_the_mouth_is_read_back_as_it_was_meant(questions):
    rows = questions.remove_columns("image").to_list()
    for i, row in enumerate(rows):
        begun = {kind: thoughts._beginning(kind, rows, i) for kind in thoughts.KINDS}
        assert begun["own"] == ("", None) and begun["emptied"] == ("<think></think><answer>", None)
        assert row["rationale"].startswith(begun["true"][0].removeprefix("<think>"))
        gold = row["options"][LETTERS.index(row["answer"])]
        assert begun["named"][0].endswith(f"So the answer is {gold}</think><answer>")
        text, letter = begun["misled"]
        assert letter != row["answer"] and text.endswith(f"is {row['options'][LETTERS.index(letter)]}</think><answer>")
        finished = THINK_BEFORE.parse(f"{begun['named'][0]}{row['answer']}</answer>", row["options"])
        assert finished.well_formed and finished.answer == row["answer"]


def test_another_pictures_facts_would_give_another_answer(questions):
    rows = questions.remove_columns("image").to_list()
    for i, row in enumerate(rows):
        if row["task"] == "Modality Recognition":
            continue
        other = rows[thoughts._other(rows, i)]
        gold = set(row["options"][LETTERS.index(row["answer"])].split())
        seen = gold & {str(fact) for fact in other["truth"].values()}
        assert other["task"] == row["task"] and bool(seen) == (row["n_facts"] == 4)
