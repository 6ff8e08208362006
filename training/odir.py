"""ODIR-2019's own score of our outputs: mean of Cohen's kappa, F1 and AUC over its eight classes.

As the challenge's script defines it: the table of eyes and classes is flattened, a class is called above 0.5, kappa
and AUC are of the flattened table and F1 is "micro" over both answers, which equals accuracy. The challenge scores
patients (both eyes at once) on its own test set; here it is per eye, on eyes of our locked test split: a reference
point, not like for like.
"""

from collections.abc import Mapping

import numpy as np

from qmmfl import labels

from . import metrics
from .data import ODIR_CLASSES

CODES = tuple(labels.FINDINGS)
# ODIR's classes -> the findings that mean them. Glaucoma and cataract are read through proxies (cupping, media haze).
# ODIR files drusen, membranes, occlusions and the rest under "other"; neovascularisation comes with "A".
CLASSES: Mapping[str, tuple[str, ...]] = {
    "N": ("NORMAL",),
    "D": ("DR",),
    "G": ("ODC",),
    "C": ("MH",),
    "A": ("ARMD",),
    "H": ("HTR",),
    "M": ("MYA",),
    "O": ("OTHER", "ERM", "DN", "BRVO", "CRVO", "LS", "RS", "CRS", "ODP", "ODE", "CSR", "TSLN"),
}


def classes(probability: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of our findings, NaN where not assessed -> (N, 8) of ODIR's classes.

    Findings of one class are taken as independent, 1 - product of (1 - p), but for the membrane, whose eyes are
    labelled OTHER too: of these two the larger counts. A class of which nothing is assessed has probability 0.
    """
    known = np.nan_to_num(np.array(probability, float), nan=0.0)
    other, membrane = CODES.index("OTHER"), CODES.index("ERM")
    known[:, other] = np.maximum(known[:, other], known[:, membrane])
    known[:, membrane] = 0.0
    each = [1 - np.prod(1 - known[:, [CODES.index(code) for code in CLASSES[c]]], axis=1) for c in ODIR_CLASSES]
    return np.stack(each, axis=1)


def called_classes(called: np.ndarray) -> np.ndarray:
    """Calls bool (N, C) of our findings at their own thresholds -> bool (N, 8) of ODIR's classes."""
    return np.stack([called[:, [CODES.index(code) for code in CLASSES[c]]].any(axis=1) for c in ODIR_CLASSES], axis=1)


def score(truth: np.ndarray, probability: np.ndarray, called: np.ndarray | None = None) -> dict[str, float]:
    """kappa, f1, auc and their mean, "score", of tables (N, 8): truth 0 or 1, probability, called (above 0.5)."""
    called = probability > 0.5 if called is None else called
    true, made = np.asarray(truth).ravel() == 1, np.asarray(called).ravel()
    figures = {
        "kappa": metrics.quadratic_kappa(true.astype(int), made.astype(int), 2),  # two grades: weights are 0 and 1
        "f1": float((true == made).mean()),
        "auc": metrics.auc(true, np.asarray(probability).ravel()),
    }
    return {**figures, "score": float(np.mean(list(figures.values())))}
