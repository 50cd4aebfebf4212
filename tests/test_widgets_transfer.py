"""The panel of transfer heat maps: its numbers are those of the tables, and every cell opens."""

import re
import warnings
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from test_widgets_html import contrast
from widget_fakes import HOSTILE, check_safe, control, controls, predictions

import medr1kit as mk
from medr1kit.results.compare import compare_modes, transfer_table
from medr1kit.results.maps import Map, cell_answers, cell_numbers, map_table, maps_of, slim
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.heat import cell_text, colours_of, map_html
from medr1kit.views.widgets.transfer import explore_transfer
from medr1kit.vqa import DataError

TESTED = ("CT", "MRI", "OCT")


def answers(share, format, rng, n=60, **columns):
    """Answers to n questions of three modalities, this share of them right."""
    letters = np.where(rng.random(n) < share, "B", "A")
    think = {"no-think": "<answer>{}</answer>", "think-before": "<think>CT it is, {}</think><answer>{}</answer>"}
    texts = [think[format].replace("{}", letter) for letter in letters]
    places = [TESTED[i % 3] for i in range(n)]
    frame = predictions(texts, format=format, modality=places, task="Disease Diagnosis", **columns)
    return frame.assign(image_id=[f"{place}-test-0-{i}" for i, place in enumerate(places)])


def study(seeds=(0,), formats=("think-before", "no-think"), by="modality", trained=("CT", "MRI")):
    rng, parts = np.random.default_rng(5), []
    for format in formats:
        parts.append(answers(0.3, format, rng))
        for seed in seeds:
            for place, name in enumerate(trained):
                label = {f"train_{by}": name, "train_modality" if by == "task" else "train_task": None}
                share = 0.5 + 0.2 * place + 0.1 * (format == "no-think")
                parts.append(answers(share, format, rng, method="grpo", seed=seed, **label))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def preds():
    return study()


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_gains_and_corrected_p_are_those_of_the_transfer_table(seeds):
    frame = study(seeds, formats=["think-before"])
    whole = transfer_table(frame)
    rows = slim(frame)
    [chosen] = maps_of(rows)
    table = map_table(rows, chosen)
    both = whole.merge(table, on=["train_modality", "modality"], suffixes=("", "_ours"))
    assert len(both) == len(table) == 6
    for ours, theirs in (("difference", "difference"), ("before", "base_accuracy"), ("accuracy", "accuracy")):
        theirs = both[theirs]
        assert np.allclose(both.get(f"{ours}_ours", both[ours]), theirs)
    assert (both["n"] == both["n_ours"]).all() and np.allclose(both["p_corrected"], both["p_corrected_ours"], atol=0.02)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_cell_has_the_intervals_of_the_transfer_table(seeds):
    frame = study(seeds, formats=["think-before"])
    rows = slim(frame)
    [chosen] = maps_of(rows)
    found = cell_numbers(map_table(rows, chosen), chosen, "MRI", "CT")
    whole = transfer_table(frame).query("train_modality == 'MRI' and modality == 'CT'").iloc[0]
    names = {"accuracy_low": "low", "accuracy_high": "high", "before": "base_accuracy", "low": "difference_low"}
    names |= {"high": "difference_high", "low_seeds": "difference_low_seeds", "high_seeds": "difference_high_seeds"}
    for ours in ("n", "seeds", "accuracy", "difference", "p", *names):
        assert found[ours] == pytest.approx(whole[names.get(ours, ours)], nan_ok=True), ours


def test_several_base_seeds_are_paired_as_in_the_transfer_table():
    rng = np.random.default_rng(1)
    base = pd.concat([answers(0.3, "no-think", rng, seed=seed) for seed in (0, 1, 2)])
    frame = pd.concat([base, answers(0.7, "no-think", rng, method="grpo", train_modality="CT", seed=1)])
    rows = slim(frame)
    table = map_table(rows, maps_of(rows)[0])
    whole = transfer_table(frame)
    assert np.allclose(table["difference"], whole["difference"])
    found = cell_numbers(table, maps_of(rows)[0], "CT", "MRI")
    assert found["p"] == pytest.approx(whole.query("modality == 'MRI'")["p"].iloc[0])


