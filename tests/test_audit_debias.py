"""After the repair no rule on the options beats chance, whatever it was trained on; what was dropped is counted."""

import random
import re
import warnings
from collections import Counter, defaultdict

import datasets
import numpy as np
import pandas as pd
import pytest

from medr1kit.audits import blind_floor
from medr1kit.audits.debias import DroppedQuestions, debias_options
from medr1kit.audits.meanings import same_meaning
from medr1kit.data.load import load_vqa
from medr1kit.vqa import LETTERS, DataError, format_problem, format_solution

FINDINGS = {"airspace opacity": 300, "nodule": 200, "renal lesion": 90, "liver lesion": 80, "gallstone": 40, "mass": 9}
STEMS = ["What is seen?", "Which finding is shown?", "What is abnormal in this image?"]


def row(stem, options, place, image, **columns):
    question = {"question": stem, "options": options, "answer": LETTERS[place], "image_id": image}
    text = {"problem": format_problem(stem, options), "solution": format_solution(LETTERS[place])}
    return {"modality": "CT", "task": "Disease Diagnosis", "source": "one", **question, **text, **columns}


def biased(seed=0, findings=FINDINGS, made_up=40, **columns):
    """Questions whose distractors come from a vocabulary that is never right, as OmniMedVQA's do."""
    rng = random.Random(seed)
    rows = []
    for gold, n in findings.items():
        for _ in range(n):
            options = [gold, *rng.sample([f"made up {k}" for k in range(made_up)], 3)]
            rng.shuffle(options)
            rows.append(row(rng.choice(STEMS), options, options.index(gold), f"{seed} {len(rows)}", **columns))
    rng.shuffle(rows)
    return datasets.Dataset.from_list([{"id": f"q{i}", **one} for i, one in enumerate(rows)])


