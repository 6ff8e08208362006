"""Where an eye lies among the reference eyes, in words."""

from .. import labels
from ..atlas import TITLES, Neighbour, Placement
from .wording import listed

UNIT = (
    "A distance of 1 is that of an eye which the networks never saw to its nearest references. Distances to single "
    "references leave out in what this eye differs from all of them, so they can be the smaller ones."
)
LIKENESS = (
    "Near means alike to the networks, in camera and colour as well as in disease: it is no second opinion, and the "
    "labels of a neighbour say nothing certain of this eye. The place on the map is an approximation."
)


def placement_facts(placement: Placement) -> list[tuple[str, str]]:
    """Name and sentence of the place and of each nearest reference, in reading order."""
    rows = [("Features", TITLES[placement.space]), ("Distance to the reference eyes", distance(placement))]
    return rows + [(each.reference, neighbour(each)) for each in placement.neighbours]


def placement_text(placement: Placement) -> str:
    """All of it as plain text, one line each."""
    lines = [f"{name}: {sentence}" for name, sentence in placement_facts(placement)]
    return "\n".join([*lines, "", UNIT, LIKENESS, f"Atlas SHA-256 {placement.atlas_sha256}", ""])


def distance(placement: Placement) -> str:
    """How far the eye lies from its nearest references, and what that means."""
    told = f"{placement.distance:.2f}, limit {placement.limit:.2f}"
    if placement.far:
        return (
            f"{told}. This eye is further from all reference eyes than 99 of 100 that the networks never saw: test "
            "figures may not hold for it."
        )
    return f"{told}. This eye lies among the reference eyes."


def neighbour(found: Neighbour) -> str:
    """Labels and distance of one reference."""
    grade = "grade not annotated" if found.grade is None else f"grade {found.grade}"
    return f"distance {found.distance:.2f}; {grade}; {_annotated(found)}."


def _annotated(found: Neighbour) -> str:
    """What the data set says of a reference; that one finding was looked for and not seen says nothing of others."""
    if found.findings is None:
        return "findings not annotated"
    present, sought = (
        listed([labels.FINDINGS[code].lower() for code in codes]) for codes in (found.findings, found.looked_for)
    )
    if len(found.looked_for) > 1:
        return present or f"none of the {len(found.looked_for)} findings that were annotated"
    return f"annotated for {sought} alone: {'present' if found.findings else 'absent'}"
