"""Result files of other tools: made up here in their real layouts, read as predictions, and used by everything else."""

import csv
import gzip
import json

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.data.load import DroppedRows
from medr1kit.results.tables import PREDICTIONS
from medr1kit.vqa import format_problem

ASKED = [  # question, options, gold, image
    ("What organ is shown?", ["liver", "lung", "brain"], "B", "Images/Set/a/1.png"),
    ("Is there a mass?", ["yes", "no"], "A", "Images/Set/a/1.png"),
    ("Which stage?", ["T2, N0", "T1, N1", "NA", "None"], "C", "Images/Set/b/1.png"),
    ("What is the imaging modality?", ["CT", "MRI"], "B", "Images/Set/b/2.png"),
]


def letters(column):
    """A column of letters, None where there is none."""
    return [letter if isinstance(letter, str) else None for letter in column]


def written(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def med_r1(path, outputs, extracted=None, accuracy=None):
    """As src/eval_vqa of Med-R1 writes it."""
    results = []
    for k, ((question, options, gold, image), output) in enumerate(zip(ASKED, outputs)):
        row = {"image": image, "problem": format_problem(question, options), "solution": f"<answer> {gold} </answer>"}
        results.append({"question": row, "ground_truth": row["solution"], "model_output": output})
        results[-1]["extracted_answer"] = extracted[k] if extracted else None
    right = sum(row["extracted_answer"] == gold for row, (_, _, gold, _) in zip(results, ASKED))
    return written(path, {"accuracy": 100 * right / len(results) if accuracy is None else accuracy, "results": results})


def vlmevalkit(path, outputs, hits=None):
    """As VLMEvalKit writes it: a column a letter, empty where a question has fewer."""
    rows = []
    for k, ((question, options, gold, _), output) in enumerate(zip(ASKED, outputs)):
        letters = dict(zip("ABCD", [*options, None, None, None]))
        rows.append({"index": k + 100, "question": question, **letters, "answer": gold, "category": f"c{k % 2}"})
        rows[-1] |= {"prediction": output} | ({"hit": hits[k]} if hits else {})
    if path.suffix == ".xlsx":
        pd.DataFrame(rows).to_excel(path, index=False)
    else:
        pd.DataFrame(rows).to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_ALL)
    return path


def lmms_eval(path, responses, **more):
    """As lmms-eval logs samples: no document, the prompt in `input`, the target a text."""
    lines = []
    for k, ((question, options, gold, _), response) in enumerate(zip(ASKED, responses)):
        below = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", options))
        row = {"doc_id": k, "target": gold, "filtered_resps": response, "token_counts": [{"output_tokens": 3 + k}]}
        row |= {"doc_hash": "74234e", "input": f"{question}\n{below}\nAnswer with the option's letter."}
        lines.append(json.dumps(row | more))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def medevalkit(path, responses, **more):
    """As MedEvalKit writes results.json for OmniMedVQA."""
    rows = []
    for k, ((question, options, gold, image), response) in enumerate(zip(ASKED, responses)):
        choices = [f"{letter}. {text}" for letter, text in zip("ABCD", options)]
        row = {"dataset": "Set", "question_id": f"Set_{k}", "question_type": "Disease Diagnosis", "question": question}
        row |= {"image_path": f"./datas/OmniMedVQA/{image}", "modality_type": "X-Ray", "choices": choices}
        rows.append(row | {"answer": gold, "response": response, "correct": k % 2 == 0} | more)
    return written(path, rows)


def questions(tmp_path, order=(0, 1, 2, 3), **columns):
    """The same questions as a data set of ours."""
    rows = []
    for k in order:
        question, options, gold, image = ASKED[k]
        row = {"image": image, "problem": format_problem(question, options), "solution": f"<answer> {gold} </answer>"}
        rows.append(row | {"modality": "CT", "patient_id": f"p{k}"} | columns)
    return mk.load_vqa(written(tmp_path / "asked.json", rows))


# --- the four layouts -------------------------------------------------------------------------------------------------


