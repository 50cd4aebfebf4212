"""Every public result shows itself in words, in a terminal and in a notebook: no fields of a class, no raw numbers."""

import json
import re

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.runs import load_run
from medr1kit.results.tables import PREDICTIONS

QUESTIONS = [{"options": ["cyst", "stone"], "answer": "A", "modality": "CT", "id": str(k)} for k in range(6)]


def predictions(letters):
    rows = []
    for number, letter in enumerate(letters):
        row = dict.fromkeys(PREDICTIONS) | {"id": f"q{number}", "image_id": f"i{number}", "question": "What is it?"}
        row |= {"options": ["cyst", "stone"], "answer": "A", "predicted": letter, "lenient_predicted": letter}
        row |= {"text": f"<answer>{letter}</answer>", "correct": letter == "A", "well_formed": True, "modality": "CT"}
        rows.append(row | {"method": "grpo", "format": "no-think", "model": "tiny", "seed": 0, "reason": "a letter"})
    return pd.DataFrame(rows)


def run(folder):
    folder.mkdir()
    labels = {"train_modality": "CT", "train_task": "all"}
    config = {"written_by": "medr1kit", "method": "grpo", "model": "tiny", "format": "no-think", "seed": 3}
    (folder / "run.json").write_text(json.dumps(config | {"labels": labels}))
    rewards = pd.DataFrame({"step": range(1, 21), "reward": [1.0, 1.2, *[1.5] * 16, 1.8, 1.9]})
    rewards.to_csv(folder / "metrics.csv", index=False)
    return load_run(folder)


SURE = pd.DataFrame({"probabilities": [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], "answer": list("AABB")})
SHEET = pd.DataFrame({"key": list("abcd"), "verdict": ["gold wrong", "model wrong", "model wrong", "unclear"]})
IMAGE = "CT-test-0-0"
RESULTS = {
    "audit": lambda _: mk.audit(QUESTIONS, QUESTIONS[:4]),
    "blind floor": lambda _: mk.blind_floor(QUESTIONS, QUESTIONS[:4]),
    "comparison": lambda _: mk.compare(predictions("AABBBB"), predictions("AAAABB")),
    "calibration": lambda _: mk.calibration(SURE),
    "abstention": lambda _: mk.abstention(SURE),
    "errors": lambda _: mk.errors(predictions("AABBBB"), by="modality"),
    "agreement": lambda _: mk.reader_agreement(SHEET, SHEET.assign(verdict=["gold wrong", "unclear"] * 2)),
    "run": lambda folder: run(folder / "ct"),
    "explanation": lambda _: mk.explain_reward("<answer>A</answer>", "A", format=mk.NO_THINK),
    "parsed": lambda _: mk.THINK_BEFORE.parse("<think>A ring.</think><answer>B</answer>"),
    "rationale": lambda _: mk.check_rationale("A small cyst, no mass. So the answer is cyst", IMAGE),
    "checked": lambda _: mk.check_answer("03.3"),
}


@pytest.mark.filterwarnings("ignore:every test row is a training row")
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_shows_itself_in_words(name, tmp_path):
    result = RESULTS[name](tmp_path)
    shown = [repr(result), *([result._repr_html_()] if hasattr(result, "_repr_html_") else [])]
    for text in shown:
        words = re.sub(r"<svg.*</svg>|<details>.*</details>", "", text, flags=re.DOTALL)
        assert type(result).__name__ not in words and not re.search(r"\w=[\d'\[(]", words), "fields of a class"
        assert not re.search(r"\d\.\d{5}|\bNaN\b|\bnan\b|dtype|\.\.\.", words), "a raw number or frame"
    assert re.search(r"[a-z]+ [a-z]+", shown[0]), "words"


def test_a_notebook_shows_the_sentences_and_the_table_of_the_terminal():
    found = mk.blind_floor(QUESTIONS, QUESTIONS[:4])
    sentence = "4 questions: 100.0 % [51.0, 100.0] without an image, 50.0 % by chance"
    assert repr(found).splitlines()[0] == sentence and f"<p>{sentence}</p><table" in found._repr_html_()
    assert repr(found).count("1.000") == found._repr_html_().count("<td>1.000</td>") == 4  # two rows, value and limit
    assert "<table" not in mk.compare(predictions("AB"), predictions("AA"))._repr_html_()


def test_a_run_says_what_was_trained_and_what_became_of_it(tmp_path):
    trained = run(tmp_path / "ct")
    assert repr(trained).splitlines() == [
        f"GRPO of tiny on CT, no-think, seed 3, in {tmp_path / 'ct'}.",
        "20 steps taken; reward 1.10 in the first tenth of them, 1.85 in the last.",
    ]
    (tmp_path / "ct" / "metrics.csv").write_text("no table\n")
    assert "metrics.csv is not the metrics of a run; restore it" in repr(load_run(tmp_path / "ct"))
    (tmp_path / "ct" / "metrics.csv").unlink()
    assert repr(load_run(tmp_path / "ct")).endswith("No step was logged yet.")


def test_a_completion_says_how_it_was_read():
    well = mk.THINK_BEFORE.parse("<think>A ring.</think><answer>B</answer>")
    assert repr(well) == "answer B (the answer block holds the letter B); well-formed; thought 'A ring.'"
    assert "answer none (" in repr(mk.NO_THINK.parse("B or C")) and "malformed (" in repr(mk.NO_THINK.parse("B or C"))


def test_a_rationale_says_what_is_true_in_it():
    said = repr(mk.check_rationale("A small cyst, no mass. So the answer is cyst", IMAGE))
    assert re.fullmatch(
        r"It says: small \(\w+\), cyst \(\w+\), no mass \(\w+\)\. It .* finding.*, and concludes 'cyst'\.", said
    )
    assert repr(mk.check_rationale("Well.", IMAGE)).startswith("It says nothing that can be checked. It does not name")
