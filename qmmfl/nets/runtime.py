"""What runs the networks: plain torch, or OpenVINO where it is installed. Neither is imported here."""

from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np

AUTO, TORCH, OPENVINO = RUNTIMES = ("auto", "torch", "openvino")


class NotFinite(ArithmeticError):
    """A network gave NaN or infinity."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What the fusion says about one square.

    logits, bias: (len(OUTPUTS),). maps: (len(OUTPUTS), M, h, w). features: (M, D), fused, mean over positions.
    """

    logits: np.ndarray
    bias: np.ndarray
    maps: np.ndarray
    features: np.ndarray


class Pass(Protocol):
    """One photograph on its way through the networks. Raises NotFinite, MemoryError and RuntimeError."""

    def synthesize(self, modality: str) -> np.ndarray:
        """The planes of one modality, float32 (k, s, s) in 0..1, zero outside the field of view."""
        ...

    def view(self, modality: str) -> np.ndarray:
        """What the encoder of one modality sees, float32 (k, view, view), scaled for it, once that was synthesized."""
        ...

    def fuse(self) -> Scores:
        """What encoders, fusion and heads say, after every modality was synthesized."""
        ...


class Runtime(Protocol):
    """One set of weights, ready to run. name: what a report calls it."""

    name: str

    def start(self, square: np.ndarray) -> Pass:
        """A canonical square, uint8 (S, S, 3) RGB, made into the nets' inputs."""
        ...


def choose(wanted: str, device: str) -> str:
    """TORCH or OPENVINO for one of `RUNTIMES` and a device ("auto", "cpu" or "cuda").

    AUTO is OPENVINO where it is installed and no GPU is in reach. Raises ValueError for what cannot be had.
    """
    if wanted not in RUNTIMES:
        raise ValueError(f"unknown runtime {wanted!r}; choose one of {', '.join(RUNTIMES)}")
    installed = find_spec("openvino") is not None
    if wanted == OPENVINO:
        if device == "cuda":
            raise ValueError("OpenVINO runs on the processor; choose --device cpu, or --runtime torch for a GPU")
        if not installed:
            raise ValueError('OpenVINO is not installed: pip install "qmmfl[openvino]", or choose --runtime torch')
    if wanted == AUTO:
        return OPENVINO if installed and device != "cuda" and not (device == "auto" and _has_gpu()) else TORCH
    return wanted


def _has_gpu() -> bool:
    """Whether torch can use a GPU; it is not imported, which takes seconds, where there is not even a driver."""
    if not any(find_library(name) for name in ("cuda", "nvcuda", "amdhip64")):
        return False
    import torch

    return torch.cuda.is_available()
