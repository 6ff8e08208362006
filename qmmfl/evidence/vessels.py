"""Geometry of arteries and veins on their planes, float32 (s, s) in 0..1: calibre, tortuosity, fractal dimension."""

import cv2
import numpy as np

from .centrelines import segments
from .landmarks import Disc

EDGE = 0.5  # probability at which a vessel ends
ARTERY, VEIN = 0.88, 0.95  # branching coefficients, Knudtson et al. 2003
_MOST, _LEAST = 6, 4  # vessels of each kind that a central equivalent is made of
_RADII = np.linspace(1.0, 1.5, 11)  # [disc diameters] from the centre of the disc: zone B
_STEP = 0.25  # [px] between samples
_TURNS = 36  # directions in which a vessel's width is sought, 5 degrees apart
_WIDEST = 0.25  # [disc diameters] no vessel is wider
_SHORTEST = 0.5  # [disc diameters] of a segment whose tortuosity counts
_ENOUGH = 3.0  # [disc diameters] of such segments that must be seen
_SPUR = 0.12  # [disc diameters] side branches of the centre lines that are shorter are artefacts
_SMOOTH = 3.0  # [px] the staircase of pixels is smoothed away over this standard deviation
_CLEAR = 0.6  # [disc diameters] from the centre of the disc, inside which vessels overlap


