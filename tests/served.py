"""The page in a process of its own around a pipeline that answers with the hash of what it saw, and a raw client."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAM = """
import hashlib, os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a test run under nohup has it ignored
sys.path.insert(0, {tests!r})
from dataclasses import replace
import fakes
from qmmfl import ui

REPORT = fakes.fake_report(planes=False)
READING = os.path.join({folder!r}, "reading")

class Stamping(fakes.FakePipeline):
    def __call__(self, photograph, progress=None, *, override=False):
        open(READING, "w").close()
        time.sleep({slow} if photograph.width > 400 else {quick})
        stamp = hashlib.sha256(photograph.pixels.tobytes()).hexdigest()
        return replace(REPORT, photograph=photograph, provenance=replace(REPORT.provenance, weights_source=stamp))

ui.serve(Stamping(), port={port})
"""
JSON = {"content-type": "application/json"}


class Server:
    """The child, its port, and the folder that is all it may write to."""

    def __init__(self, folder: Path, quick: float = 0.0, slow: float = 60.0) -> None:
        """folder: empty; the child's temporary files and home. quick [s]: of a reading; slow: wider than 400 px."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.temporary, self.home = folder, folder / "tmp", folder / "home"
        for each in (self.temporary, self.home):
            each.mkdir()
        settings = {"TMPDIR": self.temporary, "HOME": self.home, "MPLCONFIGDIR": self.home, "OMP_NUM_THREADS": "1"}
        program = PROGRAM.format(tests=str(ROOT / "tests"), folder=str(folder), quick=quick, slow=slow, port=self.port)
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=self.home,
                env={**os.environ, "PYTHONPATH": str(ROOT), **{key: str(value) for key, value in settings.items()}},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        limit = time.monotonic() + 240
        while time.monotonic() < limit and self.child.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/gradio_api/startup-events")[0] == 200:
                    return
            time.sleep(0.2)
        self.child.kill()
        raise RuntimeError(f"the page did not start: {self.log.read_text()[-2000:]}")

    def ask(self, method: str, path: str, body=None, headers: dict | None = None, timeout: float = 120):
        """Status, headers (lower case) and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def upload(self, *files: tuple[str, bytes]):
        """Status, and the paths where Gradio put the files (name, content), or the text it said."""
        mark = secrets.token_hex(8)
        parts = []
        for name, data in files:
            head = f'--{mark}\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
            parts += [head.encode("utf-8", "surrogateescape"), data, b"\r\n"]
        body = b"".join([*parts, f"--{mark}--\r\n".encode()])
        kind = {"content-type": f"multipart/form-data; boundary={mark}"}
        status, _, said = self.ask("POST", "/gradio_api/upload", body, kind)
        return status, json.loads(said) if status == 200 else said.decode("utf-8", "replace")

    def call(self, *data) -> tuple[str, object]:
        """What /analyse answers: "complete" with the report, "error", or the status that refused the call."""
        status, _, said = self.ask("POST", "/gradio_api/call/analyse", json.dumps({"data": data}).encode(), JSON)
        if status != 200:
            return str(status), said.decode("utf-8", "replace")
        stream = self.ask("GET", f"/gradio_api/call/analyse/{json.loads(said)['event_id']}")[2].decode()
        event, _, told = stream.strip().rpartition("event: ")[2].partition("\ndata: ")
        return event, json.loads(told)[0] if event == "complete" else told

    def read(self, data: bytes, name: str = "eye.png") -> tuple[str, object]:
        """Upload and analyse."""
        status, paths = self.upload((name, data))
        return (
            self.call({"path": paths[0], "meta": {"_type": "gradio.FileData"}})
            if status == 200
            else (str(status), paths)
        )

    def figures(self) -> dict[str, int]:
        """Resident memory [bytes], open descriptors, threads, files below the folder of temporary files, and
        processor time [ms] of the child.
        """
        place = Path("/proc") / str(self.child.pid)
        used = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
        return {
            "milliseconds": sum(map(int, used)) * 1000 // os.sysconf("SC_CLK_TCK"),
            "memory": int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            "descriptors": len(list((place / "fd").iterdir())),
            "threads": len(list((place / "task").iterdir())),
            "files": sum(each.is_file() for each in self.temporary.rglob("*")),
        }

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Signal the child and wait for its end; the seconds that took."""
        began = time.monotonic()
        self.child.send_signal(number)
        self.child.wait(60)
        return time.monotonic() - began


@contextlib.contextmanager
def serve(folder: Path, quick: float = 0.0) -> Iterator[Server]:
    """A running server, stopped at the end whatever happens."""
    server = Server(folder, quick)
    try:
        yield server
    finally:
        if server.child.poll() is None:
            server.stop(signal.SIGKILL)
