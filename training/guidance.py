"""Where a score should come from: what fusion and heads are told beside what is in an eye.

The heads are additive, so that a score can be read place by place, but attention lets it gather anywhere. Here what
raises a score is asked to lie where the computed planes show the reason: right for the right reasons (Ross et al.
2017), with planes for annotations, so that it costs no mark by hand.
"""

import numpy as np
from torch import Tensor

from qmmfl import labels
from qmmfl.nets import GRADE, OEDEMA, OUTPUTS, THREAT

from . import planes
from .targets import Targets

PLACES = {  # output -> the plane that shows the reason, and which of its channels
    "DR": (labels.LESION_MAPS.name, slice(None)),
    GRADE: (labels.LESION_MAPS.name, slice(None)),
    THREAT: (labels.LESION_MAPS.name, slice(None)),
    OEDEMA: (labels.LESION_MAPS.name, slice(None)),
    "ODC": (labels.DISC_CUP.name, slice(0, 1)),
}
ROWS = [OUTPUTS.index(name) for name in PLACES]
_SEEN = 179  # of 255: a place that more probably than not has been marked
_LEAST = 1e-2  # share below which there is no more pull


def places(run: str, rows: np.ndarray, side: int) -> np.ndarray:
    """float16 (n, len(PLACES), side, side) of cached cases: the share of each cell's finest cells that show the plane.

    The finest cells are those of the encoders' features, 16 to a side. What such a cell sees lies around its upper left
    corner, see `qmmfl.grid`; half a cell at the right and at the bottom is seen by none.
    """
    fine = 16
    result = {}
    for name, channels in dict.fromkeys((name, (c.start, c.stop)) for name, c in PLACES.values()):
        store, span = planes.load(name, run), slice(*channels)
        seen = np.empty((len(rows), side, side), np.float16)
        for part in np.array_split(np.arange(len(rows)), len(rows) // 256 + 1):
            view = np.asarray(store[rows[part]])[..., span].max(axis=-1)
            cell = view.shape[-1] // fine
            before = cell // 2
            view = np.pad(view[:, :-before, :-before], ((0, 0), (before, 0), (before, 0)))
            shown = view.reshape(len(view), fine, cell, fine, cell).max(axis=(2, 4)) >= _SEEN
            seen[part] = shown.reshape(len(view), side, fine // side, side, fine // side).mean(axis=(2, 4))
        result[name, channels] = seen
    return np.stack([result[name, (c.start, c.stop)] for name, c in PLACES.values()], axis=1)


def positive(every: Targets) -> np.ndarray:
    """bool (N, len(PLACES)): eyes known to have what the output says."""
    graded = {GRADE: every.grade >= 1, THREAT: every.grade >= labels.VISION_THREATENING}
    return np.stack([graded[name] if name in graded else every.column(name) == 1 for name in PLACES], axis=1)


def loss(maps: Tensor, where: Tensor, wanted: Tensor) -> Tensor:
    """How little of what raises a score lies where it should, () in nats: mean over eyes and outputs of -log(share).

    maps: (B, len(PLACES), h, w), summed over modalities [logit]. where: likewise, 0..1. wanted: bool (B, len(PLACES));
    what is not wanted, shows no such place or has nothing above zero does not count.
    """
    raised = maps.clamp_min(0)
    total = raised.sum(dim=(-2, -1))
    share = (raised * where).sum(dim=(-2, -1)) / total.clamp_min(1e-6)
    counted = wanted & (where.amax(dim=(-2, -1)) > 0) & (total > 0)
    return -((share + _LEAST).log() * counted).sum() / counted.sum().clamp_min(1)
