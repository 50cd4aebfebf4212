"""What a name stands for: base, adapter and run of each thing that can be given as a model."""

import json
import shutil
import time

import pytest

from medr1kit.models import found
from medr1kit.models.found import TINY, find
from medr1kit.results.runs import Run, load_run
from medr1kit.training.saving import write_record
from medr1kit.vqa import DataError

LABELS = {"model": "tiny", "method": "grpo", "seed": 1, "train_modality": "CT", "train_task": None}


def adapter_at(folder, base=str(TINY)):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return folder


@pytest.fixture
def run(tmp_path):
    """A run's folder with an adapter and a checkpoint."""
    adapter_at(tmp_path / "r" / "adapter")
    adapter_at(tmp_path / "r" / "checkpoint-20")
    (tmp_path / "r" / "run.json").write_text(json.dumps({"model": "tiny", "labels": LABELS}))
    return load_run(tmp_path / "r")


def test_names_stand_for_themselves():
    assert find("tiny", None) == ("tiny", None, None)
    assert find("Qwen/Qwen2-VL-2B-Instruct", None) == ("Qwen/Qwen2-VL-2B-Instruct", None, None)


def test_the_built_in_model_is_meant_also_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find("tiny", None) == ("tiny", None, None)


@pytest.mark.parametrize("given", ["object", "folder", "text"])
@pytest.mark.parametrize("place", ["name", "adapter"])
def test_a_run_is_its_base_with_its_adapter(run, given, place):
    it = {"object": run, "folder": run.path, "text": str(run.path)}[given]
    base, adapter, of = find(it, None) if place == "name" else find("tiny", it)
    assert (base, adapter, of.labels, of.path) == ("tiny", run.path / "adapter", LABELS, run.path)


def test_a_checkpoint_of_a_run_has_its_labels_and_its_step(run):
    base, adapter, of = find(run.path / "checkpoint-20", None)
    assert (base, adapter, of.labels) == ("tiny", run.path / "checkpoint-20", LABELS | {"step": 20})
    assert find("tiny", run.path / "checkpoint-20")[2].labels == LABELS | {"step": 20}


def test_a_run_of_all_weights_is_its_own_base(run):
    shutil.copytree(TINY, run.path / "model")
    shutil.copytree(TINY, run.path / "checkpoint-5")
    assert find(run, None)[:2] == (run.path / "model", None) and find(run, None)[2].labels == LABELS
    assert find(run.path / "model", None)[2].labels == LABELS
    assert find(run.path / "checkpoint-5", None)[2].labels == LABELS | {"step": 5}


def test_another_adapter_on_a_run_goes_on_the_runs_base(run, tmp_path):
    other = adapter_at(tmp_path / "other")
    assert find(run, other) == ("tiny", other, None)
    shutil.copytree(TINY, run.path / "model")
    assert find(run, other) == (run.path / "model", other, None)


def test_an_adapter_alone_goes_on_the_base_that_it_records(tmp_path):
    assert find(adapter_at(tmp_path / "a"), None) == ("tiny", tmp_path / "a", None)
    assert find(adapter_at(tmp_path / "b", "Qwen/Some"), None)[0] == "Qwen/Some"


@pytest.mark.parametrize("base", [None, "", 3])
def test_an_adapter_that_names_no_base_asks_for_it(tmp_path, base):
    with pytest.raises(DataError, match=r"names no base; give both: load_model\(BASE, adapter="):
        find(adapter_at(tmp_path / "a", base), None)


def test_home_is_written_with_a_tilde(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.path.parent))
    assert find("~/r", None)[1] == run.path / "adapter" == find("tiny", "~/r")[1]


def test_a_base_is_found_also_where_its_record_begins_with_a_tilde(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.path.parent))
    base = shutil.copytree(TINY, run.path.parent / "base")
    (run.path / "run.json").write_text(json.dumps({"model": "~/base", "labels": LABELS}))
    assert find(run.path, None)[:2] == (base, run.path / "adapter")
    assert find(adapter_at(run.path.parent / "alone", "~/base"), None)[0] == base


