"""What a picture shows around a fundus and no camera made: the white of a page, the grey or blue of a window."""

import cv2
import numpy as np

_WHITE = 225  # [0..255] a border whose darkest channel is brighter is white
# An edge of the picture is plain where its ends and half of it are within so much of one tone. No fundus has one that
# is grey, as blue as it is red, or pale.
_LEAST_TONE, _NEUTRAL, _PALE, _PLAIN, _PLAIN_SHARE = 32, 12, 128, 4, 0.5  # [0..255], but for the share
_SMEARED = 16  # [0..255] what a lossy file makes of that tone beside an eye
_SAMPLE = 4096  # [px] of an edge are enough to tell its colour
_SOFTENED = 512  # [px] of the longer side: for each so many a lossy file softens an edge by another pixel


def on_black(pixels: np.ndarray) -> np.ndarray:
    """The picture with its plain border painted black: the white of a scanned print, the grey or blue of a slide or of
    a viewer's window, the strip of a caption. Itself where neither an edge is plain nor all corners are alike.
    """
    corners = [pixels[y, x].reshape(-1, 3) for y in _ends(pixels, 0) for x in _ends(pixels, 1)]
    if np.median(np.concatenate(corners).min(axis=1)) > _WHITE:
        plain = pixels.min(axis=2) > _WHITE
    elif (plain := _toned(pixels, corners)) is None:
        return pixels
    _, regions = cv2.connectedComponents(plain.astype(np.uint8))
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    border = np.isin(regions, np.setdiff1d(edge, 0)).astype(np.uint8)
    rim = 2 * (max(pixels.shape[:2]) // _SOFTENED + 1) + 1  # what a lossy file leaves between border and eye
    painted = pixels.copy()
    painted[cv2.dilate(border, np.ones((rim, rim), np.uint8)) > 0] = 0
    return painted


def _toned(pixels: np.ndarray, corners: list[np.ndarray]) -> np.ndarray | None:
    """bool (H, W): what has the one tone of an edge of the picture, or of all `corners`; None where no edge is of one
    tone from end to end, nor the corners.

    Where a camera cut the field, the ends of that edge are black.
    """
    tones = np.array([_tone(each) for each in corners])
    alike = all(np.mean(_within(each[None], tones[0], _PLAIN)) >= _PLAIN_SHARE for each in corners)
    found = _within(pixels, tones[0], _SMEARED) if alike and _is_border(tones) else None
    for axis in (0, 1):
        for end in _ends(pixels, axis):
            strip = pixels[end] if axis == 0 else pixels[:, end]
            tones = [
                _tone(strip),
                *(_tone(strip[:, each] if axis == 0 else strip[each]) for each in _ends(strip, 1 - axis)),
            ]
            if _is_border(np.array(tones)) and np.mean(_within(strip, tones[0], _PLAIN)) >= _PLAIN_SHARE:
                same = _within(pixels, tones[0], _SMEARED)
                found = same if found is None else found | same
    return found


def _is_border(tones: np.ndarray) -> bool:
    """Whether tones (n, 3) are one that no fundus and no camera's black has."""
    first = tones[0]
    foreign = np.ptp(first) <= _NEUTRAL or first[2] >= first[0] or first.min() >= _PALE
    return bool(first.max() >= _LEAST_TONE and foreign and np.ptp(tones, axis=0).max() <= _PLAIN)


def _within(pixels: np.ndarray, tone: np.ndarray, most: float) -> np.ndarray:
    return cv2.inRange(pixels, np.clip(tone - most, 0, 255), np.clip(tone + most, 0, 255)) > 0


def _tone(part: np.ndarray) -> np.ndarray:
    """Median colour (3,) of a part of a picture."""
    every = part.reshape(-1, 3)
    return np.median(every[:: max(len(every) // _SAMPLE, 1)], axis=0)


def _ends(small: np.ndarray, axis: int) -> tuple[slice, slice]:
    length = max(2, small.shape[axis] // 50)
    return slice(0, length), slice(-length, None)