def test_med_r1_results_with_what_its_script_read_beside_what_ours_reads(tmp_path):
    said = ["<answer>B</answer>", "<answer>A) yes</answer>", "<answer> C </answer>", "B"]
    path = med_r1(tmp_path / "CT_result.json", said, extracted=["B", None, "C", None])
    preds = mk.import_predictions(path)
    assert list(preds.columns) == [*PREDICTIONS, "reference_predicted", "their_correct", "category"]
    assert letters(preds["predicted"]) == ["B", "A", "C", None], "ours forgives the option's text"
    assert letters(preds["lenient_predicted"]) == ["B", "A", "C", "B"]
    assert letters(preds["reference_predicted"]) == ["B", None, "C", None]
    assert preds["their_correct"].tolist() == [True, False, True, False]
    assert preds["correct"].tolist() == [True, True, True, False]
    assert preds["options"].tolist() == [options for _, options, _, _ in ASKED]
    assert preds["answer"].tolist() == ["B", "A", "C", "B"]
    assert preds["image_id"].tolist() == [image for *_, image in ASKED]
    assert set(preds["method"]) == {"given"} and set(preds["model"]) == {"CT_result"}
    assert set(preds["format"]) == {"no-think"}


def test_where_the_file_does_not_say_the_reference_parser_reads_the_text(tmp_path):
    said = ["<answer>B</answer><answer>C</answer>", "<answer>A)</answer>", "<answer>\nC\n</answer>", "B"]
    preds = mk.import_predictions(vlmevalkit(tmp_path / "m.tsv", said))
    assert letters(preds["reference_predicted"]) == ["B", None, None, "B"]
    assert letters(preds["predicted"]) == [None, "A", "C", None]


@pytest.mark.parametrize("ending", ["xlsx", "tsv"])
def test_vlmevalkit_tables_keep_options_that_look_like_nothing(tmp_path, ending):
    said = ["B", "A. yes", "The answer is C.", "I cannot say."]
    path = vlmevalkit(tmp_path / f"Qwen2.5-VL-3B_OmniMedVQA.{ending}", said, hits=[1, 1, 1, 0])
    preds = mk.import_predictions(path)
    assert preds["options"].tolist() == [options for _, options, _, _ in ASKED], "NA and None are options"
    assert letters(preds["predicted"]) == ["B", "A", "C", None]
    assert preds["their_correct"].tolist() == [True, True, True, False]
    assert preds["category"].tolist() == ["c0", "c1", "c0", "c1"]
    assert set(preds["model"]) == {"Qwen2.5-VL-3B_OmniMedVQA"}
    assert preds["well_formed"].isna().all(), "no format was asked for"


def test_lmms_eval_samples_with_options_out_of_the_prompt(tmp_path):
    preds = mk.import_predictions(lmms_eval(tmp_path / "s.jsonl", ["B", "yes", "(C)", "A"]))
    assert preds["question"].tolist() == [question for question, *_ in ASKED]
    assert preds["options"].tolist() == [options for _, options, _, _ in ASKED]
    assert preds["correct"].tolist() == [True, True, True, False]
    assert preds["n_tokens"].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    "raw", ["<think>A brain?</think>B", ["<think>A brain?</think>B"], [["<think>A brain?</think>B"]]]
)
def test_lmms_eval_raw_response_goes_before_the_filtered_one(tmp_path, raw):
    preds = mk.import_predictions(lmms_eval(tmp_path / "s.jsonl", ["C"] * 4, resps=raw))
    assert preds["think"].tolist() == ["A brain?"] * 4
    assert letters(preds["predicted"]) == ["B"] * 4


def test_medevalkit_results_with_modality_task_and_boxed_letters(tmp_path):
    said = ["B", r"A vitamin C deficiency is unlikely, so \boxed{A}", r"\boxed{A} or \boxed{B}", None]
    preds = mk.import_predictions(medevalkit(tmp_path / "results.json", said))
    assert letters(preds["predicted"]) == ["B", "A", None, None]
    assert set(preds["modality"]) == {"X-Ray"} and set(preds["task"]) == {"Disease Diagnosis"}
    assert set(preds["source"]) == {"Set"}
    assert preds["their_correct"].tolist() == [True, False, True, False]
    assert preds["text"].iloc[3] == "", "an answer that was not given is wrong, not left out"


def test_a_modality_that_is_none_of_the_eight_keeps_its_own_name(tmp_path):
    path = medevalkit(tmp_path / "r.json", ["B"] * 4, modality_type="Endoscopy", question_type="Staging")
    preds = mk.import_predictions(path)
    assert set(preds["modality"]) == {"Endoscopy"} and set(preds["task"]) == {"Staging"}


