"""Pictures that are no colour photograph of a fundus, made from simulated eyes, noise, text and altered photographs.

Made in memory from seeds and from test photographs, never written. With the angiograms and DRIMDB's outliers they
test the gates; nothing is trained on them. What the gates do learn from (`negatives`) is made in other ways, though
some of it was thought of after pictures of these kinds had passed: only "cracks" were never answered so.
"""

from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np

from qmmfl import phantom, photograph

COUNT = 20  # pictures of each kind
SIDE = 512  # [px]
_SEED = 70_000  # of simulated eyes that no training set holds


def _field() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.hypot(x, y) < 0.48 * SIDE


def _noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def _clouds(number: int) -> np.ndarray:
    """Smooth noise in the colours of a fundus, in a round field."""
    small = np.random.default_rng(number).normal(0, 1, (8 + 2 * number, 8 + 2 * number, 1)).astype(np.float32)
    light = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    return (np.clip((1 + 0.3 * light) * (180, 90, 40), 0, 255) * _field()[..., None]).astype(np.uint8)


def _ball(number: int) -> np.ndarray:
    """A shaded orange ball: the colours and outline of a fundus, nothing on it."""
    shade = 1 - (0.2 + 0.02 * number) * np.square(np.mgrid[:SIDE, :SIDE] / SIDE * 2 - 1).sum(axis=0)
    return (np.clip(shade[..., None] * (190, 100, 45), 0, 255) * _field()[..., None]).astype(np.uint8)


def _rings(number: int) -> np.ndarray:
    """A cut trunk or a slice of fruit: rings about a middle that lies where a disc could."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    x -= 0.015 * number
    away = np.hypot(x, y) * (1 + 0.1 * np.sin(5 * np.arctan2(y, x)))
    light = 0.7 + 0.25 * np.cos(away * (30 + 6 * number))
    return (light[..., None] * (200, 105, 50) * _field()[..., None]).astype(np.uint8)


def _leaf(number: int) -> np.ndarray:
    """A leaf in autumn: a ground of the colours of a fundus, and veins that branch."""
    numbers = np.random.default_rng(number)
    light = 0.8 + 0.06 * _smooth(numbers)
    stems = [(np.array((0.06, 0.5)) * SIDE, numbers.uniform(-0.3, 0.3), 0.9 * SIDE, 9.0)]
    while stems:
        start, angle, length, width = stems.pop()
        steps = max(int(length / 12), 2)
        turns = angle + np.cumsum(numbers.normal(0, 0.06, steps))
        path = start + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0) * length / steps
        cv2.polylines(light, [path.round().astype(np.int32)], False, 0.4 + 0.015 * number, max(int(width), 1))
        if width > 2:
            shoots = zip(path[2:-1:4], turns[2:-1:4], strict=True)
            stems += [(at, turn + side * 0.8, length * 0.4, width * 0.5) for at, turn in shoots for side in (-1, 1)]
    light = cv2.GaussianBlur(light, (0, 0), 1.2)
    return (np.clip(light[..., None] * (200, 100, 40), 0, 255) * _field()[..., None]).astype(np.uint8)


def _cracks(number: int) -> np.ndarray:
    """Dried mud, a shell, a hide: cells with dark edges between them."""
    numbers = np.random.default_rng(number)
    seeds = numbers.random((12 + 8 * number, 2)).astype(np.float32) * SIDE
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) + 14 * np.stack([_smooth(numbers), _smooth(numbers)])
    away = np.full((2, SIDE, SIDE), np.inf, np.float32)  # from the nearest seed and from the next
    for at_x, at_y in seeds.tolist():
        here = np.hypot(x - at_x, y - at_y)
        away = np.sort(np.stack([here, *away]), axis=0)[:2]
    edge = np.exp(-np.square((away[1] - away[0]) / 5))
    light = (0.85 + 0.06 * _smooth(numbers)) * (1 - 0.5 * edge)
    return (np.clip(light[..., None] * (210, 110, 50), 0, 255) * _field()[..., None]).astype(np.uint8)


def _smooth(numbers: np.random.Generator) -> np.ndarray:
    return cv2.resize(numbers.normal(0, 1, (7, 7)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _text(number: int) -> np.ndarray:
    page = np.full((SIDE, SIDE, 3), 255 - 4 * number, np.uint8)
    for line in range(14):
        words = " ".join(f"{number * 7919 + line * 104729 + word:x}" for word in range(6))
        cv2.putText(page, words, (16, 40 + 34 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 30), 1, cv2.LINE_AA)
    return page


def _grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=2)


def _simulated_angiogram(number: int) -> np.ndarray:
    plane = phantom.render(_SEED + number, SIDE).planes["ffa_arteriovenous"]
    return _grey((plane * 255).astype(np.uint8))


def _simulated_red_free(number: int) -> np.ndarray:
    return _grey(phantom.render(_SEED + number, SIDE).photograph[..., 1])


MADE: Mapping[str, Callable[[int], np.ndarray]] = {
    "noise": _noise,
    "clouds in a field": _clouds,
    "ball": _ball,
    "rings": _rings,
    "leaf": _leaf,
    "cracks": _cracks,
    "text": _text,
    "simulated angiogram": _simulated_angiogram,
    "simulated red-free": _simulated_red_free,
}
ALTERED: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "red and blue swapped": lambda pixels: pixels[..., ::-1],
    "negative": lambda pixels: (255 - pixels) * (pixels.max(axis=2, keepdims=True) > 12),
    "red-free": lambda pixels: _grey(pixels[..., 1]),
}


def picture(what: tuple[str, int, str]) -> np.ndarray:
    """uint8 (H, W, 3) of one (kind, number, path of the photograph to alter; empty for what needs none)."""
    kind, number, path = what
    made = MADE[kind](number) if kind in MADE else ALTERED[kind](photograph.read(path).pixels)
    return np.ascontiguousarray(made)


def plan(photographs: list[str], count: int = COUNT) -> Iterator[tuple[str, int, str]]:
    """What to make: `count` of each kind, altered from photographs spread evenly over `photographs`."""
    for kind in (*MADE, *ALTERED):
        for number in range(count):
            yield kind, number, "" if kind in MADE else photographs[number * len(photographs) // count]
