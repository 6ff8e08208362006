"""Settings of a training run: frozen dataclasses whose fields are the command line's options."""

import argparse
import dataclasses
import multiprocessing
import typing
from collections.abc import Sequence
from pathlib import Path

RUNS = Path("runs")  # git-ignored: caches, checkpoints and logs
FRESH = multiprocessing.get_context("spawn")  # a worker forked while OpenCV has threads waits for them for ever


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What every stage shares. One step is one batch; a run stopped before `steps` resumes where it was."""

    steps: int = 2000
    batch: int = 8
    rate: float = 2e-3  # peak learning rate of AdamW, reached after 5 % of the steps, then cosine to zero
    decay: float = 1e-2  # weight decay
    seed: int = 0
    threads: int = 1  # CPU threads; two threads on shared cores are slower than one
    device: str = "auto"
    validate: int = 500  # steps between validations
    save: int = 50  # steps between checkpoints: what an interrupted run loses at most
    data: Path = Path("../shared/data")
    start: Path | None = None  # best.pt, a folder of weights or "imagenet" to start from, where there is no checkpoint
    seconds: float = 0  # where given, the cosine ends after so long at the latest, for a machine that is lent
    drawers: int = 0  # threads that draw batches ahead, where a GPU would wait for them
    run: str = "first"  # name of the run below runs/


def parse(recipe: type[Recipe], arguments: Sequence[str] | None = None, **choices: Sequence[str]) -> tuple:
    """Read `recipe`'s fields from the command line. `choices` are positional arguments with their allowed values.

    Returns (recipe, *positional values). Exits with usage on an unknown or ill-typed option.
    """
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, allowed in choices.items():
        parser.add_argument(name, choices=allowed)
    hints = typing.get_type_hints(recipe)
    for field in dataclasses.fields(recipe):
        kind = Path if Path in typing.get_args(hints[field.name]) else hints[field.name]
        if kind is bool:
            parser.add_argument(f"--{field.name}", action=argparse.BooleanOptionalAction, default=field.default)
            continue
        parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    values = vars(parser.parse_args(arguments))
    positional = [values.pop(name) for name in choices]
    return recipe(**values), *positional
