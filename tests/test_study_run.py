import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from study_fakes import STUDY, Fake, InAProcess, write_study

from medr1kit.__main__ import main
from medr1kit.results.tables import PREDICTIONS
from medr1kit.study import commands
from medr1kit.study.cell import predict_cell, run_cell, shared_step, train_cell
from medr1kit.study.folder import cell_folder, cell_lock, read_record, state_of
from medr1kit.study.grid import read_study
from medr1kit.study.results import read_predictions, write_tables
from medr1kit.study.status import describe, seconds_left, status_table
from medr1kit.study.workers import run_here, work
from medr1kit.training.presets import PRESETS
from medr1kit.vqa import DataError

GRPO = "ct_grpo_no-think_0"


@pytest.fixture
def study(tmp_path):
    return read_study(write_study(tmp_path))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`medr1kit study run small.yaml` with fake cells; returns (exit status, what the fake did)."""

    def run(*words, text=STUDY, **faults):
        fake = Fake(**faults)
        monkeypatch.setattr(commands, "run_here", fake.here)
        file = write_study(tmp_path, text)
        return main(["study", "run", str(file), "--output", str(tmp_path / "out"), "--workers", "1", *words]), fake

    return run


def states(study, root):
    return {cell.name: state_of(root, cell).state for cell in study.cells}


# --- running, going on ------------------------------------------------------------------------------------------------


def test_a_study_trains_and_tests_every_cell_in_order_and_writes_its_tables(command, study, tmp_path, capsys):
    status, fake = command()
    names = [cell.name for cell in study.cells]
    assert status == 0 and fake.tested == names and fake.trained == names[1:]
    assert set(states(study, tmp_path / "out").values()) == {"done"}
    assert "9 cells, 9 done, 0 running, 0 failed, 0 waiting" in capsys.readouterr().out
    assert (tmp_path / "out" / "predictions.parquet").is_file()


def test_finished_cells_are_skipped(command):
    command()
    _, fake = command()
    assert fake.tested == fake.trained == []


def test_more_seeds_keep_what_is_finished(command):
    command()
    _, fake = command(text=STUDY.replace("[0, 1]", "[0, 1, 2]"))
    assert len(fake.trained) == 4 and all(name.endswith("_2") for name in fake.trained)


def test_a_changed_definition_is_run_again_and_that_is_said(command, capsys):
    command()
    _, fake = command(text=STUDY.replace("[sft-answer, grpo]", "{sft-answer: , grpo: {max_steps: 3}}"))
    assert len(fake.trained) == 4 and all("_grpo_" in name for name in fake.trained)
    assert f"{GRPO} changed since it was run, and is run again" in capsys.readouterr().out


def test_cells_that_left_the_file_stay_on_disk_and_leave_the_tables(command, tmp_path, capsys):
    command()
    command(text=STUDY.replace("[0, 1]", "[0]"))
    assert "4 on disk are not in the file any more" in capsys.readouterr().out
    assert (tmp_path / "out" / "cells" / "ct_grpo_no-think_1" / "predictions.parquet").is_file()
    assert set(pd.read_parquet(tmp_path / "out" / "predictions.parquet")["seed"].dropna()) == {0}


def test_only_some_cells_can_be_run(command):
    _, fake = command("--only", "method=grpo seed=1")
    assert fake.trained == ["ct_grpo_no-think_1", "oct_grpo_no-think_1"]


def test_failed_cells_are_reported_and_can_be_repeated_alone(command, tmp_path, study, capsys):
    status, fake = command(fail=[GRPO])
    said = capsys.readouterr()
    assert status == 2 and len(fake.tested) == 8, "the others go on"
    assert "1 of 9 cells failed" in said.err
    assert f"{GRPO}: ValueError: no luck with {GRPO}\n" in said.out
    error = tmp_path / "out" / "cells" / GRPO / "error.txt"
    assert str(error) in said.out and "Traceback" in error.read_text() and "and more of it" in error.read_text()
    (line,) = [line for line in said.out.splitlines() if "repeat:" in line]
    words = line.split("medr1kit study run ")[1].split()
    status, fake = command(*words[words.index("--only") :])
    assert status == 0 and fake.tested == [GRPO] and not error.exists()
    assert fake.trained == [], "its training had worked"


def test_ctrl_c_leaves_a_study_that_goes_on_where_it_stopped(command, study, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command(stop_in=GRPO)
    assert stop.value.code == 130
    assert "The same command goes on" in capsys.readouterr().out
    assert state_of(tmp_path / "out", next(c for c in study.cells if c.name == GRPO)).why == "interrupted"
    _, fake = command()
    assert GRPO in fake.tested and GRPO not in fake.trained, "the training was finished, the test was not"
    assert f"{GRPO} goes on" in capsys.readouterr().out
    assert set(states(study, tmp_path / "out").values()) == {"done"}


def test_a_cell_that_was_interrupted_while_training_is_trained_again(study, tmp_path):
    cell, fake = study.cells[1], Fake()

    def killed(cell, folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, tmp_path / cell.name, killed, fake.test)
    assert run_cell(cell, tmp_path / cell.name, fake.train, fake.test)
    assert fake.trained == [cell.name]


def test_a_changed_cell_starts_from_an_empty_folder(study, tmp_path):
    first, second = study.cells[1:3]
    fake, folder = Fake(), tmp_path / "cell"
    run_cell(first, folder, fake.train, fake.test)
    (folder / "adapter").mkdir()
    run_cell(second, folder, lambda cell, folder: None, lambda cell, folder: None)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "cell.json"]


def test_a_changed_cell_keeps_what_is_not_its_own(study, tmp_path):
    fake, folder = Fake(), tmp_path / "cell"
    run_cell(study.cells[1], folder, fake.train, fake.test)
    (folder / "notes.txt").write_text("mine")
    run_cell(study.cells[2], folder, fake.train, fake.test)
    assert (folder / "notes.txt").read_text() == "mine"


# --- damage -----------------------------------------------------------------------------------------------------------


def record_of(folder, **changed):
    record = json.loads((folder / "cell.json").read_text()) | changed
    return json.dumps({name: value for name, value in record.items() if value != "gone"})


DAMAGES = {
    "predictions cut short": (
        "predictions.parquet",
        lambda folder: (folder / "predictions.parquet").read_bytes()[:700],
    ),
    "predictions empty": ("predictions.parquet", lambda folder: b""),
    "another table": ("predictions.parquet", lambda folder: pd.DataFrame({"a": [1]}).to_parquet()),
    "no rows": ("predictions.parquet", lambda folder: pd.read_parquet(folder / "predictions.parquet")[:0].to_parquet()),
    "record empty": ("cell.json", lambda folder: b""),
    "record cut short": ("cell.json", lambda folder: (folder / "cell.json").read_bytes()[:60]),
    "record no object": ("cell.json", lambda folder: b"[]"),
    "no text": ("cell.json", lambda folder: b"\xff\xfe\x00"),
    "no state": ("cell.json", lambda folder: record_of(folder, state="gone").encode()),
    "unknown state": ("cell.json", lambda folder: record_of(folder, state="finished").encode()),
    "no fingerprint": ("cell.json", lambda folder: record_of(folder, fingerprint="gone").encode()),
    "no versions": ("cell.json", lambda folder: record_of(folder, versions="gone").encode()),
    "no seconds": ("cell.json", lambda folder: record_of(folder, seconds="gone").encode()),
    "no time": ("cell.json", lambda folder: record_of(folder, ended="yesterday").encode()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_finished_cell_is_said_and_run_again(command, study, tmp_path, capsys, damage):
    command()
    folder, (name, content) = tmp_path / "out" / "cells" / GRPO, DAMAGES[damage]
    (folder / name).write_bytes(content(folder))
    capsys.readouterr()
    assert main(["study", "status", str(tmp_path / "out")]) == 0
    assert f"{GRPO}: damaged: {name} is not whole" in capsys.readouterr().out
    assert main(["study", "tables", str(tmp_path / "out")]) == 0
    assert f"{GRPO} is left out, damaged: {name} is not whole; `medr1kit study run` runs it" in capsys.readouterr().out
    status, fake = command()
    assert status == 0 and fake.tested == [GRPO], "only this cell"
    assert fake.trained == ([GRPO] if name == "cell.json" else []), "weights are kept where the record tells of them"
    assert f"{GRPO} is run again: damaged: {name} is not whole" in capsys.readouterr().out
    assert set(states(study, tmp_path / "out").values()) == {"done"}


def test_a_table_that_is_damaged_in_its_middle_is_named_with_the_remedy(command, tmp_path, capsys):
    command()
    file = tmp_path / "out" / "cells" / GRPO / "predictions.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:4] + bytes(300) + content[304:])
    assert main(["study", "tables", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert str(file) in said and f"delete {file}, and `medr1kit study run` runs its cell again" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "times",
    [
        {"started": "2026-01-01T10:00:00", "ended": "2026-01-01T11:00:00"},  # no offset from UTC
        {"started": "2027-01-01T10:00:00+00:00", "ended": "2026-01-01T10:00:00+00:00"},  # the clock was set back
    ],
)
def test_a_clock_without_a_zone_or_set_back_does_no_harm(command, study, tmp_path, times):
    command()
    folder = tmp_path / "out" / "cells" / GRPO
    (folder / "cell.json").write_text(record_of(folder, **times))
    table = status_table(tmp_path / "out", study.cells)
    assert (table["state"] == "done").all() and (table["seconds"] >= 0).all() and (table["seconds"] < 5).all()
    describe("small", table)
    (folder / "cell.json").write_text(record_of(folder, state="failed", **times))
    assert (status_table(tmp_path / "out", study.cells)["seconds"] >= 0).all()


# --- what is not ours -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["study.yaml", "predictions.parquet", "tables/scores_modality.csv", f"cells/{GRPO}/notes", f"cells/{GRPO}"]
)
def test_a_folder_with_files_of_somebody_else_is_refused(command, tmp_path, capsys, name):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    status, fake = command()
    assert status == 2 and not fake.tested and file.read_text() == "mine"
    assert "is not of this study and would be replaced; choose another folder with --output" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_said(command, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    status, fake = command("--output", str(tmp_path / "file" / "out"))
    assert status == 2 and not fake.tested and "cannot be made (Not a directory)" in capsys.readouterr().err
    command()
    assert main(["study", "tables", str(tmp_path / "out"), "--to", str(tmp_path / "file" / "kept")]) == 2
    assert "cannot be made (Not a directory)" in capsys.readouterr().err
    status, fake = command("--output", str(tmp_path / "file"))
    assert status == 2 and "file is not of this study" in capsys.readouterr().err


def test_another_study_is_not_written_over(command, capsys):
    command()
    status, fake = command(text=STUDY.replace("name: small", "name: large"))
    assert status == 2 and not fake.tested and "study.yaml is not of this study" in capsys.readouterr().err


def test_the_study_s_own_file_may_lie_in_its_folder(tmp_path, command):
    (tmp_path / "out").mkdir()
    write_study(tmp_path / "out", name="study.yaml")
    assert command()[0] == 0


@pytest.mark.parametrize("name", ["provenance.json", "runs.csv", "predictions.parquet"])
def test_tables_replace_tables_and_nothing_else(command, tmp_path, capsys, name):
    command()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / name).write_text('{"mine": 1}')
    words = ["study", "tables", str(tmp_path / "out"), "--to", str(tmp_path / "kept")]
    assert main(words) == 2 and (tmp_path / "kept" / name).read_text() == '{"mine": 1}'
    assert f"{name} is no table of a study and would be replaced; give another folder" in capsys.readouterr().err
    (tmp_path / "kept" / name).unlink()
    assert main(words) == 0 and main(words) == 0


def test_home_is_expanded_by_every_command(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(commands, "run_here", Fake().here)
    write_study(tmp_path)
    assert main(["study", "run", "~/small.yaml", "--output=~/out", "--workers=1"]) == 0
    assert main(["study", "status", "~/out"]) == main(["study", "tables", "~/out", "--to=~/kept"]) == 0
    assert (tmp_path / "kept" / "runs.csv").is_file()


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_cell_that_is_being_run_elsewhere_is_skipped(command, study, tmp_path, capsys):
    with cell_lock(tmp_path / "out" / "cells" / GRPO):
        status, fake = command()
    assert status == 0 and fake.tested == [cell.name for cell in study.cells if cell.name != GRPO]
    said = capsys.readouterr().out
    assert f"1 skipped, being run by another `medr1kit study run`: {GRPO}" in said
    assert "when all cells are done: medr1kit study tables" in said
    assert command()[1].tested == [GRPO], "the lock is free again"


def test_two_workers_run_every_cell_once_between_them(study, tmp_path):
    fakes = [Fake(), Fake()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda fake: work(study.cells, tmp_path, 0.0, fake), fakes))
    assert sorted(fakes[0].tested + fakes[1].tested) == sorted(cell.name for cell in study.cells)
    assert set(states(study, tmp_path).values()) == {"done"}


def test_a_lock_ends_with_the_process_that_held_it(study, tmp_path):
    folder = cell_folder(tmp_path, study.cells[0])
    code = "import sys, time\nfrom pathlib import Path\nfrom medr1kit.study.folder import cell_lock\n"
    code += "with cell_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    record = {"state": "running", "fingerprint": study.cells[0].fingerprint}
    (folder / "cell.json").write_text(json.dumps(record))
    assert state_of(tmp_path, study.cells[0]).state == "running"
    holder.kill()
    holder.wait()
    assert state_of(tmp_path, study.cells[0]) == state_of(tmp_path, study.cells[0])
    assert state_of(tmp_path, study.cells[0]).why == "interrupted"
    with cell_lock(folder):
        pass


@contextmanager
def only_reading(folder):
    """As somebody who may read a folder and what is in it, and no more."""
    changed = [folder, *folder.iterdir()]
    for path in changed:
        path.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # whom no mode keeps from writing
        os.seteuid(65534)
    try:
        assert not any(os.access(path, os.W_OK, effective_ids=True) for path in changed)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in changed:
            path.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other rights")
def test_whoever_may_only_read_a_study_sees_what_is_running_and_what_was_interrupted(study):
    cell = study.cells[0]
    with tempfile.TemporaryDirectory() as root:  # pytest's own folder is hidden from other users
        os.chmod(root, 0o755)
        folder = cell_folder(Path(root), cell)
        with cell_lock(folder):
            (folder / "cell.json").write_text(json.dumps({"state": "running", "fingerprint": cell.fingerprint}))
            with only_reading(folder):
                assert state_of(root, cell).state == "running"
        with only_reading(folder):
            assert state_of(root, cell).why == "interrupted"


# --- the queue --------------------------------------------------------------------------------------------------------


def test_failed_cells_are_tried_once_more_after_the_others_and_then_reported(command, study, tmp_path, capsys):
    status, fake = command(fail=[GRPO], fail_once=["base_no-think"])
    assert status == 2 and fake.tried[-2:] == ["base_no-think", GRPO] and len(fake.tried) == 9 + 2
    assert sorted(fake.tested) == sorted(cell.name for cell in study.cells if cell.name != GRPO)
    assert "1 of 9 cells failed, each of them twice" in capsys.readouterr().err
    _, fake = command(fail=[GRPO])
    assert fake.tried == [GRPO, GRPO], "what failed before a command does not count"


def test_a_cell_that_failed_in_one_worker_s_hands_is_not_tried_by_all(study, tmp_path):
    fake = Fake(fail=[GRPO])
    for _ in range(3):
        work(study.cells, tmp_path, 0.0, fake)
    assert fake.tried.count(GRPO) == 2


def test_a_worker_takes_what_another_has_left_in_the_middle(study, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        work(study.cells, tmp_path, 0.0, Fake(stop_in=GRPO))
    assert study.cells[3].name == GRPO and state_of(tmp_path, study.cells[3]).why == "interrupted"
    fake = Fake()
    with cell_lock(cell_folder(tmp_path, study.cells[4])):
        work(study.cells, tmp_path, 0.0, fake)
    assert fake.tested == [GRPO, *(cell.name for cell in study.cells[5:])], "one is held"
    work(study.cells, tmp_path, 0.0, fake)
    assert fake.tested[-1] == study.cells[4].name


# --- workers as processes ---------------------------------------------------------------------------------------------


@pytest.fixture
def started(study, tmp_path):
    """A study's folder with its file in it, as a worker finds it; returns a worker for some of its cells."""
    (tmp_path / "study.yaml").write_text(study.text)
    return lambda *names: InAProcess(tmp_path, f"name={','.join(names)}" if names else "no start", 0.0)


