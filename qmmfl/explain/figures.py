"""Pictures and figures of explanations. Pictures are uint8 RGB, figures matplotlib Figures with no global state.

Colours are safe for colour-blind readers: viridis for what only raises a score, orange and blue over a grey photograph
for what raises and lowers it. Every map over a photograph carries the mark of a synthesized picture.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np

from .. import draw, labels
from .explanation import SIGNED, Explanation
from .whatif import WhatIf

if TYPE_CHECKING:  # half a second of import time that only figures need
    from matplotlib.figure import Figure

RAISES, LOWERS = (230, 159, 0), (86, 180, 233)  # orange, sky blue (Okabe and Ito 2008)
_OPACITY = 0.75
_STRIP = 64  # [rows] blended at a time: of a photograph of 24 megapixels at once, that would take a gigabyte


def overlay(explanation: Explanation, square: np.ndarray | None = None, side: int | None = None) -> np.ndarray:
    """The map over the photograph, uint8 (H, W, 3) in the photograph's frame and size, marked.

    square: draw this map instead, on the same scale (one of `Explanation.parts`). side: the longest that the picture
    may have [px]; where the photograph has a longer one, both are shrunk.
    """
    values = explanation.pixels if square is None else explanation.place(square)
    photograph = explanation.report.photograph.pixels
    if side is not None:
        values, photograph = draw.shrink(values, side), draw.shrink(photograph, side)
    scale, signed, picture = explanation.scale, explanation.method in SIGNED, np.empty_like(photograph)
    for first in range(0, len(picture), _STRIP):
        rows = slice(first, first + _STRIP)
        picture[rows] = _blend(photograph[rows], values[rows] / scale, signed)
    return draw.mark_synthesized(picture)


def _blend(photograph: np.ndarray, values: np.ndarray, signed: bool) -> np.ndarray:
    """uint8 (h, w, 3): values (h, w), drawn at full strength from 1 or -1, over as much of a photograph."""
    strength = np.clip(np.abs(values), 0, 1)
    if signed:
        ground = np.repeat(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        colours = np.where(values[..., None] > 0, np.array(RAISES, np.uint8), np.array(LOWERS, np.uint8))
    else:
        ground = photograph
        colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    opacity = _OPACITY * strength[..., None]
    return (ground * (1 - opacity) + colours * opacity + 0.5).astype(np.uint8)


def raw(explanation: Explanation) -> np.ndarray:
    """The map alone, uint8 (H, W): 128 is zero, 255 raises and 1 lowers the score by the scale; unsigned from 0."""
    values = np.clip(explanation.pixels / explanation.scale, -1, 1)
    return np.rint(128 + 127 * values if explanation.method in SIGNED else 255 * values).astype(np.uint8)


def share_chart(explanation: Explanation) -> "Figure":
    """Bars of each modality's share of the score [logit], the constant last; what lowers it is hatched as well."""
    rows = [(labels.BY_NAME[name].title, value) for name, value in explanation.shares.items() if name in labels.BY_NAME]
    rows.append(("Constant (all eyes)", explanation.shares["bias"]))
    figure, axes = _axes(7.0, 0.7 + 0.34 * len(rows))
    for number, (_, value) in enumerate(rows):
        colour, hatch = (RAISES, None) if value >= 0 else (LOWERS, "///")
        axes.barh(number, value, color=np.array(colour) / 255, hatch=hatch, edgecolor="black", linewidth=0.5)
        axes.annotate(f"{value:+.2f}", (max(value, 0), number), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [title for title, _ in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.15)
    axes.set_xlabel("share of the score before calibration [logit]")
    axes.set_title(f"{explanation.name}: score {explanation.logit:+.2f}", loc="left")
    return figure


def move_chart(whatif: WhatIf, most: int = 12) -> "Figure":
    """Probabilities before (open circle) and after (filled) a change, the largest moves first, thresholds as ticks."""
    moves = whatif.ranked[:most]
    figure, axes = _axes(7.0, 0.9 + 0.3 * len(moves))
    for number, move in enumerate(moves):
        axes.plot((move.before, move.after), (number, number), color="black", linewidth=1)
        axes.plot(move.before, number, "o", color="black", fillstyle="none", label=None if number else "before")
        axes.plot(move.after, number, "o", color="#0072b2", label=None if number else "after")
        axes.plot(move.threshold, number, "|", color="#d55e00", markersize=12, label=None if number else "threshold")
    axes.set_yticks(range(len(moves)), [move.name for move in moves])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("calibrated probability")
    axes.set_title(whatif.change, loc="left")
    axes.legend(fontsize=7)
    return figure


def _axes(width: float, height: float):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
