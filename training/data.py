"""Public data sets -> canonical squares and aligned labels, cached below runs/cache.

`python -m training.data --data FOLDER` decodes every labelled photograph once, through the code that the shipped
pipeline uses. The layout of FOLDER is described in training/README.md; nothing of it is ever copied into the
repository. A label of -1 means "not annotated", never "absent".
"""

import csv
import json
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from qmmfl import compression, fundus, labels, photograph
from qmmfl.nets import Config

from . import looks, negatives, retakes, tables
from .recipe import FRESH, RUNS

CACHE = RUNS / "cache"
VIEW = Config().view  # [px] side of a plane as its encoder sees it
COLOUR_VIEW = Config().seen(labels.COLOUR.name)  # [px] side of the cached photographs
FOLDERS = ("odir5k", "stare", "idrid", "rahim", "eyepacs", "eyepacs_equalized", "aptos_severe", "palm", "drimdb")
RETAKE = "retake"  # split of the training eyes' other photographs, see `retakes`
LEARNT = ("train", RETAKE)  # splits that encoders and fusion learn from; eyes are counted and compared in "train" alone
CODES = tuple(labels.FINDINGS)
# Sets chosen by their grade, and the lowest there. A net that learnt from them that an eye is ill would have learnt
# their cameras: they teach how severe it is, alone.
LEAST_GRADE = {"aptos_severe": 2}
# Fellow eyes, and sittings, of its validation eyes are training eyes: what they show there flatters.
FLATTERED = "idrid"
_YOUNGEST = 10  # [years] 1, which stands there of 26 eyes and no age near it, is somebody's "unknown"
EVERYWHERE = ("DR",)  # findings that a part of the retina shows
_DIAGNOSED = ("odir5k", "idrid", "rahim", "palm")  # sets of photographs chosen to be read
ODIR_CLASSES = "NDGCAHMO"  # normal, diabetes, glaucoma, cataract, macular degeneration, hypertension, myopia, other


@dataclass(frozen=True)
class Case:
    """One labelled photograph. findings: one of 1, 0, -1 per code; the others -1 where unknown.

    odir: 0 or 1 for this eye per class of `ODIR_CLASSES`; empty outside ODIR. look: see `looks.of`, where a grade is
    known.
    """

    folder: str
    path: str
    split: str
    group: str
    findings: tuple[int, ...]
    grade: int = -1
    oedema: int = -1  # 1: referable risk of macular oedema
    gradable: int = -1
    fundus: int = 1
    age: int = -1  # [years]
    female: int = -1
    odir: tuple[int, ...] = ()
    look: tuple[float, ...] = ()


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def cases(data: Path) -> Iterator[Case]:
    """Every labelled photograph below `data`/cls, and angiograms as examples of what is not a photograph.

    All tables are checked before the first case. Raises TableError.
    """
    read = {folder: read_table(data / "cls" / folder / "labels.csv") for folder in FOLDERS}
    frames = read_table(data / "ffa/ffa_phase/index.csv")
    for folder, rows in read.items():
        tables.check(f"cls/{folder}/labels.csv", rows)
    tables.check("ffa/ffa_phase/index.csv", frames)
    tables.check_splits(
        (f"{folder}/{row['image']}", row["group"], row["split"]) for folder in read for row in read[folder]
    )
    masked = _masked(data)
    for folder, rows in read.items():
        for row in rows:
            if row.get("dup_conflict") == "1" or row.get("white_frame") == "1":
                continue  # contradicting labels; a white frame gives cataract away
            case = _case(folder, row, data)
            yield replace(case, split="train") if case.split == "val" and row["image"] in masked else case
    for row in frames:
        path = data / "ffa/ffa_phase/ffa" / f"{row['stem']}.webp"
        split = row["split"] if row["split"] == "test" else "val" if int(row["group"], 16) % 6 == 0 else "train"
        unknown = (-1,) * len(CODES)
        yield Case("ffa_phase", str(path), split, row["group"], unknown, fundus=0)


