"""What lies where in a simulated eye: coverage by vessels and lesions, tissue parameters, light."""

import numpy as np

from .. import labels
from . import anatomy, spectra
from .canvas import Canvas
from .spectra import Tissue

MICROMETRES = 6700.0  # one field radius of a 45 degree photograph on the retina [um]


def layers(canvas: Canvas, eye: anatomy.Anatomy, vessels, fresh, blobs) -> dict[str, np.ndarray]:
    """Coverage of everything drawn, float32 (size, size) 0..1; mask_* are truth, the rest appearance."""
    layers = {f"mask_{code}": canvas.blobs(blobs[code], soft=False) for code in labels.LESIONS}
    layers |= {name: canvas.blobs(some, soft=True) for name, some in blobs.items()}
    layers["disc"], layers["cup"] = canvas.ellipse(eye.disc), canvas.ellipse(eye.cup)
    arteries = [vessel for vessel in vessels if vessel.artery]
    veins = [vessel for vessel in vessels if not vessel.artery]
    layers["artery"], layers["artery_width"] = canvas.vessels(arteries)
    layers["vein"], layers["vein_width"] = canvas.vessels(veins)
    layers["reflex"] = canvas.vessels([v for v in arteries if v.widths[0] > 0.006], share=0.3)[0]
    layers["vein_reflex"] = canvas.vessels([v for v in veins if v.widths[0] > 0.008], share=0.22)[0]
    layers["fresh"] = canvas.vessels(fresh)[0] if fresh else np.zeros_like(canvas.x)
    return layers


def tissue(canvas: Canvas, eye, layers, rng: np.random.Generator, tessellation: float) -> Tissue:
    """Model II parameters per pixel of one random eye."""
    base = spectra.random_eye(rng)
    macula = canvas.distance(eye.fovea) / eye.disc[3]  # [disc diameters]
    bump = np.exp(-((macula / 0.8) ** 2)) * rng.uniform(0.5, 1.6)
    nasal = np.clip(canvas.x - np.float32(eye.disc[0]) + 0.3, 0, 1)
    ridges, coarse, fine, grain = (
        canvas.choroid(rng),
        canvas.noise(rng, 6),
        canvas.noise(rng, 90),
        canvas.noise(rng, 220),
    )
    shown = tessellation * (1 - 0.9 * np.exp(-((macula / 1.1) ** 2)))  # hidden by the denser macula
    melanin = base["melanin"] * np.exp(0.07 * coarse + 0.025 * fine + 0.03 * grain)
    melanin *= 1 + 0.16 * bump + 0.10 * np.exp(-((macula / 0.25) ** 2)) - 0.2 * nasal
    melanin *= 1 + shown * (0.30 - 0.65 * ridges)
    melanin *= 1 + 0.5 * np.clip(layers["laser"] * 2 - 1.1, 0, 1)
    rim = canvas.ellipse((*eye.disc[:2], eye.disc[2] * 1.12, eye.disc[3] * 1.12), 0.02) - layers["disc"]
    melanin *= 1 + rng.uniform(0, 0.25) * np.clip(rim, 0, 1)
    artery, vein = layers["artery"], layers["vein"] * (1 - layers["artery"])
    vessel_root = layers["disc"] * 0.8  # no reflex where the vessels dive into the disc
    calibre = layers["vein"] * layers["vein_width"] + 0.70 * artery * layers["artery_width"]
    blood = np.clip(0.62 * MICROMETRES * calibre, 0, 105)
    blood *= (1 - 0.42 * layers["reflex"] * (1 - vessel_root)) * (1 - 0.25 * layers["vein_reflex"])
    blood *= 1 - 0.3 * layers["disc"]  # over the bright disc light also comes in from the side
    blood += 130 * layers["HE"] * np.clip(0.8 + 0.25 * fine, 0.3, 1.3)
    blood += 25 * layers["fresh"] + 60 * layers["MA"]
    blood += 1.2 * np.clip(1 + fine, 0, 2)  # capillaries
    blood = blood * (1 - 0.8 * layers["SE"])
    disc = canvas.ellipse(eye.disc, rng.uniform(0.015, 0.045))
    cup = canvas.ellipse(eye.cup, eye.cup[3] * rng.uniform(0.2, 0.5))
    pale = 1 - 0.45 * np.clip((canvas.x - eye.disc[0]) / eye.disc[2] + 0.3, 0, 1)  # the temporal rim is paler
    crescent = canvas.ellipse(
        (eye.disc[0] - 0.07 * eye.disc[2], eye.disc[1], eye.disc[2] * 1.08, eye.disc[3] * 1.02), 0.02
    )
    cover = {
        "sclera": np.maximum(0.4 * rng.random() ** 2 * crescent, 0.5 * layers["laser"]),
        "drusen": 0.6 * layers["drusen"],
        "rim": disc * pale * np.float32(rng.uniform(0.6, 0.8)) * (1 + 0.08 * fine),
        "cup": cup * np.float32(rng.uniform(0.65, 0.95)) * (1 + 0.05 * grain),
        "exudate": layers["EX"] * 0.75,
        "cotton": layers["SE"] * 0.7,
    }
    return Tissue(
        melanin=melanin.astype(np.float32),
        choroid_blood=(
            base["choroid_blood"] * np.exp(0.08 * canvas.noise(rng, 14)) * (1 + 0.4 * shown * ridges)
        ).astype(np.float32),
        media=base["media"],
        r_pe=(
            base["r_pe"]
            * np.exp(0.06 * canvas.noise(rng, 8) + 0.04 * fine)
            * (1 - 0.30 * bump + 0.4 * nasal)
            * (1 - 0.25 * shown)
        ).astype(np.float32),
        macular=(base["macular"] * (0.9 * np.exp(-((macula / 0.5) ** 2)) + 0.08)).astype(np.float32),
        retinal_blood=blood.astype(np.float32),
        saturation=(0.96 - 0.34 * vein).astype(np.float32),
        r_in=(
            0.0006
            + 0.0022 * rng.uniform(0, 1) * canvas.fibres(rng, eye.disc)
            + 0.0030 * layers["reflex"] * (1 - vessel_root)
        ).astype(np.float32),
        age=base["age"],
        cover={name: plane.astype(np.float32) for name, plane in cover.items() if plane.any()},
    )


def light(canvas: Canvas, rng: np.random.Generator, haze: float) -> tuple[np.ndarray, np.ndarray]:
    """(illumination, veil) float32 (size, size): what multiplies and what is added to the reflectance."""
    centre = rng.normal(0, 0.16, 2)
    fall = rng.uniform(0.3, 1.3)
    light = np.exp(-fall * canvas.distance(centre) ** 2 + 0.17 * canvas.noise(rng, 3))
    edge = np.exp(-((np.clip(1 - canvas.distance((0, 0)), 0, 1) / 0.12) ** 1.2))
    crescent = np.clip(canvas.x * np.cos(9 * fall) + canvas.y * np.sin(9 * fall), 0, 1) ** 2
    veil = 0.0003 + 0.009 * haze * (1 + 0.35 * canvas.noise(rng, 5)) + rng.uniform(0, 0.004) * edge * (0.3 + crescent)
    return np.clip(light, 0.2, None).astype(np.float32), np.clip(veil, 0, None).astype(np.float32)
