"""What a report says, in sentences and figures; its fixed words are in `wording`."""

import numpy as np

from .. import draw, fundus, grid, labels
from ..records import Finding, Report
from .wording import (
    BY_OEDEMA,
    EVIDENCE,
    FEW_EYES,
    GRADE,
    HOW_SEVERE,
    INCOMPLETE,
    MORE_THAN_MILD,
    OEDEMA,
    SCORES,
    THREAT,
    UNDECIDED,
    UNGRADABLE,
    percent,
    withheld,
)

_BEYOND = 0.05  # of what raises a score, so much beyond the field of view is told


def call(finding: Finding) -> str:
    """What the model says about one finding, in words, with the reason where there is one."""
    if not finding.assessed or finding.probability is None:
        return withheld(finding.reason or (labels.NOT_ASSESSED if not finding.assessed else None))
    flagged = "no listed abnormality flagged" if finding.code == "NORMAL" else "suspected"
    words = flagged if finding.suspected else "not called" if _reached(finding) else "below threshold"
    words += doubt(finding.undecided) + (", few eyes" if finding.few_eyes else "")
    return f"{words} ({finding.reason})" if finding.reason else words


def doubt(undecided: bool | None) -> str:
    """What follows a call that is undecided; empty after one that is not."""
    return ", undecided" if undecided else ""


def _reached(finding: Finding) -> bool:
    """Whether the probability reaches the threshold; such a finding is not called where its reason says why."""
    probability, threshold = finding.probability, finding.threshold
    return probability is not None and threshold is not None and probability >= threshold


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


def first_map(report: Report) -> str | None:
    """The score whose map is shown unasked: of the most probable suspected finding, else of a suspected oedema."""
    codes = [finding.code for finding in suspected(report)] + ([OEDEMA] if report.dme.suspected else [])
    return next((code for code in codes if code in report.maps), None)


def advice(report: Report) -> str | None:
    """What to do about a photograph that was not read, or None."""
    return INCOMPLETE if report.failures else None if report.quality.gradable else UNGRADABLE


def absence(report: Report, modality: labels.Modality) -> str:
    """Why no plane of a modality is there."""
    return report.failures.get(modality.title, "None was computed for this photograph.")


def plane_error(report: Report, name: str) -> str | None:
    """What is to be said of the error of a plane, or None.

    Only bands fill the field: the mean error of a map that is nearly empty says nothing, it is near 0 anyhow.
    """
    error = report.planes[name].error
    if error is None or name not in labels.MSI.planes:
        return None
    return f"± {error:.2f} of a reflectance of 0 to 1 (mean absolute error, simulated eyes)"


def facts(report: Report) -> list[tuple[str, str]]:
    """Name and value of everything measured beside the findings, in reading order."""
    rows = [("Photograph", quality(report)), ("Eye", eye(report)), (SCORES[GRADE], grade(report))]
    rows += [(MORE_THAN_MILD, _more_than_mild(report)), (SCORES[THREAT], _vision_threatening(report))]
    rows.append((SCORES[OEDEMA], oedema(report)))
    rows.append(("Vertical cup-to-disc ratio", cup_to_disc(report)))
    return rows + [(labels.LESION_NAMES[code], lesion(report, code)) for code in labels.LESIONS]


def quality(report: Report) -> str:
    """Whether the photograph can be read, and how sure that is."""
    if report.failures:
        return "Not judged, because the analysis is incomplete"
    read = report.quality
    words = "Gradable" if read.gradable else "Not gradable"
    words += ", in doubt" if read.doubtful else ""
    if read.score is None or read.gradable != (read.score >= (read.threshold or 0)):
        return words  # something else than this score decided: the reasons stand beside it
    limit = "" if read.threshold is None else f", threshold {percent(read.threshold)}"
    return f"{words} (probability of being gradable {percent(read.score)}{limit})"


def eye(report: Report) -> str:
    """Laterality and what it was read from."""
    return "Side not known" if report.eye.side is None else f"{report.eye.side.capitalize()} ({report.eye.origin})"


def grade(report: Report) -> str:
    """The ICDR grade."""
    if report.dr.grade is None:
        return withheld(report.dr.reason)
    words = f"{report.dr.grade}, {labels.GRADES[report.dr.grade].lower()}"
    return f"{words} ({report.dr.reason})" if report.dr.reason else words


def grade_briefly(report: Report) -> str:
    """The grade, and the most probable one where that is another."""
    if report.dr.grade is None or report.dr.probabilities is None:
        return grade(report)
    likeliest = max(range(len(labels.GRADES)), key=report.dr.probabilities.__getitem__)
    words = f"{report.dr.grade}, {labels.GRADES[report.dr.grade].lower()}"
    return words if likeliest == report.dr.grade else f"{words}; most probable {likeliest}"


def oedema(report: Report) -> str:
    """The surrogate for macular oedema."""
    dme = report.dme
    if dme.probability is None:
        return withheld(dme.reason)
    words = ("suspected" if dme.suspected else "below threshold") + doubt(dme.undecided)
    limit = f"threshold {percent(dme.threshold)}"
    return (
        f"{words}, {percent(dme.probability)} ({limit}; a surrogate, learnt from exudates near the fovea; OCT decides)"
    )


