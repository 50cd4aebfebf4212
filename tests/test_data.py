"""Loading: every source gives the same columns, and nothing is skipped in silence."""

import gzip
import json
import sys
import types
import warnings

import datasets
import PIL.Image
import pytest

from medr1kit.data.images import MedicalImage
from medr1kit.data.load import DroppedRows, load_vqa
from medr1kit.vqa import DataError

COLUMNS = (
    *("id", "image", "problem", "solution", "question", "options", "answer"),
    *("modality", "task", "source", "image_id"),
)
TEXT = [name for name in COLUMNS if name != "image"]


def row(image="Images/ISIC/a.png", problem="What organ? A)liver, B)lung, C)skin", letter="C", **more):
    return {"image": image, "problem": problem, "solution": f"<answer> {letter} </answer>", **more}


def rows(count, **more):
    return [row(f"Images/ISIC/{i}.png", letter="ABC"[i % 3], **more) for i in range(count)]


def write(path, content):
    text = json.dumps(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def draw(folder, *names, size=(8, 6)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", size, (90, 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def isic(tmp_path):
    """A Med-R1 file of six rows, and their images."""
    draw(tmp_path, *[f"Images/ISIC/{i}.png" for i in range(6)])
    return write(tmp_path / "Der_train.json", rows(6))


# --- Med-R1's JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CT_train.json", "CT_train.json.gz", "CT_train.JSON"])
def test_a_med_r1_file_gives_every_column(tmp_path, name):
    ds = load_vqa(write(tmp_path / name, [row(), row("other/b.png", "Is it? A)yes, B)no", "A")]))
    assert ds.column_names == TEXT
    assert ds[0] == {
        "id": "CT_train-0",
        "problem": "What organ? A)liver, B)lung, C)skin",
        "solution": "<answer> C </answer>",
        "question": "What organ?",
        "options": ["liver", "lung", "skin"],
        "answer": "C",
        "modality": None,
        "task": None,
        "source": "ISIC",
        "image_id": "Images/ISIC/a.png",
    }
    assert (ds[1]["source"], ds[1]["options"], ds[1]["answer"]) == ("CT_train", ["yes", "no"], "A")
    assert ds.features["modality"] == ds.features["task"] == datasets.Value("string")


def test_ids_tell_train_from_test_where_only_the_folder_does(tmp_path):
    ids = {load_vqa(write(tmp_path / split / "CT.json.gz", rows(1)))[0]["id"] for split in ("train", "test")}
    assert ids == {"train-CT-0", "test-CT-0"}


def test_images_are_decoded_when_a_row_is_read(isic):
    ds = load_vqa(isic, images=isic.parent)
    assert tuple(ds.column_names) == COLUMNS
    assert ds[0]["image"].size == (384, 384) and ds[0]["image"].mode == "RGB"
    assert load_vqa(str(isic), images=str(isic.parent), size=10)[0]["image"].size == (10, 10)
    assert load_vqa(isic, images=isic.parent, max_pixels=12)[0]["image"].size == (4, 3)


def test_rows_without_a_modality_are_labelled_and_rows_with_one_are_chosen(tmp_path):
    bare = write(tmp_path / "bare.json", rows(3))
    assert load_vqa(bare, modality="us", task="LG")["modality"] == ["Ultrasound"] * 3
    assert load_vqa(bare, modality="us", task="LG")["task"] == ["Lesion Grading"] * 3
    known = [row(modality="ct", task="AI"), row(modality="fp", task="DD"), row(modality="CT", question_type="DD")]
    known = write(tmp_path / "known.json", [*known, row(modality="unknown")])
    assert load_vqa(known)["modality"] == ["CT", "Fundus", "CT", None]
    assert load_vqa(known, modality="CT")["id"] == ["known-0", "known-2"]
    assert load_vqa(known, modality="CT", task="dd")["id"] == ["known-2"]
    with pytest.raises(DataError, match=r"no row has modality OCT and task Disease Diagnosis; it has CT x Anatomy"):
        load_vqa(known, modality="OCT", task="DD")
    with pytest.raises(DataError, match="unknown modality 'Endoscopy'"):
        load_vqa(known, modality="Endoscopy")


def test_a_meta_file_says_modality_task_patient_and_source_row_by_row(tmp_path):
    data = write(tmp_path / "q.json", [row("x/a.png"), row("x/b.png")])
    first = {"image": "x/a.png", "modality": "CT", "question_type": "AI", "patient_id": "p7", "source_repo": "r/s"}
    second = {"image": "x/b.png", "modality": "mri", "task": "DD", "patient_id": ""}
    ds = load_vqa(data, meta=write(tmp_path / "m.json", [first, second]))
    assert ds.column_names == [*TEXT, "patient_id"]
    assert (ds["modality"], ds["patient_id"], ds["source"]) == (["CT", "MRI"], ["p7", None], ["r/s", "q"])
    assert ds["task"] == ["Anatomy Identification", "Disease Diagnosis"]
    assert load_vqa(data, meta=tmp_path / "m.json", modality="MRI")["id"] == ["q-1"]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ([{"image": "x/a.png", "modality": "CT", "task": "AI"}], r"m\.json: 1 rows, but .*q\.json has 2"),
        (["a", "b"], r"m\.json, row 0: expected an object"),
        ([{"image": "x/a.png", "modality": "CT", "task": "AI"}] * 2, r"m\.json, row 1: image 'x/a.png'"),
        ([{"image": "x/a.png", "task": "AI"}] * 2, r"m\.json, row 0: key 'modality' is missing"),
        ([{"image": "x/a.png", "modality": "CT"}] * 2, r"m\.json, row 0: key 'question_type' is missing"),
    ],
)
@pytest.mark.parametrize("check", ["error", "drop"])  # rows that do not match would shift all others
def test_a_meta_file_that_does_not_match_is_refused(tmp_path, meta, message, check):
    data = write(tmp_path / "q.json", [row("x/a.png"), row("x/b.png")])
    with pytest.raises(DataError, match=message):
        load_vqa(data, meta=write(tmp_path / "m.json", meta), check=check)


