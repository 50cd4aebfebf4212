"""Scanners and the marker: what comes between the patient and the pixels."""

import numpy as np
import pytest
from PIL import Image

from medr1kit.data.phantoms import PAINTERS, SCANNERS, ImageId, draw, lesion_mask, pixels, truth_of
from medr1kit.data.phantoms.canvas import Canvas
from medr1kit.data.phantoms.scanner import MARKER_PLACES, Scanner, burn_marker, scan, scan_mask, undo_scanner
from medr1kit.vqa import MODALITIES

B = SCANNERS["B"]


def rng():
    return np.random.default_rng(0)


def disc(size, centre, radius):
    canvas = Canvas(size)
    canvas.disc(centre, radius, 1.0)
    return canvas.pixels


def centre_of(picture):
    """Centre of mass in [-1, 1], across and down."""
    line = (np.arange(len(picture)) + 0.5) * 2 / len(picture) - 1
    return np.array([(picture.sum(0) * line).sum(), (picture.sum(1) * line).sum()]) / picture.sum()


def footprint(place, size):
    """Which pixels the marker covers."""
    grey = np.full((size, size, 3), 77, np.uint8)
    burn_marker(grey, place)
    return (grey != 77).any(axis=2)


def test_scanner_a_changes_nothing_and_draws_no_random_number():
    picture, generator = rng().random((56, 56, 3), np.float32), rng()
    state = generator.bit_generator.state
    assert scan(picture, SCANNERS["A"], generator) is picture
    assert generator.bit_generator.state == state
    mask = picture[..., 0] > 0.7
    assert np.array_equal(scan_mask(mask, SCANNERS["A"]), mask)


@pytest.mark.parametrize("size", [28, 56, 112, 448])
def test_b_sees_a_narrower_field_so_a_shape_moves_outwards_and_grows(size):
    picture = disc(size, (0.4, -0.3), 0.25)
    seen = scan(picture, Scanner(field_of_view=B.field_of_view), rng())
    assert centre_of(seen) == pytest.approx(centre_of(picture) / B.field_of_view, abs=0.5 / size)
    assert seen.sum() / picture.sum() == pytest.approx(1 / B.field_of_view**2, rel=0.04)


def test_what_lies_outside_the_field_of_view_is_not_seen():
    assert scan(disc(112, (0.96, 0.0), 0.03), Scanner(field_of_view=0.88), rng()).max() < 0.01


@pytest.mark.parametrize("size", [28, 56, 112, 448])
def test_the_mask_moves_with_the_picture(size):
    picture = disc(size, (-0.35, 0.45), 0.3)
    mask = scan_mask(picture > 0.5, B)
    seen = scan(picture, Scanner(field_of_view=B.field_of_view), rng()) > 0.5
    assert (mask & seen).sum() / (mask | seen).sum() > 0.9
    assert mask.dtype == bool and mask.shape == (size, size)


def test_b_shrinks_the_contrast_about_mid_grey():
    plain = Scanner(contrast=B.contrast)
    for value, seen in ((0.5, 0.5), (1.0, 0.85), (0.0, 0.15)):
        assert scan(np.full((28, 28), value, np.float32), plain, rng()) == pytest.approx(seen, abs=1e-4)


def test_b_adds_grey_noise_of_the_stated_strength():
    grey = np.full((112, 112, 3), 0.5, np.float32)
    noise = scan(grey, B, rng()) - 0.5
    assert noise.std() == pytest.approx(B.noise, rel=0.03)
    assert abs(noise.mean()) < 0.002
    assert noise[..., 0] == pytest.approx(noise[..., 2], abs=1e-6), "the same in every colour, but for rounding"
    assert np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1] == pytest.approx(0, abs=0.05)


def test_b_blurs():
    edge = np.zeros((112, 112), np.float32)
    edge[:, 56:] = 1

    def width(scanner):  # pixels of the middle row between a tenth and nine tenths
        row = scan(edge, scanner, rng())[56]
        return ((row > 0.1) & (row < 0.9)).sum()

    # A Gaussian edge needs 2.56 standard deviations for that; 0.02 of half a picture is 1.12 pixels, magnified 1.27.
    assert width(Scanner(blur=B.blur)) == pytest.approx(2.56 * 1.12, abs=1)
    assert width(Scanner(blur=B.blur)) > width(Scanner(field_of_view=0.9999))


