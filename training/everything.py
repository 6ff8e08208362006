"""Every stage in order: `python -m training.everything --run NAME --data FOLDER`. Stopped, it goes on where it was,
but for the cached data, which takes minutes (`--first 1` leaves it out).

With `--figures` nothing that ships is trained: every figure of the card is made anew from the weights that are there,
and from what has to be trained beside them to compare them with, in a run of its own, named after their hash. The
stages and their options stand here and nowhere else; every one of them can also be run alone. The weights that ship
were made by these stages, some of them in several sittings.
"""

import dataclasses
import subprocess
import sys
from pathlib import Path

from qmmfl import labels, weights

from .recipe import RUNS, parse

_PLANES = "--batch 16 --validate 200 --rate 0.003"
_STEPS = {labels.LESION_MAPS.name: 22_000}  # the plane that grades best, and still gaining after these
_COLOUR = "--batch 32 --decay 0.02 --validate 5000"
_LATER = "--decay 0.05 --validate 5000 --settled 2"
_COLOURS = "{run}/encoder_colour"
_LESIONS = "--validate 200 --squares 2 --coarsest 0.5"
_FIRST = "{run}/synthesis_lesions_first/best.pt"
_VESSELS = "{run}/synthesis_vessels/best.pt"
_FUSION = "--batch 32 --validate 200 --rate 0.0007 --decay 1 --pool 2 --guided 0.2"
_LATE = (labels.COLOUR.name, labels.LESION_MAPS.name)  # the encoders of the late fusion
_UNIMODAL = "--steps 1600 --batch 128 --rate 0.01 --validate 400"  # of what ships 2000 of 256
_GOING_ON = "--steps 300 --start {{run}}/{0}_coarse/best.pt --name {0}_{1} --seed {1}"


def _fusion(name: str, options: str, drop: str = "") -> tuple[str, ...]:
    """A fusion, and four that go on from it, two of them with `drop`, for their mean; `drop` is of a fusion of all
    modalities, of which the mean trusts the synthesized ones less.
    """
    parts = [f"fusion {options} {_GOING_ON.format(name, seed)}{drop if seed > 2 else ''}" for seed in (1, 2, 3, 4)]
    mean = f"soup fusion --parts {','.join(f'{name}_{seed}' for seed in (1, 2, 3, 4))} --name {name}"
    if drop:
        mean += " --trust 0.5"
    return f"fusion {options} --steps 800 --name {name}_coarse", *parts, mean


