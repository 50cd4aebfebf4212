"""Probes: the picture, the place of the options, the wording; on the built-in model and on models with known habits."""

import warnings
from dataclasses import replace
from importlib import import_module

import pandas as pd
import pytest
import torch

import medr1kit as mk
from medr1kit.models.probes import WORDINGS
from medr1kit.models.shown import IMAGES
from medr1kit.results.perturbations import position_table
from medr1kit.results.stats import cluster_interval, paired_difference, wilson
from medr1kit.vqa import DataError, option_texts, parse_problem

predict_module = import_module("medr1kit.models.predict")
TEXT = {"format": "no-think", "max_new_tokens": 8}


@pytest.fixture
def says(monkeypatch):
    """Let a function of prompt and picture answer instead of the model; returns the prompts asked."""

    def arrange(answer):
        asked = []

        def answers(prompts, pictures):
            asked.extend(prompts)
            return [(answer(prompt, picture), 4) for prompt, picture in zip(prompts, pictures)]

        monkeypatch.setattr(predict_module, "answerer", lambda *model: answers)
        return asked

    return arrange


def by_pixels(prompt, picture):
    return f"<answer>{'ABCD'[sum(picture.tobytes()) % 4] if picture else 'A'}</answer>"


def options_in(prompt):
    return parse_problem(prompt.split("<|vision_end|>")[-1].split(" Your task")[0])[1]


@pytest.fixture(scope="module")
def three_a_picture(val_phantoms):
    """Twelve questions about four pictures."""
    from datasets import Dataset

    rows = []
    for row in val_phantoms.select(range(4)):
        rows += [row | {"id": f"{row['id']}-{k}", "problem": f"Once more ({k}): {row['problem']}"} for k in range(3)]
    return Dataset.from_list(rows).cast_column("image", val_phantoms.features["image"])


# ---- the picture -----------------------------------------------------------------------------------------------------


def test_visual_reliance_shows_a_model_that_looks(tiny, val_phantoms):
    right = mk.predict(*tiny, val_phantoms, **TEXT)
    frame = mk.visual_reliance(*tiny, val_phantoms, right=right, **TEXT)
    columns = ["images", "n", "accuracy", "low", "high", "flipped", "flipped_low", "flipped_high"]
    columns += ["lost", "lost_low", "lost_high", "compared", "follows", "follows_low", "follows_high"]
    assert frame.columns.tolist() == columns
    assert frame["images"].tolist() == list(IMAGES) and set(frame["n"]) == {80}
    assert (frame["lost"] - (frame["accuracy"][0] - frame["accuracy"])).abs().max() < 1e-12
    for value, low, high in (("accuracy", "low", "high"), ("flipped", "flipped_low", "flipped_high")):
        assert ((frame[low] <= frame[value]) & (frame[value] <= frame[high])).all()
    rows = frame.set_index("images")
    assert rows.loc["right", "accuracy"] == right["correct"].mean()
    assert rows.loc["right", ["flipped", "flipped_high", "lost", "lost_low", "lost_high"]].tolist() == [0.0] * 5
    for wrong in ("absent", "blank", "shuffled-all", "shuffled", "nearest"):  # a dozen answers at least, and accuracy
        assert rows.loc[wrong, "flipped"] > 0.15 and rows.loc[wrong, "lost"] > 0.05
        blurred = mk.predict(*tiny, val_phantoms, images=wrong, **TEXT)
        lost = paired_difference(blurred["correct"], right["correct"])
        assert rows.loc[wrong, ["lost", "lost_low", "lost_high"]].tolist() == pytest.approx(list(lost))
        assert tuple(rows.loc[wrong, ["low", "high"]]) == wilson(blurred["correct"].sum(), 80)
    assert rows.loc["nearest", "follows_low"] > rows.loc["right", "follows_high"]  # it believes the wrong picture


def test_only_the_looks_asked_for_are_asked(tiny, val_phantoms, says):
    asked = says(lambda prompt, picture: "<answer>A</answer>")
    frame = mk.visual_reliance(*tiny, val_phantoms.select(range(4)), images=["blank", "blank"], **TEXT)
    assert frame["images"].tolist() == ["right", "blank"] and len(asked) == 8
    assert frame.columns[-1] == "lost_high"
    for images, complaint in (("blank", "images is"), ([], "images is"), (["grey"], "images='grey'")):
        with pytest.raises(DataError, match=complaint):
            mk.visual_reliance(*tiny, val_phantoms.select(range(4)), images=images, **TEXT)


