"""Figures of the readings per data set: findings, grade, calibration, abstention, gates.

Everything is computed on all eyes with the gates overridden; `coverage` says how many the gates would have kept.
Intervals are 95 % bootstrap intervals over patients (`Targets.group`: both eyes and near-duplicates together), of
shares of few eyes, or of eyes all alike, Wilson's over eyes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmmfl import labels
from qmmfl.nets import OEDEMA

from . import conformal, metrics, odir
from .data import CODES, ODIR_CLASSES, Case
from .scores import Scores
from .targets import Targets

LEAST = 10  # positive test eyes of a finding that counts in the macro figures
GRADED = ("kappa", "accuracy", "referable_auc", "mild_sensitivity", "mild_specificity")  # of `grades`, in order
GRADED += ("threat_auc", "threat_sensitivity", "threat_specificity", "lesions_healthy", "lesions_ill")
_SHARES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {  # of these grades
    "mild_sensitivity": lambda grade: grade >= labels.MORE_THAN_MILD,
    "mild_specificity": lambda grade: grade < labels.MORE_THAN_MILD,
    "threat_sensitivity": lambda grade: grade >= labels.VISION_THREATENING,
    "threat_specificity": lambda grade: grade < labels.VISION_THREATENING,
    "lesions_healthy": lambda grade: grade == 0,
    "lesions_ill": lambda grade: grade >= labels.MORE_THAN_MILD,
}
_RANKED = 5  # eyes with a finding: of fewer an interval of how they rank says nothing
ERRORS = ("ece_before", "ece", "ece_least")  # calibration errors: uncalibrated, in use, of true probabilities
AGES = {"up to 49": (0, 49), "50 to 59": (50, 59), "60 to 69": (60, 69), "from 70": (70, 120)}  # [years]


def of_folder(cases: Sequence[Case], scores: Scores, promises: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """All figures of the test eyes of one data set. promises: "conformal" of the card's metrics, or empty."""
    every = Targets(list(cases))
    figures: dict[str, Any] = {
        "eyes": len(cases),
        "patients": len(set(every.group)),
        "coverage": float(scores.gradable.mean()),
        "called_fundus": float(scores.fundus.mean()),
        **findings(every, scores, repeats),
        **grades(every, scores, repeats),
        **oedema(every, scores, repeats),
    }
    abstained = abstention(every, scores, promises)
    if abstained:
        figures["abstention"] = abstained
    if cases[0].odir:
        figures["odir_score"] = _odir(cases, every, scores, repeats)
        figures["by"] = subgroups(every, scores, repeats)
    return figures


def assessable(every: Targets, scores: Scores, code: str) -> np.ndarray:
    """Rows of the eyes whose label and probability of a finding are known."""
    index = CODES.index(code)
    return np.flatnonzero((every.binary[:, index] >= 0) & ~np.isnan(scores.probability[:, index]))


