"""Sampled by vLLM, scored by shared prompts: the weights of TRL's own step on the same completions.

vLLM is not here. An engine stands in for it inside TRL's own ``VLLMGeneration``: it says the same whatever it is asked,
and its log-probabilities are near those of the model and not the same, as vLLM's are.
"""

import math
from functools import partial
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from conftest import _save_micro
from shared_prefix_cases import (
    adapted,
    core_of,
    in_double,
    logged,
    relative,
    stock_and_shared,
    trainer_of,
    weights,
    with_prompts,
)
from trl import GRPOTrainer
from trl.generation import vllm_generation

import medr1kit as mk
from medr1kit.training import shared_trainer as trainer_module
from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer
from medr1kit.vqa import DataError

EXACT = 1e-5  # of how far training moved the weights
SMALL = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
UNCORRECTED = {"vllm_importance_sampling_correction": False}
KL = {"beta": 0.04}


class Engine:
    """Has the constructor's arguments, ``generate`` and ``load_weights`` as TRL 1.16 calls them."""

    def __init__(self, model, **settings):
        assert settings["logprobs_mode"] == "processed_logprobs"
        self.asked, self.settings, self.weights = [], [], {}
        self.random = torch.Generator().manual_seed(7)
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self._load))
        worker = SimpleNamespace(model_runner=runner)
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=worker))

    def _load(self, named):
        self.weights |= {name: weight.detach().clone() for name, weight in named}

    def reset_prefix_cache(self):
        pass

    def generate(self, prompts, *, sampling_params, use_tqdm):
        self.asked.append(prompts)
        self.settings.append(sampling_params)
        return [self._output(prompt["prompt_token_ids"], sampling_params.max_tokens) for prompt in prompts]

    def _output(self, prompt, most):
        length = int(torch.randint(1, most + 1, (), generator=self.random))
        tokens = torch.randint(10, 250, (length,), generator=self.random).tolist()
        noise = 0.3 * torch.randn(length, generator=self.random)
        found = [-math.log(892) + one for one in noise.tolist()]  # the model's weights are random: all words are alike
        found[-1] = math.nan if length == most else found[-1]  # what vLLM could not score
        noted = [{token: SimpleNamespace(rank=1, logprob=logp)} for token, logp in zip(tokens, found)]
        said = SimpleNamespace(token_ids=tokens, logprobs=noted)
        return SimpleNamespace(prompt_token_ids=prompt, outputs=[said])


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """The engines that TRL makes of what it takes for vLLM."""
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    made = []
    monkeypatch.setattr(vllm_generation, "LLM", lambda **given: made.append(Engine(**given)) or made[-1], raising=False)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):  # TRL sets them for vLLM
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    return made


@pytest.fixture(scope="module")
def rows(train_phantoms):
    return with_prompts(train_phantoms.select(range(8)))


@pytest.fixture(scope="module")
def load(tiny, tmp_path_factory):
    """Loads a two-layer Qwen2.5-VL, again and again the same."""
    folder = tmp_path_factory.mktemp("qwen2_5_vl")
    _save_micro("qwen2_5_vl", tiny[1], folder)
    return lambda: mk.load_model(folder)


def by_vllm(**changes):
    bar = {"logit_bias": {5: -100.0}}  # vLLM's word, which transformers does not know
    settings = {"use_vllm": True, "vllm_mode": "colocate", "max_completion_length": 12, "generation_kwargs": bar}
    # So long a step that storing weights in float32 rounds it by little: at 0.1 that is 8e-5 of it.
    return settings | {"learning_rate": 1.0} | changes


with_adapter, with_tower = partial(adapted, merger=True), partial(adapted, tower=True)
CASES = {
    "corrected": {},
    "not corrected": UNCORRECTED,
    "corrected, KL": KL,
    "not corrected, KL, accumulated": UNCORRECTED | SMALL | KL,
    "corrected, accumulated": SMALL,
    "a ratio a sequence": {"vllm_importance_sampling_mode": "sequence_mask", "loss_type": "grpo"} | SMALL,
    "completions used twice": {"num_iterations": 2, "max_steps": 4},
    "checkpointing, KL": {"gradient_checkpointing": True} | KL,
    "vespo": {"loss_type": "vespo", "vllm_importance_sampling_mode": "token_truncate"},
}


