"""Calibration and abstention: known probabilities come back, and promises are kept."""

import dataclasses

import numpy as np
import pytest
from conftest import tiny_card, tiny_network

pytest.importorskip("tqdm", reason="training needs the train extra")

from cases import case

from qmmfl import conclusions, labels, pipeline, weights
from qmmfl.nets import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS, THREAT
from training import calibrate, conformal, export, targets


def test_calibration_recovers_known_probabilities(numbers):
    count = 6000
    logit = numbers.normal(-1, 1.5, count)
    truth = numbers.random(count) < 1 / (1 + np.exp(-logit))
    cases = [case(i, split="train" if i % 2 else "val", findings=("DR",) * int(t)) for i, t in enumerate(truth)]
    scores = np.zeros((count, len(targets.OUTPUTS)))
    scores[:, targets.OUTPUTS.index("DR")] = 3 * logit + 2  # overconfident and shifted
    fitted = calibrate.fit(targets.Targets(cases), scores)
    assert fitted["DR"].scale == pytest.approx(1 / 3, abs=0.03)
    assert fitted["DR"].offset == pytest.approx(-2 / 3, abs=0.12)
    assert fitted["DR"].fitted == "validation eyes"
    assert "CNV" not in fitted, "no positives: not assessed"


def test_threshold_of_the_best_f1():
    probability = np.array([0.9, 0.8, 0.6, 0.4, 0.2, 0.1])
    truth = np.array([1, 1, 1, 0, 0, 0], bool)
    assert calibrate.best_threshold(truth, probability) == pytest.approx(0.5)


def test_threshold_of_the_best_expected_f1_is_half_of_that_f1(numbers):
    probability = numbers.beta(0.4, 1.2, 4000)
    expected = [
        2 * probability[probability >= at].sum() / ((probability >= at).sum() + probability.sum())
        for at in np.linspace(0.01, 0.99, 99)
    ]
    threshold = calibrate.expected_threshold(probability)
    assert threshold == pytest.approx(max(expected) / 2, abs=0.01)  # Lipton et al. 2014, theorem 1
    assert threshold == pytest.approx(np.linspace(0.01, 0.99, 99)[np.argmax(expected)], abs=0.02)


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
    bands = calibrate.bands(every, logits, fitted, tiny_card().grade)["DR"]
    at = bands[conformal.ALPHAS.index(conformal.ALPHA)]
    assert at == pytest.approx([made.undecided_low, made.undecided_high])
    monkeypatch.setattr(calibrate, "LEAST_CHECKED", 100)
    _, _, fitted = fitted_eyes(numbers, 90)
    assert fitted["DR"].fitted.startswith("cross-fitted over 5 folds")
    assert "90 with the finding" in fitted["DR"].fitted
    assert fitted["DR"].undecided(0.5) is None


@pytest.mark.parametrize("least", [5, 100])
def test_a_rare_finding_is_not_called_where_nine_of_ten_calls_would_be_wrong(numbers, monkeypatch, least):
    monkeypatch.setattr(calibrate, "LEAST_CHECKED", least)
    every, logits, fitted = fitted_eyes(numbers, 36)
    logits[:, OUTPUTS.index("DR")] = numbers.normal(0, 1, len(logits))  # tells nothing: all are as likely as it is rare
    assert calibrate.expected_threshold(np.full(100, 0.02)) < calibrate.LEAST_CALLED
    assert calibrate.fit(every, logits)["DR"].threshold == calibrate.LEAST_CALLED
    assert fitted["DR"].threshold >= calibrate.LEAST_CALLED


def test_a_finding_of_one_camera_and_its_absence_in_another_is_marked(numbers):
    """Five positives are enough, but not where nobody saw the finding in the set that nearly all others are of."""
    count = 400
    ill = np.arange(count) % 20 == 0
    table = [
        case(i, split="val" if i % 2 else "train", findings=("CRVO",) * int(t))
        for i, t in enumerate(ill | (np.arange(count) % 20 == 1))
    ]
    scores = numbers.normal(0, 1, (count, len(OUTPUTS)))
    assert not calibrate.fit(targets.Targets(table), scores)["CRVO"].few_eyes
    foreign = [
        dataclasses.replace(each, folder="stare") if each.findings[calibrate.CODES.index("CRVO")] else each
        for each in table
    ]
    assert calibrate.fit(targets.Targets(foreign), scores)["CRVO"].few_eyes


