"""The mean of several fusions that went on from the same one with other seeds: it generalises better than each.

`python -m training.soup --parts fusion_1,fusion_2,fusion_3` averages their weights, not their answers, so it costs
nothing in use (Wortsman et al., Model soups, ICML 2022), prints what the mean and its parts reach on the validation
eyes, and writes the mean as a checkpoint of the run. All parts count alike: none is chosen by its figures.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qmmfl.nets import Config, Network

from . import data, feature_cache, loop
from .ablate import logits_of
from .assemble import assemble
from .fusion import FusionHeads
from .recipe import RUNS, Recipe, parse
from .targets import Targets, figures


@dataclasses.dataclass(frozen=True)
class SoupRecipe(Recipe):
    """parts: comma-separated names of fusions of the run; name: of what is written."""

    parts: str = "fusion_1,fusion_2,fusion_3,fusion_4"
    name: str = "fusion"


def mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means of state dicts, tensor by tensor. Raises ValueError where they are not of the same net."""
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    if not states or any(each != shapes[0] for each in shapes):
        raise ValueError("only fusions of the same shape can be averaged; train the parts with the same encoders")
    return {key: torch.stack([state[key].float() for state in states]).mean(dim=0) for key in states[0]}


def cook(recipe: SoupRecipe) -> dict[str, float]:
    """Average, validate and write; returns the figures of the mean."""
    states = {name: loop.best_state(recipe, name) for name in recipe.parts.split(",")}
    whole = mean(list(states.values()))
    made = (RUNS / recipe.run / "features.npy").exists()
    rows, features = feature_cache.load(recipe, Network(Config()) if made else assemble(recipe)[0])
    cases, _ = data.load()
    chosen = np.flatnonzero([cases[row].split == "val" for row in rows])
    every = Targets([cases[row] for row in rows])
    torch.set_num_threads(recipe.threads)
    found = {}
    for name, state in (states | {recipe.name: whole}).items():
        module = FusionHeads(Config()).eval()
        module.load_state_dict(state)
        found = figures(every, chosen, logits_of(module, features, chosen))
        print(name, {key: round(value, 4) for key, value in found.items()}, flush=True)
    folder = RUNS / recipe.run / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"averaged": whole, "step": 0, "best": found["score"]}, folder / "best.pt")
    return found


if __name__ == "__main__":
    cook(parse(SoupRecipe)[0])
