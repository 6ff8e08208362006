"""The test figures of the shipped weights, through the shipped pipeline.

`python -m training.evaluate --weights weights` reads every test photograph with the gates overridden, writes the
figures with 95 % bootstrap intervals into the card, and prints the most important as Markdown. Nothing is chosen here.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from qmmfl import labels, measures, photograph, pipeline, weights

from . import angiograms, data, metrics, model_card, spectra
from .recipe import Recipe, parse
from .targets import Targets


@dataclasses.dataclass(frozen=True)
class EvaluateRecipe(Recipe):
    """weights: folder that is scored and whose card is filled in; workers: processes of one thread each."""

    weights: Path = Path("weights")
    workers: int = 2
    repeats: int = 500  # bootstrap draws
    limit: int = 1_000_000  # test eyes of each set, for a rehearsal; the card is left alone then


_reader: pipeline.Pipeline | None = None  # of a worker process


def _start(folder: Path) -> None:
    global _reader
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _reader = pipeline.load(folder, "cpu")


def evaluate(recipe: EvaluateRecipe) -> dict[str, Any]:
    """All figures, rounded to four decimals; what cannot be computed is None."""
    with ProcessPoolExecutor(recipe.workers, initializer=_start, initargs=(recipe.weights,)) as pool:
        made = pool.submit(synthesis, recipe)
        figures = {"classification": classification(recipe, pool), "synthesis": made.result()}
    return json.loads(
        json.dumps(figures), parse_float=lambda text: round(float(text), 4), parse_constant=lambda _: None
    )


def classification(recipe: EvaluateRecipe, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Findings, grade and gates per data set on the locked test split; angiograms stand for other pictures."""
    seen: Counter[str] = Counter()
    cases = []
    for case in data.cases(recipe.data):
        if case.split == "test" and seen[case.folder] < recipe.limit:
            seen[case.folder] += 1
            cases.append(case)
    rows = list(tqdm(pool.map(_scores_of, cases, chunksize=4), total=len(cases), desc="test", mininterval=10))
    every = Targets(cases)
    result: dict[str, Any] = {}
    for folder in sorted(set(every.folder)):
        here = np.flatnonzero(every.folder == folder)
        result[folder] = _folder_figures(every, here, [rows[i] for i in here], recipe.repeats)
    return result


def _scores_of(case: data.Case) -> dict[str, Any]:
    report = _reader(case.path, override=True)
    return {
        "findings": [np.nan if f.probability is None else f.probability for f in report.findings],
        "called": [bool(f.suspected) for f in report.findings],
        "dr": report.dr.probabilities,
        "grade": report.dr.grade,
        "gradable": report.quality.gradable,
        "fundus": report.fundus.is_fundus,
    }


def _folder_figures(every: Targets, here: np.ndarray, rows: list[dict], repeats: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"eyes": len(here), "coverage": float(np.mean([row["gradable"] for row in rows]))}
    figures["called_fundus"] = float(np.mean([row["fundus"] for row in rows]))
    probability, called = np.array([r["findings"] for r in rows]), np.array([r["called"] for r in rows])
    per, macro = {}, []
    for index, code in enumerate(data.CODES):
        truth = every.binary[here, index]
        known = (truth >= 0) & ~np.isnan(probability[:, index])
        positives = int((truth[known] == 1).sum())
        if not positives or positives == known.sum():
            continue
        t, p, c = truth[known] == 1, probability[known, index], called[known, index]
        per[code] = {
            "positives": positives,
            "auc": _bounded(t, p, metrics.auc, repeats),
            "ap": metrics.average_precision(t, p),
            "sensitivity": float(c[t].mean()),
            "specificity": float((~c[~t]).mean()),
            "ece": metrics.calibration_error(t, p),
        }
        if positives >= 10:
            macro.append(per[code]["auc"][0])
    if per:
        figures["findings"] = per
    if macro:
        figures["macro_auc"] = float(np.mean(macro))
    graded = every.grade[here] >= 0
    if graded.any() and rows[0]["dr"] is not None:
        truth = every.grade[here][graded]
        steps = np.array([r["dr"] for r in rows])[graded]
        called_grade = np.array([r["grade"] for r in rows])[graded]
        pairs = np.column_stack([truth, called_grade])
        kappa = metrics.quadratic_kappa(truth, called_grade)
        low, high = metrics.interval(pairs, lambda x: metrics.quadratic_kappa(x[:, 0], x[:, 1]), repeats)
        figures["grade"] = {
            "eyes": int(graded.sum()),
            "kappa": [kappa, low, high],
            "accuracy": float((truth == called_grade).mean()),
        }
        if 0 < (truth >= 2).sum() < len(truth):
            figures["grade"]["referable_auc"] = _bounded(truth >= 2, steps[:, 2:].sum(1), metrics.auc, repeats)
    return figures


