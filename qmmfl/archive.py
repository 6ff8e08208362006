"""Weights in one file, for machines without a network: a ZIP whose hashes are checked before anything is unpacked.

The members are stored, not compressed, so that none can be larger than the archive itself.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from . import atlas, weights
from .records import WeightsError

SUMS = "SHA256SUMS"
SUFFIX = ".qmmfl.zip"
_KNOWN = {SUMS, *weights.FILES, *weights.EXTRAS}
_SMALL = 2**22  # [bytes], more than any card, licence or list of sums has
_CHUNK = 2**20
_AGAIN = "copy the file again, or export it again with `qmmfl weights export`"


def write(folder: Path, target: Path) -> Path:
    """The verified weights in `folder` as one archive; returns its path.

    target: a file, or a folder in which the archive is named after the weights.
    Raises WeightsError or AtlasError where a file is not what was written, OSError where it cannot be written.
    """
    card = weights.verify(folder)
    with contextlib.suppress(atlas.AtlasMissing):
        atlas.load(folder, card.sha256)
    if target.is_dir():
        target = target / f"{card.name}-{card.version}-{card.sha256[:8]}{SUFFIX}"
    names = [name for name in (*weights.FILES, *weights.EXTRAS) if (folder / name).is_file()]
    sums = "".join(f"{weights.digest(folder / name)}  {name}\n" for name in names)
    partial = target.with_name(target.name + ".partial")
    try:
        # A ZIP knows no date before 1980, which a file of a reproducible build or of a lost clock has.
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
            archive.writestr(SUMS, sums)
            for name in names:
                archive.write(folder / name, name)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def read(source: Path, folder: Path) -> weights.Card:
    """Check the archive `source`, unpack it to `folder` (new or empty) and return the card.

    Raises WeightsError where the archive is not whole, not ours, or the folder is in use; OSError where it cannot be
    written. Until every hash is right nothing is unpacked.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WeightsError(f"{folder} is in use; name a new or an empty folder with --out")
    try:
        with _open(source) as archive:
            members = _check(archive, source.name)
            card = _read_card(archive, source.name)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".weights-") as temporary:
                unpacked = Path(temporary) / "whole"
                unpacked.mkdir()
                for name in members:
                    with archive.open(name) as member, (unpacked / name).open("wb") as file:
                        shutil.copyfileobj(member, file, _CHUNK)
                if folder.exists():
                    folder.rmdir()
                os.replace(unpacked, folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise WeightsError(f"{source.name} is damaged or not an archive of weights; {_AGAIN}") from error
    return card


def _open(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {source}; check the name") from error
    except OSError as error:
        raise WeightsError(f"{source} cannot be read: {error.strerror or error}; check the name") from error


def _check(archive: zipfile.ZipFile, name: str) -> list[str]:
    """Names of the members to unpack. Only known, flat, stored ones pass, each with the hash that the list gives."""
    members = archive.infolist()
    names = [member.filename for member in members]
    stored = all(m.compress_type == zipfile.ZIP_STORED and not m.flag_bits & 1 for m in members)
    small = all(m.file_size <= _SMALL for m in members if m.filename not in (weights.MODEL, weights.ATLAS))
    if not {SUMS, *weights.FILES} <= set(names) <= _KNOWN or len(set(names)) < len(names) or not stored or not small:
        raise WeightsError(f"{name} is not an archive of weights as qmmfl writes them; {_AGAIN}")
    sums = archive.read(SUMS).decode("ascii", "replace").splitlines()
    names.remove(SUMS)
    for member in names:
        with archive.open(member) as file:
            if f"{_digest(file)}  {member}" not in sums:
                raise WeightsError(f"{member} in {name} is not the file that was exported; {_AGAIN}")
    return names


def _read_card(archive: zipfile.ZipFile, name: str) -> weights.Card:
    """The card, which must fit this version of the package and name the tensors beside it. Raises WeightsError."""
    try:
        card = weights.Card.from_dict(json.loads(archive.read(weights.CARD)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{weights.CARD} in {name} cannot be read; {_AGAIN}") from error
    with archive.open(weights.MODEL) as file:
        if _digest(file) != card.sha256:
            raise WeightsError(f"{weights.MODEL} in {name} is not the file its card describes; {_AGAIN}")
    return card


def _digest(file: IO[bytes]) -> str:
    state = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        state.update(chunk)
    return state.hexdigest()
