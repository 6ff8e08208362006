"""Tables of the model card from the metrics of a card, Markdown. What a card does not hold gives no row, no table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qmmfl import labels
from qmmfl.explain.agreement import KEY
from qmmfl.nets import OEDEMA

from .reading_figures import ERRORS, GRADED

_LEAST = "of true probabilities"
_BOUNDED = 8  # eyes of which drawing them again says how sure a mean is
_FIGURES = ("auc", "ap", "f1", "sensitivity", "specificity")


def shown(value: Any) -> str:
    """A figure, with its interval where it has one: "0.853 (0.811 to 0.892)"; empty where there is none."""
    if not isinstance(value, Sequence):
        return "" if value is None else f"{value:.3f}"
    if value[0] is None:
        return ""
    bounded = None not in value[1:] and value[1] != value[2]  # where all eyes are alike drawing them again says nothing
    return f"{value[0]:.3f}" + (f" ({value[1]:.3f} to {value[2]:.3f})" if bounded else "")


def _alone(value: Any) -> Any:
    """A figure without its interval."""
    return value[0] if isinstance(value, Sequence) else value


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Head and rows of cells as a Markdown table."""
    lines = [head, ("---",) * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sections(metrics: Mapping[str, Any]) -> list[str]:
    """Titles and tables in order, as paragraphs; only what `metrics` holds."""
    made = (
        ("Angiograms with every patient left out once", left_out(metrics)),
        ("Test figures by data set", sets(metrics)),
        ("Retinopathy by data set", grades(metrics)),
        ("The same eyes photographed otherwise", stress(metrics)),
        ("Test figures by finding, ODIR", findings(metrics, "odir5k")),
        ("Test figures by finding, STARE", findings(metrics, "stare")),
        ("ODIR by age and sex", subgroups(metrics)),
        ("Abstention", abstention(metrics)),
        ("What the gates refuse", gates(metrics)),
        ("What the fusion is worth", ablations(metrics.get("ablations", {}))),
        ("Can the maps be trusted", explanations(metrics.get(KEY, {}))),
    )
    return [part for title, text in made if text for part in (f"## {title}", text)]


def left_out(metrics: Mapping[str, Any]) -> str:
    """What `training.leave_out` found, a row for each number of simulated eyes beside the real pairs."""
    keys = ("correlation", "correlation_over_rivals", "detail_correlation", "detail_correlation_over_rivals", "ms_ssim")
    rows = [
        (number, str(own["pairs"]), str(own["steps"]), *(shown(own[key]) for key in keys))
        for number, own in metrics.get("leave_out", {}).items()
    ]
    head = ("simulated eyes", "pairs", "steps", "correlation", "less the best rival")
    head += ("at vessel scale", "less the best rival", "MS-SSIM")
    return (
        "The arteriovenous angiogram of each pair by a net that never saw its patient, trained shorter than the "
        "shipped one; intervals over tiles of the image. That the shipped net learns from no simulated eyes was read "
        "off this table, which holds the three locked pairs too.\n\n" + table(head, rows)
        if rows
        else ""
    )


def sets(metrics: Mapping[str, Any]) -> str:
    """Per data set: eyes, coverage, macro AUC, calibration error, oedema."""
    rows = []
    for name, own in metrics.get("classification", {}).items():
        score, oedema = own.get("odir_score", {}).get("score"), own.get("oedema", {}).get("auc")
        if "patients" in own and ("findings" in own or "grade" in own):
            errors = [own.get(name) for name in ERRORS]
            doubt = own.get("abstention", {}).get("findings", {}).get(OEDEMA, {})
            kept = (doubt.get(key) for key in ("undecided", "kept_present", "kept_absent"))
            figures = (own["coverage"], own.get("macro_auc"), *errors, score, oedema, *kept)
            rows.append((name, str(own["eyes"]), *map(shown, figures)))
    head = ("set", "eyes", "coverage", "macro AUC", "calibration error before", "after", _LEAST)
    more = ("ODIR score per eye", "oedema AUC", "oedema undecided", "kept present", "kept absent")
    return (
        "Few eyes show a calibration error even where probabilities are perfectly true: the one expected then stands "
        "beside it.\n\n" + table((*head, *more), rows)
        if rows
        else ""
    )


def grades(metrics: Mapping[str, Any]) -> str:
    """Per data set what `reading_figures.grades` found."""
    rows = []
    for name, own in metrics.get("classification", {}).items():
        if grade := own.get("grade"):
            rows.append((name, str(grade["eyes"]), *(shown(grade.get(key)) for key in GRADED)))
    if not rows:
        return ""
    head = ("set", "graded eyes", "quadratic kappa", "accuracy", "referable AUC", "more than mild: sensitivity")
    head += ("specificity", "vision-threatening AUC", "vision-threatening: sensitivity", "specificity")
    head += ("more lesions than healthy eyes, grade 0", "the same, more than mild")
    return (
        "Called is the highest grade that an eye reaches with a probability of two fifths: a step too low weighs one "
        "and a half times as much as a step too high. An eye known to have no retinopathy is of grade 0, whatever else "
        "it has but a cataract, behind which nobody sees. A set chosen to be severe (aptos_severe) says nothing about "
        "who is called ill: there a net may know the camera. Vision-threatening is severe or proliferative."
        "\n\n" + table(head, rows)
    )


def stress(metrics: Mapping[str, Any]) -> str:
    """What `training.stress` found: the grade of altered test photographs."""
    keys = ("coverage", "kappa", "referable_auc", "mild_sensitivity", "mild_specificity", "lesions_healthy")
    made = metrics.get("stress", {})
    rows = [
        (f"{name} *" if own.get("unseen") else name, str(own["eyes"]), *(shown(own.get(key)) for key in keys))
        for name, own in made.items()
    ]
    head = ("photograph", "eyes", "coverage", "quadratic kappa", "referable AUC", "more than mild: sensitivity")
    return (
        "IDRiD and Rahim test photographs, pooled and altered. The middle alone leaves out lesions beyond it; the "
        "other ways are not meant to change what a clinician would say, but the smallest lesions may be lost. Training "
        "altered its own eyes in these ways too, but for those with a star. Intervals are of each row: the eyes are "
        "the same, so that differences between rows are surer than they look.\n\n"
        + table((*head, "specificity", "more lesions than healthy eyes, grade 0"), rows)
        if rows
        else ""
    )


def findings(metrics: Mapping[str, Any], folder: str) -> str:
    """Per finding of one data set: AUC, AP, F1, sensitivity, specificity, calibration error, undecided share."""
    own = metrics.get("classification", {}).get(folder, {})
    abstained = own.get("abstention", {}).get("findings", {})
    rows = [
        (
            code,
            str(each["positives"]),
            *(shown(each[name]) for name in _FIGURES),
            *(shown(each.get(name)) for name in ERRORS),
            *(shown(abstained.get(code, {}).get(name)) for name in ("undecided", "kept_present", "kept_absent")),
        )
        for code, each in own.get("findings", {}).items()
        if "ece_before" in each
    ]
    head = ("code", "test eyes", "AUC", "average precision", "F1", "sensitivity", "specificity")
    head += ("calibration error before", "after", _LEAST, "undecided share", "kept present", "kept absent")
    return (
        "All eyes are scored, also those that the gates refuse, as half of those with a cataract, most of MH. What "
        "ranks fewer than five eyes with the finding has no interval. Kept: share of the eyes with the finding, and of "
        "those without it, for which the true answer is among those that abstention leaves open; 0.9 is meant.\n\n"
        + table(head, rows)
        if rows
        else ""
    )


def subgroups(metrics: Mapping[str, Any]) -> str:
    """ODIR by age and sex; the macro AUC counts the findings with enough positives in the subgroup."""
    by = metrics.get("classification", {}).get("odir5k", {}).get("by", {})
    rows = [
        (name, str(own["eyes"]), shown(own["coverage"]), shown(own.get("macro_auc")), str(len(own["macro_findings"])))
        + (shown(own.get("dr_auc")),)
        for name, own in by.items()
    ]
    return table(("eyes", "number", "coverage", "macro AUC", "findings in it", "DR AUC"), rows) if rows else ""


def abstention(metrics: Mapping[str, Any]) -> str:
    """The coverage curve of ODIR: alpha, decided share, error among the decided, shares that lost the true answer."""
    curve = metrics.get("classification", {}).get("odir5k", {}).get("abstention", {}).get("curve", [])
    keys = ("decided", "error", "wrong_present", "wrong_absent")
    rows = [(f"{point['alpha']:.2f}", *(shown(point[key]) for key in keys)) for point in curve]
    if not rows:
        return ""
    head = ("alpha", "decided", "error among decided", "present called absent", "absent called present")
    return (
        "Class-conditional conformal prediction on the validation eyes: of the eyes with a finding, and of those "
        "without it, at most alpha are decided wrongly, on average, if they come from the same cameras and clinics in "
        "the same mixture: in one set alone it can be more. Reports use alpha = 0.1. ODIR test eyes, all findings "
        "with such a promise and both calls of the grade, pooled:\n\n" + table(head, rows) + _graded(metrics)
    )


def _graded(metrics: Mapping[str, Any]) -> str:
    """Both calls of the grade per data set: the undecided share, and what the promise kept."""
    rows = []
    for name, own in metrics.get("classification", {}).items():
        found = own.get("abstention", {}).get("findings", {})
        if any(code in found for code in labels.GRADED):
            shares = (
                shown(found.get(code, {}).get(key))
                for code in labels.GRADED
                for key in ("undecided", "kept_present", "kept_absent")
            )
            rows.append((name, str(own["grade"]["eyes"]), *shares))
    head = ("set", "graded eyes", "more than mild: undecided", "kept present", "kept absent")
    head += ("vision-threatening: undecided", "kept present", "kept absent")
    said = "The calls that are made from the grade, by data set; each finding by itself is above."
    return f"\n\n{said}\n\n" + table(head, rows) if rows else ""


def gates(metrics: Mapping[str, Any]) -> str:
    """Refused pictures that are no fundus photograph, by kind, and refused good photographs, by data set."""
    own = metrics.get("gates", {})
    counted = [*own.get("strangers", {}).items()]
    counted += [
        (f"{'good' if each['labelled_good'] else 'all'} photographs, {name}", each)
        for name, each in own.get("good", {}).items()
    ]
    counted += [(f"photographs labelled unreadable, {name}", each) for name, each in own.get("poor", {}).items()]
    if clouded := own.get("cataract"):
        counted.append(("eyes with a cataract, odir5k (not among the good)", clouded))
    head = ("pictures", "number", "refused", "of these as not a fundus", "read, quality in doubt")
    keys = ("pictures", "refused", "not_a_fundus", "doubtful")
    rows = [
        (what, *(str(numbers.get(key, "")) for key in keys))
        for what, numbers in ((what, {"pictures": each.get("photographs"), **each}) for what, each in counted)
    ]
    return table(head, rows) if rows else ""


def ablations(results: Mapping[str, Any]) -> str:
    """What `training.ablate figures` found: a sentence, and a row per model."""
    own = results.get("models", {})
    if not own:
        return ""
    sets_ = [key for key in own["fusion"] if key.startswith("referable_")]
    rows = [
        (results["titles"][name], shown(each.get("macro_auc")), shown(each.get("fusion_minus", {}).get("macro_auc")))
        + tuple(shown(each.get(key)) for key in sets_)
        for name, each in own.items()
    ]
    head = ("model", "ODIR macro AUC", "fusion less it, in its budget", *(f"referable DR, {key[10:]}" for key in sets_))
    learnt, of = results["learnt"], f" by weights {results['weights'][:8]}" if "weights" in results else ""
    alone = own.get("only_colour", {}).get("fusion_minus", {}).get("macro_auc")
    gains = [("Over the photograph alone through the same fusion, in one budget, it gains", alone)]
    gains += [
        (f"The fusion that is exported gains over “{results['titles'][name]}”", each)
        for name, each in results.get("exported_minus", {}).items()
    ]
    worth = "".join(f" {what} {shown(gain)}, {_clear(gain)}." for what, gain in gains if gain and None not in gain)
    nets = f"the nets on the photograph alone in a budget of their own from {learnt['photographs']}"
    if not set(own) & set(results.get("nets", ())):
        nets = "nets on the photograph alone (ResNet-18, our encoder) were not trained beside them this time"
    return (
        f"{results['eyes']} {results['split']} eyes. All fusions learnt in one budget, heads alone until flat, from "
        f"the same frozen features{of} of {learnt['fusions']} training photographs, {nets}; "
        f"{len(results['findings'])} findings in the macro AUC; 95 % bootstrap intervals over patients, of the "
        f"differences in pairs.{worth}\n\n" + table(head, rows)
    )


def _clear(gain: Sequence[float]) -> str:
    return "clear of zero" if gain[1] > 0 else "not clear of zero: it may be worth nothing"


def explanations(results: Mapping[str, Any]) -> str:
    """What `training.sanity` found: the maps against marks made by people, and against networks made random."""
    if not results:
        return ""
    agreed = [
        (kind, f"{test['code']}, {test['dataset']} ({own['eyes']})")
        + tuple(shown(own[key]) for key in ("precision", "pointing", "chance"))
        for test in results["agreement"]
        for kind, own in test["maps"].items()
    ]
    trust = results["trust"]
    keys = ("randomised_heads", "randomised_fusion", "randomised_encoders")
    keys += ("deletion", "random_deletion", "road", "random_road")
    bounded = trust["eyes"] >= _BOUNDED
    doubted = [
        (kind, *(shown(own.get(key) if bounded else _alone(own.get(key))) for key in keys))
        for kind, own in trust["maps"].items()
    ]
    return (
        "Precision: share of what raises the score within the field of view that lies in cells with a mark (some lies "
        "beyond it, where no picture shows it); pointing: share of eyes whose highest cell holds one; both are by "
        "chance the share of the retina that is marked.\n\n"
        + table(("map", "score and eyes", "precision", "pointing", "by chance"), agreed)
        + f"\n\n{trust['code']}, {trust['eyes']} {trust['dataset']}. Randomised: size of the rank correlation with the "
        "map of the same network after that part was made random (a map that shows what was learnt falls to 0). "
        "Deletion and ROAD: how far the logit falls when what the map points at is erased, beside erasing at random "
        "places.\n\n"
        + table(
            ("map", "randomised heads", "fusion", "encoders", "deletion", "at random", "ROAD", "at random"), doubted
        )
    )
