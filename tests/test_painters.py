"""The eight painters: what they draw is the truth and nothing but the truth."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from medr1kit.data.phantoms import PAINTERS, Truth, oct, ultrasound
from medr1kit.data.phantoms.canvas import Canvas, lattice, smooth_noise, speckle, spread
from medr1kit.data.phantoms.truth import GRADES, NUMBERS, SIZES

GONE = 1 / 0.7  # the difficulty at which a lesion keeps none of its contrast: the picture without it
each_painter = pytest.mark.parametrize("modality", PAINTERS)


def truths(modality):
    """Every anatomy, finding, attribute and size; views and numbers take turns."""
    painter = PAINTERS[modality]
    words = product(painter.ANATOMIES, painter.FINDINGS, SIZES, painter.ATTRIBUTES)
    for turn, (anatomy, finding, size, attribute) in enumerate(words):
        view, number = painter.VIEWS[turn % 2], NUMBERS[turn // 3 % 2]
        yield Truth(modality, view, anatomy, finding, size, number, attribute)


def one(modality, **facts):
    """Some truth of a modality, with the facts given."""
    return replace(next(truths(modality)), **facts)


def paint(truth, seed=0, size=56, difficulty=0.0):
    return PAINTERS[truth.modality].paint(truth, np.random.default_rng(seed), size, difficulty)


def picture(*args, **options):
    return paint(*args, **options).to_uint8()


def change(truth, seed=0, size=56, difficulty=0.0):
    """How much the lesion changes each pixel (size, size), everything else kept: grey levels, 0 to 255."""
    with_lesion, without = picture(truth, seed, size, difficulty), picture(truth, seed, size, GONE)
    return np.abs(with_lesion.astype(int) - without).max(axis=2)


@each_painter
def test_facts_have_two_or_four_distinct_names(modality):
    painter = PAINTERS[modality]
    assert len(set(painter.VIEWS)) == len(painter.VIEWS) == 2
    for names in (painter.ANATOMIES, painter.FINDINGS, painter.ATTRIBUTES):
        assert len(names) == len(set(names)) == 4
        assert all(name.isascii() and name.isalpha() and name.islower() for name in names)
    assert len({*painter.ANATOMIES, *painter.FINDINGS, *painter.ATTRIBUTES, *SIZES, *NUMBERS, *GRADES}) == 20


def test_all_modalities_together_need_at_most_sixty_words():
    words = {word for p in PAINTERS.values() for word in (*p.ANATOMIES, *p.FINDINGS, *p.ATTRIBUTES)}
    assert len(words) <= 60


@each_painter
def test_same_truth_and_seed_give_the_same_picture_and_another_seed_does_not(modality):
    truth = one(modality)
    first, again = paint(truth, 3), paint(truth, 3)
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.to_uint8(), picture(truth, 4))


@each_painter
def test_painting_leaves_no_trace_behind(modality):
    first, *_, last = truths(modality)
    before = picture(first)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    paint(last)
    assert np.array_equal(picture(first), before)
    assert np.array_equal(np.random.get_state()[1], state)


@each_painter
def test_every_combination_paints_a_visible_lesion(modality):
    """At difficulty 0 it stands out by 25 grey levels, five times the noise, over a third of its mask's area."""
    for seed, truth in enumerate(truths(modality)):
        assert (change(truth, seed) > 25).sum() >= paint(truth, seed).mask.sum() / 3, truth


@pytest.mark.parametrize("modality", [name for name in PAINTERS if name != "Ultrasound"])  # there speckle multiplies
def test_pixel_noise_stays_a_fifth_of_the_least_lesion_contrast(modality, monkeypatch):
    truth = one(modality)
    noisy = picture(truth).astype(float)
    monkeypatch.setattr(PAINTERS[modality], "pixel_noise", lambda rng, size, sigma: np.zeros((size, size), np.float32))
    assert 0.5 < (noisy - picture(truth)).std() <= 5


@each_painter
def test_each_fact_alone_changes_the_picture_far_beyond_noise(modality):
    """Same seed, so the same pose and texture: 30 grey levels are six standard deviations of the noise.

    The least change is that of three satellites, 1.5 % of the picture; a third of them must stand out.
    """
    painter, base = PAINTERS[modality], one(modality, size="large")
    choices = {
        "view": painter.VIEWS,
        "anatomy": painter.ANATOMIES,
        "finding": painter.FINDINGS,
        "size": SIZES,
        "number": NUMBERS,
        "attribute": painter.ATTRIBUTES,
    }
    for name, words in choices.items():
        for word in set(words) - {getattr(base, name)}:
            other = replace(base, **{name: word})
            changed = [np.abs(picture(base, s).astype(int) - picture(other, s)).max(axis=2) > 30 for s in range(4)]
            assert np.mean(changed) > 0.005, (name, word)


