"""Which picture a question is shown: none, the right one with its tiles moved, the nearest with another gold."""

from copy import deepcopy
from importlib import import_module

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

import medr1kit as mk
from medr1kit.models.load import base_of, image_token_ids
from medr1kit.models.shared_prefix.prompts import cut_up
from medr1kit.models.shown import image_rows, patches_moved

predict_module = import_module("medr1kit.models.predict")


def question(image, gold, *, grey=0, modality="CT", task="Anatomy", ask="Organ?", options=("liver", "lung")):
    picture = Image.new("RGB", (20, 20), (grey, grey, grey))
    row = {"image_id": image, "modality": modality, "task": task, "question": ask, "options": list(options)}
    return row | {"answer": "ABCD"[options.index(gold)], "picture": picture}


def nearest(*questions):
    return image_rows(list(questions), "nearest", 0, lambda rows: [questions[i]["picture"] for i in rows])


def test_the_nearest_picture_is_the_most_similar_one_with_another_gold():
    rows = [("a", "liver", 0), ("b", "liver", 10), ("c", "lung", 200), ("d", "lung", 60)]
    assert nearest(*(question(image, gold, grey=grey) for image, gold, grey in rows)) == [3, 3, 1, 1]


def test_the_same_gold_in_other_letters_is_no_other_gold():
    far, same = question("far", "lung", grey=250), question("same", "Liver.", options=("lung", "Liver."))
    assert nearest(question("a", "liver"), same, far)[0] == 2


def test_a_picture_that_any_question_calls_the_same_is_left_out():
    shows_it = question("b", "lung", grey=10), question("b", "liver", grey=10, task="Other")
    assert nearest(question("a", "liver"), *shows_it, question("c", "lung", grey=200))[0] == 3


def test_several_questions_about_one_picture_never_get_it():
    two = question("a", "liver"), question("a", "lung", ask="What else?")
    assert nearest(*two, question("b", "heart", grey=200, options=("heart", "lung"))) == [2, 2, 1]


def test_a_gold_among_the_options_comes_first_then_one_of_the_same_task():
    asked = question("a", "liver")
    elsewhere = question("b", "mild", grey=1, task="Grading", options=("mild", "severe"))
    same_task = question("c", "heart", grey=100, options=("heart", "liver"))
    offered = question("d", "lung", grey=200)
    assert nearest(asked, elsewhere)[0] == 1
    assert nearest(asked, elsewhere, same_task)[0] == 2
    assert nearest(asked, elsewhere, same_task, offered)[0] == 3


def test_no_is_another_answer_to_the_same_question_only():
    yes_no = {"options": ("yes", "no"), "task": "Diagnosis"}
    asked, other = question("a", "yes", ask="Cyst?", **yes_no), question("b", "no", ask="Mass?", grey=1, **yes_no)
    same = question("c", "no", ask="cyst?", grey=200, **yes_no)
    assert nearest(asked, other)[0] == 1  # nothing better
    assert nearest(asked, other, same)[0] == 2


def test_where_no_picture_of_the_modality_has_another_gold_the_right_one_stays():
    mri = question("c", "lung", modality="MRI")
    assert nearest(question("a", "liver"), question("b", "liver"), mri) == [0, 1, 2]


def tiles(picture, side=28):
    pixels = np.asarray(picture)
    down, across = pixels.shape[0] // side, pixels.shape[1] // side
    return pixels.reshape(down, side, across, side, 3).swapaxes(1, 2).reshape(down * across, -1)


@pytest.fixture
def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8))


def test_moved_tiles_are_the_same_ones_and_none_is_in_its_place(tiny, noise):
    before, after = tiles(noise), tiles(patches_moved(noise, tiny[1], [0]))
    assert sorted(map(bytes, before)) == sorted(map(bytes, after)) and len(before) == 16
    assert not (before == after).all(axis=1).any()


def test_a_seed_decides_where_tiles_go(tiny, noise):
    moved = [patches_moved(noise, tiny[1], seed).tobytes() for seed in ([0, 1], [0, 1], [1, 1], [0, 2])]
    assert moved[0] == moved[1] and len(set(moved)) == 3


