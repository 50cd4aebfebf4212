"""A place that locks no files is refused before anything is loaded or begun."""

import errno
import os

import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.checkpoints import predict_checkpoints
from medr1kit.results.folders import check_folder
from medr1kit.results.locks import refuse_without_locks
from medr1kit.vqa import DataError


@pytest.fixture(params=[errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def no_locks(request, monkeypatch):
    """As on a file system that was mounted without flock."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_folder_without_locks_is_named_with_the_remedy(no_locks, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} is on a file system that locks no files .*mounted with flock"):
        refuse_without_locks(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_prediction_that_writes_is_refused_before_the_first_question(no_locks, tiny, val_phantoms, tmp_path):
    model, processor = tiny
    asked = {"format": "no-think", "output": tmp_path / "p.parquet"}
    with pytest.raises(DataError, match="locks no files"):
        mk.predict(model, processor, val_phantoms, **asked)
    (tmp_path / "checkpoint-1").mkdir()  # no model is read of it
    with pytest.raises(DataError, match="locks no files"):
        predict_checkpoints(tmp_path, val_phantoms, **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_training_is_refused_before_its_folder_is_made(no_locks, tmp_path):
    with pytest.raises(DataError, match="locks no files"):
        check_folder(tmp_path / "runs" / "ct")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "predict --dataset_name phantoms --output {}/p.parquet",
        "study run {}/small.yaml --output {}/out",
        "sft --dataset_name phantoms --output_dir {}/run",
    ],
)
def test_commands_refuse_it_before_anything_is_loaded(no_locks, tmp_path, monkeypatch, capsys, words):
    from study_fakes import write_study

    write_study(tmp_path)
    monkeypatch.setattr("medr1kit.models.load.load_model", lambda *_, **__: pytest.fail("loaded in vain"))
    assert main(words.replace("{}", str(tmp_path)).split()) == 2
    assert "locks no files" in capsys.readouterr().err


def test_a_folder_with_locks_or_none_to_write_to_is_left_alone(tmp_path):
    refuse_without_locks(tmp_path)
    refuse_without_locks(tmp_path / "missing")
    assert not list(tmp_path.iterdir())
