"""What `network` does between the nets, in numpy and OpenCV instead of torch: pictures float32 (C, H, W).

Every function is the twin of the one with its name in `blocks`, `synthesis` or `network`; a test compares them. They
work plane by plane, which stays in a processor's cache.
"""

import math
from functools import reduce

import cv2
import numpy as np

from .config import DARKEST

Array = np.ndarray

SEEN = {"colour": slice(0, 3), "contrast": slice(3, 6), "both": slice(0, 6)}  # by `SynthesisConfig.inputs`

_BINOMIAL = np.array([0.25, 0.5, 0.25], np.float32)
_CELLS = 32  # of `local_contrast`, along a side
_DARK = 0.02  # of 0..1; darker pixels are outside the field for `local_contrast`


def pooled(picture: Array, size: int, *, peaks: bool = False) -> Array:
    """(C, S, S) -> (C, size, size): means, or (`peaks`) the largest value of each cell; enlarged where S < size."""
    side = picture.shape[-1]
    if side == size:
        return picture
    if peaks and side > size:
        step = side // size
        rows = reduce(np.maximum, [picture[:, row::step] for row in range(step)])
        return reduce(np.maximum, [rows[..., column::step] for column in range(step)])
    return np.stack([_resize(plane, size) for plane in picture])


def eight_bit(picture: Array) -> Array:
    """Values in 0..1 as 8 bits keep them."""
    return np.floor(picture * np.float32(255) + np.float32(0.501)) / np.float32(255)


def local_contrast(square: Array, made: Array | None = None) -> Array:
    """(3, S, S) in 0..1, black outside the field of view -> in -4..4, zero outside it; into `made` if given."""
    side = square.shape[-1]
    part = side // math.gcd(side // _CELLS, 4)
    field = (brightest(square) > _DARK).astype(np.float32)

    def surround(values: Array, window: int) -> Array:
        return _blur(_resize(_resize(values, part), _CELLS), window) / np.maximum(_blur(weight, window), 1e-3)

    weight = _resize(_resize(field, part), _CELLS)
    made = np.empty_like(square) if made is None else made
    for plane, centred in zip(square, made, strict=True):
        cv2.subtract(plane, _resize(surround(cv2.multiply(plane, field), 3), side), centred)
        cv2.multiply(centred, field, centred)
        deviation = np.sqrt(np.maximum(surround(cv2.multiply(centred, centred), 7), 0))
        cv2.divide(centred, _resize(deviation + np.float32(0.02), side), centred)
        np.clip(centred, -4, 4, out=centred)
    return made


def arrange(colour: Array) -> Array:
    """Colour in 0..1 (3, s, s) -> (6, s, s): in -1..1, then its local contrast; `SEEN` of it is a net's input."""
    made = np.empty((6, *colour.shape[1:]), np.float32)
    np.multiply(colour, 2, out=made[:3])
    made[:3] -= 1
    local_contrast(colour, made[3:])
    return made


def recolour(maps: Array, colour: Array) -> Array:
    """Affine maps (planes * 4, h, w) and colour in 0..1 (3, H, W) -> planes in 0..1 (planes, H, W)."""
    logarithm = [cv2.log(plane + np.float32(DARKEST)) for plane in colour]
    made = np.empty((len(maps) // 4, *colour.shape[1:]), np.float32)
    for number, affine in enumerate(maps.reshape(-1, 4, *maps.shape[1:])):
        *gains, offset = (_resize(_smoothed(each), colour.shape[-1]) for each in affine)
        for gain, channel in zip(gains, logarithm, strict=True):
            cv2.accumulateProduct(gain, channel, offset)
        made[number] = 1 / (1 + cv2.exp(-offset))
    return made


def colour_view(arranged: Array) -> Array:
    """What `arrange` made (6, v, v) -> what the colour encoder sees (6, v, v)."""
    return np.concatenate([arranged[:3], arranged[3:] / 2])


def brightest(square: Array) -> Array:
    """(3, S, S) -> (S, S): the largest channel of each pixel."""
    return cv2.max(cv2.max(square[0], square[1]), square[2])


def _resize(plane: Array, size: int) -> Array:
    method = cv2.INTER_AREA if size < plane.shape[0] else cv2.INTER_LINEAR
    return plane if size == plane.shape[0] else cv2.resize(plane, (size, size), interpolation=method)


def _blur(plane: Array, window: int) -> Array:
    return cv2.blur(plane, (window, window), borderType=cv2.BORDER_CONSTANT)


def _smoothed(plane: Array) -> Array:
    """See `blocks.smoothed`."""
    return cv2.sepFilter2D(plane, -1, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REPLICATE)
