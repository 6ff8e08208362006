"""The served page under abuse: limits, headers, probes, many users, a long load, a signal in the middle."""

import asyncio
import contextlib
import hashlib
import http.client
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import test_photograph
import visits
from fakes import FakePipeline, fake_photograph
from PIL import Image
from served import JSON, ROOT, Server, serve

from qmmfl import cli, draw, guard, photograph, pipeline, ui

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="memory and threads are read from /proc")
QUICK = 0.05  # [s] that a reading takes
USERS = 20
SECRET = "root:"
MEGABYTE = 2**20


def eye(seed: int, width: int = 240) -> bytes:
    return draw.encode(fake_photograph(seed, width, 230).pixels, "png")


def stamp(data: bytes) -> str:
    return hashlib.sha256(photograph.read(data).pixels.tobytes()).hexdigest()


def is_answer_to(answer: tuple[str, object], data: bytes) -> bool:
    event, report = answer
    return (
        event == "complete"
        and isinstance(report, dict)
        and report["provenance"]["weights_source"] == stamp(data)
        and report["input"]["sha256"] == hashlib.sha256(data).hexdigest()
    )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The server, which takes seconds to start: one for all, and another where a test has ended it."""
    with contextlib.ExitStack() as stack:
        servers: list[Server] = []

        def running() -> Server:
            if not servers or servers[-1].child.poll() is not None:
                servers.append(stack.enter_context(serve(tmp_path_factory.mktemp("server"), QUICK)))
            return servers[-1]

        yield running


@pytest.fixture
def server(start) -> Server:
    return start()


PAGES = ("/", "/config", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/nowhere", "/theme.css")


@pytest.mark.parametrize("page", PAGES)
def test_every_answer_carries_the_headers(server, page):
    _, headers, _ = server.ask("GET", page)
    policy = headers["content-security-policy"]
    for rule in ("default-src 'self'", "connect-src 'self'", "object-src 'none'", "frame-ancestors 'self'"):
        assert rule in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]


def test_other_sites_may_not_read(server):
    _, headers, _ = server.ask("GET", "/config", headers={"origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in headers


def test_pages_that_others_reach_are_read_by_no_other_site():
    """Behind a password Gradio lets every site in: it takes any origin once the host is not this machine."""

    async def app(scope, receive, send):
        shared = [(b"Access-Control-Allow-Origin", b"https://elsewhere.example"), (b"x", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": shared})
        await send({"type": "http.response.body", "body": b""})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/config", "headers": [(b"host", b"clinic.example")]}
    asyncio.run(guard.Guard(app)(scope, None, send))
    names = {name.lower() for name, _ in sent[0]["headers"]}
    assert b"x" in names
    assert not any(name.startswith(b"access-control") for name in names)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "localhost.evil.example", ""])
def test_a_name_that_another_site_gave_this_machine_is_refused(server, host):
    for path in ("/", "/config", "/gradio_api/info"):
        status, _, said = server.ask("GET", path, headers={"host": host.format(port=server.port)})
        assert (status, b"open it as localhost" in said) == (421, True)
    assert server.ask("GET", "/config", headers={"host": f"localhost:{server.port}"})[0] == 200


@pytest.mark.parametrize("path", ["queue/join", "call/analyse", "component_server", "run/analyse", "call/upload"])
def test_large_bodies_are_refused(server, path):
    before = server.figures()["memory"]
    body = b'{"data": ["data:image/png;base64,' + b"x" * (2 * MEGABYTE) + b'"]}'
    declared = {**JSON, "content-length": str(62 * MEGABYTE)}
    assert server.ask("POST", f"/gradio_api/{path}", body[:1000], declared)[0] == 413
    assert server.ask("POST", f"/gradio_api/{path}", iter([body]), JSON)[0] == 413
    assert server.figures()["memory"] - before < 100 * MEGABYTE


def test_large_files_are_refused(server):
    files = server.figures()["files"]
    status, said = server.upload(("eye.png", bytes(30 * MEGABYTE + 100_000)))
    assert (status, "maximum allowed size" in said) == (413, True)
    kind = {"content-type": "multipart/form-data; boundary=x", "content-length": str(62 * MEGABYTE)}
    status, _, said = server.ask("POST", "/gradio_api/upload", b"--x", kind)
    assert (status, said.endswith(b"one photograph of at most 30 MiB at a time.")) == (413, True)
    assert server.figures()["files"] == files, "no half file is left"


def test_uploads_that_broke_off_are_swept_with_the_next(server):
    folder = next(server.temporary.glob("qmmfl-*"))
    head = b'--x\r\ncontent-disposition: form-data; name="files"; filename="eye.png"\r\n\r\n'
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        asked = f"POST /gradio_api/upload HTTP/1.1\r\nhost: localhost:{server.port}\r\ncontent-length: 3000000\r\n"
        line.sendall(f"{asked}content-type: multipart/form-data; boundary=x\r\n\r\n".encode() + head + bytes(2_000_000))
        limit = time.monotonic() + 30
        while not (left := list(folder.glob("tmp*"))) and time.monotonic() < limit:
            time.sleep(0.05)
    assert left, "Gradio writes as it comes"
    sizes = []
    while sizes != (sizes := [path.stat().st_size for path in left]) and time.monotonic() < limit:
        time.sleep(0.5)  # what is still written would make it new again
    for path in left:
        os.utime(path, (1, 1))
    assert server.read(eye(2))[0] == "complete"
    assert not any(path.exists() for path in left)


def test_both_eyes_can_be_sent_at_once(server):
    status, said = server.upload(("right.png", bytes(20 * MEGABYTE)), ("left.png", bytes(20 * MEGABYTE)))
    assert (status, len(said)) == (200, 2)


def test_a_thousand_files_are_refused(server):
    status, _ = server.upload(*((f"{number}.png", b"x") for number in range(1001)))
    assert status in (400, 413)
    assert server.call([{"path": "a"}, {"path": "b"}, {"path": "c"}])[0] == "error"


@pytest.mark.parametrize(
    "path",
    [
        *("file=/etc/passwd", "file=../../etc/passwd", "file=%2e%2e/%2e%2e/etc/passwd", "file=/proc/self/environ"),
        *("file=~/.ssh/id_rsa", "file=//etc/passwd", "file=\\etc\\passwd", "file=/dev/zero", "file//etc/passwd"),
        *("custom_component/1/client/component/../../../etc/passwd", "vibe-code/", "mcp/sse", "runs", "stream/a/b/0/x"),
        *("../static/../../../etc/passwd", "../assets/..%2f..%2f..%2fetc/passwd", "../svelte/..%2f..%2fetc/passwd"),
        *("../monitoring", "../monitoring/summary", "../app.py", "../.git/config", "../qmmfl/guard.py"),
    ],
)
def test_paths_of_the_server_are_closed(server, path):
    address = "/" + path.removeprefix("../") if path.startswith("../") else f"/gradio_api/{path}"
    status, _, body = server.ask("GET", address, timeout=20)
    assert status in (400, 403, 404, 405)
    assert SECRET.encode() not in body
    assert b"Traceback" not in body


@pytest.fixture
def trap():
    """A port on this machine that must not be knocked at, and how often it was."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)

        def knocks() -> int:
            count = 0
            try:
                while True:
                    listener.accept()[0].close()
                    count += 1
            except TimeoutError:
                return count

        yield listener.getsockname()[1], knocks


