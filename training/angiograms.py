"""Test figures of the synthesized angiograms and bands."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from qmmfl import labels, phantom, photograph

from . import data, metrics

SIMULATED = range(20_000, 20_012)  # seeds that no training and no validation draws


def figures(reader, data_folder: Path, repeats: int) -> dict[str, Any]:
    """Arteriovenous pairs, arterial order of arteries, veins and surround, and errors of the bands."""
    return {
        "ffa_arteriovenous": _pairs(reader, data_folder),
        "ffa_arterial": _arterial(reader, data_folder, repeats),
        "msi": _bands(reader),
    }


def _pairs(reader, folder: Path) -> dict[str, Any]:
    """The locked pairs, and the inverted green channel on the same pairs as the simplest rival."""
    rows = [r for r in data.read_table(folder / "ffa/cfp_ffa_pairs/quality.csv") if r["split"] == "test"]
    result: dict[str, Any] = {"pairs": len(rows)}
    scores = []
    for row in rows:
        picture, true, valid = (
            next((folder / "ffa/cfp_ffa_pairs" / kind).glob(f"{row['stem']}.*")) for kind in ("images", "ffa", "valid")
        )
        pixels = photograph.read(picture)
        made = reader(pixels, override=True).planes["ffa_arteriovenous"].pixels
        true = cv2.imread(str(true), cv2.IMREAD_GRAYSCALE) / np.float32(255)
        care = cv2.imread(str(valid), cv2.IMREAD_GRAYSCALE) > 127
        green = 1 - pixels.pixels[..., 1] / np.float32(255)
        scores.append(
            [
                f(x, true)
                for x in (made, green)
                for f in (
                    lambda a, b, care=care: metrics.correlation(a[care], b[care]),
                    lambda a, b, care=care: metrics.detail_correlation(a, b, care),
                )
            ]
        )
    names = ("correlation", "detail_correlation", "inverted_green_correlation", "inverted_green_detail")
    return result | dict(zip(names, np.mean(scores, axis=0).tolist(), strict=True))


def _arterial(reader, folder: Path, repeats: int) -> dict[str, Any]:
    """Share of eyes whose arteries outshine their surround while veins stay below the middle of the two."""
    kept = []
    for name in ("drive_av", "les_av"):
        for row in data.read_table(folder / "seg" / name / "index.csv"):
            if row["split"] == "test":
                kept.append(_is_arterial(reader, folder / "seg" / name, row["stem"]))
    share = np.array(kept, float)
    return {"eyes": len(kept), "phase_order": [float(share.mean()), *metrics.interval(share, repeats=repeats)]}


def _is_arterial(reader, folder: Path, stem: str) -> bool:
    picture = photograph.read(next((folder / "images").glob(f"{stem}.*")))
    plane = reader(picture, override=True).planes["ffa_arterial"].pixels
    artery, vein, any_vessel = (
        cv2.imread(str(folder / f"masks_{kind}" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE) > 127
        for kind in ("artery", "vein", "vessel")
    )
    near = cv2.dilate(artery.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    bright, dark = float(plane[artery].mean()), float(plane[vein].mean())
    surround = float(plane[near & ~any_vessel].mean())
    return bright > surround and dark < (surround + bright) / 2


def _bands(reader) -> dict[str, Any]:
    """Median relative error per band [share] on simulated eyes."""
    errors = []
    for seed in SIMULATED:
        eye = phantom.render(seed, 512)
        planes = reader(eye.photograph, override=True).planes
        inside = eye.photograph.max(axis=2) > 0
        true = [eye.planes[name][inside] for name in labels.MSI.planes]
        made = [planes[name].pixels[inside] for name in labels.MSI.planes]
        errors.append([np.median(np.abs(m - t) / np.maximum(t, 0.02)) for m, t in zip(made, true, strict=True)])
    return {"eyes": len(errors), **dict(zip(labels.MSI.planes, np.mean(errors, axis=0).tolist(), strict=True))}
