"""Explanations: exact by construction, equal to the packages where theory says so, and safe for two users at once."""

import copy
import io
import re
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import tiny_card, tiny_network

from qmmfl import explain, labels, phantom, pipeline
from qmmfl.explain import attributions, figures
from qmmfl.explain.agreement import KEY
from qmmfl.explain.explanation import LEAST_TOP
from qmmfl.explain.probe import AllViews, Probe, bare, blank
from qmmfl.explain.whatif import fill
from qmmfl.nets import FUNDUS, GRADE, OEDEMA, OUTPUTS, THREAT
from qmmfl.prose import reasons
from qmmfl.prose.explanation import explanation_text, limits_text
from qmmfl.prose.sentences import grade_briefly
from qmmfl.records import Eye, Photograph, PhotographError
from qmmfl.weights import Calibration

KINDS = [(method, modality) for method in labels.METHODS for modality in (labels.FUSED, "lesions")]


@pytest.fixture(scope="module")
def report(tiny_pipeline, eye):
    return tiny_pipeline(eye.photograph)


@pytest.fixture(scope="module")
def reading(tiny_pipeline, report):
    return explain.read(tiny_pipeline, report)


def logits_of(network, reading) -> torch.Tensor:
    x = torch.from_numpy(reading.square).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return network(x).logits[0]


def stretched(square: np.ndarray) -> np.ndarray:
    positive = np.clip(square, 0, None)
    positive = positive - positive.min()
    return positive / positive.max()


# Exact maps


def test_exact_maps_add_up_to_every_logit(tiny_pipeline, reading):
    logits = logits_of(tiny_pipeline.network, reading)
    opened = explain.open_heads(tiny_pipeline.network, reading)
    assert set(opened.maps) == set(explain.NAMES) == {*labels.FINDINGS, GRADE, OEDEMA, THREAT}
    for code, maps in opened.maps.items():
        assert maps.shape == (len(labels.MODALITIES), 4, 4)
        assert maps.dtype == np.float32
        whole = float(logits[OUTPUTS.index(code)])
        assert maps.mean(axis=(1, 2)).sum() + opened.shares[code]["bias"] == pytest.approx(whole, abs=1e-5)
        assert sum(opened.shares[code].values()) == pytest.approx(opened.logits[code], abs=1e-5)


def test_exact_maps_are_those_of_the_report(tiny_pipeline, report, reading):
    made = explain.explain(tiny_pipeline, reading, "DR")
    np.testing.assert_allclose(made.square, report.maps["DR"].sum(axis=0), atol=1e-5)
    assert made.shares == pytest.approx(dict(report.contributions["DR"]), abs=1e-6)
    assert list(made.parts) == list(labels.BY_NAME)
    np.testing.assert_allclose(sum(made.parts.values()), made.square, atol=1e-6)


# The packages as oracles


@pytest.mark.parametrize("method", ["hirescam", "gradcam"])
def test_cams_of_the_fused_features_are_the_exact_map(tiny_pipeline, reading, method):
    for code in ("DR", "DN", GRADE):
        exact = explain.compute(tiny_pipeline.network, reading, code, "exact", labels.FUSED)
        cam = explain.compute(tiny_pipeline.network, reading, code, method, labels.FUSED)
        if method == "hirescam" or (exact > 0).any():
            np.testing.assert_allclose(cam, stretched(exact) if (exact > 0).any() else 0, atol=1e-4)


def test_score_cam_keeps_no_layer_and_sees_only_what_a_head_reads(tiny_pipeline, reading, monkeypatch):
    """Of every pass the package kept the layer: a gigabyte for the fused features of the whole net."""
    from pytorch_grad_cam.activations_and_gradients import ActivationsAndGradients as Kept

    seen, save = [], Kept.save_activation

    def spy(self, module, given, output):
        seen.append(output.shape)
        save(self, module, given, output)

    monkeypatch.setattr(Kept, "save_activation", spy)
    network = copy.deepcopy(tiny_pipeline.network)
    network.heads.weight[:, 3] = 0
    explain.compute(network, reading, "DR", "scorecam", labels.FUSED)
    read = (len(labels.MODALITIES) - 1) * 2 * network.config.features
    assert seen == [(1, read, *reading.features.shape[-2:])]


