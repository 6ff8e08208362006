"""An explanation in words: what the map shows, what it cannot show, and how such maps did where the truth is known."""

from collections.abc import Sequence
from types import MappingProxyType

from .. import draw, labels
from ..explain import Explanation, Move, WhatIf, title
from ..explain.agreement import Agreement, key_of
from ..explain.explanation import SIGNED
from ..explain.figures import overlay
from ..nets import GRADE, THREAT
from .doubts import conflicts, reservations
from .paper import bind, whose
from .sentences import beyond, call, doubt, grade_briefly, raises
from .wording import BY_OEDEMA, CAUTIONS, EVIDENCE, HOW_SEVERE, NOT_EXCLUDED, UNDECIDED, percent

_PRINTED = 900  # [px] longest side of a picture on paper
_BARE = "Bare is what shows no structure; of all modalities, fused, what holds no features."
_METHODS = MappingProxyType(
    {
        "exact": "Read from the additive head, not estimated: the mean over the map is the share of the score.",
        "gradcam": "Grad-CAM: the features, weighted by the mean gradient of the score. A second opinion. Of all "
        "modalities, fused, it is the positive part of the exact map.",
        "hirescam": "HiResCAM: the features times the gradient of the score. A second opinion. Of all modalities, "
        "fused, it is the positive part of the exact map.",
        "eigencam": "Eigen-CAM: what dominates the features, whatever the finding; it does not explain this score.",
        "scorecam": "Score-CAM: the features, each weighted by how far what it lets through raises the score of the "
        f"bare input. {_BARE}",
        "gradients": "Integrated gradients from the bare input; they add up to about the difference of the two scores. "
        f"{_BARE}",
        "occlusion": f"Occlusion: how far the score falls when a window of one eighth of the side is bare. {_BARE}",
    }
)
_MIXED = (
    "The fusion lets every cell look at all others: the cell that carries the score need not be where the evidence "
    "lies. "
    "Hiding a region, and occlusion or gradients of the colour photograph, ask the photograph instead."
)
UNMEASURED = "How well maps of this kind of this score point at its reason has not been measured for these weights."


EXPERIMENT = (
    "An experiment with the model: it says what the change does to the score, not what the eye would be like. Of the "
    "grade, the probability of more than mild, and whether the grade that is called changes. A modality that is left "
    "out is one that was not given, which is another thing than one that shows nothing."
)


def standing_text(explanation: Explanation) -> str:
    """Probability, threshold and call of the score that is explained."""
    standing = explanation.standing
    finding = next((f for f in explanation.report.findings if f.code == explanation.code), None)
    words = "suspected" if standing.suspected else "below threshold"
    words = call(finding) if finding else words + doubt(standing.undecided)
    what = "Probability of more than mild" if explanation.code == GRADE else "Probability"
    said = f"{what} {percent(standing.probability)} (threshold {percent(standing.threshold)}): {words}."
    if explanation.code in labels.GRADED:
        said = f"Grade {grade_briefly(explanation.report)}. {said}"
    if explanation.code in labels.GRADED and not standing.suspected and explanation.report.dme.suspected:
        said += f" {BY_OEDEMA[0].upper()}{BY_OEDEMA[1:]}."
    if explanation.code == THREAT:
        said += f" {HOW_SEVERE}"
    if conflict := conflicts(explanation.report).get("DR" if explanation.code in labels.GRADED else explanation.code):
        said += f" {conflict}"
    if standing.undecided:
        return f"{said} {UNDECIDED}"
    raised = standing.suspected or standing.probability >= standing.threshold  # or not called: `call` says why
    if raised or (explanation.code == GRADE and explanation.report.dr.grade):
        return said
    said += f" It is not flagged: {raises(explanation.square)}."
    # Of a normal fundus a low score is the alarming one.
    return said if explanation.code == "NORMAL" else f"{said} {NOT_EXCLUDED}"


def other_doubts(explanation: Explanation) -> list[str]:
    """What else should be weighed before the score is believed: the reservations that `standing_text` does not tell."""
    said = standing_text(explanation)
    return [each for each in reservations(explanation.report) if each not in said]


def limits_text(explanation: Explanation) -> str:
    """What the map cannot show, in pixels of the photograph."""
    grid, photograph = explanation.report.grid, explanation.report.photograph
    # A cell is an oblong where the photograph was pulled out of shape.
    wide, (across, down) = explanation.cell, grid[2:] if grid else (1, 1)
    pixels = round(wide * explanation.view / across) if grid else 0
    what = {"gradients": "pixel", "occlusion": "window"}.get(explanation.method, "cell")
    said = (
        f"The encoders see at most {explanation.view} x {explanation.view} px of the field; one {what} of this map is "
        f"{pixels} px of that, here {wide:.0f} x {wide * down / across:.0f} px of a photograph of "
        f"{photograph.width} x {photograph.height} px. Nothing smaller can be told apart, however smooth it looks: "
        "it cannot point at single microaneurysms or say where an edge lies."
    )
    mixed = _MIXED if explanation.method == "exact" or explanation.modality == labels.FUSED else ""
    outside = beyond(explanation.square) if explanation.method == "exact" else ""
    return " ".join(each for each in (said, outside, mixed) if each)


def agreement_text(explanation: Explanation) -> str:
    """How maps of this kind did where the truth is known, beside chance."""
    key = key_of(explanation.method, explanation.modality)
    return trust_text(explanation.agreements, explanation.code, key)


