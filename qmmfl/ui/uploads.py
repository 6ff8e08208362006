"""What a choice of photographs makes of a case: those that are new move into it, those that are gone are deleted."""

import filecmp
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import dicom, laterality, photograph, results
from ..guard import private_folder
from ..records import PhotographError
from . import examples
from .cases import MOST, SIDE, Case, Taken, new_folder

TWICE = "This is the same photograph again; choose that of the other eye."
MIXED = "A simulated eye and a person's eye are no case: clear the case, then choose the photograph again."
MADE_WAY = "The simulated eye made way for the photograph: it is no fellow of a person's eye."
_TRIES = 6  # files of one choice that are opened: a thousand bad ones would keep the page busy


def take(case: Case, paths: list[str]) -> tuple[Case, list[str]]:
    """The case with exactly these photographs, and a sentence for each that was refused.

    New ones are moved into the case under a name of ours (the side is kept); those that are gone are deleted.
    """
    known = {str(path): each for each in case.eyes for path in (each.file, each.upload)}
    kept = list(dict.fromkeys(known[path] for path in paths if path in known))
    new, said = [Path(path) for path in paths if path not in known], []
    yields = bool(kept) and all(each.is_simulated and not each.review.given for each in kept)
    for tried, path in enumerate(new):
        alone = yields and os.path.isfile(path) and not photograph.is_simulated(path)
        if tried == _TRIES or (len(kept) == MOST and not alone):
            said.append("A case holds two photographs, one of each eye; remove one first, or clear the case.")
            for surplus in new[tried:]:
                discard(surplus)
            break
        try:
            taken = _taken(case, path, [] if alone else kept)
            if alone:
                kept, yields = [], False
                said.append(MADE_WAY)
            kept.append(taken)
        except PhotographError as error:
            said.append(str(error))
        except FileNotFoundError:  # its case was deleted, but the page still lists it beside what is chosen anew
            continue
        except OSError:  # what was taken before it stays
            said.append("The photograph could not be stored; make room on the server's disk and choose it again.")
    for each in case.eyes:
        if each not in kept:
            shutil.rmtree(each.file.parent, ignore_errors=True)
    unread = [number for number, each in enumerate(kept) if each.report is None]
    shown = unread[0] if unread else min(case.shown, max(len(kept) - 1, 0))
    return replace(case, eyes=tuple(kept), shown=shown), said


def upload_of(path: Path) -> Path:
    """A file that came through the page. Raises PhotographError for any other file of the machine."""
    try:
        ours = path.resolve().is_relative_to(private_folder())
    except (OSError, ValueError):  # too long, or with a zero byte
        ours = False
    if not ours:
        raise PhotographError("Only an uploaded photograph can be read.")
    return path


def discard(upload: Path) -> None:
    """Delete an upload that is not needed any more, with the folder that Gradio made for it; an example stays."""
    ours = upload.parent.parent == private_folder() and not _is_example(upload)
    if ours and os.path.isfile(upload):  # a name may be too long to ask
        shutil.rmtree(upload.parent, ignore_errors=True)


def _taken(case: Case, path: Path, others: list[Taken]) -> Taken:
    """Raises PhotographError also for one of `others` again: reviews are known by the bytes of their photograph."""
    source, named = upload_of(path), laterality.find_in_name(path.name)
    folder = new_folder(case.folder)
    suffix = path.suffix.lower() if path.suffix.lower() in results.ENDINGS else ".img"
    file = folder / f"{f'{named}_eye' if named else 'photograph'}{suffix}"
    taken = Taken(file, path, named)
    try:
        shutil.copyfile(source, file)
        discard(source)
        if any(filecmp.cmp(file, each.file, shallow=False) for each in others):
            raise PhotographError(TWICE)
        picture = taken.read()
        simulated = photograph.NOTE_SIMULATED in picture.notes
        if any(each.is_simulated != simulated for each in others):
            raise PhotographError(MIXED)
        step = max(1, -(-max(picture.width, picture.height) // SIDE))
        taken.save("preview", np.ascontiguousarray(picture.pixels[::step, ::step]), "jpeg")
    except (PhotographError, OSError):  # no half file where the disk is full
        shutil.rmtree(folder, ignore_errors=True)
        raise
    is_dicom = dicom.is_dicom(file.read_bytes())
    kind = {"is_dicom": is_dicom, "is_simulated": simulated, "is_example": _is_example(source)}
    return replace(taken, tagged=picture.side, **kind)


def _is_example(path: Path) -> bool:
    return path.parent.name == examples.FOLDER
