import json
import threading

import cv2
import numpy as np
import pytest
import torch
from conftest import tiny_card, tiny_network
from PIL import Image

from qmmfl import draw, fundus, labels, laterality, phantom, photograph, pipeline, prose, results, weights
from qmmfl.measures import BY_DISC
from qmmfl.nets import GRADABLE, GRADE, OEDEMA, OUTPUTS
from qmmfl.prose import sentences
from qmmfl.records import Eye, PhotographError

KEYS = {
    "schema", "input", "eye", "quality", "fundus", "findings", "dr", "dme", "disc_cup", "lesions", "planes",
    "contributions", "failures", "provenance", "notice",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tiny_pipeline, eye_file):
    return tiny_pipeline(eye_file)


def sameness(report):
    values = report.to_dict()
    for volatile in ("created", "seconds"):
        values["provenance"].pop(volatile)
    return values


def test_report_follows_the_schema(report):
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(values) == KEYS
    assert values["schema"] == 1
    assert values["notice"] == labels.NOTICE
    assert [f["code"] for f in values["findings"]] == list(labels.FINDINGS)
    assert set(values["findings"][0]) == {
        "code", "name", "assessed", "probability", "threshold", "suspected", "reason", "undecided", "few_eyes"
    }  # fmt: skip
    assert set(values["planes"]) == set(labels.PLANES)
    assert all(plane["synthesized"] for plane in values["planes"].values())
    assert set(values["lesions"]) == set(labels.LESIONS)
    assert sum(values["dr"]["probabilities"]) == pytest.approx(1)
    assert values["dr"]["more_than_mild"] == (values["dr"]["grade"] >= 2)
    assert values["provenance"]["weights_sha256"]


def test_a_finding_the_weights_never_learnt_is_not_assessed(report):
    finding = report.finding("CSR")
    assert (finding.assessed, finding.probability, finding.suspected) == (False, None, None)
    assert "not assessed" in finding.reason
    with pytest.raises(ValueError, match="choose one of DR"):
        report.finding("NOPE")


def test_planes_lie_in_the_frame_of_the_photograph(report, eye):
    for name, plane in report.planes.items():
        assert plane.pixels.shape == eye.photograph.shape[:2], name
        assert plane.pixels.dtype == np.float32
        assert 0 <= plane.pixels.min() <= plane.pixels.max() <= 1
        assert not plane.pixels[eye.photograph.max(axis=2) == 0][:50].any()


def test_contributions_and_maps_add_up_to_the_logit(report, tiny_pipeline, eye):
    square, _ = fundus.canonical(eye.photograph, tiny_pipeline.card.prep)
    x = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
    logits = tiny_pipeline.network(x).logits[0]
    for code in ("DR", "DN", GRADE):
        shares = report.contributions[code]
        assert set(shares) == {m.name for m in labels.MODALITIES} | {"bias"}
        # Not closer: views are rounded to 8 bits, and what lies between two levels goes either way with the threads.
        assert sum(shares.values()) == pytest.approx(float(logits[OUTPUTS.index(code)]), abs=1e-3)
        maps = report.maps[code]
        assert maps.mean(axis=(1, 2)).sum() + shares["bias"] == pytest.approx(sum(shares.values()), abs=1e-4)


def test_calibration_is_applied(report, tiny_pipeline):
    for code in ("DR", "ODC", "DN"):
        calibration = tiny_pipeline.card.calibrations[code]
        logit = calibration.scale * sum(report.contributions[code].values()) + calibration.offset
        finding = report.finding(code)
        assert finding.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
        assert finding.suspected == (finding.probability >= finding.threshold)


def test_no_abnormality_flagged_never_stands_beside_one_that_is(tiny_folder, eye):
    network, card = weights.load(tiny_folder)
    sure = weights.Calibration(0.0, 3.0, 0.5, "validation eyes")
    healthy, ill = (weights.GradeCalibration(1e-6, (cut, cut + 1), 1e-6, (5.0, 6.0)) for cut in (5.0, -0.5))
    alone = ("NORMAL",)
    for codes, grade, flagged in (
        ((*alone, "DN"), healthy, False),
        ((*alone, OEDEMA), healthy, False),
        (alone, ill, False),
        (alone, healthy, True),
    ):
        calibrations = {code: sure for code in (*codes, GRADABLE)}
        reader = pipeline.Pipeline(network, tiny_card(calibrations=calibrations, grade=grade), "test", "cpu")
        report = reader(eye.photograph)
        finding = report.finding("NORMAL")
        assert finding.suspected is flagged
        assert finding.probability > finding.threshold
        assert ("No listed abnormality" in prose.headline(report)) is flagged


