"""The network as the attribution packages want it: one tensor in, one tensor of logits out.

The packages hook a layer. It is an identity of the probe's own, so that no hook ever sits on the shared network, and
gradients flow to the probe's input, so that no parameter has to want one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import labels
from ..nets import Network
from .reading import Reading

ORDER = tuple(labels.BY_NAME)


class Probe(nn.Module):
    """Logits (B, len(OUTPUTS)) as a function of what one modality's encoder sees, or of all features before the fusion.

    modality: its view (B, k, v, v) is the input and its features (B, D, h, w) are `layer`; the other modalities stand
    still. "fused": the features of all encoders (B, M * D, h, w) are the input, and `layer` is what any score is made
    of: of what `Network.fuse` gives, the channels that some head reads.
    told: called before every pass; what it raises ends the attribution.
    """

    def __init__(
        self, network: Network, reading: Reading, modality: str, told: Callable[[], object] | None = None
    ) -> None:
        super().__init__()
        self.network, self.modality, self.told = network, modality, told
        self.features = reading.features
        self.layer = nn.Identity()
        fused = modality == labels.FUSED
        self.start = reading.features.flatten(1, 2) if fused else reading.views[modality]
        self.heard = network.heads.weight.detach().any(dim=0).flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Input like `start` with any batch -> logits (B, len(OUTPUTS))."""
        if self.told:
            self.told()
        network, shape = self.network, self.features.shape[1:3]
        if self.modality == labels.FUSED:
            fused = network.fuse(x.unflatten(1, shape)).flatten(1, 2)
            whole = torch.zeros_like(fused)
            whole[:, self.heard] = self.layer(fused[:, self.heard])
            return network.heads(whole.unflatten(1, (len(ORDER), -1)))
        seen = list(self.features.expand(len(x), -1, -1, -1, -1).unbind(1))
        seen[ORDER.index(self.modality)] = self.layer(network.encoders[self.modality](x))
        return network.heads(network.fuse(torch.stack(seen, dim=1)))


class AllViews(nn.Module):
    """Logits as a function of what all encoders see, one modality's channels after the other: (B, C, v, v).

    Pixels that an encoder folds into channels are folded here, so that one place is one place of every modality. What
    is erased here is erased for every modality; the planes are not synthesized anew.
    """

    def __init__(self, network: Network, reading: Reading) -> None:
        super().__init__()
        self.network = network
        self.folds = [network.config.encoders[name].unshuffle for name in ORDER]
        views = [F.pixel_unshuffle(reading.views[name], fold) for name, fold in zip(ORDER, self.folds, strict=True)]
        self.channels = [view.shape[1] for view in views]
        self.start = torch.cat(views, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, v, v) -> logits (B, len(OUTPUTS))."""
        views = zip(ORDER, x.split(self.channels, dim=1), self.folds, strict=True)
        seen = [self.network.encoders[name](F.pixel_shuffle(view, fold)) for name, view, fold in views]
        features = torch.stack(seen, dim=1)
        return self.network.heads(self.network.fuse(features))


def bare(probe: Probe, reading: Reading) -> Tensor:
    """A probe's input without what could raise a score: a view without structure (`blank`), or no features at all.

    Features at their means would not do: the heads are linear in means, and half of every score would stay.
    """
    return torch.zeros_like(probe.start) if probe.modality == labels.FUSED else blank(probe.start, reading)


def blank(x: Tensor, reading: Reading) -> Tensor:
    """`x` (1, C, s, s) without structure: every channel at its mean inside the field of view, unchanged outside."""
    field = torch.from_numpy(reading.field(x.shape[-1])).to(x)
    mean = (x * field).sum(dim=(-2, -1), keepdim=True) / field.sum().clamp_min(1)
    return torch.where(field > 0, mean, x)
