"""Rivals and ablations: alike in what they read, paired by patient, and shuffled or dropped one modality at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_config

pytest.importorskip("tqdm", reason="training needs the train extra")

from cases import case

from qmmfl import labels, weights
from qmmfl.nets import GRADE, OUTPUTS, Network
from qmmfl.nets.network import Config
from qmmfl.nets.synthesis import SynthesisConfig, SynthesisNet
from training import (
    ablate,
    assemble,
    card_tables,
    comparison,
    encoders,
    feature_cache,
    fusion,
    late_fusion,
    loop,
    rivals,
    soup,
    targets,
    unimodal,
)


def test_differences_are_paired_by_patient(numbers):
    cases = [case(i, findings=("DR",) * (i % 3 == 0), group=f"p{i // 2}", grade=i % 5) for i in range(120)]
    cases += [case(i, "idrid", group=f"q{i}", grade=i % 5) for i in range(50)]
    every = targets.Targets(cases)
    good, noise = np.zeros((170, len(OUTPUTS))), numbers.normal(size=(170, len(OUTPUTS)))
    good[:, OUTPUTS.index("DR")] = every.column("DR") * 2 + numbers.normal(size=170)
    found = comparison.compare(every, {"fusion": good, "twin": good.copy(), "noise": noise}, ["DR"], 100)
    assert found["twin"]["fusion_minus"]["macro_auc"] == [0, 0, 0]
    value, low, high = found["noise"]["fusion_minus"]["macro_auc"]
    assert 0 < low < value < high
    assert value == pytest.approx(found["fusion"]["macro_auc"][0] - found["noise"]["macro_auc"][0])
    assert "referable_rahim" not in found["fusion"], "no eyes, no figure"
    assert comparison.counted(every, 10) == ["DR"]
    titles = {"fusion": "Fusion", "twin": "Twin", "noise": "Noise"}
    results = {"models": found, "titles": titles, "eyes": 170, "split": "test", "findings": ["DR"]}
    results["learnt"] = {"fusions": 5508, "photographs": 10307}
    page = card_tables.ablations(results)
    assert "| Noise |" in page
    assert "from the same frozen features of 5508 training photographs, nets on the photograph alone" in page
    beside = card_tables.ablations({**results, "nets": ["noise"]})
    assert "in a budget of their own from 10307" in beside
    outlived = card_tables.ablations({**results, "weights": "abcdef1234567890"})
    assert "features by weights abcdef12 of 5508" in outlived
    for alone, said in (("twin", ", not clear of zero: it may be worth nothing."), ("noise", "), clear of zero.")):
        named = {"only_colour": found[alone], **found}
        page = card_tables.ablations({**results, "models": named, "titles": {**titles, "only_colour": "Colour"}})
        assert said in page, "the card says plainly what the fusion is worth over the photograph alone"
    named = {"only_colour": found["twin"], **found}
    titles |= {"only_colour": "Colour"}
    exported = {"noise": found["noise"]["fusion_minus"]["macro_auc"]}
    page = card_tables.ablations({**results, "models": named, "titles": titles, "exported_minus": exported})
    assert "the same fusion, in one budget, it gains 0.000, not clear" in page
    assert f"exported gains over “Noise” {value:.3f} (" in page
    other = comparison.compare(every, {"twin": good, "noise": noise}, ["DR"], 100, base="twin")
    assert other["noise"]["fusion_minus"] == found["noise"]["fusion_minus"]
    assert "fusion_minus" not in other["twin"]


def test_shuffling_stays_in_the_set_and_moves_every_eye():
    every = targets.Targets([case(i, "odir5k" if i < 30 else "idrid") for i in range(50)])
    order = comparison.shuffled(every, 0)
    assert (order != np.arange(50)).all()
    assert (every.folder[order] == every.folder).all()
    assert sorted(order) == list(range(50))


class Means(torch.nn.Module):
    """(B, M, D, h, w) -> (B, M)."""

    def forward(self, features):
        return features.mean(dim=(2, 3, 4))


def test_shuffling_a_modality_changes_only_that_modality(numbers):
    features = numbers.random((6, len(labels.MODALITIES), 2, 3, 3)).astype(np.float16)
    chosen, order = np.array([0, 2, 3, 5]), np.array([5, 0, 2, 3])
    straight = ablate.logits_of(Means(), features, chosen)
    swapped = ablate.logits_of(Means(), features, chosen, swapped={"msi": order})
    msi = [m.name for m in labels.MODALITIES].index("msi")
    others = [i for i in range(len(labels.MODALITIES)) if i != msi]
    np.testing.assert_array_equal(swapped[:, others], straight[:, others])
    np.testing.assert_allclose(swapped[:, msi], straight[[3, 0, 1, 2], msi])
    silent = ablate.logits_of(Means(), features, chosen, ("colour",))
    assert (silent[:, 1:] == 0).all()
    np.testing.assert_array_equal(silent[:, 0], straight[:, 0])


def test_every_model_reads_the_same_features():
    config, features = tiny_config(), torch.rand(2, len(labels.MODALITIES), 16, 4, 4)
    assert len(ablate.models()) == 3 + 2 * len(labels.MODALITIES)
    for make in (fusion.FusionHeads, ablate._colour_heads, rivals.PaperFusion):
        module = make(config).eval()
        assert module(features).shape == (2, len(OUTPUTS))
        assert module.heads.cuts.shape == (len(labels.GRADES) - 1,)
    for place, name in enumerate(labels.BY_NAME):
        others = torch.rand_like(features)
        others[:, place] = features[:, place]
        own = unimodal.UnimodalHeads(config, name)
        assert torch.equal(own(features), own(others))


def test_pooled_features_keep_their_means(numbers):
    features = numbers.normal(size=(3, 2, 4, 16, 16)).astype(np.float16)
    pooled = feature_cache.pooled(features, 2)
    assert pooled.shape == (3, 2, 4, 8, 8)
    cell = features[2, 1, 3, 4:6, 10:12].astype(np.float32).mean()
    assert pooled[2, 1, 3, 2, 5] == pytest.approx(cell, abs=1e-3)
    np.testing.assert_array_equal(feature_cache.pooled(features, 1), features)


def test_a_soup_is_the_mean_of_its_parts():
    config = tiny_config()
    parts = [fusion.FusionHeads(config).state_dict() for _ in range(3)]
    whole = soup.mean(parts)
    for key, value in whole.items():
        torch.testing.assert_close(value, (parts[0][key] + parts[1][key] + parts[2][key]) / 3)
    fusion.FusionHeads(config).load_state_dict(whole)
    with pytest.raises(ValueError, match="same shape"):
        soup.mean([parts[0], {**parts[1], "more": torch.zeros(1)}])
    with pytest.raises(ValueError, match="same shape"):
        soup.mean([])


def test_a_fusion_can_trust_what_was_synthesized_less():
    torch.manual_seed(0)
    module = fusion.FusionHeads(tiny_config()).eval()
    features = torch.rand(2, len(labels.MODALITIES), tiny_config().features, 4, 4)
    fused = module.fusion(features)
    parts = torch.einsum("kmd,bmdhw->bkm", module.heads.weight, fused) / 16
    before = module(features)
    module.load_state_dict(soup.trusting(module.state_dict(), 0.25))
    others = parts.sum(-1) - parts[..., [m.name for m in labels.MODALITIES].index("colour")]
    assert torch.allclose(module(features), before - 0.75 * others, atol=1e-5)
    assert others.abs().max() > 0.01


def test_a_soup_of_synthesis_nets_takes_the_place_of_the_run_s_net(tmp_path, monkeypatch, capsys):
    config = SynthesisConfig(64, "contrast", 2, (4, 8), 2)
    for module in (loop, soup):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    monkeypatch.setattr(soup, "Config", lambda: SimpleNamespace(synthesis={"vessels": config}))
    judged = SimpleNamespace(validate=lambda net: {"score": float(net.stem[1][0].weight.sum())})
    monkeypatch.setattr(soup.tasks, "TASKS", {"vessels": lambda *_: judged})
    states = {name: SynthesisNet(config).state_dict() for name in ("a", "b")}
    for name, state in states.items():
        (tmp_path / "run" / name).mkdir(parents=True)
        torch.save({"averaged": state}, tmp_path / "run" / name / "best.pt")
    settings = soup.SoupRecipe(run="run", parts="a,b")
    found = soup.cook("synthesis_vessels", settings)
    whole = loop.best_state(settings, "synthesis_vessels")
    for key, value in whole.items():
        torch.testing.assert_close(value, (states["a"][key].float() + states["b"][key].float()) / 2)
    assert found["score"] == pytest.approx(float(whole["stem.1.0.weight"].sum()), abs=1e-5)
    assert [line.split(" {")[0] for line in capsys.readouterr().out.splitlines()] == [
        "a",
        "b",
        "synthesis_vessels, the mean",
    ]


def test_a_soup_of_encoders_is_judged_on_the_planes_that_are_there(tmp_path, monkeypatch):
    for module in (loop, soup):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    state = encoders.Classifier(Config(), "lesions").state_dict()
    for name, factor in (("a", 1.0), ("b", 3.0)):
        (tmp_path / "run" / name).mkdir(parents=True)
        both = {key: value * factor if value.dtype.is_floating_point else value for key, value in state.items()}
        torch.save({"averaged": both}, tmp_path / "run" / name / "best.pt")
    splits = ("train", "val", "val", "test")
    views = np.zeros((4, 8, 8, 4), np.uint8)
    monkeypatch.setattr(soup.data, "load", lambda: (splits, None))
    monkeypatch.setattr(soup, "Targets", lambda cases: SimpleNamespace(split=np.array(cases)))
    monkeypatch.setattr(soup.planes, "load", lambda name, run: views if name == "lesions" else None)
    monkeypatch.setattr(soup.planes, "done", lambda run, name: np.array([True, False, True, True]))
    monkeypatch.setattr(soup.encoders, "logits_of", lambda net, seen, rows, side: (seen is views, rows.tolist(), side))
    monkeypatch.setattr(soup, "figures", lambda every, rows, said: {"score": said == (True, [2], Config().view)})
    settings = soup.SoupRecipe(run="run", parts="a,b")
    assert soup.cook("encoder_lesions", settings)["score"]
    whole = loop.best_state(settings, "encoder_lesions")
    torch.testing.assert_close(whole["heads.weight"], 2 * state["heads.weight"])


def test_features_made_anew_are_those_of_a_fresh_cache(tmp_path, monkeypatch, numbers):
    monkeypatch.setattr(feature_cache, "RUNS", tmp_path)
    torch.manual_seed(0)
    network = Network(tiny_config()).eval().requires_grad_(False)
    config = network.config
    side = {m.name: config.seen(m.name) for m in labels.MODALITIES}
    stores = {
        m.name: numbers.integers(0, 256, (5, side[m.name], side[m.name], len(m.planes) or 3), np.uint8)
        for m in labels.MODALITIES
    }
    done = np.array([True, True, False, True, True])
    monkeypatch.setattr(feature_cache.planes, "load", lambda name, run: stores[name])
    monkeypatch.setattr(feature_cache.planes, "done", lambda run: done)
    monkeypatch.setattr(feature_cache.data, "load", lambda: (None, stores["colour"]))
    monkeypatch.setattr(feature_cache.data, "VIEW", config.view)
    (tmp_path / "first").mkdir()
    (tmp_path / "other").mkdir()
    feature_cache.load(loop.Recipe(), network)
    torch.nn.init.normal_(network.encoders["colour"][1].weight)
    done[2] = True
    stores["msi"][0] = 0  # of a case that is known, and of a modality that is not made anew: nobody looks
    feature_cache.set_aside(tmp_path / "first")
    with pytest.raises(RuntimeError, match="--anew"):
        feature_cache.load(loop.Recipe(), network)
    rows, features = feature_cache.load(loop.Recipe(), network, ["colour"])
    _, fresh = feature_cache.load(loop.Recipe(run="other"), network)
    assert rows.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(features[1:], fresh[1:])
    msi = [m.name for m in labels.MODALITIES].index("msi")
    assert (features[0, msi] != fresh[0, msi]).any()
    assert np.isfinite(features).all()
    for number, modality in enumerate(labels.MODALITIES):  # whichever runtime made them
        wanted = feature_cache.encoded(network, modality, feature_cache.tensor(stores[modality.name])).numpy()
        np.testing.assert_allclose(fresh[:, number], wanted, rtol=2e-3, atol=2e-3)


def test_resnet18_is_the_plain_one():
    pytest.importorskip("torchvision")
    logits, extras = rivals.ResNet18().eval()(torch.rand(1, 3, 64, 64))
    assert (logits.shape, extras.shape) == ((1, len(OUTPUTS)), (1, 2))
    with pytest.raises(ValueError, match="none or imagenet"):
        rivals.ResNet18("clip")


def test_a_fusion_goes_on_from_exported_weights():
    network, _ = weights.load(ROOT / "weights")
    module = fusion.FusionHeads(network.config)
    loop.load_start(module, ROOT / "weights", "")
    for name, tensor in module.state_dict().items():
        exported = network.state_dict()[name]
        if name == "heads.weight":
            exported = exported[..., : network.config.features]  # what reads encoders on their own is not learnt here
        torch.testing.assert_close(tensor, exported, check_dtype=False)


def _answers(module, features, name):
    """Logits of a fusion, or of one modality's heads, and the logits of each step of the grade."""
    seen = features[:, list(labels.BY_NAME).index(name), None] if name else features
    logits = module.heads(module.fusion(features) if not name else seen)
    return logits, logits[:, [OUTPUTS.index(GRADE)]] - module.heads.cuts