def test_the_layout_is_known_by_content_not_by_name(tmp_path):
    path = tmp_path / "answers.txt"
    path.write_bytes(gzip.compress(medevalkit(tmp_path / "r.json", ["B"] * 4).read_bytes()))
    assert mk.import_predictions(path)["predicted"].tolist() == ["B"] * 4


def test_numbers_and_gaps_of_json_tables_are_read_as_a_reader_sees_them(tmp_path):
    row = {"index": 7, "question": "How many?", "A": 1, "B": 2.5, "C": float("nan"), "answer": "B"}
    path = written(tmp_path / "m.json", [row | {"prediction": 2.5, "hit": 1}])
    preds = mk.import_predictions(path)
    assert preds["options"].tolist() == [["1", "2.5"]]
    assert letters(preds["predicted"]) == ["B"]
    pd.DataFrame([row | {"prediction": 2.5, "hit": 1}]).to_excel(tmp_path / "m.xlsx", index=False)
    assert mk.import_predictions(tmp_path / "m.xlsx")["options"].tolist() == [["1", "2.5"]]


def test_older_logs_of_lmms_eval_hold_documents(tmp_path):
    doc = {"question": "Is there a mass?", "options": ["yes", "no"], "category": "closed"}
    log = {"doc_id": 0, "doc": doc, "target": "no", "resps": [["No."]], "filtered_resps": ["No."]}
    preds = mk.import_predictions(written(tmp_path / "s.json", {"args": {}, "logs": [log]}))
    assert (letters(preds["predicted"]), preds["answer"].tolist()) == (["B"], ["B"])
    assert preds["category"].tolist() == ["closed"] and preds["n_tokens"].isna().all()


# --- what real files of these tools have ------------------------------------------------------------------------------


def open_and_closed(tmp_path):
    """VQA-RAD as MedEvalKit writes its results, open questions among the closed, and the closed as a data set."""
    asked = [
        ("Is there a mass?", "yes"),
        ("What is in the lung?", "a mass"),
        ("Is it a CT?", "no"),
        ("Is there a mass?", "yes"),
    ]
    rows = [{"question": q, "answer": a, "response": "Yes.", "correct": a == "yes"} for q, a in asked]
    rows[1]["metrics"] = {"em": False}
    closed = [
        {"problem": f"{q} A)yes, B)no", "solution": "AB"[a == "no"], "image": f"{k}.png"}
        for k, (q, a) in enumerate(asked)
        if k != 1
    ]
    return written(tmp_path / "results.json", rows), mk.load_vqa(written(tmp_path / "closed.json", closed))


def test_open_questions_among_the_closed_are_left_out_where_that_is_asked_for_and_listed(tmp_path):
    path, data = open_and_closed(tmp_path)
    with pytest.raises(
        mk.DataError, match=r"1 of 4 rows fit no question .*\(rows 1\).*leave such rows out with check='drop'"
    ):
        mk.import_predictions(path, data=data)
    with pytest.warns(DroppedRows, match=r"dropped 1 of 4 rows \(1 x fits no question of data=\)") as caught:
        preds = mk.import_predictions(path, data=data, check="drop")
    assert caught[0].message.rows == [
        {"file": str(path), "row": 1, "reason": "fits no question of data=: 'What is in the lung?'"}
    ]
    assert preds["id"].tolist() == ["closed-0", "closed-1", "closed-2"], "what is left is in the order of the data"
    assert preds["correct"].tolist() == [True, False, True]


def test_every_kind_of_row_that_cannot_be_scored_is_left_out_with_its_reason(tmp_path):
    row = {"question": "Which?", "choices": ["CT", "MRI"], "answer": "A", "response": "A"}
    rows = [
        row | {"id": "x"},
        row | {"id": "x"},
        row | {"answer": "C"},
        row | {"choices": None},
        {"question": "Which?"},
        7,
        row | {"question": "Who?"},
    ]
    path = written(tmp_path / "r.json", rows)
    with pytest.warns(DroppedRows) as caught:
        preds = mk.import_predictions(path, check="drop")
    assert len(preds) == 2
    assert [(one["row"], one["reason"].split(" ")[0]) for one in caught[0].message.rows] == [
        (1, "rows"),
        (2, "the"),
        (3, "no"),
        (4, "the"),
        (5, "expected"),
    ]
    with pytest.raises(
        mk.DataError, match=r"no row is left, 1 are refused; the first: .*row 0: no options; pass data="
    ):
        mk.import_predictions(written(tmp_path / "r.json", [row | {"choices": []}]), check="drop")
    with pytest.raises(mk.DataError, match="check='drp' is unknown; did you mean 'drop'"):
        mk.import_predictions(path, check="drp")


