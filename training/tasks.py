"""What each synthesis net learns from, its loss and its validation figures.

A task offers: gather() -> training samples and their chances, checked (validation samples), patch [px], colour
(strength of the colour augmentation), turned (random rotation and zoom, or only mirrors and quarter turns), robust
(seen through narrow fields and lossy files too), prior (probability a fresh net starts from), loss(logits, batch) and
validate(module).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels, phantom
from qmmfl.nets.synthesis import SynthesisConfig

from . import metrics, pixels, taught, transplant
from .losses import Terms, colour_error, image_loss, segmentation_loss, vessel_correlation


class Task:
    """What the tasks share."""

    name = ""
    patch = 256
    colour = 1.0
    turned = False
    robust = False
    prior = 0.5

    def __init__(self, config: SynthesisConfig, recipe) -> None:
        self.config, self.recipe = config, recipe

    def gather(self) -> tuple[list[pixels.Sample], np.ndarray]:
        """All training samples, and the chance (n,) of each to be drawn."""
        simulated = list(pixels.phantoms(self.config.size, range(self.recipe.phantoms), self.planes()))
        sources = [(samples, weight) for samples, weight in [*self.sources(), (simulated, 0.6)] if samples]
        chances = np.concatenate([np.full(len(samples), weight / len(samples)) for samples, weight in sources])
        return [sample for samples, _ in sources for sample in samples], chances / chances.sum()

    @cached_property
    def checked(self) -> list[pixels.Sample]:
        """The validation samples."""
        return list(self.read("val"))

    def sources(self) -> list[tuple[list[pixels.Sample], float]]:
        """Kinds of real training samples, and how often each kind is drawn relative to the others."""
        return [(list(self.read("train")), 1.0)]

    def vary(self, sample: pixels.Sample, numbers: np.random.Generator) -> pixels.Sample:
        """A training sample as it is seen this time."""
        return sample

    def planes(self) -> tuple[str, ...]:
        """Names of the planes this task's net makes."""
        return labels.BY_NAME[self.name].planes

    @staticmethod
    @torch.no_grad()
    def predict(module: nn.Module, sample: pixels.Sample) -> np.ndarray:
        """float32 (k, S, S) in 0..1 of one whole square."""
        device = next(module.parameters()).device
        square = torch.from_numpy(sample.square).to(device).permute(2, 0, 1)[None].float() / 255
        return module(module.prepare(square)).sigmoid()[0].float().cpu().numpy()


def held_to_teacher(care: Tensor) -> Tensor:
    """care (B, 1, H, W) -> (B, 1, 1, 1), 1 where an eye's truth is a teacher's: half, or turned in from half."""
    return (care.amax((1, 2, 3), keepdim=True) < 0.75).float()