@torch.no_grad()
def test_a_late_fusion_is_the_weighted_mean_of_what_each_says():
    torch.manual_seed(0)
    config = tiny_config()
    parts = {
        "": fusion.FusionHeads(config).eval(),
        "colour": encoders.Classifier(config, "colour").eval(),
        "lesions": encoders.Classifier(config, "lesions").eval(),
    }
    for part in parts.values():
        torch.nn.init.normal_(part.heads.bias)
        torch.nn.init.normal_(part.heads.cut_steps)
    states = {name: part.state_dict() for name, part in parts.items()}
    whole = late_fusion.unite(states.pop(""), states, (2, 2, 1))
    network = Network(config).eval()
    wanted = {name for name in network.state_dict() if name.startswith(("fusion.", "heads."))}
    assert wanted == {name for name in whole if name.startswith(("fusion.", "heads."))}
    network.load_state_dict(whole, strict=False)
    features = torch.rand(2, len(labels.MODALITIES), config.features, 4, 4)
    made = network.heads(network.fuse(features))
    steps = made[:, [OUTPUTS.index(GRADE)]] - network.heads.cuts
    said = [_answers(part, features, name) for name, part in parts.items()]
    for own, each in zip((made, steps), zip(*said, strict=True), strict=True):
        torch.testing.assert_close(own, 0.4 * each[0] + 0.4 * each[1] + 0.2 * each[2], rtol=1e-4, atol=1e-4)
    joint = ablate._joint(network)(features) - 0.4 * said[0][0]
    torch.testing.assert_close(joint[0], joint[1], rtol=1e-4, atol=1e-4, msg="but for the others' biases the fusion's")
    shares = network.heads.weight[:, :, config.features :].abs().sum((0, 2))
    heard = [name for name, share in zip(labels.BY_NAME, shares, strict=True) if share > 0]
    assert heard == ["colour", "lesions"]
    with pytest.raises(ValueError, match="one share"):
        late_fusion.unite(parts[""].state_dict(), states, (2, 2))


