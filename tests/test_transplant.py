"""Lesions on healthy eyes: as dark or bright as they were, where the truth says, and nowhere else."""

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="training needs the train extra")

from training import pixels, transplant

SIDE = 256
ys, xs = np.mgrid[:SIDE, :SIDE]
field = (np.hypot(xs - 127.5, ys - 127.5) < 128)[..., None]


def sample(colour, spots=()):
    square = np.where(field, np.array(colour), 0).astype(np.uint8)
    truth = np.zeros((4, SIDE, SIDE), np.uint8)
    for plane, (y, x, radius, factor) in enumerate(spots):
        inside = np.hypot(xs - x, ys - y) < radius
        truth[plane][inside] = 255
        square[inside] = np.clip(square[inside] * factor, 0, 255)
    return pixels.Sample("x", square, truth, field[..., 0] * np.uint8(255))


@pytest.fixture
def donor():
    return sample((180, 100, 60), [(90, 120, 9, 0.5), (160, 100, 14, 1.3)])


def test_the_factor_of_a_lesion_is_found_and_is_one_elsewhere(donor):
    factor = transplant.lift(donor).astype(np.float32)
    assert factor[90, 120] == pytest.approx(np.log(0.5), abs=0.1)
    assert factor[160, 100] == pytest.approx(np.log(1.3), abs=0.1)
    assert np.abs(factor[40:60, 40:200]).max() == 0


def test_grafts_lie_where_the_truth_says_in_the_colours_of_the_other_eye(donor, numbers):
    healthy = sample((90, 80, 70))
    made = transplant.transplant(healthy, donor, transplant.lift(donor), numbers)
    ratio = made.square[..., 1] / np.maximum(healthy.square[..., 1], 1)
    blood, exudate = (plane > 250 for plane in made.truth[:2])
    low, high = transplant._STRENGTH
    assert blood.sum() > 60
    assert exudate.sum() > 150
    assert 0.5**high - 0.06 < np.median(ratio[blood]) < 0.5**low + 0.06
    assert 1.3**low - 0.06 < np.median(ratio[exudate]) < 1.3**high + 0.06
    away = (made.truth.max(axis=0) == 0) & field[..., 0]
    assert np.mean(np.abs(ratio[away] - 1) < 0.02) > 0.97, "the rest of the eye is as it was"
    assert not made.square[~field[..., 0]].any()
    assert not made.truth[:, ~field[..., 0]].any()
    assert not made.truth[2:].any()


def test_every_graft_is_another(donor):
    healthy, factor = sample((90, 80, 70)), transplant.lift(donor)
    first, second = (transplant.transplant(healthy, donor, factor, np.random.default_rng(seed)) for seed in (1, 2))
    again = transplant.transplant(healthy, donor, factor, np.random.default_rng(1))
    assert (first.square != second.square).any()
    assert (first.square == again.square).all()
