"""An explanation, or a what-if, on disk: maps in the photograph's frame, numbers as JSON, and one page of text.

explanation.json      schema of `explain.Explanation.to_dict`
explanation.md, .pdf  the same in words
map.png               the map over the photograph, the photograph's size, RGB, marked
map_values.png        the map alone, 8-bit grey: 128 is zero where the map is signed, 255 is `scale`
map_values.npy        its values, float32 (s, s), over the square `grid_px` of the photograph (see explanation.json)
map_<modality>.png    each modality's part of it (exact maps of all modalities)
shares.png            each modality's share of the score
whatif.json, .md      what was changed, and how every score moves
whatif.png            the largest moves

What another explanation left in the same folder is removed first: the files there are of one eye.
"""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from . import draw, labels, outputs
from .explain import Explanation, WhatIf
from .explain.figures import move_chart, overlay, raw, share_chart
from .prose import reservations
from .prose.explanation import explanation_pdf, explanation_text, whatif_text
from .records import SCHEMA, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(folder: Path, explanation: Explanation) -> None:
    """Write one explanation. Raises OSError where the folder cannot be written."""
    pictures = {"map": overlay(explanation)}
    pictures |= {f"map_{name}": overlay(explanation, part) for name, part in explanation.parts.items()}
    others = ("explanation.md", "explanation.pdf", "map_values.npy")
    with outputs.replacing(folder / outputs.EXPLANATION, _numbers(explanation.to_dict()), others):
        for name, picture in pictures.items():
            (folder / f"{name}.png").write_bytes(draw.encode(picture, "png"))
        (folder / "map_values.png").write_bytes(cv2.imencode(".png", raw(explanation))[1].tobytes())
        np.save(folder / "map_values.npy", explanation.square.astype(np.float32))
        _write_chart(folder / "shares.png", share_chart(explanation))
        (folder / "explanation.md").write_text(explanation_text(explanation), encoding="utf-8")
        (folder / "explanation.pdf").write_bytes(explanation_pdf(explanation))


def write_whatif(folder: Path, report: Report, whatif: WhatIf) -> None:
    """Write one experiment with the eye of `report`. Raises OSError where the folder cannot be written."""
    origin, whole = report.provenance, report.to_dict()
    moves = {code: {**asdict(move), "crosses": move.crosses} for code, move in whatif.moves.items()}
    values = {"schema": SCHEMA, **{part: whole[part] for part in ("input", "eye", "quality")}}
    values |= {"change": whatif.change, "moves": moves, "provenance": whole["provenance"], "notice": labels.NOTICE}
    told = f"Photograph sha256 {report.photograph.sha256}. "
    told += f"Weights {origin.weights_source}, sha256 {origin.weights_sha256}."
    text = "\n\n".join([*reservations(report), told, f"**{labels.NOTICE}**"])
    with outputs.replacing(folder / outputs.WHATIF, _numbers(values), ("whatif.md",)):
        (folder / "whatif.md").write_text(f"{whatif_text(whatif)}\n{text}\n", encoding="utf-8")
        _write_chart(folder / "whatif.png", move_chart(whatif))


def _numbers(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _write_chart(path: Path, figure: "Figure") -> None:
    chart = io.BytesIO()
    figure.savefig(chart, format="png", dpi=150)
    path.write_bytes(chart.getvalue())
