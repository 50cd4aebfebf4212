"""OmniMedVQA's files to splits: by image or as published, the same on every machine, readable by load_vqa."""

import json
import random
import shutil

import pytest

from medr1kit.__main__ import main
from medr1kit.audits.convert import convert_omnimedvqa, fingerprint
from medr1kit.data.load import DroppedRows, load_vqa
from medr1kit.vqa import DataError, format_problem, format_solution

TYPES = {"CT(Computed Tomography)": "Disease Diagnosis", "Fundus Photography": "Lesion Grading"}


def item(source, number, modality, task=None, question=None, gold="liver", **changes):
    options = dict(zip("ABCD", ["lung", "liver", "T2, N0", "spleen"]))
    return {
        "dataset": source,
        "question_id": f"{source}_{number}",
        "question_type": task or TYPES[modality],
        "question": question or random.Random(number).choice(["What is shown?", "What is seen?", "Which is it?"]),
        "gt_answer": gold,
        "image_path": f"Images/{source}/{number // 2}.png",  # two questions an image
        **{f"option_{letter}": text for letter, text in options.items()},
        "modality_type": modality,
        **changes,
    }


@pytest.fixture
def omni(tmp_path):
    """Two sources: 120 CT rows, 20 of them Modality Recognition, and 60 of fundus."""
    folder = tmp_path / "OmniMedVQA"
    ct = [item("Chest CT", i, "CT(Computed Tomography)") for i in range(100)]
    ct += [
        item("Chest CT", i, "CT(Computed Tomography)", "Modality Recognition", "Which modality?")
        for i in range(0, 40, 2)
    ]
    write(folder, "Chest CT", ct)
    write(folder, "DRIMDB", [item("DRIMDB", i, "Fundus Photography") for i in range(60)])
    return folder


def write(folder, name, items, access="Open-access"):
    path = folder / "QA_information" / access / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(items))


