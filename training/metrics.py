"""Figures of merit. No framework, so that a number does not depend on its version."""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of `ms_ssim`, finest scale first


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of bool truth (n,) and score (n,), ties count half; NaN without both classes."""
    truth = np.asarray(truth, bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the precision-recall curve (step-wise, ties in one step); NaN without positives."""
    truth, score = np.asarray(truth, bool).ravel(), np.asarray(score).ravel()
    if not truth.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    truth, score = truth[order], score[order]
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    hits = np.cumsum(truth)[ends]
    precision, recall = hits / (ends + 1), hits / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def score_counts(truth: np.ndarray, score: np.ndarray, bins: int = 4096) -> np.ndarray:
    """int64 (2, bins): how many positives and how many of all fall into each bin of score 0..1; eyes can be added."""
    level = np.clip((np.asarray(score, np.float32) * bins).astype(np.int64), 0, bins - 1)
    return np.stack([np.bincount(level[np.asarray(truth, bool)], minlength=bins), np.bincount(level, minlength=bins)])


def counted_precision(counts: np.ndarray) -> float:
    """Average precision of what `score_counts` counted, equal to that of the scores rounded to bins."""
    hits, drawn = counts[:, ::-1].cumsum(axis=1)
    if not hits[-1]:
        return float("nan")
    return float((np.diff(hits / hits[-1], prepend=0.0) * hits / np.maximum(drawn, 1)).sum())


