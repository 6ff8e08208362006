"""Settings of a command: frozen dataclasses whose fields are the command line's options."""

import argparse
import dataclasses
import multiprocessing
import typing
from collections.abc import Sequence
from pathlib import Path

RUNS = Path("runs")  # git-ignored: caches, checkpoints and logs
WHOLE = 1_000_000  # more eyes than any set has
FRESH = multiprocessing.get_context("spawn")  # a worker forked while OpenCV has threads waits for them for ever


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every command takes, since `training.everything` gives it to all: where data and the run's files are."""

    data: Path = Path("../shared/data")
    run: str = "first"  # name of the run below runs/


@dataclasses.dataclass(frozen=True)
class Scoring(Settings):
    """What is asked of weights that are there. workers: processes of one thread each."""

    weights: Path = Path("weights")  # folder that is scored and whose card is filled in
    workers: int = 2
    repeats: int = 500  # bootstrap draws
    limit: int = WHOLE  # eyes of each set, for a rehearsal; the card is left alone then


@dataclasses.dataclass(frozen=True)
class Recipe(Settings):
    """What every stage of training shares. One step is one batch; stopped before `steps` it resumes where it was."""

    steps: int = 2000
    batch: int = 8
    rate: float = 2e-3  # peak learning rate of AdamW, reached after 5 % of the steps, then cosine to zero
    decay: float = 1e-2  # weight decay
    seed: int = 0
    threads: int = 1  # CPU threads; two threads on shared cores are slower than one
    device: str = "auto"
    validate: int = 500  # steps between validations
    save: int = 50  # steps between checkpoints: what an interrupted run loses at most
    start: Path | None = None  # best.pt, a folder of weights or "imagenet" to start from, where there is no checkpoint
    seconds: float = 0  # where given, the cosine ends after so long at the latest, for a machine that is lent
    drawers: int = 0  # threads that draw batches ahead, where a GPU would wait for them


def parse(recipe: type[Settings], arguments: Sequence[str] | None = None, **choices: Sequence[str]) -> tuple:
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
