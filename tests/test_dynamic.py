"""Dynamic sampling: which groups are replaced, by what, and that the step is TRL's own on the groups that remain."""

import numpy as np
import pandas as pd
import pytest
import torch

import medr1kit as mk
from medr1kit.vqa import DataError

# Two groups of four short completions a step.
SMALL = {"max_steps": 3, "warmup_steps": 0, "per_device_train_batch_size": 8, "num_generations": 4}
SMALL |= {"max_completion_length": 12, "format": "no-think", "seed": 3}
COSTS = r"step_time|^time/|^count/|peak_memory|tokens_per_second|^dynamic/"


def train(rows, folder, **changes):
    model, processor = mk.load_model("tiny")
    return model, mk.train_grpo(model, processor, rows, **(SMALL | {"output_dir": folder} | changes))


def adapter(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name and "default" in name}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def each_its_own_reward(completions, **columns):
    return [float(i % 4) for i in range(len(completions))]


def by_question(wanted):
    """A reward that tells completions apart where ``wanted(id)`` holds and pays all the same elsewhere."""

    def question_reward(completions, id, **columns):
        return [float(i % 4) if wanted(name) else 1.0 for i, name in enumerate(id)]

    return question_reward


def groups(rollouts):
    return [group for _, group in rollouts.groupby(rollouts.index // 4)]


@pytest.fixture(scope="module")
def numbered(train_phantoms):
    """The same 32 phantoms with ids 0..31."""
    return train_phantoms.remove_columns("id").add_column("id", [str(i) for i in range(32)])


@pytest.fixture(scope="module")
def half(one_thread, numbered, tmp_path_factory):
    """Run with a reward by which even questions teach, and three rounds at most."""
    rewards = [by_question(lambda name: int(name) % 2 == 0)]
    return train(numbered, tmp_path_factory.mktemp("runs") / "half", rewards=rewards, dynamic_sampling=3, max_steps=6)[
        1
    ]


def test_with_nothing_to_replace_the_run_is_the_plain_one(train_phantoms, tmp_path, one_thread):
    settings = {"rewards": [each_its_own_reward], "max_steps": 2}
    plain, plain_run = train(train_phantoms, tmp_path / "plain", **settings)
    dynamic, run = train(train_phantoms, tmp_path / "dynamic", dynamic_sampling=2, **settings)
    assert equal(adapter(plain), adapter(dynamic))
    pd.testing.assert_frame_equal(plain_run.rollouts, run.rollouts)
    metrics = (
        r.metrics[[name for name in r.metrics if not pd.Series(name).str.contains(COSTS)[0]]] for r in (plain_run, run)
    )
    pd.testing.assert_frame_equal(*metrics)
    assert run.metrics["dynamic/rounds"].eq(0).all() and run.metrics["dynamic/extra_completions"].eq(0).all()


def test_groups_that_earn_one_reward_are_replaced_by_other_questions(half):
    for _, step in half.rollouts.groupby("step"):
        drawn = groups(step.reset_index(drop=True))
        assert all(group["id"].nunique() == 1 and group["used"].nunique() == 1 for group in drawn)
        teaches = [group["question_reward"].nunique() > 1 for group in drawn]
        used = [group["used"].all() for group in drawn]
        assert sum(used) == 2 and used[:2] == [True, True]
        assert not any(t for t, u in zip(teaches, used) if not u), "a group that teaches was thrown away"
    assert not half.rollouts["used"].all()


def test_a_replaced_group_has_no_advantage_and_a_chosen_one_its_standard_scores(half):
    assert (half.rollouts.loc[~half.rollouts["used"], "advantage"] == 0).all()
    for group in groups(half.rollouts):
        reward = group["question_reward"].to_numpy()
        expected = (reward - reward.mean()) / (reward.std(ddof=1) + 1e-4)
        np.testing.assert_allclose(group["advantage"], expected, atol=1e-5)


def test_metrics_say_what_was_drawn_and_what_was_trained_on(half):
    rollouts, metrics = half.rollouts, half.metrics.set_index("step")
    for step, rows in rollouts.groupby("step"):
        line, drawn = metrics.loc[step], groups(rows.reset_index(drop=True))
        dull = [group["question_reward"].nunique() == 1 for group in drawn]
        stayed = [group["question_reward"].nunique() == 1 for group in drawn if group["used"].all()]
        assert line["reward"] == pytest.approx(rows.loc[rows["used"], "question_reward"].mean())
        assert line["dynamic/reward_drawn"] == pytest.approx(rows["question_reward"].mean())
        assert line["completions/mean_length"] == pytest.approx(rows.loc[rows["used"], "n_tokens"].mean())
        assert line["frac_reward_zero_std"] == pytest.approx(np.mean(stayed))
        assert line["dynamic/zero_variance_drawn"] == pytest.approx(np.mean(dull))
        assert line["dynamic/extra_completions"] == len(rows) - 8
        assert line["count/tokens"] == rows["n_tokens"].sum()
        assert line["dynamic/rounds"] <= 3
    assert 0 < metrics["dynamic/replaced"].mean() < 1


def test_all_sampled_tokens_are_counted(half, numbered, tiny):
    """num_tokens grows by prompts and completions of everything that was drawn, counted once."""
    grown = half.metrics["num_tokens"].diff().iloc[1:].to_numpy()
    drawn = half.rollouts.groupby("step")
    completions = drawn["n_tokens"].sum().to_numpy()[1:]
    prompts = grown - completions
    assert (prompts > 0).all()
    np.testing.assert_allclose(prompts / drawn.size().to_numpy()[1:], prompts[0] / drawn.size().iloc[1], rtol=0.2)


def test_where_nothing_ever_teaches_rounds_end_and_the_batch_stays(numbered, tmp_path, one_thread):
    _, run = train(numbered, tmp_path, rewards=[by_question(lambda name: False)], dynamic_sampling=2, max_steps=1)
    assert len(run.rollouts) == 8 + 2 * 8 and run.rollouts["used"].tolist() == [True] * 8 + [False] * 16
    line = run.metrics.iloc[0]
    assert line["dynamic/rounds"] == 2 and line["dynamic/replaced"] == 0 and line["frac_reward_zero_std"] == 1
    assert run.rollouts["id"].nunique() >= 5, "each round asks other questions"
    assert line["grad_norm"] == 0


def test_the_same_seed_draws_the_same_replacements(numbered, tmp_path, half):
    rewards = [by_question(lambda name: int(name) % 2 == 0)]
    again = train(numbered, tmp_path, rewards=rewards, dynamic_sampling=3, max_steps=6)[1]
    pd.testing.assert_frame_equal(half.rollouts, again.rollouts)


ACCUMULATED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_iterations": 2, "beta": 0.04}


def replayed(folder, rows, drawn, rewards, **changes):
    """TRL's own trainer on rows in their order, a group each, whose completions are those that were drawn."""
    from trl import GRPOConfig, GRPOTrainer

    from medr1kit.models.load import image_token_ids

    class Replayed(GRPOTrainer):
        def _generate_single_turn(self, prompt_ids, *_):
            return [drawn.pop(0) for _ in prompt_ids], None

    model, processor = mk.load_model("tiny")
    prompts = rows.map(
        lambda problem: {"prompt": [{"role": "user", "content": mk.NO_THINK.prompt(problem)}]}, input_columns="problem"
    )
    settings = mk.PRESETS["tiny"]["grpo"] | {name: value for name, value in SMALL.items() if name != "format"} | changes
    adapter = mk.lora(**settings.pop("lora"))
    settings |= {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    settings |= {"shuffle_dataset": False, "generation_kwargs": {"suppress_tokens": image_token_ids(model)}}
    trainer = Replayed(
        model=model,
        reward_funcs=rewards,
        args=GRPOConfig(output_dir=str(folder), **settings),
        train_dataset=prompts,
        processing_class=processor,
        peft_config=adapter,
    )
    trainer.train()
    return model


@pytest.mark.parametrize("settings", [{"max_steps": 2}, {"max_steps": 4, **ACCUMULATED}])
def test_the_step_is_trls_own_on_the_chosen_groups(numbered, tmp_path, one_thread, settings):
    """TRL's trainer, given the chosen groups as its data and their completions as its own, ends with these weights."""
    said = {}
    pay = by_question(lambda name: int(name) % 2 == 0)

    def noting_reward(completions, completion_ids, id, **columns):
        said.update({(name, c[0]["content"]): ids for name, c, ids in zip(id, completions, completion_ids)})
        return pay(completions, id)

    settings = settings | {"optim": "sgd", "learning_rate": 0.05}  # Adam would blow up the last bits of tiny gradients
    shared, run = train(numbered, tmp_path / "shared", rewards=[noting_reward], dynamic_sampling=3, **settings)
    used = run.rollouts[run.rollouts["used"]]
    assert len(used) == 16 < len(run.rollouts)
    drawn = [said[row.id, row.text] for row in used.itertuples()]
    chosen = numbered.select([int(name) for name in used["id"][::4]])
    stock = replayed(tmp_path / "stock", chosen, drawn, [pay], **settings)
    assert drawn == []
    learned, expected = (  # what begins at 0, so that all of it was learned
        torch.cat([weight.flatten() for name, weight in adapter(model).items() if "lora_B" in name])
        for model in (shared, stock)
    )
    assert expected.norm() > 0
    # TRL's own step is 4 to 8e-6 from the one in float64 (docs/speed.md), ours as much: 1.1e-5 between them here.
    assert (learned - expected).norm() < 2e-5 * expected.norm()


def test_completions_and_rewards_are_drawn_once(numbered, tmp_path, one_thread):
    """What a reward says at random is what the step uses, and what it logs stands beside its completion."""
    calls = []

    def random_reward(completions, id, log_extra, **columns):
        paid = np.random.default_rng(len(calls)).integers(0, 2, len(completions)).astype(float).tolist()
        paid = [1.0 if int(name) % 2 else value + i % 2 for i, (name, value) in enumerate(zip(id, paid))]
        calls.append(len(completions))
        log_extra("seen", [f"{name}:{value}" for name, value in zip(id, paid)])
        return paid

    told = {"log_completions": True, "num_completions_to_print": 1}  # TRL's own table, a file a step
    run = train(numbered, tmp_path, rewards=[random_reward], dynamic_sampling=3, **told)[1]
    assert sum(calls) == len(run.rollouts)
    used = run.rollouts[run.rollouts["used"]]
    table = pd.concat([pd.read_parquet(file) for file in sorted((tmp_path / "completions").glob("*.parquet"))])
    assert table["seen"].tolist() == [f"{row.id}:{row.random_reward}" for row in used.itertuples()]
    assert table["advantage"].tolist() == used["advantage"].tolist()


def test_a_completion_without_reward_does_not_make_a_group_teach(numbered, tmp_path, one_thread):
    def partial_reward(completions, **columns):
        return [None if i % 4 == 0 else 1.0 for i in range(len(completions))]

    run = train(numbered, tmp_path, rewards=[partial_reward], dynamic_sampling=1, max_steps=1)[1]
    assert run.metrics["dynamic/zero_variance_drawn"].tolist() == [1.0]


def test_without_it_every_completion_is_used(train_phantoms, tmp_path, one_thread):
    run = train(train_phantoms, tmp_path, max_steps=1)[1]
    assert run.rollouts["used"].tolist() == [True] * 8 and run.config["dynamic_sampling"] == 0
    assert not [name for name in run.metrics if name.startswith("dynamic/")]


@pytest.mark.parametrize("rounds", [-1, True, 1.5])
def test_what_is_no_number_of_rounds_is_refused(fresh_tiny, train_phantoms, tmp_path, rounds):
    with pytest.raises(DataError, match=r"dynamic_sampling=.* is not a whole number of at least 0"):
        mk.train_grpo(*fresh_tiny, train_phantoms, output_dir=tmp_path, dynamic_sampling=rounds, format="no-think")


def test_without_a_shared_prefix_it_is_refused_in_one_sentence(train_phantoms, tmp_path, one_thread):
    with pytest.raises(
        DataError, match=r"dynamic_sampling needs shared prompts.*not asked for; leave it out"
    ) as refused:
        train(train_phantoms, tmp_path, dynamic_sampling=2, shared_prefix=False)
    assert "\n" not in str(refused.value)
    with (
        pytest.warns(UserWarning, match="TRL's own step is run"),
        pytest.raises(DataError, match=r"needs shared prompts.*LoRA dropout"),
    ):
        train(train_phantoms, tmp_path, dynamic_sampling=2, lora={"dropout": 0.1})
    assert not list(tmp_path.iterdir())


def test_several_processes_are_refused(train_phantoms, tmp_path, monkeypatch, one_thread):
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", 2)
    with pytest.raises(DataError, match="dynamic sampling works in one process, and 2 were started"):
        train(train_phantoms, tmp_path, dynamic_sampling=2)


def test_the_command_line_takes_rounds(tmp_path, monkeypatch):
    from medr1kit import __main__ as commands
    from medr1kit.training import train as module

    seen = {}

    def stop(model, processor, dataset, **arguments):
        seen.update(arguments)
        raise DataError("far enough")

    monkeypatch.setattr(module, "train_grpo", stop)
    words = ["--dataset_name", "phantoms", "--num_rows", "8", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    with pytest.raises(DataError, match="far enough"):
        commands.grpo([*words, "--dynamic_sampling", "3"])
    assert seen["dynamic_sampling"] == 3
    with pytest.raises(DataError, match="dynamic_sampling"):
        commands.sft([*words, "--dynamic_sampling", "3"])
