"""Difficulty-aware sampling: weights from pass rates, and rows drawn by them."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

import medr1kit as mk
from medr1kit.training.difficulty import FLOOR, PRIOR, difficulty_table, weighted
from medr1kit.vqa import DataError


def rows(n):
    return Dataset.from_dict({"id": [f"q{i}" for i in range(n)]})


def rollouts(**passes):
    """Eight rollouts a question, of which so many are right."""
    table = [
        {"id": name, "answer": "A", "predicted": "A" if i < right else (None if i % 2 else "B")}
        for name, right in passes.items()
        for i in range(8)
    ]
    return pd.DataFrame(table)


def test_half_known_questions_weigh_most_and_the_two_ends_the_same():
    table = difficulty_table(rows(4), rollouts(q0=0, q1=4, q2=8, q3=4)).set_index("id")
    assert table["rollouts"].tolist() == [8, 8, 8, 8]
    assert table["pass_rate"].tolist() == pytest.approx([0.1, 0.5, 0.9, 0.5])  # the mean, 0.5, counts for two
    assert table["weight"]["q1"] == pytest.approx(table["weight"]["q0"] * (0.25 + FLOOR) / (0.09 + FLOOR))
    assert table["weight"]["q0"] == pytest.approx(table["weight"]["q2"])
    assert table["weight"].mean() == pytest.approx(1)


def test_a_question_never_tried_has_the_mean_pass_rate():
    table = difficulty_table(rows(3), rollouts(q0=6, q1=2)).set_index("id")
    assert table.loc["q2", ["rollouts", "pass_rate"]].tolist() == [0, 0.5]
    assert table["pass_rate"]["q0"] == pytest.approx((6 + PRIOR * 0.5) / (8 + PRIOR))


def test_rollouts_that_were_not_used_count():
    frame = rollouts(q0=8, q1=4).assign(used=[False] * 8 + [True] * 8)
    assert difficulty_table(rows(2), frame)["rollouts"].tolist() == [8, 8]


def test_rows_come_as_often_as_they_weigh():
    frame = rollouts(**{f"q{i}": i % 9 for i in range(90)})
    drawn, table = weighted(rows(100), frame, seed=1)
    assert len(drawn) == 100 and table["times"].sum() == 100
    assert (table["times"] - table["weight"]).abs().max() < 1, "systematic sampling: rounded up or down, never further"
    assert table["times"].tolist() == [drawn["id"].count(name) for name in table["id"]]


def test_the_mean_number_of_times_is_the_weight():
    frame = rollouts(**{f"q{i}": i % 9 for i in range(18)})
    times = np.mean([weighted(rows(20), frame, seed=seed)[1]["times"] for seed in range(100)], axis=0)
    weight = difficulty_table(rows(20), frame)["weight"]
    np.testing.assert_allclose(times, weight, atol=4 * 0.5 / np.sqrt(100))


def test_the_seed_alone_decides():
    frame = rollouts(q0=1, q1=4, q2=8)
    ids = [weighted(rows(30), frame, seed=seed)[0]["id"] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (rollouts(q0=1).drop(columns="predicted"), "no column predicted"),
        (rollouts(q0=1).iloc[:0], "has no rollouts"),
        (rollouts(other=1), "none of its 1 questions is among the 5"),
    ],
)
def test_what_cannot_be_used_is_refused(frame, says):
    with pytest.raises(DataError, match=says):
        difficulty_table(rows(5), frame)


def test_a_run_is_trained_on_the_weighted_rows_and_keeps_the_table(train_phantoms, tmp_path, one_thread):
    settings = {"format": "no-think", "max_steps": 4, "per_device_train_batch_size": 8, "num_generations": 4}
    settings |= {"max_completion_length": 8, "warmup_steps": 0}
    hard = train_phantoms[3]["id"]
    frame = pd.concat([rollouts(**{name: 8 for name in train_phantoms["id"] if name != hard}), rollouts(**{hard: 4})])
    run = mk.train_grpo(
        *mk.load_model("tiny"), train_phantoms, output_dir=tmp_path / "run", difficulty=frame, **settings
    )
    table = pd.read_csv(run.path / "difficulty.csv")
    assert table["id"].tolist() == train_phantoms["id"] and table["weight"].idxmax() == 3
    assert run.config["difficulty"] == "difficulty.csv" and run.config["data"]["rows"] == 32
    assert set(run.rollouts["id"]) <= set(table.loc[table["times"] > 0, "id"])
    again = mk.train_grpo(
        *mk.load_model("tiny"), train_phantoms, output_dir=run.path, difficulty=run.rollouts, overwrite=True, **settings
    )
    assert pd.read_csv(again.path / "difficulty.csv")["rollouts"].sum() == 32
    mk.train_grpo(*mk.load_model("tiny"), train_phantoms, output_dir=run.path, overwrite=True, **settings)
    assert not (run.path / "difficulty.csv").exists()
