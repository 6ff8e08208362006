"""Photographs that nobody labelled, with what a net that has learnt, the teacher, makes of them as their truth.

Labelled eyes are few and of few cameras. A net held to a teacher's maps of many other eyes, which it sees in other
colours, sizes and qualities than the teacher did, generalises better than one that saw the labels alone (Xie et al.,
Noisy Student, CVPR 2020); the more so where the teacher answers by the mean over the mirrored eye.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from qmmfl import labels
from qmmfl.nets import Config
from qmmfl.nets.synthesis import SynthesisNet

from . import loop, pixels

CARE = 128  # `care`, of 255, of a photograph whose truth is a teacher's
MIRRORED = ((), (3,), (2,), (2, 3))  # axes of (n, k, S, S) along which the teacher sees an eye mirrored, one by one


@cache
def vessels(data: Path, size: int, teacher: Path) -> list[pixels.Sample]:
    """Photographs of four sets with the greater of the teacher's arteries and veins as truth (1, S, S)."""
    made = _taught(pixels.photographs(data, size, 20, 1), labels.VESSELS.name, teacher, MIRRORED[:1])
    return [dataclasses.replace(sample, truth=sample.truth.max(axis=0)[None]) for sample in made]


@cache
def lesions(data: Path, size: int, teacher: Path) -> list[pixels.Sample]:
    """Photographs of four sets graded to have retinopathy, with the teacher's lesions as truth (4, S, S)."""
    return _taught(pixels.retinopathy(data, size), labels.LESION_MAPS.name, teacher, MIRRORED)


@torch.no_grad()
def _taught(
    photographs: Iterable[pixels.Sample], modality: str, teacher: Path, mirrored: Sequence[tuple[int, ...]]
) -> list[pixels.Sample]:
    """The photographs with a teacher's planes, whose mean logits over the mirrored eyes count; care is `CARE`.

    teacher: best.pt of that modality's net or a folder of exported weights.
    """
    net = SynthesisNet(Config().synthesis[modality]).eval().requires_grad_(False)
    loop.load_start(net, teacher, f"synthesis.{modality}.")
    result = []
    for sample in photographs:
        seen = net.prepare(torch.from_numpy(sample.square).permute(2, 0, 1)[None].float() / 255)
        logits = torch.stack([net(seen.flip(axes)).flip(axes) for axes in mirrored]).mean(dim=0)
        truth = (logits.sigmoid()[0] * 255).round().byte().numpy()
        inside = (sample.square.max(axis=2) > 0).astype(np.uint8)
        result.append(dataclasses.replace(sample, truth=truth * inside, care=inside * np.uint8(CARE)))
    return result
