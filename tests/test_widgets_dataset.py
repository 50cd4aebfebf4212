"""The panel of a data set: filters, the flags of an audit, and images decoded a page at a time."""

import csv
import tracemalloc

import datasets
import numpy as np
import pytest
from widget_fakes import HOSTILE, check_safe, control

import medr1kit as mk
from medr1kit.audits.flagged import Flagged
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.dataset import PAGE, explore_data
from medr1kit.vqa import DataError


@pytest.fixture(scope="module")
def sides():
    """40 training and 40 test phantoms; one test row is a training row, one has two equal options."""
    train, test = (mk.load_vqa("phantoms", split=split, n=40, size=28) for split in ("train", "test"))
    rows = [dict(row) for row in test]
    rows[3] = dict(train[5])
    rows[7] |= {"options": ["left", "Left", "right", "lower"], "answer": "A"}
    return train, datasets.Dataset.from_list(rows, features=test.features)


@pytest.fixture(scope="module")
def report(sides):
    return mk.audit(*sides)


@pytest.fixture
def decoded(monkeypatch):
    """The ids of the images that were fetched, in order."""
    seen, once = [], Pictures._image
    monkeypatch.setattr(Pictures, "_image", lambda *given: seen.append(given[1]) or once(*given))
    return seen


def table(rows):
    plain = {"question": "What?", "options": ["liver", "brain"], "answer": "B", "modality": "CT", "task": None}
    return datasets.Dataset.from_list(
        [{"id": f"r{i}", "image_id": f"p{i}.png"} | plain | row for i, row in enumerate(rows)]
    )


# --- flags ------------------------------------------------------------------------------------------------------------


def test_flags_name_the_rows_of_the_audit(sides, report):
    flagged = Flagged(sides[1], report)
    assert 3 in flagged.flags["whole row in training"] and "image in training" in flagged.flags_of(3)
    assert flagged.flags["repeated options"].tolist() == [7] and "near-duplicate options" in flagged.flags_of(7)
    assert flagged.flags["hard subset"].tolist() == report.rows["hard_subset_n"].tolist()
    assert not any(name.startswith(("train ", "test ")) for name in flagged.flags)


def test_the_training_side_has_the_flags_of_training(sides, report):
    flagged = Flagged(sides[0], report, side="train")
    assert "hard subset" not in flagged.flags and "image in training" not in flagged.flags
    rows = {name.removeprefix("train_"): rows for name, rows in report.rows.items() if name.startswith("train_")}
    assert sum(map(len, flagged.flags.values())) == sum(map(len, rows.values()))


def test_an_audit_of_other_data_is_refused(sides, report):
    with pytest.raises(DataError, match="the audit's test side has 40 rows, the data has 39"):
        explore_data(sides[1].select(range(39)), report)
    with pytest.raises(DataError, match="with other ids"):
        explore_data(sides[0], report)
    with pytest.raises(DataError, match="side='val'"):
        explore_data(sides[1], report, side="val")


def test_filters_add_up(sides, report):
    flagged = Flagged(sides[1], report)
    oct_rows = flagged.chosen(modality="OCT")
    assert set(np.array(sides[1]["modality"])[oct_rows]) == {"OCT"}
    both = flagged.chosen(modality="OCT", task="Lesion Grading")
    assert set(both) == set(oct_rows) & set(flagged.chosen(task="Lesion Grading")) and len(both) == 1
    hit, none = flagged.chosen(flag="any flag"), flagged.chosen(flag="no flag")
    assert 3 in hit and 7 in hit and sorted([*hit, *none]) == list(range(40))
    assert flagged.chosen(flag="repeated options").tolist() == [7]
    assert 7 in flagged.chosen(text="LEFT") and flagged.chosen(text="no such text").tolist() == []
    assert flagged.chosen(text=sides[1]["id"][9].upper()).tolist() == [9]


def test_rows_without_modality_and_task_count_as_unknown():
    panel = explore_data(table([{}, {"modality": None}]))
    there = {name: [value for _, value in control(panel, name).options] for name in ("modality", "task")}
    assert there == {"modality": ["all", "CT", "unknown"], "task": ["all", "unknown"]}
    panel.choose_modality("unknown")
    assert panel.rows.tolist() == [1]
    assert check_safe(panel.static()).texts["counts"] == ["unknownCT1unknown1"]