def test_grad_cam_of_an_encoder_is_the_textbook_s(tiny_pipeline, reading):
    network, seen = tiny_pipeline.network, reading.features.clone()
    index = list(labels.BY_NAME).index("colour")
    own = seen[:, index].clone().requires_grad_()
    parts = [own if m == index else seen[:, m] for m in range(seen.shape[1])]
    score = network.heads(network.fuse(torch.stack(parts, dim=1)))[0, OUTPUTS.index("DR")]
    (gradient,) = torch.autograd.grad(score, own)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * own).sum(dim=1)[0].detach().numpy()
    cam = explain.compute(network, reading, "DR", "gradcam", "colour")
    assert cam.shape == reading.views["colour"].shape[2:] == (128, 128)  # pixels that the encoder folds count
    enlarged = cv2.resize(stretched(expected), cam.shape)  # which may miss the highest cell's middle
    np.testing.assert_allclose(cam, stretched(enlarged), atol=1e-4)


@pytest.mark.parametrize("modality", ["colour", "msi", labels.FUSED])
def test_eigen_cam_is_high_where_the_features_are_strong(tiny_pipeline, reading, modality):
    """A principal component has no sign of its own: the other one would show the complement."""
    shown = explain.compute(tiny_pipeline.network, reading, "DR", "eigencam", modality)
    with torch.no_grad():
        probe = Probe(tiny_pipeline.network, reading, modality).eval()
        kept = []
        hook = probe.layer.register_forward_hook(lambda *given: kept.append(given[2]))
        probe(probe.start)
        hook.remove()
    energy = kept[0][0].square().sum(dim=0).numpy()
    small = cv2.resize(shown, energy.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), energy.ravel())[0, 1] > 0


def test_integrated_gradients_are_complete(tiny_pipeline, reading, monkeypatch):
    monkeypatch.setattr(attributions, "STEPS", 256)  # of an untrained net, whose scores bend more
    for modality in ("colour", labels.FUSED):
        probe = Probe(tiny_pipeline.network, reading, modality).eval()
        column = OUTPUTS.index("DR")
        with torch.no_grad():
            gap = float((probe(probe.start) - probe(bare(probe, reading)))[0, column])
            assert abs(gap) > 0.005
        given = explain.compute(tiny_pipeline.network, reading, "DR", "gradients", modality)
        assert given.sum() == pytest.approx(gap, abs=2e-3)


def test_occlusion_is_the_fall_of_the_score(tiny_pipeline, reading):
    probe = Probe(tiny_pipeline.network, reading, "colour").eval()
    hidden = probe.start.clone()
    hidden[..., 56:72, 56:72] = blank(probe.start, reading)[..., 56:72, 56:72]
    with torch.no_grad():
        fall = float((probe(probe.start) - probe(hidden))[0, OUTPUTS.index("DR")])
    given = explain.compute(tiny_pipeline.network, reading, "DR", "occlusion", "colour")
    assert given.shape == (128, 128)
    windows = [given[y, x] for y in (58, 66) for x in (58, 66)]  # quarters that share this window with three others
    assert min(windows) - 1e-2 <= fall <= max(windows) + 1e-2


@pytest.mark.parametrize("method", ["gradients", "occlusion", "scorecam"])
def test_what_takes_many_passes_ends_before_the_next_when_told(tiny_pipeline, reading, method):
    def told():
        passes.append(None)
        if len(passes) == 2:
            raise InterruptedError

    passes, free = [], explain.explain(tiny_pipeline, reading, GRADE, method, "colour").square
    with pytest.raises(InterruptedError):
        explain.explain(tiny_pipeline, reading, GRADE, method, "colour", told)
    assert len(passes) == 2
    again = explain.explain(tiny_pipeline, reading, GRADE, method, "colour", lambda: None).square
    np.testing.assert_array_equal(again, free)


def test_cleared_lesions_are_what_the_encoder_says_of_empty_maps(tiny_pipeline, reading):
    network, name = tiny_pipeline.network, labels.LESION_MAPS.name
    views = {**reading.views, name: torch.full_like(reading.views[name], -1)}
    with torch.no_grad():
        features = torch.stack([network.encoders[each](view) for each, view in views.items()], dim=1)
        logits = network.heads(network.fuse(features))[0]
    whatif = explain.clear_lesions(tiny_pipeline, reading)
    assert whatif.change == "with no lesion on the lesion maps"
    for code in ("DR", GRADE):
        assert whatif.moves[code].logit_after == pytest.approx(float(logits[OUTPUTS.index(code)]), abs=1e-4)
    left = explain.drop_modality(tiny_pipeline, reading, name).moves["DR"]
    assert left.logit_after != pytest.approx(whatif.moves["DR"].logit_after, abs=1e-4), "that is another thing"


