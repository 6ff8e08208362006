"""One explanation: where one score of one photograph comes from, by one method."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import grid, labels
from ..nets import Network
from ..pipeline import Pipeline
from ..records import Report
from .agreement import Agreement, find_agreements
from .attributions import WINDOWS, integrate_gradients, occlude
from .cams import draw_cam
from .exact import open_heads
from .probe import Probe
from .reading import NAMES, NO_NUMBERS, ExplanationError, Reading, Source, Standing, check, read, stand

SCHEMA = 1
SIGNED = ("exact", "gradients", "occlusion")  # these also show what lowers a score
UNITS: Mapping[str, str] = {
    "exact": "logit; the mean over cells is the share of the score",
    "gradients": "logit per pixel of the map; the sum is about the score minus that of the bare input",
    "occlusion": "logit; how far the score falls when this place is bare",
}
LEAST_TOP = 6.0  # [logit] a cell of this value, were it everywhere, would lift a score from 5 % to 95 %
RELATIVE = "relative, 0 to 1; each map has its own scale"


@dataclass(frozen=True, eq=False)
class Explanation:
    """One map of one score.

    code: a finding, "GRADE", "VTDR" or "DME". method, modality: see `labels.METHODS`; "fused" is all modalities.
    square: float32 (s, s), in `unit`; signed where `method` is one of `SIGNED`. cell: width of the smallest thing that
    the map can tell apart [px] of the photograph; its height is that, too, unless the photograph was pulled out of
    shape (see `records.Report.grid`). place: square -> photograph, as in `records.Plane`, everything where it was seen.
    shares: modality -> its share of the score, and "bias" [logit]; their sum is `logit`, before calibration.
    view: side of what the encoders it is of see at most [px]. agreements: how maps of this kind did where the truth is
    known.
    parts: modality -> its exact map float32 (s, s) [logit], where method is "exact" and modality "fused".
    """

    report: Report
    code: str
    method: str
    modality: str
    square: np.ndarray
    cell: float
    standing: Standing
    logit: float
    shares: Mapping[str, float]
    place: Callable[[np.ndarray], np.ndarray]
    view: int
    seconds: float
    agreements: tuple[Agreement, ...] = ()
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The finding in words."""
        return NAMES[self.code]

    @property
    def unit(self) -> str:
        """What one value of the map is."""
        return UNITS.get(self.method, RELATIVE)

    @property
    def scale(self) -> float:
        """The value that pictures draw at full strength, the map's own.

        Exact maps have a least one, so that a weak map looks weak; above it a strong map is not one single colour.
        """
        if self.method == "exact":
            return max(LEAST_TOP, float(np.abs(self.square).max()))
        if self.method in SIGNED:
            return float(np.percentile(np.abs(self.square), 99.5)) or float(np.abs(self.square).max())
        return 1.0

    @property
    def pixels(self) -> np.ndarray:
        """float32 (H, W) in the photograph's frame and size, zero outside the field of view; made anew."""
        return self.place(self.square)

    def to_dict(self) -> dict[str, Any]:
        """explanation.json, schema 1: JSON types only."""
        whole = self.report.to_dict()
        seen = self.place(np.ones_like(self.square)) > 0  # every cell may be below the zeros outside the field
        pixels = np.where(seen, self.pixels, -np.inf)
        y, x = np.unravel_index(int(pixels.argmax()), pixels.shape)
        return {
            "schema": SCHEMA,
            "input": whole["input"],
            "eye": whole["eye"],
            "quality": whole["quality"],
            "finding": {
                "code": self.code,
                "name": self.name,
                "probability": self.standing.probability,
                "threshold": self.standing.threshold,
                "suspected": self.standing.suspected,
                "undecided": self.standing.undecided,
            },
            "logit": self.logit,
            "shares": dict(self.shares),
            "map": {
                "method": self.method,
                "modality": self.modality,
                "unit": self.unit,
                "cell_px": self.cell,
                "lowest": float(self.square.min()),
                "highest": float(self.square.max()),
                "scale": self.scale,
                "peak_px": [int(x), int(y)],
                "values": np.round(self.square.astype(float), 5).tolist() if self.square.shape[0] <= 32 else None,
            },
            "agreement": [asdict(each) for each in self.agreements],
            "provenance": whole["provenance"],
            "seconds": self.seconds,
            "notice": labels.NOTICE,
        }


