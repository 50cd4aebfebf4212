"""The inspector: filters, steps, notes and the selection as CSV, with a browser's messages and without a browser."""

import io
import re
import tracemalloc

import datasets
import pandas as pd
import PIL.Image
import pytest
from test_widgets_base import from_browser
from widget_fakes import HOSTILE, check_safe, control, predictions

import medr1kit as mk
from medr1kit.data.images import MedicalImage
from medr1kit.views.widgets.base import VIEW
from medr1kit.vqa import DataError

RIGHT, WRONG = "<think>x</think><answer>B</answer>", "<think>x</think><answer>A</answer>"
BEFORE = [RIGHT, RIGHT, WRONG, WRONG, "perhaps", WRONG]
TEXTS = [text for name, text in HOSTILE.items() if name != "half"]  # pandas 3 holds no half characters
AFTER = [RIGHT, WRONG, RIGHT, WRONG, RIGHT, "<think>a tumour</think><answer>C</answer>"]


@pytest.fixture(autouse=True)
def live(monkeypatch):
    monkeypatch.delenv("MEDR1KIT_STATIC", raising=False)


@pytest.fixture
def inspector():
    panel = mk.inspect_outputs(predictions(BEFORE), predictions(AFTER, "grpo"))
    panel.go(1)
    return panel


def ids(inspector):
    return [str(inspector.answers.ids[k]) for k in inspector.selection]


def texts(inspector):
    return check_safe(inspector.static()).texts


def test_a_question_is_shown_with_its_options_and_answers_side_by_side(inspector):
    inspector.go(3)
    seen = check_safe(inspector.static())
    assert seen.texts["id"] == ["q2 · CT · Anatomy Identification"]
    assert seen.texts["gold"] == ["B) brain ✓ gold ← grpo"] and seen.texts["options"][0].startswith("A) liver ← base")
    assert seen.texts["verdict"] == ["wrong", "right"] and seen.elements.count("img") == 1
    assert all("because the answer block holds the letter" in text for text in seen.texts["answer"])
    assert inspector.summary() == "6 of 6 questions answered by base, grpo; 0 notes"


def test_filters_count_and_combine(inspector):
    assert "fixed 2, broken 1, both wrong 2, both right 1, malformed 1, disagree 4" in texts(inspector)["status"][0]
    inspector.choose_kind("fixed")
    assert ids(inspector) == ["q2", "q4"]
    inspector.choose_modality("MRI")
    assert ids(inspector) == [] and texts(inspector)["none"] and "0 of 6" in texts(inspector)["status"][0]
    inspector.choose_modality("all")
    inspector.choose_kind("all")
    inspector.search("TUMOUR")
    assert ids(inspector) == ["q5"]
    inspector.search("")
    inspector.choose_task("Anatomy Identification")
    assert len(ids(inspector)) == 6


def test_a_filter_keeps_the_question_that_is_read_if_it_can(inspector):
    inspector.go(5)
    inspector.choose_kind("fixed")
    assert (inspector.key(), inspector.position) == ("q4", 1)
    inspector.choose_kind("broken")
    assert (inspector.key(), inspector.position) == ("q1", 0)


def test_steps_stop_at_the_ends(inspector):
    inspector.previous()
    assert inspector.position == 0
    for _ in range(9):
        inspector.next()
    assert inspector.position == 5
    inspector.go(-3)
    assert inspector.position == 0


def test_the_controls_of_a_browser_do_the_same(inspector):
    root = inspector.root
    assert "mk-panel" in root._dom_classes
    from_browser(control(inspector, "kind"), index=1)
    assert inspector.kind == "fixed" and 'data-mk="id">q2' in control(inspector, "main").value
    assert (control(inspector, "number").max, control(inspector, "slider").max) == (2, 2)
    from_browser(control(inspector, "slider"), value=2)
    assert 'data-mk="id">q4' in control(inspector, "main").value and control(inspector, "number").value == 2
    from_browser(control(inspector, "number"), value=1)
    assert 'data-mk="id">q2' in control(inspector, "main").value
    from_browser(control(inspector, "search"), value="tumour")
    assert 'data-mk="none"' in control(inspector, "main").value and control(inspector, "note").disabled
    from_browser(control(inspector, "search"), value="")
    from_browser(control(inspector, "kind"), index=0)
    previous, after = control(inspector, "previous"), control(inspector, "next")
    after.click()
    assert inspector.position == 3
    previous.click()
    assert inspector.position == 2


