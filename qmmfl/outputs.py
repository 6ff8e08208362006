"""The JSON files that the verbs write, and by them what of a folder is ours: no result is a photograph to read."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import MappingProxyType

import filelock

from . import labels

REPORT, EXPLANATION, WHATIF = "report.json", "explanation.json", "whatif.json"
EVIDENCE, ATLAS = "evidence.json", "atlas.json"
PDF, PLANES = "report.pdf", "planes"
DICOM = "report.dcm"  # the PDF in the patient's study, where the photograph came as DICOM
_SIGN = b'"weights_sha256"'  # in each of the JSON files; other programs have a report.json, too
_PICTURES = MappingProxyType(  # what lies beside each of them and would be taken for a photograph, or holds such
    {
        REPORT: {PLANES, DICOM},
        EXPLANATION: {"map.png", "map_values.png", "shares.png", *(f"map_{name}.png" for name in labels.BY_NAME)},
        WHATIF: {"whatif.png"},
        EVIDENCE: {"evidence.png"},
        ATLAS: {"atlas.png", "neighbours.png"},
    }
)


def partial(path: Path) -> Path:
    """Where a file is written before it is put in place."""
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def replacing(path: Path, text: str, others: Collection[str] = ()) -> Iterator[None]:
    """Inside, what lies beside the JSON file of a verb is written: its pictures, and `others`.

    What lies there of another eye goes first; `path` is put in place last, with `text`: where it lies, all is there and
    of one eye. Where writing fails nothing is left. Raises OSError, and ValueError where another program's file has one
    of these names, or another command is writing here.
    """
    names = [*sorted({*_PICTURES[path.name], *others}), path.name]  # last what says whose the others are

    def clear() -> None:
        for name in names:
            (path.parent / name).unlink(missing_ok=True)

    path.parent.mkdir(parents=True, exist_ok=True)
    begun = partial(path)
    with _alone(path):
        foreign = [] if is_ours(path) else [name for name in names if os.path.lexists(path.parent / name)]
        if foreign:
            raise ValueError(f"{path.parent} holds {' and '.join(foreign)} of another program; name another folder")
        try:
            begun.write_text(text, encoding="utf-8")  # until it is in place it says whose the pictures are
            clear()
            yield
            os.replace(begun, path)
        except BaseException:
            clear()
            raise
        finally:
            begun.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While another command writes the same file, its pictures would be mixed with ours, or lost with them."""
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(f"another command is writing to {path.parent}; wait for it, or name another folder") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def is_ours(path: Path) -> bool:
    """Whether this is a JSON file of ours, or one was being written there when a run was stopped."""
    for each in (path, partial(path)):
        try:
            if _SIGN in each.read_bytes():
                return True
        except OSError:
            continue
    return False


def find_pictures(folder: Path, names: Collection[str]) -> set[str]:
    """Which of the names in `folder` are pictures that a verb wrote, or the folder of a report's planes.

    Only those, for results may have been written into a folder of photographs.
    """
    found = set()
    for file, pictures in _PICTURES.items():
        path = folder / file
        if (file in names or partial(path).name in names) and is_ours(path):
            found |= pictures.intersection(names)
    return found
