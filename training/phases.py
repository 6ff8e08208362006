"""Which phase an angiogram shows: a small classifier of real frames only, to judge the synthesized ones.

`python -m training.phases --data FOLDER` prints how often it is right on real frames that it was not fitted on.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from qmmfl import fundus

from . import data

SIDE = 256  # [px] frames are compared at this side, so that cameras and sharpness count little
SCALES = (2.0, 4.0)  # [px] of the ridges: vessels, not noise


class Phase:
    """A fitted classifier; `accuracy` is its leave-one-out accuracy on the real frames."""

    def __init__(self, model: Any, accuracy: float) -> None:
        self.model, self.accuracy = model, accuracy

    def says_arterial(self, plane: np.ndarray) -> bool:
        """Whether a synthesized angiogram, float (H, W) in 0..1, looks like an arterial frame."""
        grey = np.repeat((plane.clip(0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)
        return bool(self.model.predict(describe(fundus.canonical(grey, fundus.Prep(SIDE))[0])[None])[0])


def train(folder: Path) -> Phase:
    """Fit arterial against venous on the labelled frames of ffa_phase."""
    from sklearn.linear_model import LogisticRegression  # of the train extra: the tests do without it
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = data.read_table(folder / "ffa/ffa_phase/index.csv")
    rows = [row for row in rows if row["phase"] in ("arterial", "venous") and not row["duplicate_of"]]
    squares = (_square(folder / "ffa/ffa_phase/ffa" / f"{row['stem']}.webp") for row in rows)
    described = np.array([describe(square) for square in squares])
    arterial = np.array([row["phase"] == "arterial" for row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    accuracy = float((cross_val_predict(model, described, arterial, cv=LeaveOneOut()) == arterial).mean())
    return Phase(model.fit(described, arterial), accuracy)


def _square(path: Path) -> np.ndarray:
    return data.square_of(path, fundus.Prep(SIDE))


def describe(square: np.ndarray) -> np.ndarray:
    """float64 (8,) of a frame uint8 (SIDE, SIDE, 3): bright and dark ridges, skew and spread, free of exposure."""
    grey = square.mean(axis=2, dtype=np.float32)
    inside = cv2.erode((grey > 0).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    surround = cv2.GaussianBlur(grey, (0, 0), SIDE / 12) + 4
    level = np.log((grey + 4) / surround)
    result = []
    for scale in SCALES:
        smooth = cv2.GaussianBlur(level, (0, 0), scale)
        xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=5) for order in ((2, 0), (0, 2), (1, 1)))
        middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        bright, dark = (np.maximum(x, 0)[inside].mean() for x in (spread - middle, spread + middle))
        result += [np.log(bright + 1e-6), np.log(bright / (dark + 1e-6) + 1e-6)]
    values = level[inside]
    centred = values - values.mean()
    skew = (centred**3).mean() / max(float(centred.std()), 1e-3) ** 3
    low, middle, high = np.percentile(values, [2, 50, 98])
    coarse = np.log(surround[inside])
    return np.array([*result, skew, high - middle, middle - low, coarse.std()], np.float64)


if __name__ == "__main__":
    from .recipe import Settings, parse

    print(f"leave-one-out accuracy on real frames: {train(parse(Settings)[0].data).accuracy:.3f}")
