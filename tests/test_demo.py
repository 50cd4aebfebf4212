"""The demo leaves what it promises; a short one, for the real one is `make demo`."""

import re

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.commands.demo import run_demo
from medr1kit.results.runs import load_run
from medr1kit.vqa import DataError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder of a demo of two steps, made over what an older version left behind."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "report.html").write_text("<!doctype html><html lang=en><title>medr1kit demo</title>")
    assert run_demo(folder, modality="OCT", max_steps=2, n=16) == folder / "report.html"
    return folder


def test_the_demo_leaves_runs_predictions_figures_and_a_self_contained_report(demo):
    preds = pd.read_parquet(demo / "predictions.parquet")
    assert preds.groupby("method").size().to_dict() == {"base": 16, "sft": 16, "grpo": 16}
    assert set(preds[preds["method"] != "base"]["train_modality"]) == {"OCT"}
    for name in ("sft", "grpo"):
        assert len(load_run(demo / name).metrics) == 2
        assert (demo / name / "README.md").is_file()
    for name in ("transfer", "accuracy", "rewards", "lengths"):
        assert (demo / f"{name}.png").stat().st_size > 5000
    page = (demo / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=.?(?:https?:)?//""", page)


def test_its_report_tells_the_gain_the_blind_floor_and_the_time(demo):
    page, preds = (demo / "report.html").read_text(), pd.read_parquet(demo / "predictions.parquet")
    inside = preds[preds["modality"].eq("OCT")]
    change = mk.compare(inside[inside["method"].eq("base")], inside[inside["method"].eq("sft")])
    gain = (
        f"<td>{100 * change.difference:+.1f}</td><td>[{100 * change.low:+.1f}, {100 * change.high:+.1f}]</td>"
        f"<td>{100 * change.repaired_format:+.1f}</td><td>{100 * change.changed_answer:+.1f}</td>"
    )
    assert gain in page and "which sees no image, gets" in page
    assert re.search(r"wall clock</td><td>\d+ s", page) and "trained on</td><td>OCT" in page


def test_report_writes_the_page_of_a_demo_again_and_again(demo, capsys):
    first = (demo / "report.html").read_text()
    for _ in range(2):
        assert main(["report", str(demo)]) == 0
        assert re.sub(r"written \S+", "", (demo / "report.html").read_text()) == re.sub(r"written \S+", "", first)


def test_a_demo_runs_again_over_its_own_folder(demo):
    assert run_demo(demo, modality="CT", max_steps=1, n=16).is_file()
    assert "trained on</td><td>CT" in (demo / "report.html").read_text()


def test_a_page_of_somebody_else_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "report.html").write_text("<title>mine</title>")
    with pytest.raises(DataError, match="is no report of this command"):
        run_demo(tmp_path, max_steps=1, n=16)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
