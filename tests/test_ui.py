"""The page's server side: answers belong to who asked, faults arrive as one sentence, nothing is left lying around."""

import csv
import http.client
import io
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import cv2
import gradio as gr
import numpy as np
import pytest
from fakes import FakeCard, FakePipeline, fake_photograph, fake_report

from qmmfl import draw, evidence, guard, labels, photograph, review, ui, weights
from qmmfl.laterality import OPEN
from qmmfl.measures import BY_DISC
from qmmfl.prose import about, comparison, doubts, markup, paper
from qmmfl.records import Eye
from qmmfl.ui import answers, border, cases, examples, exports, gpu, layout, server, sessions, uploads
from qmmfl.ui import page as built
from qmmfl.ui.border import Stopped
from qmmfl.ui.handlers import Handlers
from qmmfl.ui.reader import Reader, begin, stop

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


def test_a_photograph_that_is_not_gradable_gets_no_probability_of_the_api(connect, files):
    from gradio_client import handle_file

    answer = connect().predict(handle_file(str(files["dark"])), api_name="/analyse")
    assert answer["quality"]["gradable"] is False
    assert [each["probability"] for each in answer["findings"]] == [None] * len(labels.FINDINGS)
    assert answer["dr"]["probabilities"] is answer["dr"]["grade"] is answer["dme"]["probability"] is None


@pytest.fixture
def told_by_disc(monkeypatch):
    """The side is what the fake report says: its photograph has no fovea that could speak against it."""
    monkeypatch.setattr(evidence, "sided", lambda report: report)


SAID = "file name and " + BY_DISC
ASKED = f"The file name says left eye, but by the {BY_DISC} it is a right eye. Which eye is it?"


@pytest.mark.parametrize(
    ("picture", "name", "side", "origin", "note"),
    [  # by the photograph itself, the first is of a right eye and the dark one of either
        ("Doe_John", "Doe_John_OD.png", "right", SAID, None),
        ("Doe_John", "Doe_John_OS.png", None, OPEN, ASKED),
        ("Doe_John", "Doe_John.png", "right", BY_DISC, None),
        ("dark", "Doe_John_OD.png", "right", "file name", None),
        ("dark", "Doe_John_OS.png", "left", "file name", None),
    ],
)
@pytest.mark.usefixtures("told_by_disc")
def test_the_api_says_the_side_that_name_and_photograph_agree_on(
    connect, files, tmp_path, picture, name, side, origin, note
):
    from gradio_client import handle_file

    answer = connect().predict(handle_file(str(shutil.copy(files[picture], tmp_path / name))), api_name="/analyse")
    assert answer["eye"] == {"side": side, "from": origin}
    assert [each for each in answer["input"]["notes"] if "eye" in each] == ([note] if note else [])
    assert "Doe" not in json.dumps(answer)


@pytest.mark.parametrize(("tag", "side", "origin"), [("R", "right", f"DICOM tag and {BY_DISC}"), ("L", None, OPEN)])
@pytest.mark.usefixtures("told_by_disc")
def test_the_api_heeds_the_side_in_the_tag_of_a_dicom_file(connect, tmp_path, tag, side, origin):
    pytest.importorskip("pydicom")
    from gradio_client import handle_file
    from test_dicom import dataset, written

    path = tmp_path / "IMG_0001.dcm"
    path.write_bytes(written(dataset(fake_photograph(5).pixels, ImageLaterality=tag)))
    answer = connect().predict(handle_file(str(path)), api_name="/analyse")
    assert answer["eye"] == {"side": side, "from": origin}
    asked = ASKED.replace("file name", "DICOM tag")
    assert (asked in answer["input"]["notes"]) == (side is None)


def call(port: int, payload) -> str:
    """The event stream of one raw call, as an attacker would make it."""
    kind = {"content-type": "application/json"}
    status, _, body = ask(port, "POST", "/gradio_api/call/analyse", json.dumps({"data": [payload]}).encode(), kind)
    if status != 200:
        return f"refused {status}"
    return ask(port, "GET", f"/gradio_api/call/analyse/{json.loads(body)['event_id']}")[2].decode()


def test_wrong_json_types_are_told_in_one_sentence(port, pipeline):
    seen = len(pipeline.seen)
    for payload in (None, 3, "x", [], {}, {"path": 3}, {"path": None}):
        answer = call(port, payload)
        assert "gradio_client.handle_file" in answer, payload
        assert "reference" not in answer
    assert "Only an uploaded photograph" in call(port, {"path": "a\0b"})
    assert len(pipeline.seen) == seen


def send(port: int, path: str) -> Path:
    """Upload a file as the browser does; where Gradio put it."""
    mark = "boundary"
    head = f'--{mark}\r\ncontent-disposition: form-data; name="files"; filename="eye.png"\r\n\r\n'
    body = head.encode() + Path(path).read_bytes() + f"\r\n--{mark}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={mark}"}
    return Path(json.loads(ask(port, "POST", "/gradio_api/upload", body, kind)[2])[0])


def test_an_upload_is_gone_when_the_api_has_answered(port, eye, tmp_path):
    def kept() -> set[Path]:
        return {path for path in guard.private_folder().rglob("*") if path.is_file()}

    letter, before = tmp_path / "letter.jpg", kept()
    letter.write_text("Dear colleague")
    for path, event in ((eye(7)[0], "complete"), (str(letter), "error")):
        sent = send(port, path)
        assert sent in kept()
        assert f"event: {event}" in call(port, {"path": str(sent), "meta": {"_type": "gradio.FileData"}})
        assert kept() <= before, event
        assert not sent.parent.exists(), "nor the folder that Gradio made for it"


def test_the_same_file_is_uploaded_into_folders_of_their_own(port, eye):
    paths = [send(port, eye(7)[0]) for _ in range(2)]
    one, two = (uploads.take(cases.open_case(), [str(path)])[0] for path in paths)
    cases.forget(one)
    assert two.eye.read().sha256 == photograph.read(eye(7)[0]).sha256
    assert not any(path.exists() for path in paths), "neither upload is left"
    cases.forget(two)


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


@pytest.fixture
def case(eye):
    """A case with one photograph that was just chosen."""
    opened, said = uploads.take(cases.open_case(), [upload(eye(7)[0], "Doe_John_OD.png")])
    assert said == []
    yield opened
    cases.forget(opened)


