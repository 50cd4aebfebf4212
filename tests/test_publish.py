"""A run on the Hub, which is a fake here: what is pushed, what is not, and what stops it."""

import json
import re
import shlex
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import RepoUrl

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.results.runs import Run
from medr1kit.training.publish import push_run, take_push
from medr1kit.vqa import DataError

SFT = shlex.split(
    "sft --dataset_name phantoms --modality CT --num_rows 40 --max_steps 1 --per_device_train_batch_size 4"
)


@pytest.fixture
def hub(monkeypatch):
    """Repositories by name: who asked for them, and the content of their files."""
    repositories = {}

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, name, private=None, exist_ok=False):
            assert exist_ok
            name = name if "/" in name else f"me/{name}"
            repositories.setdefault(name, SimpleNamespace(private=private, token=self.token, files={}))
            return RepoUrl(f"https://huggingface.co/{name}")

        def create_commit(self, name, operations, commit_message):
            for added in operations:
                with added.as_file() as content:
                    repositories[name].files[added.path_in_repo] = content.read()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return repositories


def test_the_command_pushes_weights_card_settings_and_curves(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "whoami", lambda *_, **__: {"name": "me"})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    pushing = ["--push_to_hub", "true", "--hub_model_id", "lab/ct", "--hub_private_repo", "true", "--hub_token", "hf_x"]
    assert main([*SFT, "--test_size", "0.3", "--output_dir", str(tmp_path / "run"), *pushing]) == 0
    assert "pushed to https://huggingface.co/lab/ct" in capsys.readouterr().out
    assert list(hub) == ["lab/ct"] and hub["lab/ct"].private and hub["lab/ct"].token == "hf_x"
    files = hub["lab/ct"].files
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "README.md", "run.json", "metrics.csv"}
    card = files["README.md"].decode()
    assert card.startswith("---\n") and "## Held-out questions" in card and "without any image, " in card
    (trained, held_out) = (
        int(re.search(part, card)[1]) for part in (r"\nData: phantoms, (\d+) rows", r"(\d+) held-out")
    )
    assert trained + held_out == 40 and "; data card: `data_cards/phantoms.md` of medr1kit.\n" in card
    assert files["adapter_model.safetensors"] == (tmp_path / "run/adapter/adapter_model.safetensors").read_bytes()
    settings = json.loads(files["run.json"])
    assert settings["labels"]["method"] == "sft" and "command" not in settings
    assert not any(b"hf_x" in content for content in files.values())


def test_a_run_is_called_by_its_folder(hub, tmp_path):
    (tmp_path / "ct-grpo" / "adapter").mkdir(parents=True)
    (tmp_path / "ct-grpo" / "adapter" / "adapter_config.json").write_text("{}")
    assert push_run(Run(tmp_path / "ct-grpo", {"method": "grpo"})) == "https://huggingface.co/me/ct-grpo"
    assert set(hub["me/ct-grpo"].files) == {"adapter_config.json", "run.json"}
    with pytest.raises(DataError, match=r"neither adapter/ nor model/; it did not finish: nothing was pushed"):
        push_run(Run(tmp_path, {}))


def test_a_hub_that_refuses_is_one_sentence_that_says_where_the_run_is(hub, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise huggingface_hub.errors.OfflineModeIsEnabled("Cannot reach it: offline mode is enabled.")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", offline)
    (tmp_path / "adapter").mkdir()
    with pytest.raises(DataError, match=r"is written to .*could not be pushed \(OfflineModeIsEnabled: .*push it later"):
        push_run(Run(tmp_path, {}))


def test_trl_is_not_asked_to_push():
    arguments = {"push_to_hub": True, "hub_model_id": "a/b", "hub_strategy": "end", "seed": 1}
    assert take_push(arguments) == {"name": "a/b"} and arguments == {"seed": 1}
    assert take_push(arguments) is None and take_push({"push_to_hub": False, "seed": 1}) is None
    with pytest.raises(DataError, match=r"--hub_strategy is not supported: a run is pushed once, at its end"):
        take_push({"push_to_hub": True, "hub_strategy": "every_save"})


def test_a_card_says_how_held_out_questions_were_answered_and_says_it_once(
    tiny, train_phantoms, val_phantoms, tmp_path
):
    from medr1kit.training.provenance import add_score

    settings = {"max_steps": 1, "per_device_train_batch_size": 4, "format": "no-think"}
    model, processor = mk.load_model("tiny")
    run = mk.train_sft(model, processor, train_phantoms, output_dir=tmp_path / "run", **settings)
    preds = mk.predict(model, processor, val_phantoms.select(range(8)), format="no-think", max_new_tokens=8)
    right = 100 * preds["correct"].mean()
    for floor in (0.25, None, 0.5):
        add_score(run.path, preds, floor)
        card = (run.path / "README.md").read_text(encoding="utf-8")
        assert card.count("## Held-out questions") == 1 and f"{right:.1f} % [" in card and "of 8 held-out" in card
        assert ("without any image" in card) == (floor is not None)
    assert "without any image, 50.0 %." in card and "Not for clinical use." in card
