"""Stage I: one small, independently trained net per synthesized modality."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .blocks import ConvBlock, PixelShuffleUp, ResidualBlock, local_contrast, pooled


@dataclass(frozen=True)
class SynthesisConfig:
    """One synthesis net.

    size: side of the square it works on [px]. inputs: "colour" (RGB), "contrast" (see `local_contrast`) or "both".
    unshuffle: pixels per side folded into channels before the first convolution, so that no wide layer runs at full
    resolution. widths: channels per level, each level half the resolution of the one before. planes: outputs.
    """

    size: int
    inputs: str
    unshuffle: int
    widths: tuple[int, ...]
    planes: int

    @property
    def channels(self) -> int:
        """Channels of the net's input."""
        return 6 if self.inputs == "both" else 3


class SynthesisNet(nn.Module):
    """A residual U-Net (Ronneberger et al. 2015) between pixel unshuffle and pixel shuffle, skips added.

    `prepare` makes its input from the canonical square, `forward` gives logits; their sigmoid are the planes.
    """

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.config = config
        widths, fold = config.widths, config.unshuffle**2
        self.stem = nn.Sequential(nn.PixelUnshuffle(config.unshuffle), ConvBlock(config.channels * fold, widths[0]))
        self.encoder = nn.ModuleList(ResidualBlock(width) for width in widths)
        self.down = nn.ModuleList(ConvBlock(a, b, 2) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(PixelShuffleUp(b, a) for a, b in zip(widths, widths[1:], strict=False))
        self.decoder = nn.ModuleList(ResidualBlock(width) for width in widths[:-1])
        self.head = nn.Sequential(nn.Conv2d(widths[0], config.planes * fold, 1), nn.PixelShuffle(config.unshuffle))

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
        x = self.stem(x)
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(self.down[level - 1](x) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](skips[level] + self.up[level](x))
        return self.head(x)
