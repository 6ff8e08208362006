"""Draw the SIMULATED eyes of `examples/eyes/`: no photograph of a person is shipped with this project.

    python examples/simulate.py [folder]

Each file is rendered by `qmmfl.phantom` from the seed below, so its truth is known exactly and can be had
again with `render(seed, SIZE, **options)`.
"""

import sys
from pathlib import Path

import cv2

from qmmfl.phantom import Phantom, render
from qmmfl.photograph import SIMULATED

SIZE = 1024  # [px]
EYES = {
    "simulated_right_no_lesions": (46, {"side": "right", "grade": 0, "cup_ratio": 0.35, "tessellation": 0.0}),
    "simulated_left_moderate_dr": (2, {"side": "left", "grade": 2, "cup_ratio": 0.4}),
    "simulated_right_severe_dr": (7, {"side": "right", "grade": 3, "cup_ratio": 0.3, "tessellation": 0.0}),
    "simulated_left_proliferative_dr": (
        4,
        {"side": "left", "grade": 4, "cup_ratio": 0.4, "tessellation": 0.0},
    ),
    "simulated_left_large_cup": (6, {"side": "left", "grade": 0, "cup_ratio": 0.78, "drusen": False}),
    "simulated_right_drusen": (1, {"side": "right", "grade": 0, "cup_ratio": 0.4, "drusen": True}),
}


def draw(name: str) -> Phantom:
    """The eye of one example file, with its truth. Haze is off, so that the files are readable examples."""
    seed, options = EYES[name]
    return render(seed, SIZE, **{"haze": 0.0, "laser": False, "drusen": False, **options})


def main(folder: Path) -> None:
    """Write every example as JPEG, quality 92, with a comment by which it is known as simulated."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in EYES:
        picture = cv2.cvtColor(draw(name).photograph, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        if not done:
            raise OSError(f"could not encode {name}")
        (folder / f"{name}.jpg").write_bytes(marked(data.tobytes()))


def marked(jpeg: bytes) -> bytes:
    """A JPEG file with the comment in it, behind its first segment; the pixels stay the same."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    size = (2 + len(SIMULATED)).to_bytes(2, "big")
    return jpeg[:end] + b"\xff\xfe" + size + SIMULATED + jpeg[end:]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "eyes")