def test_n_rows_are_taken_at_random_in_the_files_order(tmp_path):
    path = write(tmp_path / "q.json", rows(200))
    first, second = (load_vqa(path, n=20, seed=seed)["id"] for seed in (0, 1))
    assert first == load_vqa(path, n=20)["id"] != second
    assert len(set(first)) == 20 and first == sorted(first, key=lambda id: int(id.split("-")[1]))
    assert max(int(id.split("-")[1]) for id in first) > 100
    with pytest.warns(UserWarning, match="only 200 of the 500 rows"):
        assert len(load_vqa(path, n=500)) == 200


def test_odd_but_sound_rows_load(tmp_path):
    odd = [
        row(problem="It? A)yes, B)no", letter="B"),
        row(problem="What? A)SPECT, B)SPECT, C)PET, D)CT", letter="D"),
        row(problem="Stage? A)T2, N0, M0, B)stain (H&E), C)T1", letter="A"),
        row(),
        row(),
    ]
    ds = load_vqa(write(tmp_path / "q.json", odd))
    assert [len(options) for options in ds["options"]] == [2, 4, 3, 3, 3]
    assert len(set(ds["id"])) == 5


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("text", "row is not an object: 'text'"),
        ({"problem": "a", "solution": "b"}, "key is missing: 'image'"),
        ({"image": "a.png", "gt_answer": "b"}, "'problem'.*folder of OmniMedVQA"),
        (row(image=5), "value is no text: 'image'"),
        (row(image=" "), "image path is empty"),
        (row(problem=None), "value is no text: 'problem'"),
        ({**row(), "solution": 2}, "value is no text: 'solution'"),
        (row(letter="D"), "unknown answer letter.*A to C"),
        ({**row(), "solution": "liver"}, "unknown answer letter in 'liver'"),
        (row(problem="What organ?"), "fewer than two options"),
        (row(modality="Endoscopy"), "unknown modality 'Endoscopy'"),
        (row(task="guess"), "unknown task 'guess'"),
        (row(question="What?", options=["liver"]), "fewer than two options"),
        (row(question="What?", options=["liver", None]), "options are not a list of texts"),
        (row(answer="A"), "answer and solution disagree"),
    ],
)
def test_a_bad_row_is_refused_or_dropped_with_file_row_and_reason(tmp_path, bad, message):
    path = write(tmp_path / "q.json", [row(), bad, row(), bad])
    with pytest.raises(DataError, match=rf"q\.json, row 1: .*{message}.*1 more rows"):
        load_vqa(path)
    with pytest.warns(DroppedRows, match=r"dropped 2 of 4 rows \(2 x ") as caught:
        ds = load_vqa(path, check="drop")
    assert ds["id"] == ["q-0", "q-2"]
    dropped = caught[0].message.rows
    assert [(entry["file"], entry["row"]) for entry in dropped] == [(str(path), 1), (str(path), 3)]
    assert caught[0].filename == __file__