def test_a_box_that_leaves_nothing_readable_is_refused(eye):
    box = (60, 60, 300, 300)

    def whatif(calibration: Calibration, box: tuple[int, int, int, int] = box) -> explain.WhatIf:
        card = tiny_card(calibrations={**tiny_card().calibrations, FUNDUS: calibration})
        reader = pipeline.Pipeline(tiny_network(), card, "tiny", "cpu")
        return explain.hide_region(reader, reader(eye.photograph, override=True), box)

    reader = pipeline.Pipeline(tiny_network(), tiny_card(), "tiny", "cpu")
    reading = explain.read(reader, eye.photograph)
    mask = np.zeros(eye.photograph.shape[:2], bool)
    mask[60:360, 60:360] = True
    square = torch.from_numpy(fill(reading, mask)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        after = float(reader.network(square).logits[0, OUTPUTS.index(FUNDUS)])
    before = float(logits_of(reader.network, reading)[OUTPUTS.index(FUNDUS)])
    assert abs(before - after) > 1e-3
    sign = 1000 if before > after else -1000
    between = Calibration(sign, -sign * (before + after) / 2, 0.5, "validation eyes")
    with pytest.raises(explain.ExplanationError, match="draw a smaller box"):
        whatif(between)
    assert whatif(Calibration(0.0, -9.0, 0.5, "validation eyes")).moves, "it was refused as it is, and overridden"
    assert whatif(Calibration(0.0, 9.0, 0.5, "validation eyes")).moves


def test_probes_are_the_network(tiny_pipeline, reading):
    logits = logits_of(tiny_pipeline.network, reading)
    for probe in (
        *(Probe(tiny_pipeline.network, reading, name) for name in (*labels.BY_NAME, labels.FUSED)),
        AllViews(tiny_pipeline.network, reading),
    ):
        with torch.no_grad():
            np.testing.assert_allclose(probe(probe.start.repeat(2, 1, 1, 1))[1], logits, atol=1e-4)


def test_ablation_is_what_dropping_does(tiny_pipeline, reading):
    fell = explain.ablate_modalities(tiny_pipeline.network, reading, "DR")
    reference = np.full((len(labels.MODALITIES), 16), 0.3, np.float32)
    swapped = explain.ablate_modalities(tiny_pipeline.network, reading, "DR", reference)
    for modality in labels.BY_NAME:
        move = explain.drop_modality(tiny_pipeline, reading, modality).moves["DR"]
        assert fell[modality] == pytest.approx(move.logit_before - move.logit_after, abs=1e-4)
        move = explain.swap_modality(tiny_pipeline, reading, modality, reference).moves["DR"]
        assert swapped[modality] == pytest.approx(move.logit_before - move.logit_after, abs=1e-4)


# Every method


@pytest.mark.parametrize(("method", "modality"), KINDS)
def test_every_method_is_deterministic_and_leaves_nothing_behind(tiny_pipeline, reading, method, modality):
    network = tiny_pipeline.network
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    first, again = (explain.compute(network, reading, "DR", method, modality) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert first.shape[0] == first.shape[1] in (4, 64)
    assert np.isfinite(first).all()
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not any(m.training or m._forward_hooks or m._backward_hooks for m in network.modules())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(t.requires_grad for t in (reading.features, reading.fused, *reading.views.values()))


def test_gradients_work_whatever_the_caller_switched_off(tiny_pipeline, report):
    expected = explain.explain(tiny_pipeline, report, "DR", "gradients", "colour").square
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            np.testing.assert_array_equal(
                explain.explain(tiny_pipeline, report, "DR", "gradients", "colour").square, expected
            )


def test_a_map_lies_in_the_frame_of_the_photograph(tiny_pipeline, report, eye):
    made = explain.explain(tiny_pipeline, report, "DR")
    assert made.pixels.shape == eye.photograph.shape[:2]
    assert made.pixels.dtype == np.float32
    assert not made.pixels[eye.photograph.max(axis=2) == 0][:50].any()
    assert made.cell == pytest.approx(report.grid[2] / 4)


def test_a_cell_is_as_high_as_it_is_in_a_photograph_that_was_pulled_out_of_shape(tiny_pipeline, eye):
    squeezed = cv2.resize(eye.photograph, None, fx=1 / 1.4, fy=1, interpolation=cv2.INTER_AREA)
    made = explain.explain(tiny_pipeline, squeezed, "DR")
    wide, high = map(int, re.search(r"here (\d+) x (\d+) px", limits_text(made)).groups())
    assert wide == round(made.cell) == round(made.report.grid[2] / 4)
    assert high == round(made.report.grid[3] / 4) == pytest.approx(1.4 * wide, abs=2)


def test_the_peak_lies_in_the_field_where_every_cell_lowers_the_score(tiny_pipeline, reading):
    made = explain.explain(tiny_pipeline, reading, "DR")
    lowered = -1 - np.abs(made.square)
    x, y = replace(made, square=lowered).to_dict()["map"]["peak_px"]
    assert reading.frame.field_mask()[y, x]
    assert made.place(lowered)[y, x] > lowered.max() - 0.1


def test_an_explanation_and_a_what_if_say_of_which_eye(tiny_pipeline, report):
    for side, head, same in (("right", "Right eye: ", "right eye"), (None, "", "eye")):
        told = replace(report, eye=Eye(side, None))
        made = explain.explain(tiny_pipeline, told, "DR")
        assert f"<h2>{head}Diabetic retinopathy</h2>" in reasons.explanation_html(made, lambda *_: "a.jpg", 64)
        moved = explain.drop_modality(tiny_pipeline, told, "msi")
        assert f"The same {same} with multispectral bands left out" in reasons.whatif_html(moved)


def test_two_users_at_once_get_their_own_maps(tiny_pipeline):
    eyes = [phantom.render(seed, 224, grade=seed % 4).photograph for seed in (11, 12)]
    reports = [tiny_pipeline(eye) for eye in eyes]
    tasks = [(r, method) for method in ("gradcam", "gradients") for r in reports]

    def work(task):
        reading = explain.read(tiny_pipeline, task[0])
        with tiny_pipeline.borrow() as network:
            return explain.compute(network, reading, "DR", task[1], "colour")

    alone = [work(task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, tasks * 3))
    for one, other in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(alone[0], alone[1]), "two eyes must have two maps for this test to mean anything"


def test_explanations_and_what_ifs_at_once_stay_each_their_own(tiny_pipeline):
    """Through the doors that the page uses, which must take the lock themselves."""
    reports = [tiny_pipeline(phantom.render(seed, 224, grade=seed % 4).photograph) for seed in (11, 12)]
    tasks = [(report, code) for report in reports for code in ("DR", "ODC")]

    def work(task):
        report, code = task
        map_ = explain.explain(tiny_pipeline, report, code, "gradcam", "colour").square
        dropped = explain.drop_modality(tiny_pipeline, report, "lesions").moves[code].after
        hidden = explain.hide_region(tiny_pipeline, report, (60, 60, 80, 80)).moves[code].after
        return map_, dropped, hidden

    alone = [work(task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, tasks * 3))
    for (map_, *moves), (other, *others) in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(map_, other)
        assert moves == others


@pytest.mark.parametrize("part", ["encoders", "fusion", "heads"])
def test_no_number_comes_from_a_network_that_gives_none(eye, part):
    reader = pipeline.Pipeline(tiny_network(), tiny_card(), "tiny", "cpu")
    report = reader(eye.photograph)
    with torch.no_grad():
        next(getattr(reader.network, part).parameters()).fill_(float("nan"))
    for ask in (
        lambda: explain.explain(reader, report, "DR"),
        lambda: explain.explain(reader, report, "DR", "gradients"),
        lambda: explain.drop_modality(reader, report, "msi"),
        lambda: explain.hide_region(reader, report, (60, 60, 80, 80)),
    ):
        with pytest.raises(explain.ExplanationError, match=r"no numbers.*qmmfl weights verify"):
            ask()


def test_the_network_is_lent_to_one_at_a_time(tiny_pipeline, eye):
    with ThreadPoolExecutor(1) as pool:
        with tiny_pipeline.borrow():
            waiting = pool.submit(tiny_pipeline, eye.photograph)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
        assert waiting.result(20).quality.gradable


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("NOPE",), "unknown finding 'NOPE'; choose one of DR"),
        (("DR", "magic"), "unknown method 'magic'; choose one of exact"),
        (("DR", "exact", "xray"), "unknown modality 'xray'; choose one of colour"),
    ],
)
def test_unknown_names_are_said_before_anything_is_read(tiny_pipeline, arguments, words):
    with pytest.raises(ValueError, match=words):
        explain.explain(tiny_pipeline, "nowhere.jpg", *arguments)


