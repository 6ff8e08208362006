"""The networks in OpenVINO, on a processor: quicker than torch, in less memory, the same planes to 1e-4.

Scores are the same to some 1e-3 of a logit: encoders see planes of 8 bits (`blocks.eight_bit`), and where a value lies
between two grey levels the last digit of a kernel tells to which it goes.

They are built from the tensors of the weights, so that torch is not even imported.
"""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np

from .. import labels
from . import arrays
from .config import OUTPUTS, PEAKS, Config
from .runtime import NotFinite, Scores

_FUSION = "fusion"


class Accelerated:
    """Runs the networks of `config` with the tensors of `state`; one photograph at a time."""

    def __init__(self, config: Config, state: Mapping[str, np.ndarray]) -> None:
        """Raises KeyError, ValueError or RuntimeError where the tensors do not fit the config."""
        openvino, graphs = _openvino()
        self.config, self.name = config, f"openvino {openvino.__version__.partition('-')[0]} on cpu"
        self.weight, self.bias = (np.asarray(state[f"heads.{each}"], np.float32) for each in ("weight", "bias"))
        if self.weight.shape != (len(OUTPUTS), len(labels.MODALITIES), 2 * config.features):
            raise ValueError("the heads are of another size")
        settings: dict[str, str | bool] = {"PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_PRECISION_HINT"] = "f32"  # some processors would take bf16
        settings["ENABLE_CPU_PINNING"] = False  # every process would keep to the first core, however many there are
        if os.environ.get("OMP_NUM_THREADS", "").isdigit():  # whoever bounds torch bounds this too
            settings["INFERENCE_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
        core = openvino.Core()

        def compiled(build) -> Any:
            return core.compile_model(build(), "CPU", settings).create_infer_request()

        builds = {
            name: partial(graphs.synthesis_graph, state, name, each) for name, each in config.synthesis.items()
        } | {_FUSION: partial(graphs.fusion_graph, state, config)}
        with ThreadPoolExecutor() as pool:
            self._requests = dict(zip(builds, pool.map(compiled, builds.values()), strict=True))
        self._spoilt = {_graph_of(key) for key, each in state.items() if not np.isfinite(each).all()}

    def start(self, square: np.ndarray) -> "AcceleratedPass":
        """A canonical square, uint8 (S, S, 3) RGB, made into the nets' inputs."""
        return AcceleratedPass(self, np.stack([plane * np.float32(1 / 255) for plane in cv2.split(square)]))

    def infer(self, name: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs of one graph, in memory that it uses again the next time.

        Raises NotFinite where its tensors hold NaN, which a ReLU would hide.
        """
        if name in self._spoilt:
            raise NotFinite
        outputs = self._requests[name].infer(inputs, share_inputs=True, share_outputs=True)
        return [outputs[number] for number in range(len(outputs))]

    def release(self, name: str) -> None:
        """Give back what a graph's activations take, 30 MB of the fusion; its last outputs with them.

        They are asked for anew at its next run, which costs that run some milliseconds.
        """
        self._requests[name].get_compiled_model().release_memory()


class AcceleratedPass:
    """See `runtime.Pass`."""

    def __init__(self, runtime: Accelerated, square: np.ndarray) -> None:
        self.runtime = runtime
        encoder = runtime.config.seen(labels.COLOUR.name)
        nets = {net.size for net in runtime.config.synthesis.values()}
        self.colours = {size: arrays.pooled(square, size) for size in {encoder, *nets}}
        self.arranged = {size: arrays.arrange(self.colours[size]) for size in nets}
        self.fields = {size: (arrays.brightest(each) > 0).astype(np.float32) for size, each in self.colours.items()}
        self.planes: dict[str, np.ndarray] = {}

    def synthesize(self, modality: str) -> np.ndarray:
        """float32 (k, s, s) in 0..1."""
        net = self.runtime.config.synthesis[modality]
        made, *total = self.runtime.infer(modality, [self.arranged[net.size][arrays.SEEN[net.inputs]]])
        if not np.isfinite(total[0] if total else made).all():
            raise NotFinite
        planes = arrays.recolour(made, self.colours[net.size]) if net.head == "affine" else made
        self.planes[modality] = planes * self.fields[net.size]
        return self.planes[modality]

    def view(self, modality: str) -> np.ndarray:
        """See `runtime.Pass`."""
        side = self.runtime.config.seen(modality)
        if modality == labels.COLOUR.name:
            return arrays.colour_view(arrays.arrange(arrays.eight_bit(self.colours[side])))
        return arrays.eight_bit(arrays.pooled(self.planes[modality], side, peaks=modality in PEAKS)) * 2 - 1

    def fuse(self) -> Scores:
        """See `runtime.Pass`."""
        weight, bias = self.runtime.weight, self.runtime.bias
        (fused,) = self.runtime.infer(_FUSION, [self.view(modality.name) for modality in labels.MODALITIES])
        means = fused.mean(axis=(2, 3))
        logits = bias + np.einsum("kmd,md->k", weight, means)
        maps = np.einsum("kmd,mdp->kmp", weight, fused.reshape(*means.shape, -1), optimize=True)
        self.runtime.release(_FUSION)
        if not (np.isfinite(logits).all() and np.isfinite(maps).all()):
            raise NotFinite
        maps = maps.reshape(*weight.shape[:2], *fused.shape[2:])
        return Scores(logits, bias, maps, means[:, : self.runtime.config.features])


def _graph_of(key: str) -> str:
    return key.split(".")[1] if key.startswith("synthesis.") else _FUSION


def _openvino() -> tuple[Any, Any]:
    """OpenVINO and the graphs that need it, with its telemetry out of reach: it would tell of every import."""
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    from . import graphs

    return openvino, graphs