class Lesions(Task):
    """Per-pixel presence of the four lesions. Healthy eyes of other cameras teach what is none, and bear grafts.

    With a teacher, an earlier net of the same task, unlabelled eyes with retinopathy are held to what it finds there.
    """

    name, patch, turned, robust, prior = "lesions", 384, False, True, 0.01
    weights, shares = (8.0, 3.0, 3.0, 4.0), (2.0, 1.0, 1.0, 1.0)  # microaneurysms are the smallest and rarest
    imitated = 2.0  # what the teacher's cross entropy counts: its maps are weighted as the labels were, and soft

    def sources(self) -> list[tuple[list[pixels.Sample], float]]:
        """Eyes with lesion masks, eyes graded free of retinopathy, and those that a teacher has seen."""
        data, size, teacher = self.recipe.data, self.config.size, self.recipe.teacher
        healthy = list(pixels.healthy(data, "train", size))
        [(labelled, weight)] = super().sources()
        self.donors = [(sample, transplant.lift(sample)) for sample in labelled]
        others = [] if teacher is None else [(taught.lesions(data, size, teacher), 1.0)]
        return [(labelled, weight), (healthy, 1.0), *others]

    def vary(self, sample: pixels.Sample, numbers: np.random.Generator) -> pixels.Sample:
        """Half of the healthy eyes bear the lesions of a labelled one."""
        if sample.truth.any() or numbers.random() < 0.5:
            return sample
        return transplant.transplant(sample, *self.donors[numbers.integers(len(self.donors))], numbers)

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """Samples of one split."""
        return pixels.lesions(self.recipe.data, split, self.config.size)

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Terms:
        """Binary cross entropy, positives weighted, and one soft Dice per class over the batch; the teacher's maps
        count as the probabilities they are.
        """
        truth, care = batch["truth"], batch["care"]
        held = held_to_teacher(care)
        terms = segmentation_loss(logits, truth, care * (1 - held), self.weights, self.shares)
        if self.recipe.teacher:
            likened = segmentation_loss(logits, truth, (care * held > 0).float(), shares=self.shares)
            terms["teacher"] = self.imitated * likened["entropy"]
        return terms

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Area under the precision-recall curve per lesion over all pixels of the validation eyes."""
        truth, score = [], []
        for sample in self.checked:
            inside = sample.care > 0
            truth.append(sample.truth[:, inside] > 127)
            score.append(self.predict(module, sample)[:, inside].astype(np.float16))
        truth, score = np.concatenate(truth, 1), np.concatenate(score, 1)
        figures = {code: metrics.average_precision(truth[i], score[i]) for i, code in enumerate(labels.LESIONS)}
        return {"score": float(np.nanmean(list(figures.values()))), **figures}


class DiscCup(Task):
    """Disc and cup regions. Experts' outlines count as much as the many more of the teacher."""

    name, patch, turned, prior = "disc_cup", 256, True, 0.02

    def sources(self) -> list[tuple[list[pixels.Sample], float]]:
        """Photographs outlined by experts, and those outlined by the teacher."""
        teacher = list(pixels.disc_cup_teacher(self.recipe.data, self.config.size))
        return [*super().sources(), (teacher, 1.0)]

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """Samples of one split."""
        return pixels.disc_cup(self.recipe.data, split, self.config.size)

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Terms:
        """Binary cross entropy and soft Dice per region."""
        return segmentation_loss(logits, batch["truth"], batch["care"])

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean Dice at 0.5."""
        pairs = [(sample.truth > 127, self.predict(module, sample) > 0.5) for sample in self.checked]
        disc, cup = (float(np.mean([metrics.dice(t[i], p[i]) for t, p in pairs])) for i in (0, 1))
        return {"score": (disc + cup) / 2, "disc": disc, "cup": cup}


class Vessels(Task):
    """Arteries and veins, and through their maximum the vessel mask."""

    name, patch, turned, prior = "vessels", 384, True, 0.05

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """Samples of one split; LES-AV has no validation eyes."""
        return pixels.vessels(self.recipe.data, split, self.config.size)

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Terms:
        """Cross entropy and Dice per class and for either of them."""
        terms = segmentation_loss(logits, batch["truth"], batch["care"], (1.5, 1.5))
        either = segmentation_loss(
            logits.amax(1, keepdim=True), batch["truth"].amax(1, keepdim=True), batch["care"], (1.5,)
        )
        return {**terms, **{f"vessel_{key}": value for key, value in either.items()}}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean Dice at 0.5 of arteries, veins and vessels."""
        scores = []
        for sample in self.checked:
            care, truth, mask = sample.care > 0, sample.truth > 127, self.predict(module, sample) > 0.5
            pairs = [(truth[0], mask[0]), (truth[1], mask[1]), (truth.any(0), mask.any(0))]
            scores.append([metrics.dice(t & care, m & care) for t, m in pairs])
        artery, vein, vessel = np.mean(scores, axis=0).tolist()
        return {"score": (artery + vein + vessel) / 3, "artery": artery, "vein": vein, "vessel": vessel}


