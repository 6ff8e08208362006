"""The weights: a folder with model.safetensors and card.json. The only file that knows paths and hashes."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from . import __version__, hub, labels
from .fundus import Prep
from .nets import Config
from .records import WeightsError

if TYPE_CHECKING:
    from .nets import Network

MODEL, CARD = "model.safetensors", "card.json"
FILES = (CARD, MODEL)
ATLAS, LICENCE = "atlas.safetensors", "LICENSE"
EXTRAS = (ATLAS, LICENCE)  # beside them, where there are any
SCHEMA = 4
VALIDATION = "validation eyes"  # what a calibration is fitted on, where there are enough
_DECIDES = {"prep", "config", "grade", "calibrations", "lesion_thresholds", "lesions_healthy"}
_DECIDES |= {"least_vessels", "doubtful_below"}
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>(?!.*\.\.)[\w./-]+))?")


class StandInWarning(UserWarning):
    """Other weights are in use than those that were asked for."""


@dataclass(frozen=True)
class Calibration:
    """p = sigmoid(scale * logit + offset); `threshold` is the operating point on p.

    `fitted` says on which eyes: VALIDATION, or other words where the validation positives were too few.
    `undecided_low` <= p <= `undecided_high` is where both answers are plausible: of the eyes with the finding at most
    one in ten lies below, of those without it at most one in ten above (class-conditional conformal prediction, see
    `training.conformal`). Both are None where there were too few validation eyes to promise that.
    """

    scale: float
    offset: float
    threshold: float
    fitted: str
    undecided_low: float | None = None
    undecided_high: float | None = None

    @property
    def few_eyes(self) -> bool:
        """Whether eyes that the networks learnt from had to help, so that the probability may be too sure."""
        return self.fitted != VALIDATION

    def probability(self, logit: float | np.ndarray) -> np.ndarray:
        """float64 of the shape of `logit`, 0..1."""
        return 1 / (1 + np.exp(-np.clip(self.scale * np.asarray(logit, np.float64) + self.offset, -60, 60)))

    def undecided(self, probability: float) -> bool | None:
        """Whether both answers are plausible at this probability; None where nothing is promised."""
        return _within(self.undecided_low, self.undecided_high, probability)


def _within(low: float | None, high: float | None, probability: float) -> bool | None:
    return None if low is None or high is None else low <= probability <= high


@dataclass(frozen=True)
class GradeCalibration:
    """P(grade > j) = sigmoid(scale * score - cuts[j]) for j of 0 and 1; beyond, P(grade > 1) times
    sigmoid(threat_scale * threat - threat_cuts[j - 2]). The grade is the number of j where that reaches the threshold.

    A threshold of a half calls the median grade, a lower one a more severe grade sooner. The last two are where it is
    undecided whether an eye has more than mild, and vision-threatening retinopathy: lowest and highest probability of
    it, as of any `Calibration`.
    """

    scale: float
    cuts: tuple[float, ...]
    threat_scale: float
    threat_cuts: tuple[float, ...]
    threshold: float = 0.5
    more_than_mild_undecided: tuple[float, ...] | None = None
    vision_threatening_undecided: tuple[float, ...] | None = None

    def undecided(self, least: int, probability: float) -> bool | None:
        """As of a `Calibration`, of the probability of `least` or more: a grade of `labels.GRADED`."""
        mild = least == labels.MORE_THAN_MILD
        low, high = (self.more_than_mild_undecided if mild else self.vision_threatening_undecided) or (None, None)
        return _within(low, high, probability)


@dataclass(frozen=True)
class Card:
    """All that belongs to one set of weights beside the tensors; card.json.

    status: "interim" or "released". calibrations: output -> Calibration; an output without one is not assessed.
    lesion_thresholds: lesion -> probability; a lesion without one is not counted. lesions_healthy: lesion -> regions at
    that threshold; nine of ten healthy eyes exceed none of these numbers. plane_errors: plane -> expected
    absolute error 0..1. least_vessels: a photograph in which vessels cover less (`measures.vessel_share`) cannot be
    read. doubtful_below: one that can be read, but whose probability of being gradable is lower, is marked; None marks
    none. vcdr_error: mean absolute error of the vertical cup-to-disc ratio on the test eyes. vessel_errors: likewise
    of the numbers of `evidence`, calibres as a share. data: what they were trained on, with terms. counts: finding ->
    {split: positive eyes}. metrics: test figures, as the evaluation wrote them.
    """

    name: str
    version: str
    status: str
    licence: str
    intended_use: str
    limits: tuple[str, ...]
    prep: Prep
    config: Config
    grade: GradeCalibration
    calibrations: Mapping[str, Calibration]
    lesion_thresholds: Mapping[str, float]
    lesions_healthy: Mapping[str, int] = field(default_factory=dict)
    plane_errors: Mapping[str, float] = field(default_factory=dict)
    vessel_errors: Mapping[str, float] = field(default_factory=dict)
    least_vessels: float = 0.0
    doubtful_below: float | None = None
    vcdr_error: float | None = None
    data: tuple[Mapping[str, str], ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of what makes numbers and calls of the tensors, which `sha256` is of."""
        said = {name: value for name, value in asdict(self).items() if name in _DECIDES}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, with the vocabulary that the tensors were trained for."""
        values = asdict(self)
        return {"schema": SCHEMA, "vocabulary": _vocabulary(), **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Card":
        """Inverse of `to_dict`. Raises WeightsError for another schema or vocabulary, a missing field, or no card."""
        if not isinstance(values, Mapping):
            raise WeightsError(f"{CARD} holds no card; fetch the weights again")
        values = dict(values)
        schema, version = values.pop("schema", None), values.get("version", "of no version")
        if schema != SCHEMA:
            raise WeightsError(
                f"these weights ({version}) have card format {schema}, and qmmfl {__version__} reads {SCHEMA}; "
                "use weights and package of the same version"
            )
        if values.pop("vocabulary", None) != _vocabulary():
            raise WeightsError(
                f"these weights ({version}) were trained for another list of findings or planes than qmmfl "
                f"{__version__} has; use weights and package of the same version"
            )
        try:
            values["prep"] = Prep(**values["prep"])
            values["config"] = Config.from_dict(values["config"])
            grade: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["grade"].items()}
            values["grade"] = GradeCalibration(**grade)
            values["calibrations"] = {key: Calibration(**each) for key, each in values["calibrations"].items()}
            values["limits"], values["data"] = tuple(values["limits"]), tuple(values["data"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{CARD} lacks or misspells a field ({error}); fetch the weights again") from error

    def summary(self) -> dict[str, str]:
        """Short facts for people: name, status, hash, licence, use, limits."""
        return {
            "Weights": f"{self.name} {self.version} ({self.status})",
            "SHA-256": self.sha256,
            "Licence": self.licence,
            "Intended use": self.intended_use,
            "Limits": " ".join(self.limits),
            "Findings assessed": ", ".join(code for code in labels.FINDINGS if code in self.calibrations),
            "Not assessed": ", ".join(code for code in labels.FINDINGS if code not in self.calibrations) or "none",
        }


def _vocabulary() -> dict[str, Any]:
    return {
        "findings": list(labels.FINDINGS),
        "grades": list(labels.GRADES),
        "modalities": {modality.name: list(modality.planes) for modality in labels.MODALITIES},
    }


def embedded() -> Path:
    """Folder of the weights that come with the package, installed or in a checkout."""
    package = Path(__file__).parent
    return package / "_weights" if (package / "_weights").is_dir() else package.parent / "weights"


def find(source: str | Path | None = None) -> tuple[Path, str]:
    """Where the weights named by `source` lie: (folder, what to call the source in a report).

    None: the embedded ones. A folder. Or "owner/repo" or "owner/repo@revision" (branch, tag or commit) on the Hugging
    Face Hub: a cached snapshot at once, else one attempt to fetch it. Raises WeightsError, of which hub.Unreachable
    says that the Hub did not answer; a source that was named is never replaced by another here.
    """
    if source is None:
        return embedded(), "embedded"
    folder = Path(source)
    if os.path.isdir(folder):  # Path.is_dir raises where a name is too long or a folder closed
        return folder, folder.resolve().name
    # In a folder that is here.
    beside = "@" not in str(source) and len(folder.parts) > 1 and os.path.isdir(folder.parent)
    if beside or isinstance(source, Path) or source[:1] in (".", "/", "~"):
        raise WeightsError(f"there is no folder {source}; check its name (owner/repo@main is always of the Hub)")
    repository, revision = _repository(source)
    return _named(source, hub.find(repository, revision, FILES, EXTRAS))


def find_or_stand_in(source: str | Path | None = None) -> tuple[Path, str, str | None]:
    """As `find`, but where the Hub does not answer the embedded weights stand in: (folder, source, None or the sentence
    about it, which whoever uses them must show). Raises WeightsError for everything else.
    """
    try:
        return *find(source), None
    except hub.Unreachable as error:
        name = f"embedded, because {source} could not be fetched"
        return embedded(), name, f"The embedded weights are in use, not the ones asked for: {error}."


def fetch(source: str) -> tuple[Path, str]:
    """Fetch "owner/repo[@revision]" from the Hub now, cached or not: how a branch that moved is refreshed and a damaged
    cache repaired. Returns and raises like `find`.
    """
    repository, revision = _repository(source)
    return _named(source, hub.fetch(repository, revision, FILES, EXTRAS, anew=True))


def _repository(source: str | Path) -> tuple[str, str | None]:
    match = _REPOSITORY.fullmatch(str(source))
    if match is None:
        raise WeightsError(f"{source} is neither a folder nor owner/repo@revision on the Hub; check the name")
    return match["repo"], match["revision"]


def _named(source: str | Path, folder: Path) -> tuple[Path, str]:
    """A branch moves: the report names the commit (which is the name of the snapshot's folder) beside it."""
    return folder, f"{source} (commit {folder.name[:12]})"


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def read_card(folder: Path) -> Card:
    """The card of the weights in `folder`, checked against this version's vocabulary. Raises WeightsError."""
    try:
        values = json.loads((folder / CARD).read_text())
    except FileNotFoundError:
        raise WeightsError(f"there is no {CARD} in {folder.name}; name a folder with {CARD} and {MODEL}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{CARD} in {folder.name} cannot be read; fetch the weights again") from error
    return Card.from_dict(values)


def verify(folder: Path) -> Card:
    """Check the tensors' hash against the card and return the card. Raises WeightsError; nothing is loaded."""
    card = read_card(folder)
    try:
        found = digest(folder / MODEL)
    except FileNotFoundError:
        raise WeightsError(f"there is no {MODEL} in {folder.name}; fetch the weights again") from None
    except OSError as error:
        raise _closed(folder, error) from error
    if found != card.sha256:
        raise WeightsError(f"{MODEL} in {folder.name} is not the file its card describes; fetch the weights again")
    return card


def load(folder: Path) -> "tuple[Network, Card]":
    """Network (float32, evaluation mode) and card of the verified weights in `folder`. Raises WeightsError."""
    from safetensors.torch import load_file

    from .nets import Network

    card = verify(folder)
    network = Network(card.config).eval()
    state = _read(folder, load_file)
    with fitting(folder):
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return network.requires_grad_(False), card


def load_arrays(folder: Path) -> tuple[dict[str, np.ndarray], Card]:
    """The tensors as they are stored, and the card, of the verified weights in `folder`. Raises WeightsError."""
    from safetensors.numpy import load_file

    card = verify(folder)
    return _read(folder, load_file), card


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Inside, tensors that do not fit the network their card describes are a WeightsError."""
    try:
        yield
    except (KeyError, ValueError, RuntimeError) as error:
        told = f"{MODEL} in {folder.name} does not fit the network its card describes"
        raise WeightsError(f"{told}; fetch the weights again") from error


def _read(folder: Path, load_file: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    try:
        return load_file(folder / MODEL)
    except SafetensorError as error:
        raise WeightsError(f"{MODEL} in {folder.name} is damaged; fetch the weights again") from error
    except OSError as error:
        raise _closed(folder, error) from error


def _closed(folder: Path, error: OSError) -> WeightsError:
    fault = error.strerror or type(error).__name__
    return WeightsError(
        f"{MODEL} in {folder.name} cannot be opened ({fault}); check who may read it, or fetch the weights again"
    )


def save(folder: Path, network: "Network", card: Card) -> Card:
    """Write network (half precision) and card to `folder`; returns the card with the hash filled in."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file({key: value.contiguous().cpu() for key, value in state.items()}, folder / MODEL)
    return save_card(folder, card)


def save_card(folder: Path, card: Card) -> Card:
    """Write card.json beside the tensors; returns the card with their hash filled in."""
    card = replace(card, sha256=digest(folder / MODEL))
    (folder / CARD).write_text(json.dumps(card.to_dict(), indent=1) + "\n")
    return card