@each_painter
def test_a_view_changes_the_picture_in_every_anatomy_and_leaves_the_lesion_alone(modality):
    painter = PAINTERS[modality]
    upper = painter.ATTRIBUTES[2]  # nasal and temporal change sides with the eye; superior does not
    for anatomy, finding in product(painter.ANATOMIES, painter.FINDINGS):
        truth = one(modality, anatomy=anatomy, finding=finding, attribute=upper)
        first, second = (paint(replace(truth, view=view), 5) for view in painter.VIEWS)
        assert np.array_equal(first.mask, second.mask)
        apart = np.abs(first.to_uint8().astype(int) - second.to_uint8()).max(axis=2) > 12  # far more than noise
        assert np.mean(apart[~first.mask]) > 0.01, (anatomy, finding)


def test_the_left_eye_is_the_mirror_image_of_the_right_one():
    for attribute, x in (("nasal", 1), ("temporal", -1)):
        for view, side in (("right eye", 1), ("left eye", -1)):
            columns = np.flatnonzero(paint(one("Fundus", view=view, attribute=attribute), 2).mask.any(axis=0))
            assert np.sign(columns.mean() - 27.5) == x * side, (attribute, view)


@each_painter
def test_the_mask_holds_the_lesion_and_nothing_of_it_lies_far_outside(modality, monkeypatch):
    """Halos and shadows apart: three quarters of the change lie in the mask, the rest within a soft edge of it."""
    lay = Canvas._lay

    def without_halos(canvas, rows, columns, mask, colour, opacity):
        if canvas._marking is None or opacity == 1:
            lay(canvas, rows, columns, mask, colour, opacity)

    monkeypatch.setattr(Canvas, "_lay", without_halos)
    monkeypatch.setattr(ultrasound, "_change_below", lambda *_: None)
    monkeypatch.setattr(oct, "_shade", lambda *_: None)
    painter = PAINTERS[modality]
    for finding, size, number in product(painter.FINDINGS, SIZES, NUMBERS):
        truth = one(modality, finding=finding, size=size, number=number)
        plain, fainter = paint(truth, 1, 112), paint(truth, 1, 112, 0.5)
        assert np.array_equal(plain.mask, fainter.mask)
        changed = np.abs(plain.pixels - fainter.pixels).reshape(112, 112, -1).max(axis=2)
        far = ndimage.distance_transform_edt(~plain.mask) > 7  # pixels: an eighth of half a picture
        assert changed[far].max() == 0, truth
        assert changed[plain.mask].sum() > 0.7 * changed.sum(), truth


@each_painter
def test_difficulty_fades_the_lesion_and_nothing_else(modality):
    for finding in PAINTERS[modality].FINDINGS:
        truth = one(modality, finding=finding, size="large")
        changes = [change(truth, 2, difficulty=difficulty) for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0)]
        contrasts = np.array([changed.mean() for changed in changes])
        assert (np.diff(contrasts) < 0).all(), finding
        assert (contrasts / contrasts[0])[[2, 4]] == pytest.approx([0.65, 0.3], abs=0.12), finding
        assert (changes[4] <= changes[0] + 1).all(), "1 for rounding"


@each_painter
def test_size_can_be_read_off_the_mask(modality):
    """A large lesion is twice as wide; single specks, and lines that keep some width, make less than 4 times of it."""
    for finding in PAINTERS[modality].FINDINGS:
        areas = {
            size: [
                paint(one(modality, finding=finding, size=size, number="single"), s, 112).mask.sum() for s in range(6)
            ]
            for size in SIZES
        }
        assert min(areas["large"]) > 2 * max(areas["small"]), (finding, areas)


@each_painter
def test_number_can_be_read_off_the_mask(modality):
    """Three satellites around an unchanged main lesion, as much of them to see around a large one as a small one."""
    for finding in PAINTERS[modality].FINDINGS:
        areas = dict.fromkeys(SIZES, 0)
        for size, seed in product(SIZES, range(3)):
            truth = one(modality, finding=finding, size=size)
            single, multiple = (paint(replace(truth, number=number), seed, 112).mask for number in NUMBERS)
            assert (multiple | ~single).all(), "the main lesion stays as it is"
            satellites = multiple & ~single
            _, count = ndimage.label(ndimage.binary_dilation(satellites, iterations=3))
            assert count == 3, (finding, size, seed)
            areas[size] += satellites.sum()
        assert areas["large"] == pytest.approx(areas["small"], rel=0.2), finding