def test_shrinking_the_selection_draws_one_question_once(inspector, monkeypatch):
    assert inspector.root
    inspector.go(6)
    drawn = []
    monkeypatch.setattr(type(inspector.pictures), "html", lambda self, row, size=224: drawn.append(row["id"]) or "")
    from_browser(control(inspector, "kind"), index=2)
    assert drawn == ["q1"] and inspector.position == 0


def test_which_answers_are_shown_can_be_chosen():
    frames = [predictions([WRONG] * 2), predictions([RIGHT] * 2, "sft"), predictions([RIGHT, WRONG], "grpo")]
    inspector = mk.inspect_outputs(*frames, predictions([RIGHT, RIGHT], "dpo"))
    assert inspector.shown == [0, 1] and texts(inspector)["verdict"] == ["wrong", "right"]
    assert inspector.root and [control(inspector, f"show-{place}").value for place in ("first", "second", "third")] == [
        0,
        1,
        -1,
    ]
    from_browser(control(inspector, "show-third"), index=2)
    assert inspector.shown == [0, 1, 2] and control(inspector, "main").value.count("mk-cell") > 3
    assert "fixed 1, broken 0" in texts(inspector)["status"][0], "from the first to the last"
    from_browser(control(inspector, "show-third"), index=4)
    from_browser(control(inspector, "show-first"), index=3)
    assert inspector.shown == [3, 1]
    with pytest.raises(DataError, match="no answerer None"):
        inspector.show(0, None)
    with pytest.raises(DataError, match="no answerer 4; they are numbered 0 to 3"):
        inspector.show(1, 4)
    assert inspector.shown == [3, 1]


def test_three_answerers_are_shown_at_once_and_one_alone_has_filters_of_its_own():
    table = pd.concat([predictions(BEFORE), predictions(AFTER, "sft"), predictions(AFTER, format="no-think")])
    assert len(texts(mk.inspect_outputs(table))["verdict"]) == 3
    alone = mk.inspect_outputs(predictions(BEFORE))
    assert alone.root and alone.kinds() == ("all", "right", "wrong", "malformed", "with a note")
    alone.choose_kind("wrong")
    assert ids(alone) == ["q2", "q3", "q4", "q5"] and texts(alone)["verdict"] == ["wrong"]
    with pytest.raises(DataError, match="unknown filter 'fixed'; use one of all, right"):
        alone.choose_kind("fixed")
    assert alone.kind == "wrong"


def test_a_question_that_one_side_did_not_answer_is_shown():
    inspector = mk.inspect_outputs(predictions(BEFORE), predictions(AFTER, "grpo").iloc[1:])
    inspector.go(1)
    assert "not answered" in check_safe(inspector.static()).all and len(texts(inspector)["verdict"]) == 1


def test_notes_stay_with_their_question(inspector):
    assert inspector.root
    from_browser(control(inspector, "note"), value="the marker gives it away")
    inspector.next()
    assert control(inspector, "note").value == ""
    from_browser(control(inspector, "note"), value="<script>")
    assert inspector.notes == {"q0": "the marker gives it away", "q1": "<script>"}
    assert texts(inspector)["note"] == ["Note: <script>"]
    inspector.choose_kind("with a note")
    assert ids(inspector) == ["q0", "q1"]
    from_browser(control(inspector, "note"), value=" ")
    assert list(inspector.notes) == ["q0"]
    inspector.previous()
    assert control(inspector, "note").value == "the marker gives it away"


# --- the selection as a file ------------------------------------------------------------------------------------------


