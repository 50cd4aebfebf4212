"""Readers of the sets that others report, on made-up files in their authors' layouts."""

import json
import pickle

import PIL.Image
import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.audits import image_disjoint_split
from medr1kit.data.benchmark_sets import benchmark_set
from medr1kit.data.closed import closed_question, left_out, named_options
from medr1kit.vqa import DataError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (40, 40), (len(str(path)) % 256, 90, 30)).save(path)


def slake_row(number, question, answer, **more):
    row = {"img_id": number, "img_name": f"xmlab{number}/source.jpg", "question": question, "answer": answer}
    row |= {"q_lang": "en", "location": "Lung", "modality": "X-Ray", "answer_type": "CLOSED", "base_type": "vqa"}
    return row | {"content_type": "Abnormality", "triple": ["vhead", "_", "_"], "qid": number} | more


@pytest.fixture
def slake(tmp_path):
    rows = [
        slake_row(1, "Is the lung healthy?", "Yes"),
        slake_row(1, "Is there a mass?", "No", content_type="Modality"),
        slake_row(2, "Is this a CT or an MRI?", "MRI", modality="MRI", content_type="Position"),
        slake_row(2, "What organ is this?", "Lung", answer_type="OPEN"),
        slake_row(3, "Which side is bigger?", "Left"),
        slake_row(3, "肺健康吗？", "不是", q_lang="zh"),
        slake_row(3, "图中有肿块吗？", "没有", q_lang="zh"),
        slake_row(3, "这是CT还是MRI？", "CT", q_lang="zh"),
    ]
    for split, some in (("train", rows), ("test", rows[:3] + rows[4:6]), ("validate", rows[:1])):
        (tmp_path / f"{split}.json").write_text(json.dumps(some, ensure_ascii=False), encoding="utf-8")
    for number in (1, 2, 3):
        picture(tmp_path / f"imgs/xmlab{number}/source.jpg")
    return tmp_path


def test_slake_s_closed_questions_are_read_and_the_others_counted(slake, capsys):
    ds = mk.load_vqa(slake, split="train")
    assert ds["question"] == ["Is the lung healthy?", "Is there a mass?", "Is this a CT or an MRI?"]
    assert ds["options"] == [["yes", "no"], ["yes", "no"], ["CT", "MRI"]] and ds["answer"] == ["A", "B", "B"]
    assert ds["modality"] == ["X-Ray", "X-Ray", "MRI"] and set(ds["source"]) == {"SLAKE"}
    assert ds["task"] == ["Disease Diagnosis", "Modality Recognition", None]
    assert ds["image_id"] == ["xmlab1/source.jpg", "xmlab1/source.jpg", "xmlab2/source.jpg"]
    assert ds[0]["image"].size == (384, 384)
    said = capsys.readouterr().out
    assert "SLAKE, train: 3 closed; left out: 3 in zh, language='zh' reads them, 1 open (they have no options)" in said
    assert "1 closed, with options that nobody states" in said


def test_slake_in_chinese_has_the_same_two_options_whatever_the_denial(slake):
    ds = mk.load_vqa(slake / "train.json", language="zh")
    assert ds["options"] == [["是", "否"], ["是", "否"], ["CT", "MRI"]] and ds["answer"] == ["B", "B", "A"]


def test_the_command_line_takes_the_language(slake, capsys):
    sides = ["--train", str(slake / "train.json"), "--test", str(slake / "test.json")]
    assert main(["audit", *sides, "--language", "zh"]) == 0
    assert "SLAKE, train: 3 closed; left out: 5 in en, language='en' reads them" in capsys.readouterr().out


def test_questions_about_an_image_stay_together(slake):
    rows = [slake_row(number, question, "Yes") for number in range(1, 9) for question in ("Is it dark?", "Is it big?")]
    (slake / "train.json").write_text(json.dumps(rows))
    for number in range(4, 9):
        picture(slake / f"imgs/xmlab{number}/source.jpg")
    train, test = image_disjoint_split(mk.load_vqa(slake, split="train"), test_size=0.5, seed=0)
    assert not set(train["image_id"]) & set(test["image_id"])


