"""One photograph in, one report out."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from . import __version__, fundus, hub, labels, measures, photograph, quality, weights
from .nets import Network
from .nets.fusion import grade_probabilities
from .nets.network import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS
from .records import (
    DiscCup,
    Eye,
    Finding,
    Fundus,
    Grade,
    Lesion,
    Oedema,
    Photograph,
    Plane,
    Provenance,
    Quality,
    Report,
)

Progress = Callable[[int, int, str], None]

FIELD_STAGE, FUSION_STAGE, MEASURE_STAGE = "Field of view and quality", "Encoders and fusion", "Measurements"
STAGES = (FIELD_STAGE, *(modality.title for modality in labels.SYNTHESES), FUSION_STAGE, MEASURE_STAGE)

_UNGRADABLE = "withheld: the photograph is not gradable"
_NOT_FUNDUS = "It does not look like a colour photograph of the fundus; upload one, or take it again."
_POOR = "Image quality is too low to rely on: check focus, lighting and lashes, and take it again."
_FLAGGED = "another finding is flagged"
_NO_DISC = "withheld: no optic disc was found"


@dataclass(frozen=True, eq=False)
class _Scores:
    """What the networks say about one square, as numpy arrays."""

    planes: Mapping[str, np.ndarray]  # modality -> (k, s, s)
    logits: np.ndarray  # (len(OUTPUTS),)
    maps: np.ndarray  # (len(OUTPUTS), M, h, w)
    features: np.ndarray  # (M, D), fused, mean over positions


class Pipeline:
    """Reads photographs with one set of weights. Safe to call from several threads; they take turns."""

    def __init__(
        self, network: Network, card: weights.Card, source: str, device: str = "auto", banner: str | None = None
    ) -> None:
        """device: "auto" (a GPU where there is one), "cpu" or "cuda". banner: a sentence that the page must show."""
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("there is no GPU that torch can use; choose --device cpu")
        wanted = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.network = network.to(wanted).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
        self.card, self.source, self.banner = card, source, banner
        self.device = torch.device(wanted)
        self._lock = Lock()  # explanations hook the shared network: two readers at once would mix patients

    def __call__(
        self,
        source: Photograph | str | Path | np.ndarray,
        progress: Progress | None = None,
        *,
        override: bool = False,
    ) -> Report:
        """Read one photograph: a path, uint8 (H, W, 3) RGB pixels or a `Photograph`.

        progress(done, total, stage) is told before each stage. `override` computes every number also for a
        photograph that is not gradable (evaluation, or a clinician who asks for it).
        Raises PhotographError for what cannot be read.
        """
        began = time.monotonic()
        picture = _photograph(source)
        with self._lock:
            return self._read(picture, progress or _silent, override, began)

    @contextmanager
    def borrow(self) -> Iterator[Network]:
        """The network for one borrower at a time; until it is given back every other reader waits.

        The borrower must not call the pipeline (it would wait for itself) and leaves the network as it was.
        """
        with self._lock:
            yield self.network

    def _read(self, picture: Photograph, progress: Progress, override: bool, began: float) -> Report:
        progress(0, len(STAGES), FIELD_STAGE)
        try:
            square, frame = fundus.canonical(picture.pixels, self.card.prep)
        except fundus.FieldError:
            return self._unread(picture, (quality.BLANK,), began)
        faults = quality.find_faults(square)
        if faults and not override:
            return self._unread(picture, faults, began)
        scores = self._run(square, progress)
        progress(len(STAGES) - 1, len(STAGES), MEASURE_STAGE)
        (gradable, sharp), (is_fundus, fundus_ok) = (self._gate(scores, name) for name in (GRADABLE, FUNDUS))
        reasons = [*faults, *([] if fundus_ok else [_NOT_FUNDUS]), *([] if sharp else [_POOR])]
        withheld = _UNGRADABLE if reasons and not override else None
        return Report(
            photograph=picture,
            eye=measures.find_side(scores.planes["disc_cup"][0]),
            quality=Quality(not reasons, gradable, tuple(reasons)),
            fundus=Fundus(fundus_ok, is_fundus),
            findings=self._findings(scores, withheld),
            dr=self._grade(scores, withheld),
            dme=self._oedema(scores, withheld),
            disc_cup=self._disc_cup(scores, frame, withheld),
            lesions=self._lesions(scores, withheld),
            planes=self._planes(scores, frame),
            contributions={} if withheld else self._contributions(scores),
            provenance=self._provenance(began),
            maps={} if withheld else {name: scores.maps[OUTPUTS.index(name)] for name in self._explained()},
            grid=(frame.x, frame.y, frame.side, frame.side),
            features=None if withheld else scores.features,
        )

    @torch.no_grad()
    def _run(self, square: np.ndarray, progress: Progress) -> _Scores:
        x = torch.from_numpy(square).to(self.device).permute(2, 0, 1)[None].float() / 255
        prepared = self.network.prepare(x)
        planes: dict[str, Tensor] = {}
        for number, modality in enumerate(labels.SYNTHESES, start=1):
            progress(number, len(STAGES), modality.title)
            planes[modality.name] = self.network.synthesize(prepared, modality.name)
        progress(len(planes) + 1, len(STAGES), FUSION_STAGE)
        fused = self.network.fusion(self.network.encode(x, planes))
        maps = self.network.heads.maps(fused)[0].float().cpu().numpy()
        logits = self.network.heads(fused)[0].float().cpu().numpy()
        features = fused[0].mean(dim=(-2, -1)).float().cpu().numpy()
        return _Scores({name: plane[0].float().cpu().numpy() for name, plane in planes.items()}, logits, maps, features)

    def _probability(self, scores: _Scores, name: str) -> float:
        calibration = self.card.calibrations[name]
        logit = calibration.scale * float(scores.logits[OUTPUTS.index(name)]) + calibration.offset
        return float(1 / (1 + np.exp(-np.clip(logit, -60, 60))))

    def _gate(self, scores: _Scores, name: str) -> tuple[float | None, bool]:
        """Probability, and whether it lets the photograph pass; without a calibration the gate stands open."""
        if name not in self.card.calibrations:
            return None, True
        probability = self._probability(scores, name)
        return probability, probability >= self.card.calibrations[name].threshold

    def _findings(self, scores: _Scores | None, withheld: str | None) -> tuple[Finding, ...]:
        found = [self._finding(code, scores, withheld) for code in labels.FINDINGS]
        if any(finding.suspected for finding in found if finding.code != "NORMAL"):
            # "No listed abnormality flagged" must not stand beside one that is.
            found = [
                replace(f, suspected=False, reason=_FLAGGED) if f.code == "NORMAL" and f.suspected else f for f in found
            ]
        return tuple(found)

    def _finding(self, code: str, scores: _Scores | None, withheld: str | None) -> Finding:
        name, calibration = labels.FINDINGS[code], self.card.calibrations.get(code)
        if calibration is None:
            return Finding(code, name, False, None, None, None, labels.NOT_ASSESSED)
        if withheld or scores is None:
            return Finding(code, name, True, None, calibration.threshold, None, withheld)
        probability = self._probability(scores, code)
        suspected, undecided = probability >= calibration.threshold, calibration.undecided(probability)
        return Finding(code, name, True, probability, calibration.threshold, suspected, undecided=undecided)

    def _grade(self, scores: _Scores, withheld: str | None) -> Grade:
        if withheld:
            return Grade(None, None, None, None, withheld)
        score = torch.tensor([self.card.grade.scale * float(scores.logits[OUTPUTS.index(GRADE)])], dtype=torch.float64)
        each = grade_probabilities(score, torch.tensor(self.card.grade.cuts, dtype=torch.float64))[0].numpy()
        grade = int((1 - np.cumsum(each)[:-1] > 0.5).sum())  # the median, which ordinal error favours over the mode
        return Grade(
            tuple(float(p) for p in each), grade, grade >= labels.MORE_THAN_MILD, grade >= labels.VISION_THREATENING
        )

    def _oedema(self, scores: _Scores, withheld: str | None) -> Oedema:
        calibration = self.card.calibrations.get(OEDEMA)
        if calibration is None:
            return Oedema(False, None, None, None, labels.NOT_ASSESSED)
        if withheld:
            return Oedema(True, None, calibration.threshold, None, withheld)
        probability = self._probability(scores, OEDEMA)
        return Oedema(True, probability, calibration.threshold, probability >= calibration.threshold)

    def _disc_cup(self, scores: _Scores, frame: fundus.Frame, withheld: str | None) -> DiscCup:
        if withheld:
            return DiscCup(None, None, None, None, withheld)
        disc, cup = scores.planes["disc_cup"]
        diameters = measures.vertical_diameters(disc, cup)
        if diameters is None:
            return DiscCup(None, None, None, None, _NO_DISC)
        scale = frame.side / disc.shape[0]
        return DiscCup(diameters[1] / diameters[0], self.card.vcdr_error, diameters[0] * scale, diameters[1] * scale)

    def _lesions(self, scores: _Scores, withheld: str | None) -> dict[str, Lesion]:
        if withheld:
            return {code: Lesion(None, None) for code in labels.LESIONS}
        planes = scores.planes["lesions"]
        field = fundus.square_mask(fundus.Prep(planes.shape[-1], self.card.prep.margin))
        limits = self.card.lesion_thresholds
        return {
            code: measures.count_lesions(planes[i], limits[code], field) if code in limits else Lesion(None, None)
            for i, code in enumerate(labels.LESIONS)
        }

    def _planes(self, scores: _Scores, frame: fundus.Frame) -> dict[str, Plane]:
        result = {}
        for modality in labels.SYNTHESES:
            for name, square in zip(modality.planes, scores.planes[modality.name], strict=True):
                title, error = labels.PLANE_TITLES[name], self.card.plane_errors.get(name)
                result[name] = Plane(name, title, square, True, error, partial(_place, frame=frame))
        return result

    def _explained(self) -> list[str]:
        return [code for code in labels.FINDINGS if code in self.card.calibrations] + [GRADE]

    def _contributions(self, scores: _Scores) -> dict[str, dict[str, float]]:
        result = {}
        for name in self._explained():
            index = OUTPUTS.index(name)
            shares = scores.maps[index].astype(np.float64).mean(axis=(1, 2))
            result[name] = {m.name: float(share) for m, share in zip(labels.MODALITIES, shares, strict=True)}
            result[name]["bias"] = float(self.network.heads.bias[index])
        return result

    def _unread(self, picture: Photograph, reasons: tuple[str, ...], began: float) -> Report:
        """The report of a photograph that no network was asked about."""
        return Report(
            photograph=picture,
            eye=Eye(None, None),
            quality=Quality(False, None, reasons),
            fundus=Fundus(False, None),
            findings=self._findings(None, _UNGRADABLE),
            dr=Grade(None, None, None, None, _UNGRADABLE),
            dme=Oedema(OEDEMA in self.card.calibrations, None, None, None, _UNGRADABLE),
            disc_cup=DiscCup(None, None, None, None, _UNGRADABLE),
            lesions={code: Lesion(None, None) for code in labels.LESIONS},
            planes={},
            contributions={},
            provenance=self._provenance(began),
        )

    def _provenance(self, began: float) -> Provenance:
        return Provenance(
            package_version=__version__,
            weights_source=self.source,
            weights_sha256=self.card.sha256,
            prep=self.card.prep.digest,
            runtime=f"torch {torch.__version__} on {self.device.type}",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 3),
        )


def load(source: str | Path | None = None, device: str = "auto") -> Pipeline:
    """Pipeline with the embedded weights, those in a folder, or owner/repo@revision on the Hub.

    Where the Hub does not answer, the embedded weights are used; `Pipeline.banner` and the source in every report say
    so. Raises WeightsError for everything else that is wrong with the weights named.
    """
    banner = None
    try:
        folder, name = weights.find(source)
    except hub.Unreachable as error:
        banner = f"The embedded weights are in use, not the ones asked for: {error}."
        folder, name = weights.embedded(), f"embedded, because {source} could not be fetched"
    network, card = weights.load(folder)
    return Pipeline(network, card, name, device, banner)


def _photograph(source: Photograph | str | Path | np.ndarray) -> Photograph:
    if isinstance(source, Photograph):
        return source
    return photograph.from_pixels(source) if isinstance(source, np.ndarray) else photograph.read(source)


def _place(square: np.ndarray, frame: fundus.Frame) -> np.ndarray:
    return frame.unwarp(square) * frame.field_mask()


def _silent(done: int, total: int, stage: str) -> None:
    pass
