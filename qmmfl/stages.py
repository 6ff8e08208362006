"""The networks' part of one reading, stage by stage. A stage that fails costs what is built on it, not the reading."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from . import labels
from .nets import Network
from .nets.network import bounded

Progress = Callable[[int, int, str], None]

FIELD_STAGE, FUSION_STAGE, MEASURE_STAGE = "Field of view and quality", "Encoders and fusion", "Measurements"
STAGES = (FIELD_STAGE, *(modality.title for modality in labels.SYNTHESES), FUSION_STAGE, MEASURE_STAGE)
INPUT_STAGE = "The networks' input"  # too quick to be told as a stage, but it can fail

_NO_MEMORY = "{}: memory ran out, so it could not be computed; close other programs and read the photograph again."
_NO_NUMBERS = (
    "{}: the network gave values that are no numbers, so it is not shown; "
    "read the photograph again, and check the weights (qmmfl weights verify) if it repeats."
)
_FAILED = (
    "{}: the network failed ({}), so it could not be computed; "
    "read the photograph again, and report this sentence if it repeats."
)
_ALLOCATOR = "can't allocate memory"  # a processor's allocator says so in a plain RuntimeError


@dataclass(frozen=True, eq=False)
class Scores:
    """What the fusion says about one square.

    logits, bias: (len(OUTPUTS),). maps: (len(OUTPUTS), M, h, w). features: (M, D), fused, mean over positions.
    """

    logits: np.ndarray
    bias: np.ndarray
    maps: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """planes: modality -> (k, s, s) in 0..1, of the stages that went well. scores: None where a modality is missing or
    the fusion failed. failures: title of each stage that failed -> the sentence that says why and the cure.
    """

    planes: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Scores | None = None
    failures: Mapping[str, str] = field(default_factory=dict)


class _NoNumber(ArithmeticError):
    """A network gave NaN or infinity."""


@torch.no_grad()
def run(network: Network, square: np.ndarray, device: torch.device, progress: Progress) -> Outcome:
    """Every network about one canonical square, uint8 (S, S, 3) RGB, each stage told to `progress` before it begins."""
    failures: dict[str, str] = {}
    planes: dict[str, Tensor] = {}
    arrays: dict[str, np.ndarray] = {}
    scores = None
    with _border(INPUT_STAGE, failures):
        x = torch.from_numpy(square).to(device).permute(2, 0, 1)[None].float() / 255
        prepared = network.prepare(x)
    if failures:
        return Outcome(failures=failures)
    for number, modality in enumerate(labels.SYNTHESES, start=1):
        progress(number, len(STAGES), modality.title)
        with _border(modality.title, failures):
            seen, field_of_view = prepared[modality.name]
            plane = bounded(_finite(network.synthesis[modality.name](seen)), field_of_view)
            arrays[modality.name] = _array(plane)
            planes[modality.name] = plane
    if failures:  # the fusion reads every modality
        return Outcome(arrays, None, failures)
    progress(len(planes) + 1, len(STAGES), FUSION_STAGE)
    with _border(FUSION_STAGE, failures):
        fused = network.fusion(_finite(network.encode(x, planes)))
        logits, maps = (_finite(each) for each in (network.heads(fused), network.heads.maps(fused)))
        features = _finite(fused).mean(dim=(-2, -1))
        scores = Scores(*(_array(each) for each in (logits, network.heads.bias[None], maps, features)))
    return Outcome(arrays, scores, failures)


@contextmanager
def _border(stage: str, failures: dict[str, str]) -> Iterator[None]:
    """What a network can die of ends here, as a sentence; everything else is a fault of ours and goes on."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        failures[stage] = _tell(_NO_MEMORY, stage, error)
    except _NoNumber as error:
        failures[stage] = _tell(_NO_NUMBERS, stage, error)
    except RuntimeError as error:  # torch's own type for every kernel
        failures[stage] = _tell(_NO_MEMORY if _ALLOCATOR in str(error) else _FAILED, stage, error)


def _tell(sentence: str, stage: str, error: Exception) -> str:
    where = "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger(__name__).error("%s: %s\n%s", stage, type(error).__name__, where)
    return sentence.format(stage, type(error).__name__)


def _finite(values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise _NoNumber
    return values


def _array(values: Tensor) -> np.ndarray:
    return values[0].float().cpu().numpy()