# --- the panel --------------------------------------------------------------------------------------------------------


def test_only_the_images_of_the_page_are_decoded_and_each_once(sides, report, decoded):
    panel = explore_data(sides[1], report)
    assert decoded == []
    panel._repr_mimebundle_(), panel.static()
    ids = sides[1]["id"]
    assert decoded == [*ids[:PAGE], ids[0]]  # twelve thumbnails, and the open one larger
    panel.next_question()
    assert decoded[PAGE + 1 :] == [ids[1]]
    panel.turn(-1)
    assert decoded[PAGE + 2 :] == [*ids[36:], ids[36]]


def test_filtering_and_counting_decode_nothing(sides, report, decoded, monkeypatch):
    monkeypatch.setattr(Pictures, "_html", lambda *_: "")
    panel = explore_data(sides[1], report)
    panel.root  # noqa: B018 - builds it
    panel.choose_flag("any flag"), panel.search("lesion"), panel.choose_task("Disease Diagnosis"), panel.turn(1)
    assert decoded == []


def test_counts_say_how_many_have_the_flag(sides, report):
    panel = explore_data(sides[1], report)
    panel.choose_flag("repeated options")
    seen = check_safe(panel.static())
    assert "in brackets those with: repeated options" in seen.all
    assert seen.texts["counts"][0].count("(1)") == 1 and "repeated options 1" in seen.texts["all-flags"][0]
    assert "repeated options" in seen.texts["flags"][0]


def test_controls_choose_filters_pages_and_questions(sides, report):
    panel = explore_data(sides[1], report)
    panel.root  # noqa: B018
    _title, _table, filters, pages, _thumbs, chooser, *_ = panel.root.children
    filters.children[0].value = "CT"
    assert set(np.array(sides[1]["modality"])[panel.rows]) == {"CT"} and panel.row == panel.rows[0]
    filters.children[0].value = "all"
    pages.children[1].click()
    assert (
        panel.page == 1
        and panel.row == PAGE == control(panel, "question").value
        and "page 2 of 4" in control(panel, "thumbs").value
    )
    chooser.children[0].value = PAGE + 3
    assert panel.row == PAGE + 3 and sides[1]["id"][PAGE + 3] in control(panel, "open").value
    chooser.children[1].click()
    assert panel.row == PAGE + 2
    panel.open(0), panel.previous_question()
    assert panel.row == 39 and panel.page == 3


def test_no_question_left_is_said(sides):
    panel = explore_data(sides[0])
    panel.root  # noqa: B018
    panel.search("there is no such text")
    assert (
        "No question passes" in control(panel, "thumbs").value and control(panel, "note").disabled and panel.row is None
    )
    panel.turn(1), panel.next_question(), panel.note("x")
    assert panel.notes == {}
    with pytest.raises(DataError, match="nothing to save"):
        panel.export("x.csv")


def test_notes_stay_with_their_question_and_go_to_the_file(sides, report, tmp_path):
    panel = explore_data(sides[1], report)
    panel.root  # noqa: B018
    panel.choose_flag("repeated options")
    control(panel, "note").value = "=two equal options"
    panel.choose_flag("all")
    assert control(panel, "note").value == "" and panel.notes == {7: "=two equal options"}
    panel.open(7)
    assert control(panel, "note").value == "=two equal options"
    panel.choose_flag("repeated options")
    control(panel, "file").value = str(tmp_path / "selection.csv")
    control(panel, "save").click()
    assert "saved 1 questions" in control(panel, "said").value
    [row] = csv.DictReader((tmp_path / "selection.csv").open(encoding="utf-8-sig"))
    assert row["id"] == sides[1]["id"][7] and row["row"] == "7" and row["note"] == "'=two equal options"
    assert row["options"].startswith("A) left | B) Left") and "near-duplicate options" in row["flags"]
    control(panel, "save").click()
    assert "exists and may hold notes" in control(panel, "said").value
    control(panel, "note").value = " "
    assert panel.notes == {}


