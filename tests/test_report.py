"""The report: what stands in the page is what the widgets show, and nothing in it can act."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from PIL import Image
from report_fakes import QUESTIONS, Page, check_page, hostile_answers, small_study, unpack, write_run
from study_fakes import answers as fake_answers
from study_fakes import write_study
from widget_fakes import HOSTILE, check_safe

from medr1kit.__main__ import main
from medr1kit.results.answers import Answers
from medr1kit.results.compare import compare
from medr1kit.results.tables import score
from medr1kit.study.folder import cell_folder, write_record
from medr1kit.study.grid import read_study
from medr1kit.views.page import write_report
from medr1kit.views.page.page import embed, pack, page_of
from medr1kit.views.page.reader import sample_ids
from medr1kit.views.pictures import Gallery
from medr1kit.views.widgets.question import answer_html
from medr1kit.views.widgets.transfer import explore_transfer
from medr1kit.vqa import DataError


def write_preds(frame, folder):
    frame.to_parquet(folder / "predictions.parquet", index=False)
    return folder / "predictions.parquet"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A page of the small study with 12 of its 36 questions."""
    folder = tmp_path_factory.mktemp("study")
    return Page(write_report(write_preds(small_study(), folder), questions=12))


# --- safe and self-contained ------------------------------------------------------------------------------------------


def test_what_is_embedded_cannot_end_its_element_and_comes_back_as_it_was():
    value = [*HOSTILE.values(), "</script><!--<script>", "\u2028\u2029"]
    element = embed(value, "x")
    inner = element.partition(">")[2].removesuffix("</script>")
    assert not set(inner) & set("<>&\u2028\u2029") and inner.isascii()
    assert json.loads(inner) == value == unpack(pack(value))
    assert pack(value) == pack(value)


def test_the_page_is_one_file_that_asks_for_nothing_and_runs_one_script(study):
    check_page(study)


def test_hostile_questions_options_and_names_stay_text(tmp_path):
    hostile = hostile_answers(train_modality='<img src=x onerror="alert(1)">')
    page = Page(write_report(write_preds(hostile, tmp_path)))
    check_page(page)
    questions = [unpack(packed) for packed in page.held("questions")]
    for held in questions:
        for piece in (held["html"], *held["shown"]):
            check_safe(re.sub(r'<span data-image="\d+"></span>', "", piece))
    assert {text for held in questions for text in held["texts"]} == set(hostile["text"])
    assert sum(element == "script" for element, _ in page.elements) == 1 + len(page.scripts) - 1


def test_hostile_rollouts_stay_text(tmp_path):
    run = write_run(tmp_path / "run")
    page = Page(write_report(run))
    check_page(page)
    held = page.held("run")
    groups = [group for packed in held["groups"] for group in unpack(packed)]
    assert len(groups) == 5 and held["sampled"] == [1, 2, 3, 4, 5] and held["steps"] == [1, 2, 3, 4, 5, 6]
    for group in groups:
        seen = check_safe(re.sub(r'<span data-image="\d+"></span>', "", group["html"]))
        assert len(seen.texts["completions"]) == 1 and "<script>" in seen.all
    assert str(tmp_path) not in page.text, "where a run lay is nobody's business"


# --- the same content as the widgets ----------------------------------------------------------------------------------


def test_scores_are_those_of_score_over_all_questions(study):
    keys = ["method", "format", "train_modality", "train_task"]
    expected = score(small_study(), by=keys, cluster="id")
    rows = re.findall(r"<tr><td>(.*?)</tr>", study.section("scores").split("data-table=")[1])
    assert len(rows) == len(expected) == 6
    for row, wanted in zip(rows, expected.to_dict("records")):
        cells = re.sub(r"</?td>", "|", row).split("||")
        assert cells[0] == wanted["method"] and cells[1] == wanted["format"]
        assert cells[3] == f"{100 * wanted['accuracy']:.1f} %" and cells[8] == str(QUESTIONS)
        assert cells[4] == f"[{100 * wanted['low']:.1f}, {100 * wanted['high']:.1f}]"