@pytest.mark.parametrize(
    "question", ["Which?\nA. CT\nB. MRI\nAnswer with the letter.", "Which? A)CT, B)MRI", "Which?\nA: CT\nB: MRI"]
)
def test_options_may_stand_in_the_question(tmp_path, question):
    for key in ("prediction", "response"):
        path = written(tmp_path / "r.json", [{"index": 1, "question": question, "answer": "MRI", key: "B"}])
        preds = mk.import_predictions(path)
        assert (preds["question"][0], preds["options"][0], preds["correct"][0]) == ("Which?", ["CT", "MRI"], True)


def test_a_prompt_of_medevalkit_gives_stem_and_options(tmp_path):
    choices = [" A:Diffuse uptake ", " B:Focal uptake "]  # PMC-VQA
    prompt = f"\nQuestion: What is the pattern?\nOptions: \n{choices[0]}\n{choices[1]}\nAnswer with the letter."
    path = written(tmp_path / "r.json", [{"prompt": prompt, "choices": choices, "answer": "B", "response": "B"}])
    preds = mk.import_predictions(path)
    assert preds["question"][0] == "What is the pattern?" and preds["options"][0] == ["Diffuse uptake", "Focal uptake"]


def test_mmmu_of_medevalkit_has_options_by_letter_and_open_questions(tmp_path):
    row = {"id": "validation_1", "question_type": "multiple-choice", "answer": "B", "response": "B", "parsed_pred": "B"}
    rows = [row | {"index2ans": {"A": "x", "B": "y"}}, {"id": "validation_2", "answer": "9", "response": "9"}]
    with pytest.warns(DroppedRows, match="dropped 1 of 2 rows"):
        preds = mk.import_predictions(written(tmp_path / "output_sample.json", rows), check="drop")
    assert preds["options"].tolist() == [["x", "y"]] and preds["correct"].all()


@pytest.mark.parametrize("nothing", [None, float("nan"), ""])
def test_an_answer_that_was_not_given_is_wrong_in_every_layout(tmp_path, nothing):
    row = {"question": "Which?", "choices": ["CT", "MRI"], "answer": "A"}
    for key in ("prediction", "response"):
        preds = mk.import_predictions(written(tmp_path / "r.json", [row | {key: nothing}]))
        assert preds["text"].tolist() == [""] and not preds["correct"].any()


def test_verdicts_are_read_however_a_tool_writes_them(tmp_path):
    row = {"question": "Which?", "choices": ["CT", "MRI"], "answer": "A", "prediction": "A"}
    for said, verdict in (
        (1, True),
        ("1.0", True),
        ("True", True),
        (False, False),
        ("0", False),
        (0.5, None),
        ("", None),
    ):
        path = written(tmp_path / "r.json", [row | {"hit": said}])
        assert mk.import_predictions(path)["their_correct"].tolist() == [verdict]
    path = written(tmp_path / "r.json", [row | {"verifier_match": 1.0}])
    assert mk.import_predictions(path)["their_correct"].tolist() == [True]
    preds = mk.import_predictions(lmms_eval(tmp_path / "s.jsonl", ["B"] * 4, exact_match=0.0))
    assert preds["their_correct"].tolist() == [False] * 4


def test_a_table_that_excel_has_saved_again_is_read(tmp_path):
    frame = pd.read_csv(vlmevalkit(tmp_path / "m.tsv", ["B, bien sûr"] * 4), sep="\t", dtype=str, na_filter=False)
    frame.to_csv(tmp_path / "m.csv", sep=";", index=False, encoding="cp1252")
    assert mk.import_predictions(tmp_path / "m.csv")["text"].tolist() == ["B, bien sûr"] * 4


def test_an_image_inside_the_file_is_named_by_its_digest(tmp_path):
    media = ["data:image/png;base64," + 9000 * "A"]
    preds = mk.import_predictions(lmms_eval(tmp_path / "s.jsonl", ["B"] * 4, input_media=media))
    assert preds["image_id"].str.len().eq(16).all() and preds["image_id"].nunique() == 1


