"""Files of a case that are to be kept: each in a folder of its own, gone when the case is cleared."""

import json

from .. import dicom, results
from ..records import PhotographError
from .cases import KEPT, Case, Taken, new_folder, write


def export(case: Case, number: int | None, name: str, data: bytes) -> str:
    """Write a file to be kept, in a folder of its own; its path. The name holds the side of eye `number`, no more."""
    report = None if number is None else case.eyes[number].report
    stem, _, suffix = name.partition(".")
    if report and report.eye.side:
        name = f"{stem}_{report.eye.side}_eye.{suffix}"
    path = new_folder(case.folder, KEPT) / name
    write(path, data)
    return str(path)


def as_json(case: Case, number: int) -> bytes:
    """report.json, schema 1, of an eye that was read, with the evidence and the clinician's review."""
    taken, report = case.eyes[number], case.noted(number)
    assert report is not None
    values = results.to_json(report) | {"overridden": taken.overridden, "review": taken.review.to_dict()}
    if taken.evidence:
        values["evidence"] = taken.evidence.to_dict()
    return json.dumps(values, indent=1).encode()


def as_dicom(taken: Taken, pdf: bytes) -> bytes:
    """The report in the study of its photograph, the only export that names the patient.

    Raises PhotographError where patient and study cannot be copied from the photograph's file.
    """
    assert taken.report is not None
    eye, created = taken.report.eye, taken.report.provenance.created
    try:
        return dicom.encapsulate(taken.file.read_bytes(), pdf, eye.side, created)
    except dicom.DicomError as error:
        raise PhotographError(f"There is no report as DICOM, because {error}; keep the PDF.") from None
