"""Pictures that teach the gates: alike from a seed, labelled for what they are, kept on their side of the split."""

import cv2
import numpy as np
import pytest

pytest.importorskip("tqdm", reason="training needs the train extra")

from training import data, negatives


@pytest.mark.parametrize("kind", negatives.KINDS)
def test_a_picture_follows_from_its_seed(kind, eye_file):
    first, again, other = (negatives.picture(kind, seed, eye_file) for seed in (1, 1, 2))
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert (first == again).all()
    assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize("kind", negatives.SPOILED)
def test_a_spoiled_photograph_has_lost_detail(kind, eye, eye_file):
    def detail(pixels):
        green = pixels[112:336, 112:336, 1].astype(np.float32)  # the middle: haze has a sharp rim
        return np.abs(green - cv2.GaussianBlur(green, (0, 0), 6)).mean()

    spoiled = np.mean([detail(negatives.picture(kind, seed, eye_file)) for seed in range(4)])
    assert spoiled < 0.75 * detail(eye.photograph)


_OFF = {"scrambled": 8, "marbled": 8, "painted": 50, "waved": 50, "veined": 90}  # [0..255] mean colours


@pytest.mark.parametrize("kind", negatives.MIMICS)
def test_a_mimic_has_the_colours_of_the_eye_and_not_its_anatomy(kind, eye, eye_file):
    made, square = negatives.picture(kind, 5, eye_file), cv2.resize(eye.photograph, (negatives.SIDE,) * 2)
    inside = (made.max(axis=2) > 0) & (square.max(axis=2) > 12)
    assert inside.mean() > 0.6
    assert made[inside].mean(axis=0) == pytest.approx(square[inside].mean(axis=0), abs=_OFF[kind])
    assert abs(np.corrcoef(made[inside][:, 1], square[inside][:, 1])[0, 1]) < 0.5


def test_negatives_stay_on_the_side_of_their_photograph(tmp_path, monkeypatch, eye_file):
    monkeypatch.setattr(data, "CACHE", tmp_path)
    monkeypatch.setattr(negatives, "COUNTS", {"train": 2, "val": 1})
    unknown = (-1,) * len(data.CODES)
    other = tmp_path / "other.png"
    other.write_bytes(eye_file.read_bytes())
    photographs = {"train": eye_file, "val": other}
    table = [data.Case("odir5k", str(p), split, split, unknown, gradable=1) for split, p in photographs.items()]
    made = list(data.write_negatives(table))
    assert len(made) == 3 * len(negatives.KINDS)
    assert all(case.findings == unknown for case in made)
    assert {(case.fundus, case.gradable) for case in made} == {(0, -1), (1, 0)}  # no fundus, or not gradable
    assert {case.group for case in made if case.split == "val"} & {"train", "val"} == {"val"}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "negatives").iterdir()}
    assert list(data.write_negatives(table)) == made
    assert {path: path.stat().st_mtime_ns for path in before} == before  # made once
