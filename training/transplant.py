"""Lesions of labelled eyes on healthy eyes of other cameras, so that few masks teach many colours and sharpnesses.

A lesion changes what a place gives back by a factor: blood absorbs, lipid scatters. The factor is taken from the
labelled photograph, relative to the retina around the lesion, and multiplied into another photograph.
"""

import dataclasses

import cv2
import numpy as np

from .pixels import Sample

_DARKEST = 0.02  # added to colour in 0..1 before its logarithm is taken
_RIM = 3  # [px] around a lesion that belong to it: outlines are drawn tightly
_COARSE = 4  # [px] of the retina around it, which is smooth
_SURROUNDS = (2, 6, 18)  # [coarse px] sigma of that; wider ones fill what lies inside a large lesion
_RED = 0.9  # what exudates brighten red at least, as a share of green, in log: red was saturated before
_TURN, _SHRINK, _GROW = 180.0, 0.25, 0.15  # [degrees], log of the scale
_STRENGTH = (0.7, 1.2)  # of the logarithm


def lift(sample: Sample) -> np.ndarray:
    """float16 (S, S, 3): the logarithm of the factor by which lesions change the colour, 0 away from them."""
    near = cv2.dilate(sample.truth.max(axis=0), np.ones((2 * _RIM + 1,) * 2, np.uint8)) > 127
    colour = sample.square.astype(np.float32) / 255 + _DARKEST
    clear = ((sample.care > 0) & ~near).astype(np.float32)[..., None]
    size = len(near) // _COARSE
    weighed = cv2.resize(np.concatenate([colour * clear, clear], axis=2), (size, size), interpolation=cv2.INTER_AREA)
    surround = np.zeros((size, size, 3), np.float32)
    for sigma in reversed(_SURROUNDS):  # the narrowest that sees enough of the clear retina is kept
        *sums, share = cv2.split(cv2.GaussianBlur(weighed, (0, 0), sigma))
        mean = np.stack(sums, axis=2) / np.maximum(share, 1e-3)[..., None]
        surround = np.where((share > 0.1)[..., None] | (surround == 0), mean, surround)
    surround = cv2.resize(surround, near.shape[::-1])
    factor = np.log(colour / np.maximum(surround, _DARKEST))
    factor[..., 0] = np.maximum(factor[..., 0], np.where(factor[..., 1] > 0, _RED * factor[..., 1], -np.inf))
    edge = cv2.GaussianBlur(near.astype(np.float32), (0, 0), 1) * (sample.care > 0)
    return (factor * edge[..., None]).astype(np.float16)


def transplant(healthy: Sample, donor: Sample, factor: np.ndarray, numbers: np.random.Generator) -> Sample:
    """The healthy eye with the donor's lesions, turned, mirrored and scaled, as sharp as its own photograph.

    factor: what `lift` gave of the donor, of the same size S.
    """
    side = healthy.square.shape[0]
    grown = float(np.exp(numbers.uniform(-_SHRINK, _GROW)))
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), numbers.uniform(-_TURN, _TURN), grown)
    if numbers.random() < 0.5:
        matrix[:, 0] *= -1
        matrix[0, 2], matrix[1, 2] = (matrix[:, 2] - matrix[:, 0] * (side - 1)).tolist()
    moved = cv2.warpAffine(factor.astype(np.float32), matrix, (side, side))
    truth = np.stack([cv2.warpAffine(plane, matrix, (side, side)) for plane in donor.truth])
    own = side if healthy.frame is None else min(side, healthy.frame.high)
    if own < side:
        moved = cv2.resize(cv2.resize(moved, (own, own), interpolation=cv2.INTER_AREA), (side, side))
    inside = healthy.care > 0
    colour = (healthy.square.astype(np.float32) / 255 + _DARKEST) * np.exp(moved * numbers.uniform(*_STRENGTH))
    square = ((colour - _DARKEST) * 255).clip(0, 255).round().astype(np.uint8) * inside[..., None]
    return dataclasses.replace(healthy, square=square, truth=truth * inside)