def trust_text(agreements: Sequence[Agreement], code: str, key: str) -> str:
    """The same of maps of one kind (see `agreement.key_of`) of one score, or that it was not measured."""
    if not agreements:
        return UNMEASURED
    known = any(each.code == code for each in agreements)
    said = [] if known else ["Not measured for this score. For others:"]
    said += [
        f"Against {each.marks} on {each.eyes} {each.dataset} ({each.code}): {each.precision[0]:.2f} of what raises the "
        f"score within the field of view lies in cells with a mark, the highest cell holds one in "
        f"{each.pointing[0]:.2f} of the eyes (by chance {each.chance[0]:.2f} both)."
        for each in agreements
        if each.code == code or not known
    ]
    said += [
        f"For this score most lies in the marks with {_named(*each.best.split(':'))} ({each.best_precision:.2f})."
        for each in agreements
        if each.code == code and each.best != key
    ]
    return " ".join(said)


def share_rows(explanation: Explanation) -> list[tuple[str, str]]:
    """Modality and its share of the score [logit], then the constant and the sum."""
    rows = [(m.title, f"{explanation.shares[m.name]:+.2f}") for m in labels.MODALITIES]
    rows.append(("Constant (all eyes)", f"{explanation.shares['bias']:+.2f}"))
    return [*rows, ("Score before calibration [logit]", f"{explanation.logit:+.2f}")]


def map_text(explanation: Explanation) -> str:
    """What the map is, and its colours."""
    top, unit = explanation.scale, explanation.unit
    colours = "Viridis from dark (low) to yellow (high)"
    if explanation.method in SIGNED:
        colours = f"Orange raises the score, blue lowers it, full strength from {top:.2g}"
    return f"{_METHODS[explanation.method]} {colours}; unit: {unit}. {EVIDENCE}"


def explanation_text(explanation: Explanation) -> str:
    """One page of Markdown."""
    rows = [f"| {name} | {value} |" for name, value in share_rows(explanation)]
    origin, photograph = explanation.report.provenance, explanation.report.photograph
    parts = [
        f"# {_heading(explanation)}",
        f"**{labels.NOTICE}**",
        standing_text(explanation),
        *other_doubts(explanation),
        f"## The map: {_named(explanation.method, explanation.modality)}",
        map_text(explanation),
        "## What the map cannot show",
        limits_text(explanation),
        "## Can it be trusted?",
        agreement_text(explanation),
        "## What the score is made of",
        "\n".join(["| Modality | Share |", "| --- | ---: |", *rows]),
        CAUTIONS["shares"],
        "## Where it comes from",
        f"Photograph sha256 {photograph.sha256}. Weights {origin.weights_source}, sha256 {origin.weights_sha256}. "
        f"qmmfl {origin.package_version}, {origin.runtime}.",
    ]
    return "\n\n".join(parts) + "\n"


def explanation_pdf(explanation: Explanation) -> bytes:
    """The same on A4, with the photograph and the map over it."""
    kind = _named(explanation.method, explanation.modality)
    pictures = [
        (draw.shrink(explanation.report.photograph.pixels, _PRINTED), "Colour photograph, as acquired"),
        (overlay(explanation, side=_PRINTED), f"{kind} (synthesized)"),
    ]
    said = [
        ("Result", standing_text(explanation)),
        *(("Note", each) for each in other_doubts(explanation)),
        ("The map", map_text(explanation)),
        ("It cannot show", limits_text(explanation)),
        ("Can it be trusted?", agreement_text(explanation)),
    ]
    tables = [
        ("Explanation", said, (0.0, 0.2)),
        ("What the score is made of [logit]", share_rows(explanation), (0.0, 0.5)),
    ]
    origin = explanation.report.provenance
    foot = f"{CAUTIONS['shares']} Weights {origin.weights_source}, sha256 {origin.weights_sha256}."
    pages = draw.sheet(_heading(explanation), labels.NOTICE, pictures, tables, foot, 2.1)
    return bind("qmmfl explanation", origin.created, pages)


def whatif_title(whatif: WhatIf, whose: str = "") -> str:
    """Which eye, by default by its side, and what was changed."""
    return f"The same {whose or f'{whatif.side or str()} eye'.strip()} {whatif.change}"


def changed_call(move: Move) -> str:
    """Whether the call changes, of the grade from which to which, or is left undecided; empty where neither does."""
    said = []
    if move.crosses:
        said.append("the grade changes from {} to {}".format(*move.grades) if move.grades else "the call changes")
    if move.doubts[0] != move.doubts[1]:
        of = "more than mild " if move.grades else ""
        said.append(f"{of}is {'undecided now' if move.doubts[1] else 'undecided no more'}")
    elif move.crosses and all(move.doubts):
        said.append("undecided before and after")
    return ", ".join(said)


def whatif_text(whatif: WhatIf) -> str:
    """How every probability moves, the largest move first, Markdown."""
    rows = [
        f"| {move.name} | {percent(move.before)} | {percent(move.after)} | {100 * (move.after - move.before):+.1f} "
        f"| {percent(move.threshold)} | {changed_call(move)} |"
        for move in whatif.ranked
    ]
    head = ("| score | before | after | points | threshold | call |", "| --- " * 6 + "|")
    return "\n".join([f"# {whatif_title(whatif)}", "", *head, *rows, "", EXPERIMENT, ""])


def _heading(explanation: Explanation) -> str:
    return f"{explanation.name} ({explanation.code}), where the score comes from: {whose(explanation.report)}"


def _named(method: str, modality: str) -> str:
    return f"{labels.METHODS[method]}, {title(modality).lower()}"