SFT, SLOW = "ct_sft-answer_no-think_0", "oct_sft-answer_no-think_0"


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def wait_until(what, seconds=30):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


def pid_of(root, name):
    file = root / "cells" / name / "pid"
    wait_until(lambda: file.exists() and file.read_text())
    return int(file.read_text())


def test_a_worker_runs_many_cells_with_one_thread_and_its_gpus_and_keeps_what_they_print(study, tmp_path, started):
    run_here(started("base_no-think", GRPO), 1, ["GPU-5f,GPU-60"])
    assert pid_of(tmp_path, "base_no-think") == pid_of(tmp_path, GRPO) != os.getpid()
    log = (tmp_path / "cells" / f"{GRPO}.log").read_text()
    assert log == f"printed by {GRPO} 1 true GPU-5f,GPU-60\n"


def test_workers_spread_over_the_gpus_and_new_ones_take_the_place_of_the_dead(study, tmp_path, started):
    names = ["base_no-think", SFT, GRPO]
    run_here(started(*names), 2, ["0", "1"])
    logs = [(tmp_path / "cells" / f"{name}.log").read_text().splitlines() for name in names]
    assert [len(lines) for lines in logs] == [1, 2, 1], "the one that ends its worker was tried twice"
    assert {line[-1] for lines in logs for line in lines} == {"0", "1"}
    failed = state_of(tmp_path, study.cells[1])
    assert study.cells[1].name == SFT and failed.state == "failed"
    assert failed.record["error"].startswith(
        "WorkerDied: whoever ran it was killed, twice; on Linux this is often want of"
    )
    assert "WorkerDied" in (tmp_path / "cells" / SFT / "error.txt").read_text()
    assert state_of(tmp_path, study.cells[0]).state == state_of(tmp_path, study.cells[3]).state == "done"


