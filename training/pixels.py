"""Pixel-wise data sets of the synthesis nets: canonical squares with their truth, in memory.

truth: uint8 (k, S, S), 0..255 for 0..1; care: uint8 (S, S), 255 where the truth is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from qmmfl import fundus, labels, phantom, photograph

from .data import read_table


@dataclass(frozen=True, eq=False)
class Sample:
    """One eye. square uint8 (S, S, 3); truth uint8 (k, S, S); care uint8 (S, S); frame as in `qmmfl.fundus`."""

    name: str
    square: np.ndarray
    truth: np.ndarray
    care: np.ndarray
    frame: fundus.Frame | None = None


def lesions(data: Path, split: str, size: int) -> Iterator[Sample]:
    """IDRiD's four lesion masks."""
    for row, folder in _rows(data, ("idrid_lesions",), split):
        paths = [folder / f"masks_{code}" / f"{row['stem']}.png" for code in labels.LESIONS]
        yield _sample(folder, row["stem"], size, paths)


def healthy(data: Path, size: int, each: int = 50) -> Iterator[Sample]:
    """Training photographs of IDRiD and Rahim graded free of retinopathy: no lesion anywhere."""
    nothing = np.broadcast_to(np.uint8(0), (len(labels.LESIONS), size, size))
    for name in ("idrid", "rahim"):
        rows = [r for r in read_table(data / "cls" / name / "labels.csv") if r["split"] == "train"]
        for row in [r for r in rows if r["dr_grade"] == "0"][:each]:
            yield _from_arrays(row["image"], data / "cls" / name / "images" / row["image"], size, nothing)


def disc_cup(data: Path, split: str, size: int) -> Iterator[Sample]:
    """DRISHTI's disc and cup, outlined by experts."""
    for row, folder in _rows(data, ("drishti_disc_cup",), split):
        masks = [folder / f"masks_{part}" / f"{row['stem']}.png" for part in ("OD", "OC")]
        yield _sample(folder, row["stem"], size, masks)


def disc_cup_teacher(data: Path, size: int) -> Iterator[Sample]:
    """Disc and cup of ODIR training photographs as the AutoMorph nets outline them."""
    folder = data / "seg/odir5k_disc_teacher"
    for row in read_table(folder / "index.csv"):
        path = data / "cls/odir5k/images" / row["image"]
        codes = cv2.imread(str(folder / "masks_disc_cup" / f"{row['stem']}.png"), cv2.IMREAD_UNCHANGED)
        yield _from_arrays(row["stem"], path, size, [(codes > 0) * np.uint8(255), (codes == 2) * np.uint8(255)])


def vessels(data: Path, split: str, size: int) -> Iterator[Sample]:
    """Arteries and veins of DRIVE and LES-AV; crossings and unknown vessels are not cared for."""
    for row, folder in _rows(data, ("drive_av", "les_av"), split):
        stem = row["stem"]
        both, artery, vein = (
            _mask(folder / f"masks_{part}" / f"{stem}.png") for part in ("crossing_or_unknown", "artery", "vein")
        )
        yield _from_arrays(stem, _image(folder, stem), size, [artery, vein], both)


def phantoms(size: int, seeds: range, planes: tuple[str, ...]) -> Iterator[Sample]:
    """Simulated eyes with exact truth."""
    for seed in seeds:
        eye = phantom.render(seed, size)
        truth = np.stack([eye.planes[name] for name in planes])
        square, frame = fundus.canonical(eye.photograph, fundus.Prep(size))
        warped = np.stack([frame.warp(plane) for plane in truth])
        care = _field(square)
        yield Sample(f"phantom {seed}", square, (warped * 255).round().astype(np.uint8), care, frame)


def angiograms(data: Path, split: str, size: int) -> Iterator[Sample]:
    """The registered pairs of photograph and late or arteriovenous angiogram; care is their common field."""
    folder = data / "ffa/cfp_ffa_pairs"
    for row in read_table(folder / "quality.csv"):
        if row["split"] == split or split == "all":
            stem = row["stem"]
            angiogram, valid = _mask(_image(folder, stem, "ffa")), _mask(_image(folder, stem, "valid"))
            yield _from_arrays(stem, _image(folder, stem), size, [angiogram], 255 - valid)


def _rows(data: Path, folders: tuple[str, ...], split: str) -> Iterator[tuple[dict[str, str], Path]]:
    for name in folders:
        for row in read_table(data / "seg" / name / "index.csv"):
            if row["split"] == split:
                yield row, data / "seg" / name


def _sample(folder: Path, stem: str, size: int, masks: list[Path]) -> Sample:
    path = _image(folder, stem)
    pixels = photograph.read(path).pixels
    empty = np.zeros(pixels.shape[:2], np.uint8)
    return _from_arrays(stem, path, size, [_mask(mask) if mask.exists() else empty for mask in masks])


def _from_arrays(
    stem: str, path: Path, size: int, masks: list[np.ndarray] | np.ndarray, ignored: np.ndarray | None = None
) -> Sample:
    """`masks` in the photograph's frame, or an array (k, size, size) that needs no warping."""
    pixels = photograph.read(path).pixels
    square, frame = fundus.canonical(pixels, fundus.Prep(size))
    truth = masks if isinstance(masks, np.ndarray) else np.stack([frame.warp(mask) for mask in masks])
    care = _field(square)
    if ignored is not None:
        care = care * (frame.warp(ignored) < 128)
    return Sample(stem, square, truth, care, frame)


def _field(square: np.ndarray) -> np.ndarray:
    return (square.max(axis=2) > 0).astype(np.uint8) * np.uint8(255)


def _image(folder: Path, stem: str, kind: str = "images") -> Path:
    return next((folder / kind).glob(f"{stem}.*"))


def _mask(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
