"""Building blocks shared by the networks. Tensors are float32 (B, C, H, W)."""

import math
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvBlock(nn.Sequential):
    """3x3 convolution, batch norm, ReLU: (B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip (He et al. 2016), shape kept: (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return F.relu(x + self.second(self.first(x)))


class PixelShuffleUp(nn.Sequential):
    """1x1 convolution and pixel shuffle (Shi et al. 2016): (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


class ChannelCalibration(nn.Module):
    """Squeeze-and-excitation with a residual, the paper's calibration within a modality: x + x * s(x).

    (B, C, H, W) -> the same; s in 0..1 per channel (Hu et al. 2018; residual as in QMP-RETNet's figure 2).
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + x * self.gate(x)


class CrossModalAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017): query = one modality, key and value = all of them.

    query (B, C, H, W), context (B, C, h, w) -> (B, C, H, W): residual attention, then a residual two-layer MLP,
    each behind a layer norm over the channels.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_query, self.norm_context = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """query (B, C, H, W), context (B, C, h, w) -> (B, C, H, W)."""
        tokens = query.flatten(2).transpose(1, 2)  # (B, H * W, C)
        q = self._split(self.query(self.norm_query(tokens)))
        k, v = self.key_value(self.norm_context(context.flatten(2).transpose(1, 2))).chunk(2, dim=-1)
        drop = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, self._split(k), self._split(v), dropout_p=drop)
        tokens = tokens + self.out(seen.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(tokens)
        return tokens.transpose(1, 2).reshape(query.shape)

    def _split(self, tokens: Tensor) -> Tensor:
        batch, length, channels = tokens.shape
        return tokens.reshape(batch, length, self.heads, channels // self.heads).transpose(1, 2)


def smoothed(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> the same, weighted 1 2 1 along both axes: the checkerboard of pixel shuffles is gone, exactly."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, 2, 1), 2, 1)


def local_contrast(square: Tensor, cells: int = 32) -> Tensor:
    """Colour relative to its surround, which cameras and pigment change far less than colour itself.

    square (B, 3, S, S) in 0..1, black outside the field of view, S divisible by `cells`
    -> (B, 3, S, S), (x - local mean) / local deviation, clipped to -4..4, zero outside the field. The mean is taken
    over about 3 cells of S / cells pixels, the deviation over 7; both see only the field (after Graham 2015).
    """
    step = square.shape[-1] // cells
    part = math.gcd(step, 4)
    field = (square.amax(dim=1, keepdim=True) > 0.02).to(square.dtype)

    def average(values: Tensor) -> Tensor:
        """Over cells, in two steps: a single sum of a thousand float32 loses four digits, and takes longer."""
        return F.avg_pool2d(F.avg_pool2d(values, part), step // part)

    weight = average(field)

    def surround(values: Tensor, window: int) -> Tensor:
        pooled = F.avg_pool2d(average(values), window, 1, window // 2)
        return pooled / F.avg_pool2d(weight, window, 1, window // 2).clamp_min(1e-3)

    def enlarge(values: Tensor) -> Tensor:
        return F.interpolate(values, scale_factor=step, mode="bilinear", align_corners=False)

    centred = (square - enlarge(surround(square * field, 3))) * field
    deviation = surround(centred.square(), 7).clamp_min(0).sqrt()
    return (centred / (enlarge(deviation) + 0.02)).clamp(-4, 4)


def eight_bit(x: Tensor) -> Tensor:
    """Values in 0..1 as 8 bits keep them, the gradient as if they were whole.

    Encoders, fusion and calibrations learnt from views that were stored so: where a plane is next to nothing they have
    seen nothing at all, and half a grey level more moves their scores. Halves go up, as where OpenCV scales 8 bits.
    """
    return x + ((255 * x + 0.501).floor() / 255 - x).detach()


def pooled(x: Tensor, size: int, *, peaks: bool = False) -> Tensor:
    """(B, C, S, S) -> (B, C, size, size) for S a multiple or a divisor of `size`.

    Averages, or keeps the largest value of each cell (`peaks`), so that a plane of tiny lesions survives.
    """
    side = x.shape[-1]
    if side == size:
        return x
    if side < size:
        return F.interpolate(x, scale_factor=size // side, mode="bilinear", align_corners=False)
    return (F.max_pool2d if peaks else F.avg_pool2d)(x, side // size)


def fold_norms(module: nn.Module) -> None:
    """Fold every batch norm of an evaluated module into the convolution before it, in place.

    The outputs stay the same to rounding, a fifth sooner on a CPU; the module can neither be trained nor saved as
    weights afterwards.
    """
    for sequence in [part for part in module.modules() if isinstance(part, nn.Sequential)]:
        for number, (first, second) in enumerate(pairwise(list(sequence))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                sequence[number] = cast(nn.Conv2d, fuse_conv_bn_eval(first, second))
                sequence[number + 1] = nn.Identity()
