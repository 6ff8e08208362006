"""What was measured in one eye, in words with units. Deterministic; a number that is missing says why."""

from types import MappingProxyType

from .. import labels
from ..evidence import QUADRANTS, TOLERANCES, Evidence, Measurement, Places, Spots
from .sentences import false_alarms, ratio_error
from .wording import listed

VESSEL_TITLES = MappingProxyType(
    {
        "artery_calibre": "Artery calibre (CRAE)",
        "vein_calibre": "Vein calibre (CRVE)",
        "artery_vein_ratio": "Artery-vein ratio",
        "artery_tortuosity": "Tortuosity of arteries",
        "vein_tortuosity": "Tortuosity of veins",
        "fractal_dimension": "Fractal dimension of vessels",
    }
)
BY_BOTH = "by the places of disc and fovea"
METHODS = (
    "Measured on the computed planes, not on the photograph; lengths in vertical diameters of the optic disc, areas in "
    "disc areas. Quadrants meet in the centre of the disc, and the photograph shows only a part of each. Lesions in "
    "the outermost 3 % of the field's radius are not counted. Calibres: the widest vessels between 0.5 and 1 disc "
    "diameter from the disc's margin, by the formulas of Knudtson 2003. Tortuosity: length over chord, 1 is straight. "
    "Fractal dimension: box counting on the centre lines, comparable only between photographs of the same camera and "
    "field. Vessel numbers are given only where a re-encoded and shifted copy of the photograph gives the same within "
    "the tolerance: that they repeat does not make them right. The error of calibres and of their ratio can be as "
    "large as people differ; that of tortuosity and fractal dimension was not measured."
)


def evidence_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and sentence of everything measured, in reading order."""
    return place_facts(evidence) + vessel_facts(evidence)


def place_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and sentence of landmarks, cup and lesions by place."""
    rows = [("Eye", _side(evidence)), ("Fovea", _fovea(evidence)), ("Vertical cup-to-disc ratio", _cup(evidence))]
    rows += [(labels.LESION_NAMES[code], places(each)) for code, each in evidence.lesions.items()]
    if evidence.quadrant_areas and any(each.total.count is not None for each in evidence.lesions.values()):
        seen = [f"{name} {evidence.quadrant_areas[name]:.0f}" for name in QUADRANTS]
        rows.append(("Retina in the photograph", f"Disc areas seen: {listed(seen)}."))
    return rows


def vessel_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """Name and sentence of the vessel numbers."""
    return [(VESSEL_TITLES[name], vessel(name, each)) for name, each in evidence.vessels.items()]


def evidence_text(evidence: Evidence) -> str:
    """All of it as plain text: one line each, the methods, and the notice."""
    lines = [f"{name}: {sentence}" for name, sentence in evidence_facts(evidence)]
    return "\n".join([*lines, "", METHODS, labels.NOTICE, ""])


def places(found: Places) -> str:
    """Count and area of one kind of lesion by quadrant and near the fovea."""
    if found.total.count is None:
        return _because(found.total)
    if not found.total.count:
        return "None found at the threshold of these weights; this does not exclude any."
    said = [f"{_spots(found.total)}{false_alarms(found.total.count, found.healthy_most)}."]
    known = {name: each for name, each in found.quadrants.items() if each.count is not None}
    if known:
        held = [f"{each.count} {name} ({_area(each)})" for name, each in known.items() if each.count]
        said.append(f"By quadrant: {listed(held)}.")
    else:
        said.append(f"By quadrant: {_because(next(iter(found.quadrants.values())))}")
    near = found.near_fovea
    if near.count is None:
        return " ".join([*said, f"Within one disc diameter of the fovea: {_because(near)}"])
    fewest, most = found.near_fovea_range or (near.count, near.count)
    doubt = "" if fewest == most else f"; {fewest} to {most}, given the error of the fovea's place"
    area = f", {_area(near)}" if near.area else ""
    said.append(f"Within one disc diameter of the estimated fovea: {near.count}{area}{doubt}.")
    return " ".join(said)


def vessel(name: str, number: Measurement) -> str:
    """One vessel number with its unit, what it was made of and how well it repeated."""
    if number.value is None:
        return _because(number)
    unit = f" {number.unit}" if number.unit != "ratio" else ""
    made = f", from the {number.vessels} widest arteries and veins" if number.vessels else ""
    limit = f"{TOLERANCES[name]:.0%}" if number.vessels else f"{TOLERANCES[name]:.3f}"
    error = "" if number.error is None else f" ± {number.error:.3f} (mean absolute error on labelled eyes)"
    again = "" if number.repeated is None else f"; {number.repeated:.3f} on the second copy, tolerance {limit}"
    return f"{number.value:.3f}{unit}{error}{made}{again}."


def _side(evidence: Evidence) -> str:
    if evidence.side is None:
        return f"Side {evidence.side_reason}."
    how = BY_BOTH if evidence.fovea and evidence.fovea.seen else "as the report says"
    return f"{evidence.side.capitalize()} eye, {how}."


def _fovea(evidence: Evidence) -> str:
    if evidence.fovea is None:
        return f"Place {evidence.fovea_reason}."
    how = "seen as a dark spot" if evidence.fovea.seen else "not seen, placed by its usual distance from the disc"
    return f"Estimated, {how}; within {evidence.fovea.error:.2f} disc diameters in nine of ten eyes."


def _cup(evidence: Evidence) -> str:
    cup = evidence.cup_to_disc
    if cup.value is None:
        return _because(cup)
    return f"{cup.value:.2f} ({ratio_error(cup.error)})."


def _spots(spots: Spots) -> str:
    return f"{spots.count} region{'' if spots.count == 1 else 's'}" + (f", {_area(spots)}" if spots.area else "")


def _area(spots: Spots) -> str:
    return f"{spots.area:.3f} disc areas"


def _because(missing: Measurement | Spots) -> str:
    return f"{(missing.reason or 'withheld').capitalize()}."