def test_gains_are_those_of_compare_on_what_was_trained_and_on_all_else(study):
    part = study.section("scores").split('data-table="gains over the untrained base"')[1]
    rows = [re.sub(r"</?t[dr]>", "|", row).split("||") for row in re.findall(r"<tr><td>(.*?)</tr>", part)]
    assert len(rows) == 8
    for method, asked, trained, tested, gain, limits, form, answers, fixed, broken, n, _ in rows:
        preds = small_study()[small_study()["format"].eq(asked)]
        inside = preds["modality"].eq(trained) == (tested == "the same")
        after = preds["method"].eq(method) & preds["train_modality"].eq(trained)
        change = compare(preds[inside & preds["method"].eq("base")], preds[inside & after])
        assert (gain, form) == (f"{100 * change.difference:+.1f}", f"{100 * change.repaired_format:+.1f}")
        assert limits == f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
        assert answers == f"{100 * change.changed_answer:+.1f}"
        assert (fixed, broken, n) == (str(change.fixed), str(change.broken), str(change.n))


def test_a_gain_that_cannot_be_paired_says_why_and_leaves_the_others(tmp_path):
    preds = small_study().copy()
    other = preds["format"].eq("no-think") & preds["method"].eq("grpo") & preds["train_modality"].eq("CT")
    preds.loc[other, "id"] = "other-" + preds.loc[other, "id"]
    page = Page(write_report(write_preds(preds, tmp_path)))
    assert "grpo no-think CT, the same: no question is in both frames" in page.section("scores")
    assert page.section("scores").split("gains over")[-1].count("<tr><td>") == 6


def test_without_a_base_there_are_no_gains(tmp_path):
    page = Page(write_report(write_preds(small_study().query("method != 'base'"), tmp_path)))
    assert "gains over" not in page.section("scores")


def test_every_map_and_every_cell_says_what_the_widget_says(study):
    panel = explore_transfer(small_study())
    maps = study.held("maps")
    names = re.findall(r"<h4>(grpo: .*?)</h4>", study.section("maps"))
    assert names == [one.name for one in panel.maps] and len(maps) == len(names) == 3
    for number, one in enumerate(panel.maps):
        panel.choose_map(number)
        cells = unpack(maps[number]["cells"])
        assert set(cells) == {f"{a} → {b}" for a, b in zip(panel.table[one.train], panel.table[one.by])}
        for name, cell in cells.items():
            panel.choose_cell(*name.split(" → "))
            assert cell["html"] == panel._cell_html()
    assert "published:" in study.section("maps"), "Med-R1's map stands beside no-think minus think-before"


def test_a_cell_leads_to_the_two_answerers_behind_it(study):
    names = study.held("reader")["names"]
    cell = unpack(study.held("maps")[0]["cells"])["CT → OCT"]
    assert [names[k] for k in cell["who"]] == ["base · think-before", "trained on CT · grpo · think-before"]
    assert cell["test"] == "OCT" and study.held("maps")[0]["by"] == "modality"


def test_each_answer_is_rendered_as_the_inspector_does_and_each_text_once(study):
    preds = small_study()
    ready, packed = study.held("reader"), study.held("questions")
    answers = Answers([preds[preds["id"].isin(ready["rows"]["id"])].reset_index(drop=True)])
    assert [one.name for one in answers.answerers] == ready["names"] and len(packed) == 12
    for number, held in enumerate(map(unpack, packed)):
        assert answers.ids[number] == ready["rows"]["id"][number]
        assert len(held["texts"]) <= len(answers.answerers) and len(set(held["shown"])) == len(held["shown"])
        for k, one in enumerate(answers.answerers):
            heading, _, body = answer_html(one, one.answer(number)).partition("</h4>")
            assert held["shown"][held["places"][k]] == body and one.name in heading
            assert ready["right"][k][number] == str(int(one.answer(number)["correct"]))
            assert held["texts"][held["places"][k]] == one.answer(number)["text"]


