"""Trained models as plain folders.

What stock classes make of them needs torchvision, which this environment must not hold: tests/real, ``make test-real``.
"""

import json

import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.export import merge_model
from medr1kit.results.runs import RunWriter

LABELS = {"model": "tiny", "method": "sft", "seed": 3, "train_modality": "CT", "train_task": None}


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_thread):
    """A run whose adapter changes the built-in model enough to be seen, with a checkpoint."""
    import torch
    from peft import get_peft_model

    path = tmp_path_factory.mktemp("runs") / "ct"
    RunWriter(path, {"labels": LABELS, "model": "tiny", "format": "no-think"}).close()
    torch.manual_seed(0)  # the first factor is drawn, too
    model = get_peft_model(mk.load_model("tiny")[0], mk.lora(rank=4, tower=True))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(path / "adapter")
    model.save_pretrained(path / "checkpoint-20")
    return path


def test_a_merged_folder_answers_as_its_run_does_under_its_name(run, tmp_path, val_phantoms):
    folder = merge_model(run, tmp_path / "merged", dtype="float32")
    asked = val_phantoms.select(range(12))
    ours, merged, base = (
        mk.predict(*mk.load_model(name), asked, format=mk.NO_THINK, max_new_tokens=12) for name in (run, folder, "tiny")
    )
    assert merged["text"].tolist() == ours["text"].tolist() != base["text"].tolist()
    assert set(merged["method"]) == {"sft"} and set(merged["seed"]) == {3} and set(merged["train_modality"]) == {"CT"}


def test_a_merged_folder_holds_what_stock_classes_read(run, tmp_path):
    folder = merge_model(run, tmp_path / "merged")
    files = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
    assert not [name for name in files if name.startswith("adapter")]
    images, videos = (json.loads((folder / f"{kind}_config.json").read_text()) for kind in PARTS)
    assert (images["image_processor_type"], images["patch_size"]) == ("Qwen2VLImageProcessor", 14)
    assert images["size"] == {"longest_edge": 12544, "shortest_edge": 12544}
    assert videos["video_processor_type"] == "Qwen2VLVideoProcessor"
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16", "the base's own number format"


PARTS = ("preprocessor", "video_preprocessor")


def test_a_checkpoint_is_merged_under_its_step(run, tmp_path):
    folder = merge_model(run / "checkpoint-20", tmp_path / "merged")
    assert json.loads((folder / "run.json").read_text())["labels"] == LABELS | {"step": 20}


def test_what_is_no_training_is_not_merged(run, tmp_path):
    with pytest.raises(mk.DataError, match="'tiny' is no run, checkpoint or adapter: there is nothing to merge"):
        merge_model("tiny", tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(mk.DataError, match="has something in it already; name a new folder"):
        merge_model(run, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(mk.DataError, match="cannot be written"):
        merge_model(run, tmp_path / "file" / "merged")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "notes.txt"]


def test_weights_that_were_not_written_as_merged_are_refused(run, tmp_path, monkeypatch):
    import transformers

    write = transformers.PreTrainedModel.save_pretrained

    def save(self, folder, **kwargs):
        write(self, folder, **kwargs)
        other, _ = mk.load_model("tiny")
        write(other, folder, **kwargs)

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", save)
    with pytest.raises(mk.DataError, match="is not in the written folder as it was merged"):
        merge_model(run, tmp_path / "merged", dtype="float32")
    assert list(tmp_path.iterdir()) == [], "nothing half written is left"


def test_the_command_merges(run, tmp_path, capsys):
    assert main(["merge", str(run), "--output", str(tmp_path / "merged")]) == 0
    assert f"written to {tmp_path / 'merged'} (" in capsys.readouterr().out
    assert main(["merge", str(run), "--output", str(tmp_path / "merged")]) == 2
    assert "medr1kit merge: output=" in capsys.readouterr().err
