"""Recording through TRL's public protocol: every completion, TRL's own advantages, and a trainer that is TRL's own."""

import functools
import json

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.runs import RunWriter
from medr1kit.vqa import DataError

# Two groups of four short completions a step.
SMALL = {"max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 8, "num_generations": 4}
SMALL |= {"max_completion_length": 12, "format": "no-think", "seed": 3, "shared_prefix": False}
TABLE = {"log_completions": True, "num_completions_to_print": 1}  # TRL's own table of completions, a file a log


def train(rows, folder, **changes):
    return mk.train_grpo(*mk.load_model("tiny"), rows, **(SMALL | {"output_dir": folder} | changes))


def table_of(folder):
    files = sorted((folder / "completions").glob("*.parquet"))
    return [pd.read_parquet(file) for file in files]


def odd_tokens(completion_ids, **columns):
    return [float(sum(token % 2 for token in ids[:3])) for ids in completion_ids]


def partial_length(completion_ids, **columns):
    """None for some, and the same for a whole group now and then."""
    return [None if sum(ids) % 2 == 0 else -0.1 * len(ids) for ids in completion_ids]


RULES = {
    "by the group": {},
    "by the batch": {"scale_rewards": "batch"},
    "not scaled": {"scale_rewards": "none"},
    "weighted": {"reward_weights": [2.0, 0.3]},
    "each reward by itself": {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [1.0, 0.5]},
}


@pytest.mark.parametrize("rule", RULES)
def test_advantages_and_rewards_are_those_of_trls_own_table(train_phantoms, tmp_path, one_thread, rule):
    run = train(train_phantoms, tmp_path, rewards=[odd_tokens, partial_length], **RULES[rule], **TABLE)
    theirs = pd.concat(table_of(tmp_path), ignore_index=True)
    assert run.rollouts["advantage"].tolist() == theirs["advantage"].tolist()
    assert run.rollouts["advantage"].abs().max() > 0.1
    for name in ("odd_tokens", "partial_length"):
        pd.testing.assert_series_equal(run.rollouts[name], theirs[name], check_dtype=False)
    assert run.rollouts["partial_length"].isna().any()
    assert run.rollouts["text"].tolist() == [turns[0]["content"] for turns in theirs["completion"]]


def test_completions_that_no_reward_applies_to_have_no_advantage(train_phantoms, tmp_path, one_thread):
    run = train(train_phantoms, tmp_path, rewards=[partial_length], **TABLE)
    theirs = pd.concat(table_of(tmp_path), ignore_index=True)
    none = run.rollouts["partial_length"].isna()
    assert none.any() and not none.all() and (run.rollouts.loc[none, "advantage"] == 0).all()
    assert run.rollouts["advantage"].tolist() == theirs["advantage"].tolist()


def test_an_advantage_by_a_rule_not_known_is_left_out_and_not_guessed():
    from types import SimpleNamespace

    import torch

    from medr1kit.training.recording import advantages

    args = SimpleNamespace(num_generations=2, reward_weights=None, scale_rewards="median")
    args.multi_objective_aggregation = "sum_then_normalize"
    assert advantages(torch.tensor([[0.0], [1.0]]), args) == [None, None]
    args.scale_rewards, args.multi_objective_aggregation = "group", "rank_then_sum"
    assert advantages(torch.tensor([[0.0], [1.0]]), args) == [None, None]


def test_without_a_shared_prefix_the_trainer_is_trls_own(train_phantoms, tmp_path, one_thread):
    from trl import GRPOTrainer

    seen = []

    def seeing(completion_ids, log_metric, **columns):
        seen.append(log_metric.__self__)
        return odd_tokens(completion_ids)

    run = train(train_phantoms, tmp_path, rewards=[seeing], max_steps=1)
    assert type(seen[0]) is GRPOTrainer
    assert not [name for name, value in vars(seen[0]).items() if name in dir(GRPOTrainer) and callable(value)]
    assert run.config["shared_prefix"] == "not asked for"
    assert {name for name in run.metrics if name.startswith("watch/")} >= {"watch/truncated", "watch/alarms"}


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"logging_steps": 3, "max_steps": 3}, [1] * 8 + [2] * 8 + [3] * 8),
        ({"num_iterations": 2, "max_steps": 4}, [1] * 8 + [3] * 8),
        ({"steps_per_generation": 2, "per_device_train_batch_size": 4, "max_steps": 4}, [1] * 8 + [3] * 8),
        (
            {"gradient_accumulation_steps": 2, "steps_per_generation": 1, "per_device_train_batch_size": 4},
            [1] * 8 + [2] * 8,
        ),
    ],
    ids=["logged every third step", "used twice", "for two steps", "two batches a step"],
)
def test_every_completion_is_recorded_however_often_is_sampled_and_logged(
    train_phantoms, tmp_path, one_thread, changes, steps, shared_prefix
):
    drawn = []

    def counting(completion_ids, **columns):
        drawn.extend(len(ids) for ids in completion_ids)
        return odd_tokens(completion_ids)

    run = train(train_phantoms, tmp_path, rewards=[counting], shared_prefix=shared_prefix, **changes)
    assert run.rollouts["step"].tolist() == steps and run.rollouts["n_tokens"].tolist() == drawn
    for _, group in run.rollouts.groupby(run.rollouts.index // 4):
        reward = group["counting"]
        by_hand = (reward - reward.mean()) / (reward.std() + 1e-4)
        assert group["advantage"].tolist() == pytest.approx(by_hand.tolist(), abs=1e-5)
        assert group["id"].nunique() == 1 and group["rollout"].tolist() == [0, 1, 2, 3]


def test_masked_truncated_completions_are_recorded_and_trained_on_as_in_stock(train_phantoms, tmp_path, one_thread):
    """Some completions are cut off, and all of a group now and then: rows like others, and no number is nan."""
    masked = {"mask_truncated_completions": True, "max_steps": 4, "rewards": [odd_tokens]}
    masked |= {"max_completion_length": 24, "format": "think-before"}  # a rationale about a grade is longer
    sides = [("stock", False), ("shared", True)]
    stock, shared = (train(train_phantoms, tmp_path / name, shared_prefix=on, **masked) for name, on in sides)
    pd.testing.assert_frame_equal(stock.rollouts, shared.rollouts)
    assert len(stock.rollouts) == 4 * 8 and stock.rollouts[["text", "odd_tokens", "advantage"]].notna().all(axis=None)
    groups = stock.rollouts.groupby(stock.rollouts.index // 4)["truncated"].mean()
    assert groups.eq(1).any() and groups.lt(1).any()
    for name in ("loss", "grad_norm", "entropy", "reward"):
        assert shared.metrics[name].notna().all()
        assert shared.metrics[name].tolist() == pytest.approx(stock.metrics[name].tolist(), rel=1e-3, abs=1e-6)
    assert stock.metrics["grad_norm"].max() > 0


def test_rows_are_on_disk_before_the_next_step(train_phantoms, tmp_path, one_thread):
    found = []

    def reading(completion_ids, **columns):
        lines = tmp_path / "rollouts.jsonl"
        found.append([json.loads(line)["step"] for line in lines.read_text().splitlines()] if lines.exists() else [])
        return odd_tokens(completion_ids)

    train(train_phantoms, tmp_path, rewards=[reading], max_steps=3)
    assert found == [[], [1] * 8, [1] * 8 + [2] * 8]


def test_an_evaluation_is_no_rollout(train_phantoms, tmp_path, one_thread):
    from trl import GRPOConfig, GRPOTrainer

    from medr1kit.training.recording import RolloutRecorder

    calls = []

    def counting(completion_ids, **columns):
        calls.append(len(completion_ids))
        return odd_tokens(completion_ids)

    model, processor = mk.load_model("tiny")
    rows = train_phantoms.add_column(
        "prompt", [[{"role": "user", "content": mk.NO_THINK.prompt(problem)}] for problem in train_phantoms["problem"]]
    )
    recorder = RolloutRecorder(mk.NO_THINK, [counting])
    args = GRPOConfig(
        output_dir=str(tmp_path / "trl"),
        **{name: SMALL[name] for name in ("max_steps", "per_device_train_batch_size", "num_generations", "seed")},
        **{"max_completion_length": 6, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8},
        **{"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True},
        logging_steps=1,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=recorder.rewards,
        args=args,
        train_dataset=rows,
        eval_dataset=rows.select([5, 2]),
        processing_class=processor,
        callbacks=[recorder],
    )
    with RunWriter(tmp_path / "run", {}) as recorder.writer:
        trainer.train()
    run = mk.load_run(tmp_path / "run")
    assert calls == [8, 8, 8, 8]  # two steps and two evaluations
    assert run.rollouts["step"].tolist() == [1] * 8 + [2] * 8
    assert all("eval_watch/truncated" not in entry for entry in trainer.state.log_history)


# ---- rewards of one's own --------------------------------------------------------------------------------------------


def test_rewards_keep_the_names_that_trl_gives_them(train_phantoms, tmp_path, one_thread):
    class Strict:
        def __call__(self, completion_ids, **columns):
            return odd_tokens(completion_ids)

    async def awaited(completion_ids, **columns):
        return [1.0 + pay for pay in odd_tokens(completion_ids)]

    def scaled(completion_ids, by, **columns):
        return [by * pay for pay in odd_tokens(completion_ids)]

    rewards = [awaited, Strict(), functools.partial(scaled, by=2.0)]
    run = train(train_phantoms, tmp_path, rewards=rewards, **TABLE)
    names = ["awaited", "Strict", "scaled"]
    assert run.config["rewards"] == names
    assert all(f"rewards/{name}/mean" in run.metrics for name in names)
    theirs = pd.concat(table_of(tmp_path), ignore_index=True)
    for name in (*names, "advantage"):
        assert run.rollouts[name].tolist() == theirs[name].tolist()


def test_a_reward_is_handed_what_trl_hands_it(train_phantoms, tmp_path, one_thread):
    seen = {}

    def closed(prompts, completions, completion_ids, **columns):
        seen.update(columns)
        return odd_tokens(completion_ids)

    train(train_phantoms, tmp_path, rewards=[closed], max_steps=1)
    assert set(seen) == {*train_phantoms.column_names, "trainer_state", "log_extra", "log_metric"}


REWARDS_THAT_ARE_NONE = {
    "a name": (lambda: ["accuracy"], "rewards holds the text 'accuracy', which is no function; pass functions"),
    "names": (lambda: "accuracy", r"rewards is the text 'accuracy'; pass a list of functions, rewards=\[mk\.accuracy"),
    "a bare function": (lambda: odd_tokens, "rewards is a function; pass a list"),
    "nothing": (lambda: [], "rewards is an empty list; pass a list"),
    "a number": (lambda: [odd_tokens, 1.0], "rewards holds a float, which is no function"),
    "a maker": (
        lambda: [mk.accuracy_reward],
        r"'accuracy_reward' takes \(format: .* what makes a reward is called first",
    ),
    "no columns": (lambda: [lambda completions: []], "takes .completions., and is called with .* add ..columns"),
    "two of one name": (lambda: [odd_tokens, odd_tokens], "two rewards are called 'odd_tokens'; give each its own"),
    "a column": (lambda: [named("text")], "a reward is called 'text', as another column of the rollouts"),
    "our column": (lambda: [named("advantage")], "a reward is called 'advantage'"),
}


def named(name, pay=odd_tokens):
    def reward(completion_ids, **columns):
        return pay(completion_ids)

    reward.__name__ = name
    return reward


@pytest.mark.parametrize("case", REWARDS_THAT_ARE_NONE)
def test_what_is_no_list_of_rewards_is_refused_before_the_model_is_touched(tiny, train_phantoms, tmp_path, case):
    made, sentence = REWARDS_THAT_ARE_NONE[case]
    with pytest.raises(DataError, match=sentence):
        mk.train_grpo(*tiny, train_phantoms, **(SMALL | {"output_dir": tmp_path, "rewards": made()}))
    assert not list(tmp_path.iterdir())


def test_a_model_as_a_reward_is_refused_by_name(tiny, train_phantoms, tmp_path):
    import torch

    with pytest.raises(DataError, match="reward 'Linear' is a model; pass a function"):
        mk.train_grpo(*tiny, train_phantoms, **(SMALL | {"output_dir": tmp_path, "rewards": [torch.nn.Linear(2, 1)]}))
    assert not list(tmp_path.iterdir())


PAID_WRONGLY = {
    "too few": (lambda ids: odd_tokens(ids)[1:], "'pay' returned 7 rewards, but 8 were expected"),
    "a text": (lambda ids: "11111111", "'pay' returned the text '11111111'; expected a list"),
    "nothing": (lambda ids: None, "'pay' returned None; expected a list with a number for each of the 8 completions"),
    "one number": (lambda ids: 1.0, "'pay' returned a float; expected a list"),
    "a function": (lambda ids: odd_tokens, "'pay' returned a function; .*; call it first"),
    "texts": (lambda ids: ["1"] * 8, "'pay' paid the text '1'; expected a number or None"),
    "lists": (lambda ids: [[1.0]] * 8, "'pay' paid a list; expected a number or None"),
    "infinity": (lambda ids: [0.0] * 7 + [float("inf")], "step 1: reward 'pay' paid inf for '.*'; nothing can be"),
    "more than float32": (lambda ids: [1e38] * 8, "step 1: reward 'pay' paid 1e\\+38 for"),
    "more than a float": (lambda ids: [10**400] * 8, "step 1: reward 'pay' paid inf for"),
    "a dict": (lambda ids: {i: 1.0 for i in range(8)}, "reward 'pay' returned a dict; expected a list"),
    "a set": (lambda ids: {1.0 * i for i in range(8)}, "reward 'pay' returned a set; expected a list"),
    "less than any": (lambda ids: [-float("inf")] * 8, "step 1: reward 'pay' paid -inf for"),
}


@pytest.mark.parametrize("case", PAID_WRONGLY)
def test_what_is_no_reward_stops_the_training_by_step_and_name(fresh_tiny, train_phantoms, tmp_path, case):
    pay, sentence = PAID_WRONGLY[case]
    with pytest.raises(DataError, match=sentence):
        mk.train_grpo(*fresh_tiny, train_phantoms, **(SMALL | {"output_dir": tmp_path, "rewards": [named("pay", pay)]}))
    assert not (tmp_path / "adapter").exists()


def test_nan_counts_as_not_applying_and_a_step_without_any_reward_teaches_nothing(fresh_tiny, train_phantoms, tmp_path):
    rewards = [named("pay", lambda ids: [float("nan")] * 8)]
    with pytest.warns(UserWarning) as caught:
        mk.train_grpo(*fresh_tiny, train_phantoms, **(SMALL | {"output_dir": tmp_path, "rewards": rewards}))
    ours = [str(one.message) for one in caught if str(one.message).startswith("step ")]
    assert "changed no weight" in ours.pop()
    assert ours == [  # each once, in two steps
        "step 1: reward 'pay' paid nan, which counts as None, not applying",
        "step 1: no reward applies to any completion, so the step teaches nothing",
    ]


def test_a_policy_that_earns_nothing_any_more_is_told_once(fresh_tiny, train_phantoms, tmp_path, monkeypatch):
    """Paid in the first step only, 8 completions a step: 16 without pay are reached in the third."""
    monkeypatch.setattr("medr1kit.training.recording.DEAD", 16)

    def at_first(completions, trainer_state, **columns):
        return [float(trainer_state.global_step == 0)] * len(completions)

    settings = SMALL | {"output_dir": tmp_path, "rewards": [at_first], "max_steps": 5}
    with pytest.warns(UserWarning) as caught:
        mk.train_grpo(*fresh_tiny, train_phantoms, **settings)
    said = [str(one.message) for one in caught if "earned nothing" in str(one.message)]
    assert len(said) == 1 and said[0].startswith("step 3: the last 16 completions earned nothing, and some before did")
