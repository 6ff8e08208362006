"""Stage II, first half: one encoder per modality."""

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, ResidualBlock
from .config import EncoderConfig


class Encoder(nn.Sequential):
    """A small ResNet: (B, inputs, S, S) -> features (B, features, S / s, S / s), non-negative, s = 16 * unshuffle."""

    def __init__(self, config: EncoderConfig) -> None:
        a, b, c, d = config.widths
        super().__init__(
            ConvBlock(config.inputs * config.unshuffle**2, a, 2),
            ConvBlock(a, b, 2),
            ResidualBlock(b),
            ConvBlock(b, c, 2),
            ResidualBlock(c),
            ResidualBlock(c),
            ConvBlock(c, d, 2),
            ResidualBlock(d),
            ResidualBlock(d),
            nn.Conv2d(d, config.features, 1, bias=False),
            nn.BatchNorm2d(config.features),
            nn.ReLU(),
        )
        self.unshuffle = config.unshuffle

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, S, S) -> (B, features, S / s, S / s)."""
        return super().forward(F.pixel_unshuffle(x, self.unshuffle))
