"""What the package passes around and hands out: frozen records, plain arrays, no network.

Arrays are numpy; photographs are uint8 (H, W, 3) RGB, planes float32 (h, w) in 0..1.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from . import labels

SCHEMA = 1


class PhotographError(ValueError):
    """A photograph that cannot be read. The text is one sentence that names the file and the cure."""


class WeightsError(ValueError):
    """Weights that cannot be used. The text is one sentence with the cure."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A decoded colour photograph.

    pixels: uint8 (H, W, 3) RGB, upright, sRGB, nothing but pixels left of the file.
    name: file name without folder, or None when it came from the page.
    sha256: hexadecimal digest of the file's bytes (of the pixels when there was no file).
    notes: sentences on what had to be converted (for example 16-bit or CMYK input), for the reader.
    side: "right" or "left" where a DICOM file says so, else None.
    jpeg_quality: 1..100 where the file was a JPEG, else None.
    """

    pixels: np.ndarray
    name: str | None
    sha256: str
    notes: tuple[str, ...] = ()
    side: str | None = None
    jpeg_quality: int | None = None

    @property
    def width(self) -> int:
        """Columns [px]."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows [px]."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class Quality:
    """Whether a photograph can be read. `reasons` are sentences with what to retake, empty when gradable."""

    gradable: bool
    score: float | None  # 0..1, probability that the photograph is gradable; None where no network was asked
    reasons: tuple[str, ...] = ()
    threshold: float | None = None  # 0..1, on the score; other faults can make a photograph ungradable above it
    doubtful: bool | None = None  # gradable, but few that clinicians could read score as low; None where not asked


@dataclass(frozen=True)
class Fundus:
    """Whether the picture is a fundus photograph; `score` is a probability 0..1 or None.

    Both are None where no network was asked; `Quality.reasons` say why.
    """

    is_fundus: bool | None
    score: float | None


@dataclass(frozen=True)
class Eye:
    """Laterality: side is "right", "left" or None; origin says what it was read from."""

    side: str | None
    origin: str | None


@dataclass(frozen=True)
class Finding:
    """One code of the vocabulary. Withheld numbers are None and `reason` says why.

    undecided: whether the probability lies where, by the validation eyes, both answers are plausible at the level the
    weights promise (see `weights.Calibration`); None where they promise nothing, or the probability is withheld. Nor is
    decided that there is no retinopathy where its grade leaves undecided whether it is more than mild.
    """

    code: str
    name: str
    assessed: bool
    probability: float | None  # calibrated, 0..1
    threshold: float | None  # 0..1, operating point on the calibrated probability
    suspected: bool | None
    reason: str | None = None
    undecided: bool | None = None
    few_eyes: bool = False


@dataclass(frozen=True)
class Grade:
    """ICDR grade of diabetic retinopathy. All but `reason` and `threshold` are None when it is withheld.

    reason: why it is withheld, or why it is not the most probable grade. threshold: on the probability of a grade
    with all above it, from which it is called. Calls are of the grade alone: macular oedema, which counts as
    vision-threatening too, has its own record. What is undecided is as in a `Finding`; more than mild, not reached, is
    undecided, too, where vision-threatening is.
    """

    probabilities: tuple[float, ...] | None  # five, sum 1
    grade: int | None
    more_than_mild: bool | None
    vision_threatening: bool | None
    reason: str | None = None
    threshold: float = 0.5
    more_than_mild_undecided: bool | None = None
    vision_threatening_undecided: bool | None = None

    def chance(self, least: int) -> float | None:
        """Probability 0..1 of grade `least` or more; None when it is withheld."""
        return None if self.probabilities is None else float(sum(self.probabilities[least:]))

    def reaches(self, least: int) -> bool | None:
        """Whether the grade that is called is `least` or more; None when it is withheld."""
        return None if self.grade is None else self.grade >= least

    def undecided(self, least: int) -> bool | None:
        """Whether grade `least` or more, one of `labels.GRADED`, is undecided; None where nothing is promised."""
        mild = least == labels.MORE_THAN_MILD
        return self.more_than_mild_undecided if mild else self.vision_threatening_undecided


@dataclass(frozen=True)
class Oedema:
    """Risk of diabetic macular oedema by exudates in a single field (a surrogate, OCT decides)."""

    assessed: bool
    probability: float | None
    threshold: float | None
    suspected: bool | None
    reason: str | None = None
    undecided: bool | None = None


