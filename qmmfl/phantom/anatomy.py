"""The geometry of a simulated eye, free of pixels: vessels, disc, cup, fovea, lesions.

Unit of length: the radius of the field of view; origin its centre, y downwards. Everything is drawn as a
right eye
(disc on the right, temporal side on the left); `render` mirrors it for a left one. Only `numpy`.
"""

import cmath
import math
from dataclasses import dataclass, field

import numpy as np

FINEST = 0.0022  # width of the finest vessel that is drawn [field radii]


@dataclass(frozen=True, eq=False)
class Vessel:
    """A vessel from its root outwards: points float64 (n, 2), widths (n,) [field radii]."""

    artery: bool
    points: np.ndarray
    widths: np.ndarray


@dataclass(frozen=True, eq=False)
class Blob:
    """A closed outline float64 (n, 2) of a lesion, its feathering [field radii] and strength 0..1."""

    outline: np.ndarray
    feather: float = 0.0
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Where everything is. Ellipses are (x, y, horizontal, vertical diameter)."""

    disc: tuple[float, float, float, float]
    cup: tuple[float, float, float, float]
    fovea: tuple[float, float]
    vessels: tuple[Vessel, ...]
    blobs: dict[str, list[Blob]] = field(default_factory=dict)  # MA HE EX SE drusen laser leak


def layout(rng: np.random.Generator, cup_ratio: float) -> Anatomy:
    """Disc, cup and fovea of one eye without vessels or lesions; cup_ratio is vertical."""
    diameter = rng.uniform(0.245, 0.315)  # 1.8 mm in a field of about 45 degrees
    distance = diameter * rng.uniform(2.35, 2.75)
    view = rng.choice([0.0, 0.35, 0.5, 1.0], p=[0.5, 0.25, 0.2, 0.05])  # 0 centred on the macula, 1 on the disc
    fovea = np.array([-distance * view, 0]) + rng.normal(0, 0.04, 2)
    disc = fovea + np.array([distance, -rng.uniform(0.0, 0.45) * diameter])
    excess = max(0.0, float(np.hypot(*disc)) + diameter / 2 - 0.96)  # a disc cut by the edge would have no truth
    pull = excess * disc / np.hypot(*disc)
    fovea, disc = fovea - pull, disc - pull
    width = diameter * rng.uniform(0.86, 0.97)
    shift = rng.uniform((-0.07, -0.03), (0.0, 0.03)) * diameter * (1 - cup_ratio) * 1.5
    return Anatomy(
        (float(disc[0]), float(disc[1]), width, diameter),
        (
            float(disc[0] + shift[0]),
            float(disc[1] + shift[1]),
            width * cup_ratio * rng.uniform(0.9, 1.05),
            diameter * cup_ratio,
        ),
        (float(fovea[0]), float(fovea[1])),
        (),
    )


def grow(rng: np.random.Generator, eye: Anatomy, beading: float = 0.0) -> tuple[Vessel, ...]:
    """The arteries and veins of an eye: paired arcades, nasal trunks and twigs, branching until too fine.

    beading: 0..1, how much the calibre of the veins varies along their course.
    """
    tree = _Tree(rng, eye, beading)
    disc, unit = tree.disc, eye.disc[3]
    for vertical in (-1, 1):
        for temporal in (True, False):
            height, slope = rng.uniform(0.72, 0.98) * tree.span, rng.uniform(0.35, 1.3)
            lead = rng.choice([-1, 1])  # which of the pair runs outside
            for artery in (True, False):
                # The vessels come up on the nasal side of the disc, the vein nearer to its middle.
                nasal, height_in_disc = rng.normal(0.13 if artery else 0.05, 0.03), rng.uniform(-0.02, 0.05)
                root = disc + unit * complex(nasal, vertical * height_in_disc)
                offset = lead * (0.5 if artery else -0.5) * rng.uniform(0.05, 0.12)
                width = unit * (0.050 if artery else 0.070) * rng.uniform(0.85, 1.1) * (1 if temporal else 0.75)
                heading = complex(-0.35 + 2 * offset if temporal else slope + 2 * offset, vertical)
                arcade = (height + offset, vertical) if temporal else None
                tree.extend(root, cmath.phase(heading), width, artery, 0, arcade)
    for _ in range(rng.integers(4, 8)):  # twigs straight off the disc
        heading = complex(rng.choice([-1, -1, 1]), rng.uniform(-0.7, 0.7))
        root = disc + unit * complex(*rng.normal(0, 0.06, 2))
        tree.extend(root, cmath.phase(heading), unit * rng.uniform(0.016, 0.030), bool(rng.random() < 0.5), 2)
    return tuple(tree.vessels)


class _Tree:
    """Vessels under growth. Points are complex numbers: thousands of scalar steps are slow as arrays."""

    STEP = 0.012

    def __init__(self, rng: np.random.Generator, eye: Anatomy, beading: float):
        self.rng, self.beading, self.vessels = rng, beading, []
        self.disc, self.fovea = complex(*eye.disc[:2]), complex(*eye.fovea)
        self.span, self.clear = abs(self.disc.real - self.fovea.real), eye.disc[3] * 0.5
        self.tortuosity = rng.uniform(0.5, 1.6)

    def extend(self, point, angle, width, artery, depth, arcade=None) -> None:
        """One vessel from its root, then its branches. arcade: (height above fovea, -1 upper, 1 lower)."""
        rng, length = self.rng, (2.4, 1.1, 0.7, 0.4)[depth] * self.rng.uniform(0.6, 1.1)
        steps = int(length / self.STEP)
        waves, phases = rng.uniform((0.5, 0.15, 0.07), (0.9, 0.3, 0.12)), rng.uniform(0, 2 * np.pi, 3)
        wobble = np.sin(2 * np.pi * np.arange(steps)[:, None] * self.STEP / waves + phases) @ (
            0.016,
            0.028,
            0.024,
        )
        wobble = (self.tortuosity * (1 + 0.4 * depth) * wobble + rng.normal(0, 0.012, steps)).tolist()
        taper = 1 - (0.5, 0.75, 1.0, 1.5)[depth] * self.STEP
        points, widths, children = [point], [width], []
        side, spawn = rng.choice([-1, 1]), rng.uniform(0.12, 0.3) * (1 if depth else 0.8)
        for k in range(steps):
            angle += wobble[k] + self._steer(point, angle, depth, arcade if k > 4 else None)
            point += cmath.rect(self.STEP, angle)
            width *= taper
            away = abs(point - self.fovea)
            if abs(point) > 1.12 or away < 0.085 or (depth and away < 0.14 and rng.random() < 0.15):
                break
            if width < FINEST * 0.75:
                break
            points.append(point)
            widths.append(width)
            if k * self.STEP > spawn and depth < 3 and abs(point - self.disc) > self.clear:
                share = rng.uniform(0.35, 0.75) if depth == 0 else rng.uniform(0.45, 0.85)
                if width * share > FINEST:
                    children.append((point, angle + side * rng.uniform(0.45, 1.05), width * share))
                    angle -= side * 0.16 * share
                    width *= (1 - 0.55 * share**3) ** (1 / 3)
                side = -side if rng.random() < 0.75 else side
                spawn = k * self.STEP + rng.uniform(0.12, 0.34)
        widths = np.array(widths)
        if self.beading and not artery:
            along = np.arange(len(widths)) * self.STEP
            widths = widths * (1 + 0.32 * self.beading * np.sin(2 * np.pi * along / 0.075 + phases[0]))
        if abs(point) < 1.1:  # fades out inside the field
            widths = widths * np.minimum(1, np.linspace(2.2, 0.25, len(widths)))
        if len(points) > 3:
            course = np.array(points, np.complex128)
            course[1:-1] = (course[:-2] + 2 * course[1:-1] + course[2:]) / 4
            self.vessels.append(Vessel(artery, np.stack([course.real, course.imag], -1), widths))
        for start, heading, wide in children:
            self.extend(start, heading, wide, artery, depth + 1)

    def _steer(self, point: complex, angle: float, depth: int, arcade) -> float:
        """Turn: trunks follow their arcade, nasal ones the radius, branches pass by the fovea."""
        if arcade:
            height, vertical = arcade
            reach = min(max((self.disc.real - point.real) / self.span, 0.0), 3.0)
            # A parabola from the disc around the fovea; beyond it the arcade flattens towards the raphe.
            wanted = min(height * math.sqrt(reach + 0.02), height * (1.15 - 0.25 * max(reach - 1.3, 0)))
            slope = height**2 / (2 * self.span * max(wanted, 0.1)) * (1 if reach < 1.2 else 0.1)
            error = wanted - abs(point.imag - self.fovea.imag)
            return 0.10 * _turn(cmath.phase(complex(-1, vertical * (slope + 3.2 * error))) - angle)
        if depth == 0:
            return 0.004 * _turn(cmath.phase(point - self.disc) - angle)
        near = max(0.0, (0.2 - abs(point - self.fovea)) * 8)
        return -0.06 * near * _turn(cmath.phase(self.fovea - point) - angle) if near else 0.0


def _turn(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
