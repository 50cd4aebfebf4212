"""The ceiling: a probe on features made by hand, on noise, and on the built-in model's tower and merger."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy.sparse import csr_array

import medr1kit as mk
from medr1kit.models.ceiling import _features
from medr1kit.models.choices import Asked, choose, fits, fitted
from medr1kit.results.stats import wilson
from medr1kit.results.tables import check_predictions
from medr1kit.vqa import DataError

WORDS = ("cyst", "mass", "stone", "wall")


def questions(n, seed, x=None):
    """Pictures of four kinds, each told by one of four numbers, unless x is given; options in any order."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n)
    options = [rng.permutation(WORDS).tolist() for _ in range(n)]
    gold = [row.index(WORDS[which]) for row, which in zip(options, truth)]
    return Asked(np.eye(4)[truth] if x is None else x, options, gold, list(range(n)))


def right(asked, places):
    return (places == np.array(asked.gold)).mean()


# ---- the probe -------------------------------------------------------------------------------------------------------


def test_what_can_be_told_by_a_line_is_all_read():
    asked = questions(200, 1)
    assert right(asked, choose(questions(100, 0), asked)) == 1


def test_noise_is_read_as_well_as_a_guess():
    rng = np.random.default_rng(2)
    seen, asked = (questions(n, seed, rng.normal(size=(n, 20))) for n, seed in ((200, 3), (400, 4)))
    low, high = wilson(right(asked, choose(seen, asked)) * 400, 400)
    assert low <= 0.25 <= high


def test_letters_change_nothing_not_even_between_equal_fits():
    rng = np.random.default_rng(5)
    seen, asked = (questions(80, seed, rng.normal(size=(80, 6))) for seed in (6, 7))
    twice = [[*texts, "Wall!"] for texts in asked.options]  # "wall" and "Wall!" fit equally well

    def chosen(turn):
        sides = []
        for side, options in ((seen, seen.options), (asked, twice)):
            turned = [texts[turn:] + texts[:turn] for texts in options]
            gold = [texts.index(whole[place]) for texts, whole, place in zip(turned, options, side.gold)]
            sides.append(Asked(side.x, turned, gold, side.groups))
        return [texts[place].strip("!").lower() for texts, place in zip(sides[1].options, choose(*sides))]

    assert chosen(0) == chosen(1) == chosen(3)


def test_where_all_questions_offer_the_same_it_is_logistic_regression():
    rng = np.random.default_rng(8)
    x = sm.add_constant(rng.normal(size=(120, 2)))
    y = rng.integers(3, size=120)
    offered = np.tile(np.arange(3), (120, 1))
    parts = csr_array(np.eye(3))
    weights = fitted(x, offered, y, parts, 1e-8)
    shares = np.exp(found := fits(weights, x, offered, parts)) / np.exp(found).sum(axis=1, keepdims=True)
    assert shares == pytest.approx(sm.MNLogit(y, x).fit(disp=False).predict(x), abs=1e-3)


def test_a_penalised_weight_is_the_one_worked_out_by_hand():
    """One number, x = 1, "yes" right three times of four: with d = w(yes) - w(no), w = ±d/2 and
    d/2 = (3 - 4 s(d)) / penalty, s the logistic function. d = 0.5 where the penalty is 4 (0.75 - s(0.5)) / 0.25."""
    offered, gold = np.tile([0, 1], (4, 1)), np.array([0, 0, 0, 1])
    penalty = 4 * (0.75 - 1 / (1 + np.exp(-0.5))) / 0.25
    weights = fitted(np.ones((4, 1)), offered, gold, csr_array(np.eye(2)), penalty)
    assert weights == pytest.approx(np.array([[0.25, -0.25]]), abs=1e-5)


def test_a_combination_is_found_by_its_words_though_it_was_never_right():
    x = np.array([[side, kind] for side in (-1.0, 1.0) for kind in (-1.0, 1.0)] * 10)
    texts = [[f"{side} {kind}" for side in ("left", "right") for kind in ("cyst", "mass")]] * 40
    gold = list(range(4)) * 10
    known = [row for row in range(40) if gold[row] != 3]
    seen = Asked(x[known], [texts[row] for row in known], [gold[row] for row in known], known)
    assert choose(seen, Asked(x[3:4], texts[3:4], [3], [3])).tolist() == [3]


