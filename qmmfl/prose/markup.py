"""What a report says, as HTML for the page. Pictures are saved by the caller: save(name, picture, kind) -> address."""

from collections.abc import Callable, Iterable, Sequence
from html import escape

import numpy as np

from .. import draw, labels
from ..records import Finding, Photograph, Report
from .doubts import reservations
from .sentences import (
    absence,
    advice,
    call,
    cup_to_disc,
    eye,
    facts,
    footnotes,
    grade,
    grade_briefly,
    heat_caption,
    oedema,
    plane_error,
    provenance,
    ranked,
    shares,
)
from .synopsis import headline
from .wording import CAUTIONS, GRADE, NOT_EXCLUDED, OEDEMA, SCOPE, SCORES, SINGLE_FIELD, listed, percent

Save = Callable[[str, np.ndarray, str], str]


def findings_html(report: Report) -> str:
    """The findings as a table: finding, probability, threshold, call. What was not assessed is listed below it."""
    rows = "".join(_finding_row(finding, report) for finding in ranked(report) if finding.assessed)
    missing = [f.name for f in ranked(report) if not f.assessed]
    below = (
        f"<p><b>Not assessed</b> (these weights never learnt them): {escape(listed(missing))}.</p>" if missing else ""
    )
    notes = " ".join((*footnotes(report), NOT_EXCLUDED, SCOPE))
    return (
        f'<table class="findings"><caption>{escape(headline(report))}</caption><thead><tr><th scope="col">Finding</th>'
        '<th scope="col">Probability</th><th scope="col">Threshold</th><th scope="col">Call</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{below}<p>{notes}</p>"
    )


def reading_html(report: Report) -> str:
    """Findings, then the grade and the measurements."""
    return findings_html(report) + grade_html(report) + facts_html(report)


def facts_html(report: Report) -> str:
    """Quality, eye, grade, cup-to-disc ratio and lesions as a table, with the reasons and notes below it."""
    remarks = (*report.quality.reasons, *report.photograph.notes)
    below = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return pairs_html("Measurements", facts(report), report) + (f"<ul>{below}</ul>" if below else "")


def grade_html(report: Report) -> str:
    """The five grades as an ordinal bar with their probabilities."""
    if report.dr.probabilities is None:
        return f"<p>{SCORES[GRADE]}: {escape(grade(report))}.</p>"
    steps = "".join(
        f'<li class="step{" chosen" if number == report.dr.grade else ""}"'
        f"{' aria-current=true' if number == report.dr.grade else ''}><b>{number}</b> {escape(name)}"
        f'<span class="bar" style="--share:{100 * p:.1f}%"></span><span class="figure">{percent(p)}</span></li>'
        for number, (name, p) in enumerate(zip(labels.GRADES, report.dr.probabilities, strict=True))
    )
    why = f"<p>Called {report.dr.grade}: {escape(report.dr.reason)}.</p>" if report.dr.reason else ""
    return (
        f'<section aria-label="{SCORES[GRADE]}"><h2>{_name(GRADE, report)}</h2><ol class="grades" '
        f'start="0">{steps}</ol>{why}<p>{SINGLE_FIELD}</p></section>'
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
    doubt = "".join(f'<p class="question">{escape(said)}</p>' for said in reservations(report))
    if not report.quality.gradable:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.quality.reasons)
        return (
            f'<div class="glance refused" role="status"><strong>{escape(headline(report))}</strong>'
            f"<ul>{reasons}</ul><p>{advice(report)}</p>{doubt}</div>"
        )
    # In full among the measurements.
    unsure = [name.partition(",")[0].lower() for name, least in labels.CALLS.values() if report.dr.undecided(least)]
    cells = {"DR grade": "; ".join([grade_briefly(report), *(f"{name} undecided" for name in unsure)])}
    cells["Cup-to-disc ratio"], cells["Eye"] = (said(report).partition(" (")[0] for said in (cup_to_disc, eye))
    if report.dme.probability is not None:
        cells[SCORES[OEDEMA]] = oedema(report).partition(" (")[0]
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in cells.items())
    return f'<div class="glance" role="status"><strong>{escape(headline(report))}</strong>{doubt}<dl>{items}</dl></div>'


def provenance_html(report: Report) -> str:
    """Where the numbers come from, as a table."""
    return pairs_html("Provenance", provenance(report))


def pairs_html(caption: str, pairs: Iterable[tuple[str, str]], report: Report | None = None) -> str:
    """Names and values as a table; with `report` the names of its scores that have a map open it."""
    codes = {name: code for code, name in SCORES.items()} if report else {}
    heads = ((_name(codes[name], report) if report and name in codes else escape(name), value) for name, value in pairs)
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{escape(value)}</td></tr>' for name, value in heads)
    return f'<table class="facts"><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>'