def upload(path: str, name: str = "photograph.png") -> str:
    """A file where Gradio puts what a browser sends."""
    folder = guard.private_folder() / os.urandom(8).hex()
    folder.mkdir()
    return str(Path(path).rename(folder / name))


def test_pictures_are_served_but_not_kept_by_the_browser(port, case):
    address = case.eye.save("photograph", fake_photograph().pixels, "jpeg")
    status, headers, body = ask(port, "GET", "/" + address)
    assert (status, body[:2]) == (200, b"\xff\xd8")
    assert headers["cache-control"] == "no-store"
    cases.forget(case)
    assert ask(port, "GET", "/" + address)[0] == 403
    assert not case.folder.exists()


def test_a_picture_asked_for_twice_is_not_rewritten_while_it_is_fetched(case):
    address = case.eye.save("score_DR", fake_photograph().pixels, "jpeg")
    path = Path(address.partition("=")[2])
    before = path.stat()
    assert case.eye.save("score_DR", fake_photograph().pixels, "jpeg") == address
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_private_folder_is_ours_alone(case):
    folder = guard.private_folder()
    assert folder.stat().st_mode & 0o077 == 0
    assert folder == guard.private_folder()
    assert case.folder.stat().st_mode & 0o077 == 0


def test_an_upload_is_renamed_and_the_original_is_gone(eye):
    path = upload(eye(8)[0], "Doe_John_OD.png")
    case, _ = uploads.take(cases.open_case(), [path])
    assert not Path(path).exists()
    assert not Path(path).parent.exists()
    assert Path(case.files[0]).name == "right_eye.png"
    assert "Doe" not in str(case.files)
    again, _ = uploads.take(case, [])
    assert again.eyes == ()
    assert not Path(case.files[0]).exists()


def test_a_case_holds_two_photographs_and_loses_none_to_a_bad_third(eye, tmp_path):
    letter = tmp_path / "letter.jpg"
    letter.write_text("Dear colleague")
    first, second = upload(eye(1)[0]), upload(eye(2)[0])
    case, said = uploads.take(cases.open_case(), [first, upload(str(letter), "letter.jpg"), second])
    assert len(case.eyes) == 2
    assert len(said) == 1
    assert "letter" not in said[0]
    third = Path(upload(eye(3)[0]))
    more, said = uploads.take(case, [*case.files, str(third)])
    assert more.files == case.files
    assert "two photographs" in said[0]
    assert not third.parent.exists(), "what is not taken does not stay with its name"


def test_one_photograph_is_not_taken_as_both_eyes(eye, answer, warned):
    def again(name: str = "OS.png") -> str:
        return upload(shutil.copy(path, Path(path).with_name("again.png")), name)

    path = eye(1)[0]
    page, twice = answer.page, [again("OD.png"), again()]
    made = answer.choose(twice, None)
    case = made[page.state]
    assert [each.named for each in case.eyes] == ["right"]
    assert len(made[page.file]) == 1
    assert warned == ["This is the same photograph again; choose that of the other eye."]
    assert not any(Path(each).parent.exists() for each in twice)
    assert len(list(case.folder.iterdir())) == 1, "nothing of the second stays"
    case = answer.reader.read(case, silent)
    assert answer.choose([*case.files, again()], case)[page.state].eye.report is case.eye.report, "nor later"
    fresh = answer.choose([again()], case)[page.state]
    assert [each.report for each in fresh.eyes] == [None], "in its own place it is read anew"
    assert len(answer.choose([*fresh.files, upload(eye(2)[0])], fresh)[page.state].eyes) == 2
    answer.clear(fresh)
    assert answer.choose([again()], None)[page.state].eye.report is None, "and after the case was cleared"
    assert len(warned) == 2


def test_a_case_in_use_is_not_swept_out(case):
    past = time.time() - 2 * cases.KEEP - 60
    os.utime(case.folder, (past, past))
    cases.hold(case)
    cases.forget(cases.open_case())
    assert Path(case.files[0]).exists()


def test_the_files_of_the_report_live_as_long_as_their_case(case):
    kept = Path(exports.export(case, None, "retinal_report.json", b"{}"))
    os.utime(kept, (1, 1))
    cases.hold(case)
    assert time.time() - kept.stat().st_mtime < 60, "Gradio deletes by age what a button offers"


def test_an_address_leads_to_its_picture_whatever_the_folder_of_temporary_files_is_called(port):
    folder = guard.private_folder() / 'J. Doe\'s 100% #1 & "x"?'
    folder.mkdir()
    taken = cases.Taken(folder / "photograph.png")
    address = taken.save("photograph", fake_photograph().pixels, "jpeg")
    assert ask(port, "GET", f"/{address}")[2] == (folder / "reading_0" / "photograph.jpg").read_bytes()
    assert not set(" #?&'\"<>") & set(address + taken.preview)
    assert Path(unquote(taken.preview).partition("=")[2]).parent.parent == folder
    shutil.rmtree(folder)


def test_a_picture_never_stands_for_the_uploaded_file_nor_for_an_earlier_reading(eye):
    case, _ = uploads.take(cases.open_case(), [upload(eye(4)[0], "IMG_7.jpg")])
    before = case.eye.file.read_bytes()
    address = case.eye.save("photograph", fake_photograph().pixels[:100, :100], "jpeg")
    assert Path(address.partition("=")[2]).read_bytes() != before == case.eye.file.read_bytes()
    again = case.changed(0, readings=1)
    assert again.eye.save("photograph", fake_photograph().pixels, "jpeg") != address, "it may show another part"
    cases.forget(case)


def test_a_case_that_nobody_cleared_is_swept_out_after_its_time(eye):
    old, fresh = cases.open_case(), cases.open_case()
    past = time.time() - 2 * cases.KEEP - 60
    os.utime(old.folder, (past, past))
    cases.forget(cases.open_case())
    assert not old.folder.exists()
    assert fresh.folder.exists()
    cases.forget(fresh)


@pytest.fixture
def hurried(monkeypatch):
    """Serves a page of its own with other times to live; returns its port and its gr.Blocks."""
    running = []

    def serve(module, **times):
        for name, seconds in times.items():
            monkeypatch.setattr(module, name, seconds)
        port = free_port()
        running.append(ui.serve(FakePipeline(), port=port, wait=False))
        return port, running[-1]

    yield serve
    for each in running:
        each.close()


def gone(path: Path, limit: float = 20) -> bool:
    """Whether it is deleted within `limit` seconds."""
    end = time.monotonic() + limit
    while path.exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not path.exists()