def test_the_server_fetches_nothing_for_others(server, trap):
    port, knocks = trap
    url = f"http://127.0.0.1:{port}/eye.png"
    for path in (
        f"file={url}",
        f"file/{url}",
        f"proxy={url}",
        f"file=%20{url}",
        f"file=HTTP{url[4:]}",
        f"proxy={url}?x",
    ):
        status, _, _ = server.ask("GET", f"/gradio_api/{path}", timeout=20)
        assert status in (400, 403, 404)
    for payload in (
        {"url": url}, {"path": url}, {"path": "", "url": url}, {"path": None, "url": "file:///etc/passwd"}, url,
        {"path": "x", "url": url, "meta": {"_type": "gradio.FileData"}}, {"url": "http://169.254.169.254/latest"},
        {"path": url, "is_stream": True}, {"path": url, "is_file": True},
    ):  # fmt: skip
        event, told = server.call(payload)
        assert event == "error"
        assert SECRET not in str(told)
    for number in range(6):
        body = {"data": [[{"path": url, "url": url}], {"url": url}], "fn_index": number, "session_hash": "trap"}
        server.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode(), JSON)
    assert knocks() == 0


def test_files_of_the_server_are_not_read_for_others(server):
    outside = server.folder / "outside.png"
    outside.write_bytes(eye(1))
    _, (inside,) = server.upload(("eye.png", eye(1)))
    folder = os.path.dirname(os.path.dirname(inside))
    for path in (
        outside,
        "/etc/passwd",
        f"{folder}/../../outside.png",
        f"{folder}/..",
        "~/.ssh/id_rsa",
        "app.py",
        "",
        "a\0b",
    ):
        event, told = server.call({"path": str(path), "meta": {"_type": "gradio.FileData"}})
        assert event == "error"
        assert SECRET not in str(told)
        assert str(server.folder) not in str(told)