def findings(every: Targets, scores: Scores, repeats: int) -> dict[str, Any]:
    """Per finding AUC, AP, F1, sensitivity, specificity (with intervals) and calibration; and the macro figures."""
    per: dict[str, Any] = {}
    for index, code in enumerate(CODES):
        rows = assessable(every, scores, code)
        truth = every.binary[rows, index] == 1
        if not truth.any() or truth.all():
            continue
        p, raw, called = scores.probability[rows, index], scores.raw[rows, index], scores.called[rows, index]

        def each(chosen: np.ndarray, truth=truth, p=p, called=called) -> list[float]:
            t, c = truth[chosen], called[chosen]
            present, absent = _mean(c[t]), _mean(~c[~t])
            return [
                metrics.auc(t, p[chosen]),
                metrics.average_precision(t, p[chosen]),
                metrics.f1(t, c),
                present,
                absent,
            ]

        bounded = metrics.bounds(each, every.group[rows], repeats)
        bounded[3:] = [
            metrics.plainly(b, int(n)) for b, n in zip(bounded[3:], (truth.sum(), (~truth).sum()), strict=True)
        ]
        if truth.sum() < _RANKED:
            bounded[:3] = [[value, np.nan, np.nan] for value, *_ in bounded[:3]]
        per[code] = {
            "eyes": len(rows),
            "positives": int(truth.sum()),
            **dict(zip(("auc", "ap", "f1", "sensitivity", "specificity"), bounded, strict=True)),
            "ece": metrics.calibration_error(truth, p),
            "ece_before": metrics.calibration_error(truth, raw),
            "ece_least": metrics.least_calibration_error(p),
            "reliability": metrics.reliability(truth, p),
        }
    counted = [code for code, figures in per.items() if figures["positives"] >= LEAST]
    result: dict[str, Any] = {"findings": per} if per else {}
    if counted:
        result |= {
            "macro_findings": counted,
            "macro_auc": macro_auc(every, scores, counted, repeats),
            "macro_f1": float(np.mean([per[code]["f1"][0] for code in counted])),
            "macro_ap": float(np.mean([per[code]["ap"][0] for code in counted])),
            **{name: float(np.mean([per[code][name] for code in counted])) for name in ERRORS},
        }
    return result


def macro_auc(every: Targets, scores: Scores, codes: Sequence[str], repeats: int) -> list[float]:
    """[value, low, high] of the mean AUC of some findings; patients are drawn once for all of them."""
    columns = [CODES.index(code) for code in codes]
    truth, probability = every.binary[:, columns], scores.probability[:, columns]
    known = (truth >= 0) & ~np.isnan(probability)

    def mean(rows: np.ndarray) -> list[float]:
        each = [
            metrics.auc(truth[rows, i][known[rows, i]] == 1, probability[rows, i][known[rows, i]])
            for i in range(len(columns))
        ]
        return [_mean(np.array(each))]

    return metrics.bounds(mean, every.group, repeats)[0]


def grades(every: Targets, scores: Scores, repeats: int) -> dict[str, Any]:
    """Of the eyes with a known grade, 0 where retinopathy is known to be absent: quadratic kappa, accuracy, AUC of
    referable DR (grade 2 or more), sensitivity and specificity of the calls "more than mild" and "vision-threatening"
    (grade 3 or more), with the AUC of the latter, and the share with more lesions of any kind than healthy eyes show,
    of those without retinopathy and of those with more than mild.
    """
    rows = np.flatnonzero((every.grade >= 0) & (scores.grade >= 0))
    if not len(rows):
        return {}
    truth, made = every.grade[rows].astype(int), scores.grade[rows]
    counted = np.nansum(scores.lesions[rows], axis=1) > 0

    def each(chosen: np.ndarray) -> list[float]:
        t, m = truth[chosen], made[chosen]
        called = []
        for least in labels.GRADED.values():
            above = scores.steps[rows[chosen], least:].sum(axis=1)
            called += [metrics.auc(t >= least, above), _mean((m >= least)[t >= least]), _mean((m < least)[t < least])]
        marked = [_mean(counted[chosen][group]) for group in (t == 0, t >= labels.MORE_THAN_MILD)]
        right = float((t == m).mean()) if np.ptp(t) else np.nan  # of healthy eyes alone it is a specificity
        return [metrics.quadratic_kappa(t, m), right, *called, *marked]

    bounded = dict(zip(GRADED, metrics.bounds(each, every.group[rows], repeats), strict=True))
    for name, which in _SHARES.items():
        bounded[name] = metrics.plainly(bounded[name], int(which(truth).sum()))
    return {"grade": {"eyes": len(rows), **{name: found for name, found in bounded.items() if not np.isnan(found[0])}}}


