"""summary.csv of a run as it is found: its whole rows, whatever a stop or another program made of the rest."""

import contextlib
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cells, results

NAME = "summary.csv"
_MARK = "\ufeff"  # that a spreadsheet may write before the first byte of a table


class RunError(ValueError):
    """A folder of results that a run must not go on in. The text is one sentence with the cure."""


@dataclass(frozen=True)
class Row:
    """One input. number: of its line in the table, from 1. It lies between two bytes of the file. cells: by column."""

    number: int
    begin: int
    end: int
    cells: Mapping[str, str]


class Table:
    """The rows of a file. `whole`: where the last whole one ends [bytes], once `rows` were read through."""

    def __init__(self, file: Path) -> None:
        self.file, self.whole = file, 0

    def rows(self) -> Iterator[Row]:
        """Its rows up to one that was torn when the run was stopped.

        Raises RunError where it is another table, or has whole rows behind one that cannot be read; OSError.
        """
        with self.file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
            lines = _Lines(opened)
            rows = csv.reader(lines)
            with contextlib.suppress(csv.Error):  # what a power failure can leave at the end
                yield from self._whole_rows(lines, rows)
        with self.file.open("rb") as opened:
            opened.seek(self.whole)
            if _holds_rows(opened.read()):
                raise RunError(
                    f"{NAME} in {self.file.parent} cannot be read from its byte {self.whole} on: another program saved "
                    "it with other line ends, or a quote stands open; mend it, or begin anew with --restart"
                )

    def _whole_rows(self, lines: "_Lines", rows: Iterator[list[str]]) -> Iterator[Row]:
        header = next(rows, [])
        if lines.torn:
            return
        if header:
            header[0] = header[0].removeprefix(_MARK)
        if header != list(results.SUMMARY_COLUMNS):
            raise RunError(f"{NAME} in {self.file.parent} has other columns; begin anew with --restart")
        self.whole = lines.bytes
        for number, texts in enumerate(rows, start=2):
            if lines.torn:
                return
            if texts and len(texts) != len(header):
                if any(rows):
                    raise RunError(
                        f"row {number} of {NAME} in {self.file.parent} is of {len(texts)} instead of {len(header)} "
                        "cells, and others follow it; mend or remove that row, or begin anew with --restart"
                    )
                return
            begin, self.whole = self.whole, lines.bytes
            if texts:  # else an empty line, which somebody left there
                yield Row(number, begin, self.whole, dict(zip(header, map(cells.unguard, texts), strict=True)))


def is_ours(file: Path) -> bool:
    """Whether a file begins as a summary does, or is empty."""
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        header = opened.readline(1000).lstrip(_MARK)
    return not header or header.startswith(results.SUMMARY_COLUMNS[0])


def pairs(file: Path) -> Iterator[tuple[str, str]]:
    """Folder and input of every row that can be read, however damaged the table is."""
    with (
        contextlib.suppress(csv.Error),  # what a power failure can leave at the end
        file.open(newline="", encoding="utf-8-sig", errors="replace") as opened,
    ):
        for row in csv.DictReader(opened):
            yield cells.unguard(row.get("folder") or ""), cells.unguard(row.get("input") or "")


def drop(file: Path, rows: Sequence[Row]) -> None:
    """Take rows, in order, out of a table."""
    with results.placing(file) as partial, file.open("rb") as old, partial.open("wb") as new:
        for row in rows:
            new.write(old.read(row.begin - old.tell()))
            old.seek(row.end)
        new.write(old.read())


def _holds_rows(rest: bytes) -> bool:
    """Whether behind its first line the rest of a table holds whole rows: then that was no row torn by a stop."""
    for line in rest.splitlines(keepends=True)[1:]:
        with contextlib.suppress(csv.Error):
            texts = next(csv.reader([line.decode("utf-8", "replace").rstrip("\r\n")]), [])
            if line.endswith((b"\r", b"\n")) and len(texts) == len(results.SUMMARY_COLUMNS):
                return True
    return False


class _Lines:
    """The lines of a file, counting the bytes handed out; torn: the last one has no end."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file, self.bytes, self.torn = iter(file), 0, True

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.bytes += len(line.encode("utf-8", "surrogateescape"))
        self.torn = not line.endswith("\n")  # a spreadsheet that saved the table may have dropped our carriage returns
        return line
