"""The accelerated runtime says what torch says, fails as torch fails, and neither needs torch nor tells anybody."""

import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_card, tiny_network

from qmmfl import explain, fundus, labels, pipeline, stages, weights
from qmmfl.nets import arrays, blocks, network, runtime
from qmmfl.nets.eager import Eager

PARITY = 1e-4
# [logit] of trained encoders: they see planes of 8 bits, and a value between two grey levels falls to either side.
ROUNDED, ROUNDED_CELL = 2e-3, 2e-2

needs_openvino = pytest.mark.skipif(
    runtime.find_spec("openvino") is None, reason='OpenVINO is not installed: pip install "qmmfl[openvino]"'
)


@pytest.fixture(scope="module")
def accelerated(tiny_folder):
    return pipeline.load(tiny_folder, "cpu", "openvino")


@pytest.fixture(scope="module")
def square(eye):
    return fundus.canonical(eye.photograph, fundus.Prep(128))[0]


def logits(report):
    return {code: sum(shares.values()) for code, shares in report.contributions.items()}


def check_parity(one, other, score=PARITY, cell=PARITY):
    for name, plane in one.planes.items():
        assert np.abs(plane.square - other.planes[name].square).max() <= PARITY, name
    for code, value in logits(one).items():
        assert logits(other)[code] == pytest.approx(value, abs=score), code
        assert np.abs(one.maps[code] - other.maps[code]).max() <= cell, code
    assert np.abs(one.features - other.features).max() <= cell
    assert [f.suspected for f in one.findings] == [f.suspected for f in other.findings]


@needs_openvino
def test_both_runtimes_say_the_same_and_the_report_says_which(tiny_pipeline, accelerated, eye):
    one, other = tiny_pipeline(eye.photograph), accelerated(eye.photograph)
    check_parity(one, other, ROUNDED, ROUNDED_CELL)
    assert one.provenance.runtime == f"torch {torch.__version__} on cpu"
    assert other.provenance.runtime.startswith("openvino 20")
    assert other.provenance.weights_sha256 == one.provenance.weights_sha256


@needs_openvino
@pytest.mark.slow
def test_the_embedded_weights_say_the_same_in_both():
    eyes = sorted((ROOT / "examples" / "eyes").glob("*.jpg"))[:2]
    one, other = (pipeline.load(device="cpu", runtime=name) for name in ("torch", "openvino"))
    for eye in eyes:
        check_parity(one(eye, override=True), other(eye, override=True), ROUNDED, ROUNDED_CELL)


def test_arrays_do_what_tensors_do(square):
    tensor = torch.from_numpy(square).permute(2, 0, 1)[None].contiguous() / 255
    picture = tensor[0].numpy()

    def same(array, made):
        assert np.abs(array - made[0].numpy()).max() < 2e-5

    same(arrays.local_contrast(picture), blocks.local_contrast(tensor))
    same(arrays.colour_view(arrays.arrange(picture)), network.colour_view(tensor))
    for size in (32, 128, 256):
        for peaks in (False, True):
            same(arrays.pooled(picture, size, peaks=peaks), blocks.pooled(tensor, size, peaks=peaks))
            same(arrays.eight_bit(picture), blocks.eight_bit(tensor))


