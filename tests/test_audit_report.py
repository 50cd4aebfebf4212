"""The audit as a whole: one small pair of files with everything wrong, and pairs that are hardly there."""

import json
import math
from io import BytesIO

import datasets
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import medr1kit as mk
from medr1kit.audits import audit, blind_floor
from medr1kit.results.stats import wilson
from medr1kit.vqa import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDR1KIT_CACHE", str(tmp_path / "cache"))
    yield
    plt.close("all")


def ask(options, answer, **columns):
    return {"options": options, "answer": answer, **columns}


def files(n_train=200, n_test=120, seed=0):
    """Questions whose right answers come from four words and whose wrong ones were made up; 20 images are shared."""
    rng = np.random.default_rng(seed)

    def row(side, number):
        place = int(rng.integers(4))
        options = [f"made up {rng.integers(10**6)}" for _ in range(4)]
        options[place] = str(rng.choice(["cyst", "stone", "tumour", "healthy"]))
        image = f"Images/set/{'shared' if number < 20 else side}_{number}.png"
        columns = {"id": f"{side}-{number}", "image_id": image, "question": f"What is seen in case {number}?"}
        return ask(options, "ABCD"[place], modality="CT", task="Disease Diagnosis", **columns)

    return [row("train", k) for k in range(n_train)], [row("test", k) for k in range(n_test)]


def test_the_front_door_is_the_function():
    assert mk.audit is audit


def test_the_verdict_says_whether_models_may_be_compared_and_why_not():
    train, test = files()
    no = audit(train, test)
    assert no.verdict.startswith("Fit to compare models by looking? No: a lookup of option texts answers 100.0 % [")
    assert "20 of 120 (16.7 %) test rows show an image of training" in no.verdict
    assert repr(no).endswith(no.verdict) and no.verdict in no.to_html() and no.summary["verdict"] == no.verdict
    fair = [[{**row, "options": list("wxyz"), "image_id": f"{side}{i}.png"} for i, row in enumerate(rows)]
            for side, rows in (("a", train), ("b", test))]  # fmt: skip
    yes = audit(*fair).verdict
    assert yes.startswith("Fit to compare models by looking? Yes: without an image a lookup stays at chance (")
    assert "no test image is in training; 120 questions show differences of 1" in yes
    fair[1][0]["image_id"] = "a0.png"
    care = audit(*fair).verdict
    assert care == "Fit to compare models by looking? With care: 1 of 120 (0.8 %) test rows show an image of training."
    assert "50 questions tell little" in audit(fair[0], fair[1][1:51]).verdict


def test_the_keys_the_readers_rely_on():
    train, test = files()
    summary = audit(train, test).summary
    assert (summary["n_train"], summary["n_test"], summary["chance"]) == (200, 120, 25)
    assert summary["blind_options"] == pytest.approx(100 * blind_floor(train, test).accuracy) == 100
    letters = pd.Series([row["answer"] for row in test]).value_counts(normalize=True)
    assert summary["best_letter"] == pytest.approx(100 * letters.max(), abs=1e-4)
    usual = pd.Series([row["answer"] for row in train]).mode()[0]
    assert summary["train_letter"] == pytest.approx(100 * letters[usual], abs=1e-4)
    assert summary["longest_option"] == 0  # the made-up ones are longer
    assert (summary["test_rows_with_train_image"], summary["test_rows_with_train_problem"]) == (20, 0)
    assert summary["stem_disjoint_train_rows"] == 80 and summary["blind_stem_disjoint"] == 100
    assert summary["hard_subset_n"] == 0 and summary["hard_subset_ids"] == []
    assert list(summary["curve"]) == ["30", "100"]
    assert summary["letters_test"] == pd.Series([r["answer"] for r in test]).value_counts().sort_index().to_dict()


def test_shares_have_wilson_intervals_and_counts_none():
    frame = audit(*files()).frame.set_index("measure")
    assert list(audit(*files()).frame) == ["section", "measure", "value", "unit", "low", "high", "n"]
    blind = frame.loc["blind_options"]
    assert (blind["low"], blind["high"]) == pytest.approx(tuple(100 * limit for limit in wilson(120, 120)))
    assert math.isnan(frame.loc["test_rows_with_train_image", "low"])
    assert not frame.reset_index().duplicated(["section", "measure"]).any()


