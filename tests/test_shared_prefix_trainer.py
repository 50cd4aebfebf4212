"""Whole runs with shared prompts: the completions, losses and weights of TRL's trainer."""

import warnings
from functools import partial
from itertools import product

import pytest
import torch
from conftest import _save_micro
from datasets import Dataset
from shared_prefix_cases import (
    adapted,
    core_of,
    logged,
    odd_tokens,
    stock_and_shared,
    trainer_of,
    with_prompts,
)

import medr1kit as mk
from medr1kit.models.shared_prefix.layers import Layers
from medr1kit.training import shared_trainer as trainer_module
from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer

# How far weights may end from TRL's, relative to how far training moved them. A gradient in float32 is right to about
# 1e-6, and every step rounds the weights by 6e-8 of themselves.
EXACT = 4e-6
SMALL = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}  # two groups, scattered over four
KL = {"beta": 0.04}
TWICE = {"num_iterations": 2, "max_steps": 4}
CASES = {
    "dapo, accumulated": SMALL,
    "grpo, accumulated, scaled by the batch, KL": {"loss_type": "grpo", "scale_rewards": "batch"} | SMALL | KL,
    "bnpo, accumulated, not scaled": {"loss_type": "bnpo", "scale_rewards": "none"} | SMALL,
    "dr_grpo, rollouts used twice, KL": {"loss_type": "dr_grpo"} | TWICE | KL,
    "rollouts for two steps": {"steps_per_generation": 2, "per_device_train_batch_size": 4},
    "entropy bonus, accumulated": {"entropy_coef": 0.1} | SMALL,
    "high-entropy tokens, accumulated": {"top_entropy_quantile": 0.3} | SMALL,
    "checkpointing, KL": {"gradient_checkpointing": True} | KL,
    "sequence ratios, another temperature, cut distribution": {
        "loss_type": "grpo", "importance_sampling_level": "sequence", "temperature": 0.7, "top_k": 50, "top_p": 0.9,
    },
    # Adam divides by a gradient's size: where that is rounding alone, it would make a full step of it. With
    # an epsilon of 1e-5 TRL's own run ends 5e-6 to 7e-6 from one in float64.
    "cispo, Adam": {"loss_type": "cispo", "optim": "adamw_torch", "learning_rate": 1e-2, "adam_epsilon": 1e-3},
    "truncated rows masked": {"mask_truncated_completions": True, "max_completion_length": 200},
    "truncated rows masked, accumulated, checkpointing, KL": {
        "mask_truncated_completions": True, "max_completion_length": 200, "gradient_checkpointing": True,
    } | SMALL | KL,
}  # fmt: skip
TOWER = ("dapo, accumulated", "checkpointing, KL", "cispo, Adam")


@pytest.fixture(scope="module")
def rows(train_phantoms):
    return with_prompts(train_phantoms.select(range(8)))


@pytest.fixture(scope="module")
def load(tiny, tmp_path_factory):
    """Loads a two-layer Qwen2.5-VL, again and again the same."""
    folder = tmp_path_factory.mktemp("qwen2_5_vl")
    _save_micro("qwen2_5_vl", tiny[1], folder)
    return lambda: mk.load_model(folder)


with_adapter = partial(adapted, merger=True)
with_tower = partial(adapted, tower=True)


def difference(runs):
    """How far ours end from TRL's, relative to the way; after a check that both said the same and logged the same."""
    (stock, before, theirs), (shared, _, ours) = runs
    assert shared.not_shared is None
    assert shared.texts == stock.texts
    away = sum(((ours[name].double() - theirs[name].double()) ** 2).sum() for name in theirs) ** 0.5
    way = sum(((theirs[name] - before[name]).double() ** 2).sum() for name in theirs) ** 0.5
    assert way > 0
    return (away / way).item()


def same_log(runs, but=()):
    (stock, *_), (shared, *_) = runs
    assert len(logged(stock)) == len(logged(shared)) > 0
    for theirs, ours in zip(logged(stock), logged(shared)):
        numbers = [
            {n: torch.nan if side[n] is None else side[n] for n in theirs if n not in but} for side in (ours, theirs)
        ]
        assert numbers[0] == pytest.approx(numbers[1], rel=2e-5, abs=2e-6, nan_ok=True)
        assert theirs.keys() == ours.keys()


