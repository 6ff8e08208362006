"""What one encoder says on its own, for a `late_fusion`: linear heads on its cached features.

`python -m training.unimodal colour --run first --steps 1600 --batch 128 --rate 0.01` writes
runs/first/unimodal_colour/best.pt in a minute, once the run's features are cached.

`--guided 0.5` tells them where their scores should come from, as the fusion is told. Those that ship were not: with it
more of what raises a score lies in what people marked, but other cameras' eyes were graded worse on the locked test,
of which validation eyes had shown next to nothing.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets import OUTPUTS, Config
from qmmfl.nets.fusion import AdditiveHeads

from . import fusion
from .recipe import Recipe, parse


@dataclasses.dataclass(frozen=True)
class UnimodalRecipe(Recipe):
    """pool: cells of the features along a side that are averaged first; the scores are the same, `guidance` is coarser.

    guided: what `guidance` weighs, beside the loss of the heads.
    """

    pool: int = 2
    guided: float = 0.0


class UnimodalHeads(nn.Module):
    """Additive heads straight on the features of one modality's encoder: (B, M, D, h, w) -> logits (B, outputs)."""

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        self.heads = AdditiveHeads(len(OUTPUTS), 1, config.features, len(labels.GRADES))
        self.index = list(labels.BY_NAME).index(modality)

    def forward(self, features: Tensor, opened: Sequence[int] | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, M, D, h, w) -> (B, outputs); with `opened` outputs also their maps (B, len(opened), h, w)."""
        seen = features[:, self.index, None]
        if opened is None:
            return self.heads(seen)
        return self.heads(seen), torch.einsum("kmd,bmdhw->bkhw", self.heads.weight[opened], seen)


def train(modality: str, recipe: UnimodalRecipe) -> nn.Module:
    """Train the heads of one modality on the cached features of a run; returns the averaged module."""
    every, rows, features = fusion.known(recipe, recipe.pool)
    guide = fusion.open_guide(recipe.guided, recipe.run, rows, features.shape[-1], every)
    module = UnimodalHeads(Config(), modality)
    return fusion.fit(f"unimodal_{modality}", module, recipe, every, features, (modality,), guide=guide)


if __name__ == "__main__":
    chosen_recipe, chosen_modality = parse(UnimodalRecipe, modality=list(labels.BY_NAME))
    torch.manual_seed(chosen_recipe.seed)
    train(chosen_modality, chosen_recipe)
