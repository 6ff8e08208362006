"""The traces that a lossy file leaves in a photograph, taken out before a network sees it."""

import cv2
import numpy as np

from .records import Photograph

COARSE = 80  # of JPEG; up to this quality what the blocks leave in healthy eyes is taken for microaneurysms
_BLOCK = 8  # [px]
# Rows and columns of a block, each of them once.
_SHIFTS = ((0, 0), (1, 4), (2, 5), (3, 6), (4, 1), (5, 2), (6, 3), (7, 7))


def heal(photograph: Photograph, size: int) -> np.ndarray:
    """Pixels uint8 (H, W, 3) as a network that works on `size` [px] should see them; mostly the photograph's own.

    Of a coarse JPEG it is the mean over copies that were shifted, stored once more as coarsely and shifted back
    (Nosratinia 2001): the edges of blocks and the waves in them lie elsewhere in every copy, what was in the eye does
    not. Where a photograph is scaled to half or less blocks are smaller than what a network looks for.
    """
    pixels, quality = photograph.pixels, photograph.jpeg_quality
    if quality is None or quality > COARSE or min(pixels.shape[:2]) >= 2 * size:
        return pixels
    height, width = pixels.shape[:2]
    pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)  # brightness is stored finer than colour, and made of both ends
    total = np.zeros(pixels.shape, np.uint16)
    for y, x in _SHIFTS:
        moved = cv2.copyMakeBorder(pixels, y, _BLOCK - y, x, _BLOCK - x, cv2.BORDER_REPLICATE)
        stored = cv2.imencode(".jpg", moved, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        total += np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[y : y + height, x : x + width]
    mean = ((total + len(_SHIFTS) // 2) // len(_SHIFTS)).astype(np.uint8)
    return cv2.cvtColor(mean, cv2.COLOR_BGR2RGB)
