"""Stage I: train one synthesis net. `python -m training.synthesis lesions --steps 4000`

Each net learns from patches of canonical squares at the resolution it will be used at. The tasks differ in data,
loss and validation only; see `tasks`.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets.network import Config
from qmmfl.nets.synthesis import SynthesisNet

from . import augment, loop, settled, tasks
from .pixels import Sample
from .recipe import Recipe, parse


@dataclasses.dataclass(frozen=True)
class SynthesisRecipe(Recipe):
    """squares: eyes per step; batch: patches per step; coarsest: lowest simulated resolution as a share.

    name: of the checkpoint, where it is a part of a mean (`training.soup`). settled: of a trunk that has learnt for a
    while, first stages that learn no more, see `settled`; 0 for none.
    """

    squares: int = 2
    coarsest: float = 0.4
    phantoms: int = 0  # simulated eyes beside the real ones
    name: str = ""
    settled: int = 0
    # best.pt or weights: angiograms of other cameras are held to this net's vessels, lesions to what this net finds
    teacher: Path | None = None


def train(name: str, recipe: SynthesisRecipe) -> nn.Module:
    """Train the net of one modality and return its averaged copy."""
    return fit(recipe.name or f"synthesis_{name}", tasks.TASKS[name](Config().synthesis[name], recipe), recipe)


def fit(name: str, task: tasks.Task, recipe: SynthesisRecipe) -> nn.Module:
    """Train a net for one task; `name` is its folder in the run. Returns its averaged copy."""
    device = loop.device_of(recipe)
    samples, chances = task.gather()
    print(f"{name}: {len(samples)} training and {len(task.checked)} validation eyes", flush=True)

    def draw(generator: torch.Generator) -> loop.Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        drawn = numbers.choice(len(samples), recipe.squares, p=chances)
        chosen = [task.vary(samples[index], numbers) for index in drawn]
        squares, truth, care = to_tensors(chosen, device)
        if task.robust:
            (squares, truth, care), _ = augment.magnify([squares, truth, care], generator)
        if task.colour > 0:
            squares = augment.colour(squares, generator, task.colour)
        if recipe.coarsest < 1:
            squares = augment.resolution(squares, generator, recipe.coarsest)
        if task.turned:
            squares, truth, care = augment.turn([squares, truth, care], generator, 30, 0.2, 0.08)
        if task.robust:
            squares = augment.compress(squares, generator)  # last: the blocks of a file lie along its rows
        whole = torch.cat(augment.flip([net.prepare(squares), truth, care, squares], generator), dim=1)
        sizes = [net.config.channels, truth.shape[1], 1, 3]
        corners = _corners(whole[:, sizes[0] :][:, : sizes[1]], task.patch, recipe.batch, numbers)
        patches = torch.stack([whole[i, :, y : y + task.patch, x : x + task.patch] for i, y, x in corners])
        x, truth, care, squares = patches.split(sizes, dim=1)
        return {"x": x.contiguous(memory_format=torch.channels_last), "truth": truth, "care": care, "square": squares}

    def loss(module: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        return task.loss(module(batch["x"]).float(), batch)

    net = SynthesisNet(task.config)
    net.start_from(task.prior)
    loop.load_start(net, recipe.start, f"synthesis.{task.name}.")
    if recipe.settled:
        settled.settle(net, recipe.settled)
    return loop.fit(name, net, draw, loss, recipe, task.validate)


def to_tensors(samples: list[Sample], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Squares (n, 3, S, S), truth (n, k, S, S) and care (n, 1, S, S), float32 in 0..1."""
    square = torch.from_numpy(np.stack([s.square for s in samples])).to(device).permute(0, 3, 1, 2)
    truth = torch.from_numpy(np.stack([s.truth for s in samples])).to(device)
    care = torch.from_numpy(np.stack([s.care for s in samples])).to(device)[:, None]
    return square.float() / 255, truth.float() / 255, care.float() / 255


def _corners(truth: Tensor, patch: int, count: int, numbers: np.random.Generator) -> list[tuple[int, int, int]]:
    """(square, y, x) of `count` patches; two of three contain a positive pixel of a class drawn at random."""
    result = []
    room = truth.shape[-1] - patch
    for number in range(count):
        index = number % len(truth)
        y, x = numbers.integers(0, room + 1, 2)
        classes = (truth[index].flatten(1).amax(1) > 0.5).nonzero()[:, 0].tolist() if room and number % 3 else []
        if classes:
            spots = (truth[index, numbers.choice(classes)] > 0.5).nonzero()
            spot = spots[numbers.integers(len(spots))].tolist()
            y, x = np.clip(np.array(spot) - numbers.integers(0, patch, 2), 0, room)
        result.append((index, int(y), int(x)))
    return result


if __name__ == "__main__":
    chosen_recipe, chosen_name = parse(SynthesisRecipe, modality=[m.name for m in labels.SYNTHESES])
    torch.manual_seed(chosen_recipe.seed)
    train(chosen_name, chosen_recipe)
