"""The panel of a run: curves, groups a step at a time, and a run that grows while it is looked at."""

import base64
import json
import math
import re
import threading
import time
import tracemalloc
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from widget_fakes import HOSTILE, control, drawings, safe

import medr1kit as mk
from medr1kit.results.rollouts import Rollouts
from medr1kit.results.runs import RunWriter, load_run
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.curves import curve
from medr1kit.views.widgets.question import groups_of
from medr1kit.views.widgets.run import curves_html, explore_run
from medr1kit.vqa import DataError


def completions(step, questions=("CT-train-0-0-AI", "MRI-train-0-1-DD"), text="said at {step} by {number}", **columns):
    for question in questions:
        for number in range(3):
            row = {"step": step, "id": question, "rollout": number, "question": f"What is in {question}?"}
            row |= {"options": ["liver", "brain"], "answer": "B", "modality": "CT", "task": "Anatomy Identification"}
            row |= {"text": text.format(step=step, number=number), "predicted": "AB"[number % 2]}
            row |= {"accuracy_reward": float(number % 2), "format_reward": 1.0, "advantage": (number - 1) / 2}
            yield row | {"n_tokens": 20, "truncated": number == 2, "used": True} | columns


def log(run, step, **columns):
    run.rollout_rows(completions(step, **columns))
    run.metrics_row({
        "step": step, "reward": 1 + step / 10, "rewards/accuracy_reward/mean": step / 10, "frac_reward_zero_std": 0.5,
        "completions/mean_length": 20.0, "time/decode": 0.3, "watch/accuracy": 0.25, "watch/alarms": 0.0,
    })  # fmt: skip


@pytest.fixture
def ended(tmp_path):
    with RunWriter(tmp_path / "ct", {"summary": {"steps": 3}}) as run:
        for step in (1, 2, 3):
            log(run, step)
    return tmp_path / "ct"


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_it_opens_at_the_last_step_with_its_curves_and_first_group(ended):
    seen = safe(explore_run(ended).static())
    assert "What is in CT-train-0-0-AI?" in seen.texts["question"][0]
    table = seen.texts["completions"][0]
    assert "said at 3 by 0" in table and "said at 2" not in seen.all and "cut off" in table
    assert "−0.5" in table and "+0.5" in table
    titles = [ElementTree.fromstring(drawing)[2].text for drawing in drawings(explore_run(ended).static())]
    assert titles[:3] == ["mean reward", "completion length (tokens)", "groups that teach nothing (share)"]
    assert "seconds a step, by phase" in titles and "watch/alarms" in titles


def test_a_step_is_chosen_by_its_slider_and_a_group_by_its_list(ended):
    panel = explore_run(load_run(ended))
    panel.root  # noqa: B018 - builds it
    control(panel, "step").value = 2
    assert panel.step == 2 and "said at 2 by 0" in control(panel, "completions").value
    control(panel, "group").value = 1
    assert panel.group == 1 and "What is in MRI-train-0-1-DD?" in control(panel, "completions").value
    assert [label for label, _ in control(panel, "group").options] == [
        "1 of 2: CT-train-0-0-AI, 1 of 3 right", "2 of 2: MRI-train-0-1-DD, 1 of 3 right",
    ]  # fmt: skip
    control(panel, "extra").value = "time/decode"
    assert panel.extra == "time/decode"


def test_next_and_previous_go_round(ended):
    panel = explore_run(ended)
    assert [panel.next_group() or panel.group for _ in range(2)] == [1, 0]
    assert panel.previous_group() or panel.group == 1


def test_every_number_of_the_step_is_there(ended):
    panel = explore_run(ended)
    panel.go_to(2)
    assert "time/decode" in safe(panel.static()).texts["step"][0]
    assert 'alt="mean reward at step 2: sum 1.2, accuracy_reward 0.2"' in panel.static()


