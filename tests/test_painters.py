"""The eight painters: what they draw is the truth and nothing but the truth."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from medr1kit.phantoms import ct, dermoscopy, fundus, microscopy, mri, oct, ultrasound, xray
from medr1kit.phantoms.canvas import LESION_RADIUS, Canvas, lattice, smooth_noise, speckle, spread
from medr1kit.phantoms.truth import GRADES, Truth

PAINTERS = {
    "CT": ct, "MRI": mri, "X-Ray": xray, "Ultrasound": ultrasound,
    "Dermoscopy": dermoscopy, "Fundus": fundus, "OCT": oct, "Microscopy": microscopy,
}  # fmt: skip
each_painter = pytest.mark.parametrize("modality", PAINTERS)


def truths(modality):
    painter = PAINTERS[modality]
    for words in product(painter.ANATOMIES, painter.FINDINGS, GRADES, painter.ATTRIBUTES):
        yield Truth(modality, *words)


def paint(truth, seed=0, size=56):
    return PAINTERS[truth.modality].paint(truth, np.random.default_rng(seed), size)


def lesion_only(truth, monkeypatch, seed=0, size=56):
    """How much the lesion changes each pixel (size, size), everything else kept: grey levels, 0 to 255."""
    with_lesion = paint(truth, seed, size).astype(float)
    painter = PAINTERS[truth.modality]
    draw = painter.draw_lesion
    with monkeypatch.context() as patch:  # on a copy, so that the random stream runs on as it would
        patch.setattr(painter, "draw_lesion", lambda canvas, *rest: draw(deepcopy(canvas), *rest))
        without = paint(truth, seed, size).astype(float)
    return np.abs(with_lesion - without).max(axis=2)


@each_painter
def test_names_are_four_distinct_single_words(modality):
    painter = PAINTERS[modality]
    for names in (painter.ANATOMIES, painter.FINDINGS, painter.ATTRIBUTES):
        assert len(names) == len(set(names)) == 4
        assert all(name.isascii() and name.isalpha() and name.islower() for name in names)
    assert len({*painter.ANATOMIES, *painter.FINDINGS, *painter.ATTRIBUTES, *GRADES}) == 16


def test_all_modalities_together_need_at_most_sixty_words():
    words = {word for p in PAINTERS.values() for word in (*p.ANATOMIES, *p.FINDINGS, *p.ATTRIBUTES)}
    assert len(words) <= 60


@each_painter
def test_same_truth_and_seed_give_the_same_pixels_and_another_seed_does_not(modality):
    truth = next(truths(modality))
    assert np.array_equal(paint(truth, 3), paint(truth, 3))
    assert not np.array_equal(paint(truth, 3), paint(truth, 4))


@each_painter
def test_painting_leaves_no_trace_behind(modality):
    first, *_, last = truths(modality)
    before = paint(first)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    paint(last)
    assert np.array_equal(paint(first), before)
    assert np.array_equal(np.random.get_state()[1], state)


@each_painter
def test_every_combination_paints_a_visible_lesion(modality, monkeypatch):
    """Over at least a third of a small disc's area the lesion stands out by 25 grey levels, five times the noise."""
    least = np.pi * (LESION_RADIUS["minimal"] * 28) ** 2 / 3
    for seed, truth in enumerate(truths(modality)):
        changed = lesion_only(truth, monkeypatch, seed)
        assert changed.shape == (56, 56)
        assert (changed > 25).sum() >= least, truth


@pytest.mark.parametrize("modality", [name for name in PAINTERS if name != "Ultrasound"])  # there speckle multiplies
def test_pixel_noise_stays_a_fifth_of_the_least_lesion_contrast(modality, monkeypatch):
    truth = next(truths(modality))
    noisy = paint(truth).astype(float)
    monkeypatch.setattr(PAINTERS[modality], "pixel_noise", lambda rng, size, sigma: np.zeros((size, size), np.float32))
    assert 0.5 < (noisy - paint(truth)).std() <= 5


@each_painter
def test_each_property_alone_changes_the_picture_far_beyond_noise(modality):
    """Same seed, so the same pose and texture: 30 grey levels are six standard deviations of what noise may do."""
    painter = PAINTERS[modality]
    base = Truth(modality, painter.ANATOMIES[0], painter.FINDINGS[0], "moderate", painter.ATTRIBUTES[0])
    choices = {
        "anatomy": painter.ANATOMIES,
        "finding": painter.FINDINGS,
        "grade": GRADES,
        "attribute": painter.ATTRIBUTES,
    }
    for name, words in choices.items():
        for word in set(words) - {getattr(base, name)}:
            other = replace(base, **{name: word})
            changed = [np.abs(paint(base, s).astype(int) - paint(other, s)).max(axis=2) > 30 for s in range(4)]
            assert np.mean(changed) > 0.01, (name, word)