def test_dropped_rows_are_counted_by_reason(tmp_path):
    bad = [row(letter="D"), row(problem="no options"), row(letter="X"), "text"]
    with pytest.warns(DroppedRows) as caught:
        load_vqa(write(tmp_path / "q.json", [row(), *bad]), check="drop")
    text = str(caught[0].message)
    for count in ("2 x unknown answer letter", "1 x fewer than two options", "1 x row is not an object", "row 1: "):
        assert count in text


def test_dropping_every_row_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no row is left, 2 are refused; the first: .*row 0"):
        load_vqa(write(tmp_path / "q.json", [row(letter="D")] * 2), check="drop")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.json", b"", "the file is empty"),
        ("q.json", b" \n", "the file is empty"),
        ("q.json.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("q.json", b"[]", "the array has no rows"),
        ("q.json", b'{"data": []}', "expected an array of rows, found an object"),
        ("q.json", b'"text"', "expected an array of rows, found str"),
        ("q.json", json.dumps(rows(3)).encode()[:-30], "not valid JSON.*cut short"),
        ("q.json", json.dumps(rows(3)).encode()[:-1], "not valid JSON.*cut short"),
        ("q.json", b'[{"image": nope}]', "not valid JSON.*line 1"),
        ("q.json", b"{}\n{}\n", "JSON lines"),
        ("q.json", b"[" * 200_000, "nested too deeply|not valid JSON"),
        ("q.json", "[é]".encode("latin-1"), "UTF-8"),
        ("q.json.gz", gzip.compress(json.dumps(rows(99)).encode(), mtime=0)[:-60], "gzip file cut short or corrupt"),
        ("q.json.gz", gzip.compress(b"[1]", mtime=0)[:12], "gzip file cut short or corrupt"),
        ("q.json.gz", gzip.compress(b"[1]", mtime=0)[:-8] + b"\0" * 8, "gzip file cut short or corrupt"),
        ("q.json.gz", b"\x1f\x8b" + b"x" * 50, "gzip file cut short or corrupt"),
        ("q.csv", b"image,problem", "no rows below the column names 'image, problem'"),
    ],
)
@pytest.mark.parametrize("check", ["error", "drop"])
def test_a_file_that_is_no_array_of_rows_is_refused_by_name(tmp_path, name, content, message, check):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_vqa(tmp_path / name, check=check)
    assert name in str(error.value)


def test_utf_8_with_a_mark_and_plain_json_named_gz_are_read(tmp_path):
    text = json.dumps(rows(2))
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
    (tmp_path / "b.json.gz").write_text(text)
    assert len(load_vqa(tmp_path / "a.json")) == len(load_vqa(tmp_path / "b.json.gz")) == 2