def test_cross_fitted_threshold_is_the_mean_over_folds_of_patients():
    truth, probability = np.array([1, 0, 1, 0], bool), np.array([0.9, 0.3, 0.5, 0.1])
    groups = np.array(["p0", "p0", "p1", "p1"])  # of two folds
    each = (0.6, 0.3, 0.4, 0.4, 0.4)  # without the first patient, without the second, with both
    assert calibrate.best_threshold(truth, probability) == pytest.approx(0.4)
    assert calibrate.cross_fitted_threshold(truth, probability, groups) == pytest.approx(np.mean(each))


@pytest.mark.parametrize(("off", "refused"), [(0.05, False), (0.5, True), (-0.5, True)])
def test_nothing_is_exported_whose_scores_in_use_are_not_those_that_were_calibrated(off, refused, eye_file):
    reader = pipeline.Pipeline(tiny_network(), tiny_card(), "test")
    shares = reader(eye_file, override=True).contributions
    cached = np.zeros(len(OUTPUTS))
    for name, each in shares.items():
        cached[OUTPUTS.index(name)] = sum(each.values())
    cached[OUTPUTS.index(GRADE)] += off
    if not refused:
        return export.check_in_use(reader, [str(eye_file)], cached[None])
    with pytest.raises(RuntimeError, match="GRADE"):
        export.check_in_use(reader, [str(eye_file)], cached[None])


def test_a_step_too_low_weighs_one_and_a_half_times_as_much_as_one_too_high(numbers):
    score = numbers.normal(0, 2, 6000)
    above = 1 / (1 + np.exp(np.array([0.5, 1.0, 4.0, 5.0]) - score[:, None]))
    truth = (above > numbers.random((6000, 1))).sum(axis=1)

    def cost(threshold):
        off = (above >= threshold).sum(axis=1) - truth
        return np.where(off < 0, -1.5 * off, off).mean()

    assert cost(calibrate.CALLED) == min(cost(each) for each in (0.2, 0.3, calibrate.CALLED, 0.5, 0.6))


def test_nine_of_ten_healthy_eyes_exceed_no_limit_of_any_lesion(numbers):
    counts = numbers.poisson((1, 5, 20, 0.2), (200, 4))
    limits = calibrate.most_together(counts)
    assert (counts <= limits).all(axis=1).mean() >= 0.9
    alone = np.quantile(counts, 0.9, axis=0)
    assert (counts <= alone).all(axis=1).mean() < 0.85
    assert (limits >= alone).all()
    assert (limits <= np.quantile(counts, 0.99, axis=0)).all(), "no further than needed"


def test_eyes_chosen_by_their_grade_move_no_cut(numbers):
    score = numbers.normal(0, 2, 400)
    grade = (score[:, None] + numbers.logistic(size=(400, 1)) > [-0.5, 0.5, 2, 3]).sum(axis=1)
    whole = [case(i, "idrid", "val", grade=int(g)) for i, g in enumerate(grade)]
    severe = [case(i, "aptos_severe", "val", grade=3) for i in range(200)]
    logits = np.zeros((600, len(OUTPUTS)))
    logits[:, OUTPUTS.index(GRADE)] = np.concatenate([score, np.full(200, 6.0)])
    others = [dataclasses.replace(each, folder="rahim") for each in severe]
    alone = calibrate.fit_grade(targets.Targets(whole), logits[:400])
    assert calibrate.fit_grade(targets.Targets([*whole, *severe]), logits) == alone
    assert calibrate.fit_grade(targets.Targets([*whole, *others]), logits) != alone


