"""``medr1kit audit``, as a user types it."""

import gzip
import json
from functools import partial

import pytest
from PIL import Image

from medr1kit.__main__ import main
from medr1kit.data.load import load_vqa


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDR1KIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    """40 training and 12 test questions in Med-R1's format; the first six images are shared."""
    for side, n in (("train", 40), ("test", 12)):
        rows = []
        for i in range(n):
            name = f"Images/set/{'both' if i < 6 else side}_{i}.png"
            (tmp_path / "Images/set").mkdir(parents=True, exist_ok=True)
            Image.radial_gradient("L").rotate(7 * i).resize((40, 40)).save(tmp_path / name)
            rows.append({"image": name, "problem": f"Case {i} {side}? A)cyst, B)no {i}{side}", "solution": "A"})
        (tmp_path / f"{side}.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    return tmp_path


def run(folder, *more, train="train.json.gz", test="test.json.gz"):
    return main(["audit", "--train", str(folder / train), "--test", str(folder / test), *more])


def test_findings_are_printed_and_both_files_written(files, capsys):
    out, page = files / "out.json", files / "out.html"
    assert run(files, "--modality", "us", "--json", str(out), "--html", str(page)) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    assert (content["n_train"], content["n_test"], content["blind_options"]) == (40, 12, 100)
    assert content["test_rows_with_train_image"] == 6 and content["hard_subset_ids"] == []
    assert all(sentence in printed for sentence in content["findings"])
    assert f"written to {out}" in printed and "<svg" in page.read_text()


def test_images_are_compared_when_their_folder_is_given(files, capsys):
    out = files / "out.json"
    assert run(files, "--image_folder", str(files), "--json", str(out)) == 0
    assert json.loads(out.read_text())["test_rows_with_train_image_content"] >= 6
    assert "were not compared" not in capsys.readouterr().out


def test_a_test_file_given_as_train_is_named_in_the_first_line(files, capsys):
    with pytest.warns(UserWarning, match="measures memory only"):
        assert run(files, train="test.json.gz") == 0
    assert capsys.readouterr().out.startswith("1. Every test row is a training row (12 of 12)")


def test_bad_rows_are_left_out_and_listed(files, recwarn):
    rows = json.loads(gzip.decompress((files / "test.json.gz").read_bytes()))
    rows[3]["solution"] = "<answer> Q </answer>"
    (files / "bad.json").write_text(json.dumps(rows))
    assert run(files, "--json", str(files / "out.json"), test="bad.json") == 0
    assert json.loads((files / "out.json").read_text())["n_test"] == 11
    assert any("dropped 1 of 12 rows" in str(warning.message) for warning in recwarn)


def test_phantoms_are_audited_train_against_test(capsys, monkeypatch):
    monkeypatch.setattr("medr1kit.data.load.load_vqa", partial(load_vqa, n=40))
    assert main(["audit", "--train", "phantoms", "--test", "phantoms", "--modality", "OCT"]) == 0
    printed = capsys.readouterr().out
    assert "The test has only 40 rows" in printed and "training rows, with image" not in printed


def test_bad_input_ends_in_one_sentence(files, capsys):
    (files / "empty.json").write_text("[]")
    assert run(files, test="empty.json") == 2
    assert "the array has no rows" in capsys.readouterr().err
    assert run(files, test="missing.json") == 2
    assert "file not found" in capsys.readouterr().err
    assert run(files, "--json", str(files / "empty.json" / "out.json")) == 2
    assert "cannot be written" in capsys.readouterr().err
    for flag in ("--json", "--html"):
        assert run(files, flag, str(files)) == 2
        assert "is a folder" in capsys.readouterr().err
    assert run(files, "--image_folder", str(files / "no")) == 2
    assert "does not exist" in capsys.readouterr().err
