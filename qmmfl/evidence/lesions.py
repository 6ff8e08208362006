"""Where the lesions lie: by quadrant of the retina and within one disc diameter of the fovea.

Quadrants meet in the centre of the disc, as the standard fields 4 to 7 do whose four quadrants the 4-2-1 rule counts
(ETDRS report 10, 1991, Ophthalmology 98:786); one photograph shows only a part of each, which is given with them. Hard
exudates within one disc diameter of the fovea stand for a risk of macular oedema (grade M1 of the English screening
programme; a surrogate, OCT decides).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .. import measures
from .landmarks import Disc, Fovea

QUADRANTS = ("superotemporal", "inferotemporal", "superonasal", "inferonasal")


@dataclass(frozen=True)
class Spots:
    """Count of lesions and their area [disc areas, pi / 4 of a squared diameter]; None with the reason."""

    count: int | None
    area: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Places:
    """One kind of lesion. A lesion is counted in the quadrant of its centroid; areas are split exactly.

    threshold: the probability from which a pixel belongs to the lesion. healthy_most: see `records.Lesion`.
    near_fovea: lesions of which any part lies within one disc diameter of the estimated fovea, and that part's area.
    near_fovea_range: fewest and most that it could be, given the error of the fovea.
    """

    total: Spots
    quadrants: Mapping[str, Spots] = field(default_factory=dict)
    near_fovea: Spots = Spots(None, None)
    near_fovea_range: tuple[int, int] | None = None
    threshold: float | None = None
    healthy_most: int | None = None


def withheld(reason: str) -> Places:
    """Nothing is said about this lesion, for one reason."""
    nothing = Spots(None, None, reason)
    return Places(nothing, dict.fromkeys(QUADRANTS, nothing), nothing)


def quadrant_areas(field: np.ndarray, disc: Disc, side: str) -> dict[str, float]:
    """Area [disc areas] of each quadrant that is seen, bool (s, s)."""
    ys, xs = (np.argwhere(field).T + 0.5) / len(field)
    pixels = np.bincount(_quadrant(xs, ys, disc, side), minlength=len(QUADRANTS))
    return {name: float(pixels[k]) / _disc_area(len(field), disc) for k, name in enumerate(QUADRANTS)}


def seen_near(field: np.ndarray, disc: Disc, fovea: Fovea) -> float:
    """Share of the zone within one disc diameter of the fovea that is seen, bool (s, s); what lies beyond the square,
    too, is not.
    """
    side = len(field)
    room = math.ceil(disc.diameter * side) + 1
    ys, xs = (np.mgrid[-room : side + room, -room : side + room] + 0.5) / side
    zone = np.hypot(xs - fovea.x, ys - fovea.y) <= disc.diameter
    return float((zone & np.pad(field, room)).sum() / max(int(zone.sum()), 1))


def find_places(
    plane: np.ndarray, threshold: float, disc: Disc | None, side: str | None, fovea: Fovea | None, reasons: Mapping
) -> Places:
    """Places of one lesion plane, float32 (s, s) in 0..1, at its threshold.

    side: "right" or "left". reasons: "disc", "side", "fovea" -> why that landmark is None, where it is; the fovea, too,
    where the zone around it is cut off.
    """
    size = plane.shape[0]
    regions, count = measures.lesion_regions(plane, threshold, measures.lesion_field(size))
    if disc is None:
        nothing = Spots(None, None, reasons["disc"])
        total = Spots(count, None, reasons["disc"])
        return Places(total, dict.fromkeys(QUADRANTS, nothing), nothing, threshold=threshold)
    ys, xs = np.nonzero(regions)
    owner, unit = regions[ys, xs], _disc_area(size, disc)
    x, y = (xs + 0.5) / size, (ys + 0.5) / size
    total = Spots(count, len(xs) / unit)
    quadrants: dict[str, Spots] = dict.fromkeys(QUADRANTS, Spots(None, None, reasons.get("side")))
    if side is not None:
        sizes = np.maximum(np.bincount(owner, minlength=count + 1)[1:], 1)
        centre = [np.bincount(owner, each, minlength=count + 1)[1:] / sizes for each in (x, y)]
        counts = np.bincount(_quadrant(centre[0], centre[1], disc, side), minlength=4)
        areas = np.bincount(_quadrant(x, y, disc, side), minlength=4) / unit
        quadrants = {name: Spots(int(counts[k]), float(areas[k])) for k, name in enumerate(QUADRANTS)}
    if fovea is None:
        return Places(total, quadrants, Spots(None, None, reasons["fovea"]), threshold=threshold)
    away = np.hypot(x - fovea.x, y - fovea.y) / disc.diameter
    near, fewest, most = (len(np.unique(owner[away <= 1 + e])) for e in (0.0, -fovea.error, fovea.error))
    return Places(total, quadrants, Spots(near, float((away <= 1).sum()) / unit), (fewest, most), threshold)


def _quadrant(x: np.ndarray, y: np.ndarray, disc: Disc, side: str) -> np.ndarray:
    """Index into QUADRANTS of each position; the temporal side of a right eye is on the left of the photograph."""
    nasal = (x > disc.x) == (side == "right")
    return 2 * nasal.astype(np.int64) + (y > disc.y)


def _disc_area(size: int, disc: Disc) -> float:
    """Pixels of one disc area."""
    return max(math.pi / 4 * (disc.diameter * size) ** 2, 1e-9)
