"""The place of an eye: projection, nearest references, place on the map, and how far from all references it is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from .. import labels
from ..records import Report

SPACES = (labels.FUSED, *(modality.name for modality in labels.MODALITIES))
TITLES = MappingProxyType({labels.FUSED: "All modalities, fused", **{m.name: m.title for m in labels.MODALITIES}})
SUBJECTS = MappingProxyType({labels.GRADE: "Grade of diabetic retinopathy", **labels.FINDINGS})  # what marks can show
NEAREST = 8  # references that an eye is placed between
_ENDINGS = (".webp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


class AtlasError(ValueError):
    """An eye that cannot be placed, or an atlas that cannot be used. The text is one sentence that says why."""


class AtlasMissing(AtlasError):
    """Weights without an atlas."""

    def __init__(self) -> None:
        super().__init__("these weights come without reference eyes, so similar eyes cannot be shown")


@dataclass(frozen=True, eq=False)
class Space:
    """One map.

    Features (d,) are standardised with mean and scale (d,) and projected by components (k, d), orthonormal rows;
    references (n, k) have been. coordinates: (n, 2), their places on the map, without unit. typical: median of
    `remoteness` over held-back eyes, the unit of all distances that are told; limit: what 99 % of them stay below, in
    that unit. Arrays are float32.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray
    references: np.ndarray
    coordinates: np.ndarray
    typical: float = 1.0
    limit: float = float("inf")

    def project(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, d) -> points (n, k), and the length of what of each lies outside the projection (n,)."""
        standard = (features - self.mean) / self.scale
        points = standard @ self.components.T
        return points, np.sqrt(np.maximum((standard**2).sum(1) - (points**2).sum(1), 0))

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Points (n, k) -> their distances to all references (n, references)."""
        square = (points**2).sum(1)[:, None] - 2 * points @ self.references.T + (self.references**2).sum(1)
        return np.sqrt(np.maximum(square, 0))


@dataclass(frozen=True)
class Neighbour:
    """A reference eye. distance: 1 is that of a held-back eye to its nearest references. grade, findings (the codes
    that are present): None where the data set does not say. looked_for: the codes that it says anything about.
    """

    reference: str
    distance: float
    grade: int | None
    findings: tuple[str, ...] | None
    looked_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Where an eye lies. x, y: on the map, without unit. distance: to its nearest references, 1 is typical of eyes that
    the networks never saw; `far` above `limit`, which one such eye in a hundred exceeds.
    """

    space: str
    x: float
    y: float
    distance: float
    limit: float
    far: bool
    neighbours: tuple[Neighbour, ...]
    weights_sha256: str
    atlas_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Atlas:
    """Reference eyes of one set of weights.

    references: "data set/stem of the image" (n). grades: int8 (n,), -1 unknown. findings: int8 (n, codes), 1, 0, -1
    unknown, in the order of `labels.FINDINGS`. spaces: the keys of SPACES that were fitted. figures: how good the map
    is, as `training.atlas` wrote it.
    """

    weights_sha256: str
    references: tuple[str, ...]
    grades: np.ndarray
    findings: np.ndarray
    spaces: Mapping[str, Space]
    figures: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def place(self, report: Report, space: str = labels.FUSED) -> Placement:
        """Place the eye of a report. Raises AtlasError for a withheld reading, other weights or an unknown space."""
        if space not in self.spaces:
            raise AtlasError(
                f"there is no map of the reference eyes called {space!r}; choose one of {', '.join(self.spaces)}"
            )
        if report.provenance.weights_sha256 != self.weights_sha256:
            raise AtlasError("the reference eyes belong to other weights than this report; read the photograph again")
        if report.features is None:
            name = report.photograph.name or "this photograph"
            why = "it is not gradable" if not report.quality.gradable else "its report holds no features"
            why = "its analysis is incomplete" if report.failures else why
            raise AtlasError(f"{name} has no place among the reference eyes, because {why}")
        found = self.spaces[space]
        point, beyond = found.project(flat(report.features[None], space))
        away = found.distances(point)
        nearest = np.argsort(away[0], kind="stable")[:NEAREST]
        x, y = located(found, away)[0]
        distance = float(remoteness(away, beyond)[0]) / found.typical
        return Placement(
            space,
            float(x),
            float(y),
            distance,
            found.limit,
            distance > found.limit,
            tuple(self._neighbour(int(row), float(away[0, row]) / found.typical) for row in nearest),
            self.weights_sha256,
            self.sha256,
        )

    def _neighbour(self, row: int, distance: float) -> Neighbour:
        grade, known = int(self.grades[row]), self.findings[row]
        present, sought = (
            tuple(code for code, value in zip(labels.FINDINGS, known, strict=True) if value >= least)
            for least in (1, 0)
        )
        graded = grade if grade >= 0 else None
        return Neighbour(self.references[row], distance, graded, present if sought else None, sought)


def flat(features: np.ndarray, space: str) -> np.ndarray:
    """Features (n, modalities, d) -> what a space projects, float32 (n, modalities * d) or (n, d)."""
    if space != labels.FUSED:
        features = features[:, SPACES.index(space) - 1]
    return features.reshape(len(features), -1).astype(np.float32)


def remoteness(away: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """How far eyes lie from all references (n,): root mean square of the distances to the nearest, (n, references), and
    of what lies outside the projection (n,); in units of the space, not of `Space.typical`.
    """
    nearest = np.sort(away, axis=1)[:, :NEAREST]
    return np.sqrt((nearest**2).mean(1) + beyond**2)


def located(space: Space, away: np.ndarray) -> np.ndarray:
    """Places on the map (n, 2) of eyes whose distances to all references are `away` (n, references).

    The mean of the nearest references' places, each weighted with the inverse square of its distance; an eye that is
    itself a reference comes to lie on it.
    """
    nearest = np.argsort(away, axis=1, kind="stable")[:, :NEAREST]
    weight = 1 / (np.take_along_axis(away, nearest, 1) ** 2 + (1e-3 * space.typical) ** 2)
    return (space.coordinates[nearest] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)


def picture_of(reference: str, folder: Path) -> Path | None:
    """The photograph of a reference below the user's own copy of the data, or None where it is not there.

    Sought as SET/images/STEM, cls/SET/images/STEM, SET/STEM and images/STEM with any ending of a photograph; nothing
    outside `folder` is ever returned.
    """
    name, _, stem = reference.partition("/")
    root = folder.resolve()
    for below in (f"{name}/images", f"cls/{name}/images", name, "images"):
        for ending in _ENDINGS:
            path = (root / below / f"{stem}{ending}").resolve()
            if path.is_relative_to(root) and path.is_file():
                return path
    return None
