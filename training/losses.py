"""Losses of the synthesis nets. Logits and truth are (B, C, H, W), care (B, 1, H, W), truth and care in 0..1."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Terms = dict[str, Tensor]


def segmentation_loss(
    logits: Tensor, truth: Tensor, care: Tensor, weights: Sequence[float] = (), shares: Sequence[float] = ()
) -> Terms:
    """Cross entropy and soft Dice per class over the batch, only where `care` is 1.

    weights: what a positive pixel of each class counts in the cross entropy; shares: what each class counts.
    """
    count = truth.shape[1]
    positive = torch.tensor(weights or (1.0,) * count, device=truth.device)[:, None, None]
    share = torch.tensor(shares or (1.0,) * count, device=truth.device)
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=positive)
    entropy = (each * care).sum((0, 2, 3)) / care.sum().clamp_min(1)
    probability, truth = logits.sigmoid() * care, truth * care
    overlap, total = (probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3))
    present = (truth.sum((0, 2, 3)) > 0).float() * share
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return {"entropy": (entropy * share).sum(), "dice": 0.5 * (dice * present).sum() / present.sum().clamp_min(1)}


def image_loss(made: Tensor, truth: Tensor, care: Tensor) -> Terms:
    """L1, and one minus the correlation inside `care`: over 17 px windows, and over the patch, whole and with the mean
    over 51 px taken out. Correlations do not see a camera's own brightness and contrast.
    """
    level = ((made - truth).abs() * care).sum() / care.sum().clamp_min(1)
    a, b = made - local_mean(made), truth - local_mean(truth)
    covariance, va, vb, share = (F.avg_pool2d(x, 17, 4) for x in (a * b * care, a * a * care, b * b * care, care))
    alike = covariance / ((va + 1e-4) * (vb + 1e-4)).sqrt()
    inner = (share > 0.8).float()
    detail = ((1 - alike) * inner).sum() / inner.sum().clamp_min(1)
    whole = 1 - patch_correlation(made, truth, care).mean()
    vessels = 1 - vessel_correlation(made, truth, care).mean()
    return {"level": level, "detail": 0.5 * detail, "whole": 0.25 * whole, "vessels": 0.5 * vessels}


def vessel_correlation(made: Tensor, truth: Tensor, care: Tensor) -> Tensor:
    """`patch_correlation` with the mean over 51 px taken out."""
    return patch_correlation(made - local_mean(made, 51), truth - local_mean(truth, 51), care)


def patch_correlation(a: Tensor, b: Tensor, care: Tensor) -> Tensor:
    """Correlation of a and b (B, C, H, W) inside care (B, 1, H, W): (B, C), 0 where there is nothing to compare."""
    count = care.sum((2, 3)).clamp_min(1)
    a, b = ((x - (x * care).sum((2, 3), keepdim=True) / count[..., None, None]) * care for x in (a, b))
    variances = (a.square().sum((2, 3)) / count + 1e-4) * (b.square().sum((2, 3)) / count + 1e-4)
    return (a * b).sum((2, 3)) / count / variances.sqrt()


def colour_error(bands: Tensor, square: Tensor, to_colour: Tensor, blue: float) -> Tensor:
    """Mean absolute log ratio (B, 1, 1, 1) of the colours that bands give to those of the photograph.

    bands (B, 7, s, s); square (B, 3, s, s) in 0..1, sRGB; to_colour (7, 3). Exposure and white balance are free: the
    mean ratio of each channel is taken out. blue: what the blue channel counts.
    """
    seen = square.clamp_min(1e-3).pow(2.2)
    given = torch.einsum("bkhw,kc->bchw", bands, to_colour.to(bands)).clamp_min(1e-3)
    usable = ((square.amax(1, keepdim=True) > 0.05) & (square < 0.97)).float()
    ratio = (given / (seen + 2e-3)).log()
    ratio = ratio - (ratio * usable).sum((2, 3), keepdim=True) / usable.sum((2, 3), keepdim=True).clamp_min(1)
    each = (ratio.abs() * usable).sum((2, 3)) / usable.sum((2, 3)).clamp_min(1)
    return (each @ each.new_tensor([1, 1, blue]) / (2 + blue))[:, None, None, None]


def local_mean(values: Tensor, window: int = 17) -> Tensor:
    """Local mean of the same size (B, C, H, W)."""
    rows = F.avg_pool2d(values, (window, 1), 1, (window // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, window), 1, (0, window // 2), count_include_pad=False)
