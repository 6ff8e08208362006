"""Where a score comes from: exact maps, second opinions, what-if, and whether any of it can be trusted.

from qmmfl import explain
explanation = explain.explain(pipeline, "eye.jpg", "DR")                                 # exact, all modalities
explanation = explain.explain(pipeline, report, "DR", method="gradcam", modality="colour")
explanation.pixels, explanation.shares                          # float32 (H, W) over the photograph; share by modality
explain.hide_region(pipeline, report, (700, 400, 120, 90)).moves["DR"].after             # probability, 0..1

The packages that draw the second opinions (grad-cam, captum) and matplotlib are imported when they are first used.
"""

from .agreement import Agreement, first_kind
from .attributions import ablate_modalities
from .exact import Exact, open_heads
from .explanation import Explanation, align, compute, explain, title
from .reading import NAMES, ExplanationError, Reading, Standing, check, read, stand
from .whatif import Move, WhatIf, clear_lesions, drop_modality, hide_region, swap_modality

__all__ = [
    "NAMES",
    "Agreement",
    "Exact",
    "Explanation",
    "ExplanationError",
    "Move",
    "Reading",
    "Standing",
    "WhatIf",
    "ablate_modalities",
    "align",
    "check",
    "clear_lesions",
    "compute",
    "drop_modality",
    "explain",
    "first_kind",
    "hide_region",
    "open_heads",
    "read",
    "stand",
    "swap_modality",
    "title",
]
