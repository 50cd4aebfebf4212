"""What is refused is refused with the remedy: the sentence names the argument that helps."""

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.results.runs import RunWriter
from medr1kit.results.tables import PREDICTIONS
from medr1kit.vqa import DataError

QUESTION = {"options": ["cyst", "stone"], "answer": "A"}


def answers(*ids, **columns):
    row = dict.fromkeys(PREDICTIONS) | {"question": "What is it?", "options": ["cyst", "stone"], "answer": "A"}
    row |= {"predicted": "A", "lenient_predicted": "A", "correct": True, "well_formed": True, "text": "A", "seed": 0}
    row |= {"method": "base", "model": "tiny", "format": "no-think", "modality": "CT"} | columns
    return pd.DataFrame([row | {"id": name} for name in ids])


def two_runs(folder):
    with RunWriter(folder, {"seed": 0}) as run:
        run.metrics_row({"step": 1, "reward": 1.0})
    RunWriter(folder, {"seed": 0})


def of_other_questions(probe, **given):
    """A probe refuses answers to other questions before it asks anything of its model, which is none."""
    return lambda _: probe(None, None, mk.load_vqa("phantoms", split="test", n=2), **given)


TWO_FORMATS = pd.concat([answers("a", format="no-think"), answers("b", format="think-before")])
FEW = pd.DataFrame({"probabilities": [[0.5, 0.5]], "answer": ["C"]})
NO_OPTIONS = pd.DataFrame({"Frage": ["What is it?"], "Antwort": ["cyst"]})
REFUSED = {
    "overwrite=True": two_runs,
    "import with data=": lambda _: mk.compare(answers("a"), answers("b")),
    "columns={'question'": lambda _: mk.load_vqa(NO_OPTIONS),
    "check='drop'": lambda _: mk.audit([QUESTION], [QUESTION | {"answer": "C"}]),
    "labels=run": lambda _: mk.transfer_table(answers("a")),
    "format='think-before'": lambda _: mk.compare_modes(TWO_FORMATS, "think-before", "no-think"),
    "a letter of theirs as solution=": lambda _: mk.reward_lab(solution="C", options=["cyst", "stone"]),
    "right=": of_other_questions(mk.visual_reliance, right=answers("a"), format="no-think"),
    "own=": of_other_questions(mk.predict_thoughts, own=answers("a"), format="think-before"),
    "by='zzz'.*there are id, ": lambda _: mk.score(answers("a"), by="zzz"),
    "give each option one": lambda _: mk.calibration(FEW),
    r"import_predictions\(…, data=\)": lambda _: mk.score(answers("a", predicted="D", correct=False)),
}


@pytest.mark.parametrize("remedy", REFUSED)
def test_a_refusal_names_the_argument_that_helps(remedy, tmp_path):
    with pytest.raises(DataError, match=remedy) as refused:
        REFUSED[remedy](tmp_path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400, "one sentence"
