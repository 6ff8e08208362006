"""Both eyes of one case side by side, as HTML."""

from collections.abc import Sequence
from html import escape

from .. import draw
from ..records import Finding, Report
from .doubts import remarks
from .markup import Save
from .sentences import call, facts, footnotes, ranked
from .synopsis import headline
from .wording import GRADE, MORE_THAN_MILD, NOT_EXCLUDED, OEDEMA, SCOPE, SCORES, THREAT, percent

ALONE = "<p>This case has one photograph. Add one of the other eye on the left to compare them.</p>"


def comparison_html(eyes: Sequence[tuple[str, Report, Save, int]]) -> str:
    """(title, report, save, side of its picture [px]) of each eye -> photographs with outlines, findings and
    measurements in two columns.
    """
    if len(eyes) < 2:
        return ALONE
    figures = ""
    for title, report, save, side in eyes:
        drawn = bool(report.planes) and report.quality.gradable
        picture = draw.overlay(report, side=side) if drawn else draw.photograph(report, side)
        marked = ", with computed outlines (synthesized)" if drawn else ""
        address, said = save("compared", picture, "jpeg"), escape(f"{title}{marked}")
        figures += f'<figure><img src="{address}" alt="{said}"><figcaption>{said}</figcaption></figure>'
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title, *_ in eyes)
    reports = [report for _, report, *_ in eyes]
    read = _row("Reading", [(headline(report), False) for report in reports])
    doubts = [" ".join((*report.photograph.notes, *remarks(report))) for report in reports]
    if any(doubts):
        read += _row("Weigh first", [(said, False) for said in doubts])
    codes = list(dict.fromkeys(f.code for report in reports for f in ranked(report) if f.assessed))
    rows = "".join(_row(reports[0].finding(code).name, [_said(r.finding(code)) for r in reports]) for code in codes)
    measured = zip(*(_measured(report) for report in reports), strict=True)
    notes = dict.fromkeys(said for report in reports for said in footnotes(report))
    below = "".join(_row(pair[0][0], [cell for _, cell in pair]) for pair in measured)
    return (
        f'<div class="figures">{figures}</div>{_table("Finding", heads, read + rows)}'
        f"<p>{' '.join((*notes, NOT_EXCLUDED, SCOPE))}</p>{_table('Measurement', heads, below)}"
    )


def _table(what: str, heads: str, rows: str) -> str:
    return (
        f'<table class="both"><caption>{what}s of both eyes</caption><thead><tr><th scope="col">{what}</th>{heads}'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def _said(finding: Finding) -> tuple[str, bool]:
    """The words of one finding, and whether they are raised."""
    raised = bool(finding.suspected) and finding.code != "NORMAL"
    return f"{percent(finding.probability)} {call(finding)}".strip(), raised


def _measured(report: Report) -> list[tuple[str, tuple[str, bool]]]:
    """Name, words, and whether they are raised, of everything measured beside the findings."""
    raised = {
        SCORES[OEDEMA]: report.dme.suspected,
        SCORES[GRADE]: report.dr.grade,
        MORE_THAN_MILD: report.dr.more_than_mild,
        SCORES[THREAT]: report.dr.vision_threatening,
    }
    return [(name, (said, bool(raised.get(name)))) for name, said in facts(report)]


def _row(name: str, cells: list[tuple[str, bool]]) -> str:
    made = "".join(f'<td class="{"raised" if raised else ""}">{escape(said)}</td>' for said, raised in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{made}</tr>'