def zone_widths(plane: np.ndarray, disc: Disc) -> list[np.ndarray]:
    """Widths [disc diameters], widest first, of the vessels that cross each of eleven circles through zone B.

    Zone B reaches from 0.5 to 1 disc diameter off the disc's margin. A vessel is measured across: its width is the
    shortest way through it between the points where the probability falls to one half.
    """
    size, unit = plane.shape[0], disc.diameter * plane.shape[0]
    centre = np.array([disc.x, disc.y]) * size - 0.5
    result = []
    for radius in _RADII * unit:
        turn = np.arange(0, 2 * np.pi, _STEP / max(radius, 1.0))
        inside = _sample(plane, centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn)) >= EDGE
        if inside.all() or not inside.any():
            result.append(np.zeros(0))
            continue
        inside = np.roll(inside, start := -int(np.argmin(inside)))  # begins outside every vessel
        turn = np.roll(turn, start)
        steps = np.diff(inside.astype(np.int8), append=0)
        first, last = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1)
        middle = turn[(first + last) // 2]
        places = centre + radius * np.stack([np.cos(middle), np.sin(middle)], -1)
        parts = np.array_split(places, len(places) // 64 + 1)  # OpenCV bounds the rows of one map
        widths = np.concatenate([_widths(plane, part, _WIDEST * unit) for part in parts])
        result.append(np.sort(widths)[::-1] / unit)
    return result


def zone_share(disc: Disc, field: np.ndarray) -> float:
    """Share of the middle circle of zone B that is seen, bool (s, s)."""
    turn = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    radius = float(np.median(_RADII)) * disc.diameter
    places = np.stack([disc.y + radius * np.sin(turn), disc.x + radius * np.cos(turn)])
    inside = ((places >= 0) & (places < 1)).all(axis=0)
    rows, columns = (np.clip(places, 0, 1 - 1e-9) * len(field)).astype(int)
    return float((inside & field[rows, columns]).mean())


def central_equivalents(artery: np.ndarray, vein: np.ndarray, disc: Disc) -> tuple[float, float, int] | None:
    """(CRAE, CRVE [disc diameters], vessels of each kind used), medians over zone B; None with fewer than four.

    The six widest arteries and veins (Knudtson et al. 2003, Curr Eye Res 27:143), or where fewer are seen the same
    number of both; equivalents of different numbers do not compare.
    """
    both = list(zip(zone_widths(artery, disc), zone_widths(vein, disc), strict=True))
    for number in range(_MOST, _LEAST - 1, -1):
        enough = [(a[:number], v[:number]) for a, v in both if min(len(a), len(v)) >= number]
        if len(enough) * 2 > len(both):
            crae, crve = (
                float(np.median([equivalent(pair[k], factor) for pair in enough]))
                for k, factor in enumerate((ARTERY, VEIN))
            )
            return crae, crve, number
    return None


def equivalent(widths: np.ndarray, factor: float) -> float:
    """Knudtson's central equivalent: the widest with the narrowest, w = factor * sqrt(a^2 + b^2), until one is left."""
    left = sorted(map(float, widths))
    while len(left) > 1:
        half = len(left) // 2
        paired = [factor * float(np.hypot(left[k], left[-1 - k])) for k in range(half)]
        left = sorted(paired + left[half : len(left) - half])
    return left[0]


def tortuosity(plane: np.ndarray, disc: Disc) -> float | None:
    """Length of the vessels over the length of their chords, summed over all segments between branches; 1 is straight.

    Outside the disc, segments of at least half a disc diameter (the distance measure of Hart et al. 1999,
    Int J Med Inform 53:239); None where less than three disc diameters of them are seen.
    """
    size, unit = plane.shape[0], disc.diameter * plane.shape[0]
    ys, xs = np.ogrid[:size, :size]
    outside = np.hypot(xs + 0.5 - disc.x * size, ys + 0.5 - disc.y * size) > _CLEAR * unit
    arcs, chords = 0.0, 0.0
    for path in map(_smoothed, segments((plane >= EDGE) & outside, _SPUR * unit)):
        arc = float(np.hypot(*np.diff(path, axis=0).T).sum())
        chord = float(np.hypot(*(path[-1] - path[0]))) if len(path) else 0.0
        if arc >= _SHORTEST * unit and chord > arc / 2:  # what winds more is a ring that crossings have closed
            arcs, chords = arcs + arc, chords + chord
    return arcs / chords if arcs >= _ENOUGH * unit else None


def fractal_dimension(mask: np.ndarray) -> float | None:
    """Box-counting dimension of a set, bool (s, s): slope of log count over boxes of s / 128 to s / 8; None if empty.

    For vessels give the centre lines (`thinned`), as Liew et al. 2008 (Ophthalmology 115:1951) do. It depends on the
    field of view: compare only photographs of the same camera and field.
    """
    size = mask.shape[0]
    boxes = [box for box in (size // 128, size // 64, size // 32, size // 16, size // 8) if box >= 1]
    if len(boxes) < 3 or not mask.any():
        return None
    counts = [_fewest_boxes(mask, box) for box in boxes]
    return float(-np.polyfit(np.log(boxes), np.log(counts), 1)[0])


def _smoothed(path: np.ndarray) -> np.ndarray:
    """Path (n, 2) without its staircase; the ends stay, because they are mirrored through themselves."""
    reach = int(3 * _SMOOTH)
    if len(path) <= 2 * reach:
        return path[:0]
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SMOOTH) ** 2)
    kernel /= kernel.sum()
    before, after = 2 * path[0] - path[reach:0:-1], 2 * path[-1] - path[-2 : -reach - 2 : -1]
    longer = np.concatenate([before, path, after])
    return np.stack([np.convolve(longer[:, k], kernel, "valid") for k in (0, 1)], -1)


def _fewest_boxes(mask: np.ndarray, box: int) -> int:
    """Boxes of `box` pixels that hold some of the set, for the best of four positions of the grid."""
    counts = []
    for dy, dx in ((0, 0), (0, box // 2), (box // 2, 0), (box // 2, box // 2)):
        placed = np.pad(mask, ((dy, -(mask.shape[0] + dy) % box), (dx, -(mask.shape[1] + dx) % box)))
        rows, columns = placed.shape[0] // box, placed.shape[1] // box
        counts.append(int(placed.reshape(rows, box, columns, box).any(axis=(1, 3)).sum()))
    return min(counts)


def _widths(plane: np.ndarray, places: np.ndarray, widest: float) -> np.ndarray:
    """Shortest way [px] through the vessel at each place (n, 2) over `_TURNS` directions."""
    steps = np.arange(0, widest + _STEP, _STEP)
    angle = np.arange(2 * _TURNS) * np.pi / _TURNS  # each direction, then its opposite
    x = places[:, 0, None, None] + np.cos(angle)[:, None] * steps
    y = places[:, 1, None, None] + np.sin(angle)[:, None] * steps
    values = _sample(plane, x, y)
    outside = values < EDGE
    first = np.where(outside.any(-1), outside.argmax(-1), len(steps) - 1)[..., None]
    inner, outer = (np.take_along_axis(values, np.maximum(k, 0), -1)[..., 0] for k in (first - 1, first))
    part = np.clip((inner - EDGE) / np.maximum(inner - outer, 1e-6), 0, 1)
    half = np.where(first[..., 0] > 0, (first[..., 0] - 1 + part) * _STEP, 0)
    return (half[:, :_TURNS] + half[:, _TURNS:]).min(axis=1)


def _sample(plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values at positions [px] of any shape, 0 beyond the plane."""
    columns, rows = (np.asarray(v, np.float32).reshape(-1, v.shape[-1]) for v in (x, y))
    values = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(values).reshape(x.shape)
