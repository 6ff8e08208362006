"""What if: a modality is dropped or exchanged, or a region of the photograph is hidden, and every probability moves.

Unlike a map this is an experiment with the model: it says what a change does to the score, not where the score is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from .. import labels
from ..conclusions import find_findings, find_grade, find_oedema
from ..nets import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS, THREAT
from ..nets.runtime import Scores
from ..pipeline import Pipeline
from ..records import Photograph, Report
from ..weights import Card
from .agreement import KEY
from .probe import ORDER
from .reading import NAMES, NO_NUMBERS, ExplanationError, Reading, Source, check, read, stand

_FILL_SIDE = 256  # [px] the surround is carried into a hidden region on a copy this large; it is smooth anyway


@dataclass(frozen=True)
class Move:
    """How one score moves. Probabilities are calibrated, 0..1; logits before calibration. Of "GRADE" the probability is
    that of more than mild, of "VTDR" that of a grade that threatens vision.

    grades: the grades that are called, before and after, of "GRADE" alone. calls: whether it is suspected, flagged or
    reached, before and after; doubts: whether it is undecided. Both as a report would say, where they hang on the other
    scores, too.
    """

    code: str
    name: str
    before: float
    after: float
    threshold: float
    logit_before: float
    logit_after: float
    calls: tuple[bool, bool]
    doubts: tuple[bool, bool]
    grades: tuple[int | None, int | None] | None = None

    @property
    def crosses(self) -> bool:
        """Whether the call changes."""
        before, after = self.grades or self.calls
        return before != after


@dataclass(frozen=True)
class WhatIf:
    """change: what was changed, in words. moves: code -> Move, of every score these weights assess.

    side: of the eye, "right", "left" or None.
    """

    change: str
    moves: Mapping[str, Move]
    side: str | None = None

    @property
    def ranked(self) -> list[Move]:
        """The moves, the largest first."""
        return sorted(self.moves.values(), key=lambda move: -abs(move.after - move.before))


def drop_modality(pipeline: Pipeline, source: Source, modality: str) -> WhatIf:
    """The features of one modality become zero, as if it had not been given; `clear_lesions` shows an empty one.

    Raises ValueError for an unknown modality, ExplanationError for an eye that is not gradable.
    """
    return _exchange(pipeline, source, modality, None, f"with {_title(modality)} left out")


def clear_lesions(pipeline: Pipeline, source: Source) -> WhatIf:
    """The encoder of the lesion maps sees maps without any lesion; the rest stays as it is. Raises likewise."""
    reading, name = _read(pipeline, source), labels.LESION_MAPS.name
    with pipeline.borrow() as network, torch.no_grad():
        empty = network.encoders[name](torch.full_like(reading.views[name], -1))[0]
    reference = np.zeros(tuple(reading.features.shape[1:]), np.float32)
    reference[ORDER.index(name)] = empty.cpu().numpy()
    return _exchange(pipeline, reading, name, reference, "with no lesion on the lesion maps")


def swap_modality(pipeline: Pipeline, source: Source, modality: str, reference: np.ndarray | None = None) -> WhatIf:
    """The features of one modality become those of an average eye.

    reference: float (M, D) or (M, D, h, w), mean features of reference eyes; without it those in the weights' card.
    Raises as `drop_modality`, and ValueError where there is no reference or it does not fit these weights.
    """
    if reference is None:
        reference = card_reference(pipeline.card)
    return _exchange(pipeline, source, modality, reference, f"with {_title(modality)} of an average reference eye")


def hide_region(pipeline: Pipeline, source: Source, region: np.ndarray | tuple[int, int, int, int]) -> WhatIf:
    """A region of the photograph is painted over with its surround, and the whole pipeline reads the result.

    region: bool (H, W), True is hidden, or a box (x, y, width, height), both in [px] of the photograph.
    Raises ValueError for a region of another shape, ExplanationError where nothing or all of the fundus is hidden.
    """
    reading = _read(pipeline, source)
    mask = _mask(reading.report.photograph, region)
    square = torch.from_numpy(fill(reading, mask)).to(pipeline.device).permute(2, 0, 1)[None].float() / 255
    with pipeline.borrow() as network, torch.no_grad():
        before, after = network.heads(reading.fused)[0], network(square).logits[0]
    if any(_passes(pipeline.card, gate, before) > _passes(pipeline.card, gate, after) for gate in (FUNDUS, GRADABLE)):
        raise ExplanationError(
            "with so much hidden the rest would not be read as a photograph of a fundus; draw a smaller box"
        )
    field = reading.frame.field_mask()
    share = (mask & field).sum() / field.sum()
    box = "" if isinstance(region, np.ndarray) else " (box {2} x {3} px at {0}, {1})".format(*region)
    return _compare(pipeline.card, reading, before, after, f"with {100 * share:.1f} % of the field hidden{box}")


def fill(reading: Reading, mask: np.ndarray) -> np.ndarray:
    """Canonical square, uint8 (S, S, 3), with the places under `mask`, bool (H, W), filled from their surround.

    Fast marching inpainting (Telea 2004) on a small copy: no black hole, which would itself be a finding.
    """
    side = reading.square.shape[0]
    hidden = reading.frame.warp(mask.astype(np.float32)) > 0
    field = reading.field(side) & (reading.frame.warp(np.ones(mask.shape, np.float32)) > 0)  # a camera may have cut it
    if not (hidden & field).any():
        raise ExplanationError("the region lies outside the field of view; choose one on the fundus")
    if (hidden & field).sum() > 0.9 * field.sum():
        raise ExplanationError(
            "the region covers the whole fundus, so that nothing is left to read; draw a smaller one"
        )
    small = cv2.resize(reading.square, (_FILL_SIDE, _FILL_SIDE), interpolation=cv2.INTER_AREA)
    unknown = cv2.resize((hidden | ~field).astype(np.float32), (_FILL_SIDE, _FILL_SIDE), interpolation=cv2.INTER_AREA)
    painted = cv2.inpaint(small, (unknown > 0).astype(np.uint8), 5, cv2.INPAINT_TELEA)
    painted = cv2.resize(painted, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.where((hidden & field)[..., None], painted, reading.square)


def card_reference(card: Card) -> np.ndarray:
    """Mean features of reference eyes float32 (M, D) from the card. Raises ValueError where there are none."""
    stored = card.metrics.get(KEY, {}).get("reference")
    if stored is None:
        raise ValueError("these weights carry no mean features of reference eyes; pass them as `reference`")
    return np.array([stored["features"][name] for name in ORDER], np.float32)


def _exchange(pipeline: Pipeline, source: Source, modality: str, reference: np.ndarray | None, change: str) -> WhatIf:
    reading = _read(pipeline, source)
    index = ORDER.index(modality)
    changed = reading.features.clone()
    if reference is None:
        changed[:, index] = 0
    else:
        shape = tuple(changed.shape[1:])
        if reference.shape not in (shape, shape[:2]):
            raise ValueError(f"reference features are {reference.shape}, these weights want {shape[:2]} or {shape}")
        given = torch.from_numpy(reference[index]).to(changed)
        changed[:, index] = given if given.ndim == 3 else given[:, None, None]
    with pipeline.borrow() as network, torch.no_grad():
        before = network.heads(reading.fused)[0]
        after = network.heads(network.fuse(changed))[0]
    return _compare(pipeline.card, reading, before, after, change)


def _compare(card: Card, reading: Reading, before: Tensor, after: Tensor, change: str) -> WhatIf:
    if not torch.isfinite(after).all():
        raise ExplanationError(NO_NUMBERS)
    was, now = (_concluded(card, reading.report, each.cpu().numpy()) for each in (before, after))
    codes = [code for code in (*labels.FINDINGS, OEDEMA) if code in card.calibrations]
    moves = {}
    for code in (*codes, GRADE, THREAT):
        old, new, output = stand(was, code), stand(now, code), OUTPUTS.index(code)
        moves[code] = Move(
            code,
            NAMES[code],
            before=old.probability,
            after=new.probability,
            threshold=old.threshold,
            logit_before=float(before[output]),
            logit_after=float(after[output]),
            calls=(old.suspected, new.suspected),
            doubts=(bool(old.undecided), bool(new.undecided)),
            grades=(was.dr.grade, now.dr.grade) if code == GRADE else None,
        )
    return WhatIf(change, moves, reading.report.eye.side)


def _passes(card: Card, gate: str, logits: Tensor) -> bool:
    known = card.calibrations.get(gate)
    return known is None or bool(known.probability(float(logits[OUTPUTS.index(gate)])) >= known.threshold)


def _concluded(card: Card, report: Report, logits: np.ndarray) -> Report:
    """The report as it would be at logits (len(OUTPUTS),)."""
    unasked = np.zeros(0)  # of what the fusion says, the logits alone decide
    scores = Scores(logits, unasked, unasked, unasked)
    said = {"dr": find_grade(card, scores, None), "dme": find_oedema(card, scores, None)}
    return replace(report, findings=find_findings(card, scores, None), **said)


def _read(pipeline: Pipeline, source: Source) -> Reading:
    reading = read(pipeline, source)
    stand(reading.report, GRADE)  # refuses an eye whose numbers are withheld
    return reading


def _title(modality: str) -> str:
    check(GRADE, modality=modality)
    if modality == labels.FUSED:
        raise ValueError(f"name one modality: {', '.join(labels.BY_NAME)}")
    return labels.BY_NAME[modality].title.lower()


def _mask(photograph: Photograph, region: np.ndarray | tuple[int, int, int, int]) -> np.ndarray:
    shape = photograph.pixels.shape[:2]
    if isinstance(region, np.ndarray):
        if region.shape != shape or region.dtype != bool:
            raise ValueError(f"a region is bool {shape} like the photograph, got {region.dtype} {region.shape}")
        return region
    x, y, width, height = region
    mask = np.zeros(shape, bool)
    mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    return mask
