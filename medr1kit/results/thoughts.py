"""Thoughts that are put into a model's mouth, and what they do to its answers; needs no model.

A model is asked with them by :mod:`medr1kit.models.thoughts`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medr1kit.data.phantoms.rationales import conclusion_of
from medr1kit.formats import THINK_BEFORE, ResponseFormat
from medr1kit.results.perturbations import against, followed
from medr1kit.results.rationales import concluded_letter
from medr1kit.results.tables import check_predictions
from medr1kit.vqa import LETTERS, DataError

PARTS = {"first quarter": 0.25, "first half": 0.5, "first three quarters": 0.75}
ANYWHERE = ("own", "empty", *PARTS, "another's")
"""Names of the thoughts that every question has."""
ON_PHANTOMS = ("true", "facts", "misled", "other facts")
"""… and of those that need a truth that is known."""


def until_answer(text: str, format: ResponseFormat = THINK_BEFORE) -> tuple[str, bool]:
    """Return a completion up to where its letter stands, and whether ``<answer>`` had to be added.

    The tag after the thinking counts, else the first one, or the last where the format has two answers. Thinking that
    was cut off is closed.

    >>> until_answer("<think>A ring, so B.</think><answer>B</answer>")
    ('<think>A ring, so B.</think><answer>', False)
    >>> until_answer("<think>A ring, and")
    ('<think>A ring, and</think><answer>', True)
    """
    (opened, closed), tag = format.marks("think"), format.marks("answer")[0]
    thought = text.find(closed)
    at = text.find(tag, max(thought, 0))
    if format.blocks.count("answer") == 1:
        at = text.find(tag) if at < 0 else at
    elif thought < 0:  # cut off in its thought, or none
        at = -1 if text.rfind(opened) > text.rfind(tag) else text.rfind(tag)
    if at >= 0:
        return text[:at] + tag, False
    if thought >= 0:
        return text[:thought] + closed + tag, True
    return (f"{text}{closed}{tag}" if opened in text else tag), True


def thoughts_for(
    questions: Sequence[dict], texts: Sequence[str], seed: int = 0, format: ResponseFormat = THINK_BEFORE
) -> dict[str, list[str]]:
    """Return the thoughts that are put into the model's mouth, by name, one a question.

    Args:
        questions: rows of :mod:`medr1kit.vqa`; with ``rationale``, where all are of phantoms, also the true thoughts.
        texts: what the model said to each.
        seed: decides whose thought and which wrong option is taken.
        format: whose tags the texts have.
    """
    own = [thought_of(text, format) for text in texts]
    others = _others(questions, seed)
    thoughts = {"own": own, "empty": [""] * len(own)}
    thoughts |= {name: [_first(thought, part) for thought in own] for name, part in PARTS.items()}
    thoughts["another's"] = [own[other] for other in others]
    if not all(row.get("source") == "phantoms" and row.get("rationale") for row in questions):
        return thoughts
    facts = [row["rationale"].rpartition(" So the answer is ")[0] for row in questions]
    rng, wrong = np.random.default_rng(seed), []
    for row in questions:
        places = [place for place in range(len(row["options"])) if LETTERS[place] != row["answer"]]
        wrong.append(row["options"][places[rng.integers(len(places))]])
    return thoughts | {
        "true": [row["rationale"] for row in questions],
        "facts": facts,
        "misled": [f"{fact} So the answer is {option}" for fact, option in zip(facts, wrong)],
        "other facts": [facts[other] for other in others],
    }


def thought_of(text: str, format: ResponseFormat = THINK_BEFORE) -> str:
    """Return the thought of a completion; one that was cut off ends where the text does.

    >>> thought_of("<think>A ring, so B.</think><answer>B</answer>"), thought_of("<answer>B</answer>")
    ('A ring, so B.', '')
    """
    opened, closed = format.marks("think")
    return until_answer(text, format)[0].partition(opened)[2].partition(closed)[0]


def _first(thought: str, part: float) -> str:
    words = thought.split()
    return " ".join(words[: round(part * len(words))])


def _others(questions: Sequence[dict], seed: int) -> list[int]:
    """For each question one of the same modality and task about another picture; itself where there is none."""
    rng = np.random.default_rng(seed)
    others = list(range(len(questions)))
    kinds: dict[tuple, list[int]] = {}
    for i in rng.permutation(len(questions)).tolist():
        kinds.setdefault((questions[i].get("modality"), questions[i].get("task")), []).append(i)
    for circle in kinds.values():
        for place, i in enumerate(circle):
            following = (circle[(place + step) % len(circle)] for step in range(1, len(circle)))
            picture = questions[i]["image_id"]
            others[i] = next((j for j in following if questions[j]["image_id"] != picture), i)
    return others


def thoughts_given(preds: pd.DataFrame) -> pd.DataFrame:
    """Return answers after other thoughts, checked; a DataError says what they lack."""
    preds = check_predictions(preds, ["id", "options", "answer", "text", "think", "predicted", "correct"])
    if "thought" not in preds:
        raise DataError("these answers have no column 'thought'; pass what predict_thoughts(…) returned")
    return preds


def thought_table(preds: pd.DataFrame) -> pd.DataFrame:
    """Return what other thoughts than the model's own do to its answers.

    Args:
        preds: from :func:`medr1kit.predict_thoughts`.

    Returns:
        The frame of :func:`medr1kit.thought_reliance`.

    Raises:
        DataError: if columns are missing, or the thoughts are not about the same questions in the same order.
    """
    preds = thoughts_given(preds)
    tables = {name: rows.reset_index(drop=True) for name, rows in preds.groupby("thought", sort=False)}
    ids = [list(table["id"]) for table in tables.values()]
    if "own" not in tables or any(some != ids[0] for some in ids):
        raise DataError("these answers lack thoughts of some questions; pass all that predict_thoughts(…) returned")
    rows = ({"thought": name} | against(table, tables["own"]) | _follows(table) for name, table in tables.items())
    return pd.DataFrame(rows)


def _follows(table: pd.DataFrame) -> dict[str, float]:
    """How often the answer is the option on which the thought concludes."""
    thoughts = table["think"].fillna("")
    named = [concluded_letter(conclusion_of(thought), options) for thought, options in zip(thoughts, table["options"])]
    return followed(table, named, "concluding")