def rad_row(number, question, answer, phrase="freeform", **more):
    row = {"qid": number, "phrase_type": phrase, "qid_linked_id": f"0{number}", "image_case_url": "https://x"}
    row |= {"image_name": f"synpic{number}.jpg", "image_organ": "CHEST", "evaluation": "evaluated"}
    row |= {"question": question, "question_rephrase": "NULL", "question_relation": "NULL", "question_frame": "NULL"}
    return row | {"question_type": "ABN", "answer": answer, "answer_type": "CLOSED"} | more


@pytest.fixture
def rad(tmp_path):
    rows = [
        rad_row(1, "Is there a fracture?", "No"),
        rad_row(2, "Is the heart enlarged or normal?", "enlarged", answer_type="CLOSED "),
        rad_row(2, "How many ribs?", 12, answer_type="OPEN", question_type="COUNT"),
        rad_row(3, "Is the trachea midline?", "yes ", "test_freeform", question_type="POS"),
        rad_row(3, "Is it midline, the trachea?", "Yes", "test_para"),
    ]
    (tmp_path / "VQA_RAD Dataset Public.json").write_text(json.dumps(rows))
    for number in (1, 2, 3):
        picture(tmp_path / f"VQA_RAD Image Folder/synpic{number}.jpg")
    return tmp_path


def test_vqa_rad_is_split_as_its_authors_say(rad, capsys):
    train, test = (mk.load_vqa(rad, split=split) for split in ("train", "test"))
    assert train["answer"] == ["B", "A"] and train["options"] == [["yes", "no"], ["enlarged", "normal"]]
    assert test["image_id"] == ["synpic3.jpg"] * 2 and test["task"] == [None, "Disease Diagnosis"]
    assert "image" in train.column_names and train["modality"] == [None, None]
    assert "2 closed; left out: 2 of the other split, 1 open (they have no options)" in capsys.readouterr().out
    assert mk.load_vqa(rad / "VQA_RAD Dataset Public.json", split="test")["answer"] == ["A", "A"]


@pytest.fixture
def path_vqa(tmp_path):
    rows = [
        {"image": "train_0001", "question": "is inflammation present?", "answer": "yes"},
        {"image": "train_0001", "question": "what is present?", "answer": "oedema"},
        {"image": "train_0002", "question": "are cells seen?", "answer": "no"},
    ]
    for split in ("train", "test"):
        file = tmp_path / f"pvqa/qas/{split}/{split}_qa.pkl"
        file.parent.mkdir(parents=True)
        file.write_bytes(pickle.dumps([{**row, "image": row["image"].replace("train", split)} for row in rows]))
        for number in (1, 2):
            picture(tmp_path / f"pvqa/images/{split}/{split}_000{number}.jpg")
    return tmp_path


@pytest.mark.parametrize("folder", [".", "pvqa"])
def test_path_vqa_is_read_from_either_folder(path_vqa, folder, capsys):
    ds = mk.load_vqa(path_vqa / folder, split="test")
    assert ds["answer"] == ["A", "B"] and ds["image_id"] == ["test/test_0001.jpg", "test/test_0002.jpg"]
    assert "PathVQA, test: 2 closed; left out: 1 open (they have no options)" in capsys.readouterr().out


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([Evil()]),
        pickle.dumps([{"question": Evil()}], 0),
        b"cos\nsystem\n(S'true'\ntR.",
        b"x",
        b"",
        b"\x80\x04.",
    ],
)
def test_no_code_of_a_pickle_runs(path_vqa, content):
    (path_vqa / "pvqa/qas/train/train_qa.pkl").write_bytes(content)
    with pytest.raises(DataError, match="not a list of questions"):
        mk.load_vqa(path_vqa)


