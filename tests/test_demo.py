"""The demo leaves what it promises; a short one, for the real one is `make demo`."""

import re

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.commands.demo import run_demo
from medr1kit.results.numbers import percent
from medr1kit.results.runs import load_run
from medr1kit.vqa import DataError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder of a demo of 16 training questions, made over what an older version left behind."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "report.html").write_text("<!doctype html><html lang=en><title>medr1kit demo</title>")
    assert run_demo(folder, modality="OCT", max_steps=2, n=16) == folder / "report.html"
    return folder


def test_the_demo_leaves_runs_predictions_figures_and_a_self_contained_report(demo):
    preds = pd.read_parquet(demo / "predictions.parquet")
    assert preds.groupby("method").size().to_dict() == {"base": 16, "sft": 16, "grpo": 16}
    assert set(preds[preds["method"] != "base"]["train_modality"]) == {"OCT"}
    for name, steps in {"sft": 1, "grpo": 2}.items():  # 16 questions, 16 or 8 a step: either sees each once
        assert len(load_run(demo / name).metrics) == steps
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
    assert re.search(r"wall clock</td><td>\d+ s", page)


def test_all_is_about_a_scanner_that_the_base_has_never_seen_and_the_report_says_what_a_gain_then_is(demo):
    page, preds = (demo / "report.html").read_text(), pd.read_parquet(demo / "predictions.parquet")
    assert preds["id"].str.contains("+scanner=B", regex=False).all()
    assert all("+scanner=B" in row_id for row_id in load_run(demo / "grpo").rollouts["id"])
    assert "trained on</td><td>OCT of scanner B<" in page
    read_so = page.split("read it so</td>")[1].split("</tr>")[0]
    assert (
        "This is recovery, not new knowledge: before this training the model had never seen OCT of scanner B" in read_so
    )


def test_the_report_sets_controls_beside_what_is_right_at_home(demo):
    page, preds = (demo / "report.html").read_text(), pd.read_parquet(demo / "predictions.parquet")
    home = preds[preds["modality"].eq("OCT") & preds["task"].ne("Modality Recognition")]
    at_home = page.split("right at home, without Modality Recognition</td>")[1].split("</tr>")[0]
    for method, name in {"base": "untrained", "sft": "SFT", "grpo": "GRPO"}.items():
        right = mk.score(home[home["method"].eq(method)], by=None).iloc[0]
        assert f"{name}: {percent(right['accuracy'], right['low'], right['high'])}" in at_home
        assert re.search(rf"{name}, beside shuffled pictures: [\d.]+ % \[", at_home)
    assert re.search(r"untrained, pictures corrected by arithmetic: [\d.]+ % \[", at_home)


def test_its_report_opens_with_what_grpo_did(demo):
    preds, page = pd.read_parquet(demo / "predictions.parquet"), (demo / "report.html").read_text()
    home = preds[preds["modality"].eq("OCT") & preds["task"].ne("Modality Recognition")]
    change = mk.compare(home[home["method"].eq("base")], home[home["method"].eq("grpo")])
    before, after = (percent(share) for share in (change.accuracy_before, change.accuracy_after))
    told = f"{change.n} new OCT questions: {before.removesuffix(' %')} → {after} right, "
    first = page.split('<section id="story">')[1].split("</section>")[0]
    assert told in first and first.count('data-mk="image"') == 1 and "This is recovery, not new knowledge" in first
    assert page.index('id="story"') < page.index('id="facts"') and "<h1>medr1kit demo</h1>" in page


def test_report_writes_the_page_of_a_demo_again_and_again(demo, capsys):
    first = (demo / "report.html").read_text()
    for _ in range(2):
        assert main(["report", str(demo)]) == 0
        assert re.sub(r"written \S+", "", (demo / "report.html").read_text()) == re.sub(r"written \S+", "", first)


def test_a_demo_runs_again_over_its_own_folder_says_what_it_does_and_ends_with_what_its_page_opens_with(demo, capsys):
    assert run_demo(demo, modality="CT", max_steps=1, n=16).is_file()
    assert "trained on</td><td>CT of scanner B<" in (demo / "report.html").read_text()
    said, told = capsys.readouterr().out, re.search(r'data-mk="told">(.*?)<', (demo / "report.html").read_text())[1]
    assert told in " ".join(said.split("4/4")[1].split()) and "✓ gold" in said
    assert "asking the untrained model 16 questions about scanner B, which it has never seen" in said
    assert "GRPO on 8 CT questions of scanner B" in said and "had never seen CT of scanner B" in " ".join(said.split())


def test_too_few_questions_for_eight_modalities_are_refused(tmp_path):
    with pytest.raises(DataError, match="n=15: too few test questions for eight modalities; ask 16 or more"):
        run_demo(tmp_path, max_steps=1, n=15)


def test_a_page_of_somebody_else_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "report.html").write_text("<title>mine</title>")
    with pytest.raises(DataError, match="exists and is none that medr1kit wrote"):
        run_demo(tmp_path, max_steps=1, n=16)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    "name", ["accuracy.png", "predictions.parquet", "provenance.json", "sft/README.md", "grpo/adapter/weights"]
)
def test_what_is_not_of_a_demo_stays_and_the_demo_is_refused_before_anything_is_asked(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"study": "mine"}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"was not written by a (demo|run)"):
        run_demo(tmp_path, max_steps=1, n=16)
    assert sorted(tmp_path.rglob("*")) == before and file.read_text() == '{"study": "mine"}'


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "x", "/proc/x"):
        with pytest.raises(DataError, match="cannot be written"):
            run_demo(place, max_steps=1, n=16)
    with pytest.raises(DataError, match="output_dir is None"):
        run_demo(None)
