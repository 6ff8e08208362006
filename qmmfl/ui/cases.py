"""What a session holds: a private folder per case, in it one per photograph; gone when the case is cleared."""

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from .. import draw, laterality, photograph
from ..evidence import Evidence
from ..guard import SWEEP, private_folder, sweep, sweep_broken
from ..records import Eye, Photograph, Report
from ..review import Review

SIDE = 1280  # [px] of the pictures on the page, at most
KEEP = 3600  # [s] a case that is not used for this long is deleted
MOST = 2  # photographs in a case: one of each eye
_MARK, _GONE, KEPT = "case-", "gone-", "kept-"  # begin the names of folders: of a case, forgotten, of files to keep


@dataclass(frozen=True, eq=False)
class Taken:
    """One photograph of a case. upload: where it was before, by which a choice that was made before the page learnt of
    `file` still names it. Its side by the file's name (named), by a DICOM tag (tagged), by the photograph (seen),
    by the clinician (chosen). readings: how often it was read. measured: whether the vessels in `evidence` were
    compared with a second reading. is_simulated: of no person. is_example: one of those that the page offers, of which
    there is always another copy.
    """

    file: Path
    upload: Path | None = None
    named: str | None = None
    tagged: str | None = None
    is_dicom: bool = False
    seen: Eye = Eye(None, None)
    chosen: str | None = None
    report: Report | None = None
    evidence: Evidence | None = None
    readings: int = 0
    measured: bool = False
    review: Review = field(default_factory=Review)
    overridden: bool = False
    is_simulated: bool = False
    is_example: bool = False

    def save(self, name: str, picture: np.ndarray, kind: str) -> str:
        """Encode a picture; the address under which the page gets it. In one reading a name is written once.

        Pictures lie apart from the photograph, whose file may have the name of one, and from those of an earlier
        reading, which may show another part of it.
        """
        path = self._place(name, kind)
        if not path.exists():  # the browser may be fetching it: never rewrite it in place
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write(path, draw.encode(picture, kind))
        return _address(path)

    @property
    def preview(self) -> str:
        """The address of the photograph before it is read."""
        return _address(self._place("preview", "jpeg"))

    def _place(self, name: str, kind: str) -> Path:
        return self.file.parent / f"reading_{self.readings}" / f"{name}.{'jpg' if kind == 'jpeg' else kind}"

    @property
    def side(self) -> int:
        """Pictures on the page are this wide [px]."""
        if self.report is None:
            return SIDE
        return min(SIDE, self.report.grid[2] if self.report.grid else self.report.photograph.width)

    def settle(self) -> tuple[Eye, str | None]:
        """The side of this eye, and what must be asked about it, or None."""
        return laterality.settle(self.named, self.seen, self.chosen, self.tagged)

    def settled(self) -> "Taken":
        """With the side in its report, as far as it is known."""
        return replace(self, report=replace(self.report, eye=self.settle()[0])) if self.report else self

    def read(self) -> Photograph:
        """Decode the file, nameless. Raises PhotographError."""
        return photograph.read(self.file, None)


