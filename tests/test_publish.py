"""A run on the Hub, which is a fake here: what is pushed, what is not, and what stops it."""

import json
import os
import re
import shlex
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
from huggingface_hub import RepoUrl

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.results.runs import Run
from medr1kit.training.publish import push_run, refuse_push, take_push
from medr1kit.vqa import DataError

SFT = shlex.split(
    "sft --dataset_name phantoms --modality CT --num_rows 40 --max_steps 1 --per_device_train_batch_size 4"
)


TOKENS = {
    "hf_x": {"role": "write"},
    "hf_read": {"role": "read"},
    "hf_fine": {
        "role": "fineGrained",
        "fineGrained": {"scoped": [{"permissions": ["repo.content.read", "repo.write"]}]},
    },
    "hf_fine_read": {"role": "fineGrained", "fineGrained": {"scoped": [{"permissions": ["repo.content.read"]}]}},
}


@pytest.fixture
def hub(monkeypatch):
    """Repositories by name: who asked for them, and the content of their files; HF_TOKEN is who is logged in."""
    repositories = {}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    class Api:
        def __init__(self, token=None):
            self.token = token

        def whoami(self, cache=False):
            token = self.token or os.environ.get("HF_TOKEN")
            if token not in TOKENS:
                raise huggingface_hub.errors.LocalTokenNotFoundError("Token is required")
            return {"name": "me", "orgs": [{"name": "lab"}], "auth": {"accessToken": TOKENS[token]}}

        def model_info(self, name):
            if name not in repositories:
                response = httpx.Response(404, request=httpx.Request("GET", f"https://huggingface.co/{name}"))
                raise huggingface_hub.errors.RepositoryNotFoundError("not there", response=response)
            return repositories[name]

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
    monkeypatch.setattr("sys.argv", ["medr1kit", "--hub_token", "hf_x", "--hub_token=hf_x", "runs/hf_ct"])
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
    kept = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert kept["command"] == ["medr1kit", "--hub_token", "…", "--hub_token=…", "runs/hf_ct"]
    assert "hf_x" not in json.dumps(kept)


REFUSED = {
    "nobody": ("", "Token is required"),
    "read": ("--hub_token hf_read", "the token of me may only read"),
    "fine-grained": ("--hub_token hf_fine_read", "the token of me may only read"),
    "others": ("--hub_token hf_x --hub_model_id theirs/ct", "'theirs/ct' (me may write to me, lab alone)"),
    "name": ("--hub_token hf_x --hub_model_id a/b/c", "must be in the form 'repo_name'"),
    "public": ("--hub_token hf_x --hub_private_repo true", "me/public is there and public"),
    "strategy": ("--hub_token hf_x --hub_strategy every_save", "pushed once, at its end"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_not_be_pushed_in_the_end_is_refused_before_anything_is_loaded(
    hub, tmp_path, capsys, monkeypatch, case
):
    flags, sentence = REFUSED[case]
    hub["me/public"] = SimpleNamespace(private=False)
    monkeypatch.setattr("medr1kit.data.load.load_vqa", lambda *_, **__: pytest.fail("read in vain"))
    assert main([*SFT, "--output_dir", str(tmp_path / "public"), "--push_to_hub", "true", *flags.split()]) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said and not (tmp_path / "public").exists()


@pytest.mark.parametrize(
    ("token", "settings"),
    [
        ("hf_x", {"hub_model_id": "lab/new", "hub_private_repo": True}),  # of the environment, or logged in
        ("hf_fine", {"hub_model_id": "theirs/ct"}),  # a fine-grained token need not say for whom it may write
        ("", {"hub_token": "hf_x", "hub_model_id": "ct"}),
        ("hf_read", {"hub_token": "hf_x"}),
    ],
)
def test_who_may_write_is_not_refused(hub, monkeypatch, token, settings):
    monkeypatch.setenv("HF_TOKEN", token)
    refuse_push({"output_dir": "runs/ct", **settings})


def test_what_is_to_be_private_is_not_put_where_all_can_read_it(hub, tmp_path):
    (tmp_path / "adapter").mkdir()
    push_run(Run(tmp_path, {}), "ct")
    with pytest.raises(DataError, match=r"me/ct is there and public, and a private one is asked for"):
        push_run(Run(tmp_path, {}), "ct", private=True)
    push_run(Run(tmp_path, {}), "closed", private=True)
    push_run(Run(tmp_path, {}), "closed", private=True)
    assert hub["me/closed"].private


def test_in_python_a_run_is_pushed_when_it_is_done(tiny, train_phantoms, tmp_path):
    with pytest.raises(DataError, match=r"push_to_hub=True is of the command line.*push_run\(run, NAME\)"):
        mk.train_sft(*tiny, train_phantoms, format="no-think", output_dir=tmp_path / "run", push_to_hub=True)


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