def test_the_selection_is_saved_with_its_notes(inspector, tmp_path):
    inspector.note("seen")
    inspector.choose_kind("disagree")
    sheet = pd.read_csv(inspector.export(tmp_path / "s.csv"), dtype=str, keep_default_na=False)
    assert sheet["id"].tolist() == ["q1", "q2", "q4", "q5"]
    assert sheet["options"][0] == "A) liver | B) brain | C) lung" and set(sheet["gold"]) == {"B"}
    assert sheet["base predicted"].tolist() == ["B", "A", "", "A"]
    assert sheet["grpo correct"].tolist() == ["False", "True", "True", "False"]
    assert sheet["grpo completion"].tolist() == [AFTER[k] for k in (1, 2, 4, 5)]
    inspector.choose_kind("all")
    sheet = pd.read_csv(inspector.export(tmp_path / "all.csv"), keep_default_na=False)
    assert sheet["note"].tolist() == ["seen", *[""] * 5]


def test_no_cell_is_a_formula_and_no_character_breaks_the_file(tmp_path):
    formulas = ["=cmd()", "+1", "-1", "@x", "\t=1", "'=1", 'a"\r\n=b', ";=1", "  =1", "\u3000\uff1d1", "b; @1", *TEXTS]
    inspector = mk.inspect_outputs(predictions(formulas, "=HYPERLINK()"), predictions(formulas, "sft"))
    inspector.note("=1+1")
    path = inspector.export(tmp_path / "s.csv")
    sheet = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert len(sheet) == len(formulas)
    cells = [*sheet.columns, *sheet.to_numpy().ravel()]
    assert not [cell for cell in cells if re.match(r"[\s;]*[=+@\uff1d\uff0b\uff20-]|[\t\r]|[^\r\n]*; *[=+@]", cell)]
    assert sheet["note"][0] == "'=1+1" and sheet["sft completion"][0] == "'=cmd()"
    assert "\0" not in path.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"data": datasets.Dataset.from_list([{"id": "x", "image": PIL.Image.new("RGB", (4, 4))}])},
            "no id of the answers",
        ),
        ({"data": "exam.json"}, "data is the text 'exam.json'; load it first"),
        ({"data": datasets.Dataset.from_list([{"id": "q0"}])}, "data has no images"),
        ({"names": "ab"}, "names is the text 'ab'; give a list of texts"),
        ({"names": ["a", 1]}, "give a list of texts"),
    ],
)
def test_what_cannot_be_joined_or_named_is_said(more, said):
    with pytest.raises(DataError, match=said):
        mk.inspect_outputs(predictions(["A"]), predictions(["B"], "sft"), **more)


def test_a_file_that_is_there_is_not_overwritten(inspector, tmp_path):
    path = inspector.export(tmp_path / "s.csv")
    with pytest.raises(DataError, match="may hold notes"):
        inspector.export(path)
    with pytest.raises(DataError, match="cannot be written"):
        inspector.export(path / "s.csv")
    with pytest.raises(DataError, match=r"does not end in .csv"):
        inspector.export(tmp_path / "s.xlsx")
    assert inspector.export(tmp_path / "new" / "s.csv").exists()
    inspector.search("nowhere")
    with pytest.raises(DataError, match="no question is left"):
        inspector.export(tmp_path / "t.csv")


def test_the_save_button_says_what_it_did(inspector, tmp_path):
    assert inspector.root
    from_browser(control(inspector, "file"), value=str(tmp_path / "s.csv"))
    control(inspector, "save").click()
    assert "saved 6 questions" in check_safe(control(inspector, "said").value).texts["said"][0]
    control(inspector, "save").click()
    assert "may hold notes" in check_safe(control(inspector, "said").value).texts["said"][0]


# --- hostile, large, static -------------------------------------------------------------------------------------------