def test_an_upload_that_nobody_takes_is_deleted_when_its_time_is_up(eye, hurried):
    port, _ = hurried(built, KEEP=1, SWEEP=0.2)
    left = send(port, eye(1)[0])
    assert left.is_file()
    assert gone(left)


def press(port: int, demo, name: str, data: list, address: str = "queue/join", session: str = "someone") -> int:
    """Call a handler of the page by its name, as the browser of one session does; the status."""
    number = next(each._id for each in demo.fns.values() if each.name == name)
    body = json.dumps({"data": data, "fn_index": number, "session_hash": session}).encode()
    return ask(port, "POST", f"/gradio_api/{address}", body, {"content-type": "application/json"})[0]


def answered(port: int, session: str = "someone") -> str:
    """What the page of one session is told until nothing of it is waited for."""
    return ask(port, "GET", f"/gradio_api/queue/data?session_hash={session}")[2].decode()


def given(*paths) -> list[dict]:
    """Files as the box for photographs sends them."""
    return [{"path": str(path), "meta": {"_type": "gradio.FileData"}} for path in paths]


def chosen(port: int, demo, path: str, session: str = "someone") -> Path:
    """Choose a photograph; the folder of its case."""
    assert press(port, demo, "choose", [given(send(port, path)), None], session=session) == 200
    return guard.private_folder() / re.search(r"/(case-[\w-]+)/", answered(port, session))[1]


def held(demo, session: str = "someone") -> list[cases.Case]:
    """The cases that the server remembers of one session."""
    known = demo.state_holder.session_data
    kept = known[session].state_data.values() if session in known else ()
    return [each for each in kept if isinstance(each, cases.Case)]


def test_a_case_that_nobody_clears_is_deleted_when_its_time_is_up(eye, hurried):
    assert gone(chosen(*hurried(layout, KEEP=1), eye(2)[0])), "with its photograph and pictures"


def test_programs_that_ask_end_no_case_and_too_many_cases_end_the_oldest(eye, hurried):
    port, demo = hurried(server, SESSIONS=2)
    first = chosen(port, demo, eye(1)[0], "first")
    for _ in range(5):
        assert "event: error" in call(port, None), "every call is a session"
    assert len(demo.state_holder.session_data) == 3
    assert held(demo, "first"), "it stays beside the two that are remembered of them"
    assert first.is_dir()
    others = [chosen(port, demo, eye(seed)[0], f"other_{seed}") for seed in (2, 3)]
    call(port, None)  # whoever comes next
    assert not held(demo, "first")
    assert not first.exists(), "the photograph goes with its session"
    assert all(each.is_dir() for each in others)


def test_what_was_forgotten_is_swept_out_also_while_nobody_opens_a_case(hurried):
    left = cases.open_case().folder
    long_ago = time.time() - 2 * cases.KEEP
    os.utime(left, (long_ago, long_ago))
    hurried(sessions, SWEEP=0.2)
    assert gone(left)


def test_a_photograph_that_is_chosen_while_a_reading_is_drawn_is_not_lost(eye, hurried, monkeypatch):
    def slowly(case, *arguments):
        if any(each.report for each in case.eyes):
            drawing.set()
            time.sleep(2)
        return everything(case, *arguments)

    drawing, everything = threading.Event(), answers.everything
    port, demo = hurried(built)
    chosen(port, demo, eye(1)[0])
    monkeypatch.setattr(answers, "everything", slowly)
    assert press(port, demo, "analyse", [None, None]) == 200
    answered(port)
    assert press(port, demo, "adopt", [None, None]) == 200
    assert drawing.wait(30)
    files = [*held(demo)[-1].files, send(port, eye(2)[0])]
    assert press(port, demo, "choose", [given(*files), None]) == 200
    answered(port)
    (case,) = held(demo)
    assert [each.report is not None for each in case.eyes] == [True, False]


def test_what_is_asked_about_one_eye_does_not_arrive_beside_another(pipeline):
    page = ui.build(pipeline)
    named = {name: {n for n, each in page.fns.items() if each.name == name} for name in ("score", "place", "explain")}
    turned = next(each for each in page.fns.values() if each.name == "turn")
    ended = {number for each in page.fns.values() if each.targets == turned.targets for number in each.cancels}
    for name, numbers in named.items():
        assert numbers, name
        assert numbers <= ended, name


def test_a_case_in_use_outlives_its_time(eye, hurried):
    port, demo = hurried(layout, KEEP=3)
    case = chosen(port, demo, eye(2)[0])
    long_ago, end = time.time() - 2 * cases.KEEP - 60, time.monotonic() + 6
    os.utime(case, (long_ago, long_ago))
    while time.monotonic() < end:
        assert press(port, demo, "use", [None], "run/predict") == 200
        cases.forget(cases.open_case())  # sweeps
        assert case.is_dir()
        time.sleep(0.2)
    assert gone(case), "when the use has ended"


def test_a_case_is_deleted_an_hour_after_its_last_use_and_page_and_promise_say_so():
    assert cases.KEEP == 3600
    for said in (answers.PRIVACY, border.GONE, (ROOT / "SECURITY.md").read_text()):
        assert "was not used for an hour" in said


@pytest.fixture
def answer(monkeypatch):
    """The handlers of a page that is not served."""
    handlers = []
    with monkeypatch.context() as patch:
        patch.setattr(built, "_connect", lambda page, answer, *_: handlers.append(answer))
        built.build(FakePipeline())
    return handlers[0]


@pytest.fixture
def warned(monkeypatch):
    """What the page was warned of."""
    said = []
    monkeypatch.setattr(guard.gradio(), "Warning", lambda sentence, *_, **__: said.append(unescape(sentence)))
    return said


def test_whoever_goes_on_with_a_case_that_was_deleted_is_told(answer, warned):
    word = json.dumps([{"eye": "a" * 64, "opinions": {"DR": "agree"}, "grade": "2", "note": "seen"}])
    for act in (
        partial(answer.note, word),
        partial(answer.keep, word),
        partial(answer.turn, 1),
        partial(answer.correct, 0, "left"),
        partial(answer.score, "DR"),
    ):
        warned.clear()
        made = act(None)
        assert warned == [border.GONE], act
        assert answer.page.viewer not in made, "the page stays, and with it what was said"
    for nothing in (partial(answer.note, "[]"), partial(answer.keep, "[]"), answer.clear):
        warned.clear()
        nothing(None)
        assert warned == [], "nothing is lost"


