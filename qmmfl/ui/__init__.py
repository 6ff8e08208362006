"""The page: one or both eyes in, everything the pipeline computes out. State is per session, nothing on modules."""

from .page import build
from .server import serve

__all__ = ["build", "serve"]