def test_a_stopped_study_ends_its_workers_in_the_middle_of_a_cell(study, tmp_path, started):
    def stop():
        if (tmp_path / "cells" / SLOW / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here(started(SLOW), 1, tick=stop)
    assert not alive(pid_of(tmp_path, SLOW))
    assert study.cells[2].name == SLOW and state_of(tmp_path, study.cells[2]).why == "interrupted", "and not failed"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_the_study_does(study, tmp_path, started, how):
    code = "import sys, time\nfrom pathlib import Path\nfrom study_fakes import InAProcess, run_all\n"
    code += "run_all(InAProcess(Path(sys.argv[1]), sys.argv[2], 0.0))\n"
    paths = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", code, str(tmp_path), f"name={SLOW}"]
    parent = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": paths})
    pid = pid_of(tmp_path, SLOW)
    assert alive(pid)
    parent.send_signal(how)
    parent.wait()
    wait_until(lambda: not alive(pid), 10)


def test_a_worker_that_ends_before_it_takes_a_cell_ends_the_study_with_its_reason(study, tmp_path, started):
    with pytest.raises(DataError, match=r"a worker ended with exit status 3; its last words are in .*workers.log"):
        run_here(started(), 2)


def test_each_worker_has_as_many_gpus_as_its_cells_and_more_than_there_are_are_refused(
    command, monkeypatch, tmp_path, capsys
):
    seen = []
    monkeypatch.setattr(commands, "visible_gpus", lambda: ["0", "1", "2"])
    for flags in ([], ["--gpus-per-cell", "2"]):
        command(*flags)
        monkeypatch.setattr(commands, "run_here", lambda *given, tick: seen.append(given))
        (tmp_path / "out" / "cells" / GRPO / "cell.json").write_text("damaged")
        main(["study", "run", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "out"), *flags])
        worker, n, gpus = seen[-1]
        assert n == 1, "as many as there are cells to run"
        assert (worker.gpus_per_cell, gpus) == ((2, ["0,1"]) if flags else (1, ["0", "1", "2"]))
    capsys.readouterr()
    assert command("--gpus-per-cell", "4")[0] == 2
    assert "--gpus-per-cell 4: this machine shows 3 GPUs (0, 1, 2); ask for fewer" in capsys.readouterr().err