def test_that_the_reference_read_no_letter_stays_so_with_data(tmp_path):
    path = med_r1(tmp_path / "r.json", ["<answer>B</answer>"] * 4, extracted=["B", None, None, None])
    for data in (None, questions(tmp_path)):
        assert letters(mk.import_predictions(path, data=data)["reference_predicted"]) == ["B", None, None, None]


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("<think>x</think><answer>B</answer>", "think-before"),
        ("<answer>B</answer><think>x</think>", "think-after"),
        ("<answer>A</answer><think>x</think><answer>B</answer>", "answer-think-answer"),
        ("<answer>B</answer>", "no-think"),
    ],
)
def test_the_format_is_what_the_answers_look_like(tmp_path, text, format):
    preds = mk.import_predictions(vlmevalkit(tmp_path / "m.tsv", [text] * 4))
    assert set(preds["format"]) == {format}
    assert preds["well_formed"].all()


def test_a_format_that_is_given_is_read_strictly(tmp_path):
    preds = mk.import_predictions(vlmevalkit(tmp_path / "m.tsv", ["B"] * 4), format="think-before")
    assert preds["predicted"].isna().all() and preds["lenient_predicted"].eq("B").all()
    assert not preds["well_formed"].any() and set(preds["format"]) == {"think-before"}


def test_labels_say_who_answered(tmp_path):
    preds = mk.import_predictions(vlmevalkit(tmp_path / "m.tsv", ["B"] * 4), labels={"model": "X", "method": "grpo"})
    assert set(preds["model"]) == {"X"} and set(preds["method"]) == {"grpo"}
    with pytest.raises(mk.DataError, match="labels='modle' is unknown; did you mean 'model'"):
        mk.import_predictions(tmp_path / "m.tsv", labels={"modle": "X"})
    with pytest.raises(mk.DataError, match="labels is the text 'grpo'"):
        mk.import_predictions(tmp_path / "m.tsv", labels="grpo")


# --- data= ------------------------------------------------------------------------------------------------------------


def test_data_gives_ids_images_patients_and_modality(tmp_path):
    data = questions(tmp_path, order=(3, 1, 0, 2))
    preds = mk.import_predictions(vlmevalkit(tmp_path / "m.tsv", ["B"] * 4), data=data)
    assert preds["id"].tolist() == ["asked-2", "asked-1", "asked-3", "asked-0"]
    assert preds["patient_id"].tolist() == ["p0", "p1", "p2", "p3"]
    assert preds["image_id"].tolist() == [image for *_, image in ASKED]
    assert set(preds["modality"]) == {"CT"}


def test_what_the_file_says_goes_before_what_the_data_says(tmp_path):
    preds = mk.import_predictions(medevalkit(tmp_path / "r.json", ["B"] * 4), data=questions(tmp_path))
    assert set(preds["modality"]) == {"X-Ray"}
    assert preds["image_id"].tolist() == [image for *_, image in ASKED], "… but an image is called as the data calls it"


def test_data_gives_the_options_of_questions_that_stand_without(tmp_path):
    rows = [{"question": q, "answer": o["ABCD".index(g)], "response": o[0]} for q, o, g, _ in ASKED]
    path = written(tmp_path / "closed.json", rows)
    with pytest.raises(mk.DataError, match="4 of 4 rows have no options, the first is row 0; pass data="):
        mk.import_predictions(path)
    preds = mk.import_predictions(path, data=questions(tmp_path))
    assert preds["answer"].tolist() == ["B", "A", "C", "B"]
    assert letters(preds["predicted"]) == ["A"] * 4


def test_a_prompt_is_matched_by_the_question_it_begins_with(tmp_path):
    prompt = "Is there a mass?\nAnswer with yes or no."
    path = written(tmp_path / "p.json", [{"prompt": prompt, "answer": "yes", "response": "yes"}])
    assert mk.import_predictions(path, data=questions(tmp_path))["id"].tolist() == ["asked-1"]


def test_rows_that_are_no_question_of_the_data_are_refused_in_one_sentence(tmp_path):
    data = questions(tmp_path, order=(0, 2))
    said = r"2 of 4 rows fit no question of data= \(rows 3, 5\); the first asks 'Is there a mass\?', gold 'A'"
    with pytest.raises(mk.DataError, match=said):  # a table's first row of answers is row 2 of the sheet
        mk.import_predictions(vlmevalkit(tmp_path / "m.tsv", ["B"] * 4), data=data)