def test_calls_of_the_grade_are_left_undecided_where_both_answers_are_plausible(numbers):
    """Nine of ten eyes beyond a step lie above its lower limit, nine of ten of the others below its upper one."""
    score = numbers.normal(0, 2, 1200)
    grade = (score[:, None] + numbers.logistic(size=(1200, 1)) > [-0.5, 0.5, 2, 3]).sum(axis=1)
    cases = [case(i, "rahim", "val", grade=int(g)) for i, g in enumerate(grade)]
    logits = np.zeros((1200, len(OUTPUTS)))
    logits[:, OUTPUTS.index(GRADE)] = logits[:, OUTPUTS.index(THREAT)] = score
    every = targets.Targets(cases)
    found = calibrate.fit_grade(every, logits)
    bands = calibrate.bands(every, logits, {}, found)
    each = np.array([conclusions.call_grade(found, eye)[0] for eye in logits])
    fitted = found.more_than_mild_undecided, found.vision_threatening_undecided
    for (name, least), (low, high) in zip(labels.GRADED.items(), fitted, strict=True):
        reached, probability = grade >= least, each[:, least:].sum(axis=1)
        assert low < found.threshold <= high
        assert (probability[reached] >= low).mean() == pytest.approx(0.9, abs=0.01)
        assert (probability[~reached] <= high).mean() >= 0.9
        assert bands[name][conformal.ALPHAS.index(conformal.ALPHA)] == [low, high]
    flattering = [dataclasses.replace(each, folder="idrid", grade=4) for each in cases[:300]]
    more = targets.Targets([*cases, *flattering])
    assert calibrate.bands(more, np.concatenate([logits, logits[:300]]), {}, found) == bands
    few = np.r_[np.flatnonzero(grade < 3), np.flatnonzero(grade >= 3)[:8]]
    rare = calibrate.fit_grade(every.at(few), logits[few])
    assert rare.vision_threatening_undecided is None, "eight eyes promise nothing at one in ten"
    assert rare.more_than_mild_undecided is not None


def test_retinopathy_of_an_unknown_grade_moves_the_first_cut_alone(numbers):
    score = numbers.normal(0, 2, 600)
    beyond = (score[:, None] + numbers.logistic(size=(600, 1)) > [-0.5, 0.5, 2, 3]).sum(axis=1)
    grade = np.where(np.arange(600) < 400, beyond, np.where(beyond > 0, -1, 0))
    cases = [case(i, "stare", "val", {"DR": int(beyond[i] > 0)}, grade=int(grade[i])) for i in range(600)]
    logits = np.zeros((600, len(OUTPUTS)))
    logits[:, OUTPUTS.index(GRADE)] = logits[:, OUTPUTS.index(THREAT)] = score
    found = calibrate.fit_grade(targets.Targets(cases), logits)
    unknown = [dataclasses.replace(each, findings=(-1,) * len(each.findings)) for each in cases]
    one_sided = calibrate.fit_grade(targets.Targets(unknown), logits)
    assert found.cuts[0] == pytest.approx(-0.5, abs=0.3)
    assert one_sided.cuts[0] > found.cuts[0] + 0.1, "healthy eyes alone would say that there is less of it"
    assert found.threat_cuts == one_sided.threat_cuts


def test_oedema_is_not_calibrated_on_eyes_that_flatter(numbers):
    def eyes(folder, certainty):
        score = numbers.normal(0, 2, 300)
        ill = certainty * score + numbers.logistic(size=300) > 0
        return [case(i, folder, "val", oedema=int(each)) for i, each in enumerate(ill)], score

    (rahim, plain), (idrid, sure) = eyes("rahim", 0.7), eyes("idrid", 4)
    learnt = [case(i, "rahim", "train", oedema=i % 2) for i in range(40)]
    logits = np.zeros((640, len(OUTPUTS)))
    logits[:, OUTPUTS.index(OEDEMA)] = [*plain, *sure, *[0] * 40]
    every = targets.Targets([*rahim, *idrid, *learnt])
    alone, few = targets.Targets([*rahim, *learnt]), np.delete(logits, range(300, 600), 0)
    found = calibrate.fit(every, logits)
    assert found[OEDEMA] == calibrate.fit(alone, few)[OEDEMA]
    grade = tiny_card().grade
    assert calibrate.bands(every, logits, found, grade) == calibrate.bands(alone, few, found, grade)


