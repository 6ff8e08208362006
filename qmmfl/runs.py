"""One screening run on disk: its settings, the rows of summary.csv, and where to go on after a stop."""

import contextlib
import csv
import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from . import __version__, cells, outputs, photograph, results, summary
from .summary import RunError

SUMMARY, SETTINGS, LOCK = summary.NAME, "run.json", ".lock"
PARQUET = "summary.parquet"
SCHEMA = 1
_CURE = "name another folder with --out, or begin anew with --restart"
_LONGEST = 200  # [bytes] of a folder's name; file systems end at 255
_TAKEN = {"", ".", "..", SUMMARY, SETTINGS, LOCK, PARQUET}  # no photograph's folder is called so


class Run:
    """The folder of one screening run: settings in run.json, summary.csv with one row per input, reports.

    Entered a second time with the same settings it goes on where it stopped. `counts`: status -> inputs, in all.
    A photograph is known by its whole path, wherever the command is called: two clinics may both have an 001.jpg.
    What was refused can go well another time: memory ran out, or a folder was closed. What was read is another eye's
    where another file lies under the photograph's path by now. summary.parquet, which is written when all are read,
    goes when a run begins: a run that is stopped leaves none that says other than summary.csv.
    """

    def __init__(
        self,
        path: Path,
        weights_sha256: str,
        parts: results.Parts,
        *,
        card: str = "",
        runtime: str = "",
        restart: bool = False,
        again: Iterable[str | Path] = (),
    ) -> None:
        """card: digest of the weights' card. runtime: what runs the networks (`Provenance.runtime`); its version may
        change. restart: remove what an earlier run left, instead of going on. again: photographs and folders of them;
        those that were refused, or replaced since, lose row and report, and are pending again.

        Raises RunError where the folder holds a run with other settings, or one that is under way; OSError.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.weights_sha256, self.card, self.parts = path, weights_sha256, card, parts
        self.counts: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._names: set[str] = set(_TAKEN)
        self._lock = filelock.FileLock(path / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"another run is writing to {path}; wait for it, or name another folder") from None
        try:
            self._refuse_foreign()
            if restart:
                self._clear()
            made_by = {"package_version": __version__, "runtime": _kind(runtime)}
            weights = {"weights_sha256": weights_sha256, "card": card}
            self._settle({"schema": SCHEMA, **weights, **made_by, **asdict(parts)})
            self._resume(again)
        except (OSError, RunError):
            self._lock.release()
            raise
        self._file = (path / SUMMARY).open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, results.SUMMARY_COLUMNS, restval="")
        if self._file.tell() == 0:
            self._writer.writeheader()
            self._file.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._lock.release()

    def pending(self, paths: Iterable[str | Path]) -> Iterator[Path]:
        """The photographs that have no row yet, in order of name."""
        return (p for p in results.find_photographs(paths, self.path) if results.show(p) not in self._seen)

    def claim(self, path: Path) -> str | None:
        """The name of the folder for the input's report; None where it has a row or was claimed before."""
        shown = results.show(path)
        if shown in self._seen:
            return None
        self._seen.add(shown)
        name = next(filter(self._is_free, _propose(path)))
        self._names.add(_fold(name))
        return name

    def append(self, row: Mapping[str, str]) -> None:
        """Add a finished input. Raises OSError, and RunError where another file lies in the table's place by now: rows
        would go into one that nobody sees any more.
        """
        file = self.path / SUMMARY
        if not file.exists() or not os.path.samestat(os.fstat(self._file.fileno()), os.stat(file)):
            raise RunError(f"another program replaced {file}; close it there, then give the same command again")
        self._writer.writerow({key: cells.guard(cell) if key in results.TEXTS else cell for key, cell in row.items()})
        self._file.flush()
        self.counts[row["status"]] += 1

    def _refuse_foreign(self) -> None:
        """Raise RunError where files of another program have the names of ours: they would be changed or deleted."""
        foreign = self._find_foreign()
        if foreign:
            raise RunError(f"{self.path} holds a {foreign} of another program; name another folder with --out")

    def _find_foreign(self) -> str | None:
        if (self.path / SETTINGS).exists():
            with contextlib.suppress(ValueError):  # damaged: whose it is the table says
                found = json.loads((self.path / SETTINGS).read_text(encoding="utf-8"))
                return None if isinstance(found, dict) and "weights_sha256" in found else SETTINGS
        if (self.path / SUMMARY).exists():
            return None if summary.is_ours(self.path / SUMMARY) else SUMMARY
        return PARQUET if (self.path / PARQUET).exists() else None

    def _settle(self, settings: dict[str, Any]) -> None:
        file = self.path / SETTINGS
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if (self.path / SUMMARY).exists():
                raise RunError(f"{self.path} holds results of another version; {_CURE}") from None
            results.place_text(file, json.dumps(settings, indent=1) + "\n")
            return
        except ValueError:
            raise RunError(f"{SETTINGS} in {self.path} cannot be read; {_CURE}") from None
        if found != settings:
            raise RunError(f"{self.path} holds {_tell_apart(found, settings)}")

    def _resume(self, again: Iterable[str | Path]) -> None:
        """Learn what has been read; cut off a last row that was torn when the run was stopped."""
        file = self.path / SUMMARY
        if not file.exists():
            (self.path / PARQUET).unlink(missing_ok=True)
            return
        named = {results.show(path): path for path in results.find_photographs(again, self.path)}
        stale, table = [], summary.Table(file)
        for row in table.rows():
            given, folder = row.cells["input"], row.cells["folder"]
            if os.path.abspath(given) != given:  # which file that was nobody knows any more
                raise RunError(
                    f"{self.path} holds results of another version, which did not write down in which folders "
                    f"its photographs lie; {_CURE}"
                )
            if not _is_folder_of(folder, given):
                raise RunError(
                    f"row {row.number} of {SUMMARY} in {self.path} names the folder {folder}, which is not that of its "
                    "photograph: another program changed it; put it back, or begin anew with --restart"
                )
            path = named.get(given)
            if path is not None and (row.cells["status"] == results.REFUSED or _was_replaced(path, row.cells)):
                stale.append(row)
            else:
                self._know(row.cells)
        (self.path / PARQUET).unlink(missing_ok=True)  # before the table changes
        os.truncate(file, table.whole)
        for row in stale:  # the report first, since a row without one is still tried again after a stop
            self._remove(row.cells["folder"])
        if stale:
            summary.drop(file, stale)

    def _know(self, row: Mapping[str, str]) -> None:
        self._seen.add(row["input"])
        self._names.add(_fold(row["folder"]))
        self.counts[row["status"]] += 1

    def _clear(self) -> None:
        """Remove the files that an earlier run wrote, and nothing else."""
        if (self.path / SUMMARY).exists():
            for folder, given in summary.pairs(self.path / SUMMARY):
                if _is_folder_of(folder, given):
                    self._remove(folder)
        for name in (SETTINGS, PARQUET, SUMMARY):
            (self.path / name).unlink(missing_ok=True)

    def _remove(self, name: str) -> None:
        """Remove the report in the folder that a row names; the row may have been written by anybody."""
        if name not in _TAKEN and name == Path(name).name and (self.path / name).is_dir():
            results.remove_report(self.path / name)

    def _is_free(self, name: str) -> bool:
        """Whether a report may go into the folder of that name: nobody else's files would be mixed with it or lost."""
        folder = self.path / name
        if _fold(name) in self._names:
            return False
        if not os.path.lexists(folder) or outputs.is_ours(folder / outputs.REPORT):
            return True
        try:
            return not any(folder.iterdir())
        except OSError:  # no folder, or a closed one
            return False


