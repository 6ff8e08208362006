"""Pixel-wise data sets of the synthesis nets: canonical squares with their truth, in memory.

truth: uint8 (k, S, S), 0..255 for 0..1; care: uint8 (S, S), 255 where the truth is known. Everything is read and
checked before the first step; what is wrong is named in a DataError.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from qmmfl import fundus, labels, phantom, photograph

from . import tables
from .data import graded_twins, read_table
from .recipe import RUNS


class DataError(ValueError):
    """A training folder that cannot be used. The text is one sentence that names the file."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One eye. square uint8 (S, S, 3); truth uint8 (k, S, S); care uint8 (S, S); frame as in `qmmfl.fundus`."""

    name: str
    square: np.ndarray
    truth: np.ndarray
    care: np.ndarray
    frame: fundus.Frame | None = None


def lesions(data: Path, split: str, size: int) -> Iterator[Sample]:
    """IDRiD's four lesion masks; none where its table counts no such lesion."""
    for row, folder in _rows(data, ("idrid_lesions",), split):
        masks = [_mask(path) if path else None for path in lesion_masks(row, folder)]
        yield _sample(row["stem"], _image(folder, row["stem"]), size, masks)


def lesion_masks(row: Mapping[str, str], folder: Path) -> list[Path | None]:
    """Where the masks of an eye lie, None where its row counts no such lesion. Raises DataError where one is lost."""
    result: list[Path | None] = []
    for code in labels.LESIONS:
        path = folder / f"masks_{code}" / f"{row['stem']}.png"
        if not path.exists() and float(row.get(f"n_{code}") or 0) > 0:
            raise DataError(f"the mask {path} is missing, of which the table counts {row[f'n_{code}']} px")
        result.append(path if path.exists() else None)
    return result


_HEALTHY = {"idrid": ("dr_grade", "0", 50), "rahim": ("dr_grade", "0", 50), "eyepacs": ("dr_grade", "0", 50)}
_HEALTHY |= {"odir5k": ("m_NORMAL", "1", 150)}  # many cameras


