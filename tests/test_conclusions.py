"""From scores and planes to what a report says, with numbers worked out by hand."""

import math

import numpy as np
import pytest
from conftest import tiny_card, tiny_network

from qmmfl import conclusions, fundus, labels, measures, pipeline, weights
from qmmfl.nets import FUNDUS, GRADABLE, GRADE, OUTPUTS, THREAT

SIZE = 256
FRAME = fundus.Frame(40, -7, 3 * SIZE, 3 * SIZE, 1024, 900, 760, fundus.Field(423.5, 376.5, 384.0, True))
CUTS = (0.0, math.log(6))  # with a score of ln 4: odds of 4 and 2/3
THREAT_CUTS = (math.log(3), math.log(9))  # with a score of ln 3: odds of 1 and 1/3


def graded(score, threat):
    logits = np.zeros(len(OUTPUTS))
    logits[[OUTPUTS.index(GRADE), OUTPUTS.index(THREAT)]] = score, threat
    return logits


@pytest.mark.parametrize(
    ("gate", "reason", "is_fundus"), [(FUNDUS, conclusions._NOT_FUNDUS, False), (GRADABLE, conclusions._POOR, True)]
)
def test_a_gate_that_refuses_says_why_and_nothing_is_predicted(eye, gate, reason, is_fundus):
    refusing = {**tiny_card().calibrations, gate: weights.Calibration(0.0, -3.0, 0.5, weights.VALIDATION)}
    report = pipeline.Pipeline(tiny_network(), tiny_card(calibrations=refusing), "test", "cpu")(eye.photograph)
    assert report.quality.reasons == (reason,)
    assert report.quality.gradable is False
    assert report.fundus.is_fundus is is_fundus
    assert {f.code for f in report.findings if f.assessed} == {"DR", "NORMAL", "ODC", "DN"}
    for each in report.findings:
        assert (each.probability, each.suspected, each.undecided) == (None, None, None)
        assert each.reason == (conclusions.UNGRADABLE if each.assessed else labels.NOT_ASSESSED)
    assert (report.dr.probabilities, report.dr.grade) == (None, None)
    assert (report.dr.more_than_mild, report.dr.vision_threatening) == (None, None)
    assert (report.dme.probability, report.dme.suspected, report.dme.undecided) == (None, None, None)
    assert (report.disc_cup.vcdr, report.disc_cup.disc_diameter_px, report.disc_cup.cup_diameter_px) == (None,) * 3
    assert {(each.count, each.area_fraction) for each in report.lesions.values()} == {(None, None)}
    assert {each.reason for each in (report.dr, report.dme, report.disc_cup)} == {conclusions.UNGRADABLE}
    assert (report.maps, report.contributions, report.features) == ({}, {}, None)


def ellipse(width: int, height: int) -> np.ndarray:
    """This many columns and rows of the square, both even."""
    ys, xs = np.mgrid[:SIZE, :SIZE] - np.array([120.5, 60.5])[:, None, None]
    return ((xs / (width / 2)) ** 2 + (ys / (height / 2)) ** 2 <= 1).astype(np.float32)


def measured(disc: np.ndarray, cup: np.ndarray):
    return conclusions.find_disc_cup(tiny_card(), {"disc_cup": np.stack([disc, cup])}, FRAME, None)


def test_the_ratio_is_that_of_the_heights_and_the_diameters_are_of_the_photograph():
    found = measured(ellipse(44, 50), ellipse(30, 20))
    assert found.vcdr == pytest.approx(20 / 50)
    assert found.vcdr_error == 0.1
    assert found.disc_diameter_px == pytest.approx(3 * 50), "the square shows each 3 px of the photograph as one"
    assert found.cup_diameter_px == pytest.approx(3 * 20)
    assert found.reason is None