V1 = "Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label\n"
V2 = ",index,Figure_path,Caption,Question,Choice A,Choice B,Choice C,Choice D,Answer,split\n"


def test_pmc_vqa_version_1(tmp_path):
    line = 'PMC1_F1.jpg,"Where, in the breast?", Focal uptake, A:Diffuse , B:Focal uptake , C:None , D:Unknown ,B\n'
    (tmp_path / "test.csv").write_text(V1 + line)
    (tmp_path / "train.csv").write_text(V1 + line.replace("PMC1_", "PMC2_"))
    picture(tmp_path / "images/PMC2_F1.jpg")
    ds = mk.load_vqa(tmp_path, split="train")
    assert ds["options"] == [["Diffuse", "Focal uptake", "None", "Unknown"]] and ds["answer"] == ["B"]
    assert (
        ds["question"] == ["Where, in the breast?"] and ds["image_id"] == ["PMC2_F1.jpg"] and "image" in ds.column_names
    )


def test_pmc_vqa_version_2_and_a_row_whose_choice_is_missing(tmp_path):
    rows = "0,7,PMC3_F2.jpg,A caption,Which?,A: x,B: y,C: z,D: w,C,train\n"
    rows += "1,8,PMC3_F3.jpg,c,Which?,A: x,,C: z,D: w,C,train\n"
    (tmp_path / "train_2.csv").write_text(V2 + rows)
    with pytest.raises(DataError, match=r"train_2.csv, row 3: options are not a list of texts"):
        mk.load_vqa(tmp_path / "train_2.csv")
    with pytest.warns(match="dropped 1 of 2 rows"):
        ds = mk.load_vqa(tmp_path / "train_2.csv", check="drop")
    assert ds["options"] == [["x", "y", "z", "w"]] and ds["answer"] == ["C"]