def test_missing_files_and_folders_are_named(tmp_path, isic):
    with pytest.raises(DataError, match=r"file not found: .*gone\.json"):
        load_vqa(tmp_path / "gone.json")
    with pytest.raises(DataError, match=r"file not found: 'data/gone\.json\.gz'"):
        load_vqa("data/gone.json.gz")
    with pytest.raises(DataError, match=r"image folder .*gone' does not exist"):
        load_vqa(isic, images=tmp_path / "gone")
    with pytest.raises(DataError, match=r"image folder .*json' is a file"):
        load_vqa(isic, images=isic)
    with pytest.raises(DataError, match="neither a QA_information folder"):
        load_vqa(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"check": "ignore"}, "check='ignore' is unknown"),
        ({"n": 0}, "n=0 is not a whole number"),
        ({"size": -1}, "size=-1"),
        ({"n": 2.5}, "n=2.5 is not a whole number"),
        ({"size": 9, "max_pixels": 9}, "exclude each other"),
        ({"split": "test"}, "split= does not go with a JSON file"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(isic, arguments, message):
    with pytest.raises(DataError, match=message):
        load_vqa(isic, **arguments)
    with pytest.raises(TypeError, match="shuffle"):
        load_vqa(isic, shuffle=True)


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(isic):
    """The six rows, of which 1 is cut short, 2 missing, 3 empty, 4 a directory."""
    folder = isic.parent / "Images" / "ISIC"
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:-20])
    for i in (2, 3, 4):
        (folder / f"{i}.png").unlink()
    (folder / "3.png").touch()
    (folder / "4.png").mkdir()
    return isic


def test_bad_images_are_found_when_loading(broken):
    with pytest.raises(DataError, match=r"Der_train\.json, row 1: image unreadable: 'Images/ISIC/1\.png'.*3 more rows"):
        load_vqa(broken, images=broken.parent)
    with pytest.warns(DroppedRows) as caught:
        ds = load_vqa(broken, images=broken.parent, check="drop")
    assert ds["id"] == ["Der_train-0", "Der_train-5"]
    assert [entry["row"] for entry in caught[0].message.rows] == [1, 2, 3, 4]
    assert len(load_vqa(broken)) == 6  # without images= nobody looks at them


def test_dropped_images_make_room_for_other_rows(broken):
    for seed in range(5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DroppedRows)
            ds = load_vqa(broken, images=broken.parent, check="drop", n=2, seed=seed)
        assert ds["id"] == ["Der_train-0", "Der_train-5"]


def test_images_of_rows_that_are_not_chosen_are_not_looked_at(broken):
    meta = [{"image": r["image"], "modality": "US", "task": None} for r in rows(6)]
    meta[0]["modality"] = "CT"
    meta = write(broken.parent / "meta.json", meta)
    assert len(load_vqa(broken, images=broken.parent, meta=meta, modality="CT")) == 1


def test_an_image_path_out_of_the_folder_is_refused_with_its_row(tmp_path):
    draw(tmp_path, "secret.png", "in/a.png")
    path = write(tmp_path / "q.json", [row("a.png"), row("../secret.png")])
    with pytest.raises(DataError, match=r"q\.json, row 1: image path leaves the image folder"):
        load_vqa(path, images=tmp_path / "in")


def test_passing_images_itself_is_answered_with_its_parent(isic):
    with pytest.raises(DataError, match=r"row 0: image missing.*pass the parent, images="):
        load_vqa(isic, images=isic.parent / "Images")


# --- OmniMedVQA ------------------------------------------------------------------------------------------------------


def item(gold="lung", **more):
    options = {"option_A": "Liver", "option_B": "Lung.", "option_C": "Skin", "option_D": "Brain"}
    return {
        **{"dataset": "ISIC2019", "question_id": "ISIC2019_0", "question_type": "Anatomy Identification"},
        **{"question": "What organ? ", "gt_answer": gold, "image_path": "Images/ISIC2019/a.png"},
        **{**options, "modality_type": "Dermoscopy", **more},
    }


@pytest.fixture
def omni(tmp_path):
    root = tmp_path / "OmniMedVQA"

    def make(items, access="Open-access", name="ISIC2019.json"):
        write(root / "QA_information" / access / name, items)
        return root

    return make