def test_a_finding_that_is_not_assessed_is_refused(tiny_pipeline, report):
    with pytest.raises(
        explain.ExplanationError, match=r"Central serous.*not assessed.*choose one of DR.*GRADE, VTDR, DME"
    ):
        explain.explain(tiny_pipeline, report, "CSR")


def test_an_ungradable_eye_is_refused_with_its_reason(tiny_pipeline, eye):
    for pixels in (np.zeros((300, 300, 3), np.uint8), (eye.photograph * 0.02).astype(np.uint8)):
        with pytest.raises(explain.ExplanationError, match="not gradable.*again"):
            explain.explain(tiny_pipeline, pixels, "DR")
    picky = tiny_card(calibrations={**tiny_card().calibrations, "GRADABLE": tiny_card().calibrations["DR"]})
    picky.calibrations["GRADABLE"] = replace(picky.calibrations["DR"], scale=0.0, offset=-3.0)
    strict = pipeline.Pipeline(tiny_network(), picky, "tiny", "cpu")
    for code in ("DR", GRADE, THREAT, OEDEMA):
        with pytest.raises(explain.ExplanationError, match="Image quality is too low"):
            explain.explain(strict, eye.photograph, code)


def test_what_is_no_photograph_is_refused(tiny_pipeline, tmp_path):
    with pytest.raises(PhotographError, match="no such file"):
        explain.explain(tiny_pipeline, tmp_path / "gone.jpg", "DR")