def oedema(every: Targets, scores: Scores, repeats: int) -> dict[str, Any]:
    """AUC of the risk of macular oedema where it is annotated."""
    truth = every.column(OEDEMA)
    rows = np.flatnonzero((truth >= 0) & ~np.isnan(scores.oedema))
    present = truth[rows] == 1
    if not present.any() or present.all():
        return {}
    bounded = metrics.bounds(
        lambda chosen: [metrics.auc(present[chosen], scores.oedema[rows][chosen])], every.group[rows], repeats
    )
    return {"oedema": {"eyes": len(rows), "positives": int(present.sum()), "auc": bounded[0]}}


def abstention(every: Targets, scores: Scores, promises: Mapping[str, Any]) -> dict[str, Any]:
    """Per finding, for the risk of oedema and for both calls of the grade the undecided share and what the promise
    kept; the coverage curve over all of them.

    kept_present: share of the eyes with the finding whose prediction set holds "present" (promised >= 0.9 on average);
    kept_absent: likewise. Both are of reports, where a call is open, too, if one that implies it is. The curve pools
    the pairs of eye and finding, each by its own probability: alpha, decided share, error among the decided.
    """
    per, truths, probabilities, bands = {}, [], [], []
    said = {code: (scores.probability[:, i], scores.undecided[:, i]) for i, code in enumerate(CODES)}
    said[OEDEMA] = scores.oedema, scores.oedema_undecided
    known = {code: every.column(code) for code in said}
    for (code, least), undecided in zip(labels.GRADED.items(), scores.graded_undecided.T, strict=True):
        said[code] = scores.steps[:, least:].sum(axis=1), undecided
        known[code] = np.where(every.grade < 0, -1, every.grade >= least)
    for code, (probability, undecided) in said.items():
        label = known[code]
        rows = np.flatnonzero((label >= 0) & ~np.isnan(probability))
        if code not in promises.get("bands", {}) or not len(rows):
            continue
        truth, p, told = label[rows] == 1, probability[rows], undecided[rows]
        made = np.array(promises["bands"][code], float)
        low, high = made[list(promises["alphas"]).index(conformal.ALPHA)]
        open_ = np.where(np.isnan(told), (p >= low) & (p <= high), told == 1)  # NORMAL, withdrawn: by its score alone
        called = p > high
        per[code] = {
            "undecided": float(open_.mean()),
            "error": _mean((called != truth)[~open_]),
            "kept_present": _mean((open_ | called)[truth]),
            "kept_absent": _mean((open_ | ~called)[~truth]),
        }
        truths.append(truth)
        probabilities.append(p)
        bands.append(np.repeat(made[:, None], len(rows), axis=1))
    if not per:
        return {}
    truth, p, band = np.concatenate(truths), np.concatenate(probabilities), np.concatenate(bands, axis=1)
    curve = conformal.curve(truth, p, band)
    return {"findings": per, "curve": [{"alpha": a, **c} for a, c in zip(promises["alphas"], curve, strict=True)]}


def subgroups(every: Targets, scores: Scores, repeats: int) -> dict[str, Any]:
    """Coverage, macro AUC (findings with at least LEAST positives in the subgroup) and DR AUC by age and sex."""
    age, female = every.extras[:, 0] * 10, every.extras[:, 1]
    parts = {f"age {name}": (age >= low) & (age < high + 1) & (age > 0) for name, (low, high) in AGES.items()}
    parts |= {"women": female == 1, "men": female == 0}
    result = {}
    for name, inside in parts.items():
        rows = np.flatnonzero(inside)
        if not len(rows):
            continue
        positives = {code: int((every.binary[rows, i] == 1).sum()) for i, code in enumerate(CODES)}
        assessed = ~np.isnan(scores.probability[rows]).all(axis=0)
        counted = [code for i, code in enumerate(CODES) if assessed[i] and positives[code] >= LEAST]
        some, here = every.at(rows), scores[rows]
        result[name] = {"eyes": len(rows), "coverage": float(here.gradable.mean()), "macro_findings": counted}
        if counted:
            result[name]["macro_auc"] = macro_auc(some, here, counted, repeats)
        if "DR" in counted:
            result[name]["dr_auc"] = macro_auc(some, here, ["DR"], repeats)
    return result


