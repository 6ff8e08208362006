"""Draws examples/pipeline.png, the README's picture: a simulated eye through the shipped weights.

python examples/picture.py
"""

from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

import qmmfl
from qmmfl import draw, labels

HERE = Path(__file__).parent
SIDE = 360  # [px] of one picture


def main() -> None:
    """Read one example and write the picture."""
    report = qmmfl.load(device="cpu")(HERE / "eyes" / "simulated_right_severe_dr.jpg")
    bands = [f"msi_{nm}" for nm in (507, 586, 685)]
    tiles = {
        "Photograph (simulated eye)": draw.photograph(report, SIDE),
        "FFA, arterial phase": draw.plane(report, "ffa_arterial", SIDE),
        "FFA, arteriovenous phase": draw.plane(report, "ffa_arteriovenous", SIDE),
        **{f"Spectral band {labels.PLANE_TITLES[band]}": draw.plane(report, band, SIDE) for band in bands},
        "Lesions, disc, cup, vessels": draw.overlay(report, side=SIDE),
        "Where the DR score comes from": draw.heat(report, "DR", SIDE),
    }
    figure = Figure(figsize=(12, 6.6), dpi=110, layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 4).flat, tiles.items(), strict=True):
        axes.imshow(picture)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    figure.savefig(HERE / "pipeline.png")
    pixels = cv2.imread(str(HERE / "pipeline.png"))
    cv2.imwrite(str(HERE / "pipeline.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"pipeline.png {np.array(pixels.shape[:2]).tolist()}")


if __name__ == "__main__":
    main()
