"""The whole reading in one sentence, and what is at stake in another."""

from .. import labels
from ..records import Report
from .sentences import doubt, grade_briefly, ranked, suspected
from .wording import OEDEMA, SCORES, listed, percent

_MOST = 5  # findings that the headline names
_NOTHING = "No listed abnormality flagged"
_NEITHER = (
    "No finding reaches its threshold, nor does the score for no listed abnormality; this does not exclude disease."
)


def headline(report: Report) -> str:
    """The whole reading in one sentence."""
    if report.failures:
        return f"The analysis is incomplete ({listed(list(report.failures))}); every prediction is withheld."
    if not report.quality.gradable and all(f.probability is None for f in report.findings):
        return "This photograph cannot be read; every prediction is withheld."
    found = [f"{f.name} ({percent(f.probability)})" for f in suspected(report)]
    if len(found) > _MOST:
        found = [*found[: _MOST - 1], f"{len(found) - _MOST + 1} more findings"]
    if report.dr.grade and not report.finding("DR").suspected:
        found.append(f"Diabetic retinopathy by its grade alone ({grade_briefly(report)})")
    if report.dme.suspected:
        found.append(f"Macular oedema by its risk signs ({percent(report.dme.probability)}; OCT decides)")
    nothing = _NEITHER if report.finding("NORMAL").suspected is False else f"{_NOTHING}; this does not exclude disease."
    said = f"Suspicion of {listed(found)}." if found else f"{nothing}{_undecided(report)}"
    said += _severity(report)
    if not report.quality.gradable:
        return f"Not gradable, shown on request, not to be relied on: {said}"
    return f"Image quality in doubt: {said}" if report.quality.doubtful else said


def _severity(report: Report) -> str:
    """What the grade says of how much is at stake, or leaves open."""
    mild, threat = (report.dr.undecided(least) for least in labels.GRADED.values())
    if report.dr.vision_threatening:
        return f" By its grade ({grade_briefly(report)}) it threatens vision{doubt(threat)}."
    if mild and threat:
        return " Whether retinopathy is more than mild, and whether it threatens vision, is undecided."
    if mild or threat:
        return f" Whether {'retinopathy is more than mild' if mild else 'the grade threatens vision'} is undecided."
    return ""


def _undecided(report: Report) -> str:
    """The undecided findings, the most probable first, where none is suspected."""
    found = [f"{f.name} ({percent(f.probability)})" for f in ranked(report) if f.undecided and f.code != "NORMAL"]
    if report.dme.undecided:
        found.append(f"{SCORES[OEDEMA]} ({percent(report.dme.probability)})")
    if len(found) > _MOST:
        found = [*found[: _MOST - 1], f"{len(found) - _MOST + 1} more"]
    return f" Undecided: {listed(found)}." if found else ""
