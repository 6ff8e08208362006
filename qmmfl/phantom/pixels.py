"""Single simulated places, paired colours and bands, for a per-pixel regressor. numpy only."""

from dataclasses import replace

import numpy as np

from ..labels import BANDS
from .camera import Camera, random_camera
from .spectra import GRID, MEAN_LEVEL, PERIFOVEA, Tissue, normalise_bands, random_eye, reflectance


def simulate_pixels(n: int, rng: np.random.Generator, camera: Camera | None = None, noise: float = 0.01):
    """Random single places of random eyes: (rgb float32 (n, 3), bands float32 (n, 7)).

    rgb is *relative linear* RGB as `camera.relative_rgb` makes it from a photograph (mean over the eye =
    MEAN_LEVEL, so exposure-free; white balance is the camera's); bands as in the module's text. 256 places
    form an eye: about half background, a quarter vessels, the rest macula, disc, lesions. camera: default a
    random one per eye. noise: relative standard deviation on rgb.
    """
    colours, planes = [], []
    for _ in range(-(-n // 256)):
        tissue, light = _places(256, rng)
        radiance = reflectance(tissue, GRID) * light
        bands, _ = normalise_bands(reflectance(tissue, BANDS) * light)
        linear = radiance @ (camera or random_camera(rng)).weights(GRID)
        linear *= MEAN_LEVEL / linear.mean()
        colours.append(linear * (1 + noise * rng.standard_normal(linear.shape)))
        planes.append(bands)
    order = rng.permutation(len(colours) * 256)[:n]
    return np.concatenate(colours).astype(np.float32)[order], np.concatenate(planes)[order]


def _places(n: int, rng: np.random.Generator) -> tuple[Tissue, np.ndarray]:
    eye = random_eye(rng)
    kind = rng.choice(8, n, p=[0.46, 0.26, 0.12, 0.06, 0.03, 0.03, 0.02, 0.02])

    def spread(mean, sd):
        return (mean * np.exp(sd * rng.standard_normal(n))).astype(np.float32)

    vessel, macula = kind == 1, kind == 2
    covers = {3: "rim", 4: "cup", 5: "exudate", 6: "cotton", 7: "drusen"}
    tissue = replace(
        PERIFOVEA,
        **{key: eye[key] for key in ("media", "age")},
        melanin=spread(eye["melanin"], 0.25) * (1 + 0.3 * macula),
        choroid_blood=spread(eye["choroid_blood"], 0.25),
        r_pe=spread(eye["r_pe"], 0.2),
        macular=(eye["macular"] * np.where(macula, rng.uniform(0.3, 1.3, n), rng.uniform(0, 0.3, n))).astype(
            np.float32
        ),
        retinal_blood=np.where(vessel, rng.uniform(5, 120, n), rng.uniform(0, 3, n)).astype(np.float32),
        saturation=np.where(vessel, rng.uniform(0.5, 0.98, n), 0.95).astype(np.float32),
        r_in=rng.uniform(0, 0.003, n).astype(np.float32),
        cover={name: (rng.uniform(0.2, 1, n) * (kind == k)).astype(np.float32) for k, name in covers.items()},
    )
    return tissue, rng.uniform(0.35, 1.3, (n, 1)).astype(np.float32)
