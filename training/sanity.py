"""Can the maps be trusted? Measured on eyes whose lesions and discs were marked by people, and written into the card.

`python -m training.sanity --weights weights` compares every kind of map in `--maps` with IDRiD's lesion masks and
DRISHTI's discs (test splits), beside the share of the retina that these fill; randomises the network under the maps;
erases what they point at; and stores the mean features of reference eyes. Half an hour on two free cores; nothing is
chosen here. Run it after `training.evaluate`, which writes the card's other figures. Kinds of maps that the card of the
same weights has already are kept where they are not measured anew, so that the slow ones can be measured another time.
"""

import dataclasses
import json
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from qmmfl import explain, labels, photograph, pipeline, weights
from qmmfl.explain import sanity
from qmmfl.explain.agreement import KEY
from qmmfl.nets import GRADE

from . import card_tables, data, metrics, model_card
from .recipe import FRESH, WHOLE, Scoring, parse

MAPS = (
    "exact:fused,exact:colour,exact:lesions,exact:disc_cup,gradcam:colour,gradcam:lesions,hirescam:colour,"
    "eigencam:colour,scorecam:colour,gradients:fused,gradients:colour,occlusion:colour"
)
_DARK = 16  # grey level of the brightest channel that is no retina any more


@dataclasses.dataclass(frozen=True)
class SanityRecipe(Scoring):
    """maps: kinds of maps, method:modality. deep: eyes on which the network is randomised and the photograph erased.
    reference: healthy training eyes whose mean features are kept.
    """

    maps: str = MAPS
    deep: int = 8
    reference: int = 64


@dataclasses.dataclass(frozen=True)
class Test:
    """One data set whose marks a score should rest on."""

    dataset: str
    folder: str
    masks: tuple[str, ...]
    marks: str
    code: str


TESTS = (
    Test("IDRiD test eyes that no net has seen", "idrid_lesions", labels.LESIONS, "marked lesions", "DR"),
    Test("IDRiD test eyes that no net has seen", "idrid_lesions", labels.LESIONS, "marked lesions", GRADE),
    Test("DRISHTI test eyes", "drishti_disc_cup", ("OD",), "the marked disc", "ODC"),
)

_AGREED = ("precision", "pointing", "chance")
_reader: pipeline.Pipeline | None = None  # of a worker process


def _start(folder: Path) -> None:
    global _reader
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _reader = pipeline.load(folder, "cpu")


def measure(recipe: SanityRecipe) -> dict[str, Any]:
    """All figures for the card, rounded to four decimals; what cannot be computed is None."""
    card, kinds = weights.read_card(recipe.weights), recipe.maps.split(",")
    for kind in kinds:
        explain.check("DR", *kind.split(":"))
    tests = [test for test in TESTS if test.code == GRADE or test.code in card.calibrations]
    with ProcessPoolExecutor(recipe.workers, FRESH, initializer=_start, initargs=(recipe.weights,)) as pool:
        agreement = [_agreement(pool, recipe, test, kinds) for test in tests]
        trust = _trust(pool, recipe, kinds)
        found = {
            "agreement": agreement,
            "trust": trust,
            "reference": pool.submit(_reference, recipe).result(),
            "cost": pool.submit(_cost).result(),
        }
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4), parse_constant=lambda _: None)


def _stems(recipe: SanityRecipe, folder: str) -> list[str]:
    """Test eyes whose masks no net has learnt from, and whose grades none has: see `data.graded_twins`."""
    rows = data.read_table(recipe.data / "seg" / folder / "index.csv")
    stems = [row["stem"] for row in rows if row["split"] == "test"]
    if folder == "idrid_lesions":
        split = {row["image"]: row["split"] for row in data.read_table(recipe.data / "cls/idrid/labels.csv")}
        twins = data.graded_twins(recipe.data)
        stems = [stem for stem in stems if split.get(twins.get(stem, ""), "test") == "test"]
    return stems[: recipe.limit]


