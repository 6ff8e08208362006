"""Heads of one frozen encoder: where it goes on from when it was exported, since an export holds no whole ones.

`python -m training.heads colour --start weights --steps 2000 --batch 256 --rate 0.01` reads every training and
validation eye once (unaltered), fits linear heads to the means of its features, and writes the whole classifier as
runs/<run>/encoder_colour_heads/best.pt, the `--start` of `training.encoders`. Heads drawn anew send gradients through a
trained encoder that say nothing yet, and heads trained along at its low rate stay behind what its features hold: of the
colour encoder on validation eyes .875 of the summary AUC, fitted .885. From heads drawn anew 454 steps ended at .866,
from fitted ones 920 at .894 and .899; those runs differ in rate and length too, so that is no measure of the heads.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets import Config, Network

from . import data, encoders, feature_cache, loop, planes, targets
from .assemble import assemble
from .recipe import RUNS, Recipe, parse


@dataclasses.dataclass(frozen=True)
class HeadsRecipe(Recipe):
    """name: of the classifier below the run, by default encoder_<modality>_heads; heads of another start want another,
    since a run that is found is gone on with. cached: take what the run's `feature_cache` knows, in seconds instead of
    minutes; it must be of the same encoder.
    """

    name: str = ""
    cached: bool = False


class Probe(nn.Module):
    """A classifier's heads alone: means of features (B, D) -> what `encoders.Classifier` says."""

    def __init__(self, classifier: encoders.Classifier) -> None:
        super().__init__()
        self.heads, self.extras = classifier.heads, classifier.extras

    def forward(self, means: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> (logits (B, outputs), extras (B, 2 or 3))."""
        return self.heads(means[:, None, :, None, None]), self.extras(means)


def fit(modality: str, recipe: HeadsRecipe) -> encoders.Classifier:
    """Fit the heads of a run's encoder, or of the exported one, and write them with it; returns both."""
    cases, views, usable = planes.views_of(modality, recipe.run)
    every = targets.Targets(cases)
    rows = np.flatnonzero(np.isin(every.split, (*data.LEARNT, "val")) & usable)
    if modality == labels.DISC_CUP.name:
        every.extras[rows, 2] = [encoders.ratio(views[row]) for row in rows]
    network, every = assemble(recipe)[0], every.at(rows)
    classifier = encoders.Classifier(Config(), modality)
    classifier.encoder.load_state_dict(network.encoders[modality].state_dict())
    means = torch.from_numpy(means_of(network, modality, views, rows, recipe))
    learnt, checked = (np.flatnonzero(np.isin(every.split, splits)) for splits in (data.LEARNT, ("val",)))
    chances, device = encoders.chances(every, learnt), loop.device_of(recipe)

    def draw(generator: torch.Generator) -> loop.Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        chosen = numbers.choice(learnt, recipe.batch, p=chances)
        return {"means": means[chosen].to(device), **every.batch(chosen, device)}

    def loss(module: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        logits, extras = module(batch["means"])
        return targets.loss(logits, loop.bare(module).heads.cuts, batch, extras)

    def validate(module: nn.Module) -> dict[str, float]:
        return targets.figures(every, checked, module(means[checked].to(device))[0].cpu().numpy())

    name = recipe.name or f"encoder_{modality}_heads"
    probe = loop.fit(f"{name}_fit", Probe(classifier), draw, loss, recipe, validate)
    classifier.load_state_dict(classifier.state_dict() | probe.state_dict())
    folder = RUNS / recipe.run / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"averaged": classifier.cpu().state_dict(), "step": 0}, folder / "best.pt")
    return classifier


def means_of(network: Network, modality: str, views: np.ndarray, rows: np.ndarray, recipe: HeadsRecipe) -> np.ndarray:
    """float32 (len(rows), D): what a modality's encoder says of some rows of its cached views, mean over positions."""
    encode = feature_cache.fastest(network, recipe)
    known = feature_cache.kept(RUNS / recipe.run) if recipe.cached else None

    def read(part: np.ndarray) -> np.ndarray:
        means = np.full((len(part), network.config.features), np.nan, np.float32)
        if known:
            means = known(part, modality).mean(axis=(-2, -1), dtype=np.float32)
        todo = np.isnan(means[:, 0])
        if todo.any():
            seen = feature_cache.tensor(views[part[todo]])
            means[todo] = encode(labels.BY_NAME[modality], seen).mean(axis=(-2, -1))
        return means

    with ThreadPoolExecutor(feature_cache.WORKERS) as pool:
        return np.concatenate(list(pool.map(read, np.array_split(rows, len(rows) // 16 + 1))))


if __name__ == "__main__":
    chosen_recipe, chosen_modality = parse(HeadsRecipe, modality=[m.name for m in labels.MODALITIES])
    torch.manual_seed(chosen_recipe.seed)
    fit(chosen_modality, chosen_recipe)