def graded_twins(data: Path) -> dict[str, str]:
    """Stem of a photograph with lesion masks -> the same photograph's file among those that IDRiD graded.

    The two parts of IDRiD are numbered and split apart: a lesion test eye may be a training eye of the grades.
    """
    path = data / "seg/idrid_lesions/same_image_in_grading.csv"
    return {row["seg_stem"]: row["grading_image"] for row in read_table(path)} if path.exists() else {}


def _masked(data: Path) -> set[str]:
    """Graded photographs of IDRiD whose lesion masks Stage I learns from or is chosen by: they can check nothing."""
    twins = graded_twins(data)
    rows = read_table(data / "seg/idrid_lesions/index.csv") if twins else []
    return {twins[row["stem"]] for row in rows if row["split"] in ("train", "val") and row["stem"] in twins}


def _case(folder: str, row: dict[str, str], data: Path) -> Case:
    findings = dict.fromkeys(CODES, -1)
    grade, age = (int(row.get(name) or -1) for name in ("dr_grade", "age"))
    if row.get("uncertain") != "1":
        findings |= {code: int(row[f"m_{code}"]) for code in CODES if row.get(f"m_{code}", "") != ""}
    if folder not in ("odir5k", "stare", *LEAST_GRADE) and grade >= 0:
        # Not that ill eyes are no "no abnormality": healthy ones may have another disease, so that all that this code
        # could learn of such a camera would be "never".
        findings["DR"] = int(grade > 0)
    clouded = row.get("eye_C") == "1"  # by a cataract, often so densely that no vessel is seen
    if findings["DR"] == 0 and not clouded:
        grade = 0  # what no retinopathy is, whatever else the eye has: else only healthy eyes would teach it
    if folder == "palm" and "not pathological" not in row["category"]:
        findings["MYA"] = int(row["pathological_myopia"])
    oedema = {-1: -1, 2: 1}.get(int(row["dme_risk"]), 0) if "dme_risk" in row else int(row.get("maculopathy", -1))
    eyeq, sharp = row.get("eyeq_quality", "-1"), row.get("quality", "")
    gradable = {"good": 1, "bad": 0}.get(sharp, {"0": 1, "1": 1, "2": 0}.get(eyeq, -1))
    if folder in _DIAGNOSED and row["split"] != "test" and not row.get("quality_flags") and not clouded:
        gradable = 1  # nobody judged its quality, but clinicians could read it: the gate learns more cameras from it
    return Case(
        folder,
        str(data / "cls" / folder / "images" / row["image"]),
        row["split"],
        row["group"],
        tuple(findings[code] for code in CODES),
        grade,
        oedema,
        -1 if folder == "eyepacs_equalized" else gradable,
        int(sharp != "outlier"),
        age if age >= _YOUNGEST else -1,
        {"Female": 1, "Male": 0}.get(row.get("sex", ""), -1),
        tuple(int(row[f"eye_{letter}"]) for letter in ODIR_CLASSES) if "eye_N" in row else (),
    )


def square_of(path: str | Path, prep: fundus.Prep) -> np.ndarray:
    """Canonical square uint8 (size, size, 3) of a photograph; all black where no field of view is visible."""
    try:
        return fundus.canonical(compression.heal(photograph.read(path), prep.size), prep)[0]
    except fundus.FieldError:
        return np.zeros((prep.size, prep.size, 3), np.uint8)


def _view_of(path: str, prep: fundus.Prep) -> np.ndarray:
    cv2.setNumThreads(1)
    return cv2.resize(square_of(path, prep), (COLOUR_VIEW, COLOUR_VIEW), interpolation=cv2.INTER_AREA)