def gates(cases: Sequence[Case], scores: Scores, made: Mapping[str, Scores]) -> dict[str, Any]:
    """What the gates refuse. strangers: kind -> counts; good: data set -> share of good photographs refused.

    Good is what its set labels so (EyeQ good or usable, DRIMDB good), or, in sets without such labels, every
    photograph but those of eyes with a cataract, which may hide the fundus and are counted apart. poor: data set ->
    photographs labelled unreadable (EyeQ reject, DRIMDB bad). refused: by any gate; not_a_fundus: by that gate alone;
    doubtful: read, but with the mark that quality is in doubt.
    """
    kinds: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        if case.fundus == 0:
            kinds.setdefault(_kind(case), []).append(number)
    strangers = {kind: scores[np.array(rows)] for kind, rows in kinds.items()} | dict(made)
    good: dict[str, Any] = {}
    for folder in sorted({case.folder for case in cases if case.fundus == 1}):
        here = [n for n, case in enumerate(cases) if case.folder == folder and case.fundus == 1 and not _clouded(case)]
        labelled = [number for number in here if cases[number].gradable == 1]
        rows = np.array(labelled or here)
        good[folder] = {"photographs": len(rows), **_refused(scores[rows]), "labelled_good": bool(labelled)}
    clouded = scores[np.array([number for number, case in enumerate(cases) if _clouded(case)], int)]
    bad = {n: case.folder for n, case in enumerate(cases) if case.fundus == 1 and case.gradable == 0}
    poor = {
        folder: scores[np.array([number for number, where in bad.items() if where == folder])]
        for folder in sorted(set(bad.values()))
    }
    return {
        "poor": {folder: {"photographs": len(s.gradable), **_refused(s)} for folder, s in poor.items()},
        "cataract": {"photographs": len(clouded.gradable), **_refused(clouded)},
        "strangers": {kind: {"pictures": len(s.gradable), **_refused(s)} for kind, s in strangers.items()},
        "strangers_refused": _share([s.gradable for s in strangers.values()]),
        "good": good,
        "good_refused": metrics.proportion(*(sum(g[key] for g in good.values()) for key in ("refused", "photographs"))),
    }


def _clouded(case: Case) -> bool:
    return bool(case.odir) and case.odir[ODIR_CLASSES.index("C")] == 1


def _refused(scores: Scores) -> dict[str, int]:
    told = {"refused": ~scores.gradable, "not_a_fundus": ~scores.fundus, "doubtful": scores.doubtful}
    return {name: int(which.sum()) for name, which in told.items()}


def _share(gradable: list[np.ndarray]) -> float:
    return float((~np.concatenate(gradable)).mean()) if gradable else float("nan")


def _kind(case: Case) -> str:
    if case.folder == "drimdb":
        return "DRIMDB outlier"
    grey = Path(case.path).name.startswith("non_ffa")
    return "autofluorescence, infrared, red-free" if grey else "angiogram"


def _odir(cases: Sequence[Case], every: Targets, scores: Scores, repeats: int) -> dict[str, Any]:
    truth, p = np.array([case.odir for case in cases]), odir.classes(scores.probability)
    own = odir.called_classes(scores.called)

    def each(rows: np.ndarray) -> list[float]:
        at_own = odir.score(truth[rows], p[rows], own[rows])
        return [*odir.score(truth[rows], p[rows]).values(), *(at_own[name] for name in ("kappa", "f1", "score"))]

    names = ("kappa", "f1", "auc", "score", "kappa_at_thresholds", "f1_at_thresholds", "score_at_thresholds")
    return dict(zip(names, metrics.bounds(each, every.group, repeats), strict=True))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values.astype(float))]
    return float(known.mean()) if len(known) else float("nan")