def test_differences_of_formats_are_those_of_compare_modes(preds):
    rows = slim(preds)
    chosen = Map("modality", "grpo", "tiny", ("no-think", "think-before"))
    assert chosen in maps_of(rows)
    table, whole = map_table(rows, chosen), compare_modes(preds, "no-think", "think-before")
    assert table["difference"].tolist() == whole["difference"].tolist()
    assert set(table["train_modality"]) == {"CT", "MRI", "untrained"}


def test_the_maps_of_tasks_stand_beside_those_of_modalities():
    frame = pd.concat([study(), study(by="task", trained=["Disease Diagnosis"]).query("method != 'base'")])
    maps = maps_of(slim(frame))
    assert [(one.by, one.formats) for one in maps] == [
        ("modality", ("think-before",)), ("modality", ("no-think",)), ("task", ("think-before",)),
        ("task", ("no-think",)), ("modality", ("no-think", "think-before")), ("task", ("no-think", "think-before")),
    ]  # fmt: skip
    table = map_table(slim(frame), maps[2])
    assert table[["train_task", "task"]].to_numpy().tolist() == [["Disease Diagnosis", "Disease Diagnosis"]]


def test_without_a_base_there_is_accuracy_and_no_difference(preds):
    panel = explore_transfer(preds[preds["method"] != "base"])
    assert panel.table["difference"].isna().all()
    page = check_safe(panel.static())
    assert "accuracy, trained" in page.texts["numbers"][0] and "[–]" in page.texts["map"][0]
    panel.choose_value("accuracy")
    assert panel.table["accuracy"].notna().all()


def test_the_answers_of_a_cell_are_its_own(preds):
    rows = slim(preds)

    def at(chosen, train):
        return cell_numbers(map_table(rows, chosen), chosen, train, "CT")

    sides, names, seed = cell_answers(rows, maps_of(rows)[0], at(maps_of(rows)[0], "MRI"))
    base, trained = (preds.iloc[side] for side in sides)
    assert names == ["base", "trained on MRI"] and seed == 0
    assert set(trained["train_modality"]) == {"MRI"} and set(trained["modality"]) == set(base["modality"]) == {"CT"}
    assert set(base["method"]) == {"base"} and list(base["id"]) == list(trained["id"])
    modes = Map("modality", "grpo", "tiny", ("no-think", "think-before"))
    for train, method in (("MRI", "grpo"), ("untrained", "base")):
        sides, names, _ = cell_answers(rows, modes, at(modes, train))
        assert names == ["think-before", "no-think"] == [preds.iloc[side]["format"].iloc[0] for side in sides]
        assert {method} == {name for side in sides for name in preds.iloc[side]["method"]}


def test_predictions_of_no_trained_model_are_refused(preds):
    with pytest.raises(DataError, match="no model in the predictions was trained on one modality or task"):
        explore_transfer(preds[preds["method"] == "base"])
    with pytest.raises(DataError, match="column"):
        explore_transfer(preds.drop(columns="train_task"))


# --- how it looks -----------------------------------------------------------------------------------------------------


def test_a_cell_says_by_text_what_its_colour_says():
    sure, doubtful = ({"difference": -0.123, "p_corrected": p} for p in (0.01, 0.2))
    assert cell_text(sure, "difference") == "−12.3" and cell_text(doubtful, "difference") == "−12.3?"
    assert cell_text({"difference": float("nan"), "p_corrected": 1}, "difference") == "–"
    low, high = (colours_of({"difference": gain}, "difference") for gain in (-0.9, 0.9))
    assert low == ("#2d004b", "#ffffff") and high == ("#7f3b08", "#ffffff")
    assert colours_of({"difference": 0.0}, "difference") == ("#f7f7f7", "#000000")


def test_the_map_has_its_rows_and_columns_in_order_and_the_chosen_cell_in_brackets(preds):
    panel = explore_transfer(preds)
    seen = check_safe(map_html(panel.table, "modality", "difference", ("MRI", "CT")))
    text = seen.texts["map"][0]
    assert text.startswith("trained ↓ tested →CTMRIOCTCT") and text.count("[") == 1
    assert text.index("[") > text.rindex("MRI")