def write_negatives(table: list[Case]) -> Iterator[Case]:
    """Make the pictures of `negatives` below runs/cache, those that are there already excepted; a case of each."""
    folder = CACHE / "negatives"
    folder.mkdir(parents=True, exist_ok=True)
    fit = [case for case in table if case.fundus == 1 and case.gradable == 1]
    groups = {case.path: case.group for case in fit}
    sources = {split: [case.path for case in fit if case.split == split] for split in negatives.COUNTS}
    for split, kind, seed, source in negatives.plan(sources):
        path = folder / f"{kind}_{seed}.jpg"
        if not path.exists():
            cv2.imwrite(str(path), negatives.picture(kind, seed, source)[..., ::-1])
        spoiled = kind in negatives.SPOILED
        known = {"gradable": 0} if spoiled else {"fundus": 0}
        unknown = (-1,) * len(CODES)
        yield Case("negatives", str(path), split, groups.get(source, path.stem), unknown, **known)


def write_retakes(table: list[Case], pool: Executor) -> Iterator[Case]:
    """Make the pictures of `retakes` below runs/cache, those that are there already excepted; a case of each.

    What is known of the eye is known of its retake, but not that it can be graded, nor where only a part of it is seen
    any finding but retinopathy, which leaves its traces all over the retina.
    """
    folder = CACHE / "retakes"
    folder.mkdir(parents=True, exist_ok=True)
    sources: dict[str, dict[str, Case]] = {}
    for case in table:
        if case.split == "train":
            sources.setdefault(case.folder, {})[case.path] = case
    for name, step in retakes.EVERY.items():
        chosen = sorted(sources.get(name, ()))[::step]
        seeds = [retakes.SEED + number for number in range(len(chosen))]
        paths = [folder / f"{name}_{Path(eye).stem}_{seed}.jpg" for eye, seed in zip(chosen, seeds, strict=True)]
        made = pool.map(retakes.write, chosen, seeds, paths, chunksize=8)
        for source, seed, path, there in zip(chosen, seeds, paths, made, strict=True):
            if there:
                case = sources[name][source]
                known, oedema = case.findings, case.oedema
                if retakes.narrowed(seed):
                    known = [value if code in EVERYWHERE else -1 for code, value in zip(CODES, known, strict=True)]
                    oedema = -1
                yield replace(
                    case, path=str(path), split=RETAKE, findings=tuple(known), oedema=oedema, gradable=-1, odir=()
                )


def build(data: Path, workers: int = 2) -> None:
    """Write runs/cache/views.npy, uint8 (N, COLOUR_VIEW, COLOUR_VIEW, 3), and cases.json, both in the same order."""
    CACHE.mkdir(parents=True, exist_ok=True)
    table = list(cases(data))
    table += write_negatives(table)
    prep = fundus.Prep()
    with ProcessPoolExecutor(workers, FRESH) as pool:
        table += write_retakes(table, pool)
        shape = (len(table), COLOUR_VIEW, COLOUR_VIEW, 3)
        views = np.lib.format.open_memmap(CACHE / "views.part.npy", "w+", np.uint8, shape)
        paths = [case.path for case in table]
        for index, view in enumerate(pool.map(partial(_view_of, prep=prep), paths, chunksize=32)):
            views[index] = view
            if table[index].grade >= 0:
                table[index] = replace(table[index], look=looks.of(view))
            if index % 1000 == 0:
                print(f"{index}/{len(table)} photographs", flush=True)
    views.flush()
    (CACHE / "views.part.npy").rename(CACHE / "views.npy")
    (CACHE / "cases.json").write_text(json.dumps([vars(case) for case in table]))


def load() -> tuple[list[Case], np.ndarray]:
    """The cached cases and their views, a read-only memory map uint8 (N, COLOUR_VIEW, COLOUR_VIEW, 3).

    Raises TableError.
    """
    rows = json.loads((CACHE / "cases.json").read_text())
    table = [Case(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in rows]
    tables.check_splits((case.path, case.group, "train" if case.split == RETAKE else case.split) for case in table)
    return table, np.load(CACHE / "views.npy", mmap_mode="r")


if __name__ == "__main__":
    from .recipe import Recipe, parse

    build(parse(Recipe)[0].data)