@pytest.mark.parametrize(
    "name",
    ["../../../evil.png", "..\\..\\evil.png", "/etc/evil.png", "a\0b.png", "x" * 300 + ".png", "CON.png", ".hidden",
     "öç 眼;&'.png", "noextension", "eye.html", "%2e%2e%2fevil.png", " "],
)  # fmt: skip
def test_an_upload_stays_in_its_folder(server, name):
    outside = {path for path in server.folder.iterdir()}
    status, said = server.upload((name, eye(2)))
    assert status in (200, 400)
    if status == 200:
        (path,) = said
        private = next(server.temporary.glob("qmmfl-*"))
        assert os.path.realpath(path).startswith(f"{private}{os.sep}")
        assert is_answer_to(server.call({"path": path}), eye(2))
    assert {path for path in server.folder.iterdir()} <= outside | {server.folder / "reading"}


_PAGE = b"<html><script>alert(1)</script></html>"


def test_an_uploaded_page_is_never_shown(server):
    for name, data in (("a.html", _PAGE), ("a.svg", test_photograph.SVG), ("a.jpg", _PAGE)):
        _, (path,) = server.upload((name, data))
        status, headers, _ = server.ask("GET", f"/gradio_api/file={path}")
        shown = headers["content-type"] == "image/jpeg"  # as what it is not, which nosniff makes the browser believe
        assert status == 403 or shown or headers["content-disposition"].startswith("attachment")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_names_and_metadata_stay_out_of_the_answer_and_the_log(server):
    for name, data in test_photograph.carriers().items():
        assert test_photograph.SECRET in data
        event, report = server.read(data, "Doe_John_1950.png")
        assert event == "complete", name
        assert report["input"]["name"] is None
        for text in (json.dumps(report), server.log.read_text()):
            assert "DOE^JOHN" not in text
            assert "Doe_John" not in text


SIZES = ((1, 1), (1, 5000), (64, 64), (223, 223), (4000, 300))
BAD = {
    **test_photograph.UNREADABLE,
    **test_photograph.DAMAGED,
    **test_photograph.BOMBS,
    **{name: data for name, (data, _) in test_photograph.SEVERAL.items()},
    **test_photograph.PIXELS,
    "1 empty": b"",
    **{f"10 to 13 and 60, {size}": test_photograph.encode(Image.new("RGB", size)) for size in SIZES},
    "24 transparent": test_photograph.encode(Image.new("RGBA", (240, 240))),
    "30 bigtiff": test_photograph.bigtiff(5 << 30),
}


