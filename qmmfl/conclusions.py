"""What the scores and planes of one photograph amount to, by the weights' own calibrations: records for a report.

`withheld` is the reason why a number is not given; with it every number is None, and nothing is computed.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from . import fundus, labels, measures
from .nets import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS, THREAT
from .nets.runtime import Scores
from .records import DiscCup, Finding, Fundus, Grade, Lesion, Oedema, Plane, Quality
from .weights import Card, GradeCalibration

UNGRADABLE = "withheld: the photograph is not gradable"
INCOMPLETE = "withheld: the analysis is incomplete"

_NOT_FUNDUS = (
    "It does not look like a colour photograph of the fundus; upload the camera's own picture, not one of a screen "
    "or a page, or take it again."
)
_POOR = "Image quality is too low to rely on: check focus, lighting and lashes, and take it again."
_NO_VESSELS = "No retinal vessels are seen: the view may be clouded (as by a cataract) or out of focus; take it again."
_FLAGGED = "another finding is flagged"
_GRADED = "the grade or the risk of macular oedema says otherwise"
_QUANTILE = "grade {} is more probable alone; called is the highest that is reached with a probability of {:.0f} %"
_NO_DISC = "withheld: no optic disc was found"
_LEAST_CUP = 0.1  # of the disc: specks of a smaller one are no cup that could be measured
_NO_CUP = "withheld: no cup was found in the optic disc"

Planes = Mapping[str, np.ndarray]  # modality -> (k, s, s)


def find_gates(card: Card, scores: Scores | None, planes: Planes, reasons: tuple[str, ...]) -> tuple[Quality, Fundus]:
    """Whether the photograph can be read, and whether it is one of a fundus; `reasons` speak against it already.

    Without scores `reasons` say why neither was asked.
    """
    if scores is None:
        return Quality(False, None, reasons), Fundus(None, None)
    (gradable, sharp), (is_fundus, fundus_ok) = (_gate(card, scores, name) for name in (GRADABLE, FUNDUS))
    if measures.vessel_share(planes[labels.VESSELS.name]) < card.least_vessels:
        reasons = (*reasons, _NO_VESSELS)
    reasons = (*reasons, *(() if fundus_ok else (_NOT_FUNDUS,)), *(() if sharp else (_POOR,)))
    threshold = card.calibrations[GRADABLE].threshold if GRADABLE in card.calibrations else None
    unsure = None if card.doubtful_below is None or gradable is None or reasons else gradable < card.doubtful_below
    return Quality(not reasons, gradable, reasons, threshold, unsure), Fundus(fundus_ok, is_fundus)


def find_findings(card: Card, scores: Scores | None, withheld: str | None) -> tuple[Finding, ...]:
    """Every code of the vocabulary."""
    found = [_finding(card, code, scores, withheld) for code in labels.FINDINGS]
    why = _FLAGGED if any(finding.suspected for finding in found if finding.code != "NORMAL") else None
    grade = find_grade(card, scores, withheld)
    if grade.grade or find_oedema(card, scores, withheld).suspected:
        why = why or _GRADED
    if grade.undecided(labels.MORE_THAN_MILD):  # then it cannot be decided that there is none at all
        found = [replace(f, undecided=True) if f.code == "DR" and f.suspected is False else f for f in found]
    if why:  # "No listed abnormality flagged" must not stand beside one that is
        withdrawn = {"suspected": False, "undecided": None, "reason": why}  # what it is decides another score now
        found = [replace(f, **withdrawn) if f.code == "NORMAL" and (f.suspected or f.undecided) else f for f in found]
    return tuple(found)


def find_grade(card: Card, scores: Scores | None, withheld: str | None) -> Grade:
    """The ICDR grade."""
    given, threshold = card.grade, card.grade.threshold
    if withheld or scores is None:
        return Grade(None, None, None, None, withheld, threshold)
    each, grade = call_grade(given, scores.logits)
    likeliest = int(each.argmax())
    mild, threat = (given.undecided(least, float(each[least:].sum())) for least in labels.GRADED.values())
    if threat and grade < labels.MORE_THAN_MILD:  # what may threaten vision may be more than mild
        mild = True
    return Grade(
        tuple(float(p) for p in each),
        grade,
        grade >= labels.MORE_THAN_MILD,
        grade >= labels.VISION_THREATENING,
        None if grade == likeliest else _QUANTILE.format(likeliest, 100 * threshold),
        threshold,
        mild,
        threat,
    )


def call_grade(grade: GradeCalibration, logits: np.ndarray) -> tuple[np.ndarray, int]:
    """Probabilities float64 (5,) of the grades at logits (len(OUTPUTS),), and the grade that is called."""
    above = _sigmoid(grade.scale * float(logits[OUTPUTS.index(GRADE)]) - np.array(grade.cuts))
    beyond = _sigmoid(grade.threat_scale * float(logits[OUTPUTS.index(THREAT)]) - np.array(grade.threat_cuts))
    above = np.concatenate([above, above[-1] * beyond])
    return -np.diff(above, prepend=1, append=0), int((above >= grade.threshold).sum())


def find_oedema(card: Card, scores: Scores | None, withheld: str | None) -> Oedema:
    """The surrogate for macular oedema."""
    calibration = card.calibrations.get(OEDEMA)
    if calibration is None:
        return Oedema(False, None, None, None, labels.NOT_ASSESSED)
    if withheld or scores is None:
        return Oedema(True, None, calibration.threshold, None, withheld)
    p = _probability(card, scores, OEDEMA)
    return Oedema(True, p, calibration.threshold, p >= calibration.threshold, undecided=calibration.undecided(p))


def find_disc_cup(card: Card, planes: Planes, frame: fundus.Frame | None, withheld: str | None) -> DiscCup:
    """The vertical cup-to-disc ratio."""
    if withheld or frame is None:
        return DiscCup(None, None, None, None, withheld)
    disc, cup = planes[labels.DISC_CUP.name]
    diameters = measures.vertical_diameters(disc, cup)
    if diameters is None:
        return DiscCup(None, None, None, None, _NO_DISC)
    scale = frame.high / disc.shape[0]
    if diameters[1] < _LEAST_CUP * diameters[0]:
        return DiscCup(None, None, diameters[0] * scale, None, _NO_CUP)
    return DiscCup(diameters[1] / diameters[0], card.vcdr_error, diameters[0] * scale, diameters[1] * scale)


def find_lesions(card: Card, planes: Planes, withheld: str | None) -> dict[str, Lesion]:
    """Count and area of each kind of lesion that these weights find reliably; withheld, the threshold alone."""
    limits = card.lesion_thresholds
    if withheld:
        return {code: Lesion(None, None, threshold=limits.get(code)) for code in labels.LESIONS}
    squares = planes[labels.LESION_MAPS.name]
    field = measures.lesion_field(squares.shape[-1], card.prep.margin)
    return {
        code: replace(
            measures.count_lesions(squares[i], limits[code], field) if code in limits else Lesion(None, None),
            healthy_most=card.lesions_healthy.get(code),
            threshold=limits.get(code),
        )
        for i, code in enumerate(labels.LESIONS)
    }


def calibrate(card: Card, name: str, logit: float) -> float:
    """Probability 0..1 at one score of an output that the grade is not called from. Raises KeyError for one that is not
    assessed.
    """
    return float(card.calibrations[name].probability(logit))


def find_planes(card: Card, planes: Planes, frame: fundus.Frame) -> dict[str, Plane]:
    """The planes of the modalities that there are, by their own names."""
    result = {}
    for modality in labels.SYNTHESES:
        if modality.name not in planes:
            continue
        for name, square in zip(modality.planes, planes[modality.name], strict=True):
            title, error = labels.PLANE_TITLES[name], card.plane_errors.get(name)
            result[name] = Plane(name, title, square, True, error, partial(_place, frame=frame))
    return result


def find_maps(card: Card, scores: Scores) -> dict[str, np.ndarray]:
    """Where each score that these weights assess comes from, float32 (M, h, w)."""
    return {name: scores.maps[OUTPUTS.index(name)] for name in _explained(card)}


def find_contributions(card: Card, scores: Scores) -> dict[str, dict[str, float]]:
    """What each of these scores is made of [logit, before calibration]: a share of every modality, and the constant."""
    result = {}
    for name, maps in find_maps(card, scores).items():
        shares = maps.astype(np.float64).mean(axis=(1, 2))
        result[name] = {m.name: float(share) for m, share in zip(labels.MODALITIES, shares, strict=True)}
        result[name]["bias"] = float(scores.bias[OUTPUTS.index(name)])
    return result


def _sigmoid(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(score, -60, 60)))


def _explained(card: Card) -> list[str]:
    return [code for code in (*labels.FINDINGS, OEDEMA) if code in card.calibrations] + [GRADE, THREAT]


def _probability(card: Card, scores: Scores, name: str) -> float:
    return calibrate(card, name, float(scores.logits[OUTPUTS.index(name)]))


def _gate(card: Card, scores: Scores, name: str) -> tuple[float | None, bool]:
    """Probability, and whether it lets the photograph pass; without a calibration the gate stands open."""
    if name not in card.calibrations:
        return None, True
    probability = _probability(card, scores, name)
    return probability, probability >= card.calibrations[name].threshold


def _finding(card: Card, code: str, scores: Scores | None, withheld: str | None) -> Finding:
    name, calibration = labels.FINDINGS[code], card.calibrations.get(code)
    if calibration is None:
        return Finding(code, name, False, None, None, None, labels.NOT_ASSESSED)
    if withheld or scores is None:
        return Finding(code, name, True, None, calibration.threshold, None, withheld, few_eyes=calibration.few_eyes)
    p, limit = _probability(card, scores, code), calibration.threshold
    return Finding(code, name, True, p, limit, p >= limit, None, calibration.undecided(p), calibration.few_eyes)


def _place(square: np.ndarray, frame: fundus.Frame) -> np.ndarray:
    return frame.unwarp(square) * frame.field_mask()
