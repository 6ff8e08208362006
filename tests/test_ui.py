"""The page's server side: answers belong to who asked, faults arrive as one sentence, nothing is left lying around."""

import http.client
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import FakePipeline, fake_photograph, fake_report

from qmmfl import draw, guard, labels, photograph, ui

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def pipeline():
    return FakePipeline(delay=0.02, banner="Interim weights <1>.")


@pytest.fixture(scope="module")
def port(pipeline):
    port = free_port()
    mask = os.umask(0o022)
    demo = ui.serve(pipeline, port=port, wait=False)
    yield port
    demo.close()
    os.umask(mask)


@pytest.fixture(scope="module")
def connect(port, tmp_path_factory):
    from gradio_client import Client

    folder = tmp_path_factory.mktemp("client")
    return lambda: Client(f"http://127.0.0.1:{port}/", verbose=False, download_files=str(folder))


def ask(port: int, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.fixture
def eye(tmp_path):
    def write(seed: int) -> tuple[str, dict]:
        photograph = fake_photograph(seed)
        path = tmp_path / f"Doe_John_{seed}.png"
        path.write_bytes(draw.encode(photograph.pixels, "png"))
        return str(path), photograph

    return write


def test_two_users_at_once_get_their_own_answers(connect, eye):
    from gradio_client import handle_file

    def one(seed: int) -> dict:
        return connect().predict(handle_file(eye(seed)[0]), api_name="/analyse")

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, (1, 2)))
    for seed, answer in zip((1, 2), answers, strict=True):
        expected = fake_report(photograph.read(eye(seed)[0], None)).to_dict()
        assert answer["findings"] == json.loads(json.dumps(expected["findings"]))
        assert answer["input"] == expected["input"]
        assert answer["notice"] == labels.NOTICE
    assert answers[0]["input"]["sha256"] != answers[1]["input"]["sha256"]


def test_names_of_files_never_reach_the_pipeline_or_the_report(connect, eye, pipeline):
    from gradio_client import handle_file

    answer = connect().predict(handle_file(eye(3)[0]), api_name="/analyse")
    assert "Doe" not in json.dumps(answer)
    assert answer["input"]["name"] is None
    assert pipeline.seen[-1].name is None


def test_a_text_file_is_refused_in_one_sentence_and_the_next_photograph_is_read(connect, eye, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    path = tmp_path / "letter.jpg"
    path.write_text("Dear colleague")
    client = connect()
    with pytest.raises(AppError) as caught:
        client.predict(handle_file(str(path)), api_name="/analyse")
    said = str(caught.value)
    assert said
    assert "Traceback" not in said
    assert str(guard.private_folder()) not in said
    assert client.predict(handle_file(eye(4)[0]), api_name="/analyse")["schema"] == 1


def test_a_fault_of_ours_is_told_by_reference_only(connect, eye, pipeline, caplog):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    pipeline.error = RuntimeError("secret of Doe_John")
    try:
        with pytest.raises(AppError, match="quote reference [0-9a-f]{6}"):
            connect().predict(handle_file(eye(5)[0]), api_name="/analyse")
    finally:
        pipeline.error = None
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def call(port: int, payload) -> str:
    """The event stream of one raw call, as an attacker would make it."""
    kind = {"content-type": "application/json"}
    status, _, body = ask(port, "POST", "/gradio_api/call/analyse", json.dumps({"data": [payload]}).encode(), kind)
    if status != 200:
        return f"refused {status}"
    return ask(port, "GET", f"/gradio_api/call/analyse/{json.loads(body)['event_id']}")[2].decode()


def test_files_of_the_server_are_not_read_for_others(port, pipeline, eye):
    path, _ = eye(6)  # a good photograph, but it was never uploaded
    seen = len(pipeline.seen)
    for place in (path, "/etc/passwd", f"{guard.private_folder()}/../../etc/passwd", "", "a\0b"):
        for payload in ({"path": place}, {"path": place, "meta": {"_type": "gradio.FileData"}}):
            answer = call(port, payload)
            assert "error" in answer or "refused" in answer
            assert "root:" not in answer
    for payload in (None, 3, "x", [], {}, {"url": "http://169.254.169.254/"}, {"path": 3}):
        assert "event: complete" not in call(port, payload)
    assert len(pipeline.seen) == seen


def test_only_analyse_is_public(connect):
    assert list(connect().view_api(return_format="dict")["named_endpoints"]) == ["/analyse"]


def test_large_bodies_and_foreign_addresses_are_refused(port):
    data = b'{"data": "' + b"x" * (2 * 2**20) + b'"}'
    kind = {"content-type": "application/json"}
    assert ask(port, "POST", "/gradio_api/queue/join", data, kind)[0] == 413
    assert ask(port, "POST", "/gradio_api/queue/join", iter([data]), kind)[0] == 413
    assert ask(port, "GET", "/gradio_api/file=http://169.254.169.254/x")[0] == 403
    assert ask(port, "GET", "/gradio_api/file=/etc/passwd")[0] == 403
    assert ask(port, "GET", f"/gradio_api/file={ROOT}/pyproject.toml")[0] == 403


def test_headers_of_every_page(port):
    status, headers, body = ask(port, "GET", "/")
    assert status == 200
    assert "connect-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert "huggingface" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert labels.NOTICE.encode() in body
    assert b"Interim weights &lt;1&gt;." in body.replace(b"&amp;", b"&").replace(b"\\u0026", b"&")


def test_pictures_are_served_but_not_kept_by_the_browser(port):
    case = ui._new_case()
    address = case.save("photograph", fake_photograph().pixels, "jpeg")
    status, headers, body = ask(port, "GET", "/" + address)
    assert (status, body[:2]) == (200, b"\xff\xd8")
    assert headers["cache-control"] == "no-store"
    ui._forget(case)
    assert ask(port, "GET", "/" + address)[0] == 403
    assert not case.folder.exists()


def test_a_picture_asked_for_twice_is_not_rewritten_while_it_is_fetched():
    case = ui._new_case()
    address = case.save("score_DR", fake_photograph().pixels, "jpeg")
    before = next(case.folder.iterdir()).stat()
    assert case.save("score_DR", fake_photograph().pixels, "jpeg") == address
    (after,) = case.folder.iterdir()
    assert (after.stat().st_ino, after.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    ui._forget(case)


def test_private_folder_is_ours_alone():
    folder = guard.private_folder()
    assert folder.stat().st_mode & 0o077 == 0
    assert folder == guard.private_folder()
    assert ui._new_case().folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_serving_others_needs_a_password(host, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    with pytest.raises(ValueError, match="--auth-file"):
        ui.serve(FakePipeline(), host)
    guard.allow(host, password=True)
    monkeypatch.setenv("SPACE_ID", "someone/space")
    guard.allow(host, password=False)


def test_examples_are_there_and_named_for_people():
    folder = ui.examples_folder()
    assert folder is not None
    titles = [ui._title(path) for path in folder.glob("*.jpg")]
    assert titles
    assert not any(word in title.lower() for title in titles for word in ("healthy", "normal", "simulated", "_"))
    assert ui._title(Path("simulated_left_moderate_dr.jpg")) == "Left moderate DR"


def test_page_builds_without_examples(monkeypatch):
    monkeypatch.setattr(ui, "examples_folder", lambda: None)
    assert ui.build(FakePipeline()).fns


def test_importing_the_page_is_cheap():
    command = "import sys, qmmfl.ui; print({'gradio', 'torch', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "set()"
