"""Where the fundus is in a photograph, and the exact way to the networks' square and back.

Continuous coordinates follow OpenCV: the centre of the first pixel is (0, 0), x to the right, y down, in [px].
"""

import hashlib
import json
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from .field import Field, FieldError, find_field
from .surround import on_black

__all__ = [
    "Field",
    "FieldError",
    "Frame",
    "Prep",
    "canonical",
    "find_field",
    "find_frame",
    "on_black",
    "square_mask",
    "visible_part",
]

NOTE_CROP = (
    "No round edge of the field of view is seen, as in a crop: what lies in the corners is not read, and places, sizes "
    "and side may be off."
)
NOTE_SQUEEZED = (
    "The field of view is {:.2f} times as high as it is wide: the photograph was pulled out of shape, and was read, "
    "and is shown, as if the field were round; save it with its sides in proportion if you can."
)
NOTE_PART = "Only about {:.0%} of the round field of view is seen, the rest is dark or cut off: it was not read."
LEAST_PART = 0.65  # of the field of view; cameras that cut it above and below still show .68

_VISIBLE = 0.12  # of the field's brightness: what is darker is not seen


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
    """The window of a photograph that the networks see as a square: an integer crop, then one scaling.

    x, y: photograph pixel at the window's upper left corner [px], may be negative; wide, high: the window's sides [px],
    the same unless the photograph was pulled out of shape; size: side of the square it is scaled to [px]; width,
    height: of the photograph [px]; field: see `Field`.
    """

    x: int
    y: int
    wide: int
    high: int
    size: int
    width: int
    height: int
    field: Field

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """x, y, width and height of the window in the photograph [px]."""
        return self.x, self.y, self.wide, self.high

    @property
    def _scale(self) -> np.ndarray:
        """Pixels of the square per pixel of the photograph, across and down, (2,)."""
        return self.size / np.array([self.wide, self.high], np.float64)

    def to_square(self, points: np.ndarray) -> np.ndarray:
        """Photograph coordinates (..., 2) [px] -> coordinates in the square [px], float64."""
        points = np.asarray(points, dtype=np.float64)
        return (points - (self.x, self.y) + 0.5) * self._scale - 0.5

    def to_photograph(self, points: np.ndarray) -> np.ndarray:
        """Coordinates in the square (..., 2) [px] -> photograph coordinates [px], float64. Inverse of `to_square`."""
        points = np.asarray(points, dtype=np.float64)
        return (points + 0.5) / self._scale - 0.5 + (self.x, self.y)

    def warp(self, pixels: np.ndarray) -> np.ndarray:
        """Array (height, width[, C]) of the photograph -> (size, size[, C]), zero beyond the photograph.

        Any dtype that OpenCV resizes.
        """
        if pixels.shape[:2] != (self.height, self.width):
            raise ValueError(f"array is {pixels.shape[1]}x{pixels.shape[0]}, frame wants {self.width}x{self.height}")
        return _resize(self._window(pixels), self.size, self.size)

    def unwarp(self, plane: np.ndarray) -> np.ndarray:
        """Square array (s, s[, C]) of any side s -> (height, width[, C]) in the photograph's frame, zero elsewhere."""
        if plane.shape[0] != plane.shape[1]:
            raise ValueError(f"a square plane is wanted, got {plane.shape}")
        window = _resize(plane, self.wide, self.high)
        full = np.zeros((self.height, self.width, *plane.shape[2:]), plane.dtype)
        inside, outside = self._overlap()
        full[inside] = window[outside]
        return full

    def field_mask(self) -> np.ndarray:
        """bool (height, width): True inside the field of view."""
        ys, xs = np.ogrid[: self.height, : self.width]
        across = (xs - self.field.x) * self.field.aspect
        return across**2 + (ys - self.field.y) ** 2 <= self.field.radius**2

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of the photograph and of the window that show the same pixels."""
        x0, x1 = max(self.x, 0), min(self.x + self.wide, self.width)
        y0, y1 = max(self.y, 0), min(self.y + self.high, self.height)
        inside = (slice(y0, y1), slice(x0, x1))
        return inside, (slice(y0 - self.y, y1 - self.y), slice(x0 - self.x, x1 - self.x))

    def _window(self, pixels: np.ndarray) -> np.ndarray:
        window = np.zeros((self.high, self.wide, *pixels.shape[2:]), pixels.dtype)
        inside, outside = self._overlap()
        window[outside] = pixels[inside]
        return window


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    have = pixels.shape[:2]
    if have == (height, width):
        return pixels
    if (width < have[1]) != (height < have[0]):  # OpenCV averages areas where both sides shrink, or neither
        pixels = _sample(pixels, width, have[0])
    return _sample(pixels, width, height)


def _sample(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    # Area averaging cannot alias on the way down; linear cannot overshoot the range on the way up.
    smaller = width < pixels.shape[1] or height < pixels.shape[0]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=method)


def find_frame(pixels: np.ndarray, prep: Prep) -> Frame:
    """The frame that `prep` puts around the field of view of a photograph, uint8 (H, W, 3) RGB."""
    found = find_field(pixels)
    high = 2 * found.radius * (1 + prep.margin)
    wide, high = round(high / found.aspect), round(high)
    x, y = (round(c - (side - 1) / 2) for c, side in ((found.x, wide), (found.y, high)))
    return Frame(x, y, wide, high, prep.size, pixels.shape[1], pixels.shape[0], found)


def canonical(pixels: np.ndarray, prep: Prep) -> tuple[np.ndarray, Frame]:
    """Photograph -> (square uint8 (size, size, 3) RGB, black outside the field of view; its Frame).

    Nothing outside the field reaches a network: no burned-in text, no camera border, be it white.
    """
    frame = find_frame(pixels, prep)
    square = frame.warp(on_black(pixels))
    square[~square_mask(prep)] = 0
    return square, frame


def square_mask(prep: Prep) -> np.ndarray:
    """bool (size, size): the field of view inside the canonical square."""
    centre = (prep.size - 1) / 2
    ys, xs = np.ogrid[: prep.size, : prep.size]
    return (xs - centre) ** 2 + (ys - centre) ** 2 <= (prep.size / 2 / (1 + prep.margin)) ** 2


def share_beyond(cells: np.ndarray) -> float:
    """Of what lies above zero in a map over the canonical square, float (s, s), the share (0..1) in cells that lie
    wholly beyond the field of view, where no picture shows it.
    """
    side, raised = len(cells), np.maximum(cells, 0)
    inside = square_mask(Prep(16 * side)).reshape(side, 16, side, 16).any(axis=(1, 3))
    return float(raised[~inside].sum() / raised.sum()) if raised.any() else 0.0


def visible_part(square: np.ndarray, prep: Prep) -> float:
    """Share 0..1 of the field of view of a canonical square, uint8 (S, S, 3) RGB, that is neither dark nor cut off."""
    small = cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA).max(axis=2)
    inside = small[square_mask(Prep(256, prep.margin))]
    return float((inside > _VISIBLE * np.percentile(inside, 95)).mean())
