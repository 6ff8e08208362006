"""The lesions of a simulated eye as outlines, in the units of `anatomy`."""

import numpy as np

from .anatomy import Anatomy, Blob, Vessel

# Fewest and most per grade 0..4: microaneurysms, haemorrhages, clusters of hard exudates, soft exudates.
COUNTS = {
    "MA": ((0, 0), (1, 5), (6, 25), (25, 60), (15, 45)),
    "HE": ((0, 0), (0, 0), (2, 12), (24, 55), (10, 35)),
    "EX": ((0, 0), (0, 0), (0, 4), (0, 5), (0, 5)),
    "SE": ((0, 0), (0, 0), (0, 2), (1, 7), (0, 5)),
}


def scatter(rng: np.random.Generator, eye: Anatomy, grade: int, drusen: bool, laser: bool) -> dict[str, list[Blob]]:
    """All lesions of an eye: keys MA HE EX SE drusen laser leak, each a list of outlines."""
    blobs: dict[str, list[Blob]] = {name: [] for name in ("MA", "HE", "EX", "SE", "drusen", "laser", "leak")}
    fovea = np.array(eye.fovea)
    many = {name: int(rng.integers(low, high + 1)) for name, ranges in COUNTS.items() for low, high in [ranges[grade]]}
    for _ in range(many["MA"]):
        blobs["MA"].append(_blob(rng, _place(rng, eye, 0.55), rng.uniform(0.0035, 0.0075), 0.15))
    for _ in range(many["HE"]):
        place = _place(rng, eye, 0.6)
        if rng.random() < 0.35:
            blobs["HE"].append(_flame(rng, eye, place))
        else:
            radius = min(0.006 + rng.gamma(1.6, 0.007), 0.06)
            blobs["HE"].append(_blob(rng, place, radius, 0.32, feather=0.15 * radius, strength=rng.uniform(0.6, 1)))
    for _ in range(many["EX"]):
        _exudates(rng, blobs, _place(rng, eye, 0.35))
    for _ in range(many["SE"]):
        radius = rng.uniform(0.016, 0.04)
        place = _place(rng, eye, 0.5, near_disc=True)
        blobs["SE"].append(_blob(rng, place, radius, 0.28, 0.35 * radius, rng.uniform(0.5, 0.9), stretch=1.5))
    if grade == 4:
        for _ in range(rng.integers(0, 3)):
            place = _place(rng, eye, 0.6)
            blobs["HE"].append(_boat(rng, place, rng.uniform(0.05, 0.13)))
    if drusen:
        spread = rng.uniform(0.08, 0.25)
        for _ in range(int(rng.integers(25, 140))):
            radius = min(0.004 + rng.gamma(1.5, 0.004), 0.03)
            place = fovea + rng.normal(0, spread, 2)
            blobs["drusen"].append(_blob(rng, place, radius, 0.15, 0.3 * radius, rng.uniform(0.25, 0.75)))
    if laser:
        for _ in range(int(rng.integers(60, 220))):
            place = rng.uniform(-1, 1, 2)
            if np.hypot(*(place - fovea)) > 0.5 and np.hypot(*(place - np.array(eye.disc[:2]))) > 0.3:
                radius = rng.uniform(0.015, 0.03)
                blobs["laser"].append(_blob(rng, place, radius, 0.15, 0.2 * radius, rng.uniform(0.3, 0.9)))
    return blobs


def new_vessels(rng: np.random.Generator, eye: Anatomy) -> tuple[list[Vessel], list[Blob]]:
    """Tangles of fine new vessels at the disc or elsewhere, and the places where they leak."""
    vessels, leaks = [], []
    for k in range(rng.integers(1, 4)):
        disc = np.array(eye.disc[:2])
        centre = (
            disc + rng.normal(0, 0.04, 2) if k == 0 and rng.random() < 0.6 else _place(rng, eye, 0.6, near_disc=True)
        )
        reach = rng.uniform(0.05, 0.13)
        for _ in range(rng.integers(8, 18)):
            n = rng.integers(12, 26)
            angle = (
                rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.45, n)) + np.linspace(0, rng.uniform(-3, 3), n)
            )
            steps = reach / n * 1.6 * np.stack([np.cos(angle), np.sin(angle)], -1)
            points = centre + rng.normal(0, 0.15, 2) * reach + np.cumsum(steps, 0)
            vessels.append(Vessel(True, points, np.full(n, rng.uniform(0.0022, 0.0042))))
        leaks.append(_blob(rng, centre, reach * 0.9, 0.3, reach * 0.4))
    return vessels, leaks


