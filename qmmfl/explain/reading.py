"""One read photograph, opened up: the tensors between its planes and its scores, for those who explain the scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .. import compression, fundus, labels
from ..nets import OEDEMA
from ..pipeline import Pipeline
from ..pipeline import Source as Picture
from ..records import Report

NAMES = labels.SCORES  # every score that can be explained

NO_NUMBERS = (
    "the network gave values that are no numbers, so nothing is shown; ask again, and if it repeats check the weights "
    "(qmmfl weights verify)"
)


class ExplanationError(ValueError):
    """A score that cannot be explained. The text is one sentence that says which, why and the cure."""


@dataclass(frozen=True)
class Standing:
    """What the report says about one score; of those in `labels.GRADED`, whether the grade is that or more."""

    probability: float  # calibrated, 0..1
    threshold: float  # 0..1
    suspected: bool
    undecided: bool | None


@dataclass(frozen=True, eq=False)
class Reading:
    """What the networks saw of one photograph. Tensors are float32 on the pipeline's device, without gradients.

    views: modality -> what its encoder sees (1, k, v, v). features: of the encoders (1, M, D, h, w). fused: what the
    heads read (1, M, 2 D, h, w), see `Network.fuse`.
    """

    report: Report
    frame: fundus.Frame
    square: np.ndarray  # uint8 (S, S, 3) RGB, the canonical square
    views: Mapping[str, Tensor]
    features: Tensor
    fused: Tensor
    prep: fundus.Prep

    def field(self, side: int) -> np.ndarray:
        """bool (side, side): the field of view in the square."""
        return fundus.square_mask(fundus.Prep(side, self.prep.margin))

    @property
    def place(self) -> Callable[[np.ndarray], np.ndarray]:
        """Square map (s, s) -> float32 (H, W) in the photograph's frame and size, zero outside the field of view."""
        return partial(_place, frame=self.frame)


Source = Reading | Report | Picture


def check(code: str, method: str = "exact", modality: str = labels.FUSED) -> None:
    """Raise ValueError for a score, method or modality that does not exist, with those that do."""
    for kind, word, known in (
        ("finding", code, NAMES),
        ("method", method, labels.METHODS),
        ("modality", modality, (*labels.BY_NAME, labels.FUSED)),
    ):
        if word not in known:
            raise ValueError(f"unknown {kind} {word!r}; choose one of {', '.join(known)}")


@torch.inference_mode(False)
def read(pipeline: Pipeline, source: Source) -> Reading:
    """Read a photograph, or take a report of it that these weights made, and open it up; a Reading is handed back.

    A report costs the encoders and the fusion again (a tenth of a reading), a photograph a whole reading more.
    Raises PhotographError for what cannot be read, ExplanationError where no network was asked or one failed,
    ValueError for a report or a Reading of other weights.
    """
    kept = isinstance(source, Reading)
    report = source.report if kept else source if isinstance(source, Report) else pipeline(source)
    origin = report.provenance
    if (origin.weights_sha256, origin.card) != (pipeline.card.sha256, pipeline.card.digest):
        raise ValueError("this report was made with other weights than those loaded; read the photograph again")
    if kept:
        return source
    if report.failures or not report.planes:
        raise ExplanationError(_refusal(report))
    prep = pipeline.card.prep
    square, frame = fundus.canonical(compression.heal(report.photograph, prep.size), prep)
    x = torch.from_numpy(square).to(pipeline.device).permute(2, 0, 1)[None].float() / 255
    planes = {
        m.name: torch.from_numpy(np.stack([report.planes[name].square for name in m.planes]))[None].to(pipeline.device)
        for m in labels.SYNTHESES
    }
    with pipeline.borrow() as network, torch.no_grad():
        views = {name: network.view(x, planes, name) for name in labels.BY_NAME}
        features = network.encode(x, planes)
        fused = network.fuse(features)
    if not torch.isfinite(fused).all():
        raise ExplanationError(NO_NUMBERS)
    return Reading(report, frame, square, views, features, fused, prep)


def stand(report: Report, code: str) -> Standing:
    """Where one score of a report stands. Raises ExplanationError where it is not assessed or withheld."""
    if code in labels.GRADED:
        least, dr = labels.GRADED[code], report.dr
        chance = dr.chance(least)
        if chance is None or dr.grade is None:
            raise ExplanationError(_refusal(report))
        return Standing(chance, dr.threshold, dr.grade >= least, dr.undecided(least))
    found = report.dme if code == OEDEMA else report.finding(code)
    if not found.assessed:
        known = [f.code for f in report.findings if f.assessed] + [*labels.GRADED] + [OEDEMA] * report.dme.assessed
        raise ExplanationError(f"{NAMES[code]} ({code}) is {labels.NOT_ASSESSED}; choose one of {', '.join(known)}")
    if found.probability is None or found.threshold is None:
        raise ExplanationError(_refusal(report))
    return Standing(found.probability, found.threshold, bool(found.suspected), found.undecided)


def _refusal(report: Report) -> str:
    name = report.photograph.name or "the photograph"
    why = " ".join(report.quality.reasons)
    state = "was not analysed completely" if report.failures else "is not gradable"
    return f"{name} {state}, so there is no score to explain. {why}".strip()


def _place(square: np.ndarray, frame: fundus.Frame) -> np.ndarray:
    return frame.unwarp(square.astype(np.float32)) * frame.field_mask()
