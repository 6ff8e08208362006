"""qmmfl read: photographs into a folder of reports."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .status import INTERRUPTED, OK, REFUSED, complain, load, named, offer_weights

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from ..weights import Card


def declare(verbs) -> None:
    """Add the verb to the parser."""
    read = verbs.add_parser("read", help="read photographs into a folder of reports")
    read.add_argument("paths", nargs="+", type=named, metavar="PATH", help="photographs or folders of them")
    read.add_argument("--out", required=True, type=named, metavar="DIR", help="folder for the reports")
    read.add_argument("--no-planes", action="store_true", help="leave out the synthesized planes")
    read.add_argument("--no-pdf", action="store_true", help="leave out report.pdf, which takes longest to write")
    read.add_argument("--restart", action="store_true", help="begin anew; by default a stopped run goes on")
    read.add_argument("--cluster", metavar="ADDRESS", help="read on a Ray cluster (auto, local or ray://host:port)")
    read.set_defaults(run=_read)
    offer_weights(read)


def _read(options: argparse.Namespace) -> int:
    from .. import results, runs

    if any(os.path.isdir(each) and os.path.isdir(options.out) and options.out.samefile(each) for each in options.paths):
        return complain("results cannot lie in a folder that is read; name another with --out")
    if next(results.find_photographs(options.paths, options.out), None) is None:
        endings = " ".join(results.ENDINGS)
        return complain(f"there is no photograph in the folders named; photographs end in {endings}, or are DICOM")
    try:
        card, reader, runtime = _prepare(options)
    except ValueError as error:  # weights that cannot be used, or no such device
        return complain(str(error))
    try:
        with redirect_stdout(_Lasting(sys.stdout)), redirect_stderr(_Lasting(sys.stderr)):
            return _screen(options, card, reader, runtime)
    except runs.RunError as error:
        return complain(str(error))
    except OSError as error:
        fault = error.strerror or type(error).__name__
        return complain(f"cannot write to {options.out}: {fault}; make room, or name another folder")
    except KeyboardInterrupt:
        print("\nqmmfl: stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _prepare(options: argparse.Namespace) -> tuple["Card", "Pipeline | None", str]:
    """The weights' card, the pipeline, which on a cluster each worker makes for itself by these options, and what runs
    the networks.
    """
    from .. import weights

    if options.cluster:
        folder, options.source, banner = weights.find_or_stand_in(options.weights)
        if banner:
            print(f"qmmfl: {banner}", file=sys.stderr)
            options.weights = None  # each worker would try, and wait, for itself
        options.runtime, options.device = _choose(options.runtime, options.device)
        return weights.verify(folder), None, f"{options.runtime} on {options.device}"
    reader = load(options)
    return reader.card, reader, reader.runtime.name


def _choose(runtime: str, device: str) -> tuple[str, str]:
    """Runtime and device for all workers, by what this machine has where they are "auto": one table is of one kind.

    Raises ValueError for what cannot be had.
    """
    from ..nets import runtime as runtimes

    chosen = runtimes.choose(runtime, device)
    if chosen == runtimes.TORCH and device == "auto":
        import torch

        return chosen, "cuda" if torch.cuda.is_available() else "cpu"
    return chosen, "cpu" if device == "auto" else device


def _load_worker(source: str | Path | None, device: str, runtime: str, *, called: str) -> "Pipeline":
    """The pipeline of one worker, whose reports call the weights as the machine does that began the run: only there it
    is known which weights those in use stand in for.
    """
    from .. import pipeline

    reader = pipeline.load(source, device, runtime)
    reader.source = called
    return reader


class _Lasting:
    """A stream of this process. Where nobody reads on (`| head`, a terminal that was closed) what is written is lost,
    and the eyes are read all the same.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115 (lives as long as we do)

    def write(self, text: str) -> int:
        """As the stream's own, but never raises OSError."""
        self._last(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """As the stream's own, but never raises OSError."""
        self._last(self._stream.flush)

    def _last(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # also for what is still held back and written at the end
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _screen(options: argparse.Namespace, card: "Card", reader: "Pipeline | None", runtime: str) -> int:
    """Read what has no row yet, with progress and the time left on standard error."""
    from tqdm import tqdm

    from .. import cluster, results, runs, screening

    parts = results.Parts(pdf=not options.no_pdf, planes=not options.no_planes)
    begin = {"card": card.digest, "runtime": runtime, "restart": options.restart, "again": options.paths}
    with runs.Run(options.out, card.sha256, parts, **begin) as run:
        if run.counts:
            print(f"qmmfl: {run.counts.total()} are read already; going on", file=sys.stderr)
        total = sum(1 for _ in run.pending(options.paths))
        sources = run.pending(options.paths)
        if reader is None:
            folder = options.weights and Path(options.weights).is_dir()  # a worker has another working directory
            source = Path(options.weights).absolute() if folder else options.weights
            make = partial(_load_worker, source, options.device, options.runtime, called=options.source)
            rows = cluster.screen(sources, run, make, address=options.cluster)
        else:
            rows = screening.screen(sources, run, reader)
        pause = 0.5 if sys.stderr.isatty() else 30  # [s] between two lines in a log
        bar = tqdm(rows, total=total, unit="eye", file=sys.stderr, mininterval=pause, dynamic_ncols=True)
        outcome = OK  # of what is named now; what an earlier call was refused stands in the table
        for row in bar:
            refused = row["status"] == results.REFUSED
            outcome = REFUSED if refused else outcome
            line = f"{row['status']:<11} {row['reason' if refused else 'input']}"
            stream = sys.stderr if refused else sys.stdout
            bar.write(line, file=stream)
            stream.flush()
        try:
            results.write_parquet(options.out / runs.SUMMARY)
        except ValueError:  # a spreadsheet that saves .5 as 0,5
            print(f"qmmfl: another program changed numbers in {runs.SUMMARY}: no {runs.PARQUET}", file=sys.stderr)
        counted = ", ".join(f"{count} {status}" for status, count in sorted(run.counts.items()))
        print(f"qmmfl: {counted}; {options.out / runs.SUMMARY}", file=sys.stderr)
        return outcome