STAGES = (
    "synthesis disc_cup --steps 1500 --validate 250 --squares 8 --coarsest 0.5",
    "synthesis vessels --steps 3000 --validate 300 --batch 4",
    f"synthesis lesions --steps 2400 {_LESIONS} --name synthesis_lesions_first",
    f"synthesis lesions --steps 1500 {_LESIONS} --rate 0.001 --seed 41 --start {_FIRST} --name synthesis_lesions_on",
    "soup synthesis_lesions --parts synthesis_lesions_first,synthesis_lesions_on",
    "synthesis msi --steps 1500 --validate 250 --phantoms 116 --coarsest 1 --rate 0.003",
    f"synthesis ffa_arteriovenous --steps 320 --validate 80 --rate 0.001 --start {_VESSELS} --teacher {_VESSELS}",
    f"synthesis ffa_arterial --steps 800 --validate 200 --phantoms 60 --start {_VESSELS}",
    f"encoders colour --steps 350 {_COLOUR} --side 256 --rate 0.0008 --start imagenet --name encoder_colour_first",
    f"encoders colour --steps 150 {_COLOUR} --rate 0.0004 --start {_COLOURS}_first/best.pt --name encoder_colour_fine",
    f"encoders colour --steps 720 {_COLOUR} --side 320 --rate 0.0006 --settled 2 --start {_COLOURS}_fine/best.pt"
    " --name encoder_colour_coarse",
    f"encoders colour --steps 280 {_COLOUR} --rate 0.0004 --settled 2 --start {_COLOURS}_coarse/best.pt"
    " --name encoder_colour_sharp",
    f"encoders colour --steps 450 --batch 16 {_LATER} --rate 0.0003 --start {_COLOURS}_sharp/best.pt"
    " --name encoder_colour_even",
    f"encoders colour --steps 500 --batch 16 {_LATER} --rate 0.0004 --side 384 --mixed 0.4"
    f" --start {_COLOURS}_even/best.pt --name encoder_colour_mixed",
    f"encoders colour --steps 240 --batch 32 {_LATER} --rate 0.0004 --mixed 0.4 --start {_COLOURS}_mixed/best.pt"
    " --name encoder_colour_broad",
    f"encoders colour --steps 400 --batch 16 {_LATER} --rate 0.0004 --mixed 0.4 --start {_COLOURS}_broad/best.pt"
    " --name encoder_colour_more",
    f"encoders colour --steps 360 --batch 16 {_LATER} --rate 0.0004 --mixed 0.4 --start {_COLOURS}_more/best.pt"
    " --name encoder_colour_a",
    f"encoders colour --steps 360 --batch 16 {_LATER} --rate 0.0004 --seed 1 --start {_COLOURS}_more/best.pt"
    " --name encoder_colour_b",
    "soup encoder_colour --parts encoder_colour_a,encoder_colour_b --name encoder_colour_mean",
    f"encoders colour --steps 450 --batch 16 {_LATER} --rate 0.0004 --mixed 0.4 --seed 5"
    f" --start {_COLOURS}_mean/best.pt --name encoder_colour_later",
    "soup encoder_colour --parts encoder_colour_mean,encoder_colour_later",
    "heads colour --steps 2000 --batch 256 --rate 0.01 --validate 500",
    f"encoders colour --steps 920 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0005 --seed 11"
    f" --start {_COLOURS}_heads/best.pt --name encoder_colour_c",
    f"encoders colour --steps 920 --batch 16 --validate 5000 --settled 2 --rate 0.0004 --seed 12 --mixed 0.4"
    f" --start {_COLOURS}_heads/best.pt --name encoder_colour_d",
    "soup encoder_colour --parts encoder_colour_c,encoder_colour_d",
    "heads colour --steps 2000 --batch 256 --rate 0.01 --validate 500 --name encoder_colour_refit",
    f"encoders colour --steps 510 --batch 16 --validate 5000 --settled 2 --rate 0.0004 --seed 13 --mixed 0.4"
    f" --start {_COLOURS}_refit/best.pt --name encoder_colour_e",
    f"encoders colour --steps 545 --batch 16 --validate 5000 --settled 2 --rate 0.0005 --seed 14 --mixed 0.4"
    f" --start {_COLOURS}_refit/best.pt --name encoder_colour_f",
    "soup encoder_colour --parts encoder_colour_refit,encoder_colour_e,encoder_colour_f --name encoder_colour_calm",
    f"encoders colour --steps 724 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0005 --seed 15"
    f" --start {_COLOURS}_calm/best.pt --name encoder_colour_g",
    "soup encoder_colour --parts encoder_colour_calm,encoder_colour_g --name encoder_colour_keen",
    f"encoders colour --steps 450 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0005 --seed 46"
    f" --start {_COLOURS}_keen/best.pt --name encoder_colour_i",
    "soup encoder_colour --parts encoder_colour_keen,encoder_colour_i --name encoder_colour_sure",
    f"encoders colour --steps 316 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0005 --seed 48"
    f" --start {_COLOURS}_sure/best.pt --name encoder_colour_j",
    "soup encoder_colour --parts encoder_colour_sure,encoder_colour_j --name encoder_colour_apart",
    # Those that ship learnt the first 550 of these steps from photographs out of shape as they are stored, and from
    # retakes that were enhanced (`enhancement`) in the last two sittings alone.
    f"encoders colour --steps 850 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0006 --seed 49"
    f" --start {_COLOURS}_apart/best.pt",
    "heads colour --steps 2000 --batch 256 --rate 0.01 --validate 500 --name encoder_colour_k",
    f"encoders colour --steps 1364 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0007 --seed 52"
    f" --start {_COLOURS}_k/best.pt --name encoder_colour_n",
    "soup encoder_colour --parts encoder_colour_k,encoder_colour_n",
    "heads colour --steps 2000 --batch 256 --rate 0.01 --validate 500 --name encoder_colour_p",
    f"encoders colour --steps 1186 --batch 16 --decay 0.02 --validate 5000 --settled 2 --rate 0.0006 --seed 53"
    f" --start {_COLOURS}_p/best.pt --name encoder_colour_q",
    "soup encoder_colour --parts encoder_colour_p,encoder_colour_q",
    "planes",
    *(f"encoders {modality.name} --steps {_STEPS.get(modality.name, 800)} {_PLANES}" for modality in labels.SYNTHESES),
    *_fusion("fusion_mean", _FUSION, " --drop 0.3"),
    *(f"unimodal {name} {_UNIMODAL}" for name in _LATE),
    f"late_fusion --unimodal {','.join(_LATE)} --shares 2,2,1",
    "export --out weights",
)
FIGURES = (
    "evaluate --weights weights",
    "stress --weights weights",
    "leave_out --phantoms 60 --into weights",
    "leave_out --phantoms 0 --into weights",
    "planes --start weights",
    "ablate fusions --steps 240 --batch 24 --validate 240 --rate 0.0015 --decay 1 --pool 2 --guided 0.2"
    " --start weights",
    # From what ships, so that the photograph alone has learnt at least as long.
    *_fusion("fusion_colour", f"{_FUSION} --modalities colour --start weights"),
    f"unimodal {labels.COLOUR.name} {_UNIMODAL} --start weights",
    "pretrain colour --steps 300 --batch 32 --side 160 --validate 300",
    "ablate photographs --steps 240 --batch 32 --side 160 --rate 0.002 --validate 240",
    "ablate figures --pool 2 --side 160 --final --into weights --start weights",
    "sanity --weights weights --maps exact:fused,exact:lesions,exact:disc_cup,gradients:colour --deep 4",
    "atlas --weights weights",
)


@dataclasses.dataclass(frozen=True)
class Order:
    """run: name below runs/, by default "first", or for the figures one that only these weights have.

    data: the folder of data sets; first: the stage to begin with, counted from 0. figures: only what fills the card of
    the weights that are there.
    """

    run: str = ""
    data: str = "../shared/data"
    first: int = 0
    figures: bool = False


def commands(order: Order) -> list[list[str]]:
    """One command line per stage, the cached data first."""
    lines = ["data", *(() if order.figures else STAGES), *FIGURES][order.first :]
    # What a run has cached and trained belongs to its own weights: figures of others must not be taken from it.
    own = f"figures_{weights.read_card(Path('weights')).sha256[:8]}" if order.figures else "first"
    run = order.run or own
    return [
        [sys.executable, "-m", f"training.{name}", *rest, "--run", run, "--data", order.data]
        for name, *rest in (line.format(run=RUNS / run).split() for line in lines)
    ]


if __name__ == "__main__":
    for command in commands(parse(Order)[0]):
        print("+", " ".join(command[1:]), flush=True)
        subprocess.run(command, check=True)
