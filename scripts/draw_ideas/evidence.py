"""Pictures of what a score means: the blind floor, a transfer map, a leak."""

from __future__ import annotations

import re
from collections import Counter
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

import medr1kit as mk
from medr1kit.audits.hashes import hash_image
from medr1kit.data.phantoms import redraw
from medr1kit.results.stats import wilson
from medr1kit.vqa import LETTERS
from scripts.draw_ideas.sheet import Sheet

ROOT = Path(__file__).parent.parent.parent
TRAIN, TEST, ASKED = 800, 10, 9  # questions the lookup learns from; of CT in the test, the last of which is shown


def percent(share: float) -> str:
    """A share as a whole number of percent."""
    return f"{100 * share:.0f} %"


def blind_floor() -> Sheet:
    """A question answered by a lookup of option texts, and how far that gets."""
    options = dict(size=28, shortcut=1.0)
    train = mk.load_vqa("phantoms", split="train", n=TRAIN, **options)
    row = mk.load_vqa("phantoms", split="test", modality="CT", n=TEST, **options)[ASKED]
    offered = Counter(text for texts in train["options"] for text in texts)
    right = Counter(texts[LETTERS.index(letter)] for texts, letter in zip(train["options"], train["answer"]))
    sheet = Sheet(
        "blind_floor", 500, "The blind floor: how far one gets without looking",
        "Left, a question whose image is covered. Beside each option stands how often it was offered and how "
        "often it was right in the training questions; one option is the only one that ever was, so the lookup "
        "answers it, and is right. Right, columns from 0 to 100 percent: hatched up to what the lookup reaches; "
        "only what stands above can be sight.",
    )  # fmt: skip
    sheet.text(28, 80, "A lookup answers: no image, no model", size=15, bold=True)
    sheet.box(28, 98, 110, 110)
    sheet.hatch(28, 98, 110, 110, step=12)
    sheet.box(44, 138, 78, 30, "card")
    sheet.text(83, 158, "covered", size=13, anchor="middle")
    sheet.text(154, 116, row["question"].replace(" describes", "\ndescribes"), size=14)
    sheet.text(28, 240, "option", size=12, tone="soft")
    sheet.text(150, 240, f"in {TRAIN} training questions right, of times offered", size=12, tone="soft")
    scores = {text: (right[text] + 0.25) / (offered[text] + 1) for text in row["options"]}  # those of audits/floors.py
    best = max(scores, key=scores.get)
    for i, (letter, text) in enumerate(zip(LETTERS, row["options"])):
        y = 254 + 34 * i
        sheet.text(28, y + 17, f"{letter}) {text}", bold=text == best)
        sheet.box(150, y + 2, 150, 22)
        if right[text]:
            sheet.box(150, y + 2, 150 * right[text] / offered[text], 22, "pale1")
        chosen = "  ← chosen" if text == best else ""
        sheet.text(310, y + 18, f"{right[text]} of {offered[text]}{chosen}", size=13, bold=text == best)
    verdict = "right, and nobody looked" if LETTERS[row["options"].index(best)] == row["answer"] else "wrong"
    sheet.text(28, 418, f"It says {LETTERS[row['options'].index(best)]}: {verdict}.", size=15, bold=True)
    sheet.text(
        28,
        446,
        "The wrong options come from words that are never right:\nwhoever made them gave the answers away.",
        size=13,
        tone="soft",
    )
    _floors(sheet)
    return sheet


def _floors(sheet: Sheet) -> None:
    """The recorded floors, and that of a real test, as columns."""
    sheet.text(500, 80, "How far the lookup gets, whole tests", size=15, bold=True)
    recorded = mk.recorded("blind_floor").sort_values("shortcut")
    names = {0.0: "every option\nright some-\nwhere", 0.5: "half of the\nquestions\nleak", 1.0: "all\nleak"}
    columns = [(one.accuracy, one.low, one.high, one.chance, names[one.shortcut]) for one in recorded.itertuples()]
    columns.append((*_real_floor(), "a real test:\nMed-R1's\nCT"))
    base, high = 390, 280
    for share in (0, 1):
        sheet.text(500, base - high * share + 4, percent(share), size=11, tone="soft", anchor="end")
    for i, (floor, low, top, chance, name) in enumerate(columns):
        x = 510 + 92 * i
        sheet.box(x, base - high, 64, high, "card", 0)
        sheet.box(x, base - high * floor, 64, high * floor, "pale1", 0)
        sheet.hatch(x, base - high * floor, 64, high * floor)
        if floor < 0.9:
            sheet.text(x + 32, base - high * floor - 10, percent(floor), size=16, bold=True, anchor="middle")
        else:
            sheet.box(x + 4, base - high * floor + 12, 56, 24, "card")
            sheet.text(x + 32, base - high * floor + 30, percent(floor), size=16, bold=True, anchor="middle")
        sheet.path(f"M{x + 54} {base - high * low:.1f}V{base - high * top:.1f}", "strong", ' stroke-width="3"')
        sheet.path(f"M{x - 6} {base - high * chance:.1f}h76", "strong", ' stroke-width="1.5" stroke-dasharray="4 3"')
        sheet.text(x + 32, base + 18, name, size=12, anchor="middle")
    sheet.text(542, base - high * 0.62, "only\nhere\ncan be\nsight", size=13, anchor="middle")
    sheet.text(
        500, 462, "hatched: right without looking; upright stroke: 95 % interval\ndashed: chance", size=12, tone="soft"
    )