@pytest.fixture
def medxpert(tmp_path):
    def row(number, images):
        text = f"Case {number}. Which (A) artery?\nAnswer Choices: (A) C (B) D (C) A (D) B (E) None"
        return {
            **{"id": f"MM-{number}", "question": text, "options": dict(zip("ABCDE", ["C", "D", "A", "B", "None"]))},
            **{"label": "C", "images": images, "medical_task": "Diagnosis", "body_system": "Skin"},
            "question_type": "Reasoning",
        }

    (tmp_path / "MM").mkdir()
    for split, first in (("dev", 0), ("test", 10)):
        rows = [row(first, [f"MM-{first}-a.jpeg"]), row(first + 1, ["a.jpeg", "b.jpeg"])]
        (tmp_path / f"MM/{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        picture(tmp_path / f"images/MM-{first}-a.jpeg")
    return tmp_path


def test_medxpertqa_keeps_options_that_are_letters_and_leaves_out_several_images(medxpert, capsys):
    ds = mk.load_vqa(medxpert)
    assert ds["id"] == ["MM-10"] and ds["question"] == ["Case 10. Which (A) artery?"] and ds["answer"] == ["C"]
    assert ds["options"] == [["C", "D", "A", "B", "None"]] and "image" in ds.column_names
    assert "MedXpertQA, test: 1 closed; left out: 1 with several images" in capsys.readouterr().out
    assert mk.load_vqa(medxpert / "MM/dev.jsonl")["id"] == ["MM-0"]


# --- all of them ------------------------------------------------------------------------------------------------------


def test_a_set_is_known_by_its_layout(slake, tmp_path):
    assert benchmark_set(slake) == benchmark_set(slake / "test.json") == "SLAKE"
    (tmp_path / "other.json").write_text('[{"image": "a.png", "problem": "Which? A)x, B)y", "solution": "A"}]')
    assert benchmark_set(tmp_path / "other.json") is None
    assert mk.load_vqa(tmp_path / "other.json")["options"] == [["x", "y"]]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"split": "val"}, "split='val' is unknown; .*train, validate, test"),
        ({"language": "de"}, "language='de' is unknown"),
        ({"columns": {"question": "q"}}, "columns= does not go with .* SLAKE takes split=, images= and language="),
        ({"images": "nowhere"}, "image folder 'nowhere' does not exist"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(slake, given, sentence):
    with pytest.raises(DataError, match=sentence):
        mk.load_vqa(slake, **given)
    with pytest.raises(DataError, match=r"split='train', but 'test.json' is test"):
        mk.load_vqa(slake / "test.json", split="train")


def test_a_row_that_lacks_a_key_is_named(slake):
    rows = [{"img_name": "a", "q_lang": "en", "question": "Is it?", "answer_type": "CLOSED"}]
    (slake / "train.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"train.json, row 0: key is missing: 'answer'"):
        mk.load_vqa(slake)


@pytest.mark.parametrize("name", ["slake", "rad", "path_vqa"])
def test_an_audit_takes_the_folder_for_both_sides(name, request, capsys):
    folder = str(request.getfixturevalue(name))
    main(["audit", "--train", folder, "--test", folder])
    said = capsys.readouterr().out
    assert ", train: " in said and ", test: " in said and "chance" in said


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Is this a CT or an MRI?", ["CT", "MRI"]),
        ("Is it a CT, MRI, or X-ray?", ["CT", "MRI", "X-ray"]),
        ("Is the lesion in the left lung or the right lung?", ["left lung", "right lung"]),
        ("Is this scanned in a transverse plane or coronal plane?", ["transverse plane", "coronal plane"]),
        ("Which organ is bigger in this image, liver or right kidney?", ["liver", "right kidney"]),
        ("Where is the mass, left,top or upper left?", ["left", "top", "upper left"]),
        ("Is the dark part on the left or right side of the chest?", ["left", "right"]),
        ("Is it left?", None),
        ("Is it the same or the same?", None),
        ("Which one is it or", None),
        ("左肺还是右肺？", ["左肺", "右肺"]),
        ("这张图正常还是不正常?", ["正常", "不正常"]),
        ("扫描的是图像的哪个平面,横断面还是冠状面?", ["横断面", "冠状面"]),
        ("图像显示的是哪种成像,核磁共振、CT还是X光?", ["核磁共振", "CT", "X光"]),
        ("图中肺、心脏和肝脏哪个更大?", ["肺", "心脏", "肝脏"]),
    ],
)
def test_a_question_that_names_its_options(question, options):
    assert named_options(question) == options


@pytest.mark.parametrize(
    ("question", "answer", "options", "letter"),
    [
        ("Is it a T1 weighted or T2 weighted image?", "T2", ["T1 weighted", "T2 weighted"], "B"),
        ("Is there oedema or not?", "No", ["yes", "no"], "B"),
        ("Is it left or right?", "Right.", ["left", "right"], "B"),
        ("图片中包含肝脏吗?", "不包含", ["是", "否"], "B"),
        ("图片看起来正常吗?", "正常", ["是", "否"], "A"),
        ("图像是否不正常?", "不正常", ["是", "否"], "A"),
        ("有肿块吗?", "没有", ["是", "否"], "B"),
    ],
)
def test_an_answer_is_one_of_the_options(question, answer, options, letter):
    read = closed_question({"question": question, "answer": answer})
    assert (read["options"], read["solution"]) == (options, letter)


@pytest.mark.parametrize(
    ("question", "answer", "answer_type", "why"),
    [
        ("Which is abnormal, heart or lung?", "Both", "CLOSED", "closed, with options that nobody states"),
        ("Is it left or right?", "center", "closed ", "closed, with options that nobody states"),
        ("What is it?", "yes", "OPEN", "open (they have no options)"),
        ("What is it?", "a mass", "yes or no", "open (they have no options)"),
        ("Is it?", "yes", "yes or no", ""),
    ],
)
def test_why_a_question_is_left_out(question, answer, answer_type, why):
    assert left_out({"question": question, "answer": answer}, answer_type) == why
