"""Predictions written out by hand, for the tests of errors and worksheets."""

import pandas as pd

from medr1kit.formats import format_named
from medr1kit.vqa import LETTERS

OPTIONS = ["liver", "lung", "brain", "kidney"]


def answer(number, text, gold="A", **columns):
    """One prediction: the text is read by the parser of its format, as predict() does."""
    row = {"id": f"q{number}", "image_id": f"i{number}", "source": "made", "modality": "CT", "task": "Lesion Grading"}
    row |= {"question": "What is shown?", "options": OPTIONS, "answer": gold, "model": "m", "train_modality": "CT"}
    row |= {"train_task": None, "method": "grpo", "format": "think-before", "seed": 0, "text": text} | columns
    parsed = format_named(row["format"]).parse(text, row["options"])
    row |= {"think": parsed.think, "predicted": parsed.answer, "lenient_predicted": parsed.lenient_answer}
    return row | {"correct": parsed.answer == row["answer"], "well_formed": parsed.well_formed, "n_tokens": 9}


def says(letter):
    return f"<think>A ring.</think><answer>{letter}</answer>"


def table(*rows):
    return pd.DataFrame(list(rows))


def many(verdicts, **columns):
    """A prediction a verdict, each about its own image; gold letters in turn, wrong answers the letter after."""
    rows = []
    for number, right in enumerate(verdicts):
        gold = number % 4
        said = LETTERS[gold if right else (gold + 1) % 4]
        rows.append(answer(number, says(said), LETTERS[gold], **{k: v[number] for k, v in columns.items()}))
    return pd.DataFrame(rows)
