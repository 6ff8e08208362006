"""Texts in the cells of a CSV file. Spreadsheets run one that begins like a formula: an apostrophe keeps it a text."""

import re
from typing import Any

GUARDED = r"^'('*[=+\-@\t\r])"  # begins with an apostrophe of ours; \1 is what comes after it
_FORMULA = re.compile(r"^'*[=+\-@\t\r]")


def guard(value: Any) -> Any:
    """The value, a text that would be run with an apostrophe more; `unguard` takes it away again."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unguard(text: str) -> str:
    """The text as it was before `guard`."""
    return re.sub(GUARDED, r"\1", text)
