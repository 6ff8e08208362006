"""A run -> weights/: the assembled network in half precision, calibrated, with its card.

`python -m training.export --run first --out weights`. The test figures are added by `python -m training.evaluate`.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qmmfl
from qmmfl import measures, weights
from qmmfl.explain.agreement import KEY
from qmmfl.fundus import Prep
from qmmfl.nets import FUNDUS, GRADABLE, OUTPUTS, Network
from qmmfl.pipeline import Pipeline

from . import calibrate, conformal, data, feature_cache, planes, tasks
from .assemble import assemble
from .recipe import parse
from .synthesis import SynthesisRecipe
from .targets import Targets

DATA = (
    {"name": "ODIR-5K", "use": "findings, grades, planes", "terms": "ODIR-2019 challenge, research"},
    {"name": "STARE", "use": "findings", "terms": "public, no explicit licence"},
    {"name": "IDRiD", "use": "grades, oedema, lesions", "terms": "CC BY 4.0"},
    {"name": "Rahim", "use": "grades, maculopathy, eyes without lesions", "terms": "academic, attribution"},
    {"name": "EyePACS subset, EyeQ", "use": "grades, quality", "terms": "Kaggle 2015, research"},
    {"name": "APTOS 2019 subset", "use": "how severe, grades 2-4", "terms": "Kaggle 2019, non-commercial"},
    {"name": "PALM", "use": "pathological myopia", "terms": "iChallenge, research"},
    {"name": "DRIMDB", "use": "quality, not-a-fundus", "terms": "research, citation"},
    {"name": "DRISHTI-GS", "use": "disc and cup", "terms": "research, citation"},
    {"name": "ODIR disc teacher", "use": "disc and cup labels made by the AutoMorph nets", "terms": "Apache-2.0 nets"},
    {"name": "DRIVE, LES-AV", "use": "arteries and veins", "terms": "research, citation / open"},
    {"name": "CFP-FFA pairs, FFA phase", "use": "angiograms, not-a-fundus", "terms": "research / Apache-2.0"},
    {"name": "ImageNet", "use": "where the colour encoder starts", "terms": "net Apache-2.0, photographs research"},
    {"name": "Simulated eyes", "use": "angiograms, spectral bands", "terms": "made by qmmfl.phantom"},
    {
        "name": "Made negatives",
        "use": "the gates: drawings, patterns, false colours, spoiled photographs",
        "terms": "made here",
    },
)
CHECKED = 20  # validation eyes, about, that are read anew before the weights are written
MOST_OFF = 0.1  # [logit] a score in use off the cached one; planes of 8 bits and other kernels move it by a hundredth
LIMITS = (
    "Interim weights: trained for hours on two CPU cores, not to convergence; see the test figures.",
    "Strongly compressed files, narrow fields and dark pictures move the grade, and sharpened ones or those of "
    "which the contrast was raised show false microaneurysms; the card says how far.",
    "Retinopathy that threatens vision is often called moderate, and whether it does left undecided; the card says how "
    "often in which set.",
    "Learnt and tested on photographs as public sets hold them: shrunk to 224 to 1024 pixels, IDRiD's cropped to the "
    "field, stored again; a camera's full picture is scaled to 1024 pixels and was not among them.",
    "Some findings are learnt from what was recorded of the eye, which stands for them: optic disc cupping from known "
    "or suspected glaucoma, media haze mostly from cataract.",
    "Single-field estimate; OCT-only disease, the periphery, pressure and function are not assessed.",
    "Angiograms show no leakage, non-perfusion or timing; spectral bands are estimates from three channels.",
    "The fusion was told to gather scores of retinopathy, oedema and cupping where computed lesions or the disc lie: "
    "that exact maps lie there is a wish of its makers, too.",
    "Whether a photograph can be read is judged leniently: see how many that people called unreadable are refused.",
    "Few cameras and mostly Chinese, American and Indian eyes; children and other populations are not represented.",
)
# Figures that outlive the weights they came with: they say of which they are, or are of nets of their own.
CARRIED = ("ablations", "leave_out")
OF_TENSORS = (KEY,)  # and those that new calibrations leave as they are
OF_GRADES = ("stress",)  # likewise where what grade, lesions and gates are called from stayed as it was
_CALLED_FROM = ("grade", "lesion_thresholds", "lesions_healthy", "least_vessels", "doubtful_below")


@dataclasses.dataclass(frozen=True)
class ExportRecipe(SynthesisRecipe):
    """out: folder to write; status: "interim" or "released".

    calibrate: else calibrations and counts are those of the weights in `start`, for an export in which only synthesis
    nets are new.
    """

    out: Path = Path("weights")
    status: str = "interim"
    version: str = "0.1.0"
    calibrate: bool = True


def export(recipe: ExportRecipe) -> weights.Card:
    """Assemble, calibrate on the validation split and write the weights."""
    network, missing = assemble(recipe)
    if missing:
        raise RuntimeError(f"train these first: {', '.join(missing)}")
    before = weights.read_card(recipe.start) if recipe.start and recipe.start.is_dir() else None
    config = network.config
    checks = {name: make(config.synthesis[name], recipe) for name, make in tasks.TASKS.items()}
    limits = calibrate.lesion_thresholds(checks["lesions"], network.synthesis["lesions"])
    errors: dict[str, float] = {}
    for name, task in checks.items():
        if name != "ffa_arteriovenous":  # all its pairs are for learning or for the test
            errors |= calibrate.plane_errors(task, network.synthesis[name])
    card = weights.Card(
        name="qmmfl",
        version=recipe.version,
        status=recipe.status,
        licence="Research use only: some training sets are non-commercial (see data). The code is MIT.",
        intended_use=qmmfl.labels.NOTICE,
        limits=LIMITS,
        prep=Prep(config.square),
        config=config,
        lesion_thresholds=limits,
        lesions_healthy=calibrate.lesions_healthy(checks["lesions"], network.synthesis["lesions"], limits),
        plane_errors=errors,
        data=DATA,
        **_calibrated(recipe, network),
    )
    if recipe.calibrate:
        rows, features = feature_cache.load(recipe, network)
        cases, _ = data.load()
        seen = [place for place, row in enumerate(rows) if cases[row].split == "val" and cases[row].fundus == 1]
        chosen = seen[:: max(len(seen) // CHECKED, 1)]
        check_in_use(
            Pipeline(network, card, "run"), [cases[rows[n]].path for n in chosen], logits_of(network, features[chosen])
        )
    written = weights.save(recipe.out, network, card)
    return weights.save_card(recipe.out, carry(before, written)) if before else written


def carry(before: weights.Card, made: weights.Card) -> weights.Card:
    """The card of new weights with those figures of an earlier one that still hold; the evaluation makes the others."""
    names = (*CARRIED, *OF_TENSORS) if before.sha256 == made.sha256 else CARRIED
    gates = [[card.calibrations.get(name) for name in (GRADABLE, FUNDUS)] for card in (before, made)]
    alike = gates[0] == gates[1] and all(getattr(before, name) == getattr(made, name) for name in _CALLED_FROM)
    names += OF_GRADES if before.sha256 == made.sha256 and alike else ()
    kept = {name: before.metrics[name] for name in names if name in before.metrics}
    return dataclasses.replace(made, metrics={**kept, **made.metrics})


def _calibrated(recipe: ExportRecipe, network: Network) -> dict[str, Any]:
    """The card's fields that come from the scores of the validation eyes."""
    if not recipe.calibrate:
        if recipe.start is None:
            raise SystemExit("--no-calibrate takes calibrations from other weights: name their folder with --start")
        kept = weights.read_card(recipe.start)
        promised = {key: value for key, value in kept.metrics.items() if key == "conformal"}
        from_scores = ("grade", "calibrations", "counts", "least_vessels", "doubtful_below")
        fields = {name: getattr(kept, name) for name in from_scores}
        return {**fields, "metrics": promised}
    rows, features = feature_cache.load(recipe, network)
    cases, _ = data.load()
    targets = Targets([cases[row] for row in rows])
    logits = logits_of(network, features)
    calibrations = calibrate.fit(targets, logits)
    vessels = planes.load(qmmfl.labels.VESSELS.name, recipe.run)
    shares = np.array([measures.vessel_share(vessels[row].transpose(2, 0, 1) / np.float32(255)) for row in rows])
    grade = calibrate.fit_grade(targets, logits)
    return {
        "grade": grade,
        "calibrations": calibrations,
        "counts": _counts(targets),
        "least_vessels": calibrate.least_vessels(targets, shares),
        "doubtful_below": (
            calibrate.doubtful_below(targets, logits, calibrations[GRADABLE]) if GRADABLE in calibrations else None
        ),
        "metrics": {
            "conformal": {"alphas": conformal.ALPHAS, "bands": calibrate.bands(targets, logits, calibrations, grade)}
        },
    }


