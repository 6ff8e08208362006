"""The viewer, as HTML: every picture of one eye over its photograph, in two linked panes; viewer.js moves them."""

from collections.abc import Collection
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

import numpy as np

from .. import draw, labels
from ..records import Report
from .markup import Save
from .wording import CAUTIONS, UNRELIABLE

SHOWN_AT_FIRST = ("MA", "HE", "EX", "SE", "disc", "cup")  # layers; the vessels are one click away
FIRST_BAND = "msi_550"  # where haemoglobin absorbs most
FIRST_PAIR = ("photograph", "ffa_arteriovenous")  # of the two panes
SCORE = "score"  # the picture whose address comes with the chosen finding
PHOTOGRAPH = "Colour photograph"
KEYS = MappingProxyType(
    {
        "+ and -": "zoom in and out (or the wheel)",
        "Arrow keys": "move the picture (or drag)",
        "0": "fit the picture and reset brightness and contrast",
        "1 and 2": "one pane or two linked panes",
        "W": "the other pane: the keys below act on it",
        "N and P": "next and previous picture",
        "R": "red-free photograph (green channel)",
        "H": "heat map of the chosen finding",
        "B": "blink between the photograph and the synthesized picture, and stop",
        "[ and ]": "less and more opacity of the picture",
        "O": "all outlines and vessels off, and on again",
        "U": "outlines over both panes, or the left one only",
        "L, D, V": "lesions, disc and cup, vessels",
        "G and shift G": "brighter and darker",
        "C and shift C": "more and less contrast",
        "F": "full screen, and back (or Escape)",
        "?": "this list",
    }
)
_GROUPS = (("L", labels.LESIONS), ("D", labels.DISC_CUP.planes), ("V", labels.VESSELS.planes))


@dataclass(frozen=True)
class _Picture:
    key: str
    title: str
    address: str
    synthesized: bool = True


def viewer_html(report: Report, save: Save, side: int) -> str:
    """The photograph and every computed picture of it. An eye without planes has the photograph alone, in one pane."""

    def saved(name: str, picture: np.ndarray, kind: str) -> str:
        return escape(save(name, picture, kind))

    ground = saved("photograph", draw.photograph(report, side), "jpeg")
    pictures = [
        _Picture("photograph", PHOTOGRAPH, ground, False),
        _Picture("redfree", "Red-free (green channel)", ground, False),
    ]
    for modality in (labels.FFA_ARTERIAL, labels.FFA_ARTERIOVENOUS, labels.MSI):
        pictures += [
            _Picture(name, report.planes[name].title, saved(name, draw.plane(report, name, side), "jpeg"))
            for name in modality.planes
            if name in report.planes
        ]
    if report.maps:
        pictures.append(_Picture(SCORE, "Heat map of the chosen finding", ""))
    layers = {
        name: saved(f"layer_{name}", draw.layer(report, name, side), "png")
        for name in draw.LAYERS
        if draw.plane_name(name) in report.planes
    }
    keys = {picture.key for picture in pictures}
    chosen = [key for key in FIRST_PAIR if key in keys]
    drawn = SHOWN_AT_FIRST if report.quality.gradable else ()  # what must not be relied on is one click away
    eye = f"{report.eye.side}_" if report.eye.side else ""
    panes = "".join(_pane(number, key, pictures, ground, layers, drawn, eye) for number, key in enumerate(chosen))
    return (
        f'<section class="viewer" tabindex="0" aria-label="Picture viewer; question mark lists its keys" '
        f'data-side="{eye}" data-panes="{len(chosen)}" data-active="{len(chosen) - 1}">'
        '<svg width="0" height="0" aria-hidden="true"><filter id="redfree" color-interpolation-filters="sRGB">'
        '<feColorMatrix values="0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 0 0 1 0"/></filter></svg>'
        f'<div class="panes">{panes}</div>{_tools(len(chosen))}{_keys()}{_tiles(pictures, chosen)}'
        f"{_shades()}{_outlines(layers, drawn)}</section><p>{_cautions(report)}</p>"
    )