@pytest.mark.parametrize("modality", [name for name in PAINTERS if name != "Dermoscopy"])
def test_the_lesion_lies_where_the_attribute_says(modality):
    painter = PAINTERS[modality]
    directions = {
        "left": (-1, 0), "temporal": (-1, 0), "right": (1, 0), "nasal": (1, 0),
        "upper": (0, -1), "superior": (0, -1), "inner": (0, -1), "lower": (0, 1), "inferior": (0, 1), "outer": (0, 1),
    }  # fmt: skip
    y, x = np.mgrid[:56, :56] - 27.5
    for anatomy, attribute in product(painter.ANATOMIES, painter.ATTRIBUTES):
        mask = paint(one(modality, anatomy=anatomy, attribute=attribute)).mask
        dx, dy = directions[attribute]
        along, across = x[mask].mean() * dx + y[mask].mean() * dy, x[mask].mean() * dy + y[mask].mean() * dx
        assert along > 4, (anatomy, attribute)
        assert abs(across) < along / 2, (anatomy, attribute)


@each_painter
def test_no_lesion_reaches_beyond_the_picture(modality):
    for seed, truth in enumerate(truths(modality)):
        mask = paint(replace(truth, number="multiple"), seed, 28).mask
        assert mask.any()
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()), truth


def test_the_colour_of_a_skin_lesion_is_the_one_named():
    def centre_colour(colour):
        truth = Truth("Dermoscopy", "contact", "trunk", "nevus", "large", "single", colour)
        return picture(truth)[24:30, 24:30].reshape(-1, 3).mean(axis=0)

    red, blue, black, brown = map(centre_colour, ("red", "blue", "black", "brown"))
    assert red.argmax() == 0 and red[0] > 3 * red[2]
    assert blue.argmax() == 2 and blue[2] > 2 * blue[0]
    assert black.max() < 50
    assert brown[0] > brown[1] > brown[2] > 5


@each_painter
@pytest.mark.parametrize("size", [28, 56, 112, 224, 448])
def test_pictures_and_masks_scale_with_size(modality, size):
    *_, truth = truths(modality)
    truth = replace(truth, number="multiple")
    canvas, reference = paint(truth, 7, size), paint(truth, 7, 56)
    image = canvas.to_uint8()
    assert (image.shape, image.dtype, canvas.mask.shape, canvas.mask.dtype) == (
        (size, size, 3), np.uint8, (size, size), bool,
    )  # fmt: skip

    def coarse(values):
        step = len(values) // 28
        return values.reshape(28, step, 28, step, -1).mean(axis=(1, 3)).ravel()

    assert np.corrcoef(coarse(image), coarse(reference.to_uint8()))[0, 1] > 0.85
    assert np.corrcoef(coarse(canvas.mask), coarse(reference.mask))[0, 1] > 0.85
    assert canvas.mask.mean() == pytest.approx(reference.mask.mean(), rel=0.25)


def test_only_solid_shapes_inside_the_lesion_enter_its_mask():
    canvas = Canvas(56)
    canvas.disc((-0.5, 0), 0.2, 1.0)
    with canvas.lesion(0):
        canvas.disc((0.5, 0), 0.2, 1.0)
        canvas.disc((0.5, 0), 0.4, 0.5, opacity=0.5)
        canvas.polygon([(0.4, 0.7), (0.6, 0.7), (0.6, 0.9), (0.4, 0.9)], 1.0)
    canvas.disc((0, -0.6), 0.2, 1.0)
    _, count = ndimage.label(canvas.mask)
    assert count == 2
    assert canvas.mask.mean() * 4 == pytest.approx(np.pi * 0.04 + 0.04, rel=0.1)


def test_difficulty_keeps_a_known_part_of_the_contrast():
    for difficulty, kept in ((0, 1.0), (0.5, 0.65), (1, 0.3)):
        canvas = Canvas(56, 0.2)
        with canvas.lesion(difficulty):
            canvas.disc((0, 0), 0.5, 0.7)
        assert canvas.pixels[28, 28] == pytest.approx(0.2 + kept * 0.5)
        assert canvas.pixels[0, 0] == np.float32(0.2)


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