def test_hostile_text_is_text_wherever_it_stands():
    evil = TEXTS
    frames = [predictions(evil).assign(method=method) for method in ("<script>base", "\0grpo")]
    frames = [frame.assign(question=evil, options=[[text, "x", text] for text in evil]) for frame in frames]
    frames = [frame.assign(id=[f"<b>{k}" for k in range(len(evil))], modality=evil, image_id=evil) for frame in frames]
    inspector = mk.inspect_outputs(*frames)
    assert inspector.root
    for _ in evil:
        inspector.note(evil[0])
        check_safe(control(inspector, "main").value)
        inspector.next()
    inspector.go(1)
    check_safe(inspector.static())
    assert inspector.notes.keys() == {f"<b>{k}" for k in range(len(evil))}


@pytest.fixture
def decoded(monkeypatch):
    """The images that were decoded since."""
    seen, decode = [], MedicalImage.decode_example

    def counting(self, value, token_per_repo_id=None):
        seen.append(value["path"])
        return decode(self, value, token_per_repo_id)

    monkeypatch.setattr(MedicalImage, "decode_example", counting)
    return seen


def with_images(n):
    file = io.BytesIO()
    PIL.Image.new("RGB", (28, 28)).save(file, "PNG")
    features = {"id": datasets.Value("string"), "image": MedicalImage()}
    rows = {"id": [f"q{k}" for k in range(n)], "image": [{"bytes": file.getvalue(), "path": f"{k}"} for k in range(n)]}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_images_are_decoded_when_they_are_shown_and_no_others(inspector, decoded):
    data = with_images(6)
    decoded.clear()
    inspector = mk.inspect_outputs(predictions(BEFORE), predictions(AFTER, "grpo"), data=data)
    inspector.go(1)
    assert decoded == []
    inspector._repr_mimebundle_()
    assert decoded == ["0"], "for the view and for the static form together"
    inspector.choose_kind("fixed")
    inspector.search("picture")
    inspector.next()
    assert decoded == ["0", "2", "4"]


def test_twenty_thousand_predictions_are_not_copied(decoded):
    frames = [predictions([RIGHT, WRONG] * 10_000, method) for method in ("base", "grpo")]
    tracemalloc.start()
    inspector = mk.inspect_outputs(*frames)
    inspector._repr_mimebundle_()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert inspector.answers.answerers[1].frame is frames[1]
    assert held < 20e6, f"{held / 1e6:.0f} MB"


def test_a_cell_has_a_view_and_a_static_form_without_scripts(inspector, monkeypatch):
    bundle = inspector._repr_mimebundle_()
    assert set(bundle) == {VIEW, "text/html", "text/plain"}
    monkeypatch.setenv("MEDR1KIT_STATIC", "1")
    assert set(inspector._repr_mimebundle_()) == {"text/html", "text/plain"}
    assert check_safe(bundle["text/html"]).texts["question"] == ["What is shown in picture 0?"]


def test_recorded_answers_can_be_inspected():
    recorded = mk.recorded("clinic/answers", asked="A", part=["", "machine"], method=["base", "grpo"])
    inspector = mk.inspect_outputs(recorded)
    assert len(inspector.answers.answerers) > 2
    assert len(texts(inspector)["verdict"]) == len(inspector.shown)


def test_a_search_in_a_selection_that_is_empty_finds_nothing(inspector):
    inspector.choose_kind("fixed")
    inspector.choose_modality("MRI")
    assert ids(inspector) == []
    inspector.search("tumour")
    assert ids(inspector) == [] and texts(inspector)["none"]


@pytest.mark.parametrize("given", [None, [1, 2], {"id": ["a"]}])
def test_what_is_no_table_of_predictions_is_said(given):
    with pytest.raises(DataError, match="predict"):
        mk.inspect_outputs(given)


@pytest.mark.parametrize("options", [["liver", None, "lung"], ["liver", 3, "lung"], "abc"])
def test_options_that_are_no_texts_are_said(options):
    frame = predictions(["<answer>B</answer>"] * 2)
    with pytest.raises(DataError, match="option"):
        mk.inspect_outputs(frame.assign(options=[options] * 2))