@pytest.mark.parametrize("step", [train_cell, predict_cell])
def test_a_model_is_freed_before_the_next_is_loaded(study, tmp_path, monkeypatch, step):
    class Model:  # and its trainer hold each other
        def __init__(self):
            self.trainer = self

    class Loaded(Exception):
        pass

    def load(*_):
        raise Loaded

    monkeypatch.setattr("medr1kit.models.load.load_model", load)
    gc.disable()
    try:
        last = weakref.ref(Model())
        assert last() is not None
        with pytest.raises(Loaded):
            step(study.cells[-1], tmp_path)
        assert last() is None
    finally:
        gc.enable()


# --- status -----------------------------------------------------------------------------------------------------------


def test_the_status_counts_and_shows_steps_rewards_and_errors(command, study, tmp_path, capsys):
    command(fail=["oct_grpo_no-think_0"])
    root, running = tmp_path / "out", next(cell for cell in study.cells if cell.name == GRPO)
    record = read_record(cell_folder(root, running))
    (cell_folder(root, running) / "cell.json").write_text(json.dumps(record | {"state": "running"}))
    capsys.readouterr()
    with cell_lock(cell_folder(root, running)):
        assert main(["study", "status", str(root)]) == 0
    text = capsys.readouterr().out
    assert "small: 9 cells, 7 done, 1 running, 1 failed, 0 waiting; ends about" in text
    assert f"{GRPO}: step 2 of 250, reward 1.50" in text
    assert "oct_grpo_no-think_0: ValueError: no luck with oct_grpo_no-think_0" in text
    assert "interrupted" not in text
    assert f"{GRPO}: interrupted" in describe("small", status_table(root, study.cells)), "the lock is free again"