def _place(rng, eye, spread, near_disc=False) -> np.ndarray:
    """A place in the field, outside disc and fovea, around the posterior pole."""
    disc, fovea = np.array(eye.disc[:2]), np.array(eye.fovea)
    centre = disc + np.array([-0.5 * eye.disc[3], 0]) if near_disc else fovea + 0.25 * (disc - fovea)
    for _ in range(60):
        place = centre + rng.normal(0, spread * 0.75, 2)
        clear = np.hypot(*(place - disc)) > 0.62 * eye.disc[3] and np.hypot(*(place - fovea)) > 0.05
        if clear and np.hypot(*place) < 0.92:
            break
    return place


def _blob(rng, place, radius, rough, feather=0.0, strength=1.0, stretch=1.0) -> Blob:
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    waves = sum(rng.normal(0, rough / k) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in (2, 3, 5))
    r = radius * np.clip(1 + waves, 0.4, 1.7)
    turn, stretch = rng.uniform(0, np.pi), np.sqrt(stretch)
    x, y = r * np.cos(angle) * stretch, r * np.sin(angle) / stretch
    outline = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], -1)
    return Blob(place + outline, float(feather), float(strength))


def _flame(rng, eye, place) -> Blob:
    """A haemorrhage in the nerve-fibre layer: a feathered streak along the fibres."""
    out = np.array(place) - np.array(eye.disc[:2])
    turn = np.arctan2(out[1], out[0]) + rng.normal(0, 0.25)
    length, width = rng.uniform(0.018, 0.06), rng.uniform(0.006, 0.014)
    s = np.linspace(-1, 1, 24)
    upper = width * (1 - s**2) ** 0.7 * (1 + 0.35 * rng.standard_normal(24))
    lower = -width * (1 - s**2) ** 0.7 * (1 + 0.35 * rng.standard_normal(24))
    x, y = np.concatenate([s, s[::-1]]) * length, np.concatenate([upper, lower[::-1]])
    outline = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], -1)
    return Blob(place + outline, 0.0015, float(rng.uniform(0.6, 1)))


def _boat(rng, place, radius) -> Blob:
    """A preretinal haemorrhage: level on top where the blood has settled."""
    angle = np.linspace(0, np.pi, 24)
    x, y = radius * np.cos(angle), radius * rng.uniform(0.45, 0.8) * np.sin(angle)
    return Blob(place + np.stack([x, y], -1), 0.002, 1.0)


def _exudates(rng, blobs, centre) -> None:
    """A cluster or a circinate ring of hard exudates around a leaking microaneurysm."""
    ring, reach = rng.random() < 0.4, rng.uniform(0.03, 0.14)
    for _ in range(int(rng.integers(8, 50))):
        angle = rng.uniform(0, 2 * np.pi)
        radius = reach * (rng.normal(0.8, 0.14) if ring else abs(rng.normal(0, 0.55)))
        size = min(0.0028 + rng.gamma(1.3, 0.0032), 0.022)
        place = centre + radius * np.array([np.cos(angle), np.sin(angle)])
        blobs["EX"].append(_blob(rng, place, size, 0.35, 0.0, rng.uniform(0.55, 1.0), stretch=rng.uniform(1, 2)))
    blobs["leak"].append(_blob(rng, centre, reach * 0.5, 0.2, reach * 0.35))
    blobs["MA"].append(_blob(rng, centre, 0.005, 0.1))
