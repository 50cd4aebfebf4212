"""Leaks: what the test shares with the training rows, and what the file names give away.

A split by question puts the questions about one image on both sides. Paths, answers, problem texts and stems are
compared here; the images themselves by :func:`image_leaks`, from the hashes of :mod:`medr1kit.audits.hashes`.
"""

from __future__ import annotations

import re

import numpy as np

from medr1kit.audits.hashes import Hashed
from medr1kit.audits.lookalikes import Twins
from medr1kit.audits.measures import SIDES, Found
from medr1kit.audits.rows import Questions, loose, plain, seen_in

_PATH = re.compile(r"[/\\]|\.\w{2,5}$")


def shared_rows(train: Questions, test: Questions) -> np.ndarray:
    """Return for each training row whether its image or its problem text is in the test."""
    found = np.zeros(len(train), dtype=bool)
    if train.images and test.images:
        found |= seen_in(train.files, test.files)
    if train.problems and test.problems:
        found |= seen_in(loose(train.problems), loose(test.problems))
    return found


def text_leaks(train: Questions, test: Questions) -> Found:
    """Return what test rows share with training rows, from paths and texts alone.

    Image paths are compared as strings; gold texts as in the lookup (:func:`medr1kit.audits.rows.plain`); stems and
    problem texts without case and repeated blanks. An answer is in a path when its letters a to z, in a row, are in the
    letters of the path. What a side does not have is not measured.

    Source: Med-R1 facts, section 1.6.
    """
    found, sides = Found("leaks"), (test, train)
    images, problems, stems = (all(getattr(side, name) for side in sides) for name in ("images", "problems", "stems"))
    if images:
        golds = [side.about_images(list(map(plain, side.gold_texts))) for side in sides]
        image = found.count("rows_with_train_image", "image in training", seen_in(test.files, train.files))
        answer = found.count("rows_with_train_image_and_answer", "image and answer in training", seen_in(*golds))
        more = f", {answer.value:,} of them with the same answer" if answer.value else ""
        found.say_of(1, f"ask about an image that is also in training{more}", image)
    if all(side.patients for side in sides):
        patient = found.count("rows_with_train_patient", "patient in training", seen_in(test.patients, train.patients))
        if not images or patient.value > image.value:
            found.say_of(1, "are about a patient who is also in training", patient)
    if problems:
        texts = [loose(side.problems) for side in sides]
        problem = found.count("rows_with_train_problem", "problem in training", seen_in(*texts))
        found.say_of(1, "have a problem text (question and options) that is also in training", problem)
    if problems and images:
        rows = [side.about_images(problem, side.gold) for side, problem in zip(sides, texts)]
        same = found.count("rows_in_train", "whole row in training", seen_in(*rows))
        if same.value < same.n:
            found.say_of(0, "are training rows, with image, problem and answer", same)
        else:
            sentence = f"Every test row is a training row ({same.n:,} of {same.n:,}): a score here measures memory only"
            found.say(0, 100, f"{sentence}. Was one file given as both?")
    if stems:
        asked = seen_in(loose(test.stems), loose(train.stems))
        stem = found.count("rows_with_train_stem", "stem in training", asked)
        found.say_of(2, "ask a question that was also asked in training", stem)
    in_path = [
        found.count("rows_with_answer_in_path", "answer in path", _answer_in_path(side), side.name)
        for side in (train, test)
        if side.images
    ]
    found.say_of(2, "have their answer in the image path; a path must never reach a prompt", *in_path)
    if not problems:
        found.say(4, 0, "Questions were not compared: a side has no column question or problem.")
    if not images:
        found.say(4, 0, "Shared images could not be counted: a side has neither image_id nor image paths.")
    return found


def _answer_in_path(side: Questions) -> np.ndarray:
    """Where the letters of the gold text stand in the path; an id without a folder or an ending is no path."""
    letters = {text: re.sub(r"[^a-z]", "", str(text or "").lower()) for text in {*side.images, *side.gold_texts}}
    pairs = [(letters[gold], letters[path]) for gold, path in zip(side.gold_texts, side.images)]
    told = np.array([gold != "" and gold in path for gold, path in pairs], dtype=bool)
    return told & np.array([bool(_PATH.search(str(path))) for path in side.images])


def image_leaks(train: list[Hashed], test: list[Hashed], twins: Twins, distance: int, by_path: float = 0) -> Found:
    """Return what test rows share with training rows, from the images themselves.

    Args:
        train, test: one :class:`~medr1kit.audits.hashes.Hashed` a row.
        twins: the training rows that look like each test row.
        distance: perceptual hashes that differ in at most so many of their 64 bits count as the same picture.
        by_path: test rows whose image path is in training; not more rows with the same file are not worth a sentence.
    """
    found = Found("leaks")
    unread = [
        found.count("rows_with_unreadable_image", "unreadable image", [image.content is None for image in images], side)
        for side, images in (("train", train), ("test", test))
    ]
    content = found.count("rows_with_train_image_content", "same file in training", twins.same_file)
    alike = found.count("rows_with_train_image_lookalike", "lookalike in training", twins.train >= 0)
    found.say_of(2, "have an image that is missing or unreadable", *unread)
    for name in (SIDES[one.side] for one in unread if one.value == one.n):
        found.say(0, 0, f"No {name} image could be read: is it the folder that the paths start from?")
    if content.value > by_path:
        found.say_of(1, "show an image whose file is also in training", content)
    if alike.value > content.value:
        hashes = f"perceptual hashes differ in at most {distance} of 64 bits"
        found.say_of(1, f"show an image that has a twin or lookalike in training ({hashes})", alike)
    return found