@torch.no_grad()
def test_a_fusion_to_which_nothing_was_added_is_exported_as_it_is():
    module, network = fusion.FusionHeads(tiny_config()).eval(), Network(tiny_config()).eval()
    state = assemble.widened(module.state_dict())
    network.load_state_dict(state, strict=False)
    features = torch.rand(2, len(labels.MODALITIES), tiny_config().features, 4, 4)
    torch.testing.assert_close(network.heads(network.fuse(features)), module(features))
    assert assemble.widened(state)["heads.weight"].shape == network.heads.weight.shape


def test_the_model_card_tells_what_the_maps_are_worth():
    figures = {"eyes": 3, "precision": [0.5, 0.4, 0.6], "pointing": [0.7, 0.6, 0.8]}
    figures["chance"] = [0.1, 0.0, 0.2]
    test = {"dataset": "marked eyes", "code": "DR", "marks": "marks", "eyes": 3, "maps": {"exact:fused": figures}}
    trust = {"dataset": "marked eyes", "code": "DR", "eyes": 9, "maps": {"exact:fused": {"deletion": [4.0, 3.0, 5.0]}}}
    said = card_tables.sections({"explanations": {"agreement": [test], "trust": trust}})
    assert said[0] == "## Can the maps be trusted"
    row = "| exact:fused | DR, marked eyes (3) | 0.500 (0.400 to 0.600) | 0.700 (0.600 to 0.800) "
    assert row + "| 0.100 (0.000 to 0.200) |" in said[1]
    assert "| exact:fused |  |  |  | 4.000 (3.000 to 5.000) |  |  |  |" in said[1], "what was not measured is empty"
    few = card_tables.sections({"explanations": {"agreement": [test], "trust": {**trust, "eyes": 4}}})
    assert "| exact:fused |  |  |  | 4.000 |  |  |  |" in few[1], "four eyes give no interval"