def test_photographs_are_chosen_again_beside_those_of_a_case_that_was_deleted(eye, answer, warned):
    old, _ = uploads.take(cases.open_case(), [upload(eye(1)[0])])
    cases.forget(old)
    assert answer.choose(old.files, None) == {answer.page.state: None}
    assert warned == [border.GONE]
    made = answer.choose([*old.files, upload(eye(1)[0])], None)
    assert len(made[answer.page.file]) == len(made[answer.page.state].eyes) == 1
    assert warned == [border.GONE], "once"
    answer.clear(made[answer.page.state])


def test_all_pictures_are_all_that_were_synthesized_and_angiograms_come_with_their_caution(case, answer):
    shown = answers.everything(answer.reader.read(case, silent), answer.reader)["pictures"]
    for title in labels.PLANE_TITLES.values():
        assert f"Synthesized picture: {title}" in shown
    assert shown.count("Do not use in place of angiography") == 2


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("press", ["choose", "turn", "correct", "adopt"])
def test_a_case_that_is_cleared_while_it_is_drawn_does_not_come_back(eye, answer, monkeypatch, press, fails):
    case, _ = uploads.take(cases.open_case(), [upload(eye(1)[0])])

    def cleared(case, *_):
        cases.forget(case)
        if fails:  # its pictures find no folder
            raise FileNotFoundError(case.folder)
        return drawn(None, answer.reader)

    read, drawn = answer.reader.read(case, silent), answers.everything
    with monkeypatch.context() as patch:
        patch.setattr(answers, "everything", cleared)
        made = {
            "choose": lambda: answer.choose(case.files, case),
            "turn": lambda: answer.turn(0, case),
            "correct": lambda: answer.correct(0, "right", case),
            "adopt": lambda: answer.adopt(read, case),
        }[press]()
    assert made in (guard.gradio().skip(), {answer.page.read: None})


def test_the_page_forgets_a_review_only_where_the_case_is_cleared(eye, answer, warned, tmp_path):
    old, _ = uploads.take(cases.open_case(), [upload(eye(1)[0])])
    cases.forget(old)
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    wrong = upload(str(tmp_path / "letter.jpg"), "letter.jpg")
    made = answer.choose([*old.files, wrong], None)
    for shown in (made, answer.choose([], None), answer.empty(None), answer.empty(old)):  # or the old one is taken out
        assert shown[answer.page.viewer] == answers.NO_EYE
    for clear in (answer.clear, answer.empty):
        assert clear(cases.open_case())[answer.page.viewer] == answers.WELCOME
    assert answer.clear(None)[answer.page.viewer] == answers.WELCOME
    assert [said.count("cleared") for said in (answers.NO_EYE, answers.WELCOME)] == [0, 1]


def test_run_history_is_off(port):
    page = json.loads(ask(port, "GET", "/config")[2])
    assert page["run_history"] is False, "the browser keeps no runs, and deletes those of before"
    assert ask(port, "GET", "/gradio_api/runs")[0] == 404
    assert ask(port, "POST", "/gradio_api/run-history/connect", b"{}")[0] in (404, 405), "nor does a bucket of the Hub"


def test_what_the_page_promises_of_gradio(pipeline):
    page = ui.build(pipeline)
    assert page.analytics_enabled is False, "no telemetry"
    assert page._queue.max_size == 16, "a queue with a bound"
    kept = [each for each in page.blocks.values() if type(each).__name__ == "State"]
    assert {each.time_to_live for each in kept} == {cases.KEEP}
    assert page.delete_cache == (cases.SWEEP, cases.KEEP), "uploads are gone after their time"
    assert cases.SWEEP <= cases.KEEP <= 3600
    assert not any(getattr(each, "show_share_button", False) for each in page.blocks.values())


def test_a_photograph_is_known_by_its_content_whatever_its_name(eye):
    case, said = uploads.take(cases.open_case(), [upload(eye(7)[0], "IMG_0001")])
    assert said == []
    assert case.eye.read().width == 480
    cases.forget(case)
    page = ui.build(FakePipeline())
    picker = next(each for each in page.blocks.values() if each.elem_id == "upload")
    assert picker.file_types is None, "the browser refuses no name"


def test_an_example_is_the_fellow_of_a_simulated_eye_and_never_of_a_persons(eye, answer):
    own, _ = uploads.take(cases.open_case(), [upload(eye(1)[0], "eye_OS.png")])
    right, left = (next(i for i, path in enumerate(answer.eyes) if side in path.name) for side in ("right", "left"))
    with pytest.raises(Exception, match="clear the case first"):
        answer.choose_example(right, own)
    assert own.folder.is_dir()
    example, _ = uploads.take(cases.open_case(), [str(answer.eyes[left])])
    made = answer.choose_example(right, example)[answer.page.state]
    assert [answers.side_of(made, number) for number in range(2)] == ["left", "right"]
    cases.forget(own)
    cases.forget(made)


def test_whatever_is_made_of_an_example_says_that_it_is_simulated(eye, answer):
    case, _ = uploads.take(cases.open_case(), [str(answer.eyes[0])])
    assert photograph.NOTE_SIMULATED in answers.everything(case, answer.reader)["viewer"]
    case = answer.reader.read(case, silent)
    assert photograph.NOTE_SIMULATED in json.loads(exports.as_json(case, case.shown))["input"]["notes"]
    assert photograph.NOTE_SIMULATED in answers.everything(case, answer.reader)["reading"]
    cases.forget(case)
    own, _ = uploads.take(cases.open_case(), [upload(eye(1)[0], "simulated_eye.png")])
    assert photograph.NOTE_SIMULATED not in own.eye.read().notes
    cases.forget(own)


def test_a_simulated_eye_is_known_wherever_it_comes_from(eye, answer, tmp_path):
    drawn = answer.eyes[0].read_bytes()
    assert photograph.NOTE_SIMULATED in photograph.read(drawn).notes
    own, _ = uploads.take(cases.open_case(), [upload(eye(1)[0], "eye.png")])
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(drawn)
    mixed, said = uploads.take(own, [*own.files, upload(str(copy), "patient_OS.jpg")])
    assert said == [uploads.MIXED]
    cases.forget(mixed)


