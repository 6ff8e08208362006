"""The networks: parallel synthesis nets, one encoder per modality, fusion, additive heads; and what runs them.

What shapes them is light; `Network` brings torch along when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from .config import FUNDUS, GRADABLE, GRADE, OEDEMA, OUTPUTS, THREAT, Config, EncoderConfig, SynthesisConfig

__all__ = [
    "FUNDUS",
    "GRADABLE",
    "GRADE",
    "THREAT",
    "OEDEMA",
    "OUTPUTS",
    "Config",
    "EncoderConfig",
    "Network",
    "Output",
    "SynthesisConfig",
]

if TYPE_CHECKING:
    from .network import Network, Output


def __getattr__(name: str) -> Any:
    if name in ("Network", "Output"):
        from . import network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
