"""The grid of cells in which the encoders see the canonical square: where a cell lies."""

import cv2
import numpy as np


def align(square: np.ndarray, cells: int) -> np.ndarray:
    """A map that was computed in `cells` cells to a side, so that everything lies where it was seen.

    float (s, s), s one or more values per cell -> float32 (t, t), t = max(s, 2 * cells). A convolution that halves a
    side centres its output i on its input 2 i, the first of the two. After four or five of them a cell looks around its
    upper left corner and not around its middle: the map is moved up and to the left by half a cell, linear between
    cells, and its last row and column fill the gap.
    """
    have = len(square)
    side = max(have, 2 * cells)
    step = have / side
    first = 0.5 * step - 0.5 + have / (2 * cells)
    moved = np.array([[step, 0, first], [0, step, first]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(square.astype(np.float32), moved, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