def test_an_example_makes_way_for_a_person_s_eye_unless_something_was_said_of_it(eye, answer):
    example = str(answer.eyes[0])
    case, _ = uploads.take(cases.open_case(), [example])
    mixed, said = uploads.take(case, [*case.files, upload(eye(1)[0], "eye_OD.png")])
    assert said == [uploads.MADE_WAY]
    assert [each.is_example for each in mixed.eyes] == [False]
    cases.forget(mixed)
    case, _ = uploads.take(cases.open_case(), [example])
    case = case.changed(0, review=review.Review({"DR": "agree"}))
    mixed, said = uploads.take(case, [*case.files, upload(eye(2)[0], "eye_OD.png")])
    assert said == [uploads.MIXED]
    assert mixed.eyes == case.eyes
    cases.forget(mixed)


def test_a_table_and_a_comparison_say_that_eyes_are_simulated(answer):
    case, _ = uploads.take(cases.open_case(), [str(path) for path in answer.eyes[:2]])
    for number in range(2):
        case = answer.reader.read(replace(case, shown=number), silent)
    pairs = [(each.report, each.review) for each in case.eyes]
    assert all(photograph.NOTE_SIMULATED in line for line in review.to_csv(pairs).splitlines()[1:])
    shown = [(case.title(number), each.report, each.save, 100) for number, each in enumerate(case.eyes)]
    assert comparison.comparison_html(shown).count(photograph.NOTE_SIMULATED) == 2
    cases.forget(case)


def two_eyes(eye):
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS"))])
    return case


def test_what_was_read_since_is_not_written_over_by_what_began_before(eye, answer):
    """Measured while the fellow was read: that state of the case knows nothing of the fellow's reading."""
    case = two_eyes(eye)
    first = case.adopt(replace(answer.reader.read(replace(case, eyes=case.eyes[:1]), silent), eyes=case.eyes))
    half = replace(case, eyes=(answer.reader.read(replace(case, eyes=case.eyes[:1]), silent).eyes[0], case.eyes[1]))
    whole = half.adopt(answer.reader.read(half, silent))
    measured = answer.reader.measure(replace(half, shown=0), silent)
    case = whole.adopt(measured)
    assert [each.readings for each in case.eyes] == [1, 1]
    assert case.eyes[1].report is not None
    assert case.eyes[0].measured
    assert case.adopt(whole).eyes[0].measured, "nor is what was measured"
    assert first.folder == case.folder
    cases.forget(case)


def test_an_eye_that_was_read_stays_off_the_page_where_the_clinician_turned_meanwhile(eye, answer):
    case = two_eyes(eye)
    read = answer.reader.read(replace(case, shown=1), silent)
    assert replace(case, shown=1).adopt(read).shown == 0, "the first that was read comes onto the page"
    turned = replace(case, shown=0).turned(1)
    assert turned.adopt(read).shown == 1, "a note of that eye may be half written"
    cases.forget(case)


def test_what_waits_for_its_turn_is_done_with_the_eye_it_was_asked_for(eye, answer):
    case = answer.reader.read(two_eyes(eye), silent)
    wanted = case.eyes[0].file
    made = answer.override(wanted, case.turned(1), lambda *_, **__: None)
    assert [each.overridden for each in made.eyes] == [True, False]
    assert [each.measured for each in answer.measure(wanted, case.turned(1), lambda *_, **__: None).eyes] == [
        True,
        False,
    ]
    with pytest.raises(Exception, match="Choose a photograph first"):
        answer.override(case.folder / "gone.png", case, lambda *_, **__: None)
    cases.forget(case)


