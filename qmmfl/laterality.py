"""Which eye: read from a file name, compared with what the photograph shows, never settled silently in a conflict."""

import re

from .records import Eye

SIDES = ("right", "left")
OPEN, UNKNOWN = "not settled", "not known"
_TOKENS = {"od": "right", "right": "right", "r": "right", "re": "right", "os": "left", "left": "left", "l": "left"}
_TOKENS["le"] = "left"


def find_in_name(name: str | None) -> str | None:
    """The side that a file name tells by a word of its own (OD, OS, right, L, ...); None if it tells none or both."""
    stem = re.sub(r"\.\w{2,5}$", "", name or "")
    words = re.split(r"[^A-Za-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem))
    found = {_TOKENS[word.lower()] for word in words if word.lower() in _TOKENS}
    return found.pop() if len(found) == 1 else None


def settle(named: str | None, seen: Eye, chosen: str | None = None) -> tuple[Eye, str | None]:
    """The side of an eye and what it rests on; and a question where the file name and the photograph disagree.

    named: side in the file name. seen: side by the photograph. chosen: the clinician's word, which decides; UNKNOWN
    is a word, too.
    """
    if chosen:
        return Eye(chosen if chosen in SIDES else None, "chosen by the clinician"), None
    if named and seen.side and named != seen.side:
        return Eye(None, OPEN), (
            f"The file name says {named} eye, but by the {seen.origin} it is a {seen.side} eye. Which eye is it?"
        )
    if named:
        return Eye(named, f"file name and {seen.origin}" if seen.side else "file name"), None
    return seen, None
