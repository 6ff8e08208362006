"""Evidence and atlas -> matplotlib figures (never pyplot): colours with shapes, never alone."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import draw, labels, measures, photograph
from .atlas import SUBJECTS, TITLES, Atlas, AtlasError, Placement, picture_of
from .evidence import QUADRANTS, Evidence
from .records import PhotographError, Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # a second of import time that only drawing needs

# Okabe and Ito 2008, safe for colour-blind readers; each with a shape of its own.
MARKS = (("#56B4E9", "o"), ("#009E73", "s"), ("#F0E442", "^"), ("#E69F00", "D"), ("#D55E00", "P"))
UNKNOWN = ("#BBBBBB", ".")
_LINE = "#FFFFFF"


def check_subject(subject: str) -> None:
    """Raise ValueError for what no map can be marked by."""
    if subject not in SUBJECTS:
        raise ValueError(f"unknown finding {subject!r}; choose one of {', '.join(SUBJECTS)}")


def atlas_figure(atlas: Atlas, placement: Placement, subject: str = labels.GRADE) -> "Figure":
    """The map of the reference eyes, marked by grade or by one finding, with this eye and its nearest references.

    subject: a key of SUBJECTS. Raises ValueError for another, and AtlasError where the placement is of another atlas.
    """
    from matplotlib.figure import Figure

    check_subject(subject)
    if placement.atlas_sha256 != atlas.sha256:
        raise AtlasError("this eye was placed in another atlas; place it anew")
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    places = atlas.spaces[placement.space].coordinates
    for name, chosen, (colour, shape) in _groups(atlas, subject):
        known = shape != UNKNOWN[1]
        axes.scatter(
            *places[chosen].T,
            s=26 if known else 14,
            c=colour,
            marker=shape,
            linewidths=0.4 if known else 0,
            edgecolors="black",
            alpha=0.85 if known else 0.5,
            label=f"{name} ({len(chosen)})",
            zorder=2 if known else 1,
        )
    rows = {reference: row for row, reference in enumerate(atlas.references)}
    near = places[[rows[each.reference] for each in placement.neighbours]]
    axes.scatter(*near.T, s=110, facecolors="none", edgecolors="black", linewidths=1.4, label="Nearest", zorder=3)
    axes.scatter(
        placement.x,
        placement.y,
        s=420,
        c="black",
        marker="*",
        edgecolors="white",
        linewidths=1.5,
        label="This eye",
        zorder=4,
    )
    axes.set(xticks=[], yticks=[], xlabel="Map (UMAP): only who is near whom has a meaning", aspect="equal")
    far = " - far from all reference eyes" if placement.far else ""
    axes.set_title(f"{TITLES[placement.space]}: {SUBJECTS[subject]}{far}", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def neighbours_figure(report: Report, placement: Placement, folder: Path) -> "Figure":
    """This eye beside the pictures of its nearest references, from the user's own copy of the data in `folder`.

    Raises AtlasError where none of them is there.
    """
    from matplotlib.figure import Figure

    found = [(each, path) for each in placement.neighbours if (path := picture_of(each.reference, folder)) is not None]
    pictures = [(report.photograph.pixels, "This eye")]
    for each, path in found:
        try:
            grade = "not annotated" if each.grade is None else each.grade
            pictures.append(
                (photograph.read(path).pixels, f"{each.reference}\ngrade {grade}, distance {each.distance:.2f}")
            )
        except PhotographError:
            continue  # a damaged copy shows nothing; the others still do
    if len(pictures) == 1:
        raise AtlasError(f"no picture of the nearest reference eyes is in {folder.name}; name the data's own folder")
    columns = min(len(pictures), 5)
    lines = -(-len(pictures) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * lines), layout="constrained")
    for number, (pixels, caption) in enumerate(pictures, start=1):
        axes = figure.add_subplot(lines, columns, number)
        step = max(1, max(pixels.shape) // 400)
        axes.imshow(pixels[::step, ::step])
        axes.set_title(caption, fontsize=7)
        axes.set_axis_off()
    return figure


def evidence_figure(report: Report, evidence: Evidence) -> "Figure":
    """The photograph with what was measured: disc, fovea with its error, quadrants, zone of the calibres, lesions.

    Raises ValueError with the reason where there is nothing to show.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    if evidence.disc is None:
        raise ValueError(f"there is no picture of the evidence: {evidence.disc_reason}")
    figure = Figure(figsize=(7.2, 7.6), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(draw.mark_synthesized(draw.photograph(report, 900)), extent=(0, 1, 1, 0))
    limits = {code: each.threshold for code, each in evidence.lesions.items() if each.total.count}
    for name, limit in {**limits, "disc": None, "cup": None}.items():
        plane = report.planes[draw.plane_name(name)].square
        if limit is not None:  # what is outlined is what is counted
            plane = measures.lesion_regions(plane, limit, measures.lesion_field(len(plane)))[0] > 0
        if plane.max() >= draw.LINE:
            places = (np.arange(len(plane)) + 0.5) / len(plane)
            colour = tuple(level / 255 for level in draw.COLOURS[name])
            axes.contour(places, places, plane, levels=[draw.LINE], colors=[colour], linewidths=1.0)
    disc, unit = evidence.disc, evidence.disc.diameter

    def ring(x: float, y: float, radius: float, style: str) -> None:
        axes.add_patch(Circle((x, y), radius * unit, fill=False, color=_LINE, linestyle=style, linewidth=1.1))

    ring(disc.x, disc.y, 1.0, ":")
    ring(disc.x, disc.y, 1.5, ":")
    names = [f"{draw.LAYER_TITLES[name].lower()} {draw.COLOUR_NAMES[name]}" for name in (*limits, "disc", "cup")]
    said = [f"outlines, computed: {', '.join(names)}", "dotted: zone of the calibres"]
    if evidence.side is not None:
        axes.axhline(disc.y, color=_LINE, linewidth=0.7)
        axes.axvline(disc.x, color=_LINE, linewidth=0.7)
        for name in QUADRANTS:
            right = ("nasal" in name) == (evidence.side == "right")
            upper = name.startswith("super")
            axes.text(
                0.97 if right else 0.03,
                0.03 if upper else 0.91,
                name,
                color=_LINE,
                fontsize=8,
                ha="right" if right else "left",
                va="top" if upper else "bottom",
            )
        said.append("cross: quadrants")
    if evidence.fovea is not None:
        axes.plot(evidence.fovea.x, evidence.fovea.y, marker="+", color=_LINE, markersize=11)
        ring(evidence.fovea.x, evidence.fovea.y, evidence.fovea.error, "-")
        ring(evidence.fovea.x, evidence.fovea.y, 1.0, "--")
        said.append("plus and circle: fovea and its error; dashed: one disc diameter around it")
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.set_axis_off()
    axes.set_title(textwrap.fill("; ".join(said).capitalize(), 110), fontsize=8)
    return figure


def _groups(atlas: Atlas, subject: str) -> list[tuple[str, np.ndarray, tuple[str, str]]]:
    """(name, rows, mark) of each group of references, the unknown first so that the known lie on top."""
    if subject == labels.GRADE:
        values, names = atlas.grades, [f"{grade} {name}" for grade, name in enumerate(labels.GRADES)]
        marks = MARKS
    else:
        values, names = (
            atlas.findings[:, list(labels.FINDINGS).index(subject)],
            ["not labelled with it", "labelled with it"],
        )
        marks = (MARKS[0], MARKS[4])
    groups = [("not annotated", np.flatnonzero(values < 0), UNKNOWN)]
    groups += [(name, np.flatnonzero(values == k), marks[k]) for k, name in enumerate(names)]
    return [group for group in groups if len(group[1])]
