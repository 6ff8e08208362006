"""Numbers read off the planes: cup-to-disc ratio, lesion counts, laterality. Squares are float32 (s, s) in 0..1."""

import cv2
import numpy as np

from . import fundus
from .records import Eye, Lesion

BY_DISC = "position of the optic disc, if the macula is shown"
_REGION = 0.5  # probability from which a pixel belongs to disc or cup
_SMALLEST = 4  # [px] lesions of fewer pixels are noise at the working resolution
_RIM = 0.03  # [radii] at the rim of the field the surround, white ones above all, looks like lesions
_OFF_CENTRE = 0.25  # [radii of the field] disc this far from the middle tells the side
_GLANCE = 256  # [px] side at which the share of vessels is taken, that of the views which its limit was chosen on
_LEAST_DISC, _MOST_DISC = 0.002, 0.12  # share of the square that a disc can cover


def largest_region(plane: np.ndarray) -> np.ndarray:
    """bool (s, s): the largest connected region at or above 0.5; all False where there is none."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats((plane >= _REGION).astype(np.uint8))
    if count < 2:
        return np.zeros(plane.shape, bool)
    return regions == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())


def vertical_diameters(disc: np.ndarray, cup: np.ndarray) -> tuple[float, float] | None:
    """Vertical extents of disc and cup [px of the square], or None where no plausible disc is seen.

    Regions are read off a four times finer grid, since a disc spans only some tens of pixels.
    """
    fine = [cv2.resize(p, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR) for p in (disc, cup)]
    disc_region = largest_region(fine[0])
    if not _LEAST_DISC <= disc_region.mean() <= _MOST_DISC:
        return None
    cup_region = largest_region(np.where(disc_region, fine[1], 0).astype(np.float32))
    return _rows(disc_region) / 4, _rows(cup_region) / 4


def find_side(disc: np.ndarray) -> Eye:
    """Laterality from where the disc lies: it is on the right in a photograph of a right eye that shows the macula."""
    region = largest_region(disc)
    if not _LEAST_DISC <= region.mean() <= _MOST_DISC:
        return Eye(None, None)
    offset = (np.nonzero(region)[1].mean() + 0.5) / region.shape[1] * 2 - 1
    if abs(offset) < _OFF_CENTRE:
        return Eye(None, None)
    return Eye("right" if offset > 0 else "left", BY_DISC)


def vessel_share(vessels: np.ndarray) -> float:
    """Share of the square that arteries and veins, float32 (2, s, s) in 0..1, cover when seen at 256 px."""
    seen = [cv2.resize(plane, (_GLANCE, _GLANCE), interpolation=cv2.INTER_AREA) for plane in vessels]
    return float((np.maximum(*seen) >= _REGION).mean())


def lesion_field(size: int, margin: float = 0.0) -> np.ndarray:
    """bool (size, size): where lesions are counted, the field of view of a canonical square but for its rim.

    margin: of the `fundus.Prep` that made the square.
    """
    return fundus.square_mask(fundus.Prep(size, (1 + margin) / (1 - _RIM) - 1))


def lesion_regions(plane: np.ndarray, threshold: float, field: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected regions of at least 4 px at or above `threshold` in the field, bool (s, s), see `lesion_field`.

    Returns int64 (s, s), 0 outside the lesions and 1..n inside the n-th, and n.
    """
    regions, _, kept = _components(plane, threshold, field)
    return np.where(kept, np.cumsum(kept), 0)[regions], int(kept.sum())


def count_lesions(plane: np.ndarray, threshold: float, field: np.ndarray) -> Lesion:
    """How many `lesion_regions` there are, and their share of the field, bool (s, s)."""
    _, areas, kept = _components(plane, threshold, field)
    return Lesion(int(kept.sum()), float(areas[kept].sum()) / max(int(field.sum()), 1))


def _components(plane: np.ndarray, threshold: float, field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of its region at each place (s, s), areas [px] by number, and which of them are lesions."""
    mask = ((plane >= threshold) & field).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= _SMALLEST
    kept[0] = False  # the background
    return np.asarray(regions), areas, kept


def _rows(region: np.ndarray) -> float:
    rows = np.flatnonzero(region.any(axis=1))
    return float(rows[-1] - rows[0] + 1) if len(rows) else 0.0
