"""Reports on disk: one folder per photograph, and one row per input in summary.csv.

Every file is written under another name and then put in place, a report before its row: whatever stops a run, what lies
there is whole, and an input without a row is read again.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from . import cells, dicom, labels, outputs, photograph, prose
from .outputs import DICOM, PDF, PLANES, REPORT
from .records import Report

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif")
ENDINGS = (*_JPEG, ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm")  # what is looked for in a folder
# Begins the name of what is hidden: what macOS keeps beside a file under the same ending, waste, a half-copied file.
_HIDDEN = "."
_APART = ("$recycle.bin", "#recycle", "@eadir")  # waste and thumbnails on disks of Windows and of network storage
OK, UNGRADABLE, REFUSED = "ok", "ungradable", "refused"  # status of an input
REPLACED = "the photograph's file is no longer the one that was read; read it anew"

_GRADES = tuple(f"p_grade_{grade}" for grade in range(len(labels.GRADES)))
_FIRST = ("input", "status", "reason", "notes", "conflicts", "folder", "sha256", "side")
TEXTS = (*_FIRST, "weights_sha256", "package_version", "stamp")
_NUMBERS = ("quality", "dme_probability", "vcdr", *_GRADES, *(f"p_{code}" for code in labels.FINDINGS))
_COUNTS = tuple(f"lesions_{code}" for code in labels.LESIONS)
SUMMARY_COLUMNS = (
    *_FIRST,
    "gradable",
    "quality",
    "quality_doubtful",
    "fundus",
    "dr_grade",
    *_GRADES,
    "more_than_mild_by_grade",
    "vision_threatening_by_grade",
    "undecided_more_than_mild",
    "undecided_vision_threatening",
    "dme_probability",
    "vcdr",
    *_COUNTS,
    *(f"p_{code}" for code in labels.FINDINGS),
    *(f"suspected_{code}" for code in labels.FINDINGS),
    *(f"undecided_{code}" for code in labels.FINDINGS),
    "suspected_DME",
    "undecided_DME",
    "weights_sha256",
    "package_version",
    "stamp",
)


@dataclass(frozen=True)
class Parts:
    """What is written beside report.json."""

    pdf: bool = True
    planes: bool = True


def find_photographs(paths: Iterable[str | Path], leave_out: Path | None = None) -> Iterator[Path]:
    """The files named, and the photographs in the folders named, one by one in order of name, by their whole paths.

    A missing path or a closed folder is handed on, for the reader to refuse. `leave_out` is the folder of results: were
    it inside a folder named, its planes would be taken for photographs. What any verb wrote elsewhere is left out, too,
    and what is hidden or was thrown away, unless it is named itself. Links to folders are not followed.
    """
    for path in (Path(os.path.abspath(named)) for named in paths):
        yield from _walk(path, leave_out) if os.path.isdir(path) else (path,)


def _walk(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    try:
        if leave_out is not None and os.path.isdir(leave_out) and folder.samefile(leave_out):
            return
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    ours = outputs.find_pictures(folder, [entry.name for entry in ordered])
    for entry in ordered:
        if entry.name in ours or entry.name.startswith(_HIDDEN) or entry.name.lower() in _APART:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, leave_out)
        elif _may_be_file(entry) if entry.name.lower().endswith(ENDINGS) else _is_unnamed(entry):
            yield folder / entry.name


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Also a link that cannot be followed (to itself, into a closed folder), for the reader to refuse."""
    try:
        return entry.is_file()
    except OSError:
        return True


def _is_unnamed(entry: os.DirEntry[str]) -> bool:
    """Whether it is DICOM under a name of its archive's ("IM000001", a UID); the DICOMDIR beside it is no picture."""
    return entry.name.upper() != "DICOMDIR" and is_dicom(entry.path)


def is_dicom(path: str | Path) -> bool:
    """Whether a file is DICOM, by its content; False for one that cannot be read."""
    with contextlib.suppress(OSError):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return dicom.is_dicom(file.read(132))
    return False


