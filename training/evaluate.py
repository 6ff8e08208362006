"""The test figures of the shipped weights, through the shipped pipeline.

`python -m training.evaluate --weights weights` reads every test photograph with the gates overridden, writes the
figures with 95 % bootstrap intervals into the card, and prints the most important as Markdown. Nothing is chosen here.
Stopped, it goes on where it was: what the pipeline said is kept below runs/evaluation.
"""

import dataclasses
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from qmmfl import weights

from . import data, model_card, plane_figures, reading_figures, scores, strangers
from .recipe import FRESH, WHOLE, Scoring, parse


@dataclasses.dataclass(frozen=True)
class EvaluateRecipe(Scoring):
    """What `training.evaluate` takes."""

    planes: bool = True  # also the figures of the planes, which are not cached


def evaluate(recipe: EvaluateRecipe) -> dict[str, Any]:
    """All figures, rounded to four decimals; what cannot be computed is None."""
    with ProcessPoolExecutor(recipe.workers, FRESH, initializer=scores.start, initargs=(recipe.weights,)) as pool:
        made = pool.submit(plane_figures.figures, recipe) if recipe.planes else None
        cases = locked_cases(recipe)
        figures: dict[str, Any] = {"intervals": "patients"}
        figures |= {"classification": classification(recipe, pool, cases), "gates": gates(recipe, pool, cases)}
        figures |= {"synthesis": made.result()} if made else {}
    return rounded(figures)


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures as JSON types, rounded to four decimals; what is no number is None."""
    text = json.dumps(figures, default=float)
    return json.loads(text, parse_float=lambda number: round(float(number), 4), parse_constant=lambda _: None)


def locked_cases(recipe: Scoring) -> list[data.Case]:
    """The test photographs, at most `limit` of each set; angiograms stand for other pictures."""
    seen: Counter[str] = Counter()
    cases = []
    for case in data.cases(recipe.data):
        if case.split == "test" and seen[case.folder] < recipe.limit:
            seen[case.folder] += 1
            cases.append(case)
    return cases


def classification(recipe: Scoring, pool: ProcessPoolExecutor, cases: list[data.Case]) -> dict[str, Any]:
    """Findings, grade, calibration and abstention per data set on the locked test split."""
    every = _scores(recipe, pool, cases)
    promises = weights.read_card(recipe.weights).metrics.get("conformal", {})
    result = {}
    for folder in sorted({case.folder for case in cases}):
        rows = np.flatnonzero([case.folder == folder for case in cases])
        result[folder] = reading_figures.of_folder([cases[i] for i in rows], every[rows], promises, recipe.repeats)
    return result


def gates(recipe: Scoring, pool: ProcessPoolExecutor, cases: list[data.Case]) -> dict[str, Any]:
    """What is no fundus photograph, real and made, and good photographs: refused and counted."""
    photographs = [case.path for case in cases if case.fundus == 1 and case.gradable != 0]
    plan = list(strangers.plan(photographs, min(strangers.COUNT, recipe.limit)))
    keys = [f"{kind}/{number}/{key(recipe, path)}" for kind, number, path in plan]
    rows = scores.cached(pool, recipe.weights, keys, plan, _read_stranger)
    made = {
        kind: scores.Scores.of([row for row, (k, _, _) in zip(rows, plan, strict=True) if k == kind])
        for kind in dict.fromkeys(kind for kind, _, _ in plan)
    }
    return reading_figures.gates(cases, _scores(recipe, pool, cases), made)


def _scores(recipe: Scoring, pool: ProcessPoolExecutor, cases: list[data.Case]) -> scores.Scores:
    paths = [case.path for case in cases]
    rows = scores.cached(pool, recipe.weights, [key(recipe, path) for path in paths], paths, scores.read)
    return scores.Scores.of(rows)


def key(recipe: Scoring, path: str) -> str:
    """What the cache calls a photograph: its place below the data folder."""
    return str(Path(path).relative_to(recipe.data)) if path else ""


def _read_stranger(what: tuple[str, int, str]) -> dict[str, Any]:
    return scores.read(strangers.picture(what))


if __name__ == "__main__":
    settings = parse(EvaluateRecipe)[0]
    found = evaluate(settings)
    card = weights.read_card(settings.weights)
    card = dataclasses.replace(card, metrics={**card.metrics, **found})
    print(*(f"{title}: {value}" for title, value, _, _ in model_card.rows(card)), sep="\n")
    if settings.limit < WHOLE or not settings.planes:
        raise SystemExit("a rehearsal: the card was left alone")
    error, tubes = found["synthesis"]["disc_cup"]["vcdr_error"][0], found["synthesis"]["vessels"]
    off = {name.removesuffix("_error"): tubes[name][0] for name in plane_figures.CALIBRES if name in tubes}
    card = dataclasses.replace(card, vcdr_error=error, vessel_errors=off)
    weights.save_card(settings.weights, card)
    model_card.write(settings.weights)