def test_missing_names_and_formats_are_no_traceback():
    frame = predictions(["<answer>B</answer>"] * 4)
    gaps = frame.assign(modality=pd.array(["CT", pd.NA, "CT", pd.NA], dtype="string"))
    panel = mk.inspect_outputs(gaps)
    panel.choose_modality("CT")
    assert len(panel.selection) == 2 and check_safe(panel.static())
    with pytest.raises(DataError, match="format"):
        mk.inspect_outputs(frame.assign(format=float("nan")))


def test_hidden_gold_leaves_the_question_and_what_was_written_and_no_verdict(inspector):
    inspector.root  # noqa: B018
    main = control(inspector, "main")
    control(inspector, "hide").value = True
    seen = check_safe(main.value)
    assert not {"gold", "verdict", "answer", "reward", "truth"} & seen.texts.keys() and "✓" not in seen.all
    assert seen.texts["options"] == ["A) liverB) brainC) lung"] and seen.all.count(RIGHT) == 2
    control(inspector, "reveal").click()
    assert check_safe(main.value).texts["gold"] == ["B) brain ✓ gold ← base, grpo"]
    inspector.next()
    assert "gold" not in check_safe(main.value).texts
    inspector.previous()
    assert "gold" in check_safe(main.value).texts, "it was revealed"


# --- where it opens ---------------------------------------------------------------------------------------------------


def test_it_opens_in_the_middle_of_what_was_mended_says_why_and_leaves_all_others_beside():
    panel = mk.inspect_outputs(predictions(BEFORE), predictions(AFTER, "grpo"))
    assert (panel.key(), len(panel.selection), panel.kind) == ("q4", 6, "all")
    said = "of 2 that went from wrong to right (1 went the other way), the one in the middle"
    assert texts(panel)["how"] == [f"This question was chosen by rule: {said}."]
    panel.choose_kind("fixed")
    assert panel.key() == "q4" and "how" in texts(panel)
    panel.previous()
    assert panel.key() == "q2" and "how" not in texts(panel)
    panel.next()
    panel.hide(True)
    assert "how" not in texts(panel), "it would tell the gold"


def test_among_mended_ones_the_middle_is_by_how_true_the_thought_became():
    none, half, all_true = "A cyst of the liver.", "A cyst of the brain.", "A small mass of the brain."
    before = [f"<think>{none}</think><answer>A</answer>"] * 3
    after = [f"<think>{thought}</think><answer>B</answer>" for thought in (half, none, all_true)]
    shown = {"image_id": "CT-test-0-1"}  # a small mass of the brain: q0 gains a half, q1 nothing, q2 all
    panel = mk.inspect_outputs(predictions(before, **shown), predictions(after, "grpo", **shown))
    assert panel.key() == "q0" and texts(panel)["how"][0].endswith("by how much truer the thought became.")


@pytest.mark.parametrize(
    ("before", "after", "opens", "how"),
    [
        ([RIGHT, RIGHT, WRONG], [RIGHT, WRONG, WRONG], "q1", "of 1 that went from right to wrong"),
        ([RIGHT, WRONG, WRONG], [RIGHT, WRONG, "<think>x</think><answer>C</answer>"], "q2", "of 1 with another answer"),
        ([WRONG, RIGHT, RIGHT], [WRONG, RIGHT, RIGHT], "q0", "no answer changed, so the first"),
    ],
)
def test_where_nothing_was_mended_it_opens_at_what_was_broken_or_else_changed(before, after, opens, how):
    panel = mk.inspect_outputs(predictions(before), predictions(after, "grpo"))
    assert panel.key() == opens and how in texts(panel)["how"][0]
    alone = mk.inspect_outputs(predictions(before))
    assert alone.key() == "q0" and "how" not in texts(alone)


def test_a_static_form_begins_with_what_the_panel_is_for_and_its_signs(inspector):
    seen = check_safe(inspector.static())
    assert seen.texts["title"] == ["Read answers side by side"]
    assert all(sign in seen.texts["legend"][0] for sign in ("✓ gold", "←", "✗", "fixed:"))
    assert inspector.root.children[0].value.count(seen.texts["title"][0]) == 1
    assert "fixed:" not in texts(mk.inspect_outputs(predictions(BEFORE)))["legend"][0]