def _kind(runtime: str) -> str:
    """What runs the networks and where, without its version: "torch on cpu"."""
    return re.sub(r" \d\S*", "", runtime)


def _tell_apart(found: Any, settings: Mapping[str, Any]) -> str:
    """What a folder with other settings holds, by the first of them that differs, and the cure."""

    def differs(*keys: str) -> bool:
        return not isinstance(found, dict) or any(found.get(key) != settings[key] for key in keys)

    if differs("weights_sha256", "card"):
        return f"a run with other weights; {_CURE}"
    if differs("package_version"):
        return f"results of another version; {_CURE}"
    if differs("runtime"):
        return f"a run by another runtime ({found.get('runtime')}); choose that with --runtime and --device, {_CURE}"
    return f"a run with other options; {_CURE}"


def stamp(path: Path) -> str:
    """What tells a file from another under its path, without reading it or giving its date away; "" without a file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:16]


def _was_replaced(path: Path, row: Mapping[str, str]) -> bool:
    """Whether the file has another content than the one that was read. Only where its stamp is another is it hashed."""
    if not os.path.isfile(path) or stamp(path) == row["stamp"]:  # also where its folder was closed meanwhile
        return False
    try:
        with path.open("rb") as file:
            content = file.read(photograph.MAX_BYTES + 1)
    except OSError:  # what cannot be read does not replace what was
        return False
    return hashlib.sha256(content).hexdigest() != row["sha256"]


def _propose(path: Path) -> Iterator[str]:
    """Names for a photograph's folder: its stem, then that (shortened) with a hash of the path, longer and longer."""
    stem, digest = path.stem, hashlib.sha256(os.fsencode(path)).hexdigest()
    alone = stem.rstrip(" .")  # which Windows drops from the end of a folder's name
    if alone and len(os.fsencode(alone)) <= _LONGEST:
        yield alone
    while len(os.fsencode(stem)) > _LONGEST:
        stem = stem[:-1]
    yield from (f"{stem}-{digest[:length]}" for length in range(8, 49))


def _is_folder_of(name: str, shown: str) -> bool:
    """Whether a row's folder is one that was proposed for its photograph, both as summary.csv shows them: a spreadsheet
    makes 1 of 001.
    """
    stem = Path(shown).stem
    start, _, digest = name.rpartition("-")
    hashed = re.fullmatch("[0-9a-f]{8,48}", digest) is not None and stem.startswith(start)
    return hashed or name in ("", stem.rstrip(" ."))


def _fold(name: str) -> str:
    """A folder's name to compare by: as summary.csv shows it; some systems do not tell Eye from eye, nor an é from an e
    with its accent behind it.
    """
    return unicodedata.normalize("NFC", results.show(name)).casefold()
