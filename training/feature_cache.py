"""Features of the frozen encoders, computed once, so that the fusion trains in minutes on two CPU cores.

`python -m training.feature_cache` writes below runs/<run> the features of every case whose planes are cached,
features.npy with the cases' rows.npy. `--anew colour` makes them again where that encoder was trained anew, and takes
what the others gave from the cache.
"""

import copy
import dataclasses
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from qmmfl import labels
from qmmfl.nets import Config, Network, runtime
from qmmfl.nets.blocks import fold_norms
from qmmfl.nets.network import colour_view

from . import data, loop, planes
from .assemble import assemble
from .recipe import RUNS, Recipe, parse

_PART = 16  # cases at a time
ABLATION = "ablation"  # folder of a run for what `training.ablate` makes of its features
_CACHED = ("features.npy", "rows.npy")
_ASIDE = "old_"  # their names begin with, once they were set aside
WORKERS = 2  # threads that compute, of one core each, where the recipe names no others


@dataclasses.dataclass(frozen=True)
class FeaturesRecipe(Recipe):
    """anew: comma-separated modalities whose features are made again."""

    anew: str = ""


def load(recipe: Recipe, network: Network, anew: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cases with planes (n,), and their features float16 (n, M, D, h, w), computed once per run.

    anew: modalities whose features are not taken from what was `set_aside`. Raises RuntimeError where something was set
    aside and none are named.
    """
    folder = RUNS / recipe.run
    if not (folder / "features.npy").exists():
        rows = np.flatnonzero(planes.done(recipe.run))
        aside = (folder / f"{_ASIDE}features.npy").exists()
        if aside and not anew:
            raise RuntimeError("making some features anew was stopped; run training.feature_cache --anew ... again")
        known = kept(folder, anew, _ASIDE) if aside else None
        _compute(folder / "features.npy", rows, recipe, network, known)
        np.save(folder / "rows.npy", rows)
        for name in _CACHED:
            (folder / f"{_ASIDE}{name}").unlink(missing_ok=True)
    return np.load(folder / "rows.npy"), np.load(folder / "features.npy", mmap_mode="r")


def cached(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """As `load`; the run's nets are put together only where the features are not there yet."""
    made = (RUNS / recipe.run / "features.npy").exists()
    return load(recipe, Network(Config()) if made else assemble(recipe)[0])


def set_aside(folder: Path) -> None:
    """Make `load` compute the features of a run's folder again, though not those that it may keep; see `--anew`."""
    shutil.rmtree(folder / ABLATION, ignore_errors=True)  # its nets and test features are of the old ones
    for name in _CACHED:
        if (folder / name).exists():
            (folder / name).rename(folder / f"{_ASIDE}{name}")


def kept(folder: Path, anew: Sequence[str] = (), prefix: str = "") -> Callable[[np.ndarray, str], np.ndarray]:
    """What a run's folder holds: rows of n cases and a modality -> float16 (n, D, h, w), NaN where it has to be made.

    prefix: _ASIDE for what was `set_aside`.
    """
    features, rows = (np.load(folder / f"{prefix}{name}", mmap_mode="r") for name in _CACHED)
    places = {row: place for place, row in enumerate(rows)}
    numbers = {m.name: number for number, m in enumerate(labels.MODALITIES)}

    def find(rows: np.ndarray, name: str) -> np.ndarray:
        found = np.full((len(rows), *features.shape[2:]), np.nan, np.float16)
        if name not in anew:
            known = [n for n, row in enumerate(rows) if row in places]
            found[known] = features[[places[rows[n]] for n in known], numbers[name]]
        return found

    return find


Encode = Callable[[labels.Modality, Tensor], np.ndarray]


def fastest(network: Network, recipe: Recipe) -> Encode:
    """What makes a modality's views (n, k, v, v) in 0..1 into features (n, D, h, w), from several threads at once.

    In OpenVINO where it would read photographs, in half of torch's time; the views are the same.
    """
    if runtime.choose(runtime.AUTO, recipe.device) == runtime.OPENVINO:
        return _accelerated(network)
    device, network = loop.device_of(recipe), copy.deepcopy(network)
    fold_norms(network.encoders)
    network.encoders.to(device, memory_format=torch.channels_last)
    return lambda modality, views: encoded(network, modality, views).cpu().numpy()


def _accelerated(network: Network) -> Encode:
    import openvino

    from qmmfl.nets import graphs

    state = {key: each.numpy() for key, each in network.state_dict().items()}
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    core, own = openvino.Core(), threading.local()
    models = {m.name: graphs.encoder_graph(state, m.name, network.config) for m in labels.MODALITIES}

    def encode(modality: labels.Modality, views: Tensor) -> np.ndarray:
        if not hasattr(own, "requests"):
            own.requests = {name: core.compile_model(each, "CPU", settings) for name, each in models.items()}
        given = input_of(modality, views).numpy()
        return np.stack([own.requests[modality.name]([each])[0] for each in given])

    return encode


def input_of(modality: labels.Modality, views: Tensor) -> Tensor:
    """Views float32 (n, k, v, v) in 0..1 -> what the modality's encoder sees, of as many eyes."""
    return colour_view(views) if modality is labels.COLOUR else views * 2 - 1


@torch.no_grad()
def encoded(network: Network, modality: labels.Modality, views: Tensor) -> Tensor:
    """Views float32 (n, k, v, v) in 0..1 of one modality -> its encoder's features (n, D, h, w)."""
    return network.encoders[modality.name](input_of(modality, views))


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


def _compute(
    path: Path,
    rows: np.ndarray,
    recipe: Recipe,
    network: Network,
    known: Callable[[np.ndarray, str], np.ndarray] | None = None,
) -> None:
    """Write the features of some cases, but those that are `known`, see `kept`."""
    _, views = data.load()
    stores = {m.name: planes.load(m.name, recipe.run) for m in labels.SYNTHESES} | {labels.COLOUR.name: views}
    grid, config, device = data.VIEW // 16, network.config, loop.device_of(recipe)
    encode = fastest(network, recipe)
    unfinished = path.with_suffix(".part.npy")
    shape = (len(rows), len(labels.MODALITIES), config.features, grid, grid)
    features = np.lib.format.open_memmap(unfinished, "w+", np.float16, shape)

    def fill(start: int) -> None:
        chosen = rows[start : start + _PART]
        unknown = np.full((len(chosen), *shape[2:]), np.nan, np.float16)
        found = {name: known(chosen, name) if known else unknown.copy() for name in stores}
        todo = {name: np.isnan(each[:, 0, 0, 0]) for name, each in found.items()}
        seen = {name: tensor(store[chosen[todo[name]]]).to(device) for name, store in stores.items()}
        for number, modality in enumerate(labels.MODALITIES):
            missing = todo[modality.name]
            if missing.any():
                found[modality.name][missing] = encode(modality, seen[modality.name])
            features[start : start + _PART, number] = found[modality.name]

    starts = range(0, len(rows), _PART)
    with ThreadPoolExecutor(recipe.drawers or WORKERS) as pool:
        for _ in tqdm(pool.map(fill, starts), total=len(starts), desc=path.stem, mininterval=10):
            pass
    features.flush()
    unfinished.rename(path)


if __name__ == "__main__":
    chosen_recipe = parse(FeaturesRecipe)[0]
    if chosen_recipe.anew:
        set_aside(RUNS / chosen_recipe.run)
    load(chosen_recipe, assemble(chosen_recipe)[0], [each for each in chosen_recipe.anew.split(",") if each])
