"""Labelled eyes for tests of the training and its evaluation."""

from qmmfl import labels
from training import data

CODES = tuple(labels.FINDINGS)


def case(number=0, folder="odir5k", split="test", findings=(), group="", **values):
    known = tuple(int(code in findings) for code in CODES)
    return data.Case(folder, f"{folder}/{number}", split, group or f"g{number}", known, **values)