def test_a_run_that_was_killed_names_its_last_checkpoint(run):
    shutil.rmtree(run.path / "adapter")
    adapter_at(run.path / "checkpoint-100")
    with pytest.raises(
        DataError,
        match=r"did not finish: go on with resume=True \(--resume\), or load its last checkpoint, .*checkpoint-100",
    ):
        find(run, None)


@pytest.mark.parametrize("what", ["model", "labels"])
@pytest.mark.parametrize("value", [None, 3])
def test_a_run_json_that_lost_something_ends_in_one_sentence(run, what, value):
    (run.path / "run.json").write_text(json.dumps({"model": "tiny", "labels": LABELS} | {what: value}))
    with pytest.raises(DataError, match=f"run.json does not hold the run's {what}"):
        find(Run(run.path, {}), None)


@pytest.mark.parametrize("name", [None, 3, "", ["tiny"]])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(DataError, match=r"name is .*; give the path"):
        find(name, None)


# ---- where there is none ---------------------------------------------------------------------------------------------


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: pytest.fail("the hub was asked"))


@pytest.mark.parametrize("name", ["tinny", "runs/ct/adapter", "/nowhere/at all", "./x", "a/b c"])
def test_what_can_be_no_hub_id_is_refused_without_asking_the_hub(no_hub, name):
    with pytest.raises(DataError, match=r"no model at .*give 'tiny'.*owner/name"):
        found.architecture(name)


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(no_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/x").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no model at 'runs/x'.*there is none in it"):
        found.architecture("runs/x")


def test_a_hub_that_cannot_be_reached_is_tried_once(monkeypatch):
    asked = []

    def fail(url, timeout):
        asked.append((url, timeout))
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail)
    started = time.perf_counter()
    with pytest.raises(DataError, match=r"no model at 'nobody/nothing'.*reach \(Name or service not known\)"):
        found.architecture("nobody/nothing")
    assert len(asked) == 1 and "nobody/nothing/resolve/main/config.json" in asked[0][0] and asked[0][1] <= 10
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(("config", "kind"), [({"model_type": "bert"}, "bert"), ({}, "nameless")])
def test_another_architecture_is_refused_with_those_there_are(tmp_path, config, kind):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=f"is a {kind} model; medr1kit supports qwen2_vl, qwen2_5_vl, qwen3_vl"):
        found.architecture(tmp_path)


def test_a_base_given_by_a_relative_path_is_found_from_another_folder(run, tmp_path, monkeypatch):
    for name in ("work/hub/small", "other/hub/small"):
        shutil.copytree(TINY, tmp_path / name)
    recorded = {"model": "hub/small", "model_path": str(tmp_path / "work/hub/small"), "labels": LABELS}
    (run.path / "run.json").write_text(json.dumps(recorded))
    monkeypatch.chdir(tmp_path / "work")
    assert str(find(run.path, None)[0]) == "hub/small", "here it is what was given"
    for folder in (tmp_path, tmp_path / "other"):  # where there is none, and where another has its name
        monkeypatch.chdir(folder)
        assert str(find(run.path, None)[0]) == str(tmp_path / "work/hub/small")
    shutil.rmtree(tmp_path / "work")
    assert str(find(run.path, None)[0]) == "hub/small", "moved, with its run, to another machine"


def test_a_checkpoint_finds_such_a_base_too_also_when_it_was_copied(run, tmp_path, monkeypatch):
    shutil.copytree(TINY, tmp_path / "hub/small")
    recorded = {"model": "hub/small", "model_path": str(tmp_path / "hub/small"), "labels": LABELS}
    write_record(
        run.path / "checkpoint-20",
        recorded | {"method": "grpo", "format": "no-think", "seed": 1, "load_in_4bit": False},
        20,
    )
    shutil.copytree(run.path / "checkpoint-20", tmp_path / "best")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in (run.path / "checkpoint-20", tmp_path / "best"):
        assert str(find(folder, None)[0]) == str(tmp_path / "hub/small")
