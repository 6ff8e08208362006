"""qmmfl: quasi-multimodal feature learning for colour fundus photographs. Research use, not a medical device.

import qmmfl
pipeline = qmmfl.load()            # embedded weights; or a folder, or "owner/repo@revision" on the Hub
report = pipeline("eye.jpg")       # records.Report
report.to_dict()                   # report.json
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"  # stands here alone: a Space runs a checkout that was never installed

__all__ = ["Photograph", "PhotographError", "Pipeline", "Report", "WeightsError", "explain", "labels", "load", "read"]

if TYPE_CHECKING:
    from . import explain, labels
    from .photograph import read
    from .pipeline import Pipeline, load
    from .records import Photograph, PhotographError, Report
    from .weights import WeightsError

# torch takes seconds to import: nothing heavy is imported until it is asked for.
_HOMES = {
    "Photograph": "records",
    "PhotographError": "records",
    "Report": "records",
    "Pipeline": "pipeline",
    "load": "pipeline",
    "read": "photograph",
    "WeightsError": "weights",
}


def __getattr__(name: str) -> Any:
    if name in ("labels", "explain"):
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
