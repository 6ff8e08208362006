"""Photograph, planes, truth and error side by side: `python -m training.gallery lesions --out FOLDER`.

One PNG per eye of a set. Those of real photographs are written outside the repository only.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qmmfl import labels, pipeline

from . import pixels
from .recipe import Settings, parse

SIDE = 1024  # [px] of the square on which planes and truth are compared
SETS = {
    "lesions": (pixels.lesions, labels.LESION_MAPS.planes),
    "disc_cup": (pixels.disc_cup, labels.DISC_CUP.planes),
    "vessels": (pixels.vessels, labels.VESSELS.planes),
    "angiograms": (pixels.angiograms, labels.FFA_ARTERIOVENOUS.planes),
}
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class GalleryRecipe(Settings):
    """out: folder for the pictures; split: train, val or test; limit: eyes at most."""

    weights: Path = Path("weights")
    out: Path = Path("gallery")
    split: str = "test"
    limit: int = 12


def draw(reader: pipeline.Pipeline, sample: pixels.Sample, names: tuple[str, ...]) -> Figure:
    """The planes `names` of one eye in rows made, true and difference; the photograph on the left."""
    report = reader(np.ascontiguousarray(sample.square), override=True)
    figure = Figure((2.6 * (1 + len(names)), 8.2), layout="constrained")
    axes = figure.subplots(3, 1 + len(names), squeeze=False)
    axes[0, 0].imshow(sample.square)
    axes[0, 0].set_title(sample.name, fontsize=8)
    care = sample.care > 0
    for column, name in enumerate(names, start=1):
        made, true = report.planes[name].pixels, sample.truth[column - 1] / 255
        rows = (("synthesized", made, "gray"), ("truth", true, "gray"), ("difference", abs(made - true), "magma"))
        for row, (title, plane, colours) in enumerate(rows):
            axes[row, column].imshow(plane * (care if title == "difference" else 1), cmap=colours, vmin=0, vmax=1)
            axes[row, column].set_title(f"{labels.PLANE_TITLES[name]}, {title}", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


def read(kind: str, recipe: GalleryRecipe) -> Iterator[tuple[pixels.Sample, tuple[str, ...]]]:
    """Samples of one set with the planes whose truth they hold."""
    if kind == "simulated":
        seeds = range(20_000, 20_000 + recipe.limit)
        yield from ((sample, labels.PLANES) for sample in pixels.phantoms(SIDE, seeds, labels.PLANES))
    else:
        source, names = SETS[kind]
        yield from ((sample, names) for sample in source(recipe.data, recipe.split, SIDE))


if __name__ == "__main__":
    settings, chosen = parse(GalleryRecipe, kind=("simulated", *SETS))
    if chosen != "simulated" and settings.out.resolve().is_relative_to(REPOSITORY):
        raise SystemExit(f"{settings.out} lies in the repository: real photographs stay out of it, name another --out")
    settings.out.mkdir(parents=True, exist_ok=True)
    net = pipeline.load(settings.weights, "cpu")
    for number, (eye, planes) in enumerate(read(chosen, settings)):
        if number == settings.limit:
            break
        path = settings.out / f"{chosen}_{eye.name.replace(' ', '_')}.png"
        draw(net, eye, planes).savefig(path, dpi=110)
        print(path)
