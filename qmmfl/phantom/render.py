"""A simulated eye from a seed: photograph, and the exact truth of every plane the networks estimate."""

from dataclasses import dataclass

import cv2
import numpy as np

from .. import labels
from . import anatomy, lesions, scene, spectra
from .camera import Camera, encode, random_camera
from .canvas import Canvas
from .spectra import Tissue


@dataclass(frozen=True, eq=False)
class Phantom:
    """A simulated eye. It shows no person.

    photograph: uint8 (size, size, 3) RGB, black outside the circular field of view.
    field: centre x, y and radius [px]. planes: labels.PLANES name -> float32 (size, size) 0..1, exact, zero
    outside the field; bands as normalised in `spectra`, `level` inverts that. disc: x, y, vertical diameter
    [px]; cup: its vertical diameter [px]; fovea: x, y [px]. findings: labels.FINDINGS code -> 0 or 1, only
    the codes known here. relative: float32 (size, size, 3) relative linear RGB before noise, blur and
    transfer. camera: the one used.
    """

    photograph: np.ndarray
    field: tuple[float, float, float]
    planes: dict[str, np.ndarray]
    disc: tuple[float, float, float]
    cup: float
    fovea: tuple[float, float]
    side: str
    grade: int
    findings: dict[str, int]
    level: float
    relative: np.ndarray
    camera: Camera

    @property
    def inside(self) -> np.ndarray:
        """bool (size, size): the field of view."""
        y, x = np.mgrid[0 : len(self.photograph), 0 : len(self.photograph)]
        return np.hypot(x - self.field[0], y - self.field[1]) <= self.field[2]


def render(
    seed: int,
    size: int = 512,
    *,
    grade: int | None = None,
    side: str | None = None,
    camera: Camera | None = None,
    field: float = 0.96,
    cup_ratio: float | None = None,
    drusen: bool | None = None,
    laser: bool | None = None,
    haze: float | None = None,
    tessellation: float | None = None,
) -> Phantom:
    """Simulate one eye. The same seed and options give the same bytes; `size` only scales the geometry.

    size: side [px]. grade: ICDR 0..4. side: "right" or "left". field: diameter of the field of view as a
    share of the side. cup_ratio: vertical, 0.1..0.95. haze and tessellation: 0..1. What is None is drawn from
    the seed.
    """
    if size < 32 or not 0.2 <= field <= 1.5:
        raise ValueError(f"size {size} and field {field} must be at least 32 px and 0.2..1.5")
    rng = np.random.default_rng([seed, 1])
    chance = rng.random(7)  # drawn always, so that fixing one option leaves the others as they were
    side = side or ("right" if chance[0] < 0.5 else "left")
    if side not in ("right", "left"):
        raise ValueError(f'side {side!r}: choose "right" or "left"')
    grade = int(np.searchsorted([0.45, 0.6, 0.8, 0.9], chance[1])) if grade is None else int(grade)
    if cup_ratio is None:
        cup_ratio = float(0.15 + 0.5 * chance[2] if chance[3] < 0.85 else 0.68 + 0.2 * chance[2])
    drusen = bool(chance[4] < 0.12) if drusen is None else drusen
    laser = bool(grade == 4 and chance[4] > 0.7) if laser is None else laser
    haze = float(0.25 * chance[5] ** 2 if chance[5] < 0.93 else 0.7) if haze is None else haze
    tessellation = max(0.0, float(chance[6]) * 1.9 - 1.0) if tessellation is None else tessellation

    eye = anatomy.layout(np.random.default_rng([seed, 2]), cup_ratio)
    vessels = anatomy.grow(np.random.default_rng([seed, 3]), eye, beading=1.0 if grade == 3 else 0.0)
    spots = np.random.default_rng([seed, 4])
    blobs = lesions.scatter(spots, eye, grade, drusen, laser)
    fresh, leaks = lesions.new_vessels(spots, eye) if grade == 4 else ([], [])
    blobs["leak"] += leaks

    centre = (size - 1) / 2
    canvas = Canvas(size, (centre, centre), field * size / 2, side == "left")
    inside = canvas.distance((0, 0)) <= 1
    layers = scene.layers(canvas, eye, vessels, fresh, blobs)
    texture = np.random.default_rng([seed, 5])
    tissue = scene.tissue(canvas, eye, layers, texture, tessellation)
    light, veil = scene.light(canvas, texture, haze)
    camera = camera or random_camera(np.random.default_rng([seed, 6]))
    radiance, linear = _see(tissue, light, veil, camera, canvas.distance((0, 0)) <= 1.03)
    bands, level = spectra.normalise_bands(radiance, inside)
    relative = linear * np.float32(spectra.MEAN_LEVEL / linear[inside].mean())

    planes = {f"msi_{nm}": bands[..., k] for k, nm in enumerate(labels.BANDS)}
    planes |= {name: layers[name] for name in ("disc", "cup", "artery", "vein")}
    planes |= {f"lesion_{code}": layers[f"mask_{code}"] for code in labels.LESIONS}
    planes |= _angiograms(canvas, eye, layers, texture, tessellation)
    disc, height, fovea = canvas.to_px(eye.disc[:2]), eye.disc[3], canvas.to_px(eye.fovea)
    findings = {
        "DR": int(grade > 0),
        "ODC": int(cup_ratio > 0.65),
        "DN": int(drusen),
        "LS": int(laser),
        "TSLN": int(tessellation > 0.5),
        "MH": int(haze > 0.5),
    }
    findings["NORMAL"] = int(not any(findings.values()))
    return Phantom(
        photograph=_photograph(canvas, relative, texture, camera, haze),
        field=(centre, centre, canvas.radius),
        planes={name: np.ascontiguousarray(planes[name] * inside, np.float32) for name in labels.PLANES},
        disc=(float(disc[0]), float(disc[1]), height * canvas.radius),
        cup=eye.cup[3] * canvas.radius,
        fovea=(float(fovea[0]), float(fovea[1])),
        side=side,
        grade=grade,
        findings=findings,
        level=level,
        relative=relative * inside[..., None],
        camera=camera,
    )