def test_a_second_choice_that_was_made_before_the_page_learnt_of_the_first_keeps_both(eye):
    first, second = (upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS")))
    case, _ = uploads.take(cases.open_case(), [first])
    both, said = uploads.take(case, [first, second])
    assert said == []
    assert both.eyes[0] is case.eyes[0]
    assert [each.named for each in both.eyes] == ["right", "left"]
    cases.forget(both)


def test_an_example_stays_where_the_photograph_cannot_be_read(answer, tmp_path):
    case, _ = uploads.take(cases.open_case(), [str(answer.eyes[0])])
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    mixed, said = uploads.take(case, [*case.files, upload(str(tmp_path / "letter.jpg"), "letter.jpg")])
    assert mixed.eyes == case.eyes
    assert len(said) == 1
    assert said[0] != uploads.MADE_WAY
    cases.forget(mixed)


def test_an_example_never_takes_the_place_of_a_readers_case(eye, answer):
    own, _ = uploads.take(cases.open_case(), [upload(eye(1)[0], "eye_OD.png")])
    right = next(i for i, path in enumerate(answer.eyes) if "right" in path.name)
    with pytest.raises(Exception, match="clear the case first"):
        answer.choose_example(right, own)
    assert own.folder.is_dir()
    example, _ = uploads.take(cases.open_case(), [str(answer.eyes[right])])
    assert not example.is_precious
    answer.choose_example(right, example)
    assert not example.folder.is_dir(), "of an example there is always another copy"
    reviewed, _ = uploads.take(cases.open_case(), [str(answer.eyes[right])])
    reviewed = reviewed.changed(0, review=review.Review({"DR": "agree"}))
    with pytest.raises(Exception, match="clear the case first"):
        answer.choose_example(right, reviewed)


def test_an_example_that_was_cleaned_away_is_there_again(answer, warned):
    answer.eyes[0].unlink()
    made = answer.choose_example(0, None)
    assert len(made[answer.page.state].eyes) == 1
    assert warned == []
    answer.clear(made[answer.page.state])


def test_a_file_of_the_server_cannot_be_taken(eye):
    case, said = uploads.take(cases.open_case(), [eye(9)[0]])
    assert case.eyes == ()
    assert "uploaded" in said[0]


def silent(done, total, stage):
    pass


def test_a_conflict_of_sides_is_asked_about_and_the_clinician_decides(case):
    case = Reader(FakePipeline()).read(case, silent)
    assert case.eye.named == "right"
    case = case.changed(0, seen=Eye("left", BY_DISC))
    case = case.changed(0, report=case.eye.settled().report)
    assert case.eye.report.eye.side is None
    assert "Which eye is it?" in case.questions()[0]
    case = case.changed(0, chosen="left")
    assert case.questions() == []
    assert case.eye.settled().report.eye == Eye("left", "chosen by the clinician")


def test_two_photographs_of_one_side_are_asked_about(eye):
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{n}_OS.png") for n in (1, 2)])
    assert "Both photographs" in case.questions()[0]
    assert [case.title(n) for n in (0, 1)] == ["Photograph 1", "Photograph 2"]
    for number in (0, 1):
        case = Reader(FakePipeline()).read(replace(case, shown=number), silent).changed(number, chosen="left")
    for number in (0, 1):  # and what is kept says so
        assert "Both photographs" in " ".join(json.loads(exports.as_json(case, number))["input"]["notes"])
    table = Handlers(SimpleNamespace(), Reader(FakePipeline()), []).keep("[]", case)[2]
    assert all("Both photographs" in row["notes"] for row in csv.DictReader(io.StringIO(written(table))))


def test_an_analysis_ends_at_its_next_stage_when_stopped_or_cleared(case):
    def told(done, total, stage):
        seen.append(stage)
        (stop if len(seen) == 2 else silent_end)(case)

    def silent_end(case):
        pass

    seen = []
    with pytest.raises(Stopped):
        Reader(FakePipeline()).read(case, told)
    assert len(seen) == 2
    with pytest.raises(Stopped):  # also of what still waits for its turn
        Reader(FakePipeline()).read(case, silent)
    begin(case)
    assert Reader(FakePipeline()).read(case, silent).eye.report is not None
    cases.forget(case)
    with pytest.raises(Stopped):
        Reader(FakePipeline()).read(case, silent)


def test_an_explanation_ends_at_its_next_pass_when_stopped(case):
    def why(question, report, code, method, modality, told):
        asked.append(question)
        stop(read)
        told()
        raise AssertionError("it went on")

    asked, reader = [], Reader(FakePipeline())
    read = reader.read(case, silent)
    reader._why = why
    answer = Handlers(SimpleNamespace(), reader, [])
    for _ in range(2):  # the second waited for its turn when it was stopped
        assert "explanation was stopped" in answer.explain("DR", "gradients", "colour", read.eye.file, read)
    assert asked == ["explain"]
    begin(read)
    answer.explain("DR", "gradients", "colour", read.eye.file, read)
    assert asked == ["explain"] * 2


def test_what_the_clinician_said_during_a_reading_stays(case):
    started = case
    read = Reader(FakePipeline()).read(started, silent)
    said = review.accept({"opinions": {}, "grade": "2", "note": "seen"})
    meanwhile = started.changed(0, chosen="left", review=said)
    adopted = Reader(FakePipeline()).settle(meanwhile.adopt(read))
    assert adopted.eye.report.eye == Eye("left", "chosen by the clinician")
    assert (adopted.eye.review, adopted.eye.chosen) == (said, "left")
    assert meanwhile.adopt(started).eyes == meanwhile.eyes


def test_vessels_measured_for_one_eye_do_not_bring_it_back_onto_the_page(eye):
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS"))])
    case = Reader(FakePipeline()).read(case, silent)
    measured = case.changed(0, measured=True)
    turned = replace(case, shown=1).adopt(measured)
    assert (turned.shown, turned.eyes[0].measured, turned.eyes[1].measured) == (1, True, False)
    cases.forget(case)


def test_an_eye_that_was_read_comes_onto_the_page(eye, answer):
    case, _ = uploads.take(cases.open_case(), [upload(eye(1)[0], "OD.png")])
    case, _ = uploads.take(answer.reader.read(case, silent), [*case.files, upload(eye(2)[0], "OS.png")])
    made, page = answer.adopt(answer.reader.read(case, silent), replace(case, shown=0)), answer.page
    adopted = made[page.state]
    assert adopted.shown == 1, "both were read once by now, but they are two"
    assert adopted.eye.report.photograph.sha256 in made[page.provenance]
    made = answer.adopt(adopted.changed(1, measured=True), adopted)
    assert made[page.state].eye.measured
    assert page.viewer not in made, "of the eye on the page only what is new"
    cases.forget(case)


def test_an_answer_goes_beside_the_eye_that_was_asked_about_or_nowhere(eye, answer):
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS"))])
    case = answer.reader.read(case, silent)
    asked, skipped = [], gr.skip()
    answer.reader._why = lambda question, report, *given: asked.append(report) or 1 / 0
    first, second = (each.file for each in case.eyes)
    for ask in (partial(answer.drop, "msi"), partial(answer.hide, "0 0 1 1"), partial(answer.explain, "DR", "a", "b")):
        with pytest.raises(gr.Error):
            ask(first, replace(case, shown=1))
    assert asked == [case.eyes[0].report] * 3, "the clinician turned to the other one meanwhile"
    assert answer.deliver("so", first, replace(case, shown=0)) == "so"
    assert answer.deliver("so", first, replace(case, shown=1)) == skipped
    assert answer.deliver(None, first, replace(case, shown=0)) == skipped
    assert answer.deliver("so", second, None) == skipped
    cases.forget(case)


def test_what_is_said_of_both_eyes_is_new_once_the_other_was_read(eye, answer):
    case, _ = uploads.take(cases.open_case(), [upload(eye(1)[0], "a_OD.png")])
    case, _ = uploads.take(answer.reader.read(case, silent), [*case.files, upload(eye(2)[0], "b_OD.png")])
    turned = case.turned(0)
    made, page = answer.adopt(answer.reader.read(case, silent), turned), answer.page
    assert made[page.state].shown == 0
    assert page.review not in made, "a note may be half written"
    assert page.viewer not in made
    assert "This case has one photograph" not in made[page.both]
    assert "Both photographs are said to be of the right eye" in made[page.question]
    assert made[page.which].value == 0
    cases.forget(case)


def test_a_stop_in_the_second_eye_keeps_the_first(eye, answer):
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS"))])

    def told(done, total, stage):
        if done > total / 2:
            stop(case)

    read = answer.reader.read(case, told)
    assert [each.report is not None for each in read.eyes] == [True, False]
    assert read.shown == 0
    begin(case)
    assert all(each.report for each in answer.reader.read(read, silent).eyes)
    cases.forget(case)
    with pytest.raises(Stopped):
        answer.reader.read(case, told)


def test_each_eye_is_compared_at_its_own_size(eye, answer):
    small, large = (cv2.resize(cv2.imread(eye(n)[0]), (side, side)) for n, side in ((1, 320), (2, 600)))
    paths = []
    for name, picture in (("OD", small), ("OS", large)):
        paths.append(upload(eye(1)[0], f"{name}.png"))
        cv2.imwrite(paths[-1], picture)
    case = answer.reader.read(uploads.take(cases.open_case(), paths)[0], silent)
    answers.everything(case, answer.reader)
    wide = [cv2.imread(str(each.file.parent / "reading_1" / "compared.jpg")).shape[1] for each in case.eyes]
    assert wide == [each.side for each in case.eyes]
    assert wide[0] < 0.6 * wide[1]
    cases.forget(case)


def test_exports_hold_the_review_and_no_name(case):
    case = Reader(FakePipeline()).read(case, silent)
    said = review.accept({"opinions": {"DR": "agree", "x": "agree", "MH": "<b>"}, "grade": "3", "note": "=1+1"})
    case = case.changed(0, review=said)
    kept = json.loads(exports.as_json(case, case.shown))
    assert kept["review"] == {"opinions": {"DR": "agree"}, "grade": 3, "note": "=1+1"}
    assert kept["schema"] == 1
    rows = review.to_csv([(case.eye.report, said)])
    assert rows.count("\n") == 1 + len(review.SUBJECTS) + len(labels.CALLS)
    assert "'=1+1" in rows
    said = {row["code"]: row for row in csv.DictReader(io.StringIO(rows))}
    assert float(said[review.CUP]["measured"]) == case.eye.report.disc_cup.vcdr
    for code, (_, least) in labels.CALLS.items():
        assert float(said[code]["probability"]) == case.eye.report.dr.chance(least)
        assert said[code]["suspected"] == str(case.eye.report.dr.grade >= least)
    assert "f" * 64 in rows
    path = Path(exports.export(case, 0, "retinal_report.json", exports.as_json(case, case.shown)))
    assert path.name.startswith("retinal_report")
    assert "Doe" not in path.read_text() + rows


def reviews(case) -> list[dict]:
    """What the page hears of each eye of a case: another word on the same subjects."""
    words = ({"DR": "agree", "MH": "unsure"}, "1", "of the first"), ({"DR": "disagree", "ODC": "agree"}, "4", "of both")
    return [
        {"eye": each.report.photograph.sha256, "opinions": opinions, "grade": grade, "note": note}
        for each, (opinions, grade, note) in zip(case.eyes, words, strict=True)
    ]


def test_closed_buttons_name_no_eye(case, answer):
    case = answer.reader.read(case, silent)
    kept = answer.keep("[]", case)
    assert [each.label for each in kept[:2]] == ["PDF, right eye", "JSON, right eye"]
    for closed in (answer.close_files(case), answer.note("[]", case)[1:]):
        assert [each.label for each in closed] == ["PDF", "JSON", "CSV", "DICOM"]
        assert not any(each.interactive or each.value for each in closed)


def rows_of(table: str, taken) -> list[dict]:
    """The rows of one photograph in the CSV of a case."""
    rows = csv.DictReader(io.StringIO(table))
    return [row for row in rows if row["photograph_sha256"] == taken.report.photograph.sha256]


def written(button) -> str:
    return Path(button.value["path"]).read_text()


@pytest.mark.parametrize("shown", [0, 1])
def test_a_review_stays_with_the_eye_it_was_made_for(eye, shown):
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS"))])
    case = Reader(FakePipeline()).read(case, silent)
    answer, heard = Handlers(SimpleNamespace(), Reader(FakePipeline()), []), reviews(case)
    case = replace(case, shown=shown)
    for each in reversed(heard):  # the page may have turned to the other eye before the word arrives
        case = answer.note(json.dumps([each]), case)[0]
    assert [each.review for each in case.eyes] == [review.accept(each) for each in heard]
    last = {**heard[1 - shown], "note": "a last word on the other eye"}
    _, report, table, _ = answer.keep(json.dumps([heard[shown], last]), case)
    assert json.loads(written(report))["input"]["sha256"] == case.eye.report.photograph.sha256
    assert json.loads(written(report))["review"] == review.accept(heard[shown]).to_dict()
    said = [review.accept(each) for each in (heard[shown], last)]
    for taken, each in zip((case.eyes[shown], case.eyes[1 - shown]), said, strict=True):
        rows = rows_of(written(table), taken)
        assert {row["code"]: row["opinion"] for row in rows if row["opinion"]} == each.opinions
        assert {(row["corrected_grade"], row["note"]) for row in rows} == {(str(each.grade), each.note)}
    cases.forget(case)


def test_a_word_that_was_overtaken_is_sent_again(eye):
    """The state that `turn` gives back may be of before the last word: the page sends all it heard every time."""
    case, _ = uploads.take(cases.open_case(), [upload(eye(n)[0], f"{name}.png") for n, name in ((1, "OD"), (2, "OS"))])
    case = Reader(FakePipeline()).read(case, silent)
    answer, heard = Handlers(SimpleNamespace(), Reader(FakePipeline()), []), reviews(case)
    _, report, table, _ = answer.keep(json.dumps(heard), replace(case, shown=1))
    assert json.loads(written(report))["review"] == review.accept(heard[1]).to_dict()
    assert [rows_of(written(table), each)[0]["note"] for each in case.eyes] == [each["note"] for each in heard]
    cases.forget(case)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '{"eye": "a"}', '[3, {"eye": 3}, {"opinions": {}}]', None])