def test_the_end_is_expected_from_finished_cells_of_the_same_kind():
    table = pd.DataFrame(
        [
            ("sft", "no-think", "done", 10.0),
            ("grpo", "no-think", "done", 40.0),
            ("grpo", "no-think", "waiting", None),  # 40 s
            ("grpo", "think-after", "waiting", None),  # no such cell yet: as grpo, 40 s
            ("sft", "no-think", "running", 4.0),  # 6 s left
        ],
        columns=["method", "format", "state", "seconds"],
    )
    assert seconds_left(table, 1) == pytest.approx(86)
    assert seconds_left(table, 2) == pytest.approx(43)
    assert seconds_left(table[table["state"] != "done"], 2) is None


def test_status_of_a_folder_without_a_study_is_refused(tmp_path, capsys):
    assert main(["study", "status", str(tmp_path)]) == 2
    assert "it has no study.yaml" in capsys.readouterr().err


# --- tables -----------------------------------------------------------------------------------------------------------


def test_predictions_carry_the_schema_and_the_labels(command, study, tmp_path):
    command()
    preds = read_predictions(study, tmp_path / "out")
    assert list(preds.columns) == list(PREDICTIONS) and len(preds) == 9 * 16
    assert preds.loc[preds["method"] == "base", ["seed", "train_modality", "train_task"]].isna().all(axis=None)
    assert set(preds["method"]) == {"base", "sft-answer", "grpo"}
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out" / "predictions.parquet").drop(columns="options"), preds.drop(columns="options")
    )


