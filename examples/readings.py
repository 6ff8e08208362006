"""What the shipped weights say of the simulated eyes: `python examples/readings.py` writes tests/golden/readings.json.

To be run when the weights change, and only then: the test that holds a reading to this file tells a change of the code
that moves numbers from one that should not.
"""

import json
from pathlib import Path
from typing import Any

from qmmfl import pipeline
from qmmfl.records import Report

ROOT = Path(__file__).parent.parent
EYES = sorted((ROOT / "examples" / "eyes").glob("*.jpg"))
GOLDEN = ROOT / "tests" / "golden" / "readings.json"


def numbers(report: Report) -> dict[str, Any]:
    """Side, grade, probabilities, cup-to-disc ratio, place of the disc [px], lesions of one eye."""
    disc = report.planes["disc"].pixels >= 0.5
    return {
        "side": report.eye.side,
        "grade": report.dr.grade,
        "findings": {each.code: round(each.probability, 4) for each in report.findings if each.probability is not None},
        "oedema": round(report.dme.probability, 4),
        "cup_to_disc": round(report.disc_cup.vcdr, 3),
        "disc_px": [round(float(place.mean())) for place in disc.nonzero()[::-1]],
        "lesions": {code: lesion.count for code, lesion in report.lesions.items()},
    }


if __name__ == "__main__":
    reader = pipeline.load(device="cpu", runtime="torch")
    values = {path.stem: numbers(reader(path)) for path in EYES}
    GOLDEN.write_text(json.dumps({"weights": reader.card.sha256, "eyes": values}, indent=1) + "\n")
