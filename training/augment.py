"""Colour-safe augmentation of canonical squares, on batches and on the device they are on.

Squares are float32 (B, 3, S, S) in 0..1, black outside the field of view; the field stays black.
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EQUALISED = 0.15  # share of the photographs whose channels are equalised, as those of one set are


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform random numbers in low..high, drawn on the CPU so that a seed means the same everywhere."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def colour(squares: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Another exposure, white balance, gamma and illumination; hue is only nudged, since it carries disease."""
    count = len(squares)
    field = (squares.amax(dim=1, keepdim=True) > 0).to(squares.dtype)
    exposure = torch.exp(uniform(-0.6, 0.35, (count, 1, 1, 1), generator) * strength)
    balance = torch.exp(uniform(-0.15, 0.15, (count, 3, 1, 1), generator) * strength)
    gamma = torch.exp(uniform(-0.3, 0.3, (count, 1, 1, 1), generator) * strength)
    light = torch.exp(uniform(-0.35, 0.35, (count, 1, 4, 4), generator) * strength)
    light = F.interpolate(light, squares.shape[-2:], mode="bicubic", align_corners=True)
    gain = (exposure * balance).to(squares) * light.to(squares)
    return (squares.clamp_min(1e-4) ** gamma.to(squares) * gain).clamp(0, 1) * field


def equalise(squares: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """In some squares every channel is replaced by its rank inside the field: histogram equalisation."""
    result = squares.clone()
    for index in range(len(squares)):
        if torch.rand((), generator=generator) < chance:
            inside = squares[index].amax(dim=0) > 0
            levels = (squares[index] * 255).long()
            for channel, values in enumerate(levels):
                ranks = torch.bincount(values[inside], minlength=256).cumsum(0).to(squares) / inside.sum().clamp_min(1)
                result[index, channel] = ranks[values] * inside
    return result


def resolution(squares: Tensor, generator: torch.Generator, coarsest: float, chance: float = 0.5) -> Tensor:
    """A camera of fewer pixels: some squares are scaled down by up to `coarsest` and up again; then sensor noise."""
    result = squares.clone()
    for index in range(len(squares)):
        if torch.rand((), generator=generator) < chance:
            factor = float(uniform(coarsest, 1.0, (), generator))
            small = F.interpolate(squares[index : index + 1], scale_factor=factor, mode="area")
            result[index] = F.interpolate(small, squares.shape[-2:], mode="bilinear", align_corners=False)[0]
    noise = torch.randn(squares.shape, generator=generator).to(squares)
    noise = noise * uniform(0, 0.02, (len(squares), 1, 1, 1), generator).to(squares)
    return (result + noise).clamp(0, 1) * (squares.amax(dim=1, keepdim=True) > 0)


def compress(squares: Tensor, generator: torch.Generator, chance: float = 0.4) -> Tensor:
    """Some squares as they come back from a small, lossy file: fewer pixels, then JPEG of quality 15 to 90."""
    result = squares.clone()
    side = squares.shape[-1]
    for index in range(len(squares)):
        if torch.rand((), generator=generator) < chance:
            share, quality = (float(uniform(*span, (), generator)) for span in ((0.5, 1.0), (15, 90)))
            pixels = (squares[index].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
            pixels = cv2.resize(pixels, (round(side * share),) * 2, interpolation=cv2.INTER_AREA)
            stored = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
            pixels = cv2.resize(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR)), (side, side))[..., ::-1]
            result[index] = torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(squares) / 255
    return result * (squares.amax(dim=1, keepdim=True) > 0)


def magnify(
    tensors: list[Tensor], generator: torch.Generator, most: float = 0.6, chance: float = 0.4
) -> tuple[list[Tensor], Tensor]:
    """Some squares as a camera of a narrower field sees them, by up to exp(most): the same part of all (B, C, S, S).

    What is left fills the square's own circle, as the canonical square of such a photograph does; 0 outside it. Also
    the share of the field's diameter that is left of each (B,).
    """
    count = len(tensors[0])
    drawn = torch.rand(count, generator=generator) < chance
    scale = torch.exp(-uniform(0, most, (count,), generator) * drawn)
    move = uniform(-1, 1, (count, 2), generator) * (1 - scale)[:, None]
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = scale, scale, move
    which = drawn.nonzero()[:, 0]
    result = [tensor.clone() for tensor in tensors]
    for made in result if len(which) else ():
        grid = F.affine_grid(matrix[which].to(made), list(made[which].shape), align_corners=False)
        axis = torch.arange(made.shape[-1]) - (made.shape[-1] - 1) / 2
        circle = torch.hypot(axis[:, None], axis) <= made.shape[-1] / 2
        made[which] = F.grid_sample(made[which], grid, align_corners=False) * circle.to(made)
    return result, scale


def flip(tensors: list[Tensor], generator: torch.Generator, upside: bool = True) -> list[Tensor]:
    """The same random mirror (and, if `upside`, quarter turn) of all tensors (B, C, S, S), one draw for the batch."""
    across, turns = torch.randint(0, 2, (), generator=generator), torch.randint(0, 4, (), generator=generator)
    if across:
        tensors = [tensor.flip(-1) for tensor in tensors]
    return [torch.rot90(tensor, int(turns), (-2, -1)) for tensor in tensors] if upside else tensors


def turn(tensors: list[Tensor], generator: torch.Generator, degrees: float, zoom: float, shift: float) -> list[Tensor]:
    """The same random rotation, zoom and shift (shares of the side) of all (B, C, S, S), one draw per square."""
    count = len(tensors[0])
    angle = uniform(-degrees, degrees, (count,), generator) * math.pi / 180
    scale = torch.exp(uniform(-zoom, zoom, (count,), generator))
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    move = uniform(-shift, shift, (count, 2), generator) * 2
    rows = [torch.stack([cosine, -sine, move[:, 0]], 1), torch.stack([sine, cosine, move[:, 1]], 1)]
    matrix = torch.stack(rows, 1).to(tensors[0])
    return [
        F.grid_sample(tensor, F.affine_grid(matrix, list(tensor.shape), align_corners=False), align_corners=False)
        for tensor in tensors
    ]