def test_every_bad_file_gets_one_sentence_and_the_next_photograph_its_report(server):
    good = eye(3)
    first, before = server.read(good), server.figures()["memory"]
    for name, data in BAD.items():
        began = server.figures()["milliseconds"]
        event, told = server.read(data, "Doe_John.jpg")
        assert event == "error", name
        said = json.loads(told)["error"]
        assert said.startswith("Cannot read the photograph: "), (name, said)
        assert "Doe" not in said
        assert server.figures()["milliseconds"] - began < 2000
    assert server.figures()["memory"] - before < 400 * MEGABYTE
    again = server.read(good)
    assert is_answer_to(again, good)
    for each in (first[1], again[1]):
        each["provenance"].pop("created"), each["provenance"].pop("seconds")
    assert again[1] == first[1]


def largest(kind: str) -> bytes:
    """A file of nearly as many pixels as are read, of the kind whose decoder wants most."""
    tile = np.random.default_rng(0).integers(0, 255, (500, 600, 4), np.uint8)
    turned = Image.Exif()
    turned[274] = 6
    mode, options = ("RGBA", {}) if kind == "PNG" else ("RGB", {"quality": 50, "exif": turned})
    file = io.BytesIO()
    Image.fromarray(np.tile(tile, (10, 10, 1))).convert(mode).save(file, kind, **options)
    return file.getvalue()


def peaks() -> dict[str, float]:
    """Name of a file -> how far memory rises while it is read or refused [bytes]; of this process, meant to be new."""

    def now(what: str) -> int:
        return 1024 * int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1))

    photograph.read(test_photograph.GOOD)
    result = {}
    for name, data in (*BAD.items(), *((f"largest {kind}", largest(kind)) for kind in ("PNG", "JPEG"))):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = now("VmRSS")
        with contextlib.suppress(photograph.PhotographError):
            photograph.read(data)
        result[name] = now("VmHWM") - before
    return result


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset here")
def test_no_file_takes_more_than_400_megabytes_while_it_is_read_or_refused():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as new:
        found = new.submit(peaks).result()
    assert found["largest JPEG"] > 80 * MEGABYTE, "pixels alone are that many: it was read, and the peak was seen"
    assert not {name: rise for name, rise in found.items() if rise > 400 * MEGABYTE}


WRONG = (None, 3, 0.5, True, "x", [], [1], {}, {"path": 3}, {"path": {"a": 1}}, {"path": None}, [{"path": "x"}], "\0")


@pytest.mark.parametrize("payload", WRONG, ids=repr)
def test_wrong_types_are_an_error_without_a_trace(server, payload):
    event, told = server.call(payload)
    assert event == "error" or event.startswith("4")
    assert "Traceback" not in str(told)
    assert ".py" not in str(told)


@pytest.mark.parametrize("data", [(), (1, 2), ({}, {}, {})], ids=repr)
def test_a_wrong_count_of_arguments_is_an_error(server, data):
    event, told = server.call(*data)
    assert event == "error" or event.startswith("4")
    assert "Traceback" not in str(told)


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text('aZ0 ./\0\n<"\u773c\ud800', max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(("path", "url", "meta", "_type", "data", "x")), inner, max_size=3),
    ),
    max_leaves=6,
)
FIELDS = ("data", "fn_index", "session_hash", "event_id", "event_data", "trigger_id", "component_id", "fn_name", "code")
PLACES = (
    "call/analyse",
    "call/v2/analyse",
    "queue/join",
    "run/analyse",
    "cancel",
    "reset",
    "component_server",
    "stream/x",
)


