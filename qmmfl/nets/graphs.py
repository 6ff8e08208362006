"""The nets as OpenVINO graphs, built from the tensors of the weights alone: no torch, no tracing.

Every function adds the layers of its twin in `blocks`, `synthesis`, `encoders` or `fusion`, with batch norms folded
into the convolutions; a test compares them, so that neither can be changed alone.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino.opset13 as ops
from openvino import Model

from .. import labels
from .config import STAGES, Config, EncoderConfig, SynthesisConfig

Node = Any  # openvino.Node or one of its outputs: every operation takes both

_EPSILON = 1e-5  # torch's, of batch and layer norms


class Layers:
    """Adds layers to nodes (1, C, H, W), each with the tensors below a name of a state dict."""

    def __init__(self, state: Mapping[str, np.ndarray]) -> None:
        self.state = state

    def tensor(self, name: str) -> np.ndarray:
        """float32, whatever it is stored as."""
        return np.asarray(self.state[name], np.float32)

    def convolve(self, x: Node, name: str, norm: str | None = None, stride: int = 1) -> Node:
        """Convolution that keeps the size (divided by `stride`), with a batch norm folded into it.

        One whose filters see fewer channels than `x` has filters every channel on its own.
        """
        weight, bias = self.tensor(f"{name}.weight"), np.float32(0)
        if f"{name}.bias" in self.state:
            bias = self.tensor(f"{name}.bias")
        if norm is not None:
            mean, variance, scale, shift = (
                self.tensor(f"{norm}.{each}") for each in ("running_mean", "running_var", "weight", "bias")
            )
            gain = scale / np.sqrt(variance + np.float32(_EPSILON))
            weight, bias = weight * gain[:, None, None, None], (bias - mean) * gain + shift
        pad = [weight.shape[-1] // 2] * 2
        alone = weight.shape[1] < x.get_output_shape(0)[1]
        convolution = ops.group_convolution if alone else ops.convolution
        made = convolution(x, weight[:, None] if alone else weight, [stride] * 2, pad, pad, [1, 1])
        return ops.add(made, bias.reshape(1, -1, 1, 1))

    def block(self, x: Node, name: str, stride: int = 1) -> Node:
        """`blocks.ConvBlock`."""
        return ops.relu(self.convolve(x, f"{name}.0", f"{name}.1", stride))

    def residual(self, x: Node, name: str) -> Node:
        """`blocks.ResidualBlock`."""
        inner = self.convolve(self.block(x, f"{name}.first"), f"{name}.second.0", f"{name}.second.1")
        return ops.relu(ops.add(x, inner))

    def descend(self, x: Node, name: str) -> list[Node]:
        """`mobile.MobileTrunk.levels`."""
        x, found = _relu6(self.convolve(x, f"{name}.stem.0", f"{name}.stem.1", 2)), []
        for number, (_, stride, _) in enumerate(STAGES):
            if stride == 2:
                found.append(x)
            for block in itertools.count():
                if f"{name}.stages.{number}.{block}.body.0.weight" not in self.state:
                    break
                x = self.invert(x, f"{name}.stages.{number}.{block}", 1 if block else stride)
        return [*found, x]

    def invert(self, x: Node, name: str, stride: int) -> Node:
        """`mobile.InvertedResidual`."""
        inner = x
        if f"{name}.body.6.weight" in self.state:  # the first stage does not expand
            inner = _relu6(self.convolve(inner, f"{name}.body.0", f"{name}.body.1"))
            filtered, projected = 3, 6
        else:
            filtered, projected = 0, 3
        inner = _relu6(self.convolve(inner, f"{name}.body.{filtered}", f"{name}.body.{filtered + 1}", stride))
        inner = self.convolve(inner, f"{name}.body.{projected}", f"{name}.body.{projected + 1}")
        same = stride == 1 and list(x.get_output_shape(0)) == list(inner.get_output_shape(0))
        return ops.add(x, inner) if same else inner

    def enlarge(self, x: Node, name: str) -> Node:
        """`blocks.PixelShuffleUp`."""
        return ops.depth_to_space(self.convolve(x, f"{name}.0"), "depth_first", 2)

    def linear(self, tokens: Node, name: str) -> Node:
        """torch.nn.Linear on tokens (1, L, C)."""
        made = ops.matmul(tokens, self.tensor(f"{name}.weight"), False, True)
        return ops.add(made, self.tensor(f"{name}.bias"))

    def norm(self, tokens: Node, name: str) -> Node:
        """torch.nn.LayerNorm over the channels of tokens (1, L, C)."""
        made = ops.mvn(tokens, np.array([-1]), True, _EPSILON, "inside_sqrt")
        return ops.add(ops.multiply(made, self.tensor(f"{name}.weight")), self.tensor(f"{name}.bias"))

    def calibrate(self, x: Node, name: str) -> Node:
        """`blocks.ChannelCalibration`."""
        gate = ops.reduce_mean(x, np.array([2, 3]), True)
        gate = ops.relu(self.convolve(gate, f"{name}.gate.1"))
        return ops.add(x, ops.multiply(x, ops.sigmoid(self.convolve(gate, f"{name}.gate.3"))))

    def attend(self, query: Node, context: Node, name: str, heads: int) -> Node:
        """`blocks.CrossModalAttention`."""
        tokens = _tokens(query)
        q = _split(self.linear(self.norm(tokens, f"{name}.norm_query"), f"{name}.query"), heads)
        both = self.linear(self.norm(_tokens(context), f"{name}.norm_context"), f"{name}.key_value")
        k, v = (_split(part, heads) for part in ops.split(both, np.int64(2), 2).outputs())
        seen = ops.transpose(ops.scaled_dot_product_attention(q, k, v), np.array([0, 2, 1, 3]))
        seen = ops.reshape(seen, np.array(list(tokens.get_output_shape(0))), False)
        tokens = ops.add(tokens, self.linear(seen, f"{name}.out"))
        inner = self.linear(self.norm(tokens, f"{name}.mlp.0"), f"{name}.mlp.1")
        tokens = ops.add(tokens, self.linear(ops.gelu(inner, "erf"), f"{name}.mlp.3"))
        flat = ops.transpose(tokens, np.array([0, 2, 1]))
        return ops.reshape(flat, np.array(list(query.get_output_shape(0))), False)


def synthesis_graph(state: Mapping[str, np.ndarray], name: str, config: SynthesisConfig) -> Model:
    """Prepared input (channels, size, size) -> planes (planes, size, size) in 0..1, and the sum of their logits.

    The sum is finite where every logit is, which the sigmoid would hide. An affine head's maps are handed out as they
    are, (planes * 4, size / unshuffle, size / unshuffle), for `arrays.recolour`: enlarged here they take 60 MB.
    """
    layers, root = Layers(state), f"synthesis.{name}"
    given = ops.parameter([config.channels, config.size, config.size], np.float32)
    x = ops.unsqueeze(given, np.int64(0))
    skips = layers.descend(x, f"{root}.trunk") if config.depths else _descend(layers, x, root, config)
    x = skips[-1]
    for level in reversed(range(len(skips) - 1)):
        x = layers.residual(ops.add(skips[level], layers.enlarge(x, f"{root}.up.{level}")), f"{root}.decoder.{level}")
    x = layers.convolve(x, f"{root}.head.0")
    if config.head == "affine":
        return Model([ops.squeeze(x, np.int64(0))], [given], name)  # pyright: ignore[reportGeneralTypeIssues]
    x = ops.depth_to_space(x, "depth_first", config.unshuffle)
    total = ops.reduce_sum(x, np.array([0, 1, 2, 3]))
    return Model([ops.squeeze(ops.sigmoid(x), np.int64(0)), total], [given], name)  # pyright: ignore[reportGeneralTypeIssues]


def _descend(layers: Layers, x: Node, root: str, config: SynthesisConfig) -> list[Node]:
    x = layers.block(ops.space_to_depth(x, "depth_first", config.unshuffle), f"{root}.stem.1")
    skips = []
    for level in range(len(config.widths)):
        x = layers.residual(layers.block(x, f"{root}.down.{level - 1}", 2) if level else x, f"{root}.encoder.{level}")
        skips.append(x)
    return skips


def encoder_graph(state: Mapping[str, np.ndarray], modality: str, config: Config) -> Model:
    """What one modality's encoder sees (k, v, v) -> its features (D, h, w)."""
    encoder, side = config.encoders[modality], config.seen(modality)
    given = ops.parameter([encoder.inputs, side, side], np.float32)
    x = _encode(Layers(state), ops.unsqueeze(given, np.int64(0)), f"encoders.{modality}", encoder)
    return Model([ops.squeeze(x, np.int64(0))], [given], modality)  # pyright: ignore[reportGeneralTypeIssues]


