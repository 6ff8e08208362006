"""A ZeroGPU Space's GPU, which is lent for one call at a time; everywhere else calls are just calls."""

import os
from collections.abc import Callable
from typing import Any

SECONDS = 60  # of GPU time that one reading or explanation may take


def is_lent() -> bool:
    """Whether this is a ZeroGPU Space with the `spaces` package; imports it, which must be before torch is."""
    if os.environ.get("SPACES_ZERO_GPU", "").lower() not in ("1", "true", "t"):
        return False
    try:
        import spaces  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def borrow(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, on a GPU where one is lent. It then runs in a process of its own: what goes in and out is pickled."""
    if not is_lent():
        return work
    import spaces  # pyright: ignore[reportMissingImports]

    return spaces.GPU(duration=SECONDS)(work)
