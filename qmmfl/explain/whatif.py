"""What if: a modality is dropped or exchanged, or a region of the photograph is hidden, and every probability moves.

Unlike a map this is an experiment with the model: it says what a change does to the score, not where the score is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from .. import labels
from ..conclusions import calibrate, call_grade, find_findings
from ..nets import GRADE, OEDEMA, OUTPUTS, THREAT
from ..nets.runtime import Scores
from ..pipeline import Pipeline
from ..records import Photograph
from ..weights import Card
from .agreement import KEY
from .probe import ORDER
from .reading import NAMES, NO_NUMBERS, ExplanationError, Reading, Source, check, read, stand

_FILL_SIDE = 256  # [px] the surround is carried into a hidden region on a copy this large; it is smooth anyway


@dataclass(frozen=True)
class Move:
    """How one score moves. Probabilities are calibrated, 0..1; logits before calibration. Of "GRADE" the probability is
    that of more than mild, of "VTDR" that of a grade that threatens vision.

    grades: the grades that are called, before and after, of "GRADE" alone. flags: of "NORMAL" alone, whether it is
    flagged, before and after, which hangs on the other scores, too.
    """

    code: str
    name: str
    before: float
    after: float
    threshold: float
    logit_before: float
    logit_after: float
    grades: tuple[int, int] | None = None
    flags: tuple[bool, bool] | None = None

    @property
    def crosses(self) -> bool:
        """Whether the call changes."""
        calls = self.grades or self.flags
        if calls:
            return calls[0] != calls[1]
        return (self.before >= self.threshold) != (self.after >= self.threshold)


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
    """The features of one modality become zero, as if its encoder had seen nothing.

    Raises ValueError for an unknown modality, ExplanationError for an eye that is not gradable.
    """
    return _exchange(pipeline, source, modality, None, f"without {_title(modality)}")


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
    field = reading.frame.field_mask()
    share = (mask & field).sum() / field.sum()
    return _compare(pipeline.card, reading, before, after, f"with {100 * share:.1f} % of the field hidden")


def fill(reading: Reading, mask: np.ndarray) -> np.ndarray:
    """Canonical square, uint8 (S, S, 3), with the places under `mask`, bool (H, W), filled from their surround.

    Fast marching inpainting (Telea 2004) on a small copy: no black hole, which would itself be a finding.
    """
    side = reading.square.shape[0]
    hidden = reading.frame.warp(mask.astype(np.float32)) > 0
    field = reading.field(side) & (reading.frame.warp(np.ones(mask.shape, np.float32)) > 0)  # a camera may have cut it
    if not (hidden & field).any():
        raise ExplanationError("the region lies outside the field of view; draw it on the fundus")
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
        after = network.heads(network.fusion(changed))[0]
    return _compare(pipeline.card, reading, before, after, change)


def _compare(card: Card, reading: Reading, before: Tensor, after: Tensor, change: str) -> WhatIf:
    if not torch.isfinite(after).all():
        raise ExplanationError(NO_NUMBERS)
    codes = [code for code in (*labels.FINDINGS, OEDEMA) if code in card.calibrations]
    was, now = before.cpu().numpy(), after.cpu().numpy()
    moves = {code: _move(card, code, was, now) for code in (*codes, GRADE, THREAT)}
    return WhatIf(change, moves, reading.report.eye.side)


def _move(card: Card, code: str, before: np.ndarray, after: np.ndarray) -> Move:
    threshold = card.grade.threshold if code in labels.GRADED else card.calibrations[code].threshold
    grades = (call_grade(card.grade, before)[1], call_grade(card.grade, after)[1]) if code == GRADE else None
    flags = (_flags_none(card, before), _flags_none(card, after)) if code == "NORMAL" else None
    was, now = (float(each[OUTPUTS.index(code)]) for each in (before, after))
    chances = probability(card, code, before), probability(card, code, after)
    return Move(code, NAMES[code], *chances, threshold, was, now, grades, flags)


def _flags_none(card: Card, logits: np.ndarray) -> bool:
    """Whether a report would say that no listed abnormality is flagged, at logits (len(OUTPUTS),)."""
    unasked = np.zeros(0)  # of what the fusion says, the logits alone decide
    found = find_findings(card, Scores(logits, unasked, unasked, unasked), None)
    return any(each.code == "NORMAL" and each.suspected for each in found)


def probability(card: Card, code: str, logits: np.ndarray) -> float:
    """Calibrated probability 0..1 of one score, as the pipeline reports it, at logits (len(OUTPUTS),)."""
    if code in labels.GRADED:
        return float(call_grade(card.grade, logits)[0][labels.GRADED[code] :].sum())
    return calibrate(card, code, float(logits[OUTPUTS.index(code)]))


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