def test_omnimedvqa_is_read_from_its_own_folder(omni):
    two = item("Yes", option_A="No", option_B="Yes", option_C="", modality_type="unknown")
    del two["option_D"]
    root = omni([item(), two])
    omni([item(modality_type="Fundus Photography")], "Restricted-access")
    ds = load_vqa(root)
    assert ds.column_names == TEXT
    assert ds[0]["problem"] == "What organ? A)Liver, B)Lung., C)Skin, D)Brain"
    assert (ds[0]["solution"], ds[0]["answer"], ds[0]["question"]) == ("<answer> B </answer>", "B", "What organ?")
    assert (ds[1]["options"], ds[1]["answer"], ds[1]["modality"]) == (["No", "Yes"], "B", None)
    assert (ds[0]["modality"], ds[2]["modality"], ds[0]["source"]) == ("Dermoscopy", "Fundus", "ISIC2019")
    assert ds["id"] == ["ISIC2019-0", "ISIC2019-1", "Restricted-access-ISIC2019-0"]
    assert load_vqa(root, modality="FP")["id"] == ["Restricted-access-ISIC2019-0"]


def test_omnimedvqa_brings_its_own_images(omni):
    root = omni([item()])
    draw(root, "Images/ISIC2019/a.png")
    assert load_vqa(root, size=5)[0]["image"].size == (5, 5)
    other = draw(root.parent / "elsewhere", "Images/ISIC2019/a.png")
    ds = load_vqa(root, images=other).cast_column("image", datasets.Image(decode=False))
    assert ds[0]["image"]["path"].startswith(str(other))


def test_the_source_is_the_folder_below_images_else_the_data_set_else_the_file(omni):
    other = item(image_path="elsewhere/a.png")
    unnamed = {key: value for key, value in other.items() if key != "dataset"}
    assert load_vqa(omni([item(dataset="x"), other, unnamed], name="F.json"))["source"] == ["ISIC2019", "ISIC2019", "F"]


def test_the_exact_gold_text_goes_before_the_similar_one(omni):
    assert load_vqa(omni([item("No", option_A="no.", option_B="No")]))["answer"] == ["B"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (item("Heart"), "gold text not among the options: 'Heart'"),
        (item("Lung.", option_C="Lung."), "gold text under several letters: 'Lung.' is B and C"),
        (item("LIVER", option_C="liver."), "gold text under several letters: 'LIVER' is A and C"),
        (item(option_A=""), "option is empty: only B, C, D have a text"),
        (item(option_B=None, option_C=None, option_D=None), "fewer than two options"),
        (item(option_C=3), "value is no text: 'option_C'"),
        (item(question=None), "value is no text: 'question'"),
        (item(modality_type="Endoscopy"), "unknown modality 'Endoscopy'"),
        ([], "row is not an object"),
    ],
)
def test_a_bad_omnimedvqa_item_is_refused_with_file_and_row(omni, bad, message):
    root = omni([item(), bad])
    with pytest.raises(DataError, match=rf"ISIC2019\.json, row 1: {message}"):
        load_vqa(root)
    with pytest.warns(DroppedRows):
        assert load_vqa(root, check="drop")["id"] == ["ISIC2019-0"]


def test_a_part_of_omnimedvqa_is_answered_with_the_right_folder(omni):
    root = omni([item()])
    with pytest.raises(DataError, match="give its parent folder"):
        load_vqa(root / "QA_information")
    (root / "QA_information" / "Open-access" / "ISIC2019.json").unlink()
    with pytest.raises(DataError, match=r"holds no QA_information/Open-access"):
        load_vqa(root)


# --- data sets of the datasets library -------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """Med-R1's training format: a DatasetDict with image, problem and solution; 0 and 1 are the same image."""
    pictures = [PIL.Image.new("RGB", (8, 6), (50 * max(i, 1), 0, 0)) for i in range(4)]
    table = {"image": pictures, **{key: [r[key] for r in rows(4)] for key in ("problem", "solution")}}
    train = datasets.Dataset.from_dict(table, split="train").cast_column("image", datasets.Image())
    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": train, "test": train.select([2])}).save_to_disk(folder)
    return folder