def check_in_use(reader: Pipeline, photographs: Sequence[str], logits: np.ndarray) -> None:
    """See that photographs get in use the scores (n, len(OUTPUTS)) that calibrations were fitted on.

    What comes between them, such as a view that is rounded in one place only, would make every threshold another one.
    Raises RuntimeError where a score is further off than `MOST_OFF`.
    """
    for path, cached in zip(photographs, logits, strict=True):
        for name, shares in reader(path, override=True).contributions.items():
            off = sum(shares.values()) - float(cached[OUTPUTS.index(name)])
            if abs(off) > MOST_OFF:
                raise RuntimeError(
                    f"{Path(path).name}: the score of {name} is {off:+.2f} off the cached one, so no calibration "
                    "holds; make the cached planes and features again with the nets of this run"
                )


@torch.no_grad()
def logits_of(network, features: np.ndarray) -> np.ndarray:
    """Logits float32 (n, len(OUTPUTS)) of cached features."""
    parts = [torch.from_numpy(part.astype(np.float32)) for part in np.array_split(features, len(features) // 32 + 1)]
    return torch.cat([network.heads(network.fuse(part)) for part in parts]).numpy()


def _counts(targets: Targets) -> dict[str, dict[str, int]]:
    splits = ("train", "val")  # the test eyes are counted by the evaluation
    result = {
        code: {split: int(((targets.column(code) == 1) & (targets.split == split)).sum()) for split in splits}
        for code in data.CODES
    }
    eyes = Counter(targets.split.tolist())
    return {**result, "eyes": {split: eyes[split] for split in splits}}


if __name__ == "__main__":
    exported = export(parse(ExportRecipe)[0])
    print(f"{exported.name} {exported.version} ({exported.status}) {exported.sha256}")