def test_intervals_can_count_images_instead_of_questions():
    train, test = files()
    wording = [row | {"options": [f"text {k}" for k in range(4)]} for row in test]
    test = [row | {"image_id": f"image {number // 10}"} for number, row in enumerate(wording)]
    alone, together = audit(train, test), audit(train, test, cluster="image_id")
    width = [
        r.summary["intervals"]["train_letter"][1] - r.summary["intervals"]["train_letter"][0] for r in (alone, together)
    ]
    assert width[0] != width[1]
    with pytest.raises(DataError, match="test has no column 'scanner'"):
        audit(train, test, cluster="scanner")
    with pytest.raises(DataError, match="test row 2 has no site"):
        audit(train, [row | {"site": None if k == 2 else "x"} for k, row in enumerate(test)], cluster="site")


def test_the_hard_subset_is_what_the_lookup_does_not_settle():
    train = [ask(["cyst", "stone"], "A")] * 3
    test = [
        ask(["cyst", "stone"], "A", id="a"),
        ask(["cyst", "stone"], "B", id="b"),
        ask(["new", "newer"], "A", id="c"),
    ]
    report = audit(train, test)
    assert report.rows["hard_subset_n"].tolist() == [1, 2]
    assert report.summary["hard_subset_ids"] == ["b", "c"] and report.summary["hard_subset_rows"] == [1, 2]
    assert report.summary["hard_subset_chance"] == 50


def test_json_is_strict_documented_and_written(tmp_path):
    train, test = files()
    ds = [row | {"modality": m} for row, m in zip(test, ["CT", "MRI"] * 60)]
    report = audit(train, ds)
    assert report.to_json(tmp_path / "audit.json") is None
    text = (tmp_path / "audit.json").read_text()
    assert json.loads(text) == json.loads(report.to_json()) == report.summary
    doc = report.to_json.__doc__
    for key in report.summary:
        general = [key, *(key.replace(side, "{side}", 1) for side in ("train", "test"))]
        assert any(name in doc for name in general), key


def test_findings_put_the_worst_first():
    train, test = files()
    findings = audit(train, test).findings
    assert findings[0].startswith("Without an image") and "100.0 %" in findings[0] and "25.0 %" in findings[0]
    (images,) = [text for text in findings if "about an image that is also in training" in text]
    (defect,) = [text for text in findings if "cells are empty" in text]
    assert findings.index(images) < findings.index(defect)
    assert "20 of 120 (16.7 %)" in images


def test_what_was_counted_says_its_side_and_what_its_rows_are_called():
    train, test = files()
    measures = [measure for measure in audit(train, test).measures if measure.rows is not None]
    assert {measure.side for measure in measures} == {"train", "test"} and all(measure.flag for measure in measures)
    assert len({(measure.side, measure.flag) for measure in measures}) == len(measures)
    shared = next(measure for measure in measures if measure.flag == "image in training")
    assert (shared.name, shared.side, shared.counted) == ("test_rows_with_train_image", "test", "20 of 120 (16.7 %)")


def test_of_defects_in_equally_many_rows_a_right_answer_offered_twice_comes_first():
    train, test = files()
    twice = [row | {"options": ["cyst", "Cyst."], "answer": "A"} for row in test[:10]]
    findings = audit(train, twice + test[10:]).findings
    (gold,) = [text for text in findings if "offer their right answer twice" in text]
    (options,) = [text for text in findings if "two options that are one text" in text]
    assert gold.startswith("10 of 120 (8.3 %) test rows offer") and findings.index(gold) + 1 == findings.index(options)


def test_a_test_that_was_trained_on_is_named_first():
    train, test = files()
    with pytest.warns(UserWarning, match="every test row is a training row"):
        assert audit(test, test).findings[0].startswith("Every test row is a training row (120 of 120)")
    some = audit(train + test[:30], test).findings[0]
    assert some == "30 of 120 (25.0 %) test rows are training rows, with image, problem and answer."


