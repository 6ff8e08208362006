"""Where the fundus is in a photograph, and the exact way to the networks' square and back.

Continuous coordinates follow OpenCV: the centre of the first pixel is (0, 0), x to the right, y down, in [px].
"""

import hashlib
import json
from dataclasses import asdict, dataclass

import cv2
import numpy as np

NOTE_CROP = "No round edge of the field of view is seen, as in a crop: places, sizes and side may be off."
NOTE_PART = "Only about {:.0%} of the round field of view is seen, the rest is dark or cut off: it was not read."
LEAST_PART = 0.65  # of the field of view; cameras that cut it above and below still show .68

_WORKING_SIDE = 512  # [px] the field is sought on a copy this large, so that speed does not depend on the camera
_DARKEST_FIELD = 8.0  # [0..255] below this 99th percentile nothing is visible
_WHITE = 225  # [0..255] a border whose darkest channel is brighter is white
_BORDER = 2  # [px] of the working copy: an edge this close to the picture's border is a cut, not the field's rim
_RIM_RESIDUAL = 0.03  # [radii] a rim that fits a circle worse than this is not a circle
_LIT = 0.12  # of the way from the border's brightness to the field's, what is brighter is the field
_SECOND = 0.4  # of the field's area: what is lit beside it and as large is another eye, no caption
_COMPACT = 0.6  # of its box: a disc fills .79
_RIM_SHARE = 0.15  # of a full circle that must be visible as rim to trust the fit


class FieldError(ValueError):
    """No field of view can be seen in the photograph (black or uniform)."""


@dataclass(frozen=True)
class Field:
    """The circular field of view in [px] of the photograph.

    circular: False where no rim was visible. alone: False where another one, hardly smaller, lies beside it.
    """

    x: float
    y: float
    radius: float
    circular: bool
    alone: bool = True


