"""Thoughts put into a model's mouth: what they are, and what the built-in model makes of them."""

import matplotlib.pyplot as plt
import pytest

import medr1kit as mk
from medr1kit.models.shared_prefix import prompts
from medr1kit.models.shared_prefix.answering import Reader
from medr1kit.results.thoughts import thought_of, thought_table, thoughts_for
from medr1kit.vqa import DataError

PHANTOM_ROWS = ["own", "empty", "first quarter", "first half", "first three quarters", "another's"]
PHANTOM_ROWS += ["true", "facts", "misled", "other facts"]


def question(number, answer="A", **more):
    row = {"image_id": f"i{number}", "modality": "CT", "task": "t", "options": ["cyst", "mass"], "answer": answer}
    return (
        row
        | {"source": "phantoms", "rationale": f"Fact {number}. So the answer is {['cyst', 'mass'][answer == 'B']}"}
        | more
    )


@pytest.fixture(scope="module")
def rows():
    return mk.load_vqa("phantoms", split="val", n=48, seed=4)


@pytest.fixture(scope="module")
def own(tiny, rows):
    return mk.predict(*tiny, rows, format="think-before")


@pytest.fixture(scope="module")
def table(tiny, rows, own):
    return mk.thought_reliance(*tiny, rows, own=own).set_index("thought")


def test_the_thoughts_of_a_question_are_what_their_names_say():
    said = ["<think>one two three four</think><answer>A</answer>", "<think>five six"]
    thoughts = thoughts_for([question(1), question(2, "B")], said)
    assert list(thoughts) == PHANTOM_ROWS
    assert thoughts["own"] == ["one two three four", "five six"] and thoughts["empty"] == ["", ""]
    assert [thoughts[name][0] for name in PHANTOM_ROWS[2:5]] == ["one", "one two", "one two three"]
    assert thoughts["another's"] == ["five six", "one two three four"]
    assert thoughts["facts"] == ["Fact 1.", "Fact 2."] and thoughts["other facts"] == ["Fact 2.", "Fact 1."]
    assert thoughts["misled"] == ["Fact 1. So the answer is mass", "Fact 2. So the answer is cyst"]


def test_another_s_thought_is_about_another_picture_of_the_same_kind():
    some = [question(n, task="t" if n < 3 else "other") for n in (1, 1, 2, 3)]
    thoughts = thoughts_for(some, [f"<think>{n}</think>" for n in "abcd"])["another's"]
    assert thoughts[:2] == ["c", "c"] and thoughts[2] in "ab" and thoughts[3] == "d", "the last is alone"


def test_where_nothing_is_known_of_the_truth_there_are_no_true_thoughts():
    assert list(thoughts_for([question(1, source="slake"), question(2)], ["", ""])) == PHANTOM_ROWS[:6]
    assert list(thoughts_for([question(1, rationale=None)], [""])) == PHANTOM_ROWS[:6]


def test_after_its_own_thought_the_model_answers_as_it_did(own, table):
    assert own["well_formed"].all()
    assert table.loc["own", "accuracy"] == own["correct"].mean()
    assert table.loc["own", ["flipped", "difference"]].tolist() == [0, 0]


def test_the_built_in_model_uses_its_thought_and_follows_it_into_error(table):
    assert list(table.index) == PHANTOM_ROWS and (table["n"] == 48).all()
    assert table.loc["true", "accuracy"] > 0.95 and table.loc["true", "follows"] > 0.95
    assert table.loc["misled", "follows_low"] > 0.4, "two to four options: by chance a third"
    assert table.loc["misled", "difference_high"] < 0
    assert table.loc["empty", "concluding"] == 0 and table.loc["misled", "concluding"] == 48


def test_a_model_that_is_asked_by_generate_answers_the_same(tiny, rows, own, table, monkeypatch):
    monkeypatch.setattr("medr1kit.models.shared_prefix.answering.why_not_read", lambda *_: "for this test")
    again = mk.thought_reliance(*tiny, rows, own=own).set_index("thought")
    assert again["accuracy"].tolist() == table["accuracy"].tolist()
    assert again["flipped"].tolist() == table["flipped"].tolist()


def test_without_predictions_the_model_is_asked_first(tiny, rows, own, table):
    few = rows.select(range(8))
    found = mk.thought_reliance(*tiny, few)
    assert found["accuracy"].tolist()[0] == own["correct"].head(8).mean()


@pytest.mark.parametrize("form", ["think-after", "no-think", "answer-think-answer", "adaptive"])
def test_a_format_that_does_not_think_first_is_refused(tiny, rows, form):
    with pytest.raises(DataError, match="use think-before"):
        mk.thought_reliance(*tiny, rows, format=form)


