"""A case -> what each part of the page shows, as HTML."""

from html import escape

from .. import draw, labels, laterality, prose
from ..prose import comparison, markup, review, viewer
from ..prose.evidence import METHODS
from .cases import Case, Taken
from .reader import Reader, explained

PRIVACY = (
    "Everything is computed by the machine that serves this page; nothing is sent elsewhere. Files are renamed, and "
    "the case is deleted when it is cleared, when the page was not used for an hour, when many others were opened "
    "since, or when the server stops."
)
PUBLIC = "This is a public page on a shared machine: it is no place for patient data. Use simulated examples."
NO_EYE = (
    "<p class='empty'>Choose a colour fundus photograph of one eye, or one of each eye, or a simulated example, then "
    "press Analyse.</p>"
)
WELCOME = NO_EYE.replace("'empty'", "'empty cleared'")  # where the script sees it, it forgets what the clinician said
ON_REQUEST = "Shown on request, although the photograph is not gradable: these numbers are not to be relied on."
MEASURE = "Measure the vessels (reads a second copy)"
MAKING = (
    "The files of the eye on the page are made while this tab is open, with your review in them, which takes some "
    "seconds."
)
METHOD = "Method"  # of the control that sentences name
SIDES = [("Right", "right"), ("Left", "left"), ("Not known", laterality.UNKNOWN)]


def everything(
    case: Case | None, reader: Reader, subject: str = labels.GRADE, space: str = labels.FUSED
) -> dict[str, str]:
    """Part of the page -> HTML, for the eye on the page."""
    eye = case.eye if case else None
    parts = dict.fromkeys(("summary", "reading", "score", "pictures", "boxer", "review", "provenance", "both"), "")
    parts |= {"viewer": NO_EYE if case else WELCOME, "question": "", "explanation": "", "whatif": ""}
    parts["similar"] = reader.place(eye, subject, space)
    if case is None or eye is None:
        return parts
    parts["question"] = question(case)
    if eye.report is None:
        waiting = [each for each in case.eyes if each.report is None]
        shown = [(each.read(), each.preview) for each in waiting]
        return parts | {"viewer": markup.preview_html(shown)}
    report, save, side = eye.report, eye.save, eye.side
    chosen = prose.first_map(report)
    poor = eye.overridden and report.maps and not report.quality.gradable
    asked = f'<p class="question">{ON_REQUEST}</p>' if poor else ""
    parts["summary"] = markup.summary_html(report) + asked
    parts["viewer"] = viewer.viewer_html(report, save, side)
    parts["reading"] = reading(eye)
    parts["score"] = markup.score_html(report, chosen, save, side, reader.trust(chosen))
    parts["pictures"] = "".join(markup.planes_html(report, each, save, side // 2) for each in labels.SYNTHESES)
    parts["boxer"] = _boxer(eye) if explained(eye) else ""
    parts["review"] = review.review_html(report, eye.review)
    parts["provenance"] = markup.provenance_html(report)
    parts["both"] = both(case)
    return parts


def question(case: Case) -> str:
    """What must be asked about the sides of the eyes."""
    return "".join(f'<p class="question" role="alert">{escape(each)}</p>' for each in case.questions())


def both(case: Case) -> str:
    """The eyes that were read, side by side."""
    eyes = [(case.title(n), each) for n, each in enumerate(case.eyes)]
    read = [(name, each.report, each.save, min(each.side, 640)) for name, each in eyes if each.report is not None]
    return comparison.comparison_html(read)


def reading(eye: Taken) -> str:
    """Findings, grade and measurements; the vessels where they were measured."""
    if eye.report is None or eye.evidence is None:
        return markup.reading_html(eye.report) if eye.report else ""
    made = markup.reading_html(eye.report)
    if eye.measured:
        made += markup.pairs_html("Vessels", prose.vessel_facts(eye.evidence))
        made += f"<p>{METHODS}</p>"
    checked = markup.pairs_html("Measured on the computed planes", prose.place_facts(eye.evidence))
    if doubt := prose.macula_doubt(eye.report, eye.evidence):
        made += f'<p class="question">{escape(doubt)}</p>'
    return f"{made}<details><summary>What can be checked: by place</summary>{checked}</details>"


def can_measure(eye: Taken | None) -> bool:
    """Whether vessels can be measured that were not."""
    return bool(eye and eye.report and eye.report.planes and not eye.measured and explained(eye))


def score(case: Case | None, reader: Reader, code: str | None) -> str:
    """The score panel of one finding."""
    eye = case.eye if case else None
    if eye is None or eye.report is None:
        return ""
    return markup.score_html(eye.report, code, eye.save, eye.side, reader.trust(code))


def side_of(case: Case | None, number: int) -> str | None:
    """The side of an eye as the radio shows it; None while a conflict is open."""
    if case is None or number >= len(case.eyes):
        return None
    each = case.eyes[number]
    return each.chosen or each.settle()[0].side


def _boxer(eye: Taken) -> str:
    assert eye.report is not None
    address = escape(eye.save("photograph", draw.photograph(eye.report, eye.side), "jpeg"))
    return (
        '<div class="boxer" tabindex="0" role="slider" aria-label="Box to hide: arrow keys move it, with shift they '
        'resize it" aria-valuenow="0" aria-valuetext="left 40%, top 40%, width 20%, height 20%" '
        f'data-box="0.4 0.4 0.2 0.2"><img src="{address}" alt="Colour photograph, as acquired"><i class="box"></i>'
        "</div>"
        "<p>Drag a box over the photograph, or use the arrow keys (with shift: its size).</p>"
    )