def test_words_that_were_never_right_are_not_chosen():
    seen = questions(40, 9)
    asked = Asked(np.eye(4)[:2], [["abscess", "cyst"], ["abscess", "PET"]], [0, 1], ["a", "b"])
    assert choose(seen, asked).tolist() == [1, -1]


# ---- on a model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered(tiny):
    train = mk.load_vqa("phantoms", n=320, task="Modality Recognition")
    test = mk.load_vqa("phantoms", split="test", n=80, task="Modality Recognition")
    return test, mk.ceiling(*tiny, train, test)


def test_a_ceiling_is_a_table_of_predictions_for_tower_and_merger(answered):
    test, frame = answered
    assert check_predictions(frame) is frame
    assert frame["method"].tolist() == ["ceiling-tower"] * 80 + ["ceiling-merger"] * 80
    assert frame["id"].tolist() == list(test["id"]) * 2 and set(frame["model"]) == {"tiny"}
    assert (frame["text"] == "<answer>" + frame["predicted"] + "</answer>").all() and frame["well_formed"].all()
    assert (frame["correct"] == (frame["predicted"] == frame["answer"])).all()
    assert len(mk.errors(frame[:80], by="modality").kinds)
    score = mk.score(frame, by=["method", "modality"])
    assert (score["accuracy"] > 0.9).all() and set(score["n"]) == {10}  # the modality is plain to see


def test_it_is_compared_with_the_model_and_drawn_beside_it(tiny, answered):
    test, frame = answered
    preds = mk.predict(*tiny, test, format="no-think")
    merger = frame[frame["method"] == "ceiling-merger"]
    assert mk.compare(preds, merger).n == 80
    ax = mk.plot_accuracy(mk.score(preds), ceiling=mk.score(merger))
    (marks,) = [marks for marks in ax.collections if marks.get_label() == "ceiling (probe)"]
    assert [mark[0, 0] for mark in marks.get_segments()] == mk.score(merger)["accuracy"].tolist()


def check_features(model, processor, rows):
    tower, merger = _features(model, processor, rows.select([0, 1, 0]), "test")
    cut = processor.image_processor(images=[rows[1]["image"]], return_tensors="pt")
    entered = []
    hook = model.model.visual.merger.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad():
        left = model.eval().model.get_image_features(cut["pixel_values"], cut["image_grid_thw"]).pooler_output[0]
    hook.remove()
    for found, places in ((tower, entered[0].numpy()), (merger, left.numpy())):
        pooled = np.concatenate([places.mean(axis=0), places.max(axis=0), places.min(axis=0)])
        assert found[1] == pytest.approx(pooled, abs=1e-3)
        assert (found[0] == found[2]).all() and (found[0] != found[1]).any()


def test_features_are_those_the_model_computes(tiny, val_phantoms):
    check_features(*tiny, val_phantoms)


def test_other_architectures_have_a_ceiling_too(micro, val_phantoms):
    check_features(*micro, val_phantoms)


def test_what_is_asked_for_what_is_not_is_a_kind_of_its_own(tiny, val_phantoms):
    """Taught only what fits, nothing is known of what does not."""
    negated = val_phantoms.select(range(4)).map(lambda row: {"question": f"Not this: {row['question']}"})
    with pytest.warns(UserWarning, match="4 of 4 questions have no option"):
        frame = mk.ceiling(*tiny, val_phantoms.select(range(4, 60)), negated)
    assert frame["predicted"].isna().all() and not frame["correct"].any() and not frame["well_formed"].any()


def test_pictures_of_the_test_in_training_are_said_aloud(tiny, val_phantoms):
    with pytest.warns(UserWarning, match="8 images of test are in train"):
        mk.ceiling(*tiny, val_phantoms.select(range(24)), val_phantoms.select(range(8)), by=[])


def test_what_cannot_be_is_refused(tiny, val_phantoms):
    with pytest.raises(DataError, match="by='kind': train has no such column"):
        mk.ceiling(*tiny, val_phantoms, val_phantoms, by="kind")
    with pytest.raises(DataError, match="test has no images"):
        mk.ceiling(*tiny, val_phantoms, val_phantoms.remove_columns("image"))
    with pytest.raises(DataError, match="train is a DataFrame"):
        mk.ceiling(*tiny, pd.DataFrame(), val_phantoms)
