"""Models in 4 bits: what is quantised, trained as TRL trains it, saved, loaded again, merged into the full base."""

import json
from functools import partial

import pytest
import torch
from conftest import _save_micro
from shared_prefix_cases import adapted, odd_tokens, stock_and_shared, with_prompts

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.digests import weights_digest
from medr1kit.models.export import merge_model
from medr1kit.models.load import base_of, origin_of
from medr1kit.vqa import DataError

COMMON = {"format": "no-think", "warmup_steps": 0, "max_steps": 2, "per_device_train_batch_size": 8, "seed": 3}
GRPO = COMMON | {"num_generations": 4, "max_completion_length": 12, "learning_rate": 1e-3, "rewards": [odd_tokens]}


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def folder(request, tiny, tmp_path_factory):
    """Each of the three architectures: the built-in model, and small ones with random weights."""
    if request.param == "qwen2_vl":
        return "tiny"
    made = tmp_path_factory.mktemp(request.param)
    _save_micro(request.param, tiny[1], made)
    return made


@pytest.fixture
def four_bit(one_thread):
    return mk.load_model("tiny", load_in_4bit=True)


def train(method, model, processor, rows, folder, **changes):
    if method == "sft":
        return mk.train_sft(model, processor, rows, output_dir=folder, **(COMMON | changes))
    return mk.train_grpo(model, processor, rows, output_dir=folder, **(GRPO | changes))


def of_kind(model, name):
    return {path for path, part in base_of(model).named_modules() if type(part).__name__ == name}


def texts(model, processor, rows):
    return mk.predict(model, processor, rows, format="no-think")["text"].tolist()


def test_the_language_models_maps_are_quantised_and_nothing_else(folder, one_thread):
    model, _ = mk.load_model(folder, load_in_4bit=True)
    full, _ = mk.load_model(folder)
    linear, quantised = of_kind(full, "Linear"), of_kind(model, "Linear4bit")
    assert quantised == {name for name in linear if ".language_model.layers." in name}
    assert of_kind(model, "Linear") == linear - quantised
    for name in quantised:
        state = model.get_submodule(name).weight.quant_state
        assert state.quant_type == "nf4" and state.nested and state.blocksize == 64
    kept = {name: weight for name, weight in full.named_parameters() if name.removesuffix(".weight") not in quantised}
    for name, weight in model.named_parameters():
        if name in kept:
            assert weight.equal(kept[name]), name


