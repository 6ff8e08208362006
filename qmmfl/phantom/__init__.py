"""Simulated eyes with exact truth: the same optics as the spectral bands, an invented anatomy, no person.

Everything here needs numpy and cv2 only and is deterministic for a seed.
"""

from .camera import (
    Camera,
    band_rgb_weights,
    decode,
    encode,
    gaussian_camera,
    random_camera,
    relative_rgb,
)
from .render import Phantom, render
from .spectra import MEAN_LEVEL, Tissue, normalise_bands, reflectance

__all__ = [
    "MEAN_LEVEL",
    "Camera",
    "Phantom",
    "Tissue",
    "band_rgb_weights",
    "decode",
    "encode",
    "gaussian_camera",
    "normalise_bands",
    "random_camera",
    "reflectance",
    "relative_rgb",
    "render",
]
