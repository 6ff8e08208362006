"""Stage II, first half: one encoder per modality."""

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, ResidualBlock
from .config import EncoderConfig
from .mobile import MobileTrunk


class Encoder(nn.Sequential):
    """A small ResNet, or an EfficientNet-Lite where the config gives `depths`.

    (B, inputs, S, S) -> features (B, features, S / s, S / s), non-negative, s = 16 * unshuffle.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(
            *(_mobile(config) if config.depths else _residual(config)),
            nn.Conv2d(config.widths[-1], config.features, 1, bias=False),
            nn.BatchNorm2d(config.features),
            nn.ReLU(),
        )
        self.unshuffle = 1 if config.depths else config.unshuffle  # a trunk folds nothing, it strides

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, S, S) -> (B, features, S / s, S / s)."""
        return super().forward(F.pixel_unshuffle(x, self.unshuffle))


def _mobile(config: EncoderConfig) -> tuple[nn.Module, ...]:
    return (MobileTrunk(config.inputs, config.widths, config.depths),)


def _residual(config: EncoderConfig) -> tuple[nn.Module, ...]:
    a, b, c, d = config.widths
    return (
        ConvBlock(config.inputs * config.unshuffle**2, a, 2),
        ConvBlock(a, b, 2),
        ResidualBlock(b),
        ConvBlock(b, c, 2),
        ResidualBlock(c),
        ResidualBlock(c),
        ConvBlock(c, d, 2),
        ResidualBlock(d),
        ResidualBlock(d),
    )
