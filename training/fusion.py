"""Stage II, second half: fusion and heads on the frozen features of all encoders.

`python -m training.fusion --pool 2 --steps 1000 --name fusion_coarse` first computes the features of every case whose
planes are cached (once), then trains on means of four cells, in a fifth of the time; `python -m training.fusion --steps
200 --start runs/first/fusion_coarse/best.pt` goes on with every cell. An ablation is a run with other `--modalities`.
"""

import dataclasses
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from qmmfl import labels
from qmmfl.nets import Config, Network
from qmmfl.nets.fusion import AdditiveHeads, Fusion
from qmmfl.nets.network import OUTPUTS, colour_view

from . import data, loop, planes, targets
from .assemble import assemble
from .recipe import RUNS, Recipe, parse


@dataclasses.dataclass(frozen=True)
class FusionRecipe(Recipe):
    """modalities: comma-separated names to keep, the others are zero; "all" keeps all.

    pool: cells of the features along a side that are averaged first.
    """

    modalities: str = "all"
    pool: int = 1
    name: str = "fusion"


class FusionHeads(nn.Module):
    """Features (B, M, D, h, w) -> logits (B, outputs)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.fusion = Fusion(len(labels.MODALITIES), config.features, config.heads)
        self.heads = AdditiveHeads(len(OUTPUTS), len(labels.MODALITIES), config.features, len(labels.GRADES))

    def adopt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of exported weights, what is fused and what reads it."""
        return {key: value for key, value in state.items() if key.startswith(("fusion.", "heads."))}

    def forward(self, features: Tensor) -> Tensor:
        """(B, M, D, h, w) -> (B, outputs)."""
        return self.heads(self.fusion(features))


def cached_features(recipe: Recipe, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cases with planes (n,), and their features float16 (n, M, D, h, w), computed once per run."""
    folder = RUNS / recipe.run
    if (folder / "features.npy").exists():
        return np.load(folder / "rows.npy"), np.load(folder / "features.npy", mmap_mode="r")
    _, views = data.load()
    rows = np.flatnonzero(planes.done(recipe.run))
    stores = {m.name: planes.load(m.name, recipe.run) for m in labels.SYNTHESES}
    grid, config = data.VIEW // 16, network.config
    shape = (len(rows), len(labels.MODALITIES), config.features, grid, grid)
    features = np.lib.format.open_memmap(folder / "features.part.npy", "w+", np.float16, shape)
    device = loop.device_of(recipe)
    network.encoders.to(device, memory_format=torch.channels_last)
    for part in tqdm(np.array_split(np.arange(len(rows)), len(rows) // 8 + 1), desc="features", mininterval=10):
        for number, modality in enumerate(labels.MODALITIES):
            source = views if modality is labels.COLOUR else stores[modality.name]
            features[part, number] = encoded(network, modality, source[rows[part]], device)
    features.flush()
    (folder / "features.part.npy").rename(folder / "features.npy")
    np.save(folder / "rows.npy", rows)
    return rows, np.load(folder / "features.npy", mmap_mode="r")


@torch.no_grad()
def encoded(network: Network, modality: labels.Modality, cached: np.ndarray, device: torch.device) -> np.ndarray:
    """Cached views uint8 (n, v, v, k) of one modality -> its encoder's features float32 (n, D, h, w)."""
    seen = torch.from_numpy(np.asarray(cached)).to(device).permute(0, 3, 1, 2).float() / 255
    seen = colour_view(seen) if modality is labels.COLOUR else seen * 2 - 1
    return network.encoders[modality.name](seen).cpu().numpy()


def train(recipe: FusionRecipe) -> nn.Module:
    """Train fusion and heads; returns the averaged module."""
    network, _ = assemble(recipe)
    rows, features = cached_features(recipe, network)
    features = pooled(features, recipe.pool)  # in memory: 230 kB per case
    cases, _ = data.load()
    every = targets.Targets([cases[row] for row in rows])
    wanted = [m.name for m in labels.MODALITIES] if recipe.modalities == "all" else recipe.modalities.split(",")
    module = FusionHeads(network.config)
    loop.load_start(module, recipe.start, "")
    return fit(recipe.name, module, recipe, every, features, wanted)


def pooled(features: np.ndarray, cells: int) -> np.ndarray:
    """Features (n, M, D, h, w) -> float16 (n, M, D, h / cells, w / cells), means."""
    if cells == 1:
        return np.asarray(features)
    side = features.shape[-1] // cells
    result = np.empty((*features.shape[:3], side, side), np.float16)
    for part in np.array_split(np.arange(len(features)), len(features) // 256 + 1):
        seen = np.asarray(features[part], np.float32)
        result[part] = seen.reshape(*seen.shape[:3], side, cells, side, cells).mean(axis=(-3, -1))
    return result


def silence(modalities: Collection[str]) -> Tensor:
    """float32 (M, 1, 1, 1): 1 for the modalities that are kept, 0 for the others; features are multiplied with it."""
    return torch.tensor([float(m.name in modalities) for m in labels.MODALITIES])[:, None, None, None]


def fit(
    name: str,
    module: nn.Module,
    recipe: Recipe,
    every: targets.Targets,
    features: np.ndarray,
    modalities: Collection[str],
) -> nn.Module:
    """Train a module, features (B, M, D, h, w) -> logits (B, outputs), on the cached features of all cases `every`.

    module.heads.cuts are the cut points of the grade. Modalities that are not named are zero. Returns the averaged
    module.
    """
    device = loop.device_of(recipe)
    keep = silence(modalities).to(device)
    learnt = np.flatnonzero(every.split == "train")
    chances = every.sampling(learnt)
    checked = np.flatnonzero(every.split == "val")

    def take(chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(features[chosen]).to(device).float() * keep

    def draw(generator: torch.Generator) -> loop.Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        chosen = numbers.choice(learnt, recipe.batch, p=chances)
        seen = take(chosen)
        if torch.rand((), generator=generator) < 0.5:
            seen = seen.flip(-1)  # the other eye
        return {"features": seen, **every.batch(chosen, device)}

    def loss(module: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        return targets.loss(module(batch["features"]), loop.bare(module).heads.cuts, batch)

    def validate(module: nn.Module) -> dict[str, float]:
        parts = [module(take(part)).cpu() for part in np.array_split(checked, len(checked) // 32 + 1)]
        return targets.figures(every, checked, torch.cat(parts).numpy())

    return loop.fit(name, module, draw, loss, recipe, validate)


if __name__ == "__main__":
    chosen_recipe = parse(FusionRecipe)[0]
    torch.manual_seed(chosen_recipe.seed)
    train(chosen_recipe)
