import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT, tiny_card, tiny_network

from qmmfl import labels, weights
from qmmfl.nets import FUNDUS, GRADABLE


def test_round_trip(tiny_folder):
    network, card = weights.load(tiny_folder)
    expected, loaded = tiny_network().state_dict(), network.state_dict()
    assert set(loaded) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-4, check_dtype=False)
    assert card.to_dict() == {**tiny_card().to_dict(), "sha256": card.sha256}
    assert weights.Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def edit(folder, change):
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def test_the_digest_of_a_card_moves_with_every_call_and_with_no_figure(copy):
    before = weights.read_card(copy)
    assert weights.read_card(copy).digest == before.digest
    edit(copy, lambda card: card["metrics"].update(kappa=1) or card.update(version="7"))
    assert weights.read_card(copy).digest == before.digest
    edit(copy, lambda card: card["calibrations"]["DR"].update(threshold=0.123))
    assert weights.read_card(copy).digest != before.digest
    assert weights.verify(copy).sha256 == before.sha256


def test_one_flipped_bit_is_refused(copy):
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(weights.WeightsError, match="not the file its card describes; fetch the weights again"):
        weights.load(copy)


def test_truncated_tensors_with_a_matching_hash_are_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    edit(copy, lambda card: card.update(sha256=weights.digest(path)))
    with pytest.raises(weights.WeightsError, match="damaged"):
        weights.load(copy)


def test_another_vocabulary_is_refused(copy):
    edit(copy, lambda card: card["vocabulary"]["findings"].reverse())
    with pytest.raises(weights.WeightsError, match=r"\(0\) were trained for another list of findings .* than qmmfl \d"):
        weights.load(copy)


def test_another_architecture_is_refused(copy):
    edit(copy, lambda card: card["config"]["synthesis"]["msi"].update(widths=[4, 16]))
    with pytest.raises(weights.WeightsError, match="does not fit"):
        weights.load(copy)


@pytest.mark.parametrize("field", ["prep", "grade", "calibrations", "name"])
def test_a_missing_field_is_refused(copy, field):
    edit(copy, lambda card: card.pop(field))
    with pytest.raises(weights.WeightsError, match=field):
        weights.load(copy)


@pytest.mark.parametrize("text", ["3", "[]", '"card"', "null"])
def test_what_is_no_card_is_refused(copy, text):
    (copy / "card.json").write_text(text)
    with pytest.raises(weights.WeightsError, match=r"card\.json holds no card; fetch"):
        weights.load(copy)


@pytest.mark.parametrize("field", ["grade", "calibrations"])
def test_a_field_of_another_kind_is_refused(copy, field):
    edit(copy, lambda card: card.update({field: 3}))
    with pytest.raises(weights.WeightsError, match="misspells"):
        weights.load(copy)


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_a_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(weights.WeightsError, match=name):
        weights.load(copy)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that opens and cannot be read is of Linux")
def test_tensors_that_cannot_be_opened_are_named_with_a_cure(copy):
    (copy / weights.MODEL).unlink()
    (copy / weights.MODEL).symlink_to("/proc/self/mem")
    with pytest.raises(weights.WeightsError, match="cannot be opened .*; check who may read it"):
        weights.load(copy)


def test_nonsense_is_neither_folder_nor_repository(tmp_path):
    with pytest.raises(weights.WeightsError, match="neither a folder nor"):
        weights.find("no such place")


def test_a_mistyped_folder_is_never_sought_on_the_hub(tmp_path, monkeypatch):
    from qmmfl import hub

    asked = []
    monkeypatch.setattr(hub, "find", lambda repository, *_: asked.append(repository) or tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for source in ("runs/frist", "./wieghts", "../x/y", "~/weights", str(tmp_path / "gone"), Path("someone/eyes")):
        with pytest.raises(weights.WeightsError, match="there is no folder"):
            weights.find_or_stand_in(source)
    assert not asked
    weights.find("runs/frist@main")
    weights.find("someone/eyes")
    assert asked == ["runs/frist", "someone/eyes"]


@pytest.mark.parametrize("source", ["someone/eyes@../../x", "a/b/c", "someone/eyes@", "-/@"])
def test_odd_names_never_reach_the_cache_or_the_network(monkeypatch, source):
    from qmmfl import hub

    monkeypatch.setattr(hub, "find", lambda *_: pytest.fail("asked"))
    with pytest.raises(weights.WeightsError, match="neither a folder nor"):
        weights.find(source)


def test_embedded_weights_are_whole_and_honest():
    folder, name = weights.find(None)
    assert name == "embedded"
    network, card = weights.load(folder)
    assert folder == ROOT / "weights"
    assert sum(p.numel() for p in network.parameters()) < 10_000_000
    assert {GRADABLE, FUNDUS, "DR"} <= set(card.calibrations)
    few = [code for code in labels.FINDINGS if card.counts[code]["train"] < 10]
    assert few
    assert not set(few) & set(card.calibrations), "a finding that the data cannot teach is not assessed"
    assert {"synthesis", "classification"} <= set(card.metrics)
    assert card.metrics["classification"]["odir5k"]["eyes"] > 500
