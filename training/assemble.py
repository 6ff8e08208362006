"""The parts of a run put together: the best checkpoint of every stage -> one network."""

import torch
from torch import Tensor

from qmmfl import labels
from qmmfl.nets import Config, Network

from . import loop
from .recipe import RUNS, Recipe


def assemble(recipe: Recipe) -> tuple[Network, list[str]]:
    """Network from the best checkpoints of a run, over exported weights in `recipe.start` where a part has none.

    Returns the network in evaluation mode and the names of the parts that were found in neither.
    """
    network = Network(Config())
    missing = []
    parts = [(f"synthesis_{m.name}", f"synthesis.{m.name}", "") for m in labels.SYNTHESES]
    parts += [(f"encoder_{m.name}", f"encoders.{m.name}", "encoder.") for m in labels.MODALITIES]
    parts += [("fusion", "fusion", "fusion."), ("fusion", "heads", "heads.")]
    for name, place, prefix in parts:
        module = network.get_submodule(place)
        if (RUNS / recipe.run / name / "best.pt").exists():
            state = loop.best_state(recipe, name)
            state = widened(state) if name == "fusion" else state
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        elif recipe.start is not None and recipe.start.is_dir():
            loop.load_start(module, recipe.start, f"{place}.")
        else:
            missing.append(name)
    torch.set_num_threads(recipe.threads)
    # Rounded as the export will be: an encoder of a nearly constant plane answers rounding with other features, and
    # the fusion must learn from those that ship.
    network.half().float()
    return network.eval().requires_grad_(False), missing


def widened(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A fusion's state with heads that read the encoders' own features, too, but give them no weight.

    As it is where they do already; see `training.late_fusion`.
    """
    weight = state["heads.weight"]
    if weight.shape[2] != state["fusion.context.0.weight"].shape[0]:
        return dict(state)
    return {**state, "heads.weight": torch.cat([weight, torch.zeros_like(weight)], dim=2)}
