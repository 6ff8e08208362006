"""The arteriovenous angiogram with every patient left out once: `python -m training.leave_out --steps 300`.

For each patient a net is trained on the pairs of all others and on simulated eyes, and scored on the patient's own
pairs: a second, wider row beside the locked pairs. The shipped net is not touched.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import torch

from qmmfl import photograph, pipeline
from qmmfl import weights as stored

from . import angiograms, data, loop, pixels, synthesis, tasks
from .recipe import parse

NAME = "ffa_arteriovenous"


@dataclasses.dataclass(frozen=True)
class LeaveOutRecipe(synthesis.SynthesisRecipe):
    """weights: those of the other modalities, and of the vessel map among the rivals."""

    weights: Path = Path("weights")
    run: str = "leave_out"
    repeats: int = 500


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
    scores = []
    rows = data.read_table(recipe.data / angiograms.PAIRS / "quality.csv")
    for patient in sorted({row["group"] for row in rows}):
        torch.manual_seed(recipe.seed)
        name = f"{NAME}_without_{patient}"
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
    print(json.dumps(score(parse(LeaveOutRecipe)[0]), indent=1, default=float))