def transfer_map() -> Sheet:
    """How to read a map of gains."""
    wanted = {"part": ["", "machine"], "method": ["base", "grpo"], "format": "think-before"}
    answers = mk.recorded("clinic/answers", asked="B", **wanted)
    answers = answers[answers["task"] != "Modality Recognition"]
    table = mk.transfer_table(answers)
    names = list(dict.fromkeys(table["modality"]))
    cells = table.set_index(["train_modality", "modality"])
    n, seeds = map(int, table.loc[0, ["n", "seeds"]])
    sheet = Sheet(
        "transfer_map", 560, "How to read a transfer map: trained here, asked there",
        "An eight by eight map. A row is a model that was trained on one modality, a column a test of one "
        "modality; a cell says by how many points the model is better than the untrained one. The diagonal, "
        "framed, is home. Hatched cells may be chance. One cell at home and one away are explained at the right.",
    )  # fmt: skip
    home, away = (
        (names[0], names[0]),
        min((pair for pair in cells.index if pair[0] != pair[1]), key=lambda pair: cells.loc[pair, "difference"]),
    )
    marks = {home: "a", away: "b"}
    left, top, side = 132, 130, 48
    sheet.text(left + 4 * side, 76, "asked about", size=14, bold=True, anchor="middle")
    sheet.text(28, 112, "trained on", size=14, bold=True)
    for i, train in enumerate(names):
        sheet.text(left - 8, top + side * i + 29, train, size=13, anchor="end")
        sheet.text(left + side * (i + 0.5), top - (8 if i % 2 else 24), names[i], size=12, anchor="middle")
        for j, asked in enumerate(names):
            cell, x, y = cells.loc[train, asked], left + side * j, top + side * i
            sheet.cell(
                x, y, side, 100 * cell["difference"], cell["p_corrected"] > 0.05, i == j, marks.get((train, asked), "")
            )
    for y, head, (train, asked) in (
        (98, "a  At home: the framed diagonal", home),
        (216, "b  Away: everything else", away),
    ):
        cell = cells.loc[train, asked]
        sheet.text(560, y, head, size=15, bold=True)
        gain, low, high = 100 * cell[["difference", "low_corrected", "high_corrected"]]
        sure = "more than chance" if cell["p_corrected"] <= 0.05 else "may be chance"
        sheet.text(
            560, y + 24,
            f"Trained on {train}, asked about {asked}:\n"
            f"{percent(cell['base_accuracy'])} right before, {percent(cell['accuracy'])} after:\n"
            f"{gain:+.0f} points [{low:+.0f}, {high:+.0f}], {sure}",
            size=14,
        )  # fmt: skip
    sheet.text(560, 338, "Read it so", size=15, bold=True)
    sheet.text(
        560, 362,
        "A row: what one training is good for.\nA column: what any training gains there.\n"
        "Home no better than away: what was learned\nis the same everywhere, such as a habit.\n"
        "Hatched: do not build on it.\nAnd how high is the blind floor of each test?",
        size=13,
    )  # fmt: skip
    foot = f"points gained by GRPO, thinking first, on a machine new to the model; {n} questions a cell, "
    foot += f"{seeds} seed{'s' * (seeds > 1)}; hatched: may be chance"
    sheet.text(28, 540, foot, size=12, tone="soft")
    return sheet