def test_undoing_b_puts_contrast_place_and_size_back_and_leaves_noise():
    grey = 0.2 + 0.6 * disc(112, (0.4, -0.3), 0.25)  # 51 and 204 of 255
    seen = scan(grey, Scanner(field_of_view=B.field_of_view, contrast=B.contrast), rng())
    taken = np.repeat((255 * seen)[..., None], 3, axis=2).round().astype(np.uint8)
    assert (taken.min(), taken.max()) == (74, 181), "0.5 + 0.7 x (0.2 - 0.5) and 0.5 + 0.7 x (0.8 - 0.5), of 255"
    undone = np.asarray(undo_scanner(Image.fromarray(taken)))[..., 0]
    assert abs(undone[55, 5] - 51) <= 1 and abs(undone[39, 78].astype(int) - 204) <= 1
    inside, before = undone > 127, grey > 0.5
    assert centre_of(inside) == pytest.approx(centre_of(before), abs=2 / 112)  # a pixel
    assert inside.sum() == pytest.approx(before.sum(), rel=0.03)
    noise = np.asarray(scan(np.full((112, 112, 3), 0.5, np.float32), Scanner(noise=B.noise), rng()))
    again = undo_scanner(Image.fromarray((255 * noise).round().astype(np.uint8)))
    assert np.asarray(again).std() > noise.std() * 255 / 2


def test_both_scanners_see_the_same_patient():
    for modality in MODALITIES:
        a, b = (ImageId(modality, "val", 2, 7, scanner=scanner) for scanner in "AB")
        assert truth_of(a) == truth_of(b)
        (picture, mask), (other, moved) = draw(a), draw(b)
        assert not np.array_equal(picture, other)
        inside = np.s_[12:-12, 12:-12]  # without the marker
        assert other[inside].std() < picture[inside].std()
        assert moved.sum() > 1.1 * mask.sum()
        both = scan_mask(mask, B)
        assert np.array_equal(moved, both)


@pytest.mark.parametrize("place", range(len(MARKER_PLACES)))
@pytest.mark.parametrize("size", [28, 29, 56, 112, 224, 448])
def test_the_marker_lies_inside_the_picture_where_it_should(place, size):
    grey = np.full((size, size, 3), 77, np.uint8)
    burn_marker(grey, place)
    white = (grey == 255).all(axis=2)
    assert white.any()
    assert centre_of(white) == pytest.approx(np.array(MARKER_PLACES[place]), abs=2 / size)
    marked = footprint(place, size)
    assert marked.sum() == pytest.approx((0.07 * size) ** 2, rel=0.35 if size > 50 else 1.3)
    assert not set(np.unique(grey)) - {0, 77, 255}


@pytest.mark.parametrize("size", [28, 112])
def test_no_two_places_of_the_marker_touch(size):
    places = [footprint(place, size) for place in range(len(MARKER_PLACES))]
    assert np.sum(places, axis=0).max() == 1


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_no_marker_ever_touches_a_lesion(modality, scanner):
    """Any marker on any picture; lesions with satellites reach furthest."""
    size = 56
    markers = np.any([footprint(place, size) for place in range(len(MARKER_PLACES))], axis=0)
    seen = 0
    for number in range(150):
        image_id = ImageId(modality, "test", 4, number, scanner)
        truth = truth_of(image_id)
        if truth.number == "single":
            continue
        canvas = PAINTERS[modality].paint(truth, image_id.stream(1), size, 0.0)
        mask = scan_mask(canvas.mask, SCANNERS[scanner])
        assert mask.any()
        assert not (mask & markers).any(), image_id
        seen += 1
    assert seen > 40


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("size", [28, 57, 112, 448])
def test_every_size_is_drawn_with_its_mask(scanner, size):
    image_id = ImageId("Fundus", "train", 0, 3, scanner)
    picture = pixels(image_id, size)
    mask = lesion_mask(str(image_id), size)
    assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
    assert mask.shape == (size, size) and mask.dtype == bool
    assert 0.005 < mask.mean() < 0.3
