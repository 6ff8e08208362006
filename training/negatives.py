"""Pictures that the gates must refuse, so that they learn more than the few labelled ones show.

Two sorts, made from seeds and from training or validation photographs, kept below runs/cache and nowhere else: what is
no colour photograph of a fundus (a page, a drawing, a scan, false colours, a fundus's colours without its anatomy;
after Hendrycks et al. 2019, outlier exposure), and photographs spoiled until nobody could read them.
`training.strangers` tests with other kinds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from qmmfl import fundus, photograph

COUNTS = {"train": 48, "val": 12}  # pictures of each kind
SIDE = 448  # [px] of what is made from nothing
_SEEDS = {"train": 100_000, "val": 200_000}

Numbers = np.random.Generator


def _fractal(numbers: Numbers, channels: int = 1, power: float | None = None) -> np.ndarray:
    """float32 (SIDE, SIDE, channels) in 0..1: a `_texture`, its extremes cut off."""
    plane = _texture(numbers, channels, power)
    low, high = np.percentile(plane, (1, 99))
    return np.clip((plane - low) / (high - low), 0, 1).astype(np.float32)


def _texture(numbers: Numbers, channels: int = 1, power: float | None = None) -> np.ndarray:
    """float64 (SIDE, SIDE, channels): noise whose spectrum falls with a power of the frequency."""
    power = numbers.uniform(0.6, 2.2) if power is None else power
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    noise = np.fft.rfft2(numbers.normal(size=(channels, SIDE, SIDE))) / np.maximum(frequency, 1 / SIDE) ** power
    return np.fft.irfft2(noise, (SIDE, SIDE)).transpose(1, 2, 0)


def _round(numbers: Numbers) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return (np.hypot(x, y) < numbers.uniform(0.4, 0.49))[..., None]


def _colours(numbers: Numbers, count: int) -> np.ndarray:
    return numbers.integers(0, 256, (count, 3))


def _to_pixels(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture, 0, 255).astype(np.uint8)


def _mix(weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return low + weight * (high.astype(np.float32) - low)


def _grain(numbers: Numbers) -> np.ndarray:
    noise = numbers.normal(128, numbers.uniform(15, 80), (SIDE, SIDE, 3))
    return _to_pixels(noise * (_round(numbers) if numbers.random() < 0.5 else 1))


def _landscape(numbers: Numbers) -> np.ndarray:
    """Smooth colours without a shape: a blurred room, a sky, a wall."""
    picture = _fractal(numbers, 3, numbers.uniform(1.0, 2.0)) * _colours(numbers, 1) + _colours(numbers, 1) / 3
    return _to_pixels(picture)


def _plate(numbers: Numbers) -> np.ndarray:
    """A round thing with a texture of its own."""
    low, high = _colours(numbers, 2)
    return _to_pixels(_mix(_fractal(numbers), low, high) * _round(numbers))


def _drawing(numbers: Numbers) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), numbers.integers(0, 256, 3), np.uint8)
    return _draw(numbers, picture, _colours(numbers, int(numbers.integers(3, 30))))


def _draw(numbers: Numbers, picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A shape of each colour on the picture, uint8 (SIDE, SIDE, 3), which is changed."""
    for colour in colours.tolist():
        points = numbers.integers(0, SIDE, (4, 2))
        shape, width = numbers.integers(3), int(numbers.choice([-1, 1, 2, 5]))
        if shape == 0:
            cv2.ellipse(picture, points[0].tolist(), (points[1] // 3 + 1).tolist(), 0, 0, 360, colour, width)
        elif shape == 1:
            cv2.fillPoly(picture, [points.astype(np.int32)], colour)
        else:
            cv2.polylines(picture, [points.astype(np.int32)], False, colour, abs(width))
    return picture


def _window(numbers: Numbers, inside: np.ndarray | None = None) -> np.ndarray:
    """A program's window: bars, boxes, words, perhaps a photograph somewhere."""
    dark = numbers.random() < 0.4
    picture = np.full((SIDE, SIDE * 4 // 3, 3), 30 if dark else 240, np.uint8)
    ink = (210, 210, 210) if dark else (40, 40, 40)
    for x, y, w, h in (numbers.random((12, 4)) * (SIDE, SIDE, 240, 60)).astype(int).tolist():
        cv2.rectangle(picture, (x, y), (x + w, y + h), _colours(numbers, 1)[0].tolist(), -1)
    for x, y in (numbers.random((25, 2)) * (SIDE, SIDE)).astype(int).tolist():
        words = "".join(chr(code) for code in numbers.integers(97, 123, 12).tolist())
        cv2.putText(picture, words, (x, y), int(numbers.integers(8)), float(numbers.uniform(0.3, 0.9)), ink, 1)
    if inside is not None:
        side = int(numbers.uniform(0.25, 0.6) * SIDE)
        x, y = numbers.integers(0, SIDE - side, 2).tolist()
        picture[y : y + side, x : x + side] = cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA)
    return picture


def _scan(numbers: Numbers) -> np.ndarray:
    """A section through layers, as coherence tomography shows it, in one tint."""
    depth = np.mgrid[:SIDE, :SIDE][0] / SIDE - 0.15 * _fractal(numbers, 1, 2.0)[..., 0]
    bounds, levels = np.sort(numbers.uniform(0.1, 0.9, 9)), [0, 1, 0.4, 0.8, 0, 0.3, 1, 0.2, 0]
    layers = np.interp(depth, bounds, numbers.permutation(levels))
    speckle = layers[..., None] * numbers.gamma(4, 0.25, (SIDE, SIDE, 1))
    return _to_pixels(speckle * numbers.uniform(120, 255, 3))


def _front(numbers: Numbers) -> np.ndarray:
    """An eye from outside: skin, sclera, iris, pupil, glare."""
    skin = _mix(_fractal(numbers), np.array((190, 140, 110)), np.array((230, 185, 160)))
    picture = _to_pixels(skin * numbers.uniform(0.4, 1))
    centre = (numbers.uniform(0.4, 0.6, 2) * SIDE).astype(int)
    wide, high = int(numbers.uniform(0.3, 0.48) * SIDE), int(numbers.uniform(0.15, 0.3) * SIDE)
    cv2.ellipse(picture, centre.tolist(), (wide, high), 0, 0, 360, (235, 225, 220), -1, cv2.LINE_AA)
    iris = numbers.integers((40, 30, 20), (140, 150, 190)).tolist()
    cv2.circle(picture, centre.tolist(), int(high * 0.85), iris, -1, cv2.LINE_AA)
    cv2.circle(picture, centre.tolist(), int(high * numbers.uniform(0.25, 0.6)), (8, 8, 8), -1, cv2.LINE_AA)
    cv2.circle(picture, (centre - high // 4).tolist(), high // 10 + 1, (255, 255, 255), -1, cv2.LINE_AA)
    return picture


def _recoloured(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + numbers.integers(35, 146)) % 180  # OpenCV counts 2 degrees
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _false_colours(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    return cv2.applyColorMap(pixels[..., 1], int(numbers.integers(0, 22)))[..., ::-1]


def _tinted(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    """One channel or its negative in one colour: an angiogram or a red-free picture on coloured paper."""
    plane = pixels[..., 1:2].astype(np.float32) / 255
    plane = (1 - plane) * (pixels.max(axis=2, keepdims=True) > 12) if numbers.random() < 0.5 else plane
    return _to_pixels(plane / max(float(plane.max()), 0.1) * numbers.uniform(90, 255, 3))


def _blurred(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) * numbers.uniform(0.018, 0.05))


def _dark(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    noise = numbers.normal(0, numbers.uniform(1, 4), pixels.shape)
    return _to_pixels((pixels * numbers.uniform(0.06, 0.2) + noise) * (pixels.max(axis=2, keepdims=True) > 12))


def _hazy(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    field = pixels.max(axis=2, keepdims=True) > 12
    veil = numbers.uniform(0.75, 0.93) * np.array((235, 225, 205)) * numbers.uniform(0.6, 1.05)
    soft = cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) * 0.006)
    return _to_pixels((veil + soft * numbers.uniform(0.07, 0.2)) * field)


def _half_lit(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width) - 0.5
    angle = numbers.uniform(0, 2 * np.pi)
    ramp = 1 / (1 + np.exp(-12 * (x * np.cos(angle) + y * np.sin(angle) - numbers.uniform(0.05, 0.25))))
    return _to_pixels(pixels * (0.05 + 0.95 * ramp[..., None]))


def _field(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photograph's canonical square uint8 (SIDE, SIDE, 3), and bool (SIDE, SIDE): what of it is lit."""
    square, _ = fundus.canonical(pixels, fundus.Prep(SIDE))
    return square, square.max(axis=2) > 12


def _scrambled(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    """The colours and the spectrum of a fundus, every frequency moved to another place."""
    square, lit = _field(pixels)
    filled = np.where(lit[..., None], square, square[lit].mean(axis=0))
    turned = np.fft.rfft2(numbers.normal(size=(SIDE, SIDE)))
    turned[0, 0] = 1  # the mean colour stays
    moved = np.fft.rfft2(filled, axes=(0, 1)) * (turned / np.abs(turned))[..., None]
    return _to_pixels(np.fft.irfft2(moved, (SIDE, SIDE), axes=(0, 1)) * lit[..., None])


def _marbled(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    """Exactly the pixels of a fundus, laid out by brightness along a texture."""
    square, lit = _field(pixels)
    palette = square[lit][np.argsort(square[lit][:, 1], kind="stable")]
    picture = np.zeros_like(square)
    picture[lit] = palette[_texture(numbers)[lit, 0].argsort().argsort()]
    return picture


def _painted(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    """Shapes in the colours of a fundus, on its ground and in its field."""
    square, lit = _field(pixels)
    ground, *colours = numbers.permutation(square[lit])[: int(numbers.integers(6, 40))]
    return _draw(numbers, np.full_like(square, ground), np.array(colours)) * lit[..., None]


def _waved(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    """A pattern that repeats, bent, in the field and the colours of a fundus: wood, cloth, sand, scales."""
    square, lit = _field(pixels)
    bend = 2 * np.pi * numbers.uniform(0, 2) * _fractal(numbers, 1, 2.2)[..., 0]
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    light = np.ones((SIDE, SIDE))
    for _ in range(int(numbers.integers(1, 4))):
        angle, pace = numbers.uniform(0, np.pi), 2 * np.pi * numbers.uniform(3, 40)
        light += numbers.uniform(0.1, 0.3) * np.cos(pace * (x * np.cos(angle) + y * np.sin(angle)) + bend)
    colour = square[lit].mean(axis=0) * numbers.uniform(0.7, 1.3)
    return _to_pixels(light[..., None] * colour * lit[..., None])


def _veined(numbers: Numbers, pixels: np.ndarray) -> np.ndarray:
    """Lines that branch: a bough, a root, the white of an eye; often in the field and the colours of a fundus."""
    square, lit = _field(pixels)
    ground, ink = square[lit].mean(axis=0) * numbers.uniform((0.8, 0.3), (1.3, 0.8), (2,))[:, None]
    if numbers.random() < 0.4:
        ground, ink = _colours(numbers, 2)
        lit = lit | (numbers.random() < 0.5)
    light = np.full((SIDE, SIDE), 0.0, np.float32)
    shoots = [(numbers.random(2) * SIDE, numbers.uniform(0, 2 * np.pi), numbers.uniform(3, 12)) for _ in range(3)]
    bend, fork, chance = numbers.uniform((0.02, 0.2, 0.15), (0.25, 1.2, 0.35))
    while shoots:
        place, angle, width = shoots.pop()
        for _ in range(int(numbers.integers(4, 16))):
            angle += numbers.normal(0, bend)
            ahead = place + numbers.uniform(6, 20) * np.array((np.cos(angle), np.sin(angle)))
            cv2.line(light, *(each.round().astype(int).tolist() for each in (place, ahead)), 1.0, max(int(width), 1))
            place = ahead
            if width > 1.4 and numbers.random() < chance:
                side = numbers.choice((-1, 1)) * numbers.normal(fork, 0.1)
                shoots.append((place, angle + side, width * numbers.uniform(0.5, 0.8)))
    light = cv2.GaussianBlur(light, (0, 0), numbers.uniform(0.5, 2))[..., None]
    shade = 1 + numbers.uniform(0, 0.3) * (_fractal(numbers, 1, 2.0) - 0.5)
    return _to_pixels(_mix(light, ground, ink) * shade * lit[..., None])


MADE: Mapping[str, Callable[[Numbers], np.ndarray]] = {
    "grain": _grain,
    "landscape": _landscape,
    "plate": _plate,
    "drawing": _drawing,
    "window": _window,
    "scan": _scan,
    "front": _front,
}
ALTERED: Mapping[str, Callable[[Numbers, np.ndarray], np.ndarray]] = {
    "recoloured": _recoloured,
    "false_colours": _false_colours,
    "tinted": _tinted,
    "shown": _window,
}
SPOILED: Mapping[str, Callable[[Numbers, np.ndarray], np.ndarray]] = {
    "blurred": _blurred,
    "dark": _dark,
    "hazy": _hazy,
    "half_lit": _half_lit,
}

MIMICS: Mapping[str, Callable[[Numbers, np.ndarray], np.ndarray]] = {
    "scrambled": _scrambled,
    "marbled": _marbled,
    "painted": _painted,
    "waved": _waved,
    "veined": _veined,
}
KINDS = (*MADE, *ALTERED, *SPOILED, *MIMICS)  # the seeds follow from the places: a new kind comes last


def picture(kind: str, seed: int, source: str | Path | None) -> np.ndarray:
    """uint8 (H, W, 3) of one kind; `source`: the photograph to alter, for what is not made from nothing."""
    numbers = np.random.default_rng(seed)
    if kind in MADE:
        return MADE[kind](numbers)
    alter = {**ALTERED, **SPOILED, **MIMICS}[kind]
    return np.ascontiguousarray(alter(numbers, photograph.read(source).pixels))


def plan(photographs: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, int, str]]:
    """(split, kind, seed, source) of every picture; photographs: split -> paths that may be altered."""
    for split, count in COUNTS.items():
        for place, kind in enumerate(KINDS):
            for number in range(count):
                seed = _SEEDS[split] + place * 1000 + number
                source = "" if kind in MADE else photographs[split][seed * 7919 % len(photographs[split])]
                yield split, kind, seed, source