def test_visual_reliance_shows_a_model_that_does_not_look(fresh_tiny, val_phantoms):
    from medr1kit.models.load import base_of

    def blind(module, arguments, output):
        output.pooler_output = torch.zeros_like(output.pooler_output)
        return output

    model, processor = fresh_tiny
    base_of(model).model.visual.register_forward_hook(blind)
    shown = [images for images in IMAGES if images != "absent"]  # a prompt without an image is another one
    frame = mk.visual_reliance(model, processor, val_phantoms.select(range(24)), images=shown, **TEXT)
    assert frame["flipped"].tolist() == [0] * 6 and frame["accuracy"].nunique() == 1
    assert frame["flipped_high"][1] > 0.05  # 24 questions do not prove that it never looks


def test_a_model_that_sees_the_modality_alone_loses_only_by_the_picture_of_another(tiny, val_phantoms, says):
    """It says A, and B when the picture belongs to a modality other than the question's."""
    rows = val_phantoms.select(range(24))
    modality_of = {row["image"].tobytes(): row["modality"] for row in rows}
    asked_about = {row["problem"]: row["modality"] for row in rows}

    def answer(prompt, picture):
        about = next(modality for problem, modality in asked_about.items() if problem in prompt)
        seen = modality_of.get(picture.tobytes(), about) if picture else about
        return f"<answer>{'A' if seen == about else 'B'}</answer>"

    says(answer)
    flipped = mk.visual_reliance(*tiny, rows, **TEXT).set_index("images")["flipped"]
    assert flipped.pop("shuffled-all") > 0.3 and (flipped == 0).all()


def test_how_often_the_nearest_pictures_gold_is_answered_is_counted(tiny, val_phantoms, says):
    """It answers the gold of the picture that it is shown, where that is among the options, and else E."""
    rows = val_phantoms.filter(lambda name: name in ("CT", "MRI"), input_columns="modality")
    gold_of = {row["image"].tobytes(): row["options"]["ABCD".index(row["answer"])] for row in rows}

    def answer(prompt, picture):
        options, gold = options_in(prompt), gold_of.get(picture.tobytes())
        return f"<answer>{'ABCDE'[options.index(gold)] if gold in options else ''}</answer>"

    says(answer)
    frame = mk.visual_reliance(*tiny, rows, images=["nearest"], **TEXT).set_index("images")
    assert frame["compared"].nunique() == 1 and 0 < frame.loc["nearest", "compared"] < len(rows)
    assert frame["follows"].tolist() == [0, 1] and frame["accuracy"].tolist() == [1, 0]


@pytest.mark.filterwarnings("ignore:.*only image of their modality")
def test_questions_about_one_patient_count_once(tiny, three_a_picture, says):
    says(by_pixels)
    named = three_a_picture.add_column("patient_id", list(three_a_picture["image_id"]))
    right = mk.predict(*tiny, named, **TEXT)
    row = mk.visual_reliance(*tiny, named, right=right, **TEXT).iloc[0]
    assert (row["low"], row["high"]) == cluster_interval(right["correct"], right["image_id"])
    score = mk.score(right, by=None).iloc[0]
    assert (row["low"], row["high"]) == (score["low"], score["high"]) and score["cluster"] == "patient_id"