def test_a_lookup_at_chance_is_said_so_and_no_trap_is_invented():
    rng = np.random.default_rng(0)
    letters = "ABCD"

    def rows(side):
        return [
            ask([*"wxyz"], letters[rng.integers(4)], question=f"{side} {k}", image_id=f"{side} {k}") for k in range(300)
        ]

    findings = audit(rows("a"), rows("b")).findings
    assert any(text.startswith("The option lookup does not beat chance") for text in findings)
    assert not any("Without an image" in text or "also in training" in text for text in findings)
    assert not any("hard subset" in text for text in findings)  # there is no lookup to be hard for


def test_a_lookup_that_needs_the_question_is_found_too():
    stems = {"Which side is left?": "A", "Which side is right?": "B"}
    rows = [ask(["this", "that"], letter, question=stem) for stem, letter in stems.items()] * 60
    report = audit(rows, rows)
    assert report.summary["blind_options"] == 50 and report.summary["blind_options_stem"] == 100
    assert any(text.startswith("Without an image, a lookup by question and option") for text in report.findings)


def test_mixed_modalities_are_taken_apart():
    train, test = files()
    mixed = [row | {"modality": m} for row, m in zip(test, ["CT", "us"] * 60)]
    hidden = [row | {"options": [*"wxyz"]} if row["modality"] == "us" else row for row in mixed]
    report = audit(train, hidden)
    assert report.summary["blind_options_by_modality"] == {"CT": 100, "Ultrasound": 25}
    assert report.summary["chance_by_modality"] == {"CT": 25, "Ultrasound": 25}
    assert any(text.startswith("The test mixes 2 modalities") and "(Ultrasound)" in text for text in report.findings)
    assert any("CT, the test Ultrasound" in text for text in audit(train, hidden[1::2]).findings)
    alike = audit(train, mixed).findings
    assert "The test mixes 2 modalities, whose option lookups all answer 100.0 %: audit each by itself." in alike


def test_modalities_are_compared_without_tasks():
    train, test = ([row | {"task": None} for row in side] for side in files())
    assert any(
        "CT, the test MRI" in text for text in audit(train, [row | {"modality": "MRI"} for row in test]).findings
    )
    both = [row | {"modality": m} for row, m in zip(train, ["CT", "MRI"] * 100)]
    assert any("Training holds 2 modalities, the test CT only" in text for text in audit(both, test).findings)
    assert not any("Training holds" in text for text in audit(train, test).findings)
    one_sided = audit(train, [row | {"task": "DD"} for row in test]).findings
    assert any("not counted in training: the rows" in text for text in one_sided)
    assert any("4 of the test's 5 modality x task cells are empty" in text for text in one_sided)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    report = audit(*files())
    for write in (report.to_json, report.to_html):
        with pytest.raises(DataError, match="is a folder; name a file in it"):
            write(tmp_path)


def test_a_report_replaces_an_earlier_one_and_nothing_else(tmp_path, monkeypatch):
    report = audit(*files())
    monkeypatch.setenv("HOME", str(tmp_path))
    for write, name, theirs in (
        (report.to_json, "package.json", '{"name": "mine", "n_train": 3}'),
        (report.to_html, "index.html", "<!doctype html><title>mine</title>"),
    ):
        (tmp_path / name).write_text(theirs)
        with pytest.raises(DataError, match="exists and is none that medr1kit wrote"):
            write(tmp_path / name)
        assert (tmp_path / name).read_text() == theirs
        kind = name.partition(".")[2]
        for _ in range(2):
            write(f"~/new/a.{kind}")
        assert (tmp_path / f"new/a.{kind}").stat().st_size > 1000
        with pytest.raises(DataError, match=f"does not end in .{kind}"):
            write(tmp_path / "audit.txt")


