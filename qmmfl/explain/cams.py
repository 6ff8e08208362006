"""Class activation maps by the `grad-cam` package, second opinions beside the exact maps.

Grad-CAM: Selvaraju et al. 2017. HiResCAM: Draelos and Carin 2020. Eigen-CAM: Muhammad and Yeasin 2020, which asks for
no finding and shows what dominates the features. Score-CAM: Wang et al. 2020, one pass per channel, but weighed by the
increase over the bare input itself: of scores that hardly differ the package's softmax makes one weight for all
channels, and the zeros that it lets nothing through with are half a lesion in a lesion map. On what additive heads read
("fused") Grad-CAM and HiResCAM are the exact map's positive part.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import grid
from ..nets import OUTPUTS
from .probe import Probe, bare
from .reading import Reading

_BATCH = 16  # masked inputs of Score-CAM per pass: bounds the memory


def draw_cam(probe: Probe, reading: Reading, code: str, method: str) -> np.ndarray:
    """float32 (s, s) in 0..1, each map on its own scale; s is the side of the encoder's view, or of the features.

    method: "gradcam", "hirescam", "eigencam" or "scorecam". All zero where nothing raises the score.
    """
    import pytorch_grad_cam  # several seconds of import time that only these maps need
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class EigenCAM(pytorch_grad_cam.EigenCAM):
        """With a sign: a principal component has none, so that half of the maps would show the complement."""

        def get_cam_image(self, *arguments):
            activations, projection = arguments[3], super().get_cam_image(*arguments)
            energy = np.square(activations).sum(axis=1)
            energy -= energy.mean(axis=(1, 2), keepdims=True)
            upright = (projection * energy).sum(axis=(1, 2), keepdims=True) >= 0
            return np.where(upright, projection, -projection)

    class ScoreCAM(pytorch_grad_cam.ScoreCAM):
        """With weights of its own, see above."""

        def get_cam_weights(self, *arguments):
            seen, _, targets, activations, _ = arguments
            self.activations_and_grads.release()  # its hook would keep the layer of every pass, a gigabyte in all
            empty = bare(probe, reading)
            masks = _masks(activations[0], seen.shape[-1]).to(seen).split(_BATCH)
            made = [targets[0](each) for part in masks for each in probe(empty + part * (seen - empty))]
            return (torch.stack(made) - targets[0](probe(empty)[0])).cpu().numpy()[None]

    kinds = {
        "gradcam": pytorch_grad_cam.GradCAM,
        "hirescam": pytorch_grad_cam.HiResCAM,
        "eigencam": EigenCAM,
        "scorecam": ScoreCAM,
    }
    cam = kinds[method](probe, [probe.layer])
    cam.batch_size = _BATCH
    try:
        with torch.set_grad_enabled(cam.uses_gradients):
            start = probe.start.detach().clone().requires_grad_(cam.uses_gradients)
            return cam(start, [ClassifierOutputTarget(OUTPUTS.index(code))])[0]
    finally:
        cam.activations_and_grads.release()


def _masks(channels: np.ndarray, side: int) -> Tensor:
    """float32 (C, h, h) -> (C, 1, side, side), each channel where it was seen, from 0 (its lowest) to 1."""
    cells = channels.shape[-1]
    if side > cells:  # a view; of all modalities, fused, the cells themselves are masked
        channels = np.stack([grid.align(each, cells) for each in channels])
    masks = F.interpolate(torch.from_numpy(channels)[:, None], (side, side), mode="bilinear", align_corners=False)
    low, high = masks.amin((-2, -1), keepdim=True), masks.amax((-2, -1), keepdim=True)
    return (masks - low) / (high - low + 1e-8)