def leak() -> Sheet:
    """What a leak looks like, what finds it, and the split that has none."""
    drawn = mk.load_vqa("phantoms", split="test", modality="CT", n=16)
    rows = [drawn[i] for i in (11, 1, 5, 4, 7, 15)]
    sheet = Sheet(
        "leak", 560, "A leak: the test has been seen in training",
        "Above, three pairs of a training picture and a test picture: the same one; a copy of another size; the "
        "same patient on another machine. Below, six pictures with two questions each, dealt to training and "
        "test: question by question, so that pictures are on both sides, and by picture, so that none is.",
    )  # fmt: skip
    _pairs(sheet, rows[0])
    sheet.text(28, 306, "Two ways to deal the same twelve questions", size=16, bold=True)
    asked = [{key: row[key] for key in ("image_id", "modality", "task")} for row in rows for _ in range(2)]
    data = datasets.Dataset.from_list([one | {"place": i} for i, one in enumerate(asked)])
    by_picture, _ = mk.image_disjoint_split(data, test_size=0.5)
    by_question = np.random.default_rng(0).permutation(len(asked))[: len(asked) // 2].tolist()
    _dealt(sheet, 336, "question by question", rows, by_question)
    _dealt(sheet, 444, "by picture:\nmk.image_disjoint_split", rows, by_picture["place"])
    return sheet


def _pairs(sheet: Sheet, row: dict[str, Any]) -> None:
    """Three ways in which a test picture is known from training, and what tells."""
    image, limit = row["image"], signature(mk.audit).parameters["distance"].default
    copy, twin = image.resize((84, 84), Image.LANCZOS), redraw(f"{row['image_id']}+scanner=B")
    looks = [_look(one) for one in (image, copy, twin)]
    copied, apart = ((looks[0] ^ look).bit_count() for look in looks[1:])
    found = f"at most {limit}: mk.audit finds it" if copied <= limit else f"more than {limit}: not found"
    tells = f"perceptual hashes differ in {copied} of 64 bits,\n{found}"
    hidden = f"hashes differ in {apart} of 64 bits: only\na patient_id tells, if the file has one"
    for x, other, head, said in (
        (28, image, "The same picture", "the image_id is in both files"),
        (318, copy, "A copy: other name, other size", tells),
        (608, twin, "The same patient, another scan", hidden),
    ):
        sheet.text(x, 80, head, size=15, bold=True)
        for place, one, name, tone in ((x, image, "training", "pale0"), (x + 136, other, "test", "pale1")):
            sheet.box(place - 3, 93, 114, 114, tone)
            sheet.picture(one, place, 96, 108)
            sheet.text(place + 54, 224, name, size=13, anchor="middle")
        sheet.arrow((x + 113, 150), (x + 131, 150))
        sheet.text(x, 246, said, size=12, tone="soft")


def _dealt(sheet: Sheet, y: float, head: str, rows: list[dict[str, Any]], kept: list[int]) -> None:
    """Two questions a picture: those whose number is kept go to training, the others to the test."""
    shared = 0
    sheet.text(28, y + 30, head, size=13, bold=True)
    for k, row in enumerate(rows):
        x, sides = 210 + 84 * k, [2 * k + i in kept for i in range(2)]
        sheet.picture(row["image"].resize((56, 56)), x, y, 60)
        for i, in_training in enumerate(sides):
            sheet.box(x + 31 * i, y + 64, 29, 20, "pale0" if in_training else "pale1")
            sheet.text(x + 31 * i + 14.5, y + 79, "train" if in_training else "test", size=11, anchor="middle")
        if sides[0] != sides[1]:
            shared += 1
            sheet.path(f"M{x - 4} {y - 4}h68v92h-68z", "line3", ' stroke-dasharray="5 3"')
    told = f"{shared} of {len(rows)} pictures\non both sides" + (":\nmemory may answer" if shared else "")
    sheet.text(724, y + 26, told, size=14, bold=True)


def _look(image: Image.Image) -> int:
    """The perceptual hash of a picture."""
    packed = BytesIO()
    image.save(packed, "PNG")
    return hash_image(packed.getvalue()).look


def _real_floor() -> tuple[float, float, float, float]:
    """The lookup on Med-R1's CT test, its interval, and chance, as the data card has them."""
    card = (ROOT / "data_cards" / "med-r1-splits.md").read_text(encoding="utf-8")
    table = card.split("| pair | `chance` |")[1]
    line = re.search(r"^\| modality/\*/CT \|(.*)\|$", table, re.MULTILINE)[1]
    chance, _, _, floor, *_ = (float(cell) / 100 for cell in line.split("|"))
    n = mk.published("med-r1-no-think-minus-think-modality").set_index("modality")["n_test"]["CT"].iloc[0]
    return floor, *wilson(round(floor * n), n), chance
