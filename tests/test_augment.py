"""Augmentation: other cameras, files and fields of view, with the truth where the eye is."""

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("tqdm", reason="training needs the train extra")

from training import augment, enhancement


def test_augmentation_keeps_the_field_black_and_truth_aligned(eye):
    square = torch.from_numpy(eye.photograph).permute(2, 0, 1)[None].float() / 255
    generator = torch.Generator().manual_seed(1)
    outside = (square.amax(1) == 0)[0]
    coloured = augment.colour(square, generator)
    assert not coloured[0, :, outside].any()
    assert 0 <= coloured.min() <= coloured.max() <= 1
    marked = [square, square[:, :1]]
    a, b = augment.turn(marked, generator, 30, 0.2, 0.1)
    torch.testing.assert_close(a[:, :1], b)
    a, b = augment.flip(marked, generator)
    torch.testing.assert_close(a[:, :1], b)


def test_a_narrower_field_shows_a_part_of_everything_enlarged(eye):
    square = torch.from_numpy(eye.photograph).permute(2, 0, 1)[None].float() / 255
    square = torch.nn.functional.interpolate(square, (256, 256), mode="area").repeat(6, 1, 1, 1)
    small = torch.nn.functional.avg_pool2d(square, 2)
    (seen, half), left = augment.magnify([square, small], torch.Generator().manual_seed(5), chance=0.5)
    changed = [index for index in range(6) if (seen[index] != square[index]).any()]
    assert 0 < len(changed) < 6
    assert [index for index in range(6) if left[index] < 1] == changed
    assert left.min() > 0.5
    assert not seen[:, :, :20, :20].any(), "the corners of the square stay black"
    apart = (torch.nn.functional.avg_pool2d(seen, 2) - half).abs()[changed]
    assert apart.mean() < 0.005, "the same part of both"
    assert apart.mean() * 3 < (seen - square).abs()[changed].mean()


def test_lossy_files_keep_the_field_and_roughly_the_colours(eye):
    square = torch.from_numpy(eye.photograph).permute(2, 0, 1)[None].float() / 255
    stored = augment.compress(square, torch.Generator().manual_seed(1), chance=1.0)
    assert not stored[:, :, square[0].amax(0) == 0].any()
    assert 0.001 < (stored - square).abs().mean() < 0.03
    torch.testing.assert_close(augment.compress(square, torch.Generator(), chance=0.0), square)


def test_enhancement_shows_more_contrast_of_the_same_eye(eye):
    inside = eye.photograph.max(2) > 0
    numbers, changed = np.random.default_rng(2), []
    for _ in range(8):
        made = enhancement.enhance(eye.photograph, numbers)
        green, before = (picture[inside, 1].astype(float) for picture in (made, eye.photograph))
        assert np.corrcoef(green, before)[0, 1] > 0.8
        changed.append(np.abs(green - before).mean())
    assert np.median(changed) > 0.5, "most of them are seen otherwise"


def test_sharpening_gives_an_edge_more_and_leaves_plain_areas():
    step = np.full((200, 200, 3), 80, np.uint8)
    step[:, 100:] = 120
    made = enhancement.sharpen(step, 0.01, 1.0)
    assert made[:, :80].max() == made[:, :80].min() == 80
    assert made[:, 99].max() < 75
    assert made[:, 100].min() > 125
    np.testing.assert_array_equal(enhancement.sharpen(step, 0.01, 0.0), step)


def test_raised_contrast_spreads_the_lightness_and_keeps_the_hue(eye):
    square = eye.photograph
    made = enhancement.raise_contrast(square, 3.0, 8)
    inside = cv2.erode((square.max(2) > 0).astype(np.uint8), np.ones((31, 31))) > 0
    before, after = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[inside].astype(float) for picture in (square, made))
    assert after[:, 0].std() > 1.1 * before[:, 0].std()
    assert np.abs(after[:, 1:] - before[:, 1:]).mean() < 3


def test_equalised_channels_hold_ranks_inside_the_field():
    squares = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) ** 3
    squares[..., :16] = 0
    made = augment.equalise(squares, torch.Generator().manual_seed(0), 1.0)
    inside = made[..., 16:]
    assert made[..., :16].abs().max() == 0
    assert abs(float(inside.mean()) - 0.5) < 0.05
    assert abs(float((inside < 0.25).float().mean()) - 0.25) < 0.05
    assert torch.equal(augment.equalise(squares, torch.Generator(), 0.0), squares)
