"""Stage II, first half: each modality's encoder on its own, with heads of its own.

`python -m training.encoders colour --steps 6000` trains on the cached views of one modality. Its heads are thrown
away afterwards: the fusion learns new ones on the encoder's frozen features.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels, measures
from qmmfl.nets.encoders import Encoder
from qmmfl.nets.fusion import AdditiveHeads
from qmmfl.nets.network import OUTPUTS, Config, colour_view

from . import augment, data, feature_cache, loop, planes, settled, targets
from .recipe import Recipe, parse

_CPU = torch.device("cpu")
_WHOLE = 0.85  # of the field's diameter: where less is left, the disc or the macula may lie outside


@dataclasses.dataclass(frozen=True)
class EncoderRecipe(Recipe):
    """side: of the views while training [px], 0 for the size that the encoder sees in use.

    name: of the run's checkpoint, by default the one that is assembled. Coarse views cost less, but what is learnt on
    them is worth less on finer ones until the encoder has gone on with those (Touvron et al. 2019, FixRes).
    settled: of a trunk that has learnt for a while, first stages that learn no more, see `settled`; 0 for none.
    mixed: both parameters of the beta distribution of the share that one eye has in a blend of two (mixup, Zhang et
    al. 2018), 0 for none: a net that sees the same few thousand eyes again and again learns them by heart otherwise.
    """

    side: int = 0
    name: str = ""
    settled: int = 0
    mixed: float = 0.0


class Classifier(nn.Module):
    """One encoder with additive heads of its own: (B, k, v, v) -> logits (B, outputs)."""

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoders[modality])
        self.heads = AdditiveHeads(len(OUTPUTS), 1, config.features)
        self.extras = nn.Linear(config.features, 3 if modality == labels.DISC_CUP.name else 2)
        self.colour = modality == labels.COLOUR.name

    def adopt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state that fits: what a checkpoint of `training.pretrain` lacks, the heads, stays as it was drawn."""
        fresh = {key: value for key, value in self.state_dict().items() if key.startswith(("heads.", "extras."))}
        return fresh | {key: value for key, value in state.items() if not key.startswith("decoder.")}

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Views (B, k, v, v) in 0..1 -> (logits (B, outputs), extras (B, 2 or 3))."""
        features = self.encoder(colour_view(views) if self.colour else views * 2 - 1)
        return self.heads(features[:, None]), self.extras(features.mean(dim=(-2, -1)))


def train(modality: str, recipe: EncoderRecipe) -> nn.Module:
    """Train one modality's encoder and return the averaged classifier."""
    module = Classifier(Config(), modality)
    exported = recipe.start is not None and recipe.start.is_dir()  # an export holds no heads of single encoders
    loop.load_start(module.encoder if exported else module, recipe.start, f"encoders.{modality}.")
    if recipe.settled:
        settled.settle(module, recipe.settled)
    return fit(recipe.name or f"encoder_{modality}", module, modality, recipe)