def test_what_is_no_review_is_left_out(text):
    assert review.parse(text) == {}


def test_half_a_character_in_a_note_costs_no_file():
    (said,) = review.parse('[{"eye": "a", "note": "seen \\ud83d"}]').values()
    assert said.note == "seen ?"
    review.to_csv([(fake_report(planes=False), said)]).encode()


def test_a_review_that_makes_no_sense_says_nothing():
    (said,) = review.parse('[{"eye": "a", "opinions": 3, "grade": 9, "note": null}]').values()
    assert not said.given


@pytest.mark.parametrize(("suspected", "grade", "told"), [(True, 0, True), (False, 2, True), (True, 1, False)])
def test_a_finding_and_a_grade_that_disagree_are_told_with_what_to_do(suspected, grade, told):
    report = fake_report(suspected=("DR",) if suspected else ("DN",))
    report = replace(report, dr=replace(report.dr, grade=grade))
    said = doubts.conflicts(report)
    assert ("DR" in said) == told
    assert not told or "refer if in doubt" in said["DR"]
    assert (doubts.CONFLICT in markup.summary_html(report)) == told
    paper_says = " ".join(each.get_text() for page in paper._reading(report) for each in page.texts)
    assert ("disagree" in paper_says) == told


@pytest.mark.parametrize(("ratio", "flagged", "told"), [(0.82, False, True), (0.82, True, False), (0.6, False, False)])
def test_a_large_cup_is_told_where_cupping_is_not_flagged(ratio, flagged, told):
    report = fake_report(suspected=("ODC",) if flagged else ("DN",))
    report = replace(report, disc_cup=replace(report.disc_cup, vcdr=ratio))
    said = doubts.conflicts(report).get("ODC", "")
    assert ("(0.82) is large" in said) == told
    assert (doubts.CUP_CONFLICT in markup.summary_html(report)) == told
    assert "ODC" not in doubts.conflicts(replace(report, disc_cup=replace(report.disc_cup, vcdr=None)))


