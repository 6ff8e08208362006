"""Stage II, second half: fusion and heads on the frozen features of all encoders.

`python -m training.fusion --pool 2 --steps 1000 --name fusion_coarse` first computes the features (see
`training.feature_cache`), then trains on means of four cells, in a fifth of the time; `--start
runs/first/fusion_coarse/best.pt` with other seeds makes the parts of a mean (`training.soup`). An ablation is a run
with other `--modalities`.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets import Config
from qmmfl.nets.fusion import AdditiveHeads, Fusion
from qmmfl.nets.network import OUTPUTS

from . import data, feature_cache, guidance, loop, targets
from .recipe import Recipe, parse


@dataclasses.dataclass(frozen=True)
class FusionRecipe(Recipe):
    """modalities: comma-separated names to keep, the others are zero; "all" keeps all.

    pool: cells of the features along a side that are averaged first. drop: chance that an eye is learnt without a
    modality, each on its own: encoders know the training eyes by heart, and a fusion that always sees all would trust
    the best of them too much. guided: what `guidance` weighs, beside the loss of the heads.
    """

    modalities: str = "all"
    pool: int = 1
    drop: float = 0.0
    guided: float = 0.0
    name: str = "fusion"


class FusionHeads(nn.Module):
    """Features (B, M, D, h, w) -> logits (B, outputs)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.fusion = Fusion(len(labels.MODALITIES), config.features, config.heads)
        self.heads = AdditiveHeads(len(OUTPUTS), len(labels.MODALITIES), config.features, len(labels.GRADES))

    def adopt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of exported weights, what is fused and what reads it; what reads the encoders' own features is left there."""
        own = {key: value for key, value in state.items() if key.startswith(("fusion.", "heads."))}
        return {**own, "heads.weight": own["heads.weight"][:, :, : self.heads.weight.shape[2]]}

    def forward(self, features: Tensor, opened: Sequence[int] | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(B, M, D, h, w) -> (B, outputs); with `opened` outputs also their maps (B, len(opened), h, w)."""
        fused = self.fusion(features)
        if opened is None:
            return self.heads(fused)
        return self.heads(fused), torch.einsum("kmd,bmdhw->bkhw", self.heads.weight[opened], fused)


def train(recipe: FusionRecipe) -> nn.Module:
    """Train fusion and heads; returns the averaged module."""
    every, rows, features = known(recipe, recipe.pool)
    wanted = [m.name for m in labels.MODALITIES] if recipe.modalities == "all" else recipe.modalities.split(",")
    module = FusionHeads(Config())
    loop.load_start(module, recipe.start, "")
    guide = open_guide(recipe.guided, recipe.run, rows, features.shape[-1], every)
    return fit(recipe.name, module, recipe, every, features, wanted, recipe.drop, guide)


def known(recipe: Recipe, pool: int) -> tuple[targets.Targets, np.ndarray, np.ndarray]:
    """What is known of a run's cases: targets, numbers of their rows, and features in memory, `feature_cache.pooled`.

    230 kB per case, a quarter of it where `pool` is 2.
    """
    rows, features = feature_cache.cached(recipe)
    cases, _ = data.load()
    return targets.Targets([cases[row] for row in rows]), rows, feature_cache.pooled(features, pool)


@dataclasses.dataclass(frozen=True)
class Guide:
    """weight: of the loss. where, wanted: of all cases, as `guidance.loss` takes them."""

    weight: float
    where: np.ndarray
    wanted: np.ndarray


def open_guide(weight: float, run: str, rows: np.ndarray, side: int, every: targets.Targets) -> Guide | None:
    """The guide of a run's cases `rows` on features of `side` cells; None where it weighs nothing."""
    return Guide(weight, guidance.places(run, rows, side), guidance.positive(every)) if weight else None


def silence(modalities: Collection[str]) -> Tensor:
    """float32 (M, 1, 1, 1): 1 for the modalities that are kept, 0 for the others; features are multiplied with it."""
    return torch.tensor([float(m.name in modalities) for m in labels.MODALITIES])[:, None, None, None]


def fit(
    name: str,
    module: nn.Module,
    recipe: Recipe,
    every: targets.Targets,
    cached: np.ndarray,
    modalities: Collection[str],
    drop: float = 0.0,
    guide: Guide | None = None,
) -> nn.Module:
    """Train a module, features (B, M, D, h, w) -> logits (B, outputs), on the cached features of all cases `every`.

    module.heads.cuts are the cut points of the grade. Modalities that are not named are zero. drop: see the recipe.
    guide: where scores should come from. Returns the averaged module.
    """
    device = loop.device_of(recipe)
    keep = silence(modalities).to(device)
    learnt = np.flatnonzero(np.isin(every.split, data.LEARNT))
    chances = every.sampling(learnt)
    checked = np.flatnonzero(every.split == "val")

    def take(seen: np.ndarray) -> Tensor:
        return torch.from_numpy(seen).to(device).float() * keep

    def draw(generator: torch.Generator) -> loop.Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        chosen = numbers.choice(learnt, recipe.batch, p=chances)
        seen = take(cached[chosen])
        other = bool(torch.rand((), generator=generator) < 0.5)
        if other:
            seen = seen.flip(-1)  # the other eye
        if drop:
            kept = torch.rand(seen.shape[:2], generator=generator) >= drop
            seen = seen * kept[..., None, None, None].to(seen)
        batch = {"features": seen, **every.batch(chosen, device)}
        if guide:
            where = torch.from_numpy(guide.where[chosen]).to(device).float()
            batch["where"] = where.flip(-1) if other else where
            batch["wanted"] = torch.from_numpy(guide.wanted[chosen]).to(device)
        return batch

    def loss(module: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        cuts = loop.bare(module).heads.cuts
        if not guide:
            return targets.loss(module(batch["features"]), cuts, batch)
        logits, maps = module(batch["features"], guidance.ROWS)
        guided = guidance.loss(maps, batch["where"], batch["wanted"])
        return targets.loss(logits, cuts, batch) | {"guided": guide.weight * guided}

    def validate(module: nn.Module) -> dict[str, float]:
        parts = [module(take(cached[part])).cpu() for part in np.array_split(checked, len(checked) // 32 + 1)]
        return targets.figures(every, checked, torch.cat(parts).numpy())

    return loop.fit(name, module, draw, loss, recipe, validate)


if __name__ == "__main__":
    chosen_recipe = parse(FusionRecipe)[0]
    torch.manual_seed(chosen_recipe.seed)
    train(chosen_recipe)
