"""The arteriovenous angiogram with every patient left out once, with and without simulated eyes.

    python -m training.leave_out --phantoms 60 --into weights
    python -m training.leave_out --phantoms 0  --into weights

For each patient a net is trained on the pairs of all others, on simulated eyes, and on photographs of other cameras
with the vessel net's map, and scored on the patient's own pairs: a second, wider row beside the locked pairs. It starts
from the vessel net of the weights, which has seen no angiogram. The shipped net is not touched; --into writes the
figures into a card, a row for each number of simulated eyes.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import torch

from qmmfl import labels, photograph, pipeline
from qmmfl import weights as stored

from . import angiograms, data, loop, model_card, pixels, synthesis, tasks
from .recipe import RUNS, parse

NAME = "ffa_arteriovenous"


@dataclasses.dataclass(frozen=True)
class LeaveOutRecipe(synthesis.SynthesisRecipe):
    """weights: where each net starts, the other modalities, and the vessel map; into: a card for the figures."""

    steps: int = 140
    rate: float = 1e-3
    weights: Path = Path("weights")
    into: Path | None = None
    run: str = "leave_out"
    repeats: int = 500  # bootstrap draws


class Others(tasks.Arteriovenous):
    """All pairs but those of one patient."""

    def __init__(self, config, recipe, patient: str) -> None:
        self.patient = patient
        super().__init__(config, recipe)

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """The pairs of all other patients; there are none to spare for validation."""
        rows = data.read_table(self.recipe.data / angiograms.PAIRS / "quality.csv")
        others = {row["stem"] for row in rows if row["group"] != self.patient}
        every = pixels.angiograms(self.recipe.data, "all", self.config.size)
        return [sample for sample in every if sample.name in others] if split == "train" else []

    def validate(self, module) -> dict[str, float]:
        """Nothing is chosen: the last state counts."""
        return {"score": 0.0}


def score(recipe: LeaveOutRecipe) -> dict:
    """Figures as in `angiograms.summarise` over all pairs, each made by a net that never saw its patient."""
    network, card = stored.load(recipe.weights)
    vessels = RUNS / recipe.run / "vessels.pt"
    vessels.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"averaged": network.synthesis[labels.VESSELS.name].state_dict()}, vessels)
    recipe = dataclasses.replace(recipe, start=vessels, teacher=vessels)
    scores = []
    rows = data.read_table(recipe.data / angiograms.PAIRS / "quality.csv")
    for patient in sorted({row["group"] for row in rows}):
        torch.manual_seed(recipe.seed)
        name = f"{NAME}_{recipe.phantoms}_without_{patient}"
        task = Others(card.config.synthesis[NAME], recipe, patient)
        net = synthesis.fit(name, task, recipe)
        net.load_state_dict(loop.best_state(recipe, name))
        network.synthesis[NAME] = net.eval().to("cpu")
        reader = pipeline.Pipeline(network, card, name, "cpu")
        for row in [row for row in rows if row["group"] == patient]:
            picture = photograph.read(angiograms.path_of(recipe.data, row["stem"]))
            scores.append(angiograms.score_pair(reader(picture, override=True), recipe.data, row))
    return angiograms.summarise(scores, recipe.repeats)


if __name__ == "__main__":
    settings = parse(LeaveOutRecipe)[0]
    text = json.dumps({**score(settings), "steps": settings.steps}, default=float)
    found = json.loads(text, parse_float=lambda number: round(float(number), 4))
    print(json.dumps(found, indent=1))
    if settings.into is not None:
        old = stored.read_card(settings.into)
        known = {**old.metrics.get("leave_out", {}), str(settings.phantoms): found}
        stored.save_card(settings.into, dataclasses.replace(old, metrics={**old.metrics, "leave_out": known}))
        model_card.write(settings.into)
