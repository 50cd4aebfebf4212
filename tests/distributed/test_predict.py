"""Several processes answer one data set: `make test-distributed`; the processes are slow to start."""

import json
import os
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest

import medr1kit as mk

QUESTIONS = ("--dataset_name", "phantoms", "--num_rows", "40", "--batch_size", "4", "--max_new_tokens", "16")


def command(output, *flags, processes=2):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    start = start if processes > 1 else [sys.executable]
    return [*start, "-m", "medr1kit", "predict", *QUESTIONS, *flags, "--output", str(output)]


def ask(output, *flags, processes=2):
    line = command(output, *flags, processes=processes)
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def rows_of(output):
    frame = pd.read_parquet(output)
    frame["options"] = frame["options"].map(list)
    return frame


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process answers."""
    output = tmp_path_factory.mktemp("alone") / "p.parquet"
    result = ask(output, processes=1)
    assert result.returncode == 0, result.stderr
    return rows_of(output)


def test_two_processes_write_the_file_of_one(alone, tmp_path):
    output = tmp_path / "p.parquet"
    result = ask(output)
    assert result.returncode == 0, result.stderr
    pd.testing.assert_frame_equal(rows_of(output), alone)
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]
    assert result.stdout.count("mean_tokens") == 2  # by modality and by task, of one process


def kill_with_answers(output, least):
    """Start two processes as torchrun does, and kill both when each has said something, and both at least so much."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    line = command(output, processes=1)
    ranks = [subprocess.Popen(line, env=os.environ | world | {"RANK": rank}, **quiet) for rank in "01"]
    files = [output.with_name(f"{output.name}.partial{rank}.jsonl") for rank in ("", "-1")]
    said, until = [0, 0], time.monotonic() + 200
    while (min(said) < 1 or sum(said) < least) and time.monotonic() < until:
        said = [len(file.read_bytes().splitlines()) - 1 if file.exists() else 0 for file in files]
        time.sleep(0.005)
    for rank in ranks:
        rank.kill()
        rank.wait()
    assert not output.exists(), "it had ended before it could be killed; ask more questions"
    return files


@pytest.mark.parametrize("then", [2, 1, 3])
def test_killed_processes_go_on_with_as_many_as_there_are_then(alone, tmp_path, then):
    output = tmp_path / "p.parquet"
    files = kill_with_answers(output, 6)
    lines = [file.read_bytes().splitlines() for file in files]
    assert [json.loads(header)["rows"] for header, *_ in lines] == [40, 40] and min(map(len, lines)) > 1
    result = ask(output, processes=then)
    assert result.returncode == 0, result.stderr
    pd.testing.assert_frame_equal(rows_of(output), alone)
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def test_what_another_prediction_has_left_is_refused_by_all(tmp_path):
    output = tmp_path / "p.parquet"
    kill_with_answers(output, 2)
    result = ask(output, "--format", "think-after")
    assert result.returncode != 0 and not output.exists()
    assert "partial.jsonl was left by another prediction; delete it" in result.stderr
    assert (
        'Traceback (most recent call last):\n  File "<frozen runpy>' not in result.stderr.split("torch/distributed")[0]
    )


def test_checkpoints_are_shared_too(tmp_path):
    data = mk.load_vqa("phantoms", split="train", modality="CT", n=16)
    settings = {"max_steps": 2, "save_steps": 1, "save_strategy": "steps", "per_device_train_batch_size": 8}
    mk.train_sft(*mk.load_model(), data, format="no-think", output_dir=tmp_path / "run", **settings)
    asked = ("--model_name_or_path", str(tmp_path / "run"), "--checkpoints", "all")
    tables = []
    for processes in (1, 2):
        output = tmp_path / f"p{processes}.parquet"
        result = ask(output, *asked, processes=processes)
        assert result.returncode == 0, result.stderr
        tables.append(rows_of(output))
    assert tables[0]["step"].tolist() == [1] * 40 + [2] * 40
    pd.testing.assert_frame_equal(*tables)