def _agreement(pool: ProcessPoolExecutor, recipe: SanityRecipe, test: Test, kinds: list[str]) -> dict[str, Any]:
    tasks = [(recipe.data, test, stem, kinds) for stem in _stems(recipe, test.folder)]
    rows = [row for row in tqdm(pool.map(_agree, tasks), total=len(tasks), desc=test.code, mininterval=10) if row]
    result = {"dataset": test.dataset, "code": test.code, "marks": test.marks, "eyes": len(rows), "maps": {}}
    for kind in kinds:
        here = np.array([row[kind] for row in rows]).reshape(len(rows), len(_AGREED))
        if len(here):
            bounds = [[float(c.mean()), *metrics.interval(c, repeats=recipe.repeats)] for c in here.T]
            result["maps"][kind] = {"eyes": len(here), **dict(zip(_AGREED, bounds, strict=True))}
    return result


def _agree(task: tuple[Path, Test, str, list[str]]) -> dict[str, list[float]] | None:
    """kind -> figures in the order of `_AGREED` of one eye; None without a marked cell.

    By chance, at random places of the retina that is seen, both precision and pointing are the share of it that is
    marked.
    """
    folder, test, stem, kinds = task
    reading = _open(folder / "seg" / test.folder, stem)
    cells = reading.features.shape[-1]
    field = sanity.to_cells(reading.square.max(axis=2) > _DARK, cells) > 0.5
    target = _marks(folder / "seg" / test.folder, test.masks, stem, reading, cells) & field
    if not target.any():
        return None
    result, chance = {}, float(target.sum() / field.sum())
    for kind in kinds:
        square = sanity.to_cells(_map(reading, test.code, kind), cells) * field
        if not (square > 0).any():  # it points nowhere: a miss, as it is to who looks at it
            result[kind] = [0.0, 0.0, chance]
            continue
        square = np.where(field, square, square.min())
        result[kind] = [sanity.precision(square, target), sanity.hits(square, target), chance]
    return result


def _trust(pool: ProcessPoolExecutor, recipe: SanityRecipe, kinds: list[str]) -> dict[str, Any]:
    """Randomisation, deletion and ROAD of DR maps, on the first eyes with lesions."""
    stems = _stems(recipe, TESTS[0].folder)[: recipe.deep]
    tasks = [(recipe.data / "seg" / TESTS[0].folder, stem, kinds) for stem in stems]
    rows = list(tqdm(pool.map(_doubt, tasks), total=len(tasks), desc="trust", mininterval=10))
    result: dict[str, Any] = {"dataset": TESTS[0].dataset, "code": TESTS[0].code, "eyes": len(rows), "maps": {}}
    for kind in kinds:
        result["maps"][kind] = {
            name: [_mean(values), *metrics.interval(values, _mean, recipe.repeats)]
            for name in rows[0][kind]
            if not np.isnan(values := np.array([row[kind][name] for row in rows])).all()
        }
    return result


def _doubt(task: tuple[Path, str, list[str]]) -> dict[str, dict[str, float]]:
    """kind -> size of the rank correlation by randomised part, mean fall on deletion and ROAD (both also at random)."""
    folder, stem, kinds = task
    reading, code, result = _open(folder, stem), TESTS[0].code, {}
    field = sanity.to_cells(reading.field(256), reading.features.shape[-1]) > 0.5
    for kind in kinds:
        square = _map(reading, code, kind)
        other = sanity.shuffled(sanity.to_cells(square, len(field)) * field, field, 0)
        with _reader.borrow() as network:
            changed = sanity.cascade(network, reading, code, *kind.split(":"))
            curves = [sanity.delete(network, reading, code, each) for each in (square, other)]
            roads = [sanity.road(network, reading, code, each) for each in (square, other)]
        fell, fell_random = (float(curve[0] - curve[1:].mean()) for curve in curves)
        result[kind] = {**{f"randomised_{part}": abs(value) for part, value in changed.items()}, "deletion": fell}
        result[kind] |= {"random_deletion": fell_random, "road": roads[0], "random_road": roads[1]}
    return result