def dice(truth: np.ndarray, mask: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two bool arrays; 1 when both are empty."""
    total = int(truth.sum()) + int(mask.sum())
    return 2 * int((truth & mask).sum()) / total if total else 1.0


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two arrays of the same size."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))


def detail(image: np.ndarray, care: np.ndarray) -> np.ndarray:
    """What is finer than a Gaussian blur of sigma 1/24 of the longer side, seen inside `care` (bool) only."""
    sigma = max(image.shape) / 24
    weight = cv2.GaussianBlur(care.astype(np.float32), (0, 0), sigma) + 1e-3
    return image - cv2.GaussianBlur((image * care).astype(np.float32), (0, 0), sigma) / weight


def detail_correlation(made: np.ndarray, true: np.ndarray, care: np.ndarray) -> float:
    """Correlation of the `detail` of two images inside `care` (bool)."""
    return correlation(detail(made, care)[care], detail(true, care)[care])


def tile_sums(a: np.ndarray, b: np.ndarray, care: np.ndarray, tiles: int = 8) -> np.ndarray:
    """float64 (tiles ** 2, 6): n, sums of a, b, a * a, b * b and a * b inside `care` of each tile of two images.

    Sums of tiles give correlations (`summed_correlation`), so that tiles can be drawn again for an interval.
    """
    a, b, n = (x.astype(np.float64) * care for x in (a, b, np.ones_like(a)))
    rows, columns = (np.linspace(0, side, tiles + 1).astype(int)[:-1] for side in a.shape)
    parts = [np.add.reduceat(np.add.reduceat(x, rows, 0), columns, 1).ravel() for x in (n, a, b, a * a, b * b, a * b)]
    return np.stack(parts, axis=1)


def summed_correlation(sums: np.ndarray) -> np.ndarray:
    """Pearson's r of sums (..., 6) as `tile_sums` gives them, added up over tiles."""
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread = (n * aa - a * a) * (n * bb - b * b)
    return (n * ab - a * b) / np.sqrt(np.maximum(spread, 1e-12))


def ms_ssim(a: np.ndarray, b: np.ndarray, care: np.ndarray) -> float:
    """Multi-scale structural similarity (Wang et al. 2003) of two images in 0..1, averaged inside `care` (bool)."""
    result, window = 1.0, {"ksize": (11, 11), "sigmaX": 1.5}
    a, b, care = a.astype(np.float32), b.astype(np.float32), care.astype(np.float32)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        ma, mb = cv2.GaussianBlur(a, **window), cv2.GaussianBlur(b, **window)
        va, vb = cv2.GaussianBlur(a * a, **window) - ma * ma, cv2.GaussianBlur(b * b, **window) - mb * mb
        alike = (2 * (cv2.GaussianBlur(a * b, **window) - ma * mb) + 0.03**2) / (va + vb + 0.03**2)
        if scale == len(_SCALE_WEIGHTS) - 1:
            alike = alike * (2 * ma * mb + 0.01**2) / (ma * ma + mb * mb + 0.01**2)
        inner = cv2.erode(care, np.ones((11, 11), np.uint8)) > 0.99
        inner = inner if inner.any() else care > 0
        result *= max(float(alike[inner].mean()), 0.0) ** weight
        half = (max(a.shape[1] // 2, 1), max(a.shape[0] // 2, 1))
        a, b, care = (cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (a, b, care))
    return result


def quadratic_kappa(truth: np.ndarray, grade: np.ndarray, grades: int = 5) -> float:
    """Cohen's kappa with quadratic weights of two integer arrays (n,); NaN where all truth is one grade."""
    if len(set(truth.tolist())) < 2:
        return float("nan")
    table = np.zeros((grades, grades))
    np.add.at(table, (truth, grade), 1)
    weights = (np.arange(grades)[:, None] - np.arange(grades)) ** 2
    chance = np.outer(table.sum(1), table.sum(0)) / max(table.sum(), 1)
    return float(1 - (weights * table).sum() / max((weights * chance).sum(), 1e-12))


def f1(truth: np.ndarray, called: np.ndarray) -> float:
    """2 TP / (2 TP + FP + FN) of two bool arrays (n,); NaN where nothing is true and nothing called."""
    total = int(truth.sum()) + int(called.sum())
    return 2 * int((truth & called).sum()) / total if total else float("nan")


def calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of bool truth (n,) and probability (n,) over equally filled bins."""
    order = np.array_split(np.argsort(probability), bins)
    gaps = [abs(truth[part].mean() - probability[part].mean()) * len(part) for part in order if len(part)]
    return float(sum(gaps) / len(truth))


def least_calibration_error(probability: np.ndarray, draws: int = 200, seed: int = 0) -> float:
    """The calibration error that is to be expected of so many eyes were the probabilities (n,) perfectly true."""
    generator = np.random.default_rng(seed)
    truths = generator.random((draws, len(probability))) < probability
    return float(np.mean([calibration_error(truth, probability) for truth in truths]))


FEW = 10  # eyes of which a share's interval is not drawn but computed


def reliability(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> list[list[float]]:
    """The calibration curve of bool truth (n,): [mean probability, observed share, eyes] of equally filled bins."""
    order = np.array_split(np.argsort(probability), bins)
    return [[float(probability[p].mean()), float(truth[p].mean()), len(p)] for p in order if len(p)]


def interval(values: np.ndarray, statistic=np.mean, repeats: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of `statistic` over the first axis of `values`."""
    generator = np.random.default_rng(seed)
    draws = [statistic(values[generator.integers(0, len(values), len(values))]) for _ in range(repeats)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def proportion(part: int, whole: int) -> list[float]:
    """[share, low, high]: the share and its 95 % interval (Wilson 1927), which is one where none was counted, too."""
    if not whole:
        return [float("nan")] * 3
    z2, share = 1.959964**2, part / whole
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = (z2 * (share * (1 - share) / whole + z2 / (4 * whole**2))) ** 0.5 / (1 + z2 / whole)
    return [share, middle - half, middle + half]


def plainly(bounded: list[float], whole: int) -> list[float]:
    """[share, low, high] of `bounds`, or of `proportion` where drawing `whole` eyes again can hardly tell: they are few
    or all alike.
    """
    share, low, high = bounded
    if np.isnan(share) or (whole >= FEW and low != high):
        return bounded
    return proportion(round(share * whole), whole)


def group_draws(groups: Sequence[str] | np.ndarray, repeats: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Bootstrap draws of whole groups: row numbers int64, as many groups with replacement as there are.

    Both eyes of a patient are drawn together, since they are not two independent observations (Field & Welsh 2007).
    The same groups, repeats and seed always give the same draws, so that two models can be compared in pairs.
    """
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(repeats):
        yield np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))])


def bounds(
    statistics: Callable[[np.ndarray], Sequence[float]],
    groups: Sequence[str] | np.ndarray,
    repeats: int = 500,
    seed: int = 0,
) -> list[list[float]]:
    """[value, low, high] of each of some statistics: on all rows, and the 95 % interval over draws of whole groups.

    statistics: row numbers (n,) -> k figures. A draw in which a figure is NaN (no positive drawn) does not count for
    it; a figure that is NaN in all draws keeps NaN bounds.
    """
    value = np.array(statistics(np.arange(len(groups))), float)
    drawn = np.array([statistics(rows) for rows in group_draws(groups, repeats, seed)], float)
    low_high = np.full((2, len(value)), np.nan)
    some = ~np.isnan(drawn).all(axis=0)
    if some.any():
        low_high[:, some] = np.nanpercentile(drawn[:, some], [2.5, 97.5], axis=0)
    return np.vstack([value, low_high]).T.tolist()