def test_a_saved_data_set_in_med_r1s_format_is_read(saved):
    ds = load_vqa(saved, size=4, modality="CT")
    assert tuple(ds.column_names) == COLUMNS
    assert (ds["answer"], ds["modality"]) == (["A", "B", "C", "A"], ["CT"] * 4)
    assert [row["image"].getpixel((0, 0))[0] for row in ds] == [50, 50, 100, 150]
    assert ds[0]["image"].size == (4, 4)
    assert ds[0]["image_id"] == ds[1]["image_id"] != ds[2]["image_id"]
    assert len(set(ds["id"])) == 4
    assert len(load_vqa(saved, split="test")) == 1
    with pytest.raises(DataError, match="no split 'val'; it has train, test"):
        load_vqa(saved, split="val")


def test_some_rows_of_a_saved_data_set_keep_their_own_images(saved):
    ds = load_vqa(saved, n=2, seed=3)
    red = {"A": (50, 150), "B": (50,), "C": (100,)}
    assert len(ds) == 2 and all(row["image"].getpixel((0, 0))[0] in red[row["answer"]] for row in ds)


def test_what_was_loaded_can_be_saved_and_loaded_again(isic, tmp_path):
    meta = [{"image": r["image"], "modality": "Der", "task": "AI", "patient_id": "p"} for r in rows(6)]
    first = load_vqa(isic, images=isic.parent, size=20, meta=write(tmp_path / "meta.json", meta))
    first.select([4, 1]).save_to_disk(tmp_path / "again")
    second = load_vqa(tmp_path / "again", size=30)
    assert second.column_names == first.column_names
    assert second.remove_columns("image").to_list() == first.select([4, 1]).remove_columns("image").to_list()
    assert second[0]["image"].size == (30, 30)


def test_options_of_a_row_go_before_those_read_from_its_text(tmp_path):
    ours = load_vqa(write(tmp_path / "q.json", [row()])).to_list()[0]
    ours |= {"problem": "What organ?\n- liver\n- lung", "options": ["liver", "lung"], "answer": "B", "image": "x.png"}
    datasets.Dataset.from_list([{**ours, "solution": "B"}]).save_to_disk(tmp_path / "d")
    ds = load_vqa(tmp_path / "d")
    assert (ds[0]["options"], ds[0]["answer"], ds[0]["id"]) == (["liver", "lung"], "B", "q-0")


def test_a_saved_data_set_with_bad_rows_is_refused_by_row(tmp_path):
    good = {"bytes": draw(tmp_path, "a.png").joinpath("a.png").read_bytes(), "path": "a.png"}
    cut = {"bytes": good["bytes"][:-30], "path": "cut.png"}
    table = {"image": [good, cut, None, good], **{key: [r[key] for r in rows(4)] for key in ("problem", "solution")}}
    table["solution"][3] = "Z"
    features = datasets.Features(
        {"image": datasets.Image(), "problem": datasets.Value("string"), "solution": datasets.Value("string")}
    )
    datasets.Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match="d, row 3: unknown answer letter"):
        load_vqa(tmp_path / "d")
    with pytest.warns(DroppedRows) as caught:
        ds = load_vqa(tmp_path / "d", check="drop")
    assert sorted(entry["row"] for entry in caught[0].message.rows) == [1, 2, 3]
    assert ds["answer"] == ["A"] and ds[0]["image"].size == (384, 384)


def test_a_saved_data_set_without_our_columns_or_with_repeated_ids_is_refused(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match="d: no column is the question; it has 'text'"):
        load_vqa(tmp_path / "d")
    datasets.Dataset.from_list([row(id="x"), row(id="x")]).save_to_disk(tmp_path / "e")
    with pytest.raises(DataError, match="e, row 1: id used twice: 'x'"):
        load_vqa(tmp_path / "e")
    with pytest.raises(DataError, match="single data set without split 'val'"):
        load_vqa(tmp_path / "e", split="val")


