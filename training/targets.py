"""What the classifiers learn: targets of cached cases, their masked losses, and validation figures per data set."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qmmfl import labels
from qmmfl.nets import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS, THREAT

from . import looks, metrics
from .data import CODES, EVERYWHERE, FLATTERED, LEARNT, LEAST_GRADE, Case

_BINARY = (*CODES, OEDEMA, GRADABLE, FUNDUS)
_COLUMNS = [OUTPUTS.index(name) for name in _BINARY]
_GRADE, _THREAT = OUTPUTS.index(GRADE), OUTPUTS.index(THREAT)
# The score that each step of the grade is asked of.
_STEPS = [_GRADE if step < labels.MORE_THAN_MILD else _THREAT for step in range(len(labels.GRADES) - 1)]
_REPEATED = 4.0  # what a healthy eye counts at most, see `Targets.sampling`; likewise a severe one, or a moderate one


class Targets:
    """Targets of N cases: binary int8 (N, 24) in the order of `_BINARY`, -1 unknown; grade int8 (N,); extras (N, 3).

    extras: age in decades, sex, and the cup-to-disc ratio in tenths, which the cases do not tell (see
    `training.encoders`). least: int8 (N,), see `data.LEAST_GRADE`. split, folder and group: str (N,). severity:
    float32 (N,), see `_severity`.
    """

    def __init__(self, cases: list[Case]) -> None:
        rows = [(*case.findings, case.oedema, case.gradable, case.fundus) for case in cases]
        self.binary = np.array(rows, np.int8)
        self.grade = np.array([case.grade for case in cases], np.int8)
        self.least = np.array([LEAST_GRADE.get(case.folder, 0) for case in cases], np.int8)
        extras = [(case.age / 10 if case.age > 0 else -1, case.female, -1) for case in cases]
        self.extras = np.array(extras, np.float32)
        self.split = np.array([case.split for case in cases])
        self.folder = np.array([case.folder for case in cases])
        self.group = np.array([case.group for case in cases])
        self.look = np.array([case.look or (np.nan,) * looks.COUNT for case in cases])
        self.severity = self._severity()

    def at(self, rows: np.ndarray) -> "Targets":
        """The targets of some cases."""
        part = copy.copy(self)
        vars(part).update({name: values[rows] for name, values in vars(self).items()})
        return part

    def seen_in_part(self, rows: np.ndarray, part: np.ndarray) -> "Targets":
        """The targets of some cases; where `part`, bool (len(rows),), a part alone of the retina is seen: unknown
        there are the findings that may lie elsewhere, oedema among them, and the cup-to-disc ratio.
        """
        made = self.at(rows)
        elsewhere = [index for index, code in enumerate(_BINARY) if code in (*CODES, OEDEMA) and code not in EVERYWHERE]
        made.binary[np.ix_(part, elsewhere)] = -1
        made.extras[part, 2] = -1
        return made

    def column(self, name: str) -> np.ndarray:
        """int8 (N,): one binary target."""
        return self.binary[:, _BINARY.index(name)]

    def batch(self, rows: np.ndarray | slice, device: torch.device) -> dict[str, Tensor]:
        """Tensors of some cases."""
        parts = {name: getattr(self, name)[rows] for name in ("binary", "grade", "least", "extras", "severity")}
        return {name: torch.from_numpy(part.astype(np.float32)).to(device) for name, part in parts.items()}

    def sampling(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities (len(rows),): a case counts as much as its rarest positive target, damped by a square root.

        That somebody found a photograph unreadable is such a target; made ones are many, and easier to tell.
        In every set eyes without retinopathy then count as much as those with it, as far as `_REPEATED` allows: where
        nearly all are ill, that a photograph is of that camera would otherwise speak for disease. Nor should the batch
        that it came from, see `looks`.
        """
        positive = np.concatenate([self.binary[rows] == 1, np.eye(6)[self.grade[rows]][:, :5] == 1], axis=1)
        positive[:, [CODES.index("NORMAL"), _BINARY.index(FUNDUS)]] = False
        unreadable = self.binary[rows, _BINARY.index(GRADABLE)] == 0
        positive[:, _BINARY.index(GRADABLE)] = unreadable & (self.folder[rows] != "negatives")
        rarity = np.sqrt(len(rows) / np.maximum(positive.sum(0), 8))
        weight = np.maximum((positive * rarity).max(1), 1.0).clip(max=8.0)
        folder, grade, look = self.folder[rows], self.grade[rows], self.look[rows]
        for name in np.unique(folder[grade == 0]):
            healthy, ill = (folder == name) & (grade == 0), (folder == name) & (grade > 0)
            weight[healthy] *= np.clip(weight[ill].sum() / weight[healthy].sum(), 1, _REPEATED)
            seen = (healthy | ill) & np.isfinite(look).all(axis=1)
            weight[seen] = looks.alike(look[seen], ill[seen], weight[seen])
        return weight / weight.sum()

    def _severity(self) -> np.ndarray:
        """float32 (N,): what an eye counts where it is asked how severe its retinopathy is.

        In every set severe eyes then count as much as moderate ones, as often as both are drawn: that a photograph is
        of a camera that saw many severe eyes should not speak for severity.
        """
        counts = np.ones(len(self.grade), np.float32)
        learnt = np.flatnonzero(np.isin(self.split, LEARNT))
        if not len(learnt):
            return counts
        drawn = np.zeros(len(counts))
        drawn[learnt] = self.sampling(learnt)
        for name in np.unique(self.folder[learnt]):
            ill = (self.folder == name) & (self.grade >= labels.MORE_THAN_MILD)
            severe = ill & (self.grade >= labels.VISION_THREATENING)
            parts = severe, ill & ~severe
            masses = [drawn[part].sum() for part in parts]
            if min(masses) > 0:
                for part, mass in zip(parts, masses, strict=True):
                    counts[part] = min(sum(masses) / (2 * mass), _REPEATED)
        return counts


