"""How a photograph looks besides what it shows, and how eyes are drawn so that this does not tell who is ill.

Where the healthy eyes of a set came from another batch than its ill ones, sharpness and colour alone tell them apart,
and a net learns that before any lesion. `python -m training.looks` prints how far that goes in every set.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from .recipe import Settings, parse

COUNT = 7  # numbers of a look
_MOST = 4.0  # an eye counts at most so often, and at least so seldom, because of its look
_LEAST_EYES = 15  # ill and healthy ones each, of a set in which looks are compared
_DARK = 16  # grey level of the brightest channel that is no field of view any more
_RIDGE = 0.005  # on squared slopes, so that few eyes do not tell too much
_RIM = 9  # [px] at the edge of the field that do not count


def of(view: np.ndarray) -> tuple[float, ...]:
    """Of a view uint8 (v, v, 3), RGB, black outside the field: logarithms of mean red, green and blue, of the contrast
    of green and of its sharpness at two scales, and the field's share of the square.
    """
    view = np.asarray(view)
    inside = cv2.erode((view.max(axis=2) > _DARK).astype(np.uint8), np.ones((_RIM, _RIM), np.uint8))
    if not inside.any():
        return (0.0,) * COUNT
    green = view[..., 1].astype(np.float32)
    half = tuple(side // 2 for side in inside.shape)
    coarse = cv2.resize(green, half, interpolation=cv2.INTER_AREA), cv2.resize(inside, half)
    sharp = [float(cv2.Laplacian(grey, cv2.CV_32F)[part > 0].std()) for grey, part in ((green, inside), coarse)]
    levels = [*view[inside > 0].mean(axis=0), green[inside > 0].std(), *sharp]
    return tuple(round(float(each), 4) for each in (*np.log(np.array(levels) + 1), inside.mean()))


def learn(looks: np.ndarray, ill: np.ndarray, weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """From looks (n, k), ill bool (n,) and weight (n,): what tells of other looks (m, k) how probable illness is, (m,).

    A logistic regression with a small ridge.
    """
    middle, spread = looks.mean(axis=0), np.maximum(looks.std(axis=0), 1e-6)
    x = torch.from_numpy((looks - middle) / spread).double()
    truth, counts = torch.from_numpy(ill).double(), torch.from_numpy(weight / weight.sum()).double()
    slopes = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([slopes, offset], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ slopes + offset, truth, counts, reduction="sum")
        loss = loss + _RIDGE * (slopes**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    by, constant = slopes.detach().numpy(), float(offset.detach())
    return lambda others: 1 / (1 + np.exp(-((others - middle) / spread @ by + constant)))


def alike(looks: np.ndarray, ill: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights (n,) under which ill and healthy eyes of one set look alike (inverse propensity, Rosenbaum 1987).

    looks (n, k), ill bool (n,), weight (n,) before. What the ill count together does not change, nor what the healthy
    do. Unchanged where one kind is too rare to be compared.
    """
    if min(ill.sum(), (~ill).sum()) < _LEAST_EYES:
        return weight
    chance = learn(looks, ill, weight)(looks)
    share = weight[ill].sum() / weight.sum()
    made = weight * np.clip(np.where(ill, share / chance, (1 - share) / (1 - chance)), 1 / _MOST, _MOST)
    for kind in (ill, ~ill):
        made[kind] *= weight[kind].sum() / made[kind].sum()
    return made


def report() -> None:
    """Print per set how well the look alone tells ill eyes from healthy ones: on training and validation eyes, by what
    nine tenths of them teach of the last, and on the test eyes.
    """
    from . import data, metrics  # below it: cases are made with their looks

    cases, _ = data.load()
    for folder in dict.fromkeys(case.folder for case in cases if case.look):
        own = [case for case in cases if case.folder == folder and case.look and case.split != data.RETAKE]
        looks, ill = np.array([case.look for case in own]), np.array([case.grade > 0 for case in own])
        test = np.array([case.split == "test" for case in own])
        if min(ill[~test].sum(), (~ill[~test]).sum()) < _LEAST_EYES:
            continue
        tenth = np.where(test, -1, np.random.default_rng(0).integers(0, 10, len(own)))
        said = np.zeros(len(own))
        for part in range(-1, 10):
            taught, asked = ~test & (tenth != part), tenth == part
            said[asked] = learn(looks[taught], ill[taught], np.ones(taught.sum()))(looks[asked])
        known, new = metrics.auc(ill[~test], said[~test]), metrics.auc(ill[test], said[test])
        print(f"{folder}: {(~test).sum()} eyes learnt from {known:.2f}, {test.sum()} test eyes {new:.2f}")


if __name__ == "__main__":
    parse(Settings)
    report()