def test_a_hub_data_set_is_asked_for_by_name_and_split(monkeypatch, tmp_path):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_list(rows(2), split=datasets.NamedSplit(split))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    draw(tmp_path, *[f"Images/ISIC/{i}.png" for i in range(2)])
    assert load_vqa("owner/vqa", split="test", images=tmp_path)["id"] == ["vqa-test-0", "vqa-test-1"]
    assert "image" not in load_vqa("owner/vqa").column_names
    assert asked == [("owner/vqa", "test"), ("owner/vqa", "train")]


def test_a_hub_data_set_that_cannot_be_reached_is_a_clear_error(monkeypatch):
    def load_dataset(name, split):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"'owner/vqa' is no file or folder here.*no network.*check the name"):
        load_vqa("owner/vqa")


# --- phantoms --------------------------------------------------------------------------------------------------------


TRUTH = {"finding": "cyst", "size": "small", "box": [1, 2, 3, 4]}


@pytest.fixture
def phantoms(monkeypatch):
    """A stand-in for the painter that notes what it was asked for."""
    asked = []

    def phantom_rows(split, modality, task, n, seed, size, **axes):
        asked.append((split, modality, task, n, seed, size, axes))
        record = {**row(problem="Shape? A)ring, B)disc", letter="B"), "question": "Shape?", "options": ["ring", "disc"]}
        record |= {"answer": "B", "modality": "CT", "task": task, "source": "phantom", "rationale": "It is full."}
        record |= {"n_facts": 2, "truth": TRUTH, "image": PIL.Image.new("RGB", (size or 112,) * 2, (9, 8, 7))}
        return [{**record, "id": f"p{i}", "image_id": f"i{i}"} for i in range(min(n or 3, 3))]

    module = types.ModuleType("medr1kit.data.phantoms")
    module.phantom_rows = phantom_rows
    monkeypatch.setitem(sys.modules, "medr1kit.data.phantoms", module)
    return asked


def test_phantoms_are_drawn_and_kept_as_png(phantoms):
    ds = load_vqa("phantoms")
    assert ds.column_names == [*COLUMNS, "rationale", "n_facts", "truth"]
    assert ds[0]["image"].getpixel((3, 3)) == (9, 8, 7) and ds[0]["image"].size == (112, 112)
    assert not isinstance(ds.features["image"], MedicalImage)
    stored = ds.cast_column("image", datasets.Image(decode=False))[0]["image"]
    assert stored["bytes"].startswith(b"\x89PNG") and stored["path"] is None


def test_phantoms_keep_their_truth_as_words_and_numbers(phantoms):
    ds = load_vqa("phantoms")
    assert ds[2]["truth"] == TRUTH and ds[2]["n_facts"] == 2
    assert ds.filter(lambda entry: entry["truth"]["size"] == "large").num_rows == 0


def test_what_is_asked_of_the_phantoms_is_passed_on(phantoms):
    axes = {"scanner": "A", "shortcut": 0.0, "difficulty": None, "imbalance": 0.0}
    load_vqa("phantoms")
    load_vqa("phantoms", split="val", modality="us", task="ai", n=7, seed=3, size=56)
    load_vqa("phantoms", scanner="B", shortcut=0.5, difficulty=0.0, imbalance=0.25)
    assert phantoms == [
        (None, None, None, None, 0, None, axes),
        ("val", "Ultrasound", "Anatomy Identification", 7, 3, 56, axes),
        (None, None, None, None, 0, None, {"scanner": "B", "shortcut": 0.5, "difficulty": 0.0, "imbalance": 0.25}),
    ]


def test_the_painter_itself_is_called_as_it_wants_to_be():
    ds = load_vqa("phantoms", split="test", modality="CT", n=3, size=32)
    assert (len(ds), set(ds["modality"])) == (3, {"CT"})
    assert ds[0]["image"].size == (32, 32) and ds[0]["options"]["ABCD".index(ds[0]["answer"])] in ds[0]["problem"]
    assert ds[0]["truth"]["modality"] == "CT" and len(ds[0]["truth"]["box"]) == 4


