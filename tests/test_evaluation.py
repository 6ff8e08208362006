"""The evaluation against known answers: intervals over patients, ODIR's score, abstention, comparisons, bad tables."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_card, tiny_config, tiny_network

pytest.importorskip("tqdm", reason="training needs the train extra")

from qmmfl import labels, pipeline, prose, weights
from qmmfl.nets.network import OUTPUTS
from training import (
    ablate,
    calibrate,
    card_tables,
    comparison,
    conformal,
    data,
    encoders,
    fusion,
    loop,
    metrics,
    model_card,
    odir,
    pretrain,
    reading_figures,
    recipe,
    rivals,
    scores,
    strangers,
    tables,
    targets,
)

CODES = tuple(labels.FINDINGS)


def case(number=0, folder="odir5k", split="test", findings=(), group="", **values):
    known = tuple(int(code in findings) for code in CODES)
    return data.Case(folder, f"{folder}/{number}", split, group or f"g{number}", known, **values)


def scored(probability: np.ndarray, **changes) -> scores.Scores:
    """Scores in which every finding has the same probability (N,), called above one half."""
    every = np.repeat(probability[:, None], len(CODES), axis=1)
    steps = np.stack([1 - probability, *[probability / 4] * 4], axis=1)
    values = dict(
        raw=np.sqrt(every),
        probability=every,
        called=every > 0.5,
        undecided=np.zeros(every.shape),
        oedema=probability,
        steps=steps,
        grade=(probability > 0.5) * 2,
        gradable=np.ones(len(every), bool),
        fundus=np.ones(len(every), bool),
    )
    return scores.Scores(**{**values, **changes})


# Intervals


def test_both_eyes_of_a_patient_are_drawn_together(numbers):
    patients = numbers.normal(0, 1, 100)
    values, groups = np.repeat(patients, 2), np.repeat([f"p{i}" for i in range(100)], 2)
    for rows in metrics.group_draws(groups, 20):
        counts = np.bincount(rows, minlength=200)
        assert (counts[::2] == counts[1::2]).all()
        assert len(rows) == 200
    ((value, low, high),) = metrics.bounds(lambda rows: [values[rows].mean()], groups, 500)
    assert value == pytest.approx(patients.mean())
    assert high - low == pytest.approx(4 / np.sqrt(100), rel=0.25), "as wide as 100 patients, not 200 eyes, allow"
    assert metrics.bounds(lambda rows: [values[rows].mean()], groups, 500)[0] == [value, low, high]


def test_a_figure_that_is_not_defined_keeps_its_gap():
    value, low, high = metrics.bounds(lambda rows: [float("nan")], ["a", "b"], 5)[0]
    assert np.isnan([value, low, high]).all()


def test_f1_by_hand():
    truth, called = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert metrics.f1(truth, called) == 0.5
    assert np.isnan(metrics.f1(truth[2:], called[3:].repeat(2)))


# ODIR's score


def test_odir_score_by_hand():
    """16 cells: 1 hit, 1 miss, 1 false alarm; chance agreement (4 + 196) / 256."""
    truth, probability = np.zeros((2, 8), int), np.full((2, 8), 0.1)
    truth[0, 0] = truth[1, 1] = 1
    probability[0, 0], probability[1, 1], probability[1, 2] = 0.9, 0.4, 0.6
    found = odir.score(truth, probability)
    chance = 200 / 256
    expected = {"kappa": (0.875 - chance) / (1 - chance), "f1": 0.875, "auc": 27 / 28}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["score"] == pytest.approx(sum(expected.values()) / 3)


def test_odir_classes_of_our_findings():
    probability = np.full((1, len(CODES)), np.nan)
    for code, p in {"OTHER": 0.2, "ERM": 0.5, "DN": 0.5, "MH": 0.3}.items():
        probability[0, CODES.index(code)] = p
    made = dict(zip(data.ODIR_CLASSES, odir.classes(probability)[0], strict=True))
    assert made == pytest.approx({**dict.fromkeys("NDGAHM", 0.0), "C": 0.3, "O": 0.75})
    assert odir.called_classes(probability > 0.4)[0].tolist() == [False] * 7 + [True]
    assert set(sum(odir.CLASSES.values(), ())) == set(CODES) - {"CNV", "ASR"}


# Abstention


def test_band_by_hand_and_around_the_threshold():
    truth = np.repeat([True, False], 9)
    probability = np.concatenate([np.linspace(0.2, 0.9, 9), np.linspace(0.05, 0.6, 9)])
    assert conformal.promised(truth)
    assert conformal.band(truth, probability, 0.4) == pytest.approx((0.2, 0.6))
    assert conformal.band(truth, probability, 0.1) == pytest.approx((0.1, 0.6)), "sets only grow"
    assert not conformal.promised(truth[1:])
    assert conformal.band(truth[1:], probability[1:], 0.4) == pytest.approx((0.0, 0.6)), "no promise: side open"


def test_each_class_keeps_its_promise(numbers):
    """Eyes like the validation eyes lose the true answer at most alpha of the time, also when it is rare."""

    def eyes(count):
        truth = numbers.random(count) < 0.15
        return truth, 1 / (1 + np.exp(-numbers.normal(np.where(truth, 0.5, -1.5), 1.2)))

    wrong = []
    for _ in range(300):
        truth, probability = eyes(150)
        low, high = conformal.band(truth, probability, 0.3, 0.2)
        truth, probability = eyes(400)
        wrong.append([(probability[truth] < low).mean(), (probability[~truth] > high).mean()])
    assert (np.mean(wrong, axis=0) <= 0.205).all()
    assert (np.mean(wrong, axis=0) > 0.1).all(), "and it is not kept by never deciding"


def test_coverage_curve_by_hand():
    truth, probability = np.array([1, 1, 0, 0], bool), np.array([0.9, 0.1, 0.5, 0.2])
    bands = np.array([[(0.3, 0.6)] * 4, [(0.0, 1.0)] * 4])
    closed, open_ = conformal.curve(truth, probability, bands)
    assert closed == pytest.approx({"decided": 0.75, "error": 1 / 3, "wrong_present": 0.5, "wrong_absent": 0.0})
    assert open_["decided"] == 0
    assert np.isnan(open_["error"])


def fitted_eyes(numbers, positives: int):
    truth = np.arange(600) < positives
    logit = numbers.normal(np.where(truth, 1.0, -1.0), 1.0)
    cases = [case(i, split="val" if i % 3 else "train", findings=("DR",) * int(t)) for i, t in enumerate(truth)]
    logits = np.zeros((600, len(OUTPUTS)))
    logits[:, OUTPUTS.index("DR")] = logit
    every = targets.Targets(cases)
    return every, logits, calibrate.fit(every, logits)


def test_calibration_holds_a_band_and_thresholds_are_cross_fitted_where_few(numbers, monkeypatch):
    every, logits, fitted = fitted_eyes(numbers, 90)
    made = fitted["DR"]
    assert made.undecided_low <= made.threshold <= made.undecided_high
    assert made.undecided(made.threshold)
    assert not made.undecided(0.999)
    bands = calibrate.bands(every, logits, fitted)["DR"]
    at = bands[conformal.ALPHAS.index(conformal.ALPHA)]
    assert at == pytest.approx([made.undecided_low, made.undecided_high])
    monkeypatch.setattr(calibrate, "LEAST_CHECKED", 100)
    _, _, fitted = fitted_eyes(numbers, 90)
    assert fitted["DR"].fitted.startswith("cross-fitted over 5 folds")
    assert "90 with the finding" in fitted["DR"].fitted
    assert fitted["DR"].undecided(0.5) is None


def test_cross_fitted_threshold_is_the_mean_over_folds_of_patients():
    truth, probability = np.array([1, 0] * 20, bool), np.array([0.8, 0.2] * 20)
    groups = np.array([f"p{i // 2}" for i in range(40)])
    assert calibrate.cross_fitted_threshold(truth, probability, groups) == pytest.approx(0.5)


def test_an_undecided_finding_is_said_so(eye):
    unsure = weights.Calibration(1.1, 0.2, 0.4, "validation eyes", 0.0, 1.0)
    card = tiny_card()
    card = dataclasses.replace(card, calibrations={**card.calibrations, "DR": unsure})
    report = pipeline.Pipeline(tiny_network(), card, "test", "cpu")(eye.photograph, override=True)
    assert report.finding("DR").undecided is True
    assert report.finding("DN").undecided is None, "the card promises nothing"
    assert prose.call(report.finding("DR")).endswith(", undecided")
    assert "undecided" not in prose.call(report.finding("DN"))
    assert {f["code"]: f["undecided"] for f in report.to_dict()["findings"]}["DR"] is True


def test_cards_of_before_still_load():
    values = json.loads(json.dumps(tiny_card().to_dict()))
    for each in values["calibrations"].values():
        del each["undecided_low"], each["undecided_high"]
    assert weights.Card.from_dict(values).calibrations["DR"].undecided(0.4) is None
    weights.read_card(ROOT / "weights")


# Figures from scores


def test_figures_of_a_data_set():
    """40 patients, two eyes each; the score of DR is right but for one patient."""
    cases, probability = [], []
    for i in range(80):
        ill = i % 4 < 2
        answers = (0, 1, 0, 0, 0, 0, 0, 0) if ill else (1, 0, 0, 0, 0, 0, 0, 0)
        found = ("DR",) if ill else ("NORMAL",)
        person = {"age": 45 + 20 * (i // 40), "female": i // 2 % 2}
        cases.append(case(i, findings=found, group=f"p{i // 2}", grade=2 * ill, odir=answers, **person))
        probability.append(0.9 if ill and i >= 2 else 0.1)
    promises = {"alphas": list(conformal.ALPHAS), "bands": {"DR": [[0.2, 0.8]] * len(conformal.ALPHAS)}}
    made = reading_figures.of_folder(cases, scored(np.array(probability)), promises, 50)
    assert (made["eyes"], made["patients"], made["coverage"]) == (80, 40, 1.0)
    dr = made["findings"]["DR"]
    assert dr["positives"] == 40
    assert dr["sensitivity"][0] == pytest.approx(38 / 40)
    assert dr["specificity"] == [1.0, 1.0, 1.0]
    assert dr["f1"][0] == pytest.approx(2 * 38 / 78)
    assert dr["auc"][0] == pytest.approx(38 / 40 + 2 / 40 * 0.5)
    assert dr["auc"][1] < dr["auc"][0] <= dr["auc"][2]
    assert dr["ece"] == pytest.approx(0.09, abs=0.06)
    assert made["macro_findings"] == ["DR", "NORMAL"]
    assert made["grade"]["accuracy"][0] == pytest.approx(78 / 80)
    assert made["grade"]["referable_auc"][0] == pytest.approx(dr["auc"][0])
    assert set(made["by"]) == {"age 0 to 49", "age 60 to 69", "women", "men"}
    kept = made["abstention"]["findings"]["DR"]
    assert (kept["kept_present"], kept["kept_absent"]) == (38 / 40, 1.0)
    assert made["abstention"]["curve"][0]["decided"] == 1.0
    card = tiny_card(metrics={"classification": {"odir5k": made}, "intervals": "patients"})
    page = model_card.page(card)
    assert "| DR | 40 | 0.975" in page
    assert "## ODIR by age and sex" in page
    assert "over patients" in page
    assert card_tables.sections({}) == []
    assert "## Abstention" not in model_card.page(tiny_card())


def test_gates_count_strangers_and_good_photographs():
    cases = [case(0, "drimdb", gradable=1), case(1, "drimdb", fundus=0), case(2, "ffa_phase", fundus=0), case(3)]
    made = scored(np.full(4, 0.5), gradable=np.array([False, False, True, True]), fundus=np.array([True] * 4))
    noise = scored(np.full(2, 0.5), gradable=np.zeros(2, bool), fundus=np.zeros(2, bool))
    found = reading_figures.gates(cases, made, {"noise": noise})
    assert found["strangers"]["noise"] == {"pictures": 2, "refused": 2, "not_a_fundus": 2}
    assert found["strangers"]["angiogram"]["refused"] == 0
    assert found["strangers_refused"] == pytest.approx(3 / 4)
    assert found["good"]["drimdb"] == {"photographs": 1, "refused": 1, "not_a_fundus": 0, "labelled_good": True}
    assert found["good"]["odir5k"]["labelled_good"] is False
    assert found["good_refused"] == 0.5
    assert "| noise | 2 | 2 | 2 |" in card_tables.gates({"gates": found})


class Row:
    """Stands in for a process pool."""

    @staticmethod
    def map(make, pictures, chunksize):
        return map(make, pictures)


def test_scores_are_cached_per_weights_and_go_on_where_they_stopped(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "RUNS", tmp_path)
    asked = []

    def make(picture):
        asked.append(picture)
        return {"score": picture * 2}

    assert [r["score"] for r in scores.cached(Row, tiny_folder, ["a", "b"], [1, 2], make)] == [2, 4]
    (path,) = (tmp_path / "evaluation").iterdir()
    path.write_text(path.read_text() + '{"key": "c", "sco')  # stopped while writing
    assert [r["score"] for r in scores.cached(Row, tiny_folder, ["c", "a"], [3, 1], make)] == [6, 2]
    assert asked == [1, 2, 3]
    assert len(path.read_text().splitlines()) == 3


def test_scores_of_a_report_add_up(tiny_folder, eye):
    scores.start(tiny_folder)
    made = scores.Scores.of([json.loads(json.dumps(scores.read(eye.photograph)))])
    report = scores.reader()(eye.photograph, override=True)
    index = CODES.index("DR")
    logit = np.log(made.raw[0, index] / (1 - made.raw[0, index]))
    assert logit == pytest.approx(sum(report.contributions["DR"].values()), abs=1e-5)
    assert made.probability[0, index] == pytest.approx(report.finding("DR").probability)
    assert np.isnan(made.probability[0, CODES.index("CSR")])
    assert made.steps.sum() == pytest.approx(1)


def test_strangers_are_pictures_and_repeat(eye_file):
    kinds = list(strangers.plan([str(eye_file)], 1))
    assert len(kinds) == len(strangers.MADE) + len(strangers.ALTERED)
    for what in kinds:
        made = strangers.picture(what)
        assert made.dtype == np.uint8
        assert made.ndim == 3
        assert made.shape[2] == 3
    assert (strangers.picture(kinds[0]) == strangers.picture(kinds[0])).all()


# Comparisons


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
    assert "| Noise |" in card_tables.ablations(results)


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
    for make in (fusion.FusionHeads, rivals.ColourHeads, rivals.PaperFusion):
        module = make(config).eval()
        assert module(features).shape == (2, len(OUTPUTS))
        assert module.heads.cuts.shape == (len(labels.GRADES) - 1,)
    colour = rivals.ColourHeads(config)
    assert torch.equal(colour(features), colour(torch.cat([features[:, :1], torch.rand(2, 6, 16, 4, 4)], dim=1)))


def test_resnet18_is_the_plain_one():
    pytest.importorskip("torchvision")
    logits, extras = rivals.ResNet18().eval()(torch.rand(1, 3, 64, 64))
    assert (logits.shape, extras.shape) == ((1, len(OUTPUTS)), (1, 2))
    with pytest.raises(ValueError, match="none or imagenet"):
        rivals.ResNet18("clip")


# Pretraining


def test_an_encoder_starts_from_what_was_hidden(tmp_path):
    torch.manual_seed(0)
    config = tiny_config()
    module = pretrain.Masked(config, "colour")
    views = torch.rand(2, 3, 64, 64)
    kept = pretrain.hide(64, 2, 0.5, torch.Generator().manual_seed(1))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert module(views, kept).shape == module.target(views).shape == (2, 3, 16, 16)
    pretrain.wrong(module, views, kept).backward()
    assert pretrain.wrong(module, views, torch.ones_like(kept)) == 0, "only what is hidden counts"
    torch.save({"averaged": module.state_dict()}, tmp_path / "best.pt")
    learner = encoders.Classifier(config, "colour")
    heads = learner.heads.weight.clone()
    loop.load_start(learner, tmp_path / "best.pt", "")
    assert torch.equal(learner.encoder[0][0].weight, module.encoder[0][0].weight)
    assert torch.equal(learner.heads.weight, heads)
    state = {k: v for k, v in module.state_dict().items() if "encoder.0" not in k}
    torch.save({"averaged": state}, tmp_path / "best.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        loop.load_start(learner, tmp_path / "best.pt", "")


# Bad tables


def rows(**changes):
    good = {"image": "a.webp", "split": "train", "group": "1", "m_DR": "1", "m_MH": "-1", "dr_grade": "2"}
    return [good, {**good, "image": "b.webp", **changes}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"m_FOO": "1"}, None),
        ({"m_DR": "2"}, r"m_DR .*line 3 \(b.webp: 2\)"),
        ({"m_MH": ""}, r"m_MH .*line 3"),
        ({"dr_grade": "5"}, r"dr_grade .*-1, 0, 1, 2, 3, 4: line 3 \(b.webp: 5\)"),
        ({"split": "tset"}, r"split .*line 3 \(b.webp: tset\)"),
        ({"image": "a.webp"}, r"twice: a.webp \(lines 2, 3\)"),
    ],
)
def test_bad_tables_are_refused_with_their_rows(changes, said):
    tables.check("t.csv", rows())
    if said is None:
        wrong = [{**row, **changes} for row in rows()]
        said = "t.csv has columns for codes outside the vocabulary: m_FOO"
    else:
        wrong = rows(**changes)
    with pytest.raises(tables.TableError, match=said):
        tables.check("t.csv", wrong)


def test_groups_that_cross_splits_are_refused():
    eyes = [("a", "g1", "train"), ("b", "g1", "train"), ("c", "g2", "test")]
    tables.check_splits(eyes)
    with pytest.raises(tables.TableError, match=r"group g2 \(c in test, d in train\)"):
        tables.check_splits([*eyes, ("d", "g2", "train")])
    with pytest.raises(tables.TableError, match="twice: a"):
        tables.check_splits([*eyes, ("a", "g1", "train")])


def test_switches_are_options():
    settings, stage = recipe.parse(ablate.AblationRecipe, ["figures", "--final"], stage=("figures",))
    assert (settings.final, stage) == (True, "figures")
    assert recipe.parse(ablate.AblationRecipe, ["--no-final"])[0].final is False