def test_a_question_that_somebody_did_not_answer_says_so(tmp_path):
    preds = small_study()
    gone = preds["id"].eq(preds["id"].iloc[0]) & preds["method"].eq("grpo")
    page = Page(write_report(write_preds(preds[~gone], tmp_path)))
    at = page.held("reader")["rows"]["id"].index(preds["id"].iloc[0])
    places = unpack(page.held("questions")[at])["places"]
    assert sorted(set(places))[0] == -1 and [row[at] for row in page.held("reader")["right"]].count("-") == 4


def test_what_is_not_known_of_a_score_is_a_dash(tmp_path):
    preds = small_study()
    one = preds[preds["id"].eq(preds["id"].iloc[0])].assign(n_tokens=float("nan"))
    page = Page(write_report(write_preds(one, tmp_path)))
    assert "nan" not in page.section("scores") and "<td>–</td>" in page.section("scores")


# --- what is embedded -------------------------------------------------------------------------------------------------


def test_the_sample_is_even_repeatable_and_stated(study):
    preds = small_study()
    ids = sample_ids(preds, 12, seed=0)
    assert ids == sample_ids(preds.sample(frac=1, random_state=3), 12, seed=0) != sample_ids(preds, 12, seed=1)
    chosen = preds[preds["id"].isin(ids)].drop_duplicates("id")
    counts = chosen.groupby(["modality", "task"]).size()
    assert counts.max() - counts.min() <= 1 and len(chosen) == 12
    assert "12 of 36 questions are in this page" in study.section("reader")
    assert set(sample_ids(preds, 1000, seed=0)) == set(preds["id"])


def test_an_image_is_embedded_once_however_many_questions_ask_about_it():
    gallery = Gallery()
    places = [gallery.html({"id": f"CT-test-0-0-{task}", "image_id": "CT-test-0-0"}) for task in ("AI", "MR")]
    assert places == ['<span data-image="0"></span>'] * 2 and len(gallery.images) == 1
    gallery.html({"id": "7", "image_id": "a.png"})
    assert "image not given" in gallery.images[1]


def test_groups_are_spread_over_the_steps_where_not_all_fit(tmp_path):
    run = write_run(tmp_path / "run", steps=12, texts=("<answer>B</answer>", "A"))
    page = Page(write_report(run, questions=3))
    assert page.held("run")["sampled"] == [1, 6, 11] and len(page.held("run")["steps"]) == 12
    assert "completions of 3 of 11 steps are in this page" in page.text
    assert Page(write_report(run, questions=1)).held("run")["sampled"] == [11]


def test_the_completions_of_a_long_run_are_read_in_a_few_passes_and_its_numbers_are_all_there(tmp_path, monkeypatch):
    from pyarrow import parquet

    run, opened, whole = write_run(tmp_path / "run", steps=400, texts=("A",)), [], parquet.ParquetFile
    monkeypatch.setattr(parquet, "ParquetFile", lambda *one, **more: opened.append(1) or whole(*one, **more))
    page = Page(write_report(run, questions=50))
    assert len(page.held("run")["sampled"]) == 50 and len(opened) < 5, "once a step takes minutes for 20,000 steps"
    numbers = unpack(page.held("run")["numbers"])
    assert len(numbers) == 400 and all(f"all numbers of step {i}<" in one for i, one in enumerate(numbers, 1))
    assert numbers[122].count("<td>reward</td><td>12.3</td>") == 1
    assert "curves of more than 300 points show the lowest and the highest of each stretch" in page.section("run")


def test_completions_that_cannot_be_read_are_not_said_to_be_none(tmp_path):
    run = write_run(tmp_path / "run", steps=3)
    (run / "rollouts.parquet").write_bytes((run / "rollouts.parquet").read_bytes()[:50])
    page = Page(write_report(run))
    assert "rollouts.parquet is not a whole parquet file" in page.section("run")
    assert "supervised training samples none" not in page.text


def test_a_map_that_cannot_be_computed_says_why_and_leaves_the_others(tmp_path):
    preds = small_study().copy()
    other = preds["format"].eq("no-think")
    preds.loc[other, "id"] = "other-" + preds.loc[other, "id"]
    page = Page(write_report(write_preds(preds, tmp_path)))
    assert len(page.held("maps")) == 2
    said = "no-think minus think-before, by modality (tiny): no question is answered in both"
    assert said in page.section("maps")


