"""What cameras, viewers and exports do to a photograph so that it looks better: sharpen it, raise its local contrast.

Neither shows more of the eye, but both make of grain and of small shades what a lesion looks like.
"""

import cv2
import numpy as np

SIGMA = (0.0007, 0.004)  # [of the longer side] of the blur that sharpening takes away
AMOUNT = (0.3, 2.0)  # how often it is taken away
CLIP = (1.0, 4.0)  # of the histograms of places, in times the mean of their bins
TILES = (4, 12)  # places along a side


def sharpen(pixels: np.ndarray, sigma: float, amount: float) -> np.ndarray:
    """Unsharp mask of uint8 (H, W, 3); sigma: share of the longer side."""
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) * sigma)
    return cv2.addWeighted(pixels, 1 + amount, blurred, -amount, 0)


def raise_contrast(pixels: np.ndarray, clip: float, tiles: int) -> np.ndarray:
    """Contrast-limited equalisation of the lightness of uint8 (H, W, 3) RGB, place by place; hues stay."""
    light, *colours = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB))
    light = cv2.createCLAHE(clip, (tiles, tiles)).apply(light)
    return cv2.cvtColor(cv2.merge([light, *colours]), cv2.COLOR_LAB2RGB)


def enhance(pixels: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) RGB sharpened, or its local contrast raised, as much as the generator says."""
    if numbers.random() < 0.5:
        return sharpen(pixels, float(np.exp(numbers.uniform(*np.log(SIGMA)))), numbers.uniform(*AMOUNT))
    return raise_contrast(pixels, numbers.uniform(*CLIP), int(numbers.integers(TILES[0], TILES[1] + 1)))