def away(runs):
    (stock, before, theirs), (shared, _, ours) = runs
    assert shared.not_shared is None and isinstance(shared, SharedPrefixGRPOTrainer)
    assert shared.texts == stock.texts
    return relative({n: ours[n] - before[n] for n in ours}, {n: theirs[n] - before[n] for n in theirs})


@pytest.mark.parametrize("prepare", [with_adapter, with_tower], ids=["frozen tower", "trained tower"])
@pytest.mark.parametrize("case", CASES)
def test_weights_and_log_are_those_of_stock(load, rows, tmp_path, case, prepare):
    runs = list(stock_and_shared(load, prepare, rows, tmp_path, **by_vllm(**CASES[case])))
    assert away(runs) < EXACT
    averaged = ("entropy", "kl") if "gradient_accumulation_steps" in CASES[case] else ()
    for theirs, ours in zip(*(logged(run[0]) for run in runs), strict=True):
        assert theirs.keys() == ours.keys()
        for name in theirs.keys() - set(averaged):
            assert ours[name] == pytest.approx(theirs[name], rel=2e-5, abs=2e-6, nan_ok=True), name
    corrected = "sampling/importance_sampling_ratio/mean" in logged(runs[1][0])[0]
    assert corrected is ("not corrected" not in case)


def test_vllm_is_asked_what_trl_asks_it(load, rows, tmp_path, engines):
    runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, **by_vllm()))
    theirs, ours = engines
    assert len(runs) == 2 and len(theirs.asked) == len(ours.asked) == 2
    for stock, shared in zip(chain(*theirs.asked), chain(*ours.asked), strict=True):
        assert stock.keys() == shared.keys() == {"prompt_token_ids", "multi_modal_data"}
        assert stock["prompt_token_ids"] == shared["prompt_token_ids"]
        pictures = stock["multi_modal_data"]["image"], shared["multi_modal_data"]["image"]
        assert pictures[0].size == pictures[1].size and pictures[0].tobytes() == pictures[1].tobytes()
    assert theirs.settings == ours.settings and ours.settings[0].logit_bias == {5: -100.0}


def test_vllm_gets_the_weights_of_each_step(load, rows, tmp_path, engines):
    runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, **by_vllm()))
    theirs, ours = engines
    assert len(runs) == 2 and theirs.weights.keys() == ours.weights.keys()
    changed = [n for n, weight in load()[0].named_parameters() if not torch.equal(weight, ours.weights[n])]
    assert changed and all("language_model" in name or "merger" in name for name in changed)
    assert relative(ours.weights, theirs.weights) < 1e-6


@pytest.mark.parametrize("changes", [{}, UNCORRECTED], ids=["corrected", "not corrected"])
@pytest.mark.parametrize("prepare", [with_adapter, with_tower], ids=["frozen tower", "trained tower"])
def test_gradients_are_as_near_to_float64_as_those_of_stock(load, rows, tmp_path, prepare, changes):
    def moved(kind, of):
        model, processor = load()
        settings = by_vllm(max_steps=1, learning_rate=1e3, **changes)  # the step is the gradient
        trainer = trainer_of(kind, of(prepare(model)), processor, rows, tmp_path, **settings)
        before = weights(trainer.model)
        trainer.train()
        return {name: (weight - before[name]).double() for name, weight in weights(trainer.model).items()}

    true = moved(GRPOTrainer, in_double)
    stock, shared = (
        relative(moved(kind, lambda model: model), true) for kind in (GRPOTrainer, SharedPrefixGRPOTrainer)
    )
    assert shared <= max(1.5 * stock, 5e-6)


