"""Several models on the same eyes: their figures, and the difference to the fusion with paired intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qmmfl import labels
from qmmfl.nets import GRADE, OUTPUTS

from . import metrics
from .data import CODES
from .targets import Targets

GRADED = ("idrid", "rahim", "eyepacs")  # sets with a DR grade for every eye
BASE = "fusion"
_GRADE = OUTPUTS.index(GRADE)


def counted(every: Targets, least: int) -> list[str]:
    """Findings with at least `least` positive eyes, and one negative, among those of ODIR."""
    odir = every.binary[every.folder == "odir5k"]
    return [code for i, code in enumerate(CODES) if (odir[:, i] == 1).sum() >= least and (odir[:, i] == 0).any()]


def figures(every: Targets, logits: np.ndarray, rows: np.ndarray, codes: Sequence[str]) -> dict[str, float]:
    """macro_auc over `codes` in ODIR and AUC of referable DR per set, of the eyes `rows`; NaN where undefined.

    logits (N, len(OUTPUTS)) of all eyes `every`; rows: int (n,), possibly with repetitions.
    """
    odir = rows[every.folder[rows] == "odir5k"]
    aucs = []
    for code in codes:
        truth = every.column(code)[odir]
        aucs.append(metrics.auc(truth[truth >= 0] == 1, logits[odir, OUTPUTS.index(code)][truth >= 0]))
    known = [auc for auc in aucs if not np.isnan(auc)]
    result = {"macro_auc": float(np.mean(known)) if known else float("nan")}
    for folder in GRADED:
        here = rows[(every.folder[rows] == folder) & (every.grade[rows] >= 0)]
        result[f"referable_{folder}"] = metrics.auc(every.grade[here] >= labels.MORE_THAN_MILD, logits[here, _GRADE])
    return result


def compare(
    every: Targets, logits: Mapping[str, np.ndarray], codes: Sequence[str], repeats: int = 500, base: str = BASE
) -> dict[str, dict[str, Any]]:
    """Model -> its figures as [value, low, high], and "fusion_minus": {figure: [difference, low, high]}.

    logits: model -> (N, len(OUTPUTS)), the same eyes in the same order; base: the fusion among them. Every draw of
    patients is the same for all models: the intervals of the differences are paired.
    """
    names = list(logits)
    first = names.index(base)
    keys = ["macro_auc", *(f"referable_{folder}" for folder in GRADED)]

    def statistics(rows: np.ndarray) -> list[float]:
        values = np.array([list(figures(every, logits[name], rows, codes).values()) for name in names])
        return np.concatenate([values.ravel(), (values[first] - values).ravel()]).tolist()

    bounded = np.array(metrics.bounds(statistics, every.group, repeats)).reshape(2, len(names), len(keys), 3)
    result: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(names):
        own, less = ({k: v.tolist() for k, v in zip(keys, b[i], strict=True) if not np.isnan(v[0])} for b in bounded)
        result[name] = own if name == base else {**own, "fusion_minus": less}
    return result


def shuffled(every: Targets, seed: int) -> np.ndarray:
    """int (N,): for every eye another one of the same data set, so that only what is the eye's own is lost.

    A random cycle through each set: no eye keeps itself (but in a set of one).
    """
    generator = np.random.default_rng(seed)
    order = np.arange(len(every.folder))
    for folder in np.unique(every.folder):
        cycle = generator.permutation(np.flatnonzero(every.folder == folder))
        order[cycle] = np.roll(cycle, 1)
    return order
