"""Reports on disk: one folder per photograph and one summary for all."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from . import labels, prose
from .records import Photograph, PhotographError, Report

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")  # what is looked for in a folder

SUMMARY_COLUMNS = (
    "input",
    "status",
    "reason",
    "folder",
    "sha256",
    "side",
    "gradable",
    "quality",
    "fundus",
    "dr_grade",
    "more_than_mild",
    "vision_threatening",
    "dme_probability",
    "vcdr",
    *(f"p_{code}" for code in labels.FINDINGS),
    *(f"suspected_{code}" for code in labels.FINDINGS),
    "weights_sha256",
    "package_version",
)


def find_photographs(paths: Iterable[str | Path]) -> Iterator[Path]:
    """The files named, and the photographs in the folders named, in order of name; a missing path is handed on."""
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
        else:
            yield path


class Folder:
    """The output folder of one run. `summary.csv` grows by one row per input, also for refused ones."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the folder cannot be made."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._taken: dict[str, str] = {}
        with (path / "summary.csv").open("w", newline="") as file:
            csv.DictWriter(file, SUMMARY_COLUMNS).writeheader()

    def add(self, source: Path, report: Report, *, planes: bool = True) -> str:
        """Write one report and its row; returns "ok" or "ungradable"."""
        folder = self.path / self._stem(source, report.photograph)
        folder.mkdir(exist_ok=True)
        (folder / "report.json").write_text(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
        (folder / "report.pdf").write_bytes(prose.report_pdf(report))
        if planes:
            write_planes(folder / "planes", report)
        status = "ok" if report.quality.gradable else "ungradable"
        self._row({"input": str(source), "status": status, "folder": folder.name, **summarise(report)})
        return status

    def refuse(self, source: Path, error: PhotographError) -> None:
        """Write the row of an input that could not be read."""
        self._row({"input": str(source), "status": "refused", "reason": str(error)})

    def _row(self, values: dict[str, Any]) -> None:
        with (self.path / "summary.csv").open("a", newline="") as file:
            csv.DictWriter(file, SUMMARY_COLUMNS, restval="").writerow(values)

    def _stem(self, source: Path, photograph: Photograph) -> str:
        """The file's stem; an equal stem of another input gets a short hash of its content."""
        stem = source.stem
        if self._taken.setdefault(stem, str(source)) != str(source):
            stem = f"{stem}-{photograph.sha256[:8]}"
        return stem


def write_planes(folder: Path, report: Report) -> None:
    """One 8-bit grey PNG per plane, in the photograph's frame and size, 0..1 scaled to 0..255."""
    folder.mkdir(exist_ok=True)
    for name, plane in report.planes.items():
        pixels = np.rint(plane.pixels * 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])


def summarise(report: Report) -> dict[str, Any]:
    """One row of summary.csv; a withheld number is an empty cell."""
    row = {
        "reason": " ".join(report.quality.reasons),
        "sha256": report.photograph.sha256,
        "side": report.eye.side,
        "gradable": report.quality.gradable,
        "quality": report.quality.score,
        "fundus": report.fundus.is_fundus,
        "dr_grade": report.dr.grade,
        "more_than_mild": report.dr.more_than_mild,
        "vision_threatening": report.dr.vision_threatening,
        "dme_probability": report.dme.probability,
        "vcdr": report.disc_cup.vcdr,
        **{f"p_{finding.code}": finding.probability for finding in report.findings},
        **{f"suspected_{finding.code}": finding.suspected for finding in report.findings},
        "weights_sha256": report.provenance.weights_sha256,
        "package_version": report.provenance.package_version,
    }
    return {key: _cell(value) for key, value in row.items()}


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return round(value, 6) if isinstance(value, float) else value