def test_a_replaced_group_and_one_that_teaches_nothing_are_called_so(tmp_path):
    with RunWriter(tmp_path, {}) as run:
        run.rollout_rows(completions(1, questions=["CT-train-0-0-AI"], advantage=0.0))
        run.rollout_rows(completions(1, questions=["CT-train-0-0-AI"], advantage=0.0, used=False))
    panel = explore_run(tmp_path)
    assert panel.group == 0 and "every advantage is 0" in panel.static()
    panel.next_group()
    assert "replaced by dynamic sampling" in panel.static() and "every advantage is 0" not in panel.static()
    assert "1 of 3 right, replaced" in panel.static()


def test_a_step_opens_at_the_first_group_that_teaches_something(tmp_path):
    with RunWriter(tmp_path, {}) as run:
        run.rollout_rows(completions(1, questions=["dull"], advantage=0.0))
        run.rollout_rows(completions(1, questions=["replaced"], used=False))
        run.rollout_rows(completions(1, questions=["telling", "next"]))
    panel = explore_run(tmp_path)
    assert panel.group == 2 and "What is in telling?" in panel.static()
    panel.choose_group(0)
    panel.go_to(1)
    assert panel.group == 2


def test_a_question_drawn_twice_makes_two_groups():
    rows = pd.DataFrame([*completions(1, questions=["a", "a", "b"])])
    assert [group["id"].iloc[0] for group in groups_of(rows)] == ["a", "a", "b"]


def test_old_runs_without_used_and_ids_are_shown(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "used"} | {"id": None} for row in completions(1, ["x"])]
    with RunWriter(tmp_path, {}) as run:
        run.rollout_rows(rows)
    assert "What is in x?" in explore_run(tmp_path).static()


def test_a_step_without_completions_shows_those_before_it(ended):
    run = RunWriter(ended.with_name("rare"), {})
    log(run, 1)
    run.metrics_row({"step": 2, "reward": 1.0})
    panel = explore_run(run.path)
    assert panel.step == 2 and "Step 2 sampled nothing; these are of step 1." in panel.static()


def test_supervised_training_has_curves_and_no_completions(tmp_path):
    with RunWriter(tmp_path, {"summary": {}}) as run:
        run.metrics_row({"step": 1, "loss": 2.0})
    panel = explore_run(tmp_path)
    assert "No completions" in panel.static() and "loss" in panel.static() and not panel.growing
    panel.root, panel.next_group()
    assert "no completions" in panel.summary()


def test_an_empty_run_is_shown(tmp_path):
    RunWriter(tmp_path, {})
    panel = explore_run(tmp_path)
    panel.root  # noqa: B018
    assert "Nothing was logged yet" in panel.static()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_shown_as_text(tmp_path, kind):
    text = HOSTILE[kind]
    with RunWriter(tmp_path, {}) as run:
        rows = [*completions(1, questions=["<img src=x>"])]
        run.rollout_rows(
            row | {"text": text.replace("\ud800", "?"), "question": text[:100].replace("\ud800", "?")} for row in rows
        )
        run.metrics_row({"step": 1, "reward": 1.0, "<script>": 2.0})
    panel = explore_run(tmp_path)
    panel.choose_extra("<script>")
    safe(panel.static())
    panel.root  # noqa: B018
    safe(control(panel, "completions").value)


def test_only_the_image_of_the_group_is_drawn(ended, monkeypatch):
    drawn = []
    once = Pictures._image
    monkeypatch.setattr(Pictures, "_image", lambda *given: drawn.append(given[1]) or once(*given))
    panel = explore_run(ended)
    assert drawn == []
    panel.static(), panel.root, panel.static()
    assert drawn == ["CT-train-0-0-AI"]
    panel.next_group(), panel.go_to(1), panel.next_group()
    assert drawn == ["CT-train-0-0-AI", "MRI-train-0-1-DD"]