def test_data_without_images_says_so_and_phantoms_are_drawn(sides):
    assert "image not given" in check_safe(explore_data(table([{}])).static()).all
    bare = sides[1].remove_columns("image")
    assert "image not given" not in explore_data(bare).static()


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "half"])  # arrow holds no half of a pair
def test_hostile_text_is_shown_as_text(kind, tmp_path):
    text = HOSTILE[kind][:100_000]
    row = {"question": text, "options": [text[:500], "brain"], "id": text[:60], "source": text[:50]}
    panel = explore_data(table([row | {"modality": text[:30]}]))
    panel.note(text)
    check_safe(panel.static())
    panel.root  # noqa: B018
    check_safe(control(panel, "open").value), check_safe(control(panel, "thumbs").value)
    panel.export(tmp_path / "x.csv")


def test_the_static_form_is_the_first_view_without_controls(sides, report, monkeypatch):
    monkeypatch.setenv("MEDR1KIT_STATIC", "1")
    panel = explore_data(sides[1], report)
    monkeypatch.setattr(type(panel), "build", None)  # no control is made
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"].startswith("40 of 40 questions; flags: ")
    assert check_safe(bundle["text/html"]).elements.count("img") == PAGE + 1


def test_twenty_thousand_questions_take_little_memory(decoded):
    n = 20_000
    columns = {"id": [f"r{i}" for i in range(n)], "image_id": [f"p{i // 3}.png" for i in range(n)]}
    columns |= {"question": ["What is seen in this image of the body?"] * n, "answer": ["B"] * n}
    columns |= {
        "options": [[f"liver {i}", "brain", "lung"] for i in range(n)],
        "modality": ["CT"] * n,
        "task": [None] * n,
    }
    ds = datasets.Dataset.from_dict(columns)
    tracemalloc.start()
    panel = explore_data(ds)
    panel._repr_mimebundle_()
    panel.search("liver 19999")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert panel.rows.tolist() == [19_999] and peak < 40e6


def test_no_rows_are_said_and_no_options_are_no_reason_to_fail(sides):
    with pytest.raises(DataError, match="ds has no rows; a filter may have left nothing over"):
        explore_data(sides[1].select([]))
    bare = sides[1].select(range(2)).remove_columns(["options", "image"]).add_column("options", [None, None])
    panel = explore_data(bare)
    panel.search("what")
    assert panel.root and check_safe(panel.static())


def test_what_is_no_split_and_no_audit_is_said(sides):
    for given, said in (
        (sides[1].remove_columns("image").to_pandas(), "a DataFrame; load it first"),
        (datasets.DatasetDict(test=sides[1]), "choose a split"),
        ("phantoms", "the text 'phantoms'; load it first"),
        (None, "expected the data set that load_vqa"),
    ):
        with pytest.raises(DataError, match=said):
            explore_data(given)
    for report in ("report.json", sides[1], sides[1].remove_columns("image").to_pandas()):
        with pytest.raises(DataError, match=r"pass what medr1kit.audit"):
            explore_data(sides[1], report)


def test_the_open_question_is_marked_without_a_style_too(sides):
    panel = explore_data(sides[1])
    panel.open(1)
    assert "<b>row 1</b>" in panel.static() and "<b>row 0</b>" not in panel.static()


def test_gold_is_hidden_until_it_is_revealed_question_by_question(sides):
    panel = explore_data(sides[1])
    panel.root  # noqa: B018
    shown = control(panel, "open")
    assert "✓ gold" in shown.value and control(panel, "reveal").disabled
    control(panel, "hide").value = True
    seen = check_safe(shown.value)
    assert "gold" not in seen.texts and seen.texts["id"] == [""] and "flags" not in seen.texts
    assert sides[1]["question"][0] in seen.texts["question"] and sides[1]["rationale"][0] not in seen.all
    control(panel, "reveal").click()
    assert "✓ gold" in shown.value and control(panel, "reveal").disabled
    panel.next_question()
    assert "✓ gold" not in shown.value and not control(panel, "reveal").disabled
    control(panel, "hide").value = False
    assert "✓ gold" in shown.value
