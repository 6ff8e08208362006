"""The shipped weights say of the simulated eyes what they said when they were exported."""

import importlib.util
import json

import pytest
from conftest import ROOT

from qmmfl import pipeline

SPEC = importlib.util.spec_from_file_location("readings", ROOT / "examples" / "readings.py")
readings = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(readings)
CURE = "if the weights are new or the change is meant, run python examples/readings.py and say in the commit what moved"


@pytest.fixture(scope="module")
def reader():
    return pipeline.load(device="cpu", runtime="torch")


def test_readings_of_the_simulated_eyes_are_golden(reader):
    golden = json.loads(readings.GOLDEN.read_text())
    assert golden["weights"] == reader.card.sha256, CURE
    assert set(golden["eyes"]) == {path.stem for path in readings.EYES}
    for path in readings.EYES:
        was, now = golden["eyes"][path.stem], readings.numbers(reader(path))
        assert now["side"] == was["side"] == path.stem.split("_")[1], "as simulated; by the photograph alone"
        assert now["grade"] == was["grade"], CURE
        assert now["findings"] == pytest.approx(was["findings"], abs=5e-3), CURE
        assert now["oedema"] == pytest.approx(was["oedema"], abs=5e-3), CURE
        assert now["cup_to_disc"] == pytest.approx(was["cup_to_disc"], abs=5e-3), CURE
        assert now["disc_px"] == pytest.approx(was["disc_px"], abs=1.5), CURE
        assert now["lesions"] == pytest.approx(was["lesions"], abs=2), CURE