@pytest.mark.parametrize("prepare, case", [*product([with_adapter], CASES), *product([with_tower], TOWER)])
def test_a_run_ends_where_stock_ends(load, rows, tmp_path, case, prepare):
    """With a trained tower in the other cases, too: tests/slow/test_tower.py."""
    runs = list(stock_and_shared(load, prepare, rows, tmp_path, **CASES[case]))
    assert difference(runs) < EXACT
    # TRL averages these over micro-batches; ours hold other rows where groups were put together again.
    same_log(runs, but=("entropy", "kl") if CASES[case].items() >= SMALL.items() else ())


@pytest.mark.parametrize("prepare", [with_adapter, with_tower], ids=["frozen tower", "trained tower"])
def test_a_run_of_qwen3_ends_where_stock_ends(tiny, tmp_path_factory, rows, tmp_path, prepare):
    folder = tmp_path_factory.mktemp("qwen3_vl")
    _save_micro("qwen3_vl", tiny[1], folder)
    runs = list(stock_and_shared(lambda: mk.load_model(folder), prepare, rows, tmp_path, **SMALL, **KL))
    assert difference(runs) < EXACT


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}, TWICE], ids=["plain", "packed", "twice"])
def test_the_reference_is_the_model_without_its_tower_s_adapter(load, rows, tmp_path, changes):
    """A new adapter, which does nothing at first: from the second step on it makes features of its own."""
    changes = {"beta": 1.0, "max_steps": 4, "adapter": mk.lora(rank=4, alpha=8, tower=True)} | changes
    runs = list(stock_and_shared(load, lambda model: model.train(), rows, tmp_path, **changes))
    assert difference(runs) < 2 * EXACT
    same_log(runs)
    assert runs[0][0].ref_model is None and logged(runs[0][0])[-1]["kl"] > 1e-3


@pytest.mark.parametrize("changes", [KL, {"gradient_checkpointing": True}], ids=["KL", "packed"])
def test_every_weight_trained(load, rows, tmp_path, changes):
    """The tower, too; for the KL term TRL reads the reference from the folder that the model came from."""
    # The update is small beside these weights, and storing them in float32 rounds it.
    runs = list(stock_and_shared(load, lambda model: model.train(), rows, tmp_path, **changes))
    assert difference(runs) < 2 * EXACT
    same_log(runs)
    assert any("visual" in name for name in runs[1][1])
    if changes == KL:
        assert runs[1][0]._reference.vision.trained == "nothing" and runs[1][0]._policy.vision.trained == "tower"


def test_the_built_in_model_ends_where_stock_ends(rows, tmp_path, one_thread):
    """Its large logits make float32 coarser: TRL's own gradients are up to 3e-5 from the true ones, see scoring."""
    runs = list(stock_and_shared(lambda: mk.load_model("tiny"), with_adapter, rows, tmp_path, **KL))
    assert difference(runs) < 3e-5
    same_log(runs)


# ---- rows without advantage ------------------------------------------------------------------------------------------


def tied_at_first(completion_ids, trainer_state, **_):
    return odd_tokens(completion_ids) if trainer_state.global_step in (0, 2) else [1.0] * len(completion_ids)


def test_steps_without_advantage_move_weights_as_in_stock(load, rows, tmp_path):
    """Adam goes on by momentum and weight decay; the second and third step have no gradient of their own."""
    adam = {"optim": "adamw_torch", "learning_rate": 1e-2, "adam_epsilon": 1e-3, "weight_decay": 0.1, "max_steps": 4}
    runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, rewards=tied_at_first, **adam))
    assert difference(runs) < EXACT
    same_log(runs)
    assert [entry["grad_norm"] == 0 for entry in logged(runs[1][0])] == [False, True, False, True]


