"""Figures of the synthesized planes on the locked test splits, through the shipped pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from qmmfl import evidence, labels, measures, photograph
from qmmfl.evidence import landmarks, vessels

from . import angiograms, data, metrics, pixels, scores, spectra, tables
from .recipe import Scoring

CALIBRES = tuple(f"{name}_error" for name in ("artery_vein_ratio", "artery_calibre", "vein_calibre"))


def figures(recipe: Scoring) -> dict[str, Any]:
    """Figures of the planes on their test splits, in the photographs' own frames.

    The process's own `scores.reader` reads.
    """
    return {
        "disc_cup": _disc_cup(recipe),
        "lesions": _lesions(recipe),
        "vessels": _vessels(recipe),
        "fovea": _fovea(recipe),
        **angiograms.figures(scores.reader(), recipe.data, recipe.repeats, recipe.limit),
        "msi": spectra.figures(scores.reader(), recipe.data, recipe.repeats, recipe.limit),
    }


def _read(recipe: Scoring, name: str) -> Iterator[tuple[str, Path, Any]]:
    folder = recipe.data / "seg" / name
    every = data.read_table(folder / "index.csv")
    tables.check(f"seg/{name}/index.csv", every)
    rows = [row for row in every if row["split"] == "test"]
    if name == "idrid_lesions":
        for row in rows:
            pixels.lesion_masks(row, folder)  # names a mask that is lost before the first eye is read
    for row in rows[: recipe.limit]:
        path = next((folder / "images").glob(f"{row['stem']}.*"))
        yield row["stem"], folder, scores.reader()(photograph.read(path), override=True)


def _mask(folder: Path, kind: str, stem: str, like: np.ndarray) -> np.ndarray:
    path = folder / kind / f"{stem}.png"
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 if path.exists() else np.zeros(like.shape, bool)


def _disc_cup(recipe: Scoring) -> dict[str, Any]:
    rows = []
    for stem, folder, report in _read(recipe, "drishti_disc_cup"):
        truth = [_mask(folder, f"masks_{part}", stem, report.planes["disc"].pixels) for part in ("OD", "OC")]
        made = [measures.largest_region(report.planes[part].pixels) for part in ("disc", "cup")]
        heights = [float(np.ptp(np.flatnonzero(region.any(axis=1))) + 1) for region in truth]
        wrong = abs((report.disc_cup.vcdr if report.disc_cup.vcdr is not None else 0.0) - heights[1] / heights[0])
        rows.append([metrics.dice(truth[0], made[0]), metrics.dice(truth[1], made[1]), wrong])
    return _means(np.array(rows), ("disc_dice", "cup_dice", "vcdr_error"), recipe.repeats)


def _lesions(recipe: Scoring) -> dict[str, Any]:
    counts = []
    for stem, folder, report in _read(recipe, "idrid_lesions"):
        inside = report.planes["disc"].place(np.ones((8, 8), np.float32)) > 0  # the field of view
        planes = {code: report.planes[f"lesion_{code}"].pixels for code in labels.LESIONS}
        truth = {code: _mask(folder, f"masks_{code}", stem, inside) for code in labels.LESIONS}
        counts.append([metrics.score_counts(truth[c][inside], planes[c][inside]) for c in labels.LESIONS])
    eyes = np.array(counts)  # (eyes, lesions, 2, bins)
    result: dict[str, Any] = {"eyes": len(eyes)}
    for index, code in enumerate(labels.LESIONS):
        here = eyes[:, index]
        low, high = metrics.interval(here, _pooled_precision, recipe.repeats)
        result[code] = [_pooled_precision(here), low, high]
    return result


def _pooled_precision(counts: np.ndarray) -> float:
    return metrics.counted_precision(counts.sum(axis=0))


def _vessels(recipe: Scoring) -> dict[str, Any]:
    chase, classes, numbers = [], [], []
    for stem, folder, report in _read(recipe, "chase_vessels"):
        made = np.maximum(report.planes["artery"].pixels, report.planes["vein"].pixels) >= 0.5
        chase.append([metrics.dice(_mask(folder, "masks_vessel", stem, made), made)])
    for name in ("drive_av", "les_av"):
        for stem, folder, report in _read(recipe, name):
            made = [report.planes[part].pixels >= 0.5 for part in ("artery", "vein")]
            care = ~_mask(folder, "masks_crossing_or_unknown", stem, made[0])
            truth = [_mask(folder, f"masks_{part}", stem, made[0]) & care for part in ("artery", "vein")]
            classes.append([metrics.dice(t, m & care) for t, m in zip(truth, made, strict=True)])
            pair = _calibres(report, truth)
            if pair is not None:
                numbers.append(pair)
    return {
        **_means(np.array(chase), ("chase_dice",), recipe.repeats),
        **_means(np.array(classes), ("artery_dice", "vein_dice"), recipe.repeats),
        **(_calibre_errors(np.array(numbers), recipe.repeats) if numbers else {}),
    }


def _calibres(report: Any, truth: list[np.ndarray]) -> list[list[float]] | None:
    """[CRAE, CRVE] [disc diameters] of the planes and of the labels around the same computed disc; None where one of
    them has too few vessels.
    """
    planes = {name: report.planes[name].square for name in ("disc", "cup", "artery", "vein")}
    disc = landmarks.find_disc(planes["disc"], planes["cup"])
    if disc is None:
        return None
    frame = landmarks.frame_of(report.grid, truth[0].shape, len(planes["artery"]))
    made = vessels.central_equivalents(planes["artery"], planes["vein"], disc)
    known = vessels.central_equivalents(*(frame.warp(mask.astype(np.float32)) for mask in truth), disc)
    return None if made is None or known is None else [list(made[:2]), list(known[:2])]


def _calibre_errors(pairs: np.ndarray, repeats: int) -> dict[str, Any]:
    """Mean absolute errors (calibres: shares of the labelled ones), and how much the labelled ratio differs between
    eyes, of (n, 2, 2): made and labelled CRAE and CRVE.
    """
    made, known = pairs[:, 0], pairs[:, 1]
    ratios = made[:, 0] / made[:, 1], known[:, 0] / known[:, 1]
    wrong = np.column_stack([np.abs(ratios[0] - ratios[1]), np.abs(made / known - 1)])
    spread = {"artery_vein_ratio_spread": float(ratios[1].std())}
    return {"calibre_eyes": len(pairs), **_means(wrong, CALIBRES, repeats), **spread}


def _fovea(recipe: Scoring) -> dict[str, Any]:
    """How far the estimated fovea lies from the marked one on IDRiD's test eyes [disc diameters], where it was seen as
    a dark spot, and in what share of these eyes within the error that reports give.
    """
    folder = recipe.data / "cls" / "idrid"
    rows = [row for row in data.read_table(folder / "labels.csv") if row["split"] == "test"][: recipe.limit]
    away, stated = [], []
    for row in rows:
        report = scores.reader()(photograph.read(folder / "images" / row["image"]), override=True)
        found = evidence.measure(report, {})
        if found.disc is not None and found.fovea is not None and found.fovea.seen and report.grid is not None:
            x, y, width, height = report.grid
            marked = (float(row["fovea_x"]) - x) / width, (float(row["fovea_y"]) - y) / height
            off = np.hypot(found.fovea.x - marked[0], found.fovea.y - marked[1]) / found.disc.diameter
            away.append(float(off))
            stated.append(found.fovea.error)
    if not away:
        return {}
    made = np.column_stack([away, np.array(away) <= np.array(stated)])
    return {"eyes": len(rows), "seen": len(away), **_means(made, ("error", "within"), recipe.repeats)}


def _means(rows: np.ndarray, names: tuple[str, ...], repeats: int) -> dict[str, list[float]]:
    """name -> [mean, low, high] of the columns."""
    bounds = [metrics.interval(rows[:, i], repeats=repeats) for i in range(len(names))]
    return {n: [float(rows[:, i].mean()), *bounds[i]] for i, n in enumerate(names)}
