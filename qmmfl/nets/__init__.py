"""The networks: parallel synthesis nets, one encoder per modality, fusion, additive heads."""

from .network import Config, Network, Output

__all__ = ["Config", "Network", "Output"]
