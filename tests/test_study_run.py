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
from study_fakes import STUDY, Fake, in_a_process, no_start, say_gpu, write_study

from medr1kit.__main__ import main
from medr1kit.results.tables import PREDICTIONS
from medr1kit.study import commands
from medr1kit.study.cell import Worker, WorkerDied, predict_cell, run_cell, run_cells, train_cell
from medr1kit.study.commands import describe, read_shard, seconds_left, status_table
from medr1kit.study.folder import cell_folder, cell_lock, read_record, state_of
from medr1kit.study.grid import read_study
from medr1kit.study.results import read_predictions, write_tables
from medr1kit.vqa import DataError

GRPO = "ct_grpo_no-think_0"


@pytest.fixture
def study(tmp_path):
    return read_study(write_study(tmp_path))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`medr1kit study run small.yaml` with fake cells; returns (exit status, what the fake did)."""

    def run(*words, text=STUDY, **faults):
        fake, real = Fake(**faults), run_cells
        monkeypatch.setattr(commands, "run_cells", lambda *a, **k: real(*a, **k, start=fake))
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
    fake, real = Fake(), run_cells
    monkeypatch.setattr(commands, "run_cells", lambda *a, **k: real(*a, **k, start=fake))
    write_study(tmp_path)
    assert main(["study", "run", "~/small.yaml", "--output=~/out", "--workers=1"]) == 0
    assert main(["study", "status", "~/out"]) == main(["study", "tables", "~/out", "--to=~/kept"]) == 0
    assert (tmp_path / "kept" / "runs.csv").is_file()


def test_two_workers_run_every_cell_once(study, tmp_path):
    fake = Fake()
    run_cells(study.cells, tmp_path, 2, start=fake)
    assert sorted(fake.tested) == sorted(cell.name for cell in study.cells)


def test_a_worker_that_cannot_be_started_ends_the_study_with_its_reason(study, tmp_path):
    def broken():
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        run_cells(study.cells, tmp_path, 2, start=broken)


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_cell_that_is_being_run_elsewhere_is_skipped(command, study, tmp_path, capsys):
    with cell_lock(tmp_path / "out" / "cells" / GRPO):
        status, fake = command()
    assert status == 0 and fake.tested == [cell.name for cell in study.cells if cell.name != GRPO]
    said = capsys.readouterr().out
    assert f"1 skipped, being run by another `medr1kit study run`: {GRPO}" in said
    assert "when all parts are done: medr1kit study tables" in said
    assert command()[1].tested == [GRPO], "the lock is free again"


def test_two_runs_of_one_study_run_every_cell_once_between_them(study, tmp_path):
    fakes = [Fake(), Fake()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda fake: run_cells(study.cells, tmp_path, 1, start=fake), fakes))
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


# --- workers as processes ---------------------------------------------------------------------------------------------


def process(run=in_a_process):
    return Worker(run)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_runs_many_cells_with_one_thread_and_keeps_what_they_print(study, tmp_path):
    worker = process()
    pids = set()
    for cell in (study.cells[0], study.cells[3]):
        worker.begin(cell, tmp_path / cell.name)
        worker.finish()
        pids.add(int((tmp_path / cell.name / "pid").read_text()))
        assert (tmp_path / f"{cell.name}.log").read_text() == f"printed by {cell.name} 1 true\n"
    pid = worker.process.pid
    worker.kill()
    assert pids == {pid}


def test_a_worker_sees_the_one_gpu_that_it_was_given(study, tmp_path):
    cell = study.cells[0]
    worker = Worker(say_gpu, gpu="GPU-5f")
    worker.begin(cell, tmp_path / cell.name)
    worker.finish()
    worker.kill()
    assert (tmp_path / f"{cell.name}.log").read_text() == "GPU-5f\n"


def test_workers_spread_over_the_gpus_and_a_new_one_takes_the_place_of_the_dead(study, tmp_path):
    class Dying(Fake):
        started = ()

        def __call__(self, gpu=None):
            self.started = (*self.started, gpu)
            worker = super().__call__(gpu)
            if len(self.started) == 1:  # the first one dies in its cell
                worker.begin, worker.finish = lambda *_: worker.end.send(None), self.die
            return worker

        def die(self):
            raise WorkerDied("out of memory")

    fake = Dying()
    run_cells(study.cells, tmp_path, 3, start=fake, gpus=["0", "1", "2"])
    assert fake.started == ("0", "1", "2", "0")
    fake = Dying()
    run_cells(study.cells, tmp_path, 4, start=fake, gpus=["0", "1"])
    assert fake.started[:4] == ("0", "1", "0", "1")


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


def test_the_death_of_a_worker_fails_its_cell_and_the_rest_goes_on(study, tmp_path):
    cells = [study.cells[0], study.cells[1], study.cells[3]]
    run_cells(cells, tmp_path, 1, start=process)
    folders = [cell_folder(tmp_path, cell) for cell in cells]
    assert (folders[0] / "pid").read_text() != (folders[2] / "pid").read_text(), "a new worker"
    failed = state_of(tmp_path, cells[1])
    assert (
        failed.state == "failed" and "ended by SIGKILL; on Linux this is often want of memory" in failed.record["error"]
    )
    assert "WorkerDied" in (folders[1] / "error.txt").read_text()


def test_a_stopped_study_ends_its_workers_in_the_middle_of_a_cell(study, tmp_path):
    started = []

    def start():
        started.append(process())
        return started[-1]

    def stop():
        if (tmp_path / "cells").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells([study.cells[2]], tmp_path, 1, start=start, tick=stop)
    assert started[0].process.exitcode == -signal.SIGKILL
    assert read_record(cell_folder(tmp_path, study.cells[2])) == {}, "interrupted is not failed"


def test_workers_end_when_the_study_is_killed(study, tmp_path):
    code = f"import sys\nsys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    code += "from pathlib import Path\nimport test_study_run as t\nfrom medr1kit.study.grid import read_study\n"
    code += "worker = t.process()\nworker.begin(read_study(sys.argv[1]).cells[2], Path(sys.argv[2]) / 'cell')\n"
    code += "worker.finish()\n"
    words = [sys.executable, "-c", code, str(write_study(tmp_path)), str(tmp_path)]
    parent, file = subprocess.Popen(words), tmp_path / "cell" / "pid"
    for _ in range(300):
        if file.exists() and file.read_text():
            break
        time.sleep(0.1)
    pid = int(file.read_text())
    assert alive(pid)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not alive(pid) or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker outlived its study")


def test_a_worker_that_ends_by_itself_says_so(study, tmp_path):
    worker = process(no_start)
    worker.begin(study.cells[0], tmp_path / "cell")
    with pytest.raises(WorkerDied, match="exit status 3"):
        worker.finish()


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


# --- shards -----------------------------------------------------------------------------------------------------------


def test_shards_run_all_cells_between_them_and_leave_the_tables_to_the_last(command, tmp_path, capsys):
    _, first = command("--shard", "1/2")
    assert "when all parts are done: medr1kit study tables" in capsys.readouterr().out
    _, second = command("--shard", "2/2")
    assert first.tested and second.tested and len(first.tested) + len(second.tested) == 9
    assert (tmp_path / "out" / "tables" / "transfer_modality.csv").is_file()


def test_a_slurm_array_names_its_shard(monkeypatch):
    for name, value in {"ID": "5", "MIN": "3", "COUNT": "4"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert read_shard("slurm") == (3, 4)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "slurm"])
def test_a_shard_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(DataError, match="--shard"):
        read_shard(text)


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
