"""What a photograph looks like must not tell who is ill: looks are measured, and eyes drawn in spite of them."""

import cv2
import numpy as np
import pytest

pytest.importorskip("tqdm", reason="training needs the train extra")

from training import data, looks, targets

SHARPNESS = 5  # its place in a look


@pytest.fixture
def batches(numbers):
    """Looks of 300 eyes of which the ill ones are mostly dull, whether they are ill, and that they count alike."""
    dull = np.repeat([1.0, 0.0], 150)
    ill = numbers.random(300) < 0.2 + 0.6 * dull
    return np.column_stack([dull + numbers.normal(0, 0.4, 300), numbers.normal(size=300)]), ill, np.ones(300)


def test_ill_and_healthy_eyes_are_drawn_to_look_alike(batches):
    look, ill, before = batches
    made = looks.alike(look, ill, before)

    def apart(weight):
        return np.average(look[ill], axis=0, weights=weight[ill]) - np.average(look[~ill], axis=0, weights=weight[~ill])

    assert apart(before)[0] > 0.4
    assert abs(apart(made)[0]) < 0.12
    assert made[ill].sum() == pytest.approx(ill.sum()), "nor does it say that there are more or fewer of them"
    assert made[~ill].sum() == pytest.approx((~ill).sum())
    assert made.max() < 8 * made.min() * 4, "none counts out of all proportion"


def test_where_one_kind_is_too_rare_nothing_changes(batches):
    look, _, before = batches
    np.testing.assert_array_equal(looks.alike(look, np.arange(300) < 5, before), before)


def test_a_look_tells_sharpness_and_colour_and_not_the_black_around(eye):
    view = cv2.resize(eye.photograph, (256, 256), interpolation=cv2.INTER_AREA)
    seen = looks.of(view)
    assert len(seen) == looks.COUNT
    blurred, blue = looks.of(cv2.GaussianBlur(view, (0, 0), 1.5)), view.copy()
    blue[..., 2] //= 2
    assert blurred[SHARPNESS - 1] < seen[SHARPNESS - 1] - 0.2
    assert looks.of(blue)[2] < seen[2] - 0.3
    assert looks.of(blue)[0] == seen[0]
    assert looks.of(np.zeros_like(view)) == (0.0,) * looks.COUNT


def test_sampling_holds_looks_against_grades(batches):
    look, ill, _ = batches
    unknown = (-1,) * len(data.CODES)
    known = [
        data.Case("idrid", "x", "train", str(i), unknown, grade=2 * int(sick), look=(*each, 0, 0, 0, 0, 0))
        for i, (each, sick) in enumerate(zip(look.tolist(), ill, strict=True))
    ]
    chances = targets.Targets(known).sampling(np.arange(300))
    dull = look[:, 0] > 0.5
    assert chances[ill & ~dull].mean() > 1.5 * chances[ill & dull].mean()
    assert chances[~ill & dull].mean() > 1.5 * chances[~ill & ~dull].mean()