def test_rows_without_advantage_are_not_scored(load, rows, tmp_path, monkeypatch):
    scored = []
    inner = trainer_module.score
    monkeypatch.setattr(trainer_module, "score", lambda *a, **k: scored.append(len(a[3])) or inner(*a, **k))
    needed = []

    def half(completion_ids, **_):
        rewards = odd_tokens(completion_ids)
        rewards[:4] = [1.0] * 4  # the first group ties
        groups = torch.tensor(rewards).view(-1, 4)
        needed.append(int((groups != groups.mean(1, keepdim=True)).sum()))
        return rewards

    runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, rewards=half))
    assert difference(runs) < EXACT
    same_log(runs)
    assert scored == needed[2:] and max(scored) <= 4


# ---- evaluation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepare", [with_adapter, with_tower], ids=["frozen tower", "trained tower"])
def test_an_evaluation_between_steps_on_one_batch(load, rows, tmp_path, prepare):
    evaluation = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8}
    evaluation |= {"eval_dataset": rows.select([5, 2])}
    runs = list(stock_and_shared(load, prepare, rows, tmp_path, **TWICE, **evaluation))
    assert difference(runs) < EXACT
    same_log(runs)
    evaluated = [[entry for entry in run[0].state.log_history if "eval_loss" in entry] for run in runs]
    clocks = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    for theirs, ours in zip(*evaluated, strict=True):
        assert theirs.keys() == ours.keys()
        assert {n: ours[n] for n in theirs if n not in clocks} == pytest.approx(
            {n: theirs[n] for n in theirs if n not in clocks}, rel=1e-4, abs=1e-6
        )
    assert len(evaluated[0]) == 4


# ---- what is computed, and how often ---------------------------------------------------------------------------------


def test_every_image_prompt_and_row_is_read_once(load, rows, tmp_path, monkeypatch):
    model, processor = load()
    model = adapted(model)
    core = core_of(model)
    images, prompts, preprocessed = [], [], []
    core.visual.register_forward_pre_hook(
        lambda module, args, kwargs: images.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    read = Layers.read

    def noted(self, hidden, *args, last_only=False, **kwargs):
        prompts.extend([len(hidden)] if last_only else [])
        return read(self, hidden, *args, last_only=last_only, **kwargs)

    monkeypatch.setattr(Layers, "read", noted)
    prepare = processor.image_processor.preprocess

    def preprocess(pictures, *args, **kwargs):
        preprocessed.append(len(pictures))
        return prepare(pictures, *args, **kwargs)

    processor.image_processor.preprocess = preprocess
    trainer = trainer_of(SharedPrefixGRPOTrainer, model, processor, rows.select(range(2)), tmp_path, max_steps=3)
    trainer.train()
    assert sum(images) == 2  # three steps of eight rows: two images, and the tower is frozen
    assert prompts == [2] * 5  # once a step, and twice to check that images matter
    assert preprocessed == [2, 2, 2]


PASSES = {  # two steps of two prompts: images a pass through a trained tower
    "sampling and loss share a pass": ({}, [2, 2]),
    "the reference has one of its own": (KL, [2, 2] * 2),
    "packed": ({"gradient_checkpointing": True}, [2, 2] * 2),
    "rollouts used twice: sampling, old log-probabilities, two losses": ({"num_iterations": 2}, [2, 2, 2, 2]),
    "a prompt a micro-batch": ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, [2, 1, 1] * 2),
}


@pytest.mark.parametrize("case", PASSES)
@pytest.mark.parametrize("prepare", [lambda model: model.train(), with_tower], ids=["every weight", "adapter"])
def test_a_trained_tower_encodes_an_image_once_a_pass(load, rows, tmp_path, case, prepare):
    """The same two images in each step: none is reused once the optimizer has moved the tower."""
    changes, expected = PASSES[case]
    model, processor = load()
    images, model = [], prepare(model)
    core_of(model).visual.register_forward_pre_hook(
        lambda module, args, kwargs: images.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    changes = {"rewards": lambda completion_ids, **_: list(map(float, range(len(completion_ids))))} | changes  # no ties
    trainer = trainer_of(SharedPrefixGRPOTrainer, model, processor, rows.select(range(2)), tmp_path, **changes)
    trainer._image_checked = True
    trainer.train()
    if case.startswith("the reference") and trainer.ref_model is not None:
        expected = expected[::2]  # it has a tower of its own
    assert images == expected


SPLIT = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}


