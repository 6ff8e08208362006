"""Calibration and operating points, on validation eyes only."""

import zlib
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from qmmfl import labels, measures
from qmmfl.conclusions import call_grade
from qmmfl.nets import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS, THREAT
from qmmfl.weights import VALIDATION, Calibration, GradeCalibration

from . import conformal, pixels, tasks
from .data import CODES, FLATTERED
from .targets import Targets

LEAST_TRAINED = 10  # positive training eyes below which a finding is not assessed
LEAST_CHECKED = 5  # positive validation eyes below which training eyes help to place the threshold, and it is marked
REFUSED = 0.01  # share of good validation photographs that a gate may refuse
DOUBTED = 0.05  # share of readable validation photographs whose quality is marked as doubtful
FOLDS = 5  # of a cross-fitted threshold
# A grade is called where the eye reaches it with this probability: a step too low weighs one and a half times as much
# as a step too high. Calls made for the highest expected kappa name severe grades far sooner. Tried on halves of the
# validation patients they agree hardly better (mean kappa of ODIR, Rahim and EyePACS .69 against .68, of IDRiD .79
# against .82) and are right more seldom (.68 of the eyes against .74, of IDRiD's .40 against .59).
CALLED = 0.4
# Of a rare finding the F1 is highest where most calls are wrong; a reader who is called nine times in ten for nothing
# stops looking.
LEAST_CALLED = 0.1
READ = ("idrid", "rahim", "palm", "drimdb", "eyepacs")  # sets without cataracts so dense that no vessel is seen
LEAST_F1 = 0.1  # a lesion whose pixels are found no better on validation eyes is not counted in reports
# A gate refuses below this at most: its bad examples come from few cameras, good ones from any. Photographs of cameras
# that no gate learnt from (training eyes of DRIVE, LES-AV, DRISHTI and the angiogram pairs) stay above it.
SURE = {GRADABLE: 0.4, FUNDUS: 0.5}


def fit(targets: Targets, logits: np.ndarray) -> dict[str, Calibration]:
    """Platt scaling, threshold and band of abstention per output; logits (N, len(OUTPUTS)) of training and validation.

    Where validation eyes are too few the training eyes help, and the threshold is cross-fitted: the mean over folds of
    patients of the threshold chosen without the fold. The network itself has learnt from those training eyes, so this
    steadies the choice but does not make it unbiased; `Calibration.fitted` says so.
    """
    result = {}
    for name in (*CODES, OEDEMA, GRADABLE, FUNDUS):
        truth, score = targets.column(name), logits[:, OUTPUTS.index(name)]
        known = truth >= 0
        learnt, checked = known & (targets.split == "train"), _checked(targets, name)
        if min((truth[learnt] == 1).sum(), (truth[learnt] == 0).sum()) < LEAST_TRAINED:
            continue
        few = min((truth[checked] == 1).sum(), (truth[checked] == 0).sum()) < LEAST_CHECKED
        few = few or (name not in (GRADABLE, FUNDUS) and _is_foreign(targets.folder[checked], truth[checked]))
        rows = checked | learnt if few else checked
        present, groups = truth[rows] == 1, targets.group[rows]
        scale, offset = _platt(present, score[rows])
        probability = 1 / (1 + np.exp(-(scale * score[rows] + offset)))
        fitted, band = VALIDATION, (None, None)
        if name in (GRADABLE, FUNDUS):
            threshold = _gate(present, probability, SURE[name])
            fitted = "training and validation eyes (too few validation positives)" if few else fitted
        elif few:
            threshold = max(cross_fitted_threshold(present, probability, groups), LEAST_CALLED)
            fitted = (
                f"cross-fitted over {FOLDS} folds of training and validation eyes, {present.sum()} with the finding"
            )
        else:
            threshold = max(expected_threshold(probability), LEAST_CALLED)
            if conformal.promised(present):
                band = conformal.band(present, probability, threshold)
        result[name] = Calibration(scale, offset, threshold, fitted, *band)
    return result


def _is_foreign(folder: np.ndarray, truth: np.ndarray) -> bool:
    """Whether the set that most of the eyes without a finding are of has none with it: that a photograph is of another
    camera would tell them apart.
    """
    names, counts = np.unique(folder[truth == 0], return_counts=True)
    return not ((folder == names[counts.argmax()]) & (truth == 1)).any()


def bands(
    targets: Targets, logits: np.ndarray, fitted: dict[str, Calibration], grade: GradeCalibration
) -> dict[str, list[list[float]]]:
    """Output -> [low, high] for each of `conformal.ALPHAS`, from the validation eyes: the coverage curve needs them.

    Of the scores that the grade is called from, that it is `labels.GRADED` or more.
    """
    result = {}
    for name, (present, probability) in _reached(targets, logits, grade).items():
        if conformal.promised(present):
            made = [conformal.band(present, probability, grade.threshold, alpha) for alpha in conformal.ALPHAS]
            result[name] = [list(each) for each in made]
    for name, calibration in fitted.items():
        truth = targets.column(name)
        rows = _checked(targets, name)
        if calibration.undecided_low is None:
            continue
        probability = calibration.probability(logits[rows, OUTPUTS.index(name)])
        made = [conformal.band(truth[rows] == 1, probability, calibration.threshold, a) for a in conformal.ALPHAS]
        result[name] = [list(each) for each in made]
    return result