def test_without_python_there_is_no_live_view(ended, monkeypatch):
    monkeypatch.setenv("MEDR1KIT_STATIC", "1")
    panel = explore_run(ended)
    monkeypatch.setattr(type(panel), "build", None)  # no control is made
    assert set(panel._repr_mimebundle_()) == {"text/plain", "text/html"}
    assert str(panel) == "run ct: 3 steps logged, 3 of them with completions; ended; at step 3"


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run at"):
        explore_run(tmp_path / "none")


# --- a run that grows -------------------------------------------------------------------------------------------------


def test_what_is_written_is_seen_at_the_next_look_and_the_reader_goes_along(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1)
    panel = explore_run(tmp_path)
    panel.root  # noqa: B018
    assert panel.growing and not panel.refresh()
    log(run, 2)
    assert (
        panel.refresh()
        and panel.step == 2 == control(panel, "step").value
        and "said at 2 by 0" in control(panel, "completions").value
    )
    panel.go_to(1)
    log(run, 3)
    assert (
        panel.refresh()
        and panel.step == 1
        and control(panel, "step").max == 3
        and "said at 1 by 0" in control(panel, "completions").value
    )


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1)
    line = json.dumps(next(completions(2))) + "\n"
    file = tmp_path / "rollouts.jsonl"
    with file.open("a") as handle:
        handle.write(line[:40])
    rollouts = Rollouts(run := load_run(tmp_path))
    assert rollouts.steps == [1]
    with file.open("a") as handle:
        handle.write(line[40:])
    rollouts.look()
    assert rollouts.steps == [1, 2] and rollouts.at(2)["text"].tolist() == ["said at 2 by 0"]
    assert len(run.rollouts) == 7


def test_a_run_that_ends_between_two_looks_is_still_read(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1), log(run, 2)
    panel = explore_run(tmp_path)
    run.close()
    panel.go_to(1)
    assert "said at 1 by 0" in panel.static()
    assert panel.refresh() and not panel.growing


def test_another_run_in_the_same_folder_is_read_from_its_start(tmp_path):
    run = RunWriter(tmp_path, {})
    for step in range(1, 9):
        log(run, step)
    rollouts = Rollouts(load_run(tmp_path))
    run.close()
    run = RunWriter(tmp_path, {}, overwrite=True)
    log(run, 1, text="anew")
    rollouts.look()
    assert rollouts.steps == [1] and set(rollouts.at(1)["text"]) == {"anew"}


def test_steps_are_the_same_from_lines_and_from_the_table(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1), log(run, 2), run.rollout_rows(completions(1, text='a "step": 7 is {{step}} in a text'))
    lines = Rollouts(load_run(tmp_path))
    growing = [lines.at(step) for step in (1, 2, 3)]
    run.close()
    table = Rollouts(load_run(tmp_path))
    assert lines.steps == table.steps == [1, 2] and len(growing[0]) == 12 and growing[2].empty
    for step, rows in zip((1, 2), growing):
        pd.testing.assert_frame_equal(rows, table.at(step))
    assert table.at(3).empty


def test_what_cannot_be_read_is_said_and_the_panel_lives_on(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1)
    panel = explore_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    assert panel.refresh() and "is not JSON" in panel.static()
    (tmp_path / "run.json").write_text("{ }")
    assert panel.refresh() and panel.trouble == ""


def followers():
    return [thread for thread in threading.enumerate() if thread.name == "medr1kit-follow"]


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_it_follows_a_run_until_the_run_ends(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1)
    panel = explore_run(tmp_path)
    panel.every = 0.01
    panel.root  # noqa: B018
    control(panel, "follow").value = True
    log(run, 2)
    wait_for(lambda: panel.step == 2)
    run.close()
    wait_for(lambda: not followers())
    assert not panel.growing and control(panel, "follow").value is False