@dataclass(frozen=True)
class Prep:
    """How a photograph becomes the networks' input. Stored with the weights; two preps never mix.

    size: side of the square [px]. margin: free room around the field of view, as a share of its radius.
    """

    size: int = 1024
    margin: float = 0.0

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this preparation."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Frame:
    """The square window of a photograph that the networks see: an integer crop, then one scaling.

    x, y: photograph pixel at the window's upper left corner [px], may be negative; side: window's side [px];
    size: side of the square it is scaled to [px]; width, height: of the photograph [px]; field: see `Field`.
    """

    x: int
    y: int
    side: int
    size: int
    width: int
    height: int
    field: Field

    def to_square(self, points: np.ndarray) -> np.ndarray:
        """Photograph coordinates (..., 2) [px] -> coordinates in the square [px], float64."""
        points = np.asarray(points, dtype=np.float64)
        return (points - (self.x, self.y) + 0.5) * (self.size / self.side) - 0.5

    def to_photograph(self, points: np.ndarray) -> np.ndarray:
        """Coordinates in the square (..., 2) [px] -> photograph coordinates [px], float64. Inverse of `to_square`."""
        points = np.asarray(points, dtype=np.float64)
        return (points + 0.5) * (self.side / self.size) - 0.5 + (self.x, self.y)

    def warp(self, pixels: np.ndarray, size: int | None = None, *, nearest: bool = False) -> np.ndarray:
        """Array (height, width[, C]) of the photograph -> (size, size[, C]), zero beyond the photograph.

        Any dtype that OpenCV resizes. `nearest` keeps label values.
        """
        if pixels.shape[:2] != (self.height, self.width):
            raise ValueError(f"array is {pixels.shape[1]}x{pixels.shape[0]}, frame wants {self.width}x{self.height}")
        return _resize(self._window(pixels), size or self.size, nearest)

    def unwarp(self, plane: np.ndarray, *, nearest: bool = False) -> np.ndarray:
        """Square array (s, s[, C]) of any side s -> (height, width[, C]) in the photograph's frame, zero elsewhere."""
        if plane.shape[0] != plane.shape[1]:
            raise ValueError(f"a square plane is wanted, got {plane.shape}")
        window = _resize(plane, self.side, nearest)
        full = np.zeros((self.height, self.width, *plane.shape[2:]), plane.dtype)
        inside, outside = self._overlap()
        full[inside] = window[outside]
        return full

    def field_mask(self) -> np.ndarray:
        """bool (height, width): True inside the field of view."""
        ys, xs = np.ogrid[: self.height, : self.width]
        return (xs - self.field.x) ** 2 + (ys - self.field.y) ** 2 <= self.field.radius**2

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of the photograph and of the window that show the same pixels."""
        x0, x1 = max(self.x, 0), min(self.x + self.side, self.width)
        y0, y1 = max(self.y, 0), min(self.y + self.side, self.height)
        inside = (slice(y0, y1), slice(x0, x1))
        return inside, (slice(y0 - self.y, y1 - self.y), slice(x0 - self.x, x1 - self.x))

    def _window(self, pixels: np.ndarray) -> np.ndarray:
        window = np.zeros((self.side, self.side, *pixels.shape[2:]), pixels.dtype)
        inside, outside = self._overlap()
        window[outside] = pixels[inside]
        return window


def _resize(pixels: np.ndarray, size: int, nearest: bool) -> np.ndarray:
    if pixels.shape[0] == size:
        return pixels
    # Area averaging cannot alias on the way down; linear cannot overshoot the range on the way up.
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if size < pixels.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=method)


def find_field(pixels: np.ndarray) -> Field:
    """Find the circular field of view of a photograph.

    pixels: uint8 (H, W, 3) RGB. The rim is fitted as a circle where it is visible, also when the camera cut the
    field above and below; a picture without a visible rim (a crop) gets the circle around what is lit.
    Raises FieldError when nothing is visible.
    """
    step = max(max(pixels.shape[:2]) // _WORKING_SIDE, 1)  # whole steps first: OpenCV takes a quarter of the time
    height, width = (side // step * step for side in pixels.shape[:2])
    small = pixels[:height, :width]
    for factor in (1 / step, min(1.0, _WORKING_SIDE * step / max(height, width))):
        if factor < 1:
            small = cv2.resize(small, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    lit, second = _lit(cv2.GaussianBlur(_on_black(small), (0, 0), 1.0))
    ratio = np.array([width / small.shape[1], height / small.shape[0]])
    x0, y0, w, h = cv2.boundingRect(lit)
    fit = _fit_circle(_rim(lit), (x0, y0, w, h))
    x, y, radius = fit if fit is not None else (x0 + (w - 1) / 2, y0 + (h - 1) / 2, max(w, h) / 2)
    alone = second is None or bool(np.hypot(*(second - (x, y))) < radius)
    x, y = (np.array([x, y]) + 0.5) * ratio - 0.5
    return Field(float(x), float(y), float(radius * ratio.mean()), fit is not None, alone)


def find_frame(pixels: np.ndarray, prep: Prep) -> Frame:
    """The frame that `prep` puts around the field of view of a photograph, uint8 (H, W, 3) RGB."""
    found = find_field(pixels)
    side = round(2 * found.radius * (1 + prep.margin))
    x, y = (round(c - (side - 1) / 2) for c in (found.x, found.y))
    return Frame(x, y, side, prep.size, pixels.shape[1], pixels.shape[0], found)


def canonical(pixels: np.ndarray, prep: Prep) -> tuple[np.ndarray, Frame]:
    """Photograph -> (square uint8 (size, size, 3) RGB, black outside the field of view; its Frame).

    Nothing outside the field reaches a network: no burned-in text, no camera border, be it white.
    """
    frame = find_frame(pixels, prep)
    square = frame.warp(_on_black(pixels))
    square[~square_mask(prep)] = 0
    return square, frame


def square_mask(prep: Prep) -> np.ndarray:
    """bool (size, size): the field of view inside the canonical square."""
    centre = (prep.size - 1) / 2
    ys, xs = np.ogrid[: prep.size, : prep.size]
    return (xs - centre) ** 2 + (ys - centre) ** 2 <= (prep.size / 2 / (1 + prep.margin)) ** 2


def visible_part(square: np.ndarray, prep: Prep) -> float:
    """Share 0..1 of the field of view of a canonical square, uint8 (S, S, 3) RGB, that is neither dark nor cut off."""
    small = cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA).max(axis=2)
    inside = small[square_mask(Prep(256, prep.margin))]
    return float((inside > _LIT * np.percentile(inside, 95)).mean())


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


def _on_black(pixels: np.ndarray) -> np.ndarray:
    """The picture with its white border (of a scanned print) painted black; itself where the corners are not white."""
    corners = np.concatenate([pixels[y, x].reshape(-1, 3) for y in _ends(pixels, 0) for x in _ends(pixels, 1)])
    if np.median(corners.min(axis=1)) <= _WHITE:
        return pixels
    white = (pixels.min(axis=2) > _WHITE).astype(np.uint8)
    _, regions = cv2.connectedComponents(white)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    border = np.isin(regions, np.setdiff1d(edge, 0)).astype(np.uint8)
    rim = 2 * (max(pixels.shape[:2]) // _WORKING_SIDE + 1) + 1  # what a lossy file leaves between white and the eye
    painted = pixels.copy()
    painted[cv2.dilate(border, np.ones((rim, rim), np.uint8)) > 0] = 0
    return painted


def _ends(small: np.ndarray, axis: int) -> tuple[slice, slice]:
    length = max(2, small.shape[axis] // 50)
    return slice(0, length), slice(-length, None)


def _rim(lit: np.ndarray) -> np.ndarray:
    """float64 (n, 2): contour points on the convex hull that are not cut off by the picture's border."""
    contour = np.asarray(max(cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len))
    hull = np.zeros_like(lit)
    cv2.drawContours(hull, [cv2.convexHull(contour)], -1, 255, 1)
    points = contour[:, 0, :].astype(np.int64)
    near = np.asarray(cv2.dilate(hull, np.ones((3, 3), np.uint8)))[points[:, 1], points[:, 0]] > 0
    h, w = lit.shape
    inner = (points >= _BORDER).all(axis=1) & (points[:, 0] < w - _BORDER) & (points[:, 1] < h - _BORDER)
    return points[near & inner].astype(np.float64)


def _fit_circle(points: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, float, float] | None:
    """Trimmed least-squares circle (Kasa 1976), or None where the points are too few or no circle."""
    x0, y0, w, h = box
    if len(points) < 30:
        return None
    kept = points
    for _ in range(6):
        design = np.column_stack([kept, np.ones(len(kept))])
        (a, b, c), *_ = np.linalg.lstsq(design, (kept**2).sum(axis=1), rcond=None)
        x, y = a / 2, b / 2
        radius = float(np.sqrt(max(c + x * x + y * y, 1.0)))
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
    return (float(x), float(y), radius) if plausible else None