def test_the_tables_hold_differences_to_the_base_and_what_made_them(command, study, tmp_path, capsys):
    command()
    assert main(["study", "tables", str(tmp_path / "out"), "--to", str(tmp_path / "kept")]) == 0
    transfer = pd.read_csv(tmp_path / "kept" / "transfer_modality.csv")
    assert len(transfer) == 2 * 2 * 2 and (transfer["seeds"] == 2).all()
    assert transfer["difference"].tolist() == [0.5] * 8, "right on all against every other one"
    scores = pd.read_csv(tmp_path / "kept" / "scores_modality.csv")
    assert scores.loc[scores["method"] == "base", "accuracy"].tolist() == [0.5, 0.5]
    curves = pd.read_csv(tmp_path / "kept" / "curves.csv")
    assert len(curves) == 4 * 2 and set(curves["reward"]) == {0.5, 1.5} and set(curves["seed"]) == {0, 1}
    runs = pd.read_csv(tmp_path / "kept" / "runs.csv")
    assert (runs["state"] == "done").all() and runs["predict_seconds"].notna().all()
    made = json.loads((tmp_path / "kept" / "provenance.json").read_text())
    assert (made["finished"], made["missing"], made["seeds"], made["questions"]) == (9, [], [0, 1], 16)
    assert len(made["commands"]) == 1 and set(made["versions"]) > {"torch", "trl", "medr1kit"}
    assert str(tmp_path) not in json.dumps(made), "where the study lay on this machine is nobody's business"