def test_answers_to_other_questions_are_refused(tiny, rows, own):
    with pytest.raises(DataError, match="own= answers other questions"):
        mk.thought_reliance(*tiny, rows, own=own.iloc[::-1])


def test_the_table_can_be_drawn(table):
    ax = mk.plot_probe(table.reset_index())
    assert [tick.get_text().replace("\n", " ") for tick in ax.get_yticklabels()] == PHANTOM_ROWS
    plt.close("all")


# ---- one thought at a time -------------------------------------------------------------------------------------------


def test_the_answers_after_each_thought_are_predictions_with_its_name(tiny, rows, own, table):
    answers = mk.predict_thoughts(*tiny, rows, own=own)
    assert list(answers["thought"].unique()) == PHANTOM_ROWS and answers["id"].tolist() == list(rows["id"]) * 10
    assert thought_table(answers).set_index("thought").equals(table)
    first, misled = answers[answers["thought"] == "own"], answers[answers["thought"] == "misled"]
    assert first["text"].tolist() == own["text"].tolist() and first["think"].tolist() == own["think"].tolist()
    assert (first["method"] == "base").all() and first["n_tokens"].max() < own["n_tokens"].min()
    assert [thought_of(text) for text in misled["text"]] == thoughts_for(list(rows), own["text"])["misled"]
    with pytest.raises(DataError, match="lack thoughts of some questions"):
        thought_table(answers[1:])
    with pytest.raises(DataError, match="no column 'thought'; pass what predict_thoughts"):
        thought_table(own)


def test_the_letters_after_a_thought_are_those_of_a_reading_of_the_whole(tiny, rows, own):
    ask, whole = mk.thought_asker(*tiny, rows), mk.letter_probabilities(*tiny, rows, format="think-before")
    for row, one in zip(rows, whole.to_dict("records")):
        assert ask(row, thought_of(one["prefix"])).tolist() == pytest.approx(one["probabilities"], abs=1e-5)


def test_what_is_answered_after_any_thought_is_the_most_probable_letter(tiny, rows, own):
    few = rows.select(range(12))
    answers, ask = mk.predict_thoughts(*tiny, few, own=own.head(12)), mk.thought_asker(*tiny, few)
    said = [ask(row, thought_of(row["text"])).argmax() for row in answers.to_dict("records")]
    assert len(said) == 120 and ["ABCD"[place] for place in said] == answers["predicted"].tolist()


def test_a_prompt_is_read_once_and_then_only_thoughts(tiny, rows, monkeypatch):
    read, followed = [], []
    keep_read, keep_follow = Reader.read, prompts.follow

    def follow(core, prefix, of_row, ids, inside):
        followed.append(ids.shape[1])
        return keep_follow(core, prefix, of_row, ids, inside)

    monkeypatch.setattr(Reader, "read", lambda self, *asked: read.append(asked) or keep_read(self, *asked))
    monkeypatch.setattr(prompts, "follow", follow)
    ask = mk.thought_asker(*tiny, rows)
    for thought in ("", "A cyst.", "A mass."):
        for row in (rows[0], rows[1]):
            ask(row, thought)
    assert len(read) == 2 and len(followed) == 6 and max(followed) < 20


def test_other_architectures_adapters_and_models_that_cannot_be_shared_are_asked_too(micro, rows, monkeypatch):
    from peft import get_peft_model

    model, processor = micro
    row, some = rows[0], rows.select(range(2))
    shared = mk.thought_asker(model, processor, some)(row, "A cyst.")
    model.train()
    adapted = mk.thought_asker(get_peft_model(model, mk.lora(rank=2)), processor, some)(row, "A cyst.")
    assert model.training
    monkeypatch.setattr("medr1kit.models.shared_prefix.answering.why_not_read", lambda *_: "for this test")
    whole = mk.thought_asker(model, processor, some)(row, "A cyst.")
    assert shared.sum() == pytest.approx(1) and len(shared) == len(row["options"])
    for other in (whole, adapted):  # B starts at 0
        assert shared.tolist() == pytest.approx(other.tolist(), abs=1e-5)


def test_a_question_that_is_not_there_and_a_format_that_answers_first_are_refused(tiny, rows):
    with pytest.raises(DataError, match="ask= knows no question 'x'"):
        mk.thought_asker(*tiny, rows)({"id": "x"}, "")
    with pytest.raises(DataError, match="use think-before"):
        mk.thought_asker(*tiny, rows, format="no-think")
