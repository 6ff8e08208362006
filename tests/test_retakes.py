"""Training eyes photographed otherwise: still the same eyes, on the same side, and told no more than they show."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from qmmfl import fundus, photograph
from training import data, retakes, tables


@pytest.fixture(scope="module")
def pixels(eye):
    return eye.photograph


class InTurn:
    """Stands for a pool of processes."""

    def map(self, make, *values, chunksize=1):
        return map(make, *values)


def test_a_retake_is_the_same_eye_seen_otherwise(pixels):
    whole = fundus.canonical(pixels, fundus.Prep(256))[0].astype(float)
    changed = []
    for seed in range(8):
        file = retakes.retake(pixels, seed)
        assert file == retakes.retake(pixels, seed)
        square = fundus.canonical(photograph.read(file).pixels, fundus.Prep(256))[0].astype(float)
        changed.append(np.abs(square - whole).mean())
        if not retakes.narrowed(seed):  # the place of everything is kept
            seen = (square.max(2) > 0) & (whole.max(2) > 0)
            assert np.corrcoef(square[seen][:, 1], whole[seen][:, 1])[0, 1] > 0.8
    assert np.mean(changed) > 4
    assert len({retakes.retake(pixels, seed) for seed in range(8)}) == 8


def test_some_retakes_are_enhanced_and_the_others_are_as_without(pixels, monkeypatch):
    made = {seed: retakes.retake(pixels, seed) for seed in range(12)}
    monkeypatch.setattr(retakes, "enhance", lambda pixels, numbers: pixels)
    enhanced = [seed for seed, file in made.items() if retakes.retake(pixels, seed) != file]
    assert 2 <= len(enhanced) <= 8


def test_a_narrower_field_is_a_part_of_the_eye_seen_larger(pixels):
    numbers = np.random.default_rng(0)
    for _ in range(8):
        seen = retakes._narrow(pixels, numbers)
        inside = seen.max(axis=2) > 0
        assert 0.6 * len(pixels) - 1 <= len(seen) <= 0.95 * len(pixels) + 1
        y, x = cv2.minMaxLoc(cv2.matchTemplate(pixels, seen, cv2.TM_SQDIFF, mask=inside.astype(np.uint8)))[2][::-1]
        np.testing.assert_array_equal(pixels[y : y + len(seen), x : x + len(seen)][inside], seen[inside])


def test_where_no_field_is_left_there_is_no_retake(tmp_path):
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((300, 300, 3), np.uint8))
    assert not retakes.write(str(black), 1, tmp_path / "retake.jpg")
    assert not (tmp_path / "retake.jpg").exists()


def test_retakes_are_of_training_eyes_alone_and_told_what_they_show(tmp_path, monkeypatch, pixels):
    monkeypatch.setattr(data, "CACHE", tmp_path)
    known = tuple(int(code in ("DR", "ODC")) for code in data.CODES)
    table = []
    for number in range(6):
        path = tmp_path / f"eye_{number}.png"
        cv2.imwrite(str(path), pixels[..., ::-1])
        split = ("train", "train", "train", "train", "val", "test")[number]
        table.append(data.Case("idrid", str(path), split, f"g{number}", known, grade=2, gradable=1))
    made = list(data.write_retakes(table, InTurn()))
    assert [case.group for case in made] == ["g0", "g1", "g2", "g3"]
    assert {(case.split, case.grade, case.gradable, case.fundus) for case in made} == {(data.RETAKE, 2, -1, 1)}
    for number, case in enumerate(made):
        told = dict(zip(data.CODES, case.findings, strict=True))
        assert told["DR"] == 1
        assert told["ODC"] == (-1 if retakes.narrowed(retakes.SEED + number) else 1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "retakes").iterdir()}
    assert list(data.write_retakes(table, InTurn())) == made
    assert {path: path.stat().st_mtime_ns for path in before} == before  # made once


def test_a_retake_stays_with_its_eye(tmp_path, monkeypatch):
    unknown = (-1,) * len(data.CODES)
    monkeypatch.setattr(data, "CACHE", tmp_path)
    np.save(tmp_path / "views.npy", np.zeros((2, 4, 4, 3), np.uint8))
    eye = data.Case("idrid", "a.png", "train", "g", unknown)

    def store(split):
        both = [vars(eye), vars(dataclasses.replace(eye, path="b.jpg", split=split))]
        (tmp_path / "cases.json").write_text(json.dumps(both))

    store(data.RETAKE)
    assert [case.split for case in data.load()[0]] == ["train", data.RETAKE]
    store("val")
    with pytest.raises(tables.TableError, match="more than one split"):
        data.load()
