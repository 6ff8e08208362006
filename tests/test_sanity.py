"""The tests that maps have to pass, tested themselves on maps whose verdict is known."""

import numpy as np
import pytest
import torch

from qmmfl import explain
from qmmfl.explain import sanity
from qmmfl.nets import OUTPUTS


@pytest.fixture(scope="module")
def reading(tiny_pipeline, eye):
    return explain.read(tiny_pipeline, eye.photograph)


def test_rank_correlation(numbers):
    a = numbers.normal(size=(6, 6))
    assert sanity.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert sanity.rank_correlation(a, -(a**3)) == pytest.approx(-1)
    assert np.isnan(sanity.rank_correlation(a, np.ones((6, 6))))
    stats = pytest.importorskip("scipy.stats")
    b = np.round(a + numbers.normal(size=(6, 6)), 0)
    assert sanity.rank_correlation(a, b) == pytest.approx(stats.spearmanr(a.ravel(), b.ravel())[0])


def test_hits_and_precision():
    target = np.zeros((4, 4), bool)
    target[0, :2] = True
    sure, wrong, spread = (np.zeros((4, 4), np.float32) for _ in range(3))
    sure[0, 0], wrong[3, 3], spread[:] = 2, 2, 1
    wrong[0, 0] = -5  # what lowers the score is no evidence for it
    assert (sanity.hits(sure, target), sanity.precision(sure, target)) == (1, 1)
    assert (sanity.hits(wrong, target), sanity.precision(wrong, target)) == (0, 0)
    assert (sanity.hits(spread, target), sanity.precision(spread, target)) == (0.125, 0.125)
    assert np.isnan(sanity.precision(np.zeros((4, 4)), target))


def test_cells():
    square = np.arange(64, dtype=np.float32).reshape(8, 8)
    assert sanity.to_cells(square, 4)[0, 0] == pytest.approx(4.5)
    assert sanity.to_cells(square, 4, peaks=True)[0, 0] == 9
    assert sanity.to_cells(square, 3).shape == (3, 3)


def test_random_maps_keep_the_values(numbers):
    field = np.ones((4, 4), bool)
    field[0, 0] = False
    cells = numbers.normal(size=(4, 4)) * field
    drawn = sanity.shuffled(cells, field, 1)
    assert drawn[0, 0] == 0
    np.testing.assert_allclose(np.sort(drawn[field]), np.sort(cells[field]))
    np.testing.assert_array_equal(drawn, sanity.shuffled(cells, field, 1))


def test_randomising_touches_one_part_of_a_copy(tiny_pipeline):
    network = tiny_pipeline.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for part in sanity.PARTS:
        changed = sanity.randomise(network, part).state_dict()
        moved = {name for name, value in changed.items() if not torch.equal(value, before[name])}
        assert moved
        assert all(name.startswith(f"{part}.") for name in moved)
        name = next(iter(moved))
        assert torch.equal(changed[name].flatten().sort()[0], before[name].flatten().sort()[0]), "permuted, not drawn"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_exact_maps_follow_the_model(tiny_pipeline, reading):
    found = sanity.cascade(tiny_pipeline.network, reading, "DR", "exact", "fused")
    assert list(found) == list(sanity.PARTS)
    assert all(abs(value) < 0.95 for value in found.values())
    blind = sanity.cascade(tiny_pipeline.network, reading, "DR", "eigencam", "colour")
    assert blind["heads"] == pytest.approx(1), "Eigen-CAM never looks at the heads, and the test must say so"


def test_deletion_begins_with_the_score_and_depends_on_the_map(tiny_pipeline, reading):
    network, column = tiny_pipeline.network, OUTPUTS.index("DR")
    square = explain.compute(network, reading, "DR", "occlusion", "fused")
    curve = sanity.delete(network, reading, "DR", square, (0.1, 0.3, 1.0))
    assert curve.shape == (4,)
    assert curve[0] == pytest.approx(float(network.heads(reading.fused)[0, column]), abs=1e-4)
    other = sanity.delete(network, reading, "DR", -square, (0.1, 0.3, 1.0))
    assert curve[-1] == pytest.approx(other[-1], abs=1e-5), "with everything erased the order does not matter"
    assert curve[1] != other[1]


def test_road_changes_its_sign_with_the_map(tiny_pipeline, reading):
    square = explain.compute(tiny_pipeline.network, reading, "DR", "exact", "fused")
    there, back = (sanity.road(tiny_pipeline.network, reading, "DR", each, (80,)) for each in (square, -square))
    assert there == pytest.approx(-back, abs=0.02 + 0.2 * abs(there))
    assert there == sanity.road(tiny_pipeline.network, reading, "DR", square, (80,))