def test_an_image_that_no_other_can_replace_is_said_aloud(tiny, val_phantoms, says):
    says(by_pixels)
    rows = val_phantoms.filter(lambda name: name in ("CT", "MRI"), input_columns="modality")
    first = rows["modality"].index("CT")
    lone = rows.select([first, *(i for i, name in enumerate(rows["modality"]) if name == "MRI")])
    with pytest.warns(UserWarning, match=rf"1 of {len(lone)} questions are about the only image of .* \(CT\)"):
        mk.visual_reliance(*tiny, lone, **TEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mk.visual_reliance(*tiny, rows, **TEXT)


def test_questions_that_no_picture_answers_otherwise_are_counted(tiny, val_phantoms, says):
    says(by_pixels)
    rows = val_phantoms.filter(lambda task: task == "Modality Recognition", input_columns="task")
    with pytest.warns(UserWarning, match=rf"for {len(rows)} of {len(rows)} questions no other image .* another gold"):
        frame = mk.visual_reliance(*tiny, rows, images=["nearest"], **TEXT)
    assert frame["flipped"].tolist() == [0, 0] and frame["compared"].tolist() == [0, 0]


def test_answers_to_other_questions_are_refused(tiny, val_phantoms, says):
    says(lambda prompt, picture: "<answer>A</answer>")
    right = mk.predict(*tiny, val_phantoms.select(range(4)), **TEXT)
    with pytest.raises(DataError, match="right= answers other questions"):
        mk.visual_reliance(*tiny, val_phantoms.select(range(1, 5)), right=right, **TEXT)


# ---- the place of the options ----------------------------------------------------------------------------------------


def cell(frame, measure, letter="all"):
    return frame[(frame["measure"] == measure) & (frame["letter"] == letter)].iloc[0]


def test_a_model_that_says_a_is_caught(tiny, val_phantoms, says):
    says(lambda prompt, picture: "<answer>A</answer>")
    frame = mk.position_bias(*tiny, val_phantoms.select(range(8)), **TEXT)
    assert cell(frame, "chosen", "A")["value"] == 1 and cell(frame, "accuracy", "A")["value"] == 1
    assert cell(frame, "accuracy", "D")["value"] == 0 and cell(frame, "accuracy")["value"] == 0.25
    assert cell(frame, "consistent")["value"] == cell(frame, "right in all")["value"] == 0
    assert cell(frame, "chosen", "A")["n"] == 32 and cell(frame, "consistent")["n"] == 8


def test_a_model_that_means_a_text_is_not(tiny, val_phantoms, says):
    def first_in_the_dictionary(prompt, picture):
        options = options_in(prompt)
        return f"<answer>{'ABCD'[options.index(min(options))]}</answer>"

    asked = says(first_in_the_dictionary)
    rows = val_phantoms.select(range(8))
    frame = mk.position_bias(*tiny, rows, **TEXT)
    assert frame[frame["measure"] == "chosen"]["value"].tolist() == [0.25] * 4 + [0.0]
    assert cell(frame, "consistent")["value"] == 1
    right = [min(row["options"]) == row["options"]["ABCD".index(row["answer"])] for row in rows]
    assert cell(frame, "right in all")["value"] == cell(frame, "accuracy")["value"] == sum(right) / 8
    assert len(asked) == len(set(asked)) == 32


def test_fewer_rotations_ask_less(tiny, val_phantoms, says):
    asked = says(lambda prompt, picture: "<answer>B</answer>")
    frame = mk.position_bias(*tiny, val_phantoms.select(range(3)), rotations=2, **TEXT)
    assert len(asked) == 6 and cell(frame, "chosen", "B")["n"] == 6
    assert cell(frame, "consistent")["chance"] == 0.25
    with pytest.raises(DataError, match="rotations=1 is not a whole number of at least 2"):
        mk.position_bias(*tiny, val_phantoms, rotations=1, **TEXT)


def test_the_built_in_model_has_no_favourite_letter(tiny, val_phantoms):
    frame = mk.position_bias(*tiny, val_phantoms.select(range(24)), **TEXT)
    chosen = frame[(frame["measure"] == "chosen") & frame["letter"].isin(list("ABCD"))]
    assert ((chosen["value"] - chosen["chance"]).abs() < 0.1).all()
    assert cell(frame, "right in all")["low"] > 0.5


def test_the_answers_to_all_rotations_are_returned_and_can_vote(tiny, val_phantoms):
    rows = val_phantoms.select(range(24))
    asked = mk.predict_rotated(*tiny, rows, **TEXT)
    assert asked["sample"].tolist() == [by for by in range(4) for _ in range(24)]
    assert asked["predicted"][:24].tolist() == mk.predict(*tiny, rows, **TEXT)["predicted"].tolist()
    assert position_table(asked).equals(mk.position_bias(*tiny, rows, **TEXT))
    votes = mk.pass_at_k(asked)
    texts = pd.Series(option_texts(asked["options"], asked["predicted"])).groupby(asked["id"]).agg(pd.Series.mode)
    golds = {row["id"]: row["options"]["ABCD".index(row["answer"])] for row in rows}
    settled = {name: text for name, text in texts.items() if isinstance(text, str)}
    assert len(settled) > 20
    won = sum(golds[name] == text for name, text in settled.items())
    assert won <= votes["majority"][3] * 24 <= won + (24 - len(settled)) / 2
    assert votes["pass_at_k"][0] == pytest.approx(asked["correct"].mean())


# ---- the wording -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [mk.THINK_BEFORE, mk.NO_THINK, mk.THINK_AFTER])
def test_each_wording_reaches_the_model_and_the_formats_own_is_first(tiny, val_phantoms, says, format):
    asked = says(lambda prompt, picture: "<answer>A</answer>")
    rows = val_phantoms.select(range(2))
    frame = mk.prompt_sensitivity(*tiny, rows, format=format)
    wordings = {"training": format.instruction, **WORDINGS[format.name]}
    assert dict(zip(frame["wording"], frame["instruction"])) == wordings and "evaluation" in wordings
    expected = [f"{row['problem']} {words}<|im_end|>" for words in wordings.values() for row in rows]
    assert len(asked) == len(expected)
    assert all(any(text in prompt for prompt in asked) for text in expected)


def test_what_a_wording_changes_is_paired_with_the_training_wording(tiny, val_phantoms, says):
    """Under the other wording it says B instead of A, and for half the questions forgets the tags."""
    rows = val_phantoms.select(range(16))
    untagged = set(rows["problem"][::2])

    def answer(prompt, picture):
        if "Your task" in prompt:
            return "<answer>A</answer>"
        return "B" if any(problem in prompt for problem in untagged) else "<answer>B</answer>"

    says(answer)
    frame = mk.prompt_sensitivity(*tiny, rows, format="no-think", wordings={"curt": "Letter?"})
    golds = list(rows["answer"])
    before = [gold == "A" for gold in golds]
    after = [gold == "B" and k % 2 == 1 for k, gold in enumerate(golds)]
    own, curt = frame.to_dict("records")
    assert (own["accuracy"], own["flipped"], own["difference"], own["well_formed"]) == (sum(before) / 16, 0, 0, 1)
    assert (curt["accuracy"], curt["flipped"], curt["well_formed"]) == (sum(after) / 16, 1.0, 0.5)
    assert curt["lenient_accuracy"] == golds.count("B") / 16
    limits = [curt[name] for name in ("difference", "difference_low", "difference_high")]
    assert limits == pytest.approx(list(paired_difference(before, after)))


def test_the_built_in_model_is_asked_in_earnest(tiny, val_phantoms):
    """What it says under its own wording is what predict says; other wordings are bytes to it, and it guesses."""
    rows = val_phantoms.select(range(16))
    frame = mk.prompt_sensitivity(*tiny, rows, **TEXT).set_index("wording")
    assert frame.loc["training", "accuracy"] == mk.predict(*tiny, rows, **TEXT)["correct"].mean()
    worded = replace(mk.NO_THINK, instruction=WORDINGS["no-think"]["evaluation"])
    other = mk.predict(*tiny, rows, format=worded, max_new_tokens=8)
    assert frame.loc["evaluation", "accuracy"] == other["correct"].mean()
    assert frame.loc["evaluation", "flipped_low"] > 0.3 and frame.loc["evaluation", "difference_high"] < 0


def test_wordings_without_a_name_of_their_own_are_refused(tiny, val_phantoms):
    for wordings in ({}, {"training": "Letter?"}, "Letter?"):
        with pytest.raises(DataError, match="'training' is the format's own"):
            mk.prompt_sensitivity(*tiny, val_phantoms, format="no-think", wordings=wordings)


@pytest.mark.parametrize("name", ["visual_reliance", "position_bias", "prompt_sensitivity"])
def test_no_questions_and_no_images_are_refused(tiny, val_phantoms, name):
    with pytest.raises(DataError, match="dataset has no rows"):
        getattr(mk, name)(*tiny, val_phantoms.select([]), **TEXT)
    with pytest.raises(DataError, match="dataset has no images"):
        getattr(mk, name)(*tiny, val_phantoms.remove_columns("image"), **TEXT)


@pytest.mark.filterwarnings("ignore:.*only image of their modality")
def test_the_tables_are_frames_that_can_be_written(tiny, val_phantoms, says, tmp_path):
    says(lambda prompt, picture: "<answer>A</answer>")
    rows = val_phantoms.select(range(4))
    for probe in (mk.visual_reliance, mk.position_bias, mk.prompt_sensitivity):
        frame = probe(*tiny, rows, **TEXT)
        frame.to_csv(tmp_path / "probe.csv", index=False)
        assert pd.read_csv(tmp_path / "probe.csv").columns.tolist() == frame.columns.tolist()