def test_the_published_map_stands_beside_the_same_difference_only(preds):
    panel = explore_transfer(preds)
    assert "published:" not in panel.static()
    panel.choose_map([one.formats for one in panel.maps].index(("no-think", "think-before")))
    seen = check_safe(panel.static())
    assert "published: no-think minus think" in seen.all and "+16.9" in seen.texts["published-map"][0]
    assert "no test and no interval was published" in seen.all


def buttons(panel):
    """The buttons of the map, by what was trained on and what was tested, as their tips say."""
    found = {re.match("trained on (.*), tested on (.*): ", one.tooltip): one for one in controls(panel, "map-cell")}
    return {name.groups(): button for name, button in found.items()}


# --- the panel --------------------------------------------------------------------------------------------------------


def test_a_cell_is_opened_by_lists_arrows_and_buttons(preds):
    panel = explore_transfer(preds)
    panel.root  # noqa: B018 - builds it
    assert (panel.train, panel.test) == ("CT", "CT")
    control(panel, "test").value = "OCT"
    assert (panel.train, panel.test) == ("CT", "OCT") and "tested on OCT" in control(panel, "cell").value
    panel.move(1, 1)
    assert (panel.train, panel.test) == ("MRI", "CT") == (control(panel, "train").value, control(panel, "test").value)
    buttons(panel)["MRI", "MRI"].click()
    assert (panel.train, panel.test) == ("MRI", "MRI")
    assert "trained on MRI, tested on MRI" in control(panel, "cell").value
    chosen = {cell for cell, button in buttons(panel).items() if "double" in button.layout.border_top}
    assert chosen == {("MRI", "MRI")}
    assert [cell for cell, button in buttons(panel).items() if button.description[0] == "["] == [("MRI", "MRI")]
    assert all(button.description and button.tooltip for button in buttons(panel).values())


def test_a_cell_that_cannot_be_opened_leaves_the_one_that_is_shown(preds):
    odd = preds.copy()
    base = odd["method"].eq("base") & odd["modality"].eq("MRI")
    odd.loc[base, "answer"] = odd.loc[base, "answer"].map(lambda letter: "B" if letter == "A" else "A")
    panel = explore_transfer(odd)
    panel.root.children  # noqa: B018 - the controls are made
    shown = panel.static()
    control(panel, "test").value = "MRI"
    assert "gold" in control(panel, "told").value and (panel.test, control(panel, "test").value) == ("CT", "CT")
    assert panel.static() == shown, "the name of another cell over these numbers"
    panel.close()


def test_another_map_keeps_the_cell_and_closes_the_old_buttons(preds):
    from ipywidgets.widgets import widget

    panel = explore_transfer(preds)
    panel.root  # noqa: B018
    panel.choose_cell("MRI", "OCT")
    before = len(widget._instances)
    old = controls(panel, "map-cell")
    control(panel, "map-choice").value = 1
    assert panel.map.formats == ("no-think",) and (panel.train, panel.test) == ("MRI", "OCT")
    assert all(button.comm is None for button in old)
    control(panel, "value").value = "accuracy"
    row = panel.table.query("train_modality == 'MRI' and modality == 'OCT'").iloc[0]
    assert buttons(panel)["MRI", "OCT"].description == f"[{cell_text(row, 'accuracy')}]"
    assert len(widget._instances) == before, "styles and layouts of closed buttons go with them"


def test_answers_are_filtered_and_leafed_through(preds):
    panel = explore_transfer(preds)
    panel.choose_cell("MRI", "CT")
    wrong, right = (preds["method"].eq(method) & preds["format"].eq("think-before") for method in ("base", "grpo"))
    was = preds[wrong & preds["modality"].eq("CT")].set_index("id")["correct"]
    now = preds[right & preds["modality"].eq("CT") & preds["train_modality"].eq("MRI")].set_index("id")["correct"]
    fixed = sorted(was.index[~was & now.reindex(was.index)], key=lambda name: int(name[1:]))
    panel.choose_kind("fixed")
    assert (
        f"fixed: 1 of {len(fixed)}" in panel.static() and f"{fixed[0]} ·" in check_safe(panel.static()).texts["id"][0]
    )
    panel.next_answer()
    assert fixed[1] in check_safe(panel.static()).texts["id"][0]
    panel.previous_answer(), panel.previous_answer()
    assert panel.place == len(fixed) - 1


