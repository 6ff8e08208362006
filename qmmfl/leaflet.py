"""Evidence and the place in the atlas on disk: numbers as JSON, sentences as text, one picture each.

evidence.json, evidence.txt, evidence.png   what was measured in one photograph
atlas.json, atlas.txt, atlas.png            where it lies among the reference eyes
neighbours.png                              the nearest of them, where the user has their pictures

What another eye left in the same folder is removed first: the files there are of one eye.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import charts, outputs, prose
from .atlas import Atlas, Placement
from .evidence import Evidence
from .records import SCHEMA, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_evidence(folder: Path, report: Report, evidence: Evidence) -> None:
    """Write one eye's evidence; without a disc there is no picture, and the text says why. Raises OSError."""
    words = "\n".join(filter(None, [prose.evidence_text(evidence).rstrip("\n"), prose.macula_doubt(report, evidence)]))
    with _written(folder / outputs.EVIDENCE, report, evidence.to_dict(), f"{words}\n"):
        if evidence.disc is not None:
            _write_picture(folder / "evidence.png", charts.evidence_figure(report, evidence))


def write_placement(
    folder: Path, report: Report, atlas: Atlas, placement: Placement, subject: str, references: Path | None = None
) -> None:
    """Write one eye's place, the map marked by `subject` (see `charts`), and with `references`, a folder of the data,
    the pictures of its neighbours. Raises OSError, and what the figures raise before anything is written.
    """
    figures = {"atlas.png": charts.atlas_figure(atlas, placement, subject)}
    if references is not None:
        figures["neighbours.png"] = charts.neighbours_figure(report, placement, references)
    with _written(folder / outputs.ATLAS, report, placement.to_dict(), prose.placement_text(placement)):
        for name, figure in figures.items():
            _write_picture(folder / name, figure)


@contextmanager
def _written(path: Path, report: Report, values: dict[str, Any], text: str) -> Iterator[None]:
    """Inside, the pictures are written. Places in the values are shares of the square `grid_px` (x, y, width, height)
    of the photograph.
    """
    whole = report.to_dict()
    origin = {"schema": SCHEMA, **{part: whole[part] for part in ("input", "eye", "quality", "provenance", "notice")}}
    numbers = json.dumps(origin | values, indent=1, allow_nan=False) + "\n"
    doubts = "".join(f"{said}\n" for said in prose.reservations(report))
    words = path.with_suffix(".txt")
    with outputs.replacing(path, numbers, (words.name,)):
        words.write_text(text + doubts, encoding="utf-8")
        yield


def _write_picture(path: Path, figure: "Figure") -> None:
    figure.savefig(path, dpi=130, metadata={"Software": None})  # without the version, so that bytes repeat
