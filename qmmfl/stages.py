"""The networks' part of one reading, stage by stage. A stage that fails costs what is built on it, not the reading."""

import logging
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from . import labels
from .nets.runtime import NotFinite, Runtime, Scores

Progress = Callable[[int, int, str], None]

FIELD_STAGE, FUSION_STAGE, MEASURE_STAGE = "Field of view and quality", "Encoders and fusion", "Measurements"
STAGES = (FIELD_STAGE, *(modality.title for modality in labels.SYNTHESES), FUSION_STAGE, MEASURE_STAGE)
INPUT_STAGE = "The networks' input"  # too quick to be told as a stage, but it can fail

_NO_MEMORY = "{}: memory ran out, so it could not be computed; close other programs and read the photograph again."
_NO_NUMBERS = (
    "{0}: the network gave values that are no numbers, so it is not shown; "
    "read the photograph again; if it repeats check the weights (qmmfl weights verify) and quote reference {2}."
)
_FAILED = (
    "{0}: the network failed ({1}), so it could not be computed; "
    "read the photograph again, and report it with reference {2} if it repeats."
)
_ALLOCATORS = ("can't allocate memory", "bad_alloc", "bad allocation")  # in a plain RuntimeError

FAILURES = (NotFinite, MemoryError, RuntimeError)  # the last is torch's and OpenVINO's own type for every kernel


@dataclass(frozen=True, eq=False)
class Outcome:
    """planes: modality -> (k, s, s) in 0..1, of the stages that went well. scores: None where a modality is missing or
    the fusion failed. failures: title of each stage that failed -> the sentence that says why and the cure.
    """

    planes: Mapping[str, np.ndarray] = field(default_factory=dict)
    scores: Scores | None = None
    failures: Mapping[str, str] = field(default_factory=dict)


def run(runtime: Runtime, square: np.ndarray, progress: Progress) -> Outcome:
    """Every network about one canonical square, uint8 (S, S, 3) RGB, each stage told to `progress` before it begins."""
    failures: dict[str, str] = {}
    planes: dict[str, np.ndarray] = {}
    scores = None
    with _border(INPUT_STAGE, failures):
        through = runtime.start(square)
    if failures:
        return Outcome(failures=failures)
    for number, modality in enumerate(labels.SYNTHESES, start=1):
        progress(number, len(STAGES), modality.title)
        with _border(modality.title, failures):
            planes[modality.name] = through.synthesize(modality.name)
    if failures:  # the fusion reads every modality
        return Outcome(planes, None, failures)
    progress(len(planes) + 1, len(STAGES), FUSION_STAGE)
    with _border(FUSION_STAGE, failures):
        scores = through.fuse()
    return Outcome(planes, scores, failures)


@contextmanager
def _border(stage: str, failures: dict[str, str]) -> Iterator[None]:
    """What a network can die of ends here, as a sentence; everything else is a fault of ours and goes on."""
    try:
        yield
    except FAILURES as error:
        failures[stage] = describe(stage, error)


def describe(what: str, error: Exception) -> str:
    """The sentence that says why `what` could not be computed, one of `FAILURES`, and the cure.

    The place in the code is logged under the reference in it, without the message, which could hold data.
    """
    mark, where = secrets.token_hex(3), "".join(traceback.format_tb(error.__traceback__))
    logging.getLogger(__name__).error("reference %s, %s: %s\n%s", mark, what, type(error).__name__, where)
    sentence = _NO_NUMBERS if isinstance(error, NotFinite) else _NO_MEMORY if _is_shortage(error) else _FAILED
    return sentence.format(what, type(error).__name__, mark)


def _is_shortage(error: Exception) -> bool:
    """torch's own type for a GPU is told by its name, since torch need not be there."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in _ALLOCATORS)
