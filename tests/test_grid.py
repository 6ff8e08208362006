"""Cells of features lie where they were seen."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from qmmfl import grid
from qmmfl.nets import Config
from qmmfl.nets.encoders import Encoder


def centroid(values: np.ndarray) -> np.ndarray:
    """(y, x) in shares of the side."""
    ys, xs = np.mgrid[: len(values), : len(values)] + 0.5
    return np.array([(ys * values).sum(), (xs * values).sum()]) / values.sum() / len(values)


def spot(at: tuple[float, float], side: int) -> np.ndarray:
    ys, xs = (np.mgrid[:side, :side] + 0.5) / side
    return np.exp(-((ys - at[0]) ** 2 + (xs - at[1]) ** 2) / 2 / 0.03**2).astype(np.float32)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("at", [(0.5, 0.5), (0.31, 0.62), (0.7, 0.44)])
def test_what_halving_convolutions_see_is_put_where_it_is(kernel, at):
    halve = nn.Conv2d(1, 1, kernel, 2, kernel // 2, bias=False)
    nn.init.constant_(halve.weight, 1 / kernel**2)
    seen = torch.from_numpy(spot(at, 256))[None, None]
    with torch.no_grad():
        for _ in range(4):
            seen = halve(seen)
    cells = seen[0, 0].numpy()
    assert cells.shape == (16, 16)
    assert (centroid(cells) - at).mean() == pytest.approx(0.5 / 16, abs=0.1 / 16), "drawn tile by tile, beside it"
    np.testing.assert_allclose(centroid(grid.align(cells, 16)), at, atol=0.1 / 16)


@torch.no_grad()
@pytest.mark.parametrize("modality", ["colour", "lesions"])
def test_an_encoder_that_ships_sees_a_mirror_image_in_mirrored_places(modality):
    """With filters that are their own mirror images the whole encoder is, but for where its cells lie."""
    torch.manual_seed(0)
    config = Config()
    encoder = Encoder(config.encoders[modality]).eval()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_((module.weight + module.weight.flip(-1)) / 2)
    side, inputs = config.seen(modality), config.encoders[modality].inputs
    ground = torch.zeros(1, inputs, side, side)
    given = ground + torch.from_numpy(spot((0.45, 0.6), side))

    def answer(view: torch.Tensor) -> np.ndarray:
        return (encoder(view) - encoder(ground)).abs().sum(dim=1)[0].numpy()

    straight, mirrored = answer(given), answer(given.flip(-1))
    drawn = centroid(mirrored)[1] + centroid(straight)[1] - 1
    aligned = centroid(grid.align(mirrored, 16))[1] + centroid(grid.align(straight, 16))[1] - 1
    assert drawn > 0.5 / 16, "both lie too far to the right"
    assert abs(aligned) < 0.3 / 16


def test_a_map_that_is_finer_than_its_cells_is_moved_as_far():
    cells = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    fine = grid.align(cv2.resize(cells, (256, 256), interpolation=cv2.INTER_NEAREST), 16)
    assert fine.shape == (256, 256)
    np.testing.assert_allclose(fine[:240, :240], np.kron(cells, np.ones((16, 16)))[8:248, 8:248], atol=1e-5)
    assert grid.align(cells, 16).shape == (32, 32)
    np.testing.assert_allclose(grid.align(np.full((4, 4), 3.5), 4), 3.5)
