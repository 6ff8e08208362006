"""Report -> words: sentences, HTML for the page, the PDF to keep. The same report always gives the same bytes.

Never "diagnosis", "normal" or "healthy": a score below its threshold does not exclude disease.
"""

import io
from collections.abc import Iterable
from datetime import datetime
from html import escape
from types import MappingProxyType

from . import draw, labels
from .records import Finding, Report

EVIDENCE = "Shows where the model's score comes from, not where disease is."
NOT_EXCLUDED = "A score below its threshold does not exclude disease."
UNGRADABLE = "Ungradable is not negative: refer if a better photograph cannot be taken."
SCOPE = (
    "Not assessed: disease that only OCT shows, the periphery outside the field, eye pressure and visual function. "
    "Glaucoma and macular oedema cannot be excluded."
)
SINGLE_FIELD = "Single-field estimate on the ICDR scale; one photograph cannot count four quadrants."
CAUTIONS = MappingProxyType(
    {
        "ffa": "Computer-generated from the colour photograph. Dye leakage, non-perfusion and timing are not measured "
        "and may be invented or missing. Do not use in place of angiography.",
        "msi": "Model-based estimate from three colour channels (no multispectral camera). No oxygen information.",
        "layers": "Computed from the photograph. Outlines where the probability reaches one half; vessels grow more "
        "opaque with their probability. The counts of lesions use their own thresholds.",
        "shares": "Each modality's share of the score before calibration (logit). The modalities have seen each "
        "other in the fusion: a share is not evidence from that modality alone.",
    }
)


def percent(probability: float | None) -> str:
    """One decimal of percent, or an empty string where it is withheld."""
    return "" if probability is None else f"{100 * probability:.1f} %"


def call(finding: Finding) -> str:
    """What the model says about one finding, in words, with the reason where there is one."""
    if not finding.assessed or finding.probability is None:
        return withheld(finding.reason or (labels.NOT_ASSESSED if not finding.assessed else None))
    flagged = "no listed abnormality flagged" if finding.code == "NORMAL" else "suspected"
    words = flagged if finding.suspected else "below threshold"
    return f"{words} ({finding.reason})" if finding.reason else words


def withheld(reason: str | None) -> str:
    """The words for a number that is not given; reasons that already say so are not said twice."""
    if reason and reason.startswith(("withheld", "not assessed")):
        return reason
    return f"withheld: {reason}" if reason else "withheld"


def ranked(report: Report) -> list[Finding]:
    """Findings in the order to read them: suspected first, each group by falling probability, unassessed last."""
    order = list(labels.FINDINGS)
    return sorted(
        report.findings,
        key=lambda f: (not f.assessed, f.code == "NORMAL", not f.suspected, -(f.probability or 0), order.index(f.code)),
    )


def suspected(report: Report) -> list[Finding]:
    """The suspected findings, the most probable first; "no listed abnormality flagged" is none of them."""
    return [f for f in ranked(report) if f.suspected and f.code != "NORMAL"]


def headline(report: Report) -> str:
    """The whole reading in one sentence."""
    if not report.quality.gradable and all(f.probability is None for f in report.findings):
        return "This photograph cannot be read; every prediction is withheld."
    found = [f"{f.name} ({percent(f.probability)})" for f in suspected(report)]
    if found:
        return f"Suspicion of {_listed(found)}."
    return f"No listed abnormality flagged in a {'' if report.quality.gradable else 'poorly '}gradable photograph; " + (
        "this does not exclude disease."
    )


def facts(report: Report) -> list[tuple[str, str]]:
    """Name and value of everything measured beside the findings, in reading order."""
    rows = [("Photograph", quality(report)), ("Eye", eye(report)), ("Diabetic retinopathy grade", grade(report))]
    rows.append(("More than mild", _flag(report.dr.more_than_mild, report.dr.reason)))
    rows.append(("Vision-threatening", _flag(report.dr.vision_threatening, report.dr.reason)))
    rows.append(("Macular oedema risk", oedema(report)))
    rows.append(("Vertical cup-to-disc ratio", cup_to_disc(report)))
    return rows + [(labels.LESION_NAMES[code], lesion(report, code)) for code in labels.LESIONS]


def quality(report: Report) -> str:
    """Whether the photograph can be read, and how sure that is."""
    score = "" if report.quality.score is None else f" (probability of being gradable {percent(report.quality.score)})"
    return ("Gradable" if report.quality.gradable else "Not gradable") + score


def eye(report: Report) -> str:
    """Laterality and what it was read from."""
    return "Side not known" if report.eye.side is None else f"{report.eye.side.capitalize()} ({report.eye.origin})"


def grade(report: Report) -> str:
    """The ICDR grade."""
    if report.dr.grade is None:
        return withheld(report.dr.reason)
    words = f"{report.dr.grade}, {labels.GRADES[report.dr.grade].lower()}"
    return f"{words} ({report.dr.reason})" if report.dr.reason else words


