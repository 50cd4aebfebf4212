"""`predict(engine="vllm")` against a stand-in for vLLM, which loads the folder it is given: vLLM itself is not here."""

import sys
from pathlib import Path

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.models import vllm_engine


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in, as the package that is installed; ``made`` are the engines."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "stand_ins")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    import vllm

    vllm.made.clear()
    yield vllm
    sys.modules.pop("vllm", None)


def ask(pair, rows, **settings):
    return mk.predict(*pair, rows, **({"format": mk.NO_THINK, "max_new_tokens": 24} | settings))


def same(one, other):
    pd.testing.assert_frame_equal(one.drop(columns="model"), other.drop(columns="model"), check_flags=False)


@pytest.fixture(scope="module")
def twelve(val_phantoms):
    return val_phantoms.select(range(12))


@pytest.fixture
def trained(fresh_tiny, train_phantoms, tmp_path):
    """A model, its processor and the run that changed it, in place."""
    settings = {"max_steps": 2, "learning_rate": 0.02, "per_device_train_batch_size": 8}
    return (
        *fresh_tiny,
        mk.train_sft(*fresh_tiny, train_phantoms, format="no-think", output_dir=tmp_path / "r", **settings),
    )


def test_the_answers_are_those_of_the_model_in_memory(tiny, twelve, vllm, capsys):
    found, own = ask(tiny, twelve, engine="vllm"), ask(tiny, twelve)
    same(found, own)
    assert found["model"].eq("tiny").all() and found["method"].eq("base").all()
    said = "vLLM answered 8 of 8 sample questions in the same words, 8 with the same letter"
    assert said in capsys.readouterr().out and len(vllm.made) == 1


def test_what_it_is_asked_is_what_the_model_would_be(tiny, twelve, vllm):
    model, processor = tiny
    ask(tiny, twelve, engine="vllm", batch_size=5)
    (engine,) = vllm.made
    assert [len(prompts) for prompts in engine.asked] == [5, 5, 2]
    asked = {prompt["prompt"] for prompts in engine.asked for prompt in prompts}
    assert asked == {mk.models.predict.chat_prompt(processor, mk.NO_THINK, row["problem"]) for row in twelve}
    assert {prompt["multi_modal_data"]["image"].mode for prompts in engine.asked for prompt in prompts} == {"RGB"}
    settings = engine.settings[0]
    assert settings.max_tokens == 24 and processor.tokenizer.eos_token_id in settings.stop_token_ids
    assert settings.logit_bias == dict.fromkeys(mk.models.load.image_token_ids(model), -100.0)


def test_it_is_asked_without_an_image_too(tiny, twelve, vllm):
    same(ask(tiny, twelve, engine="vllm", images="absent"), ask(tiny, twelve, images="absent"))
    assert {tuple(prompt) for prompts in vllm.made[0].asked for prompt in prompts} == {("prompt",)}


def test_an_adapter_that_was_trained_in_place_answers_too(trained, twelve, vllm):
    model, processor, run = trained
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    own, found = ask((model, processor), twelve), ask((model, processor), twelve, engine="vllm")
    same(found, own)
    assert not own["text"].equals(ask(mk.load_model(), twelve)["text"])  # the adapter says something else
    assert found["method"].eq("sft").all()
    after = model.state_dict()
    assert after.keys() == before.keys() and all(after[name].equal(weight) for name, weight in before.items())
    same(ask(mk.load_model(run), twelve, engine="vllm"), own)


def test_an_adapter_that_is_turned_off_does_not_answer(trained, twelve, vllm):
    _, processor, run = trained
    wrapper = mk.load_model(run)[0]
    wrapper.base_model.disable_adapter_layers()
    same(ask((wrapper, processor), twelve, engine="vllm"), ask(mk.load_model(), twelve))


def test_an_adapter_that_others_put_on_is_refused(fresh_tiny, twelve, vllm):
    from peft import LoraConfig, get_peft_model

    model, processor = fresh_tiny
    get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model.*\.q_proj"))
    with pytest.raises(mk.DataError, match="put there by others"):
        ask((model, processor), twelve, engine="vllm")


def test_the_cap_on_pixels_goes_along(twelve, vllm):
    pair = mk.load_model(max_pixels=56 * 56)
    same(ask(pair, twelve, engine="vllm"), ask(pair, twelve))
    assert vllm.made[0].processor.image_processor.size["longest_edge"] == 56 * 56


