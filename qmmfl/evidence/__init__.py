"""Evidence that a clinician can check: what is where in one eye, in disc diameters, with the reason for every gap.

measure(report, pipeline.card.lesion_thresholds)                       # landmarks, cup, lesions by place
measure(report, thresholds, again=pipeline(second_copy(photograph)))   # and the vessels, where they repeat
"""

from .landmarks import Disc, Fovea
from .lesions import QUADRANTS, Places, Spots
from .record import TOLERANCES, Evidence, Measurement, measure, second_copy, sided

__all__ = [
    "QUADRANTS",
    "TOLERANCES",
    "Disc",
    "Evidence",
    "Fovea",
    "Measurement",
    "Places",
    "Spots",
    "measure",
    "second_copy",
    "sided",
]