@pytest.mark.parametrize("changes", [{}, SPLIT | KL, {"gradient_checkpointing": True}], ids=["plain", "KL", "packed"])
def test_an_image_of_several_prompts_is_encoded_once_for_all(load, rows, tmp_path, changes):
    """Three questions about two pictures a step, the same ones in each: the tower moves as it does in stock."""
    pictures = [rows[0]["image"], rows[0]["image"], rows[2]["image"]]
    asked = Dataset.from_dict({"prompt": rows["prompt"][:3], "image": pictures})
    changes = {"max_steps": 3, "per_device_train_batch_size": 12} | changes
    runs = list(stock_and_shared(load, with_tower, asked, tmp_path, **changes))
    assert difference(runs) < EXACT
    if "beta" not in changes and "gradient_checkpointing" not in changes:
        steps = [entry for entry in runs[1][0].state.log_history if "loss" in entry]
        assert [entry["count/images_encoded"] for entry in steps][1:] == [2, 2]  # the first checks that images matter


def test_telemetry_adds_up(load, rows, tmp_path):
    model, processor = load()
    trainer = trainer_of(
        SharedPrefixGRPOTrainer, adapted(model), processor, rows, tmp_path, max_steps=4, logging_steps=2, beta=0.04
    )
    trainer._image_checked = True
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == 2
    for entry in entries:
        phases = {name.removeprefix("time/"): value for name, value in entry.items() if name.startswith("time/")}
        assert set(phases) == {"prompts", "prefill", "decode", "reference", "rewards", "loss", "backward"}
        assert min(phases.values()) >= 0
        assert sum(phases.values()) == pytest.approx(entry["step_time"], rel=0.05)
        assert entry["count/tokens"] == 8 * entry["completions/mean_length"]
        assert entry["tokens_per_second"] == pytest.approx(entry["count/tokens"] / entry["time/decode"])
        assert entry["peak_memory_gb"] > 0.05
    assert entries[0]["count/images_encoded"] == entries[1]["count/images_encoded"] == 2  # new ones a step, 8 in all
    assert entries[1]["count/images_remembered"] == 2  # the reference's


# ---- guards ----------------------------------------------------------------------------------------------------------


def run_once(load, rows, folder, prepare=with_adapter, **changes):
    model, processor = load()
    trainer = trainer_of(
        SharedPrefixGRPOTrainer, prepare(model), processor, rows, folder, **({"max_steps": 1} | changes)
    )
    trainer.train()
    return trainer


def test_a_model_that_does_not_see_is_told(load, rows, tmp_path):
    def blind(model):
        for weight in model.model.visual.merger.mlp[2].parameters():
            torch.nn.init.zeros_(weight)
        return adapted(model)

    with pytest.warns(UserWarning, match="does not see them"):
        run_once(load, rows.select(range(2)), tmp_path, blind)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert run_once(load, rows.select(range(2)), tmp_path)._image_checked


def test_images_are_swapped_only_for_others_of_their_size(load, rows, tmp_path):
    assert not run_once(load, rows.select([1, 2]), tmp_path)._image_checked


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generation_kwargs": {"num_beams": 2}}, "beams"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of"),
    ],
)
def test_where_sharing_is_not_exact_the_run_is_that_of_stock(load, rows, tmp_path, changes, reason):
    with pytest.warns(UserWarning, match=rf"TRL's own step is run: .*{reason}") as told:
        runs = list(stock_and_shared(load, with_adapter, rows, tmp_path, **changes))
    assert sum("prompts are not shared" in str(warning.message) for warning in told) == 1
    (stock, _, theirs), (shared, _, ours) = runs
    assert reason in shared.not_shared and shared.texts == stock.texts and logged(stock) == logged(shared)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(name.startswith("time/") for entry in shared.state.log_history for name in entry)


def test_a_stream_of_rows_is_left_to_trl(load, rows, tmp_path):
    runs = list(stock_and_shared(load, with_adapter, rows.to_iterable_dataset(), tmp_path))
    assert difference(runs) < EXACT
