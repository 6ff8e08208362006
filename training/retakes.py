"""The same eyes photographed otherwise: what reads them learns what another camera changes, and what it does not.

A retake shows less of the retina, has fewer pixels, other colours, a worse focus, was enhanced or is a coarse file, or
several of these, and goes through the whole pipeline as any photograph does: the nets of Stage I make of it what they
make of such photographs, false lesions too, which no change of their planes could imitate. They are kept below
runs/cache and nowhere else. `training.stress` alters test eyes, mostly in the same ways: it names those that are new.
"""

from pathlib import Path

import cv2
import numpy as np

from qmmfl import fundus, photograph

from .enhancement import enhance

EVERY = {"odir5k": 2, "idrid": 1, "rahim": 1, "eyepacs": 2, "stare": 1, "palm": 2}  # of so many training eyes one
SEED = 300_000
ENHANCED = 0.4  # share of the retakes

Numbers = np.random.Generator


def write(source: str, seed: int, path: Path) -> bool:
    """Write a retake of the photograph `source` where `path` is not there yet; whether it is there now."""
    if not path.exists() and (made := retake(photograph.read(source).pixels, seed)) is not None:
        path.write_bytes(made)
    return path.exists()


def narrowed(seed: int) -> bool:
    """Whether this retake shows a part of the eye alone: a finding may then lie outside it."""
    return seed % 2 == 1


def retake(pixels: np.ndarray, seed: int) -> bytes | None:
    """A JPEG file of the eye in `pixels`, uint8 (H, W, 3) RGB; None where too little is left to find the field."""
    numbers = np.random.default_rng(seed)
    for change, chance in ((_narrow, narrowed(seed)), (_shrink, 0.5), (_tone, 0.5), (_defocus, 0.25)):
        if numbers.random() < chance:
            pixels = change(pixels, numbers)
    quality = int(numbers.integers(15, 60)) if numbers.random() < 0.5 else 95
    if numbers.random() < ENHANCED:
        pixels = enhance(pixels, numbers)
    file = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    try:
        fundus.canonical(photograph.read(file).pixels, fundus.Prep(256))
    except fundus.FieldError:
        return None
    return file


def _narrow(pixels: np.ndarray, numbers: Numbers) -> np.ndarray:
    """What a camera of a narrower field sees, in a square or a round frame."""
    least = min(pixels.shape[:2])
    side = min(max(round(least * numbers.uniform(0.6, 0.95)), photograph.MIN_SIDE), least)
    y, x = (int((length - side) / 2 + numbers.uniform(-0.1, 0.1) * (least - side)) for length in pixels.shape[:2])
    seen = pixels[y : y + side, x : x + side].copy()
    if numbers.random() < 0.5:
        axis = np.arange(side) - (side - 1) / 2
        seen[np.hypot(axis[:, None], axis) > side / 2] = 0
    return seen


def _shrink(pixels: np.ndarray, numbers: Numbers) -> np.ndarray:
    share = numbers.uniform(256, 800) / min(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) if share < 1 else pixels


def _tone(pixels: np.ndarray, numbers: Numbers) -> np.ndarray:
    gammas, gain = np.exp(numbers.uniform(-0.3, 0.3, 3)), numbers.uniform(0.6, 1.1)
    levels = np.arange(256)[:, None] / 255
    table = (levels**gammas * 255 * gain).round().clip(0, 255).astype(np.uint8)
    return np.stack([table[pixels[..., channel], channel] for channel in range(3)], axis=2)


def _defocus(pixels: np.ndarray, numbers: Numbers) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) * numbers.uniform(0.0005, 0.0025))
