"""The command line. Nothing heavy is imported before a verb needs it."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from . import explaining, reading, serving, storing
from .status import INTERRUPTED, OK, REFUSED, USAGE

__all__ = ["INTERRUPTED", "OK", "REFUSED", "USAGE", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0 if every input was read, 1 if some were refused, 2 for wrong usage, 130 if stopped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a log's encoding lacks must not end a run of many eyes
            stream.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(
        "qmmfl",
        description="Reads colour fundus photographs: synthesized modalities, findings, grade, and where they come "
        "from. Research demonstration, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"qmmfl {__version__}")
    verbs = parser.add_subparsers(dest="verb", title="verbs")
    for group in (reading, explaining, serving, storing):
        group.declare(verbs)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "The embedded weights are in use")  # verbs say it on one line, the page shows it
    if options.verb is None:
        parser.print_help()
        return USAGE
    try:
        status = options.run(options)
        if sys.stdout:  # a service may have none
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        print("\nqmmfl: stopped", file=sys.stderr)
        return INTERRUPTED