def show(path: str | Path) -> str:
    """A path as text that can be written and printed, also where the file's name is no valid text."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def write_report(
    folder: Path,
    report: Report,
    parts: Parts = Parts(),
    source: Path | None = None,
) -> str | None:
    """Write the parts and last report.json: where that lies, all is there. Raises OSError.

    Returns why a photograph that came as DICOM has no report as DICOM; None where it has, or came otherwise.
    What lies there of an earlier report goes first: it may have had other parts, or be of another eye. Where writing
    fails, nothing is left.
    source: the file of a photograph that came as DICOM; the PDF is written as DICOM, too, which names the patient.
    """
    folder.mkdir(exist_ok=True)
    try:
        with placing(folder / REPORT) as begun:
            values = json.dumps(to_json(report), indent=1, allow_nan=False)
            begun.write_bytes(f"{values}\n".encode())  # until it is in place it says whose the folder is
            remove_report(folder)
            missing = _write_pdf(folder, report, source) if parts.pdf else None
            if parts.planes:
                write_planes(folder / PLANES, report)
    except BaseException:
        remove_report(folder)
        raise
    return missing


def _write_pdf(folder: Path, report: Report, source: Path | None) -> str | None:
    pdf = prose.report_pdf(report)
    _place(folder / PDF, pdf)
    if source is not None:
        try:
            data = _read_again(source, report.photograph.sha256)
            _place(folder / DICOM, dicom.encapsulate(data, pdf, report.eye.side, report.provenance.created))
        except dicom.DicomError as error:  # the other files are good
            return f"There is no report as DICOM, because {error}."
    return None


def to_json(report: Report) -> dict[str, Any]:
    """report.json: the report, and under "conflicts" where it disagrees with itself: code -> a sentence."""
    return {**report.to_dict(), "conflicts": prose.conflicts(report)}


def _read_again(source: Path, sha256: str) -> bytes:
    """The bytes of a file that was read before. Raises DicomError where others lie there by now: whose, who knows."""
    with contextlib.suppress(OSError), source.open("rb") as file:
        data = file.read(photograph.MAX_BYTES + 1)
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise dicom.DicomError(REPLACED)


def write_planes(folder: Path, report: Report) -> None:
    """One 8-bit grey PNG per plane, in the photograph's frame and size, 0..1 scaled to 0..255."""
    folder.mkdir(exist_ok=True)
    for name, plane in report.planes.items():
        pixels = np.rint(plane.pixels * 255).astype(np.uint8)
        _place(folder / f"{name}.png", cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())


def remove_report(folder: Path) -> None:
    """Remove what `write_report` wrote, and the folder if nothing else is in it."""
    for path in (
        folder / PDF,
        folder / DICOM,
        *(folder / PLANES / f"{name}.png" for name in labels.PLANES),
        folder / REPORT,  # last: it says whose the others are
    ):
        path.unlink(missing_ok=True)
    for path in (folder / PLANES, folder):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@contextlib.contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Where to write what is then put in place; nothing of it is left where that fails."""
    partial = outputs.partial(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _place(path: Path, data: bytes) -> None:
    with placing(path) as partial:
        partial.write_bytes(data)


def place_text(path: Path, text: str) -> None:
    """Write a text so that it is there whole or not at all. Raises OSError."""
    _place(path, text.encode())


def summarise(report: Report) -> dict[str, Any]:
    """One row of summary.csv; a withheld number is an empty cell."""
    row = {
        "reason": " ".join(report.quality.reasons),
        "notes": " ".join(report.photograph.notes),
        "conflicts": " ".join(prose.conflicts(report).values()),
        "sha256": report.photograph.sha256,
        "side": report.eye.side,
        "gradable": report.quality.gradable,
        "quality": report.quality.score,
        "quality_doubtful": report.quality.doubtful,
        "fundus": report.fundus.is_fundus,
        "dr_grade": report.dr.grade,
        **dict(zip(_GRADES, report.dr.probabilities or (None,) * len(_GRADES), strict=True)),
        "more_than_mild_by_grade": report.dr.more_than_mild,
        "vision_threatening_by_grade": report.dr.vision_threatening,
        "undecided_more_than_mild": report.dr.more_than_mild_undecided,
        "undecided_vision_threatening": report.dr.vision_threatening_undecided,
        "dme_probability": report.dme.probability,
        "vcdr": report.disc_cup.vcdr,
        **{f"lesions_{code}": lesion.count for code, lesion in report.lesions.items()},
        **{f"p_{finding.code}": finding.probability for finding in report.findings},
        **{f"suspected_{finding.code}": finding.suspected for finding in report.findings},
        **{f"undecided_{finding.code}": finding.undecided for finding in report.findings},
        "suspected_DME": report.dme.suspected,
        "undecided_DME": report.dme.undecided,
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


def write_parquet(summary: Path) -> Path | None:
    """summary.csv with types, as summary.parquet beside it; None where pyarrow is not installed. Raises OSError, and
    ValueError for a number that another program rewrote.

    Texts, numbers (float64), counts (int32) and 0/1 or grades (int8); an empty cell is null. Goes through the file in
    pieces.
    """
    if find_spec("pyarrow") is None:
        return None
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import compute, csv, parquet  # pyright: ignore[reportMissingImports]

    replace_texts: Any = compute.replace_substring_regex  # pyright: ignore[reportAttributeAccessIssue]
    types = dict.fromkeys(SUMMARY_COLUMNS, pyarrow.int8())
    types |= dict.fromkeys(TEXTS, pyarrow.string()) | dict.fromkeys(_NUMBERS, pyarrow.float64())
    types |= dict.fromkeys(_COUNTS, pyarrow.int32())
    convert = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    target = summary.with_suffix(".parquet")
    parse = csv.ParseOptions(newlines_in_values=True)
    with (
        placing(target) as partial,
        csv.open_csv(summary, parse_options=parse, convert_options=convert) as reader,
        parquet.ParquetWriter(partial, reader.schema) as writer,
    ):
        for batch in reader:
            columns = [
                replace_texts(column, cells.GUARDED, r"\1") if name in TEXTS else column
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            writer.write_batch(pyarrow.RecordBatch.from_arrays(columns, schema=batch.schema))
    return target
