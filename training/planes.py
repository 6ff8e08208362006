"""Planes of every cached case, computed once by the trained synthesis nets.

`python -m training.planes --limit 3000` goes on where the last run stopped; `--anew lesions` first forgets the planes
of a net that was trained anew. What it writes is what the encoders see: uint8 (N, VIEW, VIEW, k) per modality below
runs/<run>/planes, in the order of the cached cases, and done.npy, uint8 (N, modalities).
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from qmmfl import fundus, labels
from qmmfl.nets import runtime
from qmmfl.nets.eager import Eager

from . import data, loop
from .assemble import assemble
from .recipe import FRESH, RUNS, WHOLE, Recipe, parse


@dataclasses.dataclass(frozen=True)
class PlanesRecipe(Recipe):
    """limit: stop after this many cases in all; workers: processes of one thread each.

    anew: comma-separated modalities whose planes are made again.
    """

    limit: int = WHOLE
    anew: str = ""
    workers: int = 2


_COLUMNS = [modality.name for modality in labels.SYNTHESES]
_nets: runtime.Runtime | None = None  # of a worker process


def build(recipe: PlanesRecipe) -> None:
    """Compute the planes of the cases that are not done yet, the most wanted first."""
    cases, _ = data.load()
    folder = RUNS / recipe.run / "planes"
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(cases), data.VIEW, data.VIEW)
    stores = {m.name: _store(folder / f"{m.name}.npy", (*shape, len(m.planes))) for m in labels.SYNTHESES}
    done = _store(folder / "done.npy", (len(cases), len(labels.SYNTHESES)))
    for name in filter(None, recipe.anew.split(",")):
        done[:, _COLUMNS.index(name)] = 0
    todo = [index for index in _order(cases)[: recipe.limit] if not done[index].all()]
    wanted = [[name for name, known in zip(_COLUMNS, done[index], strict=True) if not known] for index in todo]
    made = compute([cases[index].path for index in todo], recipe, wanted)
    for index, planes in zip(todo, made, strict=True):
        for name, plane in planes.items():
            stores[name][index] = plane
            done[index, _COLUMNS.index(name)] = 1


def compute(
    paths: Sequence[str], recipe: PlanesRecipe, wanted: Sequence[Sequence[str]] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """What the encoders see of each photograph, in order: modality -> uint8 (view, view, k), by the run's nets.

    wanted: the modalities to make of each photograph, all by default.
    """
    wanted = [_COLUMNS] * len(paths) if wanted is None else wanted
    with ProcessPoolExecutor(recipe.workers, FRESH, initializer=_start, initargs=(recipe,)) as pool:
        results = pool.map(_planes_of, paths, wanted, chunksize=8)
        yield from tqdm(results, total=len(paths), desc="planes", mininterval=10)


def load(modality: str, run: str) -> np.ndarray:
    """The cached views of one modality, a read-only memory map uint8 (N, VIEW, VIEW, k); see `done`."""
    return np.load(RUNS / run / "planes" / f"{modality}.npy", mmap_mode="r")


def done(run: str, *modalities: str) -> np.ndarray:
    """bool (N,): cases whose planes of these modalities, by default of all, are cached."""
    known = np.load(RUNS / run / "planes" / "done.npy")
    return known[:, [_COLUMNS.index(name) for name in modalities or _COLUMNS]].all(axis=1)


def views_of(modality: str, run: str) -> tuple[list[data.Case], np.ndarray, np.ndarray]:
    """All cases, what a modality's encoder sees of them, uint8 (N, v, v, k), and whether that is there, bool (N,)."""
    cases, views = data.load()
    if modality == labels.COLOUR.name:
        return cases, views, np.ones(len(cases), bool)
    return cases, load(modality, run), done(run, modality)


def _store(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, "r+" if path.exists() else "w+", np.uint8, None if path.exists() else shape)


def _order(cases: list[data.Case]) -> list[int]:
    """Shuffled so that any limit leaves a fair sample, the small sets sooner than ODIR and that sooner than the rest.

    Never the test split, which only the evaluation reads, nor the equalised set, whose colours are false.
    """
    usable = [i for i, case in enumerate(cases) if case.split != "test" and case.folder != "eyepacs_equalized"]
    pace = dict.fromkeys(("idrid", "rahim", "stare", "drimdb", "ffa_phase"), 1) | {"odir5k": 3, "negatives": 4}
    return sorted(usable, key=lambda index: index * 7919 % len(cases) * pace.get(cases[index].folder, 9))


def _start(recipe: PlanesRecipe) -> None:
    global _nets
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # bounds OpenVINO, which has no other setting here
    network, missing = assemble(recipe)
    lacking = [name for name in missing if name.startswith("synthesis")]
    if lacking:
        raise RuntimeError(f"train these first: {', '.join(lacking)}")
    if runtime.choose(runtime.AUTO, recipe.device) == runtime.OPENVINO:
        from qmmfl.nets.accelerated import Accelerated

        _nets = Accelerated(network.config, {key: each.numpy() for key, each in network.state_dict().items()})
    else:
        _nets = Eager(network.to(loop.device_of(recipe), memory_format=torch.channels_last))


def _planes_of(path: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    passed = _nets.start(data.square_of(path, fundus.Prep()))
    for name in wanted:
        passed.synthesize(name)
    views = {name: (passed.view(name) + 1) / 2 * 255 for name in wanted}
    return {name: view.round().astype(np.uint8).transpose(1, 2, 0) for name, view in views.items()}


if __name__ == "__main__":
    build(parse(PlanesRecipe)[0])
