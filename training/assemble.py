"""The parts of a run put together: the best checkpoint of every stage -> one network."""

import torch

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
    if recipe.start is not None and recipe.start.is_dir():
        loop.load_start(network, recipe.start, "")
    parts = [(f"synthesis_{m.name}", network.synthesis[m.name], "") for m in labels.SYNTHESES]
    parts += [(f"encoder_{m.name}", network.encoders[m.name], "encoder.") for m in labels.MODALITIES]
    parts += [("fusion", network.fusion, "fusion."), ("fusion", network.heads, "heads.")]
    for name, module, prefix in parts:
        if (RUNS / recipe.run / name / "best.pt").exists():
            state = loop.best_state(recipe, name)
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        elif recipe.start is None:
            missing.append(name)
    torch.set_num_threads(recipe.threads)
    return network.eval().requires_grad_(False), missing
