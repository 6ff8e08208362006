"""How the maps of these weights did where the truth is known, as the card has it (written by `training.sanity`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import labels

KEY = "explanations"  # of the card's metrics


@dataclass(frozen=True)
class Agreement:
    """One kind of map against the masks of one data set. Figures are (value, low, high) of the 95 % interval, 0..1.

    precision: share of what raises the score within the field of view that lies in cells with a mark; pointing: eyes
    whose highest cell holds one; chance: of both, the share of the retina that is marked. code: the score that was
    explained.
    best, best_precision: key (see `key_of`) and precision of the map, of all that were measured, that lies furthest
    above chance in the marks.
    """

    dataset: str
    code: str
    eyes: int
    marks: str
    precision: tuple[float, ...]
    pointing: tuple[float, ...]
    chance: tuple[float, ...]
    best: str
    best_precision: float


def key_of(method: str, modality: str) -> str:
    """What one kind of map is called in the card: "gradcam:colour"."""
    return f"{method}:{modality}"


def first_kind(metrics: Mapping[str, Any], code: str) -> tuple[str, str]:
    """(method, modality) of the map to look at first: of all that were measured where the truth of this score is known,
    else of any score, that whose raising part lies furthest above chance in the marks.

    The exact map of all modalities where none was measured, or none lies better than chance.
    """
    tests = metrics.get(KEY, {}).get("agreement", ())
    tests = [test for test in tests if test["code"] == code] or tests
    gains: dict[str, list[float]] = {}
    for test in tests:
        for key, own in test["maps"].items():
            if own is not None:
                gains.setdefault(key, []).append(_gain(own))
    means = {key: sum(each) / len(each) for key, each in gains.items() if len(each) == len(tests)}
    best = max(means, key=lambda key: means[key], default=None)
    if best is None or means[best] <= 0:
        return "exact", labels.FUSED
    method, modality = best.split(":")
    return method, modality


def _gain(own: Mapping[str, Any]) -> float:
    return own["precision"][0] - own["chance"][0]


def find_agreements(metrics: Mapping[str, Any], method: str, modality: str) -> tuple[Agreement, ...]:
    """The figures of one kind of map; empty where they were not measured for these weights."""
    found = []
    for test in metrics.get(KEY, {}).get("agreement", ()):
        figures = test["maps"].get(key_of(method, modality))
        if figures is not None:  # a map that never raises the score has none
            bounds = {name: tuple(figures[name]) for name in ("precision", "pointing", "chance")}
            known = {key: own for key, own in test["maps"].items() if own is not None}
            best = max(known, key=lambda key: _gain(known[key]))
            most = known[best]["precision"][0]
            measured = (test["dataset"], test["code"], figures["eyes"], test["marks"])
            found.append(Agreement(*measured, best=best, best_precision=most, **bounds))
    return tuple(found)