@pytest.mark.parametrize("changes", [{}, {"beta": 0.1}], ids=["plain", "KL"])
def test_a_run_in_4_bits_ends_where_stock_ends(folder, train_phantoms, tmp_path, changes):
    rows = with_prompts(train_phantoms.select(range(8)))
    load = partial(mk.load_model, folder, load_in_4bit=True)

    def prepared(model):
        model.is_loaded_in_4bit = False  # or TRL would round the adapters to bfloat16
        return adapted(model, merger=True)

    (stock, before, theirs), (shared, _, ours) = stock_and_shared(load, prepared, rows, tmp_path, **changes)
    assert shared.not_shared is None and shared.texts == stock.texts
    away, way = (
        sum(((a[name] - b[name]).double() ** 2).sum() for name in theirs) ** 0.5
        for a, b in ((ours, theirs), (theirs, before))
    )
    assert way > 0 and away / way < 1e-5


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_answering_before_does_not_change_a_training(four_bit, train_phantoms, tmp_path, method):
    """bitsandbytes packs the weights of a model that answers, if the CPU has AVX512-BF16; no gradient passes these."""
    asked = mk.load_model("tiny", load_in_4bit=True)
    texts(*asked, train_phantoms)
    runs = [train(method, *pair, train_phantoms, tmp_path / str(i)) for i, pair in enumerate((four_bit, asked))]
    files = [(run.path / "adapter" / "adapter_model.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1]
    assert (runs[0].metrics["grad_norm"] > 0).any()


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_run_is_loaded_on_the_base_that_it_was_trained_on(four_bit, train_phantoms, tmp_path, method):
    model, processor = four_bit
    base = weights_digest(model)
    run = train(method, model, processor, train_phantoms, tmp_path / "run", save_steps=1)
    assert run.config["load_in_4bit"] is True and run.config["model"] == "tiny"
    assert run.labels["model"] == "tiny in 4 bits" and run.labels["method"] == method
    said = texts(model, processor, train_phantoms)
    for what in (run, run.path / "checkpoint-2"):
        again, _ = mk.load_model(what)
        assert of_kind(again, "Linear4bit") and weights_digest(base_of(again)) == weights_digest(model) != base
        assert texts(again, processor, train_phantoms) == said
        assert origin_of(again).labels["model"] == "tiny in 4 bits"
    full, _ = mk.load_model(run, load_in_4bit=False)
    assert not of_kind(full, "Linear4bit") and origin_of(full).labels["model"] == "tiny"
    assert "on a base in 4 bits" in (run.path / "README.md").read_text()


def test_the_adapter_is_trained_in_float32(four_bit, train_phantoms, tmp_path):
    """In bfloat16, as TRL would have it, a step of 1e-5 is rounded away from 96 % of the first factors."""
    run = train("sft", *four_bit, train_phantoms, tmp_path, learning_rate=1e-5, save_steps=1)
    from safetensors.torch import load_file

    one, two = (load_file(run.path / f"checkpoint-{step}" / "adapter_model.safetensors") for step in (1, 2))
    firsts = [name for name in one if "lora_A" in name]
    moved = sum((one[name] != two[name]).sum() for name in firsts) / sum(one[name].numel() for name in firsts)
    assert {weight.dtype for weight in two.values()} == {torch.float32} and moved > 0.9


def test_a_killed_training_goes_on(train_phantoms, tmp_path, one_thread):
    from medr1kit.training.recording import Recorder

    class Stopped(BaseException):
        pass

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise Stopped

    load = partial(mk.load_model, "tiny", load_in_4bit=True)
    whole = train("grpo", *load(), train_phantoms, tmp_path / "whole", max_steps=3, save_steps=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Recorder, "on_pre_optimizer_step", stop)
        train("grpo", *load(), train_phantoms, tmp_path / "broken", max_steps=3, save_steps=1)
    with pytest.raises(DataError, match="load_in_4bit was True and is False"):
        full = mk.load_model("tiny")
        train("grpo", *full, train_phantoms, tmp_path / "broken", max_steps=3, save_steps=1, resume=True)
    with pytest.warns(UserWarning, match="goes on from step"):
        run = train("grpo", *load(), train_phantoms, tmp_path / "broken", max_steps=3, save_steps=1, resume=True)
    files = [(made.path / "adapter" / "adapter_model.safetensors").read_bytes() for made in (whole, run)]
    assert files[0] == files[1]


def test_a_merged_model_stands_on_the_full_base(four_bit, train_phantoms, tmp_path):
    run = train("sft", *four_bit, train_phantoms, tmp_path / "run", learning_rate=1e-3)
    folder = merge_model(run.path, tmp_path / "merged")
    merged, processor = mk.load_model(folder)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert not of_kind(merged, "Linear4bit") and origin_of(merged).labels["model"] == "tiny"
    full, _ = mk.load_model(run, load_in_4bit=False)
    assert texts(merged, processor, train_phantoms) == texts(full, processor, train_phantoms)


def test_all_weights_cannot_be_trained(four_bit, train_phantoms, tmp_path):
    with pytest.raises(DataError, match="the model is in 4 bits, and lora=False would train all weights"):
        train("grpo", *four_bit, train_phantoms, tmp_path, lora=False)


def test_the_digest_of_the_weights_sees_their_scales(four_bit):
    model, _ = four_bit
    before = weights_digest(model)
    model.model.language_model.layers[0].mlp.up_proj.weight.quant_state.offset *= 2
    assert weights_digest(model) != before != weights_digest(mk.load_model("tiny")[0])


def test_the_commands_take_it(tmp_path, capsys, one_thread):
    asked = ["sft", "--dataset_name", "phantoms", "--num_rows", "16", "--max_steps", "1", "--load_in_4bit", "true"]
    assert main([*asked, "--per_device_train_batch_size", "4", "--output_dir", str(tmp_path / "run")]) == 0
    assert mk.load_run(tmp_path / "run").config["load_in_4bit"] is True
    predict = ["predict", "--dataset_name", "phantoms", "--num_rows", "8", "--output", str(tmp_path / "p.parquet")]
    assert main([*predict, "--model_name_or_path", str(tmp_path / "run")]) == 0
    assert (
        main([*asked[:-2], "--output_dir", str(tmp_path / "all"), "--load_in_4bit", "true", "--use_peft", "false"]) == 2
    )
    assert "lora=False would train all weights" in capsys.readouterr().err