def _see(tissue: Tissue, light, veil, camera: Camera, lit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(radiance at labels.BANDS (h, w, 7), linear RGB (h, w, 3)) where lit: light * reflectance + veil.

    In runs of pixels, because whole planes would leave the cache at every step of the model.
    """
    wavelengths = np.concatenate([spectra.GRID, labels.BANDS]).astype(np.float32)
    haze, weights, seen = spectra.scattered(wavelengths), camera.weights(spectra.GRID), len(spectra.GRID)
    tissue, light, veil = tissue.at(lit), light[lit], veil[lit]
    cubes = []
    for start in range(0, len(light), 16384):
        run = slice(start, start + 16384)
        cube = spectra.reflectance(tissue.at(run), wavelengths).T  # wavelength first, as it lies in memory
        cube = cube * light[run] + haze[:, None] * veil[run]
        cubes.append((cube[seen:].T, (weights.T @ cube[:seen]).T))
    radiance, linear = (np.zeros((*lit.shape, n), np.float32) for n in (len(labels.BANDS), 3))
    radiance[lit], linear[lit] = (np.concatenate(part) for part in zip(*cubes, strict=True))
    return radiance, linear


def _photograph(canvas: Canvas, relative, rng: np.random.Generator, camera: Camera, haze: float) -> np.ndarray:
    """Focus, exposure, sensor noise and the curve of the camera; uint8 (size, size, 3)."""
    blur = canvas.size / 512 * (rng.uniform(0.45, 0.9) + 2.0 * haze)
    image = cv2.GaussianBlur(relative, (0, 0), blur)
    exposure = np.exp(rng.normal(-0.1, 0.3)) * camera.exposure
    image = image * np.float32(exposure)
    knee = np.float32(0.6)  # the shoulder of the camera's curve
    image = np.where(image > knee, knee + (1 - knee) * np.tanh((image - knee) / (1 - knee)), image)
    amount = rng.uniform(0.004, 0.016)
    grain = rng.standard_normal(image.shape, np.float32)
    shown = encode(image, camera.gamma) + np.float32(amount) * grain
    edge = np.clip((1 - canvas.distance((0, 0))) * canvas.radius + 0.5, 0, 1)[..., None]
    return np.round(np.clip(shown, 0, 1) * edge * 255).astype(np.uint8)


def _angiograms(canvas: Canvas, eye, layers, rng: np.random.Generator, tessellation: float) -> dict[str, np.ndarray]:
    """The two phases, 0..1: arteries filled and veins dark, then both filled with leakage begun."""
    away = canvas.distance(eye.fovea)
    dark = 1 - 0.62 * np.exp(-((away / 0.16) ** 2))  # luteal pigment and melanin hide the choroid
    zone = np.clip((away - 0.03) / 0.035, 0, 1)  # foveal avascular zone
    patches, capillaries = canvas.noise(rng, 10), canvas.noise(rng, 170) + 0.6 * canvas.noise(rng, 60)
    artery, vein = layers["artery"], layers["vein"] * (1 - layers["artery"])
    # The finer a vessel, the less dye lies in the depth of a pixel.
    filled_artery = 0.80 * (0.6 + 0.4 * np.minimum(layers["artery_width"] / 0.010, 1))
    filled_vein = (0.86 - 0.10 * layers["vein_reflex"]) * (0.6 + 0.4 * np.minimum(layers["vein_width"] / 0.012, 1))
    blocked = (1 - 0.9 * layers["HE"]) * (1 - 0.35 * layers["EX"])
    disc = layers["disc"]
    early = (0.13 + 0.035 * patches) * dark * (1 - 0.4 * disc) * (1 - 0.5 * layers["SE"])
    early = early * (1 - 0.75 * vein) + 0.05 * layers["laser"]
    early = early * (1 - artery) + filled_artery * artery
    late = (0.27 + 0.02 * patches + (0.03 + 0.025 * capillaries) * zone) * dark * (1 - 0.55 * layers["SE"])
    late = np.maximum(late, (0.42 + 0.03 * capillaries) * (disc - 0.7 * layers["cup"]))
    late += 0.22 * layers["drusen"] + 0.12 * layers["laser"]
    late = late * (1 - vein) + filled_vein * vein
    late = late * (1 - artery) + 0.97 * filled_artery * artery
    early, late = early * blocked, late * blocked
    early = np.maximum(early, np.maximum(0.45 * layers["MA"], 0.6 * layers["fresh"]))
    late = np.maximum(late, np.maximum(0.95 * layers["MA"], 0.9 * layers["fresh"]))
    late = late + (1 - late) * 0.38 * layers["leak"]
    return {"ffa_arterial": np.clip(early, 0, 1), "ffa_arteriovenous": np.clip(late, 0, 1)}