def test_two_option_questions_are_one_sentence():
    train, test = ([ask(["no", f"yes {k}"], "A") for k in range(n)] for n in (40, 20))
    (sentence,) = [text for text in audit(train, test).findings if "With two options" in text]
    assert "in 100.0 % of 20 test rows and 100.0 % of 40 training rows" in sentence


@pytest.mark.parametrize("n", [1, 2])
def test_one_row_is_audited_and_called_too_few(n):
    train, test = files()
    report = audit(train[:n], test[:1])
    assert report.findings[0].startswith("The test has only 1 row")
    assert any(f"Training has {n} rows only" in text for text in report.findings)
    assert report.to_html() and json.loads(report.to_json())


def test_no_rows_is_refused():
    train, test = files()
    for empty in ([], pd.DataFrame(train).iloc[:0], datasets.Dataset.from_list(train).select([])):
        with pytest.raises(DataError, match="train has no rows"):
            audit(empty, test)
        with pytest.raises(DataError, match="test has no rows"):
            audit(train, empty)
    with pytest.raises(DataError, match="distance=99 is not a whole number from 0 to 16"):
        audit(train, test, distance=99)


def test_options_and_answers_alone_are_enough_and_what_is_missing_is_named():
    train, test = ([{"options": row["options"], "answer": row["answer"]} for row in side] for side in files())
    report = audit(train, test)
    text = str(report)
    assert report.summary["blind_options"] == 100 and "test_rows_with_train_image" not in report.summary
    for missing in ("Questions were not compared", "Shared images could not be counted", "x task was not counted"):
        assert missing in text
    assert report.plot() is not None and report.summary["hard_subset_ids"] is None


def test_swapped_files_raise_a_question():
    train, test = files()
    assert any("are they swapped?" in text for text in audit(test, train).findings)
    assert not any("are they swapped?" in text for text in audit(train, test).findings)


def test_images_on_disk_are_compared(tmp_path):
    train, test = files(60, 40)
    rng = np.random.default_rng(0)
    for row in train + test:
        path = tmp_path / row["image_id"]
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray((255 * rng.random((8, 8))).astype(np.uint8)).resize((96, 96), Image.BICUBIC)
        noise.save(path)
    for number in (30, 31):
        Image.open(tmp_path / train[number]["image_id"]).save(tmp_path / test[number]["image_id"], compress_level=1)
    (tmp_path / test[32]["image_id"]).write_bytes((tmp_path / train[32]["image_id"]).read_bytes())
    (tmp_path / test[33]["image_id"]).unlink()
    report = audit(train, test, images=tmp_path)
    assert report.rows["test_rows_with_train_image_content"].tolist() == [*range(20), 32]
    assert report.rows["test_rows_with_train_image_lookalike"].tolist() == [*range(20), 30, 31, 32]
    assert report.rows["test_rows_with_unreadable_image"].tolist() == [33]
    assert not any("not compared: give the image folder" in text for text in report.findings)
    assert any("23 of 40" in text and "2 of 64 bits" in text for text in report.findings)
    elsewhere = audit(train, test, images=tmp_path / "Images").findings
    assert "No test image could be read: is it the folder that the paths start from?" in elsewhere
    with pytest.raises(DataError, match="train has neither image_id nor image paths"):
        audit([ask(["a", "b"], "A")], test, images=tmp_path)


