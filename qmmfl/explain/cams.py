"""Class activation maps by the `grad-cam` package, second opinions beside the exact maps.

Grad-CAM: Selvaraju et al. 2017. HiResCAM: Draelos and Carin 2020. Eigen-CAM: Muhammad and Yeasin 2020, which asks for
no finding and shows what dominates the features. Score-CAM: Wang et al. 2020, one pass per channel. On what additive
heads read ("fused") Grad-CAM and HiResCAM are the exact map's positive part.
"""

from types import SimpleNamespace

import numpy as np
import torch

from ..nets import OUTPUTS
from .probe import Probe

_BATCH = 16  # masked inputs of Score-CAM per pass: bounds the memory


def draw_cam(probe: Probe, code: str, method: str) -> np.ndarray:
    """float32 (s, s) in 0..1, each map on its own scale; s is the side of the encoder's view, or of the features.

    method: "gradcam", "hirescam", "eigencam" or "scorecam". All zero where nothing raises the score.
    """
    import pytorch_grad_cam  # several seconds of import time that only these maps need
    from pytorch_grad_cam import score_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    score_cam.tqdm = SimpleNamespace(tqdm=iter)  # it would draw a progress bar on the server's terminal

    class EigenCAM(pytorch_grad_cam.EigenCAM):
        """With a sign: a principal component has none, so that half of the maps would show the complement."""

        def get_cam_image(self, *arguments):
            activations, projection = arguments[3], super().get_cam_image(*arguments)
            energy = np.square(activations).sum(axis=1)
            energy -= energy.mean(axis=(1, 2), keepdims=True)
            upright = (projection * energy).sum(axis=(1, 2), keepdims=True) >= 0
            return np.where(upright, projection, -projection)

    class ScoreCAM(pytorch_grad_cam.ScoreCAM):
        """Forgets what it has seen: its hook would keep the layer of every pass, a gigabyte in all."""

        def get_cam_weights(self, *arguments):
            self.activations_and_grads.release()
            return super().get_cam_weights(*arguments)

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
