"""Memory that is free given back to the system, so that a server holds between readings what it needs, no more."""

import ctypes
import sys


def release() -> None:
    """Hand free pages back: glibc keeps them otherwise, some 100 MB after a reading. Elsewhere nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)
