"""The figures of a card as tables, and the page that explains the weights: weights/README.md, also the Hub's page.

`python -m training.model_card --weights weights` writes the page and the table of the project's README; everything in
them comes from card.json.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qmmfl import labels, weights

from .card_tables import sections, shown, table
from .metrics import FEW, proportion

PAGE = "README.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
# title, where it stands in the card's metrics, first target, and what others reach on it
SYNTHESIS = (
    ("Disc Dice, DRISHTI test (40 eyes)", "disc_cup.disc_dice", ">= .95", "AutoMorph nets .965"),
    ("Cup Dice, DRISHTI test (40 eyes)", "disc_cup.cup_dice", ">= .85", "AutoMorph nets .825"),
    ("Vertical cup-to-disc ratio, mean absolute error", "disc_cup.vcdr_error", "<= .06", ""),
    *(
        (
            f"{labels.LESION_NAMES[code]}, area under precision-recall, IDRiD test ({{0[lesions][eyes]}} eyes)",
            f"lesions.{code}",
            target,
            reference,
        )
        for code, target, reference in (
            ("MA", ">= .40", "U-Net .40"),
            ("HE", ">= .60", "U-Net .67"),
            ("EX", ">= .75", "U-Net .79"),
            ("SE", ">= .60", "U-Net .67"),
        )
    ),
    ("Vessel Dice, CHASE (28 eyes, never trained on)", "vessels.chase_dice", ">= .76", "little W-Net .758"),
    ("Artery Dice, DRIVE and LES-AV tests (25 eyes)", "vessels.artery_dice", ">= .62", ".50 to .67"),
    ("Vein Dice, DRIVE and LES-AV tests (25 eyes)", "vessels.vein_dice", ">= .66", ".50 to .67"),
    (
        "Fovea, mean distance from the marked one [disc diameters], IDRiD test "
        "(the {0[fovea][seen]} of {0[fovea][eyes]} eyes where it is seen as a dark spot)",
        "fovea.error",
        "",
        "",
    ),
    ("The same, share within the error that reports give", "fovea.within", "about .90", ""),
    (
        "Artery calibre, mean absolute error as a share, DRIVE and LES-AV tests "
        "({0[vessels][calibre_eyes]} eyes with enough vessels around the disc)",
        "vessels.artery_calibre_error",
        "",
        "",
    ),
    ("Vein calibre, likewise", "vessels.vein_calibre_error", "", ""),
    ("Artery-vein ratio, mean absolute error", "vessels.artery_vein_ratio_error", "", ""),
    ("Artery-vein ratio, standard deviation between these eyes", "vessels.artery_vein_ratio_spread", "", ""),
    (
        "Arteriovenous angiogram, correlation with the real one ({0[ffa_arteriovenous][pairs]} locked pairs)",
        "ffa_arteriovenous.correlation",
        ">= .45",
        "",
    ),
    ("The same, less the best simple rival", "ffa_arteriovenous.correlation_over_rivals", "> 0", ""),
    ("The same at vessel scale", "ffa_arteriovenous.detail_correlation", ">= .40", ""),
    (
        "The same at vessel scale, less the best simple rival",
        "ffa_arteriovenous.detail_correlation_over_rivals",
        "> 0",
        "",
    ),
    ("The same, multi-scale structural similarity", "ffa_arteriovenous.ms_ssim", "", ""),
    (
        "Arterial angiogram, eyes with bright arteries and darker veins ({0[ffa_arterial][eyes]} eyes)",
        "ffa_arterial.phase_order",
        ">= .85",
        "the photograph 0",
    ),
    (
        "Arterial angiogram, called arterial by a classifier of real frames",
        "ffa_arterial.called_arterial",
        ">= .80",
        "",
    ),
    ("Arteriovenous angiogram, called arterial by it", "ffa_arterial.arteriovenous_called_arterial", "low", ""),
    ("Right calls of that classifier on real frames, leave one out", "ffa_arterial.classifier_accuracy", "", ""),
    *((f"Band {nm} nm, median relative error, simulated eyes", f"msi.msi_{nm}", "", "") for nm in labels.BANDS),
    ("All bands, error over that of a per-pixel regressor", "msi.ratio_to_pixel_regressor", "<= 1.5", "1"),
    *(
        (
            f"Red and green given back, mean absolute log ratio, {name} test ({{0[msi][colour_eyes]}} eyes)",
            f"msi.colours.{folder}",
            "",
            "",
        )
        for folder, name in (("odir5k", "ODIR"), ("idrid", "IDRiD"), ("rahim", "Rahim"), ("stare", "STARE"))
    ),
)
CLASSIFICATION = (
    ("ODIR macro AUC, findings with at least 10 test eyes", "odir5k.macro_auc", ">= .85", ""),
    ("ODIR DR, AUC", "odir5k.findings.DR.auc", "", ""),
    ("Referable DR, AUC, IDRiD", "idrid.grade.referable_auc", ">= .95", ""),
    ("Referable DR, AUC, Rahim", "rahim.grade.referable_auc", ">= .93", ""),
    ("DR grade, quadratic kappa, IDRiD", "idrid.grade.kappa", ">= .80", "human graders about .84"),
    (
        "ODIR score: mean of kappa, F1, AUC, per eye",
        "odir5k.odir_score.score",
        ">= .72",
        "published about .83, per patient",
    ),
    ("The same with our thresholds", "odir5k.odir_score.score_at_thresholds", "", ""),
    ("Expected calibration error, ODIR, mean over findings", "odir5k.ece", "<= .05", ""),
    ("The same before calibration", "odir5k.ece_before", "", ""),
    ("Expected calibration error of DR, ODIR", "odir5k.findings.DR.ece", "", ""),
    ("Expected calibration error of DR, IDRiD", "idrid.findings.DR.ece", "", ""),
    ("Photographs kept by the gates, IDRiD", "idrid.coverage", ">= .99", ""),
    ("Angiograms and other grey frames kept by the gates ({0[ffa_phase][eyes]})", "ffa_phase.coverage", "0", ""),
)

GATES = (
    ("Pictures that are no fundus photograph, refused", "strangers_refused", "1", ""),
    ("Good photographs refused (eyes with a cataract not counted)", "good_refused", "<= .01", ""),
)
ABLATIONS = (  # fusions retrained on the same frozen features; differences of the ODIR macro AUC, paired
    ("Fusion above the photograph alone through the same fusion, macro AUC", "only_colour", "> 0"),
    ("Fusion above the photograph alone with additive heads", "colour_heads", "> 0"),
    ("Fusion above the paper's fusion block", "paper", "> 0"),
)


def rows(card: weights.Card) -> Iterator[tuple[str, str, str, str]]:
    """(title, value with its interval, target, reference) of every figure that the card holds."""
    metrics = card.metrics
    parts = (("synthesis", SYNTHESIS), ("classification", CLASSIFICATION), ("gates", GATES))
    for part, figures in parts:
        for title, path, target, reference in figures:
            value = _at(metrics.get(part, {}), path)
            if value is not None:
                yield title.format(metrics[part]), shown(value), target, reference
    for folder, poor in metrics.get("gates", {}).get("poor", {}).items():
        title, share = f"Photographs labelled unreadable in {folder} ({poor['photographs']})", poor["refused"]
        yield f"{title}, refused", shown(proportion(share, poor["photographs"])), "", ""
        if "doubtful" in poor:
            marked = shown(proportion(share + poor["doubtful"], poor["photographs"]))
            yield f"{title}, refused or read with quality in doubt", marked, "", ""
    ablations = metrics.get("ablations", {})
    by = ablations.get("weights", card.sha256)
    others = "" if by == card.sha256 else f" (by weights {by[:8]}, not these)"
    for title, model, target in ABLATIONS:
        value = _at(ablations, f"models.{model}.fusion_minus.macro_auc")
        if value is not None:
            yield title + others, shown(value), target, ""
    for name, value in ablations.get("exported_minus", {}).items():
        title = f"The fusion that is exported above “{ablations['titles'][name]}”, macro AUC"
        yield title + others, shown(value), "> 0", ""


def page(card: weights.Card) -> str:
    """The model card, Markdown."""
    assessed = [
        f"| {code} | {name} | {card.counts.get(code, {}).get('train', '')} "
        f"| {card.calibrations[code].threshold:.3f} | {card.calibrations[code].fitted} |"
        for code, name in labels.SCORES.items()
        if code in card.calibrations
    ]
    others = [code for code in labels.FINDINGS if code not in card.calibrations]
    parts = [
        f"# {card.name} {card.version} ({card.status})",
        f"**{card.intended_use}**",
        "Reads one colour fundus photograph: synthesized angiograms, spectral bands, lesion, vessel and disc maps, "
        "findings with probabilities, and the share of every map in every score. Probabilities are calibrated on the "
        "validation eyes of all sets together, most of them ODIR's; the risk of macular oedema on Rahim's. "
        "Written from `card.json` by `python -m training.model_card`.",
        f"`model.safetensors` has SHA-256 `{card.sha256}`; it is checked at every load.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in card.limits),
        "## Test figures",
        "Test split of each set, shipped weights and pipeline, gates overridden; photographs as they were gathered, at "
        "the size they have there: most were shrunk before (see Limits), so that no figure is of a camera's own file. "
        f"95 % bootstrap interval over {_drawn(card.metrics)} (over tiles of the image for the angiogram pairs, which "
        f"are few); of shares of fewer than {FEW} eyes, or of eyes all alike, Wilson's over eyes. "
        "`python -m training.evaluate` computes them again, `python -m training.everything --figures` those of one "
        "fusion above another, too.",
        table(("figure", "value (95 % interval)", "first target", "reference"), rows(card)),
        *sections(card.metrics),
        "## Findings",
        table(("code", "finding", "training eyes", "threshold", "calibrated on"), ()) + "\n" + "\n".join(assessed),
        f"Not assessed: {', '.join(others) or 'none'}.",
        "## Trained on",
        table(("data", "use", "terms"), [(each["name"], each["use"], each["terms"]) for each in card.data]),
        f"Licence of the weights: {card.licence}",
    ]
    return "\n\n".join(parts) + "\n"


def _drawn(metrics: Mapping[str, Any]) -> str:
    patients = metrics.get("intervals") == "patients"
    return "eyes, of findings and grades over patients where the set names them" if patients else "eyes"


def _at(metrics: Any, path: str) -> Any:
    for key in path.split("."):
        metrics = metrics.get(key) if isinstance(metrics, Mapping) else None
    return metrics


def with_figures(readme: str, card: weights.Card) -> str:
    """The README with its table, between two marks, filled from the card."""
    before, rest = readme.split(BEGIN)
    body = table(("figure", "test value (95 % interval)", "first target"), [each[:3] for each in rows(card)])
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.split(END)[1]}"


def write(folder: Path, readme: Path | None = None) -> None:
    """Write the page of the weights in `folder`, and fill the table of the project's README."""
    card = weights.read_card(folder)
    (folder / PAGE).write_text(page(card), encoding="utf-8")
    if readme is not None:
        readme.write_text(with_figures(readme.read_text(encoding="utf-8"), card), encoding="utf-8")


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    options = parser.parse_args()
    write(options.weights, options.readme)
