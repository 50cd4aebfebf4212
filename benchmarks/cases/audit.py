"""The audit: questions as many as all of Med-R1's, 71 thousand to train on and 18 thousand to test on, texts alone.

The rows are made up; a twentieth of the test rows are training rows. There is nothing to compare with. ``exact`` says
that rows and images on both sides are counted as plain Python sets count them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.cases.load import made_up, write_questions
from benchmarks.cases.timing import alone, say, timed
from medr1kit.audits import audit
from medr1kit.data.load import load_vqa

REPEATS = 1
TRAIN, TEST = 71_000, 18_000  # Med-R1's rows of all modalities


def measure_all(repeats: int, *, train: int = TRAIN, test: int = TEST) -> list[dict]:
    """Return the case ``audit_texts``.

    Args:
        repeats: how often it is measured.
        train, test: rows on either side.
    """
    known = made_up(train, [f"Images/train/{i}.png" for i in range(train)])
    copied = test // 20
    asked = made_up(test - copied, [f"Images/test/{i}.png" for i in range(test)], seed=1) + known[:copied]
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            load_vqa(write_questions(rows, Path(folder) / f"{name}.json"), modality="CT")
            for name, rows in (("train", known), ("test", asked))
        ]
    reports, took = zip(*(timed(lambda: audit(*sides)) for _ in range(repeats)))
    shared = {tuple(row.values()) for row in known} & {tuple(row.values()) for row in asked}
    images = {row["image"] for row in known}
    right = (len(shared), sum(row["image"] in images for row in asked))
    found = [
        tuple(report.summary[n] for n in ("test_rows_in_train", "test_rows_with_train_image")) for report in reports
    ]
    case = alone("audit_texts", took, exact=all(pair == right for pair in found), rows=train + test)
    case["rows_per_s"] = round((train + test) / case["fast_s"])
    case["about"] = f"{train:,} training and {test:,} test rows, no images: {case['rows_per_s']:,} rows a second"
    say(f"audit_texts: {case['fast_s']:.3g} s")
    return [case]