def rows(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_no_image_of_any_test_file_is_in_a_training_file_of_either_family(omni, tmp_path):
    manifest = convert_omnimedvqa(omni, tmp_path / "splits")
    images = {"train": set(), "test": set()}
    for path in (tmp_path / "splits").rglob("*/*.json"):
        images[path.parent.name] |= {row["image"] for row in rows(path)}
    assert images["train"] and images["test"] and not images["train"] & images["test"]
    assert manifest["leaks"] == {
        "modality": {"CT": 0, "Fundus": 0},
        "question_type": {"Disease Diagnosis": 0, "Lesion Grading": 0, "Modality Recognition": 0},
    }
    for family in ("modality", "question_type"):
        sizes = {e["path"].split("/")[1]: 0 for e in manifest["files"]}
        for entry in manifest["files"]:
            if entry["path"].startswith(family):
                sizes[entry["path"].split("/")[1]] += entry["rows"]
        assert sum(sizes.values()) == 180 and sizes["test"] == pytest.approx(36, abs=3)
    assert manifest["unplaced"] == {"modality": 0, "question_type": 0}


def test_the_files_are_what_load_vqa_reads(omni, tmp_path):
    manifest = convert_omnimedvqa(omni, tmp_path / "splits")
    for entry in manifest["files"]:
        ds = load_vqa(tmp_path / "splits" / entry["path"])
        assert len(ds) == entry["rows"] and len(set(ds["image_id"])) == entry["images"]
        assert fingerprint(rows(tmp_path / "splits" / entry["path"])) == entry["sha256"]
    ct = load_vqa(tmp_path / "splits" / "modality" / "test" / "CT.json")
    assert set(ct["modality"]) == {"CT"} and set(ct["task"]) == {"Disease Diagnosis", "Modality Recognition"}
    assert ct[0]["options"] == ["lung", "liver", "T2, N0", "spleen"] and ct[0]["answer"] == "B"
    assert (tmp_path / "splits" / "question_type" / "train" / "Lesion_Grading.json").exists()
    assert json.loads((tmp_path / "splits" / "manifest.json").read_text()) == manifest


def test_the_result_does_not_depend_on_the_order_of_rows_or_on_the_folder(omni, tmp_path):
    first = convert_omnimedvqa(omni, tmp_path / "one")
    copy = tmp_path / "elsewhere" / "Omni"
    shutil.copytree(omni, copy)
    for path in copy.rglob("*.json"):
        path.write_text(json.dumps(rows(path)[::-1]))
    assert convert_omnimedvqa(copy, tmp_path / "two") == first
    for entry in first["files"]:
        assert (tmp_path / "one" / entry["path"]).read_bytes() == (tmp_path / "two" / entry["path"]).read_bytes()
    assert str(tmp_path) not in (tmp_path / "one" / "manifest.json").read_text()
    assert convert_omnimedvqa(omni, tmp_path / "three", seed=1)["files"] != first["files"]


def publish(folder, name, items):
    """Write items in Med-R1's form."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["lung", "liver", "T2, N0", "spleen"]
    content = [
        {
            "image": one["image_path"],
            "problem": format_problem(one["question"], options),
            "solution": format_solution("B"),
        }
        for one in items
    ]
    path.write_text(json.dumps(content))


def test_published_membership_is_repeated_and_a_missing_file_is_what_is_left(omni, tmp_path):
    items = json.loads((omni / "QA_information" / "Open-access" / "Chest CT.json").read_text())
    publish(tmp_path / "r1", "modality/test/CT(Computed Tomography).json", items[::3][::-1])
    fundus = json.loads((omni / "QA_information" / "Open-access" / "DRIMDB.json").read_text())
    publish(tmp_path / "r1", "Fundus_test.json", fundus[:10])
    publish(tmp_path / "r1", "Fundus_train.json", [*fundus[10:50], {**fundus[0], "image_path": "Images/DRIMDB/x.png"}])
    publish(tmp_path / "r1", "question_type/train/MR.json", items[100:110])
    manifest = convert_omnimedvqa(omni, tmp_path / "splits", published=tmp_path / "r1")
    sizes = {entry["path"]: (entry["rows"], entry.get("same_as_published")) for entry in manifest["files"]}
    assert sizes == {
        "modality/test/CT.json": (40, True),
        "modality/train/CT.json": (80, None),
        "modality/test/Fundus.json": (10, True),
        "modality/train/Fundus.json": (40, False),
        "question_type/train/Modality_Recognition.json": (10, True),
        "question_type/test/Modality_Recognition.json": (10, None),
    }
    assert manifest["split"] == {"kind": "published", "not_found": {"modality": 1, "question_type": 0}}
    assert manifest["unplaced"] == {"modality": 10, "question_type": 160}
    written = [(row["image"], row["problem"]) for row in rows(tmp_path / "splits" / "modality" / "test" / "CT.json")]
    published = rows(tmp_path / "r1" / "modality" / "test" / "CT(Computed Tomography).json")
    assert written == [(row["image"], row["problem"]) for row in published], "in the published order"
    assert written != sorted(written)
    assert manifest["leaks"]["modality"]["CT"] > 0  # Med-R1's split is not image-disjoint, and this repeats it


def test_bad_rows_are_refused_or_counted_and_restricted_files_left_alone(omni, tmp_path):
    bad = [item("Mura", i, "X-Ray", "Disease Diagnosis", gold="knee") for i in range(3)]
    write(omni, "Mura", [*bad, item("Mura", 9, "X-Ray", "Disease Diagnosis")])
    write(omni, "Secret", [item("Secret", 1, "MRI", "Disease Diagnosis")], access="Restricted-access")
    with pytest.raises(DataError, match=r"Mura\.json, row 0: gold text not among the options.*2 other rows"):
        convert_omnimedvqa(omni, tmp_path / "splits")
    assert not (tmp_path / "splits").exists()
    with pytest.warns(DroppedRows, match="dropped 3 of 184 rows"):
        manifest = convert_omnimedvqa(omni, tmp_path / "splits", check="drop")
    assert manifest["dropped"] == {"gold text not among the options": 3}
    assert set(manifest["questions"]) == {"Chest CT.json", "DRIMDB.json", "Mura.json"}


def test_what_does_not_fit_is_refused(omni, tmp_path):
    with pytest.raises(DataError, match="is not an empty folder"):
        convert_omnimedvqa(omni, omni)
    with pytest.raises(DataError, match="holds no QA_information"):
        convert_omnimedvqa(tmp_path, tmp_path / "splits")
    (tmp_path / "r1").mkdir()
    with pytest.raises(DataError, match=r"has no \.json or \.json\.gz file"):
        convert_omnimedvqa(omni, tmp_path / "splits", published=tmp_path / "r1")
    for name in ("CT.json", "Brain_test.json"):
        (tmp_path / "r1" / name).write_text("[]")
        with pytest.raises(DataError, match=f"{name}: the name does not say"):
            convert_omnimedvqa(omni, tmp_path / "splits", published=tmp_path / "r1")
        (tmp_path / "r1" / name).unlink()
    (tmp_path / "r1" / "CT_test.json").write_text('[{"image": "a.png"}]')
    with pytest.raises(DataError, match=r"CT_test\.json: no column is the question"):
        convert_omnimedvqa(omni, tmp_path / "splits", published=tmp_path / "r1")


def test_the_command_writes_the_same_files_and_says_what_leaks(omni, tmp_path, capsys):
    manifest = convert_omnimedvqa(omni, tmp_path / "one", test_size=0.3, seed=4)
    assert main(["convert", str(omni), str(tmp_path / "two"), "--test_size", "0.3", "--seed", "4"]) == 0
    assert json.loads((tmp_path / "two" / "manifest.json").read_text()) == manifest
    out = capsys.readouterr().out
    assert all(entry["path"] in out for entry in manifest["files"])
    assert "by modality: 0 test rows with an image of their training file, 0 rows in no file" in out
    publish(tmp_path / "r1", "Fundus_test.json", [item("DRIMDB", 0, "Fundus Photography", question="Which?")])
    assert main(["convert", str(omni), str(tmp_path / "three"), "--published", str(tmp_path / "r1")]) == 0
    assert "120 rows in no file, 1 published rows not found" in capsys.readouterr().out
    assert main(["convert", str(omni), str(tmp_path / "two")]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
