"""A colour camera: spectral radiance -> RGB, and the linear map from the seven bands back to its colours."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from ..labels import BANDS
from .spectra import BAND_SCALE, GRID, MEAN_LEVEL, PERIFOVEA, Tissue, random_eye, reflectance, scattered


@dataclass(frozen=True, eq=False)
class Camera:
    """Spectral sensitivities, white balance, exposure and transfer curve.

    sensitivity: float (L, 3) red, green, blue at `wavelengths` (L,) [nm]; each column is used scaled to sum
    1. gains: white balance per channel. exposure: factor on linear RGB before the curve .
    gamma: None for the sRGB curve, else linear ** (1 / gamma).
    """

    sensitivity: np.ndarray
    wavelengths: np.ndarray = field(default_factory=GRID.copy)
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    exposure: float = 1.0
    gamma: float | None = None

    def weights(self, wavelengths=GRID) -> np.ndarray:
        """float32 (len(wavelengths), 3): radiance (..., L) @ weights = linear RGB without the exposure."""
        columns = [
            np.interp(wavelengths, self.wavelengths, channel, 0, 0) for channel in np.asarray(self.sensitivity).T
        ]
        weights = np.stack(columns, -1)
        return (weights / weights.sum(0) * self.gains).astype(np.float32)


def gaussian_camera(centres=(600, 540, 460), widths=(35, 35, 28), gains=(1.0, 1.0, 1.0), **rest) -> Camera:
    """A camera with one Gaussian per channel: centres and standard deviations [nm] of red, green, blue."""
    curves = [np.exp(-0.5 * ((GRID - c) / w) ** 2) for c, w in zip(centres, widths, strict=True)]
    return Camera(
        np.stack(curves, -1).astype(np.float32), gains=(float(gains[0]), float(gains[1]), float(gains[2])), **rest
    )


def random_camera(rng: np.random.Generator) -> Camera:
    """A plausible camera: Gaussians near 600/540/460 nm, sd near 35/35/28 nm, free white balance."""
    centres = rng.normal((600, 540, 460), (8, 7, 7))
    widths = rng.normal((35, 35, 28), (4, 4, 3)).clip(18, 50)
    gains = np.exp(rng.normal((0.25, 0.0, -0.6), (0.22, 0.12, 0.40)))  # fundus cameras favour red
    return gaussian_camera(centres, widths, gains)


def encode(linear: np.ndarray, gamma: float | None = None) -> np.ndarray:
    """Linear RGB -> display values 0..1 by the sRGB curve or by 1 / gamma, clipped, float32."""
    linear = np.clip(linear, 0, 1).astype(np.float32)
    if gamma:
        return linear ** np.float32(1 / gamma)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)


def decode(display: np.ndarray, gamma: float | None = None) -> np.ndarray:
    """Inverse of `encode` for values 0..1, float32."""
    display = np.asarray(display, np.float32)
    if gamma:
        return display ** np.float32(gamma)
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** np.float32(2.4))


def relative_rgb(photograph: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """sRGB uint8 or 0..1 (..., 3) -> linear float32, mean over `inside` and channels = MEAN_LEVEL."""
    scale = 255 if photograph.dtype == np.uint8 else 1
    linear = decode(photograph / np.float32(scale))
    return linear * np.float32(MEAN_LEVEL / max(float((linear if inside is None else linear[inside]).mean()), 1e-6))


@cache
def _spectra() -> tuple[np.ndarray, np.ndarray]:
    """Prior radiances of many places on GRID and at BANDS, the basis on which the weights are fitted."""
    rng = np.random.default_rng(203)
    tissues = []
    for _ in range(40):
        eye = random_eye(rng)
        part = rng.choice(8, 16, p=[0.4, 0.3, 0.06, 0.06, 0.06, 0.06, 0.06, 0.0])
        names = ("rim", "cup", "exudate", "cotton", "drusen")
        eye["macular"] = eye["macular"] * rng.uniform(0, 1, 16)
        eye["saturation"] = rng.uniform(0.5, 0.98, 16)
        cover = {name: rng.uniform(0.3, 1, 16) * (part == k + 2) for k, name in enumerate(names)}
        blood = rng.uniform(0, 120, 16) * (part == 1)
        tissues.append(Tissue(**eye, retinal_blood=blood, r_in=rng.uniform(0, 0.003, 16), cover=cover))
    veil = rng.uniform(0.0003, 0.004, (len(tissues) * 16, 1))
    grid, bands = (
        np.concatenate([reflectance(tissue, nm) for tissue in tissues]) + veil * scattered(nm) for nm in (GRID, BANDS)
    )
    return grid, bands


def band_rgb_weights(camera: Camera) -> np.ndarray:
    """float32 (7, 3): bands (..., 7) @ weights = relative linear RGB of `camera` up to one factor per eye.

    Least squares of relative error on places drawn from the tissue prior. The bands end at 507 nm, so blue is
    extrapolated: see `tests/test_phantom.py` for the tolerance per channel. Scaled such that the average
    perifovea at MEAN_LEVEL has mean RGB MEAN_LEVEL.
    """
    grid, radiance = _spectra()
    colours, bands = grid @ camera.weights(GRID), radiance / BAND_SCALE
    weights = np.stack(
        [np.linalg.lstsq(bands / c[:, None], np.ones(len(c)), rcond=None)[0] for c in colours.T.astype(np.float64)],
        -1,
    )
    mean = (reflectance(PERIFOVEA, BANDS) / BAND_SCALE @ weights).mean()
    return (weights / mean).astype(np.float32)
