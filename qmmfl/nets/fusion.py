"""Stage II, second half: calibration within and across modalities, then additive heads.

After figure 2 of QMP-RETNet (arXiv 2602.03622): squeeze-excite with residual per modality, a context made of all
modalities, and one attention block per modality whose query is the modality and whose context is all of them.
The heads differ on purpose: they are linear in what they read, so that class maps are exact, and they read what each
encoder says beside what was made of it (late fusion): what a photograph or a map shows on its own need not pass the
attention, which has learnt from encoders that know its eyes by heart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ChannelCalibration, CrossModalAttention


class Fusion(nn.Module):
    """features (B, M, D, h, w) of M modalities -> fused features (B, M, D, h, w)."""

    def __init__(self, modalities: int, channels: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.calibration = nn.ModuleList(ChannelCalibration(channels) for _ in range(modalities))
        self.context = nn.Sequential(
            nn.Conv2d(modalities * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.attention = nn.ModuleList(CrossModalAttention(channels, heads, dropout) for _ in range(modalities))

    def forward(self, features: Tensor) -> Tensor:
        """(B, M, D, h, w) -> (B, M, D, h, w)."""
        calibrated = [gate(features[:, m]) for m, gate in enumerate(self.calibration)]
        context = self.context(torch.cat(calibrated, dim=1))
        return torch.stack([attend(calibrated[m], context) for m, attend in enumerate(self.attention)], dim=1)


class AdditiveHeads(nn.Module):
    """Linear outputs that are sums over modalities and means over positions (class maps: Zhou et al. 2016).

    logit_k = bias_k + sum_m mean_hw(weight[k, m] . Y[m]). The ordinal grade is two such scores against cut points
    (proportional odds, McCullagh 1980): the first says whether an eye is beyond grades 0 and 1, the second, of eyes
    with more than mild retinopathy, whether it is beyond 2 and 3: what tells severe from moderate is not what tells
    ill from healthy.
    """

    def __init__(self, outputs: int, modalities: int, channels: int, grades: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, modalities, channels) * 0.02)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.cut_first = nn.Parameter(torch.tensor(0.0))
        self.cut_steps = nn.Parameter(torch.zeros(grades - 2))

    @property
    def cuts(self) -> Tensor:
        """Increasing cut points of the grade (grades - 1,)."""
        return torch.cat([self.cut_first[None], self.cut_first + F.softplus(self.cut_steps).cumsum(0)])

    def forward(self, fused: Tensor) -> Tensor:
        """What `Network.fuse` gives (B, M, channels, h, w) -> logits (B, outputs)."""
        return self.bias + torch.einsum("kmd,bmd->bk", self.weight, fused.mean(dim=(-2, -1)))

    def maps(self, fused: Tensor) -> Tensor:
        """Likewise -> (B, outputs, M, h, w); bias + mean over positions, summed over M, is the logit."""
        return torch.einsum("kmd,bmdhw->bkmhw", self.weight, fused)