def fusion_graph(state: Mapping[str, np.ndarray], config: Config) -> Model:
    """What each modality's encoder sees (k, v, v), ordered as `labels.MODALITIES` -> `Network.fuse` (M, 2 D, h, w)."""
    layers = Layers(state)
    given, features = [], []
    for modality in labels.MODALITIES:
        encoder, side = config.encoders[modality.name], config.seen(modality.name)
        view = ops.parameter([encoder.inputs, side, side], np.float32)
        given.append(view)
        features.append(_encode(layers, ops.unsqueeze(view, np.int64(0)), f"encoders.{modality.name}", encoder))
    seen = [layers.calibrate(x, f"fusion.calibration.{number}") for number, x in enumerate(features)]
    context = layers.convolve(ops.concat(seen, 1), "fusion.context.0", "fusion.context.1")
    context = ops.relu(context)
    fused = [layers.attend(x, context, f"fusion.attention.{m}", config.heads) for m, x in enumerate(seen)]
    fused = [ops.concat(list(pair), 1) for pair in zip(fused, features, strict=True)]
    return Model([ops.concat(fused, 0)], given, "fusion")  # pyright: ignore[reportGeneralTypeIssues]


def _encode(layers: Layers, x: Node, name: str, config: EncoderConfig) -> Node:
    if config.depths:
        x = layers.descend(x, f"{name}.0")[-1]
        return ops.relu(layers.convolve(x, f"{name}.1", f"{name}.2"))
    if config.unshuffle > 1:
        x = ops.space_to_depth(x, "depth_first", config.unshuffle)
    for number, kind in enumerate("bbrbrrbrr"):  # as in `encoders.Encoder`: blocks halve, residual blocks keep
        x = layers.block(x, f"{name}.{number}", 2) if kind == "b" else layers.residual(x, f"{name}.{number}")
    return ops.relu(layers.convolve(x, f"{name}.9", f"{name}.10"))


def _relu6(x: Node) -> Node:
    return ops.clamp(x, 0.0, 6.0)


def _tokens(x: Node) -> Node:
    """(1, C, H, W) -> (1, H * W, C)."""
    flat = ops.reshape(x, np.array([0, 0, -1]), True)
    return ops.transpose(flat, np.array([0, 2, 1]))


def _split(tokens: Node, heads: int) -> Node:
    """(1, L, C) -> (1, heads, L, C / heads)."""
    return ops.transpose(ops.reshape(tokens, np.array([0, 0, heads, -1]), True), np.array([0, 2, 1, 3]))
