"""What-if: the network's own answer to a change, in calibrated probabilities."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny_card, tiny_network

from qmmfl import explain, labels, pipeline, weights
from qmmfl.explain import whatif
from qmmfl.explain.agreement import KEY
from qmmfl.nets import FUNDUS, GRADABLE, GRADE, OEDEMA, THREAT
from qmmfl.prose import reasons
from qmmfl.prose.explanation import changed_call


@pytest.fixture(scope="module")
def reading(tiny_pipeline, eye):
    return explain.read(tiny_pipeline, eye.photograph)


def test_before_is_what_the_report_says(tiny_pipeline, reading):
    moves = explain.drop_modality(tiny_pipeline, reading, "colour").moves
    assert set(moves) == {"DR", "NORMAL", "ODC", "DN", OEDEMA, GRADE, THREAT}
    for code, move in moves.items():
        standing = explain.stand(reading.report, code)
        assert move.before == pytest.approx(standing.probability, abs=1e-5)
        assert move.threshold == standing.threshold
        assert (move.after == move.before) == (move.logit_after == move.logit_before)


def test_every_modality_matters_on_its_own(tiny_pipeline, reading):
    after = {name: explain.drop_modality(tiny_pipeline, reading, name).moves["DR"].after for name in labels.BY_NAME}
    assert len(set(after.values())) == len(labels.BY_NAME)
    ranked = explain.drop_modality(tiny_pipeline, reading, "colour").ranked
    sizes = [abs(move.after - move.before) for move in ranked]
    assert sizes == sorted(sizes, reverse=True)


def test_swapping_its_own_features_in_changes_nothing(tiny_pipeline, reading):
    own = reading.features[0].numpy()
    for move in explain.swap_modality(tiny_pipeline, reading, "vessels", own).moves.values():
        assert move.after == pytest.approx(move.before, abs=1e-6)
        assert not move.crosses


def test_the_mean_comes_from_the_card(reading, eye):
    features = {name: [0.1 * i] * 16 for i, name in enumerate(labels.BY_NAME)}
    card = tiny_card(metrics={KEY: {"reference": {"eyes": 3, "features": features}}})
    reader = pipeline.Pipeline(tiny_network(), card, "tiny", "cpu")
    given = np.array(list(features.values()), np.float32)
    stored = explain.swap_modality(reader, eye.photograph, "msi").moves["DR"].after
    assert stored == explain.swap_modality(reader, eye.photograph, "msi", given).moves["DR"].after


def test_the_grade_changes_where_another_is_called(reading, eye):
    grade = reading.report.dr.grade
    features = np.ones((len(labels.BY_NAME), 16), np.float32)
    calls = set()
    for sign in (-300, 300):
        pipe = pipeline.Pipeline(tiny_network(), tiny_card(), "tiny", "cpu")
        move = explain.swap_modality(pipe, eye.photograph, "colour", sign * features).moves[GRADE]
        assert move.grades[0] == grade
        assert move.crosses == (move.grades[1] != grade)
        assert changed_call(move) == (f"the grade changes from {grade} to {move.grades[1]}" if move.crosses else "")
        assert (move.grades[1] >= labels.MORE_THAN_MILD) == (move.after >= move.threshold)
        calls.add(move.grades[1])
    steady = dataclasses.replace(move, before=0.1, after=0.9, threshold=0.5, grades=(3, 3))
    assert not steady.crosses
    assert dataclasses.replace(steady, grades=(3, 2)).crosses, "severe or not, though more than mild in both"


@pytest.mark.parametrize(
    ("calls", "doubts", "said"),
    [
        ((True, True), (False, False), ""),
        ((True, True), (True, True), ""),
        ((True, True), (True, False), "is undecided no more"),
        ((False, False), (False, True), "is undecided now"),
        ((False, True), (False, True), "the call changes, is undecided now"),
        ((False, True), (True, True), "the call changes, undecided before and after"),
    ],
)
def test_what_becomes_undecided_is_told(reading, eye, calls, doubts, said):
    pipe = pipeline.Pipeline(tiny_network(), tiny_card(), "tiny", "cpu")
    move = explain.drop_modality(pipe, eye.photograph, "colour").moves["DR"]
    assert move.doubts == (False, False), "these weights promise nothing"
    assert changed_call(dataclasses.replace(move, calls=calls, doubts=doubts)) == said


def test_the_call_of_no_abnormality_changes_where_that_of_a_report_would(eye):
    def calibration(scale, offset):
        return weights.Calibration(scale, offset, 0.5, weights.VALIDATION)

    def moved(**calibrations):
        healthy = weights.GradeCalibration(1e-6, (5.0, 6.0), 1e-6, (5.0, 6.0))
        gates = {code: tiny_card().calibrations[code] for code in (GRADABLE, FUNDUS)}
        card = tiny_card(grade=healthy, calibrations={**gates, **calibrations})
        reader = pipeline.Pipeline(tiny_network(), card, "tiny", "cpu")
        return explain.drop_modality(reader, eye.photograph, "colour").moves

    sure = calibration(0, 3)
    first = moved(NORMAL=sure, DR=sure)
    none, ill = (calibration(1, -(first[c].logit_before + first[c].logit_after) / 2) for c in ("NORMAL", "DR"))
    assert moved(NORMAL=none)["NORMAL"].crosses
    assert not moved(NORMAL=none, DR=sure)["NORMAL"].crosses, "retinopathy is flagged before and after"
    move = moved(NORMAL=sure, DR=ill)["NORMAL"]
    assert (move.crosses, changed_call(move)) == (True, "the call changes"), "retinopathy is flagged in one of the two"
    assert move.before == move.after


def test_a_box_is_the_mask_it_draws(tiny_pipeline, reading, eye):
    mask = np.zeros(eye.photograph.shape[:2], bool)
    mask[150:210, 100:180] = True
    boxed, masked = (explain.hide_region(tiny_pipeline, reading, region) for region in ((100, 150, 80, 60), mask))
    assert boxed.moves == masked.moves
    assert masked.change.endswith("% of the field hidden")
    assert boxed.change == f"{masked.change} (box 80 x 60 px at 100, 150)"
    assert boxed.moves["DR"].logit_after != boxed.moves["DR"].logit_before


def test_the_share_hidden_is_of_the_field(tiny_pipeline, reading):
    field = reading.frame.field_mask()
    inside = field[:130, :130].sum() / field.sum()
    assert 0 < inside < 0.5 * 130**2 / field.sum(), "more than half of the box lies outside"
    hidden = explain.hide_region(tiny_pipeline, reading, (0, 0, 130, 130))
    assert f"with {100 * inside:.1f} % of the field hidden" in hidden.change


def test_all_of_a_field_that_the_camera_cut_cannot_be_hidden(tiny_pipeline, eye):
    cut = eye.photograph[80:-80]
    reading = explain.read(tiny_pipeline, cut)
    assert reading.frame.field_mask().sum() < 0.85 * np.pi * reading.frame.field.radius**2
    with pytest.raises(explain.ExplanationError, match="whole fundus"):
        explain.hide_region(tiny_pipeline, reading, (0, 0, cut.shape[1], cut.shape[0]))


def test_what_is_hidden_becomes_like_its_surround(reading, eye):
    mask = np.zeros(eye.photograph.shape[:2], bool)
    mask[200:240, 200:240] = True
    filled = whatif.fill(reading, mask)
    hidden = reading.frame.warp(mask.astype(np.float32)) > 0
    np.testing.assert_array_equal(filled[~hidden], reading.square[~hidden])
    rows, columns = (np.flatnonzero(hidden.any(axis=axis)) for axis in (1, 0))
    around = reading.square[rows[0] - 4 : rows[-1] + 5, columns[0] - 4 : columns[-1] + 5].reshape(-1, 3)
    inside = filled[hidden]
    assert (inside >= around.min(axis=0)).all(), "no black hole"
    assert (inside <= around.max(axis=0)).all()


@pytest.mark.parametrize(
    ("region", "error", "words"),
    [
        ((0, 0, 3, 3), explain.ExplanationError, "outside the field"),
        ((10, 10, 0, 0), explain.ExplanationError, "outside the field"),
        ((-50, -50, 2000, 2000), explain.ExplanationError, "whole fundus"),
        (np.zeros((5, 5), bool), ValueError, "like the photograph"),
        (np.zeros((448, 448)), ValueError, "region is bool"),
    ],
    ids=["corner", "empty", "all", "shape", "dtype"],
)
def test_bad_regions(tiny_pipeline, reading, region, error, words):
    with pytest.raises(error, match=words):
        explain.hide_region(tiny_pipeline, reading, region)


def test_bad_modalities_and_references(tiny_pipeline, reading):
    with pytest.raises(ValueError, match="unknown modality 'xray'"):
        explain.drop_modality(tiny_pipeline, reading, "xray")
    with pytest.raises(ValueError, match="name one modality"):
        explain.drop_modality(tiny_pipeline, reading, labels.FUSED)
    with pytest.raises(ValueError, match="no mean features"):
        explain.swap_modality(tiny_pipeline, reading, "msi")
    with pytest.raises(ValueError, match="these weights want"):
        explain.swap_modality(tiny_pipeline, reading, "msi", np.zeros((2, 3), np.float32))
    with pytest.raises(explain.ExplanationError, match="not gradable"):
        explain.drop_modality(tiny_pipeline, np.zeros((300, 300, 3), np.uint8), "msi")


def test_a_small_move_that_changes_a_call_is_told(tiny_pipeline, reading):
    """The page shows the largest moves; a call that changes by a small one must not be missed among them."""
    made = explain.drop_modality(tiny_pipeline, reading, "msi")
    move = replace(made.moves["DR"], grades=None, doubts=(False, False))
    still = {f"x{n}": replace(move, name=f"score {n}", before=0.1, after=0.4, calls=(False, False)) for n in range(20)}
    small = replace(move, name="a small one", before=0.2, after=0.21, calls=(False, True))
    html = reasons.whatif_html(replace(made, moves={**still, "small": small}))
    assert html.count("<tr") == 1 + reasons.MOST + 1
    assert "a small one" in html
    assert "left out: 8." in html
    assert "left out: " not in reasons.whatif_html(replace(made, moves={"small": small}))
