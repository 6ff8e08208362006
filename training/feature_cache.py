"""Features of the frozen encoders, computed once, so that the fusion trains in minutes on two CPU cores.

`python -m training.feature_cache --copies 2` writes below runs/<run> the features of every case whose planes are
cached, features.npy with the cases' rows.npy, and twice those of the training eyes turned and recoloured,
features_1.npy and features_2.npy, which keep the fusion from learning single photographs by heart.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from qmmfl import labels
from qmmfl.nets import Network
from qmmfl.nets.network import colour_view

from . import augment, data, loop, planes
from .assemble import assemble
from .recipe import RUNS, Recipe, parse

_PART = 16  # cases at a time
_WORKERS = 2  # threads that compute, of one core each, where the recipe names no others


@dataclasses.dataclass(frozen=True)
class FeaturesRecipe(Recipe):
    """copies: of the training eyes, turned and recoloured."""

    copies: int = 0


def load(recipe: Recipe, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cases with planes (n,), and their features float16 (n, M, D, h, w), computed once per run."""
    folder = RUNS / recipe.run
    if not (folder / "features.npy").exists():
        rows = np.flatnonzero(planes.done(recipe.run))
        _compute(folder / "features.npy", rows, recipe, network, lambda views, _: views)
        np.save(folder / "rows.npy", rows)
    return np.load(folder / "rows.npy"), np.load(folder / "features.npy", mmap_mode="r")


def load_copies(recipe: Recipe, network: Network, copies: int) -> list[np.ndarray]:
    """As `load`, of the turned and recoloured copies: float16 (t, M, D, h, w) of the t training cases, in order."""
    rows, _ = load(recipe, network)
    cases, _ = data.load()
    learnt = np.array([row for row in rows if cases[row].split == "train"])
    paths = [RUNS / recipe.run / f"features_{number}.npy" for number in range(1, copies + 1)]
    for number, path in enumerate(paths, 1):
        if not path.exists():
            _compute(path, learnt, recipe, network, lambda seen, part, copy=number: vary(seen, copy * 100_000 + part))
    return [np.load(path, mmap_mode="r") for path in paths]


@torch.no_grad()
def encoded(network: Network, modality: labels.Modality, views: Tensor) -> Tensor:
    """Views float32 (n, k, v, v) in 0..1 of one modality -> its encoder's features (n, D, h, w)."""
    return network.encoders[modality.name](colour_view(views) if modality is labels.COLOUR else views * 2 - 1)


def tensor(views: np.ndarray) -> Tensor:
    """uint8 (n, v, v, k) -> float32 (n, k, v, v) in 0..1."""
    return torch.from_numpy(np.array(views)).permute(0, 3, 1, 2).float() / 255


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


def vary(views: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The same eyes photographed otherwise: all views enlarged, turned and moved alike, colours as by another camera.

    views: float32 (n, k, v, v) in 0..1 by modality, likewise returned; what moves in from outside is black, as the
    surround of the field of view is in every view.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = dict(zip(views, augment.magnify(list(views.values()), generator), strict=True))
    colour = augment.equalise(augment.colour(seen[labels.COLOUR.name], generator), generator, augment.EQUALISED)
    seen[labels.COLOUR.name] = augment.compress(colour, generator)
    turned = augment.turn(list(seen.values()), generator, degrees=20, zoom=0.12, shift=0.03)
    return dict(zip(seen, turned, strict=True))


def _compute(
    path: Path,
    rows: np.ndarray,
    recipe: Recipe,
    network: Network,
    change: Callable[[dict[str, Tensor], int], dict[str, Tensor]],
) -> None:
    """Write the features of some cases; change: a part's views by modality and its number -> what the encoders see."""
    _, views = data.load()
    stores = {m.name: planes.load(m.name, recipe.run) for m in labels.SYNTHESES} | {labels.COLOUR.name: views}
    grid, config, device = data.VIEW // 16, network.config, loop.device_of(recipe)
    network.encoders.to(device, memory_format=torch.channels_last)
    unfinished = path.with_suffix(".part.npy")
    shape = (len(rows), len(labels.MODALITIES), config.features, grid, grid)
    features = np.lib.format.open_memmap(unfinished, "w+", np.float16, shape)

    def fill(start: int) -> None:
        chosen = rows[start : start + _PART]
        seen = change({name: tensor(store[chosen]).to(device) for name, store in stores.items()}, start)
        for number, modality in enumerate(labels.MODALITIES):
            made = encoded(network, modality, seen[modality.name])
            features[start : start + _PART, number] = made.cpu().numpy()

    starts = range(0, len(rows), _PART)
    with ThreadPoolExecutor(recipe.drawers or _WORKERS) as pool:
        for _ in tqdm(pool.map(fill, starts), total=len(starts), desc=path.stem, mininterval=10):
            pass
    features.flush()
    unfinished.rename(path)


if __name__ == "__main__":
    chosen_recipe = parse(FeaturesRecipe)[0]
    load_copies(chosen_recipe, assemble(chosen_recipe)[0], chosen_recipe.copies)