def test_a_folder_for_keeps_holds_the_predictions_too(command, study, tmp_path):
    command()
    main(["study", "tables", str(tmp_path / "out"), "--to", str(tmp_path / "kept")])
    preds, kept = read_predictions(study, tmp_path / "out"), pd.read_parquet(tmp_path / "kept" / "predictions.parquet")
    keys = ["id", "train_modality", "method", "seed"]
    sides = [frame.drop(columns="options").sort_values(keys, ignore_index=True) for frame in (preds, kept)]
    pd.testing.assert_frame_equal(*sides)
    assert not (tmp_path / "out" / "tables" / "predictions.parquet").exists(), "they lie beside that folder already"


def test_tables_of_an_unfinished_study_say_what_is_missing(command, study, tmp_path):
    command("--only", "method=base")
    assert not (tmp_path / "out" / "tables" / "transfer_modality.csv").exists()
    made = json.loads((tmp_path / "out" / "tables" / "provenance.json").read_text())
    assert made["finished"] == 1 and GRPO in made["missing"]


def test_tables_of_a_study_that_has_not_begun_are_refused(study, tmp_path):
    with pytest.raises(DataError, match=r"no cell of small .* is finished"):
        write_tables(study, tmp_path)


# --- what a cell's definition is handed to ----------------------------------------------------------------------------


@pytest.fixture
def handed(tmp_path, monkeypatch):
    """Train and test the first GRPO cell of a study with stand-ins; returns what they were called with."""
    called = {}

    def stand_in(name, result=None):
        return lambda *given, **arguments: called.setdefault(name, []).append(arguments) or result

    monkeypatch.setattr("medr1kit.models.load.load_model", stand_in("load", ("model", "processor")))
    monkeypatch.setattr("medr1kit.training.train.train_grpo", stand_in("train"))
    monkeypatch.setattr("medr1kit.models.predict.predict", stand_in("predict"))

    def run(text):
        cell = next(cell for cell in read_study(write_study(tmp_path, text)).cells if cell.method == "grpo")
        train_cell(cell, tmp_path / "cell")
        predict_cell(cell, tmp_path / "cell")
        return called["load"], called["train"][0], called["predict"][0]

    return run


