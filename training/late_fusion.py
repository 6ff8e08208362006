"""Late fusion: what an encoder says on its own, beside what the fusion makes of all of them.

`python -m training.late_fusion --run first` takes the run's mean of fusions and the heads that `training.unimodal`
fitted to single encoders, and writes the weighted mean of their scores as the run's fusion, the one that is exported.
All of them are linear in what they read, so the mean is, too: one weight per modality and feature, fused or not.

A fusion learns from encoders that know the training eyes by heart, and believes the best of them too much: on
validation eyes it lost what the colour encoder gained in two sittings. Heads of one encoder each can lean on nothing
else, and their errors are other ones.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qmmfl import labels
from qmmfl.nets import Config, Network

from . import assemble, data, export, feature_cache, loop
from .recipe import RUNS, Recipe, parse
from .targets import Targets, figures


@dataclasses.dataclass(frozen=True)
class LateFusionRecipe(Recipe):
    """fusion: checkpoint of the run. unimodal: comma-separated modalities with heads in the run's unimodal_<modality>.

    shares: what the fusion counts, then each of them; their sum does not matter.
    """

    fusion: str = "fusion_mean"
    unimodal: str = f"{labels.COLOUR.name},{labels.LESION_MAPS.name}"
    shares: str = "2,2,1"


def unite(
    fusion: dict[str, Tensor], unimodal: dict[str, dict[str, Tensor]], shares: Sequence[float] | np.ndarray
) -> dict[str, Tensor]:
    """A fusion's state and, of modalities, their classifiers' -> fusion and heads as they are exported.

    shares: of the fusion, then of each modality. Raises ValueError where they are not as many, or one is below zero.
    """
    if len(shares) != 1 + len(unimodal) or min(shares) < 0:
        raise ValueError(f"name one share, not below zero, for the fusion and each of {', '.join(unimodal)}")
    parts = [fusion, *unimodal.values()]
    parts = [(share / sum(shares), part) for share, part in zip(shares, parts, strict=True)]
    united = assemble.widened(fusion)
    united["heads.weight"] = united["heads.weight"] * parts[0][0]
    known = fusion["heads.weight"].shape[2]
    for name, (share, part) in zip(unimodal, parts[1:], strict=True):
        united["heads.weight"][:, list(labels.BY_NAME).index(name), known:] = share * part["heads.weight"][:, 0]
    united["heads.bias"] = sum(share * part["heads.bias"] for share, part in parts)
    united["heads.cut_first"] = sum(share * part["heads.cut_first"] for share, part in parts)
    steps = [share * F.softplus(part["heads.cut_steps"]).cumsum(0) for share, part in parts]
    steps = torch.stack(steps).sum(0).diff(prepend=torch.zeros(1))
    united["heads.cut_steps"] = steps.expm1().log()  # softplus, the other way round
    return united


def join(recipe: LateFusionRecipe) -> dict[str, float]:
    """Write a run's late fusion. Returns its figures on validation eyes; those of every part are printed."""
    fusion = loop.best_state(recipe, recipe.fusion)
    unimodal = {name: loop.best_state(recipe, f"unimodal_{name}") for name in recipe.unimodal.split(",")}
    shares = [float(each) for each in recipe.shares.split(",")]
    whole = unite(fusion, unimodal, shares)
    rows, features = feature_cache.cached(recipe)
    cases, _ = data.load()
    checked = np.flatnonzero([cases[row].split == "val" for row in rows])
    every, seen = Targets([cases[row] for row in rows]), features[checked]
    network, found, names = Network(Config()).eval(), {}, [recipe.fusion, *unimodal]
    alone = {name: np.eye(len(names))[place] for place, name in enumerate(names)}
    for name, counted in {**alone, "all": shares}.items():
        network.load_state_dict(unite(fusion, unimodal, counted), strict=False)  # its encoders are not asked
        found = figures(every, checked, export.logits_of(network, seen))
        print(name, {key: round(value, 4) for key, value in found.items()}, flush=True)
    folder = RUNS / recipe.run / "fusion"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"averaged": whole, "step": 0, "best": found["score"]}, folder / "best.pt")
    return found


if __name__ == "__main__":
    chosen_recipe = parse(LateFusionRecipe)[0]
    torch.set_num_threads(chosen_recipe.threads)
    join(chosen_recipe)