def _name(code: str, report: Report) -> str:
    """What a score is called; where it has a map a button: map and shares are one click, or Enter, away."""
    name = escape(SCORES[code])
    if code not in report.maps:
        return name
    return f'<button type="button" data-finding="{code}" aria-pressed="false">{name}</button>'


def _finding_row(finding: Finding, report: Report) -> str:
    marked = ' class="suspected"' if finding.suspected and finding.code != "NORMAL" else ""
    return (
        f'<tr{marked}><th scope="row">{_name(finding.code, report)}</th>'
        f'<td class="figure">{percent(finding.probability)}</td>'
        f'<td class="figure">{percent(finding.threshold)}</td><td>{escape(call(finding))}</td></tr>'
    )


def preview_html(photographs: Sequence[tuple[Photograph, str]]) -> str:
    """The chosen photographs, each with its address, before they are analysed."""
    figures, notes = "", ""
    for number, (photograph, address) in enumerate(photographs, start=1):
        which = f"Photograph {number}" if len(photographs) > 1 else "Chosen photograph"
        caption = f"{which}, {photograph.width} x {photograph.height} px, not analysed yet"
        figures += figure_html(f"preview_{number}", address, caption, f"{which}: colour fundus photograph")
        notes += "".join(f"<p>{escape(note)}</p>" for note in photograph.notes)
    return f'<div class="figures">{figures}</div>{notes}'


def planes_html(report: Report, modality: labels.Modality, save: Save, side: int) -> str:
    """All planes of one modality as small figures under its title."""
    figures = "".join(
        figure_html(*_plane(report, name, save, side)) for name in modality.planes if name in report.planes
    )
    if not figures:
        return f"<h2>{escape(modality.title)}</h2><p>{escape(absence(report, modality))}</p>"
    kind = modality.name.partition("_")[0]  # "ffa" of both phases
    caution = CAUTIONS.get(kind, f"Synthesized: {modality.source}.")
    return f'<h2>{escape(modality.title)}</h2><p>{escape(caution)}</p><div class="figures small">{figures}</div>'


def score_html(report: Report, code: str | None, save: Save, side: int, trust: str = "") -> str:
    """What the score map of one finding shows, its colour scale, and what the score is made of; the viewer shows it.

    trust: how such maps did where the truth is known.
    """
    if code is None or code not in report.maps:
        if report.maps:
            return "<p>No finding in the table is suspected. Choose one to see what little raised its score.</p>"
        return "<p>There is no score map: every prediction is withheld.</p>"
    name = escape(SCORES[code])
    address = save(f"score_{code}", draw.heat(report, code, side), "jpeg")
    scale = (
        f'<div class="scale" role="img" aria-label="Colour scale from 0 to {draw.HEAT_TOP:.0f} logit per cell">'
        f"<span>0</span><i></i><span>≥ {draw.HEAT_TOP:.0f} logit</span></div>"
    )
    return (
        f'<section data-score="{address}" data-code="{code}" data-title="Heat map: {name}" aria-label="{name}">'
        f'<div role="status"><h2>{name}</h2></div>{scale}<p id="score-caption">{escape(heat_caption(report, code))}</p>'
        f"<p>{escape(trust)}</p>{shares_html(report, code)}</section>"
    )


def figure_html(name: str, address: str, caption: str, alternative: str) -> str:
    """A captioned picture that opens at full size in a popover and can be saved."""
    said, key, suffix = escape(alternative), f"full-{name}", address.rpartition(".")[2]
    return (
        f'<figure><button type="button" popovertarget="{key}" aria-label="Enlarge: {said}"><img src="{address}" '
        f'alt="{said}"></button><figcaption>{escape(caption)} <a href="{address}" download="{name}.{suffix}" '
        f'aria-label="Save: {said}">Save</a></figcaption><div id="{key}" class="full" popover><img src="{address}" '
        f'alt="{said}" loading="lazy"><p>{escape(caption)} <button type="button" popovertarget="{key}" '
        'popovertargetaction="hide">Close</button></p></div></figure>'
    )


def _plane(report: Report, name: str, save: Save, side: int) -> tuple[str, str, str, str]:
    plane = report.planes[name]
    title = f"{plane.title} (synthesized)" + (f", {said}" if (said := plane_error(report, name)) else "")
    kept = f"{report.eye.side}_{name}" if report.eye.side else name
    return kept, save(name, draw.plane(report, name, side), "jpeg"), title, f"Synthesized picture: {plane.title}"