def fit(name: str, module: nn.Module, modality: str, recipe: EncoderRecipe, judged: int = 0) -> nn.Module:
    """Train a module, views (B, k, v, v) in 0..1 -> (logits (B, outputs), extras (B, 2 or 3)), on one modality's views.

    module.heads.cuts are the cut points of the grade. judged: side of the validation views [px], 0 for the size that
    the encoder sees in use, whatever it was trained at. Returns the averaged module.
    """
    cases, views, usable = planes.views_of(modality, recipe.run)
    every, side = targets.Targets(cases), Config().seen(modality)
    device = loop.device_of(recipe)
    rows = np.flatnonzero(np.isin(every.split, data.LEARNT) & usable)
    if modality == labels.DISC_CUP.name:
        every.extras[rows, 2] = [ratio(views[row]) for row in rows]
    drawn = chances(every, rows)
    checked = np.flatnonzero((every.split == "val") & usable)

    def draw(generator: torch.Generator) -> loop.Batch:
        numbers = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        chosen = numbers.choice(rows, recipe.batch, p=drawn)
        (seen,), left = augment.magnify([tensor(views, chosen, recipe.side or side, device)], generator)
        if modality == labels.COLOUR.name:
            seen = augment.equalise(augment.colour(seen, generator), generator, augment.EQUALISED)
        (seen,) = augment.flip([seen], generator, upside=False)
        (seen,) = augment.turn([seen], generator, degrees=20, zoom=0.12, shift=0.03)
        if modality == labels.COLOUR.name:
            seen = augment.compress(seen, generator)  # last: the blocks of a file lie along its rows
        share = numbers.beta(recipe.mixed, recipe.mixed) if recipe.mixed else 1.0
        seen = blend(seen, share).contiguous(memory_format=torch.channels_last)
        learnt = every.seen_in_part(chosen, left.numpy() < _WHOLE).batch(slice(None), device)
        return {"views": seen, "share": torch.tensor(share), **learnt}

    def loss(module: nn.Module, batch: loop.Batch) -> dict[str, Tensor]:
        said, cuts = module(batch["views"]), loop.bare(module).heads.cuts
        return blended(lambda part: targets.loss(said[0], cuts, part, said[1]), batch)

    def validate(module: nn.Module) -> dict[str, float]:
        return targets.figures(every, checked, logits_of(module, views, checked, judged or side, device))

    return loop.fit(name, module, draw, loss, recipe, validate)


def chances(every: targets.Targets, rows: np.ndarray) -> np.ndarray:
    """How likely each of the rows to learn is drawn (len(rows),): see `Targets.sampling`; equalised ones count half."""
    drawn = every.sampling(rows) * np.where(every.folder[rows] == "eyepacs_equalized", 0.5, 1)
    return drawn / drawn.sum()


@torch.no_grad()
def logits_of(
    module: nn.Module, views: np.ndarray, rows: np.ndarray, side: int, device: torch.device = _CPU
) -> np.ndarray:
    """Logits float32 (n, len(OUTPUTS)) of some rows of cached views, scaled to `side` [px]."""
    parts = np.array_split(rows, len(rows) // 32 + 1)
    return torch.cat([module(tensor(views, part, side, device))[0].cpu() for part in parts]).numpy()


def blend(values: Tensor, share: float) -> Tensor:
    """Of every eye (B, ...) `share`, and for the rest the eye before it in the batch."""
    return torch.lerp(values.roll(1, 0), values, share)


def blended(loss: Callable[[loop.Batch], dict[str, Tensor]], batch: loop.Batch) -> dict[str, Tensor]:
    """Terms of a batch whose views are a `blend`: each eye's targets count as much as the eye does."""
    share, own = float(batch["share"]), loss(batch)
    if share == 1:
        return own
    other = loss({name: values.roll(1, 0) if values.ndim else values for name, values in batch.items()})
    return {name: share * term + (1 - share) * other[name] for name, term in own.items()}


def ratio(view: np.ndarray) -> float:
    """Vertical cup-to-disc ratio in tenths of uint8 (v, v, 2), -1 where no disc is seen.

    Few eyes are labelled as cupped, all have a ratio: an encoder that has learnt it tells cupping by little more.
    """
    found = measures.vertical_diameters(*(view.transpose(2, 0, 1) / np.float32(255)))
    return -1 if found is None else 10 * found[1] / found[0]


def tensor(views: np.ndarray, rows: np.ndarray, side: int, device: torch.device) -> Tensor:
    """Some rows of uint8 (N, v, v, k), a memory map -> float32 (n, k, side, side) in 0..1."""
    seen = [cv2.resize(views[row], (side, side), interpolation=cv2.INTER_AREA) for row in rows]
    return feature_cache.tensor(np.stack(seen).reshape(len(rows), side, side, -1)).to(device)


if __name__ == "__main__":
    chosen_recipe, chosen_modality = parse(EncoderRecipe, modality=[m.name for m in labels.MODALITIES])
    torch.manual_seed(chosen_recipe.seed)
    train(chosen_modality, chosen_recipe)