def test_whether_a_run_is_followed_is_seen_at_its_box(tmp_path):
    run = RunWriter(tmp_path, {})
    log(run, 1)
    panel = explore_run(tmp_path)
    assert control(panel, "follow").value is False
    panel.follow(True)
    assert control(panel, "follow").value is True and panel.following and len(followers()) == 1
    panel.close()
    assert not panel.following
    wait_for(lambda: not followers())


@pytest.mark.parametrize("end", ["close", "untick", "silence"])
def test_it_stops_when_told_when_closed_and_when_nothing_comes(tmp_path, end, monkeypatch):
    run = RunWriter(tmp_path, {})
    log(run, 1)
    panel = explore_run(tmp_path)
    panel.every = 0.01
    panel.root  # noqa: B018
    if end == "silence":
        monkeypatch.setattr("medr1kit.views.widgets.run._PATIENCE", 0.05)
    panel.follow(True)
    assert len(followers()) == 1
    {"close": panel.close, "untick": lambda: panel.follow(False), "silence": lambda: None}[end]()
    wait_for(lambda: not followers())


def test_a_long_run_is_not_held_in_memory(tmp_path):
    text = "word " * 1000
    with (tmp_path / "rollouts.jsonl").open("w") as file:
        for step in range(1, 401):
            file.writelines(json.dumps(row | {"text": text}) + "\n" for row in completions(step))
    (tmp_path / "run.json").write_text("{}")
    size = (tmp_path / "rollouts.jsonl").stat().st_size
    tracemalloc.start()
    rollouts = Rollouts(load_run(tmp_path))
    assert len(rollouts.at(200)) == 6
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rollouts.steps == list(range(1, 401)) and size > 12e6 and peak < size / 3


# --- curves -----------------------------------------------------------------------------------------------------------


def test_a_long_curve_is_thinned_and_keeps_its_peak():
    line = np.zeros(50_000)
    line[31_415] = 9.0
    page = curve("peak", np.arange(50_000), {"a": line})
    assert len(page) < 60_000 and ">10<" in drawings(page)[0]
    heights = [float(part.split(" ")[1]) for part in drawings(page)[0].split('opacity="0.35"')[0].split("L")[1:-1]]
    assert min(heights) < 60 < max(heights)


@pytest.mark.parametrize("n", [60, 90, 110])
def test_a_curve_is_smoothed_as_in_the_figure(n):
    steps = np.arange(n)
    line = np.random.default_rng(0).random(n)
    strong = re.search(r'<path d="M([^"]*)"[^>]*stroke-width="1.8"', drawings(curve("reward", steps, {"a": line}))[0])
    heights = [float(point.split()[1]) for point in strong[1].split("L")]
    drawn = mk.plot_rewards(pd.DataFrame({"step": steps, "reward": line})).lines[1].get_ydata()
    plt.close("all")
    assert len(heights) == n and np.corrcoef(heights, drawn)[0, 1] == pytest.approx(-1, abs=1e-4), "downwards in a page"


@pytest.mark.parametrize("line", [[np.nan, np.nan], [1.0, np.nan], [0.0, 0.0], [-3.0, -3.0], [1e-12, 2e9], [np.inf, 1]])
def test_odd_numbers_are_drawn(line):
    ElementTree.fromstring(drawings(curve("a & <b>", [1, 2], {"<x>": line}, at=2))[0])


def test_text_in_the_metrics_does_no_harm():
    metrics = pd.DataFrame({"step": [1, 2], "reward": [1.0, 2.0], "note": ["<b>", None]})
    assert len(drawings(curves_html(metrics, 1, "note"))) == 1


def test_a_parquet_file_that_is_not_whole_leaves_the_curves(ended):
    table = ended / "rollouts.parquet"
    table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])
    panel = explore_run(ended)
    assert panel.root and "not a whole parquet file" in safe(panel.static()).texts["trouble"][0]
    panel.go_to(2)
    assert len(drawings(panel.static())) > 2