def test_each_image_token_keeps_what_it_shows_also_of_a_picture_that_is_resized(tiny):
    processor = deepcopy(tiny[1])
    processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 20}
    pixels = np.random.default_rng(0).integers(0, 256, (131, 200, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    cut = cut_up(processor, {"right": picture, "moved": patches_moved(picture, processor, [0])})
    assert (cut["right"].grid == cut["moved"].grid).all() and cut["right"].grid.tolist() == [1, 6, 10]
    right, moved = (one.patches.reshape(15, -1).numpy() for one in cut.values())  # (tokens, numbers)
    assert sorted(map(bytes, right)) == sorted(map(bytes, moved)) and not (right == moved).all(axis=1).any()


@pytest.fixture
def shown(monkeypatch):
    """What predict hands to a model: (prompt, picture) pairs, in the order of asking."""
    asked = []

    def answers(prompts, pictures):
        asked.extend(zip(prompts, pictures))
        return [("<answer>A</answer>", 4)] * len(prompts)

    monkeypatch.setattr(predict_module, "answerer", lambda *given: answers)
    return asked


def test_questions_about_one_image_see_its_tiles_in_one_order(tiny, val_phantoms, shown):
    row, other = val_phantoms[0], val_phantoms[8]
    rows = [row, row | {"id": "again"}, other]
    two = Dataset.from_list(rows).cast_column("image", val_phantoms.features["image"])
    mk.predict(*tiny, two, format="no-think", images="patches", seed=3)
    pictures = {picture.tobytes() for _, picture in shown}
    expected = [patches_moved(one["image"], tiny[1], [3, *one["image_id"].encode()]).tobytes() for one in (row, other)]
    assert pictures == set(expected) and len(pictures) == 2


def test_an_absent_image_has_no_place_in_the_prompt(tiny, val_phantoms, shown):
    rows = val_phantoms.select(range(3))
    for images in ("right", "absent"):
        mk.predict(*tiny, rows, format="no-think", images=images)
    (right, absent), mark = (dict(shown[:3]), dict(shown[3:])), tiny[1].image_token
    assert all(prompt.count(mark) == 1 for prompt in right)
    assert not any("vision" in prompt or mark in prompt for prompt in absent) and set(absent.values()) == {None}
    assert {prompt.replace(f"<|vision_start|>{mark}<|vision_end|>", "") for prompt in right} == set(absent)


def answers_without_an_image(model, processor, rows, **settings):
    """What a model says whose tower must not be asked."""

    def refuse(*given):
        raise AssertionError("the tower was asked")

    base_of(model).model.visual.register_forward_pre_hook(refuse)
    return mk.predict(model, processor, rows, format="no-think", images="absent", max_new_tokens=8, **settings)


@pytest.mark.parametrize("settings", [{"samples": 2}, {"stop_at_answer": True}])
def test_a_model_answers_without_an_image(fresh_tiny, val_phantoms, settings):
    found = answers_without_an_image(*fresh_tiny, val_phantoms.select(range(3)), **settings)
    assert found["predicted"].isin(list("ABCD")).all()


def says_what_it_says_to_the_text(model, processor, rows):
    found = answers_without_an_image(model, processor, rows)
    for text, problem in zip(found["text"], rows["problem"]):
        prompt = predict_module.chat_prompt(processor, mk.NO_THINK, problem, image=False)
        inputs = processor.tokenizer(prompt, return_tensors="pt")
        barred = {"suppress_tokens": image_token_ids(model), "do_sample": False, "max_new_tokens": 8}
        with torch.inference_mode():
            ids = model.generate(**inputs, **barred)[0, inputs["input_ids"].shape[1] :]
        assert text == processor.tokenizer.decode(ids, skip_special_tokens=True)


def test_without_an_image_it_says_what_it_says_to_the_text(fresh_tiny, val_phantoms):
    says_what_it_says_to_the_text(*fresh_tiny, val_phantoms.select(range(3)))


def test_so_do_the_other_architectures(micro, val_phantoms):
    says_what_it_says_to_the_text(*micro, val_phantoms.select(range(3)))


def test_the_nearest_picture_reaches_the_model(tiny, shown):
    rows = [question("a", "liver"), question("b", "lung", grey=90), question("c", "lung", grey=200)]
    for i, row in enumerate(rows):
        row |= {"id": str(i), "problem": f"{i}? A)liver, B)lung", "solution": "", "source": "x"}
        row["image"] = row.pop("picture")
    data = Dataset.from_list(rows)
    mk.predict(*tiny, data, format="no-think", images="nearest")
    greys = {prompt[prompt.index("? A)") - 1]: picture.getpixel((0, 0))[0] for prompt, picture in shown}
    assert greys == {"0": 90, "1": 0, "2": 0}