@each_painter
def test_the_lesion_grows_with_its_grade(modality, monkeypatch):
    painter = PAINTERS[modality]
    for finding in painter.FINDINGS:
        areas = []
        for grade in GRADES:
            truth = Truth(modality, painter.ANATOMIES[0], finding, grade, painter.ATTRIBUTES[1])
            areas.append(np.mean([(lesion_only(truth, monkeypatch, seed) > 20).sum() for seed in range(4)]))
        assert all(later > 1.3 * earlier for earlier, later in pairwise(areas)), (finding, areas)


@pytest.mark.parametrize("modality", [name for name in PAINTERS if name != "Dermoscopy"])
def test_the_lesion_lies_where_the_attribute_says(modality, monkeypatch):
    painter = PAINTERS[modality]
    directions = {
        "left": (-1, 0), "temporal": (-1, 0), "right": (1, 0), "nasal": (1, 0),
        "upper": (0, -1), "superior": (0, -1), "inner": (0, -1), "lower": (0, 1), "inferior": (0, 1), "outer": (0, 1),
    }  # fmt: skip
    y, x = np.mgrid[:56, :56] - 27.5
    for anatomy, attribute in product(painter.ANATOMIES, painter.ATTRIBUTES):
        changed = lesion_only(Truth(modality, anatomy, painter.FINDINGS[0], "mild", attribute), monkeypatch) > 30
        dx, dy = directions[attribute]
        along, across = x[changed].mean() * dx + y[changed].mean() * dy, x[changed].mean() * dy + y[changed].mean() * dx
        assert along > 4, (anatomy, attribute)
        assert abs(across) < along, (anatomy, attribute)


def test_the_colour_of_a_skin_lesion_is_the_one_named():
    def centre_colour(colour):
        truth = Truth("Dermoscopy", "trunk", "nevus", "severe", colour)
        return paint(truth)[24:30, 24:30].reshape(-1, 3).mean(axis=0)

    red, blue, black, brown = map(centre_colour, ("red", "blue", "black", "brown"))
    assert red.argmax() == 0 and red[0] > 3 * red[2]
    assert blue.argmax() == 2 and blue[2] > 2 * blue[0]
    assert black.max() < 50
    assert brown[0] > brown[1] > brown[2] > 5


@each_painter
@pytest.mark.parametrize("size", [56, 112, 224, 448])
def test_pictures_scale_with_size(modality, size):
    *_, truth = truths(modality)
    image = paint(truth, 7, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    step = size // 28
    coarse = image.reshape(28, step, 28, step, 3).mean(axis=(1, 3))
    reference = paint(truth, 7, 56).reshape(28, 2, 28, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), reference.ravel())[0, 1] > 0.85


def test_a_disc_covers_its_area_at_any_size():
    for size in (56, 112, 448):
        canvas = Canvas(size)
        canvas.disc((0.1, -0.2), 0.5, 1.0)
        assert canvas.pixels.mean() * 4 == pytest.approx(np.pi * 0.25, rel=0.01)
        dotted = Canvas(size)
        dotted.dots(np.array([[0.1, -0.2]]), 0.5, 1.0)
        assert np.abs(dotted.pixels - canvas.pixels).max() < 0.05


def test_shapes_outside_the_picture_change_nothing_and_across_its_edge_are_cut():
    canvas = Canvas(56, (0.2, 0.4, 0.6))
    before = canvas.pixels.copy()
    canvas.disc((3, 3), 0.5, (1, 1, 1))
    canvas.blob((-3, 0), 0.5, (1, 1, 1), lobes=5, depth=0.1)
    canvas.line([(2, 2), (3, 3)], 0.1, (1, 1, 1))
    canvas.ring((0, 5), (1, 1), 0.1, (1, 1, 1))
    canvas.dots(np.array([[4.0, 4.0]]), 0.2, (1, 1, 1))
    assert np.array_equal(canvas.pixels, before)
    canvas.disc((1, 1), 0.3, (1, 1, 1))
    assert canvas.pixels[-1, -1].tolist() == [1, 1, 1]
    assert np.array_equal(canvas.pixels[:28], before[:28])


def test_noise_has_the_stated_moments():
    rng = np.random.default_rng(0)
    clouds = np.stack([smooth_noise(rng, 56, 9) for _ in range(300)])
    assert clouds.mean() == pytest.approx(0, abs=0.05)
    assert clouds.std(axis=0) == pytest.approx(1, abs=0.2)
    grains = np.stack([speckle(rng, 56, (40, 20)) for _ in range(50)])
    assert grains.min() >= 0
    assert grains.mean() == pytest.approx(1, abs=0.03)
    assert grains.std() == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.03)  # a Rayleigh variable of mean 1


def test_spread_stays_in_its_disc_and_lattice_covers_the_square():
    rng = np.random.default_rng(0)
    points = spread(rng, 40, (0.2, -0.3), 0.4)
    assert points.shape == (40, 2)
    assert np.hypot(*(points - [0.2, -0.3]).T).max() <= 0.4
    grid = lattice(rng, 6, 0.2)
    for corner in product((-1, 1), (-1, 1)):
        assert np.hypot(*(grid - corner).T).min() < 2 / 6
