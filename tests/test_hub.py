"""Weights over the Hub's protocol: the real client against a Hub on 127.0.0.1."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hubs
import huggingface_hub.constants
import pytest
from conftest import ROOT, tiny_card, tiny_network

import qmmfl
from qmmfl import hub, pipeline, weights
from training import publish

REPOSITORY = "someone/eyes"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hubs.serve() as served:
        cache = tmp_path / "cache"
        for name, value in {
            "HF_ENDPOINT": served.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_of_a_test",
            "HF_HUB_DISABLE_XET": "1",  # large files go by Git LFS, which the Hub on 127.0.0.1 speaks
            "NO_PROXY": "*",
        }.items():
            monkeypatch.setenv(name, value)  # for the child that fetches
        constants = huggingface_hub.constants  # read when they were imported: for this process
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield served


@pytest.fixture
def files(tiny_folder):
    return {name: (tiny_folder / name).read_bytes() for name in weights.FILES}


@pytest.fixture
def newer(tmp_path):
    """A folder of weights of version 1; the others are of version 0."""
    weights.save(tmp_path / "newer", tiny_network(1), tiny_card(version="1"))
    return tmp_path / "newer"


def downloads(server) -> list[str]:
    return [line for line in server.asked if line.startswith("GET") and line.endswith(".safetensors")]


def test_published_weights_are_loaded_and_named_in_the_report(server, tiny_folder, tmp_path, eye):
    commit = publish.publish(tiny_folder, tmp_path / "page", REPOSITORY, tag="v0")
    stored = server.repositories[REPOSITORY]["v0"]
    assert set(stored) >= {"README.md", "config.json", "card.json", "model.safetensors"}
    loaded = qmmfl.load(f"{REPOSITORY}@v0", "cpu")
    assert loaded.banner is None
    provenance = loaded(eye.photograph).provenance
    assert provenance.weights_source == f"{REPOSITORY}@v0 (commit {commit[:12]})"
    assert provenance.weights_sha256 == weights.read_card(tiny_folder).sha256

    asked = len(server.asked)
    weights.find(f"{REPOSITORY}@{commit}")
    weights.find(f"{REPOSITORY}@v0")
    assert len(server.asked) == asked, "what is cached is not asked for again"


def test_a_cache_that_cannot_be_written_is_said_with_its_cure(server, tiny_folder, tmp_path, monkeypatch):
    publish.publish(tiny_folder, tmp_path / "page", REPOSITORY, tag="v0")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(hub.Unreachable, match=r"could not be stored .*not a directory.*make room there.*HF_HOME"):
        weights.find(f"{REPOSITORY}@v0")
    (tmp_path / "cache").unlink()
    assert (weights.find(f"{REPOSITORY}@v0")[0] / "card.json").is_file(), "the next attempt works"


def test_an_atlas_comes_along_where_there_is_one(server, tiny_folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_folder, source)
    (source / weights.ATLAS).write_bytes(b"places")
    publish.publish(source, tmp_path / "page", REPOSITORY)
    folder, _ = weights.find(REPOSITORY)
    assert (folder / weights.ATLAS).read_bytes() == b"places"


def test_the_page_s_metadata_come_from_the_card(tiny_folder, tmp_path):
    import json

    from huggingface_hub import ModelCard

    card = publish.write(tiny_folder, tmp_path / "page", REPOSITORY)
    page = ModelCard.load(tmp_path / "page" / "README.md")
    assert page.data.to_dict()["qmmfl"] == {"version": "0", "status": "interim", "sha256": card.sha256, "square": 128}
    assert page.data.library_name == "qmmfl"
    assert "untrained" in page.text
    assert (
        weights.Config.from_dict(
            {
                key: value
                for key, value in json.loads((tmp_path / "page" / "config.json").read_text()).items()
                if key in card.config.to_dict()
            }
        )
        == card.config
    )
    assert weights.verify(tmp_path / "page") == card


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (429, "status 429"),
        pytest.param(500, "status 500", marks=pytest.mark.slow),
        ("hang", "not done within 4 s"),
        pytest.param("truncated", "could not be fetched", marks=pytest.mark.slow),  # the client tries again for 8 s
    ],
)
def test_a_hub_that_fails_gives_the_embedded_weights_and_says_so(server, files, newer, monkeypatch, fault, said):
    monkeypatch.setattr(weights, "embedded", lambda: newer)
    if isinstance(fault, str):
        monkeypatch.setattr(hub, "DEADLINE", 4.0 if fault == "hang" else 8.0)
    server.put(REPOSITORY, files)
    server.fault = fault
    began = time.monotonic()
    with pytest.warns(weights.StandInWarning, match="not the ones asked for"):
        loaded = pipeline.load(REPOSITORY, "cpu")
    assert fault != "hang" or time.monotonic() - began < hub.DEADLINE + 10, "the deadline holds, beside loading"
    if isinstance(fault, int):
        assert len(server.asked) == 1, "one attempt: the client's own retries take 23 s and more"
    assert said in loaded.banner
    assert "embedded weights are in use" in loaded.banner
    assert f"qmmfl weights fetch {REPOSITORY}@main" in loaded.banner
    assert loaded.source == f"embedded, because {REPOSITORY} could not be fetched"
    assert loaded.card.version == "1"
    assert not list(Path(os.environ["HF_HUB_CACHE"]).rglob("*.incomplete")), (
        "a download that was stopped leaves no half file"
    )


def test_no_network_fails_at_once(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(hub.Unreachable, match="ConnectError"):
        weights.find(REPOSITORY)
    assert time.monotonic() - began < 10
    assert not server.asked


def test_offline_is_said(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(hub.Unreachable, match="HF_HUB_OFFLINE"):
        weights.find(REPOSITORY)
    assert not server.asked


def test_a_changed_file_is_an_error_and_fetching_again_repairs_it(server, files):
    server.put(REPOSITORY, files)
    server.fault = "changed"
    for _ in range(2):  # from the Hub, then from the cache
        with pytest.raises(qmmfl.WeightsError, match="not the file its card describes"):
            pipeline.load(REPOSITORY, "cpu")
    assert len(downloads(server)) == 1
    server.fault = None
    folder, _ = weights.fetch(REPOSITORY)
    assert weights.verify(folder)
    assert pipeline.load(REPOSITORY, "cpu").banner is None


def test_a_branch_that_moved_is_refreshed_by_fetch_only(server, files, newer):
    old = server.put(REPOSITORY, files)
    assert weights.find(REPOSITORY)[0].name == old
    new = server.put(REPOSITORY, {name: (newer / name).read_bytes() for name in weights.FILES})
    assert weights.find(REPOSITORY)[0].name == old, "the cached snapshot is used at once"
    folder, name = weights.fetch(REPOSITORY)
    assert folder.name == new
    assert name == f"{REPOSITORY} (commit {new[:12]})"
    assert weights.find(REPOSITORY)[0].name == new
    assert weights.verify(weights.find(f"{REPOSITORY}@{old}")[0]).version == "0", "a pinned commit stays what it was"
    assert weights.verify(weights.find(REPOSITORY)[0]).version == "1"


def test_a_fetch_that_breaks_off_leaves_the_cached_weights_in_use(server, files, newer):
    old = server.put(REPOSITORY, files)
    weights.find(REPOSITORY)
    server.put(REPOSITORY, {"card.json": (newer / "card.json").read_bytes()})
    with pytest.raises(qmmfl.WeightsError, match="the Hub has no"):
        weights.fetch(REPOSITORY)
    assert weights.find(REPOSITORY)[0].name == old


@pytest.mark.parametrize("source", ["nobody/nothing", f"{REPOSITORY}@no-such-branch", "a--b/..c"])
def test_what_does_not_exist_is_an_error_and_no_substitute(server, files, source):
    server.put(REPOSITORY, files)
    with pytest.raises(qmmfl.WeightsError, match="check the name") as caught:
        pipeline.load(source, "cpu")
    assert not isinstance(caught.value, hub.Unreachable)


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_does_not_let_us_in_is_an_error_and_no_substitute(server, files, status):
    server.put(REPOSITORY, files)
    server.fault = status
    with pytest.raises(qmmfl.WeightsError, match=f"status {status}.*hf auth login") as caught:
        pipeline.load(REPOSITORY, "cpu")
    assert not isinstance(caught.value, hub.Unreachable)


def test_nothing_that_lies_in_the_folder_one_stands_in_is_run(server, files, tmp_path, monkeypatch):
    """Photographs come from elsewhere, and other files with them."""
    server.put(REPOSITORY, files)
    (tmp_path / "uuid.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert weights.fetch(f"{REPOSITORY}@main")[0].is_dir()
    assert not (tmp_path / "run").exists()


def test_the_command_fetches_verifies_and_says_what_is_wrong(server, files):
    server.put(REPOSITORY, files)

    def run(source):
        command = [sys.executable, "-m", "qmmfl", "weights", "fetch", source]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    done = run(f"{REPOSITORY}@main")
    assert done.returncode == 0, done.stderr
    assert "matches its card" in done.stdout
    wrong = run("nobody/nothing")
    assert wrong.returncode == 2
    assert "check the name" in wrong.stderr
    assert "Traceback" not in wrong.stderr