def test_same_photograph_twice_is_the_same_report(tiny_pipeline, report, eye_file):
    assert sameness(tiny_pipeline(eye_file)) == sameness(report)


def test_pixels_path_and_photograph_agree(tiny_pipeline, report, eye, eye_file):
    pixels = tiny_pipeline(eye.photograph)
    assert pixels.findings == report.findings
    assert pixels.photograph.name is None
    assert tiny_pipeline(photograph.read(eye_file)).findings == report.findings


def test_a_photograph_pulled_out_of_shape_is_read_as_the_eye_that_it_shows(tiny_pipeline, report, eye):
    squeezed = cv2.resize(eye.photograph, None, fx=1 / 1.3, fy=1, interpolation=cv2.INTER_AREA)
    made = tiny_pipeline(squeezed)
    assert [note for note in made.photograph.notes if note not in report.photograph.notes] == [
        fundus.NOTE_SQUEEZED.format(1.3)
    ]
    for finding in report.findings:
        if finding.probability is not None:
            assert made.finding(finding.code).probability == pytest.approx(finding.probability, abs=0.02)
    for name, plane in made.planes.items():
        assert plane.pixels.shape == squeezed.shape[:2]
        back = cv2.resize(plane.pixels, eye.photograph.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        in_shape = report.planes[name].pixels  # untrained nets answer the finest detail, which the squeeze takes away
        assert np.abs(back - in_shape).mean() < 0.5 * in_shape[eye.photograph.any(axis=2)].std(), name
    x, y, wide, high = made.grid
    assert high == pytest.approx(report.grid[3], abs=3)
    assert wide * 1.3 == pytest.approx(report.grid[2], abs=6)
    shown = draw.photograph(made, 200).astype(int)
    assert np.abs(shown - draw.photograph(report, 200)).mean() < 4, "the page shows it in shape"


def test_border_and_shift_change_nothing(tiny_pipeline, report, eye):
    height, width = eye.photograph.shape[:2]
    wide = np.zeros((height + 100, width + 260, 3), np.uint8)
    wide[30 : 30 + height, 200 : 200 + width] = eye.photograph
    green = eye.photograph[..., (1, 0, 2)].copy()  # what another picture changes
    known = [finding.code for finding in report.findings if finding.probability is not None]

    def change(photograph):
        made = tiny_pipeline(photograph)
        assert [finding.code for finding in made.findings if finding.probability is not None] == known
        return max(abs(made.finding(code).probability - report.finding(code).probability) for code in known)

    assert change(wide) < 0.018 < change(green)
    here, there, other = (
        fundus.canonical(each, fundus.Prep(128))[0].astype(int) for each in (eye.photograph, wide, green)
    )
    assert np.abs(there - here).mean() < 1 < 5 < np.abs(other - here).mean()


def test_stages_are_named_in_order(tiny_pipeline, eye):
    told = []
    tiny_pipeline(eye.photograph, lambda done, total, stage: told.append((done, total, stage)))
    assert [stage for _, _, stage in told] == list(pipeline.STAGES)
    assert [done for done, _, _ in told] == list(range(len(pipeline.STAGES)))


def test_a_lesion_that_is_not_found_reliably_is_not_counted(tiny_folder, eye):
    network, _ = weights.load(tiny_folder)
    reader = pipeline.Pipeline(network, tiny_card(lesion_thresholds={"EX": 0.5}), "test", "cpu")
    lesions = reader(eye.photograph).lesions
    assert (lesions["MA"].count, lesions["MA"].area_fraction) == (None, None)
    assert lesions["EX"].count is not None
    assert (lesions["EX"].healthy_most, lesions["EX"].beyond) == (None, None)


def test_a_count_is_held_against_what_healthy_eyes_show(tiny_folder, eye):
    network, _ = weights.load(tiny_folder)

    def counted(most):
        card = tiny_card(lesion_thresholds={"EX": 0.0}, lesions_healthy={"EX": most})
        return pipeline.Pipeline(network, card, "test", "cpu")(eye.photograph)

    many, few = counted(0), counted(5)
    assert many.lesions["EX"].count == few.lesions["EX"].count == 1, "one region, the whole field"
    assert (many.lesions["EX"].beyond, few.lesions["EX"].beyond) == (True, False)
    assert many.to_dict()["lesions"]["EX"]["healthy_most"] == 0
    assert "; more than these weights falsely mark in most eyes without a finding (up to 0)" in sentences.lesion(
        many, "EX"
    )
    assert "; no more than these weights falsely mark in most eyes without a finding (up to 5)" in sentences.lesion(
        few, "EX"
    )


def test_black_is_ungradable_not_refused(tiny_pipeline):
    report = tiny_pipeline(np.zeros((300, 400, 3), np.uint8))
    assert not report.quality.gradable
    assert report.quality.reasons
    assert all(f.probability is None and f.reason for f in report.findings)
    assert report.dr.grade is None
    assert (report.fundus.is_fundus, report.fundus.score) == (None, None), "no network was asked"
    assert results.summarise(report)["fundus"] == ""
    assert not report.planes
    json.dumps(report.to_dict(), allow_nan=False)


def test_ungradable_withholds_and_override_computes(tiny_folder, eye):
    network, card = weights.load(tiny_folder)
    gates = {**card.calibrations, GRADABLE: weights.Calibration(0.0, -3.0, 0.5, "validation eyes")}
    strict = pipeline.Pipeline(network, tiny_card(calibrations=gates), "test", "cpu")
    withheld, shown = strict(eye.photograph), strict(eye.photograph, override=True)
    assert not withheld.quality.gradable
    assert withheld.finding("DR").probability is None
    assert withheld.disc_cup.vcdr is None
    assert not withheld.contributions
    assert withheld.planes
    limits = {code: each.threshold for code, each in withheld.lesions.items()}
    assert limits == {code: each.threshold for code, each in shown.lesions.items()}, "outlined where it is counted"
    assert shown.finding("DR").probability is not None
    assert not shown.quality.gradable
    assert shown.dr.grade is not None


def test_where_predictions_are_withheld_the_place_of_the_disc_tells_no_side(eye):
    def disc_on_the_right(module, seen, made):
        made = torch.full_like(made, -9.0)
        made[:, :, 26:38, 46:58] = 9.0
        return made

    def fail(*_):
        raise RuntimeError

    gates = {**tiny_card().calibrations, GRADABLE: weights.Calibration(0.0, -3.0, 0.5, "validation eyes")}
    strict = pipeline.Pipeline(tiny_network(), tiny_card(calibrations=gates), "test", "cpu")
    network = strict.runtime.network
    network.synthesis[labels.DISC_CUP.name].register_forward_hook(disc_on_the_right)
    withheld, shown = strict(eye.photograph), strict(eye.photograph, override=True)
    network.synthesis[labels.MSI.name].register_forward_hook(fail)
    partial = strict(eye.photograph, override=True)
    assert shown.eye == Eye("right", BY_DISC)
    assert withheld.eye == partial.eye == Eye(None, None), "no fovea checks it"
    assert laterality.settled(withheld, "scan_OS.jpg").eye == Eye("left", "file name"), "nor does it ask"


def test_too_small_is_refused(tiny_pipeline):
    with pytest.raises(PhotographError, match="224"):
        tiny_pipeline(np.zeros((100, 400, 3), np.uint8))


def test_two_users_at_once_get_their_own_eyes(tiny_pipeline):
    eyes = [phantom.render(seed, 320).photograph for seed in range(4)]
    alone = [sameness(tiny_pipeline(eye)) for eye in eyes]
    together = [[] for _ in eyes]

    def work(number):
        for _ in range(3):
            together[number].append(sameness(tiny_pipeline(eyes[number])))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(eyes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, expected in zip(together, alone, strict=True):
        assert mine == [expected] * 3


def test_missing_gpu_is_said(tiny_folder):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="choose --device cpu"):
        pipeline.load(tiny_folder, "cuda")


def test_embedded_weights_read_a_real_photograph(real_photograph):
    report = pipeline.load(device="cpu")(real_photograph)
    assert report.finding("DR").assessed
    assert report.fundus.is_fundus
    assert set(report.planes) == set(labels.PLANES)


def test_a_pillow_image_is_read_like_its_pixels_and_anything_else_is_refused(tiny_pipeline, eye):
    assert tiny_pipeline(Image.fromarray(eye.photograph)).findings == tiny_pipeline(eye.photograph).findings
    with pytest.raises(PhotographError, match="it is not an array uint8"):
        tiny_pipeline([[0, 0, 0]])
