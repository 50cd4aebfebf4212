"""Recorded tables: complete, consistent, and what the texts say about them."""

from pathlib import Path

import pandas as pd
import pytest

import medr1kit

RECORDED = Path(medr1kit.__file__).parent / "recorded"
FILES = sorted(RECORDED.glob("*.csv"))


def table(name):
    return pd.read_csv(RECORDED / f"{name}.csv")


def test_the_readme_lists_exactly_the_tables_that_are_there():
    listed = [
        line.split("`")[1] for line in (RECORDED / "README.md").read_text().splitlines() if line.startswith("| `")
    ]
    assert sorted(listed) == [path.name for path in FILES]


@pytest.mark.parametrize("name", ["gains", "runs"])
def test_every_training_has_three_seeds(name):
    frame = table(name)
    cells = frame.groupby(["train_modality", "format", "method"])
    assert len(cells) == 3 * 3 * 2
    if name == "gains":
        assert (frame["seeds"] >= 3).all() and (frame.loc[frame["tested"] == "in domain", "n"] >= 200).all()
    else:
        assert (cells["seed"].nunique() >= 3).all()


def test_a_gain_is_what_stands_before_and_after_and_splits_into_its_two_parts():
    frame = table("gains")
    change = frame["accuracy_after"] - frame["accuracy_before"]
    assert (frame["difference"] - change).abs().max() < 2e-4
    assert (frame["difference"] - frame["repaired_format"] - frame["changed_answer"]).abs().max() < 2e-4
    assert (frame["low"] <= frame["difference"]).all() and (frame["difference"] <= frame["high"]).all()


def test_the_model_card_says_what_the_table_of_the_base_says():
    """The card was measured on the validation split, the table on the test split: they agree within three errors."""
    card = (Path(medr1kit.__file__).parent / "tiny" / "checkpoint" / "README.md").read_text()
    base = table("base").query("task == 'all'").set_index("format")["accuracy"]
    for name, accuracy in base.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert abs(float(row.split("|")[2]) - accuracy) < 3 * (0.25 / 800 + 0.25 / 1600) ** 0.5


def test_the_readme_s_means_are_those_of_the_table():
    readme, gains = (RECORDED / "README.md").read_text(), table("gains")
    for name in gains["format"].unique():
        row = next(line for line in readme.splitlines() if line.startswith(f"| {name} |"))
        printed = [float(cell) for cell in row.split("|")[2:8]]
        wanted = []
        for place in ("in domain", "elsewhere"):
            some = gains[(gains["format"] == name) & (gains["tested"] == place)]
            means = some.groupby("method")[["accuracy_before", "accuracy_after"]].mean()
            wanted += [means.loc["sft", "accuracy_before"], *means.loc[["sft", "grpo"], "accuracy_after"]]
        assert printed == pytest.approx(wanted, abs=0.0006)
