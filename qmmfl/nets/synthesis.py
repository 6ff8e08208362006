"""Stage I: one small, independently trained net per synthesized modality."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, PixelShuffleUp, ResidualBlock, local_contrast, pooled, smoothed
from .config import DARKEST, SynthesisConfig
from .mobile import MobileTrunk, level_widths


class SynthesisNet(nn.Module):
    """A residual U-Net (Ronneberger et al. 2015) between pixel unshuffle and pixel shuffle, skips added.

    Its way down is an EfficientNet-Lite where the config gives `depths`.

    `prepare` makes its input from the canonical square, `forward` gives logits; their sigmoid are the planes.
    """

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.config = config
        widths, fold = config.widths, config.unshuffle**2
        if config.depths:
            self.trunk = MobileTrunk(config.channels, widths, config.depths)
            widths = level_widths(widths)
        else:
            self.stem = nn.Sequential(nn.PixelUnshuffle(config.unshuffle), ConvBlock(config.channels * fold, widths[0]))
            self.encoder = nn.ModuleList(ResidualBlock(width) for width in widths)
            self.down = nn.ModuleList(ConvBlock(a, b, 2) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(PixelShuffleUp(b, a) for a, b in zip(widths, widths[1:], strict=False))
        self.decoder = nn.ModuleList(ResidualBlock(width) for width in widths[:-1])
        if config.head == "affine":
            self.head = nn.Sequential(nn.Conv2d(widths[0], config.planes * 4, 1))
        else:
            self.head = nn.Sequential(nn.Conv2d(widths[0], config.planes * fold, 1), nn.PixelShuffle(config.unshuffle))

    def start_from(self, prior: float) -> None:
        """Let a fresh net answer about `prior` (0..1) everywhere, as rare structures are learnt sooner from there."""
        bias = cast(Tensor, cast(nn.Conv2d, self.head[0]).bias)
        nn.init.zeros_(bias)
        last = 3 if self.config.head == "affine" else 0
        nn.init.constant_(bias.view(self.config.planes, -1)[:, last:], math.log(prior / (1 - prior)))

    def adopt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """State dict of this net from that of one with the same widths: its own, or a related one's.

        A net that saw contrast alone lends its first convolution to one that sees colour too (which starts unseen). A
        head of other planes starts every plane from the mean of theirs (an angiogram from arteries and veins); a head
        of another kind is left as it is here. Other differences are load_state_dict's to refuse.
        """
        own, stem = self.state_dict(), "stem.1.0.weight"
        extra = 0 if self.config.depths else own[stem].shape[1] - state[stem].shape[1]
        if extra > 0:
            state = state | {stem: torch.cat([torch.zeros_like(own[stem][:, :extra]), state[stem]], dim=1)}
        for key in [k for k in own if k.startswith("head.") and k in state and state[k].shape != own[k].shape]:
            each = len(own[key]) // self.config.planes  # outputs of one plane
            like = self.config.head == "pixels" and len(state[key]) % each == 0
            mean = state[key].unflatten(0, (-1, each)).mean(0) if like else None
            state = state | {key: own[key] if mean is None else torch.cat([mean] * self.config.planes)}
        return state

    def prepare(self, square: Tensor) -> Tensor:
        """Canonical square (B, 3, S, S) in 0..1 -> this net's input (B, channels, size, size)."""
        colour = pooled(square, self.config.size)
        return self.arrange(colour, None if self.config.inputs == "colour" else local_contrast(colour))

    def arrange(self, colour: Tensor, contrast: Tensor | None) -> Tensor:
        """Colour in 0..1 and its local contrast, both (B, 3, size, size) -> this net's input."""
        if self.config.inputs == "contrast" and contrast is not None:
            return contrast
        if self.config.inputs == "both" and contrast is not None:
            return torch.cat([colour * 2 - 1, contrast], dim=1)
        return colour * 2 - 1

    def forward(self, x: Tensor) -> Tensor:
        """Prepared input or a patch of it (B, channels, h, w) -> logits (B, planes, h, w).

        h and w must be multiples of unshuffle * 2 ** (levels - 1).
        """
        colour = x[:, :3]
        skips = self.trunk.levels(x) if self.config.depths else self._descend(x)
        x = skips[-1]
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](skips[level] + self.up[level](x))
        x = self.head(x)
        return self._recolour(x, colour) if self.config.head == "affine" else x

    def _descend(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(self.down[level - 1](x) if level else x)
            skips.append(x)
        return skips

    def _recolour(self, maps: Tensor, colour: Tensor) -> Tensor:
        """Affine maps (B, planes * 4, h / u, w / u) and colour in -1..1 (B, 3, h, w) -> logits (B, planes, h, w)."""
        maps = F.interpolate(smoothed(maps), scale_factor=self.config.unshuffle, mode="bilinear", align_corners=False)
        gains, offset = maps.unflatten(1, (self.config.planes, 4)).split([3, 1], dim=2)
        logarithm = (colour.add(1).mul(0.5) + DARKEST).log()
        return (gains * logarithm[:, None]).sum(2) + offset[:, :, 0]
