"""A report on paper: the PDF to keep. The same report always gives the same bytes."""

import io
from datetime import datetime
from typing import TYPE_CHECKING

from .. import draw, labels
from ..records import Report
from ..review import Review
from .doubts import remarks
from .review import review_rows
from .sentences import (
    call,
    facts,
    footnotes,
    legend_text,
    plane_error,
    provenance,
    ranked,
    shares,
    standing,
    suspected,
)
from .synopsis import headline
from .wording import (
    CAUTIONS,
    GRADE,
    NOT_EXCLUDED,
    OEDEMA,
    SCOPE,
    SCORES,
    SINGLE_FIELD,
    THREAT,
    UNRELIABLE,
    listed,
    percent,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 5  # scores whose shares fit on the paper


def report_pdf(report: Report, review: Review | None = None) -> bytes:
    """A4 pages. First photograph, outlines, findings, measurements, provenance; never an angiogram. One page, or two
    where there is much to say. Then the synthesized planes, each marked, and what the raised scores are made
    of: the grade, the risk of oedema, the most probable findings. Last the clinician's review, where there is one.
    """
    pages = _reading(report, review) + (_appendix(report) if report.planes else [])
    if review and review.given:
        said = [("Subject", "Word"), *review_rows(review)]
        if not draw.printable(review.note):
            said.append(("", "What this page cannot print of the note stands as boxes; JSON and CSV hold all of it."))
        tables = [("What the clinician says", said, (0.0, 0.45))]
        foot = f"Weights sha256 {report.provenance.weights_sha256}; photograph sha256 {report.photograph.sha256}."
        pages += draw.sheet(f"The clinician's review: {whose(report)}", labels.NOTICE, [], tables, foot, 2.4)
    return bind("qmmfl report", report.provenance.created, pages)


def whose(report: Report) -> str:
    """Which eye a page is of, by its side and the first digits of the photograph's hash."""
    side = f"{report.eye.side} eye" if report.eye.side else "side not known"
    return f"{side}, photograph {report.photograph.sha256[:8]}"


def bind(title: str, created: str, pages: "list[Figure]") -> bytes:
    """Matplotlib Figures -> the bytes of a PDF. created: ISO 8601, the only date in it."""
    from matplotlib import rc_context  # a second of import time that only the PDF needs
    from matplotlib.backends.backend_pdf import PdfPages

    data = io.BytesIO()
    when = datetime.fromisoformat(created)
    about = {"Title": title, "Subject": labels.NOTICE, "CreationDate": when, "ModDate": when}
    with rc_context({"font.size": 8}), PdfPages(data, metadata=about) as file:
        for page in pages:
            file.savefig(page)
    return data.getvalue()


def _reading(report: Report, review: Review | None = None) -> "list[Figure]":
    pictures = [(draw.photograph(report, 640), "Colour photograph, as acquired")]
    if report.planes:
        poor = "" if report.quality.gradable else f". {UNRELIABLE}"
        pictures.append((draw.overlay(report, side=640), f"Outlines computed from the photograph (synthesized){poor}"))
    findings = [("Finding", "Probability", "Threshold", "Call")]
    findings += [(f.name, percent(f.probability), percent(f.threshold), call(f)) for f in ranked(report) if f.assessed]
    missing = listed([f.name for f in ranked(report) if not f.assessed])
    findings += [("Not assessed", missing)] if missing else []
    notes = (*_corrected(review), *remarks(report), *report.photograph.notes)
    tables = [
        (headline(report), findings, (0.0, 0.42, 0.54, 0.66)),
        ("Measurements", facts(report) + [("Note", said) for said in notes], (0.0, 0.27)),
        ("Provenance", [("; ".join(f"{what}: {said}" for what, said in provenance(report)),)], (0.0,)),
    ]
    legend = f" Outlines: {legend_text()}." if report.planes else ""
    foot = f"{' '.join((NOT_EXCLUDED, SCOPE, SINGLE_FIELD, *footnotes(report)))}{legend}"
    return draw.sheet(f"qmmfl report: {whose(report)}", labels.NOTICE, pictures, tables, foot, 2.9)


def _corrected(review: Review | None) -> tuple[str, ...]:
    """That a clinician has spoken: whoever reads the first page alone must not take it for the last word."""
    if not review or not review.given:
        return ()
    grade = "" if review.grade is None else f" The clinician corrected the grade to {review.grade}."
    return (f"This is what the machine says; what the clinician says of it stands on the last page.{grade}",)


def _appendix(report: Report) -> "list[Figure]":
    pictures = [
        (draw.plane(report, name, 256), each.title + (f", {said}" if (said := plane_error(report, name)) else ""))
        for name, each in report.planes.items()
    ]
    raised = [code for code in (GRADE, THREAT, OEDEMA) if standing(report, code)[1]]
    raised += [f.code for f in suspected(report)]
    found = [code for code in raised if code in report.contributions][:_COLUMNS]
    rows = [("Modality", *found)]
    columns = [dict(shares(report, code)) for code in found]
    rows += [
        (title, *(f"{each.get(title, 0.0):+.2f}" for each in columns)) for title in (columns[0] if columns else ())
    ]
    names = ", ".join(f"{code}: {SCORES[code]}" for code in found)
    tables = [(f"Share of each modality in the score [logit]. {names}", rows, (0.0, 0.4, 0.52, 0.64, 0.76, 0.88))]
    foot = f"Angiogram: {CAUTIONS['ffa']} Bands: {CAUTIONS['msi']}" + (
        f" Shares: {CAUTIONS['shares']}" if found else ""
    )
    title = f"Synthesized pictures: {whose(report)}"
    return draw.sheet(title, labels.NOTICE, pictures, tables if found else [], foot, 5.2)