def test_another_gold_answer_is_another_question(tmp_path):
    rows = [{"question": ASKED[0][0], "choices": ASKED[0][1], "answer": "A", "response": "A"}]
    with pytest.raises(mk.DataError, match="1 of 1 rows fit no question"):
        mk.import_predictions(written(tmp_path / "r.json", rows), data=questions(tmp_path))


def repeated(tmp_path, *images):
    """The same question with the same gold about several images, which many sets ask."""
    problem = format_problem("What is the imaging modality?", ["CT", "MRI"])
    rows = [{"image": image, "problem": problem, "solution": "A"} for image in images]
    return mk.load_vqa(written(tmp_path / "repeated.json", rows))


def test_a_question_asked_of_several_images_is_matched_by_image_or_by_order(tmp_path):
    data = repeated(tmp_path, "Images/S/1.png", "Images/S/2.png", "Images/T/2.png")
    row = {"question": "What is the imaging modality?", "choices": ["A. CT", "B. MRI"], "answer": "A"}
    images = ["/d/Images/T/2.png", "/d/Images/S/1.png", "/d/Images/S/2.png"]
    named = written(tmp_path / "named.json", [row | {"image_path": image, "response": "A"} for image in images])
    preds = mk.import_predictions(named, data=data)
    assert preds["id"].tolist() == ["repeated-2", "repeated-0", "repeated-1"]
    ordered = written(tmp_path / "ordered.json", [row | {"response": said} for said in "ABA"])
    preds = mk.import_predictions(ordered, data=data)
    assert preds["id"].tolist() == ["repeated-0", "repeated-1", "repeated-2"]
    assert preds["correct"].tolist() == [True, False, True]
    other = {"question": "Is there a mass?", "choices": ["yes", "no"], "answer": "A", "response": "A"}
    mixed = written(tmp_path / "mixed.json", [other, row | {"response": "A"}])
    asked = mk.load_vqa(
        written(
            tmp_path / "more.json",
            [
                *({"image": one["image_id"], "problem": one["problem"], "solution": "A"} for one in data),
                {"image": "x.png", "problem": "Is there a mass? A)yes, B)no", "solution": "A"},
            ],
        )
    )
    with pytest.raises(mk.DataError, match=r"1 of 2 rows fit several questions of data= \(rows 1\).* in its order"):
        mk.import_predictions(mixed, data=asked)


def test_the_id_of_the_data_in_the_file_decides(tmp_path):
    data = repeated(tmp_path, "Images/S/1.png", "Images/S/2.png")
    row = {"question": "What is the imaging modality?", "choices": ["CT", "MRI"], "answer": "A", "response": "A"}
    path = written(tmp_path / "r.json", [row | {"question_id": "repeated-1"}])
    assert mk.import_predictions(path, data=data)["image_id"].tolist() == ["Images/S/2.png"]


# --- what else can be done with it ------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    """Two models of two tools that answered the same questions."""
    data = questions(tmp_path)
    one = mk.import_predictions(vlmevalkit(tmp_path / "one.xlsx", ["B", "B", "C", "?"]), data=data)
    other = mk.import_predictions(lmms_eval(tmp_path / "other.jsonl", ["B", "A", "B", "B"]), data=data)
    return one, other, data


def test_imported_answers_are_scored(two):
    table = mk.score(two[0]).set_index("modality")
    assert table.loc["all", "n"] == 4 and table.loc["all", "accuracy"] == 0.5
    assert table.loc["all", "chance"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 4 + 1 / 2) / 4)


def test_imported_answers_of_two_tools_are_compared(two):
    found = mk.compare(two[0], two[1])
    assert (found.n, found.fixed, found.broken) == (4, 2, 1)


def test_without_data_two_models_in_one_layout_are_compared(tmp_path):
    one = mk.import_predictions(vlmevalkit(tmp_path / "one.xlsx", ["B", "B", "C", "?"]))
    other = mk.import_predictions(vlmevalkit(tmp_path / "other.tsv", ["B", "A", "B", "B"]))
    assert mk.compare(one, other).n == 4
    both = pd.concat([one, mk.import_predictions(med_r1(tmp_path / "r.json", ["B"] * 4))])
    assert both["id"].is_unique, "another test's row 0 is another question"


def test_errors_of_imported_answers_are_sorted(two):
    found = mk.errors(two[0], before=two[1])
    assert len(found.rows) == 2
    assert sorted(found.rows["question"]) == ["Is there a mass?", "What is the imaging modality?"]


