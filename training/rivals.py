"""Models that the fusion is compared with: the paper's own fusion, a plain ResNet-18."""

import torch
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets import OUTPUTS, Config
from qmmfl.nets.blocks import ChannelCalibration, CrossModalAttention, ResidualBlock
from qmmfl.nets.fusion import AdditiveHeads

_MODALITIES = len(labels.MODALITIES)


def _heads(channels: int) -> AdditiveHeads:
    return AdditiveHeads(len(OUTPUTS), 1, channels, len(labels.GRADES))


class PaperFusion(nn.Module):
    """The fusion of QMP-RETNet (arXiv 2602.03622), written anew from its figure 2; what is silent there as released.

    3x3 convolution with skip per modality -> all channels together through squeeze-excite with residual -> 1x1
    convolution to the shared context -> one attention block of two heads per modality, whose query is the modality
    -> all channels together, per position an MLP (GELU, dropout 0.15), mean over positions, linear. The attention
    block is ours (the release leaves out its residual), and so are the features and the losses: what is compared is
    the way of fusing. (B, M, D, h, w) -> logits (B, outputs).
    """

    def __init__(self, config: Config, dropout: float = 0.15) -> None:
        super().__init__()
        channels, total = config.features, config.features * _MODALITIES
        self.refine = nn.ModuleList(ResidualBlock(channels) for _ in range(_MODALITIES))
        self.calibration = ChannelCalibration(total)
        self.context = nn.Conv2d(total, channels, 1)
        self.attention = nn.ModuleList(CrossModalAttention(channels, 2) for _ in range(_MODALITIES))
        self.mlp = nn.Sequential(
            nn.Conv2d(total, channels, 1), nn.GELU(), nn.Dropout(dropout), nn.Conv2d(channels, channels, 1)
        )
        self.heads = _heads(channels)  # of one "modality" it is the mean over positions and a linear layer

    def forward(self, features: Tensor) -> Tensor:
        """(B, M, D, h, w) -> (B, outputs)."""
        refined = [refine(features[:, m]) for m, refine in enumerate(self.refine)]
        context = self.context(self.calibration(torch.cat(refined, dim=1)))
        attended = [attend(refined[m], context) for m, attend in enumerate(self.attention)]
        return self.heads(self.mlp(torch.cat(attended, dim=1))[:, None])


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with a linear layer on its mean features, as it is usually fine-tuned.

    init: "none" (from scratch) or "imagenet" (torchvision's own weights, fetched by torchvision).
    Views (B, 3, v, v) in 0..1 -> (logits (B, outputs), extras (B, 2)).
    """

    def __init__(self, init: str = "none") -> None:
        super().__init__()
        from torchvision.models import ResNet18_Weights, resnet18

        if init not in ("none", "imagenet"):
            raise ValueError(f"there is no start named {init}; choose none or imagenet")
        net = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1 if init == "imagenet" else None)
        self.trunk = nn.Sequential(*list(net.children())[:-2])  # all but the mean and the layer for ImageNet's classes
        self.heads = _heads(512)
        self.extras = nn.Linear(512, 2)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Views (B, 3, v, v) in 0..1 -> (logits (B, outputs), extras (B, 2))."""
        features = self.trunk((views - self.mean) / self.deviation)
        return self.heads(features[:, None]), self.extras(features.mean(dim=(-2, -1)))
