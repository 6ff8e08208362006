"""The figures of merit against known answers: by hand, against scikit-learn, intervals over patients, ODIR's score."""

import numpy as np
import pytest

pytest.importorskip("tqdm", reason="training needs the train extra")

from cases import CODES

from training import data, metrics, odir


def test_auc_and_average_precision_by_hand():
    truth, score = np.array([1, 0, 1, 0, 0], bool), np.array([0.9, 0.8, 0.7, 0.3, 0.3])
    assert metrics.auc(truth, score) == pytest.approx(5 / 6)
    assert metrics.auc(truth, np.zeros(5)) == 0.5
    assert np.isnan(metrics.auc(np.ones(3, bool), np.arange(3)))
    assert metrics.average_precision(truth, score) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(truth, np.zeros(5)) == pytest.approx(0.4)


def test_metrics_agree_with_scikit_learn(numbers):
    sk = pytest.importorskip("sklearn.metrics")
    truth, score = numbers.random(500) < 0.2, np.round(numbers.random(500), 2)
    assert metrics.auc(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
    assert metrics.average_precision(truth, score) == pytest.approx(sk.average_precision_score(truth, score))
    coarse = np.floor(score * 64) / 64
    parts = [metrics.score_counts(truth[half], score[half], 64) for half in (slice(0, 200), slice(200, None))]
    assert metrics.counted_precision(sum(parts)) == pytest.approx(sk.average_precision_score(truth, coarse))
    a, b = numbers.integers(0, 5, 200), numbers.integers(0, 5, 200)
    assert metrics.quadratic_kappa(a, b) == pytest.approx(sk.cohen_kappa_score(a, b, weights="quadratic"))


def test_dice_kappa_and_calibration_error():
    a = np.zeros((4, 4), bool)
    a[:2] = True
    assert np.isnan(metrics.quadratic_kappa(np.zeros(5, int), np.arange(5))), "all of one grade: nothing to agree on"
    assert metrics.dice(a, a) == 1
    assert metrics.dice(a, ~a) == 0
    assert metrics.quadratic_kappa(np.arange(5), np.arange(5)) == 1
    probability = np.full(1000, 0.3)
    truth = np.arange(1000) % 10 < 3
    assert metrics.calibration_error(truth, probability) < 0.02
    assert metrics.calibration_error(truth, probability + 0.4) == pytest.approx(0.4, abs=0.02)


def test_few_eyes_show_a_calibration_error_where_there_is_none(numbers):
    probability = numbers.random(90)
    shown = [metrics.calibration_error(numbers.random(90) < probability, probability) for _ in range(200)]
    assert metrics.least_calibration_error(probability) == pytest.approx(np.mean(shown), rel=0.1)
    assert metrics.least_calibration_error(np.repeat(probability, 100)) < 0.3 * np.mean(shown)


def test_interval_covers_and_is_seeded(numbers):
    values = numbers.normal(5, 1, 200)
    low, high = metrics.interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 / np.sqrt(200), rel=0.25)
    assert metrics.interval(values) == (low, high)


def test_tile_sums_give_the_correlation_of_the_whole():
    generator = np.random.default_rng(0)
    a = generator.random((37, 41)).astype(np.float32)
    b = (a + generator.random(a.shape)).astype(np.float32)
    care = generator.random(a.shape) > 0.3
    sums = metrics.tile_sums(a, b, care).sum(axis=0)
    assert metrics.summed_correlation(sums) == pytest.approx(metrics.correlation(a[care], b[care]), abs=1e-6)
    assert metrics.ms_ssim(a, a, np.ones_like(care)) == pytest.approx(1, abs=1e-5)
    assert metrics.ms_ssim(a, b, np.ones_like(care)) < 0.9


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
