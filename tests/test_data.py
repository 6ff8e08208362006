"""The cache of a data folder: every photograph of every table, with its labels."""

import csv

import cv2
import pytest

pytest.importorskip("tqdm", reason="training needs the train extra")

from training import data, negatives


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path, eye):
    """A data folder of one photograph a set and one angiogram."""
    for number, name in enumerate(data.FOLDERS):
        row = {"image": f"{name}.png", "group": str(number), "split": "train", "dr_grade": number % 5}
        _write(tmp_path / f"cls/{name}/labels.csv", [row | {"category": "", "pathological_myopia": 0}])
        (tmp_path / f"cls/{name}/images").mkdir()
        cv2.imwrite(str(tmp_path / f"cls/{name}/images/{name}.png"), eye.photograph[..., ::-1])
    _write(tmp_path / "ffa/ffa_phase/index.csv", [{"stem": "frame", "group": "ff", "split": "train"}])
    (tmp_path / "ffa/ffa_phase/ffa").mkdir()
    cv2.imwrite(str(tmp_path / "ffa/ffa_phase/ffa/frame.webp"), eye.photograph[..., 1])
    return tmp_path


def test_every_photograph_is_decoded_once_in_the_order_of_its_labels(folder, monkeypatch):
    monkeypatch.setattr(data, "CACHE", folder / "cache")
    monkeypatch.setattr(negatives, "COUNTS", {"train": 1})
    data.build(folder)
    cases, views = data.load()
    assert len(cases) == len(views) > len(data.FOLDERS) + 1
    assert [case.grade for case in cases[: len(data.FOLDERS)]] == [n % 5 for n in range(len(data.FOLDERS))]
    assert (views[: len(data.FOLDERS)] == views[0]).all()
    assert views[0].max() > 100
    assert cases[len(data.FOLDERS)].fundus == 0