def loss(logits: Tensor, cuts: Tensor, batch: dict[str, Tensor], extras: Tensor | None = None) -> dict[str, Tensor]:
    """Masked losses of logits (B, len(OUTPUTS)) and increasing cuts (4,); targets of -1 do not count,
    nor that a grade is above one below the least of its set, nor how severe it is where it is not more than mild.
    Retinopathy of an unknown grade is beyond the first step.

    extras: what was said of the first two or of all three `Targets.extras`.
    """
    logits = logits.float()
    known = batch["binary"] >= 0
    each = F.binary_cross_entropy_with_logits(logits[:, _COLUMNS], batch["binary"].clamp_min(0), reduction="none")
    terms = {"findings": (each * known).sum() / known.sum().clamp_min(1) * 4}
    steps = torch.arange(len(cuts), device=logits.device)
    grade = batch["grade"][:, None]
    ungraded = (grade < 0) & (batch["binary"][:, _BINARY.index("DR"), None] == 1) & (steps == 0)
    told = (grade >= 0) & (batch["least"][:, None] <= steps)
    told &= (steps < labels.MORE_THAN_MILD) | (grade >= labels.MORE_THAN_MILD)
    counts = (told | ungraded) * torch.where(steps < labels.MORE_THAN_MILD, 1.0, batch["severity"][:, None])
    above = (grade > steps) | ungraded
    each = F.binary_cross_entropy_with_logits(logits[:, _STEPS] - cuts, above.float(), reduction="none")
    terms["grade"] = (each * counts).sum() / counts.sum().clamp_min(1)
    if extras is not None:  # learnt beside the findings, not shipped
        age, sex, ratio = batch["extras"].unbind(1)
        wrong_age = (extras[:, 0].float() - (age - 5.8)).abs() * (age >= 0)
        wrong_sex = F.binary_cross_entropy_with_logits(extras[:, 1].float(), sex.clamp_min(0), reduction="none")
        terms["extras"] = 0.1 * (wrong_age.mean() + (wrong_sex * (sex >= 0)).mean())
        if extras.shape[1] == 3:
            terms["ratio"] = 0.1 * ((extras[:, 2].float() - (ratio - 5)).abs() * (ratio >= 0)).mean()
    return terms


def figures(targets: Targets, rows: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """AUC per data set on cases `rows` with logits (len(rows), len(OUTPUTS)); "score" is their plain summary."""
    known, folder = targets.binary[rows], targets.folder[rows]
    odir = folder == "odir5k"
    aucs = {}
    for index, code in enumerate(CODES):
        truth = known[odir, index]
        if (truth == 1).sum() >= 5:
            aucs[code] = metrics.auc(truth[truth >= 0] == 1, logits[odir, OUTPUTS.index(code)][truth >= 0])
    result = {"odir_macro": float(np.mean(list(aucs.values()))), **{f"odir_{code}": aucs[code] for code in aucs}}
    grade = targets.grade[rows]
    for name in ("odir5k", "idrid", "rahim", "eyepacs"):
        graded = (folder == name) & (grade >= 0)
        if graded.any():
            result[f"referable_{name}"] = metrics.auc(grade[graded] >= labels.MORE_THAN_MILD, logits[graded, _GRADE])
    for name in ("odir5k", "idrid", "aptos_severe"):
        ill = (folder == name) & (grade >= labels.MORE_THAN_MILD)
        if ill.any():
            threat = grade[ill] >= labels.VISION_THREATENING
            result[f"threat_{name}"] = metrics.auc(threat, logits[ill, _THREAT])
    for name in (OEDEMA, GRADABLE, FUNDUS):
        truth = targets.column(name)[rows]
        result[name.lower()] = metrics.auc(truth[truth >= 0] == 1, logits[truth >= 0, OUTPUTS.index(name)])
    own = f"referable_{FLATTERED}"
    referable = [value for key, value in result.items() if key.startswith("referable_") and key != own]
    result["score"] = float(np.nanmean([result["odir_macro"], float(np.mean(referable))]))
    return result
