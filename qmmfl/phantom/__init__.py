"""Simulated eyes with exact truth: the same optics as the spectral bands, an invented anatomy, no person.

Everything here needs numpy and cv2 only and is deterministic for a seed.
"""

from .camera import (
    Camera,
    band_rgb_weights,
    decode,
    encode,
    expose,
    gaussian_camera,
    random_camera,
    relative_rgb,
)
from .pixels import simulate_pixels
from .render import Phantom, render
from .spectra import MEAN_LEVEL, Tissue, denormalise_bands, normalise_bands, reflectance

__all__ = [
    "MEAN_LEVEL",
    "Camera",
    "Phantom",
    "Tissue",
    "band_rgb_weights",
    "decode",
    "denormalise_bands",
    "encode",
    "expose",
    "gaussian_camera",
    "normalise_bands",
    "random_camera",
    "reflectance",
    "relative_rgb",
    "render",
    "simulate_pixels",
]