def oedema(report: Report) -> str:
    """The surrogate for macular oedema."""
    dme = report.dme
    if dme.probability is None:
        return withheld(dme.reason)
    words = "suspected" if dme.suspected else "below threshold"
    return f"{words}, {percent(dme.probability)} (threshold {percent(dme.threshold)}; surrogate, OCT decides)"


def cup_to_disc(report: Report) -> str:
    """The vertical cup-to-disc ratio with its error."""
    measured = report.disc_cup
    if measured.vcdr is None:
        return withheld(measured.reason)
    error = "error not known" if measured.vcdr_error is None else f"± {measured.vcdr_error:.2f} mean absolute error"
    return f"{measured.vcdr:.2f} ({error})"


def lesion(report: Report, code: str) -> str:
    """Count and area of one kind of lesion."""
    found = report.lesions.get(code)
    if found is None or found.count is None:
        return "withheld"
    area = "" if found.area_fraction is None else f", {100 * found.area_fraction:.2f} % of the field"
    return f"{found.count} region{'' if found.count == 1 else 's'}{area}"


def heat_caption(report: Report, code: str) -> str:
    """What the score map of one finding shows, and what it does not."""
    finding = report.finding(code)
    if code not in report.maps:
        return f"{finding.name}: no score map ({call(finding)})."
    cell = draw.cell_width(report, code)
    said = [f"{finding.name}: {percent(finding.probability)}, {call(finding)}."]
    if not finding.suspected:
        said.append("This finding is not suspected: the map shows what little raised its score.")
    said.append(EVIDENCE)
    if cell:
        said.append(f"Cells are {cell} px wide.")
    said.append(f"Colours run from 0 to {draw.HEAT_TOP:.0f} or more (logit per cell), the same in every eye.")
    return " ".join(said)


def provenance(report: Report) -> list[tuple[str, str]]:
    """Where the numbers come from."""
    origin = report.provenance
    return [
        ("Software", f"qmmfl {origin.package_version}, {origin.runtime}"),
        ("Weights", origin.weights_source),
        ("Weights SHA-256", origin.weights_sha256),
        ("Preparation", origin.prep),
        ("Photograph SHA-256", report.photograph.sha256),
        ("Photograph", f"{report.photograph.width} x {report.photograph.height} px"),
        ("Created", f"{origin.created} in {origin.seconds:.1f} s"),
    ]


def shares(report: Report, code: str) -> list[tuple[str, float]]:
    """Share of each modality, then the constant, of one finding's score before calibration [logit]."""
    given = report.contributions.get(code, {})
    titles = {**{m.name: m.title for m in labels.MODALITIES}, "bias": "Constant (all eyes)"}
    return [(title, given[name]) for name, title in titles.items() if name in given]


# ------------------------------------------------------------------------------------------------ HTML for the page


def findings_html(report: Report) -> str:
    """The findings as a table: finding, probability, threshold, call. What was not assessed is listed below it."""
    rows = "".join(_finding_row(finding) for finding in ranked(report) if finding.assessed)
    missing = [f.name for f in ranked(report) if not f.assessed]
    below = f"<p><b>Not assessed</b> (these weights never learnt them): {escape(_listed(missing))}.</p>" if missing else ""
    return (
        f'<table class="findings"><caption>{escape(headline(report))}</caption><thead><tr><th scope="col">Finding</th>'
        '<th scope="col">Probability</th><th scope="col">Threshold</th><th scope="col">Call</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{below}<p>{NOT_EXCLUDED} {SCOPE}</p>"
    )


def facts_html(report: Report) -> str:
    """Quality, eye, grade, cup-to-disc ratio and lesions as a table, with the reasons and notes below it."""
    remarks = (*report.quality.reasons, *report.photograph.notes)
    below = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return _pairs_html("Measurements", facts(report)) + (f"<ul>{below}</ul>" if below else "")


def grade_html(report: Report) -> str:
    """The five grades as an ordinal bar with their probabilities."""
    if report.dr.probabilities is None:
        return f"<p>Diabetic retinopathy grade: {escape(grade(report))}.</p>"
    steps = "".join(
        f'<li class="step{" chosen" if number == report.dr.grade else ""}"'
        f'{" aria-current=true" if number == report.dr.grade else ""}><b>{number}</b> {escape(name)}'
        f'<span class="bar" style="--share:{100 * p:.1f}%"></span><span class="figure">{percent(p)}</span></li>'
        for number, (name, p) in enumerate(zip(labels.GRADES, report.dr.probabilities, strict=True))
    )
    return (
        f'<section aria-label="Diabetic retinopathy grade"><h3>Diabetic retinopathy grade</h3><ol class="grades" '
        f'start="0">{steps}</ol><p>{SINGLE_FIELD}</p></section>'
    )


