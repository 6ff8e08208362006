"""Disc, fovea and side of an eye.

Positions are shares of the networks' square: x to the right and y down, 0..1 from edge to edge, so that planes of any
size share them. Lengths called "disc diameters" are multiples of the vertical diameter of the disc.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .. import fundus, measures

_SIDE = 256  # [px] the fovea is sought on a copy this large

# Disc to fovea: 2.65 +- 0.30 mean disc diameters (Beijing Eye Study, Jonas et al. 2015, PLoS ONE 10:e0138701), which is
# about 2.5 of the vertical one, and 5.6 +- 3.3 degrees below the disc's horizontal (Rohrschneider 2004, IOVS 45:3257);
# wider here, because the computed disc has an error too.
_DISTANCE, _DISTANCE_SD = 2.5, 0.4
_ANGLE, _ANGLE_SD = math.radians(5.6), math.radians(5.0)
_BLUR, _SURROUND = 0.22, 0.9  # [disc diameters] the fovea's darkness is what the first sees over the second
_REACH = 3.0  # [standard deviations] from the expected place that the fovea is sought
_DARK = 0.7  # [standard deviations of the field] the fovea must be this much darker than its surround
# [share] No macula holds as much vessel within this radius [disc diameters]: it is nasal retina, or the edge.
_VASCULAR, _AVASCULAR_RADIUS = 0.045, 0.35
_ROOM = 0.4  # [disc diameters] of field that must lie around the fovea
_SEEN_ERROR, _EXPECTED_ERROR = 0.25, 1.0  # [disc diameters], see `Fovea.error`


@dataclass(frozen=True)
class Disc:
    """The optic disc: centre x, y and vertical diameter, all as shares of the square's side."""

    x: float
    y: float
    diameter: float


@dataclass(frozen=True)
class Fovea:
    """The estimated fovea: x, y as shares of the square's side.

    error: radius [disc diameters] that held 90 % of the true foveas of 70 training eyes of IDRiD, for foveas that were
    `seen` as a dark spot and for those placed by geometry alone; the model card says what it holds of test eyes.
    """

    x: float
    y: float
    error: float
    seen: bool


def find_disc(disc: np.ndarray, cup: np.ndarray) -> Disc | None:
    """The disc on its plane, float32 (s, s) in 0..1, or None where no plausible one is seen."""
    diameters = measures.vertical_diameters(disc, cup)
    if diameters is None:
        return None
    ys, xs = np.nonzero(measures.largest_region(disc))
    if not len(xs):  # smaller than a pixel of the plane
        return None
    side = disc.shape[0]
    return Disc(float(xs.mean() + 0.5) / side, float(ys.mean() + 0.5) / side, diameters[0] / side)


def frame_of(grid: tuple[int, int, int, int], shape: tuple[int, ...], size: int) -> fundus.Frame:
    """The frame of a report's grid in a photograph of this shape (H, W, ...), scaled to `size` [px]."""
    x, y, wide, high = grid
    around = fundus.Field(x + (wide - 1) / 2, y + (high - 1) / 2, high / 2, True, aspect=high / wide)
    return fundus.Frame(x, y, wide, high, size, shape[1], shape[0], around)


