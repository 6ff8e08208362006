"""The clinician's own word beside the machine's: opinions, a corrected grade, a note; and its rows for a study."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from . import cells, labels
from .records import Finding, Report

OPINIONS = ("agree", "disagree", "unsure")
CUP = "VCDR"
NOTE_LENGTH = 2000
SUBJECTS = MappingProxyType(
    {
        **{code: name for code, name in labels.SCORES.items() if code != labels.THREAT},  # a corrected grade says it
        CUP: "Vertical cup-to-disc ratio",
        **{f"map:{each.name}": f"Pictures: {each.title.lower()}" for each in labels.SYNTHESES},
    }
)
COLUMNS = (
    *("eye", "code", "finding", "assessed", "probability", "threshold", "suspected", "undecided", "machine_grade"),
    *("measured", "opinion", "corrected_grade", "note", "gradable", "photograph_sha256", "weights_sha256"),
    *("package_version", "created", "notes", "few_eyes", "reason"),
)


@dataclass(frozen=True)
class Review:
    """opinions: a key of SUBJECTS -> one of OPINIONS, only where one was given. grade: corrected, 0..4, or None."""

    opinions: Mapping[str, str] = field(default_factory=dict)
    grade: int | None = None
    note: str = ""

    @property
    def given(self) -> bool:
        """Whether anything was said."""
        return bool(self.opinions or self.grade is not None or self.note)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {**asdict(self), "opinions": dict(self.opinions)}


def parse(text: str | None) -> dict[str, Review]:
    """What the page sent, a JSON list of all that it heard: SHA-256 of a photograph -> its review."""
    try:
        given = json.loads(text or "[]")
    except ValueError:
        return {}
    every = given if isinstance(given, list) else []
    return {each["eye"]: accept(each) for each in every if isinstance(each, dict) and isinstance(each.get("eye"), str)}


def accept(given: Mapping[str, Any]) -> Review:
    """One of them as a review; whatever it must not contain is left out."""
    opinions = given.get("opinions")
    opinions = opinions if isinstance(opinions, dict) else {}
    grade = str(given.get("grade", ""))
    note = str(given.get("note") or "")[:NOTE_LENGTH].encode("utf-8", "replace").decode()  # half an emoji is no text
    return Review(
        {code: opinions[code] for code in SUBJECTS if opinions.get(code) in OPINIONS},
        int(grade) if grade in tuple("01234") else None,
        note.strip(),
    )


def to_csv(pairs: Iterable[tuple[Report, Review]]) -> str:
    """One row per subject of every eye, then what the grade calls; no name of a file or of a person."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for report, review in pairs:
        writer.writerows({name: cells.guard(value) for name, value in row.items()} for row in _rows(report, review))
    return text.getvalue()


def _rows(report: Report, review: Review) -> Iterable[dict[str, Any]]:
    shared = {
        "eye": report.eye.side,
        "machine_grade": report.dr.grade,
        "corrected_grade": review.grade,
        "note": review.note,
        "gradable": report.quality.gradable,
        "photograph_sha256": report.photograph.sha256,
        "weights_sha256": report.provenance.weights_sha256,
        "package_version": report.provenance.package_version,
        "created": report.provenance.created,
        "notes": " ".join(report.photograph.notes),  # that an eye is simulated, too
    }
    found = {labels.OEDEMA: report.dme, **{each.code: each for each in report.findings}}
    for code, name in SUBJECTS.items():
        row = {**shared, "code": code, "finding": name, "opinion": review.opinions.get(code)}
        if code in found:
            each = found[code]
            row |= {"assessed": each.assessed, "probability": each.probability, "threshold": each.threshold}
            row |= {"suspected": each.suspected, "undecided": each.undecided}
            row |= {"reason": each.reason, "few_eyes": isinstance(each, Finding) and each.few_eyes}
        elif code == CUP:
            row["measured"] = report.disc_cup.vcdr
        elif code == labels.GRADE:
            row["reason"] = report.dr.reason
        yield row
    for code, (name, least) in labels.CALLS.items():
        row = {"code": code, "finding": name, "assessed": True, "probability": report.dr.chance(least)}
        row |= {"suspected": report.dr.reaches(least), "undecided": report.dr.undecided(least)}
        yield {**shared, **row, "threshold": report.dr.threshold}