@pytest.mark.slow
@hypothesis.settings(
    max_examples=80,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    place=st.sampled_from(PLACES),
    given=st.dictionaries(st.sampled_from(FIELDS), VALUE, max_size=6),
    sane=st.booleans(),
)
def test_any_json_is_answered(start, place, given, sane):
    """Sane: what the endpoint wants is there, so that the values reach our own functions."""
    running = start()
    pid = running.child.pid
    if sane:
        data = given.get("data")
        number = given.get("fn_index")
        given = {**given, "data": data if isinstance(data, list) else [data], "session_hash": "fuzz"}
        given["fn_index"] = number % 40 if isinstance(number, int) else 0
    status, _, said = running.ask("POST", f"/gradio_api/{place}", json.dumps(given).encode(), JSON)
    assert status in (200, 400, 403, 404, 405, 413, 422, 500, 503)
    assert b"Traceback" not in said
    assert str(running.folder).encode() not in said
    if status == 200 and place.startswith("call/analyse"):
        number = json.loads(said)["event_id"]
        told = running.ask("GET", f"/gradio_api/call/analyse/{number}")[2].decode()
        assert "event: error" in told
        assert "Traceback" not in told
    assert start().child.pid == pid, "it is still the same server"


def test_after_the_fuzz_a_photograph_is_read(server):
    assert is_answer_to(patient(server, eye(4)), eye(4))


def patient(server: Server, data: bytes) -> tuple[str, object]:
    """The answer, asked again while the queue is full."""
    for _ in range(100):
        answer = server.read(data)
        if answer[0] != "503":
            break
        time.sleep(0.1)
    return answer


@pytest.mark.slow
def test_twenty_users_get_their_own_answer_or_busy(server):
    eyes = [eye(seed) for seed in range(USERS)]
    paths = [server.upload((f"{seed}.png", data))[1][0] for seed, data in enumerate(eyes)]
    together = threading.Barrier(USERS)

    def ask(number: int) -> tuple[str, object]:
        together.wait(60)
        return server.call({"path": paths[number]})

    with ThreadPoolExecutor(USERS) as pool:
        answers = list(pool.map(ask, range(USERS)))
    own = [is_answer_to(answer, data) for answer, data in zip(answers, eyes, strict=True)]
    busy = [event == "503" and "full" in str(said) for event, said in answers]
    assert all(a != b for a, b in zip(own, busy, strict=True)), Counter(event for event, _ in answers)
    assert sum(own) >= 16
    late = [is_answer_to(patient(server, data), data) for data, waits in zip(eyes, busy, strict=True) if waits]
    assert all(late), "who was told to wait is served later"


def test_an_answer_nobody_waits_for_holds_up_nobody(server):
    _, (path,) = server.upload(("eye.png", eye(5)))
    body = json.dumps({"data": [{"path": path}]}).encode()
    for _ in range(3):  # three tabs that were closed
        assert server.ask("POST", "/gradio_api/call/analyse", body, JSON)[0] == 200
    began = time.monotonic()
    assert is_answer_to(server.read(eye(6)), eye(6))
    assert time.monotonic() - began < 5 * patience()


