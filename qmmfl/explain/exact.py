"""Exact maps: the heads are linear in what they read, so that where a score comes from is read, not estimated.

logit = bias + sum over modalities of the mean over positions of the map (class activation maps, Zhou et al. 2016, with
one map per modality). The heads read fused features, for which every modality has seen the others, and beside them what
an encoder says on its own: a share is not that modality's evidence alone, which dropping it answers (`whatif`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from .. import labels
from ..nets import OUTPUTS, Network
from .reading import NAMES, Reading


@dataclass(frozen=True, eq=False)
class Exact:
    """All scores of one eye. Units: logit, before calibration.

    maps: code -> float32 (M, h, w), modalities as in `labels.MODALITIES`, signed: below zero lowers the score.
    shares: code -> {modality: mean of its map, "bias": what every eye gets}; they add up to `logits`.
    """

    maps: Mapping[str, np.ndarray]
    shares: Mapping[str, Mapping[str, float]]
    logits: Mapping[str, float]


@torch.no_grad()
def open_heads(network: Network, reading: Reading) -> Exact:
    """Exact maps and shares of every score in `NAMES`, assessed or not; a thousandth of a forward pass."""
    every = network.heads.maps(reading.fused)[0].float().cpu().numpy()
    logits = network.heads(reading.fused)[0].float().cpu().numpy()
    bias = network.heads.bias.float().cpu().numpy()
    rows = {code: OUTPUTS.index(code) for code in NAMES}
    return Exact(
        maps={code: every[row] for code, row in rows.items()},
        shares={code: _shares(every[row], float(bias[row])) for code, row in rows.items()},
        logits={code: float(logits[row]) for code, row in rows.items()},
    )


def _shares(maps: np.ndarray, bias: float) -> dict[str, float]:
    means = maps.mean(axis=(1, 2), dtype=np.float64)
    return {**{m.name: float(share) for m, share in zip(labels.MODALITIES, means, strict=True)}, "bias": bias}
