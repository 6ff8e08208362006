"""Everything that can be measured in one eye, as one record; a number that is not given is None with its reason."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np

from .. import labels, laterality, measures
from ..conclusions import INCOMPLETE, UNGRADABLE
from ..records import Eye, Photograph, Report
from . import lesions, vessels
from .centrelines import thinned
from .landmarks import Disc, Fovea, find_disc, find_fovea, has_macula, see
from .lesions import Places

BY_PLACES = "places of disc and fovea"  # what a side rests on
DISC_DIAMETERS, RATIO = "disc diameters", "ratio"

# How far the number of the second copy may lie from the first: calibres as a share (about one standard deviation
# between people: 162.5 +- 9.3 and 232.9 +- 16.1 um in the Kumejima Study), the others absolute: a straight vessel's
# tortuosity is 1, and people differ by hundredths.
TOLERANCES = MappingProxyType(
    {
        "artery_calibre": 0.05,
        "vein_calibre": 0.05,
        "artery_vein_ratio": 0.05,
        "artery_tortuosity": 0.005,
        "vein_tortuosity": 0.005,
        "fractal_dimension": 0.01,
    }
)
_RELATIVE = ("artery_calibre", "vein_calibre", "artery_vein_ratio")
_UNITS = MappingProxyType({"artery_calibre": DISC_DIAMETERS, "vein_calibre": DISC_DIAMETERS})

NO_PLANES = "withheld: no planes were computed for this photograph"
NO_DISC = "not measured: no optic disc was found"
NO_FOVEA = "not measured: the fovea could not be told from the disc's other side"
NO_SIDE = "not measured: it is not known which side of the disc is temporal"
SIDES_DIFFER = "not measured: by disc and fovea this is a {} eye, not a {} one ({})"
NOT_SETTLED = "not measured: which eye this is, is open ({})"
NOT_RELIABLE = "not counted: these weights do not find this lesion reliably"
NOT_REPEATED = "not shown: it was not repeated on a second copy of the photograph"
NOT_READ_AGAIN = "not shown: the analysis of the second copy of the photograph failed ({})"
NOT_GRADED_AGAIN = "not shown: the second copy of the photograph was not gradable"
FEW_VESSELS = "not measured: too few vessels are seen"
MACULA_CUT = "not counted: only {:.0%} of that zone is in the photograph"
_MACULA_SHARE = 0.95  # of it that must be seen
ZONE_CUT = "not measured: the zone around the disc reaches too far beyond the field of view"
_ZONE_SHARE = 0.66  # of zone B's middle circle that must be seen


@dataclass(frozen=True)
class Measurement:
    """One number with its unit. value: None where `reason` says why. error: mean absolute error, where known.

    repeated: the same number on the second copy of the photograph. vessels: of each kind that it was made of.
    """

    value: float | None
    unit: str
    reason: str | None = None
    error: float | None = None
    repeated: float | None = None
    vessels: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What was measured in one photograph.

    side: "right", "left" or None, by disc and fovea, or as the report says where they do not tell or the clinician
    decided; side_reason: why it is None. disc, fovea: see there; None with disc_reason, fovea_reason. cup_to_disc:
    vertical ratio. quadrant_areas: quadrant -> its area in the photograph [disc areas], empty where unknown. lesions:
    code -> `Places`. vessels: the keys of `TOLERANCES` -> number.
    """

    side: str | None
    side_reason: str | None
    disc: Disc | None
    disc_reason: str | None
    fovea: Fovea | None
    fovea_reason: str | None
    cup_to_disc: Measurement
    quadrant_areas: Mapping[str, float] = field(default_factory=dict)
    lesions: Mapping[str, Places] = field(default_factory=dict)
    vessels: Mapping[str, Measurement] = field(default_factory=dict)

    @property
    def contradicts(self) -> bool:
        """Whether disc and fovea tell another side than the report, which leaves it open: one reason for both."""
        return self.disc is not None and self.side is None and self.side_reason == self.fovea_reason

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