def fake_gpu(monkeypatch) -> list:
    """A stand-in for the `spaces` package: what goes in and out is pickled, as between two processes."""
    calls = []

    def lend(duration):
        def decorate(work):
            def lent(*arguments):
                calls.append(duration)
                return pickle.loads(pickle.dumps(work(*pickle.loads(pickle.dumps(arguments)))))

            return lent

        return decorate

    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lend))
    return calls


def test_a_space_reads_and_explains_on_the_gpu_it_is_lent(monkeypatch, tiny_pipeline, eye):
    calls = fake_gpu(monkeypatch)
    reader, stages = Reader(tiny_pipeline), []
    case, _ = uploads.take(cases.open_case(), [upload(eye(8)[0])])
    case = reader.read(case, lambda done, total, stage: stages.append(stage))
    assert case.eye.report.findings == tiny_pipeline(case.eye.read()).findings
    assert "DME" in case.eye.report.contributions
    assert "Can it be trusted?" in reader.explain(case, "DME", "exact", labels.FUSED)
    assert len(calls) == 2
    assert stages == ["On the GPU"]
    cases.forget(case)


def test_without_the_package_or_outside_a_space_no_gpu_is_borrowed(monkeypatch):
    calls = fake_gpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert gpu.borrow(len) is len
    fake_gpu(monkeypatch)
    monkeypatch.delenv("SPACES_ZERO_GPU")
    assert gpu.borrow(len) is len
    assert not calls


def test_an_explanation_that_finds_nothing_names_the_control_of_the_page(tiny_pipeline, eye, monkeypatch):
    case, _ = uploads.take(cases.open_case(), [upload(eye(8)[0])])
    case = Reader(tiny_pipeline).read(case, silent)
    monkeypatch.setattr("qmmfl.explain.explanation.compute", lambda *_: np.zeros((4, 4), np.float32))
    said = Reader(tiny_pipeline).explain(case, "DR", "gradcam", "colour")
    assert said.startswith('<p class="empty" role="status">Grad-CAM (colour photograph) finds nothing that raises')
    control = next(each for each in ui.build(tiny_pipeline).blocks.values() if each.elem_id == "method")
    assert control.label.lower() in said
    assert dict((key, name) for name, key in control.choices)["exact"] in said
    assert "--" not in said
    cases.forget(case)


def test_what_cannot_be_explained_is_said_where_the_answer_would_be(tiny_pipeline, eye):
    reader = Reader(tiny_pipeline)
    for said in (reader.explain(None, "DR", "exact", "fused"), reader.drop(None, "msi"), reader.hide(None, "0 0 1 1")):
        assert said == '<p class="empty" role="status">Choose a photograph and press Analyse first.</p>'
    case, _ = uploads.take(cases.open_case(), [upload(eye(8)[0])])
    case = reader.read(case, silent)
    assert "Draw a box on the picture first." in reader.hide(case.eye, "")
    assert "is not assessed" in reader.explain(case, "CSR", "exact", "fused").replace("\n", " ")
    with pytest.raises(ValueError, match="tarot"):  # no control of the page asks for it: a fault, told by reference
        reader.explain(case, "DR", "tarot", "fused")
    cases.forget(case)


def test_weights_without_reference_eyes_are_told_of_in_plain_words(tiny_pipeline):
    for pipeline in (FakePipeline(), tiny_pipeline):
        said = Reader(pipeline).place(None, "GRADE", labels.FUSED)
        assert "These weights come without reference eyes, so similar eyes cannot be shown." in said


def test_about_draws_the_calibration_that_the_card_holds():
    """By the shipped card and by what the evaluation writes; a key that one of them renames empties the figure."""
    card = weights.read_card(ROOT / "weights")
    html = about.about_html(card, "embedded")
    shown = [
        (name, code)
        for name, each in card.metrics["classification"].items()
        for code, figures in each.get("findings", {}).items()
        if figures["positives"] >= about.LEAST
    ]
    assert html.count('<circle class="before"') == len(shown) > 10
    value, low, high = card.metrics["classification"]["odir5k"]["findings"]["DR"]["sensitivity"]
    assert f"<td>{value:.3f} ({low:.3f} to {high:.3f})</td>" in html
    assert "not given" not in html
    assert f"Calibration error, {shown[0][0]}" in html
    curve = [[0.1, 0.0, 50], [0.9, 1.0, 50]]
    figures = {"eyes": 100, "positives": 50, "ece": 0.1, "ece_before": 0.2, "reliability": curve}
    drawn = about.about_html(FakeCard(metrics={"classification": {"odir5k": {"findings": {"DR": figures}}}}), "fake")
    assert 'cx="90.0" cy="0.0"' in drawn
    assert about.NO_CURVES not in drawn
    assert (about.NO_CURVES in html) == ("Calibration of" not in html)


def test_a_space_says_that_it_is_no_place_for_patients(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert answers.PUBLIC in str(ui.build(FakePipeline()).get_config_file())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])
def test_serving_others_needs_a_password(host, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    with pytest.raises(ValueError, match="--auth-file"):
        ui.serve(FakePipeline(), host)
    guard.allow(host, password=True)
    monkeypatch.setenv("SPACE_ID", "someone/space")
    guard.allow(host, password=False)


def test_examples_are_there_and_named_for_people():
    folder = examples.examples_folder()
    assert folder is not None
    titles = [examples.title(path) for path in folder.glob("*.jpg")]
    assert titles
    assert not any(word in title.lower() for title in titles for word in ("healthy", "normal", "simulated", "_"))
    assert examples.title(Path("simulated_left_moderate_dr.jpg")) == "Left moderate DR"


def test_page_builds_without_examples(monkeypatch):
    monkeypatch.setattr(examples, "examples_folder", lambda: None)
    assert ui.build(FakePipeline()).fns


def test_importing_the_page_is_cheap():
    command = "import sys, qmmfl.ui; print({'gradio', 'torch', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "set()"
