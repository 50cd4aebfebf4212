"""The demo leaves what it promises; a short one, for the real one is `make demo`."""

import pandas as pd

from medr1kit.commands.demo import run_demo
from medr1kit.results.runs import load_run


def test_the_demo_leaves_runs_predictions_figures_and_a_self_contained_report(tmp_path):
    page = run_demo(tmp_path, modality="OCT", max_steps=2, n=16).read_text()
    preds = pd.read_parquet(tmp_path / "predictions.parquet")
    assert preds.groupby("method").size().to_dict() == {"base": 16, "sft": 16, "grpo": 16}
    assert set(preds[preds["method"] != "base"]["train_modality"]) == {"OCT"}
    for name in ("sft", "grpo"):
        assert len(load_run(tmp_path / name).metrics) == 2
        assert (tmp_path / name / "README.md").is_file()
    for name in ("transfer", "accuracy", "rewards", "lengths"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    assert page.count("data:image/png;base64,") == 4 and "http" not in page
    assert "points [" in page and "blind" not in page.split("<h2>")[0]
    assert "![" in (tmp_path / "report.md").read_text()