def test_phantoms_survive_saving_and_loading(tmp_path):
    ds = load_vqa("phantoms", split="test", n=3, size=32)
    ds.save_to_disk(tmp_path / "d")
    again = load_vqa(tmp_path / "d", size=32)
    for name in ("id", "problem", "answer", "rationale"):
        assert again[name] == ds[name]


def test_arguments_that_phantoms_do_not_have_are_refused(phantoms, tmp_path):
    for arguments in ({"images": tmp_path}, {"meta": "m.json"}, {"max_pixels": 5}):
        with pytest.raises(DataError, match="does not go with phantoms"):
            load_vqa("phantoms", **arguments)


def test_phantoms_refuse_what_they_have_not():
    with pytest.raises(DataError, match="no split 'dev'"):
        load_vqa("phantoms", split="dev")
    with pytest.raises(DataError, match="size >= 28"):
        load_vqa("phantoms", size=20)
    with pytest.raises(DataError, match="no scanner 'C'"):
        load_vqa("phantoms", scanner="C")


@pytest.mark.parametrize(
    "axis", [{"scanner": "B"}, {"shortcut": 0.5}, {"difficulty": 0.0}, {"imbalance": 0.5}, {"twins": 0.5}]
)
def test_other_sources_refuse_the_axes_of_the_phantoms(isic, axis):
    with pytest.raises(DataError, match=f"{next(iter(axis))}= does not go with any source but phantoms"):
        load_vqa(isic, **axis)


# --- what only one source takes --------------------------------------------------------------------------------------


def test_a_refused_argument_is_answered_with_what_the_source_takes(isic, tmp_path):
    with pytest.raises(
        DataError, match=r"scanner= does not go with any source but phantoms; a JSON file takes images=, meta=, col"
    ):
        load_vqa(isic, scanner="B")
    with pytest.raises(
        DataError, match=r"images= does not go with phantoms; phantoms takes split=, scanner=, shortcut="
    ):
        load_vqa("phantoms", images=tmp_path)
    with pytest.raises(DataError, match="data_dir= does not go with any source but medmnist; phantoms takes"):
        load_vqa("phantoms", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("typo", "meant"), [("scaner", "scanner"), ("imbalence", "imbalance"), ("modalities", "modality")]
)
def test_a_misspelt_argument_is_answered_with_the_nearest_one(isic, typo, meant):
    for source in ("phantoms", isic):
        with pytest.raises(TypeError, match=rf"no argument '{typo}'; did you mean {meant}=\?"):
            load_vqa(source, **{typo: 1})


def test_an_argument_like_no_other_is_answered_with_those_that_exist(isic):
    with pytest.raises(
        TypeError, match=r"no argument 'shuffle'; there are split=, modality=, .* check=, columns= and yes_no=$"
    ):
        load_vqa(isic, shuffle=True)
    with pytest.raises(TypeError, match=r"no argument 'shuffle'; there are split=, modality=, .* and imbalance=$"):
        load_vqa("phantoms", shuffle=True)


def test_what_only_repeats_a_default_is_taken_by_every_source(isic):
    silent = {"scanner": "A", "shortcut": 0.0, "difficulty": None, "imbalance": 0.0, "data_dir": None}
    assert load_vqa(isic, **silent)["id"] == load_vqa(isic)["id"]
    with pytest.raises(DataError, match="scanner= does not go"):
        load_vqa(isic, scanner=None)


def test_a_source_that_is_not_there_is_named_before_arguments_that_files_do_not_take():
    with pytest.raises(DataError, match="file not found: 'phantom'; give 'phantoms'"):
        load_vqa("phantom", split="train")


def test_help_names_what_each_source_takes_of_its_own():
    text = load_vqa.__doc__.partition("of_source:")[2]
    assert all(
        f"``{name}``" in text for name in ("scanner", "shortcut", "difficulty", "imbalance", "twins", "data_dir")
    )
