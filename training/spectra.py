"""Test figures of the spectral bands: simulated eyes and cameras never trained on, and real photographs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from qmmfl import labels, phantom, photograph

from . import data, losses, metrics

SIMULATED = range(20_000, 20_024)  # seeds that no training and no validation draws
FITTED = range(116)  # training seeds that the rival is fitted on, those of the net
SIDE = 512  # [px] of the simulated eyes
COLOUR_EYES = 15  # of each of these sets, the first test eyes
REAL = ("odir5k", "idrid", "rahim", "stare")


def figures(reader, folder: Path, repeats: int, limit: int) -> dict[str, Any]:
    """Per band: median relative error of the net, of the best regressor that sees one pixel's colour, their ratio.

    "colours" is the mean absolute log ratio between a real photograph and what a nominal camera makes of its bands,
    exposure and white balance taken out (`losses.colour_error` without blue).
    """
    rival = fit_rival(FITTED[: 3 * limit])
    net, other = [], []
    for seed in SIMULATED[:limit]:
        eye = phantom.render(seed, SIDE)
        planes = reader(eye.photograph, override=True).planes
        inside = eye.inside
        true = np.stack([eye.planes[name][inside] for name in labels.MSI.planes])
        net.append(_errors(np.stack([planes[name].pixels[inside] for name in labels.MSI.planes]), true))
        other.append(_errors(predict_rival(rival, eye.photograph[inside]), true))
    net, other = np.array(net), np.array(other)
    result: dict[str, Any] = {"eyes": len(net)}
    for index, name in enumerate(labels.MSI.planes):
        result[name] = [net[:, index].mean(), *metrics.interval(net[:, index], repeats=repeats)]
        result[f"{name}_pixel_regressor"] = other[:, index].mean()
    result["ratio_to_pixel_regressor"] = [
        net.mean() / other.mean(),
        *metrics.interval(np.stack([net, other], 1), lambda x: x[:, 0].mean() / x[:, 1].mean(), repeats),
    ]
    seen = min(limit, COLOUR_EYES)
    return {**result, "colour_eyes": seen, "colours": _colours(reader, folder, repeats, seen)}


def _errors(made: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.median(np.abs(made - true) / np.maximum(true, 0.02), axis=1)


def fit_rival(seeds: range, each: int = 3000) -> list:
    """One gradient-boosted regressor per band from the colour of a single pixel, on simulated eyes."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # of the train extra: the tests do without it

    generator, colours, bands = np.random.default_rng(0), [], []
    for seed in seeds:
        eye = phantom.render(seed, SIDE)
        y, x = np.nonzero(eye.inside)
        chosen = generator.integers(0, len(y), each)
        colours.append(eye.photograph[y[chosen], x[chosen]])
        bands.append(np.stack([eye.planes[name][y[chosen], x[chosen]] for name in labels.MSI.planes], 1))
    described, true = _describe(np.concatenate(colours)), np.log(np.concatenate(bands).clip(0.01))
    models = [HistGradientBoostingRegressor(loss="absolute_error", max_iter=150, random_state=0) for _ in labels.BANDS]
    return [model.fit(described, true[:, k]) for k, model in enumerate(models)]


def predict_rival(models: list, colours: np.ndarray) -> np.ndarray:
    """Bands float (7, n) of colours uint8 (n, 3)."""
    described = _describe(colours)
    return np.stack([np.exp(model.predict(described)) for model in models])


def _describe(colours: np.ndarray) -> np.ndarray:
    logs = np.log(colours.astype(np.float32) + 4)
    return np.column_stack([logs, logs[:, 1] - logs[:, 0], logs[:, 2] - logs[:, 1]])


def _colours(reader, folder: Path, repeats: int, each: int) -> dict[str, Any]:
    to_colour = torch.from_numpy(phantom.band_rgb_weights(phantom.gaussian_camera()))
    result = {}
    for name in REAL:
        rows = [r for r in data.read_table(folder / "cls" / name / "labels.csv") if r["split"] == "test"]
        errors = []
        for row in [r for r in rows if r.get("white_frame") != "1"][:each]:
            report = reader(photograph.read(folder / "cls" / name / "images" / row["image"]), override=True)
            if not report.planes:
                continue
            bands = np.stack([report.planes[plane].pixels for plane in labels.MSI.planes])
            seen = torch.from_numpy(report.photograph.pixels).permute(2, 0, 1)[None].float() / 255
            field = torch.from_numpy((bands.max(0) > 0).astype(np.float32))
            errors.append(float(losses.colour_error(torch.from_numpy(bands)[None], seen * field, to_colour, 0.0)))
        result[name] = [float(np.mean(errors)), *metrics.interval(np.array(errors), repeats=repeats)]
    return result