def _checked(targets: Targets, name: str) -> np.ndarray:
    """bool (N,): validation eyes that an output is calibrated on.

    Of those known to have oedema two thirds are of a set that flatters: probabilities would be too sure elsewhere.
    """
    rows = (targets.column(name) >= 0) & (targets.split == "val")
    return rows & (targets.folder != FLATTERED) if name == OEDEMA else rows


def _reached(targets: Targets, logits: np.ndarray, grade: GradeCalibration) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Score of the grade -> of the validation eyes of known grade bool (n,), whether it is `labels.GRADED` or more, and
    the probability (n,) of that; of sets that are not chosen by it, and do not flatter.
    """
    rows = (targets.split == "val") & (targets.grade >= 0) & (targets.least == 0) & (targets.folder != FLATTERED)
    each = np.array([call_grade(grade, eye)[0] for eye in logits[rows]]).reshape(-1, len(labels.GRADES))
    return {name: (targets.grade[rows] >= n, each[:, n:].sum(axis=1)) for name, n in labels.GRADED.items()}


def fit_grade(targets: Targets, logits: np.ndarray) -> GradeCalibration:
    """Scales and cuts of the ordinal grade by maximum likelihood on validation eyes; grades are called from CALLED, and
    left undecided as a finding is.

    Sets chosen by their grade do not count: they would move the cuts.
    """
    checked = (targets.split == "val") & (targets.least == 0)
    ungraded = (targets.grade < 0) & (targets.column("DR") == 1)  # beyond the first step, that is all
    rows = checked & ((targets.grade >= 0) | ungraded)
    ill = checked & (targets.grade >= labels.MORE_THAN_MILD)
    steps = np.arange(len(labels.GRADES) - 1)
    above = np.where(ungraded[:, None], steps == 0, targets.grade[:, None] > steps)
    told = ~ungraded[:, None] | (steps == 0)
    low, high = slice(labels.MORE_THAN_MILD), slice(labels.MORE_THAN_MILD, None)
    grade = GradeCalibration(
        *_ordinal(logits[rows, OUTPUTS.index(GRADE)], above[rows, low], told[rows, low]),
        *_ordinal(logits[ill, OUTPUTS.index(THREAT)], above[ill, high], told[ill, high]),
        CALLED,
    )
    made = {
        name: conformal.band(present, probability, CALLED) if conformal.promised(present) else None
        for name, (present, probability) in _reached(targets, logits, grade).items()
    }
    return replace(grade, more_than_mild_undecided=made[GRADE], vision_threatening_undecided=made[THREAT])


def _ordinal(logit: np.ndarray, beyond: np.ndarray, told: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Scale and increasing cuts (steps,) that make what is told likeliest.

    logit: scores (n,); beyond, told: bool (n, steps), whether an eye is beyond a step, and whether that is known.
    """
    score = torch.from_numpy(logit.astype(np.float64))
    above, known = torch.from_numpy(beyond).double(), torch.from_numpy(told).double()
    parameters = torch.tensor([0.5413, *[0.0] * above.shape[1]], dtype=torch.float64, requires_grad=True)  # scale 1

    def unpack() -> tuple[torch.Tensor, torch.Tensor]:
        steps = F.softplus(parameters[2:]).cumsum(0)
        return F.softplus(parameters[0]), torch.cat([parameters[1:2], parameters[1] + steps])

    def loss() -> torch.Tensor:
        scale, cuts = unpack()
        each = F.binary_cross_entropy_with_logits(scale * score[:, None] - cuts, above, reduction="none")
        return (each * known).sum() / known.sum()

    _minimise(parameters, loss)
    with torch.no_grad():
        scale, cuts = unpack()
    return float(scale), tuple(cuts.tolist())


def expected_threshold(probability: np.ndarray) -> float:
    """The threshold of the highest expected F1, were the calibrated probabilities true (Lipton et al. 2014).

    The labels enter by the calibration alone, two numbers, and not by which few eyes happen to lie where: chosen on
    one half of the validation patients it finds more on the other half than the threshold of the highest F1 does.
    """
    return _best_f1(probability, probability)[0]


def best_threshold(truth: np.ndarray, probability: np.ndarray) -> float:
    """The threshold of the highest F1, in the middle between two neighbouring probabilities."""
    return _best_f1(truth, probability)[0]


