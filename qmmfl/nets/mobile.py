"""EfficientNet-Lite (Tan & Le 2019; Lite: without squeeze-and-excitation, ReLU6), the trunk alone.

A public net of this shape has learnt from a million everyday photographs, and what it learnt there about edges and
textures carries over to the few hundred photographs on which anyone has outlined a lesion: see `training.imagenet`.
"""

from torch import Tensor, nn

from .config import STAGES


def level_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Channels of what `MobileTrunk.levels` gives, from the widths of the stages."""
    ends = [number for number, (_, stride, _) in enumerate(STAGES[1:]) if stride == 2]
    return tuple(widths[end] for end in (*ends, len(STAGES) - 1))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018), with a skip where the shape is kept.

    (B, inputs, H, W) -> (B, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = (nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True))
        self.body = nn.Sequential(
            *(expand if expansion > 1 else ()),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(inplace=True),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        return x + self.body(x) if self.skips else self.body(x)


class MobileTrunk(nn.Module):
    """Stem and seven stages: (B, inputs, S, S) -> (B, widths[-1], S / 32, S / 32).

    widths: channels of each stage, the stem has twice those of the first; depths: blocks of each stage.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        first = 2 * widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU6(inplace=True)
        )
        self.stages = nn.ModuleList()
        for before, width, depth, (kernel, stride, expansion) in zip(
            (first, *widths), widths, depths, STAGES, strict=False
        ):
            ends = [(before, stride)] + [(width, 1)] * (depth - 1)
            self.stages.append(nn.Sequential(*(InvertedResidual(a, width, kernel, s, expansion) for a, s in ends)))

    def levels(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, S, S) -> the last features of the strides 2, 4, 8, 16 and 32, of `level_widths` channels."""
        x, found = self.stem(x), []
        for stage, (_, stride, _) in zip(self.stages, STAGES, strict=True):
            if stride == 2:
                found.append(x)
            x = stage(x)
        return [*found, x]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, S, S) -> (B, widths[-1], S / 32, S / 32)."""
        return self.levels(x)[-1]
