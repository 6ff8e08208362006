"""The light of a fundus: tissue parameters -> spectral reflectance -> bands and camera colours.

Retina and choroid are the two-reflector Model II of Delori & Pflibsen (Applied Optics 28, 1061, 1989). The
ocular media are those of CIE 203:2012 with the small-field constants (0.15, 1.05, 0.06), not van de Kraats'
large field. Melanin is absorption ~ wavelength**-3.48 (Jacques), haemoglobin Prahl's table at 150 g/L,
macular pigment CIE 2006. The disc, exudates and drusen lie outside that model and are extra reflectors with
plausible spectra.

Bands. `radiance` here is reflectance times the illumination of that place (both unknown in a photograph, only
their product is seen). A band plane is

    band_k = MEAN_LEVEL * radiance(wavelength_k) / (BAND_SCALE[k] * level),  clipped to 0..1
    level  = mean over the field of view and the seven bands of radiance(wavelength_k) / BAND_SCALE[k]

so its mean over the field of view and the bands is MEAN_LEVEL whatever the exposure, and
radiance = band * BAND_SCALE * level / MEAN_LEVEL inverts it where nothing was clipped. `BAND_SCALE` is the
mean perifoveal reflectance of the model, so an average eye is about equally bright in every band.
`relative_rgb` treats linear camera colours the same way: mean over field and channels = MEAN_LEVEL.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from ..labels import BANDS

GRID = np.arange(400, 701, 10, dtype=np.float32)  # wavelengths on which cameras are defined [nm]
MEAN_LEVEL = 0.15  # mean of a band plane and of relative RGB: leaves room for a disc six times brighter

# Molar extinction [1/(cm M)] of haemoglobin, 400..700 nm by 5 then ..850 nm by 10: Prahl, omlc.org.
_NM_HB = np.concatenate([np.arange(400, 701, 5), np.arange(710, 851, 10)]).astype(np.float32)
# fmt: off
_HBO2 = np.array([
    266232, 331462, 466840, 523080, 480360, 351134, 246072, 149076, 102580, 78884, 62816, 51524, 44480, 38440,
    33209, 29482, 26629, 24925, 23684, 22154, 20933, 20182, 20035, 20715, 24202, 30883, 39957, 48338, 53236,
    50982, 43016, 35646, 32613, 35205, 44496, 54424, 50104, 30620, 14401, 6681, 3200, 1959, 1506, 1166, 942,
    741, 610, 496, 442, 398, 368, 340, 320, 306, 294, 284, 278, 274, 276, 281, 290,
    314, 348, 390, 446, 518, 586, 650, 710, 756, 816, 864, 916, 974, 1022, 1058], np.float32)
_HB = np.array([
    223296, 261958, 303956, 353222, 407560, 471520, 528600, 549600, 413280, 259974, 103292, 33434, 23389,
    18702, 16156, 14921, 14550, 15378, 16684, 18648, 20862, 23289, 25774, 28682, 31590, 35171, 39036, 42840,
    46592, 50488, 53412, 54530, 53788, 49700, 45072, 40904, 37020, 33592, 28324, 21187, 14677, 12040, 9444,
    7553, 6510, 5763, 5149, 4667, 4345, 4027, 3750, 3481, 3227, 3011, 2795, 2591, 2408, 2225, 2052, 1923,
    1794, 1540, 1326, 1102, 1116, 1405, 1549, 1312, 1075, 891, 762, 717, 694, 693, 692, 691], np.float32)
# fmt: on
# Macular pigment density relative to its peak at 460 nm (CIE 2006), 400..550 nm.
_NM_MP = np.array([400, 420, 440, 450, 460, 470, 480, 490, 500, 510, 520, 530, 540, 550], np.float32)
_MP = np.array([0.248, 0.566, 0.824, 0.952, 1, 0.856, 0.796, 0.768, 0.598, 0.346, 0.150, 0.050, 0.013, 0], np.float32)

MELANIN_POWER = 3.48
LN10 = float(np.log(10))


def blood_absorption(wavelengths, saturation=0.95) -> np.ndarray:
    """Absorption of whole blood [1/cm] at wavelengths [nm], oxygen saturation 0..1, float32."""
    oxy, deoxy = np.interp(wavelengths, _NM_HB, _HBO2), np.interp(wavelengths, _NM_HB, _HB)
    return (LN10 * (saturation * oxy + (1 - saturation) * deoxy) * 150 / 64500).astype(np.float32)


def media_density(wavelengths, age=30.0) -> np.ndarray:
    """Single-pass density of the ocular media at wavelengths [nm] for an age [years]; CIE 203:2012."""
    nm, a2 = np.asarray(wavelengths, np.float64), age**2
    return (
        (0.15 + 3.1e-5 * a2) * (400 / nm) ** 4
        + 14.19 * 10.68 * np.exp(-((0.057 * (nm - 273)) ** 2))
        + (1.05 - 6.3e-5 * a2) * 2.13 * np.exp(-((0.029 * (nm - 370)) ** 2))
        + (0.059 + 1.86e-4 * a2) * 11.95 * np.exp(-((0.021 * (nm - 325)) ** 2))
        + (0.016 + 1.32e-4 * a2) * 1.43 * np.exp(-((0.008 * (nm - 325)) ** 2))
        + 0.06
    )


def macular_template(wavelengths) -> np.ndarray:
    """Density of the macular pigment relative to 460 nm at wavelengths [nm]."""
    return np.interp(wavelengths, _NM_MP, _MP)


def _lipid(nm):
    return 1 / (1 + np.exp((505 - nm) / 22))  # yellow: carotenoids and lipid take the blue


# Reflectors outside Model II: wavelengths [nm] -> reflectance, seen through media and retinal blood.
REFLECTORS = {
    "rim": lambda nm: 0.18 * 10 ** (-2 * blood_absorption(nm) * 34e-4 / LN10) * (0.75 + 0.25 * _lipid(nm)),
    "cup": lambda nm: 0.20 * 10 ** (-2 * blood_absorption(nm) * 5e-4 / LN10) * (0.70 + 0.30 * _lipid(nm)),
    "sclera": lambda nm: 0.15 * 10 ** (-2 * blood_absorption(nm) * 18e-4 / LN10) * (0.75 + 0.25 * _lipid(nm)),
    "exudate": lambda nm: 0.16 * (0.12 + 0.88 * _lipid(nm)) * 10 ** (-2 * blood_absorption(nm) * 8e-4 / LN10),
    "cotton": lambda nm: 0.12 * 10 ** (-2 * blood_absorption(nm) * 9e-4 / LN10),
    "drusen": lambda nm: 0.10 * (0.30 + 0.70 * _lipid(nm)) * 10 ** (-2 * blood_absorption(nm) * 24e-4 / LN10),
}


@dataclass(frozen=True, eq=False)
class Tissue:
    """Parameters of one place or of many: scalars or float32 arrays that broadcast to one shape.

    melanin: density at 500 nm. choroid_blood, retinal_blood: thickness [um] of a sheet of whole blood.
    media: density at 420 nm. r_pe, r_in: reflectance of pigment epithelium and of the inner retina.
    macular: pigment density at 460 nm. saturation: oxygen saturation 0..1 of the retinal blood.
    age [years] shapes the media curve. cover: REFLECTORS name -> coverage 0..1 of the tissue below the blood.
    Defaults are the perifovea fitted to Delori & Pflibsen's Table I.
    """

    melanin: np.ndarray | float = 1.142
    choroid_blood: np.ndarray | float = 109.0
    media: np.ndarray | float = 0.360
    r_pe: np.ndarray | float = 0.021
    macular: np.ndarray | float = 0.097
    retinal_blood: np.ndarray | float = 0.0
    saturation: np.ndarray | float = 0.95
    r_in: np.ndarray | float = 0.0
    age: float = 30.0
    cover: dict = field(default_factory=dict)

    def at(self, index) -> "Tissue":
        """The tissue at some places: every array is indexed, scalars stay."""
        picked = {key: value[index] for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **picked, cover={name: cover[index] for name, cover in self.cover.items()})


PERIFOVEA = Tissue()
NASAL = Tissue(melanin=0.895, choroid_blood=73.0, media=0.564, r_pe=0.033, macular=0.014)
FOVEA = Tissue(melanin=1.199, choroid_blood=110.0, media=0.406, r_pe=0.017, macular=0.283)


def reflectance(tissue: Tissue, wavelengths) -> np.ndarray:
    """Equivalent reflectance, float32 (..., L), of a tissue of shape (...) at L wavelengths [nm].

    One plane at a time, because a cube of exponentials over a whole eye would leave the cache.
    """
    wavelengths = np.atleast_1d(np.asarray(wavelengths, np.float32))
    shape = np.broadcast_shapes(*(np.shape(value) for key, value in vars(tissue).items() if key != "cover"))
    shape = np.broadcast_shapes(shape, *(np.shape(cover) for cover in tissue.cover.values()))
    result = np.empty((len(wavelengths), *shape), np.float32)
    for k, nm in enumerate(wavelengths):
        result[k] = _plane(tissue, float(nm))
    return np.moveaxis(result, 0, -1)


def _plane(tissue: Tissue, nm: float):
    media, pigment, oxy, deoxy, wall, melanin, reflectors = _optics(nm, tissue.age)
    choroid = (0.95 * oxy + 0.05 * deoxy) * tissue.choroid_blood
    below = tissue.r_pe + (1 - tissue.r_pe) ** 2 * wall * np.exp(choroid + melanin * tissue.melanin)
    for name, cover in tissue.cover.items():
        below = below + cover * (reflectors[name] - below)
    retina = (tissue.saturation * (oxy - deoxy) + deoxy) * tissue.retinal_blood
    lens = np.exp((pigment * tissue.macular if pigment else 0) + media * tissue.media)
    return lens * (tissue.r_in + np.exp(retina) * below)


@lru_cache(maxsize=4096)
def _optics(nm: float, age: float) -> tuple:
    """Exponents of a double pass per unit of each absorber; then sclera and extra reflectors."""
    double = -2 * LN10
    oxy, deoxy = (double * 1e-4 / LN10 * float(blood_absorption(nm, saturation)) for saturation in (1.0, 0.0))
    return (
        double * float(media_density(nm, age) / media_density(420, age)),
        double * float(macular_template(nm)),
        oxy,
        deoxy,
        float(0.5 * np.exp(-0.00261 * (nm - 675))),  # sclera: van Norren & Tiemeijer 1986
        double * (500 / nm) ** MELANIN_POWER,
        {name: float(spectrum(nm)) for name, spectrum in REFLECTORS.items()},
    )


BAND_SCALE = reflectance(PERIFOVEA, BANDS)  # (7,) reflectance of the average perifovea, about 0.012 to 0.08


def normalise_bands(radiance: np.ndarray, inside: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Radiances (..., 7) at BANDS -> (band planes float32 (..., 7) in 0..1, level); see the module's text.

    inside: bool (...), the field of view over which the level is averaged; default everywhere.
    """
    relative = radiance / BAND_SCALE
    level = float(relative.mean() if inside is None else relative[inside].mean())
    return np.clip(relative * (MEAN_LEVEL / level), 0, 1).astype(np.float32), level


def scattered(wavelengths) -> np.ndarray:
    """Spectrum of the light that lens and vitreous scatter back at wavelengths [nm], 1 at 550 nm; float32."""
    return ((550 / np.asarray(wavelengths)) ** 1.5).astype(np.float32)


def random_eye(rng: np.random.Generator) -> dict:
    """What the places of one eye share, with the spread of section 4.2 of the research notes."""

    def spread(mean, sd):
        return float(mean * np.exp(sd * np.clip(rng.standard_normal(), -2, 2)))

    return {
        "melanin": spread(0.95, 0.40),
        "choroid_blood": spread(100, 0.40),
        "media": spread(0.42, 0.30),
        "r_pe": spread(0.022, 0.30),
        "macular": spread(0.28, 0.40),
        "age": float(rng.integers(20, 80)),  # whole years, so that `_optics` is remembered
        "saturation": float(rng.uniform(0.90, 0.98)),
    }
