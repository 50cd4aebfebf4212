"""Answers as a log of Inspect; that Inspect's own reader takes it was tried with its releases 0.3.70 and 0.3.285."""

import base64
import io
import json

import pandas as pd
import PIL.Image
import pytest

import medr1kit as mk
from medr1kit.formats import NO_THINK


@pytest.fixture(scope="module")
def asked():
    return mk.load_vqa("phantoms", split="val", n=3, size=112)


def answered(data, texts=("<answer>A</answer>",) * 3, **columns):
    rows = []
    for row, text in zip(data.remove_columns("image").to_list(), texts):
        parsed = NO_THINK.parse(text, row["options"])
        row |= {"model": "m/7B", "method": "given", "format": "no-think", "text": text, "think": None, "n_tokens": 5}
        row |= {"predicted": parsed.answer, "lenient_predicted": parsed.lenient_answer, "well_formed": True}
        rows.append(row | {"correct": parsed.answer == row["answer"], "seed": 0} | columns)
    return pd.DataFrame(rows).assign(train_modality=None, train_task=None)


def test_a_log_holds_question_image_answer_and_verdict(asked, tmp_path):
    preds = answered(asked, ("<answer>A</answer>", "no idea", "<answer>A</answer>"))
    path = mk.export_inspect(preds, tmp_path / "log.json", data=asked)
    log = json.loads(path.read_text(encoding="utf-8"))
    assert (log["version"], log["status"]) == (2, "success")
    assert {"created", "task", "dataset", "model", "config"} <= set(log["eval"]), "what Inspect's reader asks for"
    assert log["results"]["scores"][0]["metrics"]["accuracy"]["value"] == pytest.approx(preds["correct"].mean())
    first, second = log["samples"][:2]
    picture, text = first["input"][0]["content"]
    image = PIL.Image.open(io.BytesIO(base64.b64decode(picture["image"].removeprefix("data:image/png;base64,"))))
    assert image.size == (112, 112)
    assert text["text"] == asked[0]["problem"]
    assert (first["choices"], first["target"]) == (asked[0]["options"], asked[0]["answer"])
    assert first["output"]["choices"][0]["message"]["content"] == "<answer>A</answer>"
    assert first["scores"]["medr1kit"]["answer"] == "A"
    assert second["scores"]["medr1kit"]["value"] == "I"
    assert second["scores"]["medr1kit"]["explanation"] == "there is no <answer>…</answer> block outside the thinking"
    assert first["metadata"]["modality"] == asked[0]["modality"]


def test_imported_answers_have_the_reference_beside(asked, tmp_path):
    preds = answered(asked).assign(reference_predicted=list(asked["answer"]), image_id="far/away.png")
    log = json.loads(mk.export_inspect(preds, tmp_path / "log.json").read_text())
    assert [sample["scores"]["reference"]["value"] for sample in log["samples"]] == ["C"] * 3
    assert [part["type"] for part in log["samples"][0]["input"][0]["content"]] == ["text"], "an image that is not there"


def test_in_a_folder_a_log_is_named_as_the_viewer_lists_it(asked, tmp_path):
    path = mk.export_inspect(answered(asked), tmp_path / "logs", data=asked)
    assert path.parent == tmp_path / "logs"
    assert pd.to_datetime(path.name[:19], format="%Y-%m-%dT%H-%M-%S")
    assert path.name[19:] == "_medr1kit_m-7B.json"


def test_only_a_log_is_replaced_and_a_name_says_what_is_in_it(asked, tmp_path):
    log = mk.export_inspect(answered(asked), tmp_path / "log.json")
    assert mk.export_inspect(answered(asked), log) == log, "one of ours"
    log.write_text('{"mine": 1}')
    with pytest.raises(mk.DataError, match="is none that medr1kit wrote"):
        mk.export_inspect(answered(asked), log)
    with pytest.raises(mk.DataError, match=r"does not end in \.json"):
        mk.export_inspect(answered(asked), tmp_path / "log.eval")
    assert json.loads(log.read_text()) == {"mine": 1} and list(tmp_path.iterdir()) == [log]


def test_a_log_is_of_one_model(asked, tmp_path):
    both = pd.concat([answered(asked), answered(asked, model="other")])
    with pytest.raises(mk.DataError, match="several models, told apart by model; a log is of one"):
        mk.export_inspect(both, tmp_path / "log.json")
    twice = pd.concat([answered(asked), answered(asked, seed=1)])
    with pytest.raises(mk.DataError, match="told apart by seed or step"):
        mk.export_inspect(twice, tmp_path / "log.json")
    with pytest.raises(mk.DataError, match="predictions are a table"):
        mk.export_inspect("preds.parquet", tmp_path / "log.json")
    assert list(tmp_path.iterdir()) == []