def _pane(
    number: int,
    chosen: str,
    pictures: list[_Picture],
    ground: str,
    layers: dict[str, str],
    at_first: Collection[str],
    eye: str,
) -> str:
    options = "".join(
        f'<option value="{each.key}" data-address="{each.address}" data-synthesized="{int(each.synthesized)}"'
        f"{' selected' if each.key == chosen else ''}>{escape(each.title)}</option>"
        for each in pictures
    )
    shown = next(each for each in pictures if each.key == chosen)
    over = f' src="{shown.address}"' if shown.synthesized else " hidden"
    label = f"{shown.title}{', synthesized' if shown.synthesized else ', as acquired'}"
    drawn = "".join(
        f'<img class="layer layer-{name}" alt="" src="{address}"'
        f"{'' if name in at_first else ' style=visibility:hidden'}>"
        for name, address in layers.items()
    )
    where = ("Left", "Right")[number]
    return (
        f'<div class="pane" data-pane="{number}"><div class="head"><select aria-label="{where} picture">{options}'
        f'</select><a href="{shown.address}" download="{eye}{shown.key}.jpg" class="keep" '
        f'aria-label="Save {where.lower()} picture">Save</a></div><div class="stage"><div class="world">'
        f'<img class="ground" src="{ground}" alt="{escape(PHOTOGRAPH)}, as acquired">'
        f'<img class="over" alt="{escape(label)}"{over}>{drawn}</div>'
        f'<span class="badge"{"" if shown.synthesized else " hidden"}>{labels.SYNTHESIZED}</span></div>'
        f'<label class="slide">Opacity<input type="range" name="opacity" min="0" max="100" value="100" '
        f'aria-label="Opacity of the {where.lower()} picture"></label></div>'
    )


def _tools(panes: int) -> str:
    buttons = [("zoom-in", "+", "Zoom in"), ("zoom-out", "−", "Zoom out"), ("fit", "Fit", "Fit and reset")]
    if panes > 1:
        buttons += [("panes", "1 / 2", "One pane or two"), ("blink", "Blink", "Blink with the photograph")]
    buttons += [("full", "Full screen", "Full screen"), ("keys", "Keys (?)", "List of keys")]
    made = "".join(
        f'<button type="button" data-act="{act}" aria-label="{name}" title="{name}">{word}</button>'
        for act, word, name in buttons
    )
    return f'<div class="tools">{made}</div>'


def _shades() -> str:
    slides = "".join(
        f'<label class="slide">{name.capitalize()}<input type="range" name="{name}" min="50" max="250" value="100">'
        "</label>"
        for name in ("brightness", "contrast")
    )
    return f'<div class="tools">{slides}</div>'


def _outlines(layers: dict[str, str], at_first: Collection[str]) -> str:
    if not layers:
        return ""
    boxes = "".join(
        f'<label><input type="checkbox" name="layer" value="{name}" data-group="{group}"'
        f'{" checked" if name in at_first else ""}><i class="swatch" style="background:rgb{draw.COLOURS[name]}">'
        f"</i>{escape(draw.LAYER_TITLES[name])}</label>"
        for group, names in _GROUPS
        for name in names
        if name in layers
    )
    return (
        f'<fieldset><legend>Outlines (synthesized)</legend>{boxes}<label><input type="checkbox" name="both">Over both '
        'panes</label><label class="slide">Opacity<input type="range" name="outlines" min="0" max="100" value="100" '
        'aria-label="Opacity of the outlines"></label></fieldset>'
    )


def _keys() -> str:
    rows = "".join(f"<dt><kbd>{escape(key)}</kbd></dt><dd>{escape(what)}</dd>" for key, what in KEYS.items())
    return (
        '<div class="keys" role="dialog" aria-label="Keys of the viewer" hidden><h2>Keys of the viewer</h2>'
        "<p>They act while the viewer has the focus. "
        f'<button type="button" data-act="keys">Close</button></p><dl>{rows}</dl></div>'
    )


def _tiles(pictures: list[_Picture], chosen: list[str]) -> str:
    """The synthesized pictures at a glance; a click brings one into the right pane."""
    first = {"ffa_arterial": "FFA, arterial", "ffa_arteriovenous": "FFA, arteriovenous", FIRST_BAND: "Band 550 nm"}
    known = {each.key: each for each in pictures}
    tiles = [(key, name, known[key].address) for key, name in {**first, SCORE: "Heat map"}.items() if key in known]
    if not tiles:
        return ""
    made = "".join(
        f'<button type="button" class="tile" data-show="{key}" aria-pressed="{str(key in chosen).lower()}"><img '
        f'alt="{escape(name)}, synthesized" {_source(address)}><span>{escape(name)}</span></button>'
        for key, name, address in tiles
    )
    return f'<div class="tiles" role="group" aria-label="Synthesized pictures; each opens in the viewer">{made}</div>'


def _source(address: str) -> str:
    return f'src="{address}"' if address else "hidden"


def _cautions(report: Report) -> str:
    if not report.planes:
        return "Nothing was computed from this photograph."
    poor = "" if report.quality.gradable else f"{UNRELIABLE} "
    return f"{poor}Angiograms: {CAUTIONS['ffa']} Bands: {CAUTIONS['msi']} Outlines: {CAUTIONS['layers']}"