def debiased(ds, **arguments):
    """The new data set and the warning, None if there was none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new = debias_options(ds, **arguments)
    assert all(isinstance(w.message, DroppedQuestions) for w in caught)
    return new, caught[0].message if caught else None


def golds(ds):
    return [options[LETTERS.index(answer)] for options, answer in zip(ds["options"], ds["answer"])]


def test_the_lookup_falls_to_chance_on_a_test_it_was_not_fitted_to():
    train, test = biased(0), biased(1, {name: n // 3 for name, n in FINDINGS.items()})
    assert blind_floor(train, test).accuracy > 0.95
    (fair_train, _), (fair_test, _) = debiased(train), debiased(test)
    for fitted in (fair_train, train, test, fair_test):  # not even on itself
        floor = blind_floor(fitted, fair_test)
        assert floor.accuracy == pytest.approx(floor.chance)


def test_every_text_is_gold_in_the_same_share_of_its_rows_and_letters_are_balanced():
    fair, _ = debiased(biased())
    seen, right, letters = Counter(), Counter(), Counter()
    for options, answer, gold in zip(fair["options"], fair["answer"], golds(fair)):
        seen.update((len(options), text) for text in options)
        right[len(options), gold] += 1
        letters[len(options), answer] += 1
    assert all(right[size, text] * size == n for (size, text), n in seen.items())
    for size in {size for size, _ in letters}:
        assert len({letters[size, letter] for letter in LETTERS[:size]}) == 1


def test_nothing_else_changes_and_the_columns_agree():
    ds = biased()
    fair, _ = debiased(ds)
    assert fair.features == ds.features
    before = {one["id"]: one for one in ds}
    assert list(fair["id"]) == sorted(fair["id"], key=lambda name: int(name[1:]))
    for one, gold in zip(fair, golds(fair)):
        old = before[one["id"]]
        assert gold == old["options"][LETTERS.index(old["answer"])]
        assert [one[name] for name in ("question", "image_id", "modality", "task", "source")] == [
            old[name] for name in ("question", "image_id", "modality", "task", "source")
        ]
        assert one["problem"] == format_problem(one["question"], one["options"])
        assert one["solution"] == format_solution(one["answer"])
        assert set(one["options"]) <= set(FINDINGS) and 2 <= len(set(one["options"])) == len(one["options"]) <= 4


def test_a_text_that_is_gold_too_often_is_thinned_and_counted():
    ds = biased(findings={"no retinopathy": 100, "mild": 10, "moderate": 9, "severe": 8})
    fair, warning = debiased(ds)
    counts = Counter(golds(fair))
    assert counts == {"no retinopathy": 10, "mild": 10, "moderate": 9, "severe": 8}
    assert warning.frame.to_dict("records") == [
        {"modality": "CT", "task": "Disease Diagnosis", "reason": "too frequent", "n": 90}
    ]
    assert {one["gold"] for one in warning.rows} == {"no retinopathy"}
    assert {one["id"] for one in warning.rows} == set(ds["id"]) - set(fair["id"])
    # eight blocks of four, then one of three and one of two
    assert warning.n_fewer == 5 == sum(len(options) < 4 for options in fair["options"])
    assert "dropped 90 of 127 questions (90 x too frequent); 5 of the others have fewer options" in str(warning)


def test_modality_recognition_inside_a_modality_has_one_meaning():
    names = ["CT", "Computed tomography (CT)", "CT scan", "helical scanning"]
    rows = [row("Which modality?", [names[i % 4], "MRI"], 0, f"m{i}", task="Modality Recognition") for i in range(40)]
    unlabelled = [row("Which modality?", [names[i % 3], "MRI"], 0, f"u{i}", task=None) for i in range(30)]
    ds = datasets.concatenate_datasets([biased(), datasets.Dataset.from_list([{"id": "x", **one} for one in rows])])
    fair, warning = debiased(ds)
    assert "Modality Recognition" not in fair["task"]
    assert warning.frame.set_index(["task", "reason"])["n"].to_dict()["Modality Recognition", "one meaning"] == 40
    with pytest.raises(DataError, match="none of the 30 questions can be kept"):
        debias_options(datasets.Dataset.from_list(unlabelled))


def test_modality_recognition_over_modalities_is_asked_across_sources():
    rows = [
        row("Which modality?", [name, "PET"], 0, f"{name} {i}", source=name, modality=None, task="Modality Recognition")
        for name in ("CT", "MRI", "Ultrasound")
        for i in range(10)
    ]
    fair, warning = debiased(datasets.Dataset.from_list(rows))
    assert len(fair) == 30 and warning is None
    assert "PET" not in {text for options in fair["options"] for text in options}


def test_yes_and_no_answer_each_other_only():
    polar = [
        row("Is it normal?", ["No", "Yes."][:: 1 if i % 3 else -1], 0, f"p{i}") for i in range(60)
    ] + [row("Is it normal?", ["no, the tail appears to be normal", "yes"], 0, f"t{i}") for i in range(5)]  # fmt: skip
    fair, warning = debiased(datasets.concatenate_datasets([biased(), datasets.Dataset.from_list(polar)]))
    short = [options for stem, options in zip(fair["question"], fair["options"]) if stem == "Is it normal?"]
    assert len(short) == 40  # 20 yes
    assert all(
        sorted(re.match("yes|no", text.lower()).group() for text in options) == ["no", "yes"] for options in short
    )
    assert sum(one["gold"].lower().startswith("no") for one in warning.rows) == 25


def test_synonyms_and_other_golds_of_the_image_are_never_offered():
    rng = random.Random(3)
    texts = ["melanoma", "malignant melanoma", "Melanoma.", "nevus", "melanocytic nevus", "wart", "cyst", "lipoma"]
    images = [f"i{k}" for k in range(150)]
    rows = [
        row(rng.choice(STEMS), [rng.choice(texts), "other", "none", "last"], 0, rng.choice(images)) for _ in range(400)
    ]
    right = defaultdict(set)
    for one in rows:
        right[one["image_id"]].add(one["options"][0])
    fair, _ = debiased(datasets.Dataset.from_list(rows))
    assert len(fair) > 150
    for image, options, gold in zip(fair["image_id"], fair["options"], golds(fair)):
        for text in set(options) - {gold}:
            assert not any(same_meaning(text, known) for known in right[image]), (text, right[image])


def test_golds_of_one_class_folder_are_never_offered_together():
    names = {"a macular hole": "MH", "the centre is torn": "MH", "small yellow deposits": "DRUSEN", "fluid": "CSR"}
    folders = [(text, f"Images/set/{side}/{name}") for text, name in names.items() for side in ("test", "val")]
    rows = [
        row("What is seen?", [text, "x", "y", "z"], 0, f"{folder}/{len(text)}-{i}.jpg")
        for i in range(30)
        for text, folder in folders
    ]
    fair, _ = debiased(datasets.Dataset.from_list(rows))
    assert len(fair) > 100 and not any({"a macular hole", "the centre is torn"} <= set(o) for o in fair["options"])
    flat = [{**one, "image_id": f"Images/set/{i}.jpg"} for i, one in enumerate(rows)]  # here the folder says nothing
    assert len(debiased(datasets.Dataset.from_list(flat))[0]) == len(rows)


def test_kinds_and_sources_do_not_mix():
    grades = [row("Which grade?", [f"grade {i % 4}", "x", "y", "z"], 0, f"g{i}") for i in range(80)]
    other = biased(5, {"drusen": 30, "edema": 30, "hole": 30, "scar": 30}, source="two")
    fair, _ = debiased(datasets.concatenate_datasets([biased(), datasets.Dataset.from_list(grades), other]))
    for question, source, options in zip(fair["question"], fair["source"], fair["options"]):
        if question == "Which grade?":
            assert all(text.startswith("grade") for text in options)
        else:
            assert set(options) <= ({"drusen", "edema", "hole", "scar"} if source == "two" else set(FINDINGS))


def test_stems_that_never_repeat_tell_no_kinds_apart():
    rows = [row(f"What is in image {i}?", [f"finding {i % 5}", "x", "y", "z"], 0, f"i{i}") for i in range(50)]
    fair, _ = debiased(datasets.Dataset.from_list(rows))
    assert len(fair) >= 48 and all(len(options) >= 2 for options in fair["options"])


def stem_lookup(train, test):
    """Share of right answers of whoever remembers how often a text was right after a stem."""
    right, seen = Counter(), Counter()
    for stem, options, gold in zip(train["question"], train["options"], golds(train)):
        seen.update((stem, text) for text in options)
        right[stem, gold] += 1
    verdicts = []
    for stem, options, gold in zip(test["question"], test["options"], golds(test)):
        scores = {text: right[stem, text] / (seen[stem, text] or 1) for text in options}
        best = [text for text in options if scores[text] == max(scores.values())]
        verdicts.append((gold in best) / len(best))
    return np.mean(verdicts)


def test_strict_closes_the_stem_too():
    ds = biased()
    stones = [i for i, gold in enumerate(golds(ds)) if gold == "gallstone"][:30]
    told = ["A stone: what is it?" if i in stones else stem for i, stem in enumerate(ds["question"])]
    ds = ds.remove_columns("question").add_column("question", told)
    loose, _ = debiased(ds)
    strict, warning = debiased(ds, strict=True)
    assert stem_lookup(loose, loose) > stem_lookup(strict, strict)
    assert stem_lookup(strict, strict) == pytest.approx(np.mean([1 / len(options) for options in strict["options"]]))
    assert warning.frame.set_index("reason")["n"]["stem tells"] == 30


def test_phantoms_keep_images_and_rationales_that_name_the_gold_option():
    ds = load_vqa("phantoms", modality="CT", task="DD", n=60, size=28)
    fair, _ = debiased(ds)
    assert fair.features == ds.features and fair[0]["image"].size == (28, 28)
    for rationale, gold in zip(fair["rationale"], golds(fair)):
        assert rationale.endswith(f" {gold}")


def test_a_rationale_that_ends_with_a_letter_ends_with_the_new_one():
    ds = biased()
    written = [f"It is seen. So the answer is {gold} {letter}." for gold, letter in zip(golds(ds), ds["answer"])]
    fair, _ = debiased(ds.add_column("rationale", written))
    assert fair["answer"] != ds.select(range(len(fair)))["answer"]
    for rationale, gold, answer in zip(fair["rationale"], golds(fair), fair["answer"]):
        assert rationale.endswith(f" {gold} {answer}.")


def test_images_are_not_decoded():
    ds = biased()
    broken = datasets.Dataset.from_dict(
        {"image": [{"path": None, "bytes": b"not an image"}] * len(ds)},
        features=datasets.Features(image=datasets.Image()),
    )
    fair, _ = debiased(datasets.concatenate_datasets([ds, broken], axis=1).select(range(100)))
    assert "image" in fair.column_names and len(fair) > 50


def test_the_same_seed_gives_the_same_options():
    ds = biased()
    first, again, other = (debiased(ds, seed=seed)[0].to_pandas() for seed in (7, 7, 8))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_what_cannot_be_debiased_is_refused():
    with pytest.raises(DataError, match="no rows"):
        debias_options(biased().select([]))
    with pytest.raises(DataError, match="none of the 12 questions can be kept"):
        debias_options(biased(findings={"nodule": 12}))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ds": "phantoms"}, "ds is the text 'phantoms'; load it first"),
        ({"ds": [{"options": ["a", "b"], "answer": "A"}]}, "ds is a list; load it first"),
        ({"seed": 1.5}, "seed=1.5 is not a whole number"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(given, sentence):
    ds = datasets.Dataset.from_list([{"options": ["a", "b"], "answer": "A"}])
    with pytest.raises(DataError, match=sentence):
        debias_options(**{"ds": ds, **given})
