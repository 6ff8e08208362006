"""Which eye: read from a DICOM tag and the file name, compared with the photograph; a conflict is asked about."""

import re
from dataclasses import replace

from .records import Eye, Report

SIDES = ("right", "left")
OPEN, UNKNOWN, CHOSEN = "not settled", "not known", "chosen by the clinician"
CONTRARY = "disc and fovea tell different sides"
NO_MACULA = "no macula is seen where the optic disc would have it"
AGAINST_TAG = f"{CHOSEN}, against the DICOM tag"  # which is the acquisition's own record, so that a slip must show
_TOKENS = {"od": "right", "right": "right", "r": "right", "os": "left", "left": "left", "l": "left"}
_CAPITALS = {"RE": "right", "LE": "left"}  # words of many a name and language besides


def find_in_name(name: str | None) -> str | None:
    """The side that a file name tells by a word of its own (OD, OS, right, L, ...); None if it tells none or both.

    RE and LE count in capitals and where no other word follows them (12_RE.jpg, not LE_GOFF.jpg), R and L where they
    are no initial (not John_R_Smith.jpg) and no digit follows at once: R1M0 are grades of the English screening.
    iOS and macOS are no left eye.
    """
    stem = re.sub(r"\.\w{2,5}$", "", name or "")
    stem = re.sub(r"(?<![A-Za-z])(?:i|iPad|mac)OS(?![A-Za-z])", " ", stem)
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem)
    words = re.findall(r"[A-Za-z]+|[0-9]+", re.sub(r"(?<![A-Za-z])[RLrl](?=[0-9])", " ", stem))
    found = {_tell(*each) for each in zip(["", *words][:-1], words, [*words, ""][1:], strict=True)} - {None}
    return found.pop() if len(found) == 1 else None


def _tell(before: str, word: str, after: str) -> str | None:
    """The side that a word tells between its neighbours, "" where there is none."""
    if word in _CAPITALS:
        return None if after.isalpha() else _CAPITALS[word]
    is_initial = len(word) == 1 and before.isalpha() and after.isalpha()
    return None if is_initial else _TOKENS.get(word.lower())


def settle(
    named: str | None, seen: Eye, chosen: str | None = None, tagged: str | None = None
) -> tuple[Eye, str | None]:
    """The side of an eye and what it rests on; and what must be asked where the sources disagree.

    named: side in the file name. seen: side by the photograph. chosen: the clinician's word, which decides; UNKNOWN
    is a word, too. tagged: side in the tags of a DICOM file.
    """
    if tagged and chosen in SIDES and chosen != tagged:
        return Eye(chosen, AGAINST_TAG), (
            f"The DICOM tag says {tagged} eye and {chosen} was chosen: the report says {chosen}. Is that right?"
        )
    if chosen:
        return (Eye(chosen, CHOSEN) if chosen in SIDES else Eye(None, f"{CHOSEN}: {UNKNOWN}")), None
    said = [each for each in (Eye(tagged, "DICOM tag"), Eye(named, "file name"), seen) if each.side]
    if not said:
        return seen, None
    first, other = said[0], next((each for each in said if each.side != said[0].side), None)
    if other:
        return Eye(None, OPEN), (
            f"The {first.origin} says {first.side} eye, but by the {other.origin} it is a {other.side} eye. "
            "Which eye is it?"
        )
    return Eye(first.side, " and ".join(str(each.origin) for each in said)), None


def settled(report: Report, name: str | None = None) -> Report:
    """The report with the side that photograph, file name and DICOM tag agree on, for where there is nobody to ask:
    what must be asked stands among its notes, and the side stays open. name: of the file, where the report has none.
    """
    picture = report.photograph
    return noted(report, *settle(find_in_name(name or picture.name), report.eye, tagged=picture.side))


def noted(report: Report, eye: Eye, question: str | None) -> Report:
    """The report of this eye, with what must still be asked about its side among the notes."""
    picture = report.photograph
    if question:
        picture = replace(picture, notes=(*picture.notes, question))
    return replace(report, eye=eye, photograph=picture)
