"""The networks in plain torch, on a processor or a GPU."""

import copy

import numpy as np
import torch
from torch import Tensor

from .blocks import fold_norms
from .network import Network, bounded
from .runtime import NotFinite, Scores


class Eager:
    """Runs a copy of a network with its batch norms folded in, so that whoever hooks the original changes nothing."""

    def __init__(self, network: Network) -> None:
        """network: in evaluation mode, on the device that it shall run on."""
        self.network = copy.deepcopy(network).requires_grad_(False)
        fold_norms(self.network)
        self.device = network.heads.bias.device
        self.name = f"torch {torch.__version__} on {self.device.type}"

    @torch.inference_mode()
    def start(self, square: np.ndarray) -> "EagerPass":
        """A canonical square, uint8 (S, S, 3) RGB, made into the nets' inputs."""
        x = torch.from_numpy(square).to(self.device).permute(2, 0, 1)[None]
        return EagerPass(self.network, x.contiguous().float() / 255)  # pooling is slow in channels-last


class EagerPass:
    """See `runtime.Pass`."""

    def __init__(self, network: Network, x: Tensor) -> None:
        self.network, self.x, self.prepared = network, x, network.prepare(x)
        self.planes: dict[str, Tensor] = {}

    @torch.inference_mode()
    def synthesize(self, modality: str) -> np.ndarray:
        """float32 (k, s, s) in 0..1."""
        seen, field = self.prepared.pop(modality)
        self.planes[modality] = bounded(_finite(self.network.synthesis[modality](seen)), field)
        return _array(self.planes[modality])

    @torch.inference_mode()
    def view(self, modality: str) -> np.ndarray:
        """See `runtime.Pass`."""
        return _array(self.network.view(self.x, self.planes, modality))

    @torch.inference_mode()
    def fuse(self) -> Scores:
        """See `runtime.Pass`."""
        heads = self.network.heads
        fused = _finite(self.network.fuse(_finite(self.network.encode(self.x, self.planes))))
        logits, maps = _finite(heads(fused)), heads.maps(fused)
        features = fused[:, :, : self.network.config.features].mean(dim=(-2, -1))
        return Scores(*(_array(each) for each in (logits, heads.bias[None], _finite(maps), features)))


def _finite(values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise NotFinite
    return values


def _array(values: Tensor) -> np.ndarray:
    return values[0].float().cpu().numpy()