def test_what_came_out_otherwise_is_counted_and_kept_in_the_file(tiny, twelve, vllm, tmp_path, capsys, monkeypatch):
    request = vllm.LLM._request

    def other(self, prompt, settings):
        output = request(self, prompt, settings)
        output.outputs[0].token_ids = output.outputs[0].token_ids[-1:]  # nothing but the end
        return output

    monkeypatch.setattr(vllm.LLM, "_request", other)
    found = ask(tiny, twelve, engine="vllm", output=tmp_path / "p.parquet")
    assert "0 of 8 sample questions in the same words, 0 with" in capsys.readouterr().out
    told = {"name": "vllm", "version": "0.0.stand-in", "sample": 8, "same_words": 0, "same_letter": 0}
    assert found.attrs["engine"] == told and pd.read_parquet(tmp_path / "p.parquet").attrs["engine"] == told


def test_the_sample_is_spread_over_all_questions():
    assert vllm_engine.sample_of(range(100)) == [0, 12, 24, 36, 48, 60, 72, 84]
    assert vllm_engine.sample_of([5, 3]) == [5, 3] and vllm_engine.sample_of([]) == []


def test_an_interrupted_one_goes_on_with_the_same_engine_alone(tiny, twelve, vllm, tmp_path, monkeypatch):
    output, generate = tmp_path / "p.parquet", vllm.LLM.generate

    def killed(self, prompts, *settings, **more):
        if len(self.asked) == 2:
            raise KeyboardInterrupt
        return generate(self, prompts, *settings, **more)

    monkeypatch.setattr(vllm.LLM, "generate", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(tiny, twelve, engine="vllm", output=output, batch_size=4)
    with pytest.raises(mk.DataError, match="left by another prediction"):
        ask(tiny, twelve, output=output, batch_size=4)
    monkeypatch.setattr(vllm.LLM, "generate", generate)
    same(ask(tiny, twelve, engine="vllm", output=output, batch_size=4), ask(tiny, twelve))
    assert [len(prompts) for prompts in vllm.made[-1].asked] == [4]  # of 12, 8 were done
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"engine": "vlm"}, "did you mean 'vllm'"),
        ({"engine": "vllm", "stop_at_answer": True}, "leave stop_at_answer out"),
    ],
)
def test_what_it_cannot_do_is_refused_before_it_is_started(tiny, twelve, vllm, settings, sentence):
    with pytest.raises(mk.DataError, match=sentence):
        ask(tiny, twelve, **settings)
    assert not vllm.made


def test_one_process_asks_it(tiny, twelve, vllm, monkeypatch):
    monkeypatch.setattr(vllm_engine, "rank_of_world", lambda: (0, 2))
    with pytest.raises(mk.DataError, match="without torchrun"):
        ask(tiny, twelve, engine="vllm", share=True)


def test_where_it_is_not_installed_a_sentence_says_so_before_a_model_is_loaded(tmp_path, capsys, monkeypatch):
    from medr1kit.__main__ import main

    monkeypatch.setattr("medr1kit.commands.answers.load_model_of", lambda _: pytest.fail("a model was loaded"))
    words = ["predict", "--dataset_name", "phantoms", "--num_rows", "4", "--output", str(tmp_path / "p.parquet")]
    assert main([*words, "--engine", "vllm"]) == 2
    assert "engine='vllm' needs the package vllm, which is not installed" in capsys.readouterr().err


def test_a_model_that_it_cannot_load_is_one_sentence(tiny, twelve, vllm, monkeypatch):
    def refusing(self, model, **settings):
        raise ValueError("Free memory on device is less than desired\nGPU memory utilization")

    monkeypatch.setattr(vllm.LLM, "__init__", refusing)
    with pytest.raises(mk.DataError, match=r"by vLLM, cannot be loaded \(ValueError: Free memory"):
        ask(tiny, twelve, engine="vllm")


def test_the_command_line_has_the_flag(vllm, tmp_path, capsys):
    from medr1kit.__main__ import main

    words = ["predict", "--dataset_name", "phantoms", "--num_rows", "4", "--output", str(tmp_path / "p.parquet")]
    assert main([*words, "--engine", "vllm"]) == 0
    assert "4 of 4 sample questions in the same words" in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "p.parquet").attrs["engine"]["name"] == "vllm"


def test_checkpoints_are_answered_without_it(tmp_path, twelve):
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(mk.DataError, match="give engine= to predict"):
        mk.predict_checkpoints(tmp_path, twelve, format="no-think", engine="vllm")
