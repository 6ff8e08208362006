"""Attributions by the captum package: second opinions that do not rest on the heads being linear.

Integrated gradients: Sundararajan et al. 2017. Occlusion: Zeiler and Fergus 2014. Ablation of whole modalities:
captum's FeatureAblation over groups of channels.
"""

import numpy as np
import torch

from .. import labels
from ..nets import OUTPUTS, Network
from .probe import ORDER, Probe, bare
from .reading import Reading

STEPS = 64  # of integrated gradients: half as many miss a sixth of a score of the photograph
WINDOWS = 8  # an occluded window is this share of the side, and moves by half of itself: about 225 passes
_BATCH = 16  # changed inputs per pass: bounds the memory


def integrate_gradients(probe: Probe, reading: Reading, code: str) -> np.ndarray:
    """float32 (s, s), signed [logit]; its sum is about the score minus that of the bare input (`probe.bare`).

    `STEPS` forward and backward passes through one encoder and the fusion, or ("fused") through the fusion.
    """
    from captum.attr import IntegratedGradients  # seconds of import time that only these maps need

    with torch.enable_grad():
        start = probe.start.detach().clone().requires_grad_()
        given = IntegratedGradients(probe).attribute(
            start,
            baselines=bare(probe, reading),
            target=OUTPUTS.index(code),
            n_steps=STEPS,
            internal_batch_size=_BATCH,
        )
    return given[0].detach().sum(dim=0).float().cpu().numpy()


def occlude(probe: Probe, reading: Reading, code: str) -> np.ndarray:
    """float32 (s, s), signed [logit]: how far the score falls, on average, when a window over this place is bare.

    A window is an eighth of the side wide and moves by half of that.
    """
    from captum.attr import Occlusion

    _, channels, side, _ = probe.start.shape
    width = max(2, side // WINDOWS)
    with torch.no_grad():
        given = Occlusion(probe).attribute(
            probe.start,
            sliding_window_shapes=(channels, width, width),
            strides=(channels, width // 2, width // 2),
            baselines=bare(probe, reading),
            target=OUTPUTS.index(code),
            perturbations_per_eval=_BATCH,
        )
    return given[0, 0].float().cpu().numpy()  # the window spans the channels, so that all of them say the same


def ablate_modalities(
    network: Network, reading: Reading, code: str, reference: np.ndarray | None = None
) -> dict[str, float]:
    """modality -> how far the score falls without it [logit]; the others still stand.

    Its features become zero ("nothing seen"), or `reference`, float (M, D): the mean features of other eyes.
    """
    from captum.attr import FeatureAblation

    probe = Probe(network, reading, labels.FUSED).eval()
    modalities, features = reading.features.shape[1:3]
    groups = torch.arange(modalities, device=probe.start.device).repeat_interleave(features)[None, :, None, None]
    baselines = 0 if reference is None else torch.from_numpy(reference).to(probe.start).reshape(1, -1, 1, 1)
    if isinstance(baselines, torch.Tensor):
        baselines = baselines.expand_as(probe.start)
    with torch.no_grad():
        given = FeatureAblation(probe).attribute(
            probe.start, baselines=baselines, target=OUTPUTS.index(code), feature_mask=groups, perturbations_per_eval=7
        )
    return {name: float(given[0, m * features, 0, 0]) for m, name in enumerate(ORDER)}
