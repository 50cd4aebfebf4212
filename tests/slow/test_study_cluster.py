"""Workers as jobs of a cluster: what is asked of Slurm, what is refused, and a job whose time is over."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from study_fakes import InAJob, write_study

from medr1kit.__main__ import main
from medr1kit.study import commands
from medr1kit.study.folder import state_of
from medr1kit.study.grid import read_study
from medr1kit.study.workers import submit, wait_for

SLOW = "oct_sft-answer_no-think_0"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`medr1kit study run small.yaml` with flags; returns exit status, output and errors. Nothing may run here."""
    monkeypatch.setattr(commands, "run_here", lambda *_, **__: pytest.fail("ran here"))

    def call(*flags):
        words = ["study", "run", str(write_study(tmp_path)), "--output", str(tmp_path / "out"), *flags]
        status = main(words)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs called sbatch and srun; the script that sbatch was given is kept, and it ends as told."""
    (tmp_path / "bin").mkdir()

    def make(sbatch):
        for name, text in {"sbatch": f"cp $1 {tmp_path}/script; {sbatch}", "srun": ""}.items():
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    make("echo Submitted batch job 77")
    return make


def test_jobs_are_submitted_and_the_command_says_their_ids_and_returns(run, slurm, tmp_path):
    flags = ["--gpus-per-cell", "2", "--time", "90m", "--sbatch", "partition=gpu account=lab --exclusive mem=64G"]
    status, out, _ = run("--cluster", "slurm", *flags, "--workers", "3")
    assert status == 0 and "3 jobs: 77_0 77_1 77_2" in out
    assert f"how far they are: medr1kit study status {tmp_path / 'out'} --watch" in out
    script = (tmp_path / "script").read_text()
    for line in (
        "array=0-2%3",
        "time=90",
        "gpus-per-node=2",
        "partition=gpu",
        "account=lab",
        "mem=64G",
        "job-name=out",
    ):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --exclusive\n" in script and "#SBATCH --signal=USR2@90\n" in script


def test_without_a_word_there_are_eight_jobs_of_one_gpu_each(run, slurm, tmp_path):
    assert "8 jobs: 77_0 " in run("--cluster", "slurm")[1]
    assert "#SBATCH --gpus-per-node=1\n" in (script := (tmp_path / "script").read_text())
    assert "#SBATCH --time=480\n" in script
    assert "1 job: 77\n" in run("--cluster", "slurm", "--only", "method=base", "--gpus-per-cell", "0")[1]
    assert "gpus" not in (tmp_path / "script").read_text()


def test_what_sbatch_refuses_is_one_sentence(run, slurm):
    slurm("echo sbatch: error: invalid partition specified: gpux >&2; exit 1")
    status, _, err = run("--cluster", "slurm", "--sbatch", "partition=gpux")
    assert status == 2 and "the jobs were not submitted: " in err and "invalid partition" in err
    assert "Traceback" not in err and len(err.splitlines()) == 2, "sbatch's own line, and ours"


@pytest.mark.parametrize("text", ["8", "h", "0h", "4m", "8x", "1.5h", "-1h", "08:00:00"])
def test_a_time_that_is_none_is_refused(run, text):
    status, _, err = run("--cluster", "local", f"--time={text}")
    assert status == 2 and f"--time {text!r} is not understood; write 90m, 8h or 2d" in err


def test_without_slurm_or_submitit_the_command_says_so_and_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = run("--cluster", "slurm")
    assert status == 2 and "--cluster slurm: there is no Slurm here (no sbatch and srun" in err
    monkeypatch.setitem(sys.modules, "submitit", None)
    status, _, err = run("--cluster", "local")
    assert status == 2 and "--cluster needs the package submitit, which is not installed: pip install" in err
    assert not (tmp_path / "out").exists()


# --- jobs that run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Submit a worker for some cells as a job of this machine."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    study = read_study(write_study(tmp_path, name="study.yaml"))
    return study, lambda only: submit(InAJob(tmp_path, only, 0.0), "local", 1, 10, {}, ["GPU-5f"])


# Of the kept script: submitit moves the one that it gave as soon as sbatch has ended, before a slow job has read it.
SBATCH = """for i in $(seq 0 $(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' $1)); do
  export SLURM_JOB_ID=$((78 + i)) SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$i
  setsid sh ${0%/*}/../script < /dev/null > /dev/null 2>&1 &
done
echo Submitted batch job 77"""
SRUN = """while case $1 in --unbuffered) shift;; --*) shift 2;; *) false;; esac; do :; done
exec "$@" >> {0}/log 2>&1"""
SCONTROL = """echo $* >> {0}/requeued
SLURM_JOB_ID=99 SLURM_ARRAY_JOB_ID=77 \\
SLURM_ARRAY_TASK_ID=${{2#77_}} setsid sh {0}/script < /dev/null > /dev/null 2>&1 &"""


def test_jobs_that_are_killed_or_requeued_leave_no_cell_behind(slurm, tmp_path, monkeypatch, capsys):
    """Programs with Slurm's names that run its jobs on this machine; one cell kills whoever runs it."""
    slurm(SBATCH)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text.format(tmp_path)}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setattr(commands, "Worker", InAJob)
    file, root = write_study(tmp_path), tmp_path / "out"
    words = ["study", "run", str(file), "--output", str(root), "--cluster", "slurm", "--workers", "3"]
    assert main(words) == 0 and "3 jobs: 77_0 77_1 77_2" in capsys.readouterr().out
    os.kill(pid_of(root), signal.SIGUSR2)
    cells, until = read_study(file).cells, time.monotonic() + 90
    while {"waiting", "running"} & set(states := [state_of(root, cell).state for cell in cells]):
        assert time.monotonic() < until, f"{states} {(tmp_path / 'log').read_text()}"
        time.sleep(0.2)
    assert states == ["done", "failed", *["done"] * 7]
    assert "killed, twice" in state_of(root, cells[1]).record["error"]
    assert re.fullmatch(r"requeue 77_[012]\n", (tmp_path / "requeued").read_text())
    assert len((root / "cells" / "ct_sft-answer_no-think_0.log").read_text().splitlines()) == 2


def pid_of(root, other=None):
    file, until = root / "cells" / SLOW / "pid", time.monotonic() + 60
    while not file.exists() or file.read_text() in ("", str(other)):
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)
    return int(file.read_text())


def test_a_job_whose_time_is_over_is_requeued_and_goes_on(jobs, tmp_path):
    study, submitted = jobs
    running = submitted(f"name={SLOW},base_no-think")
    first = pid_of(tmp_path)
    os.kill(first, signal.SIGUSR2)  # as Slurm does
    wait_for(running, lambda: None)
    assert pid_of(tmp_path) != first
    assert [state_of(tmp_path, study.cells[i]).state for i in (0, 2)] == ["done", "done"]
    assert study.cells[2].name == SLOW and state_of(tmp_path, study.cells[2]).record["failures"] == []
    assert "GPU-5f" in (tmp_path / "cells" / f"{SLOW}.log").read_text()


def test_ctrl_c_cancels_jobs_of_this_machine(jobs, tmp_path):
    study, submitted = jobs
    running = submitted(f"name={SLOW}")
    pid_of(tmp_path)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for(running, stop)
    running[0]._process.wait(30)
    assert state_of(tmp_path, study.cells[2]).why == "interrupted"
