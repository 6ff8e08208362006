"""A stand-in for the trained pipeline: numpy and OpenCV only, quick, and different for every photograph."""

import hashlib
import time
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np

from qmmfl import labels
from qmmfl.measures import BY_DISC
from qmmfl.records import (
    DiscCup,
    Eye,
    Finding,
    Fundus,
    Grade,
    Lesion,
    Oedema,
    Photograph,
    Plane,
    Provenance,
    Quality,
    Report,
)

WITHHELD = "withheld: the photograph is not gradable"
TOO_DARK = "It is too dark to read: check flash and alignment and take it again."
UNKNOWN = ("CSR", "CRS", "RS")  # findings that the pretended weights never learnt
CELLS = 16
STAGES = ("Field of view and quality", *(m.title for m in labels.SYNTHESES), "Fusion")


def fake_photograph(seed: int = 0, width: int = 480, height: int = 400, name: str | None = None) -> Photograph:
    """A simulated eye: orange field, disc and cup, curved vessels, dark and bright spots; not centred on purpose."""
    rng = np.random.default_rng(seed)
    x, y, radius = width * 0.52, height * 0.5, min(width, height) * 0.47
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    shade = 1 - 0.35 * ((xs - x) ** 2 + (ys - y) ** 2) / radius**2
    pixels = (shade[..., None] * (205, 98, 42)).clip(0, 255).astype(np.uint8)
    disc = np.array([x + 0.5 * radius * (1 if seed % 2 == 0 else -1), y - 0.05 * radius])
    for arc in np.linspace(-1.2, 1.2, 8):
        steps = np.linspace(0, 1, 40)[:, None]
        course = disc + steps * radius * 1.3 * np.array([-np.sign(disc[0] - x), 0.9 * np.sin(arc)])
        course[:, 1] += (radius * 0.25 * np.sin(steps[:, 0] * 2.5) * np.sign(arc)).astype(float)
        width_px = max(1, round(radius / 50))
        cv2.polylines(pixels, [course.round().astype(np.int32)], False, (130, 38, 22), width_px, cv2.LINE_AA)
    for scale, colour in ((0.16, (250, 200, 120)), (0.08, (255, 235, 190))):
        cv2.circle(pixels, tuple(disc.round().astype(int).tolist()), round(scale * radius), colour, -1, cv2.LINE_AA)
    for colour in ((95, 20, 12), (250, 225, 120)):
        for _ in range(6):
            spot = np.array([x, y]) + rng.uniform(-0.6, 0.6, 2) * radius
            cv2.circle(pixels, tuple(spot.round().astype(int).tolist()), max(2, round(radius / 60)), colour, -1)
    pixels = np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
    pixels[(xs - x) ** 2 + (ys - y) ** 2 > radius**2] = 0
    return Photograph(pixels, name, hashlib.sha256(pixels.tobytes()).hexdigest())


def fake_report(
    photograph: Photograph | None = None,
    *,
    gradable: bool = True,
    suspected: tuple[str, ...] = ("DR", "DN"),
    side: int = 256,
    planes: bool = True,
) -> Report:
    """A plausible report. gradable=False withholds every prediction; planes=False leaves the planes out."""
    photograph = photograph or fake_photograph()
    rng = np.random.default_rng(int(photograph.sha256[:8], 16))
    grid = _grid(photograph.pixels)
    maps = {code: _map(rng, code in suspected) for code in labels.FINDINGS if code not in UNKNOWN} if gradable else {}
    grade = 2 if "DR" in suspected else 0
    each = np.exp(-1.3 * np.abs(np.arange(5) - grade))
    return Report(
        photograph=photograph,
        eye=Eye("right", BY_DISC) if gradable else Eye(None, None),
        quality=Quality(gradable, 0.93 if gradable else 0.08, () if gradable else (TOO_DARK,)),
        fundus=Fundus(True, 0.99),
        findings=tuple(_finding(code, rng, code in suspected, gradable) for code in labels.FINDINGS),
        dr=Grade(tuple((each / each.sum()).tolist()), grade, grade >= 2, grade >= 3)
        if gradable
        else Grade(None, None, None, None, WITHHELD),
        dme=Oedema(True, 0.31, 0.4, False) if gradable else Oedema(True, None, 0.4, None, WITHHELD),
        disc_cup=DiscCup(0.48, 0.06, 66.0, 32.0) if gradable else DiscCup(None, None, None, None, WITHHELD),
        lesions={
            code: Lesion(int(rng.integers(0, 20)), float(rng.uniform(0, 0.01))) if gradable else Lesion(None, None)
            for code in labels.LESIONS
        },
        planes=_planes(photograph, grid, side) if planes else {},
        contributions={
            code: {
                **{m.name: float(share.mean()) for m, share in zip(labels.MODALITIES, each, strict=True)},
                "bias": -2.0,
            }
            for code, each in maps.items()
        },
        provenance=Provenance(
            "0.0", "fake weights", "f" * 64, "ba9876543210", "0123456789ab", "numpy", "2026-01-02T03:04:05+00:00", 0.1
        ),
        maps=maps,
        grid=grid if planes else None,
    )


@dataclass
class FakeCard:
    """Stands in for `weights.Card`."""

    sha256: str = "f" * 64
    digest: str = "ba9876543210"
    metrics: dict = field(default_factory=dict)
    lesion_thresholds: dict = field(default_factory=lambda: dict.fromkeys(labels.LESIONS, 0.5))

    def summary(self) -> dict[str, str]:
        """Short facts for people."""
        return {"Weights": "fake 0.0 (interim)", "SHA-256": self.sha256, "Limits": "It has learnt nothing."}