def test_keys_of_the_file_reach_model_and_trainer(handed):
    grpo = "{grpo: {rewards: [reference_format, accuracy], dynamic_sampling: 2, shared_prefix: false, max_steps: 3}}"
    text = STUDY.replace("[sft-answer, grpo]", grpo).replace(
        "name: small", "name: small\nattn: eager\nmax_pixels: 3136"
    )
    loaded, trained, asked = handed(text)
    assert loaded == [{"attn": "eager", "max_pixels": 3136}] * 2
    assert [reward.__name__ for reward in trained["rewards"]] == ["reference_format_reward", "accuracy_reward"]
    assert (trained["dynamic_sampling"], trained["shared_prefix"], trained["max_steps"]) == (2, False, 3)
    assert trained["preset"] == PRESETS["tiny"]["grpo"] and not trained["resume"] and asked["share"]


def test_the_preset_med_r1_trains_weights_in_float32(handed):
    loaded, trained, _ = handed(STUDY.replace("name: small", "name: small\npreset: med-r1"))
    assert loaded == [{"dtype": "float32"}, {}] and trained["preset"] == PRESETS["med-r1"]["grpo"]


@pytest.mark.parametrize(
    ("preset", "settings", "n", "shared"),
    [
        ({}, {}, 1, {}),
        ({}, {}, 2, (4, 1)),
        ({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}, {}, 4, (8, 1)),
        ({"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}, {}, 2, (8, 2)),
        ({"per_device_train_batch_size": 64}, {"per_device_train_batch_size": 12}, 3, (4, 1)),
        ({"questions": 4, "per_device_train_batch_size": 4}, {}, 2, {}),  # the preset shares them itself
        ({"questions": 4}, {"gradient_accumulation_steps": 2}, 2, (8, 1)),
    ],
)
def test_several_processes_take_the_rows_of_a_step_that_one_would_take(preset, settings, n, shared):
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    assert shared_step({"preset": preset, "settings": settings}, n) == (shared and dict(zip(names, shared)))


def test_rows_that_cannot_be_shared_are_refused_before_anything_runs(command, capsys):
    text = STUDY.replace("[sft-answer, grpo]", "{sft-answer: {per_device_train_batch_size: 5}}")
    status, fake = command("--gpus-per-cell", "2", text=text)
    assert status == 2 and not fake.tried
    assert "a step of this cell has 5 rows, which 2 processes cannot share evenly" in capsys.readouterr().err


# --- a real cell ------------------------------------------------------------------------------------------------------


def test_a_real_cell_trains_is_tested_as_saved_and_goes_on_after_its_training(one_thread, tmp_path):
    text = STUDY.replace("[CT, OCT]", "[CT]").replace("[sft-answer, grpo]", "{grpo: {max_steps: 2}}")
    study = read_study(write_study(tmp_path, text))
    cell, root = study.cells[1], tmp_path / "out"
    folder = cell_folder(root, cell)
    assert run_cell(cell, folder), (folder / "error.txt").read_text()
    preds = pd.read_parquet(folder / "predictions.parquet")
    assert len(preds) == 16 and set(preds["modality"]) > {"CT", "OCT"}
    labels = preds[["model", "train_modality", "train_task", "method", "format", "seed"]].drop_duplicates()
    assert labels.to_numpy().tolist() == [["tiny", "CT", None, "grpo", "no-think", 0]]
    assert len(pd.read_csv(folder / "metrics.csv")) == 2 and (folder / "adapter").is_dir()
    (folder / "predictions.parquet").unlink()
    assert state_of(root, cell).state == "waiting"

    def no_training(cell, folder):
        raise AssertionError("trained again")

    assert run_cell(cell, folder, train=no_training)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), preds)
