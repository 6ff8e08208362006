"""An explanation on disk: a folder of maps in the photograph's frame, explanation.json, and one page of text.

explanation.json      schema of `explain.Explanation.to_dict`
explanation.md, .pdf  the same in words
map.png               the map over the photograph, the photograph's size, RGB, marked
map_values.png        the map alone, 8-bit grey: 128 is zero where the map is signed
map_<modality>.png    each modality's part of it (exact maps of all modalities)
shares.png            each modality's share of the score
"""

import io
import json
from pathlib import Path

import cv2

from . import draw
from .explain import Explanation
from .explain.figures import overlay, raw, share_chart
from .prose.explanation import explanation_pdf, explanation_text


def write(folder: Path, explanation: Explanation) -> None:
    """Write one explanation. Raises OSError where the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"map": overlay(explanation)}
    pictures |= {f"map_{name}": overlay(explanation, part) for name, part in explanation.parts.items()}
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(draw.encode(picture, "png"))
    (folder / "map_values.png").write_bytes(cv2.imencode(".png", raw(explanation))[1].tobytes())
    chart = io.BytesIO()
    share_chart(explanation).savefig(chart, format="png", dpi=150)
    (folder / "shares.png").write_bytes(chart.getvalue())
    (folder / "explanation.json").write_text(json.dumps(explanation.to_dict(), indent=1, allow_nan=False) + "\n")
    (folder / "explanation.md").write_text(explanation_text(explanation))
    (folder / "explanation.pdf").write_bytes(explanation_pdf(explanation))
