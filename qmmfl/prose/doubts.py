"""Where what was computed of one eye may mislead or disagrees with itself, and what to do."""

from .. import labels
from ..evidence import Evidence
from ..records import Report
from .sentences import advice, call, grade
from .wording import OEDEMA, SCORES, listed, percent

CONFLICT = (
    "The finding and the grade are scores of their own: rely on neither, look for lesions in the photograph and on the "
    "lesion maps, and refer if in doubt."
)
LESION_CONFLICT = (
    "The counts are of the lesion maps and the finding and the grade are scores of their own: look for these lesions "
    "in the photograph, and refer if in doubt."
)
OEDEMA_CONFLICT = (
    "Diabetic macular oedema comes with retinopathy: look for exudates near the fovea and for lesions in the "
    "photograph, think of other causes, and refer if in doubt."
)
CUP_CONFLICT = (
    "The ratio is measured on the outlines and the finding is a score of its own: check the outlines and the rim of "
    "the disc in the photograph, and refer if in doubt."
)
UNCLEAR = (
    "Image quality is in doubt: of photographs that clinicians could read, one in twenty is judged this poor. Check "
    "focus, lighting and lashes, and take it again if you can."
)
MACULA_CONFLICT = (
    "The count is of the lesion maps and the risk is a score of its own: look at the macula in the photograph, and "
    "refer if in doubt."
)
LOOKALIKES = (
    "Laser scars, drusen, atrophy, reflexes and dust on the lens are marked alike: look in the photograph which they "
    "are."
)
_MUCH = 0.01  # of the field: of 24 eyes with about so much, none a test eye, we took half or more for something else


def remarks(report: Report) -> list[str]:
    """What is wrong with the photograph, what to do about it, and the reservations."""
    return [*report.quality.reasons, *filter(None, [advice(report)]), *reservations(report)]


def reservations(report: Report) -> list[str]:
    """All that should be weighed before the reading is believed: poor quality, every conflict, what may be another."""
    seen = lookalikes(report)
    return [*([UNCLEAR] if report.quality.doubtful else []), *conflicts(report).values(), *([seen] if seen else [])]


def lookalikes(report: Report) -> str | None:
    """That what is marked as soft exudates covers more than they mostly do, and what else is marked so; or None."""
    found = report.lesions.get("SE")
    if found is None or found.area_fraction is None or found.area_fraction < _MUCH:
        return None
    return f"Soft exudates are marked on {percent(found.area_fraction)} of the field. {LOOKALIKES}"


def macula_doubt(report: Report, evidence: Evidence) -> str | None:
    """That the exudates counted near the fovea and the risk of macular oedema disagree, or None."""
    places, dme = evidence.lesions.get("EX"), report.dme
    near = places.near_fovea.count if places else None
    if places is None or near is None or dme.suspected is None:
        return None
    fewest, most = places.near_fovea_range or (near, near)
    zone = "within one disc diameter of the estimated fovea"
    if fewest and not dme.suspected:
        said = f"Hard exudates are marked {zone} ({fewest} or more), yet the risk of macular oedema is not suspected"
    elif dme.suspected and not most:
        said = f"Macular oedema is suspected by its risk signs, yet no hard exudate is marked {zone}"
    else:
        return None
    return f"{said} ({percent(dme.probability)}). {MACULA_CONFLICT}"


def conflicts(report: Report) -> dict[str, str]:
    """Code of a finding -> that something else computed disagrees with it, and what to do.

    The finding of diabetic retinopathy against the grade, both against the lesions that are counted and against a risk
    of oedema, and cupping that is not flagged against a large cup.
    """
    found = {}
    finding, given = report.finding("DR"), report.dr.grade
    more = [labels.LESION_NAMES[code].lower() for code, each in report.lesions.items() if each.beyond]
    if given is not None and finding.suspected is not None and finding.suspected != (given > 0):
        said = f"{percent(finding.probability)}, {call(finding)}"
        found["DR"] = f"Diabetic retinopathy ({said}) and its grade ({grade(report)}) disagree. {CONFLICT}"
    elif more and given == 0 and not finding.suspected:
        found["DR"] = (
            f"More {listed(more)} are marked than, falsely, in most eyes without a finding, yet no "
            f"retinopathy is suspected. {LESION_CONFLICT}"
        )
    if report.dme.suspected and given == 0 and not finding.suspected:
        said = f"{SCORES[OEDEMA]} is suspected ({percent(report.dme.probability)}), yet no retinopathy is."
        found[OEDEMA] = f"{said} {OEDEMA_CONFLICT}"
    finding, ratio = report.finding("ODC"), report.disc_cup.vcdr
    if ratio is not None and ratio >= labels.LARGE_CUP and not finding.suspected:
        said = f"at {percent(finding.probability)}, {call(finding)}" if finding.assessed else call(finding)
        found["ODC"] = f"The cup-to-disc ratio ({ratio:.2f}) is large, yet optic disc cupping is {said}. {CUP_CONFLICT}"
    return found
