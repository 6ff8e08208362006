"""Where the field of view of a fundus camera lies in a photograph."""

from dataclasses import dataclass

import cv2
import numpy as np

from .surround import on_black

_WORKING_SIDE = 512  # [px] the field is sought on a copy this large, so that speed does not depend on the camera
_DARKEST_FIELD = 8.0  # [0..255] below this 99th percentile nothing is visible
# Round corners: of a full circle, that much must be seen this near to it [radii]; those of a rectangle are less.
_CORNERS_SHARE, _TOUCHING = 0.06, 0.005
# A square made of a wide picture of which the camera cut every side: a height over width is believed where so much of
# that ellipse is seen, and that many times what a circle shows.
_CORNER_ASPECTS, _ELLIPSE_CORNERS_SHARE, _ROUNDER = tuple(np.arange(1.2, 1.6, 0.05)), 0.12, 2.5
_WIDE = 0.85  # of its sides: one side of such a picture may lie in the dark
_BORDER = 2  # [px] of the working copy: an edge this close to the picture's border is a cut, not the field's rim
_RIM_RESIDUAL = 0.03  # [radii] a rim that fits a circle worse than this is not a circle
_MARK = 0.05  # of the rim: so much of it may be a mark that sticks out
_LIT = 0.12  # of the way from the border's brightness to the field's, what is brighter is the field
_SECOND = 0.4  # of the field's area: what is lit beside it and as large is another eye, no caption
_COMPACT = 0.6  # of its box: a disc fills .79
# Two eyes that touch: an oblong as long as this, with two notches this deep [short sides] that face each other.
_PAIRED, _NOTCH, _MIDDLE = 1.3, 0.08, (0.35, 0.65)
_RIM_SHARE = 0.15  # of a full circle that must be visible as rim to trust the fit
# An ellipse is believed where it fits this much better than a circle must, where this much of it is rim, and between
# these ratios of its axes: below them a circle fits as well, above them nobody would show it.
_ELLIPSE_RESIDUAL, _ELLIPSE_SHARE, _ASPECTS = 0.006, 0.35, (1.05, 2.0)


class FieldError(ValueError):
    """No field of view can be seen in the photograph (black or uniform)."""


@dataclass(frozen=True)
class Field:
    """The field of view in [px] of the photograph: a circle, or an ellipse where a picture was pulled out of shape.

    radius: from its centre upwards. circular: False where no rim was visible. alone: False where another one, hardly
    smaller, lies beside it. aspect: height over width.
    """

    x: float
    y: float
    radius: float
    circular: bool
    alone: bool = True
    aspect: float = 1.0


