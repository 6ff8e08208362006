"""Abstention with a guarantee: class-conditional split conformal prediction, per finding.

Label-conditional ("Mondrian") conformal predictors: Vovk, Lindsay, Nouretdinov, Gammerman 2003, "Mondrian confidence
machine"; Vovk 2012, "Conditional validity of inductive conformal predictors", arXiv 1209.2673. The nonconformity of
"present" is 1 - p, that of "absent" is p. Of the eyes with the finding at most `alpha` lose "present" from their
prediction set, of those without it at most `alpha` lose "absent": on average over validation sets, for eyes that are
exchangeable with the validation eyes (same cameras and patients of the same kind). Only ranks count, so it does not
matter that the same eyes fitted the calibration, which is monotone; that they also chose checkpoints does matter, and
costs a little of the promise: the card shows for each finding what was kept on test eyes.
"""

import numpy as np

ALPHA = 0.1
ALPHAS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # of the coverage curve


def band(truth: np.ndarray, probability: np.ndarray, threshold: float, alpha: float = ALPHA) -> tuple[float, float]:
    """(low, high): both answers are in the prediction set where low <= p <= high, one where p lies outside.

    truth bool (n,) and probability (n,) of validation eyes. The band is widened to hold `threshold`: sets only grow,
    the promise stands, none is empty, and an eye that is decided is decided the way the threshold calls it.
    Too few eyes of a class for any promise at this alpha (n + 1 < 1 / alpha) leave its side open: low 0 or high 1.
    """
    present, absent = np.sort(probability[truth]), np.sort(probability[~truth])[::-1]
    below, above = int(alpha * (len(present) + 1) + 1e-9), int(alpha * (len(absent) + 1) + 1e-9)
    low = float(present[below - 1]) if below else 0.0
    high = float(absent[above - 1]) if above else 1.0
    return min(low, threshold), max(high, threshold)


def promised(truth: np.ndarray, alpha: float = ALPHA) -> bool:
    """Whether there are enough eyes (bool truth) of both classes for a band with two closed sides."""
    return (min(truth.sum(), (~truth).sum()) + 1) * alpha >= 1 - 1e-9


def curve(truth: np.ndarray, probability: np.ndarray, bands: np.ndarray) -> list[dict[str, float]]:
    """The coverage curve on test eyes: for each band the decided share and the error among the decided.

    truth: bool (n,), probability: (n,), bands: (alphas, n, 2), each pair's own band. error is NaN where nothing is
    decided; wrong_present and wrong_absent are the shares that lost the true answer (promised: <= alpha).
    """
    result = []
    for low, high in np.moveaxis(bands, -1, 1):
        decided = (probability < low) | (probability > high)
        wrong = decided & ((probability > high) != truth)
        result.append(
            {
                "decided": float(decided.mean()),
                "error": float(wrong.sum() / decided.sum()) if decided.any() else float("nan"),
                "wrong_present": float(wrong[truth].mean()) if truth.any() else float("nan"),
                "wrong_absent": float(wrong[~truth].mean()) if (~truth).any() else float("nan"),
            }
        )
    return result
