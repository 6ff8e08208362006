"""The fixed words of a report: its cautions, each in one place, and how numbers, lists and gaps are said.

Never "diagnosis", "normal" or "healthy": a score below its threshold does not exclude disease.
"""

from types import MappingProxyType

from .. import labels

GRADE, THREAT, OEDEMA, SCORES = labels.GRADE, labels.THREAT, labels.OEDEMA, labels.SCORES  # what has a map and shares
MORE_THAN_MILD = labels.CALLS["MTMDR"][0]
EVIDENCE = "Shows where the model's score comes from, not where disease is."
BY_OEDEMA = "macular oedema is suspected, which counts as such"
HOW_SEVERE = "This score asks, of an eye with more than mild retinopathy, what speaks for severe or proliferative."
NOT_EXCLUDED = "A score below its threshold does not exclude disease."
UNDECIDED = (
    "Undecided: neither answer can be ruled out at a confidence that aims at 90 %; the model card says how often it "
    "held."
)
FEW_EYES = (
    "Few eyes: so few eyes with the finding were at hand that the probability was calibrated on some that the networks "
    "learnt from; it may be too sure."
)
UNGRADABLE = "Ungradable is not negative: refer if a better photograph cannot be taken."
INCOMPLETE = "An incomplete analysis is not negative: read the photograph again, or read the original by eye."
SCOPE = (
    "Not assessed: disease that only OCT shows, the periphery outside the field, eye pressure and visual function. "
    "Glaucoma and macular oedema cannot be excluded."
)
UNRELIABLE = "The photograph is not gradable: what is computed from it is not to be relied on."
SINGLE_FIELD = "Single-field estimate on the ICDR scale; one photograph cannot count four quadrants."
CAUTIONS = MappingProxyType(
    {
        "ffa": "Computer-generated from the colour photograph. Dye leakage, non-perfusion and timing are not measured "
        "and may be invented or missing. Do not use in place of angiography.",
        "msi": "Model-based estimate from three colour channels (no multispectral camera). No oxygen information. "
        "Shown with a gamma of 2.2, like a photograph.",
        "layers": "Computed from the photograph. Disc and cup are outlined where the probability reaches one half, "
        "lesions where they are counted; vessels grow more opaque with their probability.",
        "shares": "Each modality's share of the score before calibration (logit). The modalities have seen each "
        "other in the fusion, which photograph and lesion maps pass in part only: a share is not evidence from that "
        "modality alone.",
    }
)


def percent(probability: float | None) -> str:
    """One decimal of percent, or an empty string where it is withheld."""
    return "" if probability is None else f"{100 * probability:.1f} %"


def withheld(reason: str | None) -> str:
    """The words for a number that is not given; reasons that already say so are not said twice."""
    if reason and reason.startswith(("withheld", "not assessed")):
        return reason
    return f"withheld: {reason}" if reason else "withheld"


def listed(words: list[str]) -> str:
    """Words as an English list: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
