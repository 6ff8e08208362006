"""Report -> pictures: uint8 (h, w, 3) RGB arrays and their encoded bytes. Every synthesized picture carries its mark.

`side`: pictures are drawn in the square that the networks saw (`Report.grid`), `side` pixels wide; with None they are
drawn in the photograph's own frame and size.
"""

import textwrap
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from . import fundus, grid, labels, measures
from .records import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito 2008, safe for colour-blind readers; white for the disc, which no lesion touches.
COLOURS = MappingProxyType(
    {
        "MA": (0, 158, 115),
        "HE": (86, 180, 233),
        "EX": (204, 121, 167),
        "SE": (240, 228, 66),
        "disc": (255, 255, 255),
        "cup": (230, 159, 0),
        "artery": (213, 94, 0),
        "vein": (0, 114, 178),
    }
)
LAYERS = tuple(COLOURS)
LAYER_TITLES = MappingProxyType(
    {layer: labels.LESION_NAMES.get(layer) or labels.PLANE_TITLES[layer] for layer in LAYERS}
)
COLOUR_NAMES = MappingProxyType(
    dict(zip(COLOURS, ("green", "sky blue", "purple", "yellow", "white", "orange", "vermilion", "blue"), strict=True))
)
OUTLINES = f"{labels.SYNTHESIZED} OUTLINES"  # over a photograph, which is none
LINE = 0.5  # probability at which outlines are drawn, but for those of lesions that are counted
HEAT_TOP = 12.0  # [logit] what the strongest cells of severe retinopathy reach: less, and such eyes are one colour
_HEAT_OPACITY = 0.7  # of a cell at HEAT_TOP
_FINE = 1024  # [px] side of the field of view that is enlarged to a photograph


def plane_name(layer: str) -> str:
    """The plane that a layer is drawn from: "MA" -> "lesion_MA", "disc" -> "disc"."""
    return f"lesion_{layer}" if layer in labels.LESIONS else layer


def grey(plane: np.ndarray) -> np.ndarray:
    """Plane float (h, w) in 0..1 -> uint8 (h, w, 3) RGB; what is no number becomes black."""
    levels = np.clip(np.nan_to_num(plane) * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


def mark_synthesized(image: np.ndarray, words: str = labels.SYNTHESIZED) -> np.ndarray:
    """A copy of a uint8 picture (h, w, 3 or 4) with SYNTHESIZED, or other words, burned in at its lower left."""
    marked = np.ascontiguousarray(image).copy()
    height, width = marked.shape[:2]
    scale = max(min(height, width), 120) / 900
    thick = max(1, round(1.6 * scale))
    (w, h), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    pad = max(2, h // 2)
    white = (255, 255, 255, 255)[: marked.shape[2]]
    cv2.rectangle(marked, (0, height - h - below - 2 * pad), (w + 2 * pad, height), (0, 0, 0, 255)[: len(white)], -1)
    where = (pad, height - below - pad)
    cv2.putText(marked, words, where, cv2.FONT_HERSHEY_SIMPLEX, scale, white, thick, cv2.LINE_AA)
    return marked


def photograph(report: Report, side: int | None = None) -> np.ndarray:
    """The acquired photograph, uint8 RGB. Without a grid (nothing was seen in it) the whole picture, `side` wide."""
    pixels = report.photograph.pixels
    if side is None:
        return pixels
    if report.grid is None:
        return _resize(pixels, side, max(1, round(side * pixels.shape[0] / pixels.shape[1])))
    x, y, width, height = report.grid
    window = np.zeros((height, width, 3), np.uint8)
    inside, outside = _overlap(report)
    window[outside] = pixels[inside]
    return _resize(window, side, side)


def plane(report: Report, name: str, side: int | None = None) -> np.ndarray:
    """One synthesized plane as a marked grey picture; bands, linear reflectances, with the display's gamma of 2.2."""
    values = _values(report, name, side)
    return mark_synthesized(grey(np.clip(values, 0, 1) ** (1 / 2.2) if name in labels.MSI.planes else values))


def layer(report: Report, name: str, side: int | None = None) -> np.ndarray:
    """One of `LAYERS` as a transparent marked picture, uint8 (h, w, 4) RGBA, to lie over the photograph.

    Vessels are filled, their opacity follows the probability. Disc and cup are outlined at `LINE`, so that what lies
    inside stays visible. Of lesions the regions that the report counts are outlined, at a little distance.
    """
    if name in ("artery", "vein"):
        alpha = (np.clip((_values(report, name, side) - 0.2) / 0.6, 0, 1) * 200).astype(np.uint8)
    else:
        mask = _mask(report, name, side)
        alpha, width = np.zeros(mask.shape, np.uint8), max(1, round(min(mask.shape) / 450))
        if name in labels.LESIONS:
            mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (4 * width + 1,) * 2))
        outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(alpha, outline, -1, 255, width)
    colour = np.broadcast_to(np.array(COLOURS[name], np.uint8), (*alpha.shape, 3))
    return mark_synthesized(np.dstack([colour, alpha]), OUTLINES)