def load(server: Server, count: int) -> dict[str, int]:
    """`count` requests of every kind; what grew after the first fifth."""
    files = [eye(seed) for seed in range(8)]
    bad = list(BAD.values())[:8]
    first = {}
    for number in range(count):
        if number % (count // 10) == 0:
            print(number, server.figures(), flush=True)
        if number == count // 5:
            first = server.figures()
        kind = number % 4
        if kind == 0:
            data = files[number // 4 % len(files)]
            assert is_answer_to(patient(server, data), data)
        elif kind == 1:
            assert server.read(bad[number // 4 % len(bad)])[0] == "error"
        elif kind == 2:
            assert server.call(WRONG[number // 4 % len(WRONG)])[0] != "complete"
        else:
            server.ask("GET", PAGES[number // 4 % len(PAGES)])
    last = server.figures()
    return {key: last[key] - first[key] for key in last}


@pytest.mark.slow
def test_a_load_leaves_nothing_behind(server):
    grown = load(server, 60)
    assert grown["memory"] < 40 * MEGABYTE
    assert grown["descriptors"] <= 4
    assert grown["threads"] <= 4
    assert grown["files"] == 0, "an upload is deleted when it has been read"


@pytest.mark.soak
def test_two_thousand_requests_leave_nothing_behind(tmp_path):
    with serve(tmp_path) as server:
        start = server.figures()["memory"]
        grown = load(server, 2000)
        print(f"from {start / MEGABYTE:.0f} MB: {grown}")
        assert grown["memory"] < 0.05 * server.figures()["memory"]
        assert grown["descriptors"] <= 4
        assert grown["threads"] <= 4
        assert grown["files"] == 0


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    numbers = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [number for number in numbers if parent_of(number) == pid]


def parent_of(pid: int) -> int | None:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["told to end", "terminal closed"])
def test_a_signal_in_the_middle_leaves_nothing_behind(server, number):
    _, (path,) = server.upload(("Doe_John.png", eye(7, 440)))
    assert server.figures()["files"] > 0
    (server.folder / "reading").unlink(missing_ok=True)
    body = json.dumps({"data": [{"path": path}]}).encode()
    assert server.ask("POST", "/gradio_api/call/analyse", body, JSON)[0] == 200
    limit = time.monotonic() + 60
    while not (server.folder / "reading").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert (server.folder / "reading").exists(), "a photograph is being read, which takes a minute"
    said, started = len(server.log.read_text()), children(server.child.pid)
    server.child.send_signal(number)
    time.sleep(0.1)
    assert server.stop(number) < 5 * patience(), "a second signal does not cut the first one's work short"
    assert server.child.returncode == 0
    assert list(server.temporary.iterdir()) == [], "the private folder is gone"
    assert not any(os.path.exists(f"/proc/{pid}") for pid in started), "and no process of its own runs on"
    assert {path.name.partition("-")[0] for path in server.home.iterdir()} <= {"fontlist"}
    assert "Traceback" not in server.log.read_text()[said:]
    with pytest.raises(OSError, match="refused"):
        server.ask("GET", "/")


@pytest.mark.skipif(sys.platform == "win32", reason="a lock tells whether a process lives, which Windows lacks")
def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path):
    program = "import sys, time; from qmmfl import guard; print(guard.private_folder(), flush=True); time.sleep({})"
    settings = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def start(seconds: int) -> tuple[subprocess.Popen, Path]:
        child = subprocess.Popen(
            [sys.executable, "-c", program.format(seconds)], env=settings, stdout=subprocess.PIPE, text=True
        )
        return child, Path(child.stdout.readline().strip())

    killed, left = start(600)
    (left / "eye.png").write_bytes(b"a photograph")
    alive, kept = start(600)
    assert left.is_dir(), "of a process that lives"
    killed.kill()
    killed.wait()
    try:
        last, own = start(0)
        assert not left.exists()
        assert kept.is_dir()
        assert own != kept
        last.wait()
    finally:
        alive.kill()
        alive.wait()


@pytest.mark.skipif(guard.fcntl is None, reason="there is no lock, and nothing that heeds it")
def test_what_cleans_up_old_temporary_files_leaves_the_private_folder_alone():
    place = os.open(guard.private_folder(), os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):  # as systemd-tmpfiles asks before it looks for what is old
            guard.fcntl.flock(place, guard.fcntl.LOCK_EX | guard.fcntl.LOCK_NB)
    finally:
        os.close(place)


def test_a_private_folder_that_was_cleaned_away_is_made_anew(server):
    folder = next(server.temporary.glob("qmmfl-*"))
    shutil.rmtree(folder)
    assert is_answer_to(server.read(eye(8)), eye(8))
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "lives").exists(), "or the next server would take it for a dead one's"


def patience() -> float:
    """How much slower than alone this machine is at present."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", ""])
def test_other_hosts_want_a_password(host, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    with pytest.raises(ValueError, match="--auth-file"):
        guard.allow(host, password=False)
    guard.allow(host, password=True)


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
def test_addresses_on_which_other_sites_could_read_are_refused(host):
    with pytest.raises(ValueError, match="stay on 127"):
        guard.allow(host, password=True)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl, which makes a certificate for the test, is not there")
def test_the_page_can_be_served_encrypted(tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    asked = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=qmmfl -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*asked.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with visits.served(FakePipeline(), tls=(certificate, key)) as address:
        assert address.startswith("https://")
        trusting = ssl.create_default_context(cafile=certificate)
        with urllib.request.urlopen(address, context=trusting, timeout=60) as answer:
            assert b"qmmfl" in answer.read()
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(address.replace("https", "http"), timeout=60)


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """The address that `qmmfl serve` serves to one nurse, whose password has a colon in it."""
    staff, running, serve = tmp_path / "staff", [], ui.serve
    staff.write_text("nurse: a:b \n", "utf-8-sig")  # as Windows saves it
    monkeypatch.setattr(pipeline, "load", lambda *_: FakePipeline())
    monkeypatch.setattr(ui, "serve", lambda *given: running.append(serve(*given, wait=False)))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    mask = os.umask(0o077)
    assert cli.main(["serve", "--port", str(port), "--auth-file", str(staff)]) == cli.OK
    yield f"http://127.0.0.1:{port}/"
    running[0].close()
    os.umask(mask)


class Caller:
    """Somebody with a browser's cookies, who may have logged in."""

    def __init__(self, address: str) -> None:
        self.address, self.opener = address, urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> int:
        """The status of what is answered."""
        asked = urllib.request.Request(self.address + path, body, {"content-type": kind})
        try:
            with self.opener.open(asked, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def log_in(self, user: str, password: str) -> int:
        named = urllib.parse.urlencode({"username": user, "password": password}).encode()
        return self.ask("login", named, "application/x-www-form-urlencoded")

    def everything(self) -> list[int]:
        """The statuses of the page's description, of an upload and of a call."""
        head = b'--x\r\ncontent-disposition: form-data; name="files"; filename="eye.png"\r\n\r\n'
        return [
            self.ask("config"),
            self.ask("gradio_api/upload", head + eye(1) + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"),
            self.ask("gradio_api/call/analyse", b'{"data": [null]}'),
        ]


def test_a_password_lets_in_who_knows_it_and_nobody_else(ward):
    assert Caller(ward).everything() == [401, 401, 401], "nobody has logged in"
    for user, password in (("nurse", "a"), ("nurse", "b"), ("nurse", "nurse"), ("nurse", ""), ("a:b", "nurse")):
        stranger = Caller(ward)
        assert stranger.log_in(user, password) >= 400, password
        assert stranger.everything() == [401, 401, 401], password
    nurse = Caller(ward)
    assert nurse.log_in("nurse", "a:b") == 200
    assert nurse.everything() == [200, 200, 200]
    assert Caller(ward).everything() == [401, 401, 401], "the others are still strangers"


def through_guard(path: str) -> int:
    """The status of an empty POST through the guard, before an application that answers 200."""
    sent = []

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": []}
    asyncio.run(guard.Guard(answer)(scope, receive, send))
    return sent[0]["status"]


def test_a_full_store_or_disk_takes_no_more_files(monkeypatch):
    assert through_guard("/gradio_api/upload") == 200
    (guard.private_folder() / "kept").write_bytes(b"x" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(guard, "STORE_LIMIT", 99)
        assert through_guard("/gradio_api/upload") == 507
        assert through_guard("/gradio_api/call/analyse") == 200, "what is there can be read"
    with monkeypatch.context() as patch:
        patch.setattr(guard, "SPARE", 1 << 62)
        assert through_guard("/gradio_api/upload") == 507
    (guard.private_folder() / "kept").unlink()
    assert through_guard("/gradio_api/upload") == 200