def _open(folder: Path, stem: str) -> explain.Reading:
    path = next((folder / "images").glob(f"{stem}.*"))
    return explain.read(_reader, _reader(photograph.read(path), override=True))


def _map(reading: explain.Reading, code: str, kind: str) -> np.ndarray:
    """As it is drawn: everything where it was seen."""
    method, modality = kind.split(":")
    with _reader.borrow() as network:
        return explain.align(explain.compute(network, reading, code, method, modality), reading, method, modality)


def _marks(folder: Path, masks: tuple[str, ...], stem: str, reading: explain.Reading, cells: int) -> np.ndarray:
    """bool (cells, cells): cells that hold a mark."""
    result = np.zeros((cells, cells), bool)
    for kind in masks:
        path = folder / f"masks_{kind}" / f"{stem}.png"
        if path.exists():
            mask = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127).astype(np.float32)
            result |= sanity.to_cells(reading.frame.warp(mask), cells, peaks=True) > 0
    return result


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _reference(recipe: SanityRecipe) -> dict[str, Any]:
    """Mean features by modality over training eyes of ODIR in which no abnormality was found."""
    normal = data.CODES.index("NORMAL")
    healthy = (
        case
        for case in data.cases(recipe.data)
        if case.folder == "odir5k" and case.split == "train" and case.findings[normal] == 1
    )
    total, eyes = 0.0, 0
    for case in healthy:
        if eyes == min(recipe.reference, recipe.limit):
            break
        reading = explain.read(_reader, _reader(photograph.read(case.path), override=True))
        total, eyes = total + reading.features[0].mean(dim=(-2, -1)).double().numpy(), eyes + 1
    features = dict(zip(labels.BY_NAME, (total / eyes).tolist(), strict=True))
    return {"dataset": "ODIR-5K training eyes without a finding", "eyes": eyes, "features": features}


def _cost() -> dict[str, float]:
    """What all exact maps of one eye cost, as a share of a forward pass (CPU time, one thread, best of three)."""
    square = np.random.default_rng(0).integers(60, 200, (_reader.card.config.square,) * 2 + (3,)).astype(np.uint8)
    reading = explain.read(_reader, _reader(square, override=True))
    x = torch.from_numpy(reading.square).permute(2, 0, 1)[None].float() / 255
    with _reader.borrow() as network, torch.no_grad():
        forward, maps = (
            min(_seconds(work) for _ in range(3))
            for work in (lambda: network(x), lambda: explain.open_heads(network, reading))
        )
    return {"exact_maps_share_of_forward": maps / forward, "forward_seconds": forward}


def _seconds(work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def joined(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """The new figures, with the kinds of maps that only the old ones have on the same eyes."""

    def kept(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
        same = before is not None and all(before[key] == after[key] for key in ("dataset", "code", "eyes"))
        return {**after, "maps": {**before["maps"], **after["maps"]}} if same else after

    if old is None:
        return new
    before = {(test["dataset"], test["code"]): test for test in old["agreement"]}
    agreement = [kept(before.get((test["dataset"], test["code"])), test) for test in new["agreement"]]
    return {**new, "agreement": agreement, "trust": kept(old["trust"], new["trust"])}


if __name__ == "__main__":
    settings = parse(SanityRecipe)[0]
    figures = measure(settings)
    print(card_tables.explanations(figures))
    if settings.limit < WHOLE:
        raise SystemExit("a rehearsal: the card was left alone")
    card = weights.read_card(settings.weights)
    figures = joined(card.metrics.get(KEY), figures)
    weights.save_card(settings.weights, dataclasses.replace(card, metrics={**card.metrics, KEY: figures}))
    model_card.write(settings.weights)