class FakePipeline:
    """Like `qmmfl.pipeline.Pipeline`. A dark photograph is ungradable; `delay` seconds pass in every stage, ten times
    as many where the photograph is more than 1000 px wide.
    """

    def __init__(self, *, delay: float = 0.0, banner: str | None = None, error: Exception | None = None):
        self.card, self.source, self.banner = FakeCard(), "fake weights", banner
        self.delay, self.error = delay, error
        self.runtime = SimpleNamespace(name="numpy")
        self.seen: list[Photograph] = []
        self.running, self.stages = 0, 0  # readings at this moment; stages that the last one has done

    def __call__(self, photograph: Photograph, progress=None, *, override: bool = False) -> Report:
        """Photograph -> report, by its content only."""
        self.seen.append(photograph)
        self.running, self.stages = self.running + 1, 0
        try:
            for number, stage in enumerate(STAGES):
                if progress:
                    progress(number, len(STAGES), stage)
                time.sleep(self.delay * (10 if photograph.width > 1000 else 1))
                self.stages = number + 1
        finally:
            self.running -= 1
        if self.error:
            raise self.error
        if photograph.pixels.mean() < 5 and not override:
            return fake_report(photograph, gradable=False, planes=False)
        if override:
            report = fake_report(photograph)
            return replace(report, quality=replace(report.quality, gradable=False, reasons=(TOO_DARK,)))
        return fake_report(photograph)


def _finding(code: str, rng: np.random.Generator, suspected: bool, gradable: bool) -> Finding:
    name = labels.FINDINGS[code]
    if code in UNKNOWN:
        return Finding(code, name, False, None, None, None, labels.NOT_ASSESSED)
    threshold = round(float(rng.uniform(0.25, 0.5)), 3)
    if not gradable:
        return Finding(code, name, True, None, threshold, None, WITHHELD)
    probability = float(rng.uniform(threshold, 0.97) if suspected else rng.uniform(0.0, 0.9 * threshold))
    return Finding(code, name, True, probability, threshold, suspected)


def _map(rng: np.random.Generator, suspected: bool) -> np.ndarray:
    """float32 (modalities, CELLS, CELLS): smooth, mostly positive in the middle where the finding is suspected."""
    noise = rng.normal(0, 1, (len(labels.MODALITIES), CELLS, CELLS)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(each, (0, 0), 1.2) for each in noise])
    ys, xs = np.mgrid[:CELLS, :CELLS] / (CELLS - 1) - rng.uniform(0.3, 0.7, (2, 1, 1))
    bump = np.exp(-((xs**2 + ys**2) / 0.02)).astype(np.float32)
    return (smooth + (2.0 if suspected else -0.3) * bump).astype(np.float32)


def _grid(pixels: np.ndarray) -> tuple[int, int, int, int]:
    lit = np.argwhere(pixels.max(axis=2) > 20)
    (y0, x0), (y1, x1) = (lit.min(axis=0), lit.max(axis=0)) if len(lit) else ((0, 0), pixels.shape[:2])
    side = int(max(x1 - x0, y1 - y0)) + 1
    return int((x0 + x1 + 1 - side) // 2), int((y0 + y1 + 1 - side) // 2), side, side


def _planes(photograph: Photograph, grid: tuple[int, int, int, int], side: int) -> dict[str, Plane]:
    """Crude planes from the colours: enough to look like what they stand for."""
    square = cv2.resize(_window(photograph.pixels, grid), (side, side), interpolation=cv2.INTER_AREA) / 255.0
    red, green, blue = (square[..., i].astype(np.float32) for i in range(3))
    field_of_view = cv2.erode((red > 0.08).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.float32)
    fine = green - cv2.GaussianBlur(green, (0, 0), side / 25)
    disc = cv2.GaussianBlur(green, (0, 0), side / 60)
    disc = (disc > 0.85 * disc.max()).astype(np.float32)
    dark, bright = np.clip(-fine * 12 - 0.6, 0, 1), np.clip(fine * 14 - 0.8, 0, 1) * (1 - disc)
    squares = {
        "ffa_arterial": np.clip(0.25 - 3 * fine, 0, 1),
        "ffa_arteriovenous": np.clip(0.4 - 5 * fine, 0, 1),
        "lesion_MA": dark * (fine < -0.12),
        "lesion_HE": dark * (fine < -0.1),
        "lesion_EX": bright,
        "lesion_SE": bright * (red < 0.85),
        "disc": disc,
        "cup": cv2.erode(disc, np.ones((side // 32 + 1,) * 2, np.uint8)),
        "artery": dark * (red > 0.45),
        "vein": dark * (red <= 0.45),
    }
    for number, nm in enumerate(labels.BANDS):
        share = number / (len(labels.BANDS) - 1)
        squares[f"msi_{nm}"] = (1 - share) * green + share * red
    errors = {f"msi_{nm}": 0.03 + 0.01 * i for i, nm in enumerate(labels.BANDS)}
    place = partial(_place, grid=grid, shape=photograph.pixels.shape[:2])
    return {
        name: Plane(name, title, (squares[name] * field_of_view).astype(np.float32), True, errors.get(name), place)
        for name, title in labels.PLANE_TITLES.items()
    }


def _window(pixels: np.ndarray, grid: tuple[int, int, int, int]) -> np.ndarray:
    x, y, width, height = grid
    pad = max(width, height)
    padded = cv2.copyMakeBorder(pixels, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    return padded[y + pad : y + pad + height, x + pad : x + pad + width]


def _place(square: np.ndarray, grid: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    x, y, width, height = grid
    pad = max(width, height)
    full = np.zeros((shape[0] + 2 * pad, shape[1] + 2 * pad), np.float32)
    full[y + pad : y + pad + height, x + pad : x + pad + width] = cv2.resize(square, (width, height))
    return full[pad:-pad, pad:-pad]
