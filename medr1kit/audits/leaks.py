"""Leaks: what the test shares with the training rows, and what the file names give away.

A split by question puts the questions about one image on both sides. Paths, answers, problem texts and stems are
compared here; the images themselves by :func:`image_leaks`, from the hashes of :mod:`medr1kit.audits.hashes`.
"""

from __future__ import annotations

import re

import numpy as np

from medr1kit.audits.hashes import Hashed, near_any
from medr1kit.audits.measures import Measure, count
from medr1kit.audits.rows import Questions, loose, plain, seen_in


def shared_rows(train: Questions, test: Questions) -> np.ndarray:
    """Return for each training row whether its image or its problem text is in the test."""
    found = np.zeros(len(train), dtype=bool)
    if train.images and test.images:
        found |= seen_in(train.images, test.images)
    if train.problems and test.problems:
        found |= seen_in(loose(train.problems), loose(test.problems))
    return found


def text_leaks(train: Questions, test: Questions) -> list[Measure]:
    """Return what test rows share with training rows, from paths and texts alone.

    Image paths are compared as strings; gold texts as in the lookup (:func:`medr1kit.audits.rows.plain`); stems and
    problem texts without case and repeated blanks. An answer is in a path when its letters a to z, in a row, are in the
    letters of the path. What a side does not have is not measured.

    Source: Med-R1 facts, section 1.6.
    """
    found = []
    if train.images and test.images:
        found.append(count("leaks", "test_rows_with_train_image", seen_in(test.images, train.images)))
        gold = [side.about_images(list(map(plain, side.gold_texts))) for side in (test, train)]
        found.append(count("leaks", "test_rows_with_train_image_and_answer", seen_in(*gold)))
    if train.problems and test.problems:
        problems = [loose(side.problems) for side in (test, train)]
        found.append(count("leaks", "test_rows_with_train_problem", seen_in(*problems)))
        if train.images and test.images:
            rows = [side.about_images(texts, side.gold) for side, texts in zip((test, train), problems)]
            found.append(count("leaks", "test_rows_in_train", seen_in(*rows)))
    if train.stems and test.stems:
        found.append(count("leaks", "test_rows_with_train_stem", seen_in(loose(test.stems), loose(train.stems))))
    for side in (train, test):
        if side.images:
            found.append(count("leaks", f"{side.name}_rows_with_answer_in_path", _answer_in_path(side)))
    return found


def _answer_in_path(side: Questions) -> np.ndarray:
    letters = {text: re.sub(r"[^a-z]", "", str(text or "").lower()) for text in {*side.images, *side.gold_texts}}
    pairs = [(letters[gold], letters[path]) for gold, path in zip(side.gold_texts, side.images)]
    return np.array([gold != "" and gold in path for gold, path in pairs], dtype=bool)


def image_leaks(train: list[Hashed], test: list[Hashed], distance: int) -> list[Measure]:
    """Return what test rows share with training rows, from the images themselves.

    Args:
        train, test: one :class:`~medr1kit.audits.hashes.Hashed` a row.
        distance: perceptual hashes that differ in at most so many of their 64 bits count as the same picture.
    """
    exact = seen_in([image.content for image in test], [image.content for image in train])
    near = near_any([image.look for image in test], [image.look for image in train], distance)
    return [
        count("leaks", "train_rows_with_unreadable_image", np.array([image.content is None for image in train])),
        count("leaks", "test_rows_with_unreadable_image", np.array([image.content is None for image in test])),
        count("leaks", "test_rows_with_train_image_content", exact),
        count("leaks", "test_rows_with_train_image_lookalike", exact | near),
    ]