def test_a_cell_that_cannot_be_compared_says_why_and_leaves_the_others(tmp_path):
    preds = small_study().query("format == 'no-think'").reset_index(drop=True)
    cell = preds["method"].eq("grpo") & preds["train_modality"].eq("CT") & preds["modality"].eq("OCT")
    preds.loc[preds.index[cell][::2], "seed"] = 1
    page = Page(write_report(write_preds(preds, tmp_path)))
    cells = unpack(page.held("maps")[0]["cells"])
    said = [name for name, cell in cells.items() if "no question was answered by every seed" in cell["html"]]
    assert said == ["CT → OCT"]


def test_supervised_runs_have_curves_and_no_groups(tmp_path):
    run = tmp_path / "sft"
    run.mkdir()
    (run / "run.json").write_text('{"method": "sft"}')
    (run / "metrics.csv").write_text("step,loss\n1,2.5\n2,1.5\n")
    page = Page(write_report(run))
    assert "loss" in page.section("run") and "supervised training samples none" in page.text
    assert 'data-mk="group"' not in page.text and 'id="reader"' not in page.text


# --- from the command line --------------------------------------------------------------------------------------------


def test_a_study_s_folder_says_what_was_run_and_what_is_missing(tmp_path, capsys):
    root = tmp_path / "out"
    root.mkdir()
    study = read_study(write_study(root, name="study.yaml"))
    (root / "commands.txt").write_text(f"2026-01-01T00:00:00 medr1kit study run small.yaml --output {root}\n")
    for cell in study.cells[:5]:
        folder = cell_folder(root, cell)
        folder.mkdir(parents=True)
        fake_answers(cell).to_parquet(folder / "predictions.parquet", index=False)
        record = {"name": cell.name, "state": "done", "fingerprint": cell.fingerprint, "seconds": {"predict": 3600.0}}
        times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T05:00:00+00:00"}
        write_record(folder, record | times | {"versions": {"torch": "2.13.0"}})
    assert main(["report", str(root)]) == 0
    page = Page(root / "report.html")
    assert (
        "5 of 9 finished" in page.text and "torch: 2.13.0" in page.text and "medr1kit study run small.yaml" in page.text
    )
    assert str(tmp_path) not in page.text and study.cells[-1].name in page.text
    assert page.held("reader")["names"][0] == "base" and len(page.held("maps")) == 2
    assert "report.html (" in capsys.readouterr().out


def times_of_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"}


def test_a_study_s_folder_is_read_from_its_tables_where_nobody_else_reads_its_cells(tmp_path, capsys):
    study = read_study(write_study(tmp_path, name="study.yaml"))
    with pytest.raises(DataError, match=f"no tables yet; write them: medr1kit study tables {tmp_path}"):
        write_report(tmp_path)
    for number, cell in enumerate(study.cells[:6]):
        if number == 5:
            assert main(["study", "tables", str(tmp_path)]) == 0
        folder = write_run(cell_folder(tmp_path, cell), steps=2)
        fake_answers(cell).to_parquet(folder / "predictions.parquet", index=False)
        record = {"name": cell.name, "state": "done", "fingerprint": cell.fingerprint, "versions": {}}
        record |= {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T05:00:00+00:00"}
        write_record(folder, record | {"seconds": {"predict": 360.0}, "cpu_seconds": {}})
    of_tables = Page(write_report(tmp_path))
    assert "study small" in of_tables.text and "5 of 9 finished" in of_tables.text
    before = times_of_files(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    of_cells = Page(tmp_path / "report.html")
    assert "6 of 9 finished" in of_cells.text, "the command reads the cells"
    assert times_of_files(tmp_path) == before, "and writes nothing but the page"
    rows = [page.section("facts").partition("<details>")[0].count("<tr>") for page in (of_tables, of_cells)]
    assert rows[0] == rows[1] and study.cells[5].name in of_tables.text


def test_images_of_one_s_own_questions_are_found_by_the_loader(tmp_path, capsys):
    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "problem": "Which colour? A)red, B)blue", "solution": "<answer> A </answer>"}]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    from medr1kit.data.load import load_vqa

    asked = load_vqa(str(tmp_path / "questions.json"), images=str(tmp_path))[0]
    row = small_study().iloc[[0]].assign(**{name: asked[name] for name in ("id", "image_id", "question", "answer")})
    row = row.assign(predicted="A", lenient_predicted="A")
    row["options"] = [asked["options"]]
    preds = write_preds(row, tmp_path)
    with pytest.warns(
        UserWarning, match="1 of 1 images are not given; write the page with data=, or with --dataset_na"
    ):
        assert "image not given" in Page(write_report(preds)).held("images")[0]
    flags = ["--dataset_name", str(tmp_path / "questions.json"), "--image_folder", str(tmp_path)]
    assert main(["report", str(preds), *flags]) == 0
    assert "data:image/png" in Page(tmp_path / "report.html").held("images")[0]


