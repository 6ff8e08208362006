"""Shared fixtures: a tiny network that runs in milliseconds, its weights on disk, simulated eyes."""

import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the network
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores already

import numpy as np
import pytest
import torch
import visits
from fakes import FakePipeline, fake_photograph

from qmmfl import draw, labels, phantom, pipeline, weights
from qmmfl.fundus import Prep
from qmmfl.nets import FUNDUS, GRADABLE, OEDEMA, Config, Network
from qmmfl.nets.encoders import EncoderConfig
from qmmfl.nets.synthesis import SynthesisConfig

ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data"


TINY_TRUNK = {"widths": (4, 4, 8, 8, 8, 8, 8), "depths": (1, 2, 1, 1, 2, 1, 1)}


def tiny_config() -> Config:
    synthesis = {m.name: SynthesisConfig(64, "both", 2, (4, 8), len(m.planes)) for m in labels.SYNTHESES}
    synthesis["lesions"] = SynthesisConfig(128, "contrast", 4, (4, 8), 4)
    synthesis["disc_cup"] = SynthesisConfig(64, "both", 2, planes=2, **TINY_TRUNK)
    synthesis["msi"] = SynthesisConfig(64, "colour", 2, (4, 8), 7, "affine")
    inputs = {m.name: len(m.planes) for m in labels.MODALITIES} | {"colour": 6}
    encoders = {name: EncoderConfig(count, (4, 4, 8, 8), 16) for name, count in inputs.items()}
    encoders["colour"] = replace(encoders["colour"], unshuffle=2, **TINY_TRUNK)
    return Config(square=128, view=64, features=16, heads=2, synthesis=synthesis, encoders=encoders)


def tiny_network(seed: int = 9) -> Network:
    """Untrained, but not blind: eyes get probabilities that differ by hundredths and more, see test_nets.

    Not with every seed: some leave an encoder's map of a finding empty.
    """
    torch.manual_seed(seed)
    network = Network(tiny_config())
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # the statistics of some noise, coarse and fine; without them all eyes look alike
        norm.momentum = None
        norm.reset_running_stats()
    coarse, fine = torch.rand(8, 3, 8, 8), torch.rand(8, 3, 128, 128)
    with torch.no_grad():
        network.heads.weight[:, :, network.config.features :] *= 0.2  # no attention tames what encoders say themselves
        network.train()(torch.nn.functional.interpolate(coarse, size=128) * 0.7 + fine * 0.3)
    for norm in norms:
        norm.momentum = 0.1
    return network.eval().requires_grad_(False)


def tiny_card(**changes) -> weights.Card:
    assessed = ("DR", "NORMAL", "ODC", "DN", OEDEMA)
    calibrations = {code: weights.Calibration(1.1, 0.2, 0.4, "validation eyes") for code in assessed}
    calibrations |= {code: weights.Calibration(0.0, 2.0, 0.5, "validation eyes") for code in (GRADABLE, FUNDUS)}
    values = {
        "name": "tiny",
        "version": "0",
        "status": "interim",
        "licence": "none",
        "intended_use": "tests",
        "limits": ("untrained",),
        "prep": Prep(128),
        "config": tiny_config(),
        "grade": weights.GradeCalibration(1.0, (-0.5, 0.0), 1.0, (-0.5, 0.5)),
        "calibrations": calibrations,
        "lesion_thresholds": dict.fromkeys(labels.LESIONS, 0.5),
        "vcdr_error": 0.1,
    }
    return weights.Card(**{**values, **changes})


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    weights.save(folder, tiny_network(), tiny_card())
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_folder) -> pipeline.Pipeline:
    return pipeline.load(tiny_folder, "cpu", "torch")


@pytest.fixture(scope="session")
def eye() -> phantom.Phantom:
    return phantom.render(3, 448, grade=2)


@pytest.fixture(scope="session")
def eye_file(eye, tmp_path_factory) -> Path:
    import cv2

    path = tmp_path_factory.mktemp("eyes") / "simulated.png"
    cv2.imwrite(str(path), eye.photograph[..., ::-1])
    return path


@pytest.fixture(scope="session")
def real_photograph() -> Path:
    photographs = sorted((REAL / "cls" / "odir5k" / "images").glob("*_left.webp")) if REAL.is_dir() else []
    if not photographs:
        pytest.skip("the real photographs (../shared/data) are not on this machine")
    return photographs[0]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if visits.CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=visits.CHROMIUM, headless=True, args=visits.QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def model() -> FakePipeline:
    """What answers on the page of `address`."""
    return FakePipeline(delay=0.05)


@pytest.fixture(scope="module")
def address(model):
    with visits.served(model) as address:
        yield address


@pytest.fixture
def visit(browser, address):
    """Starts visits to the page on a stand-in for the networks."""
    started = []

    def start(scheme: str = "light") -> visits.Visit:
        started.append(visits.Visit(browser, address, scheme))
        return started[-1]

    yield start
    for each in started:
        each.context.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Photographs and other files, by name."""
    folder = tmp_path_factory.mktemp("eyes")
    paths = {}
    for name, seed in (("Doe_John", 1), ("Roe_Jane", 2), ("Doe_John_OD", 1)):
        paths[name] = folder / f"{name}.png"
        paths[name].write_bytes(draw.encode(fake_photograph(seed, 640, 560).pixels, "png"))
    paths["large"] = folder / "large.png"
    paths["large"].write_bytes(draw.encode(fake_photograph(4, 1100, 560).pixels, "png"))
    paths["dark"] = folder / "dark.png"
    paths["dark"].write_bytes(draw.encode(fake_photograph(3).pixels // 60, "png"))
    for name in ("letter.jpg", "letter.pdf", "letter"):
        (folder / name).write_text("Dear colleague")
    paths["bad"] = [folder / name for name in ("letter.jpg", "letter.pdf", "letter")]
    return paths


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)