def test_a_table_of_something_else_is_said(ended):
    pd.DataFrame({"step": [1, 2]}).to_parquet(ended / "rollouts.parquet")
    assert "no column 'id'" in safe(explore_run(ended).static()).texts["trouble"][0]


def test_torn_lines_are_left_out_and_said(tmp_path):
    run = RunWriter(tmp_path / "ct", {})
    for step in (1, 2):
        log(run, step)
    lines = (tmp_path / "ct" / "rollouts.jsonl").read_text().splitlines()
    lines[1], lines[7] = lines[1][:40], "garbage"
    (tmp_path / "ct" / "rollouts.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "id"')
    panel, rollouts = explore_run(tmp_path / "ct"), Rollouts(load_run(tmp_path / "ct"))
    assert panel.steps == [1, 2] and len(rollouts.at(2)) == 5 and len(rollouts.at(1)) == 5
    assert "left out" in safe(panel.static()).texts["trouble"][0]


@pytest.mark.parametrize("content", [b"step,reward\n1,0.5\n2,0.1,7,8\n", b"step,reward\n\xff\xfe,x\n"])
def test_metrics_that_cannot_be_read_are_said(ended, content):
    (ended / "metrics.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.csv cannot be read"):
        explore_run(ended)


def test_one_step_of_a_long_run_is_read_without_holding_the_others(tmp_path):
    pa = pytest.importorskip("pyarrow")
    with RunWriter(tmp_path / "long", {}) as run:
        for step in range(1, 401):
            rng = np.random.default_rng(step)
            run.rollout_rows(completions(step, text="".join(rng.choice(list("abcdefgh "), 2_000))))
    rollouts = Rollouts(load_run(tmp_path / "long"))
    before = pa.total_allocated_bytes()
    rows = rollouts.at(200)
    assert len(rows) == 6 and set(rows["step"]) == {200} and isinstance(rows["options"].iloc[0], list)
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_what_is_no_run_and_no_folder_is_said(ended, monkeypatch):
    for given in (None, 3, load_run(ended).metrics, load_run(ended).rollouts, [ended]):
        with pytest.raises(DataError, match=r"run is .*; pass the run that a training returned, or its folder"):
            explore_run(given)
    with pytest.raises(DataError, match="data is a DataFrame; load it first"):
        explore_run(ended, data=load_run(ended).rollouts)
    monkeypatch.setenv("HOME", str(ended.parent))
    assert explore_run(f"~/{ended.name}").steps


def test_points_apart_are_dots():
    """What is logged every few steps only, as evaluations are, is seen."""
    picture = curve("reward", [1, 2, 3, 4, 5], {"held out": [0.1, math.nan, 0.2, 0.3, math.nan]})
    drawn = base64.b64decode(picture.split("base64,")[1].split('"')[0]).decode()
    assert drawn.count("stroke-linecap:round") == 1 and drawn.count("h0") == 1, "of three points one stands apart"


def test_a_curve_is_as_legible_on_a_dark_card_as_on_a_pale_one():
    lines = {name: [0, k] for k, name in enumerate("abcdef")}
    drawing = drawings(curve("reward", [1, 2], lines, at=2))[0]
    style, body = re.search(r"<style>(.*?)</style>(.*)", drawing, re.DOTALL).groups()
    assert style.startswith("@media (prefers-color-scheme:dark){")
    dark = dict(re.findall(r'\[stroke="(#\w+)"\]\{stroke:(#\w+)\}', style))
    drawn = {*re.findall(r'<path [^>]*stroke="(#\w+)"', body)}
    assert len(drawn) == 8 and drawn <= set(dark), "six lines, the grid and the step that is marked"
    for ink in drawn - {"#ddd"}:
        assert contrast(dark[ink], "#1f252c") > 4.5 < contrast(ink, "#fbfbf8"), ink


def contrast(one, other):
    """WCAG 2.2's contrast of two colours, "#rrggbb" or "#rgb"."""

    def light(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dim, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dim + 0.05)
