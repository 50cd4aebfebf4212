"""What is asked of a training is looked at before the model is touched, and refused in one sentence."""

import re
import warnings

import pytest
from test_train import grpo, sft

import medr1kit as mk
from medr1kit.vqa import DataError


def without(column):
    return lambda rows: rows.remove_columns(column)


BAD_DATA = {
    "a name": (lambda rows: "phantoms", "dataset is the text 'phantoms'; load it first"),
    "a frame": (lambda rows: rows.remove_columns("image").to_pandas(), "dataset is a DataFrame; load it first"),
    "a list": (lambda rows: [rows[0]], "dataset is a list; load it first"),
    "splits": (lambda rows: __import__("datasets").DatasetDict(train=rows), "the splits train; choose a split"),
    "no rows": (lambda rows: rows.select([]), "dataset has no rows"),
    "no gold": (without("solution"), "dataset has no column 'solution'"),
    "no source": (without("source"), "dataset has no column 'source'"),
}


@pytest.mark.parametrize("train", [sft, grpo])
@pytest.mark.parametrize("case", BAD_DATA)
def test_what_is_no_data_set_of_questions_is_refused(tiny, train_phantoms, tmp_path, train, case):
    made, sentence = BAD_DATA[case]
    with pytest.raises(DataError, match=sentence):
        train(*tiny, made(train_phantoms), tmp_path / "run")
    assert not list(tmp_path.iterdir()) and not any("lora" in name for name, _ in tiny[0].named_parameters())


BAD_ARGUMENTS = {
    "no folder": ({"output_dir": None}, "output_dir is None; give the path"),
    "format": ({"format": None}, "a format has a name"),
    "seed": ({"seed": "0"}, "seed='0' is not a whole number from 0"),
    "epochs": ({"num_train_epochs": "2", "max_steps": -1}, "num_train_epochs='2' is a text; give a number"),
    "steps": ({"max_steps": 0}, "max_steps=0 is not a whole number"),
    "a text": ({"max_steps": "9"}, "max_steps='9' is a text; give a number"),
    "rate": ({"learning_rate": 1e3}, "learning_rate=1000.0 is not a number from 0 to 1"),
    "nan": ({"weight_decay": float("nan")}, "weight_decay=nan is no number"),
    "batch": ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0 is not a whole number"),
    "a typo": ({"learning_rat": 1e-3}, "has no argument 'learning_rat'; did you mean learning_rate?"),
    "another": ({"qqq": 1}, "has no argument 'qqq'; its arguments are the fields of trl"),
    "TRL's": ({"optim": "luck"}, "refuses these arguments: .*luck"),
    "preset": ({"preset": "gpuu"}, "preset='gpuu' is unknown; did you mean 'gpu'?"),
    "rank": ({"lora": {"rank": 0}}, "rank.*=0 is not a whole number from 1"),
    "lora's": ({"lora": {"ranks": 4}}, "lora=.*'ranks'.* it takes the arguments of medr1kit.lora"),
    "alpha": ({"lora": {"alpha": 0}}, "the alpha of lora=0 is not a number"),
    "dropout": ({"lora": {"dropout": 2}}, "the dropout of lora=2 is not a number"),
    "none": ({"learning_rate": None}, "learning_rate is None; give a number, or leave it out"),
    "below 0": ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1 is below 0"),
    "decay": ({"weight_decay": -0.1}, "weight_decay=-0.1 is below 0"),
    "overwrite": ({"overwrite": "no"}, "overwrite is the text 'no'; give True or False"),
    "resume": ({"resume": "no"}, "resume is the text 'no'; give True or False"),
    "lora": ({"lora": 16}, "lora is an int; give True, False, or a dict"),
}


@pytest.mark.parametrize("train", [sft, grpo])
@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_arguments_that_make_no_training_are_refused(tiny, train_phantoms, tmp_path, train, case):
    changes, sentence = BAD_ARGUMENTS[case]
    with pytest.raises(DataError, match=sentence):
        train(*tiny, train_phantoms, tmp_path / "run", **changes)
    assert not (tmp_path / "run" / "run.json").exists()
    assert not any("lora" in name for name, _ in tiny[0].named_parameters())


@pytest.mark.parametrize("train", [sft, grpo])
@pytest.mark.parametrize("changes", [{"report_to": "no-such-tool"}, {"eval_strategy": "steps"}])
def test_what_is_lacking_is_refused_in_one_sentence(train_phantoms, tmp_path, train, changes):
    model, processor = mk.load_model("tiny")
    with pytest.raises(DataError, match=f"{changes.get('report_to', 'eval_strategy')}"):
        train(model, processor, train_phantoms, tmp_path / "run", **changes)
    assert train(model, processor, train_phantoms, tmp_path / "run", max_steps=1).path.is_dir(), "it can be tried again"