def test_the_two_scores_of_the_grade_are_calibrated_apart(numbers):
    """Drawn as the model has it: how severe is asked of eyes with more than mild retinopathy alone."""
    score, threat = numbers.normal(0, 2, (2, 20_000))
    low = (1.5 * score[:, None] + numbers.logistic(size=(20_000, 1)) > [-0.5, 1]).sum(axis=1)
    high = (0.5 * threat[:, None] + numbers.logistic(size=(20_000, 1)) > [0, 2]).sum(axis=1)
    grade = np.where(low == 2, 2 + high, low)
    logits = np.zeros((20_000, len(OUTPUTS)))
    logits[:, OUTPUTS.index(GRADE)], logits[:, OUTPUTS.index(THREAT)] = score, threat
    found = calibrate.fit_grade(
        targets.Targets([case(i, "idrid", "val", grade=int(g)) for i, g in enumerate(grade)]), logits
    )
    assert (found.scale, *found.cuts) == pytest.approx((1.5, -0.5, 1), abs=0.1)
    assert (found.threat_scale, *found.threat_cuts) == pytest.approx((0.5, 0, 2), abs=0.1)


@pytest.mark.parametrize("gate", [FUNDUS, GRADABLE])
def test_a_gate_refuses_few_good_photographs_and_nothing_that_is_likely_good(numbers, gate):
    def threshold(apart):
        good = np.arange(800) < 600
        logits = np.zeros((800, len(OUTPUTS)))
        logits[:, OUTPUTS.index(gate)] = numbers.normal(np.where(good, apart, -apart), 1)
        name = {FUNDUS: "fundus", GRADABLE: "gradable"}[gate]
        cases = [case(i, split="val" if i % 2 else "train", **{name: int(t)}) for i, t in enumerate(good)]
        made = calibrate.fit(targets.Targets(cases), logits)[gate]
        rate = 1 / (1 + np.exp(-(made.scale * logits[good, OUTPUTS.index(gate)] + made.offset)))
        assert (rate[1::2] < made.threshold).mean() <= calibrate.REFUSED
        return made.threshold

    far = threshold(apart=4)
    assert far == calibrate.SURE[gate], "where good and bad lie far apart a threshold far up costs nothing"
    assert threshold(apart=1) < 0.3, "where they cannot be told apart good ones come first"


def test_the_limit_for_vessels_is_half_of_what_readable_eyes_have():
    cases_ = [case(folder="rahim", gradable=1)] * 1000 + [case(folder="odir5k", gradable=1)] * 50
    shares = np.concatenate([np.linspace(0.02, 0.1, 1000), np.zeros(50)])
    shares[:4] = 0  # a very myopic eye here and there must not open the gate for everything
    assert calibrate.least_vessels(targets.Targets(cases_), shares) == pytest.approx(0.01, abs=3e-4)


def test_one_readable_photograph_in_twenty_is_in_doubt():
    cases_ = [case(n, split="val", gradable=1, fundus=1) for n in range(100)]
    cases_ += [
        case(100 + n, split=split, gradable=gradable) for n, (split, gradable) in enumerate([("train", 1), ("val", 0)])
    ]
    logits = np.zeros((102, len(OUTPUTS)))
    logits[:, OUTPUTS.index(GRADABLE)] = [*range(100), -1000, -1000]
    plain = weights.Calibration(0.1, -2.0, 0.2, weights.VALIDATION)
    limit = calibrate.doubtful_below(targets.Targets(cases_), logits, plain)
    assert limit is None, "where they would be refused there is no room for doubt"
    limit = calibrate.doubtful_below(targets.Targets(cases_), logits, dataclasses.replace(plain, threshold=0.1))
    below = 1 / (1 + np.exp(2 - 0.1 * np.arange(100))) < limit
    assert below.sum() == 5
