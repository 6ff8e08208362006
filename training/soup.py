"""The mean of several nets that went on from the same one with other seeds: it often generalises better than each.

`python -m training.soup fusion --parts fusion_1,fusion_2,fusion_3` averages their weights, not their answers, so it
costs nothing in use (Wortsman et al., Model soups, ICML 2022), prints what the parts and the mean reach on the
validation eyes, and writes the mean as the run's fusion; `encoder_<modality>` and `synthesis_<modality>` likewise. All
parts count alike: none is chosen by its figures.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels
from qmmfl.nets import Config
from qmmfl.nets.synthesis import SynthesisNet

from . import data, encoders, feature_cache, loop, planes, tasks
from .ablate import logits_of
from .fusion import FusionHeads
from .recipe import RUNS, parse
from .synthesis import SynthesisRecipe
from .targets import Targets, figures

FUSION = "fusion"
PARTS = (
    FUSION,
    *(f"encoder_{modality.name}" for modality in labels.MODALITIES),
    *(f"synthesis_{modality.name}" for modality in labels.SYNTHESES),
)


@dataclasses.dataclass(frozen=True)
class SoupRecipe(SynthesisRecipe):
    """parts: comma-separated names of checkpoints of the run; name: of the mean, by default of what it replaces.

    trust: of a fusion, see `trusting`.
    """

    parts: str = "fusion_1,fusion_2,fusion_3,fusion_4"
    trust: float = 1.0


def mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means of state dicts, tensor by tensor. Raises ValueError where they are not of the same net."""
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    if not states or any(each != shapes[0] for each in shapes):
        raise ValueError("only nets of the same shape can be averaged; train the parts from the same start")
    return {key: torch.stack([state[key].float() for state in states]).mean(dim=0) for key in states[0]}


def trusting(state: dict[str, Tensor], trust: float) -> dict[str, Tensor]:
    """A fusion's state in which what the synthesized modalities say counts `trust` times as much in every score.

    Their encoders know the training eyes by heart more than that of the photographs does, which hardly sees one twice
    alike, and a fusion that learns from these eyes believes them too much: of the score of the grade the part of the
    lesions has an AUC of .91 on training eyes of EyePACS and .76 on validation eyes, that of the photograph .90 and
    .82 (weights 3281b5ab).
    """
    others = [number for number, modality in enumerate(labels.MODALITIES) if modality is not labels.COLOUR]
    weight = state["heads.weight"].clone()
    weight[:, others] *= trust
    return {**state, "heads.weight": weight}


def cook(what: str, recipe: SoupRecipe) -> dict[str, float]:
    """Average, validate and write the part `what` of a run, one of `PARTS`. Returns the figures of the mean."""
    states = {name: loop.best_state(recipe, name) for name in recipe.parts.split(",")}
    whole = mean(list(states.values()))
    if what == FUSION:
        whole = trusting(whole, recipe.trust)
    kind, _, modality = what.partition("_")
    module, judge = _MAKERS[kind](modality, recipe)
    torch.set_num_threads(recipe.threads)
    name = recipe.name or what
    found = {}
    for title, state in (*states.items(), (f"{name}, the mean", whole)):
        module.load_state_dict(state)
        found = judge(module)
        print(title, {key: round(value, 4) for key, value in found.items()}, flush=True)
    folder = RUNS / recipe.run / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"averaged": whole, "step": 0, "best": found["score"]}, folder / "best.pt")
    return found


def _fusion(_: str, recipe: SoupRecipe) -> tuple[nn.Module, Callable[[nn.Module], dict[str, float]]]:
    rows, features = feature_cache.cached(recipe)
    cases, _ = data.load()
    chosen = np.flatnonzero([cases[row].split == "val" for row in rows])
    every = Targets([cases[row] for row in rows])
    return FusionHeads(Config()).eval(), lambda module: figures(every, chosen, logits_of(module, features, chosen))


def _encoder(modality: str, recipe: SoupRecipe) -> tuple[nn.Module, Callable[[nn.Module], dict[str, float]]]:
    cases, views, usable = planes.views_of(modality, recipe.run)
    every, side = Targets(cases), Config().seen(modality)
    chosen = np.flatnonzero((every.split == "val") & usable)
    module = encoders.Classifier(Config(), modality).eval()
    return module, lambda net: figures(every, chosen, encoders.logits_of(net, views, chosen, side))


def _synthesis(modality: str, recipe: SoupRecipe) -> tuple[nn.Module, Callable[[nn.Module], dict[str, float]]]:
    config = Config().synthesis[modality]
    return SynthesisNet(config).eval().requires_grad_(False), tasks.TASKS[modality](config, recipe).validate


_MAKERS = {FUSION: _fusion, "encoder": _encoder, "synthesis": _synthesis}


if __name__ == "__main__":
    chosen_recipe, chosen_what = parse(SoupRecipe, what=PARTS)
    cook(chosen_what, chosen_recipe)
