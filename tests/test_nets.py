import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_network

from qmmfl import labels
from qmmfl.nets import OUTPUTS, Config, Network
from qmmfl.nets.blocks import eight_bit, local_contrast, pooled, smoothed
from qmmfl.nets.fusion import AdditiveHeads


@pytest.fixture(scope="module")
def square(eye):
    import cv2

    from qmmfl import fundus

    picture = fundus.canonical(eye.photograph, fundus.Prep(128))[0]
    assert cv2.__version__ < "5"
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def test_shapes_and_ranges(square):
    output = tiny_network()(square.repeat(2, 1, 1, 1))
    for modality in labels.SYNTHESES:
        plane = output.planes[modality.name]
        assert plane.shape[:2] == (2, len(modality.planes))
        assert plane.min() >= 0
        assert plane.max() <= 1
        assert not plane[0, :, 0, 0].any(), "outside the field of view"
    assert output.fused.shape == (2, 7, 32, 4, 4)
    assert output.logits.shape == (2, len(OUTPUTS))


def test_maps_add_up_to_the_logits(square):
    network = tiny_network()
    output = network(square)
    maps = network.heads.maps(output.fused)
    total = network.heads.bias + maps.mean(dim=(-2, -1)).sum(dim=2)
    torch.testing.assert_close(total, output.logits, rtol=1e-5, atol=1e-5)


def test_heads_read_what_each_encoder_says_beside_what_was_fused(square):
    network = tiny_network()
    output = network(square)
    features = network.encode(square, output.planes)
    fused, own = output.fused.split(network.config.features, dim=2)
    torch.testing.assert_close(fused, network.fusion(features))
    torch.testing.assert_close(own, features)


def test_a_modality_without_weight_has_no_share(square):
    network = tiny_network()
    network.heads.weight[:, 3] = 0
    assert not network.heads.maps(network(square).fused)[:, :, 3].any()


def silent_parameters(seed, square):
    torch.manual_seed(seed)
    network = Network(tiny_config()).train()
    output = network(square.repeat(3, 1, 1, 1) * torch.tensor([1.0, 0.8, 0.6])[:, None, None, None])
    above = torch.sigmoid(output.logits[:, :1] - network.heads.cuts)
    (output.logits.square().mean() + above[:, 2].mean()).backward()
    return {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_every_parameter_learns(square):
    """The reference trains with its fusion left out of the optimiser; here a gradient reaches every tensor.

    Four hidden units of a tiny gate can all be dead by chance, so a tensor must learn in one of five networks.
    """
    assert set.intersection(*(silent_parameters(seed, square) for seed in range(5))) == set()


def test_each_plane_reaches_the_logits(square):
    network = tiny_network()
    prepared = network.prepare(square)
    planes = {m.name: network.synthesize(prepared, m.name) for m in labels.SYNTHESES}

    def logits(changed):
        return network.heads(network.fuse(network.encode(square, changed)))

    before = logits(planes)
    for name, plane in planes.items():
        assert (logits({**planes, name: 1 - plane}) - before).abs().max() > 1e-6, name


def test_batch_of_one_equals_batch_of_many(square):
    network = tiny_network()
    many = network(torch.cat([square, square.flip(-1), square * 0.5]))
    torch.testing.assert_close(network(square.flip(-1)).logits[0], many.logits[1], rtol=1e-3, atol=1e-4)


def test_cuts_of_the_grade_increase():
    heads = AdditiveHeads(3, 2, 4)
    torch.nn.init.normal_(heads.cut_steps, std=3)
    assert (heads.cuts.diff() > 0).all()


def test_local_contrast_does_not_see_exposure_or_colour(square):
    gain = torch.tensor([0.7, 1.0, 0.6])[None, :, None, None]
    a, b = local_contrast(square), local_contrast(square * gain)
    inside = (square.amax(1, keepdim=True) > 0.1).expand_as(square)
    correlation = np.corrcoef(a[inside].numpy(), b[inside].numpy())[0, 1]
    assert correlation > 0.97
    assert not a[(square.amax(1, keepdim=True) == 0).expand_as(square)].any()
    assert a.abs().max() <= 4


def test_smoothing_takes_the_checkerboard_away_and_leaves_the_rest():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    maps = torch.stack([board + 3, torch.full((8, 8), 5.0), torch.arange(8.0).expand(8, 8)])[None]
    inner = smoothed(maps)[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner[0], torch.full((6, 6), 3.0))
    torch.testing.assert_close(inner[1:], maps[0, 1:, 1:-1, 1:-1])


def test_encoders_see_what_the_cache_of_training_holds(square):
    """Scores are calibrated on views that were stored in 8 bits; a plane of .001 everywhere was nothing there."""
    network = tiny_network()
    planes = {m.name: torch.full((1, len(m.planes), 128, 128), 0.001) for m in labels.SYNTHESES}
    for name in labels.BY_NAME:
        seen = network.view(square, planes, name)
        levels = (seen[:, :3] if name == labels.COLOUR.name else seen).add(1) / 2 * 255
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
        assert name == labels.COLOUR.name or not levels.round().any()
    halves = torch.tensor([0.5, 1.5, 254.5, 0.49, 254.49]) / 255
    assert (eight_bit(halves) * 255).round().tolist() == [1, 2, 255, 0, 254]
    given = torch.tensor([0.3, 0.7], requires_grad=True)
    eight_bit(given).sum().backward()
    assert given.grad.tolist() == [1, 1]


def test_pooling_keeps_peaks():
    plane = torch.zeros(1, 1, 64, 64)
    plane[0, 0, 33, 17] = 1
    assert pooled(plane, 16, peaks=True).max() == 1
    assert pooled(plane, 16).max() == 1 / 16


def test_config_round_trip():
    import json

    for config in (Config(), tiny_config()):
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(TypeError):
        Config.from_dict({**Config().to_dict(), "colour": 1})