def test_a_report_of_other_weights_is_refused(tiny_pipeline, report):
    for changed in ({"weights_sha256": "0" * 64}, {"card": "0" * 12}):
        other = replace(report, provenance=replace(report.provenance, **changed))
        with pytest.raises(ValueError, match="other weights"):
            explain.explain(tiny_pipeline, other, "DR")


def test_a_reading_of_other_weights_is_refused(tiny_pipeline, reading):
    other = pipeline.Pipeline(tiny_network(), replace(tiny_pipeline.card, sha256="0" * 64), "tiny", "cpu")
    with pytest.raises(ValueError, match="other weights"):
        explain.explain(other, reading, "DR")


def test_an_empty_map_is_a_sentence(tiny_card_pipeline, eye):
    with pytest.raises(
        explain.ExplanationError, match=r"\(colour photograph\) finds nothing .*choose the method exact"
    ):
        explain.explain(tiny_card_pipeline, eye.photograph, "DR", "gradcam", "colour")


@pytest.fixture
def tiny_card_pipeline():
    """Heads that have learnt nothing about DR: no gradient, no map."""
    network = tiny_network()
    network.heads.weight[OUTPUTS.index("DR")] = 0
    return pipeline.Pipeline(network, tiny_card(), "tiny", "cpu")


# Figures


def test_pictures_have_the_photograph_s_size_and_the_mark(tiny_pipeline, report, eye):
    for method in ("exact", "gradcam", "occlusion"):
        made = explain.explain(tiny_pipeline, report, "DR", method, "colour")
        picture = figures.overlay(made)
        assert picture.shape == eye.photograph.shape
        assert (picture[-40:, :80] > 180).all(axis=2).any(), "the mark at the lower left"
        assert figures.raw(made).shape == eye.photograph.shape[:2]
        assert figures.raw(made).dtype == np.uint8


def spotted(made, width, height, x, y):
    """The explanation of a grey photograph of this size, with one round spot in the map that raises the score."""
    spot = cv2.circle(np.zeros((height, width), np.float32), (x, y), 60, made.scale, -1)
    grey = Photograph(np.full((height, width, 3), 90, np.uint8), "grey.png", "a" * 64)
    return replace(made, report=replace(made.report, photograph=grey), place=lambda square: spot)