def second_copy(photograph: Photograph) -> Photograph:
    """The photograph re-encoded (JPEG, quality 90) and shifted by 0.53 % of its width and 0.31 % of its height."""
    pixels, (height, width) = photograph.pixels, photograph.pixels.shape[:2]
    shift = np.array([[1, 0, 0.0053 * width], [0, 1, -0.0031 * height]])
    moved = cv2.warpAffine(pixels, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(moved, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    copy = cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
    return replace(photograph, pixels=copy, sha256=hashlib.sha256(copy.tobytes()).hexdigest())


def sided(report: Report) -> Report:
    """A fresh report with the side that its photograph tells: by disc and fovea where both are seen, else by the disc
    where there is room for a macula; open where the two contradict each other or there is no macula.
    """
    if _withheld(report) or report.grid is None:
        return report
    disc = find_disc(_plane(report, "disc"), _plane(report, "cup"))
    if disc is None:
        return report
    square, field = see(report.photograph.pixels, report.grid)
    fovea, side = _find_fovea(report, disc, square, field)
    if side and report.eye.side not in (None, side):
        return replace(report, eye=Eye(None, laterality.CONTRARY))
    if fovea and fovea.seen:
        return replace(report, eye=Eye(side, BY_PLACES))
    told = report.eye.side if report.eye.origin == measures.BY_DISC else None
    if told and not has_macula(square, field, disc, _vessels(report), told):
        return replace(report, eye=Eye(None, laterality.NO_MACULA))
    return report


def measure(
    report: Report,
    thresholds: Mapping[str, float],
    again: Report | None = None,
    errors: Mapping[str, float] = MappingProxyType({}),
) -> Evidence:
    """Read everything off the planes of a report.

    thresholds: lesion -> probability (`Card.lesion_thresholds`); a lesion without one is not counted. again: the
    report of `second_copy(report.photograph)`; vessel numbers are given only where it says the same. errors: of these
    numbers (`Card.vessel_errors`), where they are known.
    """
    reason = _withheld(report)
    if reason or report.grid is None:
        return _nothing(reason or NO_PLANES)
    square, field = see(report.photograph.pixels, report.grid)
    disc = find_disc(_plane(report, "disc"), _plane(report, "cup"))
    fovea, side, side_reason, fovea_reason = None, None, NO_DISC, NO_DISC
    if disc is not None:
        fovea, side = _find_fovea(report, disc, square, field)
        side_reason, fovea_reason = None, None if side else NO_FOVEA
        if side and report.eye.side not in (None, side):
            fovea, fovea_reason = None, SIDES_DIFFER.format(side, report.eye.side, report.eye.origin)
            chosen = laterality.CHOSEN in (report.eye.origin or "")  # whose word decides, for the quadrants too
            side, side_reason = (report.eye.side, None) if chosen else (None, fovea_reason)
        elif report.eye.side is None and report.eye.origin:  # it was asked about, and is not settled
            side, side_reason = None, NOT_SETTLED.format(report.eye.origin)
            if report.eye.origin in (laterality.CONTRARY, laterality.NO_MACULA):
                fovea, fovea_reason = None, side_reason
        elif side is None:  # neither fovea is told, as where the disc is in the middle
            side, side_reason = report.eye.side, None if report.eye.side else NO_SIDE
    reasons = {"disc": NO_DISC, "side": side_reason, "fovea": fovea_reason}
    centre = fovea  # of the zone whose lesions are counted
    if disc and fovea and (share := lesions.seen_near(field, disc, fovea)) < _MACULA_SHARE:
        centre, reasons["fovea"] = None, MACULA_CUT.format(share)
    cup = report.disc_cup
    numbers = _vessel_numbers(report)
    other = {} if again is None or _withheld(again) else _vessel_numbers(again)
    unseen = _unseen(again)
    return Evidence(
        side=side,
        side_reason=side_reason,
        disc=disc,
        disc_reason=None if disc else NO_DISC,
        fovea=fovea,
        fovea_reason=fovea_reason,
        cup_to_disc=Measurement(cup.vcdr, RATIO, cup.reason, cup.vcdr_error),
        quadrant_areas=lesions.quadrant_areas(field, disc, side) if disc and side else {},
        lesions={
            code: replace(
                lesions.find_places(_plane(report, f"lesion_{code}"), thresholds[code], disc, side, centre, reasons),
                healthy_most=report.lesions[code].healthy_most,
            )
            if code in thresholds
            else lesions.withheld(NOT_RELIABLE)
            for code in labels.LESIONS
        },
        vessels={
            name: _with_error(name, _confirmed(name, numbers[name], other.get(name), unseen), errors.get(name))
            for name in TOLERANCES
        },
    )


def _withheld(report: Report) -> str | None:
    """Why nothing is measured in this report, or None. An overridden report keeps its score maps."""
    if report.failures:
        return INCOMPLETE
    if not report.quality.gradable and not report.maps:
        return UNGRADABLE
    wanted = (*labels.DISC_CUP.planes, *labels.VESSELS.planes, *labels.LESION_MAPS.planes)
    return None if all(name in report.planes for name in wanted) else NO_PLANES


def _nothing(reason: str) -> Evidence:
    return Evidence(
        *(None, reason, None, reason, None, reason, Measurement(None, RATIO, reason)),
        lesions={code: lesions.withheld(reason) for code in labels.LESIONS},
        vessels={name: Measurement(None, _UNITS.get(name, RATIO), reason) for name in TOLERANCES},
    )


def _plane(report: Report, name: str) -> np.ndarray:
    return report.planes[name].square


def _find_fovea(report: Report, disc: Disc, square: np.ndarray, field: np.ndarray) -> tuple[Fovea | None, str | None]:
    """See `find_fovea`; one that is not seen, for which a narrow field may have room on one side only, neither names a
    side nor contradicts the report's.
    """
    fovea, side = find_fovea(square, field, disc, _vessels(report))
    return (fovea, side) if fovea and (fovea.seen or side == report.eye.side) else (None, None)


def _vessels(report: Report) -> np.ndarray:
    """float32 (s, s) in 0..1."""
    return np.maximum(_plane(report, "artery"), _plane(report, "vein"))


def _vessel_numbers(report: Report) -> dict[str, Measurement]:
    """What the vessels of one reading measure, before it is compared with another."""
    disc = find_disc(_plane(report, "disc"), _plane(report, "cup"))
    result = {name: Measurement(None, _UNITS.get(name, RATIO), NO_DISC) for name in TOLERANCES}
    artery, vein = _plane(report, "artery"), _plane(report, "vein")
    lines = thinned(np.maximum(artery, vein) >= vessels.EDGE)
    dimension = vessels.fractal_dimension(lines)
    result["fractal_dimension"] = Measurement(dimension, RATIO, None if dimension else FEW_VESSELS)
    if disc is None or report.grid is None:
        return result
    for name, plane in (("artery_tortuosity", artery), ("vein_tortuosity", vein)):
        value = vessels.tortuosity(plane, disc)
        result[name] = Measurement(value, RATIO, None if value else FEW_VESSELS)
    whole = vessels.zone_share(disc, see(report.photograph.pixels, report.grid)[1]) >= _ZONE_SHARE
    found = vessels.central_equivalents(artery, vein, disc) if whole else None
    if found is None:
        reason = FEW_VESSELS if whole else ZONE_CUT
        return result | {name: replace(result[name], reason=reason) for name in _RELATIVE}
    crae, crve, number = found
    for name, value in zip(_RELATIVE, (crae, crve, crae / crve), strict=True):
        result[name] = Measurement(value, _UNITS.get(name, RATIO), vessels=number)
    return result


def _with_error(name: str, number: Measurement, error: float | None) -> Measurement:
    if number.value is None or error is None:
        return number
    return replace(number, error=error * number.value if name in _UNITS else error)  # of calibres a share


def _unseen(again: Report | None) -> str:
    """Why there is no second reading to compare with."""
    if again is None:
        return NOT_REPEATED
    return NOT_READ_AGAIN.format("; ".join(again.failures)) if again.failures else NOT_GRADED_AGAIN


def _confirmed(name: str, first: Measurement, second: Measurement | None, unseen: str) -> Measurement:
    """The first reading where the second says the same, else no value with the reason."""
    if first.value is None:
        return first
    if second is None:
        return replace(first, value=None, reason=unseen)
    limit = TOLERANCES[name] * (first.value if name in _RELATIVE else 1)
    if second.value is not None and second.vessels == first.vessels and abs(second.value - first.value) <= limit:
        return replace(first, repeated=second.value)
    reason = f"not shown: it did not repeat on a second copy of the photograph ({_told(first)}, then {_told(second)})"
    return replace(first, value=None, reason=reason, repeated=second.value)


def _told(number: Measurement) -> str:
    vessels = f" from {number.vessels} of each kind" if number.vessels else ""
    return "none" if number.value is None else f"{number.value:.3f}{vessels}"
