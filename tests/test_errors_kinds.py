import numpy as np
import pandas as pd
import pytest
from errors_fakes import answer, says, table

from medr1kit.results.errors.kinds import KINDS, add_change, changes_table, describe, kinds_table
from medr1kit.vqa import DataError

TEXTS = {
    "right": says("A"),
    "right, malformed": "So: " + says("A"),
    "wrong": says("B"),
    "wrong, malformed": "<think>A ring.<answer>B</answer>",
    "unread, right letter": "<think>A ring.</think>The answer is A",
    "unread, wrong letter": "<think>A ring.</think>The answer is C",
    "unread, no letter": "<think>A ring.</think>",
}


def preds():
    return table(*(answer(number, text) for number, text in enumerate(TEXTS.values())))


def test_every_answer_has_the_kind_that_its_text_shows():
    assert tuple(TEXTS) == KINDS
    assert describe(preds())["kind"].tolist() == list(KINDS)


def test_the_reason_is_the_parser_s_for_what_was_not_read_and_ours_for_what_is_malformed():
    reasons = describe(preds())["reason"]
    assert reasons[0] == reasons[2] == ""
    assert reasons[1] == "there is text outside the blocks"
    assert reasons[3] == "</think> missing"
    assert reasons[4] == "there is no <answer>…</answer> block outside the thinking"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<answer>A</answer><think>A ring.</think>", "the blocks stand in the wrong order"),
        ("<think> </think><answer>A</answer>", "the thinking is empty"),
        (says("A") + "<think>More.</think>", "there are more tags than the format has"),
        ("", "the completion is empty"),
        ("<answer>A</answer><answer>B</answer>", "there are 2 answer blocks; exactly one counts"),
    ],
)
def test_what_is_wrong_with_a_form_is_named(text, reason):
    assert describe(table(answer(0, text)))["reason"][0] == reason


def test_texts_of_gold_and_answer_stand_beside_their_letters():
    rows = describe(table(answer(0, says("C")), answer(1, "nothing")))
    assert rows["gold_text"].tolist() == ["liver", "liver"]
    assert rows["predicted_text"][0] == "brain" and pd.isna(rows["predicted_text"][1])
    assert rows["n_options"].tolist() == [4, 4]


def test_an_answer_whose_text_was_ended_early_is_not_malformed():
    early = table(
        answer(0, "<answer>A</answer>", format="think-after"), answer(1, "<answer>B</answer>", format="no-think")
    )
    early["well_formed"] = pd.Series([None, True], dtype=object)
    assert describe(early)["kind"].tolist() == ["right", "wrong"]


def test_the_table_of_kinds_sums_to_one_for_each_format():
    both = pd.concat([preds(), table(answer(0, "<answer>A</answer>", format="no-think"))])
    kinds = kinds_table(describe(both))
    assert kinds.groupby("format")["share"].sum().to_numpy() == pytest.approx(1)
    assert kinds["format"].unique().tolist() == ["think-before", "no-think"]
    assert (kinds["low"] <= kinds["share"]).all() and (kinds["share"] <= kinds["high"]).all()
    assert kinds[kinds["format"] == "no-think"]["of"].tolist() == [1]


def test_changes_tell_fixed_from_broken_and_the_same_mistake_from_another():
    before = table(
        *(answer(n, t) for n, t in enumerate([says("B"), says("A"), says("B"), says("B"), says("A"), "none"]))
    )
    after = table(*(answer(n, says(letter)) for n, letter in enumerate("ABBCAA")), answer(9, says("A")))
    rows = add_change(describe(after), before)
    expected = ["fixed", "broken", "still wrong, same letter", "still wrong, other letter", "still right", "fixed"]
    assert rows["change"].tolist()[:-1] == expected and pd.isna(rows["change"].iloc[-1])
    assert rows["predicted_before"].tolist()[:2] == ["B", "A"]
    table_ = changes_table(rows).set_index("change")
    assert table_["n"].to_dict() == {name: 1 + (name == "fixed") for name in expected}
    assert table_.loc["fixed", "was_unread"] == 1 and table_["was_unread"].sum() == 1
    assert (table_["of"] == 6).all()


def test_changes_are_paired_by_format_and_seed_where_before_has_several():
    before = table(*(answer(0, says(letter), seed=seed) for seed, letter in enumerate("AB")))
    after = table(*(answer(0, says("A"), seed=seed) for seed in (0, 1)))
    assert add_change(describe(after), before)["change"].tolist() == ["still right", "fixed"]


def test_an_answer_is_not_paired_with_another_format_s_where_there_are_several():
    after = table(answer(0, says("A")), answer(0, "<answer>A</answer>", format="no-think"))
    rows = add_change(describe(after), table(answer(0, says("B"))))
    assert rows["change"][0] == "fixed" and pd.isna(rows["change"][1])
    other = add_change(describe(after.iloc[1:]), table(answer(0, says("B"))))
    assert other["change"].tolist() == ["fixed"], "one format against another, if that is what is given"


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        (table(answer(5, says("A"))), "no question is in both frames"),
        (table(answer(0, says("A"), "B")), "gold answer of 'q0' differs"),
        (table(answer(0, says("A")), answer(0, says("B"))), "answers 'q0' more than once"),
    ],
)
def test_another_test_is_no_before(before, sentence):
    with pytest.raises(DataError, match=sentence):
        add_change(describe(table(answer(0, says("A")))), before)


def test_answers_in_a_format_of_ones_own_are_read_by_the_order_of_their_blocks():
    own = describe(preds().assign(format="my wording"))
    for column in ("kind", "reason", "predicted_text"):
        assert own[column].tolist() == describe(preds())[column].tolist()
    both = describe(pd.concat([preds(), preds().assign(format="my wording")]))
    assert both["reason"].tolist() == 2 * own["reason"].tolist()


def test_answers_in_tags_of_ones_own_are_read_by_the_tags_in_their_texts():
    def tagged(texts):
        return texts.str.replace("think>", "REASONING>").str.replace("answer>", "SOLUTION>")

    own = describe(preds().assign(format="mine", text=tagged(preds()["text"])))
    assert own["kind"].tolist() == list(KINDS)
    assert own["reason"].tolist() == tagged(describe(preds())["reason"]).tolist()
    unread = preds().assign(format="mine", predicted=None, lenient_predicted=None, correct=False, well_formed=False)
    reasons = describe(unread)["reason"]  # no text has the tags that were asked for
    assert reasons.eq("there is no <ANSWER>…</ANSWER> block outside the thinking").all()


def test_bad_rows_are_refused_by_number():
    with pytest.raises(DataError, match="row 1: the gold answer is 'E', but there are 4 options"):
        describe(preds().assign(answer=["A", "E", *"AAAAA"]))
    with pytest.raises(DataError, match="row 2 has no image_id"):
        describe(preds().assign(image_id=["a", "b", None, "c", "d", "e", np.nan]), cluster="image_id")
    for no_format in (preds().assign(format="loud", well_formed=True), preds().assign(format=None)):
        with pytest.raises(DataError, match=r"unknown format 'loud'|a format has a name"):
            describe(no_format)
    with pytest.raises(DataError, match="without the column"):
        describe(preds().drop(columns="text"))