def overlay(report: Report, names: tuple[str, ...] = LAYERS, side: int | None = None) -> np.ndarray:
    """Layers over the photograph, uint8 RGB, marked. A layer whose plane is missing is left out."""
    result = photograph(report, side).astype(np.float32)
    drawn = [name for name in names if plane_name(name) in report.planes]
    for name in sorted(drawn, key=LAYERS.index, reverse=True):  # lesions last, on top
        picture = layer(report, name, side)
        opacity = picture[..., 3:].astype(np.float32) / 255
        result += opacity * (picture[..., :3] - result)
    result = (result + 0.5).astype(np.uint8)
    return mark_synthesized(result, OUTLINES) if drawn else result


def heat(report: Report, code: str, side: int | None = None) -> np.ndarray:
    """Where the score of a finding comes from, over the photograph; uint8 RGB, marked.

    Only what raises the score is shown, in viridis on a fixed scale from 0 to `HEAT_TOP`, so that the maps of two
    eyes can be compared, and only inside the field of view. Raises ValueError where the report has no map for `code`.
    """
    if code not in report.maps:
        raise ValueError(f"there is no score map for {code!r} in this report")
    cells = report.maps[code].sum(axis=0, dtype=np.float32)
    seen = grid.align(np.clip(cells / HEAT_TOP, 0, 1), len(cells))
    strength = _fit(report, seen, side) * (_fit(report, _field(side or _FINE), side) > 0.5)
    colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    opacity = _HEAT_OPACITY * np.clip(strength * 2, 0, 1)[..., None]  # fully drawn from half the scale
    ground = photograph(report, side).astype(np.float32)
    return mark_synthesized((ground + opacity * (colours - ground)).astype(np.uint8))


def cell_width(report: Report, code: str) -> int | None:
    """Width of one cell of the score map in [px] of the photograph, or None where there is no map."""
    if code not in report.maps or report.grid is None:
        return None
    return round(report.grid[2] / report.maps[code].shape[2])


def encode(image: np.ndarray, kind: str = "jpeg") -> bytes:
    """Bytes of a uint8 RGB or RGBA picture: "jpeg" (quality 95, RGB) or "png" (lossless, compression 1)."""
    if kind == "jpeg":
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]
    elif kind == "png":
        suffix, options = ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]
    else:
        raise ValueError(f"unknown kind {kind!r}; choose jpeg or png")
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, order), options)
    if not done:
        raise ValueError("the picture could not be encoded")
    return data.tobytes()


def _values(report: Report, name: str, side: int | None) -> np.ndarray:
    found = report.planes[name]
    return found.pixels if side is None else _resize(found.square, side, side)


def _mask(report: Report, name: str, side: int | None) -> np.ndarray:
    """uint8 (h, w), 1 inside what is outlined of a layer; no region that is counted is lost in a smaller picture."""
    lesion, found = report.lesions.get(name), report.planes[plane_name(name)]
    if lesion is None or lesion.threshold is None:
        return (_values(report, plane_name(name), side) >= LINE).astype(np.uint8)
    field = measures.lesion_field(found.square.shape[0])
    counted = (measures.lesion_regions(found.square, lesion.threshold, field)[0] > 0).astype(np.float32)
    shown = found.place(counted) if side is None else _resize(counted, side, side)
    return (shown >= (LINE if shown.shape[1] >= counted.shape[1] else 1e-3)).astype(np.uint8)


def _fit(report: Report, square: np.ndarray, side: int | None) -> np.ndarray:
    """Square (s, s) -> (side, side), or into the photograph's frame, zero beyond the grid."""
    if side is not None:
        return _resize(square, side, side)
    full = np.zeros(report.photograph.pixels.shape[:2], np.float32)
    inside, outside = _overlap(report)
    full[inside] = _resize(square, *_grid(report)[2:])[outside]
    return full


