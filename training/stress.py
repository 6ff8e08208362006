"""How readings hold when the same eyes come from another camera, file or hand.

`python -m training.stress --weights weights` alters the graded test photographs of IDRiD and Rahim in ways that are not
meant to change what a clinician would say, reads them with the shipped pipeline, and writes into the card how well the
grade still agrees. Nothing is chosen here. Training alters its own eyes in the same ways, but for those in `UNSEEN`.
Stopped, it goes on where it was.
"""

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from qmmfl import photograph, weights

from . import enhancement, evaluate, model_card, reading_figures, scores
from .recipe import FRESH, WHOLE, Scoring, parse
from .targets import Targets

FOLDERS = ("idrid", "rahim")
_DARK = 12  # [0..255] what is darker in every channel is the surround of the field of view


def _fewer(pixels: np.ndarray) -> np.ndarray:
    share = 400 / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def _stored(quality: int) -> Callable[[np.ndarray], bytes]:
    def store(pixels: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    return store


def _toned(gammas: tuple[float, float, float], gain: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    levels = np.arange(256)[:, None] / 255
    table = (levels ** np.array(gammas) * 255 * gain).round().clip(0, 255).astype(np.uint8)
    return lambda pixels: np.stack([table[pixels[..., channel], channel] for channel in range(3)], axis=2)


def _blurred(pixels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 500)


def _middle(pixels: np.ndarray) -> np.ndarray:
    side = round(min(pixels.shape[:2]) * 0.7)
    y, x = ((length - side) // 2 for length in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y : y + side, x : x + side])


def _printed(pixels: np.ndarray) -> np.ndarray:
    return np.where(pixels.max(axis=2, keepdims=True) < _DARK, 255, pixels).astype(np.uint8)


def _shown(pixels: np.ndarray) -> np.ndarray:
    """On the grey of a slide or a viewer, a pale strip with a caption below."""
    high, wide = (round(0.15 * length) for length in pixels.shape[:2])
    page = cv2.copyMakeBorder(pixels, high, high, wide, wide, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    page = cv2.copyMakeBorder(page, 0, high, 0, 0, cv2.BORDER_CONSTANT, value=(230, 230, 230))
    cv2.putText(page, "2020-01-01 12:30", (wide, len(page) - high // 3), 0, high / 60, (0, 0, 0), max(high // 30, 1))
    return page


def _squeezed(pixels: np.ndarray) -> np.ndarray:
    """As where every photograph of a set is stored as a square."""
    return cv2.resize(pixels, None, fx=1 / 1.4, fy=1, interpolation=cv2.INTER_AREA)


def _moved(pixels: np.ndarray) -> np.ndarray:
    length = max(pixels.shape[:2]) // 80
    return cv2.filter2D(pixels, -1, np.full((1, length), 1 / length))


def _shaded(pixels: np.ndarray) -> np.ndarray:
    """Light falls off towards the rim, as where the pupil is small and the camera not centred."""
    y, x = (np.linspace(-1, 1, length) - 0.3 for length in pixels.shape[:2])
    light = np.clip(1.1 - 0.5 * (y[:, None] ** 2 + x**2), 0.15, 1)
    return (pixels * light[..., None]).round().astype(np.uint8)


# Pixels uint8 (H, W, 3) -> pixels, or the file that they are stored in.
VARIANTS: Mapping[str, Callable[[np.ndarray], np.ndarray | bytes]] = {
    "as it is": lambda pixels: pixels,
    "400 px wide": _fewer,
    "JPEG of quality 50": _stored(50),
    "JPEG of quality 20": _stored(20),
    "out of focus": _blurred,
    "sharpened": lambda pixels: enhancement.sharpen(pixels, 0.002, 1),
    "local contrast raised": lambda pixels: enhancement.raise_contrast(pixels, 2, 8),
    "underexposed": _toned((1.3, 1.3, 1.3), 0.6),
    "cool colours": _toned((1.2, 0.9, 0.8)),
    "warm colours": _toned((0.8, 1.15, 1.3)),
    "the middle alone": _middle,
    "white surround": _printed,
    "on a grey page": _shown,
    "squeezed sideways": _squeezed,
    "moved in exposure": _moved,
    "dark towards one side": _shaded,
}
UNSEEN = (
    "white surround",
    "on a grey page",
    "squeezed sideways",
    "moved in exposure",
    "dark towards one side",
)


def stress(recipe: Scoring) -> dict[str, Any]:
    """Variant -> whether training knows no such alteration, coverage, and of the grade kappa, accuracy, AUC,
    sensitivities and specificities.
    """
    cases = [case for case in evaluate.locked_cases(recipe) if case.folder in FOLDERS and case.grade >= 0]
    every, result = Targets(cases), {}
    with ProcessPoolExecutor(recipe.workers, FRESH, initializer=scores.start, initargs=(recipe.weights,)) as pool:
        for name in VARIANTS:
            keys = [f"{name}/{evaluate.key(recipe, case.path)}" for case in cases]
            rows = scores.cached(pool, recipe.weights, keys, [(case.path, name) for case in cases], _read)
            made = scores.Scores.of(rows)
            graded = reading_figures.grades(every, made, recipe.repeats)["grade"]
            result[name] = {"unseen": name in UNSEEN, "coverage": float(made.gradable.mean()), **graded}
    return evaluate.rounded(result)


def _read(what: tuple[str, str]) -> dict[str, Any]:
    path, name = what
    made = VARIANTS[name](photograph.read(Path(path)).pixels)
    return scores.read(photograph.read(made) if isinstance(made, bytes) else made)


if __name__ == "__main__":
    settings = parse(Scoring)[0]
    found = stress(settings)
    if settings.limit < WHOLE:
        raise SystemExit(f"a rehearsal: the card was left alone\n{found}")
    card = weights.read_card(settings.weights)
    weights.save_card(settings.weights, dataclasses.replace(card, metrics={**card.metrics, "stress": found}))
    model_card.write(settings.weights)
