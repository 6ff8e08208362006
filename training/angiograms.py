"""Test figures of the synthesized angiograms."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from qmmfl import photograph

from . import data, metrics, phases

PAIRS = Path("ffa/cfp_ffa_pairs")
RIVALS = ("green", "inverted_green", "vessels")  # what needs no angiogram to be learnt; the vessels are our own map


def figures(reader, folder: Path, repeats: int, limit: int) -> dict[str, Any]:
    """Both phases on their test eyes."""
    rows = [r for r in data.read_table(folder / PAIRS / "quality.csv") if r["split"] == "test"]
    scores = [score_pair(reader(photograph.read(path_of(folder, r["stem"])), override=True), folder, r) for r in rows]
    return {"ffa_arteriovenous": summarise(scores, repeats), "ffa_arterial": _arterial(reader, folder, repeats, limit)}


def path_of(folder: Path, stem: str, kind: str = "images") -> Path:
    """Photograph, angiogram ("ffa") or common field ("valid") of a registered pair."""
    return next((folder / PAIRS / kind).glob(f"{stem}.*"))


def score_pair(report, folder: Path, row: dict[str, str]) -> dict[str, Any]:
    """Sums of tiles (1 + rivals, 2 scales, tiles, 6) and MS-SSIM (1 + rivals,) of one registered pair."""
    true = cv2.imread(str(path_of(folder, row["stem"], "ffa")), cv2.IMREAD_GRAYSCALE) / np.float32(255)
    care = cv2.imread(str(path_of(folder, row["stem"], "valid")), cv2.IMREAD_GRAYSCALE) > 127
    green = report.photograph.pixels[..., 1] / np.float32(255)
    vessels = np.maximum(report.planes["artery"].pixels, report.planes["vein"].pixels)
    seen = (report.planes["ffa_arteriovenous"].pixels, green, 1 - green, vessels)
    sums = [[_sums(x, true, care), _sums(metrics.detail(x, care), metrics.detail(true, care), care)] for x in seen]
    return {"sums": np.array(sums), "ms_ssim": [metrics.ms_ssim(x, true, care) for x in seen]}


def _sums(a: np.ndarray, b: np.ndarray, care: np.ndarray) -> np.ndarray:
    return metrics.tile_sums(a, b, care)


def summarise(scores: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """Means over pairs; intervals by drawing the tiles of each pair again, since pairs are few.

    "over_rivals" is the difference to the best rival at that scale, tile by tile the same draw.
    """
    generator = np.random.default_rng(0)
    draws = [_correlations(scores, generator) for _ in range(repeats)]
    value, drawn = _correlations(scores, None), np.array(draws)  # (1 + rivals, 2), (repeats, 1 + rivals, 2)
    result: dict[str, Any] = {"pairs": len(scores)}
    for scale, name in enumerate(("correlation", "detail_correlation")):
        best = 1 + int(value[1:, scale].argmax())
        over = drawn[:, 0, scale] - drawn[:, best, scale]
        result[name] = [value[0, scale], *np.percentile(drawn[:, 0, scale], [2.5, 97.5])]
        result[f"{name}_rivals"] = dict(zip(RIVALS, value[1:, scale], strict=True))
        result[f"{name}_over_rivals"] = [value[0, scale] - value[best, scale], *np.percentile(over, [2.5, 97.5])]
    similar = np.mean([score["ms_ssim"] for score in scores], axis=0)
    result["ms_ssim"] = similar[0]
    result["ms_ssim_rivals"] = dict(zip(RIVALS, similar[1:], strict=True))
    return result


def _correlations(scores: list[dict[str, Any]], generator: np.random.Generator | None) -> np.ndarray:
    """(1 + rivals, 2): mean over pairs of the correlations, of all tiles or of tiles drawn anew."""
    each = []
    for score in scores:
        sums = score["sums"]
        if generator is not None:
            sums = sums[:, :, generator.integers(0, sums.shape[2], sums.shape[2])]
        each.append(metrics.summed_correlation(sums.sum(axis=2)))
    return np.mean(each, axis=0)


def _arterial(reader, folder: Path, repeats: int, limit: int) -> dict[str, Any]:
    """How many eyes are filled as in an arterial phase, and how many a classifier of real frames calls arterial."""
    classifier = phases.train(folder)
    ordered, called, control = [], [], []
    for name in ("drive_av", "les_av"):
        rows = [row for row in data.read_table(folder / "seg" / name / "index.csv") if row["split"] == "test"]
        for row in rows[:limit]:
            picture = photograph.read(next((folder / "seg" / name / "images").glob(f"{row['stem']}.*")))
            planes = reader(picture, override=True).planes
            ordered.append(_is_ordered(planes["ffa_arterial"].pixels, folder / "seg" / name, row["stem"]))
            called.append(classifier.says_arterial(planes["ffa_arterial"].pixels))
            control.append(classifier.says_arterial(planes["ffa_arteriovenous"].pixels))
    shares = {"phase_order": ordered, "called_arterial": called, "arteriovenous_called_arterial": control}
    bounded = {}
    for name, made in shares.items():
        found = [float(np.mean(made)), *metrics.interval(np.array(made, float), repeats=repeats)]
        bounded[name] = metrics.plainly(found, len(made))
    return {"eyes": len(ordered), "classifier_accuracy": classifier.accuracy, **bounded}


def _is_ordered(plane: np.ndarray, folder: Path, stem: str) -> bool:
    """Whether arteries outshine their surround while veins stay below the middle of the two."""
    artery, vein, any_vessel = (
        cv2.imread(str(folder / f"masks_{kind}" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE) > 127
        for kind in ("artery", "vein", "vessel")
    )
    near = cv2.dilate(artery.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    bright, dark = float(plane[artery].mean()), float(plane[vein].mean())
    surround = float(plane[near & ~any_vessel].mean())
    return bright > surround and dark < (surround + bright) / 2