BAD_GRPO = {
    "rounds": ({"dynamic_sampling": None}, "dynamic_sampling=None is not a whole number of at least 0"),
    "sharing": ({"shared_prefix": "no"}, "shared_prefix is the text 'no'; give True or False"),
    "two weights": ({"reward_weights": [1.0]}, "reward_weights=.*give a list of 2 numbers"),
    "no weight": ({"reward_weights": [0, 0]}, "reward_weights=.*not all 0"),
    "a weight": ({"reward_weights": [1.0, float("nan")]}, "reward_weights=nan is not a number"),
    "a dict": ({"generation_kwargs": 3}, "generation_kwargs is an int; give a dict"),
    "top_p": ({"top_p": 0}, "top_p=0 is not a number from 0.01 to 1"),
    "TRL's loss": ({"loss_type": "luck"}, "this training could not begin .*luck"),
    "TRL's scale": ({"scale_rewards": "luck"}, "luck"),
}


@pytest.mark.parametrize("case", BAD_GRPO)
def test_arguments_of_grpo_that_make_no_training_are_refused(fresh_tiny, train_phantoms, tmp_path, case):
    changes, sentence = BAD_GRPO[case]
    with pytest.raises(DataError, match=sentence):
        grpo(*fresh_tiny, train_phantoms, tmp_path / "run", **({"max_steps": 1} | changes))


def test_a_column_that_trl_uses_itself_is_refused(tiny, train_phantoms, tmp_path):
    for name in ("prompt", "completions", "images"):
        rows = train_phantoms.add_column(name, ["x"] * len(train_phantoms))
        with pytest.raises(DataError, match=f"dataset has a column '{name}', as something of TRL's is called"):
            grpo(*tiny, rows, tmp_path)


def test_a_training_that_changed_no_weight_says_so(fresh_tiny, train_phantoms, tmp_path):
    with pytest.warns(UserWarning, match="step 1 to 1 changed no weight: the model is what it was; was the learning"):
        sft(*fresh_tiny, train_phantoms, tmp_path / "nothing", max_steps=1, learning_rate=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sft(*mk.load_model("tiny"), train_phantoms, tmp_path / "some", max_steps=1, warmup_steps=0)


@pytest.mark.parametrize("train", [sft, grpo])
def test_model_and_processor_swapped_are_refused(tiny, train_phantoms, tmp_path, train):
    with pytest.raises(DataError, match="model is a Qwen2VLProcessor; model and processor are swapped"):
        train(tiny[1], tiny[0], train_phantoms, tmp_path)


def test_fewer_questions_than_a_step_takes_are_refused_with_their_number(tiny, train_phantoms, tmp_path):
    with pytest.raises(DataError, match=r"1 question given, and a step needs 2 \(8 completions in groups of 4\)"):
        grpo(*tiny, train_phantoms.select([0]), tmp_path)
    accumulated = {"gradient_accumulation_steps": 2, "steps_per_generation": 4}
    with pytest.raises(DataError, match="3 questions given, and a step needs 8 "):
        grpo(*tiny, train_phantoms.select([0, 1, 2]), tmp_path, **accumulated)
    with pytest.raises(DataError, match=r"3 questions given, and a step needs 8 .dataloader_drop_last"):
        sft(*tiny, train_phantoms.select([0, 1, 2]), tmp_path, dataloader_drop_last=True)
    assert not list(tmp_path.iterdir())


def test_just_enough_questions_make_a_step(fresh_tiny, train_phantoms, tmp_path):
    assert len(grpo(*fresh_tiny, train_phantoms.select([0, 1]), tmp_path, max_steps=1).metrics) == 1


def test_a_gold_completion_that_the_parser_would_not_pay_for_is_refused_by_its_row(tiny, train_phantoms, tmp_path):
    written = ["A ring."] * 5 + ["<answer>A</answer> A ring.", "A ring.", "A ring."]
    rows = train_phantoms.select(range(8)).remove_columns("rationale").add_column("rationale", written)
    with pytest.raises(DataError, match=rf"row 5 \({re.escape(rows['id'][5])}\): "):
        sft(*tiny, rows, tmp_path, format="think-before")
    sft_rows = rows.select([0, 1])
    assert (
        len(sft(*mk.load_model("tiny"), sft_rows, tmp_path / "fine", format="think-before", max_steps=1).metrics) == 1
    )


def test_beta_that_is_infinite_is_refused(tiny, train_phantoms, tmp_path):
    with pytest.raises(DataError, match="beta=inf is not a number from 0 to 1000"):
        grpo(*tiny, train_phantoms, tmp_path, beta=float("inf"))


def test_a_group_of_one_is_refused():
    from medr1kit.training.checks import check_groups

    for size in (0, 1):
        with pytest.raises(DataError, match="at least two"):
            check_groups({"num_generations": size})