@pytest.mark.parametrize("changes", [{}, KL, UNCORRECTED], ids=["corrected", "KL", "not corrected"])
def test_an_image_is_encoded_once_and_not_once_a_row(load, rows, tmp_path, changes):
    """Two prompts of four rows a step, the same ones in each, and a tower that is not trained."""
    encoded = {}
    for kind in (GRPOTrainer, SharedPrefixGRPOTrainer):
        model, processor = load()
        model, seen = adapted(model), []
        core_of(model).visual.register_forward_pre_hook(
            lambda module, args, kwargs, seen=seen: seen.append(len(kwargs["grid_thw"])), with_kwargs=True
        )
        trainer_of(kind, model, processor, rows.select(range(2)), tmp_path, **by_vllm(**changes)).train()
        encoded[kind] = sum(seen)
    passes = 1 + ("vllm_importance_sampling_correction" not in changes) + ("beta" in changes)
    assert encoded == {GRPOTrainer: 8 * passes * 2, SharedPrefixGRPOTrainer: 2}


@pytest.mark.parametrize(("changes", "all_scored"), [({}, False), (UNCORRECTED, True), (KL, True)])
def test_rows_without_advantage_are_left_out_where_the_correction_has_scored_them(
    load, rows, tmp_path, monkeypatch, changes, all_scored
):
    """The first group ties. vLLM's own log-probabilities never stand for the model's."""

    def half(completion_ids, **_):
        return [1.0] * 4 + list(map(float, range(len(completion_ids) - 4)))

    scored, inner = [], trainer_module.score

    def noting(*args, **settings):
        scored.extend([len(args[3])] if torch.is_grad_enabled() else [])
        return inner(*args, **settings)

    monkeypatch.setattr(trainer_module, "score", noting)
    runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, rewards=half, **by_vllm(**changes)))
    assert away(runs) < EXACT
    assert scored == [8 if all_scored else 4] * 2
    entropies = [[entry["entropy"] for entry in logged(run[0])] for run in runs]
    assert entropies[0] == pytest.approx(entropies[1], rel=1e-5)


def test_an_evaluation_is_sampled_by_vllm_too(load, rows, tmp_path, engines):
    evaluation = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8}
    evaluation |= {"eval_dataset": rows.select([5, 2])}
    runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, **by_vllm(**evaluation)))
    assert away(runs) < EXACT
    assert [len(engine.asked) for engine in engines] == [4, 4]
    rewards = [[e["eval_reward"] for e in run[0].state.log_history if "eval_reward" in e] for run in runs]
    assert rewards[0] == rewards[1] and len(rewards[0]) == 2


def test_the_log_says_what_sampling_and_scoring_took(load, rows, tmp_path):
    model, processor = load()
    trainer = trainer_of(SharedPrefixGRPOTrainer, adapted(model), processor, rows, tmp_path, **by_vllm(**KL))
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    phases = {name.removeprefix("time/") for name in entry if name.startswith("time/")}
    assert phases == {"prompts", "decode", "reference", "rewards", "loss", "backward"}
    assert entry["count/tokens"] == 8 * entry["completions/mean_length"]


def test_a_run_with_vllm_shares_prompts(fresh_tiny, train_phantoms, tmp_path, monkeypatch, one_thread):
    """By the public function; the package is taken to be there."""
    monkeypatch.setattr("medr1kit.training.needs.package_given", lambda *_: None)
    settings = {"max_steps": 1, "num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 4}
    settings |= {"use_vllm": True, "vllm_mode": "colocate", "format": "no-think"}
    run = mk.train_grpo(*fresh_tiny, train_phantoms, output_dir=tmp_path / "run", **settings)
    assert run.config["shared_prefix"] is True and "time/loss" in run.metrics and len(run.rollouts) == 8


def test_dynamic_sampling_beside_vllm_is_refused(fresh_tiny, train_phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr("medr1kit.training.needs.package_given", lambda *_: None)
    asked = {"format": "no-think", "output_dir": tmp_path / "run", "max_steps": 1, "use_vllm": True}
    with pytest.raises(DataError, match="dynamic_sampling needs shared prompts, and its step to sample: vLLM samples"):
        mk.train_grpo(*fresh_tiny, train_phantoms, dynamic_sampling=2, **asked)
