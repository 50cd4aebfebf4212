import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
from study_fakes import STUDY, write_study

from medr1kit.data.load import load_vqa
from medr1kit.data.sources import own_arguments
from medr1kit.study.checks import check_data, check_room, check_settings
from medr1kit.study.grid import read_study, select
from medr1kit.study.settings import _DATA, _SOURCE
from medr1kit.vqa import MODALITIES, TASKS, DataError

STUDIES = Path(__file__).resolve().parents[1] / "studies"
GRID = """
name: grid
train: {name: phantoms, n: 960}
test: {name: phantoms, n: 800}
train_by: {modality: all, task: all}
methods: [sft, sft-answer, grpo]
formats: [think-before, think-after, no-think]
seeds: [0, 1, 2]
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return read_study(write_study(tmp_path_factory.mktemp("grid"), GRID))


def changed(tmp_path, before, after):
    text = STUDY.replace(before, after)
    assert text != STUDY
    return read_study(write_study(tmp_path, text))


def test_a_grid_is_every_modality_and_task_by_every_method_with_the_formats_that_fit_and_every_seed(grid):
    trained = [cell for cell in grid.cells if cell.train_by]
    assert [cell.format for cell in grid.cells if cell.method == "base"] == ["think-before", "think-after", "no-think"]
    assert {(cell.trained_on, cell.method, cell.format, cell.seed) for cell in trained} == {
        (name, method, format, seed)
        for name in (*MODALITIES, *TASKS)
        for method, formats in {
            "sft": ("think-before", "think-after"),
            "sft-answer": ("no-think",),
            "grpo": ("think-before", "think-after", "no-think"),
        }.items()
        for format in formats
        for seed in (0, 1, 2)
    }
    assert len(grid.cells) == len({cell.name for cell in grid.cells}) == 3 + 3 * 6 * 13


def test_formats_that_are_named_get_the_methods_that_fit(tmp_path):
    text = STUDY.replace("[no-think]", "[answer-think-answer, adaptive]").replace("[sft-answer, grpo]", "[sft, grpo]")
    study = read_study(write_study(tmp_path, text))
    assert {(cell.method, cell.format) for cell in study.cells} == {
        (method, format) for method in ("base", "sft", "grpo") for format in ("answer-think-answer", "adaptive")
    }


def test_seeds_stand_outermost_and_the_base_comes_first(grid):
    seeds = [-1 if cell.seed is None else cell.seed for cell in grid.cells]
    assert seeds == sorted(seeds)


def test_test_questions_are_spread_evenly_over_modalities_and_tasks(grid):
    arguments = dict(grid.settings["test"]) | {"size": 28}
    questions = load_vqa(arguments.pop("name"), split="test", **arguments).to_pandas()
    assert questions["modality"].value_counts().to_dict() == dict.fromkeys(MODALITIES, 100)
    assert questions["task"].value_counts().to_dict() == dict.fromkeys(TASKS, 160)
    assert questions.groupby(["modality", "task"]).size().eq(20).all()


def test_a_model_trained_by_task_has_no_modality_label(grid):
    (cell,) = select(grid.cells, "task=LG method=grpo format=no-think seed=1")
    assert cell.labels == {"method": "grpo", "seed": 1, "train_modality": None, "train_task": "Lesion Grading"}
    assert grid.cells[0].labels == {"method": "base", "seed": None, "train_modality": None, "train_task": None}


def test_a_cell_trains_on_its_own_modality_and_seed_and_all_are_tested_alike(grid):
    (cell,) = select(grid.cells, "modality=OCT method=sft format=think-after seed=2")
    assert cell.definition["train"] == {"split": "train", "name": "phantoms", "n": 960, "modality": "OCT", "seed": 2}
    assert len({str(cell.definition["test"]) for cell in grid.cells}) == 1


def test_the_smoke_study_has_every_method():
    cells = read_study(STUDIES / "smoke.yaml").cells
    assert {cell.method for cell in cells} == {"base", "sft", "sft-answer", "grpo"}
    assert all(cell.definition["settings"] == {"max_steps": 2} for cell in cells if cell.train_by)


# --- fingerprints -----------------------------------------------------------------------------------------------------


def fingerprints(study):
    return {cell.name: cell.fingerprint for cell in study.cells}


def test_a_fingerprint_changes_with_what_decides_the_result_and_with_nothing_else(tmp_path):
    before = fingerprints(read_study(write_study(tmp_path)))
    more = fingerprints(changed(tmp_path, "[0, 1]", "[0, 1, 2]"))
    assert set(before) < set(more) and all(more[name] == before[name] for name in before)
    steps = fingerprints(changed(tmp_path, "[sft-answer, grpo]", "{sft-answer: , grpo: {max_steps: 3}}"))
    assert {name for name in before if steps[name] != before[name]} == {name for name in before if "grpo" in name}
    tests = fingerprints(changed(tmp_path, "test: {name: phantoms, n: 16}", "test: {name: phantoms, n: 24}"))
    assert not set(before.values()) & set(tests.values())


def test_a_changed_data_file_is_a_changed_definition(tmp_path):
    data = tmp_path / "questions.json"
    data.write_text("[]")
    text = STUDY.replace("train: {name: phantoms", f"train: {{name: {data}")
    before = fingerprints(read_study(write_study(tmp_path, text)))
    data.write_text("[ ]")
    after = fingerprints(read_study(write_study(tmp_path, text)))
    assert {name for name in before if before[name] == after[name]} == {"base_no-think"}


def test_the_arguments_of_a_data_set_are_those_of_load_vqa():
    known = ["source", *(name for name in (*_SOURCE, "modality", "task", "seed") if name != "name")]
    of_source = {name for arguments in own_arguments().values() for name in arguments}
    assert set(known) == set(inspect.signature(load_vqa).parameters) - {"of_source"} | of_source
    assert len(set(known)) == len(known)
    assert not {"modality", "task", "seed"} & set(_DATA["train"]), "the cell decides these"


def test_how_a_model_is_loaded_is_part_of_a_cell_only_where_it_is_given(tmp_path):
    before = read_study(write_study(tmp_path))
    assert not any("load" in cell.definition for cell in before.cells), "so that finished studies stay valid"
    study = changed(tmp_path, "name: small", "name: small\nattn: sdpa\ndtype: fp32\nmax_pixels: 3136")
    assert {str(cell.definition["load"]) for cell in study.cells} == {
        str({"attn": "sdpa", "dtype": "float32", "max_pixels": 3136})
    }
    assert not set(fingerprints(before).values()) & set(fingerprints(study).values())


# --- choosing cells ---------------------------------------------------------------------------------------------------


def test_only_takes_several_values_and_short_names(grid):
    chosen = select(grid.cells, "modality=der,FP format=no-think seed=0,2")
    assert {(cell.trained_on, cell.seed) for cell in chosen} == {
        (name, seed) for name in ("Dermoscopy", "Fundus") for seed in (0, 2)
    }
    assert [cell.name for cell in select(grid.cells, "name=base_no-think")] == ["base_no-think"]


def test_a_dash_stands_for_a_space_in_every_name():
    cells = read_study(STUDIES / "clinic.yaml").cells
    chosen = select(cells, "part=new-permuted")
    assert {cell.part for cell in chosen} == {"new permuted"} and len(chosen) == 4
    assert select(cells, f"name={chosen[0].name.replace(' ', '-')}") == chosen[:1]


@pytest.mark.parametrize(
    ("only", "message"),
    [("colour=red", "keys among name, part, modality"), ("seed", "key=value"), ("seed=7", "none of the")],
)
def test_a_filter_that_cannot_be_meant_is_refused(grid, only, message):
    with pytest.raises(DataError, match=message):
        select(grid.cells, only)


# --- bad files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seeds:", "seed:", "the key 'seed' is unknown; allowed are name, train"),
        ("name: small\n", "", "the key 'name' is missing"),
        ("[0, 1]", "[0, one]", "seeds: .* is not a list of whole numbers"),
        ("[0, 1]", "[0, 0]", "seeds: 0 stands twice"),
        ("[0, 1]", "[-1]", "seeds: a seed=-1 is not a whole number from 0"),
        ("[no-think]", "[nothink2]", "nothink2"),
        ("[no-think]", "no-think", "formats: 'no-think' is not a list of names"),
        ("[CT, OCT]", "[CT, PET]", "PET"),
        ("[CT, OCT]", "some", "train_by: modality: 'some' is not a list"),
        ("modality: [", "organ: [", "train_by: the key 'organ' is unknown; allowed are modality, task"),
        ("[sft-answer, grpo]", "[dpo]", "methods: the key 'dpo' is unknown; allowed are sft, sft-answer, grpo"),
        ("[sft-answer, grpo]", "{grpo: 80}", "methods: grpo: 80 are no settings"),
        ("train: {name", "train: {seed: 1, name", "train: the key 'seed' is unknown"),
        ("test: {name: phantoms, ", "test: {", "test: 'name' is missing"),
        ("test: {name: phantoms, n: 16}", "test: phantoms", "test: expected 'key: value' pairs"),
        ("name: small", "name: small\npreset: huge", "preset: 'huge' is unknown; use one of tiny, gpu"),
        ("name: small", "name: small\npredict: {image: blank}", "predict: the key 'image' is unknown"),
        ("name: small", "name: [", "is not YAML"),
        ("name: small", "name: small\nwhen: 2026-99-99", "is not YAML"),
        ("name: small", "name: ../../small", r"name: '\.\./\.\./small' is no name of a folder"),
        ("name: small", "name: /tmp/small", "is no name of a folder"),
        ("name: small", "name: ..", "is no name of a folder"),
        ("name: small", "name: 'C:\\small'", "is no name of a folder"),
        ("name: small", "name: small\nname: large", "line 3: the key 'name' stands twice"),
        ("n: 16}\ntrain_by", "n: 16, n: 32}\ntrain_by", "line 4: the key 'n' stands twice"),
        ("n: 16}\ntrain_by", "n: -1}\ntrain_by", "test: n=-1 is not a whole number of at least 1"),
        ("n: 16}\ntrain_by", "n: 1.5}\ntrain_by", "test: n=1.5 is not a whole number"),
        ("n: 16}\ntrain_by", "seed: 1e30}\ntrain_by", "test: seed='1e30' is not a whole number"),
        (
            "n: 16}\ntrain_by",
            "seed: 1.0e+30}\ntrain_by",
            r"test: seed=1e\+30 is not a whole number from 0 to 4294967295",
        ),
        ("[0, 1]", "[4294967296]", "seeds: a seed=4294967296 is not a whole number"),
        (
            "name: small",
            "name: small\npredict: {images: blnk}",
            "predict: images='blnk' is unknown; did you mean 'blank'",
        ),
        ("name: small", "name: small\npredict: {stop_at_answer: 'yes'}", "stop_at_answer: 'yes'; write true or false"),
        ("name: small", "name: small\npredict: {batch_size: 0}", "predict: batch_size=0 is not a whole number"),
        ("name: small", "name: small\nattn: sdap", "attn='sdap' is unknown; did you mean 'sdpa'"),
        ("name: small", "name: small\ndtype: float31", "dtype='float31' is unknown; did you mean 'float32'"),
        ("name: small", "name: small\nmax_pixels: 1.5", "max_pixels=1.5 is not a whole number"),
        (
            "name: small",
            "name: small\npreset: med-r1\ndtype: bfloat16",
            "med-r1 trains weights in float32; leave dtype out",
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence_that_says_what_is_allowed(tmp_path, before, after, message):
    with pytest.raises(DataError, match=message) as refusal:
        changed(tmp_path, before, after)
    assert "small.yaml" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("test: {name: phantoms,", "test: {name: phantoms, shortcut: 2,", "^test: "),
        ("train: {name: phantoms,", "train: {name: phantoms, images: x,", "^train: "),
        ("train: {name: phantoms,", "train: {name: nowhere.json,", "^train: .*nowhere.json"),
    ],
)
def test_data_that_cannot_be_loaded_is_refused_before_anything_runs(tmp_path, before, after, message):
    study = changed(tmp_path, before, after)
    with pytest.raises(DataError, match=message):
        check_data(study)


def test_home_is_expanded_in_the_paths_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "questions.json").write_text("[]")
    write_study(tmp_path, STUDY.replace("train: {name: phantoms", "train: {name: ~/questions.json"))
    before = read_study("~/small.yaml").cells[-1].definition["train"]
    assert list(before["digests"]) == ["~/questions.json"], "no folder of this machine in what is kept"
    (tmp_path / "questions.json").write_text("[ ]")
    assert read_study("~/small.yaml").cells[-1].definition["train"] != before


def test_merged_keys_are_not_doubled_ones(tmp_path):
    text = STUDY.replace("train: {name: phantoms, n: 16}", "train: &all {name: phantoms, n: 16}")
    text = text.replace("test: {name: phantoms, n: 16}", "test: {<<: *all, n: 24}")
    study = read_study(write_study(tmp_path, text))
    assert (study.settings["train"]["n"], study.settings["test"]["n"]) == (16, 24)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_study(tmp_path / "none.yaml")


@pytest.mark.parametrize("settings", ["{max_step: 3}", "{output_dir: x}", "{seed: 3}"])
def test_a_setting_that_the_trainer_does_not_know_is_refused_before_anything_runs(tmp_path, settings):
    study = changed(tmp_path, "[sft-answer, grpo]", f"{{sft-answer: , grpo: {settings}}}")
    with pytest.raises(DataError, match=r"methods: grpo: the setting .* is not allowed; use 'lora' and .* GRPOConfig"):
        check_settings(study)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{learning_rate: 1e-5}", "learning_rate: '1e-5' is not a number; YAML reads one as 0.001 or 1.0e-3"),
        ("{max_steps: many}", "max_steps: 'many' is not a number"),
        ("{max_steps: .inf}", "max_steps: inf is not a number"),
        ("{max_steps: true}", "max_steps: True is not a number"),
        ("{max_steps: [3]}", r"max_steps: \[3\] is not a number"),
        ("{gradient_checkpointing: 'no'}", "gradient_checkpointing: 'no'; write true or false"),
        ("{shared_prefix: 'no'}", "shared_prefix is the text 'no'; give True or False"),
        ("{dynamic_sampling: -1}", "dynamic_sampling=-1 is not a whole number of at least 0"),
        ("{rewards: accuracy}", r"rewards: expected a list of names, such as \[accuracy, format\], and found the text"),
        ("{rewards: [accuracy, luck]}", "rewards luck is unknown; use some of accuracy, format, agreement"),
    ],
)
def test_a_setting_of_another_kind_is_refused_before_anything_runs(tmp_path, settings, message):
    study = changed(tmp_path, "[sft-answer, grpo]", f"{{grpo: {settings}}}")
    with pytest.raises(DataError, match=f"methods: grpo: {message}"):
        check_settings(study)


def test_settings_of_the_trainers_pass(tmp_path):
    study = changed(
        tmp_path,
        "[sft-answer, grpo]",
        "{grpo: {max_steps: 3, shared_prefix: false, lora: {tower: true}, "
        "rewards: [reference_accuracy, format], dynamic_sampling: 3}}",
    )
    check_settings(study)
    trained = [cell.definition["settings"] for cell in study.cells if cell.method != "base"]
    assert trained and all(settings["lora"] == {"tower": True} for settings in trained)


# --- room on the disk -------------------------------------------------------------------------------------------------


ADAPTER = 256_000 * 4  # bytes of what the preset trains of the built-in model


@pytest.mark.parametrize(
    ("methods", "needed"),
    [
        ("[grpo]", 4 * ADAPTER),
        ("{grpo: {save_steps: 10, max_steps: 30}}", 4 * (ADAPTER + 3 * 3 * ADAPTER)),
        ("{grpo: {save_steps: 10, max_steps: 30, save_total_limit: 1}}", 4 * (ADAPTER + 3 * ADAPTER)),
        ("{grpo: {save_steps: 10, save_total_limit: 2, save_only_model: true}}", 4 * (ADAPTER + 2 * ADAPTER)),
        ("{grpo: {save_steps: 0.5, max_steps: 30}}", 4 * (ADAPTER + 2 * 3 * ADAPTER)),
        ("{grpo: {lora: false}}", 4 * 1_895_424 * 4),
    ],
)
def test_what_trainings_leave_is_held_against_the_disk(tmp_path, monkeypatch, methods, needed):
    study, free = changed(tmp_path, "[sft-answer, grpo]", methods), []
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free[-1]))
    free.append(needed)
    check_room(study, study.cells, tmp_path / "a" / "b")
    free.append(needed - 1)
    with pytest.raises(
        DataError, match=rf"4 trainings will leave .* GiB of weights and checkpoints .*, and {tmp_path} has"
    ):
        check_room(study, study.cells, tmp_path / "a" / "b")
    check_room(study, study.cells[:1], tmp_path)  # the base leaves nothing