def _bounded(truth: np.ndarray, score: np.ndarray, statistic, repeats: int) -> list[float]:
    """[value, low, high] of a statistic of truth and score."""
    both = np.column_stack([truth, score])
    low, high = metrics.interval(both, lambda x: statistic(x[:, 0] > 0, x[:, 1]), repeats)
    return [statistic(truth, score), low, high]


def synthesis(recipe: EvaluateRecipe) -> dict[str, Any]:
    """Figures of the planes on their test splits, in the photographs' own frames."""
    return {
        "disc_cup": _disc_cup(recipe),
        "lesions": _lesions(recipe),
        "vessels": _vessels(recipe),
        **angiograms.figures(_reader, recipe.data, recipe.repeats, recipe.limit),
        "msi": spectra.figures(_reader, recipe.data, recipe.repeats, recipe.limit),
    }


def _read(recipe: EvaluateRecipe, name: str) -> Iterator[tuple[str, Path, Any]]:
    folder = recipe.data / "seg" / name
    rows = [row for row in data.read_table(folder / "index.csv") if row["split"] == "test"]
    for row in rows[: recipe.limit]:
        path = next((folder / "images").glob(f"{row['stem']}.*"))
        yield row["stem"], folder, _reader(photograph.read(path), override=True)


def _mask(folder: Path, kind: str, stem: str, like: np.ndarray) -> np.ndarray:
    path = folder / kind / f"{stem}.png"
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 if path.exists() else np.zeros(like.shape, bool)


def _disc_cup(recipe: EvaluateRecipe) -> dict[str, Any]:
    scores = []
    for stem, folder, report in _read(recipe, "drishti_disc_cup"):
        truth = [_mask(folder, f"masks_{part}", stem, report.planes["disc"].pixels) for part in ("OD", "OC")]
        made = [measures.largest_region(report.planes[part].pixels) for part in ("disc", "cup")]
        heights = [float(np.ptp(np.flatnonzero(region.any(axis=1))) + 1) for region in truth]
        wrong = abs((report.disc_cup.vcdr if report.disc_cup.vcdr is not None else 0.0) - heights[1] / heights[0])
        scores.append([metrics.dice(truth[0], made[0]), metrics.dice(truth[1], made[1]), wrong])
    return _means(np.array(scores), ("disc_dice", "cup_dice", "vcdr_error"), recipe.repeats)


def _lesions(recipe: EvaluateRecipe) -> dict[str, Any]:
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


def _vessels(recipe: EvaluateRecipe) -> dict[str, Any]:
    chase, classes = [], []
    for stem, folder, report in _read(recipe, "chase_vessels"):
        made = np.maximum(report.planes["artery"].pixels, report.planes["vein"].pixels) >= 0.5
        chase.append([metrics.dice(_mask(folder, "masks_vessel", stem, made), made)])
    for name in ("drive_av", "les_av"):
        for stem, folder, report in _read(recipe, name):
            made = [report.planes[part].pixels >= 0.5 for part in ("artery", "vein")]
            care = ~_mask(folder, "masks_crossing_or_unknown", stem, made[0])
            truth = [_mask(folder, f"masks_{part}", stem, made[0]) & care for part in ("artery", "vein")]
            classes.append([metrics.dice(t, m & care) for t, m in zip(truth, made, strict=True)])
    return {
        **_means(np.array(chase), ("chase_dice",), recipe.repeats),
        **_means(np.array(classes), ("artery_dice", "vein_dice"), recipe.repeats),
    }


def _means(scores: np.ndarray, names: tuple[str, ...], repeats: int) -> dict[str, list[float]]:
    """name -> [mean, low, high] of the columns."""
    bounds = [metrics.interval(scores[:, i], repeats=repeats) for i in range(len(names))]
    return {n: [float(scores[:, i].mean()), *bounds[i]] for i, n in enumerate(names)}


if __name__ == "__main__":
    settings = parse(EvaluateRecipe)[0]
    found = evaluate(settings)
    print("| figure | test value (95 % interval) |", "| --- | --- |", *model_card.headline(found), sep="\n")
    if settings.limit < 1_000_000:
        raise SystemExit("a rehearsal: the card was left alone")
    card = weights.read_card(settings.weights)
    error = found["synthesis"]["disc_cup"]["vcdr_error"][0]
    card = weights.save_card(settings.weights, dataclasses.replace(card, metrics=found, vcdr_error=error))
    (settings.weights / model_card.PAGE).write_text(model_card.page(card), encoding="utf-8")
