"""Answers that are drawn: by the model's own probabilities, the same for the same seed, a prompt read once."""

import numpy as np
import pandas as pd
import pytest
import torch

import medr1kit as mk
from medr1kit.vqa import DataError


def draw(model, processor, rows, **changes):
    settings = {"format": "no-think", "max_new_tokens": 16, "samples": 4, "seed": 3, "batch_size": 8} | changes
    return mk.predict(model, processor, rows, **settings)


@pytest.fixture(scope="module")
def rows(val_phantoms):
    return val_phantoms.select(range(24))


@pytest.fixture(scope="module")
def drawn(tiny, rows):
    return draw(*tiny, rows)


def test_a_question_has_a_row_for_each_of_its_samples(drawn, rows):
    assert drawn["id"].tolist() == [name for name in rows["id"] for _ in range(4)]
    assert drawn["sample"].tolist() == [0, 1, 2, 3] * 24
    assert drawn.groupby("id")["text"].nunique().max() > 1


def test_seed_and_batches_decide_what_is_drawn_and_nothing_that_was_drawn_before(tiny, rows, drawn):
    torch.rand(7)
    state = torch.get_rng_state()
    assert draw(*tiny, rows)["text"].tolist() == drawn["text"].tolist()
    assert torch.equal(torch.get_rng_state(), state)
    assert draw(*tiny, rows, seed=4)["text"].tolist() != drawn["text"].tolist()


def test_letters_are_drawn_as_often_as_the_model_finds_them_probable(tiny, rows):
    """Of three questions 200 times: expected and found shares of gold letters within four standard errors."""
    some = rows.select(range(3))
    known = mk.letter_probabilities(*tiny, some, format="no-think")
    said = draw(*tiny, some, samples=200)
    for row in known.itertuples():
        found = said.loc[said["id"] == row.id, "predicted"].value_counts(normalize=True)
        for letter, chance in zip("ABCD", np.array(row.probabilities) * row.mass):
            assert found.get(letter, 0.0) == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 200) + 0.01)


def test_a_low_temperature_is_greedy_and_a_high_one_is_not(tiny, rows, drawn):
    greedy = mk.predict(*tiny, rows, format="no-think", max_new_tokens=16)
    cold = draw(*tiny, rows, temperature=0.01, samples=2)
    assert cold["text"].tolist() == [text for text in greedy["text"] for _ in range(2)]
    hot = draw(*tiny, rows, temperature=3.0)
    assert hot["well_formed"].mean() < drawn["well_formed"].mean()


def test_a_model_that_is_asked_by_generate_draws_as_well(tiny, rows, monkeypatch):
    monkeypatch.setattr("medr1kit.models.shared_prefix.answering.why_not_read", lambda *_: "for this test")
    found = draw(*tiny, rows.select(range(4)), samples=3)
    assert len(found) == 12 and found["text"].nunique() > 1
    assert found["text"].tolist() == draw(*tiny, rows.select(range(4)), samples=3)["text"].tolist()


class Killed(BaseException):
    """Not an Exception: like an interrupt, nothing may swallow it."""


@pytest.mark.parametrize("after", [1, 30, 33, 95])
def test_after_a_kill_the_same_samples_are_drawn(tiny, rows, drawn, tmp_path, monkeypatch, after):
    from medr1kit.models.so_far import AnswersSoFar

    add, output = AnswersSoFar.add, tmp_path / "p.parquet"

    def until(self, *answer):
        if len(self) == after:
            raise Killed
        add(self, *answer)

    with monkeypatch.context() as patch:
        patch.setattr(AnswersSoFar, "add", until)
        with pytest.raises(Killed):
            draw(*tiny, rows, output=output)
    draw(*tiny, rows, output=output)
    assert pd.read_parquet(output)["text"].tolist() == drawn["text"].tolist()


def test_samples_are_scored_by_question_and_pass_at_one_is_their_accuracy(drawn):
    scores = mk.score(drawn, by=None)
    assert scores["n"][0] == 96 and scores["cluster"][0] == "id"
    table = mk.pass_at_k(drawn)
    assert table["pass_at_k"][0] == pytest.approx(scores["accuracy"][0])
    assert table["pass_at_k"].is_monotonic_increasing and len(table) == 4


def test_the_command_draws_too(rows, tmp_path):
    from medr1kit.commands import answers

    flags = ["--model_name_or_path", "tiny", "--dataset_name", "phantoms", "--num_rows", "4", "--format", "no-think"]
    answers.predict([*flags, "--samples", "2", "--temperature", "0.5", "--output", str(tmp_path / "p.parquet")])
    assert pd.read_parquet(tmp_path / "p.parquet")["sample"].tolist() == [0, 1] * 4


@pytest.mark.parametrize("wrong", [{"samples": -1}, {"samples": 2.5}, {"temperature": 0}, {"temperature": "warm"}])
def test_what_cannot_be_drawn_is_refused(tiny, rows, wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        draw(*tiny, rows, **wrong)
