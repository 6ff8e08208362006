"""Many eyes: a stream of photographs through decoding, networks and writing, which can be stopped and goes on.

Each stage has a thread and works while the others do; a few eyes at most are between two stages, so memory stays flat.
"""

import errno
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2

from . import evidence, laterality, photograph, results
from .records import Photograph, PhotographError, Report
from .results import OK, REFUSED, UNGRADABLE
from .runs import Run, stamp

Reader = Callable[[Photograph], Report]
Row = dict[str, str]
A = TypeVar("A")
B = TypeVar("B")

_DECODED, _READ = 2, 1  # eyes that may wait between two stages
_NAMELESS = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)  # of a file system that takes no such name
# What torch, OpenCV, numpy and matplotlib raise on an eye they cannot cope with (no memory, a number that is none), and
# decoders on a file whose fields are of other types than they thought: it must not end a run over thousands.
_FAILURES = (RuntimeError, MemoryError, ArithmeticError, ValueError, LookupError, cv2.error)
_FAILURES += (AttributeError, TypeError, AssertionError, struct.error)


@dataclass(frozen=True, eq=False)
class Item:
    """One input on its way through the stages; what is known of it grows.

    path: where to read it. shown: what summary.csv calls it. folder: the name of its report's. stamp: of the file that
    was read (see `runs.stamp`). is_dicom: whether it is DICOM.
    refusal: the sentence that says why there will be no report. lacks: that which says what the report is without.
    """

    path: Path
    shown: str
    folder: str
    stamp: str = ""
    is_dicom: bool = False
    photograph: Photograph | None = None
    report: Report | None = None
    refusal: str | None = None
    lacks: str | None = None


def screen(sources: Iterable[Path], run: Run, reader: Reader) -> Iterator[Row]:
    """Read the sources that have no row yet and yield their rows, in order, each written before it is handed out.

    sources: as `run.pending` gives them. reader: photograph -> report, for example a Pipeline. A bad file gives a row
    and stops nothing.
    Raises OSError where results cannot be written.
    """
    decoded = _ahead(decode, claim(sources, run), _DECODED)
    for item in _ahead(partial(analyse, reader=reader), decoded, _READ):
        row = write(item, run.path, run.parts)
        run.append(row)
        yield row


def claim(sources: Iterable[Path], run: Run) -> Iterator[Item]:
    """The sources that `run` has no row of, each once."""
    for path in sources:
        folder = run.claim(path)
        if folder is not None:
            yield Item(path, results.show(path), folder)


def read_eye(item: Item, reader: Reader, folder: Path, parts: results.Parts) -> Row:
    """One eye from file to row: `decode`, `analyse` and `write`."""
    return write(analyse(decode(item), reader), folder, parts)


def decode(item: Item) -> Item:
    """With the photograph, or refused."""
    # Before it is read, so that it is never of a later file.
    item = replace(item, stamp=stamp(item.path), is_dicom=results.is_dicom(item.path))
    return _attempt(item, lambda: replace(item, photograph=photograph.read(item.path)))


def analyse(item: Item, reader: Reader) -> Item:
    """With the report, or refused."""
    picture = item.photograph
    if picture is None:
        return item

    def read() -> Item:
        return replace(item, report=laterality.settled(evidence.sided(reader(picture))))

    return replace(_attempt(item, read), photograph=None)


def write(item: Item, folder: Path, parts: results.Parts) -> Row:
    """Write the report below `folder` and return the row, which the caller appends. Raises OSError.

    An eye on which a network failed is refused, with a partial report (see `runs.Run`).
    """
    report = item.report
    if report is not None:
        item = _attempt(item, lambda: _written(item, folder / item.folder, parts))
        if item.refusal is None:
            status, values = OK if report.quality.gradable else UNGRADABLE, results.summarise(report)
            values["reason"] = " ".join(filter(None, (values["reason"], item.lacks)))
            if report.failures:
                status, values["reason"] = REFUSED, f"{results.show(item.path.name)}: {values['reason']}"
            return _row(item, status, folder=results.show(item.folder), stamp=item.stamp, **values)
    return _row(item, REFUSED, reason=results.show(item.refusal or ""))


def _written(item: Item, folder: Path, parts: results.Parts) -> Item:
    if item.report is not None:
        source = item.path if item.is_dicom else None
        try:
            item = replace(item, lacks=results.write_report(folder, item.report, parts, source))
        except OSError as error:
            if error.errno not in _NAMELESS:
                raise
            fault = f"No report of {item.path.name} can be written: the disk takes no folder of that name"
            raise PhotographError(f"{fault}; rename the photograph and read it again.") from None
    return item


def _attempt(item: Item, step: Callable[[], Item]) -> Item:
    """What `step` makes of the item, or the item refused: one eye never stops the others. OSError passes."""
    try:
        return step()
    except PhotographError as error:
        return replace(item, refusal=str(error))
    except _FAILURES as error:
        sentence = f"Cannot read {item.path.name}: its analysis failed ({type(error).__name__}); try it alone."
        return replace(item, refusal=sentence)


def _row(item: Item, status: str, **values: Any) -> Row:
    row = dict.fromkeys(results.SUMMARY_COLUMNS, "") | {"input": item.shown, "status": status, **values}
    return {key: str(value) for key, value in row.items()}


def _ahead(function: Callable[[A], B], items: Iterable[A], count: int) -> Iterator[B]:
    """function(item) of each, in order, computed by a thread that is up to `count` items ahead of the reader."""
    pool = ThreadPoolExecutor(1)
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
