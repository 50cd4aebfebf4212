"""Thoughts in the inspector: put in and edited, the letters after them, what was recorded, and what is refused."""

import pandas as pd
import pytest
from test_widgets_base import from_browser
from widget_fakes import HOSTILE, check_safe, control, controls, predictions

import medr1kit as mk
from medr1kit.views.widgets.thought import letters_html
from medr1kit.vqa import DataError

SAID = [f"<think>one two three four {k}</think><answer>B</answer>" for k in range(4)]
EVIL = [text for name, text in HOSTILE.items() if name != "half"]


@pytest.fixture(autouse=True)
def live(monkeypatch):
    monkeypatch.delenv("MEDR1KIT_STATIC", raising=False)


class Ask:
    """A model that believes a thought's last word; it counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, row, thought):
        self.asked.append((row["id"], thought))
        named = [1 + 7 * thought.endswith(option) for option in row["options"]]
        return [one / sum(named) for one in named]


@pytest.fixture
def ask():
    return Ask()


@pytest.fixture
def panel(ask):
    return mk.inspect_outputs(predictions(SAID), ask=ask)


# ---- pure ------------------------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_the_letters_are_probable_and_the_gold_one_is_marked():
    row = predictions(SAID[:1]).iloc[0].to_dict()
    html = letters_html(row, [0.25, 0.5, 0.25], [0.05, 0.125, 0.825])
    assert [part.split("em")[0] for part in html.split("width:")[1:]] == [
        "2.00",
        "0.40",
        "4.00",
        "1.00",
        "2.00",
        "6.60",
    ]
    assert html.count("mk-bar mk-good") == 2 and html.count("mk-gold") == 1
    text = check_safe(html).all
    assert "B) brain ✓ gold 50.0 % 12.5 % -37.5 points" in text and "C) lung 25.0 % 82.5 % +57.5 points" in text
    assert "points" not in letters_html(row, [0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
    assert "doubt" not in html, "the table says B, and so does ask="


def test_another_model_than_the_one_that_answered_is_noticed():
    row = predictions(SAID[:1]).iloc[0].to_dict()
    told = check_safe(letters_html(row, [0.1, 0.2, 0.7], [0.1, 0.2, 0.7])).texts["doubt"]
    assert told == ["The table says B after its own thought, ask= says C: of another model, perhaps."]
    assert "doubt" not in letters_html(row | {"predicted": None}, [0.1, 0.2, 0.7], [0.1, 0.2, 0.7])


# ---- asked -----------------------------------------------------------------------------------------------------------


def test_its_own_thought_stands_there_until_another_is_put_in(panel, ask):
    assert panel.thought == "one two three four 0" and "points" not in panel.letters()
    panel.think("it is the lung")
    assert "C) lung 33.3 % 80.0 % +46.7 points" in check_safe(panel.letters()).all
    panel.next()
    assert panel.thought == "one two three four 1" and "points" not in panel.letters()
    panel.previous()
    assert panel.thought == "it is the lung" and panel.edited == {"q0": "it is the lung"}
    assert set(ask.asked) == {("q0", "one two three four 0"), ("q0", "it is the lung"), ("q1", "one two three four 1")}
    assert len(ask.asked) == len(set(ask.asked)), "the same is asked once"


def test_each_button_puts_in_the_thought_of_its_name(panel):
    true = mk.load_vqa("phantoms", split="test", n=1)["rationale"][0]
    assert panel.root and control(panel, "thought").value == "one two three four 0"
    for name, thought in {
        **{"empty": "", "first-quarter": "one", "first-half": "one two", "first-three-quarters": "one two three four"},
        **{"another-s": "one two three four 2", "true": true, "facts": true.split(" So")[0]},
        "own": "one two three four 0",
    }.items():
        control(panel, f"put-{name}").click()
        assert control(panel, "thought").value == panel.thought == thought, name
    control(panel, "put-misled").click()
    wrong = panel.thought.rpartition("So the answer is ")[2]
    assert wrong in ("liver", "lung"), "the gold is brain"
    assert f") {wrong} 33.3 % 80.0 % +46.7 points" in check_safe(control(panel, "letters").value).all
    with pytest.raises(DataError, match="no thought 'half' here; use one of own, empty, first quarter"):
        panel.put("half")


def test_what_is_typed_in_a_browser_is_asked_at_once(panel):
    assert panel.root
    from_browser(control(panel, "thought"), value="brain")
    assert "B) brain ✓ gold 33.3 % 80.0 % +46.7 points" in check_safe(control(panel, "letters").value).all
    assert "Thought: brain" in check_safe(panel.static()).texts["thought"][0]


def test_other_data_than_phantoms_have_no_true_thoughts():
    panel = mk.inspect_outputs(predictions(SAID, source="slake", image_id="x{}"), ask=Ask())
    assert list(panel.thoughts()) == [
        "own",
        "empty",
        "first quarter",
        "first half",
        "first three quarters",
        "another's",
    ]
    assert panel.root and not controls(panel, "put-true") and controls(panel, "put-another-s")


def test_only_who_thinks_first_can_be_asked_and_the_last_one_shown_is():
    tables = [predictions(SAID), predictions(["<think>after</think><answer>B</answer>"] * 4, "sft")]
    tables.append(predictions(["<answer>B</answer>"] * 4, "grpo", "no-think"))
    panel = mk.inspect_outputs(*tables, ask=Ask())
    assert panel.root and panel.thought == "after"
    panel.show(1, 2)
    assert panel.shown[:2] == [0, 2]
    panel.show(2, None)
    assert panel.thought == "one two three four 0" and panel.letters()
    panel.show(0, 2)
    assert (panel.thought, panel.letters(), panel.thoughts()) == ("", "", {})
    assert control(panel, "thought").disabled and control(panel, "put-empty").disabled
    panel.show(0, 0)
    panel.search("nowhere")
    assert control(panel, "thought").disabled and panel.letters() == ""
    alone = mk.inspect_outputs(tables[2], ask=Ask())
    assert alone.root and not controls(alone, "thought"), "nobody here thinks first"


def test_what_cannot_be_asked_is_said_in_place_of_the_bars():
    def stranger(row, thought):
        raise DataError("ask= knows no question 'q0'")

    for ask, said in ((stranger, "ask= knows no question 'q0'"), (lambda *_: [1.0], "gave 1 probabilities of 3")):
        panel = mk.inspect_outputs(predictions(SAID), ask=ask)
        assert said in check_safe(panel.static()).all
        assert panel.root and said in check_safe(control(panel, "letters").value).all
        panel.next()


# ---- recorded --------------------------------------------------------------------------------------------------------


def recorded(*thoughts):
    tables = [predictions([f"<think>{thought}</think><answer>B</answer>"] * 4) for thought in thoughts]
    return pd.concat([table.assign(thought=f"t{k}") for k, table in enumerate(tables)])


def test_without_a_model_the_recorded_answers_are_shown_and_without_these_nothing():
    plain = mk.inspect_outputs(predictions(SAID))
    assert plain.letters() == "" and "Thought" not in plain.static() and plain.root and not controls(plain, "letters")
    panel = mk.inspect_outputs(predictions(SAID), thoughts=recorded("", "it is so"))
    [shown] = check_safe(panel.static()).texts["thoughts"]
    assert "t0(empty)B) brain right" in shown and "t1it is soB) brain right" in shown and not controls(panel, "thought")
    part = mk.inspect_outputs(predictions(SAID), thoughts=recorded("it is so").query("id == 'q1'"))
    assert 'data-mk="thoughts"' not in part.html()
    part.next()
    assert 'data-mk="thoughts"' in part.html()


def test_both_are_shown_where_both_are_given():
    panel = mk.inspect_outputs(predictions(SAID), ask=Ask(), thoughts=recorded("it is so"))
    assert {"thoughts", "chances"} <= check_safe(panel.static()).texts.keys()


def test_hostile_thoughts_are_text():
    panel = mk.inspect_outputs(predictions(EVIL), ask=Ask(), thoughts=recorded(*(text[:2000] for text in EVIL)))
    assert panel.root
    for text in EVIL:
        panel.think(text)
        check_safe(control(panel, "letters").value)
        check_safe(panel.static())
        panel.next()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ask": "tiny"}, "ask is the text 'tiny'; give what thought_asker"),
        ({"thoughts": predictions(SAID)}, "no column 'thought'; pass what predict_thoughts"),
        ({"thoughts": recorded("x").assign(id=list("abcd"))}, "thoughts= holds none of these questions"),
    ],
)
def test_what_is_no_function_and_no_record_is_refused(given, said):
    with pytest.raises(DataError, match=said):
        mk.inspect_outputs(predictions(SAID), **given)