@dataclass(frozen=True)
class DiscCup:
    """Vertical cup-to-disc ratio with its mean absolute error on the test eyes; diameters in [px] of the photograph."""

    vcdr: float | None
    vcdr_error: float | None
    disc_diameter_px: float | None
    cup_diameter_px: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Lesion:
    """Count of connected regions and their share of the field of view (0..1), its rim left out.

    healthy_most: nine of ten healthy eyes show no more regions, false ones, of this and any other kind; None where that
    is not known.
    threshold: probability, 0..1, from which a place belongs to a region; None where they are not counted.
    """

    count: int | None
    area_fraction: float | None
    healthy_most: int | None = None
    threshold: float | None = None

    @property
    def beyond(self) -> bool | None:
        """Whether there are more than nine of ten healthy eyes show; None where that is not known."""
        return None if self.count is None or self.healthy_most is None else self.count > self.healthy_most


def _as_is(pixels: np.ndarray) -> np.ndarray:
    return pixels


@dataclass(frozen=True, eq=False)
class Plane:
    """One synthesized plane.

    square: float32 (s, s) in 0..1, as the network made it, zero outside the field of view.
    error: expected absolute error in the plane's units (0..1), or None where it is not known.
    place: square -> the photograph's own frame; planes of a large photograph are placed when asked for, not kept.
    """

    name: str
    title: str
    square: np.ndarray
    synthesized: bool = True
    error: float | None = None
    place: Callable[[np.ndarray], np.ndarray] = _as_is

    @property
    def pixels(self) -> np.ndarray:
        """float32 (H, W) in 0..1 in the photograph's frame and size, zero outside the field of view; made anew."""
        return self.place(self.square)


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from. weights_sha256: of the tensors; card: digest of calibrations and thresholds."""

    package_version: str
    weights_source: str
    weights_sha256: str
    card: str
    prep: str
    runtime: str
    created: str  # ISO 8601, UTC
    seconds: float


@dataclass(frozen=True, eq=False)
class Report:
    """Everything computed for one photograph. `to_dict` is report.json, schema 1.

    maps: code -> float32 (modalities, h, w), each modality's signed share of the finding's logit per position;
        their mean over positions, summed over modalities, plus the bias is the logit before calibration.
        "GRADE" and "VTDR" hold the same for the scores that the grade is called from.
    grid: x, y, width, height [px] of what `maps` and the networks cover as a square, in the photograph's frame (it may
        reach beyond the photograph, and is an oblong where that was pulled out of shape).
    contributions: code -> {modality: share of the logit, "bias": b}.
    features: float32 (modalities, D), the fused features averaged over positions, or None where predictions are
        withheld; what the atlas places. Not in report.json.
    failures: title of each stage of the analysis that failed -> the sentence that says why and the cure. Where there
        is one the report is partial: no number is given, and planes that could not be computed are missing (null in
        report.json); the sentences stand in `quality.reasons` too.
    """

    photograph: Photograph
    eye: Eye
    quality: Quality
    fundus: Fundus
    findings: tuple[Finding, ...]
    dr: Grade
    dme: Oedema
    disc_cup: DiscCup
    lesions: Mapping[str, Lesion]
    planes: Mapping[str, Plane]
    contributions: Mapping[str, Mapping[str, float]]
    provenance: Provenance
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    grid: tuple[int, int, int, int] | None = None
    features: np.ndarray | None = None
    failures: Mapping[str, str] = field(default_factory=dict)

    def finding(self, code: str) -> Finding:
        """The finding with this code. Raises ValueError for an unknown code."""
        for finding in self.findings:
            if finding.code == code:
                return finding
        raise ValueError(f"unknown finding {code!r}; choose one of {', '.join(labels.FINDINGS)}")

    def to_dict(self) -> dict[str, Any]:
        """report.json, schema 1: JSON types only, a withheld number is None."""
        return {
            "schema": SCHEMA,
            "input": {
                "name": self.photograph.name,
                "sha256": self.photograph.sha256,
                "width": self.photograph.width,
                "height": self.photograph.height,
                "notes": list(self.photograph.notes),
                "grid_px": self.grid and list(self.grid),
            },
            "eye": {"side": self.eye.side, "from": self.eye.origin},
            "quality": {**asdict(self.quality), "reasons": list(self.quality.reasons)},
            "fundus": asdict(self.fundus),
            "findings": [asdict(finding) for finding in self.findings],
            "dr": {**asdict(self.dr), "probabilities": self.dr.probabilities and list(self.dr.probabilities)},
            "dme": asdict(self.dme),
            "disc_cup": asdict(self.disc_cup),
            "lesions": {code: asdict(lesion) for code, lesion in self.lesions.items()},
            "planes": {
                **(dict.fromkeys(labels.PLANES) if self.failures else {}),
                **{
                    name: {"title": plane.title, "synthesized": plane.synthesized, "error": plane.error}
                    for name, plane in self.planes.items()
                },
            },
            "contributions": {code: dict(shares) for code, shares in self.contributions.items()},
            "failures": dict(self.failures),
            "provenance": asdict(self.provenance),
            "notice": labels.NOTICE,
        }