def healthy(data: Path, split: str, size: int) -> Iterator[Sample]:
    """Photographs of one split graded free of retinopathy, ODIR's of anything: no lesion anywhere."""
    nothing = np.broadcast_to(np.uint8(0), (len(labels.LESIONS), size, size))
    for name, (column, value, most) in _HEALTHY.items():
        rows = [r for r in read_table(data / "cls" / name / "labels.csv") if r["split"] == split]
        rows = [r for r in rows if r[column] == value and r.get("dup_conflict") != "1" and r.get("white_frame") != "1"]
        for row in rows[:: max(len(rows) // most, 1)][:most]:
            yield _sample(row["image"], data / "cls" / name / "images" / row["image"], size, nothing)


_RETINOPATHY = {"idrid": 180, "rahim": 80, "eyepacs": 40, "odir5k": 100}  # how many of each set


def retinopathy(data: Path, size: int) -> Iterator[Sample]:
    """Training photographs graded to have retinopathy, none with lesion masks; of no pixel is the truth known."""
    nothing = np.broadcast_to(np.uint8(0), (len(labels.LESIONS), size, size))
    masked = set(graded_twins(data).values())
    for name, most in _RETINOPATHY.items():
        rows = [r for r in read_table(data / "cls" / name / "labels.csv") if r["split"] == "train"]
        rows = [r for r in rows if int(r["dr_grade"] or -1) > 0 and (name != "idrid" or r["image"] not in masked)]
        rows = [r for r in rows if r.get("dup_conflict") != "1" and r.get("white_frame") != "1"]
        for row in rows[:: max(len(rows) // most, 1)][:most]:
            yield _sample(row["image"], data / "cls" / name / "images" / row["image"], size, nothing)


def disc_cup(data: Path, split: str, size: int) -> Iterator[Sample]:
    """DRISHTI's disc and cup, outlined by experts."""
    for row, folder in _rows(data, ("drishti_disc_cup",), split):
        masks = [_mask(folder / f"masks_{part}" / f"{row['stem']}.png") for part in ("OD", "OC")]
        yield _sample(row["stem"], _image(folder, row["stem"]), size, masks)


def disc_cup_teacher(data: Path, size: int) -> Iterator[Sample]:
    """Disc and cup of ODIR training photographs as the AutoMorph nets outline them."""
    folder = data / "seg/odir5k_disc_teacher"
    for row in read_table(folder / "index.csv"):
        path = data / "cls/odir5k/images" / row["image"]
        codes = _mask(folder / "masks_disc_cup" / f"{row['stem']}.png", (0, 1, 2))
        yield _sample(row["stem"], path, size, [(codes > 0) * np.uint8(255), (codes == 2) * np.uint8(255)])


def vessels(data: Path, split: str, size: int) -> Iterator[Sample]:
    """Arteries and veins of DRIVE and LES-AV; crossings and unknown vessels are not cared for."""
    for row, folder in _rows(data, ("drive_av", "les_av"), split):
        stem = row["stem"]
        both, artery, vein = (
            _mask(folder / f"masks_{part}" / f"{stem}.png") for part in ("crossing_or_unknown", "artery", "vein")
        )
        yield _sample(stem, _image(folder, stem), size, [artery, vein], both)


def phantoms(size: int, seeds: range, planes: tuple[str, ...]) -> Iterator[Sample]:
    """Simulated eyes with exact truth, rendered once and kept in runs/cache."""
    for seed in seeds:
        square, truth = _simulated(size, seed)
        yield Sample(f"phantom {seed}", square, truth[[labels.PLANES.index(p) for p in planes]], _field(square))


def _simulated(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Square and all planes uint8 (len(labels.PLANES), size, size) of a simulated eye."""
    path = RUNS / "cache" / f"phantoms_{_phantom_version()}" / f"{size}_{seed}.npz"
    if path.exists():
        with np.load(path) as kept:
            return kept["square"], kept["truth"]
    eye = phantom.render(seed, size)
    square, frame = fundus.canonical(eye.photograph, fundus.Prep(size))
    truth = np.stack([(frame.warp(eye.planes[name]) * 255).round().astype(np.uint8) for name in labels.PLANES])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as file:
        np.savez(file, square=square, truth=truth)
    path.with_suffix(".part").replace(path)
    return square, truth


@cache
def _phantom_version() -> str:
    """Changes with the code that draws simulated eyes, so that no stale eye is learnt from."""
    files = sorted(Path(phantom.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def photographs(data: Path, size: int, each: int, planes: int) -> Iterator[Sample]:
    """Real training photographs of four sets, so many of each; nothing is known about any pixel of the planes."""
    nothing = np.broadcast_to(np.uint8(0), (planes, size, size))
    for name in ("odir5k", "idrid", "rahim", "stare"):
        rows = [r for r in read_table(data / "cls" / name / "labels.csv") if r["split"] == "train"]
        for row in [r for r in rows if r.get("white_frame") != "1"][:each]:
            sample = _sample(row["image"], data / "cls" / name / "images" / row["image"], size, nothing)
            yield dataclasses.replace(sample, care=np.zeros((size, size), np.uint8))


def angiograms(data: Path, split: str, size: int) -> Iterator[Sample]:
    """The registered pairs of photograph and late or arteriovenous angiogram; care is their common field."""
    folder = data / "ffa/cfp_ffa_pairs"
    for row in read_table(folder / "quality.csv"):
        if row["split"] == split or split == "all":
            stem = row["stem"]
            angiogram, valid = (_mask(_image(folder, stem, kind), None) for kind in ("ffa", "valid"))
            yield _sample(stem, _image(folder, stem), size, [angiogram], 255 - valid)


def compose_arterial(sample: Sample) -> np.ndarray:
    """uint8 (S, S): an early angiogram of a labelled eye. Arteries filled, veins dark, a dim choroidal flush."""
    artery, vein = (cv2.GaussianBlur(t.astype(np.float32) / 255, (0, 0), 0.8) for t in sample.truth)
    green = cv2.GaussianBlur(sample.square[..., 1].astype(np.float32) / 255, (0, 0), sample.square.shape[0] / 40)
    flush = 0.22 + 0.12 * green / max(float(green.max()), 1e-3)
    image = flush * (1 - 0.6 * vein) * (1 - artery) + 0.85 * artery
    return (image * (sample.care > 0) * 255).clip(0, 255).round().astype(np.uint8)


def _rows(data: Path, folders: tuple[str, ...], split: str) -> Iterator[tuple[dict[str, str], Path]]:
    for name in folders:
        rows = read_table(data / "seg" / name / "index.csv")
        tables.check(f"seg/{name}/index.csv", rows)
        for row in rows:
            if row["split"] == split:
                yield row, data / "seg" / name


def _sample(
    stem: str,
    path: Path,
    size: int,
    masks: list[np.ndarray | None] | np.ndarray,
    ignored: np.ndarray | None = None,
) -> Sample:
    """`masks` in the photograph's frame, None for an empty one, or an array (k, size, size) that needs no warping."""
    pixels = photograph.read(path).pixels
    square, frame = fundus.canonical(pixels, fundus.Prep(size))

    def placed(mask: np.ndarray | None) -> np.ndarray:
        mask = np.zeros(pixels.shape[:2], np.uint8) if mask is None else mask
        if mask.shape != pixels.shape[:2]:
            have, want = ("{1}x{0}".format(*shape) for shape in (mask.shape, pixels.shape))
            raise DataError(f"a mask of {path} is {have} px and the photograph {want} px: they must be the same size")
        return frame.warp(mask)

    truth = masks if isinstance(masks, np.ndarray) else np.stack([placed(mask) for mask in masks])
    care = _field(square)
    if ignored is not None:
        care = care * (placed(ignored) < 128)
    return Sample(stem, square, truth, care, frame)


def _field(square: np.ndarray) -> np.ndarray:
    return (square.max(axis=2) > 0).astype(np.uint8) * np.uint8(255)


def _image(folder: Path, stem: str, kind: str = "images") -> Path:
    path = next((folder / kind).glob(f"{stem}.*"), None)
    if path is None:
        raise DataError(f"{folder / kind} holds no picture named {stem}, which its table lists")
    return path


def _mask(path: Path, values: tuple[int, ...] | None = (0, 255)) -> np.ndarray:
    """uint8 (H, W) of a mask that holds `values` alone; None allows any (a grey picture)."""
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if values else cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataError(f"the mask {path} is missing or cannot be read")
    if mask.ndim != 2:
        raise DataError(f"the mask {path} has {mask.shape[2]} channels, one is wanted")
    strange = [] if values is None else sorted(set(np.unique(mask).tolist()) - set(values))
    if strange:
        raise DataError(f"the mask {path} holds the value {strange[0]}, which is none of {', '.join(map(str, values))}")
    return mask