class Arteriovenous(Task):
    """The arteriovenous angiogram: registered pairs, simulated eyes, and photographs of other cameras.

    The pairs are few and of few cameras. Of other photographs an angiogram is known to show the vessels, so that it is
    held to the map of the vessel net (the teacher) there, at vessel scale alone: brightness stays free.
    """

    name, patch, turned = "ffa_arteriovenous", 256, True

    def sources(self) -> list[tuple[list[pixels.Sample], float]]:
        """Pairs, and a third as often photographs with the teacher's vessels; the care of those is a half."""
        recipe = self.recipe
        if recipe.teacher is None:
            return super().sources()
        return [*super().sources(), (taught.vessels(recipe.data, self.config.size, recipe.teacher), 0.3)]

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """The pairs that are not locked; none are left for validation, so training pairs stand in, and say so."""
        return pixels.angiograms(self.recipe.data, "train", self.config.size)

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Terms:
        """L1 and one minus the local correlation, which ignores each camera's own brightness and contrast."""
        made, truth, care = logits.sigmoid(), batch["truth"], batch["care"]
        held = held_to_teacher(care)
        terms = image_loss(made, truth, care * (1 - held))
        if self.recipe.teacher:
            unlike = 1 - vessel_correlation(made, truth, care)
            terms["teacher"] = (unlike * held[..., 0, 0]).sum() / held.sum().clamp_min(1)
        return terms

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean correlation inside the common field, whole and at vessel scale, on the training pairs."""
        scores = []
        for sample in self.checked:
            made, true, care = self.predict(module, sample)[0], sample.truth[0] / 255.0, sample.care > 0
            scores.append([metrics.correlation(made[care], true[care]), metrics.detail_correlation(made, true, care)])
        whole, detail = np.mean(scores, axis=0).tolist()
        return {"score": (whole + detail) / 2, "train_whole": whole, "train_detail": detail}


class Arterial(Task):
    """The arterial angiogram: composed from labelled arteries and veins, and simulated eyes."""

    name, patch, turned = "ffa_arterial", 256, True

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """DRIVE and LES-AV with an angiogram composed from their labels."""
        for sample in pixels.vessels(self.recipe.data, split, self.config.size):
            yield pixels.Sample(
                sample.name, sample.square, pixels.compose_arterial(sample)[None], sample.care, sample.frame
            )

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Terms:
        """As for the arteriovenous phase."""
        return image_loss(logits.sigmoid(), batch["truth"], batch["care"])

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Correlation with the composed angiogram, whole and at vessel scale."""
        return Arteriovenous.validate(self, module)


class Spectra(Task):
    """The seven bands, learnt on simulated eyes; on real ones they must give back the colours they came from."""

    name, patch, turned, colour, prior = "msi", 256, True, 0.4, phantom.MEAN_LEVEL
    blue = 0.2  # what the blue channel counts in the colours given back: the bands end at 507 nm

    def __init__(self, config: SynthesisConfig, recipe) -> None:
        super().__init__(config, recipe)
        self.to_colour = torch.from_numpy(phantom.band_rgb_weights(phantom.gaussian_camera()))

    def sources(self) -> list[tuple[list[pixels.Sample], float]]:
        """Real photographs of four cameras, for the colours alone."""
        return [(list(pixels.photographs(self.recipe.data, self.config.size, 25, len(self.planes()))), 0.3)]

    def read(self, split: str) -> Iterable[pixels.Sample]:
        """Simulated eyes; those of validation are of other seeds."""
        return pixels.phantoms(self.config.size, range(10_000, 10_012), self.planes()) if split == "val" else iter(())

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Terms:
        """Relative absolute error per band, and how far the bands seen by a camera are from the real photograph."""
        made, real = logits.sigmoid(), (batch["care"].amax((1, 2, 3), keepdim=True) == 0).float()
        wrong = (made - batch["truth"]).abs() / (batch["truth"] + 0.05) * batch["care"]
        wrong = wrong.sum() / batch["care"].sum().clamp_min(1) / made.shape[1] * 3
        away = (colour_error(made, batch["square"], self.to_colour, self.blue) * real).sum() / real.sum().clamp_min(1)
        return {"relative": wrong, "colour": away}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean relative error per band inside the field of view."""
        errors = []
        for sample in self.checked:
            inside, true = sample.care > 0, sample.truth / 255.0
            wrong = np.abs(self.predict(module, sample) - true) / np.maximum(true, 0.02)
            errors.append(np.median(wrong[:, inside], axis=1))
        bands = dict(zip((str(nm) for nm in labels.BANDS), np.mean(errors, axis=0).tolist(), strict=True))
        return {"score": -float(np.mean(list(bands.values()))), **bands}


TASKS: Mapping[str, Callable] = {t.name: t for t in (Lesions, DiscCup, Vessels, Arteriovenous, Arterial, Spectra)}