def test_without_a_cup_the_disc_is_measured_and_without_a_disc_nothing():
    disc, nothing = ellipse(44, 50), np.zeros((SIZE, SIZE), np.float32)
    found = measured(disc, nothing)
    assert (found.vcdr, found.vcdr_error, found.cup_diameter_px) == (None, None, None)
    assert found.disc_diameter_px == pytest.approx(3 * 50)
    assert found.reason == "withheld: no cup was found in the optic disc"
    assert measured(disc, ellipse(4, 4)).reason == found.reason, "a speck is no cup"
    assert measured(disc, ellipse(8, 8)).vcdr == pytest.approx(8 / 50)
    found = measured(nothing, ellipse(30, 20))
    assert (found.vcdr, found.vcdr_error, found.disc_diameter_px, found.cup_diameter_px) == (None,) * 4
    assert found.reason == "withheld: no optic disc was found"


def test_every_kind_of_lesion_is_counted_on_its_own_plane_from_its_own_threshold():
    squares = np.zeros((4, 128, 128), np.float32)
    counts, limits = {"MA": 1, "HE": 2, "EX": 3, "SE": 4}, {"MA": 0.8, "HE": 0.6, "EX": 0.4, "SE": 0.2}
    for square, (code, count) in zip(squares, counts.items(), strict=True):
        for number in range(count):
            square[60:63, 30 + 10 * number : 33 + 10 * number] = limits[code] + 0.1
        square[80:83, 30:33] = limits[code] - 0.1  # not likely enough to be one
    card = tiny_card(lesion_thresholds=limits, lesions_healthy={"HE": 1, "EX": 5})
    found = conclusions.find_lesions(card, {"lesions": squares}, None)
    assert {code: each.count for code, each in found.items()} == counts
    assert {code: each.threshold for code, each in found.items()} == limits
    assert {code: each.beyond for code, each in found.items()} == {"MA": None, "HE": True, "EX": False, "SE": None}
    field = measures.lesion_field(128).sum()
    assert found["SE"].area_fraction == pytest.approx(4 * 9 / field)


@pytest.mark.parametrize(
    ("threshold", "grade"),
    [(0.9, 0), (0.5, 1), (0.3, 2), (0.15, 3), (0.05, 4)],
)
def test_the_grade_follows_its_threshold_and_its_probabilities_the_cuts(threshold, grade):
    card = tiny_card(grade=weights.GradeCalibration(2.0, CUTS, 1.0, THREAT_CUTS, threshold))
    each, called = conclusions.call_grade(card.grade, graded(math.log(2), math.log(3)))
    # P(grade > 0..3) is .8, .4, .4 times a half and .4 times a quarter
    assert each == pytest.approx([0.2, 0.4, 0.2, 0.1, 0.1])
    assert each.sum() == pytest.approx(1)
    assert called == grade


@pytest.mark.parametrize(("score", "threat", "grade"), [(-1e6, -1e6, 0), (-1e6, 1e6, 0), (1e6, -1e6, 2), (1e6, 1e6, 4)])
def test_scores_beyond_all_measure_are_one_grade_and_how_severe_counts_from_moderate_on(score, threat, grade):
    each, called = conclusions.call_grade(tiny_card().grade, graded(score, threat))
    assert each == pytest.approx(np.eye(5)[grade])
    assert called == grade


def test_a_probability_is_the_logistic_of_the_scaled_and_shifted_score():
    card = tiny_card(calibrations={"DR": weights.Calibration(2.0, -math.log(12), 0.5, weights.VALIDATION)})
    assert conclusions.calibrate(card, "DR", math.log(2)) == pytest.approx(0.25)  # odds 2 * 2 / 12
    assert conclusions.calibrate(card, "DR", -math.log(2)) == pytest.approx(1 / 49)
    assert conclusions.calibrate(card, "DR", 1e6) == pytest.approx(1)
    assert conclusions.calibrate(card, "DR", -1e6) == pytest.approx(0)
    with pytest.raises(KeyError):
        conclusions.calibrate(card, "DN", 0.0)
