"""`python -m benchmarks`: shapes, names and agreement; how long anything takes is no test."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import describe, main
from benchmarks.cases import audit, grpo, load, loss, memory, predict
from benchmarks.cases.even import fixed_length
from benchmarks.cases.timing import Seconds, compared, machine
from medr1kit.data.load import load_vqa

ROOT = Path(__file__).parents[2]
_WRITE_PAGE = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, "benchmarks")
import speed_page
copy = Path(sys.argv[1])
shutil.copy(speed_page.PAGE, copy)
speed_page.write_page(copy)
"""
SCHEMA = {"name", "stock_s", "fast_s", "ratio", "repeats", "exact", "about"}


def test_medians_ratios_and_the_spread_over_turns():
    stock = [[Seconds(2.0, 4.0), Seconds(4.0, 4.0)], [Seconds(5.0, 9.0), Seconds(9.0, 9.0)]]
    fast = [[Seconds(1.0, 2.0), Seconds(1.0, 2.0)], [Seconds(1.0, 2.0), Seconds(3.0, 2.0)]]
    case = compared("one", stock, fast, exact=True)
    assert (case["stock_s"], case["fast_s"], case["ratio"]) == (4.5, 1.0, 4.5)
    assert (case["ratio_low"], case["ratio_high"], case["repeats"]) == (3.0, 3.5, 2)
    assert (case["stock_wall_s"], case["fast_wall_s"], case["ratio_wall"]) == (6.5, 2.0, 3.25)


def test_the_machine_is_described():
    about = machine(threads=1)
    assert about["cpu"] and about["cores"] >= 1 and about["threads"] == 1
    assert {"python", "torch", "transformers", "trl", "load_average"} <= set(about)


def test_the_cases_that_are_always_there():
    assert [case.name for case in grpo.CASES[:3]] == ["think", "answer_only", "long_image"]
    assert {case.name for case in predict.CASES} >= {"think_after", "no_think"}


@pytest.mark.parametrize("name", ["think", "answer_only_kl"])
def test_both_sides_of_a_case_take_the_same_steps(name):
    (case,) = (case for case in grpo.CASES if case.name == name)
    small = {"max_completion_length": 24}
    case = replace(case, prompts=2, group=4, steps=3, settings={**case.settings, **small})
    found = grpo.measure(case, 1)
    assert found.keys() >= SCHEMA and found["exact"] is True and found["same_texts"] == 1
    assert found["rows"] == 8 and found["steps"] == 2 and found["stock_s"] > 0 and found["fast_s"] > 0


def test_a_long_image_has_196_tokens_and_no_completion_is_skipped():
    (case,) = (case for case in grpo.CASES if case.name == "long_image")
    processor = case.model()[1]
    side = grpo._side(replace(case, prompts=1, group=2, steps=2, settings=fixed_length(40)), True, 0)
    assert side.rollouts["n_tokens"].eq(40).all() and (side.rollouts["advantage"] != 0).all()
    assert len(side.seconds) == 1
    picture = load_vqa("phantoms", split="train", n=1, size=case.size)[0]["image"]
    grid = processor.image_processor(images=[picture], return_tensors="pt")["image_grid_thw"][0]
    assert grid.prod() // 4 == 196


def test_runs_that_differ_are_not_exact():
    case = replace(grpo.CASES[1], prompts=1, group=2, steps=2)
    one, other = (grpo._side(case, True, seed) for seed in (0, 1))
    assert grpo.agree(one, one)["exact"] is True
    assert grpo.agree(one, other)["exact"] is False
    nudged = replace(one, metrics=one.metrics.assign(grad_norm=one.metrics["grad_norm"] * 1.001 + 0.001))
    assert grpo.agree(one, nudged) | {"loss_difference": 0} == grpo.agree(one, one) | {"exact": False}


@pytest.mark.parametrize("name", ["no_think_adapter", "think_before"])
def test_prediction_gives_the_answers_of_plain_generate(name, monkeypatch):
    monkeypatch.setattr(predict, "NEW_TOKENS", 48)
    (case,) = (case for case in predict.CASES if case.name == name)
    found = predict.measure(case, 1, n=12)
    assert found.keys() >= SCHEMA and found["exact"] is True and found["rows"] == 12
    assert found["same_texts"] == 1


