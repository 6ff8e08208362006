"""Whether a map can be trusted: it must change with the model, hit what it should, and matter to the score.

Arrays only, no photograph is read here; `training.sanity` measures the shipped weights with it.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
import torch
from torch import nn

from ..nets import OUTPUTS, Network
from .explanation import compute
from .probe import AllViews, blank
from .reading import Reading

PARTS = ("heads", "fusion", "encoders")  # in the order in which the cascade randomises them
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)  # of the field that a deletion curve erases


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of one size, ties share their rank; NaN where one is constant."""
    x, y = _ranks(a.ravel()), _ranks(b.ravel())
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / spread) if spread else float("nan")


def randomise(network: Network, part: str, seed: int = 0) -> Network:
    """A copy of the network with every weight of one of `PARTS` permuted within its tensor."""
    changed = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in cast(nn.Module, getattr(changed, part)).parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return changed


def cascade(
    network: Network, reading: Reading, code: str, method: str, modality: str, seed: int = 0
) -> dict[str, float]:
    """Rank correlation of the map with that of a network randomised further and further (Adebayo et al. 2018).

    part -> correlation, the parts cascading from the heads down. A map that stays near 1 shows the photograph and not
    the model. Runs on copies; the network must be borrowed.
    """
    straight = compute(network, reading, code, method, modality)
    result, changed = {}, network
    for number, part in enumerate(PARTS):
        changed = randomise(changed, part, seed + number)
        result[part] = rank_correlation(straight, compute(changed, _reread(changed, reading), code, method, modality))
    return result


def to_cells(square: np.ndarray, cells: int, *, peaks: bool = False) -> np.ndarray:
    """float32 (s, s) -> (cells, cells), means or (`peaks`) largest values; s becomes a multiple of `cells`."""
    side = -(-square.shape[0] // cells) * cells
    if side != square.shape[0]:
        square = cv2.resize(square.astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST)
    blocks = square.astype(np.float32).reshape(cells, side // cells, cells, side // cells)
    return blocks.max(axis=(1, 3)) if peaks else blocks.mean(axis=(1, 3))


def hits(cells: np.ndarray, target: np.ndarray) -> float:
    """Pointing game (Zhang et al. 2018): 1 where the highest of `cells` is one of bool `target`, else 0; ties share."""
    top = cells == cells.max()
    return float(target[top].mean())


def precision(cells: np.ndarray, target: np.ndarray) -> float:
    """Share 0..1 of the map's positive part that lies in bool `target` (Wang et al. 2020); NaN without any."""
    positive = np.clip(cells, 0, None)
    total = float(positive.sum())
    return float(positive[target].sum() / total) if total else float("nan")


def shuffled(cells: np.ndarray, field: np.ndarray, seed: int) -> np.ndarray:
    """The random map: the same values at random places of bool `field`."""
    result = np.zeros_like(cells)
    result[field] = np.random.default_rng(seed).permutation(cells[field])
    return result


@torch.no_grad()
def delete(
    network: Network, reading: Reading, code: str, square: np.ndarray, shares: Sequence[float] = SHARES
) -> np.ndarray:
    """Deletion curve (Petsiuk et al. 2018): the score [logit] with these shares of the field erased, highest first.

    float64 (len(shares) + 1,), the first is the score as it is. Erased is what all encoders see, with each channel's
    mean; the planes are not made anew. The steeper it falls against a random map, the more the map matters.
    """
    probe = AllViews(network, reading).eval()
    side = probe.start.shape[-1]
    field = reading.field(side)
    order = _order(square, field)
    empty = blank(probe.start, reading)
    steps = [probe.start]
    for share in shares:
        erased = np.zeros(side * side, bool)
        erased[order[: round(share * len(order))]] = True
        gone = torch.from_numpy(erased.reshape(1, 1, side, side)).to(probe.start.device)
        steps.append(torch.where(gone, empty, probe.start))
    return np.array([float(probe(step)[0, OUTPUTS.index(code)]) for step in steps])


@torch.no_grad()
def road(
    network: Network, reading: Reading, code: str, square: np.ndarray, percentiles: Sequence[int] = (70, 80, 90)
) -> float:
    """ROAD (Rong et al. 2022) by the grad-cam package [logit]: half of least minus most relevant removed.

    Higher is better, a random map gives about 0. Removed places are filled linearly from their neighbours, without the
    package's noise so that the figure is the same each time. Seconds per percentile: a sparse system is solved.
    """
    from pytorch_grad_cam.metrics import perturbation_confidence as package
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    probe = AllViews(network, reading).eval()
    side = probe.start.shape[-1]
    field = reading.field(side)
    order = _order(square, field)
    ranked = np.full(side * side, np.nan, np.float32)  # ranks: a percentile removes its share whatever the scale
    ranked[order] = np.linspace(1, 0.5, len(order), dtype=np.float32)
    targets, imputer = [ClassifierOutputTarget(OUTPUTS.index(code))], NoisyLinearImputer(noise=0.0)

    def change(remove, percentile: int, outside: float) -> float:
        cams = np.nan_to_num(ranked, nan=outside).reshape(1, side, side)
        metric = package.PerturbationConfidenceMetric(remove(percentile, imputer))
        return float(np.asarray(metric(probe.start, cams, targets, probe))[0])

    gaps = [
        change(package.RemoveLeastRelevantFirst, each, 2.0) - change(package.RemoveMostRelevantFirst, each, 0.0)
        for each in percentiles
    ]  # the camera's border is the last to be removed in both
    return float(np.mean(gaps)) / 2


def _reread(network: Network, reading: Reading) -> Reading:
    """The same views through another network."""
    with torch.no_grad():
        features = torch.stack([network.encoders[name](view) for name, view in reading.views.items()], dim=1)
        return replace(reading, features=features, fused=network.fuse(features))


def _order(square: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Places of `field` (flat indices), the highest of the enlarged map first; ties in reading order."""
    large = cv2.resize(square.astype(np.float32), field.shape, interpolation=cv2.INTER_LINEAR).ravel()
    inside = np.flatnonzero(field)
    return inside[np.argsort(-large[inside], kind="stable")]


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
