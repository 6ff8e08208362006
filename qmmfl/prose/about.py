"""The model card, as HTML: what the weights are, learnt from, reach, and cannot do."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .. import labels
from .markup import pairs_html
from .wording import GRADE, MORE_THAN_MILD, OEDEMA, SCOPE, SCORES

NO_CURVES = "No calibration curves, observed share against probability, are stored in these weights."
ECE = "Expected calibration error: the mean distance between probability and observed share, 0 is perfect."
_SCORES: Mapping[str, str] = {
    **SCORES,
    GRADE: MORE_THAN_MILD,
    "GRADABLE": "Photograph can be read",
    "FUNDUS": "Is a fundus photograph",
}
KEPT = (
    "Abstention per data set: share left undecided, and shares of the eyes with and without the finding for which the "
    "true answer was not ruled out (0.9 is aimed at)"
)
LEAST = 10  # positive eyes; with fewer a calibration error says little
_ERROR_TOP = 0.3  # right end of its axis, or the largest error where that is more


def about_html(card: Any, source: str) -> str:
    """Everything a reader needs to judge the weights. card: as `weights.Card`."""
    parts = [f"<p>{SCOPE}</p>", pairs_html("Weights in use", [("Source", source), *card.summary().items()])]
    if getattr(card, "data", None):
        rows = [(each.get("name", ""), each.get("use", ""), each.get("terms", "")) for each in card.data]
        parts.append(table_html("Learnt from", ("Data set", "For", "Terms"), rows))
    found = card.metrics.get("classification", {})
    if found:
        parts.append(table_html("Test figures per data set", _HEADS, _figures(found)))
        parts.append(table_html(KEPT, _KEPT, _kept(found)))
        parts += [_errors(name, each) for name, each in found.items()]
        parts.append(_curves(found) or f"<p>{NO_CURVES}</p>")
    if getattr(card, "calibrations", None):
        rows = [
            (_SCORES.get(code) or code, f"{100 * each.threshold:.1f} %", each.fitted)
            for code, each in card.calibrations.items()
        ]
        parts.append(table_html("Calibration and thresholds", ("Score", "Threshold", "Fitted on"), rows))
    return "".join(parts)


def table_html(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as a table with column heads; the first cell heads its row."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
        if body
        else ""
    )


_HEADS = ("Data set and score", "Eyes (positive)", "AUC or kappa (95 %)", "Sensitivity", "Specificity", "ECE")


def _figures(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name, each in found.items():
        if each.get("coverage") is not None:
            yield (f"{name}: kept by the gates", str(each.get("eyes", "")), _number(each["coverage"]), "", "", "")
        for code, figures in each.get("findings", {}).items():
            counted = f"{figures.get('eyes', each.get('eyes', ''))} ({figures.get('positives', '')})"
            rest = [_interval(figures.get(key)) for key in ("sensitivity", "specificity", "ece")]
            yield (f"{name}: {labels.FINDINGS.get(code, code)}", counted, _interval(figures.get("auc")), *rest)
        graded = each.get("grade", {})
        for key, title in (("kappa", "grade, quadratic kappa"), ("referable_auc", "referable retinopathy, AUC")):
            if graded.get(key) is not None:
                yield (f"{name}: {title}", str(graded.get("eyes", "")), _interval(graded[key]), "", "", "")
        for key, title in (("mild", "more than mild, by grade"), ("threat", "vision-threatening, by grade")):
            rates = [graded.get(f"{key}_{rate}") for rate in ("sensitivity", "specificity")]
            if any(rates):
                shown = ["" if rate is None else _interval(rate) for rate in rates]
                yield (f"{name}: {title}", str(graded.get("eyes", "")), "", *shown, "")
        if "oedema" in each:
            risk = each["oedema"]
            counted = f"{risk['eyes']} ({risk['positives']})"
            yield (f"{name}: {SCORES[OEDEMA]}", counted, _interval(risk["auc"]), "", "", "")


_KEPT = ("Data set and score", "Undecided", "Kept, with the finding", "Kept, without it")


def _kept(found: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name, each in found.items():
        for code, own in each.get("abstention", {}).get("findings", {}).items():
            shares = [
                "" if own[key] is None else _number(own[key]) for key in ("undecided", "kept_present", "kept_absent")
            ]
            yield (f"{name}: {_SCORES.get(code, code)}", *shares)


def _errors(name: str, figures: Mapping[str, Any]) -> str:
    """Calibration error of each finding of one data set before (ring) and after (dot) the calibration, as a figure."""
    rows = [
        (code, each["ece_before"], each["ece"])
        for code, each in figures.get("findings", {}).items()
        if each.get("positives", 0) >= LEAST and {"ece", "ece_before"} <= each.keys()
    ]
    if not rows:
        return ""
    top = max(_ERROR_TOP, *(max(before, after) for _, before, after in rows))
    drawn = "".join(
        _error(20 * number + 12, code, 180 / top * b, 180 / top * a) for number, (code, b, a) in enumerate(rows)
    )
    low, said = 20 * len(rows) + 4, f"Calibration error, {name}: findings with at least {LEAST} positive eyes"
    alternative = "; ".join(f"{labels.FINDINGS.get(code, code)} {b:.3f} before, {a:.3f} after" for code, b, a in rows)
    return (
        f'<figure class="errors"><svg viewBox="-20 0 440 {low + 16}" role="img" aria-label="{escape(alternative)}">'
        f'<path d="M210 0V{low}H390"/>{drawn}<text x="210" y="{low + 12}">0</text>'
        f'<text x="390" y="{low + 12}">{top:.2f}</text></svg><figcaption>{escape(said)}; ring before, dot after '
        f"calibration. {ECE}</figcaption></figure>"
    )


def _error(y: float, code: str, before: float, after: float) -> str:
    return (
        f'<text x="200" y="{y + 4}" text-anchor="end">{escape(labels.FINDINGS.get(code, code))}</text>'
        f'<path d="M{210 + before:.1f} {y}H{210 + after:.1f}"/><circle class="before" cx="{210 + before:.1f}" cy="{y}" '
        f'r="4"/><circle cx="{210 + after:.1f}" cy="{y}" r="4"/>'
    )


def _curves(found: Mapping[str, Any]) -> str:
    """Reliability diagrams, where the evaluation stored bins as [mean probability, observed share, eyes]."""
    made = ""
    for name, each in found.items():
        for code, figures in each.get("findings", {}).items():
            bins = figures.get("reliability") or []
            if not bins:
                continue
            dots = "".join(
                f'<circle cx="{100 * p:.1f}" cy="{100 - 100 * share:.1f}" r="{2 + min(eyes, 100) / 25:.1f}"/>'
                for p, share, eyes in bins
            )
            said = f"Calibration of {labels.FINDINGS.get(code, code)}, {name}"
            made += (
                f'<figure><svg viewBox="-4 -4 108 108" role="img" aria-label="{escape(said)}" class="curve">'
                f'<path d="M0 100 100 0"/>{dots}</svg><figcaption>{escape(said)}</figcaption></figure>'
            )
    if not made:
        return ""
    title = "Calibration curves: observed share against probability, one per data set and finding"
    return f'<details><summary>{title}</summary><div class="figures small">{made}</div></details>'


def _interval(values: Any) -> str:
    if not isinstance(values, (list, tuple)):
        return _number(values)
    if len(values) == 3 and None not in values:  # of too few eyes a figure has no interval
        return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"
    return _number(values[0]) if values else ""


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "not given"
