"""An encoder's start without labels: `python -m training.pretrain colour --steps 1500 --batch 32 --side 256`.

Masked image modelling (Xie et al. 2022, SimMIM) on the cached views of the training split, labelled or not: blocks of
the view are hidden, and from the encoder's features a small decoder gives back what was there, at a quarter of the
resolution, as local contrast (which cameras change less than colour). One forward pass per image, no negative pairs,
no large batch, no teacher: what two CPU cores can do. The encoder goes on with
`python -m training.encoders colour --start runs/<run>/pretrain_colour/best.pt`; whether that pays is to be measured.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets import Config
from qmmfl.nets.blocks import PixelShuffleUp, local_contrast
from qmmfl.nets.encoders import Encoder
from qmmfl.nets.network import colour_view

from . import augment, encoders, loop, planes
from .recipe import parse

BLOCKS = 8  # along a side; each is hidden or kept as a whole


@dataclasses.dataclass(frozen=True)
class PretrainRecipe(encoders.EncoderRecipe):
    """hidden: share of the blocks that are hidden; eyes: validation eyes."""

    hidden: float = 0.5
    eyes: int = 256


class Masked(nn.Module):
    """Encoder and a decoder that is thrown away: (views (B, k, v, v), kept (B, 1, v, v)) -> (B, k, v / f, v / f).

    f: pixels along a side that the decoder does not tell apart, a quarter of what the encoder folds into a cell.
    """

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        self.colour = modality == labels.COLOUR.name
        self.encoder = Encoder(config.encoders[modality])
        self.fold = 4 * config.encoders[modality].unshuffle
        planes_ = len(labels.BY_NAME[modality].planes)
        self.decoder = nn.Sequential(
            PixelShuffleUp(config.features, 32), nn.ReLU(), PixelShuffleUp(32, 16), nn.ReLU(), nn.Conv2d(16, planes_, 1)
        )

    def forward(self, views: Tensor, kept: Tensor) -> Tensor:
        """Views in 0..1, kept 0 or 1 -> the estimate of `target`."""
        seen = colour_view(views) if self.colour else views * 2 - 1
        return self.decoder(self.encoder(seen * kept))

    def target(self, views: Tensor) -> Tensor:
        """(B, k, v, v) in 0..1 -> (B, k, v / f, v / f): local contrast of a photograph, a plane itself."""
        return F.avg_pool2d(local_contrast(views) / 2 if self.colour else views * 2 - 1, self.fold)


def hide(side: int, count: int, share: float, generator: torch.Generator) -> Tensor:
    """float32 (count, 1, side, side): 0 in a random share of the BLOCKS x BLOCKS blocks, 1 elsewhere."""
    kept = (torch.rand((count, 1, BLOCKS, BLOCKS), generator=generator) >= share).float()
    return F.interpolate(kept, (side, side), mode="nearest")


def wrong(module: Masked, views: Tensor, kept: Tensor) -> Tensor:
    """Mean absolute error inside the hidden blocks and the field of view."""
    made, true = module(views, kept), loop.bare(module).target(views)
    hidden = F.avg_pool2d((1 - kept) * (views.amax(dim=1, keepdim=True) > 0), loop.bare(module).fold).expand_as(true)
    return ((made.float() - true).abs() * hidden).sum() / hidden.sum().clamp_min(1)


def train(modality: str, recipe: PretrainRecipe) -> nn.Module:
    """Train on every photograph of the training split whose colours (or planes) are real; the averaged module."""
    cases, views, usable = planes.views_of(modality, recipe.run)
    usable = usable & np.array([case.folder != "eyepacs_equalized" for case in cases])
    split = np.array([case.split for case in cases])
    rows, checked = (np.flatnonzero((split == name) & usable) for name in ("train", "val"))
    checked = checked[:: max(len(checked) // recipe.eyes, 1)]
    device, side = loop.device_of(recipe), recipe.side or Config().seen(modality)

    def draw(generator: torch.Generator) -> loop.Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        seen = encoders.tensor(views, numbers.choice(rows, recipe.batch), side, device)
        if modality == labels.COLOUR.name:
            seen = augment.colour(seen, generator)
        (seen,) = augment.flip([seen], generator, upside=False)
        (seen,) = augment.turn([seen], generator, degrees=20, zoom=0.12, shift=0.03)
        return {"views": seen, "kept": hide(side, recipe.batch, recipe.hidden, generator).to(device)}

    def loss(module: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        return {"hidden": wrong(module, batch["views"], batch["kept"])}

    def validate(module: nn.Module) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        found = []
        for part in np.array_split(checked, len(checked) // 32 + 1):
            kept = hide(side, len(part), recipe.hidden, generator).to(device)
            found.append(float(wrong(module, encoders.tensor(views, part, side, device), kept)))
        return {"score": -float(np.mean(found))}

    return loop.fit(f"pretrain_{modality}", Masked(Config(), modality), draw, loss, recipe, validate)


if __name__ == "__main__":
    chosen_recipe, chosen_modality = parse(PretrainRecipe, modality=[m.name for m in labels.MODALITIES])
    torch.manual_seed(chosen_recipe.seed)
    train(chosen_modality, chosen_recipe)
