"""The whole model: square -> planes -> features -> the same fused, beside them -> logits and exact maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .. import labels
from .blocks import eight_bit, local_contrast, pooled
from .config import OUTPUTS, PEAKS, Config
from .encoders import Encoder
from .fusion import AdditiveHeads, Fusion
from .synthesis import SynthesisNet


@dataclass(frozen=True, eq=False)
class Output:
    """planes: modality -> (B, k, s, s) in 0..1; fused: (B, M, 2 D, h, w); logits: (B, len(OUTPUTS)), uncalibrated."""

    planes: Mapping[str, Tensor]
    fused: Tensor
    logits: Tensor


class Network(nn.Module):
    """The complete network. Modalities are in the order of `labels.MODALITIES`, outputs in that of `OUTPUTS`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.synthesis = nn.ModuleDict({m.name: SynthesisNet(config.synthesis[m.name]) for m in labels.SYNTHESES})
        self.encoders = nn.ModuleDict({m.name: Encoder(config.encoders[m.name]) for m in labels.MODALITIES})
        self.fusion = Fusion(len(labels.MODALITIES), config.features, config.heads)
        self.heads = AdditiveHeads(len(OUTPUTS), len(labels.MODALITIES), 2 * config.features, len(labels.GRADES))

    def prepare(self, square: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Canonical square (B, 3, S, S) in 0..1 -> modality -> (its net's input, field of view (B, 1, s, s)).

        Nets of the same size share the costly part, the local contrast.
        """
        nets = {m.name: cast(SynthesisNet, self.synthesis[m.name]) for m in labels.SYNTHESES}
        colours = {size: pooled(square, size) for size in {net.config.size for net in nets.values()}}
        wanted = {net.config.size for net in nets.values() if net.config.inputs != "colour"}
        contrasts = {size: local_contrast(colours[size]) for size in wanted}
        fields = {size: (c.amax(dim=1, keepdim=True) > 0).to(c.dtype) for size, c in colours.items()}
        return {
            name: (net.arrange(colours[net.config.size], contrasts.get(net.config.size)), fields[net.config.size])
            for name, net in nets.items()
        }

    def synthesize(self, prepared: Mapping[str, tuple[Tensor, Tensor]], modality: str) -> Tensor:
        """What `prepare` made -> planes (B, k, s, s) in 0..1 of one modality, zero outside the field of view."""
        x, field = prepared[modality]
        return bounded(self.synthesis[modality](x), field)

    def view(self, square: Tensor, planes: Mapping[str, Tensor], modality: str) -> Tensor:
        """What a modality's encoder sees: (B, k, v, v) with v = `Config.seen`."""
        side = self.config.seen(modality)
        if modality == labels.COLOUR.name:
            return colour_view(eight_bit(pooled(square, side)))
        return eight_bit(pooled(planes[modality], side, peaks=modality in PEAKS)) * 2 - 1

    def encode(self, square: Tensor, planes: Mapping[str, Tensor]) -> Tensor:
        """Square and planes of all modalities -> features (B, M, D, h, w)."""
        names = [m.name for m in labels.MODALITIES]
        return torch.stack([self.encoders[name](self.view(square, planes, name)) for name in names], dim=1)

    def fuse(self, features: Tensor) -> Tensor:
        """Features (B, M, D, h, w) -> what the heads read (B, M, 2 D, h, w): fused features, then those that came."""
        return torch.cat([self.fusion(features), features], dim=2)

    def forward(self, square: Tensor) -> Output:
        """Canonical square (B, 3, S, S) in 0..1 -> Output. Differentiable from end to end."""
        prepared = self.prepare(square)
        planes = {m.name: self.synthesize(prepared, m.name) for m in labels.SYNTHESES}
        fused = self.fuse(self.encode(square, planes))
        return Output(planes, fused, self.heads(fused))


def bounded(logits: Tensor, field: Tensor) -> Tensor:
    """A synthesis net's logits (B, k, s, s) -> planes in 0..1, zero outside the field of view (B, 1, s, s)."""
    return logits.sigmoid() * field


def colour_view(square: Tensor) -> Tensor:
    """(B, 3, v, v) in 0..1 -> what the colour encoder sees (B, 6, v, v): colour in -1..1 and local contrast."""
    return torch.cat([square * 2 - 1, local_contrast(square) / 2], dim=1)
