"""The simulated eyes that the page offers."""

import shutil
from pathlib import Path

from ..guard import private_folder

FOLDER = "eyes"


def examples_folder() -> Path | None:
    """The simulated example photographs, packaged or beside the checkout; None where there are none."""
    here = Path(__file__).parent.parent
    return next((p for p in (here / "_examples", here.parent / "examples" / "eyes") if any(p.glob("*.jpg"))), None)


def copy_examples() -> list[Path]:
    """Copies of the examples where Gradio may serve them from."""
    source, target = examples_folder(), private_folder() / FOLDER
    target.mkdir(exist_ok=True)
    return [Path(shutil.copy(path, target)) for path in sorted(source.glob("*.jpg"))] if source else []


def title(path: Path) -> str:
    """What an example is called on the page."""
    words = path.stem.removeprefix("simulated_").split("_")
    return " ".join("DR" if word == "dr" else word for word in [words[0].capitalize(), *words[1:]])