def test_imported_answers_are_read_in_the_inspector(two):
    panel = mk.inspect_outputs(*two[:2])
    panel.go(1)
    assert "What organ is shown?" in panel.html()
    panel.choose_kind("fixed")
    assert len(panel.selection) == 2


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"PAR1 and more", r"a Parquet file, as predict\(…, output=\) writes it"),
        (b"PK\x03\x04 cut", "cannot be read"),
        (b"\x1f\x8b cut", "cannot be read"),
        (b"\xff\xfe\x00", "neither UTF-8, UTF-16 nor cp1252"),
        (b"\x80\x04\x95", "a pickle, which may run anything; have it written with PRED_FORMAT=tsv"),
        (b"[]", "there are no rows in it"),
        (b'{"accuracy": 1, "results": []}', "there are no rows in it"),
        (b'{"results": {"pmc_vqa": {"acc": 0.5}}, "configs": {}}', "no result file of Med-R1.*it has configs, results"),
        (b'[{"question": "q", "answer": "A"}]', "and none of model_output, filtered_resps, prediction, response"),
        (b'[{"response": "A", ', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\t\t\n", "the file is empty"),
        (b"a plain text", "there are no rows in it"),
        (b'{"response": "A"}\n{"resp', "line 2 is not valid JSON"),
        (b"index\tquestion\tA\tB\tanswer\n0\tq\ta\tb\tA\n", "it has A, B, answer, index, question"),
        (b'[{"response": "A", "answer": "A", "choices": ["x", "y"]}, 7]', "row 1: expected an object, found '7'"),
        (b'[{"response": "A", "choices": ["x", "y"]}]', "row 0: the key 'answer' is missing"),
        (b'[{"response": "A", "answer": "E", "choices": ["x", "y"]}]', "row 0: the gold answer 'E' is none of"),
        (b'[{"response": "A", "answer": "A", "choices": ["x", ""]}]', "row 0: option B is empty"),
        (b'[{"response": "A", "answer": "A"}, {"answer": "A"}]', "row 1: the key 'response' is missing"),
        (b'{"doc_id": 0, "target": "A", "filtered_resps": [["A"], ["B"]]}', "no text in the response"),
        (b'{"doc_id": 0, "target": "A", "filtered_resps": ["A", "B"]}', "row 0: 2 responses, not one; have one logged"),
        (b'{"doc_id": 0, "target": "1", "filtered_resps": [[-1.5, false]]}', "no text in the response"),
        (b'[{"model_output": "A", "question": "q", "ground_truth": "A"}]', "row 0: question is 'q'; expected the row"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path, content, said):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(mk.DataError, match=said) as caught:
        mk.import_predictions(path)
    assert "\n" not in str(caught.value) and "results.json" in str(caught.value)


def test_a_question_that_is_answered_twice_is_refused(tmp_path):
    path = medevalkit(tmp_path / "r.json", ["B"] * 4)
    rows = json.loads(path.read_text())
    written(path, [*rows, rows[1]])
    with pytest.raises(mk.DataError, match="rows 1 and 4 answer the same question; keep one"):
        mk.import_predictions(path)


def test_paths_and_data_of_another_kind_are_refused(tmp_path):
    path = vlmevalkit(tmp_path / "m.tsv", ["B"] * 4)
    both = [path, path]
    for wrong, said in (
        (tmp_path, "is a folder"),
        (both, "read one file at a time, and join the tables with pandas"),
        (tmp_path / "no.json", "is not there"),
        (None, "path is None"),
    ):
        with pytest.raises(mk.DataError, match=said):
            mk.import_predictions(wrong)
    with pytest.raises(mk.DataError, match=r"data is the text 'asked\.json'; load it first"):
        mk.import_predictions(path, data="asked.json")


def test_an_accuracy_that_its_rows_do_not_give_is_told(tmp_path):
    path = med_r1(tmp_path / "r.json", ["<answer>B</answer>"] * 4, extracted=list("BBBB"), accuracy=81.2)
    with pytest.warns(UserWarning, match=r"says accuracy 81.2, but its 4 rows give 50.00"):
        mk.import_predictions(path)


def test_half_an_emoji_at_the_end_of_a_text_is_replaced(tmp_path):
    path = med_r1(tmp_path / "r.json", ["<answer>B</answer>\ud83e"] * 4)
    assert mk.import_predictions(path)["text"].tolist() == ["<answer>B</answer>?"] * 4
