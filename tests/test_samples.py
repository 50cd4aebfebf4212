"""Several samples a question, against what can be counted by hand."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.stats import wilson
from medr1kit.vqa import DataError


def answers(*said, gold="A", options=4, **labels):
    """A question for each word; its letters are the samples, "-" could not be read."""
    rows = [
        {"id": f"q{place}", "answer": gold, "options": list("wxyz")[:options], "predicted": None if one == "-" else one}
        | {"sample": number, "correct": one == gold, "lenient_predicted": None, "format": "no-think"}
        for place, letters in enumerate(said)
        for number, one in enumerate(letters)
    ]
    return pd.DataFrame(rows).assign(**labels)


def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples():
    said = ["ABCA", "BBBB", "AAAA", "BACD"]
    table = mk.pass_at_k(answers(*said))
    for k in range(1, 5):
        by_hand = np.mean([np.mean(["A" in chosen for chosen in combinations(letters, k)]) for letters in said])
        assert table["pass_at_k"][k - 1] == pytest.approx(by_hand)
    assert table["k"].tolist() == [1, 2, 3, 4] and (table["n"] == 4).all()
    assert table["chance"].tolist() == pytest.approx([1 - 0.75**k for k in (1, 2, 3, 4)])


def test_the_majority_votes_without_what_cannot_be_read_and_a_tie_counts_as_its_share():
    table = mk.pass_at_k(answers("AAB", "AB-", "BBA", "---"))
    assert table["majority"].tolist()[2] == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert table["majority"].tolist()[0] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3 + 0) / 4) == table["pass_at_k"][0]
    assert table["agreement"][0] == pytest.approx((1 / 3 + 0 + 1 / 3 + 0) / 4)


def test_verdicts_have_wilson_s_interval_and_shares_one_of_their_own():
    certain = mk.pass_at_k(answers("AA", "BB", "AA"))
    assert (certain["low"][0], certain["high"][0]) == pytest.approx(wilson(2, 3))
    mixed = mk.pass_at_k(answers(*["AB"] * 30, *["BA"] * 30))
    assert mixed["pass_at_k"].tolist() == [0.5, 1.0]
    assert mixed["low"][1] > 0.9 and mixed["low"][0] < 0.5 < mixed["high"][0]


def test_the_interval_holds_the_truth_in_about_95_of_100_samples():
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        chance = rng.beta(0.6, 0.6, 80)  # of a question to be answered rightly; its mean is a half
        table = mk.pass_at_k(answers(*["".join(rng.choice(["A", "B"], 4, p=[p, 1 - p])) for p in chance]))
        held += table["low"][0] <= 0.5 <= table["high"][0]
    assert 180 <= held <= 198


def test_models_are_kept_apart_and_seeds_are_more_samples():
    both = pd.concat([answers("AB", method="base"), answers("AA", method="grpo")])
    table = mk.pass_at_k(both)
    assert table.groupby("method")["pass_at_k"].first().to_dict() == {"base": 0.5, "grpo": 1.0}
    seeds = pd.concat([answers("A", seed=0), answers("B", seed=1)])
    assert mk.pass_at_k(seeds)["k"].tolist() == [1, 2]


def test_sixteen_samples_vote_by_a_sample_of_their_choices():
    rng = np.random.default_rng(1)
    said = ["".join(rng.choice(list("AAB"), 16)) for _ in range(40)]
    table = mk.pass_at_k(answers(*said))
    assert len(table) == 16 and table["majority"][15] == np.mean(
        [(letters.count("A") > 8) + 0.5 * (letters.count("A") == 8) for letters in said]
    )
    assert table["majority"][0] == pytest.approx(table["pass_at_k"][0])
    assert table["majority"][7] > table["majority"][0] + 0.1, "two of three samples are right"


def test_questions_with_other_numbers_of_samples_are_refused():
    with pytest.raises(DataError, match=r"'q1' has 1 answers and 'q0' has 2; .*samples=8"):
        mk.pass_at_k(answers("AB", "A"))


def rotated(says, **numbers):
    """Answers to the questions q2 and q4, of two and four options with "x" for gold, in all orders of their options."""
    rows = []
    for name, n in numbers.items():
        for by in range(n):
            options = [*"xyzw"[:n][n - by :], *"xyzw"[: n - by]]
            letter, gold = says(name, options), "ABCD"[options.index("x")]
            row = {"id": name, "options": options, "answer": gold, "predicted": letter, "correct": letter == gold}
            rows.append(row | {"sample": by, "lenient_predicted": None, "format": "no-think"})
    return pd.DataFrame(rows)


def test_answers_to_rotated_options_vote_for_the_text_each_with_its_own_number_of_orders():
    means = {"q2": "xy", "q4": "yxxw"}  # what is meant in each order; q4's order begins xyzw, wxyz, zwxy, yzwx

    def says(name, options):
        return "ABCD"[options.index(means[name][options.index("x")])]  # moved on by so many places

    table = mk.pass_at_k(rotated(says, q2=2, q4=4))
    assert table["k"].tolist() == [1, 2, 3, 4] and (table["n"] == 2).all()
    assert table["pass_at_k"].tolist() == pytest.approx([(1 / 2 + 2 / 4) / 2, (1 + 1 - 1 / 6) / 2, 1, 1])
    # q2: one vote each, half; of q4's four choices of three votes yxx, yxw (twice) and xxw the thirds count, too
    by_hand = [(1 / 2 + 2 / 4) / 2, (1 / 2 + (1 + 4 / 2 + 0) / 6) / 2, (1 / 2 + (1 + 1 / 3 + 1 / 3 + 1) / 4) / 2, 0.75]
    assert table["majority"].tolist() == pytest.approx(by_hand)
    assert table["agreement"][0] == pytest.approx((0 + 1 / 6) / 2)
    assert table["chance"][3] == pytest.approx((1 - 1 / 2**2 + 1 - (3 / 4) ** 4) / 2)


def test_a_model_that_always_says_a_votes_for_each_option_once_and_wins_nothing_by_it():
    table = mk.pass_at_k(rotated(lambda name, options: "A", q2=2, q4=4))
    assert table["majority"].tolist() == pytest.approx([(1 / 2 + 1 / 4) / 2] * 4)
    assert table["agreement"].tolist() == [0] * 4 and table["pass_at_k"][3] == 1


def test_one_that_means_a_text_agrees_with_itself_and_what_cannot_be_read_does_not():
    table = mk.pass_at_k(rotated(lambda name, options: "ABCD"[options.index("x")], **{f"q{n}": n for n in (2, 3, 4)}))
    assert table[["majority", "agreement"]].to_numpy().tolist() == [[1, 1]] * 4
    assert (table["agreement_low"][0], table["agreement_high"][0]) == pytest.approx(wilson(3, 3))
    assert mk.pass_at_k(rotated(lambda name, options: None, q3=3))["agreement"].tolist() == [0] * 3


def test_fewer_rotations_than_options_vote_and_a_missing_one_is_refused():
    asked = rotated(lambda name, options: "A", q2=2, q3=3, q4=4)
    assert mk.pass_at_k(asked[asked["sample"] < 3])["k"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="'q2' has 1 answers and 'q4' has 4"):
        mk.pass_at_k(asked[1:])
    other = asked.assign(options=[["x", "v"] if k == 1 else one for k, one in enumerate(asked["options"])])
    with pytest.raises(DataError, match="'q2' was asked with other options in another row"):
        mk.pass_at_k(other)


def test_each_model_has_its_curves():
    table = mk.pass_at_k(pd.concat([answers("AB", "BB", method="base"), answers("AA", "AB", method="grpo")]))
    ax = mk.plot_pass_at_k(table)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"base · no-think, any of k", "grpo · no-think, majority of k", "any of k even guesses"} <= set(names)
    assert ax.lines[0].get_ydata().tolist() == [0.25, 0.5]
    assert [line.get_marker() for line in ax.lines[:4]] == ["o", "o", "s", "s"], (
        "a shape a model, which greyscale keeps"
    )
    plt.close("all")


def test_vote_shares_are_counted_by_letter_and_what_cannot_be_read_is_shared_out():
    votes = mk.vote_shares(answers("ABBB", "AA--", "CCDD", options=4))
    assert votes["probabilities"].tolist() == [[0.25, 0.75, 0, 0], [0.625, 0.125, 0.125, 0.125], [0, 0, 0.5, 0.5]]
    assert votes["predicted"].tolist() == ["B", "A", "C"] and votes["correct"].tolist() == [False, True, False]
    assert "sample" not in votes
    assert mk.abstention(votes).frame.iloc[-1]["accuracy"] == pytest.approx(1 / 3)


def test_votes_of_two_trainings_are_kept_apart():
    both = pd.concat([answers("AAAB", seed=1), answers("BBBA", seed=2)])
    assert mk.vote_shares(both)[["seed", "predicted", "confidence"]].values.tolist() == [[1, "A", 0.75], [2, "B", 0.75]]


def test_orders_of_the_options_vote_by_text():
    turned = answers("AB", options=2)
    turned.at[1, "options"] = ["x", "w"]
    turned.loc[1, "answer"] = "B"
    assert mk.vote_shares(turned)["confidence"].tolist() == [1.0]
