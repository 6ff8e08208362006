"""The page's border: every fault reaches the page as one sentence."""

import errno
import functools
import html
import logging
import secrets
import traceback
from collections.abc import Callable
from typing import Any

from ..guard import gradio
from ..records import PhotographError

NO_ROOM = "The disk of the server is full, so the answer could not be stored; make room on it and ask again."
GONE = (
    "The case was deleted, since the page was not used for an hour, or many others were opened since: choose the "
    "photographs again, without clearing the page, and your review comes back when they are read."
)
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Stopped(Exception):
    """The reader asked for the analysis to stop, or the case is gone."""


def told(function: Callable) -> Callable:
    """Every fault reaches the page as one sentence; a fault of ours is logged without its message."""

    @functools.wraps(function)
    def wrapped(*arguments, **options):
        try:
            return function(*arguments, **options)
        except PhotographError as error:
            raise _said(str(error), "Not read") from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise _said(NO_ROOM, "Not stored") from None
            if _ours(error):  # an explanation, an atlas: one sentence with its reason
                raise _said(str(error), "Not shown") from None
            mark = secrets.token_hex(3)
            where = "".join(traceback.format_tb(error.__traceback__))
            logging.getLogger(__name__).error("reference %s: %s\n%s", mark, type(error).__name__, where)
            sentence = f"The analysis failed and no result is shown; quote reference {mark} when you report it."
            raise _said(sentence, "Internal error", 20) from None

    return wrapped


def in_place(function: Callable[..., str]) -> Callable[..., str]:
    """Of a function that answers in HTML: what we refuse is said where the answer would be, and stays there."""

    @functools.wraps(function)
    def wrapped(*arguments):
        try:
            return function(*arguments)
        except ValueError as error:
            if not _ours(error):
                raise
            return said_html(str(error))

    return wrapped


def said_html(sentence: str) -> str:
    """A refusal in the place of an answer, announced by screen readers."""
    whole = sentence[0].upper() + sentence[1:].removesuffix(".")
    return f'<p class="empty" role="status">{html.escape(whole)}.</p>'


def warn(sentence: str, title: str = "Not read") -> None:
    """A message beside the answer that is shown all the same."""
    gradio().Warning(html.escape(sentence), 12, title=title)


def warn_gone() -> None:
    """Say that the case of the page is no more; what belongs to it must not be lost in silence."""
    warn(GONE, "Case deleted")


def _said(sentence: str, title: str, seconds: int = 12) -> Exception:
    """What Gradio shows as a message."""
    gr: Any = gradio()
    return gr.Error(html.escape(sentence), seconds, title=title, print_exception=False)


def _ours(error: Exception) -> bool:
    """Whether it is one of the package's own sentences; their modules are too heavy to import for their names."""
    return isinstance(error, ValueError) and type(error).__module__.startswith("qmmfl.")