def explain(
    pipeline: Pipeline,
    source: Source,
    code: str,
    method: str = "exact",
    modality: str = labels.FUSED,
    told: Callable[[], object] | None = None,
) -> Explanation:
    """Explain one score of one photograph; safe from several threads, which take turns.

    source: a photograph (path, uint8 (H, W, 3) RGB, `Photograph`), or a report of it by the same weights or a Reading,
    which saves reading it again. code: a finding's code, "GRADE", "VTDR" or "DME". method: one of `labels.METHODS`.
    modality: the encoder that is looked at, or "fused". A finding that is not suspected is explained too; `standing`
    says so. told: called before each of the passes that some methods take; what it raises ends the explanation.

    Raises ValueError for an unknown code, method or modality, PhotographError for what cannot be read, and
    ExplanationError for a finding that is not assessed, an eye that is not gradable, or a map with nothing in it.
    """
    check(code, method, modality)
    began = time.monotonic()
    reading = read(pipeline, source)
    standing = stand(reading.report, code)
    with pipeline.borrow() as network:
        opened = open_heads(network, reading)
        square = compute(network, reading, code, method, modality, told)
    if not np.isfinite(square).all():
        raise ExplanationError(NO_NUMBERS)
    if not np.any(square):
        raise ExplanationError(
            f"{labels.METHODS[method]} ({title(modality).lower()}) finds nothing that raises the score of "
            f"{NAMES[code]}; choose the method exact ({labels.METHODS['exact']}), which also shows what lowers it"
        )
    whole = (method, modality) == ("exact", labels.FUSED)
    return Explanation(
        report=reading.report,
        code=code,
        method=method,
        modality=modality,
        square=square,
        cell=_cell(reading, method, modality, square),
        standing=standing,
        logit=opened.logits[code],
        shares=opened.shares[code],
        place=partial(_place, reading=reading, method=method, modality=modality),
        view=max(pipeline.card.config.seen(name) for name in labels.BY_NAME if modality in (name, labels.FUSED)),
        agreements=find_agreements(pipeline.card.metrics, method, modality),
        seconds=round(time.monotonic() - began, 3),
        parts=dict(zip(labels.BY_NAME, opened.maps[code], strict=True)) if whole else {},
    )


@torch.inference_mode(False)
def compute(
    network: Network,
    reading: Reading,
    code: str,
    method: str,
    modality: str,
    told: Callable[[], object] | None = None,
) -> np.ndarray:
    """The map itself, float32 (s, s); no lock is taken, so the network must be borrowed or a copy."""
    if method == "exact":
        maps = open_heads(network, reading).maps[code]
        return maps.sum(axis=0) if modality == labels.FUSED else maps[list(labels.BY_NAME).index(modality)]
    probe = Probe(network, reading, modality, told).eval()
    if method == "gradients":
        return integrate_gradients(probe, reading, code)
    if method == "occlusion":
        return occlude(probe, reading, code)
    return draw_cam(probe, reading, code, method)


def align(square: np.ndarray, reading: Reading, method: str, modality: str) -> np.ndarray:
    """A map as `compute` makes it, so that everything lies where it was seen, see `grid.align`."""
    if _is_fine(method, modality):
        return square
    return grid.align(square, reading.features.shape[-1])


def _place(square: np.ndarray, reading: Reading, method: str, modality: str) -> np.ndarray:
    return reading.place(align(square, reading, method, modality))


def _is_fine(method: str, modality: str) -> bool:
    """Whether a map is of an encoder's input and not of its features."""
    return method in ("gradients", "occlusion") and modality != labels.FUSED


def title(modality: str) -> str:
    """A modality in words."""
    return "All modalities, fused" if modality == labels.FUSED else labels.BY_NAME[modality].title


def _cell(reading: Reading, method: str, modality: str, square: np.ndarray) -> float:
    """Gradients of a view are as fine as its pixels, occlusion as its window, every other map as the features."""
    if method == "occlusion":
        return reading.frame.wide / WINDOWS
    fine = _is_fine(method, modality)
    return reading.frame.wide / (square.shape[0] if fine else reading.features.shape[-1])
