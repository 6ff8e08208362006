"""What a report says, as HTML for the page. Pictures are saved by the caller: save(name, picture, kind) -> address."""

from collections.abc import Callable, Iterable, Mapping
from html import escape

import numpy as np

from .. import draw, labels
from ..records import Finding, Photograph, Report
from .sentences import (
    CAUTIONS,
    NOT_EXCLUDED,
    SCOPE,
    SINGLE_FIELD,
    UNGRADABLE,
    call,
    cup_to_disc,
    eye,
    facts,
    grade,
    headline,
    heat_caption,
    listed,
    percent,
    provenance,
    ranked,
    shares,
)

Save = Callable[[str, np.ndarray, str], str]


def findings_html(report: Report) -> str:
    """The findings as a table: finding, probability, threshold, call. What was not assessed is listed below it."""
    rows = "".join(_finding_row(finding) for finding in ranked(report) if finding.assessed)
    missing = [f.name for f in ranked(report) if not f.assessed]
    below = (
        f"<p><b>Not assessed</b> (these weights never learnt them): {escape(listed(missing))}.</p>" if missing else ""
    )
    return (
        f'<table class="findings"><caption>{escape(headline(report))}</caption><thead><tr><th scope="col">Finding</th>'
        '<th scope="col">Probability</th><th scope="col">Threshold</th><th scope="col">Call</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{below}<p>{NOT_EXCLUDED} {SCOPE}</p>"
    )


def reading_html(report: Report) -> str:
    """Findings beside the grade and the measurements."""
    return (
        f'<div class="beside wide"><div>{findings_html(report)}</div>'
        f"<div>{grade_html(report)}{facts_html(report)}</div></div>"
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
        f"{' aria-current=true' if number == report.dr.grade else ''}><b>{number}</b> {escape(name)}"
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


def about_html(summary: Mapping[str, str], source: str) -> str:
    """What the weights are, what they may be used for, and what they cannot do."""
    return f"<p>{SCOPE}</p>" + _pairs_html("Weights in use", [("Source", source), *summary.items()])


def _pairs_html(caption: str, pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in pairs)
    return f'<table class="facts"><caption>{escape(caption)}</caption><tbody>{rows}</tbody></table>'


def _finding_row(finding: Finding) -> str:
    marked = ' class="suspected"' if finding.suspected and finding.code != "NORMAL" else ""
    return (
        f'<tr{marked}><th scope="row">{escape(finding.name)}</th><td class="figure">{percent(finding.probability)}</td>'
        f'<td class="figure">{percent(finding.threshold)}</td><td>{escape(call(finding))}</td></tr>'
    )


SHOWN_AT_FIRST = ("MA", "HE", "EX", "SE", "disc", "cup")  # layers; the vessels are one click away
FIRST_BAND = "msi_550"  # where haemoglobin absorbs most: the band beside the photograph; the others have a tab


def preview_html(photograph: Photograph, address: str) -> str:
    """The chosen photograph before it is analysed."""
    caption = f"Chosen photograph, {photograph.width} x {photograph.height} px, not analysed yet"
    notes = "".join(f"<p>{escape(note)}</p>" for note in photograph.notes)
    figure = figure_html("preview", address, caption, "Chosen colour fundus photograph")
    return f'<div class="figures">{figure}</div>{notes}'


def pictures_html(report: Report, save: Save, side: int) -> str:
    """The photograph with its layers beside the angiograms and one band; the photograph alone where there are none."""
    ground = save("photograph", draw.photograph(report, side), "jpeg")
    if not report.planes:
        caption = "Colour photograph, as acquired"
        return f'<div class="figures">{figure_html("photograph", ground, caption, caption)}</div>'
    found = [name for name in draw.LAYERS if draw.plane_name(name) in report.planes]
    layers = "".join(
        f'<img class="layer layer-{name}" alt="" src="{save("layer_" + name, draw.layer(report, name, side), "png")}">'
        for name in found
    )
    boxes = "".join(
        f'<label><input type="checkbox" value="{name}"{" checked" if name in SHOWN_AT_FIRST else ""}>'
        f'<i class="swatch" style="background:rgb{draw.COLOURS[name]}"></i>{escape(draw.LAYER_TITLES[name])}</label>'
        for name in found
    )
    viewer = (
        '<figure class="viewer"><svg width="0" height="0" aria-hidden="true"><filter id="redfree" '
        'color-interpolation-filters="sRGB"><feColorMatrix values="0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 0 0 1 0"/></filter>'
        f'</svg><div class="stack"><img class="ground" src="{ground}" alt="Colour fundus photograph as acquired, with '
        f'the layers chosen below drawn over it">{layers}</div><figcaption>Photograph with computed layers'
        f" (synthesized)</figcaption><fieldset><legend>Show</legend>{boxes}"
        '<label><input type="checkbox" value="redfree">Red-free (green channel)</label>'
        '<label><input type="checkbox" value="large">Large</label></fieldset></figure>'
    )
    shown = (*labels.FFA_ARTERIAL.planes, *labels.FFA_ARTERIOVENOUS.planes, FIRST_BAND)
    beside = "".join(figure_html(*_plane(report, name, save, side)) for name in shown if name in report.planes)
    cautions = f"Angiograms: {CAUTIONS['ffa']} Band: {CAUTIONS['msi']} Layers: {CAUTIONS['layers']}"
    return f'<div class="figures main">{viewer}{beside}</div><p>{cautions}</p>'


def planes_html(report: Report, modality: labels.Modality, save: Save, side: int) -> str:
    """All planes of one modality as small figures under its title."""
    figures = "".join(
        figure_html(*_plane(report, name, save, side)) for name in modality.planes if name in report.planes
    )
    if not figures:
        return f"<h3>{escape(modality.title)}</h3><p>None was computed for this photograph.</p>"
    caution = CAUTIONS.get(modality.name, f"Synthesized: {modality.source}.")
    return f'<h3>{escape(modality.title)}</h3><p>{escape(caution)}</p><div class="figures small">{figures}</div>'


def score_html(report: Report, code: str | None, save: Save, side: int) -> str:
    """The score map of one finding with its caption and colour scale, beside what the score is made of."""
    if code is None or code not in report.maps:
        if report.maps:
            return "<p>No finding is suspected. Choose one above to see what little raised its score.</p>"
        return "<p>There is no score map: every prediction is withheld.</p>"
    name = report.finding(code).name
    address = save(f"score_{code}", draw.heat(report, code, side), "jpeg")
    picture = figure_html(f"score_{code}", address, f"Score map: {name} (synthesized)", f"Score map of {name}")
    scale = (
        f'<div class="scale" role="img" aria-label="Colour scale from 0 to {draw.HEAT_TOP:.0f} logit per cell">'
        f"<span>0</span><i></i><span>≥ {draw.HEAT_TOP:.0f} logit</span></div>"
    )
    caption = f'<p id="score-caption">{escape(heat_caption(report, code))}</p>'
    return f'<div class="beside"><div>{picture}{scale}</div><div>{caption}{shares_html(report, code)}</div></div>'


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
    error = "" if plane.error is None else f", expected error ± {plane.error:.2f} of the full range"
    title = f"{plane.title} (synthesized){error}"
    return name, save(name, draw.plane(report, name, side), "jpeg"), title, f"Synthesized picture: {plane.title}"