@pytest.mark.parametrize("side", [None, 1003, 300, 97])
def test_a_picture_of_any_size_shows_the_map_in_its_place(tiny_pipeline, report, side):
    made = spotted(explain.explain(tiny_pipeline, report, "DR"), 1003, 777, 641, 210)
    picture = figures.overlay(made, side=side)
    scale = (side or 1003) / 1003
    assert picture.shape[:2] == (round(777 * scale), round(1003 * scale))
    red = picture[: len(picture) // 2, :, 0].astype(float) - 90  # above the mark
    ys, xs = np.mgrid[: red.shape[0], : red.shape[1]]
    centre = [(red * each).sum() / red.sum() for each in (xs, ys)]
    assert centre == pytest.approx([641.5 * scale - 0.5, 210.5 * scale - 0.5], abs=0.5)
    assert red.max() == pytest.approx(0.75 * (figures.RAISES[0] - 90), abs=3)


@pytest.mark.parametrize(("side", "most"), [(None, 4), (900, 1)])
def test_the_picture_of_a_large_photograph_takes_little_memory(tiny_pipeline, report, side, most):
    made = spotted(explain.explain(tiny_pipeline, report, "DR"), 3000, 2000, 900, 900)
    tracemalloc.start()
    figures.overlay(made, side=side)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most * made.report.photograph.pixels.nbytes


def test_a_weak_map_looks_weak_and_a_strong_one_keeps_its_shape(tiny_pipeline, report):
    made = explain.explain(tiny_pipeline, report, "DR")
    assert np.abs(made.square).max() < LEAST_TOP == made.scale
    strong = replace(made, square=np.linspace(7, 20, made.square.size, dtype=np.float32).reshape(made.square.shape))
    field = figures.raw(strong)[figures.raw(strong) != 128]
    assert (field == 255).mean() < 0.2, "all of it is above the scale of a weak map, and not all of it is at the top"


def test_figures_are_drawn_without_pyplot(tiny_pipeline, report, monkeypatch):
    made = explain.explain(tiny_pipeline, report, "DR")
    moved = explain.drop_modality(tiny_pipeline, report, "colour")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # which keeps every figure of every user
    for figure in (figures.share_chart(made), figures.move_chart(moved)):
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        assert picture.getvalue().startswith(b"\x89PNG")


def test_the_map_to_look_at_first_is_the_one_measured_furthest_above_chance():
    def figures_of(precision, chance):
        return {"precision": [precision], "chance": [chance]}

    lesions = {"exact:fused": figures_of(0.38, 0.38), "gradients:colour": figures_of(0.62, 0.39), "scorecam:msi": None}
    disc = {"exact:fused": figures_of(0.3, 0.1), "gradients:colour": figures_of(0.2, 0.1)}
    metrics = {KEY: {"agreement": [{"code": "DR", "maps": lesions}, {"code": "ODC", "maps": disc}]}}
    assert explain.first_kind(metrics, "DR") == ("gradients", "colour")
    assert explain.first_kind(metrics, "ODC") == ("exact", "fused")
    assert explain.first_kind(metrics, "MYA") == ("gradients", "colour"), "best over all that were measured"
    chance = {KEY: {"agreement": [{"code": "DR", "maps": {"gradcam:colour": figures_of(0.3, 0.31)}}]}}
    assert explain.first_kind(chance, "DR") == explain.first_kind({}, "DR") == ("exact", "fused")


def test_agreement_comes_from_the_card(report):
    bounds = {"precision": [0.4, 0.3, 0.5], "pointing": [0.6, 0.5, 0.7]}
    figures_of = {"eyes": 27, **bounds, "chance": [0.2, 0.1, 0.3]}
    better = {**figures_of, "precision": [0.5, 0.4, 0.6]}
    maps = {"exact:fused": figures_of, "gradients:fused": better, "scorecam:colour": None}
    test = {"dataset": "eyes", "code": "DR", "marks": "lesions", "maps": maps}
    card = tiny_card(metrics={KEY: {"agreement": [test]}})
    reader = pipeline.Pipeline(tiny_network(), card, "tiny", "cpu")
    made = explain.explain(reader, report.photograph, "DR")
    (found,) = made.agreements
    assert (found.eyes, found.precision[0], found.chance[0]) == (27, 0.4, 0.2)
    assert (found.best, found.best_precision) == ("gradients:fused", 0.5)
    assert explain.explain(reader, report.photograph, "DR", "exact", "colour").agreements == ()
    hint = "most lies in the marks with Integrated gradients, all modalities, fused (0.50)"
    assert hint in explanation_text(made)
    for asked in (("DR", "gradients"), ("ODC",)):
        other = explain.explain(reader, report.photograph, *asked)
        assert hint not in explanation_text(other), "it is the best itself, or of another score"
        assert ("Not measured for this score. For others:" in explanation_text(other)) == ("ODC" in asked)
    graded = explain.explain(reader, report.photograph, "GRADE")
    assert f"Grade {grade_briefly(graded.report)}. Probability of more than mild" in explanation_text(graded)


def test_windows_of_occlusion_are_few():
    assert (2 * attributions.WINDOWS - 1) ** 2 == 225
