"""What a verb hands back to the shell, and the options that verbs share."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..pipeline import Pipeline

OK, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130


def complain(sentence: str) -> int:
    """Say what was wrong with the call; the exit status for that."""
    print(f"qmmfl: {sentence}", file=sys.stderr)
    return USAGE


def refuse(why: Exception | str) -> int:
    """Say why a photograph was refused; the exit status for that."""
    print(f"refused     {why}", file=sys.stderr)
    return REFUSED


def named(text: str) -> Path:
    """What an option names. Raises ArgumentTypeError for an empty one, which would be the folder one is in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a name is empty; name a file or a folder")
    return Path(text)


def source(text: str) -> str:
    """The source of weights. Raises ArgumentTypeError for an empty one."""
    named(text)
    return text


def offer_weights(verb: argparse.ArgumentParser) -> None:
    """The options of every verb that runs the networks."""
    where = "folder, or owner/repo@revision on the Hub (default: embedded)"
    verb.add_argument("--weights", type=source, metavar="W", help=where)
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.add_argument(
        "--runtime",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what runs the networks on a processor (default: openvino where it is installed, which is quicker)",
    )


def load(options: argparse.Namespace) -> "Pipeline":
    """The pipeline that these options name; other weights than those asked for are told on standard error.

    Raises ValueError for weights that cannot be used, or no such device.
    """
    from .. import pipeline

    reader = pipeline.load(options.weights, options.device, options.runtime)
    if reader.banner:
        print(f"qmmfl: {reader.banner}", file=sys.stderr)
    return reader