def test_a_result_file_of_another_tool_is_a_report_with_three_ways_of_reading_it(tmp_path, capsys):
    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "a.png")
    asked = [{"image": "a.png", "problem": f"Is it {word}? A)yes, B)no", "solution": "A"} for word in ("red", "round")]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    theirs = {"question": "Is it red?", "answer": "yes", "response": "<answer>A) yes</answer>", "correct": False}
    rows = [theirs, theirs | {"question": "Is it round?", "response": "No."}]
    rows += [theirs | {"question": "What is it?", "answer": "a ball"}]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    command = ["report", str(tmp_path / "results.json")]
    assert main(command) == 2 and "3 of 3 rows have no options" in capsys.readouterr().err
    command += ["--dataset_name", str(tmp_path / "asked.json"), "--check", "drop"]
    with pytest.warns(UserWarning, match="dropped 1 of 3 rows"):
        assert main(command) == 0
    sheet = tmp_path / "sheet.csv"
    assert main([*command, "--image_folder", str(tmp_path), "--worksheet", str(sheet)]) == 0
    page = Page(tmp_path / "report.html")
    facts = page.section("facts")
    assert "data:image/png" in page.held("images")[0] and "Is it round?" in sheet.read_text()
    for fact in ("results", "as read here", "50.0 %", "Med-R1&#x27;s parser", "0.0 %, of 2 answers"):
        assert fact in facts