def test_lookalikes_are_shown_in_pairs_with_questions_and_golds(tmp_path):
    train, test = files(60, 40)
    train[31] |= {"question": "Train <b>?", "options": ["cyst", "made up"], "answer": "A"}
    rng = np.random.default_rng(0)
    for row in train + test:
        (tmp_path / row["image_id"]).parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray((255 * rng.random((8, 8))).astype(np.uint8)).resize((96, 64), Image.BICUBIC)
        noise.save(tmp_path / row["image_id"])
    Image.open(tmp_path / train[31]["image_id"]).resize((48, 32)).save(tmp_path / test[30]["image_id"])
    (tmp_path / test[32]["image_id"]).write_bytes((tmp_path / train[33]["image_id"]).read_bytes())
    report = audit(train, [*test, test[30] | {"question": "Once more?"}], images=tmp_path)
    pairs = report.lookalikes.set_index("test_row")
    assert pairs.index.tolist()[:2] == [30, 32], "under two names first, and of these no copies first; an image once"
    assert pairs.loc[[30, 32, 0], "train_row"].tolist() == [31, 33, 0]
    assert pairs["same_file"].sum() == 21 and pairs["same_name"].sum() == 20 and pairs.loc[30, "bits"] <= 2
    page, text = report.to_html(), repr(report)
    section = page[page.index('data-mk="lookalikes"') : page.index("<details>")]
    assert section.count('<img alt="') == 8 and "4 of 22 pairs" in section
    first = section[: section.index("one file under two names")]
    assert first.count("data:image/png;base64,") == 2, "side by side"
    assert "Train &lt;b&gt;?" in first and "gold: A) cyst" in first and test[30]["question"] in first
    assert f"Lookalikes: test row 32 ({test[32]['image_id']}, gold" in text and "one file under two names" in text
    assert text.splitlines()[-1] == report.verdict
    assert audit(train, test).lookalikes is None and audit(train, test).pairs == ()


def test_stored_images_are_compared_without_a_folder():
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(3):
        buffer = BytesIO()
        Image.fromarray((255 * rng.random((8, 8))).astype(np.uint8)).resize((64, 64)).save(buffer, "PNG")
        drawn.append({"path": None, "bytes": buffer.getvalue()})

    def side(name, pictures):
        rows = [ask(["a", "b"], "A", image_id=f"{name} {k}", image=picture) for k, picture in enumerate(pictures)]
        return datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())

    report = audit(side("train", drawn[:2]), side("test", drawn[1:]))
    assert report.summary["test_rows_with_train_image"] == 0
    assert report.rows["test_rows_with_train_image_content"].tolist() == [0]
    assert report.lookalikes[["test_row", "train_row", "same_name"]].to_numpy().tolist() == [[0, 1, False]]
    assert report.to_html().count("data:image/png;base64,") == 2


def test_the_figure_shows_the_floors_with_their_numbers():
    report = audit(*files())
    ax = mk.plot_audit(report)
    lines = dict(zip((tick.get_text() for tick in ax.get_yticklabels()), (text.get_text() for text in ax.texts)))
    assert lines["lookup, all rows"] == "100.0" and lines["longest option"] == "0.0"
    assert [name for name in lines if "training rows" in name] == [
        "lookup, 30 training rows",
        "lookup, 100 training rows",
    ]
    assert any("chance 25.0 %" in text.get_text() for text in ax.get_legend().get_texts())
    with pytest.raises(DataError, match="neither"):
        mk.plot_audit(pd.DataFrame({"step": [1]}))
    _, own = plt.subplots()
    assert report.plot(ax=own) is own


def test_the_page_holds_findings_figure_and_numbers_safely(tmp_path):
    train, test = files()
    report = audit(train, test)
    page = report.to_html()
    assert report.to_html(tmp_path / "audit.html") is None, "the last line of a cell is no wall of text"
    assert (tmp_path / "audit.html").read_text(encoding="utf-8") == page + "\n"
    assert page.count("<li>") == len(report.findings) and "<svg" in page and "blind_options_stem" in page
    assert "200 training and 120 test questions" in page
    assert "<td>n_train</td>\n      <td>200</td>" in page and "<td>25.0</td>" in page and "200.0" not in page
    assert plt.get_fignums() == []  # nothing left for a notebook to show twice
    assert report._repr_html_() in page
    assert repr(report).startswith("1. Without an image")


def test_intervals_count_patients_where_test_rows_name_one():
    train, test = files()
    test = [row | {"patient_id": f"P{number // 10}"} for number, row in enumerate(test)]
    assert audit(train, test).about["cluster"] == "patient_id"
    assert audit(train, [*test[:-1], test[-1] | {"patient_id": None}]).about["cluster"] == "patient_id"
    assert audit(train, [row | {"patient_id": None} for row in test]).about["cluster"] is None
    assert audit(train, test, cluster="image_id").about["cluster"] == "image_id"