@dataclass(frozen=True, eq=False)
class Case:
    """One or two photographs and what was said of them; `shown` is the index of the one on the page, which the
    clinician turned to `turns` times.
    """

    folder: Path
    eyes: tuple[Taken, ...] = ()
    shown: int = 0
    turns: int = 0

    @property
    def eye(self) -> Taken | None:
        """The one on the page."""
        return self.eyes[self.shown] if self.shown < len(self.eyes) else None

    @property
    def is_precious(self) -> bool:
        """Whether something would be lost with it: a photograph of the reader's, or a review."""
        return any(not each.is_example or each.review.given for each in self.eyes)

    @property
    def files(self) -> list[str]:
        """The photographs' own files."""
        return [str(each.file) for each in self.eyes]

    def title(self, number: int) -> str:
        """What an eye is called on the page: by its side where the two differ, else by its number."""
        sides = [each.settle()[0].side for each in self.eyes]
        side = sides[number]
        return f"{side.capitalize()} eye" if side and sides.count(side) == 1 else f"Photograph {number + 1}"

    def changed(self, number: int, **changes) -> "Case":
        """With something changed in one of its eyes."""
        eyes = list(self.eyes)
        eyes[number] = replace(eyes[number], **changes)
        return replace(self, eyes=tuple(eyes))

    def turned(self, number: int) -> "Case":
        """With an eye on the page that the clinician asked for."""
        return replace(self, shown=number, turns=self.turns + 1)

    def asked(self, file: Path | None) -> "Case | None":
        """With the eye of that file on the page, for which something was asked; None where it is gone."""
        number = next((n for n, each in enumerate(self.eyes) if each.file == file), None)
        return None if number is None else replace(self, shown=number)

    def adopt(self, read: "Case") -> "Case":
        """With what was read of these photographs in `read`, an earlier state of this case; the clinician's word of
        meanwhile stays, and what was read since. A photograph that was read anew comes onto the page, unless the
        clinician turned to another meanwhile, of which a note may be half written.
        """
        found, case, shown = {each.file: each for each in read.eyes}, self, self.shown
        for number, each in enumerate(self.eyes):
            other = found.get(each.file, each)
            if (other.readings, other.measured) <= (each.readings, each.measured):
                continue
            what = ("report", "evidence", "seen", "overridden", "readings", "measured")
            case = case.changed(number, **{name: getattr(other, name) for name in what})
            if other.readings > each.readings and other is read.eye and read.turns == self.turns:
                shown = number
        return replace(case, shown=shown)

    def questions(self) -> list[str]:
        """What must be asked about the sides of these eyes."""
        settled = [each.settle() for each in self.eyes]
        asked = [f"{self.title(n)}: {question}" for n, (_, question) in enumerate(settled) if question]
        return [*asked, *filter(None, [self._twice()])]

    def noted(self, number: int) -> Report | None:
        """The report of an eye to be kept: what must still be asked about its side stands among its notes."""
        taken = self.eyes[number]
        if taken.report is None:
            return None
        eye, question = taken.settle()
        asked = " ".join(filter(None, (question, self._twice())))
        return laterality.noted(taken.report, eye, asked or None)

    def _twice(self) -> str | None:
        """What must be asked where both photographs are said to be of one eye."""
        sides = [each.settle()[0].side for each in self.eyes]
        if len(sides) < MOST or not sides[0] or sides[0] != sides[1]:
            return None
        return f"Both photographs are said to be of the {sides[0]} eye: correct one, or remove it."


def open_case() -> Case:
    """A new case; what was forgotten is swept out."""
    sweep_forgotten()
    return Case(new_folder(private_folder(), _MARK))


def sweep_forgotten() -> None:
    """Delete the folders that were forgotten by their session, and the empty files that Gradio leaves for every choice
    of photographs.
    """
    sweep(_MARK, KEEP + SWEEP)  # later than their session, which deletes them itself
    sweep(_GONE, SWEEP)
    sweep_broken()


def hold(case: Case) -> None:
    """Say that a case is in use: neither the sweep nor Gradio, which deletes files by their age, takes it away."""
    for path in (case.folder, *case.files, *case.folder.glob(f"{KEPT}*/*")):
        with contextlib.suppress(OSError):  # cleared meanwhile
            os.utime(path)


def forget(case: Case | None) -> None:
    """Delete everything of a case; what is still being written for it finds no folder from the first moment on."""
    if case is not None:
        with contextlib.suppress(OSError):  # forgotten before
            gone = case.folder.rename(private_folder() / f"{_GONE}{secrets.token_urlsafe(18)}")
            shutil.rmtree(gone, ignore_errors=True)


def _address(path: Path) -> str:
    """Where the page gets a file, whatever the folder of temporary files is called."""
    return f"gradio_api/file={quote(path.as_posix(), safe='/:')}"


def write(path: Path, data: bytes) -> None:
    """The whole file or none."""
    part = path.with_suffix(".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def new_folder(parent: Path, mark: str = "") -> Path:
    """A folder of ours alone, whose name nobody guesses."""
    folder = parent / (mark + secrets.token_urlsafe(18))
    folder.mkdir(mode=0o700)
    return folder