def test_what_is_no_run_and_no_study_is_refused_in_a_sentence(tmp_path, capsys):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/run.json").write_text("{}")
    for name in ("letter.txt", "letter.html"):
        (tmp_path / name).write_text("dear")
    write_preds(pd.DataFrame({"id": []}), tmp_path)
    write_run(tmp_path / "torn")
    with open(tmp_path / "torn/metrics.csv", "a") as metrics:
        metrics.write("7,1,2,3,4,5,6\n")
    for name, provenance, options in (("list", "[1]", list("abcd")), ("blank", "{}", None)):
        (tmp_path / name).mkdir()
        rows = small_study().head(2)
        write_preds(rows.assign(options=[options] * len(rows)), tmp_path / name)
        (tmp_path / name / "provenance.json").write_text(provenance)
    run = str(tmp_path / "run")
    for words, said in (
        ([str(tmp_path / "nowhere")], "there is no such folder"),
        ([str(tmp_path / "empty")], "it has no run.json, no study.yaml and no predictions.parquet"),
        ([str(tmp_path / "begun")], "has logged nothing and answered nothing yet"),
        ([str(tmp_path / "letter.txt")], "there are no rows in it"),
        (
            [str(tmp_path / "run/run.json")],
            "no result file of Med-R1, VLMEvalKit, lmms-eval (its samples) or MedEvalKit",
        ),
        ([str(tmp_path / "predictions.parquet")], "predictions without the column(s)"),
        ([str(tmp_path / "torn")], "metrics.csv cannot be read"),
        ([str(tmp_path / "list")], "provenance.json holds a list; write the tables again"),
        ([str(tmp_path / "blank")], "predictions row 0: options are None; expected a list of option texts"),
        ([run, "--questions", "0"], "questions=0 is not a whole number of at least 1"),
        ([run, "--output", str(tmp_path / "letter.txt/page.html")], "cannot be written"),
        ([run, "--output", str(tmp_path)], "is a folder; name a file in it that ends in .html"),
        ([run, "--output", str(tmp_path / "letter.txt")], "does not end in .html"),
        ([run, "--output", str(tmp_path / "letter.html")], "exists and is none that medr1kit wrote"),
    ):
        assert main(["report", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("medr1kit report: ") and said in error and error.count("\n") == 1, words
    assert (tmp_path / "letter.txt").read_text() == (tmp_path / "letter.html").read_text() == "dear"


def test_a_study_without_a_finished_cell_is_refused(tmp_path, capsys):
    write_study(tmp_path, name="study.yaml")
    assert main(["report", str(tmp_path)]) == 2
    assert "is finished; run the study first" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_what_was_passed_instead_of_a_path_or_a_number_is_said(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", steps=2)
    for arguments, said in (
        ({"path": None}, "path is None; give the path"),
        ({"path": small_study()}, "path is a DataFrame; give the path"),
        ({"output": 3}, "output is an int; give the path"),
        ({"questions": "10"}, "questions='10' is not a whole number"),
        ({"seed": -1}, "seed=-1 is not a whole number"),
        ({"data": "questions.json"}, "data is the text 'questions.json'; load it first"),
    ):
        with pytest.raises(DataError, match=said):
            write_report(**{"path": run, "output": tmp_path / "r.html"} | arguments)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_report("~/run", "~/new/r.html") == tmp_path / "new/r.html"


def test_data_that_holds_none_of_the_questions_is_said(tmp_path):
    preds = write_preds(small_study(), tmp_path)
    other = Dataset.from_list([{"id": "other", "image": Image.new("RGB", (4, 4))}])
    for show in (lambda: write_report(preds, data=other), lambda: explore_transfer(small_study(), data=other)):
        with pytest.raises(DataError, match=r"no id of the answers is in data=.* in data= it is 'other'"):
            show()


def test_an_earlier_report_is_replaced_and_the_same_again_but_for_the_date(tmp_path):
    run = write_run(tmp_path / "run", texts=("<answer>B</answer>",))
    first = write_report(run).read_text()
    assert re.sub(r"written \S+", "", first) == re.sub(r"written \S+", "", write_report(run).read_text())
    assert not list(run.glob("*.part"))


def test_a_page_that_cannot_be_written_is_refused(tmp_path):
    run = write_run(tmp_path / "run", steps=2)
    with pytest.raises(DataError, match="cannot be a path"):
        write_report(run, tmp_path / ("x" * 300 + ".html"))


def test_the_names_of_sections_are_listed_where_there_are_any():
    page = page_of("a < b", "0", ['<section id="scores"></section>', ""], {})
    assert '<a href="#scores">scores</a>' in page and 'href="#maps"' not in page and "a &lt; b" in page
    assert np.char.count(page, "<script") == 1


def test_notes_are_kept_when_a_page_is_written_again_with_more_answers(tmp_path):
    preds = small_study()
    fewer = write_preds(preds[preds["method"] == "base"], tmp_path)
    part = Page(write_report(fewer, questions=5)).text.partition('data-store="')[2][:30]
    whole = Page(write_report(write_preds(preds, tmp_path))).text.partition('data-store="')[2][:30]
    other = Page(write_report(write_preds(preds.assign(id="new-" + preds["id"]), tmp_path)))
    assert part == whole and part not in other.text


def test_full_paths_of_a_run_are_cut_to_their_names(tmp_path):
    run = write_run(tmp_path / "run")
    config = json.loads((run / "run.json").read_text())
    config |= {"model": str(tmp_path / "models/qwen"), "continued_from": {"path": "C:\\\\runs\\\\first", "steps": 3}}
    (run / "run.json").write_text(json.dumps(config))
    facts = Page(write_report(run)).section("facts")
    assert str(tmp_path) not in facts and "qwen" in facts
    assert "C:" not in facts and "first" in facts
