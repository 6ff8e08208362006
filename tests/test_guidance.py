"""The fusion is told where scores should come from, and learns it."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import tiny_config

pytest.importorskip("tqdm", reason="training needs the train extra")

from qmmfl import labels
from qmmfl.nets import GRADE, THREAT
from training import data, fusion, guidance, recipe, targets, unimodal

PLACES = len(guidance.PLACES)


def cases(count, ill=True):
    findings = tuple(int(ill and code == "DR") for code in data.CODES)
    return [data.Case("idrid", "x", "train", str(n), findings, grade=3 * ill) for n in range(count)]


def test_only_what_raises_a_wanted_score_outside_its_place_costs():
    maps, where = torch.zeros(1, PLACES, 4, 4), torch.zeros(1, PLACES, 4, 4)
    where[:, :, 0, 0] = 1
    wanted = torch.zeros(1, PLACES, dtype=torch.bool)
    wanted[:, 0] = True
    maps[0, 0, 0, 0], maps[0, 0, 3, 3] = 6.0, -5.0  # what lowers the score may lie anywhere
    maps[0, 1, 3, 3] = 6.0  # not wanted
    assert float(guidance.loss(maps, where, wanted)) == pytest.approx(0, abs=0.02)
    maps[0, 0, 2, 2] = 6.0
    assert float(guidance.loss(maps, where, wanted)) == pytest.approx(-np.log(0.51), abs=1e-4)
    where[:, 0] = 0  # the plane shows no place: nothing can be asked
    assert float(guidance.loss(maps, where, wanted)) == 0
    assert float(guidance.loss(-maps.abs(), torch.ones_like(where), wanted)) == 0, "nothing raises the score"


def test_places_are_the_cells_that_see_what_the_planes_show(monkeypatch):
    lesions, disc = np.zeros((3, 256, 256, 4), np.uint8), np.zeros((3, 256, 256, 2), np.uint8)
    lesions[2, 5, 20, 3] = 255  # one pixel of one kind, nearest to the corner (0, 16) of the fine cell (0, 1)
    lesions[2, 200, 200] = 100  # doubtful
    disc[2, 120:152, 24:56, 0] = 255  # half a fine cell before the cell (4, 1)
    disc[2, 0:16, 0:16, 1] = 255  # a cup, which is not asked for
    monkeypatch.setattr(guidance.planes, "load", lambda name, run: {"lesions": lesions, "disc_cup": disc}[name])
    where = guidance.places("run", np.array([2, 0]), 8)
    assert where.shape == (2, PLACES, 8, 8)
    assert not where[1].any()
    for number, name in enumerate(guidance.PLACES):
        expected = np.zeros((8, 8))
        if name == "ODC":
            expected[4, 1] = 1
        else:
            expected[0, 0] = 0.25  # one of its four fine cells
        np.testing.assert_array_equal(where[0, number], expected, err_msg=name)
    assert guidance.places("run", np.array([2]), 16)[0, 0, 0, 1] == 1
    lesions[2, 5, 20, 3], lesions[2, 5, 24, 3] = 0, 255
    assert guidance.places("run", np.array([2]), 16)[0, 0, 0].nonzero()[0].tolist() == [2], "nearer to the next corner"


def test_only_eyes_known_to_have_it_are_guided():
    (severe,), (healthy,) = cases(1), cases(1, ill=False)
    moderate = dataclasses.replace(severe, grade=2)
    found = guidance.positive(targets.Targets([severe, moderate, healthy]))
    named = [[name for name, known in zip(guidance.PLACES, row, strict=True) if known] for row in found]
    assert named == [["DR", GRADE, THREAT], ["DR", GRADE], []]


MADE = {"fusion": fusion.FusionHeads, "one encoder": lambda config: unimodal.UnimodalHeads(config, "colour")}


@pytest.mark.parametrize("make", MADE.values(), ids=list(MADE))
def test_what_is_guided_gathers_its_score_where_it_should(make, tmp_path, monkeypatch, numbers):
    monkeypatch.setattr(fusion.loop, "RUNS", tmp_path)
    config = tiny_config()
    every = targets.Targets(cases(16))
    features = numbers.random((16, len(labels.MODALITIES), config.features, 4, 4)).astype(np.float16)
    features[:, 0, 0, 1, 2] += 2.0
    where = np.zeros((16, PLACES, 4, 4), np.float16)
    where[..., 1, 2] = 1
    guide = fusion.Guide(1.0, where, guidance.positive(every))
    monkeypatch.setattr(fusion.targets, "figures", lambda *_: {"score": 0.0})
    seen = {}
    for name, given in (("straight", None), ("guided", guide)):
        torch.manual_seed(0)
        module = make(config)
        settings = recipe.Recipe(run="r", steps=40, batch=8, validate=40, rate=0.01)
        every.split[:] = ["train"] * 14 + ["val"] * 2
        module = fusion.fit(name, module, settings, every, features, list(labels.BY_NAME), guide=given).eval()
        with torch.no_grad():
            logits, maps = module(torch.from_numpy(features).float(), guidance.ROWS)
            torch.testing.assert_close(logits, module(torch.from_numpy(features).float()))
        raised = maps[:, 0].clamp_min(0)
        seen[name] = float((raised[:, 1, 2] / raised.sum(dim=(1, 2)).clamp_min(1e-6)).mean())
        with torch.no_grad():
            bias = module.heads.bias[guidance.ROWS]
            torch.testing.assert_close(maps.mean(dim=(-2, -1)) + bias, logits[:, guidance.ROWS], rtol=1e-4, atol=1e-4)
    assert seen["guided"] > 0.3 > 2 * seen["straight"], seen
