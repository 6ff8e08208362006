"""Both eyes of one case side by side, as HTML."""

from collections.abc import Sequence
from html import escape

from .. import draw
from ..records import Finding, Report
from .markup import Save
from .sentences import call, facts, percent, ranked

ALONE = "<p>This case has one photograph. Add one of the other eye on the left to compare them.</p>"


def comparison_html(eyes: Sequence[tuple[str, Report, Save]], side: int) -> str:
    """(title, report, save) of each eye -> photographs with outlines, findings and measurements in two columns."""
    if len(eyes) < 2:
        return ALONE
    figures = ""
    for title, report, save in eyes:
        picture = draw.overlay(report, side=side) if report.planes else draw.photograph(report, side)
        marked = ", with computed outlines (synthesized)" if report.planes else ""
        address, said = save("compared", picture, "jpeg"), escape(f"{title}{marked}")
        figures += f'<figure><img src="{address}" alt="{said}"><figcaption>{said}</figcaption></figure>'
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title, _, _ in eyes)
    reports = [report for _, report, _ in eyes]
    codes = list(dict.fromkeys(f.code for report in reports for f in ranked(report) if f.assessed))
    rows = "".join(_row(reports[0].finding(code).name, [_said(r.finding(code)) for r in reports]) for code in codes)
    measured = zip(*(facts(report) for report in reports), strict=True)
    below = "".join(_row(pair[0][0], [value for _, value in pair]) for pair in measured)
    return (
        f'<div class="figures">{figures}</div>'
        f'<table><caption>Findings of both eyes</caption><thead><tr><th scope="col">Finding</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        f'<table><caption>Measurements of both eyes</caption><thead><tr><th scope="col">Measurement</th>{heads}</tr>'
        f"</thead><tbody>{below}</tbody></table>"
    )


def _said(finding: Finding) -> str:
    return f"{percent(finding.probability)} {call(finding)}".strip()


def _row(name: str, cells: list[str]) -> str:
    raised = ["raised" if cell.split("% ")[-1].startswith("suspected") else "" for cell in cells]
    made = "".join(f'<td class="{mark}">{escape(cell)}</td>' for mark, cell in zip(raised, cells, strict=True))
    return f'<tr><th scope="row">{escape(name)}</th>{made}</tr>'