def test_what_was_taken_for_what_is_shown(preds):
    panel = explore_transfer(preds)
    text = check_safe(panel.static()).texts["confusion"][0]
    assert "liver" in text and "brain" in text and " of " in text
    assert "seed" not in panel.static()
    panel = explore_transfer(study((3, 4)))
    assert "2 seeds" in panel.static() and "taken for another option, trained, seed 3 only" in panel.static()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_shown_as_text(preds, kind):
    text = HOSTILE[kind][:100_000].replace("\ud800", "?")  # half a pair cannot stand in a column of texts
    frame = preds.assign(text=preds["text"].where(preds["id"] != "q0", text), question=text[:200])
    frame["options"] = [[text[:80], "brain", "lung"] for _ in range(len(frame))]
    frame["train_modality"] = frame["train_modality"].replace("CT", "<script>alert(1)</script>")
    panel = explore_transfer(frame)
    panel.choose_cell("<script>alert(1)</script>", "CT")
    check_safe(panel.static())
    panel.root  # noqa: B018
    for place in (
        control(panel, "about"),
        control(panel, "published"),
        control(panel, "cell"),
        control(panel, "answer"),
    ):
        check_safe(place.value)


def test_only_the_image_of_the_shown_answer_is_drawn(preds, monkeypatch):
    drawn = []
    once = Pictures._image
    monkeypatch.setattr(Pictures, "_image", lambda *given: drawn.append(given[2]) or once(*given))
    panel = explore_transfer(preds)
    assert drawn == []
    panel._repr_mimebundle_(), panel.static()
    assert drawn == ["CT-test-0-0"]
    panel.next_answer()
    assert drawn == ["CT-test-0-0", "CT-test-0-3"]


def test_the_static_form_is_the_first_view_without_controls(preds, monkeypatch):
    live = explore_transfer(preds)
    assert set(live._repr_mimebundle_()) == {"application/vnd.jupyter.widget-view+json", "text/plain", "text/html"}
    monkeypatch.setenv("MEDR1KIT_STATIC", "1")
    panel = explore_transfer(preds)
    monkeypatch.setattr(type(panel), "build", None)  # no control is made
    assert panel._repr_mimebundle_() == {"text/plain": str(panel), "text/html": live.static()}


def test_a_map_warns_of_nothing(preds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panel = explore_transfer(preds)
        for place in range(len(panel.maps)):
            panel.choose_map(place)
            panel.static()


@pytest.mark.parametrize("value", ["difference", "accuracy"])
def test_the_text_of_a_cell_can_be_read_on_its_colour(value):
    for share in np.linspace(0, 1, 101):
        ground, ink = colours_of({"difference": 0.8 * share - 0.4, "accuracy": share}, value)
        assert contrast(ink, ground) >= 4.5, share
    assert contrast(*colours_of(None, value)) >= 4.5


@pytest.mark.parametrize("value", ["difference", "accuracy"])
def test_a_cell_has_the_colour_and_the_ink_that_it_has_in_the_figure(value):
    pairs = list(product(TESTED, TESTED))
    table = pd.DataFrame(pairs, columns=["train_modality", "modality"]).assign(p_corrected=0.01)
    table = table.assign(difference=np.linspace(-0.35, 0.35, 9), accuracy=np.linspace(0, 1, 9))
    ax = mk.plot_transfer(table, value)
    ax.figure.canvas.draw()
    plt.close("all")
    for row, face, text in zip(table.to_dict("records"), ax.collections[0].get_facecolors(), ax.texts, strict=True):
        ground, ink = colours_of(row, value)
        assert np.allclose(to_rgb(ground), face[:3], atol=0.02), row
        assert ink == text.get_color(), row


@pytest.mark.parametrize("column", ["id", "model", "method", "modality", "train_modality", "options", "answer"])
def test_a_column_of_gaps_is_said_in_one_sentence(column, preds):
    with pytest.raises(DataError):
        explore_transfer(preds.assign(**{column: np.nan}))


def test_what_is_no_table_is_said_in_one_sentence():
    with pytest.raises(DataError, match="a table, not a list"):
        explore_transfer([1, 2])
