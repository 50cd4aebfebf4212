"""What a model and its run's folder say about where they came from."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from datasets import concatenate_datasets

import medr1kit as mk
from medr1kit.models.load import base_of, origin_of
from medr1kit.training.provenance import add_score, model_card, run_config

ROOT = Path(__file__).parent.parent
SMALL = {"max_steps": 1, "warmup_steps": 0, "per_device_train_batch_size": 8, "format": "no-think"}


@pytest.fixture(scope="module")
def trained(one_thread, train_phantoms, tmp_path_factory):
    """Model, processor and run of one small SFT step."""
    model, processor = mk.load_model("tiny")
    folder = tmp_path_factory.mktemp("runs") / "sft"
    return model, processor, mk.train_sft(model, processor, train_phantoms, output_dir=folder, seed=2, **SMALL)


def card_of(folder):
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_card_says_what_the_run_knows_and_claims_nothing_else(trained):
    front, text = card_of(trained[2].path)
    assert front["library_name"] == "peft" and front["license"] == "unknown" and front["datasets"] == ["phantoms"]
    assert {"medr1kit", "trl", "sft", "no-think", "lora"} <= set(front["tags"])
    assert "base_model" not in front  # "tiny" is no model of the Hub
    assert text.startswith("\n# SFT of tiny, no-think format\n\nTrained with medr1kit")
    assert "(LoRA adapter, seed 2) on 32 questions" in text and "Not for clinical use." in text


def test_a_card_says_what_the_data_were_and_which_card_describes_them(trained, train_phantoms):
    _, text = card_of(trained[2].path)
    data = trained[2].config["data"]
    modalities = list(dict.fromkeys(train_phantoms["modality"]))
    assert len(modalities) == 8 and f"; modality: {', '.join(modalities[:6])} and 2 more; task: " in text
    assert text.count("\nData: phantoms, 32 rows; ") == 1
    assert f"; fingerprint: {data['fingerprint']}; data card: `data_cards/phantoms.md` of medr1kit.\n" in text
    assert (ROOT / "data_cards" / f"{data['card']}.md").is_file()


@pytest.mark.parametrize(
    ("image", "card"),
    [("Images/Chest CT Scan/a.png", "omnimedvqa"), ("Images/a.png", None), ("scans/Chest CT Scan/a.png", None)],
)
def test_only_a_set_that_has_a_data_card_names_one(trained, train_phantoms, image, card):
    model, args = trained[0], SimpleNamespace(seed=0, world_size=1, to_dict=dict)
    rows = mk.load_vqa([{"image": image, "problem": "What? A)CT, B)MRI", "solution": "A", "source": "mine"}] * 2)
    config = run_config("sft", model, rows, mk.NO_THINK, args, None)
    assert config["data"]["card"] == card and (ROOT / "data_cards" / "omnimedvqa.md").is_file()
    text = model_card(config, {}).text
    assert "Data: " in text and ("data_cards/omnimedvqa.md" in text) == (card is not None)
    mixed = concatenate_datasets([rows, train_phantoms.select_columns(rows.column_names)])
    assert run_config("sft", model, mixed, mk.NO_THINK, args, None)["data"]["card"] is None


def test_a_base_model_of_the_hub_is_named_and_a_folder_is_not(trained, tmp_path):
    config = trained[2].config
    card = model_card(config | {"model": "Qwen/Qwen2-VL-2B-Instruct", "lora": None}, {})
    assert card.data.base_model == "Qwen/Qwen2-VL-2B-Instruct" and card.data.library_name == "transformers"
    (tmp_path / "mine").mkdir()
    assert model_card(config | {"model": str(tmp_path / "mine")}, {}).data.base_model is None


def test_a_score_is_added_to_the_card_and_the_text_stays(trained, val_phantoms, tmp_path):
    model, processor, run = trained
    rows = val_phantoms.select(range(8))
    preds = mk.predict(model, processor, rows, format="no-think", max_new_tokens=8)
    before, text = card_of(run.path)
    add_score(run.path, preds)
    front, after = card_of(run.path)
    (result,) = front.pop("model-index")[0]["results"]
    assert result["metrics"][0]["type"] == "accuracy"
    assert result["metrics"][0]["value"] == pytest.approx(preds["correct"].mean(), abs=1e-4)
    assert front == before and "## Held-out questions" in after
    assert text.split("\nFor research")[0].strip() == after.split("\n## Held-out")[0].strip()


def test_predictions_take_their_labels_from_a_run_too(trained, tiny, val_phantoms):
    model, processor, run = trained
    rows = val_phantoms.select(range(4))
    remembered = mk.predict(model, processor, rows, format="no-think", max_new_tokens=8)
    named = mk.predict(model, processor, rows, format="no-think", max_new_tokens=8, labels=run)
    pd.testing.assert_frame_equal(remembered, named)
    assert run.labels == run.config["labels"] and set(named["method"]) == {"sft"} and set(named["seed"]) == {2}
    other = mk.predict(*tiny, rows, format="no-think", max_new_tokens=8, labels=run)
    assert set(other["method"]) == {"sft"}  # what is said stands above what is remembered


def test_a_model_carries_one_attribute_of_ours(trained, fresh_tiny):
    for model in (trained[0], fresh_tiny[0]):
        ours = [name for name in vars(base_of(model)) if "medr1kit" in name]
        assert ours == ["medr1kit"]
    assert origin_of(trained[0]).run == str(trained[2].path) and origin_of(fresh_tiny[0]).run is None
    assert origin_of(fresh_tiny[0]).labels == {"model": "tiny", "method": "base"}


def test_a_model_that_others_loaded_is_named_after_its_folder(tiny):
    from transformers import AutoModelForImageTextToText

    from medr1kit.models.load import TINY

    model = AutoModelForImageTextToText.from_pretrained(TINY)
    assert origin_of(model).labels == {"model": str(TINY), "method": "base"}
