"""`python -m benchmarks gpu` as far as a CPU runs it: the dry run of a small model, and what a fault becomes."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.gpu import check, sampling, scores, shape
from benchmarks.gpu.device import Missing, Phases
from benchmarks.gpu.sampling import Drawn
from benchmarks.gpu.scores import Scored
from benchmarks.speed_page import is_dry_run

TINIEST = replace(shape.SMALL, new_tokens=4)


@pytest.fixture(scope="module")
def dry_run(one_thread, tmp_path_factory):
    """The rows of a dry run by ``part: variant``, its file, and its exit status."""
    file, patched = tmp_path_factory.mktemp("gpu") / "gpu.json", pytest.MonkeyPatch()
    patched.setattr(check, "SMALL", TINIEST)
    try:
        status = command.main(["gpu", "--cpu", "--json", str(file)])
    finally:
        patched.undo()
    rows = json.loads(file.read_text())["rows"]
    return {f"{row['part']}: {row['variant']}": row for row in rows}, file, status


def test_a_dry_run_goes_to_its_end_and_its_numbers_agree(dry_run):
    rows, file, status = dry_run
    assert status == 0 and is_dry_run(file)
    assert {row["status"] for row in rows.values()} == {"measured", "missing"}
    missing = {name for name, row in rows.items() if row["status"] == "missing"}
    absent = {name for name in missing if name.startswith("here: ")}
    assert "here: CUDA" in absent and {name for name in missing - absent if "flash" in name} == {
        f"{name}, flash_attention_2"
        for part, sides in (
            ("log-probabilities", ("transformers", "shared prefix")),
            ("step", ("stock TRL", "shared prefix")),
        )
        for name in (f"{part}: {side}" for side in sides)
    }
    assert {name for name in missing - absent if "flash" not in name} == {"step: shared prefix, sdpa, CUDA graph"}
    agreeing = [name for name, row in rows.items() if row.get("agrees")]
    assert len(agreeing) == 6 and all("shared prefix" in name for name in agreeing)


def test_in_float32_the_shared_prefix_is_exact_and_exchanged_pictures_are_noticed(dry_run):
    rows, _, _ = dry_run
    for way in ("packed", "continued"):
        assert rows[f"log-probabilities: shared prefix, float32, {way}"]["logp_max"] < 1e-5
    assert rows["log-probabilities: shared prefix, float32, pictures exchanged"]["logp_max"] > 1e-2


@pytest.mark.parametrize("variant", ["stock TRL, sdpa", "shared prefix, sdpa", "shared prefix, sdpa, checkpointing"])
def test_the_phases_of_a_step_are_the_step(dry_run, variant):
    row = dry_run[0][f"step: {variant}"]
    phases = [row[f"{phase}_s"] for phase in ("sampling", "loss", "backward", "rest")]
    assert min(phases) > 0 and sum(phases) == pytest.approx(row["step_s"], rel=0.5)


def test_all_ways_to_sample_draw_alike(dry_run):
    rows = dry_run[0]
    assert rows["sampling: shared prefix, eager"]["same_tokens"] > 0.5  # bfloat16 may part them
    graph = rows["sampling: shared prefix, CUDA graph"]
    assert graph["recorded"] is False and "not recorded" in graph["found"] and graph["logp_max"] < 0.1


def test_the_table_has_a_line_a_row_and_says_what_is_missing(dry_run):
    rows = list(dry_run[0].values())
    lines = check.as_markdown(rows).splitlines()
    assert len(lines) == len(rows) + 2 and len({line.count("|") for line in lines}) == 1
    assert sum("missing: flash-attn needs a GPU" in line for line in lines) == 4


def test_the_model_is_of_true_size():
    model, _ = shape.model_for(shape.FULL, "meta")
    assert model.num_parameters() == 2_208_985_600  # as the hub's Qwen2-VL-2B-Instruct has them
    assert model.lm_head.out_features == 151_936 and len(model.model.language_model.layers) == 28


def test_a_picture_of_true_size_has_196_tokens():
    _, processor = shape.model_for(shape.FULL, "meta")
    inputs = shape.padded(processor, shape.conversations(replace(shape.FULL, prompts=1, group=1)), "cpu")
    assert inputs["image_grid_thw"].tolist() == [[1, 28, 28]]
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 196


def told(measure, seconds=100.0):
    kept = []
    row = check.Table(seconds, lambda rows: kept.append(list(rows))).add("step", "one", measure)
    assert kept == [[row]]
    return row


def raising(error):
    def measure():
        raise error

    return measure


@pytest.mark.parametrize(
    ("error", "status", "found"),
    [
        (Missing("no TRL"), "missing", "no TRL"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory", "too little memory"),
        (RuntimeError("cuda | error:\n misaligned"), "failed", "RuntimeError: cuda / error: misaligned"),
    ],
)
def test_what_stops_a_row_is_what_it_says(error, status, found, capsys):
    row = told(raising(error))
    assert row["status"] == status and found in row["found"]
    assert status in capsys.readouterr().out


def test_a_row_for_which_no_time_is_left_is_left_out():
    assert told(lambda: {}, seconds=0)["status"] == "left out"
    table = check.Table(100, lambda rows: None)
    table._longest["step"] = 80.0  # one like it took so long
    assert table.add("step", "two", lambda: {})["status"] == "left out"
    assert table.add("sampling", "one", lambda: {})["status"] == "measured"


def test_a_recording_that_failed_stands_in_the_row():
    def measure():
        warnings.warn("decoding is not recorded in a CUDA graph, it runs step by step: why", stacklevel=1)
        return {"found": "sampled"}

    assert told(measure)["found"].startswith("sampled; decoding is not recorded in a CUDA graph")


def test_numbers_that_do_not_agree_are_the_exit_status(monkeypatch, capsys):
    rows = [{"part": "log-probabilities", "variant": "one", "status": "measured", "agrees": False, "found": "far"}]
    monkeypatch.setattr(check, "measure_all", lambda *_: rows)
    assert command.main(["gpu", "--cpu"]) == 1
    assert "| NO | far |" in capsys.readouterr().out


def result(logps, gradient):
    return Scored(torch.tensor(logps), torch.tensor(gradient), {}, None)


def test_distances_of_two_results():
    far = scores.apart(result([[1.0, 2.0]], [3.0, 4.5]), result([[1.0, 2.5]], [3.0, 4.0]))
    assert far == {"logp_mean": 0.25, "logp_max": 0.5, "gradient": pytest.approx(0.1)}


def test_what_is_exact_and_what_is_as_near_as_another():
    near = {"logp_mean": 1e-6, "logp_max": 9e-5, "gradient": 9e-5}
    assert (
        scores.exact(near)
        and not scores.exact(near | {"logp_max": 2e-4})
        and not scores.exact(near | {"gradient": 2e-4})
    )
    theirs = {"logp_mean": 0.01, "gradient": 0.02}
    assert scores.as_near({"logp_mean": 0.014, "gradient": 0.02}, theirs)
    assert not scores.as_near({"logp_mean": 0.016, "gradient": 0.02}, theirs)
    assert not scores.as_near({"logp_mean": 0.01, "gradient": 0.04}, theirs)


def test_rows_are_compared_up_to_their_first_difference():
    one = Drawn(torch.tensor([[1, 2, 3], [1, 9, 3]]), torch.tensor([[0.0, 0.0, 0.5], [0.0, 7.0, 7.0]]), 1.0, None)
    other = Drawn(torch.tensor([[1, 2, 3], [1, 2, 3]]), torch.zeros(2, 3), 1.0, None)
    assert sampling.beside(one, other) == {"same_rows": 1, "same_tokens": round(4 / 6, 4), "logp_max": 0.5}


def test_a_call_inside_another_counts_as_the_outer_one_s():
    class Trainer:
        def outer(self):
            return self.inner() + 1

        def inner(self):
            return 1

    trainer, phases = Trainer(), Phases("cpu")
    for method, phase in (("inner", "loss"), ("outer", "sampling"), ("gone", "backward")):
        phases.watch(trainer, method, phase)
    assert trainer.outer() == 2 and set(phases.seconds) == {"sampling"}
    assert trainer.inner() == 1 and set(phases.seconds) == {"sampling", "loss"}