def cross_fitted_threshold(truth: np.ndarray, probability: np.ndarray, groups: np.ndarray) -> float:
    """Mean over FOLDS of the threshold of the highest F1 without the fold; groups (n,) str are kept together."""
    fold = np.array([zlib.crc32(group.encode()) % FOLDS for group in groups.tolist()])
    outside = [fold != number for number in range(FOLDS)]
    return float(np.mean([best_threshold(truth[rows], probability[rows]) for rows in outside if truth[rows].any()]))


def _best_f1(truth: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    at = int(f1.argmax())
    below = probability[order[at + 1]] if at + 1 < len(order) else 0.0
    return float((probability[order[at]] + below) / 2), float(f1[at])


def lesion_thresholds(task: tasks.Lesions, module: torch.nn.Module) -> dict[str, float]:
    """Per lesion the probability of the highest pixel-wise F1 on the validation eyes, where that is worth a count."""
    predicted = [(sample, task.predict(module, sample)) for sample in task.checked]
    result = {}
    for index, name in enumerate(task.planes()):
        truth = np.concatenate([s.truth[index][s.care > 0] > 127 for s, _ in predicted])
        score = np.concatenate([p[index][s.care > 0] for s, p in predicted])
        threshold, f1 = _best_f1(truth, score)
        if f1 >= LEAST_F1:
            result[name.removeprefix("lesion_")] = round(threshold, 4)
    return result


def lesions_healthy(task: tasks.Lesions, module: torch.nn.Module, thresholds: dict[str, float]) -> dict[str, int]:
    """Per counted lesion a number of regions; nine of ten healthy validation eyes exceed none of them."""
    counts = []
    for sample in pixels.healthy(task.recipe.data, "val", task.config.size):
        found = dict(zip(labels.LESIONS, task.predict(module, sample), strict=True))
        field = (sample.care > 0) & measures.lesion_field(task.config.size)
        each = [measures.count_lesions(found[code], limit, field) for code, limit in thresholds.items()]
        counts.append([lesion.count for lesion in each])
    return dict(zip(thresholds, most_together(np.array(counts)).tolist(), strict=True))


def most_together(counts: np.ndarray, share: float = 0.9) -> np.ndarray:
    """Limits int (k,), equally rare each, of which at least `share` of the rows of counts (n, k) exceed none."""
    for rank in np.linspace(share, 1, 101):
        limits = np.quantile(counts, rank, axis=0, method="higher")
        if (counts <= limits).all(axis=1).mean() >= share:
            break
    return limits.astype(int)


def doubtful_below(targets: Targets, logits: np.ndarray, calibration: Calibration) -> float | None:
    """Probability of being gradable that one in twenty of the readable validation photographs stays below, `DOUBTED`;
    None where that would refuse them already. logits as in `fit`."""
    readable = (targets.column(GRADABLE) == 1) & (targets.column(FUNDUS) == 1) & (targets.split == "val")
    probability = calibration.probability(logits[readable, OUTPUTS.index(GRADABLE)])
    limit = round(float(np.quantile(probability, DOUBTED)), 4)
    return limit if limit > calibration.threshold else None


def least_vessels(targets: Targets, shares: np.ndarray) -> float:
    """Half of what vessels cover (`measures.vessel_share`, (N,)) in all but five in a thousand readable photographs.

    Five, half of `REFUSED`: in a few very myopic eyes next to no vessel is found.
    """
    readable = np.isin(targets.folder, READ) & (targets.column(GRADABLE) == 1) & (targets.column(FUNDUS) == 1)
    return round(float(np.quantile(shares[readable], REFUSED / 2)) / 2, 5)


def plane_errors(task: tasks.Task, module: torch.nn.Module) -> dict[str, float]:
    """Mean absolute error per plane inside the field of view, in the plane's units, on the validation eyes."""
    wrong = [np.abs(task.predict(module, s) - s.truth / 255.0)[:, s.care > 0].mean(axis=1) for s in task.checked]
    return dict(zip(task.planes(), np.round(np.mean(wrong, axis=0), 4).tolist(), strict=True))


def _platt(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Scale > 0 and offset by maximum likelihood with Platt's softened targets (Platt 1999)."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    soft = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x, y = torch.from_numpy(score.astype(np.float64)), torch.from_numpy(soft)
    parameters = torch.tensor([0.5413, 0.0], dtype=torch.float64, requires_grad=True)
    _minimise(
        parameters,
        lambda: (
            F.binary_cross_entropy_with_logits(F.softplus(parameters[0]) * x + parameters[1], y)
            + 1e-3 * (F.softplus(parameters[0]) - 1).square()
        ),
    )
    return float(F.softplus(parameters[0].detach())), float(parameters[1].detach())


def _gate(truth: np.ndarray, probability: np.ndarray, sure: float) -> float:
    return float(min(np.quantile(probability[truth], REFUSED), sure))


def _minimise(parameters: torch.Tensor, loss) -> None:
    solver = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        value = loss()
        value.backward()
        return value

    solver.step(closure)
