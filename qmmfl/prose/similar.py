"""Where an eye lies among reference eyes, as HTML: a map of points to walk over, and the nearest in words."""

from collections.abc import Iterable
from html import escape

import numpy as np

from .. import labels
from ..atlas import SUBJECTS, TITLES, Atlas, Placement
from .atlas import LIKENESS, UNIT, distance, neighbour

WIDTH, HEIGHT, MARGIN = 640, 400, 16  # of the map, without unit
# Okabe and Ito 2008, each with a shape of its own; the unknown first.
_SHAPES = (
    ("#999999", '<circle r="2.5"/>'),
    ("#56B4E9", '<circle r="4"/>'),
    ("#009E73", '<rect x="-3.5" y="-3.5" width="7" height="7"/>'),
    ("#F0E442", '<path d="M0-5 5 4-5 4z"/>'),
    ("#E69F00", '<path d="M0-5 5 0 0 5-5 0z"/>'),
    ("#D55E00", '<path d="M-5-1.7h3.3V-5h3.4v3.3H5v3.4H1.7V5h-3.4V1.7H-5z"/>'),
)


def similar_html(atlas: Atlas, placement: Placement, subject: str = labels.GRADE) -> str:
    """The map marked by grade or by one finding, this eye, and the nearest references with their labels."""
    values, names = _values(atlas, subject)
    places = atlas.spaces[placement.space].coordinates
    both = np.vstack([places, [[placement.x, placement.y]]]).astype(float)
    low, high = both.min(axis=0), both.max(axis=0)
    shares = (both - low) / np.maximum(high - low, 1e-9)
    spots = MARGIN + shares * (WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN)
    near = {each.reference for each in placement.neighbours}
    order = np.argsort(values, kind="stable")  # the unknown first, so that the known lie on top
    points = "".join(
        _point(int(row), spots[row], atlas.references[row], int(values[row]), names, atlas.references[row] in near)
        for row in order
    )
    x, y = spots[-1]
    here = (
        f'<g class="here" transform="translate({x:.1f} {y:.1f})" role="img" aria-label="This eye"><title>This eye'
        '</title><path d="M0-13 3.5-4H13L5.5 2 8 12 0 6-8 12-5.5 2-13-4h9.5z"/></g>'
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(each.reference)}</th><td>{escape(neighbour(each))}</td></tr>'
        for each in placement.neighbours
    )
    return (
        f"<p>Alike in: <b>{escape(TITLES[placement.space])}</b>. Marks show: <b>{escape(SUBJECTS[subject])}</b>.</p>"
        f"<p>Distance {escape(distance(placement))}</p>"
        f'<div class="beside"><div><div class="atlas" tabindex="0" role="application" data-here="{x:.1f} {y:.1f}" '
        f'aria-label="Map of reference eyes; arrow keys go from eye to eye" aria-describedby="atlas-said">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{points}{here}</svg></div><p id="atlas-said" role="status">The star is '
        f"this eye, rings its nearest references. Click a point, or use the arrow keys.</p>{_legend(names)}"
        f"<p>Only who is near whom has a meaning on this map (UMAP).</p></div>"
        f'<div><table class="facts"><caption>Nearest reference eyes</caption><tbody>{rows}</tbody></table>'
        f"<p>{UNIT} {LIKENESS}</p></div></div>"
    )


def _values(atlas: Atlas, subject: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Per reference the index of its mark, 0 is unknown; and what the marks are called."""
    if subject == labels.GRADE:
        grades = tuple(f"{number} {name}" for number, name in enumerate(labels.GRADES))
        return atlas.grades.astype(int) + 1, ("not annotated", *grades)
    column = atlas.findings[:, list(labels.FINDINGS).index(subject)].astype(int)
    return np.where(column > 0, 5, column + 1), (
        "not annotated",
        "not labelled with it",
        "",
        "",
        "",
        "labelled with it",
    )


def _point(row: int, spot: np.ndarray, name: str, value: int, names: tuple[str, ...], near: bool) -> str:
    colour, shape = _SHAPES[value]
    ring = '<circle r="9" class="ring"/>' if near else ""
    said = escape(f"{name}: {names[value]}{', among the nearest' if near else ''}")
    return (
        f'<g transform="translate({spot[0]:.1f} {spot[1]:.1f})" fill="{colour}" data-row="{row}" '
        f'data-x="{spot[0]:.1f}" data-y="{spot[1]:.1f}" data-label="{said}">{ring}{shape}</g>'
    )


def _legend(names: Iterable[str]) -> str:
    items = "".join(
        f'<li><svg viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true"><g fill="{colour}">{shape}</g>'
        f"</svg> {escape(name)}</li>"
        for name, (colour, shape) in zip(names, _SHAPES, strict=True)
        if name
    )
    return f'<ul class="legend">{items}</ul>'