def test_torch_reads_with_a_folded_copy_and_leaves_the_network_as_it_was(square):
    whole = tiny_network()
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    runs = Eager(whole)
    assert not [m for m in runs.network.synthesis.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    through = runs.start(square)
    planes = {m.name: through.synthesize(m.name) for m in labels.SYNTHESES}
    output = whole(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255)
    assert np.abs(through.fuse().logits - output.logits[0].numpy()).max() < 1e-3
    for name, plane in planes.items():
        assert np.abs(plane - output.planes[name][0].numpy()).max() < 1e-5
    assert all(torch.equal(before[key], value) for key, value in whole.state_dict().items())


_WATCH = """
import os, sys, threading
from qmmfl import pipeline
reader, seen, done = pipeline.load(sys.argv[1], "cpu", "openvino"), [], threading.Event()
main = threading.get_native_id()
def watch():
    while not done.wait(0.001):
        seen.append(len(os.sched_getaffinity(main)))
watcher = threading.Thread(target=watch)
watcher.start()
for _ in range(3):
    reader(sys.argv[2])
done.set()
watcher.join()
print(min(seen))
"""


@needs_openvino
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells where a thread may run")
def test_readers_side_by_side_do_not_all_keep_to_the_same_core(tiny_folder, eye_file):
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("one core is all there is")
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1"}  # as every worker of a screening run has it
    command = [sys.executable, "-c", _WATCH, str(tiny_folder), str(eye_file)]
    assert int(subprocess.run(command, check=True, capture_output=True, env=surroundings, cwd=ROOT).stdout) == cores


@needs_openvino
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("secret of Doe_John"), "the network failed (RuntimeError)"),
        (MemoryError(), "memory ran out"),
        (RuntimeError("std::bad_alloc"), "memory ran out"),
    ],
    ids=repr,
)
def test_a_stage_that_fails_gives_a_partial_report_and_the_next_is_whole(accelerated, eye, monkeypatch, error, words):
    whole, infer = accelerated(eye.photograph), accelerated.runtime.infer

    def fail(name, inputs):
        if name == labels.MSI.name:
            raise error
        return infer(name, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(accelerated.runtime, "infer", fail)
        report = accelerated(eye.photograph)
    assert list(report.failures) == [labels.MSI.title]
    assert words in report.failures[labels.MSI.title]
    assert "Doe" not in report.failures[labels.MSI.title]
    assert set(report.planes) == set(labels.PLANES) - set(labels.MSI.planes)
    assert report.finding("DR").probability is None
    assert accelerated(eye.photograph).findings == whole.findings


@needs_openvino
@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize(
    ("tensor", "stage"),
    [
        ("synthesis.vessels.head.0.bias", labels.VESSELS.title),
        ("synthesis.vessels.encoder.0.first.0.weight", labels.VESSELS.title),
        ("encoders.colour.0.stem.0.weight", stages.FUSION_STAGE),
        ("heads.bias", stages.FUSION_STAGE),
    ],
)
def test_values_that_are_no_numbers_are_withheld(eye, tensor, stage, value):
    from qmmfl.nets.accelerated import Accelerated

    state = {key: each.numpy().copy() for key, each in tiny_network().state_dict().items()}
    state[tensor].reshape(-1)[0] = value
    card = tiny_card()
    reader = pipeline.Pipeline(None, card, "test", runtime=Accelerated(card.config, state))
    report = reader(eye.photograph)
    assert list(report.failures) == [stage]
    assert "no numbers" in report.failures[stage]
    assert report.finding("DR").probability is None


@needs_openvino
def test_weights_that_do_not_fit_are_said(tmp_path):
    config = tiny_card().config
    weights.save(tmp_path, tiny_network(), tiny_card(config=replace(config, heads=4, features=32)))
    with pytest.raises(weights.WeightsError, match="does not fit the network its card describes"):
        pipeline.load(tmp_path, "cpu", "openvino")


@needs_openvino
def test_explanations_come_from_torch(tiny_pipeline, accelerated, eye):
    report = accelerated(eye.photograph)
    for method, modality in (("exact", labels.FUSED), ("gradcam", "colour")):
        one = explain.explain(tiny_pipeline, eye.photograph, "DR", method, modality)
        other = explain.explain(accelerated, report, "DR", method, modality)
        assert np.abs(one.square - other.square).max() < 1e-3
    assert explain.drop_modality(accelerated, report, "vessels").moves["DR"].before == pytest.approx(
        report.finding("DR").probability, abs=PARITY
    )


QUIET = """
import socket, sys
asked = []
socket.socket.connect = lambda self, where: asked.append(where)
import qmmfl
reader = qmmfl.load(sys.argv[1], "cpu", "openvino")
report = reader(sys.argv[2])
assert report.finding("DR").probability is not None
assert "torch" not in sys.modules
assert sys.modules.get("openvino_telemetry") is None
from qmmfl import explain
explain.explain(reader, report, "DR")
assert "torch" in sys.modules
assert not asked, asked
"""


@needs_openvino
def test_reading_needs_no_torch_and_tells_nobody(tiny_folder, eye, tmp_path):
    cv2.imwrite(str(tmp_path / "eye.png"), eye.photograph[..., ::-1])
    command = [sys.executable, "-c", QUIET, str(tiny_folder), str(tmp_path / "eye.png")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("wanted", "device", "installed", "gpu", "chosen"),
    [
        ("auto", "auto", True, False, "openvino"),
        ("auto", "cpu", True, True, "openvino"),
        ("auto", "auto", True, True, "torch"),
        ("auto", "cuda", True, True, "torch"),
        ("auto", "auto", False, False, "torch"),
        ("torch", "cpu", True, False, "torch"),
        ("openvino", "auto", True, True, "openvino"),
    ],
)
def test_what_is_chosen(monkeypatch, wanted, device, installed, gpu, chosen):
    monkeypatch.setattr(runtime, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(runtime, "_has_gpu", lambda: gpu)
    assert runtime.choose(wanted, device) == chosen


def test_what_cannot_be_had_is_said(monkeypatch):
    with pytest.raises(ValueError, match="--runtime torch for a GPU"):
        runtime.choose("openvino", "cuda")
    with pytest.raises(ValueError, match="choose one of auto, torch, openvino"):
        runtime.choose("onnx", "cpu")
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "qmmfl\[openvino\]"'):
        runtime.choose("openvino", "cpu")


def test_weights_that_changed_on_disk_explain_nothing(tiny_folder):
    loaded = weights.read_card(tiny_folder)
    reader = pipeline.Pipeline(None, replace(loaded, sha256="0" * 64), "x", "cpu", folder=tiny_folder, runtime=object())
    with pytest.raises(weights.WeightsError, match="changed while in use; start again"):
        _ = reader.network
    reader = pipeline.Pipeline(None, loaded, "x", "cpu", folder=tiny_folder, runtime=object())
    assert reader.network is reader.network
