import numpy as np
import pytest

from qmmfl import fundus, measures, quality


def ellipse(size, x, y, a, b):
    ys, xs = np.mgrid[:size, :size]
    return (((xs - x) / a) ** 2 + ((ys - y) / b) ** 2 <= 1).astype(np.float32)


def test_cup_to_disc_ratio_of_known_ellipses():
    disc, cup = ellipse(256, 60, 120, 22, 26), ellipse(256, 60, 121, 12, 13)
    height, inner = measures.vertical_diameters(disc, cup)
    assert height == pytest.approx(53, abs=1)
    assert inner / height == pytest.approx(27 / 53, abs=0.02)


def test_no_disc_is_none_and_specks_do_not_count():
    empty = np.zeros((256, 256), np.float32)
    assert measures.vertical_diameters(empty, empty) is None
    assert measures.vertical_diameters(ellipse(256, 60, 60, 2, 2), empty) is None
    disc = np.maximum(ellipse(256, 60, 120, 22, 26), ellipse(256, 200, 20, 3, 3))
    assert measures.vertical_diameters(disc, empty)[0] == pytest.approx(53, abs=1)
    assert measures.vertical_diameters(disc, empty)[1] == 0


@pytest.mark.parametrize(("x", "side"), [(210, "right"), (40, "left"), (130, None)])
def test_side_from_the_disc(x, side):
    assert measures.find_side(ellipse(256, x, 120, 20, 22)).side == side


def test_vessels_are_shared_out_at_any_resolution():
    vessels = np.zeros((2, 512, 512), np.float32)
    vessels[0, 100:108] = 0.9
    vessels[1, 300:] = 0.4  # not likely enough to be one
    vessels[1, :, 200:204] = 0.6
    expected = (8 * 512 + 4 * 512 - 8 * 4) / 512**2
    assert measures.vessel_share(vessels) == pytest.approx(expected)
    assert measures.vessel_share(vessels.repeat(2, 1).repeat(2, 2)) == pytest.approx(expected)


def test_lesions_are_counted_by_region():
    field = ellipse(200, 100, 100, 100, 100) > 0
    plane = sum(ellipse(200, x, 100, 4, 4) for x in (40, 80, 120)) * 0.9
    plane[100, 160] = 0.9  # one pixel is noise
    plane[0, 0:9] = 0.9  # outside the field
    lesion = measures.count_lesions(plane, 0.5, field)
    assert lesion.count == 3
    assert lesion.area_fraction == pytest.approx(3 * (plane[96:105, 36:45] > 0).sum() / field.sum(), rel=0.01)
    assert measures.count_lesions(plane, 0.95, field).count == 0


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_what_the_rim_of_the_field_looks_like_is_no_lesion(margin):
    size, radius = 400, 200 / (1 + margin)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    ring = np.float32(np.abs(np.hypot(x, y) - 0.985 * radius) < 0.014 * radius)
    inside = np.float32(ellipse(size, 200 + 0.94 * radius, 200, 3, 3) > 0)
    field = measures.lesion_field(size, margin)
    assert measures.count_lesions(ring, 0.5, fundus.square_mask(fundus.Prep(size, margin))).count == 1
    assert measures.count_lesions(ring, 0.5, field).count == 0
    assert measures.count_lesions(inside, 0.5, field).count == 1


def disc_of(colour, noise=0, size=300):
    rng = np.random.default_rng(1)
    picture = np.clip(np.array(colour) + rng.normal(0, noise, (size, size, 3)), 0, 255).astype(np.uint8)
    picture[ellipse(size, 150, 150, 148, 148) == 0] = 0
    return picture


@pytest.mark.parametrize(
    ("colour", "noise", "reason"),
    [
        ((0, 0, 0), 0, quality.BLANK),
        ((6, 3, 2), 1, quality.DARK),
        ((255, 253, 250), 1, quality.BRIGHT),
        ((150, 80, 40), 0, quality.FLAT),
        ((120, 120, 120), 0, quality.GREY),
        ((40, 80, 150), 2, quality.BLUE),
    ],
)
def test_faults_are_named(colour, noise, reason):
    assert reason in quality.find_faults(disc_of(colour, noise))


def test_a_simulated_eye_has_no_faults(eye):
    assert quality.find_faults(eye.photograph) == ()
    assert quality.find_faults((eye.photograph * 0.35).astype(np.uint8)) == ()


def test_red_and_blue_that_were_swapped_are_told_from_a_cool_light(eye):
    assert quality.find_faults(eye.photograph[..., ::-1]) == (quality.BLUE,)
    cool = (eye.photograph * (0.8, 1, 1.2)).clip(0, 255).astype(np.uint8)
    assert quality.find_faults(cool) == ()
