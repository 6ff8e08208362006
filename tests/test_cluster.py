"""Many eyes on a local cluster of two workers: the same results file, also when a worker dies."""

import csv
import json
import os
from functools import partial
from pathlib import Path

import cv2
import pytest
from conftest import ROOT
from fakes import fake_photograph
from workers import Stub

from qmmfl import cluster, results, runs

HASH = "f" * 64
COUNT = 24


@pytest.fixture(scope="module")
def workers():
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "qmmfl[cluster]"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # nothing asks the network
        patch.setenv("RAY_worker_niceness", "0")  # else a busy machine starves them
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))  # they import the stub
        ray.init(num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()


@pytest.fixture
def eyes(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "notes").mkdir()
    for number in range(COUNT):
        cv2.imwrite(str(tmp_path / "in" / f"eye{number:02}.png"), fake_photograph(number, 240, 230).pixels)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photograph")
    return tmp_path / "in"


def screen(eyes, sha256=HASH, again=(), card="", **stub):
    parts = results.Parts(pdf=False, planes=False)
    with runs.Run(eyes.parent / "out", sha256, parts, card=card, again=again) as run:
        load = partial(Stub, eyes.parent / "notes", **stub)
        return list(cluster.screen(run.pending([eyes]), run, load, workers=2))


def check(eyes):
    out = eyes.parent / "out"
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(Path(row["input"]).stem for row in rows) == ["bad", *(f"eye{n:02}" for n in range(COUNT))]
    assert {row["status"] for row in rows if "eye" in row["input"].rpartition("/")[2]} == {"ok"}
    for row in rows:
        if row["status"] == "ok":
            assert json.loads((out / row["folder"] / "report.json").read_text())["input"]["sha256"] == row["sha256"]


@pytest.mark.slow
def test_two_workers_share_the_eyes(workers, eyes):
    assert len(screen(eyes, together=2)) == COUNT + 1
    check(eyes)
    assert len({path.name.split("-")[0] for path in (eyes.parent / "notes").glob("*-*")}) == 2
    assert screen(eyes) == [], "a second run reads nothing again"
    (eyes / "eye07.png").write_bytes((eyes / "eye08.png").read_bytes())
    (row,) = screen(eyes, again=[eyes / "eye06.png", eyes / "eye07.png"])
    assert row["folder"] == "eye07", "but another picture under the same path"
    check(eyes)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_no_eye_and_repeats_no_row(workers, eyes):
    screen(eyes, deadly="eye13.png")
    assert (eyes.parent / "notes" / "died").exists()
    check(eyes)


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"sha256": "0" * 64}, {"card": "0" * 12}], ids=["tensors", "calibrations"])
def test_workers_with_other_weights_are_refused(workers, eyes, other):
    with pytest.raises(runs.RunError, match="other weights"):
        screen(eyes, **other)


@pytest.mark.slow
def test_this_machine_is_this_machine_whatever_the_environment_names(eyes, monkeypatch):
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "qmmfl[cluster]"')
    asked = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **given: asked.append(given["address"]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        screen(eyes)
    assert asked == ["local"], "None would be the cluster of RAY_ADDRESS or of an earlier program"


@pytest.mark.slow
def test_an_address_that_is_none_is_said(eyes, monkeypatch):
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "qmmfl[cluster]"')
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with (
        runs.Run(eyes.parent / "out", HASH, results.Parts(pdf=False)) as run,
        pytest.raises(runs.RunError, match="there is no cluster at foo .*check its address, or use local"),
    ):
        list(cluster.screen(run.pending([eyes]), run, Stub, address="foo"))


def test_without_ray_the_cure_is_said(monkeypatch, eyes):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(runs.RunError, match=r"pip install"):
        screen(eyes)