def shares_html(report: Report, code: str) -> str:
    """Each modality's share of one finding's score, as a table with bars; empty where there is none."""
    given = shares(report, code)
    if not given:
        return ""
    top = max(abs(value) for _, value in given) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{escape(title)}</th><td class="figure">{value:+.2f}</td><td><span class="bar '
        f'{"down" if value < 0 else ""}" style="--share:{100 * abs(value) / top:.0f}%"></span></td></tr>'
        for title, value in given
    )
    return (
        f'<table class="shares"><caption>What the score is made of</caption><thead><tr><th scope="col">Modality</th>'
        f'<th scope="col">Share</th><th scope="col">Size</th></tr></thead><tbody>{rows}</tbody></table>'
        f"<p>{CAUTIONS['shares']}</p>"
    )


def summary_html(report: Report) -> str:
    """The reading at a glance: one sentence, three figures, and for an ungradable photograph what to retake."""
    if not report.quality.gradable:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.quality.reasons)
        return (
            f'<div class="glance refused" role="status"><strong>{escape(headline(report))}</strong>'
            f"<ul>{reasons}</ul><p>{UNGRADABLE}</p></div>"
        )
    cells = {"DR grade": grade(report), "Cup-to-disc ratio": cup_to_disc(report), "Eye": eye(report)}
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in cells.items())
    return f'<div class="glance" role="status"><strong>{escape(headline(report))}</strong><dl>{items}</dl></div>'


def provenance_html(report: Report) -> str:
    """Where the numbers come from, as a table."""
    return _pairs_html("Provenance", provenance(report))


def _pairs_html(caption: str, pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs)
    return f'<table class="facts"><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>'


def _finding_row(finding: Finding) -> str:
    marked = ' class="suspected"' if finding.suspected and finding.code != "NORMAL" else ""
    return (
        f'<tr{marked}><th scope="row">{escape(finding.name)}</th><td class="figure">{percent(finding.probability)}</td>'
        f'<td class="figure">{percent(finding.threshold)}</td><td>{escape(call(finding))}</td></tr>'
    )


def _flag(value: bool | None, reason: str | None) -> str:
    return withheld(reason) if value is None else "yes" if value else "not reached"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


# --------------------------------------------------------------------------------------------------------- the PDF


def report_pdf(report: Report) -> bytes:
    """Two A4 pages. Page 1: photograph, outlines, findings, measurements, provenance; never an angiogram.
    Page 2: the synthesized planes, each marked, and what the scores of the suspected findings are made of.
    """
    from matplotlib import rc_context  # a second of import time that only the PDF needs
    from matplotlib.backends.backend_pdf import PdfPages

    data = io.BytesIO()
    created = datetime.fromisoformat(report.provenance.created)
    about = {"Title": "qmmfl report", "Subject": labels.NOTICE, "CreationDate": created, "ModDate": created}
    with rc_context({"pdf.fonttype": 42, "font.size": 8}), PdfPages(data, metadata=about) as pages:
        for draw_page in (_first_page, _appendix):
            pages.savefig(draw_page(report))
    return data.getvalue()


def _first_page(report: Report):
    pictures = [
        (draw.photograph(report, 640), "Colour photograph, as acquired"),
        (draw.overlay(report, side=640), "Outlines computed from the photograph (SYNTHESIZED)"),
    ]
    findings = [("Finding", "Probability", "Threshold", "Call")]
    findings += [
        (f.name, percent(f.probability), percent(f.threshold), call(f)) for f in ranked(report) if f.assessed
    ]
    missing = _listed([f.name for f in ranked(report) if not f.assessed])
    findings += [("Not assessed", missing)] if missing else []
    remarks = [("Note", remark) for remark in (*report.quality.reasons, *report.photograph.notes)]
    remarks += [] if report.quality.gradable else [("Note", UNGRADABLE)]
    tables = [
        (headline(report), findings, (0.0, 0.42, 0.54, 0.66)),
        ("Measurements", facts(report) + remarks, (0.0, 0.27)),
        ("Provenance", provenance(report), (0.0, 0.27)),
    ]
    return draw.sheet("qmmfl report", labels.NOTICE, pictures, tables, f"{NOT_EXCLUDED} {SCOPE} {SINGLE_FIELD}", 1.75)


def _appendix(report: Report):
    pictures = [
        (draw.plane(report, name, 256), each.title + (f", error ± {each.error:.2f}" if each.error is not None else ""))
        for name, each in report.planes.items()
    ]
    found = [f for f in suspected(report) if f.code in report.contributions][:5]
    rows = [("Modality", *(f.code for f in found))]
    columns = [dict(shares(report, f.code)) for f in found]
    rows += [(title, *(f"{each.get(title, 0.0):+.2f}" for each in columns)) for title in (columns[0] if columns else ())]
    names = ", ".join(f"{f.code}: {f.name}" for f in found)
    tables = [(f"Share of each modality in the score [logit]. {names}", rows, (0.0, 0.4, 0.52, 0.64, 0.76, 0.88))]
    foot = f"Angiogram: {CAUTIONS['ffa']} Bands: {CAUTIONS['msi']}" + (f" Shares: {CAUTIONS['shares']}" if found else "")
    title = "Appendix: synthesized pictures"
    return draw.sheet(title, labels.NOTICE, pictures, tables if found else [], foot, 5.0)