def cup_to_disc(report: Report) -> str:
    """The vertical cup-to-disc ratio with its error."""
    measured = report.disc_cup
    if measured.vcdr is None:
        return withheld(measured.reason)
    return f"{measured.vcdr:.2f} ({ratio_error(measured.vcdr_error)})"


def ratio_error(error: float | None) -> str:
    """What is to be said of the error of a cup-to-disc ratio."""
    return "error not known" if error is None else f"± {error:.2f} mean absolute error, DRISHTI test eyes"


def lesion(report: Report, code: str) -> str:
    """Count and area of one kind of lesion."""
    found = report.lesions.get(code)
    if found is None or found.count is None:
        return "withheld"
    area = "" if found.area_fraction is None else f", {100 * found.area_fraction:.2f} % of the field"
    said = f"{found.count} region{'' if found.count == 1 else 's'}{area}"
    return f"{said}{false_alarms(found.count, found.healthy_most)}"


def false_alarms(count: int, most: int | None) -> str:
    """A clause that holds a count of regions against those which nine of ten healthy eyes show; may be empty."""
    if most is None or not count:
        return ""
    if count > most:
        return f"; more than these weights falsely mark in most eyes without a finding (up to {most})"
    return (
        f"; no more than these weights falsely mark in most eyes without a finding (up to {most}), which does not make "
        "these false"
    )


def footnotes(report: Report) -> list[str]:
    """What words of the calls mean, where they are used."""
    used = {
        UNDECIDED: any(each.undecided for each in (*report.findings, report.dme))
        or any(report.dr.undecided(least) for least in labels.GRADED.values()),
        FEW_EYES: any(f.few_eyes and f.probability is not None for f in report.findings),
    }
    return [said for said, is_used in used.items() if is_used]


def standing(report: Report, code: str) -> tuple[str, bool]:
    """What one score of `SCORES` amounts to, and whether it is raised: a finding's reaches its threshold."""
    if code == GRADE:
        chance = report.dr.chance(labels.MORE_THAN_MILD)
        if chance is None:
            return grade(report), False
        said = f"{grade(report)}; {percent(chance)} more than mild{doubt(report.dr.undecided(labels.MORE_THAN_MILD))}"
        return said, bool(report.dr.grade)
    if code == THREAT:
        return f"by grade {_vision_threatening(report)}", bool(report.dr.vision_threatening)
    if code == OEDEMA:
        return oedema(report), bool(report.dme.suspected)
    finding = report.finding(code)
    return ", ".join(each for each in (percent(finding.probability), call(finding)) if each), _reached(finding)


def heat_caption(report: Report, code: str) -> str:
    """What the score map of one score of `SCORES` shows, and what it does not."""
    words, raised = standing(report, code)
    if code not in report.maps:
        return f"{SCORES[code]}: no score map ({words})."
    cell = draw.cell_width(report, code)
    said = [f"{SCORES[code]}: {words}."]
    if code == GRADE:
        said.append("What raises the score speaks for a higher grade.")
    elif code == THREAT:
        said.append(HOW_SEVERE)
    elif not raised:
        said.append(f"This finding is not suspected: {raises(report.maps[code].sum(axis=0))}.")
    said.append(EVIDENCE)
    if cell:
        said.append(f"Cells are {cell} px wide.")
    said.append(f"Colours run from 0 to {draw.HEAT_TOP:.0f} or more (logit per cell), the same in every eye.")
    if told := beyond(report.maps[code].sum(axis=0)):
        said.append(told)
    return " ".join(said)


def raises(square: np.ndarray) -> str:
    """What a map float (s, s) shows of a score that was not reached."""
    return "the map shows what little raised its score" if (square > 0).any() else "nothing in the map raises its score"


def beyond(cells: np.ndarray) -> str:
    """That a part of what raises a score is drawn nowhere, of an exact map float (s, s); empty where it is little."""
    share = fundus.share_beyond(grid.align(cells, len(cells)))
    return f"{share:.0%} of what raises it lies beyond the field of view and is not drawn." if share >= _BEYOND else ""


def legend_text() -> str:
    """The colours of the outlines in words."""
    return ", ".join(f"{draw.LAYER_TITLES[name].lower()} {colour}" for name, colour in draw.COLOUR_NAMES.items())


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


def _more_than_mild(report: Report) -> str:
    return _reached_grade(report, labels.MORE_THAN_MILD)


def _vision_threatening(report: Report) -> str:
    return _reached_grade(report, labels.VISION_THREATENING)


def _reached_grade(report: Report, least: int) -> str:
    """Whether the grade is `least` or more, how probable that is, and that a suspected oedema is not part of it."""
    grade = report.dr
    chance = grade.chance(least)
    if grade.grade is None or chance is None:
        return withheld(grade.reason)
    said = f"{doubt(grade.undecided(least))}, {percent(chance)} (called from {percent(grade.threshold)})"
    if grade.grade >= least:
        return f"yes{said}"
    also = f"; {BY_OEDEMA}" if report.dme.suspected else ""
    return f"not reached{said}{also}"