def _field(side: int) -> np.ndarray:
    return fundus.square_mask(fundus.Prep(side)).astype(np.float32)


def _grid(report: Report) -> tuple[int, int, int, int]:
    if report.grid is None:
        raise ValueError("this report has no grid: no field of view was found in the photograph")
    return report.grid


def _overlap(report: Report) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the photograph and of the grid's window that show the same pixels."""
    x, y, width, height = _grid(report)
    x0, x1 = max(x, 0), min(x + width, report.photograph.width)
    y0, y1 = max(y, 0), min(y + height, report.photograph.height)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture or a plane (H, W[, C]), no side longer than `side` [px]; itself where it is none already."""
    scale = side / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    method = cv2.INTER_AREA if width < pixels.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=method)


def printable(text: str) -> bool:
    """Whether the font of the pages has every character of a text."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return all(font.get_char_index(ord(character)) for character in text if not character.isspace())


def sheet(
    title: str,
    notice: str,
    pictures: list[tuple[np.ndarray, str]],
    tables: list[tuple[str, list[tuple[str, ...]], tuple[float, ...]]],
    foot: str,
    per_row: float,
) -> "list[Figure]":
    """A4 pages as matplotlib Figures: title, notice, captioned square pictures, tables; the foot ends the first page.

    Rows without room there continue on the next page, under the same title, notice and heading.
    tables: (heading, rows of cells, where each column starts as a share of the width); a row's last cell is wrapped.
    per_row: the width over a picture's side; as many pictures as fit stand in a row.
    """
    from matplotlib.figure import Figure  # a second of import time that only the PDF needs

    left, width, line, top, floor = 0.07, 0.86, 0.0119, 0.975, 0.025
    pages: list[Figure] = []

    def wrap(text: str, x: float, size: float = 7.5, bold: bool = False, end: float = 1.0) -> list[str]:
        return textwrap.wrap(text, max(12, int((end - x) * width * 8.27 * (112 if bold else 128) / size))) or [""]

    def write(text: str, x: float, at: float, size: float = 7.5, bold: bool = False, end: float = 1.0) -> float:
        """Wrapped text below `at` on the last page; the height it took."""
        lines = wrap(text, x, size, bold, end)
        for number, each in enumerate(lines):
            baseline = at - (number + 0.8) * line * size / 7.5
            pages[-1].text(
                left + x * width, baseline, each, fontsize=size, weight="bold" if bold else "normal", parse_math=False
            )
        return len(lines) * line * size / 7.5

    def begin(words: str) -> float:
        """A new page under these words; where its room begins."""
        pages.append(Figure(figsize=(8.27, 11.69)))
        y = top - write(words, 0, top, 13, True) - 0.3 * line
        return y - write(notice, 0, y, bold=True) - 0.8 * line

    y = begin(title)
    lowest = floor + len(wrap(foot, 0)) * line
    write(foot, 0, lowest)  # first: what it cautions about must not push it off the page
    lowest += 0.7 * line
    columns = max(1, int(per_row))
    side = width / per_row
    tall = side * 8.27 / 11.69
    for first in range(0, len(pictures), columns):
        said = 1.7 * line  # two lines of a caption, or as many as the longest has
        for column, (picture, caption) in enumerate(pictures[first : first + columns]):
            axes = pages[-1].add_axes((left + column * width / columns, y - tall, side, tall), anchor="NW")
            axes.imshow(picture, interpolation="none")
            axes.set_axis_off()
            said = max(said, write(caption, column / columns, y - tall - 0.1 * line, 6.5, end=(column + 1) / columns))
        y -= tall + said + 0.5 * line
    for heading, rows, starts in tables:
        above = heading
        for row in rows:
            height = max(len(wrap(cell, x)) for cell, x in zip(row, starts, strict=False)) * line
            height += (len(wrap(above, 0, 9, True)) * 1.2 + 0.3) * line if above else 0
            if y - height < lowest:
                y, lowest, above = begin(f"{title}, continued"), floor, above or f"{heading} (continued)"
            if above:
                y -= write(above, 0, y, 9, True) + 0.3 * line
            y -= max(write(cell, x, y) for cell, x in zip(row, starts, strict=False))
            above = ""
        y -= 0.7 * line
    return pages
