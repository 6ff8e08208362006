"""What the shipped pipeline says about pictures, gates overridden: computed once per weights, then read from a cache.

The cache is a text file of numbers below runs/evaluation, named after everything that the scores depend on (tensors,
calibration, the code that reads a photograph), so that an evaluation goes on where it was stopped and never mixes
weights. Photographs are known by their place below the data folder.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

import qmmfl
from qmmfl import labels, pipeline, weights
from qmmfl.nets import runtime
from qmmfl.records import Photograph

from .recipe import RUNS

_CODE = ("compression", "conclusions", "field", "fundus", "labels", "measures", "photograph", "pipeline", "quality")
_CODE += ("records", "stages", "surround", "weights")
_PICTURES = ("enhancement", "stress", "strangers")  # what makes pictures to be read
_DEVICE = "cpu"  # that figures are made on
_reader: pipeline.Pipeline | None = None  # of a worker process


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N pictures, C findings in the order of `labels.FINDINGS`; what was withheld or not assessed is NaN.

    raw: sigmoid of the logit before calibration; probability: calibrated, both float64 (N, C). called: bool (N, C),
    reported as suspected; undecided: (N, C), 1 or 0. oedema, oedema_undecided: (N,). steps: (N, 5) probabilities
    of the DR grades; grade (N,) int, -1 unknown; graded_undecided: (N, 2), of `labels.GRADED`. lesions: (N, 4), 1 where
    there are more of one kind than healthy eyes show, else 0, NaN where that is not known. gradable, doubtful, fundus:
    bool (N,), what the gates say.
    """

    raw: np.ndarray
    probability: np.ndarray
    called: np.ndarray
    undecided: np.ndarray
    oedema: np.ndarray
    oedema_undecided: np.ndarray
    steps: np.ndarray
    grade: np.ndarray
    graded_undecided: np.ndarray
    lesions: np.ndarray
    gradable: np.ndarray
    doubtful: np.ndarray
    fundus: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> "Scores":
        """Scores from rows as `read` gives them."""

        def matrix(name: str, width: int) -> np.ndarray:
            empty = [None] * width
            return np.array([row[name] or empty for row in rows], float).reshape(len(rows), width)

        with np.errstate(over="ignore"):
            raw = 1 / (1 + np.exp(-matrix("logit", len(labels.FINDINGS))))
        return cls(
            raw,
            matrix("probability", len(labels.FINDINGS)),
            matrix("suspected", len(labels.FINDINGS)) == 1,
            matrix("undecided", len(labels.FINDINGS)),
            np.array([row["oedema"] for row in rows], float),
            np.array([row["oedema_undecided"] for row in rows], float),
            matrix("steps", len(labels.GRADES)),
            np.array([-1 if row["grade"] is None else row["grade"] for row in rows], int),
            matrix("graded_undecided", len(labels.GRADED)),
            matrix("lesions", len(labels.LESIONS)),
            np.array([row["gradable"] for row in rows], bool),
            np.array([bool(row["doubtful"]) for row in rows], bool),
            np.array([row["fundus"] for row in rows], bool),
        )

    def __getitem__(self, rows: np.ndarray) -> "Scores":
        """The scores of some pictures."""
        return Scores(**{name: values[rows] for name, values in vars(self).items()})


def start(folder: Path) -> None:
    """Load the pipeline that this (worker) process reads with."""
    global _reader
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _reader = pipeline.load(folder, _DEVICE)


def reader() -> pipeline.Pipeline:
    """The pipeline of this process; `start` must have been called."""
    assert _reader is not None
    return _reader


def read(picture: str | np.ndarray | Photograph) -> dict[str, Any]:
    """Scores of one picture, a path, uint8 (H, W, 3) or a photograph, as JSON types.

    Raises RuntimeError where a network failed.
    """
    report = reader()(picture, override=True)
    if report.failures:
        raise RuntimeError(f"no figure can be made of a partial report: {report.failures}")
    logits = {code: sum(shares.values()) for code, shares in report.contributions.items()}
    return {
        "logit": [logits.get(finding.code) for finding in report.findings],
        "probability": [finding.probability for finding in report.findings],
        "suspected": [finding.suspected for finding in report.findings],
        "undecided": [finding.undecided for finding in report.findings],
        "oedema": report.dme.probability,
        "oedema_undecided": report.dme.undecided,
        "steps": report.dr.probabilities,
        "grade": report.dr.grade,
        "graded_undecided": [report.dr.more_than_mild_undecided, report.dr.vision_threatening_undecided],
        "lesions": [report.lesions[code].beyond for code in labels.LESIONS],
        "gradable": report.quality.gradable,
        "doubtful": report.quality.doubtful,
        "fundus": report.fundus.is_fundus,
    }


def cached(
    pool: ProcessPoolExecutor, folder: Path, keys: Sequence[str], pictures: Sequence[Any], make: Callable[..., dict]
) -> list[dict[str, Any]]:
    """`make(picture)` of every picture, in order; what the cache of the weights in `folder` holds is not made again."""
    path = RUNS / "evaluation" / f"{digest(folder)}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        known = {row["key"]: row for row in map(json.loads, whole)}
        if len(whole) < len(lines):  # the last one was cut when a run was stopped
            path.write_text("".join(whole))
    todo = [i for i, key in enumerate(keys) if key not in known]
    made = pool.map(make, [pictures[i] for i in todo], chunksize=2)
    with path.open("a") as file:
        for i, row in tqdm(zip(todo, made, strict=True), total=len(todo), desc="pictures", mininterval=10):
            known[keys[i]] = {"key": keys[i], **row}
            file.write(json.dumps(known[keys[i]]) + "\n")
            file.flush()
    return [known[key] for key in keys]


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits of what the scores depend on.

    That is the card but its figures, what runs the nets, and the code that reads.
    """
    card, runs = weights.read_card(folder), runtime.choose(runtime.AUTO, _DEVICE)
    state = hashlib.sha256(f"{card.sha256} {card.digest} {runs}".encode())
    package = Path(qmmfl.__file__).parent
    parts = [*(package / f"{name}.py" for name in _CODE), *(Path(__file__).parent / f"{name}.py" for name in _PICTURES)]
    for path in [*parts, *(path for name in ("nets", "phantom") for path in sorted((package / name).glob("*.py")))]:
        state.update(path.read_bytes())
    return state.hexdigest()[:12]