def see(pixels: np.ndarray, grid: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The networks' square, small: uint8 (256, 256, 3) RGB, and bool (256, 256), where the fundus is seen in it.

    pixels: uint8 (H, W, 3) RGB; grid: see `records.Report`. The camera may have cut the circular field, and paper may
    lie around it.
    """
    square = frame_of(grid, pixels.shape, _SIDE).warp(fundus.on_black(pixels))
    return square, fundus.square_mask(fundus.Prep(_SIDE)) & (square.max(axis=2) > 8)


def find_fovea(
    square: np.ndarray, field: np.ndarray, disc: Disc, vessels: np.ndarray
) -> tuple[Fovea | None, str | None]:
    """The fovea and the side of the eye ("right", "left" or None) from disc, geometry and darkness.

    square, field: what `see` gives; vessels: float32 (s, s) in 0..1, which are dark too.
    The fovea is sought temporal of the disc, once as a right and once as a left eye, and the likelier one is taken.
    """
    found = _seek(square, field, disc, vessels)
    scores = {side: each[0] for side, each in found.items() if each is not None}
    if not scores:
        return None, None
    side = max(scores, key=lambda name: scores[name])
    score, x, y, seen = found[side] or (0.0, 0.0, 0.0, False)
    known = len(scores) == 1 or (seen and abs(scores["right"] - scores["left"]) > 1)
    if not known:
        return None, None
    return Fovea(x, y, _SEEN_ERROR if seen else _EXPECTED_ERROR, seen), side


def has_macula(square: np.ndarray, field: np.ndarray, disc: Disc, vessels: np.ndarray, side: str) -> bool:
    """Whether the photograph shows the place of the macula of such an eye, "right" or "left", and no vessels there.

    The rest as in `find_fovea`. A photograph of the nasal retina has its disc where the other eye has it.
    """
    return _seek(square, field, disc, vessels)[side] is not None


def _seek(
    square: np.ndarray, field: np.ndarray, disc: Disc, vessels: np.ndarray
) -> dict[str, tuple[float, float, float, bool] | None]:
    """Side of the eye -> what `_sought` finds in it."""
    vessels = cv2.resize(vessels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    darkness = _darkness(square, field, vessels, disc)
    away = np.asarray(cv2.distanceTransform(field.astype(np.uint8), cv2.DIST_L2, 5)) / _SIDE
    room = away > _ROOM * disc.diameter
    return {side: _sought(darkness, room, vessels, disc, -1 if side == "right" else 1) for side in ("right", "left")}


def _darkness(square: np.ndarray, field: np.ndarray, vessels: np.ndarray, disc: Disc) -> np.ndarray:
    """float32: how many standard deviations a place is darker than its surround, vessels left out."""
    level = np.log1p(square[..., :2].astype(np.float32).sum(axis=2))  # red and green: exudates and pigment both count
    weight = (field * np.clip(1 - 2 * vessels, 0, 1)).astype(np.float32)

    def mean(width: float) -> np.ndarray:
        sigma = width * disc.diameter * _SIDE
        return cv2.GaussianBlur(level * weight, (0, 0), sigma) / (cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-3)

    drop = mean(_SURROUND) - mean(_BLUR)
    return drop / max(float(drop[field].std()) if field.any() else 0.0, 1e-3)


def _sought(
    darkness: np.ndarray, room: np.ndarray, vessels: np.ndarray, disc: Disc, temporal: int
) -> tuple[float, float, float, bool] | None:
    """(score, x, y, seen as dark) of the likeliest place; None where the expected one lies outside the field, or shows
    no dark spot but vessels.
    """
    ys, xs = (np.mgrid[:_SIDE, :_SIDE] + 0.5) / _SIDE
    dx, dy = (xs - disc.x) / disc.diameter * temporal, (ys - disc.y) / disc.diameter
    distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    unlikely = ((distance - _DISTANCE) / _DISTANCE_SD) ** 2 + ((angle - _ANGLE) / _ANGLE_SD) ** 2
    x = disc.x + temporal * _DISTANCE * math.cos(_ANGLE) * disc.diameter
    y = disc.y + _DISTANCE * math.sin(_ANGLE) * disc.diameter
    if not (0 <= x < 1 and 0 <= y < 1 and room[int(y * _SIDE), int(x * _SIDE)]):
        return None
    score = np.where(room & (unlikely < _REACH**2), 2 * darkness - unlikely / 2, -np.inf)
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    if darkness[row, column] < _DARK:
        around = np.hypot(xs - x, ys - y) <= _AVASCULAR_RADIUS * disc.diameter
        if (vessels[around] > 0.5).mean() >= _VASCULAR:
            return None
        return 0.0, float(x), float(y), False
    return float(score[row, column]), float(xs[row, column]), float(ys[row, column]), True