def test_the_loss_of_a_batch_is_the_same_apart_and_shared():
    batch = loss.batch_of(9, even=False)
    true = loss.in_float64(batch)
    found = loss.measure("small", batch, true, loss.shared, 1)
    assert found["exact"] is True and found["rows"] == 32 and len(set(batch.mask.sum(1).tolist())) > 3
    assert 0 < found["logp_error"] < 1e-5 and 0 < found["stock_gradient_error"] < 1e-4
    other = replace(batch, ids=(batch.ids + 1) * batch.mask)
    assert loss.measure("another loss", batch, true, lambda _: loss.stock(other), 1)["exact"] is False


def test_prefix_grouper_gives_the_same_loss():
    pytest.importorskip("prefix_grouper")
    batch = loss.batch_of(9, even=False)
    assert loss.measure("small", batch, loss.in_float64(batch), loss.grouped, 1)["exact"] is True


def test_the_steps_whose_memory_is_compared_are_the_same():
    questions, found = load_vqa("phantoms", split="train", n=1), {}
    for fast in (False, True):
        metrics, rollouts = memory._step(*memory._wide_model(2000), questions, fast, 6, rows=4)
        found[fast] = rollouts["text"].tolist(), metrics["grad_norm"].item()
        assert rollouts["n_tokens"].eq(6).all() and metrics["grad_norm"].item() > 0
    assert found[True] == (found[False][0], pytest.approx(found[False][1], rel=1e-4))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells what is held and what was held")
def test_memory_that_is_given_back_is_held_no_more_but_stays_in_the_peak():
    before, _ = memory.held_and_peak()
    block = bytearray(b"x" * 2**28)
    during, _ = memory.held_and_peak()
    del block
    after, peak = memory.held_and_peak()
    assert during - before > 2**27 and after < during <= peak


def test_the_page_s_tables_are_those_of_the_files(tmp_path):
    found = subprocess.run([sys.executable, "-c", _WRITE_PAGE, str(tmp_path / "speed.md")], cwd=ROOT, text=True)
    assert found.returncode == 0
    assert (tmp_path / "speed.md").read_text() == (ROOT / "docs" / "speed.md").read_text()


def test_loading_and_the_audit_return_what_was_written():
    questions, table, images = load.measure_all(2, rows=300, images=4)
    middle, low, high = table["times_json"]
    assert 0 < low <= middle <= high and f"{middle:.2f} times the seconds of JSON" in table["about"]
    assert len(questions["turns_s"]) == len(table["turns_s"]) == 2
    (audited,) = audit.measure_all(1, train=300, test=100)
    for case in (questions, table, images, audited):
        assert case.keys() >= SCHEMA and case["exact"] is True and case["ratio"] is None and case["fast_s"] > 0
    assert (questions["rows"], images["rows"], audited["rows"]) == (300, 4, 400)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(load, "ROWS", 200)
    monkeypatch.setattr(load, "IMAGES", 2)
    file = tmp_path / "load.json"
    assert main(["load", "--json", str(file), "--repeats", "2"]) == 0
    out = capsys.readouterr().out
    written = json.loads(file.read_text())
    assert set(written) == {"benchmark", "machine", "cases"} and written["benchmark"] == "load"
    assert [case["name"] for case in written["cases"]] == ["load_questions", "load_table", "load_images"]
    assert all(case["repeats"] == 2 and case["name"] in out for case in written["cases"])
    assert written["machine"]["cpu"] in out and describe(written) in out


class Asked(Exception):
    """The command line was read to its end."""


def test_every_command_line_of_the_docs_is_understood(monkeypatch, tmp_path):
    def asked(what, **_):
        raise Asked(what)

    monkeypatch.setattr("benchmarks.__main__.run_benchmark", asked)
    monkeypatch.setattr("benchmarks.__main__.check_gpu", lambda *_: asked("gpu"))
    monkeypatch.chdir(tmp_path)
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "docs/speed.md"))
    lines = re.findall(r"^python -m benchmarks ([^#\n]+)", pages, re.MULTILINE)
    assert {line.split()[0] for line in lines} == {"grpo", "loss", "predict", "load", "audit", "gpu"}
    for line in lines:
        with pytest.raises(Asked, match=line.split()[0]):
            main(line.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["grpo", "--repeats", "0"], "--repeats 0 measures nothing"),
        (["grpo", "--json", "nowhere/x.json"], "no such folder"),
        (["grpo", "--cpu"], "leave --cpu out"),
        (["gpu", "--repeats", "2"], "leave --repeats out"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_measured(flags, message, capsys):
    assert main(flags) == 2
    assert message in capsys.readouterr().err