def find_field(pixels: np.ndarray) -> Field:
    """Find the field of view of a photograph.

    pixels: uint8 (H, W, 3) RGB. The rim is fitted as a circle where it is visible, also when the camera cut the
    field on any side, or as an ellipse with upright axes; a picture without a visible rim (a crop) gets the circle that
    is as wide as the longer side of what is lit.
    Raises FieldError when nothing is visible.
    """
    step = max(max(pixels.shape[:2]) // _WORKING_SIDE, 1)  # whole steps first: OpenCV takes a quarter of the time
    height, width = (side // step * step for side in pixels.shape[:2])
    small = pixels[:height, :width]
    for factor in (1 / step, min(1.0, _WORKING_SIDE * step / max(height, width))):
        if factor < 1:
            small = cv2.resize(small, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    lit, second = _lit(cv2.GaussianBlur(on_black(small), (0, 0), 1.0))
    ratio = np.array([width / small.shape[1], height / small.shape[0]])
    x0, y0, w, h = cv2.boundingRect(lit)
    rim, box = _rim(lit), (x0, y0, w, h)
    fit = _fit(rim, box)
    if fit is None:  # what the camera cut off may end straight at black that somebody put around it
        fit = _fit(rim[_off_border(rim - (x0, y0), w, h)], box)
        fit = fit if fit and _holds(fit, rim) else _fit_corners(rim)
    filled = h >= len(small) - 2 * _BORDER and w >= _WIDE * len(small)
    if small.shape[0] == small.shape[1] and filled and (fit is None or fit[3] == 1):
        fit = _fit_squeezed_corners(rim) or fit
    x, y, radius, aspect = fit or (x0 + (w - 1) / 2, y0 + (h - 1) / 2, max(w, h) / 2, 1.0)
    alone = (second is None or bool(np.hypot(*(second - (x, y))) < radius)) and not _is_pair(lit)
    x, y = (np.array([x, y]) + 0.5) * ratio - 0.5
    return Field(float(x), float(y), float(radius * ratio.mean()), fit is not None, alone, aspect)


def _lit(small: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 (h, w) of 0/255: the largest connected region that is brighter than the camera's border.

    And the centre (2,) of a second one that could be another eye.
    """
    red, green, blue = cv2.split(small)  # whole planes: numpy is slow along an axis of three
    bright = cv2.max(cv2.max(red, green), blue).astype(np.float32)
    top = float(np.percentile(bright, 99))
    if top < _DARKEST_FIELD or top - float(np.percentile(bright, 1)) < 3 and np.ptp(bright) < 6:
        raise FieldError("no field of view is visible")
    border = min(float(np.percentile(bright, 1)), 0.5 * top)
    lit = (bright > border + _LIT * (top - border)).astype(np.uint8)
    lit = cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, regions, stats, centres = cv2.connectedComponentsWithStats(lit)
    if count < 2:
        raise FieldError("no field of view is visible")
    first, *others = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")
    second = next((centres[each] for each in others[:1] if _is_eye(stats[each], stats[first])), None)
    largest = (regions == first).astype(np.uint8)
    outline, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(largest, outline, -1, 255, cv2.FILLED) * np.uint8(255), second


def _is_eye(region: np.ndarray, first: np.ndarray) -> bool:
    """Whether a region is about as large as the first and compact; both rows of connectedComponentsWithStats."""
    width, height, area = (int(region[each]) for each in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    return (
        area >= _SECOND * first[cv2.CC_STAT_AREA]
        and area >= _COMPACT * width * height
        and 2 * min(width, height) > max(width, height)
    )


def _is_pair(lit: np.ndarray) -> bool:
    """Whether a lit region, uint8 (h, w), has a waist halfway along it, as two eyes that touch or overlap."""
    outline = max(cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=cv2.contourArea)
    box = np.array(cv2.boundingRect(outline))
    along = int(box[3] > box[2])
    size = box[2:].astype(float)
    if size[along] < _PAIRED * size[1 - along]:
        return False
    notches = cv2.convexityDefects(outline, cv2.convexHull(outline, returnPoints=False))
    if notches is None:
        return False
    deep = notches[notches[:, 0, 3] / 256 > _NOTCH * size.min(), 0, 2]
    at = (outline[deep, 0] - box[:2]) / size
    middle = at[(at[:, along] > _MIDDLE[0]) & (at[:, along] < _MIDDLE[1]), 1 - along]
    return bool((middle < 0.5).any() and (middle > 0.5).any())


def _rim(lit: np.ndarray) -> np.ndarray:
    """float64 (n, 2): contour points on the convex hull that are not cut off by the picture's border."""
    contour = np.asarray(max(cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len))
    hull = np.zeros_like(lit)
    cv2.drawContours(hull, [cv2.convexHull(contour)], -1, 255, 1)
    points = contour[:, 0, :].astype(np.int64)
    near = np.asarray(cv2.dilate(hull, np.ones((3, 3), np.uint8)))[points[:, 1], points[:, 0]] > 0
    return points[near & _off_border(points, *lit.shape[::-1])].astype(np.float64)


def _off_border(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """bool (n,): points (n, 2) that do not lie along the edges of a box at the origin."""
    x, y = points.T
    return (x >= _BORDER) & (y >= _BORDER) & (x < width - _BORDER) & (y < height - _BORDER)


def _fit(rim: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, float, float, float] | None:
    """x, y, half of the height, and height over width of the field with these points of its rim; None without one."""
    ellipse = _fit_ellipse(rim)
    if ellipse is None and (circle := _fit_circle(rim, box)) is not None:
        return (*circle, 1.0)
    return ellipse


def _holds(fit: tuple[float, float, float, float], points: np.ndarray) -> bool:
    """Whether hardly a point (n, 2) lies beyond a field, see `_fit`: those of a camera's mark beside it may."""
    x, y, radius, aspect = fit
    away = np.hypot(*((points - (x, y)) * (aspect, 1)).T)
    return bool((away > (1 + _RIM_RESIDUAL) * radius).mean() <= _MARK)


def _fit_circle(points: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, float, float] | None:
    """Trimmed least-squares circle, or None where the points are too few or no circle."""
    x0, y0, w, h = box
    if len(points) < 30:
        return None
    kept = points
    for _ in range(6):
        x, y, radius = _circle_through(kept)
        residual = np.abs(np.hypot(*(points - (x, y)).T) - radius)
        kept = points[residual <= max(1.0, float(np.percentile(residual, 80)))]
    angles = np.histogram(np.arctan2(kept[:, 1] - y, kept[:, 0] - x), bins=72, range=(-np.pi, np.pi))[0]
    plausible = (
        float(np.median(residual)) <= _RIM_RESIDUAL * radius
        and (angles > 0).mean() >= _RIM_SHARE
        and 0.4 * max(w, h) <= radius <= 0.75 * float(np.hypot(w, h))
        and x0 < x < x0 + w
        and y0 < y < y0 + h
    )
    return (x, y, radius) if plausible else None


def _circle_through(points: np.ndarray) -> tuple[float, float, float]:
    """x, y, radius of the least-squares circle (Kasa 1976) through points float64 (n, 2)."""
    design = np.column_stack([points, np.ones(len(points))])
    (a, b, c), *_ = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)
    x, y = a / 2, b / 2
    return float(x), float(y), float(np.sqrt(max(c + x * x + y * y, 1.0)))


def _fit_corners(rim: np.ndarray) -> tuple[float, float, float, float] | None:
    """The field of a camera that cut it on every side, so that only its corners are round, see `_fit`; or None."""
    share, fit = _fit_around(rim, 1.0)
    return fit if share >= _CORNERS_SHARE else None


def _fit_squeezed_corners(rim: np.ndarray) -> tuple[float, float, float, float] | None:
    """The field of such a camera where its wide picture was made square, see `_fit`; None where a circle fits it."""
    least = max(_ELLIPSE_CORNERS_SHARE, _ROUNDER * _fit_around(rim, 1.0)[0])
    if least >= 1:
        return None
    share, fit = max((_fit_around(rim, aspect) for aspect in _CORNER_ASPECTS), key=lambda each: each[0])
    return fit if share >= least else None


def _fit_around(points: np.ndarray, aspect: float) -> tuple[float, tuple[float, float, float, float]]:
    """The smallest ellipse of this shape around all `points` (n, 2), since nothing lit lies beyond a field: how much of
    it they show, 0..1, or 0 where it is no field, and what it is, see `_fit`.
    """
    if len(points) < 30:
        return 0.0, (0.0, 0.0, 0.0, 1.0)
    points = points * (aspect, 1)
    (x, y), radius = cv2.minEnclosingCircle(points.astype(np.float32))
    for _ in range(3):  # one point that sticks out moves it
        away = np.hypot(*(points - (x, y)).T)
        touching = points[np.abs(away - radius) <= max(1.5, _TOUCHING * radius)]
        x, y, radius = _circle_through(touching)
    angles = np.arctan2(touching[:, 1] - y, touching[:, 0] - x)
    share, quadrants = (np.histogram(angles, bins, (-np.pi, np.pi))[0] > 0 for bins in (144, 4))
    seen = quadrants.sum() >= 3 and _holds((x, y, radius, 1.0), points)
    return float(share.mean()) if seen else 0.0, (x / aspect, y, radius, float(aspect))


def _fit_ellipse(points: np.ndarray) -> tuple[float, float, float, float] | None:
    """x, y, half of the height, and height over width, of a trimmed least-squares ellipse with upright axes.

    None where it is no better than a circle, or hardly to be believed.
    """
    if len(points) < 30:
        return None
    middle, spread = points.mean(axis=0), points.std()
    points = (points - middle) / spread
    kept = points
    for _ in range(6):
        x, y = kept.T
        design = np.column_stack([x * x, x, y, np.ones(len(kept))])
        (a, b, c, d), *_ = np.linalg.lstsq(design, -y * y, rcond=None)  # a x^2 + y^2 + b x + c y + d = 0
        if a <= 0:
            return None
        aspect, centre = np.sqrt(a), np.array([-b / (2 * a), -c / 2])
        radius = np.sqrt(max(centre[1] ** 2 + a * centre[0] ** 2 - d, 1e-6))
        round_ = (points - centre) * (aspect, 1)
        residual = np.abs(np.hypot(*round_.T) - radius)
        near = residual <= max(1 / spread, float(np.percentile(residual, 80)))
        kept = points[near]
    angles = np.histogram(np.arctan2(round_[near, 1], round_[near, 0]), bins=72, range=(-np.pi, np.pi))[0]
    least, most = _ASPECTS
    plausible = (
        float(np.median(residual)) <= _ELLIPSE_RESIDUAL * radius
        and (angles > 0).mean() >= _ELLIPSE_SHARE
        and least <= max(aspect, 1 / aspect) <= most
    )
    x, y = centre * spread + middle
    return (float(x), float(y), float(radius * spread), float(aspect)) if plausible else None
