"""Explanations and what-if as HTML. Imports the networks, so the page imports it when it is first asked why."""

from html import escape

from .. import labels
from ..explain import Explanation, WhatIf, title
from ..explain.figures import overlay
from .explanation import (
    EXPERIMENT,
    agreement_text,
    changed_call,
    limits_text,
    map_text,
    share_rows,
    standing_text,
    whatif_title,
)
from .markup import Save, figure_html, pairs_html
from .wording import CAUTIONS, percent

MOST = 12  # moves that are told, and those that change a call


def explanation_html(explanation: Explanation, save: Save, side: int, whose: str = "") -> str:
    """The map over the photograph beside what it is, what it cannot show, and how such maps did.

    whose: the eye's name, by default its side.
    """
    eye = explanation.report.eye.side
    name = f"why_{explanation.code}_{explanation.method}_{explanation.modality}"
    kind = f"{labels.METHODS[explanation.method]}, {title(explanation.modality).lower()}"
    address = save(name, overlay(explanation, side=side), "jpeg")
    picture = figure_html(
        f"{eye}_{name}" if eye else name, address, f"{kind} (synthesized)", f"{explanation.name}: {kind}"
    )
    said = (
        ("Score", standing_text(explanation)),
        ("The map", map_text(explanation)),
        ("It cannot show", limits_text(explanation)),
        ("Can it be trusted?", agreement_text(explanation)),
    )
    words = "".join(f"<h3>{head}</h3><p>{escape(text)}</p>" for head, text in said)
    whose = whose or (f"{eye.capitalize()} eye" if eye else "")
    shares = pairs_html("What the score is made of [logit]", share_rows(explanation))
    return (
        f'<div role="status"><h2>{f"{whose}: " if whose else ""}{escape(explanation.name)}</h2></div>'
        f'<div class="beside"><div>{picture}{shares}<p>'
        f"{CAUTIONS['shares']}</p></div><div>{words}</div></div>"
    )


def whatif_html(whatif: WhatIf, whose: str = "") -> str:
    """How the probabilities move, the largest first; of small moves those that change a call."""
    every = [move for move in whatif.ranked if move.code != "NORMAL"]
    moves = [move for place, move in enumerate(every) if place < MOST or changed_call(move)]
    fewer = len(every) - len(moves)
    left_out = f" Smaller moves that change no call are left out: {fewer}." if fewer else ""
    rows = "".join(
        f'<tr{" class=suspected" if move.crosses else ""}><th scope="row">{escape(move.name)}</th>'
        f'<td class="figure">{percent(move.before)}</td><td class="figure">{percent(move.after)}</td>'
        f'<td class="figure">{100 * (move.after - move.before):+.1f}</td>'
        f'<td class="figure">{percent(move.threshold)}</td>'
        f"<td>{changed_call(move)}</td></tr>"
        for move in moves
    )
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("Score", "Before", "After", "Points", "Threshold", "Call")
    )
    return (
        f"<table><caption>{escape(whatif_title(whatif, whose))}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table><p>{EXPERIMENT}{left_out}</p>"
    )
